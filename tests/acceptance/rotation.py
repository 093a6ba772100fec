"""32 simultaneous refreshes with one one-time token over two workers: one rotation, and the same successor for everybody.

Each caller has a connection of its own, opened before the round begins and opened anew until both workers have accepted a fair
number of them: the kernel gives one worker all of them now and then. The rounds go through the four strategies in turn.
"""

import asyncio
import time
from collections import Counter
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
FAIR: Final = CALLERS // 4

ROTATIONS: Final = """
SELECT e.position FROM ledger.events e WHERE e.type = 'token_rotated' AND e.payload ->> 'family_id' = %s ORDER BY e.position
"""


def run(stage: Stage) -> Shown:
    """Refresh in rounds, and count in the log what came of each."""
    rounds = stage.scaled(ROUNDS)
    with running_ledger(stage) as ledger:
        apps, subject_id = _set_up(ledger)
        wrong: list[str] = []
        slowest = 0.0
        for number in range(rounds):
            stage.progress("rounds", number, rounds)
            app = apps[number % len(apps)]
            answers, seconds = asyncio.run(_round(ledger, app, subject_id))
            slowest = max(slowest, seconds)
            wrong += [f"round {number + 1}: {what}" for what in _judge(ledger, answers)]
        clean, said = ledger.verify()
    done = f"{CALLERS} simultaneous refreshes with one token over 2 workers, {rounds} rounds"
    figure = f"{rounds * CALLERS:,} answers, at least {FAIR} of a round by either worker, the slowest round in {slowest:.2f} s"
    if not clean:
        wrong.append(said)
    if wrong:
        return Shown(done, f"{figure}; {len(wrong)} wrong: {'; '.join(wrong[:5])}", held=False)
    return Shown(done, f"{figure}: one rotation each, every caller with the same successor, nothing but 200")


def _set_up(ledger: Ledger) -> tuple[list[App], str]:
    with ledger.served.admin() as admin:
        api = new_api(admin)
        subject_id = new_person(admin).subject_id
        return [
            new_client(admin, grants=["issue", "refresh_token"], strategy=strategy, refresh="rotating", apis=[api])
            for strategy in STRATEGIES
        ], subject_id


async def _round(ledger: Ledger, app: App, subject_id: str) -> tuple[list[httpx.Response], float]:
    """Issue a token, refresh it by all callers at once, and answer what they were given and the seconds it took."""
    while True:
        limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=CALLERS)
        async with httpx.AsyncClient(
            base_url=ledger.served.url, timeout=30, auth=app.auth, limits=limits, verify=NO_TLS
        ) as http:
            # As many requests as there are callers, at once: a connection for each, kept for what counts.
            await asyncio.gather(*(http.get("/healthz") for _ in range(CALLERS)))
            if min(ledger.connections(), default=FAIR) < FAIR:
                continue
            issued = ok(await http.post("/v1/tokens", json={"subject_id": subject_id}), 201)
            form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
            began = time.monotonic()
            answers = await asyncio.gather(*(http.post("/oauth/token", data=form) for _ in range(CALLERS)))
            return answers, time.monotonic() - began


def _judge(ledger: Ledger, answers: list[httpx.Response]) -> list[str]:
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
    with psycopg.connect(ledger.owner()) as connection:
        rotations = len(connection.execute(ROTATIONS, (bodies[0]["family_id"],)).fetchall())
    if rotations != 1:
        wrong.append(f"{rotations} rotations in the log")
    return wrong
