"""The moment that a time means: also while somebody records, it is the same whenever it is asked for."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.database import make_pool
from ledger.log import append, append_inside
from projections import moments
from projections.moments import AsOf, MomentNotOver, read_moment
from projections.reading import read_position_before
from tests.builders import EXAMPLES, command
from tests.conftest import Database

pytestmark = pytest.mark.anyio

NOW: Final = "SELECT ledger.clock()"


async def now(connection: AsyncConnection[TupleRow]) -> AsOf:
    row = await (await connection.execute(NOW)).fetchone()
    assert row is not None
    return AsOf(row[0])


@pytest.mark.parametrize(("ends", "found"), [("COMMIT", 2), ("ROLLBACK", 1)])
async def test_a_time_at_which_somebody_records_is_told_when_that_has_ended(
    any_database: Database, connection: AsyncConnection[TupleRow], ends: str, found: int
) -> None:
    await append(connection, [command(EXAMPLES[0])])
    with psycopg.connect(any_database.service) as recording:
        recording.autocommit = True
        recording.execute("BEGIN")
        append_inside(recording, command())
        time = await now(connection)
        asked = asyncio.create_task(read_moment(connection, time))
        await asyncio.sleep(0.1)
        assert not asked.done()
        recording.execute(ends)
        moment = await asked
    assert (moment.position, moment.instant) == (found, time.at)
    assert await read_moment(connection, time) == moment


async def test_a_time_that_is_over_waits_for_nobody(any_database: Database, connection: AsyncConnection[TupleRow]) -> None:
    await append(connection, [command(EXAMPLES[0])])
    time = await now(connection)
    await append(connection, [command()])
    with psycopg.connect(any_database.service) as recording:
        append_inside(recording, command())
        assert (await read_moment(connection, time)).position == 1
        assert (await read_moment(connection, AsOf(2))).position == 2
        recording.rollback()


async def test_whoever_records_for_long_is_not_waited_for_for_ever(
    any_database: Database, connection: AsyncConnection[TupleRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "RECORDED_SECONDS", 0.1)
    await append(connection, [command(EXAMPLES[0])])
    with psycopg.connect(any_database.service) as recording:
        append_inside(recording, command())
        with pytest.raises(MomentNotOver):
            await read_moment(connection, await now(connection))
        recording.rollback()


async def test_a_time_and_a_microsecond_before_it_may_lie_on_both_sides_of_an_event(
    connection: AsyncConnection[TupleRow],
) -> None:
    await append(connection, [command(EXAMPLES[0])])
    (outcome,) = await append(connection, [command()])
    assert outcome.recorded_at is not None
    assert (await read_moment(connection, AsOf(outcome.recorded_at))).position == 2
    assert (await read_moment(connection, AsOf(outcome.recorded_at - timedelta(microseconds=1)))).position == 1


async def test_what_was_recorded_before_an_instant_is_all_of_that_also_while_somebody_records(
    any_database: Database, connection: AsyncConnection[TupleRow]
) -> None:
    """Or a token would outlive a cut-off that it was issued before."""
    await append(connection, [command(EXAMPLES[0])])
    async with make_pool(any_database.service, max_size=1, wait_seconds=5) as pool:
        with psycopg.connect(any_database.service) as recording:
            append_inside(recording, command())
            time = await now(connection)
            assert isinstance(time.at, datetime)
            asked = asyncio.create_task(read_position_before(pool, time.at))
            await asyncio.sleep(0.1)
            assert not asked.done()
            recording.commit()
        assert (await asked)[0] == 2
