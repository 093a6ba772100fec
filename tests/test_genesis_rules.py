"""The first command of a log, and what it lets whom do."""

from uuid import uuid4

import pytest

from ledger.builtin import ADMINISTRATOR_ROLE, AUDITOR_ROLE, CONSOLE, LEDGER_API, OPERATOR_ROLE
from ledger.events import (
    AdministratorsChanged,
    ClientRegistered,
    Event,
    KeyActivated,
    KeyMade,
    LogOpened,
    RoleRulesGranted,
    SubjectRolesGranted,
)
from ledger.genesis import genesis
from ledger.subjects import administers
from tests.builders import key
from tests.conftest import Database
from tests.recording import contents, record
from tests.rows import NOW

ADMINISTRATOR = uuid4()
KEYS = [key(status="pending"), key(use="enc", algorithm="A256GCM", public_jwk=None, status="pending")]


@pytest.fixture
def events() -> list[Event]:
    return genesis(
        NOW,
        log_id=uuid4(),
        keys=KEYS,
        administrator_id=ADMINISTRATOR,
        administrator_name_id=uuid4(),
        sealed_profile=b"profile",
        sealed_password=b"password",
    )


def test_a_log_opens_with_its_identity(events: list[Event]) -> None:
    assert isinstance(events[0], LogOpened)


def test_there_is_an_administrator_from_the_start(events: list[Event]) -> None:
    (granted,) = (event for event in events if isinstance(event, SubjectRolesGranted))
    (administrators,) = (event for event in events if isinstance(event, AdministratorsChanged))
    assert administers(granted.subject)
    assert administrators.subject_ids == (ADMINISTRATOR,)


def test_people_log_in_through_the_console(events: list[Event]) -> None:
    (registered,) = (event for event in events if isinstance(event, ClientRegistered))
    row = registered.client
    assert (row.client_id, row.kind, row.strategy, row.refresh) == (CONSOLE, "public", "opaque", "rotating")
    assert "password" in row.grants
    assert row.api_ids == (LEDGER_API,)


def test_every_key_is_made_and_then_active(events: list[Event]) -> None:
    about_keys = [event for event in events if isinstance(event, KeyMade | KeyActivated)]
    assert [(type(event), event.key.status) for event in about_keys] == [(KeyMade, "pending"), (KeyActivated, "active")] * 2


def test_the_built_in_roles_have_the_rules_they_are_named_for(events: list[Event]) -> None:
    granted = {event.role_id: event for event in events if isinstance(event, RoleRulesGranted)}
    rules = {role_id: {(rule.methods, rule.path) for rule in event.rules} for role_id, event in granted.items()}
    metrics = (("GET",), "/metrics")
    assert rules[ADMINISTRATOR_ROLE] == {(("*",), "/v1/**"), metrics}
    assert rules[AUDITOR_ROLE] == {(("GET",), "/v1/**"), metrics}
    assert metrics in rules[OPERATOR_ROLE]
    assert (("POST",), "/v1/subjects/{subject_id}/suspend") in rules[OPERATOR_ROLE]
    assert not any("erase" in path or "roles" in path for _, path in rules[OPERATOR_ROLE])
    assert all(event.role.rule_count == len(event.rules) for event in granted.values())


def test_the_views_are_folded_from_it(events: list[Event], database: Database) -> None:
    record(database, events)
    views = contents(database)
    assert views["administrators"][0]["subject_ids"] == [str(ADMINISTRATOR)]
    assert len(views["logs"]) == len(views["clients"]) == len(views["apis"]) == 1
    assert len(views["role_rules"]) == sum(len(event.rules) for event in events if isinstance(event, RoleRulesGranted))
