"""A scratch copy of the views as of then: what stood, to be looked into, beside live views that nobody touched."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger.errors import InvalidInput
from projections.copies import COPY, copy_as_of, drop_copy
from projections.replay import Progress, SwapBlocked, replay
from projections.verify import verify
from tests.builders import EXAMPLES, token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas


def as_of(views: dict[str, list[Any]], position: int) -> dict[str, list[Any]]:
    return {view: [row for row in rows if row["position"] <= position] for view, rows in views.items()}


def recorded_at(database: Database, position: int) -> datetime:
    with psycopg.connect(database.service) as connection:
        row = connection.execute("SELECT recorded_at FROM ledger.events WHERE position = %s", (position,)).fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


@pytest.mark.parametrize("position", [1, 17, len(EXAMPLES)])
def test_a_copy_holds_what_stood_at_a_position_and_live_views_stay(installed: Database, position: int) -> None:
    record(installed)
    live = contents(installed)

    copy = copy_as_of(installed.ledger_owner, position, piece=5)

    assert (copy.position, copy.recorded_at) == (position, recorded_at(installed, position))
    assert contents(installed, COPY) == as_of(live, position)
    assert contents(installed) == live
    assert schemas(installed) == {"ledger", "views", COPY}


def test_a_copy_as_of_an_instant_ends_with_what_was_recorded_at_or_before_it(installed: Database) -> None:
    record(installed)
    # Three events a batch: all of them, and none of the next.
    instant = recorded_at(installed, 7)
    assert copy_as_of(installed.ledger_owner, instant).position == 9
    assert copy_as_of(installed.ledger_owner, instant - timedelta(microseconds=1)).position == 6


def test_a_copy_tells_readers_what_it_is(installed: Database) -> None:
    record(installed)
    copy_as_of(installed.ledger_owner, 12)
    with psycopg.connect(installed.service) as connection:
        said = connection.execute("SELECT obj_description(to_regnamespace(%s), 'pg_namespace')", (COPY,)).fetchone()
        assert said is not None
        assert said[0].startswith("The views as of position 12, recorded at ")
        assert connection.execute("SELECT max(position) FROM views_then.audit_entries").fetchone() == (12,)
        connection.execute("SELECT FROM views_then.current_permissions")


def test_the_next_copy_takes_its_place_and_a_replay_leaves_it(installed: Database) -> None:
    record(installed)
    copy_as_of(installed.ledger_owner, 5)
    copy_as_of(installed.ledger_owner, 20)
    replay(installed.ledger_owner)
    assert contents(installed, COPY) == as_of(contents(installed), 20)

    assert drop_copy(installed.ledger_owner) is True
    assert drop_copy(installed.ledger_owner) is False
    assert schemas(installed) == {"ledger", "views", "views_previous"}


@pytest.mark.parametrize("moment", [0, len(EXAMPLES) + 1, 2**62, datetime.fromisoformat("2001-01-01T00:00:00Z")])
def test_what_is_not_in_the_log_is_refused(installed: Database, moment: int | datetime) -> None:
    record(installed)
    with pytest.raises(InvalidInput, match=rf"to: in the log: from position 1 to {len(EXAMPLES)}"):
        copy_as_of(installed.ledger_owner, moment)
    assert schemas(installed) == {"ledger", "views"}


def test_an_instant_that_has_not_come_is_refused(installed: Database) -> None:
    record(installed)
    with pytest.raises(InvalidInput, match="an instant that has come"):
        copy_as_of(installed.ledger_owner, recorded_at(installed, 1) + timedelta(days=1))


def test_a_copy_that_was_stopped_leaves_the_former_one_whole(installed: Database) -> None:
    record(installed)
    copy_as_of(installed.ledger_owner, 20)
    before = contents(installed, COPY)

    def stop(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_as_of(installed.ledger_owner, 30, piece=3, progress=stop)
    assert contents(installed, COPY) == before
    assert schemas(installed) == {"ledger", "views", COPY}


def test_a_copy_that_somebody_reads_is_neither_replaced_nor_dropped(
    installed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.replay.LEFTOVERS_WAIT_MS", 100)
    record(installed)
    copy_as_of(installed.ledger_owner, 20)
    before = contents(installed, COPY)
    with psycopg.connect(installed.service) as reader:
        reader.execute("SELECT FROM views_then.tokens")
        for attempt in (lambda: copy_as_of(installed.ledger_owner, 30), lambda: drop_copy(installed.ledger_owner)):
            with pytest.raises(SwapBlocked) as blocked:
                attempt()
            assert blocked.value.pids == [reader.info.backend_pid]
    assert contents(installed, COPY) == before


def test_appends_and_the_views_go_on_while_a_copy_is_made(installed: Database) -> None:
    record(installed)

    def append_more(_: Progress) -> None:
        record(installed, [token_issued()])

    copy_as_of(installed.ledger_owner, 10, piece=3, progress=append_more)
    assert contents(installed, COPY) == as_of(contents(installed), 10)
    assert verify(installed.ledger_owner).clean
