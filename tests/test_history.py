"""Random histories of real commands: what must hold of every one (histories.py), and that it is found where it does not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from projections.replay import replay
from tests.conftest import Database
from tests.histories import Ledger, ledger_for_histories, run_histories
from tests.history_bugs import BUGS

HISTORIES = 8
FOUND_WITHIN = 40


@contextmanager
def ledger_on(database: Database) -> Iterator[Ledger]:
    with ledger_for_histories(database.owner, database.ledger_owner, database.service, positions=6) as ledger:
        yield ledger


def test_every_history_holds_however_it_is_cut_and_whenever_it_is_asked_about(any_database: Database) -> None:
    with ledger_on(any_database) as ledger:
        run_histories(ledger, HISTORIES)
        assert ledger.tally.histories >= HISTORIES
        assert ledger.tally.replays > 0
        assert ledger.tally.as_of > 1_000


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str, database: Database) -> None:
    with BUGS[bug]():
        replay(database.ledger_owner)  # puts what is wrong in the folds into the live views
        with ledger_on(database) as ledger, pytest.raises(AssertionError):
            run_histories(ledger, FOUND_WITHIN)
