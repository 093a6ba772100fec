"""Verify: replay the log into a scratch schema and compare it, row by row, with the live views; and the log with itself.

Everything is seen by one snapshot and nothing is left behind: one transaction, rolled back. Must not know what a view
means: tables and their keys are found in the catalogue. Reads and appends are not held up.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import TupleRow, dict_row
from pydantic import ValidationError

from ledger.events import EVENT_TYPES, read_event
from projections.install import install_views
from projections.replay import (
    LIVE,
    PIECE,
    FoldFailed,
    OnProgress,
    Progress,
    Table,
    fold,
    head_of,
    maintenance,
    no_progress,
    tables_of,
)

SCRATCH: Final = "views_verify"
KEPT: Final = 100  # differences kept of each view; all are counted
EVENTS_AT_ONCE: Final = 2_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the log says.

    `view` is a table of `views`, or one of the log with its schema (`ledger.streams`). missing: the log says so, it is not
    there. surplus: it is there, the log does not say so. changed: `live` and `replayed` hold the columns that differ.
    `positions`: of the events behind it, as far as they are known.
    """

    view: str
    key: Row
    kind: Literal["missing", "surplus", "changed"]
    live: Row | None
    replayed: Row | None
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verify found. `totals` counts every difference by view, `differences` holds the first of each view."""

    events: int
    seconds: float
    differences: tuple[Difference, ...]
    totals: Mapping[str, int]

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


def verify(conninfo: str, *, piece: int = PIECE, kept: int = KEPT, progress: OnProgress = no_progress) -> VerifyReport:
    """Compare the live views with what this release's folds make of the log, and the log's own tables with its events.

    Memory is bounded: rows are sorted on disk by PostgreSQL, events are read in batches, `kept` differences are kept of each
    view. Needs room on disk for a second set of views while it runs. ReplayRunning.
    """
    began = time.monotonic()
    found = _Found(kept)
    with maintenance(conninfo) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction(force_rollback=True):
            head = head_of(connection)
            install_views(connection, SCRATCH)
            events = _verify_events(connection, head, found, progress)
            for statement, view in LOG_CHECKS:
                _verify_log(connection, statement, view, found)
            started = time.monotonic()
            for first in range(1, head + 1, piece):
                _fold(connection, first, min(first + piece - 1, head), found)
                progress(Progress("folding", min(first + piece - 1, head), head, time.monotonic() - started))
            _verify_views(connection, found, progress)
    return VerifyReport(events, time.monotonic() - began, tuple(found.differences), dict(found.totals))


EVENTS = """
SELECT e.position, e.stream, e.type, e.payload::text, e.recorded_at
FROM views_verify.history e
ORDER BY e.position
"""


def _verify_events(connection: Connection[TupleRow], head: int, found: _Found, progress: OnProgress) -> int:
    """Read the log from its first event to its last: no hole, time never runs back, every event can be read."""
    began = time.monotonic()
    position = events = 0
    latest: datetime | None = None
    with connection.cursor("events") as cursor:
        cursor.itersize = EVENTS_AT_ONCE
        for at, stream, event_type, payload, recorded_at in cursor.execute(EVENTS):
            if at != position + 1:
                _add_gap(found, position + 1, at - 1)
            if latest is not None and recorded_at < latest:
                live, replayed = {"recorded_at": recorded_at}, {"recorded_at": latest}
                found.add(Difference("ledger.events", {"position": at}, "changed", live, replayed, (at - 1, at)))
            else:
                latest = recorded_at
            unreadable = _unreadable(event_type, payload, stream)
            if unreadable is not None:
                live = {"type": event_type, "unreadable": unreadable}
                found.add(Difference("ledger.events", {"position": at}, "changed", live, None, (at,)))
            position = at
            events += 1
            if events % EVENTS_AT_ONCE == 0:
                progress(Progress("reading the log", events, max(head, events), time.monotonic() - began))
    if position < head:
        _add_gap(found, position + 1, head)
    progress(Progress("reading the log", events, events, time.monotonic() - began))
    return events


def _add_gap(found: _Found, first: int, last: int) -> None:
    positions = (first,) if first == last else (first, last)
    found.add(
        Difference("ledger.events", {"position": first}, "missing", None, {"positions": last - first + 1}, positions),
        last - first + 1,
    )


def _unreadable(event_type: str, payload: str, stream: object) -> str | None:
    """Say what is wrong with an event without quoting it; None when nothing is."""
    if event_type not in EVENT_TYPES:
        return "unknown type"
    try:
        event = read_event(event_type, payload)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['type']}" for p in problems[:5])
    return None if event.stream == stream else "the stream is not the one its payload names"


# Each answers the first rows that are not as the events say, as JSON of what is stored and what should be, and how many there
# are in all.
VERSIONS = """
SELECT count(*) OVER () AS total, jsonb_build_object('position', n.position) AS key,
  jsonb_build_object('stream', n.stream, 'version', n.version) AS live,
  jsonb_build_object('stream', n.stream, 'version', n.expected) AS replayed, ARRAY[n.position] AS positions
FROM (
  SELECT e.position, e.stream, e.version, row_number() OVER (PARTITION BY e.stream ORDER BY e.position) AS expected
  FROM ledger.events e) AS n
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
  FROM ledger.events e
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
  SELECT coalesce(e.metadata ->> 'command_id', '') AS command_id, min(e.position) AS first_position,
    max(e.position) AS last_position, count(*) AS events
  FROM ledger.events e
  GROUP BY coalesce(e.metadata ->> 'command_id', '')) AS e ON e.command_id = c.command_id::text
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
    FROM ledger.events e
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


def _fold(connection: Connection[TupleRow], first: int, last: int, found: _Found) -> None:
    """Fold a range; where that fails, halve it until the events that cannot be folded are named and the others are folded."""
    try:
        fold(connection, SCRATCH, first, last)
    except FoldFailed as failed:
        if first == last or found.totals["fold"] >= found.kept:
            live = {"first_position": first, "last_position": last, "sqlstate": failed.sqlstate}
            found.add(Difference("fold", {"position": first}, "changed", live, None, (first, last)))
            return
        middle = (first + last) // 2
        _fold(connection, first, middle, found)
        _fold(connection, middle + 1, last, found)


def _verify_views(connection: Connection[TupleRow], found: _Found, progress: OnProgress) -> None:
    """Compare every table of the live views with the scratch schema."""
    began = time.monotonic()
    live, replayed = tables_of(connection, LIVE), tables_of(connection, SCRATCH)
    names = sorted(live.keys() | replayed.keys())
    for done, name in enumerate(names):
        progress(Progress("comparing", done, len(names), time.monotonic() - began))
        if name in live and name in replayed and live[name] == replayed[name]:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCRATCH, name)))
            _verify_table(connection, replayed[name], found)
        else:
            found.add(_difference(name, {}, _shape(live.get(name)), _shape(replayed.get(name)), ()))
    progress(Progress("comparing", len(names), len(names), time.monotonic() - began))


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
