"""Replay: build the views anew beside the live ones, while appends and reads go on, and put them in their place.

Owns the session that maintenance runs in, the folding in pieces and the swap. Must not know what any view means: tables are
found in the catalogue. The files that make and fold the views: install.py; going back to the views before, and copies to look
into: going_back.py, copies.py; comparing row by row with the log: verify.py.
"""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.errors import LedgerError
from projections.archive_reading import Archives, archives
from projections.install import install_views, with_views

LIVE: Final = "views"
NEXT: Final = "views_next"
PREVIOUS: Final = "views_previous"
SWAPPING: Final = "views_swapping"  # inside the transaction of a swap

GROUPS: Final = ("tokens", "others")  # of views, as fold.sql has them: folded at the same time
PIECE: Final = 20_000  # positions folded in one transaction
NEAR: Final = 1_000  # so many positions may be left to the fold under the turn: about 50 ms
TURN_WAIT_MS: Final = 200  # well under deadlock_timeout (1 s): in a deadlock with a reader it is the swap that gives way
TURN_HELD_MS: Final = 1_000  # a statement that runs longer while appends wait is given up
PATIENCE_SECONDS: Final = 60.0
LEFTOVERS_WAIT_MS: Final = 5_000  # a run that was killed may be folding its last piece still
ROOM: Final = 2  # times the size of the views must be free on the disk
ONE_AT_A_TIME: Final = 7236837478227601

# synchronous_commit: what is lost in a crash would be thrown away at the next start anyway; the swap itself is flushed, and
# with it everything before. client_connection_check_interval: the server notices within a second that we were killed.
SESSION: Final = """
SET ROLE ledger_owner;
SET TimeZone = 'UTC';
SET jit = off;
SET work_mem = '64MB';
SET maintenance_work_mem = '64MB';
SET plan_cache_mode = force_custom_plan;
SET statement_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET synchronous_commit = off;
SET client_connection_check_interval = '1s';
"""


class ReplayRunning(LedgerError):
    """Another replay or verify is at work in this database; one at a time."""

    code = "replay_running"
    cure = "Wait until the other one is done."


class FoldFailed(LedgerError):
    """The events at first_position .. last_position cannot be folded; `sqlstate` says how PostgreSQL puts it.

    The database's own text is left out: it quotes rows.
    """

    code = "fold_failed"
    cure = "Go on with the release that serves, whose views are as they were, and report the position that is named."

    def __init__(self, first_position: int, last_position: int, sqlstate: str | None) -> None:
        super().__init__(f"folding the events at positions {first_position} to {last_position} failed ({sqlstate})")
        self.first_position = first_position
        self.last_position = last_position
        self.sqlstate = sqlstate


class SwapBlocked(LedgerError):
    """The turn or the live views could not be had; the live views are as they were. `pids` hold locks on them: a dump, say."""

    code = "swap_blocked"
    cure = "End what holds the locks (the processes are named), and start the replay again."

    def __init__(self, pids: list[int]) -> None:
        super().__init__(f"views are in use by sessions {pids}: the live ones were not replaced, try again later")
        self.pids = pids


class NoRoom(LedgerError):
    """The disk has not, or is not known to have, room for a second set of views; `free` is None where it cannot be seen."""

    code = "no_room"
    cure = "Make room on the disk, or say how much there is with `--free-bytes` (docs/replay.md)."

    def __init__(self, needed: int, free: int | None) -> None:
        wanted = f"{needed:,} bytes, twice the size of the views, must be free on the disk of the database"
        super().__init__(
            f"{wanted}, and {free:,} are"
            if free is not None
            else f"{wanted}, which cannot be seen from here: say with --free-bytes how many are (`df -B1` on its machine)"
        )
        self.needed = needed
        self.free = free


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: `done` of `total` positions (of indexes or views, when these are made or compared) after `seconds`."""

    step: Literal["folding", "indexing", "comparing", "swapping", "archiving", "letting go"]
    done: int
    total: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Positions (views) a second, since the step began."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What is left of the step at that rate; None as long as nothing is done."""
        return (self.total - self.done) / self.per_second if self.per_second > 0 else None


OnProgress = Callable[[Progress], None]
# Answers how many bytes are free on the disk of the database; None where that cannot be known.
FreeBytes = Callable[[], int | None]
FoldRange = Callable[[int, int], None]
T = TypeVar("T")


# What an attempt raises that took no turn, or could not have it for long enough: nothing is changed, and it is made again.
HELD_UP: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)


def let_others_go_first(tried: int) -> None:
    """Pause after an attempt: reads and appends queued behind it, and get the greater part of the time, more each time."""
    time.sleep(min(0.25 * 2 ** min(tried, 5), 5.0))


def no_progress(_: Progress) -> None:
    """Tell nobody."""


def plenty() -> int | None:
    """Answer for a disk that somebody else looks after."""
    return sys.maxsize


@dataclass(frozen=True, slots=True)
class ViewDifference:
    """A view that was not what the log says, or that only one release has. Rows up to where the views were compared.

    rows: same shape, other rows. shape: other columns, rows not compared. new, gone: not there before, not there any more.
    """

    view: str
    why: Literal["rows", "shape", "new", "gone"]
    rows_before: int | None
    rows_replayed: int | None


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did. `events` is the head it stopped at, `held_seconds` how long appends had to wait for the swap."""

    events: int
    seconds: float
    held_seconds: float
    swaps_tried: int
    rows: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[ViewDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a schema as the catalogue has it: columns with their types, in order, and those of the primary key."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]


def replay(
    conninfo: str,
    *,
    piece: int = PIECE,
    patience_seconds: float = PATIENCE_SECONDS,
    free_bytes: FreeBytes = plenty,
    folder: Path | None = None,
    progress: OnProgress = no_progress,
) -> ReplayReport:
    """Fold the whole log with this release's files into fresh views and swap them for the live ones.

    Appends and single-statement reads go on all the while; both wait a moment at the swap. The former views stay as
    `views_previous`, no longer folded, until the next replay. Whatever else in the database depends on a view goes with
    them. Killed or failed at any point, the live views are as they were and the next run starts afresh.
    What is archived is read from `folder`.
    ReplayRunning; NoRoom; ArchiveNeeded; ArchiveRefused; FoldFailed; SwapBlocked when the live views were in use for
    `patience_seconds`.
    """
    began = time.monotonic()
    with building(conninfo, free_bytes, folder) as both:
        connection = both.first
        folded = catch_up(partial(head_of, connection), both.fold, 0, piece, progress)
        both.finish(progress)
        rows, differences = _compare(both, folded, progress)
        swapped = put_in_place(
            connection, NEXT, partial(fold, connection, NEXT), folded, patience_seconds=patience_seconds, progress=progress
        )
        return ReplayReport(swapped.head, time.monotonic() - began, swapped.held_seconds, swapped.tried, rows, differences)


@contextlib.contextmanager
def session(conninfo: str) -> Iterator[Connection[TupleRow]]:
    """Open an autocommit session as ledger_owner, with the settings of maintenance."""
    with contextlib.closing(
        psycopg.connect(conninfo, autocommit=True, application_name="token-ledger maintenance")
    ) as connection:
        connection.execute(SESSION)
        yield connection


@contextlib.contextmanager
def maintenance(conninfo: str) -> Iterator[Connection[TupleRow]]:
    """Open such a session, the only one at work on the views; ReplayRunning where there is one."""
    with session(conninfo) as connection:
        try:
            # Held by the session: gone with it, however it ends. The wait is for one that was killed a moment ago.
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute("SELECT pg_advisory_lock(%s)", (ONE_AT_A_TIME,))
        except psycopg.errors.LockNotAvailable:
            raise ReplayRunning("another replay or verify is running in this database") from None
        yield connection


class Building:
    """The views of this release as they are made in NEXT, over two sessions: each folds its group of the views."""

    def __init__(
        self,
        first: Connection[TupleRow],
        second: Connection[TupleRow],
        beside: ThreadPoolExecutor,
        archives: Archives,
        indexes: Sequence[str],
    ) -> None:
        self.first = first
        self.second = second
        self._archives = archives
        self._indexes = indexes
        self._beside = beside

    def together(self, one: Callable[[], T], other: Callable[[], T]) -> tuple[T, T]:
        """Do both at once, the first here and over the first session; raises when both have ended."""
        beside = self._beside.submit(other)
        try:
            done = one()
        finally:
            wait([beside])
        return done, beside.result()

    def fold(self, first: int, last: int) -> None:
        """Fold a range, in a transaction for each group of the views. FoldFailed, ArchiveRefused."""
        for source, begin, end in self._archives.ranges(first, last):
            self.together(
                partial(fold, self.first, NEXT, begin, end, GROUPS[:1], source),
                partial(fold, self.second, NEXT, begin, end, GROUPS[1:], source),
            )

    def finish(self, progress: OnProgress) -> None:
        """Make the indexes that were put off, and let the planner know what was made."""
        began, total = time.monotonic(), len(self._indexes)
        left = deque(self._indexes)

        def make_those_left(connection: Connection[TupleRow]) -> None:
            with contextlib.suppress(IndexError):  # no more are left
                while True:
                    connection.execute(left.popleft().encode())

        progress(Progress("indexing", 0, total, 0.0))
        self.together(partial(make_those_left, self.first), partial(make_those_left, self.second))
        progress(Progress("indexing", total, total, time.monotonic() - began))
        for name in tables_of(self.first, NEXT):
            self.first.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(NEXT, name)))


@contextlib.contextmanager
def building(conninfo: str, free_bytes: FreeBytes, folder: Path | None) -> Iterator[Building]:
    """Make NEXT afresh, empty, where there is room for it; what is left of it when the caller fails is dropped.

    `folder`: of the archives. ReplayRunning; NoRoom; SwapBlocked when what a former run left in NEXT is in use; ArchiveNeeded
    and ArchiveRefused.
    """
    with (
        maintenance(conninfo) as connection,
        session(conninfo) as second,
        ThreadPoolExecutor(1) as beside,
        archives(connection, folder) as archived,
    ):
        for each in (connection, second):
            # Two processes at work are what a replay takes; the workers of parallel plans would be more, and decisions wait.
            each.execute("SET max_parallel_workers_per_gather = 0; SET max_parallel_maintenance_workers = 0")
        drop_patiently(connection, NEXT)
        needed, free = ROOM * _size_of(connection, LIVE), free_bytes()
        if free is None or free < needed:
            raise NoRoom(needed, free)
        try:
            with connection.transaction():
                install_views(connection, NEXT)
                indexes = put_indexes_off(connection, NEXT)
            yield Building(connection, second, beside, archived, indexes)
        except BaseException:
            # A full disk is freed at once. Whoever was killed leaves it to the next run.
            with contextlib.suppress(psycopg.Error, SwapBlocked):
                drop_patiently(connection, NEXT)
            raise


LATER_INDEXES: Final = """
SELECT c.relname, pg_get_indexdef(i.indexrelid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE c.relnamespace = to_regnamespace(%s) AND NOT i.indisunique AND a.attname <> 'position'
ORDER BY c.relname
"""


def put_indexes_off(connection: Connection[TupleRow], schema: str) -> list[str]:
    """Drop the indexes that no fold looks anything up by, and answer the statements that make them again.

    Made when the rows are there they cost a third of what it costs to keep them in step. The keys stay, and what begins with a
    position: by these folds find what leaves with an archive.
    """
    indexes = connection.execute(LATER_INDEXES, (schema,)).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, name)))
    return [definition for _, definition in indexes]


def head_of(connection: Connection[TupleRow]) -> int:
    """Answer the last position of the log; 0 for an empty one."""
    row = connection.execute("SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


def fold(
    connection: Connection[TupleRow],
    schema: str,
    first: int,
    last: int,
    groups: Sequence[str] | None = None,
    source: str | None = None,
) -> None:
    """Fold first .. last (both inclusive) into `schema`, in a transaction (a savepoint inside the caller's). FoldFailed.

    Every view, or those of some groups; from the log, or from the `history` of the schema `source`.
    """
    try:
        with connection.transaction():
            with_views(connection, schema, source)
            if groups is None:
                connection.execute("SELECT fold(%s, %s)", (first, last))
            else:
                connection.execute("SELECT fold(%s, %s, %s)", (first, last, list(groups)))
    except psycopg.OperationalError:
        raise  # not about the events: the connection, a lock, a timeout
    except psycopg.Error as error:
        raise FoldFailed(first, last, error.sqlstate) from None


TABLES = """
SELECT c.relname,
  (SELECT array_agg(ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod)] ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT array_agg(a.attname::text ORDER BY k.n)
    FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c
JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = %s AND c.relkind IN ('r', 'p')
ORDER BY c.relname
"""


def tables_of(connection: Connection[TupleRow], schema: str) -> dict[str, Table]:
    """Answer the tables of `schema` by name; none where there is no such schema."""
    return {
        name: Table(name, tuple((column, kind) for column, kind in columns), tuple(key or ()))
        for name, columns, key in connection.execute(TABLES, (schema,)).fetchall()
    }


def drop_patiently(connection: Connection[TupleRow], schema: str) -> None:
    """Drop a schema that no live view depends on, where there is one. SwapBlocked where it stays in use."""
    try:
        drop(connection, schema, LEFTOVERS_WAIT_MS)
    except psycopg.errors.LockNotAvailable:
        raise SwapBlocked(_holders(connection, [schema])) from None


def drop(connection: Connection[TupleRow], schema: str, wait_ms: int) -> None:
    """The same; psycopg's LockNotAvailable after `wait_ms`."""
    # The live views share nothing with it: nobody but a dump or a person is kept waiting here.
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(wait_ms))
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def _size_of(connection: Connection[TupleRow], schema: str) -> int:
    """Answer the bytes of every table of a schema with its indexes; 0 where there is no such schema."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
        " JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = %s AND c.relkind = 'r'",
        (schema,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def catch_up(head_now: Callable[[], int], fold_range: FoldRange, folded: int, piece: int, progress: OnProgress) -> int:
    """Fold what is recorded, at least to the head as it is now, until at most NEAR positions are left; answer the last one."""
    began, start, near = time.monotonic(), folded, 0
    while (head := head_now()) - folded > near:
        for first in range(folded + 1, head + 1, piece):
            progress(Progress("folding", first - 1 - start, head - start, time.monotonic() - began))
            fold_range(first, min(first + piece - 1, head))
        folded, near = head, NEAR
    progress(Progress("folding", folded - start, folded - start, time.monotonic() - began))
    return folded


def _compare(both: Building, position: int, progress: OnProgress) -> tuple[dict[str, int], tuple[ViewDifference, ...]]:
    """Count and fingerprint the rows of both, as they stood at `position`; answer the replayed rows and what differs."""
    live, replayed = tables_of(both.first, LIVE), tables_of(both.first, NEXT)
    rows: dict[str, int] = {}
    differences: list[ViewDifference] = []
    names = sorted(live.keys() | replayed.keys())
    began = time.monotonic()
    for done, name in enumerate(names):
        progress(Progress("comparing", done, len(names), time.monotonic() - began))
        before, after = both.together(
            partial(_fingerprint, both.first, LIVE, live.get(name), position),
            partial(_fingerprint, both.second, NEXT, replayed.get(name), position),
        )
        if after is not None:
            rows[name] = after[0]
        if after is None:
            differences.append(ViewDifference(name, "gone", before and before[0], None))
        elif before is None:
            differences.append(ViewDifference(name, "new", None, after[0]))
        elif live[name].columns != replayed[name].columns:
            differences.append(ViewDifference(name, "shape", before[0], after[0]))
        elif before != after:
            differences.append(ViewDifference(name, "rows", before[0], after[0]))
    progress(Progress("comparing", len(names), len(names), time.monotonic() - began))
    return rows, tuple(differences)


def _fingerprint(
    connection: Connection[TupleRow], schema: str, table: Table | None, position: int
) -> tuple[int, int | None] | None:
    """Answer the number of rows up to `position` and the sum of their hashes: one scan, no sort. None for no table.

    Finds accidents, not forgeries: verify compares the rows themselves.
    """
    if table is None:
        return None
    row = connection.execute(
        sql.SQL("SELECT count(*), sum(hash_record_extended(t, 0)) FROM {} AS t WHERE t.position <= %s").format(
            sql.Identifier(schema, table.name)
        ),
        (position,),
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@dataclass(frozen=True, slots=True)
class Swapped:
    """The head of the log at the swap, for how many seconds appends waited, and how many attempts it took."""

    head: int
    held_seconds: float
    tried: int


def put_in_place(
    connection: Connection[TupleRow],
    schema: str,
    fold_range: FoldRange,
    folded: int,
    *,
    patience_seconds: float,
    progress: OnProgress,
) -> Swapped:
    """Swap the views of `schema`, folded up to `folded`, for the live ones, trying again while these are in use. SwapBlocked.

    `fold_range` folds over `connection`. The live ones become PREVIOUS, whose place is made free unless it is `schema`.
    """
    tried = 0
    waiting_since = time.monotonic()
    while True:
        tried += 1
        progress(Progress("swapping", tried - 1, tried, time.monotonic() - waiting_since))
        folded = catch_up(partial(head_of, connection), fold_range, folded, PIECE, no_progress)
        try:
            if schema != PREVIOUS:
                drop(connection, PREVIOUS, TURN_WAIT_MS)
            head, held_seconds = _swap(connection, schema, fold_range, folded)
            break
        except HELD_UP:
            if time.monotonic() - waiting_since > patience_seconds:
                raise SwapBlocked(_holders(connection, [LIVE, PREVIOUS])) from None
            let_others_go_first(tried)
    progress(Progress("swapping", tried, tried, time.monotonic() - waiting_since))
    return Swapped(head, held_seconds, tried)


def _swap(connection: Connection[TupleRow], schema: str, fold_range: FoldRange, folded: int) -> tuple[int, float]:
    """Fold the tail under the turn and rename; answer the head and for how many seconds the turn was held.

    psycopg's LockNotAvailable, QueryCanceled or DeadlockDetected: nothing is changed.
    """
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(TURN_WAIT_MS))
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(TURN_HELD_MS))
        connection.execute("SET LOCAL synchronous_commit = on")
        # The append's order of locks: the turn first, then anything.
        connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
        began = time.monotonic()
        head = head_of(connection)
        if head > folded:
            fold_range(folded + 1, head)
        # A reader finds a table by its name, locks it, and only then takes its snapshot: between the two, a swap and an
        # append would make it read the former table as of a moment after. Behind this lock it either has its snapshot
        # already or looks the name up again. Last of all, so that reads wait for nothing but the renaming.
        relations = _relations(connection, LIVE)
        if relations:
            connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
                    sql.SQL(", ").join(sql.Identifier(LIVE, name) for name in relations)
                )
            )
        rename(connection, schema, SWAPPING)
        if connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (LIVE,)).fetchone() == (True,):
            rename(connection, LIVE, PREVIOUS)
        rename(connection, SWAPPING, LIVE)
    return head, time.monotonic() - began


def rename(connection: Connection[TupleRow], schema: str, to: str) -> None:
    """Give a schema another name, inside the caller's transaction."""
    connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(to)))


def _relations(connection: Connection[TupleRow], schema: str) -> list[str]:
    """Answer tables and views: who reads a view locks it first, and its tables by what they were when it did."""
    return [
        name
        for (name,) in connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace"
            " WHERE s.nspname = %s AND c.relkind IN ('r', 'p', 'v') ORDER BY c.relkind DESC, c.relname",
            (schema,),
        ).fetchall()
    ]


def _holders(connection: Connection[TupleRow], schemas: list[str]) -> list[int]:
    return [
        pid
        for (pid,) in connection.execute(
            "SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"
            " AND (c.relnamespace = ANY (SELECT to_regnamespace(s.name) FROM unnest(%s::text[]) AS s(name))"
            "   OR c.oid = 'ledger.append_turn'::regclass)"
            " AND l.granted AND l.pid <> pg_backend_pid() ORDER BY l.pid",
            (schemas,),
        ).fetchall()
    ]
