"""The closure of an incident (ledger/blast_radius.py), read from the log and the views as of one position.

Each edge is one statement that answers all the questions of a wave, by an index. A question is answered from SCANNED entries
of it at most, a closure has MAX_LINES lines: where there is more it says so, and for which line. What stands at a position
never changes, so the closure of a start as of a position is the same whenever it is read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple, TypeVar
from uuid import UUID

from psycopg.types.numeric import Int8

from ledger.blast_radius import (
    MAX_LINES,
    ActsOf,
    ActsWith,
    Answer,
    Between,
    By,
    CausedBy,
    Closure,
    Hit,
    IssuedFrom,
    IssueOf,
    MadeWith,
    Question,
    Start,
    Users,
)
from ledger.keys import AFTER_THE_LAST
from ledger.undoing import Stream
from projections.archived import refuse_archived_events, refuse_events
from projections.audit import Connection, Filters, Span, read_events
from projections.revocations import not_dead
from projections.token_listing import CHUNK, Bounds

# Index entries looked at for one question.
SCANNED: Final = 2_000
# The same for a key, whose tokens stand among all others; and for an actor, whose acts do among what is about it.
STEPS: Final = 10
# Of the payloads of all lines as PostgreSQL stores them.
MAX_BYTES: Final = 32_000_000
EVENTS_AT_ONCE: Final = 200
STREAMS_AT_ONCE: Final = 20

Asked = TypeVar("Asked", bound=Question)

CAUSED_BY: Final = """
SELECT ARRAY(SELECT v.position FROM views.consequences v
    WHERE v.cause = k.position AND v.position <= %(last)s::bigint
    ORDER BY v.position LIMIT %(scanned)s::integer)
FROM unnest(%(positions)s::bigint[]) WITH ORDINALITY AS k(position, ordinal)
ORDER BY k.ordinal
"""
ACTS_WITH: Final = """
SELECT ARRAY(SELECT v.position FROM views.acts v
    WHERE v.token_id = k.token_id AND v.position > k.after AND v.position <= %(last)s::bigint
    ORDER BY v.position LIMIT %(scanned)s::integer)
FROM unnest(%(token_ids)s::uuid[], %(afters)s::bigint[]) WITH ORDINALITY AS k(token_id, after, ordinal)
ORDER BY k.ordinal
"""
ISSUED_FROM: Final = """
SELECT ARRAY(SELECT v.position FROM views.tokens v
    WHERE v.family_id = k.family_id AND v.position > k.after AND v.position <= %(last)s::bigint
    ORDER BY v.position, v.token_id LIMIT %(scanned)s::integer)
FROM unnest(%(family_ids)s::uuid[], %(afters)s::bigint[]) WITH ORDINALITY AS k(family_id, after, ordinal)
ORDER BY k.ordinal
"""
# The tokens of somebody that were issued later, and those issued up to there; whether what was given stands in their scope.
_USERS: Final = """
SELECT v.position, v.token_id,
  (%(api_id)s::uuid IS NULL OR v.api_ids @> ARRAY[%(api_id)s::uuid])
    AND (%(role_id)s::uuid IS NULL OR v.role_ids IS NULL OR v.role_ids @> ARRAY[%(role_id)s::uuid])
    AND (NOT %(direct)s::boolean OR v.direct)
"""
_LATER: Final = """
  AND v.position > %(after)s::bigint AND v.position <= %(until)s::bigint
ORDER BY v.position, v.token_id LIMIT %(scanned)s::integer
"""
_EARLIER: Final = """
  AND v.position <= %(after)s::bigint
ORDER BY v.position DESC, v.token_id DESC LIMIT %(scanned)s::integer
"""
_OF: Final[Mapping[By, LiteralString]] = {
    # Read first and then compared: a plan made on an empty store would as soon walk the index of all positions.
    "token_id": "FROM (SELECT t.* FROM views.tokens t WHERE t.token_id = %(id)s::uuid OFFSET 0) AS v WHERE true",
    "family_id": "FROM views.tokens v WHERE v.family_id = %(id)s::uuid",
    "subject_id": "FROM views.tokens v WHERE v.subject_id = %(id)s::uuid",
    "client_id": "FROM views.tokens v WHERE v.client_id = %(id)s::uuid",
}
ISSUED_LATER: Final[Mapping[By, LiteralString]] = {by: _USERS + of + _LATER for by, of in _OF.items()}
ISSUED_EARLIER: Final[Mapping[By, LiteralString]] = {by: _USERS + of + _EARLIER for by, of in _OF.items()}
# When what was given was taken back: the next event about an entity that is of these types, and takes the role, or leaves none
# of the rules.
TAKEN_BACK: Final = """
SELECT e.position
FROM (SELECT v.position FROM views.audit_entries v
  WHERE v.entity_id = %(entity_id)s::uuid AND v.position > %(after)s::bigint AND v.position <= %(last)s::bigint
  ORDER BY v.position LIMIT %(scanned)s::integer) AS e
CROSS JOIN LATERAL (SELECT v.type, v.payload FROM views.history v WHERE v.position = e.position LIMIT 1) AS h
WHERE h.type = ANY (string_to_array(%(types)s::text, ','))
  AND (%(role_id)s::text IS NULL OR h.payload ->> 'role_id' = %(role_id)s::text OR h.payload -> 'withdrawn' ? %(role_id)s::text)
  AND (%(rule_ids)s::text IS NULL
    OR NOT jsonb_path_query_array(h.payload -> 'rules', '$[*].rule_id') ?| string_to_array(%(rule_ids)s::text, ','))
ORDER BY e.position LIMIT 1
"""
# To whom a role was granted and from whom it was withdrawn, in the order of the log.
HOLDINGS: Final = """
SELECT e.position, h.type, (h.payload ->> 'subject_id')::uuid
FROM (SELECT v.position FROM views.audit_entries v
  WHERE v.entity_id = %(role_id)s::uuid AND v.position <= %(last)s::bigint
  ORDER BY v.position LIMIT %(scanned)s::integer) AS e
LEFT JOIN LATERAL (SELECT v.type, v.payload FROM views.history v WHERE v.position = e.position LIMIT 1) AS h ON true
ORDER BY e.position
"""
RECORDED_AT: Final = """
SELECT v.recorded_at FROM views.history v WHERE v.position = %(position)s::bigint LIMIT 1
"""
ISSUE_OF: Final = """
SELECT v.position FROM views.tokens v WHERE v.token_id = %s ORDER BY v.position LIMIT 1
"""
# Where tokens made with a key can be: from its activation until a while after it was retired, or to the end.
USE_OF_KEY: Final = """
SELECT (SELECT v.position FROM views.keys v WHERE v.key_id = %(key_id)s::uuid AND v.status = 'active'
    ORDER BY v.position LIMIT 1),
  (SELECT b.last_position FROM ledger.batches b
    WHERE b.recorded_at < (SELECT v.changed_at + %(after_the_last)s::interval FROM views.keys v
      WHERE v.key_id = %(key_id)s::uuid AND v.status IN ('retired', 'revoked') AND v.position <= %(last)s::bigint
      ORDER BY v.position LIMIT 1)
    ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1)
"""
MADE_WITH: Final = """
SELECT v.position, v.token_id, v.key_ids @> ARRAY[%(key_id)s::uuid]
FROM views.tokens v
WHERE v.position > %(after)s::bigint AND v.position <= %(last)s::bigint
ORDER BY v.position, v.token_id
LIMIT %(scanned)s::integer
"""
# The events at these positions; with what was there before of a clearance, of a subject's own rules and of a client.
EVENTS: Final = """
SELECT h.position, h.stream, h.version, h.type, h.payload, h.metadata, h.recorded_at,
  coalesce(to_jsonb(s.clearance), r.rules, c.settings), pg_column_size(h.payload)
FROM unnest(%(positions)s::bigint[]) AS k(position)
CROSS JOIN LATERAL (SELECT v.* FROM views.history v WHERE v.position = k.position LIMIT 1) AS h
LEFT JOIN LATERAL (SELECT v.clearance FROM views.subjects v
  WHERE h.type = 'subject_clearance_set' AND v.subject_id = h.stream AND v.position < k.position
  ORDER BY v.position DESC LIMIT 1) AS s ON true
LEFT JOIN LATERAL (SELECT v.rules FROM views.subject_rules v
  WHERE h.type = 'subject_rules_granted' AND v.subject_id = h.stream AND v.position < k.position
  ORDER BY v.position DESC LIMIT 1) AS r ON true
LEFT JOIN LATERAL (SELECT jsonb_build_object('grants', v.grants, 'api_ids', v.api_ids) AS settings FROM views.clients v
  WHERE h.type = 'client_changed' AND v.client_id = h.stream AND v.position < k.position
  ORDER BY v.position DESC LIMIT 1) AS c ON true
ORDER BY h.position
"""

# The events of streams themselves among what concerns them, after a position; and of how much was looked at. Null: archived.
STREAMS: Final = """
SELECT k.stream, e.looked_at, h.position, h.stream, h.version, h.type, h.payload, h.metadata, h.recorded_at, NULL
FROM unnest(%(streams)s::uuid[]) AS k(stream)
CROSS JOIN LATERAL (SELECT n.position, count(*) OVER () AS looked_at FROM (SELECT v.position FROM views.audit_entries v
    WHERE v.entity_id = k.stream AND v.position > %(after)s::bigint AND v.position <= %(last)s::bigint
    ORDER BY v.position DESC LIMIT %(scanned)s::integer) AS n) AS e
LEFT JOIN LATERAL (SELECT v.* FROM views.history v WHERE v.position = e.position LIMIT 1) AS h ON true
WHERE h.position IS NULL OR h.stream = k.stream AND h.type NOT IN ('token_issued', 'token_rotated')
ORDER BY k.stream, e.position
"""


class RecordedEvent(NamedTuple):
    """An event where the log has it; `before`: ledger/blast_radius.py."""

    position: int
    stream: UUID
    version: int
    type: str
    payload: dict[str, Any]
    metadata: dict[str, Any]
    recorded_at: datetime
    before: Any


async def read_closure(connection: Connection, start: Start, position: int, api_of_role: Mapping[UUID, UUID]) -> Closure:
    """Answer the closure of a start, as of a position."""
    closure, reader = Closure(start, api_of_role), _Reader(connection, position)
    questions = closure.begin()
    while questions:
        questions = closure.take(await reader.answer(questions))
    return closure


async def read_streams(connection: Connection, streams: Sequence[UUID], position: int) -> dict[UUID, Stream]:
    """Answer streams up to a position, without issues and rotations."""
    found: dict[UUID, list[RecordedEvent]] = {stream: [] for stream in streams}
    cut: set[UUID] = set()
    for at in range(0, len(streams), STREAMS_AT_ONCE):
        some = list(streams[at : at + STREAMS_AT_ONCE])
        parameters = {"streams": some, "after": Int8(0), "last": Int8(position), "scanned": Int8(SCANNED)}
        for stream, looked_at, *event in await (await connection.execute(STREAMS, parameters)).fetchall():
            if event[0] is not None:
                found[stream].append(RecordedEvent(*event))
            if event[0] is None or looked_at == SCANNED:
                cut.add(stream)
    return {stream: Stream(events, stream not in cut) for stream, events in found.items()}


async def read_changed_since(connection: Connection, stream: UUID, position: int, correlation_id: UUID) -> int | None:
    """Answer where a stream was first changed after a position by a command of another correlation, or None; as above."""
    parameters = {"streams": [stream], "after": Int8(position), "last": Int8(2**62), "scanned": Int8(SCANNED)}
    rows = await (await connection.execute(STREAMS, parameters)).fetchall()
    events = (RecordedEvent(*event) for _, _, *event in rows if event[0] is not None)
    others = [event.position for event in events if event.metadata["correlation_id"] != str(correlation_id)]
    return min(others, default=None)


class _Reader:
    """Answers the questions of a closure. Keeps the events it has read: they are asked for again and again."""

    def __init__(self, connection: Connection, position: int) -> None:
        self._connection = connection
        self._last = position
        self._events: dict[int, RecordedEvent] = {}
        self._bytes = 0

    async def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer a wave, in the order of the questions."""
        positions: dict[Question, tuple[Sequence[int], bool]] = {}
        tokens: dict[Question, tuple[dict[int, set[UUID]], bool]] = {}
        for question in questions:
            match question:
                case Between():
                    last = self._last if question.last is None else min(question.last, self._last)
                    within = range(question.first, last + 1)
                    positions[question] = within[: MAX_LINES + 1], False
                case ActsOf():
                    positions[question] = await self._acts_of(question)
                case IssueOf():
                    tokens[question] = await self._issue_of(question), False
                case MadeWith():
                    tokens[question] = await self._made_with(question)
                case Users():
                    tokens[question] = await self._users(question)
        positions |= await self._caused_by([question for question in questions if isinstance(question, CausedBy)])
        positions |= await self._acts_with([question for question in questions if isinstance(question, ActsWith)])
        positions |= await self._issued_from([question for question in questions if isinstance(question, IssuedFrom)])
        await self._read([position for found, _ in (*positions.values(), *tokens.values()) for position in found])
        return [
            self._answer_by_tokens(question, *tokens[question])
            if question in tokens
            else self._answer_by_positions(question, *positions[question])
            for question in questions
        ]

    def _answer_by_positions(self, question: Question, positions: Sequence[int], cut: bool) -> Answer:
        read = [self._events[position] for position in sorted(set(positions)) if position in self._events]
        return Answer(question, [Hit(event) for event in read], cut or len(read) < len(set(positions)))

    def _answer_by_tokens(self, question: Question, found: Mapping[int, set[UUID]], cut: bool) -> Answer:
        read = [position for position in sorted(found) if position in self._events]
        events = [Hit(self._events[position], frozenset(found[position])) for position in read]
        return Answer(question, events, cut or len(read) < len(found))

    async def _read(self, positions: Sequence[int]) -> None:
        """Read the events at these positions, as long as there is room."""
        unread = sorted({position for position in positions if position not in self._events})
        for at in range(0, len(unread), EVENTS_AT_ONCE):
            if self._bytes > MAX_BYTES:
                return
            some = unread[at : at + EVENTS_AT_ONCE]
            for *event, size in await self._rows(EVENTS, {"positions": _bigints(some)}):
                self._events[event[0]] = RecordedEvent(*event)
                self._bytes += size
            await refuse_archived_events(self._connection, some[0])

    async def _rows(self, query: LiteralString, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        bounds = {"last": Int8(self._last), "scanned": Int8(SCANNED)}
        return await (await self._connection.execute(query, bounds | dict(parameters))).fetchall()

    # ---------------------------------------------------------------------------------------------- an edge each

    async def _caused_by(self, questions: Sequence[CausedBy]) -> dict[Question, tuple[Sequence[int], bool]]:
        return await self._arrays(CAUSED_BY, questions, {"positions": _bigints([q.position for q in questions])})

    async def _acts_with(self, questions: Sequence[ActsWith]) -> dict[Question, tuple[Sequence[int], bool]]:
        asked = {"token_ids": [q.token_id for q in questions], "afters": _bigints([q.after for q in questions])}
        return await self._arrays(ACTS_WITH, questions, asked)

    async def _issued_from(self, questions: Sequence[IssuedFrom]) -> dict[Question, tuple[Sequence[int], bool]]:
        asked = {"family_ids": [q.family_id for q in questions], "afters": _bigints([q.after for q in questions])}
        return await self._arrays(ISSUED_FROM, questions, asked)

    async def _arrays(
        self, query: LiteralString, questions: Sequence[Asked], parameters: Mapping[str, Any]
    ) -> dict[Question, tuple[Sequence[int], bool]]:
        if not questions:
            return {}
        rows = await self._rows(query, parameters)
        return {q: (positions, len(positions) == SCANNED) for q, (positions,) in zip(questions, rows, strict=True)}

    async def _acts_of(self, question: ActsOf) -> tuple[Sequence[int], bool]:
        end = None
        if question.until is not None:
            end = await self._taken_back(question.actor_id, question.after, (question.until,))
        last = self._last if end is None else end - 1
        span = Span(from_position=question.after + 1, to_position=last, newest_first=False)
        positions: list[int] = []
        for _ in range(STEPS):
            if span.from_position is not None and span.from_position > last:
                return positions, False
            page = await read_events(self._connection, Filters(actor_id=question.actor_id), span, limit=SCANNED)
            positions += [event.position for event in page.events]
            if page.next is None:
                return positions, False
            span = Span(from_position=page.next + 1, to_position=last, newest_first=False)
        return positions, True

    async def _issue_of(self, question: IssueOf) -> dict[int, set[UUID]]:
        row = await (await self._connection.execute(ISSUE_OF, (question.token_id,))).fetchone()
        return {} if row is None or row[0] > self._last else {row[0]: {question.token_id}}

    async def _made_with(self, question: MadeWith) -> tuple[dict[int, set[UUID]], bool]:
        parameters = {"key_id": question.key_id, "after_the_last": AFTER_THE_LAST}
        ((first, last),) = await self._rows(USE_OF_KEY, parameters)
        if first is None:
            return {}, False
        walked, made = first - 1, list[tuple[int, UUID]]()
        asked = {"key_id": question.key_id, "last": Int8(min(self._last, last or self._last))}
        rows: list[tuple[Any, ...]] = []
        for _ in range(STEPS):
            rows = await self._rows(MADE_WITH, asked | {"after": Int8(walked)})
            made += [(position, token_id) for position, token_id, matches in rows if matches]
            if len(rows) < SCANNED:
                break
            walked = rows[-1][0]
        standing = await self._standing(question.after, [token_id for position, token_id in made if position <= question.after])
        found = [(position, token_id) for position, token_id in made if position > question.after or token_id in standing]
        return _by_position(found), len(rows) == SCANNED

    async def _users(self, question: Users) -> tuple[dict[int, set[UUID]], bool]:
        """Answer the tokens that could use what was given: each holder's, from when both were there to when one was gone."""
        whole = self._last
        if question.until:
            end = await self._taken_back(question.of, question.after, question.until, question.role_id, question.rule_ids)
            whole = self._last if end is None else end - 1
        by: By = question.by
        holders, cut = [(question.of, question.after, whole)], False
        if by == "role_id":
            by = "subject_id"
            holders, cut = await self._holders(question.of, question.after, whole)
        found: list[tuple[int, UUID]] = []
        # Of a role that many have: until there is enough to see that it is many.
        for looked_at, (holder, after, until) in enumerate(holders):
            if looked_at >= STEPS and len(found) > SCANNED:
                return _by_position(found), True
            some, more = await self._users_of(question, by, holder, after, until)
            found += some
            cut = cut or more
        return _by_position(found), cut

    async def _users_of(
        self, question: Users, by: By, holder: UUID, after: int, until: int
    ) -> tuple[list[tuple[int, UUID]], bool]:
        parameters = {
            "id": holder,
            "after": Int8(after),
            "until": Int8(until),
            "api_id": question.api_id,
            "role_id": question.role_id,
            "direct": bool(question.rule_ids),
        }
        later = await self._rows(ISSUED_LATER[by], parameters)
        earlier = await self._rows(ISSUED_EARLIER[by], parameters)
        standing = await self._standing(after, [token_id for _, token_id, matches in earlier if matches])
        found = [(position, token_id) for position, token_id, matches in later if matches]
        found += [(position, token_id) for position, token_id, _ in earlier if token_id in standing]
        return found, SCANNED in (len(later), len(earlier))

    async def _holders(self, role_id: UUID, after: int, until: int) -> tuple[list[tuple[UUID, int, int]], bool]:
        """Answer who had the role between two positions, and from when to when."""
        rows = await self._rows(HOLDINGS, {"role_id": role_id})
        since: dict[UUID, int] = {}
        holders: list[tuple[UUID, int, int]] = []
        for position, kind, subject_id in rows:
            if kind is None:
                await refuse_events(self._connection, position)
            if kind == "subject_roles_granted" and position < until:
                since.setdefault(subject_id, position)
            elif kind == "subject_roles_withdrawn" and subject_id in since:
                holders.append((subject_id, max(since.pop(subject_id), after), min(position - 1, until)))
        holders += [(subject_id, max(position, after), until) for subject_id, position in since.items()]
        return [(holder, first, last) for holder, first, last in holders if first <= last], len(rows) == SCANNED

    async def _taken_back(
        self, entity_id: UUID, after: int, types: Sequence[str], role_id: UUID | None = None, rule_ids: Sequence[UUID] = ()
    ) -> int | None:
        parameters = {
            "entity_id": entity_id,
            "after": Int8(after),
            "types": ",".join(types),
            "role_id": None if role_id is None else str(role_id),
            "rule_ids": ",".join(map(str, rule_ids)) or None,
        }
        rows = await self._rows(TAKEN_BACK, parameters)
        return rows[0][0] if rows else None

    async def _standing(self, position: int, token_ids: Sequence[UUID]) -> set[UUID]:
        """Answer which of the tokens were not dead for good as of a position."""
        if not token_ids or position < 1:
            return set()
        ((instant,),) = await self._rows(RECORDED_AT, {"position": Int8(position)})
        bounds = Bounds(position, instant, 0, 0, position)
        found: set[UUID] = set()
        for at in range(0, len(token_ids), CHUNK):
            listed = await not_dead(self._connection, token_ids[at : at + CHUNK], bounds)
            found |= {one.token.token_id for one in listed}
        return found


def _by_position(found: Sequence[tuple[int, UUID]]) -> dict[int, set[UUID]]:
    positions: dict[int, set[UUID]] = {}
    for position, token_id in found:
        positions.setdefault(position, set()).add(token_id)
    return positions


def _bigints(positions: Sequence[int]) -> list[Int8]:
    return [Int8(position) for position in positions]
