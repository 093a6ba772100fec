"""What subscribers of the feed hear is the log: every position once, in order, by long-polling and as server-sent events.

Over two workers, while commands are recorded over HTTP and others by transactions that are held open for a moment before they
commit, or roll back; while backends of the service are killed, and a transaction that has written stays open all the time.
Subscribers break their connections at random and go on from the cursor they noted, now and then from an older one. Then: how
long after it was recorded an event is heard, how many commands a second are recorded with and without subscribers, and what the
memory of a worker does while a subscriber that was away hears of everything.
"""

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from ledger.database import connect, service_conninfo
from ledger.log import append
from projections.feed import Cursor
from tests.acceptance.filling import World, fill
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.processes import children
from tests.acceptance.wire import Lost, Wire
from tests.builders import command, subject_registered
from tests.calls import Person, new_api, new_client, new_person, ok
from tests.subscribing import FEED, stream

SECONDS: Final = 60.0
SUBSCRIBERS: Final = 12
FILTER: Final = ("subject_registered", "name_taken")
LATE_SECONDS: Final = 60.0  # to hear of the last event, after nobody writes any more
EVENTS_TIMED: Final = 500
WINDOW_SECONDS: Final = 6.0
WINDOWS: Final = 3
WRITERS: Final = 16
MANY: Final = 50
EVENTS_MISSED: Final = 200_000
# What a worker may grow by while it serves who was away, whatever the number of events.
MAX_GROWTH_MIB: Final = 48

What = tuple[str, int, str]


def run(stage: Stage) -> Shown:
    """Let them write and listen; then time, load, and catch up."""
    with running_ledger(stage) as ledger:
        heard = asyncio.run(_write_and_listen(stage, ledger))
        own, other = _latencies(stage, ledger)
        without, with_many = asyncio.run(_rates(stage, ledger))
        caught_up = asyncio.run(_catch_up(stage, ledger, _fill(stage, ledger)))
    ratio = with_many / without
    lines = (
        f"heard on the worker that recorded it after {_distribution(own)}; on the other after {_distribution(other)}",
        f"commands a second from {WRITERS} connections, without subscribers {without:,.0f}, with {MANY} {with_many:,.0f}:"
        f" {ratio:.2f} of it (the {MANY} clients run on the same cores)",
        caught_up.figure,
    )
    figure = f"{heard.figure()}; {lines[0]}"
    held = not heard.wrong and caught_up.held and statistics.median(other) < 0.5
    done = f"{heard.events:,} events, {heard.rolled_back:,} transactions rolled back, {heard.killed} backends killed,"
    done += f" {SUBSCRIBERS} subscribers connected {heard.connections:,} times"
    return Shown(done, figure, held=held, lines=(*heard.wrong[:10], *lines[1:]))


# ------------------------------------------------------------------------------------------------------------- connections


def _port(ledger: Ledger) -> int:
    return int(ledger.served.url.rpartition(":")[2])


def _bearer(ledger: Ledger) -> dict[str, str]:
    with ledger.served.admin() as admin:
        return {"Authorization": admin.headers["Authorization"]}


def _profile(person: Person) -> str:
    return f"/v1/subjects/{person.subject_id}/profile"


def _named(person: Person, number: float) -> dict[str, str]:
    """Answer a profile that nobody had before."""
    return {"username": person.username, "display_name": str(number)}


class Ended(Exception):
    """The stream is over, or was refused; the status is there in the second case."""


async def _blocks(port: int, bearer: dict[str, str], cursor: str | None, types: Sequence[str] | None) -> AsyncGenerator[bytes]:
    """Open a stream, and answer its blocks as they come. Ended."""
    query = "" if types is None else f"?types={','.join(types)}"
    headers = {"Host": "x", "Accept": "text/event-stream", **bearer} | ({} if cursor is None else {"Last-Event-ID": cursor})
    request = f"GET {FEED}{query} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Ended(head[9:12].decode())
        rest = b""
        while size := int(await reader.readline(), 16):
            *blocks, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n\n")
            for block in blocks:
                yield block
    except (OSError, EOFError) as error:
        raise Ended(type(error).__name__) from None
    finally:
        if writer is not None:
            writer.close()


def _read_block(block: bytes) -> tuple[str, dict[str, Any] | None]:
    """Answer the cursor of a block, and its event."""
    fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
    return fields["id"], json.loads(fields["data"]) if "data" in fields else None


# ---------------------------------------------------------------------------------------------------------- who listens


@dataclass(slots=True)
class Subscriber:
    """Somebody who listens, connects again at random, and notes what he heard."""

    number: int
    port: int
    bearer: dict[str, str]
    types: Sequence[str] | None
    streams: bool
    heard: dict[int, What] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    repeats: int = 0
    connections: int = 0
    cursor: str | None = None
    _before: list[str | None] = field(default_factory=list)

    async def listen(self, last: Callable[[], int | None]) -> None:
        """Listen until everything up to the last position was told."""
        chance = random.Random(self.number)
        while (end := last()) is None or self._position() < end:
            self.connections += 1
            self._before = [*self._before[-20:], self.cursor]
            if chance.random() < 0.1:
                self.cursor = chance.choice(self._before)  # as if nothing later had been noted
            leaves_at = time.monotonic() + chance.expovariate(1 / 2.0)
            leaves_after = chance.randrange(1, 400)
            try:
                if self.streams:
                    async with asyncio.timeout(max(0.05, leaves_at - time.monotonic())):
                        await self._stream(leaves_after)
                else:
                    await self._poll(chance)
            except (Ended, Lost, TimeoutError):
                await asyncio.sleep(0.02)

    def _position(self) -> int:
        cursor = None if self.cursor is None else Cursor.read(self.cursor)
        return 0 if cursor is None else cursor.position

    async def _stream(self, leaves_after: int) -> None:
        blocks = _blocks(self.port, self.bearer, self.cursor, self.types)
        before = self._position()
        async with contextlib.aclosing(blocks):
            async for block in blocks:
                if block.startswith(b"retry:"):
                    continue
                cursor, event = _read_block(block)
                if event is not None:
                    before = self._note(event, before)
                    leaves_after -= 1
                self.cursor = cursor
                if not leaves_after:
                    return

    async def _poll(self, chance: random.Random) -> None:
        query = {"limit": chance.choice((1, 7, 100)), "wait": chance.choice((0, 1, 2))}
        text = "&".join(f"{name}={value}" for name, value in query.items())
        text += "" if self.cursor is None else f"&after={self.cursor}"
        text += "" if self.types is None else f"&types={','.join(self.types)}"
        wire = Wire(self.port)
        try:
            answered = await wire.request("GET", f"{FEED}?{text}", self.bearer)
        finally:
            wire.close()
        if answered.status != 200:
            raise Lost(str(answered.status))
        page = answered.json()
        before = self._position()
        for event in page["events"]:
            before = self._note(event, before)
        self.cursor = page["cursor"]

    def _note(self, event: dict[str, Any], before: int) -> int:
        """Note an event that has to come after a position, and answer its own."""
        position: int = event["position"]
        what = (event["stream"], event["version"], event["type"])
        if position <= before:
            self.wrong.append(f"subscriber {self.number}: position {position} came after {before}")
        self.repeats += position in self.heard
        if self.heard.setdefault(position, what) != what:
            self.wrong.append(f"subscriber {self.number}: position {position} is told in two ways")
        return position

    def compare(self, log: dict[int, What]) -> None:
        """Find what was not heard, and what is not in the log."""
        expected = {position: what for position, what in log.items() if self.types is None or what[2] in self.types}
        missed = sorted(expected.keys() - self.heard.keys())
        made_up = sorted(position for position, what in self.heard.items() if expected.get(position) != what)
        if missed:
            self.wrong.append(f"subscriber {self.number} ({self.types}) missed {len(missed)} events, as {missed[:5]}")
        if made_up:
            self.wrong.append(f"subscriber {self.number} heard {len(made_up)} events that are not in the log, as {made_up[:5]}")


@dataclass(slots=True)
class Heard:
    """What came of it."""

    events: int = 0
    rolled_back: int = 0
    killed: int = 0
    connections: int = 0
    told: int = 0
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)

    def figure(self) -> str:
        """Answer it in words."""
        return f"{self.told:,} events were told, {self.repeats:,} of them again, {len(self.wrong)} differences from the log"


async def _write_and_listen(stage: Stage, ledger: Ledger) -> Heard:
    """Let them write and listen for a while, and compare what was heard with the log."""
    heard, bearer, ended = Heard(), _bearer(ledger), asyncio.Event()
    last: list[int] = []
    subscribers = [
        Subscriber(number, _port(ledger), bearer, FILTER if number % 4 >= 2 else None, number % 2 == 0)
        for number in range(SUBSCRIBERS)
    ]
    with _open_transaction(ledger), ledger.served.admin() as admin:
        people = [new_person(admin) for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(s.listen(lambda: last[0] if last else None)) for s in subscribers]
            writing = [
                *(tasks.create_task(_command(ledger, bearer, person, ended)) for person in people),
                *(tasks.create_task(_hold_open(ledger, number, ended, heard)) for number in range(2)),
                tasks.create_task(_kill(ledger, ended, heard)),
            ]
            began, seconds = time.monotonic(), SECONDS * stage.scale
            while (passed := time.monotonic() - began) < seconds:
                stage.progress("seconds of writing and listening", int(passed), int(seconds))
                await asyncio.sleep(0.2)
            ended.set()
            await asyncio.wait(writing)
            log = await asyncio.to_thread(_log, ledger)
            last.append(len(log))
            if (await asyncio.wait(listening, timeout=LATE_SECONDS))[1]:
                heard.wrong.append(f"not everybody had heard of everything after {LATE_SECONDS:.0f} s")
                last[0] = 0
    heard.events = len(log)
    for subscriber in subscribers:
        subscriber.compare(log)
        heard.connections += subscriber.connections
        heard.told += len(subscriber.heard) + subscriber.repeats
        heard.repeats += subscriber.repeats
        heard.wrong += subscriber.wrong
    if not heard.rolled_back or not heard.killed:
        heard.wrong.append("nothing was rolled back, or no backend killed")
    return heard


def _log(ledger: Ledger) -> dict[int, What]:
    with psycopg.connect(ledger.owner()) as connection:
        rows = connection.execute("SELECT e.position, e.stream, e.version, e.type FROM ledger.events e ORDER BY e.position")
        return {position: (str(stream), version, kind) for position, stream, version, kind in rows}


# ----------------------------------------------------------------------------------------------------------- who writes


@contextmanager
def _open_transaction(ledger: Ledger) -> Iterator[None]:
    """Keep a transaction open that has an id, and a snapshot of its beginning."""
    with psycopg.connect(ledger.postgres.conninfo("postgres", DATABASE)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("CREATE TEMPORARY TABLE kept_open AS SELECT count(*) FROM ledger.events")
        yield
        connection.rollback()


async def _command(ledger: Ledger, bearer: dict[str, str], person: Person, ended: asyncio.Event) -> None:
    """Change a profile, and register somebody, again and again; what fails is left."""
    chance, wire = random.Random(person.username), Wire(_port(ledger))
    while not ended.is_set():
        with contextlib.suppress(Lost):
            if chance.random() < 0.7:
                await wire.request("PUT", _profile(person), bearer, body=_named(person, chance.random()))
            else:
                await wire.request("POST", "/v1/subjects", bearer, body={"username": f"u{uuid4()}"})
        await asyncio.sleep(chance.uniform(0, 0.02))
    wire.close()


async def _hold_open(ledger: Ledger, number: int, ended: asyncio.Event, heard: Heard) -> None:
    """Append in transactions that stay open for a moment, and that do not all commit."""
    chance = random.Random(number)
    conninfo = service_conninfo(
        ledger.postgres.conninfo("ledger_service", DATABASE), statement_timeout_seconds=30, application_name="token-ledger held"
    )
    while not ended.is_set():
        with contextlib.suppress(psycopg.Error):
            async with await connect(conninfo) as connection:
                while not ended.is_set():
                    rolls_back = chance.random() < 0.3
                    async with connection.transaction(force_rollback=rolls_back):
                        events = [subject_registered(subject_id=uuid4()) for _ in range(chance.randrange(1, 6))]
                        await append(connection, [command(event) for event in events])
                        await asyncio.sleep(chance.choice((0, 0.001, 0.01, 0.06)))
                    heard.rolled_back += rolls_back
                    await asyncio.sleep(chance.uniform(0, 0.05))


async def _kill(ledger: Ledger, ended: asyncio.Event, heard: Heard) -> None:
    """Kill one backend of the service after the other."""
    kill = """SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.usename = 'ledger_service'
      ORDER BY random() LIMIT 1"""
    async with await connect(ledger.postgres.conninfo("postgres", DATABASE)) as connection:
        while not ended.is_set():
            await asyncio.sleep(random.uniform(0.2, 1.0))
            heard.killed += len(await (await connection.execute(kill)).fetchall())


# ----------------------------------------------------------------------------------------------------------------- how fast


def _latencies(stage: Stage, ledger: Ledger) -> tuple[list[float], list[float]]:
    """Answer the seconds from `recorded_at`, before the commit, to hearing of it: by the worker that recorded it, the other."""
    events = stage.scaled(EVENTS_TIMED)
    authorization = _bearer(ledger)
    with ledger.served.admin() as admin, ThreadPoolExecutor(2) as threads:
        person = new_person(admin)
        with ledger.served.each_worker() as listeners, ledger.served.each_worker() as writers:
            for client in (*listeners, *writers):
                client.headers.update(authorization)
            listening = [threads.submit(_time, listener, events) for listener in listeners]
            for number in range(events):
                stage.progress("events timed", number, events)
                ok(writers[0].put(_profile(person), json=_named(person, number)))
                time.sleep(random.uniform(0, 0.06))
            own, other = (each.result(30) for each in listening)
    return own, other


def _time(http: httpx.Client, events: int) -> list[float]:
    latencies: list[float] = []
    with stream(http, after="now", types="subject_profile_set") as blocks:
        for block in blocks:
            if block.event is not None:
                latencies.append(time.time() - datetime.fromisoformat(block.event["recorded_at"]).timestamp())
                if len(latencies) == events:
                    break
    return latencies


def _distribution(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    at = {name: ordered[min(len(ordered) - 1, int(part * len(ordered)))] for name, part in (("p90", 0.9), ("p99", 0.99))}
    parts = [f"median {statistics.median(ordered) * 1000:.1f}", *(f"{name} {s * 1000:.1f}" for name, s in at.items())]
    return f"{', '.join(parts)}, most {ordered[-1] * 1000:.1f} ms of {len(ordered)}"


async def _rates(stage: Stage, ledger: Ledger) -> tuple[float, float]:
    """Answer the commands recorded a second without and with many subscribers, in turns."""
    with ledger.served.admin() as admin:
        people = [new_person(admin) for _ in range(WRITERS)]
    bearer, seconds = _bearer(ledger), max(1.0, WINDOW_SECONDS * stage.scale)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * WINDOWS):
        stage.progress("windows of load", number, 2 * WINDOWS)
        many = number % 2 == 1
        heard = [[0] for _ in range(MANY if many else 0)]
        subscribers = [asyncio.create_task(_count(_port(ledger), bearer, count)) for count in heard]
        await asyncio.sleep(1)
        done = await asyncio.gather(*(_write_for(_port(ledger), bearer, person, seconds) for person in people))
        await asyncio.sleep(0.5)
        for subscriber in subscribers:
            subscriber.cancel()
        await asyncio.gather(*subscribers, return_exceptions=True)
        if any(count[0] < sum(done) for count in heard):
            raise FellShort(f"of {sum(done)} events a subscriber heard {min(count[0] for count in heard)}")
        rates[many].append(sum(done) / seconds)
    return statistics.mean(rates[False]), statistics.mean(rates[True])


async def _count(port: int, bearer: dict[str, str], count: list[int]) -> None:
    """Count the events of a stream from now on, at little cost: all of it is on the cores of the server."""
    wire = Wire(port)
    cursor = (await wire.request("GET", f"{FEED}?after=now", bearer)).json()["cursor"]
    wire.close()
    async for block in _blocks(port, bearer, cursor, None):
        count[0] += b"\ndata: " in block


async def _write_for(port: int, bearer: dict[str, str], person: Person, seconds: float) -> int:
    wire, done, ends_at = Wire(port), 0, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        answered = await wire.request("PUT", _profile(person), bearer, body=_named(person, done))
        if answered.status != 200:
            raise FellShort(f"a command was answered {answered.status}: {answered.body[:200]!r}")
        done += 1
    wire.close()
    return done


# -------------------------------------------------------------------------------------------------------------- who was away


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What came of it."""

    held: bool
    figure: str


def _fill(stage: Stage, ledger: Ledger) -> int:
    """Let the log grow, and answer its head."""
    with ledger.served.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        (role,) = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
        client = new_client(admin, "filled", grants=["issue"], apis=[api]).name
    world = World(client_id_of(client), client, api_id_of(api), UUID(role["role_id"]))
    conninfo = ledger.postgres.conninfo("ledger_service", DATABASE)
    fill(conninfo, world, stage.scaled(EVENTS_MISSED), lambda done, of: stage.progress("events recorded", done, of))
    with ledger.served.client() as http:
        head: int = ok(http.get("/readyz"))["position"]
    return head


async def _catch_up(stage: Stage, ledger: Ledger, head: int) -> CaughtUp:
    """Let two subscribers hear of everything, one of them of some types, and look at the memory of the workers."""
    workers = [worker.pid for worker in children(ledger.served.process.pid)]
    before = [_resident_mib(pid) for pid in workers]
    bearer, most, began = _bearer(ledger), list(before), time.monotonic()
    all_of_it = asyncio.create_task(_everything(_port(ledger), bearer, head, None))
    some_of_it = asyncio.create_task(_everything(_port(ledger), bearer, head, ("subject_registered", "family_revoked")))
    while not (all_of_it.done() and some_of_it.done()):
        stage.progress("catching up", 0, None)
        most = [max(*pair) for pair in zip(most, map(_resident_mib, workers), strict=True)]
        await asyncio.sleep(0.1)
    seconds = time.monotonic() - began
    positions = all_of_it.result()
    in_order = positions == list(range(1, head + 1))
    some = some_of_it.result()
    growth = max(after - first for first, after in zip(before, most, strict=True))
    figure = (
        f"{len(positions):,} events were told to one who was away for all of them, and {len(some):,} of two types to another,"
        f" in {seconds:.0f} s; a worker had {max(before):.0f} MiB before, {max(most):.0f} at most, grown by {growth:.0f}"
    )
    return CaughtUp(in_order and some == sorted(set(some)) and growth < MAX_GROWTH_MIB, figure)


async def _everything(port: int, bearer: dict[str, str], head: int, types: Sequence[str] | None) -> list[int]:
    """Answer every position that a stream tells from the beginning of the log up to the head, however often it ends."""
    positions: list[int] = []
    cursor: str | None = None
    while True:
        with contextlib.suppress(Ended):
            async for block in _blocks(port, bearer, cursor, types):
                if block.startswith(b"retry:"):
                    continue
                written, event = _read_block(block)
                cursor = written
                if event is not None:
                    positions.append(event["position"])
                place = Cursor.read(written)
                if place is not None and place.position >= head:
                    return positions


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024
