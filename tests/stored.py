"""The rows of views, as they are stored and as the model (model.py) makes them, in a form and an order that can be compared."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from psycopg import AsyncConnection, Connection, sql
from psycopg.rows import TupleRow, dict_row

from tests import model

TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s"


def stored(connection: Connection[TupleRow], schema: str, from_position: int) -> dict[str, list[str]]:
    """Answer every row of every table of the schema from a position on."""
    tables = connection.execute(TABLES, (schema,)).fetchall()
    with connection.cursor(row_factory=dict_row) as cursor:
        return {table: _comparable(cursor.execute(_rows_of(schema, table), (from_position,)).fetchall()) for (table,) in tables}


async def stored_in(connection: AsyncConnection[TupleRow], schema: str) -> dict[str, list[str]]:
    """Answer every row of every table of the schema."""
    tables = await (await connection.execute(TABLES, (schema,))).fetchall()
    found: dict[str, list[str]] = {}
    async with connection.cursor(row_factory=dict_row) as cursor:
        for (table,) in tables:
            await cursor.execute(_rows_of(schema, table), (1,))
            found[table] = _comparable(await cursor.fetchall())
    return found


def expected(recorded: Sequence[model.Recorded], from_position: int = 1) -> dict[str, list[str]]:
    """Answer the rows from a position on that the model makes of these events."""
    views = model.views(recorded)
    return {view: _comparable(row for row in rows if row["position"] >= from_position) for view, rows in views.items()}


def _rows_of(schema: str, table: str) -> sql.Composed:
    return sql.SQL("SELECT * FROM {} WHERE position >= %s").format(sql.Identifier(schema, table))


def _comparable(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
