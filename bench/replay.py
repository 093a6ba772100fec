"""A full rebuild of all views by `token-ledger replay`, beside a bare INSERT ... SELECT of the rows that it makes.

The log is filled by real appends with the history of an ordinary service. Measured at a quarter of the events and at all of
them: the rate must not fall, and memory must not grow.
"""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from bench.figures import Figure, Goal
from bench.ledger import API
from bench.running import DATABASE, Bench, running
from bench.stage import Section, Size, Stage
from ledger.apis import api_id_of
from ledger.clients import client_id_of
from projections.replay import LIVE, PIECE, head_of, session, tables_of
from tests.acceptance.filling import World, fill
from tests.serving import command

NAME: Final = "replay"
FLOOR: Final = "INSERT ... SELECT of the same rows, same indexes, two connections"
REPLAY: Final = "token-ledger replay"
CLIENT: Final = "memory of the replaying process"
SERVER: Final = "memory of each process of the database that replays, without what they share"
EVENTS: Final[dict[Size, int]] = {"small": 8_000, "default": 120_000, "full": 5_000_000}
PARTS: Final = (4, 1)  # of the events: a quarter first
UNIT: Final = "events a second"
AT_LEAST: Final = Goal(least=0.4)
LINEAR: Final = Goal(least=0.8)
BOUNDED: Final = Goal(most=1.25)
# As replay has them: the views that one of its two connections folds; the other one folds the rest.
FIRST_GROUP: Final = ("tokens", "token_states")
SCRATCH: Final = "bench_floor"
LOOK_SECONDS: Final = 0.05
REPLAYED: Final = re.compile(r"([\d,]+) events replayed in ([\d.]+) s")


def run(stage: Stage) -> Iterable[Figure]:
    """Fill a log by steps, and measure floor and replay in turns at each."""
    figures: list[Figure] = []
    with running(stage.folder, 1) as bench:
        filled = 0
        for part in PARTS:
            wanted = EVENTS[stage.size] // part
            _fill(stage, bench, wanted - filled, seed=part)
            filled = wanted
            figures += _measure(stage, bench, rounds=stage.rounds)
    quarter, whole = figures[: len(figures) // 2], figures[len(figures) // 2 :]
    for before, after in zip(quarter, whole, strict=True):
        before.goal = None
        if after.what != FLOOR:
            after.beside[f"it at {before.at}"] = before.rounds
        if after.what in (CLIENT, SERVER):
            after.goal = BOUNDED
    linear = Figure(
        NAME, f"{REPLAY}, linear", whole[1].at, UNIT, whole[1].rounds, {f"it at {quarter[1].at}": quarter[1].rounds}
    )
    linear.goal = LINEAR
    return [*figures, linear]


def _fill(stage: Stage, bench: Bench, events: int, *, seed: int) -> None:
    world = World(client_id_of("opaque"), "opaque", api_id_of(API), bench.ledger.role_id)
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > 10:
            told = time.monotonic()
            stage.tell(f"{done:,} of {total:,} events filled in")

    stage.tell(f"filling in {events:,} events")
    with psycopg.connect(bench.owner, autocommit=True) as connection:
        # Filled in faster than the service makes partitions ahead.
        connection.execute("SELECT ledger.make_partitions(p_ahead => %s)", (events + 3_000_000,))
    fill(bench.server.conninfo("ledger_service", DATABASE), world, events, tell, seed=seed)


def _measure(stage: Stage, bench: Bench, rounds: int) -> list[Figure]:
    at = f"{bench.position():,} events"
    floor, replay = Figure(NAME, FLOOR, at, UNIT), Figure(NAME, REPLAY, at, UNIT, goal=AT_LEAST)
    client, server = Figure(NAME, CLIENT, at, "MB"), Figure(NAME, SERVER, at, "MB")
    for number in range(rounds):
        stage.tell(f"round {number + 1} of {rounds}, {at}")
        floor.rounds.append(_floor(bench))
        per_second, client_mb, server_mb = _replay(bench)
        replay.rounds.append(per_second)
        client.rounds.append(client_mb)
        server.rounds.append(server_mb)
    replay.beside[FLOOR] = floor.rounds
    return [floor, replay, client, server]


def _floor(bench: Bench) -> float:
    """Copy the rows of the live views into tables of the same shape, piece by piece as replay folds them; events a second."""
    owner = bench.server.conninfo("ledger_owner", DATABASE)
    with session(owner) as one, session(owner) as other, ThreadPoolExecutor(2) as both:
        one.execute(SQL("CREATE SCHEMA {}").format(Identifier(SCRATCH)))
        names = list(tables_of(one, LIVE))
        for name in names:
            # Keys and indexes too.
            one.execute(
                SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(Identifier(SCRATCH, name), Identifier(LIVE, name))
            )
        head = head_of(one)
        shares = [(one, [n for n in names if n in FIRST_GROUP]), (other, [n for n in names if n not in FIRST_GROUP])]
        began = time.monotonic()
        for first in range(1, head + 1, PIECE):
            last = min(first + PIECE - 1, head)
            list(both.map(partial(_copy, first=first, last=last), *zip(*shares, strict=True)))
        seconds = time.monotonic() - began
        one.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(SCRATCH)))
    return head / seconds


def _copy(connection: Connection[TupleRow], names: list[str], first: int, last: int) -> None:
    with connection.transaction():
        for name in names:
            connection.execute(
                SQL("INSERT INTO {} SELECT * FROM {} AS v WHERE v.position BETWEEN %s AND %s ORDER BY v.position").format(
                    Identifier(SCRATCH, name), Identifier(LIVE, name)
                ),
                (first, last),
            )


def _replay(bench: Bench) -> tuple[float, float, float]:
    """Run the command as an operator would; answer its events a second, and the memory it and the database took at most."""
    free = str(shutil.disk_usage(bench.folder).free)
    process = subprocess.Popen(
        command("replay", "--free-bytes", free),
        env=bench.served.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with _watching(bench.owner, process.pid) as most:
        said, _ = process.communicate()
    replayed = REPLAYED.search(said)
    if process.returncode != 0 or replayed is None:
        raise RuntimeError(f"the replay ended with {process.returncode}: {said}")
    if "differ" in said:
        raise RuntimeError(f"the replay found the views to be otherwise: {said}")
    return int(replayed[1].replace(",", "")) / float(replayed[2]), most["client"], most["server"]


@contextmanager
def _watching(owner: str, pid: int) -> Iterator[dict[str, float]]:
    """Look at the memory of a process and of its backends again and again; answers what was most, in MB.

    Of a backend its own memory, not the shared buffers that it has touched, which are the server's.
    """
    most = {"client": 0.0, "server": 0.0}
    ended = threading.Event()

    def look() -> None:
        with psycopg.connect(owner, autocommit=True) as connection:
            while not ended.wait(LOOK_SECONDS):
                backends = connection.execute(
                    "SELECT a.pid FROM pg_stat_activity a WHERE a.application_name = 'token-ledger maintenance'"
                ).fetchall()
                most["client"] = max(most["client"], _megabytes(pid, "VmRSS"))
                most["server"] = max([most["server"], *(_megabytes(backend, "RssAnon") for (backend,) in backends)])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        ended.set()
        looking.join()


def _megabytes(pid: int, line: str) -> float:
    """Answer a line of /proc/PID/status; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(rf"^{line}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


SECTION: Final = Section(
    NAME,
    (FLOOR, REPLAY, CLIENT, SERVER, f"{REPLAY}, linear"),
    run,
    seconds={"small": 20, "default": 90, "full": 2_100},
    gigabytes={"small": 0.5, "default": 2, "full": 25},
)
