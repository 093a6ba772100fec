"""What auditors ask: the events that match filters, page by page, and the states of a thing as of many positions.

Events are read through views.history, never from the table. A request scans a fixed number of index entries whatever the
size of the log: for every filter the next positions that can match are found by an index, what all of them can match is
checked on the events themselves, and a page that had to stop says where the next one begins.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8
from pydantic import TypeAdapter

from ledger.execute import Reading
from ledger.states import Client, Family, Name, State, Subject, SubjectRules
from projections.archived import read_edge, refuse_archived_events, refuse_events
from projections.moments import AT, Moment, at_parameters
from projections.reading import Keys
from projections.rows import read_rows

Connection = AsyncConnection[TupleRow]
Row = TypeVar("Row")

# Index entries looked at for one filter in one request.
SCANNED: Final = 2_000
# Of payloads as PostgreSQL stores them, compressed: a page holds one event at least, and then no more than this.
PAGE_BYTES: Final = 1_000_000
# Events looked at in one go; fewer where fewer are asked for.
MIN_CHUNK: Final = 100

# Where the log is, and the positions that two instants mean.
BOUNDS: Final = """
SELECT at.position, at.instant,
  (SELECT v.log_id FROM views.logs v WHERE v.position <= at.position ORDER BY v.position DESC LIMIT 1),
  (SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < %(from_time)s::timestamptz
    ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1),
  (SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < %(to_time)s::timestamptz
    ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1),
  (SELECT p.from_position FROM ledger.partitions p ORDER BY p.from_position LIMIT 1)
"""

# What can concern an entity, in five indexes: issues and rotations have no audit entries and are found by their tokens.
# A token's own position is read first and then compared: a plan made on an empty store would as soon walk the index of all
# positions in search of the token.
NEWEST_OF_ENTITIES: Final = """
SELECT
  ARRAY(SELECT v.position FROM views.audit_entries v
    WHERE v.entity_id = k.entity_id AND v.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY v.position DESC LIMIT %(scanned)s::integer),
  ARRAY(SELECT v.position FROM views.tokens v
    WHERE v.subject_id = k.entity_id AND v.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY v.position DESC LIMIT %(scanned)s::integer),
  ARRAY(SELECT v.position FROM views.tokens v
    WHERE v.client_id = k.entity_id AND v.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY v.position DESC LIMIT %(scanned)s::integer),
  ARRAY(SELECT v.position FROM views.tokens v
    WHERE v.family_id = k.entity_id AND v.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY v.position DESC LIMIT %(scanned)s::integer),
  ARRAY(SELECT t.position FROM (SELECT v.position FROM views.tokens v WHERE v.token_id = k.entity_id OFFSET 0) AS t
    WHERE t.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY t.position DESC LIMIT %(scanned)s::integer)
FROM unnest(%(entity_ids)s::uuid[]) WITH ORDINALITY AS k(entity_id, ordinal)
ORDER BY k.ordinal
"""
NEWEST_OF_TYPES: Final = """
SELECT ARRAY(SELECT h.position FROM views.history h
    WHERE h.type = k.type AND h.position BETWEEN %(first)s::bigint AND %(last)s::bigint
    ORDER BY h.position DESC LIMIT %(scanned)s::integer)
FROM unnest(%(types)s::text[]) WITH ORDINALITY AS k(type, ordinal)
ORDER BY k.ordinal
"""
# Of each entity up to a position of its own; not by tokens, which are many where one is asked about.
OLDEST_ENTRIES: Final = """
SELECT ARRAY(SELECT v.position FROM views.audit_entries v
    WHERE v.entity_id = k.entity_id AND v.position BETWEEN %(first)s::bigint AND k.last
    ORDER BY v.position LIMIT %(scanned)s::integer)
FROM unnest(%(entity_ids)s::uuid[], %(lasts)s::bigint[]) WITH ORDINALITY AS k(entity_id, last, ordinal)
ORDER BY k.ordinal
"""
# The same the other way round.
OLDEST_OF_ENTITIES: Final = NEWEST_OF_ENTITIES.replace(" DESC", "")
OLDEST_OF_TYPES: Final = NEWEST_OF_TYPES.replace(" DESC", "")

# The events at these positions that match every filter, in the order of the positions. `matched`: how many do, before the page
# is full.
EVENTS: Final = """
SELECT m.position, m.stream, m.version, m.type, m.schema_version, m.payload, m.metadata, m.recorded_at,
  m.recorded_schema_version, m.bytes, m.matched
FROM (
  SELECT k.ordinal, h.position, h.stream, h.version, h.type, h.schema_version, h.payload, h.metadata, h.recorded_at,
    h.recorded_schema_version, count(*) OVER () AS matched, sum(pg_column_size(h.payload)) OVER (ORDER BY k.ordinal) AS bytes,
    pg_column_size(h.payload) AS own_bytes
  FROM unnest(%(positions)s::bigint[]) WITH ORDINALITY AS k(position, ordinal)
  CROSS JOIN LATERAL (SELECT v.* FROM views.history v WHERE v.position = k.position LIMIT 1) AS h
  WHERE (%(types)s::text IS NULL OR h.type = ANY (string_to_array(%(types)s::text, ',')))
    AND (%(subject_id)s::uuid IS NULL
      OR %(subject_id)s::uuid::text IN (h.payload ->> 'subject_id', h.payload ->> 'holder_id'))
    AND (%(client_id)s::uuid IS NULL OR h.payload ->> 'client_id' = %(client_id)s::uuid::text)
    AND (%(api_id)s::uuid IS NULL OR h.payload ->> 'api_id' = %(api_id)s::uuid::text)
    AND (%(token_id)s::uuid IS NULL OR h.payload ->> 'token_id' = %(token_id)s::uuid::text
      OR h.payload -> 'tokens' @> jsonb_build_array(jsonb_build_object('token_id', %(token_id)s::uuid)))
    AND (%(family_id)s::uuid IS NULL OR h.payload ->> 'family_id' = %(family_id)s::uuid::text)
    AND (%(role_id)s::uuid IS NULL
      OR %(role_id)s::uuid::text IN (h.payload ->> 'role_id', h.payload ->> 'holder_id')
      OR h.payload -> 'granted' ? %(role_id)s::uuid::text OR h.payload -> 'withdrawn' ? %(role_id)s::uuid::text)
    AND (%(key_id)s::uuid IS NULL OR h.payload ->> 'key_id' = %(key_id)s::uuid::text)
    AND (%(actor_id)s::uuid IS NULL OR h.metadata -> 'actor' ->> 'id' = %(actor_id)s::uuid::text)) AS m
WHERE m.bytes - m.own_bytes < %(bytes)s::bigint
ORDER BY m.ordinal
LIMIT %(limit)s::integer
"""

# The newest event about an entity, up to a position, that is of these types and grants this role.
NEWEST_EVENT: Final = """
SELECT e.position
FROM (SELECT v.position FROM views.audit_entries v
  WHERE v.entity_id = %(entity_id)s::uuid AND v.position <= %(last)s::bigint
  ORDER BY v.position DESC LIMIT %(scanned)s::integer) AS e
CROSS JOIN LATERAL (SELECT v.type, v.stream, v.payload FROM views.history v WHERE v.position = e.position LIMIT 1) AS h
WHERE h.type = ANY (string_to_array(%(types)s::text, ','))
  AND (h.stream = %(entity_id)s::uuid OR h.payload ->> 'token_id' = %(entity_id)s::uuid::text)
  AND (%(role_id)s::text IS NULL OR h.payload -> 'granted' ? %(role_id)s::text)
  AND (h.type <> 'subject_password_set' OR h.payload ->> 'cuts_off' = 'true')
ORDER BY e.position DESC LIMIT 1
"""

# The state of a thing as of each of these positions.
SUBJECT_AS_OF: Final = """
SELECT k.position, to_jsonb(x)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.subjects v
  WHERE v.subject_id = %(key)s::uuid AND v.position <= k.position ORDER BY v.position DESC LIMIT 1) AS x
ORDER BY k.position
"""
FAMILY_AS_OF: Final = """
SELECT k.position, to_jsonb(x)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.families v
  WHERE v.family_id = %(key)s::uuid AND v.position <= k.position ORDER BY v.position DESC LIMIT 1) AS x
ORDER BY k.position
"""
SUBJECT_RULES_AS_OF: Final = """
SELECT k.position, to_jsonb(x)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.subject_rules v
  WHERE v.subject_id = %(key)s::uuid AND v.position <= k.position ORDER BY v.position DESC LIMIT 1) AS x
ORDER BY k.position
"""
NAME_AS_OF: Final = """
SELECT k.position, to_jsonb(x)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.names v
  WHERE v.name_id = %(key)s::uuid AND v.position <= k.position ORDER BY v.position DESC LIMIT 1) AS x
ORDER BY k.position
"""
CLIENT_AS_OF: Final = """
SELECT k.position, to_jsonb(x)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.clients v
  WHERE v.client_id = %(key)s::uuid AND v.position <= k.position ORDER BY v.position DESC LIMIT 1) AS x
ORDER BY k.position
"""
# Where a one-time refresh token was used: the family's next generation. After its issue that is the next row, but for
# suspensions.
SUCCESSION: Final = """
SELECT v.position FROM views.families v
WHERE v.family_id = %(family_id)s AND v.position > %(position)s AND v.generation > %(generation)s
ORDER BY v.position LIMIT 1
"""
_SUBJECT: Final = TypeAdapter(Subject)
_FAMILY: Final = TypeAdapter(Family)
_CLIENT: Final = TypeAdapter(Client)
_SUBJECT_RULES: Final = TypeAdapter(SubjectRules)
_NAME: Final = TypeAdapter(Name)


class RecordedEvent(NamedTuple):
    """An event where the log has it; columns of views.history."""

    position: int
    stream: UUID
    version: int
    type: str
    schema_version: int
    payload: dict[str, Any]
    metadata: dict[str, Any]
    recorded_at: datetime
    recorded_schema_version: int


@dataclass(frozen=True, slots=True)
class Filters:
    """What an event must match: all that are not None.

    `subject_id`, `client_id` ...: what the event is about; `actor_id`: who did it; `types`: one of them.
    """

    subject_id: UUID | None = None
    client_id: UUID | None = None
    api_id: UUID | None = None
    token_id: UUID | None = None
    family_id: UUID | None = None
    role_id: UUID | None = None
    key_id: UUID | None = None
    actor_id: UUID | None = None
    types: tuple[str, ...] | None = None

    def entities(self) -> list[UUID]:
        """Answer every id that is asked for."""
        return [value for name, value in asdict(self).items() if name != "types" and value is not None]


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the log, and which way: positions inclusive, `from_time` inclusive, `to_time` exclusive.

    `cursor` is the `next` of the page before: what follows it is answered. `moment`: as if the log ended there.
    """

    from_position: int | None = None
    to_position: int | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None
    newest_first: bool = True
    cursor: int | None = None
    moment: Moment | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order asked for, as of a position and an instant. `next` None: there are no more up to there."""

    events: Sequence[RecordedEvent]
    next: int | None
    position: int
    instant: datetime
    log_id: UUID


@dataclass(frozen=True, slots=True)
class Bounds:
    """A part of the log, resolved: positions first .. last, as of a position and an instant. Before `edge` all is archived."""

    position: int
    instant: datetime
    log_id: UUID
    first: int
    last: int
    edge: int


@dataclass(frozen=True, slots=True)
class Source:
    """Positions, by their distance from the start, that one filter can match: all of them up to `reach`; None: to the end."""

    distances: frozenset[int]
    reach: int | None

    def covers(self, distance: int) -> bool:
        """Say whether a position that could match at this distance would be among them."""
        return self.reach is None or distance <= self.reach


async def read_events(connection: Connection, filters: Filters, span: Span, *, limit: int) -> EventPage:
    """Answer the events of the span that match, at most `limit`, in its order.

    Fewer, and even none, with a `next` where the scan or the size of the page had to stop before. Three statements or a few
    more, each a snapshot of its own: what stands at a position never changes, and none reads above the head of the first.
    IsArchived where the first event that could be answered is archived; newest first, a page ends where the log begins.
    """
    bounds = await resolve(connection, span)
    page = await _read_events(connection, filters, replace(bounds, first=_first_here(bounds, span)), span, limit)
    return await _as_far_as_here(connection, page, bounds, span)


def _first_here(bounds: Bounds, span: Span) -> int:
    return max(bounds.first, bounds.edge) if span.newest_first else bounds.first


async def _as_far_as_here(connection: Connection, page: EventPage, bounds: Bounds, span: Span) -> EventPage:
    """Answer a page that was read, as far as it needs nothing that is archived by now, or refuse it. IsArchived."""
    edge = await read_edge(connection)
    if (
        bounds.first >= edge
        or bounds.first > bounds.last
        or (span.newest_first and page.next is not None and page.next >= edge)
    ):
        return page
    start = bounds.last if span.newest_first else bounds.first
    if start < edge:
        await refuse_events(connection, start)
    return replace(page, events=[event for event in page.events if event.position >= edge], next=edge)


async def _read_events(connection: Connection, filters: Filters, bounds: Bounds, span: Span, limit: int) -> EventPage:
    sources: list[Source] = []
    if entity_ids := filters.entities():
        sources += [_source(b, span) for b in await _branches_of_entities(connection, entity_ids, bounds, span)]
    if filters.types is not None:
        sources.append(_source(await _branches_of_types(connection, filters.types, bounds, span), span))
    return await _page(connection, sources, filters, bounds, span, limit)


async def read_life(
    connection: Connection,
    token_id: UUID,
    entity_ids: Sequence[UUID],
    types: tuple[str, ...],
    positions: Sequence[int],
    ends_at: datetime,
    part: Span,
    *,
    limit: int,
) -> EventPage:
    """Answer, oldest first, the events of these types about a token, about any of the entities until `ends_at`, and at these
    positions, from the first of them on: of issues and rotations only those.

    What is answered of the entities may be about other tokens of theirs. The page is made as that of `read_events`. IsArchived.
    """
    span = replace(part, from_position=positions[0])
    bounds = await resolve(connection, span)
    until = await resolve(connection, replace(span, to_time=ends_at))
    parameters = {
        "entity_ids": [token_id, *entity_ids],
        "lasts": _bigints([bounds.last, *(min(bounds.last, until.last) for _ in entity_ids)]),
        **_scan(bounds),
    }
    rows = await (await connection.execute(OLDEST_ENTRIES, parameters)).fetchall()
    source = _source([*(row[0] for row in rows), positions], span)
    page = await _page(connection, [source], Filters(types=types), bounds, span, limit)
    return await _as_far_as_here(connection, page, bounds, span)


async def read_at(connection: Connection, positions: Sequence[int]) -> list[RecordedEvent]:
    """Answer the events at these positions, a handful, in their order. IsArchived."""
    found, _, _ = await _events_at(connection, positions, Filters(), len(positions), PAGE_BYTES * 100)
    await refuse_archived_events(connection, min(positions))
    return found


async def read_newest(
    connection: Connection, entity_id: UUID, types: Sequence[str], position: int, role_id: UUID | None = None
) -> int | None:
    """Answer where the newest event of these types about an entity stands, up to a position, among the SCANNED newest about it.

    `role_id`: one that grants this role. Of passwords those that cut off.
    """
    parameters = {
        "entity_id": entity_id,
        "types": ",".join(types),
        "last": Int8(position),
        "role_id": _text(role_id),
        "scanned": Int8(SCANNED),
    }
    row = await (await connection.execute(NEWEST_EVENT, parameters)).fetchone()
    return None if row is None else row[0]


async def read_succession(connection: Connection, family_id: UUID, position: int, generation: int) -> int | None:
    """Answer where a family came to a later generation than the one issued at `position`, or None."""
    parameters = {"family_id": family_id, "position": Int8(position), "generation": Int8(generation)}
    row = await (await connection.execute(SUCCESSION, parameters)).fetchone()
    return None if row is None else row[0]


async def read_subjects_as_of(connection: Connection, subject_id: UUID, positions: Sequence[int]) -> dict[int, Subject]:
    """Answer the subject as it was at each of these positions; before it was registered it is left out."""
    return await _as_of(connection, SUBJECT_AS_OF, subject_id, positions, _SUBJECT)


async def read_families_as_of(connection: Connection, family_id: UUID, positions: Sequence[int]) -> dict[int, Family]:
    """Answer the family as it was at each of these positions."""
    return await _as_of(connection, FAMILY_AS_OF, family_id, positions, _FAMILY)


async def read_clients_as_of(connection: Connection, client_id: UUID, positions: Sequence[int]) -> dict[int, Client]:
    """Answer the client as it was at each of these positions."""
    return await _as_of(connection, CLIENT_AS_OF, client_id, positions, _CLIENT)


async def read_state_as_of(connection: Connection, keys: Keys, moment: Moment) -> Reading[State]:
    """Answer subjects, their own rules, user names and families as they were at a moment; of streams nothing is said."""
    wanted = (
        (SUBJECT_AS_OF, keys.subjects, _SUBJECT),
        (SUBJECT_RULES_AS_OF, keys.rules_of_subjects, _SUBJECT_RULES),
        (NAME_AS_OF, keys.names, _NAME),
        (FAMILY_AS_OF, keys.families, _FAMILY),
    )
    found: list[dict[UUID, Any]] = []
    for query, ids, adapter in wanted:
        rows = {key: await _as_of(connection, query, key, [moment.position], adapter) for key in ids}
        found.append({key: row for key, by_position in rows.items() for row in by_position.values()})
    subjects, subject_rules, names, families = found
    state = State(subjects=subjects, subject_rules=subject_rules, names=names, families=families)
    return Reading(state, {}, moment.position, moment.instant)


async def _as_of(
    connection: Connection, query: LiteralString, key: UUID, positions: Sequence[int], rows: TypeAdapter[Row]
) -> dict[int, Row]:
    found = await (await connection.execute(query, {"positions": _bigints(positions), "key": key})).fetchall()
    return {position: read_rows(rows, row) for position, row in found}


# ------------------------------------------------------------------------------------------- from a filter to positions


async def resolve(connection: Connection, span: Span) -> Bounds:
    """Answer which positions a span is, and as of where."""
    parameters = {"from_time": _text(span.from_time), "to_time": _text(span.to_time)} | at_parameters(span.moment)
    row = await (await connection.execute(BOUNDS + AT, parameters)).fetchone()
    assert row is not None
    position, instant, log_id, before_from, before_to, edge = row
    firsts = [1, span.from_position or 1, (before_from or 0) + 1]
    lasts = [position] if span.to_position is None else [position, span.to_position]
    if span.to_time is not None:
        lasts.append(before_to or 0)
    if span.cursor is not None:
        (lasts if span.newest_first else firsts).append(span.cursor + (-1 if span.newest_first else 1))
    return Bounds(position, instant, log_id, max(firsts), min(lasts), edge)


async def _branches_of_entities(
    connection: Connection, entity_ids: Sequence[UUID], bounds: Bounds, span: Span
) -> list[Sequence[Sequence[int]]]:
    query = NEWEST_OF_ENTITIES if span.newest_first else OLDEST_OF_ENTITIES
    parameters = {"entity_ids": list(entity_ids), **_scan(bounds)}
    return list(await (await connection.execute(query, parameters)).fetchall())


async def _branches_of_types(
    connection: Connection, types: Sequence[str], bounds: Bounds, span: Span
) -> Sequence[Sequence[int]]:
    query = NEWEST_OF_TYPES if span.newest_first else OLDEST_OF_TYPES
    parameters = {"types": list(types), **_scan(bounds)}
    return [row[0] for row in await (await connection.execute(query, parameters)).fetchall()]


# One statement has one plan, whatever is asked: psycopg makes another for each combination of types, and it takes a type by
# the size of a number, and none for what is None or text.


def _scan(bounds: Bounds) -> dict[str, Int8]:
    return {"first": Int8(bounds.first), "last": Int8(bounds.last), "scanned": Int8(SCANNED)}


def _bigints(positions: Sequence[int]) -> list[Int8]:
    return [Int8(position) for position in positions]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _distance(position: int, span: Span) -> int:
    """Answer a number that grows along the way: of two positions the one that comes later has the greater."""
    return -position if span.newest_first else position


def _source(branches: Sequence[Sequence[int]], span: Span) -> Source:
    """Answer what branches hold together: it is whole as far as the branch that was cut off first."""
    cut = [_distance(branch[-1], span) for branch in branches if len(branch) == SCANNED]
    distances = frozenset(_distance(position, span) for branch in branches for position in branch)
    return Source(distances, min(cut) if cut else None)


def candidates(sources: Sequence[Source]) -> tuple[list[int], int | None]:
    """Answer the distances at which every source can match, in order, and how far they are whole; None: to the end.

    The source that reaches farthest leads, and each of the others strikes out what it would have, as far as it is whole.
    """
    lead = max(sources, key=lambda source: float("inf") if source.reach is None else source.reach)
    common = [
        distance
        for distance in lead.distances
        if lead.covers(distance) and all(distance in s.distances or not s.covers(distance) for s in sources)
    ]
    return sorted(common), lead.reach


async def _page(
    connection: Connection, sources: Sequence[Source], filters: Filters, bounds: Bounds, span: Span, limit: int
) -> EventPage:
    """Answer the page of the events at the positions where all sources meet."""
    positions: Sequence[int]
    if sources:
        distances, reach = candidates(sources)
        positions = [p for p in map(abs, distances) if bounds.first <= p <= bounds.last]
    else:
        # Everything: positions have no holes.
        reach = None
        positions = range(bounds.first, bounds.last + 1)
        positions = positions[::-1] if span.newest_first else positions
    events: list[RecordedEvent] = []
    chunk, bytes_left = max(limit + 1, MIN_CHUNK), PAGE_BYTES
    for start in range(0, len(positions), chunk):
        some = positions[start : start + chunk]
        found, matched, bytes_taken = await _events_at(connection, some, filters, limit + 1 - len(events), bytes_left)
        events += found
        bytes_left -= bytes_taken
        if len(events) > limit or len(found) < matched:
            # Full, by number or by size.
            events = events[:limit]
            return EventPage(events, events[-1].position, bounds.position, bounds.instant, bounds.log_id)
    end = _distance(bounds.first if span.newest_first else bounds.last, span)
    following = None if reach is None or reach >= end else abs(reach)
    return EventPage(events, following, bounds.position, bounds.instant, bounds.log_id)


async def _events_at(
    connection: Connection, positions: Sequence[int], filters: Filters, limit: int, bytes_left: int
) -> tuple[list[RecordedEvent], int, int]:
    """Answer those at these positions that match, how many there would be but for their size, and how large they are."""
    parameters = {name: _text(value) for name, value in asdict(filters).items()} | {
        "types": None if filters.types is None else ",".join(filters.types),
        "positions": _bigints(positions),
        "bytes": Int8(bytes_left),
        "limit": Int8(limit),
    }
    rows = await (await connection.execute(EVENTS, parameters)).fetchall()
    if not rows:
        return [], 0, 0
    *_, bytes_taken, matched = rows[-1]
    return [RecordedEvent(*row[:-2]) for row in rows], min(limit, matched), int(bytes_taken)
