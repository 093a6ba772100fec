"""How the log and its views are, for whoever watches the service: in one statement, whatever their size."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.replay import ONE_AT_A_TIME

# pg_locks shows an advisory lock's number in two halves.
HEALTH: Final = """
SELECT coalesce(b.last_position, 0), b.recorded_at, now.instant, v.verified_at, v.position, v.seconds, v.differences,
  EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND (l.classid::bigint << 32) + l.objid::bigint = %s::bigint)
FROM (SELECT ledger.clock() AS instant) AS now
LEFT JOIN LATERAL (SELECT x.last_position, x.recorded_at FROM ledger.batches x
  ORDER BY x.last_position DESC LIMIT 1) AS b ON true
LEFT JOIN LATERAL (SELECT x.verified_at, x.position, x.seconds, x.differences FROM ledger.verifications x
  ORDER BY x.verified_at DESC LIMIT 1) AS v ON true
"""


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a run of `token-ledger verify` that came to its end."""

    verified_at: datetime
    position: int
    seconds: float
    differences: int


@dataclass(frozen=True, slots=True)
class Health:
    """The head of the log, when it was recorded (None: an empty log), and now; the last verification there was; whether a
    replay, a verification or an archiving is at work."""

    position: int
    recorded_at: datetime | None
    instant: datetime
    verification: Verification | None
    maintained: bool


async def read_health(connection: AsyncConnection[TupleRow]) -> Health:
    """Answer how the log and its views are."""
    row: Any = await (await connection.execute(HEALTH, (ONE_AT_A_TIME,))).fetchone()
    position, recorded_at, instant, verified_at, *verified, maintained = row
    verification = None if verified_at is None else Verification(verified_at, *verified)
    return Health(position, recorded_at, instant, verification, maintained)
