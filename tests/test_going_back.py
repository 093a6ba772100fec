"""Going back to the views before the last replay: caught up by their own folds, a rename, and refused where they cannot be."""

import psycopg
import pytest

from projections.going_back import FoldsTooOld, NothingToGoBackTo, go_back
from projections.replay import FoldFailed, Progress, SwapBlocked, replay
from projections.verify import verify
from tests.builders import EXAMPLES, subject_registered, token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas

# As a release after this one would have it.
A_COLUMN_MORE = """
SET ROLE ledger_owner;
ALTER TABLE views.names ADD COLUMN later text DEFAULT 'said by the later release';
"""


def oid_of(database: Database, schema: str) -> int:
    with psycopg.connect(database.service) as connection:
        row = connection.execute("SELECT to_regnamespace(%s)::oid", (schema,)).fetchone()
    assert row is not None
    oid: int = row[0]
    return oid


def test_the_views_of_before_are_back_with_all_that_was_recorded_since(installed: Database) -> None:
    record(installed)
    former = oid_of(installed, "views")
    replay(installed.ledger_owner)
    with psycopg.connect(installed.owner, autocommit=True) as connection:
        connection.execute(A_COLUMN_MORE)
    record(installed, [token_issued() for _ in range(25)] + [subject_registered()])

    report = go_back(installed.ledger_owner, piece=4)

    assert report.events == len(EXAMPLES) + 26
    assert oid_of(installed, "views") == former
    assert verify(installed.ledger_owner).clean
    assert "later" in contents(installed, "views_previous")["names"][0], "the later views are kept in their place"


def test_appends_fold_into_the_views_that_are_back_and_going_back_again_goes_forward(installed: Database) -> None:
    record(installed)
    replay(installed.ledger_owner)
    later = oid_of(installed, "views")
    go_back(installed.ledger_owner)
    record(installed, [token_issued() for _ in range(3)])
    assert verify(installed.ledger_owner).clean

    go_back(installed.ledger_owner)

    assert oid_of(installed, "views") == later
    assert verify(installed.ledger_owner).clean
    assert schemas(installed) == {"ledger", "views", "views_previous"}


def test_the_next_replay_takes_the_place_of_what_was_gone_back_from(installed: Database) -> None:
    record(installed)
    replay(installed.ledger_owner)
    go_back(installed.ledger_owner)
    former = oid_of(installed, "views")
    assert replay(installed.ledger_owner).differences == ()
    assert oid_of(installed, "views_previous") == former


def test_without_views_of_before_there_is_nothing_to_go_back_to(installed: Database) -> None:
    record(installed)
    before = contents(installed)
    with pytest.raises(NothingToGoBackTo):
        go_back(installed.ledger_owner)
    assert contents(installed) == before


def test_folds_that_do_not_know_what_was_recorded_since_are_not_gone_back_to(installed: Database) -> None:
    record(installed)
    with psycopg.connect(installed.owner, autocommit=True) as connection:
        # As if the former release had not known them: its folds would leave them out without a word.
        connection.execute(
            "CREATE OR REPLACE VIEW views.event_types AS"
            " SELECT k.type FROM unnest('{log_opened,token_issued}'::text[]) AS k(type)"
        )
    replay(installed.ledger_owner)
    record(installed, [token_issued() for _ in range(5)])
    go_back(installed.ledger_owner)  # knows those
    go_back(installed.ledger_owner)
    record(installed, [subject_registered()])
    before = contents(installed)

    with pytest.raises(FoldsTooOld, match="do not know subject_registered; the live views are as they were") as refused:
        go_back(installed.ledger_owner)

    assert refused.value.types == ["subject_registered"]
    assert contents(installed) == before


def test_folds_that_break_on_what_was_recorded_since_are_not_gone_back_to(installed: Database) -> None:
    record(installed)
    with psycopg.connect(installed.owner, autocommit=True) as connection:
        connection.execute("ALTER TABLE views.tokens ADD CONSTRAINT narrower CHECK (generation < 7) NOT VALID")
    replay(installed.ledger_owner)
    record(installed, [token_issued(generation=7)])
    before = contents(installed)

    with pytest.raises(FoldFailed) as failed:
        go_back(installed.ledger_owner)

    assert (failed.value.first_position, failed.value.sqlstate) == (len(EXAMPLES) + 1, "23514")
    assert contents(installed) == before


def test_going_back_that_was_stopped_leaves_the_live_views_and_goes_on_from_there(installed: Database) -> None:
    record(installed)
    replay(installed.ledger_owner)
    record(installed, [token_issued() for _ in range(20)])
    live, before = oid_of(installed, "views"), contents(installed)

    def stop(progress: Progress) -> None:
        if progress.step == "folding" and progress.done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_back(installed.ledger_owner, piece=5, progress=stop)
    assert (oid_of(installed, "views"), contents(installed)) == (live, before)

    told: list[Progress] = []
    go_back(installed.ledger_owner, progress=told.append)
    assert next(p.total for p in told if p.step == "folding") == 10
    assert verify(installed.ledger_owner).clean


def test_views_that_are_in_use_are_not_gone_back_from(installed: Database) -> None:
    record(installed)
    replay(installed.ledger_owner)
    live = oid_of(installed, "views")
    with psycopg.connect(installed.service) as dump:
        dump.execute("SELECT FROM views.tokens")
        with pytest.raises(SwapBlocked) as blocked:
            go_back(installed.ledger_owner, patience_seconds=0.1)
        assert blocked.value.pids == [dump.info.backend_pid]
    assert oid_of(installed, "views") == live
    go_back(installed.ledger_owner)
    assert verify(installed.ledger_owner).clean
