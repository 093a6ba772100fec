"""The error tree: every refusal has a code of its own that never changes, and a status over HTTP."""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

import pytest

import api
import ledger
import projections
from api.errors import OAuthError, PayloadTooLarge, status_of
from ledger.errors import InvalidInput, LedgerError, NameIsTaken, Problem, TooManyRoles, UnknownSubject

# Codes are for ever: clients compare them. A new error adds a line here; a line that is here neither changes nor goes.
# 500: what is never meant to reach a caller of HTTP, but the command line or the code above.
CODES = {
    "archive_needed": [500],
    "archive_refused": [500],
    "bad_key_set": [500],
    "bad_request": [400],
    "built_in": [409],
    "client_changed_meanwhile": [503],
    "command_refused": [500],
    "command_too_large": [500],
    "contention": [503],
    "cursor_of_another_log": [410],
    "data_folder_in_use": [500],
    "database_unavailable": [500, 503],
    "embedded_postgres_failed": [500],
    "error": [500],
    "fold_failed": [500],
    "folds_too_old": [500],
    "grant_refused": [409, 500],
    "hashing_busy": [503],
    "idempotency_key_reused": [422],
    "install_refused": [500],
    "internal_error": [500],
    "invalid_input": [400],
    "invalid_token": [500],
    "key_too_new": [409],
    "keys_changed_meanwhile": [503],
    "moment_not_over": [503],
    "last_administrator": [409],
    "login_refused": [401],
    "malformed_token": [500],
    "method_not_allowed": [405],
    "name_taken": [409],
    "no_decision": [503],
    "no_room": [500],
    "no_secret": [409],
    "no_such_endpoint": [404],
    "not_a_person": [409],
    "not_allowed": [403],
    "not_authenticated": [401],
    "not_found": [404],
    "not_installed": [500],
    "nothing_to_go_back_to": [500],
    "outcome_unknown": [503],
    "overloaded": [503],
    "partition_archived": [410],
    "partition_in_use": [500],
    "plan_is_past": [409],
    "refused": [409],
    "replay_running": [500],
    "seal_broken": [500],
    "subject_erased": [409],
    "swap_blocked": [500],
    "token_revoked": [409],
    "too_many_attempts": [429],
    "too_many_roles": [409],
    "too_many_rules": [409],
    "too_many_pending_keys": [409],
    "too_many_subscribers": [503],
    "try_again": [503],
    "unknown_api": [404],
    "unknown_client": [404],
    "unknown_family": [404],
    "unknown_key": [404],
    "unknown_lockout": [404],
    "unknown_role": [404],
    "unknown_subject": [404],
    "unknown_token": [404],
    "unsafe_key": [500],
    "unsafe_settings": [400],
    "unsupported_media_type": [415],
    "wrong_key_status": [409],
}
# What is one thing to a caller is raised in several layers under one code.
SHARED = {
    "database_unavailable": {"NotRecorded", "LookupFailed", "DatabaseUnavailable", "DatabaseAway"},
    "overloaded": {"Overloaded", "LookupOverloaded"},
    # The cause, for the ledger's own log, and what it becomes where the asker may know it.
    "grant_refused": {"GrantRefused", "TokenRefused"},
}
OWN_STATUS = (OAuthError, PayloadTooLarge)  # the one that raises says it


def _import_everything() -> None:
    for package in (ledger, projections, api):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def _tree(error: type[LedgerError]) -> Iterator[type[LedgerError]]:
    yield error
    for below in error.__subclasses__():
        if below.__module__.partition(".")[0] in ("ledger", "projections", "api"):
            yield from _tree(below)


_import_everything()
ERRORS = sorted(set(_tree(LedgerError)), key=lambda error: (error.code, error.__name__))


def test_every_error_has_a_code_of_its_own_but_for_those_that_are_one_thing_to_a_caller() -> None:
    by_code = defaultdict(set)
    for error in ERRORS:
        assert "code" in vars(error), error
        by_code[error.code].add(error.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == SHARED


def test_codes_and_their_statuses_never_change() -> None:
    found: dict[str, list[int]] = defaultdict(list)
    for error in ERRORS:
        if not issubclass(error, OWN_STATUS):
            found[error.code].append(status_of(error.__new__(error)))
    assert {code: sorted(set(statuses)) for code, statuses in found.items()} == CODES


def test_a_code_is_a_word_that_needs_no_quoting() -> None:
    for error in ERRORS:
        assert error.code.replace("_", "").isalpha()
        assert error.code == error.code.lower()


def test_an_error_says_what_it_is_in_its_docstring() -> None:
    assert [error for error in ERRORS if not error.__doc__] == []


def test_an_invalid_input_names_every_field_and_its_rule() -> None:
    error = InvalidInput([Problem("a.0", "at most 3"), Problem("", "JSON")])
    assert str(error) == error.message == "a.0: at most 3; input: JSON"
    assert error.problems == (Problem("a.0", "at most 3"), Problem("", "JSON"))
    assert InvalidInput.of("a", "b").problems == (Problem("a", "b"),)


@pytest.mark.parametrize(
    ("error", "evidence"),
    [
        (UnknownSubject(UUID(int=1)), {"subject_id": UUID(int=1)}),
        (NameIsTaken("client"), {"kind": "client"}),
        (TooManyRoles(101, 100), {"wanted": 101, "limit": 100}),
    ],
)
def test_an_error_carries_its_evidence_as_attributes(error: LedgerError, evidence: dict[str, object]) -> None:
    assert {name: getattr(error, name) for name in evidence} == evidence
    assert str(error) == error.message
