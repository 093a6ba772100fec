"""Which subjects could call a method on a path as of a moment, and whether one could: asked of the rules, as a decision asks
them, not of tokens.

Subjects are looked at in the order of their ids, SCANNED a request whatever comes of it: a page may hold fewer than its limit,
none even, and go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.decisions import Decision, Question, SubjectStanding, decide_by_rules
from ledger.errors import InvalidInput, UnknownApi
from ledger.paths import PathRefused, canonical
from ledger.rules import METHOD
from ledger.statuses import stands
from projections.moments import Moment
from projections.reference import Kept, read_reference_as_of, take_rules_then

Connection = AsyncConnection[TupleRow]

# Subjects looked at in one request; no fewer than the largest page has.
SCANNED: Final = 1_000

SUBJECTS_AND_RULES: Final = """
SELECT s.subject_id, s.kind, s.position, s.status, s.status_until, s.clearance, s.role_ids, r.rules, r.position
FROM (SELECT DISTINCT ON (v.subject_id) v.subject_id, v.kind, v.position, v.status, v.status_until, v.clearance, v.role_ids
  FROM views.subjects v
  WHERE v.subject_id > %(after)s::uuid AND v.position <= %(position)s::bigint
  ORDER BY v.subject_id, v.position DESC LIMIT %(scanned)s::bigint) AS s
LEFT JOIN LATERAL (SELECT v.rules, v.position FROM views.subject_rules v
  WHERE v.subject_id = s.subject_id AND v.position <= %(position)s::bigint ORDER BY v.position DESC LIMIT 1) AS r ON true
ORDER BY s.subject_id
"""
# One of them, by its id or by the id of its user name.
SUBJECT_AND_RULES: Final = """
SELECT s.subject_id, s.kind, s.position, s.status, s.status_until, s.clearance, s.role_ids, r.rules, r.position
FROM (SELECT v.* FROM views.subjects v
  WHERE v.subject_id = coalesce(%(subject_id)s::uuid, (SELECT n.holder_id FROM views.names n
      WHERE n.name_id = %(name_id)s::uuid AND n.position <= %(position)s::bigint ORDER BY n.position DESC LIMIT 1))
    AND v.position <= %(position)s::bigint
  ORDER BY v.position DESC LIMIT 1) AS s
LEFT JOIN LATERAL (SELECT v.rules, v.position FROM views.subject_rules v
  WHERE v.subject_id = s.subject_id AND v.position <= %(position)s::bigint ORDER BY v.position DESC LIMIT 1) AS r ON true
"""


@dataclass(frozen=True, slots=True)
class Able:
    """A subject that could, at which position it was made so, and the decision with the rule that let it."""

    subject_id: UUID
    kind: str
    position: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class AblePage:
    """Subjects in the order of their ids. `next` None: there are no more."""

    subjects: Sequence[Able]
    next: UUID | None


async def who_could(
    connection: Connection, moment: Moment, api_id: UUID, method: str, path: str, semantics: int, *, after: UUID, limit: int
) -> AblePage:
    """Answer the next subjects after `after` that stood and whose roles and rules let them; none of an API that was suspended.

    UnknownApi for one that was not there, InvalidInput for what nobody can call: no method, or no canonical path.
    """
    kept = (await read_reference_as_of(connection, [moment.position], api_ids=[api_id]))[moment.position]
    api = kept.apis.get(api_id)
    if api is None:
        raise UnknownApi(api_id)
    if METHOD.fullmatch(method) is None:
        raise InvalidInput.of("method", "an HTTP method, in capitals")
    try:
        canonical(path, semicolons=api.semicolons)
    except PathRefused as refused:
        raise InvalidInput.of("path", f"one that can be called: {refused.reason}") from None
    if not stands(api.status, api.status_until, moment.instant):
        return AblePage([], None)
    parameters = {"after": after, "position": Int8(moment.position), "scanned": Int8(SCANNED)}
    rows = await (await connection.execute(SUBJECTS_AND_RULES, parameters)).fetchall()
    subjects = [SubjectStanding(*row) for row in rows]
    standing = [one for one in subjects if stands(one.status, one.status_until, moment.instant)]
    reference = await _reference_of(connection, standing, moment.position, api_id)
    question = Question(api_id, method, path, None, moment.instant, moment.position, semantics)
    found: list[Able] = []
    for subject in standing:
        decision = decide_by_rules(question, subject, reference)
        if decision.allowed:
            if len(found) == limit:
                return AblePage(found, found[-1].subject_id)
            found.append(Able(subject.subject_id, subject.kind, subject.position, decision))
    return AblePage(found, subjects[-1].subject_id if len(subjects) == SCANNED else None)


async def read_subject(
    connection: Connection, moment: Moment, api_id: UUID, *, subject_id: UUID | None = None, name_id: UUID | None = None
) -> tuple[SubjectStanding | None, Kept]:
    """Answer a subject as it was at a moment, and what a decision about it needs of then; None where it or the API was not."""
    parameters = {"subject_id": subject_id, "name_id": name_id, "position": Int8(moment.position)}
    row = await (await connection.execute(SUBJECT_AND_RULES, parameters)).fetchone()
    subject = None if row is None else SubjectStanding(*row)
    reference = await _reference_of(connection, [] if subject is None else [subject], moment.position, api_id)
    return subject if api_id in reference.apis else None, reference


async def _reference_of(connection: Connection, subjects: Sequence[SubjectStanding], position: int, api_id: UUID) -> Kept:
    role_ids = list(dict.fromkeys(role_id for subject in subjects for role_id in subject.subject_role_ids))
    references = await read_reference_as_of(connection, [position], api_ids=[api_id], role_ids=role_ids)
    kept = references[position]
    await take_rules_then(connection, kept, role_ids, api_id)
    return kept
