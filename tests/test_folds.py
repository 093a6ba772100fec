"""The folds: what the SQL makes of random histories is what the model makes of them, however the log is cut in pieces."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.database import connect
from ledger.events import EVENT_TYPES, Event, TokenRevoked, TokensArchived, read_event
from ledger.log import Actor, Command, append
from ledger.states import TokenState
from projections.install import install_views, with_views
from projections.replay import GROUPS, fold
from tests import builders, model
from tests.builders import EXAMPLES, NOON, actors, command, envelope, events, token_issued
from tests.conftest import Database
from tests.stored import expected, stored

# Every example goes on with the log of the one before: it looks at its own positions only.
ON_ONE_LOG = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
Batches = Sequence[Sequence[tuple[Actor, Sequence[Event]]]]


@st.composite
def batches(draw: st.DrawFn) -> Batches:
    """Batches of one to three commands, of one to three events each."""
    commands = st.tuples(actors(), events(max_size=3))
    return draw(st.lists(st.lists(commands, min_size=1, max_size=3), min_size=1, max_size=5))


async def record(database: Database, history: Batches) -> list[model.Recorded]:
    """Append the batches, sending what conflicts within one again, and answer where every event came to stand."""
    recorded: list[model.Recorded] = []
    async with await connect(database.service) as connection:
        found = await (await connection.execute("SELECT stream, version FROM ledger.streams")).fetchall()
        versions: dict[UUID, int] = dict(found)
        for batch in history:
            waiting = [(actor, added) for actor, added in batch]
            # Some of the commands name what led to them.
            cause = recorded[-1].position if len(recorded) % 2 else None
            while waiting:
                commands = [
                    Command(envelope(actor=actor, causation=cause), {e.stream: versions.get(e.stream, 0) for e in added}, added)
                    for actor, added in waiting
                ]
                outcomes = await append(connection, commands)
                assert outcomes[0].outcome == "recorded"
                for (actor, added), outcome in zip(waiting, outcomes, strict=True):
                    if outcome.first_position is not None:
                        recorded += [
                            model.Recorded(position, event, actor, cause)
                            for position, event in enumerate(added, start=outcome.first_position)
                        ]
                        for event in added:
                            versions[event.stream] = versions.get(event.stream, 0) + 1
                waiting = [w for w, outcome in zip(waiting, outcomes, strict=True) if outcome.outcome == "conflict"]
    return sorted(recorded, key=lambda r: r.position)


def test_the_views_are_what_the_model_makes_of_the_log(any_database: Database) -> None:
    with psycopg.connect(any_database.ledger_owner) as connection:

        @ON_ONE_LOG
        @given(batches())
        def check(history: Batches) -> None:
            recorded = asyncio.run(record(any_database, history))
            assert stored(connection, "views", recorded[0].position) == expected(recorded)
            connection.rollback()

        check()


def test_every_way_of_cutting_the_log_in_pieces_folds_into_the_same_tables(any_database: Database) -> None:
    with psycopg.connect(any_database.ledger_owner) as connection:

        @ON_ONE_LOG
        @given(batches(), st.data())
        def check(history: Batches, data: st.DataObject) -> None:
            recorded = asyncio.run(record(any_database, history))
            first, last = recorded[0].position, recorded[-1].position
            cuts = data.draw(st.sets(st.integers(first, last)), "the last positions of the pieces") | {last}
            install_views(connection, "views_again")
            from_position = first
            for to_position in sorted(cuts):
                connection.execute("SELECT fold(%s, %s)", (from_position, to_position))
                from_position = to_position + 1
            assert stored(connection, "views_again", first) == stored(connection, "views", first)
            connection.rollback()

        check()


def test_the_groups_of_views_folded_apart_are_the_whole(any_database: Database) -> None:
    """Replay folds them on a connection each; each is cut here in pieces of its own."""
    with psycopg.connect(any_database.ledger_owner) as connection:

        @ON_ONE_LOG
        @given(batches(), st.data())
        def check(history: Batches, data: st.DataObject) -> None:
            recorded = asyncio.run(record(any_database, history))
            first, last = recorded[0].position, recorded[-1].position
            install_views(connection, "views_again")
            for group in GROUPS:
                cuts = data.draw(st.sets(st.integers(first, last)), f"the last positions of the pieces of {group}") | {last}
                from_position = first
                for to_position in sorted(cuts):
                    fold(connection, "views_again", from_position, to_position, [group])
                    from_position = to_position + 1
            assert stored(connection, "views_again", first) == stored(connection, "views", first)


_HOURS = st.integers(0, 1)
# One of few tokens is issued, with its family, or revoked; or what ended leaves, of a range of the example's positions.
_ABOUT_ENDS = st.lists(
    st.tuples(st.just("issued"), st.integers(0, 1), _HOURS)
    | st.tuples(st.just("revoked"), st.integers(0, 1), _HOURS)
    | st.tuples(st.just("archived"), st.tuples(st.integers(0, 2), st.integers(2, 12)), _HOURS),
    min_size=4,
    max_size=12,
)


def about_ends(steps: Sequence[tuple[str, Any, int]], first: int) -> list[Event]:
    made: list[Event] = []
    for what, which, hours in steps:
        at = NOON + timedelta(hours=hours)
        if what == "archived":
            from_, to = (first + offset for offset in which)
            made.append(TokensArchived(log_id=UUID(int=9), from_position=from_, to_position=to, ended_before=at))
            continue
        family = builders.family(family_id=UUID(int=which), expires_at=at + timedelta(hours=1))
        if what == "issued":
            made.append(token_issued(family=family, token_id=UUID(int=which), expires_at=at))
        else:
            state = TokenState(token_id=UUID(int=which), status="revoked", status_reason=None, status_until=None)
            of = {"family_id": family.family_id, "subject_id": family.subject_id, "client_id": family.client_id}
            made.append(TokenRevoked(**of, token_id=state.token_id, token_state=state))
    return made


def test_what_ended_leaves_the_views_by_the_event_that_says_so_however_the_log_is_cut(any_database: Database) -> None:
    log: list[model.Recorded] = []
    with psycopg.connect(any_database.ledger_owner) as connection:

        @settings(ON_ONE_LOG, max_examples=20)
        @given(_ABOUT_ENDS, st.sets(st.integers(1, 12)))
        @example([("issued", 0, 0), ("archived", (0, 9), 1), ("revoked", 0, 0), ("archived", (0, 9), 1)], set())
        def check(steps: Sequence[tuple[str, Any, int]], ends: set[int]) -> None:
            first = len(log) + 1
            history: Batches = [[(Actor.SYSTEM, [event])] for event in about_ends(steps, first)]
            log.extend(asyncio.run(record(any_database, history)))
            assert stored(connection, "views", 1) == expected(log)
            install_views(connection, "views_again")
            from_position = 1
            for to_position in sorted({min(first + end, len(log)) for end in ends} | {len(log)}):
                connection.execute("SELECT fold(%s, %s)", (from_position, to_position))
                from_position = to_position + 1
            assert stored(connection, "views_again", 1) == stored(connection, "views", 1)
            connection.rollback()

        check()


def test_every_type_of_event_is_folded_as_the_model_says(any_database: Database) -> None:
    """The random histories may leave a type out: here is each of them once, alone in its batch and all in one."""
    actor = Actor("subject", UUID(int=1), f"token {UUID(int=2)}")
    alone = asyncio.run(record(any_database, [[(actor, [event])] for event in EXAMPLES]))
    together = asyncio.run(record(any_database, [[(actor, EXAMPLES)]]))
    assert len(alone + together) == 2 * len(EVENT_TYPES)
    with psycopg.connect(any_database.ledger_owner) as connection:
        found = stored(connection, "views", 1)
    assert found == expected(alone + together)
    assert all(found.values())  # no view is left empty by all the types there are


def test_events_that_a_view_has_no_use_for_leave_it_as_it_was(any_database: Database) -> None:
    opened = EXAMPLES[0]
    asyncio.run(record(any_database, [[(Actor.SYSTEM, [opened])]]))
    with psycopg.connect(any_database.ledger_owner) as connection:
        assert [view for view, rows in stored(connection, "views", 1).items() if rows] == ["logs"]


def test_a_fold_of_nothing_makes_nothing(any_database: Database) -> None:
    with psycopg.connect(any_database.ledger_owner) as connection:
        with_views(connection, "views")
        connection.execute("SELECT fold(1, 1000)")
        assert not any(stored(connection, "views", 0).values())


def test_the_payload_in_the_log_is_the_event(any_database: Database) -> None:
    recorded = asyncio.run(record(any_database, [[(Actor.SYSTEM, EXAMPLES)]]))
    with psycopg.connect(any_database.service) as connection:
        rows = connection.execute("SELECT position, type, payload::text FROM views.history ORDER BY position").fetchall()
    assert [(position, read_event(tag, payload)) for position, tag, payload in rows] == [
        (r.position, r.event) for r in recorded
    ]


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_the_model_knows_every_type(tag: str) -> None:
    example = {event.TYPE: event for event in EXAMPLES}[tag]
    rows = model.views([model.Recorded(1, example, command().envelope.actor)])
    assert any(rows.values())
