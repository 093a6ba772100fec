"""What `ledger.append` promises (schema.sql), through the one function that calls it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.database import connect
from ledger.events import Event
from ledger.log import MAX_EVENTS_PER_COMMAND, Actor, Command, CommandTooLarge, Outcome, append
from tests.builders import NOON, command, family, family_revoked, subject_registered, token_issued
from tests.conftest import Clock, Database

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


async def rows(connection: Connection, query: str, *parameters: object) -> list[TupleRow]:
    return await (await connection.execute(query.encode(), parameters)).fetchall()


async def events(connection: Connection) -> list[TupleRow]:
    return await rows(connection, "SELECT position, stream, version, type FROM views.history ORDER BY position")


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.outcome for outcome in outcomes]


def unchecked(*events: Event, reads: dict[UUID, int]) -> Command:
    """A command that reads only what is said."""
    return Command(command().envelope, reads, events)


# ----------------------------------------------------------------------------------------------------- positions and versions


async def test_positions_are_dense_from_one_and_versions_from_one_in_each_stream(connection: Connection) -> None:
    subject = subject_registered()
    first = await append(connection, [command(subject, token_issued()), command(token_issued())])
    second = await append(connection, [command(subject, subject, reads={subject.stream: 1})])
    assert [(o.outcome, o.first_position, o.last_position) for o in first + second] == [
        ("recorded", 1, 2),
        ("recorded", 3, 3),
        ("recorded", 4, 5),
    ]
    stored = await events(connection)
    assert [position for position, *_ in stored] == [1, 2, 3, 4, 5]
    assert [version for _, stream, version, _ in stored if stream == subject.stream] == [1, 2, 3]
    assert await rows(
        connection, "SELECT version, first_position, last_position FROM ledger.streams WHERE stream = %s", subject.stream
    ) == [(3, 1, 5)]


async def test_events_of_a_command_keep_the_order_they_were_given_in(connection: Connection) -> None:
    given = [subject_registered() for _ in range(50)]
    await append(connection, [command(*given[:30]), command(*given[30:])])
    assert [stream for _, stream, _, _ in await events(connection)] == [event.stream for event in given]


async def test_the_head_is_one_row_of_batches_for_each_append(connection: Connection) -> None:
    first = await append(connection, [command(), command()])
    second = await append(connection, [command()])
    heads = await rows(connection, "SELECT last_position, recorded_at FROM ledger.batches ORDER BY last_position")
    assert heads == [(2, first[0].recorded_at), (3, second[0].recorded_at)]


async def test_a_batch_that_records_nothing_adds_no_head(connection: Connection) -> None:
    assert kinds(await append(connection, [command(reads={uuid4(): 1})])) == ["conflict"]
    assert await rows(connection, "SELECT FROM ledger.batches") == []


# ------------------------------------------------------------------------------------------------------------------- outcomes


async def test_each_command_of_a_batch_has_its_own_outcome(connection: Connection) -> None:
    before, taken = command(), subject_registered()
    await append(connection, [before, command(taken)])
    outcomes = await append(connection, [command(), before, command(taken), command()])
    assert kinds(outcomes) == ["recorded", "done", "conflict", "recorded"]
    assert [(o.first_position, o.last_position) for o in outcomes] == [(3, 3), (1, 1), (None, None), (4, 4)]


async def test_a_command_sent_again_is_answered_with_the_positions_and_instant_of_the_first_time(
    connection: Connection,
) -> None:
    once = command(subject_registered(), subject_registered())
    [recorded] = await append(connection, [once])
    await append(connection, [command()])
    [again] = await append(connection, [once])
    assert again == Outcome("done", recorded.first_position, recorded.last_position, recorded.recorded_at)
    assert len(await events(connection)) == 3


async def test_the_same_command_twice_in_a_batch_is_recorded_once(connection: Connection) -> None:
    once = command()
    assert kinds(await append(connection, [once, once])) == ["recorded", "conflict"]
    assert kinds(await append(connection, [once, once])) == ["done", "done"]
    assert len(await events(connection)) == 1


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_written_stream_at_another_version_is_a_conflict(connection: Connection, version: int) -> None:
    subject = subject_registered()
    await append(connection, [command(subject, subject)])
    assert kinds(await append(connection, [command(subject, reads={subject.stream: version})])) == ["conflict"]
    assert kinds(await append(connection, [command(subject, reads={subject.stream: 2})])) == ["recorded"]


async def test_a_stream_that_was_only_read_counts_as_much_as_one_that_is_written(connection: Connection) -> None:
    subject = subject_registered()
    await append(connection, [command(subject)])
    assert kinds(await append(connection, [command(reads={subject.stream: 0})])) == ["conflict"]
    assert kinds(await append(connection, [command(reads={subject.stream: 1})])) == ["recorded"]


async def test_a_command_conflicts_when_it_reads_what_an_earlier_one_of_its_batch_writes(connection: Connection) -> None:
    subject = subject_registered()
    outcomes = await append(connection, [command(subject), command(reads={subject.stream: 0}), command()])
    assert kinds(outcomes) == ["recorded", "conflict", "recorded"]


async def test_a_command_does_not_conflict_when_a_later_one_writes_what_it_reads(connection: Connection) -> None:
    subject = subject_registered()
    assert kinds(await append(connection, [command(reads={subject.stream: 0}), command(subject)])) == ["recorded", "recorded"]


async def test_nothing_of_a_conflicting_command_is_recorded(connection: Connection) -> None:
    taken, free = subject_registered(), subject_registered()
    await append(connection, [command(taken)])
    late = command(free, taken)
    assert kinds(await append(connection, [late])) == ["conflict"]
    assert len(await events(connection)) == 1
    assert await rows(connection, "SELECT FROM ledger.commands WHERE command_id = %s", late.envelope.command_id) == []
    assert await rows(connection, "SELECT FROM ledger.streams WHERE stream = %s", free.stream) == []
    assert await rows(connection, "SELECT FROM views.subjects WHERE subject_id = %s", free.stream) == []


# ------------------------------------------------------------------------------------------------- refusals of the whole batch


async def test_writing_a_stream_that_was_not_read_is_refused(connection: Connection) -> None:
    blind = unchecked(subject_registered(), reads={uuid4(): 0})
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="did not read"):
        await append(connection, [command(), blind])
    assert await events(connection) == []


async def test_what_another_command_of_the_batch_read_does_not_count(connection: Connection) -> None:
    subject = subject_registered()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="did not read"):
        await append(connection, [command(reads={subject.stream: 0}), unchecked(subject, reads={})])


@pytest.mark.parametrize("number", [0, 2, None])
async def test_an_event_without_its_command_is_refused(connection: Connection, number: int | None) -> None:
    stream = uuid4()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        await connection.execute(
            "SELECT ledger.append(%s, '{null}', %s::int[], %s, '{0}', %s::int[], %s, '{log_opened}', '{1}', '{null}')",
            ([uuid4()], [number], [stream], [number], [stream]),
        )


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_another_isolation_level_is_refused(connection: Connection, level: str) -> None:
    await connection.execute(f"SET default_transaction_isolation = '{level}'".encode())
    with pytest.raises(psycopg.errors.InvalidTransactionState, match=level):
        await append(connection, [command()])


async def test_what_a_fold_raises_rolls_back_the_whole_batch(connection: Connection) -> None:
    token = token_issued().tokens[0]
    twice = token_issued()
    object.__setattr__(twice, "tokens", (token, token))  # one key twice at one position
    with pytest.raises(psycopg.errors.UniqueViolation):
        await append(connection, [command(), command(twice), command()])
    for table in ("events", "streams", "commands", "batches"):
        assert await rows(connection, f"SELECT FROM ledger.{table}") == []
    assert await rows(connection, "SELECT FROM views.tokens") == []


async def test_a_command_of_more_events_than_one_append_takes_is_not_made() -> None:
    given = [subject_registered()] * MAX_EVENTS_PER_COMMAND
    assert len(command(*given).events) == MAX_EVENTS_PER_COMMAND
    with pytest.raises(CommandTooLarge):
        command(*given, subject_registered())


async def test_the_largest_command_is_recorded(connection: Connection) -> None:
    [outcome] = await append(connection, [command(*[subject_registered() for _ in range(MAX_EVENTS_PER_COMMAND)])])
    assert (outcome.first_position, outcome.last_position) == (1, MAX_EVENTS_PER_COMMAND)


# ----------------------------------------------------------------------------------------------------------- time and envelope


async def test_recorded_at_is_one_instant_for_the_whole_batch(connection: Connection) -> None:
    outcomes = await append(connection, [command(token_issued(), subject_registered()) for _ in range(20)])
    stored = await rows(connection, "SELECT DISTINCT recorded_at FROM views.history")
    assert [(outcomes[0].recorded_at,)] == stored
    assert {outcome.recorded_at for outcome in outcomes} == {outcomes[0].recorded_at}


async def test_recorded_at_never_goes_back_when_the_clock_does(connection: Connection, any_clock: Clock) -> None:
    any_clock.set(NOON)
    [first] = await append(connection, [command()])
    any_clock.advance(-3600)
    [second] = await append(connection, [command()])
    any_clock.advance(3601)
    [third] = await append(connection, [command()])
    assert [o.recorded_at for o in (first, second, third)] == [NOON, NOON, NOON + timedelta(seconds=1)]


async def test_prepared_statements_see_the_clock_of_a_test(connection: Connection, any_clock: Clock) -> None:
    query = "SELECT ledger.clock()"
    for minutes in range(8):
        any_clock.set(NOON + timedelta(minutes=minutes))
        cursor = await connection.execute(query, prepare=True)
        assert await cursor.fetchone() == (NOON + timedelta(minutes=minutes),)


async def test_each_event_carries_the_whole_envelope_of_its_command(connection: Connection) -> None:
    actor, request_id, correlation_id = Actor("client", uuid4(), "client_secret_basic"), uuid4(), uuid4()
    full = command(
        token_issued(),
        subject_registered(),
        actor=actor,
        request_id=request_id,
        correlation_id=correlation_id,
        semantics=2,
        causation=1,
        request_mac="ab" * 32,
    )
    bare = command()
    await append(connection, [full, bare])
    metadata = [row[0] for row in await rows(connection, "SELECT metadata FROM views.history ORDER BY position")]
    expected: dict[str, Any] = {
        "command_id": str(full.envelope.command_id),
        "request_id": str(request_id),
        "correlation_id": str(correlation_id),
        "causation": 1,
        "actor": {"kind": "client", "id": str(actor.id), "authenticated_by": "client_secret_basic"},
        "semantics": 2,
        "request_mac": "ab" * 32,
    }
    assert metadata[:2] == [expected, expected]
    assert metadata[2].keys() == expected.keys()
    assert metadata[2]["actor"] == {"kind": "system", "id": None, "authenticated_by": "none"}


# -------------------------------------------------------------------------------------------------------------------- races


async def test_of_writers_that_read_the_same_version_one_wins(any_database: Database) -> None:
    subject, writers = subject_registered(), 6
    connections = [await connect(any_database.service) for _ in range(writers)]
    started, read = asyncio.Barrier(writers), asyncio.Barrier(writers)

    async def write(connection: Connection) -> str:
        await started.wait()
        found = await rows(connection, "SELECT version FROM ledger.streams WHERE stream = %s", subject.stream)
        assert found == []
        await read.wait()
        [outcome] = await append(connection, [command(subject)])
        return outcome.outcome

    try:
        outcomes = await asyncio.gather(*(write(connection) for connection in connections))
    finally:
        for connection in connections:
            await connection.close()
    assert sorted(outcomes) == ["conflict"] * (writers - 1) + ["recorded"]


async def test_a_token_cannot_slip_past_a_revocation_of_its_family(any_database: Database) -> None:
    """Either the rotation comes first and the revocation is decided again, or the other way round: never both unseen."""
    row = family()
    revoker, issuer = await connect(any_database.service), await connect(any_database.service)
    async with revoker, issuer:
        await append(revoker, [command(token_issued(family=row))])
        reads, read = {row.family_id: 1}, asyncio.Barrier(2)

        async def race(connection: Connection, event: Event) -> str:
            await read.wait()
            return (await append(connection, [command(event, reads=reads)]))[0].outcome

        outcomes = await asyncio.gather(race(revoker, family_revoked(row)), race(issuer, token_issued(family=row)))
    assert sorted(outcomes) == ["conflict", "recorded"]


async def test_what_racing_writers_have_acknowledged_is_stored_and_folded_whole(any_database: Database) -> None:
    shared = [subject_registered() for _ in range(4)]  # streams that all of them fight for
    writers, rounds = 4, 25
    acknowledged: dict[int, UUID] = {}
    seen: list[tuple[int, int]] = []

    async def write(number: int) -> None:
        async with await connect(any_database.service) as connection:
            for turn in range(rounds):
                contested = shared[(number + turn) % len(shared)]
                found = await rows(
                    connection, "SELECT coalesce((SELECT version FROM ledger.streams WHERE stream = %s), 0)", contested.stream
                )
                batch = [command(token_issued()), command(contested, reads={contested.stream: found[0][0]})]
                for sent, outcome in zip(batch, await append(connection, batch), strict=True):
                    if outcome.outcome == "recorded":
                        assert outcome.last_position is not None
                        acknowledged[outcome.last_position] = sent.envelope.command_id
                # A reader never finds a hole: what is below the head is there.
                head, count = (await rows(connection, "SELECT coalesce(max(position), 0), count(*) FROM views.history"))[0]
                seen.append((head, count))

    await asyncio.gather(*(write(number) for number in range(writers)))
    async with await connect(any_database.service) as connection:
        stored = await rows(connection, "SELECT position, (metadata ->> 'command_id')::uuid FROM views.history")
        folded = await rows(connection, "SELECT position FROM views.tokens UNION ALL SELECT position FROM views.subjects")
        versions = await rows(
            connection, "SELECT array_agg(version ORDER BY position) FROM views.history GROUP BY stream HAVING count(*) > 1"
        )
    assert len(acknowledged) > writers * rounds
    assert dict(stored) == acknowledged
    assert sorted(acknowledged) == list(range(1, len(acknowledged) + 1))
    assert sorted(position for (position,) in folded) == sorted(acknowledged)
    assert all(head == count for head, count in seen)
    assert all(found == list(range(1, len(found) + 1)) for (found,) in versions)
