"""Archives as replay and verify read them: the archived events of a log, in their order, a piece at a time, as a table.

A file is believed when its checksum is the one in the log. What tells of the newest archives is in the log, what tells of older
ones perhaps in a newer archive: they are believed from the newest on. A piece lies in the schema ARCHIVE, under this release's
view `history`; whoever folds with that schema first in the search path folds the piece. The files: archive_files.py.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.errors import LedgerError
from projections.archive_files import ArchiveRefused, check, read_lines
from projections.install import install_history

ARCHIVE: Final = "views_archive"
WAIT_MS: Final = 5_000


class ArchiveNeeded(LedgerError):
    """A part of the log is archived, and nobody said where the files are. `name`: of the newest that is needed."""

    code = "archive_needed"
    cure = "Say where the files are with `--archives`."

    def __init__(self, name: str, to_position: int) -> None:
        super().__init__(
            f"positions 1 to {to_position - 1} are archived, the last of them in {name}:"
            " --archives names the folder of the files"
        )
        self.name = name
        self.to_position = to_position


@dataclass(frozen=True, slots=True)
class _Known:
    """An archive as the log tells of it."""

    log_id: UUID
    name: str
    from_position: int
    to_position: int
    sha256: str

    @classmethod
    def of(cls, payload: dict[str, str | int]) -> "_Known":
        return cls(
            UUID(str(payload["log_id"])),
            str(payload["name"]),
            int(payload["from_position"]),
            int(payload["to_position"]),
            str(payload["sha256"]),
        )


EDGE: Final = "SELECT p.from_position FROM ledger.partitions p ORDER BY p.from_position LIMIT 1"
KNOWN: Final = "SELECT e.payload FROM ledger.events e WHERE e.type = 'partition_archived' ORDER BY e.position"


def edge_of(connection: Connection[TupleRow]) -> int:
    """Answer the first position of the log that is not archived."""
    row = connection.execute(EDGE).fetchone()
    assert row is not None
    return int(row[0])


def refuse_without_archives(connection: Connection[TupleRow], first: int) -> None:
    """Refuse to read the log from `first` on where that is archived. ArchiveNeeded."""
    edge = edge_of(connection)
    if first < edge:
        known = [_Known.of(payload) for (payload,) in connection.execute(KNOWN).fetchall()]
        raise ArchiveNeeded(next((k.name for k in known if k.to_position == edge), "an archive the log does not name"), edge)


def _believed(connection: Connection[TupleRow], folder: Path, edge: int) -> list[Path]:
    """Answer the files of all that is before `edge`, oldest first. ArchiveRefused."""
    known = {k.to_position: k for k in (_Known.of(payload) for (payload,) in connection.execute(KNOWN).fetchall())}
    paths: list[Path] = []
    unread: list[Path] = []
    while edge > 1:
        while edge not in known and unread:
            # What tells of it was archived itself, in a newer one.
            told = (json.loads(line) for line in read_lines(unread.pop()) if '"type":"partition_archived"' in line)
            known |= {k.to_position: k for k in (_Known.of(event["payload"]) for event in told)}
        if edge not in known:
            raise ArchiveRefused(folder, f"the log does not say what was archived before position {edge}")
        archive = known[edge]
        path = check(folder, archive.name, archive.sha256, archive.log_id)
        paths.append(path)
        unread.append(path)
        edge = archive.from_position
    return paths[::-1]


class Archives:
    """The archived events of a log, read once from the first on. `edge`: the first position that is not among them."""

    def __init__(self, connection: Connection[TupleRow], folder: Path, paths: Sequence[Path], edge: int) -> None:
        self.edge = edge
        self._folder = folder
        self._connection = connection
        self._lines = (line for path in paths for line in read_lines(path))
        self._next = 1

    def ranges(self, first: int, last: int) -> Iterator[tuple[str | None, int, int]]:
        """Answer the parts of a range, each with the schema whose `history` holds it: ARCHIVE, until the next is asked for, or
        None for that of the log. ArchiveRefused."""
        if first < self.edge:
            end = min(last, self.edge - 1)
            self._load(first, end)
            yield ARCHIVE, first, end
            first = end + 1
        if first <= last:
            yield None, first, last

    def _load(self, first: int, last: int) -> None:
        assert first == self._next
        with self._connection.transaction():
            self._connection.execute("TRUNCATE views_archive.events, views_archive.lines")
            with self._connection.cursor().copy("COPY views_archive.lines (line) FROM STDIN") as copy:
                for line in islice(self._lines, last - first + 1):
                    copy.write_row((line,))
            row = self._connection.execute(LOAD, {"first": first, "last": last}).fetchone()
        if row != (last - first + 1,):
            raise ArchiveRefused(self._folder, f"lacks events of the positions {first} to {last}")
        self._next = last + 1


LOAD: Final = """
WITH loaded AS (
  INSERT INTO views_archive.events (position, stream, version, type, schema_version, payload, metadata, recorded_at)
    SELECT e.position, e.stream, e.version, e.type, e.schema_version, e.payload, e.metadata, e.recorded_at
      FROM views_archive.lines l
      CROSS JOIN LATERAL json_to_record(l.line::json) AS e(position bigint, stream uuid, version integer, type text,
        schema_version smallint, payload jsonb, metadata jsonb, recorded_at timestamptz)
      WHERE e.position BETWEEN %(first)s AND %(last)s
      ORDER BY e.position
    RETURNING position, stream, version, metadata ->> 'command_id' AS command_id, recorded_at),
seen AS (
  INSERT INTO views_archive.seen (position, stream, version, command_id, recorded_at)
    SELECT l.position, l.stream, l.version, l.command_id, l.recorded_at FROM loaded l)
SELECT count(*) FROM loaded
"""
# `seen`: what the log's own tables can be held against, of every event that was read.
TABLES: Final = """
CREATE UNLOGGED TABLE views_archive.lines (line text NOT NULL);
CREATE UNLOGGED TABLE views_archive.events (LIKE ledger.events INCLUDING CONSTRAINTS INCLUDING INDEXES);
CREATE UNLOGGED TABLE views_archive.seen (position bigint NOT NULL, stream uuid NOT NULL, version integer NOT NULL,
  command_id text, recorded_at timestamptz NOT NULL);
"""


@contextlib.contextmanager
def archives(connection: Connection[TupleRow], folder: Path | None) -> Iterator[Archives]:
    """Find the files of what is archived in `folder`, believed, and make the schema for their pieces until the end.

    ArchiveNeeded where something is archived and there is no folder; ArchiveRefused.
    """
    edge = edge_of(connection)
    if folder is None:
        refuse_without_archives(connection, 1)
    paths = [] if folder is None else _believed(connection, folder, edge)
    _drop(connection)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(ARCHIVE)))
            connection.execute(TABLES)
            install_history(connection, ARCHIVE)
        yield Archives(connection, folder or Path(), paths, edge)
    finally:
        with contextlib.suppress(psycopg.Error):
            _drop(connection)


def _drop(connection: Connection[TupleRow]) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(WAIT_MS))
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(ARCHIVE)))
