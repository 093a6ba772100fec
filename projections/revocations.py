"""Plans of bulk revocation: the tokens that a filter means as of a position, in an order, the same whenever they are read.

A plan is recorded nowhere. It is a pure function of its filter, a position P and the log: of the tokens issued at or below P
those that match, and that as of P, and of the instant it was recorded at, were not dead for good: revoked at whatever level,
expired or used up. So whoever reads it again, page by page or chunk by chunk, reads the same. What is done with it:
api/resources/revocations.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from ledger.cascade import TokenStanding
from ledger.decisions import Reference
from ledger.errors import InvalidInput
from ledger.execute import Pool
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.jsontext import dumps
from ledger.standing import standing_of
from projections.archived import refuse_archived_rows
from projections.token_listing import (
    CHUNK,
    SCANNED,
    Bounds,
    Connection,
    Key,
    ListedToken,
    TokenFilters,
    read_listed,
    read_parties,
    walk,
)

Status = TypeVar("Status", str, str | None)
Level = Literal["subject", "client", "api", "family"]
LEVELS: Final[dict[str, Level]] = {"subject_id": "subject", "client_id": "client", "api_id": "api", "family_id": "family"}

# Which positions a plan is about: after `first`, up to `last`. Those of an interval are found by when the issue was recorded,
# as a cut-off "issued before" means it, so that one event takes what the list says.
PLAN: Final = """
SELECT at.position, at.head,
  (SELECT b.recorded_at FROM ledger.batches b WHERE b.last_position >= at.position ORDER BY b.last_position LIMIT 1),
  (SELECT v.log_id FROM views.logs v ORDER BY v.position DESC LIMIT 1),
  coalesce((SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < %(issued_after)s::timestamptz
    ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0),
  CASE WHEN %(issued_before)s::timestamptz IS NULL THEN at.position
    ELSE least(at.position, coalesce((SELECT b.last_position FROM ledger.batches b
      WHERE b.recorded_at < %(issued_before)s::timestamptz
      ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0)) END
FROM (SELECT coalesce(%(position)s::bigint, h.head) AS position, h.head FROM
  (SELECT coalesce((SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1), 0) AS head) AS h
  OFFSET 0) AS at
"""
ISSUED_LAST: Final = """
SELECT coalesce((SELECT v.position FROM views.tokens v WHERE v.family_id = %s ORDER BY v.position DESC LIMIT 1), 0)
"""


@dataclass(frozen=True)
class Plan:
    """What `filters` mean as of `position`, recorded at `instant`: of the tokens issued after `first`, and up to `last`."""

    filters: TokenFilters
    position: int
    instant: datetime
    log_id: UUID
    first: int
    last: int

    @cached_property
    def plan_id(self) -> UUID:
        """The id of the plan: of the filter, the position and the log, and so of the list."""
        members = {field.name: getattr(self.filters, field.name) for field in fields(self.filters)}
        return name_id("revocation", str(self.log_id), str(self.position), dumps(_texts(members)))

    @property
    def level(self) -> Level | None:
        """The level at which one event takes exactly the list, or None: there is none.

        A cut-off takes what was issued up to a position; a family is revoked whole.
        """
        members = {field.name for field in fields(self.filters) if getattr(self.filters, field.name) is not None}
        names = list(members - {"issued_before"})
        if len(names) != 1 or members == {"family_id", "issued_before"}:
            return None
        return LEVELS.get(names[0])


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of a plan that follow each other, newest first. `next` None: there are no more."""

    tokens: Sequence[ListedToken]
    next: Key | None


async def make_plan(pool: Pool, filters: TokenFilters, position: int | None) -> Plan:
    """Answer the plan of a filter as of a position, of the head without one. InvalidInput for a position that has not come."""
    assert filters.state is None
    parameters = {
        "position": position,
        "issued_after": filters.issued_after,
        "issued_before": filters.issued_before,
    }
    async with pool.connection() as connection:
        row = await (await connection.execute(PLAN, parameters)).fetchone()
    assert row is not None
    at, head, instant, log_id, first, last = row
    if at > head:
        raise InvalidInput.of("as_of_position", f"a position that has come: the log ends at {head}")
    return Plan(filters, at, instant, log_id, first, last)


async def read_part(pool: Pool, plan: Plan, before: Key, limit: int) -> Part:
    """Answer the next tokens of the plan from after `before` on: `limit`, or fewer, even none, having looked at SCANNED.

    A function of the plan, `before` and `limit` alone. IsArchived where tokens that it may mean have left since.
    """
    bounds = Bounds(plan.position, plan.instant, 0, plan.first, plan.last)
    # The interval has become positions.
    filters = replace(plan.filters, issued_after=None, issued_before=None)
    tokens: list[ListedToken] = []
    async with pool.connection() as connection:
        walked = await walk(connection, filters, bounds, before, SCANNED)
        matching = [key.token_id for key, matches in walked if matches]
        await refuse_archived_rows(connection, plan.first + 1, plan.last, plan.position, standing=True)
        for start in range(0, len(matching), CHUNK):
            tokens += await not_dead(connection, matching[start : start + CHUNK], bounds)
            if len(tokens) > limit:
                last = tokens[limit - 1].token
                return Part(tokens[:limit], Key(last.position, last.token_id))
    return Part(tokens, walked[-1][0] if len(walked) == SCANNED else None)


async def was_issued_since(pool: Pool, family_id: UUID, position: int) -> bool:
    """Say whether a family has tokens that were issued after a position."""
    async with pool.connection() as connection:
        row = await (await connection.execute(ISSUED_LAST, (family_id,))).fetchone()
    assert row is not None
    issued_last: int = row[0]
    return issued_last > position


async def not_dead(connection: Connection, token_ids: Sequence[UUID], bounds: Bounds) -> list[ListedToken]:
    """Answer those of the tokens that stand, or would if nothing were suspended."""
    reference = await read_parties(connection, token_ids, bounds.position)
    listed = await read_listed(connection, token_ids, reference, bounds)
    lifted = _reference_without_suspensions(reference)
    return [one for one in listed if standing_of(_without_suspensions(one.token), lifted, bounds.instant).state == "active"]


def _without_suspensions(token: TokenStanding) -> TokenStanding:
    return token._replace(
        token_status=_lifted(token.token_status),
        family_status=_lifted(token.family_status),
        subject_status=_lifted(token.subject_status),
    )


def _reference_without_suspensions(reference: Reference) -> Reference:
    return replace(
        reference,
        clients={client_id: replace(client, status="active") for client_id, client in reference.clients.items()},
        apis={api_id: replace(api, status="active") for api_id, api in reference.apis.items()},
    )


def _lifted(status: Status) -> Status:
    return "active" if status == "suspended" else status


def _texts(members: dict[str, Any]) -> dict[str, str]:
    return {
        name: rfc3339(value) if isinstance(value, datetime) else str(value)
        for name, value in members.items()
        if value is not None
    }
