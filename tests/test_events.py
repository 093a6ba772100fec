"""Events are for ever: their bytes, their tags, and that their rows are the rows of the views.

A new type, or a new shape of one, gets a new entry in golden/events.json; an entry that is there never changes
(docs/events.md). `python -m tests.test_events` prints the entries that are missing.
"""

import dataclasses
import inspect
import json
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import ValidationError

from ledger import states
from ledger.events import EVENT_TYPES, Event, read_event
from tests.builders import EXAMPLES
from tests.conftest import Database

GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "golden" / "events.json").read_text(encoding="utf-8"))
ROWS = [row for _, row in inspect.getmembers(states, dataclasses.is_dataclass) if hasattr(row, "VIEW")]
# Views whose rows are not the state of one entity: no command reads a row of them whole.
WITHOUT_ROW = {
    "administrators",
    "role_rules",
    "reference_changes",
    "audit_entries",
    "acts",
    "consequences",
    "logs",
    "archived_partitions",
    "archived_tokens",
}


def entry(event: Event) -> str:
    """The name of an event's entry in the golden file."""
    return f"{event.TYPE}/{event.SCHEMA_VERSION}"


def by_type(event: Event) -> str:
    return event.TYPE


@pytest.mark.parametrize("event", EXAMPLES, ids=by_type)
def test_an_event_is_written_as_the_golden_bytes(event: Event) -> None:
    assert event.payload_json() == GOLDEN[entry(event)]


@pytest.mark.parametrize("event", EXAMPLES, ids=by_type)
def test_the_golden_bytes_are_read_as_the_event(event: Event) -> None:
    read = read_event(event.TYPE, GOLDEN[entry(event)])
    assert type(read) is type(event)
    assert read == event


def test_events_come_back_from_the_log_as_they_were_written(database: Database) -> None:
    # jsonb keeps neither the order of members nor their spacing: what counts is the event.
    with psycopg.connect(database.service) as connection:
        for event in EXAMPLES:
            stored = connection.execute("SELECT %s::jsonb::text", (event.payload_json(),)).fetchone()
            assert stored is not None
            assert read_event(event.TYPE, stored[0]) == event


def test_every_type_of_event_has_an_example_and_a_golden_entry() -> None:
    assert [type(event) for event in EXAMPLES] == list(EVENT_TYPES.values())
    assert {f"{tag}/{event_type.SCHEMA_VERSION}" for tag, event_type in EVENT_TYPES.items()} <= GOLDEN.keys()


def test_every_class_of_event_has_a_tag_of_its_own() -> None:
    # By name: a dataclass with slots is made twice.
    names = {cls.__name__ for cls in _all_subclasses(Event) if hasattr(cls, "TYPE")}
    assert names == {event_type.__name__ for event_type in EVENT_TYPES.values()}


def _all_subclasses(cls: type[Event]) -> set[type[Event]]:
    return {below for direct in cls.__subclasses__() for below in {direct, *_all_subclasses(direct)}}


@pytest.mark.parametrize("event", EXAMPLES, ids=by_type)
def test_a_field_that_an_event_does_not_have_is_refused(event: Event) -> None:
    payload = json.loads(GOLDEN[entry(event)]) | {"stray": 1}
    with pytest.raises(ValidationError):
        read_event(event.TYPE, json.dumps(payload))


@pytest.mark.parametrize("event", EXAMPLES, ids=by_type)
def test_no_position_stands_in_a_payload(event: Event) -> None:
    assert '"position"' not in GOLDEN[entry(event)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.VIEW)
def test_the_fields_of_a_row_are_the_columns_of_its_view(row: type, database: Database) -> None:
    with psycopg.connect(database.service) as connection:
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'views' AND table_name = %s",
            (row.VIEW,),  # type: ignore[attr-defined]
        ).fetchall()
    assert {column for (column,) in found} == {field.name for field in dataclasses.fields(row)}


def test_every_view_has_a_row_or_is_known_to_need_none(database: Database) -> None:
    with psycopg.connect(database.service) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'views'").fetchall()
    assert {table for (table,) in tables} == {row.VIEW for row in ROWS} | WITHOUT_ROW


if __name__ == "__main__":
    missing = {entry(event): event.payload_json() for event in EXAMPLES if entry(event) not in GOLDEN}
    json.dump(missing, sys.stdout, indent=1, ensure_ascii=False)
