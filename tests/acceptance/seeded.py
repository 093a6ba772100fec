"""`token-ledger serve` with a bug put into its lookup (`python seeded.py BUG`): what checker.py, which starts it, must find.

Each is a bug that somebody could well write, and that the design forbids (projections/lookup.py says why).
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

import projections.lookup
from api.cli import main
from projections.lookup import Found, Lookup

FRESH_SECONDS: Final = 0.2
# A worker that has other things to do between two statements, one time in ten.
BUSY_SECONDS: Final = 0.3
BUSY: Final = 0.1
HEAD: Final = "SELECT b.last_position, ledger.clock() FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1"

_find = Lookup.find
_look_up = projections.lookup.look_up


def stale_cache() -> None:
    """What was found is answered again for a moment."""
    kept: dict[UUID, tuple[float, Found]] = {}

    async def find(lookup: Lookup, token_id: UUID) -> Found:
        until, found = kept.get(token_id, (0.0, None))
        if found is None or time.monotonic() >= until:
            found = await _find(lookup, token_id)
            kept[token_id] = time.monotonic() + FRESH_SECONDS, found
        return found

    Lookup.find = find  # type: ignore[method-assign, assignment]


def late_joiner() -> None:
    """Who asks for a token that is being looked up gets that answer, though the query was sent before he came."""
    under_way: dict[UUID, asyncio.Task[Found]] = {}

    async def find(lookup: Lookup, token_id: UUID) -> Found:
        if token_id not in under_way:
            under_way[token_id] = asyncio.create_task(_find(lookup, token_id))
            under_way[token_id].add_done_callback(lambda _: under_way.pop(token_id))
        return await asyncio.shield(under_way[token_id])

    Lookup.find = find  # type: ignore[method-assign, assignment]


def two_statements() -> None:
    """The head is read first and the rows as of it then, from one snapshot: older than the views that are named by then."""

    async def look_up(
        cursor: AsyncCursor[TupleRow],
        token_ids: list[UUID],
        *,
        position: int | None = None,
        instant: datetime | None = None,
    ) -> list[Found]:
        async with cursor.connection.transaction():
            await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            row: Any = await (await cursor.execute(HEAD)).fetchone()
            await asyncio.sleep(BUSY_SECONDS if random.random() < BUSY else 0)
            return await _look_up(cursor, token_ids, position=position or row[0], instant=instant or row[1])

    projections.lookup.look_up = look_up


BUGS: Final[dict[str, Callable[[], None]]] = {
    "stale-cache": stale_cache,
    "late-joiner": late_joiner,
    "two-statements": two_statements,
}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    main(["serve"])
