"""Read, decide, append: what is retried, what is not, and what a repeated request is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from ledger.appender import Appender, CommandRefused
from ledger.database import make_pool
from ledger.errors import Refused
from ledger.events import Event, SubjectRegistered
from ledger.execute import ATTEMPTS, Contention, IdempotencyKeyReused, Pool, Reading, Receipt, execute
from ledger.log import Command
from tests.builders import NOON, command, envelope, subject, token_issued
from tests.conftest import Clock, Database

pytestmark = pytest.mark.anyio

READ = """
SELECT coalesce((SELECT version FROM ledger.streams WHERE stream = %(stream)s), 0),
  coalesce((SELECT max(last_position) FROM ledger.batches), 0), ledger.clock()
"""


@pytest.fixture
async def pool(any_database: Database) -> AsyncIterator[Pool]:
    async with make_pool(any_database.service, max_size=4, wait_seconds=5) as pool:
        yield pool


@dataclass
class Ledger:
    """The two ends of `execute`, and readings whose state is the version of one stream."""

    appender: Appender
    pool: Pool

    def reading(self, stream: UUID) -> Callable[[], Awaitable[Reading[int]]]:
        async def read() -> Reading[int]:
            async with self.pool.connection() as connection:
                row = await (await connection.execute(READ, {"stream": stream})).fetchone()
            assert row is not None
            version, position, instant = row
            return Reading(version, {stream: version}, position, instant)

        return read

    async def events(self) -> int:
        async with self.pool.connection() as connection:
            row = await (await connection.execute("SELECT count(*) FROM views.history")).fetchone()
        assert row is not None
        count: int = row[0]
        return count


@pytest.fixture
def ledger(appender: Appender, pool: Pool) -> Ledger:
    return Ledger(appender, pool)


def registered(subject_id: UUID, clearance: int = 0) -> SubjectRegistered:
    return SubjectRegistered(subject_id=subject_id, subject=subject(subject_id=subject_id, clearance=clearance))


# ------------------------------------------------------------------------------------------------------------- once and again


async def test_what_is_decided_is_recorded_and_the_receipt_says_where_and_when(ledger: Ledger, any_clock: Clock) -> None:
    any_clock.set(NOON)
    one = uuid4()
    receipt = await execute(
        ledger.appender, ledger.pool, envelope(), ledger.reading(one), lambda _, now: [registered(one), registered(one, 1)]
    )
    assert (receipt.position, receipt.instant, receipt.state, receipt.repeated) == (2, NOON, 0, False)
    assert [event.subject.clearance for event in receipt.events if isinstance(event, SubjectRegistered)] == [0, 1]
    assert await ledger.events() == 2


async def test_the_decision_gets_the_instant_of_the_reading(ledger: Ledger, any_clock: Clock) -> None:
    any_clock.set(NOON)
    instants: list[datetime] = []

    def decide(_: int, now: datetime) -> Sequence[Event]:
        instants.append(now)
        return ()

    await execute(ledger.appender, ledger.pool, envelope(), ledger.reading(uuid4()), decide)
    assert instants == [NOON]


async def test_after_a_conflict_it_is_decided_again_on_what_is_there_now(ledger: Ledger) -> None:
    one = uuid4()
    decided_on: list[int] = []
    read_once = ledger.reading(one)

    async def read_then_interfere() -> Reading[int]:
        reading = await read_once()
        if reading.state < 2:
            await ledger.appender.append(command(registered(one), reads={one: reading.state}))
        return reading

    def decide(version: int, _: datetime) -> Sequence[Event]:
        decided_on.append(version)
        return [registered(one)]

    receipt = await execute(ledger.appender, ledger.pool, envelope(), read_then_interfere, decide)
    assert decided_on == [0, 1, 2]
    assert (receipt.state, receipt.position) == (2, 3)


async def test_after_five_attempts_it_gives_up_and_nothing_is_recorded(ledger: Ledger) -> None:
    one, attempts = uuid4(), 0
    read_once = ledger.reading(one)

    async def read_then_interfere() -> Reading[int]:
        nonlocal attempts
        attempts += 1
        reading = await read_once()
        await ledger.appender.append(command(registered(one), reads={one: reading.state}))
        return reading

    with pytest.raises(Contention):
        await execute(ledger.appender, ledger.pool, envelope(), read_then_interfere, lambda *_: [registered(one)])
    assert attempts == ATTEMPTS == 5
    assert await ledger.events() == attempts  # those that interfered


async def test_many_that_change_one_entity_at_once_are_each_recorded_on_top_of_another(ledger: Ledger) -> None:
    one = uuid4()

    async def change() -> Receipt[int]:
        return await execute(
            ledger.appender, ledger.pool, envelope(), ledger.reading(one), lambda version, _: [registered(one, version % 100)]
        )

    receipts = await asyncio.gather(*[change() for _ in range(5)])
    assert sorted(receipt.position for receipt in receipts) == [1, 2, 3, 4, 5]
    assert all(receipt.state == receipt.position - 1 for receipt in receipts)


async def test_no_events_means_nothing_is_recorded_and_the_head_is_the_position(ledger: Ledger) -> None:
    await ledger.appender.append(command())
    receipt = await execute(ledger.appender, ledger.pool, envelope(), ledger.reading(uuid4()), lambda *_: ())
    assert (receipt.events, receipt.position, receipt.state) == ((), 1, 0)
    assert await ledger.events() == 1


async def test_what_the_decision_raises_is_raised_and_nothing_is_recorded(ledger: Ledger) -> None:
    def refuse(_: int, now: datetime) -> Sequence[Event]:
        raise Refused("not so")

    with pytest.raises(Refused, match="not so"):
        await execute(ledger.appender, ledger.pool, envelope(), ledger.reading(uuid4()), refuse)
    assert await ledger.events() == 0


async def test_what_the_database_refuses_is_not_tried_again(ledger: Ledger) -> None:
    one, attempts = uuid4(), 0

    def decide(_: int, now: datetime) -> Sequence[Event]:
        nonlocal attempts
        attempts += 1
        return [token_issued(family_id=one, claims={"a": "\0"})]

    with pytest.raises(CommandRefused):
        await execute(ledger.appender, ledger.pool, envelope(), ledger.reading(one), decide)
    assert attempts == 1


# ---------------------------------------------------------------------------------------------------------- Idempotency-Key


async def test_a_request_repeated_under_its_key_gets_the_events_and_positions_of_the_first(ledger: Ledger) -> None:
    one, key = uuid4(), uuid4()

    async def register() -> Receipt[int]:
        asked = envelope(command_id=key, request_mac="a1")
        return await execute(
            ledger.appender, ledger.pool, asked, ledger.reading(one), lambda *_: [registered(one), registered(one)]
        )

    first = await register()
    await ledger.appender.append(command())
    again = await register()
    assert (again.events, again.position, again.instant) == (first.events, first.position, first.instant)
    assert (again.repeated, again.state) == (True, None)
    assert await ledger.events() == 3


async def test_a_repeat_is_recognised_even_where_the_decision_would_now_refuse(ledger: Ledger) -> None:
    one, key = uuid4(), uuid4()

    def decide(version: int, _: datetime) -> Sequence[Event]:
        if version:
            raise Refused("it is there already")
        return [registered(one)]

    async def register() -> Receipt[int]:
        return await execute(
            ledger.appender, ledger.pool, envelope(command_id=key, request_mac="a1"), ledger.reading(one), decide
        )

    assert (await register()).position == (await register()).position == 1


async def test_the_same_key_with_other_content_is_refused(ledger: Ledger) -> None:
    one, key = uuid4(), uuid4()
    first, other = envelope(command_id=key, request_mac="a1"), envelope(command_id=key, request_mac="a2")
    await execute(ledger.appender, ledger.pool, first, ledger.reading(one), lambda *_: [registered(one)])
    with pytest.raises(IdempotencyKeyReused):
        await execute(ledger.appender, ledger.pool, other, ledger.reading(one), lambda *_: [registered(one)])
    assert await ledger.events() == 1


@pytest.mark.parametrize("refuses_what_is_there", [False, True])
async def test_of_two_requests_under_one_key_at_once_one_is_recorded_and_both_hear_of_it(
    ledger: Ledger, refuses_what_is_there: bool
) -> None:
    """Also where the second finds what the first did and would refuse it: it is the same request."""
    one, key, both_have_read = uuid4(), uuid4(), asyncio.Barrier(2)

    def decide(version: int, _: datetime) -> Sequence[Event]:
        if version and refuses_what_is_there:
            raise Refused("it is there already")
        return [registered(one)]

    async def request() -> Receipt[int]:
        first_time = True

        async def read() -> Reading[int]:
            nonlocal first_time
            reading = await ledger.reading(one)()
            if first_time:
                first_time = False
                await both_have_read.wait()
            return reading

        return await execute(ledger.appender, ledger.pool, envelope(command_id=key, request_mac="a1"), read, decide)

    receipts = await asyncio.gather(request(), request())
    assert [receipt.position for receipt in receipts] == [1, 1]
    assert sorted(receipt.repeated for receipt in receipts) == [False, True]
    assert await ledger.events() == 1


async def test_a_request_that_comes_between_the_lookup_of_another_and_its_decision_is_found(ledger: Ledger) -> None:
    """The reading that already shows what the first request did must not be decided on as if it were somebody else's."""
    one, key = uuid4(), uuid4()

    def decide(version: int, _: datetime) -> Sequence[Event]:
        if version:
            raise Refused("it is there already")
        return [registered(one)]

    async def request(read: Callable[[], Awaitable[Reading[int]]]) -> Receipt[int]:
        return await execute(ledger.appender, ledger.pool, envelope(command_id=key, request_mac="a1"), read, decide)

    async def read_after_the_other() -> Reading[int]:
        await request(ledger.reading(one))
        return await ledger.reading(one)()

    assert (await request(read_after_the_other)).repeated


async def test_without_a_key_the_same_request_again_is_another_command(ledger: Ledger) -> None:
    one = uuid4()
    for position in (1, 2):
        receipt = await execute(ledger.appender, ledger.pool, envelope(), ledger.reading(one), lambda *_: [registered(one)])
        assert receipt.position == position


async def test_a_command_whose_answer_was_lost_is_not_taken_for_a_repeat(ledger: Ledger) -> None:
    """Sent again by the appender it is done already; the caller still gets its own decision, with the state behind it."""
    one, asked = uuid4(), envelope()

    async def recorded_meanwhile() -> Reading[int]:
        reading = await ledger.reading(one)()
        await ledger.appender.append(Command(asked, reading.versions, [registered(one)]))
        return reading

    receipt = await execute(ledger.appender, ledger.pool, asked, recorded_meanwhile, lambda *_: [registered(one)])
    assert (receipt.position, receipt.state, receipt.repeated) == (1, 0, False)
    assert await ledger.events() == 1
