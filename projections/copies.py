"""A scratch copy of the views as they stood at a moment of the past, to be looked into with SQL; the live ones are left alone.

Made as a replay makes its own (replay.py), of the log up to there, and renamed when it is whole: what is called `views_then` is
never half of one.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.errors import InvalidInput
from ledger.instants import rfc3339
from projections.replay import (
    NEXT,
    PIECE,
    FreeBytes,
    OnProgress,
    building,
    catch_up,
    drop_patiently,
    head_of,
    maintenance,
    no_progress,
    plenty,
    rename,
    tables_of,
)

COPY: Final = "views_then"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy in the schema COPY: the views after the event at `position`, which was recorded at `recorded_at`."""

    position: int
    recorded_at: datetime
    seconds: float


def copy_as_of(
    conninfo: str,
    moment: int | datetime,
    *,
    piece: int = PIECE,
    free_bytes: FreeBytes = plenty,
    folder: Path | None = None,
    progress: OnProgress = no_progress,
) -> Copy:
    """Make the copy as of a position, or of the last one recorded at or before an instant; it takes the place of a former one.

    InvalidInput for what is not in the log; what is archived, and what else is refused, is as for a replay.
    """
    began = time.monotonic()
    with building(conninfo, free_bytes, folder) as both:
        connection = both.first
        position, recorded_at = _find(connection, moment)
        catch_up(lambda: position, both.fold, 0, piece, progress)
        both.finish(progress)
        drop_patiently(connection, COPY)
        with connection.transaction():
            rename(connection, NEXT, COPY)
            said = f"The views as of position {position}, recorded at {rfc3339(recorded_at)}"
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(COPY), sql.Literal(said)))
        return Copy(position, recorded_at, time.monotonic() - began)


def drop_copy(conninfo: str) -> bool:
    """Drop the copy; False where there is none. ReplayRunning; SwapBlocked while somebody reads it."""
    with maintenance(conninfo) as connection:
        there = bool(tables_of(connection, COPY))
        drop_patiently(connection, COPY)
        return there


def _find(connection: Connection[TupleRow], moment: int | datetime) -> tuple[int, datetime]:
    """Answer a position and when it was recorded."""
    if isinstance(moment, datetime):
        with connection.transaction():
            # Who appends has read the clock, and is not to be seen yet: behind the turn nothing earlier comes any more.
            connection.execute("LOCK TABLE ledger.append_turn IN SHARE MODE")
            row = connection.execute("SELECT ledger.clock() < %s", (moment,)).fetchone()
            if row == (True,):
                raise InvalidInput.of("to", "an instant that has come: what will be recorded before it is not known yet")
            found = connection.execute(BEFORE, (moment,)).fetchone()
    else:
        found = connection.execute(AT, {"position": moment}).fetchone()
    if found is None:
        raise InvalidInput.of("to", f"in the log: from position 1 to {head_of(connection):,}, or an instant since the first")
    return found[0], found[1]


BEFORE: Final = """
SELECT b.last_position, b.recorded_at FROM ledger.batches b
WHERE b.recorded_at <= %s ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1
"""
AT: Final = """
SELECT %(position)s, b.recorded_at FROM ledger.batches b
WHERE b.last_position >= %(position)s AND %(position)s > 0 ORDER BY b.last_position LIMIT 1
"""
