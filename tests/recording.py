"""Record events by real appends, from tests that are not async themselves, and look at what came of them."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from ledger.database import connect
from ledger.events import Event
from ledger.log import append
from tests.builders import EXAMPLES, command
from tests.conftest import Database

EVENTS_PER_COMMAND = 3


def record(database: Database, events: Sequence[Event] = EXAMPLES) -> None:
    """Append the events in their order, a few a command, one command a batch."""
    record_at(database.service, events)


def record_at(conninfo: str, events: Sequence[Event]) -> None:
    """The same, as whoever `conninfo` connects."""
    asyncio.run(_record(conninfo, events))


async def _record(conninfo: str, events: Sequence[Event]) -> None:
    async with await connect(conninfo) as connection:
        for first in range(0, len(events), EVENTS_PER_COMMAND):
            some = events[first : first + EVENTS_PER_COMMAND]
            rows = await connection.execute(
                "SELECT s.stream, s.version FROM ledger.streams s WHERE s.stream = ANY (%s)",
                ([event.stream for event in some],),
            )
            versions: dict[UUID, int] = dict(await rows.fetchall())
            (outcome,) = await append(connection, [command(*some, reads=versions)])
            assert outcome.outcome == "recorded"


def contents(database: Database, schema: str = "views") -> dict[str, list[Any]]:
    """Answer every row of every table of a schema."""
    with psycopg.connect(database.ledger_owner) as connection:
        names = connection.execute(
            "SELECT t.table_name FROM information_schema.tables t WHERE t.table_schema = %s AND t.table_type = 'BASE TABLE'",
            (schema,),
        ).fetchall()
        select = sql.SQL("SELECT to_jsonb(t) FROM {} t ORDER BY 1")
        return {
            name: [row for (row,) in connection.execute(select.format(sql.Identifier(schema, name))).fetchall()]
            for (name,) in names
        }


def schemas(database: Database) -> set[str]:
    """Answer the schemas there are besides PostgreSQL's own."""
    with psycopg.connect(database.ledger_owner) as connection:
        return {
            name
            for (name,) in connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'"
            ).fetchall()
        }


def tamper(database: Database, statement: str, parameters: Sequence[object] = ()) -> None:
    """Run one statement as a superuser whom no trigger stops; it must hit a row."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        # The statements are literals of the tests.
        cursor = connection.execute(statement.encode(), parameters)
        assert cursor.rowcount != 0
