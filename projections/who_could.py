"""Which subjects could call a method on a path as of a moment: asked of the rules, as a decision asks them, not of tokens.

Subjects are looked at in the order of their ids, SCANNED a request whatever comes of it: a page may hold fewer than its limit,
none even, and go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.decisions import Decision, Question, decide_by_rules
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


class _Subject(NamedTuple):
    """A subject and its rules: what decisions.Holds asks for, of a token that no scope restricts."""

    subject_id: UUID
    kind: str
    position: int
    status: str
    status_until: datetime | None
    subject_clearance: int
    subject_role_ids: list[UUID]
    subject_rules: list[dict[str, Any]] | None
    subject_rules_position: int | None
    role_ids: None = None
    direct: bool = True


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
    subjects = [_Subject(*row) for row in rows]
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


async def _reference_of(connection: Connection, subjects: Sequence[_Subject], position: int, api_id: UUID) -> Kept:
    role_ids = list(dict.fromkeys(role_id for subject in subjects for role_id in subject.subject_role_ids))
    references = await read_reference_as_of(connection, [position], api_ids=[api_id], role_ids=role_ids)
    kept = references[position]
    await take_rules_then(connection, kept, role_ids, api_id)
    return kept
