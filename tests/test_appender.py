"""Group commit: who waits for whom, what one bad command does to others, and what a lost connection does to none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger.appender import Appender, CommandRefused, NotRecorded, OutcomeUnknown, Overloaded
from ledger.database import connect
from ledger.log import Actor, Command, Outcome
from tests.builders import command, subject_registered, token, token_issued
from tests.conftest import Database
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio


async def ask(database: Database, query: str) -> list[Any]:
    """Answer the rows of a query of the superuser; of one column, its values."""
    async with await AsyncConnection.connect(database.owner, autocommit=True) as connection:
        rows = await (await connection.execute(query.encode())).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


@contextlib.asynccontextmanager
async def the_turn_held(database: Database) -> AsyncIterator[None]:
    """Keep every append waiting for its turn."""
    async with await AsyncConnection.connect(database.ledger_owner) as connection:
        await connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
        yield


async def until_a_batch_waits(database: Database) -> None:
    """Return once an append waits for its turn: what comes now is for the next batch."""
    while True:
        if await ask(database, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'ledger.append_turn'::regclass"):
            return
        await asyncio.sleep(0.01)


async def send(appender: Appender, *commands: Command) -> list[asyncio.Task[Outcome]]:
    """Hand commands in, in their order, as callers of their own."""
    callers = [asyncio.create_task(appender.append(command)) for command in commands]
    await asyncio.sleep(0)
    return callers


async def batch_heads(database: Database) -> list[Any]:
    return await ask(database, "SELECT last_position FROM ledger.batches ORDER BY last_position")


@contextlib.asynccontextmanager
async def started(conninfo: str, **options: Any) -> AsyncIterator[Appender]:
    appender = Appender(conninfo, **options)
    await appender.start()
    try:
        yield appender
    finally:
        await appender.stop()


# ------------------------------------------------------------------------------------------------------------- group commit


async def test_commands_that_arrive_while_a_batch_is_under_way_form_one_next_batch(
    any_database: Database, appender: Appender
) -> None:
    async with the_turn_held(any_database):
        first = await send(appender, command())
        await until_a_batch_waits(any_database)
        others = await send(appender, *[command() for _ in range(30)])
    outcomes = await asyncio.gather(*first, *others)
    assert [outcome.last_position for outcome in outcomes] == list(range(1, 32))
    assert await batch_heads(any_database) == [1, 31]


async def test_a_batch_takes_no_more_commands_than_it_may(any_database: Database) -> None:
    async with started(any_database.service, max_batch_commands=4) as appender:
        async with the_turn_held(any_database):
            first = await send(appender, command())
            await until_a_batch_waits(any_database)
            others = await send(appender, *[command() for _ in range(10)])
        await asyncio.gather(*first, *others)
    assert await batch_heads(any_database) == [1, 5, 9, 11]


async def test_a_batch_takes_no_more_events_than_it_may(any_database: Database, appender: Appender) -> None:
    async with the_turn_held(any_database):
        first = await send(appender, command())
        await until_a_batch_waits(any_database)
        others = await send(appender, *[command(*[subject_registered() for _ in range(900)]) for _ in range(3)])
    await asyncio.gather(*first, *others)
    assert await batch_heads(any_database) == [1, 1801, 2701]


async def test_suspensions_and_revocations_go_before_others_that_wait(any_database: Database, appender: Appender) -> None:
    async with the_turn_held(any_database):
        first = await send(appender, command())
        await until_a_batch_waits(any_database)
        ordinary = await send(appender, *[command() for _ in range(5)])
        urgent = await send(appender, command(urgent=True), command(urgent=True))
    await asyncio.gather(*first, *ordinary)
    assert [(await caller).last_position for caller in urgent] == [2, 3]


async def test_a_batch_waits_a_moment_for_as_many_as_the_one_before_had_but_not_what_is_urgent(
    any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.gathering.MOST_SECONDS", 30.0)
    appender = Appender(any_database.service)
    await appender.start()
    async with asyncio.timeout(10):
        for _ in range(2):
            outcomes = await asyncio.gather(*(appender.append(command()) for _ in range(3)))
            assert len({outcome.recorded_at for outcome in outcomes}) == 1
        alone = asyncio.create_task(appender.append(command()))
        await asyncio.sleep(0.1)
        assert not alone.done()
        await appender.append(command(urgent=True))
        await alone
        await asyncio.gather(*(appender.append(command()) for _ in range(3)))
        last = asyncio.create_task(appender.append(command()))
        await asyncio.sleep(0.1)
        await appender.stop()
        assert (await last).outcome == "recorded"


async def test_a_conflict_is_the_answer_of_its_own_command_only(appender: Appender) -> None:
    taken = subject_registered()
    await appender.append(command(taken))
    outcomes = await asyncio.gather(*await send(appender, command(), command(taken), command()))
    assert [outcome.outcome for outcome in outcomes] == ["recorded", "conflict", "recorded"]


async def test_who_asked_for_it_is_told_the_newest_position(any_database: Database) -> None:
    told: list[int] = []
    async with started(any_database.service, on_recorded=told.append) as appender:
        await appender.append(command())
        taken = subject_registered()
        await appender.append(command(taken, taken))
        await appender.append(command(taken))
    assert told == [1, 3]


# ------------------------------------------------------------------------------------------------------------- bad commands


def token_twice() -> Command:
    """A command that the fold of tokens cannot take: one key twice at one position."""
    issued, row = token_issued(), token()
    return command(replace(issued, tokens=(row, row)))


POISON: dict[str, Callable[[], Command]] = {
    "a fold that raises": token_twice,
    "a NUL in a payload": lambda: command(token_issued(claims={"a": "\0"})),
    "a lone surrogate in a payload": lambda: command(token_issued(claims={"a": "\ud800"})),
    "a NUL in the envelope": lambda: command(actor=Actor("client", None, "\0")),
    "a lone surrogate in the envelope": lambda: command(actor=Actor("client", None, "\ud800")),
    "a number beyond a column": lambda: command(token_issued(generation=2**31)),
    "no event": lambda: Command(command().envelope, {}, ()),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_of_a_batch_with_one_bad_command_only_that_one_fails(
    any_database: Database, appender: Appender, poison: Callable[[], Command]
) -> None:
    async with the_turn_held(any_database):
        first = await send(appender, command())
        await until_a_batch_waits(any_database)
        before = await send(appender, *[command() for _ in range(3)])
        [bad] = await send(appender, poison())
        after = await send(appender, *[command() for _ in range(3)])
    outcomes = await asyncio.gather(*first, *before, *after)
    with pytest.raises(CommandRefused):
        await bad
    assert [outcome.last_position for outcome in outcomes] == list(range(1, 8))
    assert await ask(any_database, "SELECT count(*) FROM ledger.events") == [7]
    assert (await appender.append(command())).last_position == 8


async def test_a_refusal_quotes_nothing_of_the_payload(appender: Appender, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CommandRefused) as refused:
        await appender.append(command(token_issued(claims={"hunter2": "\0"})))
    assert refused.value.message == "the command could not be recorded (22P05)"
    assert "22P05" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_payload_of_megabytes_is_recorded_whole(any_database: Database, appender: Appender) -> None:
    await appender.append(command(token_issued(claims={"long": "ü" * 2_000_000})))
    assert await ask(any_database, "SELECT length(claims ->> 'long') FROM views.tokens") == [2_000_000]


# ---------------------------------------------------------------------------------------------------------- lost connections

SERVICE_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger_service' AND datname = current_database()"
)


@pytest.fixture
async def proxy(socket_folder: Path, any_database: Database) -> AsyncIterator[Proxy]:
    proxy = Proxy(socket_folder, any_database.service)
    await proxy.open()
    yield proxy
    await proxy.close()


async def test_an_idle_connection_that_was_lost_is_made_anew(any_database: Database, appender: Appender) -> None:
    await appender.append(command())
    assert await ask(any_database, SERVICE_BACKENDS) == [True]
    outcomes = await asyncio.gather(*await send(appender, command(), command()))
    assert [outcome.outcome for outcome in outcomes] == ["recorded", "recorded"]
    assert await ask(any_database, "SELECT position FROM ledger.events ORDER BY position") == [1, 2, 3]


async def test_a_batch_whose_backend_dies_before_its_commit_is_recorded_once(
    any_database: Database, appender: Appender
) -> None:
    async with the_turn_held(any_database):
        callers = await send(appender, command(), command())
        await until_a_batch_waits(any_database)
        assert await ask(any_database, SERVICE_BACKENDS) == [True]
    outcomes = await asyncio.gather(*callers)
    assert [(o.outcome, o.last_position) for o in outcomes] == [("recorded", 1), ("recorded", 2)]


async def test_a_batch_whose_answer_is_lost_after_its_commit_is_recorded_once(any_database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo) as appender:
        await asyncio.gather(*await send(appender, command(), command(), command()))  # the statement is prepared from here on
        proxy.lose_next_answer = True
        outcomes = await asyncio.gather(*await send(appender, command(), command(), command()))
    assert proxy.answers_lost == 1
    # Done, not recorded: the first answer was lost after its commit, and the second is about the same events.
    assert [(o.outcome, o.last_position) for o in outcomes] == [("done", 4), ("done", 5), ("done", 6)]
    assert all(outcome.recorded_at is not None for outcome in outcomes)
    assert await ask(any_database, "SELECT count(*), max(position) FROM ledger.events") == [(6, 6)]


async def test_the_outcome_is_unknown_when_the_database_stays_away(any_database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo, resend_seconds=0.3) as appender:
        await appender.append(command())
        await proxy.close()
        sent = await send(appender, command())
        await asyncio.sleep(0.05)
        waiting = await send(appender, command(), command(urgent=True))
        with pytest.raises(OutcomeUnknown):
            await sent[0]
        # These were never sent: nothing about them is unknown, and they wait no longer.
        for caller in waiting:
            with pytest.raises(NotRecorded):
                await asyncio.wait_for(caller, 0.1)
        await proxy.open()
        assert (await appender.append(command())).last_position == 2


async def test_commands_outlive_a_database_that_is_away_for_a_moment(any_database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo, resend_seconds=5) as appender:
        await appender.append(command())
        await proxy.close()
        callers = await send(appender, *[command() for _ in range(5)])
        await asyncio.sleep(0.2)
        await proxy.open()
        outcomes = await asyncio.gather(*callers)
    assert [outcome.last_position for outcome in outcomes] == [2, 3, 4, 5, 6]


async def test_a_turn_that_is_held_for_too_long_fails_the_whole_batch_at_once(any_database: Database) -> None:
    impatient = any_database.service.replace("statement_timeout=20000", "statement_timeout=300")
    assert impatient != any_database.service
    async with started(impatient) as appender:
        async with the_turn_held(any_database):
            callers = await send(appender, *[command() for _ in range(20)])
            results = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 1.5)
        assert {type(result) for result in results} == {NotRecorded}
        assert (await appender.append(command())).last_position == 1


async def test_a_batch_that_was_lost_once_and_then_held_up_has_an_unknown_outcome(any_database: Database) -> None:
    impatient = any_database.service.replace("statement_timeout=20000", "statement_timeout=300")
    async with started(impatient) as appender, the_turn_held(any_database):
        [caller] = await send(appender, command())
        await until_a_batch_waits(any_database)
        assert await ask(any_database, SERVICE_BACKENDS) == [True]
        with pytest.raises(OutcomeUnknown):
            await caller


async def test_it_begins_without_a_database_and_knows_that_nothing_was_recorded(any_database: Database, proxy: Proxy) -> None:
    await proxy.close()
    async with started(proxy.conninfo, resend_seconds=0.2) as appender:
        for caller in await send(appender, command(), command()):
            with pytest.raises(NotRecorded):
                await caller
        await proxy.open()
        assert (await appender.append(command())).last_position == 1


async def test_what_was_sent_before_the_database_went_away_has_an_unknown_outcome(any_database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo, resend_seconds=0.2) as appender, the_turn_held(any_database):
        [caller] = await send(appender, command())
        await until_a_batch_waits(any_database)
        await proxy.close()
        with pytest.raises(OutcomeUnknown):
            await caller


# ------------------------------------------------------------------------------------------------------- callers and the end


async def test_a_full_queue_refuses_and_loses_nothing(any_database: Database) -> None:
    async with started(any_database.service, max_waiting=3) as appender:
        async with the_turn_held(any_database):
            first = await send(appender, command())
            await until_a_batch_waits(any_database)
            waiting = await send(appender, *[command() for _ in range(3)])
            with pytest.raises(Overloaded):
                await appender.append(command())
            with pytest.raises(Overloaded):
                await appender.append(command(urgent=True))
        outcomes = await asyncio.gather(*first, *waiting)
        assert [outcome.last_position for outcome in outcomes] == [1, 2, 3, 4]
        assert (await appender.append(command())).last_position == 5


async def test_stop_finishes_what_waits_and_takes_nothing_new(any_database: Database) -> None:
    appender = Appender(any_database.service)
    await appender.start()
    async with the_turn_held(any_database):
        callers = await send(appender, command())
        await until_a_batch_waits(any_database)
        callers += await send(appender, *[command() for _ in range(5)])
        stopping = asyncio.create_task(appender.stop())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await appender.append(command())
    await stopping
    assert all(caller.done() for caller in callers)
    assert [(await caller).last_position for caller in callers] == [1, 2, 3, 4, 5, 6]
    open_connections = "SELECT FROM pg_stat_activity WHERE usename = 'ledger_service' AND datname = current_database()"
    async with asyncio.timeout(10):  # PostgreSQL takes a moment to see that one was closed
        while await ask(any_database, open_connections):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_caller_that_is_cancelled_cancels_nobody_else(any_database: Database, appender: Appender) -> None:
    gone = command()
    async with the_turn_held(any_database):
        under_way = await send(appender, command(), command())
        await until_a_batch_waits(any_database)
        waiting = await send(appender, command(), gone, command())
        under_way[0].cancel()
        waiting[1].cancel()
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(under_way[1], waiting[0], waiting[2])
    assert [outcome.last_position for outcome in outcomes] == [2, 3, 5]
    assert under_way[0].cancelled()
    # Cancelling takes nothing back: the same command id tells.
    assert (await appender.append(gone)).outcome == "done"


async def test_two_appenders_share_the_log(any_database: Database) -> None:
    async with started(any_database.service) as one, started(any_database.service) as other:
        outcomes = await asyncio.gather(*[appender.append(command()) for _ in range(50) for appender in (one, other)])
    assert sorted(outcome.last_position or 0 for outcome in outcomes) == list(range(1, 101))
    async with await connect(any_database.service) as connection:
        rows = await (await connection.execute("SELECT count(*), max(position) FROM views.tokens")).fetchall()
    assert rows == [(100, 100)]
