"""The budgets of password attempts, taken and given back; the table is bounded, and neither log nor view.

What the budgets are: ledger/guessing.py. How they are kept, and by which locks: `ledger.take_attempt` in schema.sql.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from ledger.execute import Pool
from ledger.guessing import BUDGETS, EVENTS, FAMILIAR_BURST, FAMILIAR_FOR, MOST_COUNTERS, MOST_FAMILIAR, Attempt, Kind
from projections.listing import Page, read_page

TAKE: Final = """
SELECT wait, taken_ids, locked_ids FROM ledger.take_attempt(%s::uuid[], %s::text[], %s, %s::integer[], %s::interval[],
  %s, %s, %s, %s, %s)
"""
RETURN: Final = "SELECT ledger.return_attempt(%s::uuid[], %s::interval[])"
REMEMBER: Final = "SELECT ledger.remember_network(%s, %s, %s, %s)"
UNLOCK: Final = "SELECT ledger.unlock(%s)"
# The rows of lock-outs as they began, each with whether its budget is spent to this moment.
LOCKOUTS: Final = """
SELECT coalesce((SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1), 0), ledger.clock(),
  (SELECT jsonb_agg(to_jsonb(x) ORDER BY x.position DESC) FROM (
    SELECT l.lockout_id, l.kind, l.subject_id, l.locked_at, l.position,
      NOT EXISTS (SELECT FROM views.lockouts u WHERE u.lockout_id = l.lockout_id AND u.unlocked)
        AND coalesce((SELECT t.locked AND t.spent_until > ledger.clock() FROM ledger.throttles t
          WHERE t.throttle_id = l.throttle_id), false) AS stands
    FROM views.lockouts l
    WHERE l.position < %(before)s AND NOT l.unlocked AND (%(subject_id)s::uuid IS NULL OR l.subject_id = %(subject_id)s)
    ORDER BY l.position DESC LIMIT %(limit)s) AS x)
"""
TRIM: Final = "SELECT ledger.trim_throttles(%s)"


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking: how long to wait (zero: go ahead), from which budgets was taken, which were locked by this."""

    wait: timedelta
    taken_ids: Sequence[UUID]
    locked: Sequence[tuple[Kind, UUID]]


async def take_attempt(pool: Pool, attempt: Attempt, events_id: UUID) -> Taken:
    """Take one attempt from every budget, or from none."""
    budgets = [BUDGETS[kind] for kind in Attempt.KINDS]
    parameters = (
        list(attempt.ids),
        list(Attempt.KINDS),
        attempt.user,
        [budget.burst for budget in budgets],
        [budget.every for budget in budgets],
        attempt.familiar,
        FAMILIAR_BURST,
        events_id,
        EVENTS.burst,
        EVENTS.every,
    )
    async with pool.connection() as connection:
        row = await (await connection.execute(TAKE, parameters)).fetchone()
    assert row is not None
    wait, taken_ids, locked_ids = row
    kinds = dict(zip(attempt.ids, Attempt.KINDS, strict=True))
    return Taken(wait, taken_ids, [(kinds[throttle_id], throttle_id) for throttle_id in locked_ids])


async def return_attempt(pool: Pool, attempt: Attempt, taken: Taken) -> None:
    """Give back what was taken: the password was right, or was never looked at."""
    kinds = dict(zip(attempt.ids, Attempt.KINDS, strict=True))
    every = [BUDGETS[kinds[throttle_id]].every for throttle_id in taken.taken_ids]
    async with pool.connection() as connection:
        await connection.execute(RETURN, (list(taken.taken_ids), every))


async def remember_network(pool: Pool, attempt: Attempt) -> None:
    """Let the network be familiar to the user for 90 days from now."""
    async with pool.connection() as connection:
        await connection.execute(REMEMBER, (attempt.familiar, attempt.user, FAMILIAR_FOR, MOST_FAMILIAR))


async def unlock(pool: Pool, throttle_id: UUID) -> None:
    """Make a budget whole; of a user, those of all networks too."""
    async with pool.connection() as connection:
        await connection.execute(UNLOCK, (throttle_id,))


async def trim_throttles(pool: Pool) -> None:
    """Take away what says nothing any more, and what is too many."""
    async with pool.connection() as connection:
        await connection.execute(TRIM, (MOST_COUNTERS,))


class ListedLockout(NamedTuple):
    """A lock-out as it began. `stands`: it was not unlocked, and its budget was not whole since."""

    lockout_id: UUID
    kind: Kind
    subject_id: UUID | None
    locked_at: datetime
    position: int
    stands: bool


_LOCKOUTS: Final = TypeAdapter(list[ListedLockout])


async def list_lockouts(pool: Pool, *, limit: int, before: int, subject_id: UUID | None = None) -> Page[ListedLockout]:
    """Answer lock-outs before a position, newest first."""
    parameters = {"limit": limit, "before": before, "subject_id": subject_id}
    return await read_page(pool, LOCKOUTS, parameters, _LOCKOUTS)
