"""A client that loses every third answer is never logged out, and a thief who refreshes a copied token is always found.

Four clients, one of each strategy, refresh every ten minutes of the ledger's clock, which is moved: a week in all, so that the
keys behind the answers change as they do in production. Each has a line that loses every third answer after it was given
(losing.py), notices it some time within the window, and presents its token again, over a new connection to either worker.
The thieves: thieves.py.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import psycopg

from tests.acceptance.ledgers import Ledger, running_ledger
from tests.acceptance.losing import EVERY, LosingLine
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.thieves import catch
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, evaluate, new_api, new_client, new_person, ok, resource_server
from tests.clock import Clock, put_clock
from tests.serving import NO_TLS

REFRESHES: Final = 1_000
BETWEEN_SECONDS: Final = 600.0
WINDOW_SECONDS: Final = 30.0

EVENTS: Final = "SELECT e.type FROM ledger.events e WHERE e.payload ->> 'family_id' = %s ORDER BY e.position"


@dataclass(slots=True)
class Honest:
    """A client on its line. `tokens`: of the last answer that it received."""

    app: App
    line: LosingLine
    http: httpx.AsyncClient
    tokens: dict[str, Any]
    refreshes: int = 0
    retries: int = 0
    wrong: list[str] = field(default_factory=list)

    async def present(self) -> bool:
        """Present the refresh token once, and answer whether an answer came; FellShort for any other than a success."""
        form = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        lost = len(self.line.lost)
        try:
            answer = await self.http.post("/oauth/token", data=form, auth=self.app.auth)
        except httpx.TransportError:
            if len(self.line.lost) == lost:
                raise
            return False
        if answer.status_code != 200:
            raise FellShort(f"logged out after {self.refreshes} refreshes: {answer.status_code} {answer.text[:300]}")
        self.tokens = answer.json()
        self.refreshes += 1
        return True

    async def retry(self) -> bool:
        """Present the token again after a loss; what comes is to be what was lost."""
        head, _, body = self.line.lost[-1].partition(b"\r\n\r\n")
        self.retries += 1
        if not await self.present():
            return False
        names = ("refresh_token", "token_id", "family_id")
        if not head.startswith(b"HTTP/1.1 200 ") or any(json.loads(body)[name] != self.tokens[name] for name in names):
            self.wrong.append(f"refresh {self.refreshes} was answered otherwise than the answer that was lost")
        return True


def run(stage: Stage) -> Shown:
    """Lose answers, then steal tokens; count both in the log, and have the log verified."""
    clocks: list[Clock] = []
    with running_ledger(stage, prepared=lambda owner: clocks.append(put_clock(owner))) as ledger:
        (clock,) = clocks
        lossy, wrong = asyncio.run(_lose(stage, ledger, clock, stage.scaled(REFRESHES)))
        thieves, missed = catch(stage, ledger, clock)
        clean, said = ledger.verify()
    wrong += missed
    if not clean:
        wrong.append(said)
    done = f"a client of each strategy that loses every {EVERY}rd answer, {stage.scaled(REFRESHES):,} refreshes; then thieves"
    figure = f"{lossy}; {thieves}"
    if wrong:
        return Shown(done, f"{figure}; {len(wrong)} wrong: {'; '.join(wrong[:5])}", held=False)
    return Shown(done, figure)


async def _lose(stage: Stage, ledger: Ledger, clock: Clock, refreshes: int) -> tuple[str, list[str]]:
    """Answer what came of the honest clients as a figure, and what is wrong with it."""
    draw = random.Random(1)
    async with contextlib.AsyncExitStack() as lines:
        everyone, asker = await _set_up(ledger, lines)
        for number in range(refreshes):
            stage.progress("refreshes with losses", number, refreshes)
            passed = 0.0
            answered = await asyncio.gather(*(client.present() for client in everyone))
            waiting = [client for client, came in zip(everyone, answered, strict=True) if not came]
            while waiting:
                # The clock goes on by itself, and a machine may be slow: seconds are left for that.
                late = draw.uniform(0, WINDOW_SECONDS - 10 - passed)
                clock.advance(late)
                passed += late
                answered = await asyncio.gather(*(client.retry() for client in waiting))
                waiting = [client for client, came in zip(waiting, answered, strict=True) if not came]
            clock.advance(BETWEEN_SECONDS - passed)
        clock.advance(-BETWEEN_SECONDS)
        wrong = [what for client in everyone for what in client.wrong]
        with ledger.served.client() as http, psycopg.connect(ledger.owner()) as connection:
            for client, strategy in zip(everyone, STRATEGIES, strict=True):
                decision = evaluate(http, asker, client.tokens["access_token"])
                if not decision["decision"]:
                    wrong.append(f"the last {strategy} token is answered {decision['context']['reason']}")
                events = Counter(type_ for (type_,) in connection.execute(EVENTS, (client.tokens["family_id"],)))
                if events != {"token_issued": 1, "token_rotated": refreshes}:
                    wrong.append(f"the family of the {strategy} client lived through {dict(events)}")
    lost = sum(len(client.line.lost) for client in everyone)
    figure = (
        f"{sum(client.refreshes for client in everyone):,} refreshes, {lost:,} answers lost,"
        f" {sum(client.retries for client in everyone):,} retries, each given what was lost;"
        f" {refreshes:,} rotations in each log, no reuse, nobody logged out"
    )
    return figure if not wrong else figure.partition(", each")[0], wrong


async def _set_up(ledger: Ledger, lines: contextlib.AsyncExitStack) -> tuple[list[Honest], App]:
    """Answer a client of each strategy, with a token and a line of its own, and who asks about their tokens."""
    everyone = []
    with ledger.served.admin() as admin, ledger.served.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        person = new_person(admin, f"{api}:reader")
        asker = resource_server(admin, api)
        for strategy in STRATEGIES:
            app = new_client(admin, grants=["issue", "refresh_token"], strategy=strategy, refresh="rotating", apis=[api])
            tokens = ok(http.post("/v1/tokens", json={"subject_id": person.subject_id}, auth=app.auth), 201)
            line = await lines.enter_async_context(LosingLine(ledger.served.url).open())
            # A new connection for every request: to whichever worker takes it.
            limits = httpx.Limits(max_keepalive_connections=0)
            client = httpx.AsyncClient(base_url=line.url, timeout=30, limits=limits, verify=NO_TLS)
            everyone.append(Honest(app, line, await lines.enter_async_context(client), tokens))
    return everyone, asker
