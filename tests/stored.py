"""The rows of views, as they are stored and as the model (model.py) makes them, in a form and an order that can be compared."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import TupleRow, dict_row

from tests import model


def stored(connection: Connection[TupleRow], schema: str, from_position: int) -> dict[str, list[str]]:
    """Answer every row of every table of the schema from a position on."""
    found: dict[str, list[str]] = {}
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
    with connection.cursor(row_factory=dict_row) as cursor:
        for (table,) in tables:
            rows_of = sql.SQL("SELECT * FROM {} WHERE position >= %s").format(sql.Identifier(schema, table))
            found[table] = _comparable(cursor.execute(rows_of, (from_position,)).fetchall())
    return found


def expected(recorded: Sequence[model.Recorded], from_position: int = 1) -> dict[str, list[str]]:
    """Answer the rows from a position on that the model makes of these events."""
    views = model.views(recorded)
    return {view: _comparable(row for row in rows if row["position"] >= from_position) for view, rows in views.items()}


def _comparable(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
