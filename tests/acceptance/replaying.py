"""A replay of a million events while two workers decide and record: no request fails, no answer is wrong.

The log is filled by real appends with the history of an ordinary service (filling.py). Then an open loop asks at a fixed rate,
whether the server keeps up or not: evaluation, gateway and introspection, about some of the tokens that were filled in and
about new ones of each strategy. Another one issues, suspends, reinstates and revokes over HTTP. In the midst of it
`token-ledger replay` runs, as an operator would run it. Every answer is judged by the position it names (history.py), and the
replay itself compares the views it made with the live ones.
"""

import asyncio
import random
import re
import statistics
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID, uuid4

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from tests.acceptance.asking import WAYS, ask, read_decision
from tests.acceptance.filling import Filled, World, fill
from tests.acceptance.history import Change, Decision, Issued, Target, Verb, judge
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.wire import Answered, Lost, Wire, basic
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, new_api, new_client, new_person, ok, resource_server
from tests.serving import command

EVENTS: Final = 1_000_000
DECISIONS_A_SECOND: Final = 150
CHANGES_A_SECOND: Final = 15
BEFORE_SECONDS: Final = 10.0  # of the same load, for comparison
AFTER_SECONDS: Final = 3.0
SUBJECTS: Final = 8
TOKENS: Final = 12  # issued over HTTP and asked about at a time, of each strategy
IDLE_SECONDS: Final = 30.0  # a connection is not used again; the server closes it after 75
RECENT: Final = 0.4  # of all questions are about what was changed last

REPLAYED: Final = re.compile(r"([\d,]+) events replayed in [\d.]+ s \(([\d,]+)/s\); appends waited (\d+) ms for the swap")


@dataclass(frozen=True, slots=True)
class Parties:
    """Who asks, who issues, for whom, and in whose name changes are made."""

    asker: App
    issuers: dict[str, App]
    subjects: list[str]
    bearer: dict[str, str]
    world: World


@dataclass(slots=True)
class Recorded:
    """What happened, by one clock. The latencies count from when a request was due: (due at, seconds)."""

    issued: list[Issued]
    changes: list[Change]
    strings: dict[str, str]
    decisions: list[Decision] = field(default_factory=list)
    deciding: list[tuple[float, float]] = field(default_factory=list)
    changing: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run(stage: Stage) -> Shown:
    """Fill, load, replay in the midst of it, and judge."""
    with running_ledger(stage) as ledger:
        parties = _set_up(ledger)
        began = time.monotonic()
        filled = fill(
            ledger.postgres.conninfo("ledger_service", DATABASE),
            parties.world,
            stage.scaled(EVENTS),
            lambda done, total: stage.progress("filling the log", done, total),
        )
        filling_seconds = time.monotonic() - began
        parties = _with_bearer(ledger, parties)
        load = _Load(ledger, parties, filled)
        replay = asyncio.run(load.run(stage))
        stage.progress("judging", 0, None)
        wrong = judge(load.recorded.issued, load.recorded.changes, load.recorded.decisions)
    return _shown(load.recorded, replay, filling_seconds, [f"{v.why} (by {v.rule}; {v.decision.said})" for v in wrong])


@dataclass(frozen=True, slots=True)
class Replay:
    """What `token-ledger replay` said, and when it ran."""

    began_at: float
    ended_at: float
    events: int
    per_second: int
    held_ms: int
    alike: bool


def _shown(recorded: Recorded, replay: Replay, filling_seconds: float, wrong: list[str]) -> Shown:
    decided, before = _during(recorded.deciding, replay), _before(recorded.deciding, replay)
    changed, changed_before = _during(recorded.changing, replay), _before(recorded.changing, replay)
    kept_up = len(decided) >= 0.98 * DECISIONS_A_SECOND * (replay.ended_at - replay.began_at) - 1
    done = (
        f"{replay.events:,} events (filled in {filling_seconds:.0f} s) replayed at {replay.per_second:,}/s beside"
        f" {DECISIONS_A_SECOND} decisions/s and {CHANGES_A_SECOND} changes/s over 2 workers"
    )
    figure = (
        f"{len(decided):,} decisions and {len(changed):,} changes meanwhile, {len(recorded.failed)} failed, {len(wrong)} wrong;"
        f" writers waited {replay.held_ms} ms for the swap, the longest change took {max(changed) * 1000:.0f} ms"
        f" (before the replay {max(changed_before) * 1000:.0f}); decisions {_percentiles(decided)} ms at the median and 99 %"
        f" (before {_percentiles(before)})"
    )
    if not replay.alike:
        figure += "; the replay found the live views to differ"
    if not kept_up:
        figure += "; the load could not be kept up"
    for what in (recorded.failed, wrong):
        figure += "".join(f"; {example}" for example in what[:3])
    return Shown(done, figure, held=replay.alike and kept_up and not recorded.failed and not wrong)


def _during(latencies: list[tuple[float, float]], replay: Replay) -> list[float]:
    return [seconds for due, seconds in latencies if replay.began_at <= due <= replay.ended_at]


def _before(latencies: list[tuple[float, float]], replay: Replay) -> list[float]:
    return [seconds for due, seconds in latencies if due < replay.began_at]


def _percentiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1000:.1f} and {cuts[98] * 1000:.0f}"


# -------------------------------------------------------------------------------------------------------------- set-up


def _set_up(ledger: Ledger) -> Parties:
    with ledger.served.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        (role,) = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
        filled_for = new_client(admin, "filled", grants=["issue"], apis=[api]).name
        return Parties(
            asker=resource_server(admin, api),
            issuers={s: new_client(admin, s, grants=["issue"], strategy=s, apis=[api]) for s in STRATEGIES},
            subjects=[new_person(admin, f"{api}:reader").subject_id for _ in range(SUBJECTS)],
            bearer={},
            world=World(client_id_of(filled_for), filled_for, api_id_of(api), UUID(role["role_id"])),
        )


def _with_bearer(ledger: Ledger, parties: Parties) -> Parties:
    """Log in for the changes: a token is good for ten minutes, of which filling may have taken some."""
    with ledger.served.admin() as admin:
        bearer = {"Authorization": admin.headers["Authorization"]}
    return replace(parties, bearer=bearer)


# ------------------------------------------------------------------------------------------------------------ the load


class _Load:
    """Two open loops against one server, and the replay in the midst of them."""

    def __init__(self, ledger: Ledger, parties: Parties, filled: Filled) -> None:
        self._ledger = ledger
        self._parties = parties
        self._port = int(ledger.served.url.rpartition(":")[2])
        self._idle: list[tuple[float, Wire]] = []
        self._ended = False
        self.recorded = Recorded(list(filled.issued), list(filled.changes), dict(filled.strings))
        self._targets = {issued.token_id: issued.targets for issued in filled.issued}
        self._filled = list(filled.strings)
        self._live: dict[str, list[str]] = {strategy: [] for strategy in STRATEGIES}
        self._recent: list[str] = []
        self._suspended = _suspended(filled.changes)
        self._over = {change.target for change in filled.changes if change.verb == "revoke"}
        self._changing: set[Target] = set()  # changes of one target follow one another

    async def run(self, stage: Stage) -> Replay:
        """Load, and replay when it has run for a while; ends when every request is answered."""
        async with asyncio.TaskGroup() as requests:
            loops = [
                asyncio.create_task(self._at_rate(requests, DECISIONS_A_SECOND, self._decide)),
                asyncio.create_task(self._at_rate(requests, CHANGES_A_SECOND, self._change)),
            ]
            try:
                stage.progress("the load alone", 0, None)
                await asyncio.sleep(BEFORE_SECONDS)
                stage.progress("replaying", 0, None)
                replay = await self._replay()
                await asyncio.sleep(AFTER_SECONDS)
            finally:
                self._ended = True
                await asyncio.wait(loops)
        for _, wire in self._idle:
            wire.close()
        return replay

    async def _replay(self) -> Replay:
        environment = self._ledger.served.environment | {
            "TOKEN_LEDGER_OWNER_DATABASE_URL": self._ledger.postgres.conninfo("postgres", DATABASE),
            "COLUMNS": "200",
        }
        arguments = command("replay", "--free-bytes", str(10**12))
        began_at = time.monotonic()
        process = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=PIPE, stderr=PIPE)
        try:
            said, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        text = said.decode()
        found = REPLAYED.search(text)
        if process.returncode != 0 or found is None:
            raise FellShort(f"the replay ended with {process.returncode}: {complaint.decode()[-300:]}")
        events, per_second, held_ms = (int(number.replace(",", "")) for number in found.groups())
        alike = "what the log says" not in text
        return Replay(began_at, time.monotonic(), events, per_second, held_ms, alike)

    async def _at_rate(
        self, requests: asyncio.TaskGroup, per_second: int, one: Callable[[Wire, float], Awaitable[None]]
    ) -> None:
        """Start a request whenever one is due, answered or not the ones before."""
        due = time.monotonic()
        while not self._ended:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            requests.create_task(self._one(one, due))
            due += 1 / per_second

    async def _one(self, one: Callable[[Wire, float], Awaitable[None]], due: float) -> None:
        used_at, wire = self._idle.pop() if self._idle else (0.0, Wire(self._port))
        if time.monotonic() - used_at > IDLE_SECONDS:
            wire.close()
        try:
            await one(wire, due)
        except Lost as lost:
            self.recorded.failed.append(f"no answer: {lost}")
        finally:
            self._idle.append((time.monotonic(), wire))

    # ------------------------------------------------------------------------------------------------------ decisions

    async def _decide(self, wire: Wire, due: float) -> None:
        token_id = self._any_token()
        way = random.choice(WAYS)
        invoked_at = time.monotonic()
        answered = await ask(wire, self._parties.asker, self.recorded.strings[token_id], way)
        read = read_decision(way, answered)
        if read is None:
            self.recorded.failed.append(f"{way} answered {_text(answered)}")
            return
        position, allowed, reason = read
        completed_at = time.monotonic()
        self.recorded.decisions.append(
            Decision(token_id, invoked_at, completed_at, position, allowed, f"{way}: {reason} at {position}")
        )
        self.recorded.deciding.append((due, completed_at - due))

    def _any_token(self) -> str:
        if self._recent and random.random() < RECENT:
            return random.choice(self._recent)
        live = self._live[random.choice(STRATEGIES)]
        return random.choice(live if live and random.random() < 0.5 else self._filled)

    # -------------------------------------------------------------------------------------------------------- changes

    async def _change(self, wire: Wire, due: float) -> None:
        strategy = random.choice(STRATEGIES)
        if len(self._live[strategy]) < TOKENS:
            done = await self._issue(wire, strategy)
        else:
            done = await self._stop_or_reinstate(wire, random.choice(random.choice([self._live[strategy], self._filled])))
        if done:
            self.recorded.changing.append((due, time.monotonic() - due))

    async def _issue(self, wire: Wire, strategy: str) -> bool:
        """Have a token issued to a subject that stands: to another none is."""
        taken = self._suspended | self._changing
        standing = [subject_id for subject_id in self._parties.subjects if ("subject", subject_id) not in taken]
        if not standing:
            return False
        issuer, subject_id = self._parties.issuers[strategy], random.choice(standing)
        self._changing.add(("subject", subject_id))
        answered = await wire.request("POST", "/v1/tokens", basic(*issuer.auth), body={"subject_id": subject_id})
        self._changing.discard(("subject", subject_id))
        if answered.status != 201:
            self.recorded.failed.append(f"an issue answered {_text(answered)}")
            return False
        body = answered.json()
        token_id = body["token_id"]
        targets: tuple[Target, ...] = (
            ("token", token_id),
            ("family", body["family_id"]),
            ("subject", subject_id),
            ("client", issuer.name),
        )
        self.recorded.issued.append(Issued(token_id, body["position"], time.monotonic(), targets))
        self.recorded.strings[token_id] = body["access_token"]
        self._targets[token_id] = targets
        self._live[strategy].append(token_id)
        return True

    async def _stop_or_reinstate(self, wire: Wire, token_id: str) -> bool:
        """Change the token, its family or its subject; a filled one by itself."""
        free = [t for t in self._targets[token_id][:3] if t not in self._changing and t not in self._over]
        if token_id in self._filled:
            free = [target for target in free if target[0] == "token"]
        if not free:
            return False
        target = random.choice(free)
        level, name = target
        verb: Verb = "suspend"
        if target in self._suspended:
            verb = "reinstate"
        elif level != "subject" and random.random() < 0.2:
            verb = "revoke"
        folder = {"token": "tokens", "family": "families", "subject": "subjects"}[level]
        headers = self._parties.bearer | {"Idempotency-Key": str(uuid4())}
        body = {"reason": "for the measurement"} if verb == "suspend" else None
        self._changing.add(target)
        invoked_at = time.monotonic()
        answered = await wire.request("POST", f"/v1/{folder}/{name}/{verb}", headers, body=body)
        self._changing.discard(target)
        if answered.status != 200:
            self.recorded.failed.append(f"{verb} of a {level} answered {_text(answered)}")
            return False
        self.recorded.changes.append(Change(target, verb, invoked_at, time.monotonic(), answered.json()["position"]))
        self._recent = [*self._recent[-7:], token_id]
        if verb == "suspend":
            self._suspended.add(target)
        else:
            self._suspended.discard(target)
        if verb == "revoke":
            self._over.add(target)
            for live in self._live.values():
                live[:] = [other for other in live if target not in self._targets[other]]
        return True


def _suspended(changes: list[Change]) -> set[Target]:
    suspended: set[Target] = set()
    for change in sorted(changes, key=lambda change: change.position):
        if change.verb == "suspend":
            suspended.add(change.target)
        else:
            suspended.discard(change.target)
    return suspended


def _text(answered: Answered) -> str:
    return f"{answered.status} {answered.body.decode(errors='replace')[:200]}"
