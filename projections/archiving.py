"""Archiving: old partitions of the log are written to files, and dropped when these were read back and found the same.

What is dropped is said by an event of the same transaction; what had ended by then leaves the views by further events, few rows
each, for whoever appends waits for the fold. Stopped at any point, a partition is in the log or whole in the archive, and the
next run goes on. The files: archive_files.py; what is not here any more, and who is told so: archived.py.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.decisions import SEMANTICS
from ledger.errors import InvalidInput, LedgerError
from ledger.events import Event, PartitionArchived, TokensArchived
from ledger.identifiers import uuid7
from ledger.log import Actor, Command, Envelope, append_inside
from projections.archive_files import (
    ArchiveRefused,
    Manifest,
    Partition,
    check,
    file_of,
    read_lines,
    read_manifest,
    write,
)
from projections.replay import (
    HELD_UP,
    PATIENCE_SECONDS,
    TURN_HELD_MS,
    TURN_WAIT_MS,
    OnProgress,
    Progress,
    head_of,
    let_others_go_first,
    maintenance,
    no_progress,
)

LEAVING: Final = 5_000  # rows of tokens, and of families, that leave by one event: about 50 ms in which nobody appends
AT_ONCE: Final = 2_000
WHO: Final = Actor("system", None, "ledger_owner")


class PartitionInUse(LedgerError):
    """A partition could not be dropped, for somebody reads the log; it is in the archive too, and the next run goes on."""

    code = "partition_in_use"
    cure = "Run the archiving again once the reader is done."

    def __init__(self, name: str, pids: list[int]) -> None:
        super().__init__(f"the log is in use by sessions {pids}: {name} is archived, but not dropped; try again later")
        self.name = name
        self.pids = pids


@dataclass(frozen=True, slots=True)
class Archived:
    """A partition that is not in the log any more, its size there and in the archive, and how long nobody could append."""

    manifest: Manifest
    table_bytes: int
    file_bytes: int
    held_seconds: float


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What a run did: the partitions, and by how many events how many rows of tokens and families left the views."""

    partitions: tuple[Archived, ...]
    events: int
    tokens: int
    families: int
    longest_held_seconds: float
    seconds: float


PARTITIONS: Final = """
SELECT p.name, p.from_position, p.to_position FROM ledger.partitions p WHERE p.to_position <= %s ORDER BY p.from_position
"""
EDGE: Final = "SELECT min(p.from_position) FROM ledger.partitions p"
LOG_ID: Final = "SELECT v.log_id FROM views.logs v ORDER BY v.position DESC LIMIT 1"
BEFORE: Final = """
SELECT coalesce((SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < coalesce(%s, 'infinity'::timestamptz)
  ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0)
"""
# Exactly as it was recorded: the text of jsonb is read back as the same jsonb.
LINES: Final = """
SELECT row_to_json(e)::text FROM (
  SELECT position, stream, version, type, schema_version, payload, metadata, recorded_at FROM {} ORDER BY position) AS e
"""


def position_before(conninfo: str, instant: datetime | None) -> int:
    """Answer the last position recorded before an instant, or ever; 0 where there is none."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(BEFORE, (instant,)).fetchone()
    assert row is not None
    return int(row[0])


def archive(
    conninfo: str,
    folder: Path,
    *,
    below: int,
    ended_before: datetime,
    patience_seconds: float = PATIENCE_SECONDS,
    progress: OnProgress = no_progress,
) -> ArchiveReport:
    """Archive every partition whose positions are all below `below` and recorded; then let what ended at or before
    `ended_before` leave the views, as far as it was made in what is archived.

    Appends and reads go on. InvalidInput for an instant that has not come; ReplayRunning; ArchiveRefused where a file is there
    that is not this partition's, or a file read back is not what was written; PartitionInUse after `patience_seconds`.
    """
    began = time.monotonic()
    done: list[Archived] = []
    with maintenance(conninfo) as connection:
        row = connection.execute(LOG_ID).fetchone()
        if row is None:
            return ArchiveReport((), 0, 0, 0, 0.0, time.monotonic() - began)
        log_id: UUID = row[0]
        if connection.execute("SELECT ledger.clock() < %s", (ended_before,)).fetchone() == (True,):
            raise InvalidInput.of("ended_before", "an instant that has come: what still stands does not leave")
        rows = connection.execute(PARTITIONS, (min(below, head_of(connection) + 1),)).fetchall()
        partitions = [Partition(*row) for row in rows]
        for number, partition in enumerate(partitions):
            progress(Progress("archiving", number, len(partitions), time.monotonic() - began))
            done.append(_archive(connection, folder, partition, log_id, patience_seconds))
        if partitions:
            progress(Progress("archiving", len(partitions), len(partitions), time.monotonic() - began))
        left = _let_go(connection, log_id, ended_before, progress)
    return ArchiveReport(tuple(done), *left, time.monotonic() - began)


def _archive(
    connection: Connection[TupleRow], folder: Path, partition: Partition, log_id: UUID, patience_seconds: float
) -> Archived:
    """Write, read back, compare, drop."""
    if file_of(folder, partition.name).exists():
        # Of a run that was stopped, or another ledger's: what it holds is compared below.
        manifest = read_manifest(folder, partition.name)
    else:
        manifest = write(folder, partition, log_id, _lines(connection, partition))
    path = check(folder, partition.name, manifest.sha256, log_id)
    if manifest.events != partition.events:
        raise ArchiveRefused(
            path, f"has {manifest.events} events; {partition.name} should have {partition.events}: verify the log"
        )
    for kept, recorded in zip_longest(read_lines(path), _lines(connection, partition)):
        if kept != recorded:
            raise ArchiveRefused(path, f"is not what {partition.name} holds; move it away, and it is written anew")
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (f"ledger.{partition.name}",)).fetchone()
    assert row is not None
    return Archived(manifest, row[0], path.stat().st_size, _drop(connection, partition, manifest, log_id, patience_seconds))


def _lines(connection: Connection[TupleRow], partition: Partition) -> Iterator[str]:
    """Answer the events of a partition as the archive has them, in their order, in bounded memory."""
    query = sql.SQL(LINES).format(sql.Identifier("ledger", partition.name))
    with connection.transaction(), connection.cursor("lines") as cursor:
        cursor.itersize = AT_ONCE
        for (line,) in cursor.execute(query):
            yield line


def _drop(
    connection: Connection[TupleRow], partition: Partition, manifest: Manifest, log_id: UUID, patience_seconds: float
) -> float:
    """Drop a partition and record it, together; answer for how many seconds nobody could append. PartitionInUse."""
    event = PartitionArchived(
        log_id=log_id,
        name=partition.name,
        from_position=partition.from_position,
        to_position=partition.to_position,
        events=manifest.events,
        sha256=manifest.sha256,
    )
    waiting_since, tried = time.monotonic(), 0
    while True:
        tried += 1
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(TURN_WAIT_MS))
                connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(TURN_HELD_MS))
                # The append's order of locks: the turn first, then anything.
                connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
                began = time.monotonic()
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("ledger", partition.name)))
                connection.execute("DELETE FROM ledger.partitions WHERE from_position = %s", (partition.from_position,))
                _record(connection, event)
            return time.monotonic() - began
        except HELD_UP:
            if time.monotonic() - waiting_since > patience_seconds:
                raise PartitionInUse(partition.name, _readers(connection)) from None
            let_others_go_first(tried)


def _record(connection: Connection[TupleRow], event: Event) -> None:
    """Append an event of the log's own stream, inside the caller's transaction, which has the turn."""
    row = connection.execute(
        "SELECT s.version, ledger.clock() FROM ledger.streams s WHERE s.stream = %s", (event.stream,)
    ).fetchone()
    assert row is not None  # a log begins with its own stream
    version, now = row
    command_id, request_id = uuid7(now), uuid7(now)
    envelope = Envelope(command_id, request_id, request_id, WHO, SEMANTICS)
    outcome = append_inside(connection, Command(envelope, {event.stream: version}, [event]))
    assert outcome.outcome == "recorded"


READERS: Final = """
SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND c.oid = 'ledger.events'::regclass AND l.granted AND l.pid <> pg_backend_pid()
ORDER BY l.pid
"""


def _readers(connection: Connection[TupleRow]) -> list[int]:
    return [pid for (pid,) in connection.execute(READERS).fetchall()]


# Of tokens and of families: the first row from a position on that leaves, and the one that is LEAVING further on.
NEXT_LEAVING: Final = """
SELECT
  (SELECT t.position FROM views.tokens t WHERE t.position >= %(first)s AND t.position < %(edge)s AND t.expires_at <= %(ended)s
    ORDER BY t.position LIMIT 1),
  (SELECT f.position FROM views.families f WHERE f.position >= %(first)s AND f.position < %(edge)s AND f.expires_at <= %(ended)s
    ORDER BY f.position LIMIT 1),
  (SELECT t.position FROM views.tokens t WHERE t.position >= %(first)s AND t.position < %(edge)s AND t.expires_at <= %(ended)s
    ORDER BY t.position OFFSET %(leaving)s LIMIT 1),
  (SELECT f.position FROM views.families f WHERE f.position >= %(first)s AND f.position < %(edge)s AND f.expires_at <= %(ended)s
    ORDER BY f.position OFFSET %(leaving)s LIMIT 1)
"""
COUNTED: Final = """
SELECT
  (SELECT count(*) FROM views.tokens t WHERE t.position >= %(first)s AND t.position < %(edge)s AND t.expires_at <= %(ended)s),
  (SELECT count(*) FROM views.families f WHERE f.position >= %(first)s AND f.position < %(edge)s AND f.expires_at <= %(ended)s)
"""


def _let_go(
    connection: Connection[TupleRow], log_id: UUID, ended_before: datetime, progress: OnProgress
) -> tuple[int, int, int, float]:
    """Let the rows of what ended leave the views, by as many events as it takes, also what former runs left standing."""
    began = time.monotonic()
    row = connection.execute(EDGE).fetchone()
    assert row is not None
    first, edge = 1, int(row[0])
    events = tokens = families = 0
    longest = 0.0
    while True:
        bounds = {"first": first, "edge": edge, "ended": ended_before, "leaving": LEAVING}
        row = connection.execute(NEXT_LEAVING, bounds).fetchone()
        assert row is not None
        firsts, ends = [p for p in row[:2] if p is not None], [p for p in row[2:] if p is not None]
        if not firsts:
            break
        first, to = min(firsts), min([*ends, edge])
        row = connection.execute(COUNTED, bounds | {"first": first, "edge": to}).fetchone()
        assert row is not None
        with connection.transaction():
            connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
            taken = time.monotonic()
            _record(connection, TokensArchived(log_id=log_id, from_position=first, to_position=to, ended_before=ended_before))
        held = time.monotonic() - taken
        events, tokens, families, longest = events + 1, tokens + row[0], families + row[1], max(longest, held)
        first = to
        progress(Progress("letting go", first, edge, time.monotonic() - began))
        time.sleep(held)  # half of the time is the others'
    return events, tokens, families, longest
