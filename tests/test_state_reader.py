"""The readings of commands that share a statement: each is what a reading of its own would have been, and none is too old."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from ledger.appender import Appender, Overloaded
from ledger.database import make_pool
from ledger.errors import TryAgain
from ledger.events import Event
from ledger.execute import Pool
from projections.reading import Keys, read_state
from projections.sealed_keys import store_sealed_key
from projections.state_reader import StateReader
from tests.builders import EXAMPLES, command, subject_registered
from tests.conftest import Database
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(any_database: Database) -> AsyncIterator[Pool]:
    async with make_pool(any_database.service, max_size=4, wait_seconds=5) as pool:
        yield pool


async def record(appender: Appender, events: Sequence[Event]) -> None:
    outcome = await appender.append(command(*events))
    assert outcome.outcome == "recorded"


async def ids_by_kind(pool: Pool) -> dict[str, list[UUID]]:
    """Every id there is in each view, by the name of its keys."""
    queries = {
        "tokens": "SELECT DISTINCT token_id FROM views.tokens",
        "families": "SELECT DISTINCT family_id FROM views.families",
        "subjects": "SELECT DISTINCT subject_id FROM views.subjects",
        "rules_of_subjects": "SELECT DISTINCT subject_id FROM views.subject_rules",
        "names": "SELECT DISTINCT name_id FROM views.names",
        "clients": "SELECT DISTINCT client_id FROM views.clients",
        "apis": "SELECT DISTINCT api_id FROM views.apis",
        "roles": "SELECT DISTINCT role_id FROM views.roles",
        "keys": "SELECT DISTINCT key_id FROM views.keys",
        "lockouts": "SELECT DISTINCT lockout_id FROM views.lockouts",
        "sealed_keys": "SELECT key_id FROM ledger.sealed_keys",
    }
    found = {}
    async with pool.connection() as connection:
        for name, query in queries.items():
            found[name] = [row[0] for row in await (await connection.execute(query.encode())).fetchall()]
    return found


async def test_each_reading_is_what_a_reading_of_its_own_would_have_been(pool: Pool, appender: Appender) -> None:
    await record(appender, EXAMPLES)
    for sealed in (b"one", b"another"):
        await store_sealed_key(pool, uuid4(), "subject", sealed)
    known = await ids_by_kind(pool)
    assert all(known.values())
    async with pool.connection() as connection:
        rules = await (await connection.execute("SELECT role_id, rule_id FROM views.role_rules")).fetchall()
    chosen = random.Random(7)

    def some(ids: list[UUID]) -> list[UUID]:
        return [one for one in [*ids, uuid4()] if chosen.random() < 0.5]

    asked = [
        replace(
            Keys(**{name: some(ids) for name, ids in known.items()}),  # type: ignore[arg-type] # none of them is a bool
            rules=[(role_id, rule_id) for role_id, rule_id in rules if chosen.random() < 0.5],
            administrators=chosen.random() < 0.5,
            other_streams=some([]),
        )
        for _ in range(40)
    ]
    reader = StateReader(pool)
    together = await asyncio.gather(*(reader.read(keys) for keys in asked))
    assert reader.statements == 1
    for keys, reading in zip(asked, together, strict=True):
        alone = await read_state(pool, keys)
        assert replace(reading, instant=alone.instant) == alone
    assert {each.name for each in fields(Keys)} == {*known, "rules", "administrators", "every_key", "other_streams"}


async def test_whoever_comes_while_a_statement_is_under_way_is_read_for_after_it(
    socket_folder: Path, any_database: Database, appender: Appender
) -> None:
    """The database has answered the first, the service has not received it: what is recorded now, the second reads."""
    proxy = Proxy(socket_folder, any_database.service)
    await proxy.open()
    event = subject_registered()
    keys = Keys(subjects=[event.subject_id])
    async with make_pool(proxy.conninfo, max_size=1, wait_seconds=5) as pool:
        reader = StateReader(pool)
        await reader.read(keys)  # connected and prepared
        proxy.hold(1)
        first = asyncio.create_task(reader.read(keys))
        await proxy.until_held(1)
        await record(appender, [event])
        second = asyncio.create_task(reader.read(keys))
        await asyncio.sleep(0)
        await proxy.release()
        assert (await first).state.subjects == {}
        assert [*(await second).state.subjects] == [event.subject_id]
        assert reader.statements == 3
    await proxy.close()


async def test_a_cancelled_reading_cancels_no_other(pool: Pool, appender: Appender) -> None:
    event = subject_registered()
    await record(appender, [event])
    reader = StateReader(pool)
    keys = Keys(subjects=[event.subject_id])
    tasks = [asyncio.create_task(reader.read(keys)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [r.state.subjects.keys() for r in (results[0], results[2]) if not isinstance(r, BaseException)] == [
        {event.subject_id}
    ] * 2


async def test_a_statement_that_fails_fails_its_own_and_the_next_goes_well(any_database: Database) -> None:
    async with make_pool(any_database.service, max_size=1, wait_seconds=5) as pool:
        reader = StateReader(pool)
        await reader.read(Keys())
        with psycopg.connect(any_database.owner, autocommit=True) as superuser:
            superuser.execute("ALTER TABLE views.subjects RENAME TO gone")
            results = await asyncio.gather(reader.read(Keys()), reader.read(Keys()), return_exceptions=True)
            superuser.execute("ALTER TABLE views.gone RENAME TO subjects")
        assert [type(result) for result in results] == [psycopg.errors.UndefinedTable] * 2
        assert (await reader.read(Keys())).position == 0


async def test_no_more_wait_than_may(pool: Pool) -> None:
    reader = StateReader(pool, max_waiting=2)
    waiting = [asyncio.create_task(reader.read(Keys())) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(result, Overloaded) and isinstance(result, TryAgain) for result in results] == [False, False, True]
