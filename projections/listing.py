"""What management lists: subjects, the rules of a role, what a subject may call. By pages, each a keyset probe.

One row of a thing is read by reading.py; clients, APIs and roles are reference data, which a worker holds whole
(reference.py). A page follows its last key: what is added or goes meanwhile moves nothing else. It is of now, or as of a
moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, LiteralString, NamedTuple, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from ledger.execute import Pool
from ledger.states import Effect, RuleOfRole, Subject
from projections.moments import AT, Moment, at_parameters
from projections.reading import as_array
from projections.rows import read_rows

Row = TypeVar("Row")

FIRST: Final = UUID(int=0)

# The newest row of each subject first, then what is asked for of them: a filter on older rows would answer the past.
SUBJECTS: Final = """
SELECT at.position, at.instant,
  (SELECT jsonb_agg(to_jsonb(x) ORDER BY x.subject_id) FROM (
    SELECT s.* FROM (SELECT DISTINCT ON (v.subject_id) v.* FROM views.subjects v
      WHERE v.subject_id > %(after)s AND v.position <= at.position ORDER BY v.subject_id, v.position DESC) AS s
    WHERE (%(kind)s::text IS NULL OR s.kind = %(kind)s)
      AND (%(status)s::text IS NULL OR s.status = %(status)s)
      AND (%(role_id)s::uuid IS NULL OR s.role_ids @> ARRAY[%(role_id)s::uuid])
    ORDER BY s.subject_id LIMIT %(limit)s) AS x)
"""
ROLE_RULES: Final = """
SELECT at.position, at.instant,
  (SELECT jsonb_agg(to_jsonb(x) ORDER BY x.rule_id) FROM (
    SELECT r.rule_id, r.effect, r.methods, r.path, r.min_clearance
    FROM (SELECT DISTINCT ON (v.rule_id) v.rule_id, v.effect, v.methods, v.path, v.min_clearance, v.withdrawn
      FROM views.role_rules v
      WHERE v.role_id = %(role_id)s AND v.rule_id > %(after)s AND v.position <= at.position
      ORDER BY v.rule_id, v.position DESC) AS r
    WHERE NOT r.withdrawn
    ORDER BY r.rule_id LIMIT %(limit)s) AS x)
"""
RULES_OF_ROLES: Final = """
SELECT r.role_id, jsonb_agg(jsonb_build_object('rule_id', r.rule_id, 'effect', r.effect, 'methods', r.methods, 'path', r.path,
    'min_clearance', r.min_clearance) ORDER BY r.rule_id)
FROM (SELECT DISTINCT ON (v.role_id, v.rule_id)
    v.role_id, v.rule_id, v.effect, v.methods, v.path, v.min_clearance, v.withdrawn
  FROM views.role_rules v WHERE v.role_id = ANY (%(role_ids)s::uuid[])
  ORDER BY v.role_id, v.rule_id, v.position DESC) AS r
WHERE NOT r.withdrawn
GROUP BY r.role_id
ORDER BY r.role_id
"""
# Withdrawn ones too: whether a rule stands is read together with the role's version, by the command.
NAMED_ROLE_RULES: Final = """
SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(rule_ids)s::uuid[]) AS k(rule_id) CROSS JOIN LATERAL (
  SELECT v.rule_id, v.effect, v.methods, v.path, v.min_clearance FROM views.role_rules v
  WHERE v.role_id = %(role_id)s AND v.rule_id = k.rule_id ORDER BY v.position DESC LIMIT 1) AS x
"""
# A subject's own rules stand under the role 00000000-... .
PERMISSIONS: Final = """
SELECT at.position, at.instant,
  (SELECT jsonb_agg(to_jsonb(x) ORDER BY x.role_id, x.api_id, x.rule_id) FROM (
    SELECT p.* FROM (
      SELECT r.role_id, r.api_id, r.name AS role, u.rule_id, u.effect, u.methods, u.path, u.min_clearance, u.position
      FROM (SELECT v.role_ids FROM views.subjects v WHERE v.subject_id = %(subject_id)s AND v.position <= at.position
        ORDER BY v.position DESC LIMIT 1) AS s
      CROSS JOIN unnest(s.role_ids) AS k(role_id)
      CROSS JOIN LATERAL (SELECT v.role_id, v.api_id, v.name, v.removed FROM views.roles v
        WHERE v.role_id = k.role_id AND v.position <= at.position ORDER BY v.position DESC LIMIT 1) AS r
      CROSS JOIN LATERAL (SELECT DISTINCT ON (v.rule_id) v.* FROM views.role_rules v
        WHERE v.role_id = k.role_id AND NOT r.removed AND v.position <= at.position
        ORDER BY v.rule_id, v.position DESC) AS u
      WHERE NOT u.withdrawn
      UNION ALL
      SELECT '00000000-0000-0000-0000-000000000000', u.api_id, NULL, u.rule_id, u.effect, u.methods, u.path, u.min_clearance,
        o.position
      FROM (SELECT v.rules, v.position FROM views.subject_rules v
        WHERE v.subject_id = %(subject_id)s AND v.position <= at.position ORDER BY v.position DESC LIMIT 1) AS o
      CROSS JOIN LATERAL jsonb_to_recordset(o.rules)
        AS u(rule_id uuid, api_id uuid, effect text, methods text[], path text, min_clearance integer)) AS p
    WHERE (p.role_id, p.api_id, p.rule_id) > (%(after_role)s, %(after_api)s, %(after_rule)s)
      AND (%(api_id)s::uuid IS NULL OR p.api_id = %(api_id)s)
    ORDER BY p.role_id, p.api_id, p.rule_id LIMIT %(limit)s) AS x)
"""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows in the order of their keys, as of a position and an instant. Fewer than were asked for: the last page."""

    rows: Sequence[Row]
    position: int
    instant: datetime


class Permission(NamedTuple):
    """One rule that a subject has: by a role, or its own (`role` None, `role_id` 0)."""

    role_id: UUID
    api_id: UUID
    role: str | None
    rule_id: UUID
    effect: Effect
    methods: tuple[str, ...]
    path: str
    min_clearance: int | None
    position: int

    @property
    def key(self) -> tuple[UUID, UUID, UUID]:
        """What the page after this one follows."""
        return self.role_id, self.api_id, self.rule_id


_SUBJECTS: Final = TypeAdapter(list[Subject])
_ROLE_RULES: Final = TypeAdapter(list[RuleOfRole])
_PERMISSIONS: Final = TypeAdapter(list[Permission])


async def list_subjects(
    pool: Pool,
    *,
    limit: int,
    after: UUID = FIRST,
    kind: str | None = None,
    status: str | None = None,
    role_id: UUID | None = None,
    moment: Moment | None = None,
) -> Page[Subject]:
    """Answer subjects in the order of their ids, which is that of their registration; those that hold `role_id`, if given."""
    parameters = {"after": after, "limit": limit, "kind": kind, "status": status, "role_id": role_id}
    parameters |= at_parameters(moment)
    return await read_page(pool, SUBJECTS + AT, parameters, _SUBJECTS)


async def list_role_rules(
    pool: Pool, role_id: UUID, *, limit: int, after: UUID = FIRST, moment: Moment | None = None
) -> Page[RuleOfRole]:
    """Answer the rules that stand in a role, in the order of their ids."""
    parameters = {"role_id": role_id, "after": after, "limit": limit} | at_parameters(moment)
    return await read_page(pool, ROLE_RULES + AT, parameters, _ROLE_RULES)


async def read_role_rules(pool: Pool, role_id: UUID, rule_ids: Sequence[UUID]) -> list[RuleOfRole]:
    """Answer these rules of a role, whether they stand or were withdrawn; one that it never had is left out."""
    async with pool.connection() as connection:
        cursor = await connection.execute(NAMED_ROLE_RULES, {"role_id": role_id, "rule_ids": list(rule_ids)})
        row = await cursor.fetchone()
    assert row is not None
    return read_rows(_ROLE_RULES, row[0] or [])


async def read_rules_of_roles(pool: Pool, role_ids: Sequence[UUID]) -> dict[UUID, dict[UUID, RuleOfRole]]:
    """Answer every rule that stands in these roles, by role and rule."""
    async with pool.connection() as connection:
        rows = await (await connection.execute(RULES_OF_ROLES, {"role_ids": as_array(role_ids)})).fetchall()
    return {role_id: {rule.rule_id: rule for rule in read_rows(_ROLE_RULES, rules)} for role_id, rules in rows}


async def list_permissions(
    pool: Pool,
    subject_id: UUID,
    *,
    limit: int,
    after: tuple[UUID, UUID, UUID] = (FIRST, FIRST, FIRST),
    api_id: UUID | None = None,
    moment: Moment | None = None,
) -> Page[Permission]:
    """Answer the rules that a subject has, allows and denies, its own first; of one API, if given."""
    after_role, after_api, after_rule = after
    parameters = {
        "subject_id": subject_id,
        "after_role": after_role,
        "after_api": after_api,
        "after_rule": after_rule,
        "api_id": api_id,
        "limit": limit,
        **at_parameters(moment),
    }
    return await read_page(pool, PERMISSIONS + AT, parameters, _PERMISSIONS)


async def read_page(pool: Pool, query: LiteralString, parameters: dict[str, Any], rows: TypeAdapter[list[Row]]) -> Page[Row]:
    """Answer the page that a query of (head, instant, rows as JSON) finds."""
    async with pool.connection() as connection:
        found = await (await connection.execute(query, parameters)).fetchone()
    assert found is not None
    position, instant, listed = found
    page: list[Row] = read_rows(rows, listed or [])
    return Page(page, position, instant)
