"""The log: a batch of commands, appended in one call.

Owns the envelope, the command and the one statement that records. Must not know what events mean. The contract is in
schema.sql (`ledger.append`); who batches is appender.py; who decides is execute.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow
from pydantic_core import to_json

from ledger.errors import LedgerError
from ledger.events import Event

MAX_EVENTS_PER_COMMAND = 1_000


class CommandTooLarge(LedgerError):
    """A command adds more events than one append takes."""

    code = "command_too_large"
    cure = "Send the command in parts."


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a subject, a client or the ledger itself, and how it was authenticated."""

    kind: Literal["subject", "client", "system"]
    id: UUID | None
    authenticated_by: str

    SYSTEM: ClassVar["Actor"]


Actor.SYSTEM = Actor("system", None, "none")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is recorded about a command besides its events; complete from the first event on.

    `causation` is the position of the event that led to this command, `request_mac` an HMAC of the request's content
    where the caller gave an Idempotency-Key (a plain digest of a request that holds a password could be guessed at).
    """

    command_id: UUID
    request_id: UUID
    correlation_id: UUID
    actor: Actor
    semantics: int
    causation: int | None = None
    request_mac: str | None = None

    def metadata_json(self) -> str:
        """Answer the metadata as JSON text."""
        return to_json(
            {
                "command_id": self.command_id,
                "request_id": self.request_id,
                "correlation_id": self.correlation_id,
                "causation": self.causation,
                "actor": {"kind": self.actor.kind, "id": self.actor.id, "authenticated_by": self.actor.authenticated_by},
                "semantics": self.semantics,
                "request_mac": self.request_mac,
            }
        ).decode()


@dataclass(frozen=True, slots=True)
class Command:
    """One decision to be recorded whole or not at all.

    `reads` holds the version of every stream that was read to decide (0: it is not there), the written ones among them.
    `urgent` commands (suspensions and revocations) go before others that wait.
    """

    envelope: Envelope
    reads: Mapping[UUID, int]
    events: Sequence[Event]
    urgent: bool = False

    def __post_init__(self) -> None:
        if len(self.events) > MAX_EVENTS_PER_COMMAND:
            raise CommandTooLarge(f"{len(self.events)} events; a command adds at most {MAX_EVENTS_PER_COMMAND}")


class Recorded(Protocol):
    """An event where the log has it, as its readers have it."""

    @property
    def position(self) -> int: ...
    @property
    def stream(self) -> UUID: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> dict[str, Any]: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def recorded_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command of a batch; positions and instant are None for a conflict."""

    outcome: Literal["recorded", "done", "conflict"]
    first_position: int | None
    last_position: int | None
    recorded_at: datetime | None


# Binary, because psycopg writes an array as text with a regular expression for every quotation mark: more than half of
# the time of an append (a batch of 128 commands: 23 ms so, 10 ms as binary).
APPEND = """
SELECT command, outcome, first_position, last_position, recorded_at
FROM ledger.append(%b::uuid[], %b::text[]::jsonb[], %b::integer[], %b::uuid[], %b::integer[],
  %b::integer[], %b::uuid[], %b::text[], %b::smallint[], %b::text[]::jsonb[])
"""


async def append(connection: AsyncConnection[TupleRow], commands: Sequence[Command]) -> list[Outcome]:
    """Append a batch over an autocommit connection: one round trip, one transaction. One outcome a command, in order.

    Each command has at least one event. psycopg.Error: nothing of the batch was recorded, unless the connection was lost,
    in which case it may have been (the same ids sent again will tell).
    """
    cursor = await connection.execute(APPEND, _parameters(commands))
    return _in_order(await cursor.fetchall(), len(commands))


def append_inside(connection: Connection[TupleRow], command: Command) -> Outcome:
    """Append one command inside the caller's transaction, which is READ COMMITTED."""
    (outcome,) = _in_order(connection.execute(APPEND, _parameters([command])).fetchall(), 1)
    return outcome


def _parameters(commands: Sequence[Command]) -> tuple[object, ...]:
    read_of: list[int] = []
    read_streams: list[UUID] = []
    read_versions: list[int] = []
    event_of: list[int] = []
    event_streams: list[UUID] = []
    event_types: list[str] = []
    schema_versions: list[int] = []
    payloads: list[str] = []
    for number, command in enumerate(commands, start=1):
        for stream, version in command.reads.items():
            read_of.append(number)
            read_streams.append(stream)
            read_versions.append(version)
        for event in command.events:
            event_of.append(number)
            event_streams.append(event.stream)
            event_types.append(event.TYPE)
            schema_versions.append(event.SCHEMA_VERSION)
            payloads.append(event.payload_json())
    return (
        [c.envelope.command_id for c in commands],
        [c.envelope.metadata_json() for c in commands],
        read_of,
        read_streams,
        read_versions,
        event_of,
        event_streams,
        event_types,
        schema_versions,
        payloads,
    )


def _in_order(rows: Sequence[TupleRow], commands: int) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {row[0]: Outcome(*row[1:]) for row in rows}
    return [outcomes[number] for number in range(1, commands + 1)]
