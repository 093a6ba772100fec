"""Budgets of password attempts: what is taken, what is given back, and that strangers lock nobody out."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest

from ledger.database import make_pool
from ledger.execute import Pool
from ledger.guessing import (
    BUDGETS,
    EVENTS,
    FAMILIAR_BURST,
    FAMILIAR_FOR,
    MOST_FAMILIAR,
    Attempt,
    TooManyAttempts,
    attempt_of,
    network_of,
    user_throttle_id,
)
from ledger.sealing import MasterKey
from projections.throttles import Taken, remember_network, return_attempt, take_attempt, trim_throttles, unlock
from tests.conftest import Clock, Database

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
MASTER = MasterKey(bytes(range(32)))
EVENTS_ID = uuid4()
ANN, BOB = uuid4(), uuid4()
HOME = "192.0.2.1/32"

# As whoever takes from a counter holds it, and who waits for one.
ROW = "SELECT FROM ledger.throttles t WHERE t.throttle_id = %s FOR UPDATE"
WAITING = "SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'"

Answer = TypeVar("Answer")


@pytest.fixture
def stopped(clock: Clock) -> Clock:
    clock.set(NOON)
    return clock


def run(database: Database, work: Callable[[Pool], Awaitable[Answer]]) -> Answer:
    """Work over a pool of the service."""

    async def worked() -> Answer:
        async with make_pool(database.service, max_size=8, wait_seconds=5) as pool:
            return await work(pool)

    return asyncio.run(worked())


def attempt(name_id: UUID = ANN, network: str = HOME) -> Attempt:
    return attempt_of(MASTER, name_id, network)


async def taken(pool: Pool, wanted: Attempt) -> bool:
    """Take an attempt and say whether it may go ahead."""
    return not (await take_attempt(pool, wanted, EVENTS_ID)).wait


async def allowed(pool: Pool, wanted: list[Attempt]) -> int:
    """Take attempts one after another and answer how many may go ahead."""
    return sum([await taken(pool, one) for one in wanted])


def test_a_user_from_one_network_has_five_attempts_and_one_more_a_minute(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        assert await allowed(pool, [attempt()] * 8) == BUDGETS["pair"].burst == 5
        stopped.advance(59)
        refused = await take_attempt(pool, attempt(), EVENTS_ID)
        assert refused.wait == timedelta(seconds=1)
        stopped.advance(1)
        assert await allowed(pool, [attempt()] * 2) == 1
        stopped.advance(3600)
        assert await allowed(pool, [attempt()] * 8) == 5

    run(database, work)


def test_a_network_has_a_budget_over_all_users(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        assert await allowed(pool, [attempt(uuid4()) for _ in range(30)]) == BUDGETS["network"].burst
        assert await taken(pool, attempt(uuid4(), "192.0.2.2/32"))

    run(database, work)


def test_a_user_has_a_budget_over_all_strange_networks(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        botnet = [attempt(ANN, f"198.51.{n // 256}.{n % 256}/32") for n in range(300)]
        assert await allowed(pool, botnet) == BUDGETS["user"].burst
        assert await taken(pool, attempt(BOB, "198.51.0.1/32"))

    run(database, work)


def test_what_is_refused_takes_from_no_budget(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await allowed(pool, [attempt()] * 100)
        assert await allowed(pool, [attempt(uuid4()) for _ in range(30)]) == BUDGETS["network"].burst - BUDGETS["pair"].burst

    run(database, work)


def test_a_familiar_network_has_a_budget_that_strangers_cannot_spend(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt())
        await allowed(pool, [attempt(ANN, f"198.51.0.{n}/32") for n in range(200)])  # the user's budget
        await allowed(pool, [attempt(uuid4()) for _ in range(30)])  # and the network's
        assert await allowed(pool, [attempt()] * 20) == FAMILIAR_BURST
        stopped.advance(FAMILIAR_FOR.total_seconds())
        assert await allowed(pool, [attempt()] * 20) == BUDGETS["pair"].burst

    run(database, work)


def test_what_is_given_back_is_what_was_taken_and_no_more(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt())
        await allowed(pool, [attempt(uuid4()) for _ in range(30)])
        for _ in range(50):  # right passwords from a familiar network, which took nothing from the network's budget
            right = await take_attempt(pool, attempt(), EVENTS_ID)
            assert not right.wait
            await return_attempt(pool, attempt(), right)
        assert await allowed(pool, [attempt(uuid4())]) == 0
        assert await allowed(pool, [attempt()] * 20) == FAMILIAR_BURST

    run(database, work)


def test_attempts_at_once_take_no_more_than_the_budget(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        answers = await asyncio.gather(*(taken(pool, attempt()) for _ in range(40)))
        assert sum(answers) == BUDGETS["pair"].burst

    run(database, work)


def test_a_lock_out_is_told_once_until_the_budget_was_whole(database: Database, stopped: Clock) -> None:
    async def locked(pool: Pool) -> list[str]:
        answers: list[Taken] = [await take_attempt(pool, attempt(), EVENTS_ID) for _ in range(8)]
        return [kind for answer in answers for kind, _ in answer.locked]

    async def work(pool: Pool) -> None:
        assert await locked(pool) == ["pair"]
        assert await locked(pool) == []
        stopped.advance(60)
        assert await locked(pool) == []
        stopped.advance(3600)
        assert await locked(pool) == ["pair"]

    run(database, work)


def test_lock_outs_are_told_no_more_often_than_sixty_a_minute(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        told = 0
        for n in range(100):
            for _ in range(BUDGETS["pair"].burst + 1):
                told += len((await take_attempt(pool, attempt(uuid4(), f"10.0.{n}.0/32"), EVENTS_ID)).locked)
            for _ in range(BUDGETS["network"].burst):
                told += len((await take_attempt(pool, attempt(uuid4(), f"10.0.{n}.0/32"), EVENTS_ID)).locked)
        assert told == EVENTS.burst
        for n in range(60):
            name_id = uuid4()
            for _ in range(BUDGETS["pair"].burst + 1):
                told += len((await take_attempt(pool, attempt(name_id, f"10.1.{n}.0/32"), EVENTS_ID)).locked)
            stopped.advance(1)
        assert EVENTS.burst < told <= 60

    run(database, work)


def test_an_unlocked_user_can_try_from_everywhere_and_stays_familiar(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt())
        await allowed(pool, [attempt()] * 20)
        await allowed(pool, [attempt(ANN, f"198.51.0.{n}/32") for n in range(100)])
        await unlock(pool, user_throttle_id(MASTER, ANN))
        assert await allowed(pool, [attempt()] * 20) == FAMILIAR_BURST
        assert await taken(pool, attempt(ANN, "203.0.113.1/32"))

    run(database, work)


def test_the_table_is_bounded_and_the_most_spent_are_kept(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt())
        await allowed(pool, [attempt()] * 20)
        await allowed(pool, [attempt(BOB, f"198.51.0.{n}/32") for n in range(20)])
        async with pool.connection() as connection:
            await connection.execute("SELECT ledger.trim_throttles(2)")
        assert await allowed(pool, [attempt()] * 20) == 0

    run(database, work)
    with psycopg.connect(database.service) as connection:
        rows = connection.execute("SELECT kind FROM ledger.throttles ORDER BY spent_until").fetchall()
        assert ("familiar",) in rows
        assert len(rows) <= 4


def test_a_flood_of_one_kind_pushes_out_no_other(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt())
        await allowed(pool, [attempt(uuid4()) for _ in range(BUDGETS["network"].burst)])  # a network that is spent
        told = [await take_attempt(pool, attempt(BOB, "198.51.0.1/32"), EVENTS_ID) for _ in range(8)]
        assert any(answer.locked for answer in told)
        async with pool.connection() as connection:
            await connection.execute("SELECT ledger.trim_throttles(2)")
        assert await allowed(pool, [attempt(uuid4())]) == 0

    run(database, work)
    with psycopg.connect(database.service) as connection:
        kinds = connection.execute("SELECT t.kind, count(*) FROM ledger.throttles t GROUP BY t.kind").fetchall()
    # Of `user` all are equally spent, but for one.
    assert dict(kinds) == {"pair": 1, "network": 2, "user": 1, "familiar": 1, "events": 1}


def test_one_user_makes_no_more_networks_familiar_than_a_person_has(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await remember_network(pool, attempt(BOB))
        for n in range(MOST_FAMILIAR + 20):
            await remember_network(pool, attempt(ANN, f"198.51.{n // 256}.{n % 256}/32"))
            stopped.advance(1)
        await allowed(pool, [attempt(ANN, f"203.0.113.{n}/32") for n in range(100)])  # the user's budget
        assert not await taken(pool, attempt(ANN, "198.51.0.0/32"))
        assert await taken(pool, attempt(ANN, "198.51.0.20/32"))
        assert await allowed(pool, [attempt(BOB)] * 20) == FAMILIAR_BURST

    run(database, work)


@pytest.mark.parametrize("statement", ["return", "unlock"])
def test_counters_are_locked_in_one_order(database: Database, stopped: Clock, statement: str) -> None:
    """Whoever waits for the first counter holds no other: two that take and give back at once never wait for each other."""
    # Of these ids the user's comes first and is named last; then one that comes before it, and is younger.
    wanted = next(a for a in (attempt(uuid4(), HOME) for _ in range(1_000)) if a.user < a.network < a.pair)

    async def work(pool: Pool) -> None:
        given = await take_attempt(pool, wanted, EVENTS_ID)
        first, last = wanted.user, wanted.pair
        if statement == "unlock":
            younger = next(a for a in (replace(wanted, pair=uuid4()) for _ in range(1_000)) if a.pair < wanted.user)
            await take_attempt(pool, younger, EVENTS_ID)
            await return_attempt(pool, younger, Taken(timedelta(0), [younger.pair], []))
            first, last = younger.pair, wanted.user
        async with await psycopg.AsyncConnection.connect(database.ledger_owner) as other:
            await other.execute("SET LOCAL lock_timeout = '2s'")
            await other.execute(ROW, (first,))
            giving = asyncio.ensure_future(
                return_attempt(pool, wanted, given) if statement == "return" else unlock(pool, wanted.user)
            )
            async with pool.connection() as watching:
                while await (await watching.execute(WAITING)).fetchone() is None:
                    assert not giving.done()
                    await asyncio.sleep(0.01)
            await other.execute(ROW, (last,))
            await other.rollback()
        await giving

    run(database, work)


def test_trimming_waits_for_nobody(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await allowed(pool, [attempt(), attempt(BOB, "192.0.2.9/32")])
        stopped.advance(3600)
        async with await psycopg.AsyncConnection.connect(database.ledger_owner) as other:
            await other.execute(ROW, (attempt().pair,))
            await asyncio.wait_for(trim_throttles(pool), 5)
            row = await (await other.execute("SELECT array_agg(t.throttle_id) FROM ledger.throttles t")).fetchone()
            assert row == ([attempt().pair],)

    run(database, work)


def test_what_says_nothing_any_more_goes(database: Database, stopped: Clock) -> None:
    async def work(pool: Pool) -> None:
        await allowed(pool, [attempt()] * 20)
        stopped.advance(FAMILIAR_FOR.total_seconds())
        await trim_throttles(pool)

    run(database, work)
    with psycopg.connect(database.service) as connection:
        assert connection.execute("SELECT count(*) FROM ledger.throttles").fetchone() == (0,)


def test_ids_tell_neither_name_nor_network_and_differ_under_another_master_key() -> None:
    other = attempt_of(MasterKey(bytes(range(1, 33))), ANN, HOME)
    assert not {*attempt().ids, attempt().familiar} & {*other.ids, other.familiar}
    assert len({*attempt().ids, attempt().familiar, *attempt(BOB).ids[:1], *attempt(BOB).ids[2:]}) == 6


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("192.0.2.7:80", ""),
        ("unknown", ""),
        ("192.0.2.007", ""),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1, 1), (1000, 1), (1001, 2), (60_000, 60)])
def test_whole_seconds_to_wait_are_never_too_few(milliseconds: int, seconds: int) -> None:
    assert TooManyAttempts(timedelta(milliseconds=milliseconds)).retry_after_seconds == seconds
