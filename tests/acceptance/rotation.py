"""Simultaneous refreshes with one one-time token over two workers: one rotation, and the same successor for everybody.

Each caller has a connection of its own, opened before the round begins and opened anew until both workers have accepted a fair
number of them: the kernel gives one worker all of them now and then. The rounds go through the four strategies in turn. After
each the successor is refreshed: its family lives, and no reuse was seen in it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import httpx
import psycopg

from tests.acceptance.ledgers import Ledger, running_ledger
from tests.acceptance.points import Shown, Stage
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, new_api, new_client, new_person, ok
from tests.serving import NO_TLS

CALLERS: Final = 32
ROUNDS: Final = 50

# What a family has lived through, and nothing else: issued, rotated by the round, rotated once more after it.
LIFE: Final = ("token_issued", "token_rotated", "token_rotated")
EVENTS: Final = "SELECT e.type FROM ledger.events e WHERE e.payload ->> 'family_id' = %s ORDER BY e.position"


def run(stage: Stage) -> Shown:
    """Refresh by 32 callers at once."""
    return play(stage, [CALLERS], ROUNDS)


def play(stage: Stage, callers: Sequence[int], each: int) -> Shown:
    """Refresh in rounds, `each` for every number of callers, and count in the log what came of them."""
    rounds = [(number, count) for count in callers for number in range(stage.scaled(each))]
    wrong: list[str] = []
    slowest = 0.0
    with running_ledger(stage) as ledger:
        apps, subject_id = _set_up(ledger)
        for past, (number, count) in enumerate(rounds):
            stage.progress(f"rounds of {count}", past, len(rounds))
            answers, after, seconds = asyncio.run(_round(ledger, apps[number % len(apps)], subject_id, count))
            slowest = max(slowest, seconds)
            wrong += [f"round {number + 1} of {count}: {what}" for what in _judge(ledger, answers, after)]
        clean, said = ledger.verify()
    of_each = " of each" if len(callers) > 1 else ""
    done = f"{_words(callers)} simultaneous refreshes with one token over 2 workers, {stage.scaled(each)} rounds{of_each}"
    figure = (
        f"{sum(count for _, count in rounds):,} answers, at least {_words([_fair(count) for count in callers])}"
        f" of a round by either worker, the slowest round in {slowest:.2f} s"
    )
    if not clean:
        wrong.append(said)
    if wrong:
        return Shown(done, f"{figure}; {len(wrong)} wrong: {'; '.join(wrong[:5])}", held=False)
    return Shown(
        done,
        f"{figure}: one rotation each, every caller with the same successor, which is refreshed in its turn; nothing but 200",
    )


def _words(numbers: Sequence[int]) -> str:
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last


def _fair(callers: int) -> int:
    """Answer of how many of so many callers a worker is to have accepted the connection."""
    return max(1, callers // 4)


def _set_up(ledger: Ledger) -> tuple[list[App], str]:
    with ledger.served.admin() as admin:
        api = new_api(admin)
        subject_id = new_person(admin).subject_id
        return [
            new_client(admin, grants=["issue", "refresh_token"], strategy=strategy, refresh="rotating", apis=[api])
            for strategy in STRATEGIES
        ], subject_id


async def _round(ledger: Ledger, app: App, subject_id: str, callers: int) -> tuple[list[httpx.Response], httpx.Response, float]:
    """Issue a token, refresh it by all callers at once, then refresh what the first was given.

    Answers what all were given, what the last refresh came to, and the seconds that the callers took.
    """
    while True:
        limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
        async with httpx.AsyncClient(
            base_url=ledger.served.url, timeout=30, auth=app.auth, limits=limits, verify=NO_TLS
        ) as http:
            # As many requests as there are callers, at once: a connection for each, kept for what counts.
            await asyncio.gather(*(http.get("/healthz") for _ in range(callers)))
            if min(ledger.connections(), default=callers) < _fair(callers):
                continue
            issued = ok(await http.post("/v1/tokens", json={"subject_id": subject_id}), 201)
            form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
            began = time.monotonic()
            answers = await asyncio.gather(*(http.post("/oauth/token", data=form) for _ in range(callers)))
            seconds = time.monotonic() - began
            successor = answers[0].json().get("refresh_token", "none")
            return answers, await http.post("/oauth/token", data=form | {"refresh_token": successor}), seconds


def _judge(ledger: Ledger, answers: list[httpx.Response], after: httpx.Response) -> list[str]:
    """Answer what is not as promised in one round."""
    statuses = Counter(answer.status_code for answer in answers)
    if set(statuses) != {200}:
        texts = {answer.text for answer in answers if answer.status_code != 200}
        return [f"statuses {dict(statuses)}: {' '.join(sorted(texts))[:300]}"]
    bodies: list[dict[str, Any]] = [answer.json() for answer in answers]
    wrong = []
    for member in ("refresh_token", "token_id", "family_id"):
        different = {body[member] for body in bodies}
        if len(different) != 1:
            wrong.append(f"{len(different)} different values of {member}")
    if after.status_code != 200:
        wrong.append(f"the successor was answered {after.status_code}: {after.text[:300]}")
    with psycopg.connect(ledger.owner()) as connection:
        events = [type_ for (type_,) in connection.execute(EVENTS, (bodies[0]["family_id"],))]
    if events != list(LIFE):
        wrong.append(f"the family lived through {', '.join(events)}")
    return wrong
