"""Go back to the views before the last replay: caught up by their own folds, then swapped with the live ones.

Both stay, in each other's place, so that going back again goes forward. How they are swapped: replay.py.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.errors import LedgerError
from projections.archive_reading import refuse_without_archives
from projections.replay import (
    PATIENCE_SECONDS,
    PIECE,
    PREVIOUS,
    OnProgress,
    ReplayReport,
    catch_up,
    fold,
    head_of,
    maintenance,
    no_progress,
    put_in_place,
    tables_of,
)


class NothingToGoBackTo(LedgerError):
    """There are no views of before: nothing was replayed yet."""

    code = "nothing_to_go_back_to"
    cure = "Nothing is to be done: the views are the first ones."


class FoldsTooOld(LedgerError):
    """Events of these types were recorded meanwhile, and the folds of the views before do not know them."""

    code = "folds_too_old"
    cure = "Stay with the views there are, or replay with the release that knows these events."

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__(
            f"the views before the last replay cannot be brought up to now: their folds do not know {', '.join(types)};"
            " the live views are as they were"
        )
        self.types = types


def go_back(
    conninfo: str, *, piece: int = PIECE, patience_seconds: float = PATIENCE_SECONDS, progress: OnProgress = no_progress
) -> ReplayReport:
    """Put the views before the last replay in place of the live ones, which take theirs. Reads and appends go on meanwhile.

    Whenever it fails or is stopped, the live views are as they were, and the next run goes on from there.
    NothingToGoBackTo; FoldsTooOld; ArchiveNeeded for what was archived since; ReplayRunning; FoldFailed; SwapBlocked.
    """
    began = time.monotonic()
    with maintenance(conninfo) as connection:
        if not tables_of(connection, PREVIOUS):
            raise NothingToGoBackTo("there are no views to go back to: the next replay keeps those of before as views_previous")
        fold_range, folded = partial(_fold, connection), _folded(connection)
        refuse_without_archives(connection, folded + 1)
        folded = catch_up(partial(head_of, connection), fold_range, folded, piece, progress)
        swapped = put_in_place(connection, PREVIOUS, fold_range, folded, patience_seconds=patience_seconds, progress=progress)
        return ReplayReport(swapped.head, time.monotonic() - began, swapped.held_seconds, swapped.tried)


def _folded(connection: Connection[TupleRow]) -> int:
    """Answer up to where the views before are folded: their newest row. What comes after it gave no row, or was not folded."""
    newest = 0
    for name in tables_of(connection, PREVIOUS):
        statement = sql.SQL("SELECT coalesce(max(t.position), 0) FROM {} AS t").format(sql.Identifier(PREVIOUS, name))
        row = connection.execute(statement).fetchone()
        assert row is not None
        newest = max(newest, row[0])
    return newest


# Folds leave out what they do not know: these would be, without a word.
UNKNOWN: Final = """
SELECT array_agg(DISTINCT e.type ORDER BY e.type)
FROM ledger.events e
WHERE e.position BETWEEN %s AND %s AND NOT EXISTS (SELECT FROM views_previous.event_types k WHERE k.type = e.type)
"""


def _fold(connection: Connection[TupleRow], first: int, last: int) -> None:
    row = connection.execute(UNKNOWN, (first, last)).fetchone()
    if row is not None and row[0]:
        raise FoldsTooOld(row[0])
    fold(connection, PREVIOUS, first, last)
