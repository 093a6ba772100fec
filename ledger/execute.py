"""Read, decide, append; and again when something it read has changed.

The whole path of a write: a resource calls `execute` with a reading (projections/) and a pure decision (ledger/); what the
decision returns is recorded under the versions that were read, so every command is serializable. Raise in the decision =
nothing recorded. No events = accepted, nothing new.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from ledger.appender import Appender
from ledger.errors import IsArchived, LedgerError, TryAgain
from ledger.events import Event, read_event
from ledger.log import Command, Envelope

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]
State = TypeVar("State")

ATTEMPTS: Final = 5


class Contention(TryAgain):
    """What the command reads kept changing; nothing was recorded. Try again after a moment."""

    code = "contention"


class IdempotencyKeyReused(LedgerError):
    """The Idempotency-Key was used before, with other content."""

    code = "idempotency_key_reused"
    cure = "Use a new Idempotency-Key for another request; under the same key send the same bytes."


@dataclass(frozen=True, slots=True)
class Reading(Generic[State]):
    """State read to decide, with the versions of all its streams, the head and the database's instant.

    The versions are of the same statement as the state or of an earlier one: state that is newer than its version ends
    in a conflict, never in a wrong decision.
    """

    state: State
    versions: Mapping[UUID, int]
    position: int
    instant: datetime


@dataclass(frozen=True, slots=True)
class Receipt(Generic[State]):
    """What came of a command. `state` is what it was decided on; None when it is a repeat of one recorded before.

    `position` is where it was recorded (its last event), or the head it was decided at when there was nothing to record.
    """

    events: Sequence[Event]
    position: int
    instant: datetime
    state: State | None
    repeated: bool = False


async def execute(
    appender: Appender,
    pool: Pool,
    envelope: Envelope,
    read: Callable[[], Awaitable[Reading[State]]],
    decide: Callable[[State, datetime], Sequence[Event]],
    *,
    urgent: bool = False,
) -> Receipt[State]:
    """Carry out one command, at most five times over.

    Raises what `decide` raises (nothing recorded), Contention after the last attempt, IdempotencyKeyReused, and what
    Appender.append raises.
    """
    for _ in range(ATTEMPTS):
        reading = await read()
        if envelope.request_mac is not None:
            # Looked up after the reading: whoever decides on what the first request under this key did finds that request.
            repeat: Receipt[State] | None = await _recorded_before(pool, envelope)
            if repeat is not None:
                return repeat
        events = decide(reading.state, reading.instant)
        if not events:
            return Receipt((), reading.position, reading.instant, reading.state)
        outcome = await appender.append(Command(envelope, reading.versions, events, urgent=urgent))
        if outcome.outcome == "conflict":
            continue
        if outcome.outcome == "done":
            # Ours, sent again after a lost connection, or another request's under the same Idempotency-Key.
            repeat = await _recorded_before(pool, envelope)
            if repeat is not None and repeat.repeated:
                return repeat
        assert outcome.last_position is not None
        assert outcome.recorded_at is not None
        return Receipt(events, outcome.last_position, outcome.recorded_at, reading.state)
    raise Contention("what this command reads kept changing")


# A command that is done and has no events is archived, in that partition.
RECORDED_BEFORE = """
SELECT e.position, e.type, e.payload::text, e.metadata, e.recorded_at, p.name, p.from_position, p.to_position
FROM (SELECT c.first_position, c.last_position FROM ledger.commands c WHERE c.command_id = %s) AS k
LEFT JOIN LATERAL (
  SELECT h.position, h.type, h.payload, h.metadata, h.recorded_at FROM views.history h
  WHERE h.position BETWEEN k.first_position AND k.last_position) AS e ON true
LEFT JOIN LATERAL (
  SELECT v.name, v.from_position, v.to_position FROM views.archived_partitions v
  WHERE v.from_position <= k.first_position ORDER BY v.from_position DESC LIMIT 1) AS p ON e.position IS NULL
ORDER BY e.position
"""


async def _recorded_before(pool: Pool, envelope: Envelope) -> "Receipt[State] | None":
    """Answer the receipt of the command recorded under this id, or None. IdempotencyKeyReused when its content was other;
    IsArchived when nobody can tell any more."""
    async with pool.connection() as connection:
        rows = await (await connection.execute(RECORDED_BEFORE, (envelope.command_id,))).fetchall()
    if not rows:
        return None
    if rows[0][0] is None:
        raise IsArchived(*rows[0][5:])
    metadata = rows[0][3] if isinstance(rows[0][3], dict) else json.loads(rows[0][3])
    if metadata["request_mac"] != envelope.request_mac:
        raise IdempotencyKeyReused("this Idempotency-Key was used before, with other content")
    return Receipt(
        # Perhaps by a worker of the next release, while this one still serves.
        [read_event(row[1], row[2], extra="ignore") for row in rows],
        rows[-1][0],
        rows[-1][4],
        None,
        repeated=metadata["request_id"] != str(envelope.request_id),
    )
