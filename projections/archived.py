"""What is not here any more, and who is told so: a question that needs an archived partition is refused by its name.

Asked after the reading, so that what went while it was read is known too. Must not know how partitions are archived:
archiving.py.
"""

from typing import Final, NoReturn
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.errors import IsArchived
from ledger.jsontext import MAX_INTEGER

Connection = AsyncConnection[TupleRow]

# Where the log begins: partitions go from the oldest on.
EDGE: Final = "SELECT p.from_position FROM ledger.partitions p ORDER BY p.from_position LIMIT 1"
PARTITION: Final = """
SELECT p.name, p.from_position, p.to_position FROM views.archived_partitions p
WHERE p.from_position <= %(position)s::bigint ORDER BY p.from_position DESC LIMIT 1
"""
# Where rows were that left the views by an event after `as_of`: of those made at first to last, if any of them had not ended at
# `as_of` where `standing` is asked for. None of a token that is there.
LEFT: Final = """
SELECT p.name, p.from_position, p.to_position
FROM views.archived_tokens a
CROSS JOIN LATERAL (SELECT v.name, v.from_position, v.to_position FROM views.archived_partitions v
  WHERE v.from_position <= least(a.to_position - 1, %(last)s::bigint) ORDER BY v.from_position DESC LIMIT 1) AS p
WHERE a.position > %(as_of)s::bigint AND a.from_position <= %(last)s::bigint AND a.to_position > %(first)s::bigint
  AND (NOT %(standing)s::boolean OR a.ended_before > (SELECT b.recorded_at FROM ledger.batches b
    WHERE b.last_position >= %(as_of)s::bigint ORDER BY b.last_position LIMIT 1))
  AND (SELECT true FROM views.tokens t WHERE t.token_id = %(token_id)s::uuid LIMIT 1) IS NULL
ORDER BY a.position DESC
LIMIT 1
"""


async def read_edge(connection: Connection) -> int:
    """Answer the first position of the log that is not archived."""
    row = await (await connection.execute(EDGE)).fetchone()
    assert row is not None
    edge: int = row[0]
    return edge


async def refuse_events(connection: Connection, position: int) -> NoReturn:
    """Refuse for want of the event at an archived position. IsArchived."""
    row = await (await connection.execute(PARTITION, {"position": Int8(position)})).fetchone()
    assert row is not None
    raise IsArchived(*row)


async def refuse_archived_events(connection: Connection, position: int) -> None:
    """Refuse where the event at a position is archived. IsArchived."""
    if position < await read_edge(connection):
        await refuse_events(connection, position)


async def refuse_archived_rows(connection: Connection, first: int, last: int, as_of: int, *, standing: bool = False) -> None:
    """Refuse where tokens or families made at first to last left the views since `as_of`; `standing`: had not ended by then.

    IsArchived.
    """
    await _refuse_left(connection, first, last, as_of, None, standing=standing)


async def refuse_archived_token(connection: Connection, token_id: UUID, as_of: int | None) -> None:
    """Refuse where a token, not found as of a position (None: at all), may have left the views since. IsArchived.

    A token that is there now never left: it was issued after that position.
    """
    await _refuse_left(connection, 1, MAX_INTEGER if as_of is None else as_of, as_of or 0, token_id)


async def _refuse_left(
    connection: Connection, first: int, last: int, as_of: int, token_id: UUID | None, *, standing: bool = False
) -> None:
    parameters = {
        "first": Int8(first),
        "last": Int8(last),
        "as_of": Int8(as_of),
        "token_id": None if token_id is None else str(token_id),
        "standing": standing,
    }
    row = await (await connection.execute(LEFT, parameters)).fetchone()
    if row is not None:
        raise IsArchived(*row)


# Audit entries are kept, and so is where a stream begins; issues have no entries.
FIRST_POSITION: Final = """
SELECT least((SELECT s.first_position FROM ledger.streams s WHERE s.stream = %(entity_id)s::uuid),
  (SELECT v.position FROM views.audit_entries v WHERE v.entity_id = %(entity_id)s::uuid ORDER BY v.position LIMIT 1))
"""


async def read_first_position(connection: Connection, entity_id: UUID) -> int | None:
    """Answer where the log first tells of a family, a subject or a client, archived or not; None where it never did."""
    row = await (await connection.execute(FIRST_POSITION, {"entity_id": entity_id})).fetchone()
    return None if row is None else row[0]
