"""Replay: the same views from the log, put in place while appends and reads go on; and nothing changed when it fails."""

import asyncio
import threading
import time
from uuid import uuid4

import psycopg
import pytest

from ledger.appender import Appender
from ledger.database import connect
from ledger.log import append
from projections.install import install_views
from projections.replay import (
    FoldFailed,
    NoRoom,
    Progress,
    ReplayRunning,
    SwapBlocked,
    ViewDifference,
    fold,
    maintenance,
    replay,
)
from projections.verify import verify
from tests.builders import EXAMPLES, command, token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas, tamper

# Every event of the tests that use it issues one token: whoever reads both of one moment reads the same position twice.
HEAD_AND_NEWEST_TOKEN = """
SELECT (SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1),
  (SELECT max(t.position) FROM views.tokens t)
"""


def test_replaying_a_history_of_every_event_gives_the_same_views(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    # No event is done by a token or has a cause here; every other view has rows to compare.
    assert {view for view, rows in before.items() if not rows} <= {"acts", "consequences"}

    report = replay(installed.ledger_owner)

    assert contents(installed) == before
    assert report.events == len(EXAMPLES)
    assert report.differences == ()
    assert report.rows == {view: len(rows) for view, rows in before.items()}
    assert schemas(installed) == {"ledger", "views", "views_previous"}


@pytest.mark.parametrize("piece", [1, 2, 7, 10_000])
def test_the_pieces_a_log_is_folded_in_make_no_difference(installed: Database, piece: int) -> None:
    record(installed)
    with maintenance(installed.ledger_owner) as connection:
        with connection.transaction():
            install_views(connection, "pieces")
        for first in range(1, len(EXAMPLES) + 1, piece):
            fold(connection, "pieces", first, min(first + piece - 1, len(EXAMPLES)))

    assert contents(installed, "pieces") == contents(installed)


INDEXES = "SELECT i.indexname, replace(i.indexdef, 'views_previous.', 'views.') FROM pg_indexes i WHERE i.schemaname = %s"


def test_a_replay_makes_the_indexes_that_were_there(installed: Database) -> None:
    record(installed)
    replay(installed.ledger_owner)

    with maintenance(installed.ledger_owner) as connection:
        live, previous = (dict(connection.execute(INDEXES, (schema,)).fetchall()) for schema in ("views", "views_previous"))
    assert live == previous
    assert "tokens_by_subject" in live


def test_an_empty_log_is_replayed_into_empty_views(installed: Database) -> None:
    report = replay(installed.ledger_owner)

    assert (report.events, report.differences) == (0, ())
    assert not any(contents(installed).values())


def test_replay_repairs_a_view_and_says_which(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    tamper(installed, "UPDATE views.subjects SET clearance = 99")
    tamper(installed, "DELETE FROM views.families")

    report = replay(installed.ledger_owner)

    assert contents(installed) == before
    assert report.differences == (
        ViewDifference("families", "rows", 0, len(before["families"])),
        ViewDifference("subjects", "rows", len(before["subjects"]), len(before["subjects"])),
    )


def test_views_of_another_release_are_replaced_and_named(installed: Database) -> None:
    record(installed)
    with psycopg.connect(installed.ledger_owner, autocommit=True) as connection:
        connection.execute("ALTER TABLE views.names ADD COLUMN note text")
        connection.execute("CREATE TABLE views.old AS SELECT 1::bigint AS position")
        connection.execute("DROP TABLE views.audit_entries")

    report = replay(installed.ledger_owner)

    assert {(d.view, d.why) for d in report.differences} == {("names", "shape"), ("old", "gone"), ("audit_entries", "new")}
    assert verify(installed.ledger_owner).clean


def test_lost_views_come_back(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    with psycopg.connect(installed.ledger_owner, autocommit=True) as connection:
        connection.execute("DROP SCHEMA views CASCADE")

    replay(installed.ledger_owner)

    assert contents(installed) == before


def test_the_service_reads_the_new_views_and_cannot_write_them(installed: Database) -> None:
    record(installed)

    replay(installed.ledger_owner)

    with psycopg.connect(installed.service, autocommit=True) as connection:
        for view in [*contents(installed), "current_tokens", "current_permissions"]:
            connection.execute(f"SELECT FROM views.{view}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO views.reference_changes (position) VALUES (999)")


@pytest.mark.anyio
async def test_a_session_that_appended_before_folds_into_the_new_views(installed: Database) -> None:
    async with await connect(installed.service) as connection:
        # Twice: the second swap drops the views that the session's first plans were made for.
        for _ in range(3):
            for _ in range(12):  # past the fifth, after which plpgsql keeps its plans
                assert (await append(connection, [command()]))[0].outcome == "recorded"
            report = await asyncio.to_thread(replay, installed.ledger_owner)
            assert report.differences == ()
        assert (await append(connection, [command()]))[0].outcome == "recorded"

    assert len(contents(installed)["tokens"]) == 37
    assert verify(installed.ledger_owner).clean


@pytest.mark.anyio
async def test_five_swaps_under_load_cost_no_append_and_no_read_is_stale(installed: Database) -> None:
    appender = Appender(installed.service)
    await appender.start()
    recorded, read, stale = 0, 0, []
    swapped = asyncio.Event()

    async def append_all_the_while() -> None:
        nonlocal recorded
        while not swapped.is_set():
            assert (await appender.append(command())).outcome == "recorded"
            recorded += 1

    async def read_all_the_while() -> None:
        nonlocal read
        async with await connect(installed.service) as connection:
            while not swapped.is_set():
                row = await (await connection.execute(HEAD_AND_NEWEST_TOKEN)).fetchone()
                assert row is not None
                read += 1
                if row[0] != row[1]:
                    stale.append(row)

    async def swap() -> None:
        try:
            for _ in range(5):
                report = await asyncio.to_thread(replay, installed.ledger_owner, piece=200)
                assert report.differences == ()
        finally:
            swapped.set()

    await appender.append(command())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(append_all_the_while())
        for _ in range(4):
            tasks.create_task(read_all_the_while())
        tasks.create_task(swap())
    await appender.stop()

    assert stale == []
    assert read > 100
    assert recorded > 100
    report = verify(installed.ledger_owner)
    assert (report.clean, report.events) == (True, recorded + 1)


def test_a_read_that_was_planned_before_the_swap_does_not_miss_what_comes_after(installed: Database) -> None:
    # Between its locks and its snapshot a statement is planned: an immutable function, evaluated then, makes that long.
    with psycopg.connect(installed.owner, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.planned_slowly() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
            " $$ BEGIN PERFORM pg_sleep(1.5); RETURN true; END $$"
        )
    record(installed, [token_issued()])
    rows = []
    with psycopg.connect(installed.service, autocommit=True) as reader:
        slow = HEAD_AND_NEWEST_TOKEN + " WHERE public.planned_slowly()"
        reading = threading.Thread(target=lambda: rows.append(reader.execute(slow.encode()).fetchone()))
        reading.start()
        time.sleep(0.3)
        report = replay(installed.ledger_owner)
        record(installed, [token_issued()])
        reading.join()

    assert report.swaps_tried > 1, "the swap waited for the reader"
    assert rows in ([(1, 1)], [(2, 2)])


def test_only_one_replay_or_verify_runs_at_a_time(installed: Database) -> None:
    with maintenance(installed.ledger_owner):
        with pytest.raises(ReplayRunning):
            replay(installed.ledger_owner)
        with pytest.raises(ReplayRunning):
            verify(installed.ledger_owner)
    replay(installed.ledger_owner)


def test_views_that_are_in_use_for_too_long_are_not_replaced(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    with psycopg.connect(installed.service) as dump:
        dump.execute("SELECT FROM views.tokens")  # holds its lock to the end of the transaction
        with pytest.raises(SwapBlocked) as blocked:
            replay(installed.ledger_owner, patience_seconds=0.1)
        assert blocked.value.pids == [dump.info.backend_pid]
        record(installed, [token_issued()])

    assert len(contents(installed)["tokens"]) == len(before["tokens"]) + 1
    assert replay(installed.ledger_owner).differences == ()


def test_an_event_that_cannot_be_folded_stops_the_replay_before_the_swap(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    tamper(
        installed,
        "UPDATE ledger.events SET payload = jsonb_set(payload, '{subject,kind}', 'null') WHERE type = 'subject_erased'",
    )

    with pytest.raises(FoldFailed) as failed:
        replay(installed.ledger_owner, piece=4)

    position = next(n for n, event in enumerate(EXAMPLES, start=1) if event.TYPE == "subject_erased")
    assert failed.value.first_position <= position <= failed.value.last_position
    assert failed.value.sqlstate == "23502"  # not_null_violation
    assert str(before["subjects"][-1]["subject_id"]) not in str(failed.value)
    assert contents(installed) == before


@pytest.mark.parametrize("free", [1.99, None])
def test_a_replay_does_not_begin_without_room_for_the_views_twice(installed: Database, free: float | None) -> None:
    record(installed)
    replay(installed.ledger_owner)
    with psycopg.connect(installed.service) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c"
            " WHERE c.relnamespace = 'views'::regnamespace AND c.relkind = 'r'"
        ).fetchone()
    assert row is not None
    size = row[0]
    before = contents(installed), contents(installed, "views_previous")

    with pytest.raises(NoRoom) as refused:
        replay(installed.ledger_owner, free_bytes=lambda: None if free is None else int(free * size))

    assert refused.value.needed == 2 * size
    assert f"{2 * size:,} bytes, twice the size of the views" in str(refused.value)
    assert "--free-bytes" in str(refused.value) or free
    assert (contents(installed), contents(installed, "views_previous")) == before
    assert schemas(installed) == {"ledger", "views", "views_previous"}
    replay(installed.ledger_owner, free_bytes=lambda: 2 * size)


def test_what_a_killed_run_left_is_room_again_before_it_is_measured(installed: Database) -> None:
    record(installed)
    with psycopg.connect(installed.ledger_owner, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA views_next")
    there: list[bool] = []

    def look() -> int:
        there.append("views_next" in schemas(installed))
        return 2**60

    replay(installed.ledger_owner, free_bytes=look)
    assert there == [False]


def test_progress_says_the_rate_and_the_time_left(installed: Database) -> None:
    record(installed, [token_issued(family_id=uuid4()) for _ in range(9)])
    told: list[Progress] = []

    replay(installed.ledger_owner, piece=3, progress=told.append)

    assert [(p.done, p.total) for p in told if p.step == "folding"] == [(0, 9), (3, 9), (6, 9), (9, 9)]
    assert (Progress("folding", 30, 90, 2.0).per_second, Progress("folding", 30, 90, 2.0).seconds_left) == (15.0, 4.0)
    assert Progress("folding", 0, 90, 2.0).seconds_left is None
