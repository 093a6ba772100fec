"""A thief has copied a one-time refresh token, and uses it as its owner does; when the two are found.

Nothing tells a thief inside the window from a client that lost an answer: both are given the same successor, and hold it both.
So they go on together, whoever is first, until a generation whose two uses lie at least the window apart, or whose second use
comes after the use of its successor. Then the family ends, for both, by one event. The clock stands still and is moved.

Histories are drawn, with what must come of them: some found at once, as the second use lies outside the window, some after up
to nine generations inside it; with a window of 0 every one at once.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
import psycopg

from tests.acceptance.ledgers import Ledger
from tests.acceptance.points import Stage
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, evaluate, new_api, new_client, new_person, ok, refresh, resource_server
from tests.clock import Clock

WINDOWS: Final = (0, 5, 30, 300)
# With each window and strategy.
HISTORIES: Final = 12
MAX_INSIDE: Final = 9
INSTANT: Final = 0.001  # the ledger counts microseconds; a thousandth is enough

EVENTS: Final = "SELECT e.type FROM ledger.events e WHERE e.payload ->> 'family_id' = %s ORDER BY e.position"


@dataclass(frozen=True, slots=True)
class History:
    """What a client and a thief do with one token. `gaps`: between the two uses of each generation; the last is found.

    `overtaken`: in the last generation the first of them uses the successor too before the other comes, within the window.
    """

    window: int
    gaps: tuple[float, ...]
    overtaken: bool


def histories(draw: random.Random, window: int, count: int) -> Iterator[History]:
    """Draw histories, the edges of the window first."""
    edges = [0.0, window - INSTANT] if window else []
    for number in range(count):
        inside = 0 if window == 0 or number == 0 else draw.randint(1, MAX_INSIDE)
        gaps = [draw.choice([*edges, draw.uniform(0, window - INSTANT)]) for _ in range(inside)]
        overtaken = bool(window) and number % 4 == 3
        last = draw.uniform(0, window - INSTANT) if overtaken else window + draw.choice([0.0, INSTANT, draw.uniform(0, 3_000)])
        yield History(window, (*gaps, last), overtaken)


def catch(stage: Stage, ledger: Ledger, clock: Clock) -> tuple[str, list[str]]:
    """Live through the histories. Answer what came of them as a figure, and what is wrong with it."""
    draw = random.Random(2)
    wrong: list[str] = []
    found: dict[str, list[int]] = defaultdict(list)
    with ledger.served.admin() as admin, ledger.served.client() as one, ledger.served.client() as other:
        clock.set(datetime.fromisoformat(ok(one.get("/readyz"))["instant"]))
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        thefts = Thefts(ledger, clock, new_person(admin, f"{api}:reader").subject_id, resource_server(admin, api), [one, other])
        settings: dict[str, Any] = {"grants": ["issue", "refresh_token"], "refresh": "rotating", "apis": [api]}
        lived = [
            (new_client(admin, strategy=strategy, retry_window_seconds=window, **settings), history)
            for window in WINDOWS
            for strategy in STRATEGIES
            for history in histories(draw, window, stage.scaled(HISTORIES))
        ]
        for number, (app, history) in enumerate(lived):
            stage.progress("thefts", number, len(lived))
            said = thefts.live(app, history, draw)
            wrong += [f"{history}: {what}" for what in said]
            if not said:
                found[_how(history)].append(len(history.gaps))
    figure = f"{sum(map(len, found.values()))} of {len(lived)} thieves found: " + ", ".join(
        f"{len(generations)} {how}"
        + (f" (generation {min(generations)} to {max(generations)})" if max(generations) > 1 else "")
        for how, generations in found.items()
    )
    return figure, wrong


def _how(history: History) -> str:
    """Say at what the thief of a history is to be found."""
    if history.window == 0:
        return "with window 0, all at the second use"
    if history.overtaken:
        return "after its successor was used"
    return "at once outside the window" if len(history.gaps) == 1 else "at the first gap over the window"


@dataclass(frozen=True, slots=True)
class Thefts:
    """Where thefts take place; `connections`: of the client and of the thief, who take turns with them."""

    ledger: Ledger
    clock: Clock
    subject_id: str
    asker: App
    connections: list[httpx.Client]

    def live(self, app: App, history: History, draw: random.Random) -> list[str]:
        """Live through a history, and answer what went otherwise than it must."""
        first, second = self.connections
        tokens = ok(first.post("/v1/tokens", json={"subject_id": self.subject_id}, auth=app.auth), 201)
        for generation, gap in enumerate(history.gaps, start=1):
            first, second = draw.sample(self.connections, 2)
            self.clock.advance(draw.uniform(0, 3_600))
            is_last = generation == len(history.gaps)
            was_given = ok(refresh(first, app, tokens["refresh_token"]))
            newest = was_given
            if is_last and history.overtaken:
                newest = ok(refresh(first, app, was_given["refresh_token"]))
            self.clock.advance(gap)
            answer = refresh(second, app, tokens["refresh_token"])
            if is_last:
                return self._judge(app, history, answer, newest)
            if answer.status_code != 200 or answer.json()["refresh_token"] != was_given["refresh_token"]:
                return [f"in generation {generation} of {len(history.gaps)}, {answer.status_code} {answer.text[:200]}"]
            tokens = was_given
        return []

    def _judge(self, app: App, history: History, answer: httpx.Response, newest: dict[str, Any]) -> list[str]:
        """Answer what is not over although the thief is found."""
        wrong = []
        if (answer.status_code, answer.json().get("error")) != (400, "invalid_grant"):
            wrong.append(f"not found: {answer.status_code} {answer.text[:200]}")
        reason = evaluate(self.connections[0], self.asker, newest["access_token"])["context"]["reason"]
        # A token of ten minutes may have run out before it is asked about.
        if reason not in ("family_revoked", "token_expired"):
            wrong.append(f"the newest access token is answered {reason}")
        if [refresh(http, app, newest["refresh_token"]).status_code for http in self.connections] != [400, 400]:
            wrong.append("the newest refresh token lives on")
        expected = ["token_issued", *["token_rotated"] * (len(history.gaps) + history.overtaken), "reuse_detected"]
        with psycopg.connect(self.ledger.owner()) as connection:
            events = [type_ for (type_,) in connection.execute(EVENTS, (newest["family_id"],))]
        if events != expected:
            wrong.append(f"the log has {', '.join(events)}")
        return wrong
