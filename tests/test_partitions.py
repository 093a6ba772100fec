"""Partitions of the log: made ahead, never by an append; a batch and a stream may lie across several."""

import asyncio
from typing import Any

import psycopg
import pytest

from ledger.database import connect
from ledger.log import Command, Outcome, append
from tests.builders import command, subject_registered, token_issued
from tests.conftest import Database
from tests.partitions import on_small_partitions

PARTITIONS = "SELECT from_position, to_position FROM ledger.partitions ORDER BY from_position"


def owner(database: Database, query: str, *parameters: object) -> list[Any]:
    with psycopg.connect(database.ledger_owner, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def begin_again(database: Database, *, size: int, ahead: int) -> None:
    on_small_partitions(database.ledger_owner, size=size, ahead=ahead)


def sent(database: Database, *batches: list[Command]) -> list[list[Outcome]]:
    async def send() -> list[list[Outcome]]:
        async with await connect(database.service) as connection:
            return [await append(connection, batch) for batch in batches]

    return asyncio.run(send())


def test_the_installed_log_has_room_for_the_next_three_million_positions(any_database: Database) -> None:
    edges = owner(any_database, PARTITIONS)
    assert edges[0][0] == 1
    assert edges[-1][1] > 3_000_000
    assert [to for _, to in edges[:-1]] == [from_ for from_, _ in edges[1:]]  # without a gap


def test_making_partitions_again_makes_none(any_database: Database) -> None:
    before = owner(any_database, PARTITIONS)
    with psycopg.connect(any_database.service, autocommit=True) as service:
        for _ in range(3):
            assert service.execute("SELECT ledger.make_partitions()").fetchone() == (0,)
    assert owner(any_database, PARTITIONS) == before


def test_where_nothing_is_to_be_made_nobody_waits_for_the_turn(any_database: Database) -> None:
    with (
        psycopg.connect(any_database.ledger_owner) as holder,
        psycopg.connect(any_database.service, autocommit=True) as service,
    ):
        holder.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
        service.execute("SET statement_timeout = '2s'")
        assert service.execute("SELECT ledger.make_partitions()").fetchone() == (0,)


def test_partitions_are_made_so_far_ahead_of_the_head_as_asked(any_database: Database) -> None:
    begin_again(any_database, size=10, ahead=25)
    assert owner(any_database, PARTITIONS) == [(1, 11), (11, 21), (21, 31)]
    sent(any_database, [command(*[subject_registered() for _ in range(7)])])
    assert owner(any_database, "SELECT ledger.make_partitions(10, 25)") == [(1,)]
    assert owner(any_database, PARTITIONS)[-1] == (31, 41)


def test_two_that_make_partitions_at_once_make_them_once(any_database: Database) -> None:
    begin_again(any_database, size=10, ahead=10)

    async def make() -> int:
        async with await connect(any_database.service) as connection:
            row = await (await connection.execute("SELECT ledger.make_partitions(10, 100)")).fetchone()
        assert row is not None
        made: int = row[0]
        return made

    async def race() -> list[int]:
        return await asyncio.gather(*[make() for _ in range(4)])

    assert sorted(asyncio.run(race())) == [0, 0, 0, 9]
    edges = owner(any_database, PARTITIONS)
    assert edges == [(from_, from_ + 10) for from_ in range(1, 101, 10)]


def test_a_batch_may_cross_from_one_partition_into_the_next(any_database: Database) -> None:
    begin_again(any_database, size=10, ahead=25)
    [outcomes] = sent(any_database, [command(*[token_issued() for _ in range(8)]) for _ in range(3)])
    assert [(o.first_position, o.last_position) for o in outcomes] == [(1, 8), (9, 16), (17, 24)]
    for table, count in (("events_from_1", 10), ("events_from_11", 10), ("events_from_21", 4)):
        assert owner(any_database, f"SELECT count(*) FROM ledger.{table}") == [(count,)]
    assert owner(any_database, "SELECT count(*) FROM views.tokens") == [(24,)]


def test_a_stream_goes_on_in_the_next_partition(any_database: Database) -> None:
    begin_again(any_database, size=5, ahead=20)
    subject = subject_registered()
    sent(any_database, *[[command(subject, token_issued(), reads={subject.stream: version})] for version in range(8)])
    assert owner(
        any_database, "SELECT position, version FROM views.history WHERE stream = %s ORDER BY position", subject.stream
    ) == [(2 * version - 1, version) for version in range(1, 9)]
    assert owner(
        any_database, "SELECT version, first_position, last_position FROM ledger.streams WHERE stream = %s", subject.stream
    ) == [(8, 1, 15)]
    [[stale]] = sent(any_database, [command(subject, reads={subject.stream: 3})])
    assert stale.outcome == "conflict"


def test_each_partition_refuses_a_version_twice_as_a_second_net(any_database: Database) -> None:
    subject = subject_registered()
    sent(any_database, [command(subject)])
    again = """
    INSERT INTO ledger.events SELECT position + 1, stream, version, type, schema_version, payload, metadata, recorded_at
    FROM ledger.events
    """
    with pytest.raises(psycopg.errors.UniqueViolation, match="stream_version"):
        owner(any_database, again)


@pytest.mark.parametrize("events", [1, 4], ids=["beyond the last", "from the last beyond it"])
def test_an_append_without_a_place_for_an_event_fails_and_records_nothing(any_database: Database, events: int) -> None:
    begin_again(any_database, size=5, ahead=1)
    room = 6 - events
    sent(any_database, [command(*[subject_registered() for _ in range(room)])])
    state = """
    SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.streams), (SELECT count(*) FROM ledger.commands),
      (SELECT count(*) FROM ledger.batches), (SELECT count(*) FROM views.subjects)
    """
    before = owner(any_database, state)
    late = command(*[subject_registered() for _ in range(events)])
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        sent(any_database, [late])
    assert owner(any_database, state) == before
    assert owner(any_database, "SELECT ledger.make_partitions(5, 5)")[0][0] >= 1
    [[outcome]] = sent(any_database, [late])
    assert (outcome.outcome, outcome.first_position) == ("recorded", room + 1)


def test_partitions_can_be_made_while_others_append(any_database: Database) -> None:
    begin_again(any_database, size=10, ahead=400)

    async def append_many() -> list[str]:
        async with await connect(any_database.service) as connection:
            return [(await append(connection, [command()]))[0].outcome for _ in range(40)]

    async def make_many() -> None:
        async with await connect(any_database.service) as connection:
            for ahead in range(400, 600, 20):
                await connection.execute("SELECT ledger.make_partitions(10, %s)", (ahead,))

    async def race() -> list[str]:
        outcomes, more, _ = await asyncio.gather(append_many(), append_many(), make_many())
        return outcomes + more

    assert asyncio.run(race()) == ["recorded"] * 80
    assert owner(any_database, "SELECT count(*), max(position) FROM ledger.events") == [(80, 80)]
