"""No allow after an acknowledged revocation: a load is recorded while workers and backends die, and judged (history.py).

Four changers, one a strategy, stop and reinstate tokens at every level and have new ones issued; sixteen askers ask about the
tokens all the while, most about those that something was just done to: evaluation, gateway and introspection, over kept and
fresh connections to two workers. Meanwhile workers are killed with -9, backends of the service are terminated, or stopped in
the midst of whatever they do and let go on, and the views are replayed and swapped again and again.
No answer, and 503, are allowed; a wrong answer never is. What a change came to is asked for until it is known.

Whether the judge would notice is tried: the same load against servers with a bug each (seeded.py), until it finds a wrong
answer.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg.rows import TupleRow

from tests.acceptance.asking import WAYS, ask, read_decision
from tests.acceptance.history import Change, Decision, Issued, Level, Target, Verb, Violation, judge
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.processes import children
from tests.acceptance.seeded import BUGS
from tests.acceptance.wire import Answered, Lost, Wire, basic
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, new_api, new_client, new_person, resource_server
from tests.serving import MASTER_KEY, command

SECONDS: Final = 60
# Of a load against a seeded bug: judged after each round, and given up after so many.
ROUND_SECONDS: Final = 5
ROUNDS: Final = 24
ASKERS: Final = 16
TOKENS: Final = 6  # of each strategy at a time
SUBJECTS: Final = 2
RECENT: Final = 8
FRESH: Final = 0.2  # of all requests: over a connection of their own
KILL_SECONDS: Final = 4.0
BACKEND_SECONDS: Final = 0.7
SWAP_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 60.0

BACKENDS: Final = """
SELECT a.pid FROM pg_stat_activity a
WHERE a.usename = 'ledger_service' AND a.datname = current_database() ORDER BY a.state = 'active' DESC, random() LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class World:
    """What was set up: who asks, one client a strategy, and the subjects of each."""

    asker: App
    clients: dict[str, App]
    subjects: dict[str, list[str]]
    bearer: dict[str, str]


@dataclass(slots=True)
class Recorded:
    """What happened, by one clock. `live`: tokens asked about; `recent`: those that something is or was just done to."""

    issued: dict[str, Issued] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    strings: dict[str, str] = field(default_factory=dict)
    live: dict[str, list[str]] = field(default_factory=lambda: {strategy: [] for strategy in STRATEGIES})
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    counts: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)  # answers to nobody's fault but the server's

    def judged(self) -> list[Violation]:
        """Answer what cannot be right."""
        return judge(self.issued.values(), self.changes, self.decisions)

    def decided_after_a_stop(self) -> int:
        """Answer how many decisions were asked for when a stop of their token had been acknowledged."""
        stopped: dict[Target, float] = {}
        for change in sorted(self.changes, key=lambda change: change.completed_at, reverse=True):
            if change.verb != "reinstate":
                stopped[change.target] = change.completed_at
        return sum(
            any(
                stopped.get(target, decision.invoked_at) < decision.invoked_at
                for target in self.issued[decision.token_id].targets
            )
            for decision in self.decisions
        )


def run(stage: Stage) -> Shown:
    """Load and judge; then see each seeded bug found."""
    with running_ledger(stage) as ledger:
        world = _set_up(ledger)
        recorded = Recorded()
        seconds = stage.scaled(SECONDS)
        with _swapping(ledger, recorded):
            asyncio.run(_load(stage, ledger, world, recorded, seconds, "asking and revoking"))
        wrong = [*map(_shown, recorded.judged()), *recorded.refused]
        clean, said = ledger.verify()
        found = {bug: _until_found(stage, ledger, bug) for bug in BUGS} if not wrong else {}
    counts = recorded.counts
    done = (
        f"{len(recorded.decisions):,} decisions and {len(recorded.changes):,} changes in {seconds} s over 2 workers and"
        f" {len(STRATEGIES)} strategies, {counts['workers killed']} workers killed, {counts['backends terminated']} backends"
        f" terminated, {counts['backends stopped']} stopped for a moment, {counts['swaps']} swaps of the views"
    )
    figure = (
        f"{recorded.decided_after_a_stop():,} decisions after an acknowledged stop, {len(wrong)} violations"
        f" ({counts['lost']:,} answers lost, {counts['503']:,} times 503)"
    )
    if wrong:
        figure += f": {'; '.join(wrong[:3])}"
    if not clean:
        figure += f"; {said}"
    for bug, after in found.items():
        figure += f"; {bug} " + ("not found" if after is None else f"found after {after:.0f} s")
    survived = counts["workers killed"] and counts["backends terminated"] and counts["swaps"]
    return Shown(done, figure, held=bool(survived and clean and found and None not in found.values()))


def _until_found(stage: Stage, ledger: Ledger, bug: str) -> float | None:
    """Serve with a bug, and answer the seconds of load until a wrong answer was found; None: none was."""
    launcher = [sys.executable, "-P", str(Path(__file__).with_name("seeded.py")), bug]
    recorded = Recorded()
    world = _set_up(ledger)  # by the server without a bug, which stays idle then
    with ledger.served.again(launcher=launcher) as served:
        broken = Ledger(served, ledger.postgres)
        began = time.monotonic()
        with _swapping(broken, recorded):
            for _ in range(ROUNDS):
                asyncio.run(_load(stage, broken, world, recorded, ROUND_SECONDS, f"looking for: {bug}"))
                if wrong := recorded.judged():
                    return wrong[0].decision.completed_at - began
    return None


def _shown(violation: Violation) -> str:
    decision = violation.decision
    return f"{violation.why} (by {violation.rule}; {decision.said} at position {decision.position})"


# ------------------------------------------------------------------------------------------------------------ the load


def _set_up(ledger: Ledger) -> World:
    with ledger.served.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        clients = {
            strategy: new_client(admin, strategy, grants=["issue"], strategy=strategy, apis=[api]) for strategy in STRATEGIES
        }
        return World(
            asker=resource_server(admin, api),
            clients=clients,
            subjects={
                strategy: [new_person(admin, f"{api}:reader").subject_id for _ in range(SUBJECTS)] for strategy in STRATEGIES
            },
            bearer={"Authorization": admin.headers["Authorization"]},
        )


async def _load(stage: Stage, ledger: Ledger, world: World, recorded: Recorded, seconds: float, what: str) -> None:
    """Change and ask for so long; ends when the outcome of every change is known."""
    try:
        await _load_for(stage, _Load(ledger, world, recorded), seconds, what)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _load_for(stage: Stage, load: "_Load", seconds: float, what: str) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        changers = [tasks.create_task(load.change(strategy)) for strategy in STRATEGIES]
        askers = [tasks.create_task(load.ask()) for _ in range(ASKERS)]
        disturbing = [tasks.create_task(load.kill_workers()), tasks.create_task(load.disturb_backends())]
        while (passed := time.monotonic() - began) < seconds:
            stage.progress(what, int(passed), int(seconds))
            await asyncio.sleep(0.2)
        for task in disturbing:
            task.cancel()
        load.ending = True
        await asyncio.wait(changers)
        load.ended = True
        await asyncio.wait(askers)


class _Load:
    """The load against one server."""

    def __init__(self, ledger: Ledger, world: World, recorded: Recorded) -> None:
        self._ledger = ledger
        self._port = int(ledger.served.url.rpartition(":")[2])
        self._world = world
        self._recorded = recorded
        self.ending = False  # the changers finish what they are at
        self.ended = False

    @asynccontextmanager
    async def _wire(self, kept: Wire) -> AsyncIterator[Wire]:
        if random.random() >= FRESH:
            yield kept
            return
        with contextlib.closing(Wire(self._port)) as fresh:
            yield fresh

    # ------------------------------------------------------------------------------------------------------- changes

    async def change(self, strategy: str) -> None:
        """Stop and reinstate the tokens of one strategy, at a level drawn each time, and have new ones issued."""
        with contextlib.closing(Wire(self._port)) as wire:
            while not self.ending:
                await self._issue(wire, strategy)
                token = self._recorded.issued[random.choice(self._recorded.live[strategy])]
                target = random.choice(token.targets)
                if random.random() < 0.6:
                    await self._apply(wire, target, "suspend")
                    await self._see(wire, token)
                    await self._apply(wire, target, "reinstate")
                    await self._see(wire, token)
                else:
                    await self._apply(wire, target, "revoke" if target[0] in ("token", "family") else "cut")
                    await self._see(wire, token)
                    self._retire(strategy, target)

    async def _issue(self, wire: Wire, strategy: str) -> None:
        """Have tokens issued until there are enough."""
        client, subjects = self._world.clients[strategy], self._world.subjects[strategy]
        live = self._recorded.live[strategy]
        while len(live) < TOKENS:
            body = {"subject_id": random.choice(subjects)}
            answered = await self._until_answered(wire, "/v1/tokens", basic(*client.auth), body, 201)
            answer: dict[str, Any] = answered.json()
            token_id = answer["token_id"]
            targets: tuple[Target, ...] = (
                ("token", token_id),
                ("family", answer["family_id"]),
                ("subject", body["subject_id"]),
                ("client", client.name),
            )
            self._recorded.issued[token_id] = Issued(token_id, answer["position"], time.monotonic(), targets)
            self._recorded.strings[token_id] = answer["access_token"]
            live.append(token_id)

    async def _apply(self, wire: Wire, target: Target, verb: Verb) -> None:
        """Make a change, asking until it is acknowledged."""
        level, name = target
        self._recorded.recent.extend(
            token_id
            for live in self._recorded.live.values()
            for token_id in live
            if target in self._recorded.issued[token_id].targets
        )
        path = f"/v1/{_FOLDERS[level]}/{name}/{'revoke-tokens' if verb == 'cut' else verb}"
        body = {"reason": "for the measurement"} if verb == "suspend" else None
        headers = self._world.bearer | {"Idempotency-Key": str(uuid4())}
        invoked_at = time.monotonic()
        answered = await self._until_answered(wire, path, headers, body, 200)
        completed_at = time.monotonic()
        self._recorded.changes.append(Change(target, verb, invoked_at, completed_at, answered.json()["position"]))

    async def _until_answered(
        self, wire: Wire, path: str, headers: dict[str, str], body: dict[str, Any] | None, status: int
    ) -> Answered:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            async with self._wire(wire) as over:
                answered = await self._answered(over.request("POST", path, headers, body=body))
            if answered is not None and answered.status == status:
                return answered
            if answered is not None:
                self._recorded.refused.append(f"{path} answered {_text(answered)}")
            if time.monotonic() > deadline:
                raise FellShort(f"{path} had no answer for {PATIENCE_SECONDS:.0f} s: {self._ledger.served.process.poll()}")
            await asyncio.sleep(0.05)

    async def _see(self, wire: Wire, token: Issued) -> None:
        """Ask right away, over both kinds of connections."""
        for _ in range(2):
            async with self._wire(wire) as over:
                await self._decide(over, token.token_id)

    def _retire(self, strategy: str, target: Target) -> None:
        """Have the dead replaced; they are asked about until others are the most recent."""
        live = self._recorded.live[strategy]
        live[:] = [token_id for token_id in live if target not in self._recorded.issued[token_id].targets]

    # ----------------------------------------------------------------------------------------------------- decisions

    async def ask(self) -> None:
        """Ask about one token after another."""
        with contextlib.closing(Wire(self._port)) as wire:
            while not self.ended:
                everyone = [token_id for live in self._recorded.live.values() for token_id in live]
                if self._recorded.recent and (not everyone or random.random() < 0.7):
                    everyone = list(self._recorded.recent)
                if not everyone:
                    await asyncio.sleep(0.05)
                    continue
                async with self._wire(wire) as over:
                    if not await self._decide(over, random.choice(everyone)):
                        await asyncio.sleep(0.05)

    async def _decide(self, wire: Wire, token_id: str) -> bool:
        """Ask in one of three ways and record the answer; False where there was none."""
        asker, string = self._world.asker, self._recorded.strings[token_id]
        way = random.choice(WAYS)
        invoked_at = time.monotonic()
        answered = await self._answered(ask(wire, asker, string, way))
        if answered is None:
            return False
        read = read_decision(way, answered)
        if read is None:
            self._recorded.refused.append(f"{way} answered {_text(answered)}")
            return False
        position, allowed, reason = read
        said = f"{way}: {reason}"
        self._recorded.decisions.append(Decision(token_id, invoked_at, time.monotonic(), position, allowed, said))
        return True

    async def _answered(self, request: Awaitable[Answered]) -> Answered | None:
        """Answer what the server says; None for no answer and 503."""
        try:
            answered = await request
        except Lost:
            self._recorded.counts["lost"] += 1
            return None
        if answered.status == 503:
            self._recorded.counts["503"] += 1
            return None
        return answered

    # --------------------------------------------------------------------------------------------------- disturbances

    async def kill_workers(self) -> None:
        """Kill a worker now and then; gunicorn starts another one."""
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5) * KILL_SECONDS)
            workers = children(self._ledger.served.process.pid)
            if len(workers) > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(workers).pid, signal.SIGKILL)
                self._recorded.counts["workers killed"] += 1

    async def disturb_backends(self) -> None:
        """Terminate a backend of the service now and then, and oftener stop one for a moment in whatever it does."""
        connection = await psycopg.AsyncConnection.connect(
            self._ledger.postgres.conninfo("postgres", DATABASE), autocommit=True
        )
        async with connection:
            while True:
                await asyncio.sleep(random.uniform(0.2, 1.8) * BACKEND_SECONDS)
                row = await (await connection.execute(BACKENDS)).fetchone()
                if row is None:
                    continue
                if random.random() < 0.3:
                    await connection.execute("SELECT pg_terminate_backend(%s)", row)
                    self._recorded.counts["backends terminated"] += 1
                else:
                    await self._stop_for_a_moment(row)
                    self._recorded.counts["backends stopped"] += 1

    async def _stop_for_a_moment(self, row: TupleRow) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(row[0], signal.SIGSTOP)
            try:
                await asyncio.sleep(random.uniform(0.02, 0.12))
            finally:
                os.kill(row[0], signal.SIGCONT)


_FOLDERS: Final[dict[Level, str]] = {"token": "tokens", "family": "families", "subject": "subjects", "client": "clients"}


def _text(answered: Answered) -> str:
    return f"{answered.status} {answered.body.decode(errors='replace')[:200]}"


@contextmanager
def _swapping(ledger: Ledger, recorded: Recorded) -> Iterator[None]:
    """Have `token-ledger replay` run again and again meanwhile."""
    script = (
        f"while :; do {' '.join(command('replay', '--free-bytes', str(10**12)))} && echo swapped; sleep {SWAP_SECONDS}; done"
    )
    environment = ledger.served.environment | {
        "TOKEN_LEDGER_OWNER_DATABASE_URL": ledger.postgres.conninfo("postgres", DATABASE),
        "TOKEN_LEDGER_MASTER_KEY": MASTER_KEY,
    }
    replays = subprocess.Popen(
        ["/bin/sh", "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(replays.pid, signal.SIGKILL)
        said, _ = replays.communicate()
        recorded.counts["swaps"] = said.splitlines().count("swapped")
