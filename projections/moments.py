"""When: the moment that a question about the past is asked as of, found in the log. Every reading of the past begins here.

A moment is a position and an instant: what the log held up to there, and the time by which expiry and the ends of suspensions
are told. Views keep every state, so that the statements that answer live answer for a moment as well.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.errors import InvalidInput, TryAgain
from ledger.instants import rfc3339

# Where the log is; the position, or the last one recorded at or before the time; when that was; and the log it is of.
MOMENT: Final = """
SELECT at.head, at.now, at.position,
  (SELECT b.recorded_at FROM ledger.batches b WHERE b.last_position >= at.position ORDER BY b.last_position LIMIT 1),
  (SELECT v.log_id FROM views.logs v WHERE v.position <= at.position ORDER BY v.position DESC LIMIT 1)
FROM (SELECT ledger.clock() AS now,
    coalesce((SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1), 0) AS head,
    coalesce(%(position)s::bigint, (SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at <= %(time)s::timestamptz
      ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0) AS position OFFSET 0) AS at
"""

# Who is recording, by the lock of the turn, that an append has before it looks at the clock.
RECORDING: Final = """
SELECT l.virtualtransaction
FROM pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'ledger.append_turn'::regclass AND l.mode = 'ExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
"""
RECORDED_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.002

# As of when a listing is read, as its first relation: null is now.
AT: Final = """
FROM (SELECT coalesce(%(position)s::bigint, (SELECT b.last_position FROM ledger.batches b
      ORDER BY b.last_position DESC LIMIT 1), 0) AS position,
    coalesce(%(instant)s::timestamptz, ledger.clock()) AS instant OFFSET 0) AS at
"""


class MomentNotOver(TryAgain):
    """What is recorded as of this time is not known yet; nothing was answered."""

    code = "moment_not_over"
    cure = "Ask again in a moment, or as of an earlier time."


@dataclass(frozen=True, slots=True)
class AsOf:
    """What is asked for: a position, or a time, and an instant that may go with a position; `field`: how it was said."""

    at: int | datetime
    instant: datetime | None = None
    field: str = "as_of"


@dataclass(frozen=True, slots=True)
class Moment:
    """A position of the log, an instant, and which log that is."""

    position: int
    instant: datetime
    log_id: UUID


def at_parameters(moment: Moment | None) -> dict[str, Any]:
    """Answer the parameters of AT."""
    if moment is None:
        return {"position": None, "instant": None}
    return {"position": Int8(moment.position), "instant": moment.instant}


async def read_moment(connection: AsyncConnection[TupleRow], as_of: AsOf) -> Moment:
    """Answer the moment. Of a time it is the last position recorded at or before it, and that time; of a position without an
    instant, when it was recorded.

    InvalidInput for what has not come, and for a time before the log begins. MomentNotOver.
    """
    at_time = as_of.at if isinstance(as_of.at, datetime) else None
    parameters = {"position": None if isinstance(as_of.at, datetime) else Int8(as_of.at), "time": at_time}
    head, now, at, recorded_at, log_id = await _found(connection, parameters)
    if at_time is not None and at_time <= now and at == head:
        # What is being recorded now may have been so by then, and is not to be seen yet: asked again, the answer would differ.
        await until_recorded(connection)
        head, now, at, recorded_at, log_id = await _found(connection, parameters)
    if at_time is not None and at_time > now:
        raise InvalidInput.of(as_of.field, f"a time that has come: it is {rfc3339(now)}")
    if at > head:
        raise InvalidInput.of(as_of.field, f"a position that has come: the log ends at {head}")
    if at == 0:
        raise InvalidInput.of(as_of.field, f"not before the log begins, at {rfc3339(recorded_at)}")
    if as_of.instant is not None and as_of.instant > now:
        raise InvalidInput.of("instant", f"an instant that has come: it is {rfc3339(now)}")
    return Moment(at, at_time or as_of.instant or recorded_at, log_id)


async def _found(connection: AsyncConnection[TupleRow], parameters: dict[str, Any]) -> TupleRow:
    row = await (await connection.execute(MOMENT, parameters)).fetchone()
    assert row is not None
    return row


async def until_recorded(connection: AsyncConnection[TupleRow]) -> None:
    """Wait until whoever is recording has ended: whoever comes after records at a later time. MomentNotOver."""
    first = await (await connection.execute(RECORDING)).fetchone()
    now = first
    ends_at = time.monotonic() + RECORDED_SECONDS
    while now is not None and now == first:
        if time.monotonic() >= ends_at:
            raise MomentNotOver("what is being recorded as of that time is not yet to be seen; ask again, or as of a position")
        await asyncio.sleep(LOOK_SECONDS)
        now = await (await connection.execute(RECORDING)).fetchone()
