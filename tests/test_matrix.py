"""The matrix of types and views: every type of event has its place in every view, and the folds keep to it."""

import psycopg
import pytest
from psycopg import sql

from ledger.events import EVENT_TYPES
from projections.matrix import ALWAYS, FOLDED, VIEWS
from tests.builders import EXAMPLES
from tests.conftest import Database
from tests.model import VIEWS as VIEWS_OF_MODEL
from tests.recording import contents, record

# Where the example of a type stands in a log that holds the examples alone.
POSITIONS = {event.TYPE: position for position, event in enumerate(EXAMPLES, start=1)}


def test_every_type_of_event_is_folded_or_ignored_on_purpose() -> None:
    assert FOLDED.keys() == EVENT_TYPES.keys()


def test_every_view_is_made_of_some_type(database: Database) -> None:
    assert contents(database).keys() == VIEWS == set(VIEWS_OF_MODEL)


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_an_event_makes_rows_where_the_matrix_says_so_and_nowhere_else(tag: str, database: Database) -> None:
    record(database)
    made = {view for view, rows in contents(database).items() if any(row["position"] == POSITIONS[tag] for row in rows)}

    with psycopg.connect(database.service) as connection:
        for view in VIEWS:
            condition = FOLDED[tag].get(view, "false")
            row = connection.execute(
                sql.SQL("SELECT {condition} FROM views.history h WHERE h.position = %s").format(condition=sql.SQL(condition)),
                (POSITIONS[tag],),
            ).fetchone()
            assert row == (view in made,), view
    assert {view for view, condition in FOLDED[tag].items() if condition == ALWAYS} <= made <= FOLDED[tag].keys()
