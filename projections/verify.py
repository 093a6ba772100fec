"""Verify: fold the log into a scratch schema and compare it, row by row, with the live views; and the log with itself.

The scratch schema is folded near to the head in transactions of its own; what is left of the log is folded by the one
transaction that compares, on one snapshot. Must not know what a view means: tables and their keys are found in the catalogue,
which types a view is made of is declared in matrix.py. Reads and appends are not held up.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import TupleRow, dict_row
from pydantic import ValidationError

from ledger.events import EVENT_TYPES, read_event
from projections.archive_reading import Archives, archives, edge_of
from projections.install import install_views, with_views
from projections.matrix import LEFT, conditions_of
from projections.replay import (
    LEFTOVERS_WAIT_MS,
    LIVE,
    NEAR,
    PIECE,
    FoldFailed,
    OnProgress,
    Progress,
    ReplayRunning,
    Table,
    drop,
    fold,
    head_of,
    maintenance,
    no_progress,
    put_indexes_off,
    tables_of,
)

SCRATCH: Final = "views_verify"
KEPT: Final = 100  # differences kept of each view; all are counted
EVENTS_AT_ONCE: Final = 2_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the log says.

    `view` is a table of `views`; one of the log with its schema (`ledger.streams`); `fold`, of a range that cannot be folded;
    or `matrix`, of an event that makes rows where matrix.py does not say so, or none where it does.
    missing: the log says so, it is not there. surplus: it is there, the log does not say so. changed: `live` and `replayed`
    hold the columns that differ. `positions`: of the events behind it, as far as they are known.
    """

    view: str
    key: Row
    kind: Literal["missing", "surplus", "changed"]
    live: Row | None
    replayed: Row | None
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Behind:
    """An event that a difference is about: its type, and who did it."""

    type: str
    actor_kind: str | None
    actor_id: str | None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verify found up to `position`. `totals` counts every difference by view, `differences` holds the first of each view,
    `behind` the events at their positions, as far as these are there."""

    position: int
    events: int
    seconds: float
    differences: tuple[Difference, ...]
    totals: Mapping[str, int]
    behind: Mapping[int, Behind]

    @property
    def clean(self) -> bool:
        """Whether views and log say the same."""
        return not self.totals


class _Found:
    """Differences as they are found: all counted, the first `kept` of each view remembered."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.totals: Counter[str] = Counter()
        self.differences: list[Difference] = []
        self._remembered: Counter[str] = Counter()

    def add(self, difference: Difference, total: int = 1) -> None:
        """Count `total` differences, of which this is one."""
        self.totals[difference.view] += total
        if self._remembered[difference.view] < self.kept:
            self._remembered[difference.view] += 1
            self.differences.append(difference)


def verify(
    conninfo: str,
    *,
    piece: int = PIECE,
    kept: int = KEPT,
    rate: int | None = None,
    folder: Path | None = None,
    progress: OnProgress = no_progress,
) -> VerifyReport:
    """Compare the live views with what this release's folds make of the log, and the log's own tables with its events.

    `rate`: at most so many events a second, of those that are there when it begins; what comes meanwhile is caught up with.
    Memory is bounded: rows are sorted on disk by PostgreSQL, events are read in batches, `kept` differences are kept of each
    view. Needs room on disk for a second set of views while it runs; what a run that was killed left behind goes with the next.
    What is archived is read from `folder`. The outcome is recorded in ledger.verifications. ReplayRunning; ArchiveNeeded;
    ArchiveRefused.
    """
    began = time.monotonic()
    found = _Found(kept)
    with maintenance(conninfo) as connection, archives(connection, folder) as archived, _scratch(connection):
        log = _Log(connection, archived, found, piece, progress)
        log.take_up_to(head_of(connection), rate)
        while (head := head_of(connection)) - log.position > NEAR:
            log.take_up_to(head)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            log.take_up_to(head_of(connection))
            _compare(connection, found, progress)
            behind = _behind(connection, found.differences)
        connection.isolation_level = None
        seconds = time.monotonic() - began
        connection.execute(VERIFIED, (log.position, seconds, found.totals.total()))
    return VerifyReport(log.position, log.events, seconds, tuple(found.differences), dict(found.totals), behind)


VERIFIED: Final = """
INSERT INTO ledger.verifications (verified_at, position, seconds, differences) VALUES (ledger.clock(), %s, %s, %s)
"""


@contextlib.contextmanager
def _scratch(connection: Connection[TupleRow]) -> Iterator[None]:
    """Make the scratch schema, without what a former run left, and drop it at the end."""
    try:
        drop(connection, SCRATCH, LEFTOVERS_WAIT_MS)
    except psycopg.errors.LockNotAvailable:
        raise ReplayRunning(f"somebody reads {SCRATCH}, which a former run left behind; try again later") from None
    try:
        with connection.transaction():
            install_views(connection, SCRATCH)
            put_indexes_off(connection, SCRATCH)  # for good: rows are compared by their keys
            connection.execute(EVERY_EVENT)
            for name in tables_of(connection, SCRATCH):
                # Nobody's to keep: it need not go through the write-ahead log, nor to a standby.
                connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(sql.Identifier(SCRATCH, name)))
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            drop(connection, SCRATCH, LEFTOVERS_WAIT_MS)


# -------------------------------------------------------------------------------------------------------- event by event

EVENTS: Final = """
SELECT h.position, h.stream, h.type, h.recorded_schema_version, h.payload::text,
  CASE WHEN h.recorded_schema_version = h.schema_version THEN true
    ELSE (SELECT e.payload <@ h.payload FROM events e WHERE e.position = h.position) END,
  h.recorded_at
FROM history h
WHERE h.position BETWEEN %s AND %s
ORDER BY h.position
"""


class _Log:
    """The log as it is read and folded, from its first event on: no hole, time never runs back, every event has its shape."""

    def __init__(
        self, connection: Connection[TupleRow], archived: Archives, found: _Found, piece: int, progress: OnProgress
    ) -> None:
        self.position = 0
        self._archives = archived
        self.events = 0
        self._latest: datetime | None = None
        self._connection = connection
        self._found = found
        self._piece = piece
        self._progress = progress

    def take_up_to(self, head: int, rate: int | None = None) -> None:
        """Read and fold what comes next, up to `head`, a piece a transaction (a savepoint inside the caller's)."""
        began, start = time.monotonic(), self.position
        piece = self._piece if rate is None else min(self._piece, rate)
        for first in range(start + 1, head + 1, piece):
            last = min(first + piece - 1, head)
            for source, begin, end in self._archives.ranges(first, last):
                self._read(begin, end, source)
                self._fold(begin, end, source)
            self.position = last
            if rate is not None:
                time.sleep(max(0.0, (last - start) / rate - (time.monotonic() - began)))
            self._progress(Progress("folding", last - start, head - start, time.monotonic() - began))

    def _read(self, first: int, last: int, source: str | None) -> None:
        position, found = first - 1, self._found
        with self._connection.transaction(), self._connection.cursor("events") as cursor:
            with_views(self._connection, SCRATCH, source)
            cursor.itersize = EVENTS_AT_ONCE
            for at, stream, event_type, version, payload, kept, recorded_at in cursor.execute(EVENTS, (first, last)):
                if at != position + 1:
                    _add_gap(found, position + 1, at - 1)
                if self._latest is not None and recorded_at < self._latest:
                    live, replayed = {"recorded_at": recorded_at}, {"recorded_at": self._latest}
                    found.add(Difference("ledger.events", {"position": at}, "changed", live, replayed, (at - 1, at)))
                else:
                    self._latest = recorded_at
                unreadable = _unreadable(event_type, version, payload, kept, stream)
                if unreadable is not None:
                    live = {"type": event_type, "unreadable": unreadable}
                    found.add(Difference("ledger.events", {"position": at}, "changed", live, None, (at,)))
                position = at
                self.events += 1
        if position < last:
            _add_gap(found, position + 1, last)

    def _fold(self, first: int, last: int, source: str | None) -> None:
        """Fold a range; where that fails, halve it until the events that cannot be folded are named, the others folded."""
        found = self._found
        try:
            fold(self._connection, SCRATCH, first, last, source=source)
        except FoldFailed as failed:
            if first == last or found.totals["fold"] >= found.kept:
                live = {"first_position": first, "last_position": last, "sqlstate": failed.sqlstate}
                positions = tuple(dict.fromkeys((first, last)))
                found.add(Difference("fold", {"position": first}, "changed", live, None, positions))
                return
            middle = (first + last) // 2
            self._fold(first, middle, source)
            self._fold(middle + 1, last, source)


def _add_gap(found: _Found, first: int, last: int) -> None:
    positions = (first,) if first == last else (first, last)
    found.add(
        Difference("ledger.events", {"position": first}, "missing", None, {"positions": last - first + 1}, positions),
        last - first + 1,
    )


def _unreadable(event_type: str, recorded_schema_version: int, payload: str, kept: bool, stream: object) -> str | None:
    """Say what is wrong with an event, whose payload comes in today's shape, without quoting it; None when nothing is.

    `kept`: every member that was recorded is there, with its value: what was recorded has the shape of its version.
    """
    if event_type not in EVENT_TYPES:
        return "unknown type"
    if not 1 <= recorded_schema_version <= EVENT_TYPES[event_type].SCHEMA_VERSION:
        return f"unknown schema_version {recorded_schema_version}"
    try:
        event = read_event(event_type, payload)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['type']}" for p in problems[:5])
    if event.stream != stream:
        return "the stream is not the one its payload names"
    written, stored = json.loads(event.payload_json()), json.loads(payload)
    if written != stored:
        return "not as it would be written: " + ", ".join(_differing(written, stored))
    return None if kept else f"members that schema_version {recorded_schema_version} has not"


def _differing(one: Row, other: Row) -> list[str]:
    return [name for name in {**one, **other} if one.get(name, ...) != other.get(name, ...)]


# ------------------------------------------------------------------------------------------------------- the log's tables

# Every event of the log, the archived ones as they were read.
EVERY_EVENT: Final = """
CREATE VIEW views_verify.every_event AS
  SELECT e.position, e.stream, e.version, e.metadata ->> 'command_id' AS command_id, e.recorded_at FROM ledger.events e
  UNION ALL
  SELECT s.position, s.stream, s.version, s.command_id, s.recorded_at FROM views_archive.seen s
"""
# Each answers the first rows that are not as the events say, as JSON of what is stored and what should be, and how many there
# are in all.
VERSIONS = """
SELECT count(*) OVER () AS total, jsonb_build_object('position', n.position) AS key,
  jsonb_build_object('stream', n.stream, 'version', n.version) AS live,
  jsonb_build_object('stream', n.stream, 'version', n.expected) AS replayed, ARRAY[n.position] AS positions
FROM (
  SELECT e.position, e.stream, e.version, row_number() OVER (PARTITION BY e.stream ORDER BY e.position) AS expected
  FROM views_verify.every_event e) AS n
WHERE n.version <> n.expected
ORDER BY n.position
LIMIT %(kept)s
"""

STREAMS = """
SELECT count(*) OVER () AS total, jsonb_build_object('stream', coalesce(s.stream, e.stream)) AS key,
  to_jsonb(s) - 'stream' AS live, to_jsonb(e) - 'stream' AS replayed, ARRAY[e.first_position, e.last_position] AS positions
FROM ledger.streams s
FULL JOIN (
  SELECT e.stream, max(e.version) AS version, min(e.position) AS first_position, max(e.position) AS last_position
  FROM views_verify.every_event e
  GROUP BY e.stream) AS e ON e.stream = s.stream
WHERE (s.version, s.first_position, s.last_position) IS DISTINCT FROM (e.version, e.first_position, e.last_position)
ORDER BY coalesce(s.stream, e.stream)
LIMIT %(kept)s
"""

# By its text: what is not a UUID is a difference, not an error. The events of a command stand side by side.
COMMANDS = """
SELECT count(*) OVER () AS total, jsonb_build_object('command_id', coalesce(c.command_id::text, e.command_id)) AS key,
  to_jsonb(c) - 'command_id' AS live, to_jsonb(e) - 'command_id' AS replayed,
  ARRAY[e.first_position, e.last_position] AS positions
FROM ledger.commands c
FULL JOIN (
  SELECT coalesce(e.command_id, '') AS command_id, min(e.position) AS first_position,
    max(e.position) AS last_position, count(*) AS events
  FROM views_verify.every_event e
  GROUP BY coalesce(e.command_id, '')) AS e ON e.command_id = c.command_id::text
WHERE (c.first_position, c.last_position) IS DISTINCT FROM (e.first_position, e.last_position)
  OR e.events <> e.last_position - e.first_position + 1
ORDER BY coalesce(e.first_position, c.first_position), 2
LIMIT %(kept)s
"""

# Every event belongs to the first batch that ends at or after it, and was recorded when that was.
BATCHES = """
SELECT count(*) OVER () AS total, jsonb_build_object('last_position', coalesce(b.last_position, e.last_position)) AS key,
  to_jsonb(b) - 'last_position' AS live, to_jsonb(e) - 'last_position' AS replayed,
  ARRAY[e.first_position, e.last_position] AS positions
FROM ledger.batches b
FULL JOIN (
  SELECT r.last_position, min(r.position) AS first_position, min(r.recorded_at) AS recorded_at, max(r.recorded_at) AS until
  FROM (
    SELECT e.position, e.recorded_at, min(b.last_position) OVER (ORDER BY e.position DESC) AS last_position
    FROM views_verify.every_event e
    LEFT JOIN ledger.batches b ON b.last_position = e.position) AS r
  GROUP BY r.last_position) AS e ON e.last_position = b.last_position
WHERE b.recorded_at IS DISTINCT FROM e.recorded_at OR b.recorded_at IS DISTINCT FROM e.until
ORDER BY coalesce(b.last_position, e.last_position)
LIMIT %(kept)s
"""

LOG_CHECKS: Final = (
    (VERSIONS, "ledger.events"),
    (STREAMS, "ledger.streams"),
    (COMMANDS, "ledger.commands"),
    (BATCHES, "ledger.batches"),
)


def _verify_log(connection: Connection[TupleRow], statement: str, view: str, found: _Found) -> None:
    """Compare a table of the log with its events."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement, {"kept": found.kept}).fetchall()
    for number, row in enumerate(rows):
        difference = _difference(view, row["key"], row["live"], row["replayed"], row["positions"])
        found.add(difference, 1 if number else row["total"] - len(rows) + 1)


# --------------------------------------------------------------------------------------------------------- views and rows


def _compare(connection: Connection[TupleRow], found: _Found, progress: OnProgress) -> None:
    """Compare the log's tables with its events, every table of the live views with the scratch schema, that with the matrix."""
    began = time.monotonic()
    live, replayed = tables_of(connection, LIVE), tables_of(connection, SCRATCH)
    names = sorted(live.keys() | replayed.keys())
    steps = len(LOG_CHECKS) + len(names)
    for done, (statement, view) in enumerate(LOG_CHECKS):
        progress(Progress("comparing", done, steps, time.monotonic() - began))
        _verify_log(connection, statement, view, found)
    for done, name in enumerate(names, start=len(LOG_CHECKS)):
        progress(Progress("comparing", done, steps, time.monotonic() - began))
        if name in replayed:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCRATCH, name)))
            if not found.totals["fold"]:  # what cannot be folded is named, and makes no rows
                _verify_matrix(connection, name, found)
        if name in live and name in replayed and live[name] == replayed[name]:
            _verify_table(connection, replayed[name], found)
        else:
            found.add(_difference(name, {}, _shape(live.get(name)), _shape(replayed.get(name)), ()))
    progress(Progress("comparing", steps, steps, time.monotonic() - began))


def _verify_matrix(connection: Connection[TupleRow], view: str, found: _Found) -> None:
    """Compare where a view was given rows with where the log, asked without its fold, says that it is;
    of what is not archived."""
    conditions = conditions_of(view)
    types_by_condition: dict[LiteralString, list[str]] = {}
    for event_type, condition in conditions.items():
        types_by_condition.setdefault(condition, []).append(event_type)
    expected = sql.SQL("SELECT NULL::bigint AS position WHERE false") + sql.Composed(
        [
            sql.SQL(" UNION ALL SELECT h.position FROM {history} h WHERE h.type = ANY ({types}) AND {condition}").format(
                history=sql.Identifier(SCRATCH, "history"), types=sql.Literal(types), condition=sql.SQL(condition)
            )
            for condition, types in types_by_condition.items()
        ]
    )
    statement = sql.SQL(
        "SELECT count(*) OVER () AS total, coalesce(e.position, r.position) AS position, e.position IS NULL AS surplus"
        " FROM ({expected}) AS e FULL JOIN (SELECT DISTINCT v.position FROM {view} v WHERE v.position >= {edge}) AS r"
        " ON r.position = e.position"
        " WHERE e.position IS NULL OR r.position IS NULL AND NOT EXISTS (SELECT FROM {archived} a WHERE {left})"
        " ORDER BY 2 LIMIT %(kept)s"
    ).format(
        expected=expected,
        view=sql.Identifier(SCRATCH, view),
        edge=edge_of(connection),
        archived=sql.Identifier(SCRATCH, "archived_tokens"),
        left=sql.SQL(LEFT.get(view, "false")),
    )
    rows = connection.execute(statement, {"kept": found.kept}).fetchall()
    for number, (total, position, surplus) in enumerate(rows):
        key, rows_of = {"view": view, "position": position}, {"rows": view}
        difference = _difference("matrix", key, rows_of if surplus else None, None if surplus else rows_of, (position,))
        found.add(difference, 1 if number else total - len(rows) + 1)


def _shape(table: Table | None) -> Row | None:
    return None if table is None else {"columns": dict(table.columns), "key": list(table.key)}


def _verify_table(connection: Connection[TupleRow], table: Table, found: _Found) -> None:
    """Compare the rows of one table, joined by its primary key and compared by every column."""
    columns = [name for name, _ in table.columns]
    key = table.key or tuple(columns)
    statement = sql.SQL(
        "SELECT count(*) OVER () AS total, to_jsonb(l) AS live, to_jsonb(r) AS replayed"
        " FROM {live} AS l FULL JOIN {replayed} AS r ON {same_key}"
        " WHERE ROW({of_l}) IS DISTINCT FROM ROW({of_r}) ORDER BY {order} LIMIT %(kept)s"
    ).format(
        live=sql.Identifier(LIVE, table.name),
        replayed=sql.Identifier(SCRATCH, table.name),
        same_key=sql.SQL(" AND ").join(sql.SQL("l.{0} = r.{0}").format(sql.Identifier(k)) for k in key),
        of_l=sql.SQL(", ").join(sql.Identifier("l", c) for c in columns),
        of_r=sql.SQL(", ").join(sql.Identifier("r", c) for c in columns),
        order=sql.SQL(", ").join(sql.SQL("coalesce(l.{0}, r.{0})").format(sql.Identifier(k)) for k in reversed(key)),
    )

    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement, {"kept": found.kept}).fetchall()
    for number, row in enumerate(rows):
        either = row["live"] or row["replayed"]
        positions = sorted({side["position"] for side in (row["live"], row["replayed"]) if side and "position" in side})
        difference = _difference(table.name, {name: either[name] for name in key}, row["live"], row["replayed"], positions)
        found.add(difference, 1 if number else row["total"] - len(rows) + 1)


def _difference(view: str, key: Row, live: Row | None, replayed: Row | None, positions: Iterable[int | None]) -> Difference:
    """Make a difference of both sides; of two, only the members that differ are kept."""
    behind = tuple(dict.fromkeys(p for p in positions if p is not None))
    if live is None or replayed is None:
        return Difference(view, key, "missing" if live is None else "surplus", live, replayed, behind)
    differing = [name for name in {**live, **replayed} if live.get(name) != replayed.get(name)]
    return Difference(
        view,
        key,
        "changed",
        {name: live.get(name) for name in differing},
        {name: replayed.get(name) for name in differing},
        behind,
    )


BEHIND: Final = """
SELECT e.position, e.type, e.metadata #>> '{actor,kind}', e.metadata #>> '{actor,id}'
FROM ledger.events e
WHERE e.position = ANY (%s)
ORDER BY e.position
"""


def _behind(connection: Connection[TupleRow], differences: Iterable[Difference]) -> dict[int, Behind]:
    """Answer the events at the positions of these differences."""
    positions = sorted({position for difference in differences for position in difference.positions})
    return {position: Behind(*behind) for position, *behind in connection.execute(BEHIND, (positions,)).fetchall()}
