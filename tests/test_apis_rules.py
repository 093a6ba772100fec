"""Given rows, when a command about an API or a role, then events or a refusal."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from ledger import apis
from ledger.apis import api_id_of, role_name_id
from ledger.builtin import ADMINISTRATOR_ROLE, LEDGER_API
from ledger.errors import BuiltIn, InvalidInput, NameIsTaken, TooManyRules, UnknownApi, UnknownRole
from ledger.events import (
    ApiChanged,
    ApiRegistered,
    ApiReinstated,
    ApiSuspended,
    ApiTokensRevoked,
    Event,
    NameReleased,
    NameTaken,
    RoleCreated,
    RoleRemoved,
    RoleRulesGranted,
    RoleRulesWithdrawn,
)
from ledger.states import Name, State
from tests.rows import NOW, api, ledger_api, role, rule_of_role, state

SOME_ID = uuid4()


def types(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


# ----------------------------------------------------------------------------------------------------------------- APIs


def test_an_api_is_its_own_audience_unless_said_otherwise() -> None:
    (registered,) = apis.register(State(), NOW, name="orders")
    assert isinstance(registered, ApiRegistered)
    assert registered.stream == api_id_of("orders")
    assert (registered.api.audience, registered.api.status) == ("orders", "active")
    assert (registered.api.semicolons, registered.api.preflights) == (False, False)
    uri = "https://api.example.com/orders"
    (with_uri,) = apis.register(State(), NOW, name="orders", audience=uri, semicolons=True, preflights=True)
    assert isinstance(with_uri, ApiRegistered)
    assert (with_uri.api.audience, with_uri.api.semicolons, with_uri.api.preflights) == (uri, True, True)


@pytest.mark.parametrize(
    "audience", ["https://api.example.com/?q=%41", "urn:example:orders", "https://[::1]:8443/a", "orders2"]
)
def test_an_audience_is_a_name_or_an_absolute_uri(audience: str) -> None:
    assert types(apis.register(State(), NOW, name="orders", audience=audience)) == [ApiRegistered]


@pytest.mark.parametrize(
    "audience", ["", "a b", "https://a/#b", "https://a b/", ":a", "/orders", "https:", "é:b", "u:" + "a" * 254]
)
def test_another_audience_is_refused(audience: str) -> None:
    with pytest.raises(InvalidInput):
        apis.register(State(), NOW, name="orders", audience=audience)


def test_a_name_that_an_api_has_is_refused() -> None:
    with pytest.raises(NameIsTaken):
        apis.register(state(api(api_id=api_id_of("orders"))), NOW, name="orders")


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a b"])
def test_a_name_that_cannot_stand_in_a_scope_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        apis.register(State(), NOW, name=name)


def test_an_api_changes_only_where_something_is_new() -> None:
    orders = api()
    (changed,) = apis.change(state(orders), NOW, api_id=orders.api_id, semicolons=True)
    assert isinstance(changed, ApiChanged)
    assert changed.api == replace(orders, semicolons=True)
    assert apis.change(state(orders), NOW, api_id=orders.api_id, preflights=True) == [
        ApiChanged(api_id=orders.api_id, api=replace(orders, preflights=True))
    ]
    assert apis.change(state(orders), NOW, api_id=orders.api_id, audience=orders.audience) == []
    with pytest.raises(InvalidInput):
        apis.change(state(orders), NOW, api_id=orders.api_id, audience="a b")


def test_an_api_is_suspended_and_reinstated() -> None:
    orders = api()
    (suspended,) = apis.suspend(state(orders), NOW, api_id=orders.api_id, reason="down")
    assert isinstance(suspended, ApiSuspended)
    assert suspended.api.status == "suspended"
    again = state(suspended.api)
    assert apis.suspend(again, NOW, api_id=orders.api_id, reason="down") == []
    (reinstated,) = apis.reinstate(again, NOW, api_id=orders.api_id, reason=None)
    assert isinstance(reinstated, ApiReinstated)
    assert apis.reinstate(state(reinstated.api), NOW, api_id=orders.api_id, reason=None) == []


def test_revoking_the_tokens_of_an_api_cuts_off() -> None:
    orders = api()
    (revoked,) = apis.revoke_tokens(state(orders), NOW, api_id=orders.api_id, reason="leaked")
    assert isinstance(revoked, ApiTokensRevoked)
    assert revoked.cuts_off
    assert revoked.reason == "leaked"


def test_the_api_that_manages_the_ledger_stays_as_it_is() -> None:
    given = state(ledger_api())
    with pytest.raises(BuiltIn):
        apis.suspend(given, NOW, api_id=LEDGER_API, reason=None)
    with pytest.raises(BuiltIn):
        apis.change(given, NOW, api_id=LEDGER_API, semicolons=True)
    assert types(apis.revoke_tokens(given, NOW, api_id=LEDGER_API, reason=None)) == [ApiTokensRevoked]


# ---------------------------------------------------------------------------------------------------------------- roles


def test_a_role_takes_its_name_in_its_api() -> None:
    orders, role_id = api(), uuid4()
    taken, created = apis.create_role(state(orders), NOW, role_id=role_id, api_id=orders.api_id, name="read:all")
    assert taken == NameTaken(name_id=role_name_id(orders.api_id, "read:all"), kind="role", holder_id=role_id)
    assert isinstance(created, RoleCreated)
    assert (created.role.name, created.role.rule_count, created.role.removed) == ("read:all", 0, False)


def test_two_apis_may_have_roles_of_the_same_name() -> None:
    assert role_name_id(uuid4(), "reader") != role_name_id(uuid4(), "reader")


@pytest.mark.parametrize("name", ["direct", "", "a/b", "a b", ":a", "a" * 129])
def test_a_name_that_cannot_be_a_roles_is_refused(name: str) -> None:
    orders = api()
    with pytest.raises(InvalidInput):
        apis.create_role(state(orders), NOW, role_id=uuid4(), api_id=orders.api_id, name=name)


def test_a_role_name_that_is_taken_is_refused_and_one_released_is_free() -> None:
    orders = api()
    stream = role_name_id(orders.api_id, "reader")
    taken = state(orders, Name(name_id=stream, kind="role", holder_id=SOME_ID))
    with pytest.raises(NameIsTaken):
        apis.create_role(taken, NOW, role_id=uuid4(), api_id=orders.api_id, name="reader")
    free = state(orders, Name(name_id=stream, kind="role", holder_id=None))
    assert types(apis.create_role(free, NOW, role_id=uuid4(), api_id=orders.api_id, name="reader")) == [NameTaken, RoleCreated]


def test_granting_rules_adds_only_those_that_do_not_stand_each_once() -> None:
    held, new, reader = rule_of_role("/a"), rule_of_role("/b"), role(rule_count=1)
    given = state(reader, standing=frozenset({(reader.role_id, held.rule_id)}))
    (granted,) = apis.grant_rules(given, NOW, role_id=reader.role_id, rules=[held, new, new])
    assert isinstance(granted, RoleRulesGranted)
    assert (granted.rules, granted.role.rule_count) == ((new,), 2)
    assert apis.grant_rules(given, NOW, role_id=reader.role_id, rules=[held]) == []


def test_a_role_holds_at_most_ten_thousand_rules() -> None:
    nearly, full = role(rule_count=9_999), role(rule_count=10_000)
    assert len(apis.grant_rules(state(nearly), NOW, role_id=nearly.role_id, rules=[rule_of_role()])) == 1
    with pytest.raises(TooManyRules):
        apis.grant_rules(state(full), NOW, role_id=full.role_id, rules=[rule_of_role()])


def test_withdrawing_rules_takes_those_that_stand() -> None:
    held, other, reader = rule_of_role("/a"), rule_of_role("/b"), role(rule_count=1)
    given = state(reader, standing=frozenset({(reader.role_id, held.rule_id)}))
    (withdrawn,) = apis.withdraw_rules(given, NOW, role_id=reader.role_id, rules=[held, other])
    assert isinstance(withdrawn, RoleRulesWithdrawn)
    assert (withdrawn.rules, withdrawn.role.rule_count) == ((held,), 0)
    assert apis.withdraw_rules(given, NOW, role_id=reader.role_id, rules=[other]) == []


def test_removing_a_role_frees_its_name_and_twice_is_nothing_new() -> None:
    reader = role()
    released, removed = apis.remove_role(state(reader), NOW, role_id=reader.role_id)
    assert released == NameReleased(name_id=role_name_id(reader.api_id, reader.name), kind="role")
    assert isinstance(removed, RoleRemoved)
    assert removed.role.removed
    assert apis.remove_role(state(removed.role), NOW, role_id=reader.role_id) == []


def test_a_removed_role_takes_no_rules() -> None:
    gone = role(removed=True)
    with pytest.raises(UnknownRole):
        apis.grant_rules(state(gone), NOW, role_id=gone.role_id, rules=[rule_of_role()])


def test_the_built_in_roles_stay_as_they_are() -> None:
    administrator = role(role_id=ADMINISTRATOR_ROLE, api_id=LEDGER_API, name="administrator")
    rule = rule_of_role()
    given = state(administrator, standing=frozenset({(ADMINISTRATOR_ROLE, rule.rule_id)}))
    with pytest.raises(BuiltIn):
        apis.grant_rules(given, NOW, role_id=ADMINISTRATOR_ROLE, rules=[rule_of_role()])
    with pytest.raises(BuiltIn):
        apis.withdraw_rules(given, NOW, role_id=ADMINISTRATOR_ROLE, rules=[rule])
    with pytest.raises(BuiltIn):
        apis.remove_role(given, NOW, role_id=ADMINISTRATOR_ROLE)


UNKNOWN: dict[str, tuple[type[Exception], Callable[[], list[Event]]]] = {
    "change": (UnknownApi, lambda: apis.change(State(), NOW, api_id=SOME_ID)),
    "suspend": (UnknownApi, lambda: apis.suspend(State(), NOW, api_id=SOME_ID, reason=None)),
    "reinstate": (UnknownApi, lambda: apis.reinstate(State(), NOW, api_id=SOME_ID, reason=None)),
    "revoke_tokens": (UnknownApi, lambda: apis.revoke_tokens(State(), NOW, api_id=SOME_ID, reason=None)),
    "create_role": (UnknownApi, lambda: apis.create_role(State(), NOW, role_id=SOME_ID, api_id=SOME_ID, name="reader")),
    "grant_rules": (UnknownRole, lambda: apis.grant_rules(State(), NOW, role_id=SOME_ID, rules=[])),
    "withdraw_rules": (UnknownRole, lambda: apis.withdraw_rules(State(), NOW, role_id=SOME_ID, rules=[])),
    "remove_role": (UnknownRole, lambda: apis.remove_role(State(), NOW, role_id=SOME_ID)),
}


@pytest.mark.parametrize(("refusal", "command"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_there_is_unknown(refusal: type[Exception], command: Callable[[], list[Event]]) -> None:
    with pytest.raises(refusal):
        command()
