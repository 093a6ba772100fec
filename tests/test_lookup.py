"""The shared lookup: who waits for whom, what one bad connection does to others, and that no answer is older than its question.

Answers are held on the wire by a proxy: the database has given them, the service has not received them. A lookup that begins
meanwhile must not be served with one of those.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ledger.appender import Appender
from ledger.database import connect
from ledger.events import TokenIssued, TokenRevoked
from ledger.states import TokenState
from projections.lookup import Found, Lookup, LookupFailed, LookupOverloaded, look_up
from tests.builders import NOON, command, subject_registered, token_issued
from tests.conftest import Database
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio

KEYS = [UUID(int=number) for number in range(1, 2_000)]


@pytest.fixture
async def proxy(socket_folder: Path, database: Database) -> AsyncIterator[Proxy]:
    proxy = Proxy(socket_folder, database.service)
    await proxy.open()
    yield proxy
    await proxy.close()


@contextlib.asynccontextmanager
async def started(conninfo: str, kind: type[Lookup] = Lookup, *, warm: bool = True, **options: Any) -> AsyncIterator[Lookup]:
    """Run a lookup; when warm its connections are made and the statement prepared: a query is one message, its answer one."""
    lookup = kind(conninfo, **options)
    await lookup.start()
    if warm:
        await asyncio.gather(*await ask(lookup, uuid4()), *await ask(lookup, uuid4()))
        lookup.queries = lookup.keys = 0
    try:
        yield lookup
    finally:
        await lookup.stop()


@contextlib.asynccontextmanager
async def appending(database: Database) -> AsyncIterator[Appender]:
    appender = Appender(database.service)
    await appender.start()
    try:
        yield appender
    finally:
        await appender.stop()


async def ask(lookup: Lookup, *keys: UUID) -> list[asyncio.Task[Found]]:
    """Begin lookups, in their order, as callers of their own."""
    callers = [asyncio.create_task(lookup.find(key)) for key in keys]
    await asyncio.sleep(0)
    return callers


async def service_backends(database: Database) -> set[int]:
    """Answer the pids of the service's connections."""
    async with await AsyncConnection.connect(database.owner, autocommit=True) as connection:
        rows = await connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'ledger_service' AND datname = current_database()"
        )
        return {pid for (pid,) in await rows.fetchall()}


async def kill(database: Database, pids: set[int]) -> None:
    async with await AsyncConnection.connect(database.owner, autocommit=True) as connection:
        await connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS p(pid)", (list(pids),))


async def until(happened: Callable[[], Any]) -> None:
    """Wait for what other tasks do; the test's own time limit is the end of it."""
    async with asyncio.timeout(10):
        while not await happened():  # noqa: ASYNC110 - another process's doing: there is no event to wait for
            await asyncio.sleep(0.01)


def revoked(issued: TokenIssued) -> TokenRevoked:
    """Revoke the one token of an issue."""
    token_id = issued.tokens[0].token_id
    state = TokenState(token_id=token_id, status="revoked", status_reason="test", status_until=None)
    return TokenRevoked(
        family_id=issued.family_id,
        subject_id=issued.subject_id,
        client_id=issued.client_id,
        token_id=token_id,
        token_state=state,
    )


# ---------------------------------------------------------------------------------------------------------- what is answered


async def test_each_key_is_answered_with_its_own_token_in_the_order_asked(any_database: Database) -> None:
    issues = [token_issued() for _ in range(3)]
    async with appending(any_database) as appender, started(any_database.service) as lookup:
        await appender.append(command(*issues))
        wanted = [issue.tokens[0].token_id for issue in issues]
        unknown = uuid4()
        found = await asyncio.gather(*await ask(lookup, wanted[2], unknown, wanted[0], wanted[2], wanted[1]))
    assert [answer.token.token_id if answer.token else None for answer in found] == [
        wanted[2],
        None,
        wanted[0],
        wanted[2],
        wanted[1],
    ]
    assert {answer.position for answer in found} == {3}


async def test_asked_for_a_position_of_the_past_it_answers_what_stood_then(any_database: Database) -> None:
    issued = token_issued()
    token_id = issued.tokens[0].token_id
    async with appending(any_database) as appender:
        await appender.append(command(subject_registered()))
        await appender.append(command(issued))
        await appender.append(command(revoked(issued), reads={issued.stream: 1}))
    async with await connect(any_database.service) as connection:

        async def at(position: int | None) -> Found:
            (found,) = await look_up(connection.cursor(), [token_id], position=position, instant=NOON)
            return found

        before, standing, after, now = await at(1), await at(2), await at(3), await at(None)
    assert before.token is None
    assert standing.token is not None
    assert standing.token.token_status is None
    assert after.token is not None
    assert (after.token.token_status, after.token.token_status_position) == ("revoked", 3)
    assert now == after._replace(position=3)
    assert [found.instant for found in (before, standing, after, now)] == [NOON] * 4


async def test_the_instant_is_the_database_clock_and_the_position_its_head(database: Database, clock: Any) -> None:
    clock.set(NOON)
    async with appending(database) as appender, started(database.service) as lookup:
        assert (await lookup.find(uuid4())).position == 0
        await appender.append(command())
        clock.advance(90)
        found = await lookup.find(uuid4())
    assert (found.position, found.instant) == (1, NOON + timedelta(seconds=90))


# --------------------------------------------------------------------------------------------------------------- coalescing


async def test_lookups_that_arrive_while_queries_are_under_way_share_the_next_one(proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1) as lookup:
        proxy.hold(1)
        first = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        others = await ask(lookup, *KEYS[1:31])
        await proxy.release()
        await asyncio.gather(*first, *others)
        assert (lookup.queries, lookup.keys) == (2, 31)


async def test_a_query_takes_no_more_than_64_keys(proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1) as lookup:
        proxy.hold(1)
        first = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        others = await ask(lookup, *KEYS[1:131])
        await proxy.release()
        await asyncio.gather(*first, *others)
        assert (lookup.queries, lookup.keys) == (4, 131)  # 1, 64, 64, 2


async def test_two_queries_are_under_way_at_once_and_no_third(proxy: Proxy) -> None:
    async with started(proxy.conninfo) as lookup:
        proxy.hold()
        callers = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        callers += await ask(lookup, KEYS[1])
        await proxy.until_held(2)
        callers += await ask(lookup, *KEYS[2:10])
        await asyncio.sleep(0.05)
        assert not any(caller.done() for caller in callers)
        assert proxy.connections == 2
        await proxy.release()
        await asyncio.gather(*callers)
        assert (lookup.queries, lookup.keys) == (3, 10)


async def test_a_second_query_is_sent_beside_a_prompt_one_only_when_a_whole_batch_waits(proxy: Proxy) -> None:
    async with started(proxy.conninfo, patience_seconds=30, answer_seconds=30) as lookup:
        proxy.hold()
        callers = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        callers += await ask(lookup, *KEYS[1:64])
        await asyncio.sleep(0.05)
        assert proxy.held == 1
        callers += await ask(lookup, KEYS[64])
        await proxy.until_held(2)
        await proxy.release()
        await asyncio.gather(*callers)
        assert (lookup.queries, lookup.keys) == (2, 65)


async def test_while_one_query_is_held_up_the_other_connection_answers_everybody_else(proxy: Proxy) -> None:
    async with started(proxy.conninfo, answer_seconds=30) as lookup:
        proxy.hold(1)
        held = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        for key in KEYS[1:20]:
            await asyncio.wait_for(lookup.find(key), 5)
        assert not held[0].done()
        await proxy.release()
        await held[0]


async def test_many_concurrent_decisions_need_far_fewer_queries(database: Database) -> None:
    async with started(database.service) as lookup:

        async def decide_often(name: int) -> None:
            for number in range(20):
                await lookup.find(UUID(int=name << 64 | number))

        await asyncio.gather(*[decide_often(name) for name in range(64)])
        assert lookup.keys == 1_280
        assert lookup.queries <= lookup.keys / 8


async def test_a_query_waits_a_moment_for_as_many_as_the_one_before_had(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.gathering.MOST_SECONDS", 30.0)
    async with started(database.service, warm=False) as lookup, asyncio.timeout(10):
        await asyncio.gather(*await ask(lookup, *KEYS[:3]))
        assert lookup.queries == 1
        two = await ask(lookup, *KEYS[:2])
        await asyncio.sleep(0.1)
        assert not any(caller.done() for caller in two)
        await asyncio.gather(*two, *await ask(lookup, KEYS[2]))
        assert (lookup.queries, lookup.keys) == (2, 6)


async def test_a_lookup_alone_is_sent_at_once(database: Database) -> None:
    async with started(database.service) as lookup:
        for key in KEYS[:10]:
            await lookup.find(key)
        assert (lookup.queries, lookup.keys) == (10, 10)


# ---------------------------------------------------------------------------------------- no answer is older than its question


class JoinsWhatWasSent(Lookup):
    """The bug that must be caught: a lookup of a token that is being looked up shares that query."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__(conninfo, **options)
        self._under_way: dict[UUID, asyncio.Task[Found]] = {}

    async def find(self, token_id: UUID) -> Found:
        under_way = self._under_way.get(token_id)
        if under_way is None:
            under_way = self._under_way[token_id] = asyncio.create_task(super().find(token_id))
            under_way.add_done_callback(lambda _: self._under_way.pop(token_id, None))
        return await asyncio.shield(under_way)


class JoinsAFullBatch(Lookup):
    """The same one layer below: who comes while a query is under way is answered with what it brings."""

    async def _answer(self, batch: Any, connection: Any) -> Any:
        connection = await super()._answer(batch, connection)
        last = batch[-1].found
        while self._waiting and last.done() and last.exception() is None:
            waiting = self._waiting.popleft()
            if not waiting.found.done():
                waiting.found.set_result(last.result())
        return connection


async def revoke_while_a_query_is_held(database: Database, proxy: Proxy, kind: type[Lookup]) -> None:
    """Fail unless a revocation that was acknowledged while queries are on the wire is seen by all lookups that begin then."""
    issued = token_issued()
    token_id = issued.tokens[0].token_id
    async with appending(database) as appender, started(proxy.conninfo, kind, answer_seconds=30) as lookup:
        await appender.append(command(issued))
        proxy.hold()
        before = await ask(lookup, token_id)
        await proxy.until_held(1)
        before += await ask(lookup, token_id)
        if kind is not JoinsWhatWasSent:
            await proxy.until_held(2)
        acknowledged = await appender.append(command(revoked(issued), reads={issued.stream: 1}, urgent=True))
        after = await ask(lookup, *[token_id] * 10)
        await proxy.release()
        await asyncio.gather(*before)
        for found in await asyncio.gather(*after):
            assert found.position >= (acknowledged.last_position or 0)
            assert found.token is not None
            assert found.token.token_status == "revoked"


async def test_a_revocation_acknowledged_while_queries_are_on_the_wire_is_seen_by_every_later_lookup(
    database: Database, proxy: Proxy
) -> None:
    await revoke_while_a_query_is_held(database, proxy, Lookup)


@pytest.mark.parametrize("bug", [JoinsWhatWasSent, JoinsAFullBatch])
async def test_that_test_catches_a_lookup_that_joins_a_query_already_sent(
    database: Database, proxy: Proxy, bug: type[Lookup]
) -> None:
    with pytest.raises(AssertionError):
        await revoke_while_a_query_is_held(database, proxy, bug)


async def revoke_under_load(database: Database, proxy: Proxy, kind: type[Lookup]) -> None:
    """Fail unless no lookup that begins after a revocation was acknowledged says anything else, with many under way.

    The wire is slow, so that revocations are acknowledged while answers are on it.
    """
    issues = [token_issued() for _ in range(100)]
    acknowledged: dict[UUID, int] = {}
    done = asyncio.Event()
    proxy.delay_seconds = 0.006
    async with appending(database) as appender, started(proxy.conninfo, kind) as lookup:
        await appender.append(command(*issues))

        async def look() -> None:
            draw = random.Random(id(asyncio.current_task()))
            while not done.is_set():
                await asyncio.sleep(draw.random() * 0.004)  # or all would begin together, each time a batch is answered
                revoking = len(acknowledged)
                token_id = draw.choice(issues[max(0, revoking - 2) : revoking + 2]).tokens[0].token_id
                at_least = acknowledged.get(token_id)
                found = await lookup.find(token_id)
                assert found.token is not None
                if at_least is not None:
                    assert found.position >= at_least
                    assert found.token.token_status == "revoked"

        async def revoke() -> None:
            for issued in issues:
                outcome = await appender.append(command(revoked(issued), reads={issued.stream: 1}, urgent=True))
                acknowledged[issued.tokens[0].token_id] = outcome.last_position or 0
                await asyncio.sleep(0)

        lookers = [asyncio.create_task(look()) for _ in range(50)]
        await revoke()
        done.set()
        await asyncio.gather(*lookers)


async def test_under_load_no_lookup_that_begins_after_a_revocation_misses_it(database: Database, proxy: Proxy) -> None:
    await revoke_under_load(database, proxy, Lookup)


async def test_that_test_under_load_catches_the_same_bug(database: Database, proxy: Proxy) -> None:
    with pytest.raises(AssertionError):
        await revoke_under_load(database, proxy, JoinsWhatWasSent)


# ------------------------------------------------------------------------------------------------------------------- callers


async def test_a_caller_that_is_cancelled_cancels_nobody_else(proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1) as lookup:
        proxy.hold(1)
        under_way = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        waiting = await ask(lookup, *KEYS[1:6])
        under_way[0].cancel()
        waiting[2].cancel()
        await asyncio.sleep(0)
        await proxy.release()
        others = [caller for number, caller in enumerate(waiting) if number != 2]
        assert len(await asyncio.gather(*others)) == 4
        assert under_way[0].cancelled()
        assert waiting[2].cancelled()
        assert (lookup.queries, lookup.keys) == (2, 5)  # nobody asks for the one who has gone


async def test_a_caller_cancelled_in_its_query_does_not_hold_the_others_of_it_up(proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1) as lookup:
        proxy.hold(1)
        first = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        callers = await ask(lookup, *KEYS[1:4])
        await proxy.release()
        await first[0]
        proxy.hold(1)
        await proxy.until_held(1)
        callers[1].cancel()
        await proxy.release()
        await asyncio.gather(callers[0], callers[2])


async def test_when_a_thousand_wait_the_next_is_refused_and_nobody_is_lost(proxy: Proxy) -> None:
    async with started(proxy.conninfo) as lookup:
        proxy.hold()
        callers = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        callers += await ask(lookup, KEYS[1])
        await proxy.until_held(2)
        callers += await ask(lookup, *KEYS[2:1_002])
        with pytest.raises(LookupOverloaded):
            await lookup.find(KEYS[1_002])
        await proxy.release()
        assert len(await asyncio.gather(*callers)) == 1_002
        await lookup.find(KEYS[1_002])


async def test_whoever_has_gone_leaves_his_place_to_others(proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1, max_waiting=3) as lookup:
        proxy.hold(1)
        callers = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        gone = await ask(lookup, *KEYS[1:4])
        for caller in gone:
            caller.cancel()
        await asyncio.sleep(0)
        callers += await ask(lookup, *KEYS[4:7])
        await proxy.release()
        await asyncio.gather(*callers)


# ---------------------------------------------------------------------------------------------- connections that fail or stall


async def test_a_query_without_an_answer_in_time_fails_its_own_waiters_and_its_connection_is_thrown_away(
    database: Database, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(proxy.conninfo, connections=1, answer_seconds=0.3) as lookup:
        (before,) = await service_backends(database)
        proxy.hold(1)
        late = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        next_ones = await ask(lookup, *KEYS[1:4])
        with pytest.raises(LookupFailed):
            await late[0]
        # Over a new connection, while the old answer is still on its way.
        for found in await asyncio.gather(*next_ones):
            assert found.token is None
        await proxy.release()

        async def gone() -> bool:
            return before not in await service_backends(database)

        await until(gone)
    assert "a lookup of 1 keys failed: no answer in time" in caplog.text


async def test_who_was_given_up_answers_nobody_more_though_the_cancelled_query_ends_in_an_error(database: Database) -> None:
    class Stuck(Lookup):
        stuck = False

        async def _query(self, cursor: Any, token_ids: list[UUID]) -> Any:
            if not self.stuck:
                return await super()._query(cursor, token_ids)
            self.stuck = False
            try:
                return await asyncio.Event().wait()
            except asyncio.CancelledError:
                await cursor.connection.close()
                # As psycopg may, where the database goes away while it is told to cancel.
                raise psycopg.OperationalError from None

    async with started(database.service, Stuck, connections=1, answer_seconds=0.05) as lookup:
        assert isinstance(lookup, Stuck)
        lookup.stuck = True
        with pytest.raises(LookupFailed):
            await lookup.find(KEYS[0])
        assert (await lookup.find(KEYS[1])).token is None
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert names.count("lookup-0") == 1


async def test_an_answer_that_comes_late_never_meets_another_question(database: Database, proxy: Proxy) -> None:
    issues = [token_issued() for _ in range(2)]
    one, other = (issue.tokens[0].token_id for issue in issues)
    async with appending(database) as appender:
        await appender.append(command(*issues))
    async with started(proxy.conninfo, connections=1, answer_seconds=0.2) as lookup:
        for _ in range(3):
            await lookup.find(other)
            proxy.hold(1)
            (late,) = await ask(lookup, one)
            await proxy.until_held(1)
            (next_one,) = await ask(lookup, other)
            with pytest.raises(LookupFailed):
                await late
            await proxy.release()
            found = await next_one
            assert found.token is not None
            assert found.token.token_id == other


async def test_a_killed_backend_fails_who_was_asking_it_and_nobody_after(database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1) as lookup:
        proxy.hold(1)
        (caller,) = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        waiting = await ask(lookup, *KEYS[1:5])
        await kill(database, await service_backends(database))
        await proxy.cut()  # what is held is the whole answer: it is not passed on
        with pytest.raises(LookupFailed):
            await caller
        assert len(await asyncio.gather(*waiting)) == 4


async def test_backends_killed_while_idle_cost_nobody_an_answer(database: Database) -> None:
    async with started(database.service) as lookup:
        before = await service_backends(database)
        await kill(database, before)

        async def gone() -> bool:
            return not before & await service_backends(database)

        await until(gone)
        assert len(await asyncio.gather(*await ask(lookup, *KEYS[:10]))) == 10


async def test_while_the_database_is_away_lookups_fail_at_once_and_when_it_is_back_they_answer(proxy: Proxy) -> None:
    async with started(proxy.conninfo) as lookup:
        await lookup.find(KEYS[0])
        await proxy.close()
        for key in KEYS[:6]:
            with pytest.raises(LookupFailed):
                await asyncio.wait_for(lookup.find(key), 0.5)
        await proxy.open()
        await lookup.find(KEYS[0])


async def test_a_database_that_accepts_and_never_answers_fails_lookups_in_time(socket_folder: Path) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await asyncio.sleep(30)

    conninfo = make_conninfo(host=str(socket_folder), port=5432, user="ledger_service", dbname="x", connect_timeout=1)
    server = await asyncio.start_unix_server(silent, socket_folder / ".s.PGSQL.5432")
    try:
        async with started(conninfo, warm=False, answer_seconds=0.2) as lookup:
            for key in KEYS[:3]:
                with pytest.raises(LookupFailed):
                    await asyncio.wait_for(lookup.find(key), 1)
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_it_begins_without_a_database_and_answers_once_there_is_one(proxy: Proxy) -> None:
    await proxy.close()
    async with started(proxy.conninfo, warm=False) as lookup:
        with pytest.raises(LookupFailed):
            await lookup.find(KEYS[0])
        await proxy.open()
        assert (await lookup.find(KEYS[0])).token is None


# ------------------------------------------------------------------------------------------------------------------- the end


async def test_stop_answers_what_waits_takes_nothing_new_and_closes_its_connections(database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo) as lookup:
        proxy.hold()
        callers = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        callers += await ask(lookup, KEYS[1])
        await proxy.until_held(2)
        callers += await ask(lookup, *KEYS[2:200])
        stopping = asyncio.create_task(lookup.stop())
        await asyncio.sleep(0)
        with pytest.raises(LookupOverloaded):
            await lookup.find(KEYS[200])
        assert not stopping.done()
        await proxy.release()
        await stopping
        assert len(await asyncio.gather(*callers)) == 200

    async def closed() -> bool:
        return not await service_backends(database)

    await until(closed)


async def test_stop_waits_for_connections_that_are_being_thrown_away(database: Database, proxy: Proxy) -> None:
    async with started(proxy.conninfo, connections=1, answer_seconds=0.1) as lookup:
        proxy.hold(1)
        (caller,) = await ask(lookup, KEYS[0])
        await proxy.until_held(1)
        with pytest.raises(LookupFailed):
            await caller
        stopping = asyncio.create_task(lookup.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        await proxy.release()
        await stopping

    async def closed() -> bool:
        return not await service_backends(database)

    await until(closed)


async def test_connections_made_for_queries_that_fail_are_closed(database: Database) -> None:
    async with (
        await AsyncConnection.connect(database.ledger_owner) as locking,
        started(database.service, connections=1, answer_seconds=0.2) as lookup,
    ):
        await locking.execute("LOCK TABLE views.tokens IN ACCESS EXCLUSIVE MODE")
        for key in KEYS[:4]:
            with pytest.raises(LookupFailed):
                await lookup.find(key)
        await locking.rollback()
        await lookup.find(KEYS[0])

        async def one() -> bool:
            return len(await service_backends(database)) == 1

        await until(one)
