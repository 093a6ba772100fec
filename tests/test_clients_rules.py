"""Given rows, when a command about a client, then events or a refusal."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from ledger import clients
from ledger.builtin import CONSOLE, LEDGER_API
from ledger.clients import Ceilings, ClientSettings, client_id_of
from ledger.errors import BuiltIn, InvalidInput, NameIsTaken, NoSecret, UnknownApi, UnknownClient
from ledger.events import (
    ClientChanged,
    ClientRegistered,
    ClientReinstated,
    ClientSecretRotated,
    ClientSuspended,
    ClientTokensRevoked,
    Event,
    SubjectRegistered,
)
from ledger.states import State
from tests.rows import NOW, api, client, console, state

CEILINGS = Ceilings(access_lifetime_seconds=3_600, refresh_absolute_seconds=7_776_000)
SUBJECT = uuid4()


def register(given: State, settings: ClientSettings, *, name: str = "shop", public: bool = False) -> list[Event]:
    return clients.register(
        given,
        NOW,
        name=name,
        kind="public" if public else "confidential",
        settings=settings,
        ceilings=CEILINGS,
        secret_digest=None if public else "aa",
        subject_id=SUBJECT,
    )


def change(given: State, client_id: Any, **changes: Any) -> list[Event]:
    return clients.change(given, NOW, client_id=client_id, changes=changes, ceilings=CEILINGS, subject_id=SUBJECT)


def test_a_client_is_registered_under_the_id_of_its_name() -> None:
    orders = api()
    (registered,) = register(state(orders), ClientSettings(api_ids=(orders.api_id,), serves_api_id=orders.api_id))
    assert isinstance(registered, ClientRegistered)
    row = registered.client
    assert registered.stream == row.client_id == client_id_of("shop")
    assert (row.secret_digests, row.api_ids, row.serves_api_id, row.subject_id) == (
        ("aa",),
        (orders.api_id,),
        orders.api_id,
        None,
    )
    assert (row.access_lifetime_seconds, row.refresh_idle_seconds, row.refresh_absolute_seconds) == (600, 1_209_600, 7_776_000)
    assert (row.retry_window_seconds, row.refresh, row.status) == (30, "off", "active")


def test_a_name_that_a_client_has_is_refused_though_it_is_suspended() -> None:
    taken = client(client_id=client_id_of("shop"), status="suspended")
    with pytest.raises(NameIsTaken):
        register(state(taken), ClientSettings())


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "é", "A", "-a", "a" * 129, "a\n"])
def test_a_name_that_cannot_stand_in_a_url_and_in_basic_credentials_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        register(State(), ClientSettings(), name=name)


def test_client_credentials_make_the_client_a_service_account_in_the_same_command() -> None:
    subject, registered = register(State(), ClientSettings(grants=("client_credentials",)))
    assert isinstance(subject, SubjectRegistered)
    assert (subject.subject_id, subject.subject.kind) == (SUBJECT, "service")
    assert isinstance(registered, ClientRegistered)
    assert registered.client.subject_id == SUBJECT


def test_an_api_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownApi):
        register(State(), ClientSettings(api_ids=(uuid4(),)))
    with pytest.raises(UnknownApi):
        register(State(), ClientSettings(serves_api_id=uuid4()))


@pytest.mark.parametrize(
    ("settings", "public", "field"),
    [
        (ClientSettings(grants=("client_credentials",)), True, "grants"),
        (ClientSettings(grants=("issue",)), True, "grants"),
        (ClientSettings(serves_api_id=LEDGER_API), True, "serves"),
        (ClientSettings(grants=("refresh_token",)), False, "refresh"),
        (ClientSettings(refresh="rotating"), False, "refresh"),
        (ClientSettings(access_lifetime_seconds=59), False, "access_lifetime_seconds"),
        (ClientSettings(access_lifetime_seconds=3_601), False, "access_lifetime_seconds"),
        (ClientSettings(refresh_absolute_seconds=7_776_001), False, "refresh_absolute_seconds"),
        (ClientSettings(refresh_absolute_seconds=3_600, refresh_idle_seconds=3_601), False, "refresh_idle_seconds"),
        (ClientSettings(refresh_idle_seconds=59), False, "refresh_idle_seconds"),
        (ClientSettings(retry_window_seconds=-1), False, "retry_window_seconds"),
        (ClientSettings(retry_window_seconds=301), False, "retry_window_seconds"),
        (ClientSettings(api_ids=tuple(uuid4() for _ in range(101))), False, "apis"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_do_not_go_together_are_refused_by_name(settings: ClientSettings, public: bool, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        register(State(), settings, public=public)
    assert [problem.field for problem in refusal.value.problems] == [field]


def test_the_bounds_themselves_are_allowed() -> None:
    settings = ClientSettings(access_lifetime_seconds=3_600, refresh_idle_seconds=7_776_000, retry_window_seconds=300)
    assert len(register(State(), settings)) == 1
    assert (
        len(register(State(), replace(settings, access_lifetime_seconds=60, refresh_idle_seconds=60, retry_window_seconds=0)))
        == 1
    )


def test_every_rule_that_is_broken_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refusal:
        register(State(), ClientSettings(refresh="rotating", retry_window_seconds=301), public=True)
    assert {problem.field for problem in refusal.value.problems} == {"refresh", "retry_window_seconds"}


def test_a_secret_belongs_to_confidential_clients_only() -> None:
    with pytest.raises(InvalidInput):
        clients.register(
            State(),
            NOW,
            name="a",
            kind="public",
            settings=ClientSettings(),
            ceilings=CEILINGS,
            secret_digest="aa",
            subject_id=SUBJECT,
        )


def test_a_change_carries_the_whole_row_and_the_same_again_is_nothing_new() -> None:
    shop = client()
    (changed,) = change(state(shop), shop.client_id, strategy="jwt", access_lifetime_seconds=120)
    assert isinstance(changed, ClientChanged)
    assert changed.client == replace(shop, strategy="jwt", access_lifetime_seconds=120)
    assert change(state(changed.client), shop.client_id, strategy="jwt") == []


def test_a_change_is_held_to_the_same_rules() -> None:
    shop = client()
    with pytest.raises(InvalidInput):
        change(state(shop), shop.client_id, refresh="rotating")
    with pytest.raises(UnknownApi):
        change(state(shop), shop.client_id, api_ids=(uuid4(),))
    with pytest.raises(InvalidInput):
        change(state(replace(shop, kind="public")), shop.client_id, grants=("issue",))


def test_apis_that_the_client_has_need_not_be_read_again() -> None:
    shop = client(api_ids=(uuid4(),))
    assert [type(event) for event in change(state(shop), shop.client_id, strategy="jwe")] == [ClientChanged]


def test_a_client_keeps_its_service_account() -> None:
    shop = client()
    subject, changed = change(state(shop), shop.client_id, grants=("client_credentials",))
    assert isinstance(subject, SubjectRegistered)
    assert isinstance(changed, ClientChanged)
    (without,) = change(state(changed.client), shop.client_id, grants=())
    assert isinstance(without, ClientChanged)
    assert without.client.subject_id == SUBJECT
    assert [type(e) for e in change(state(without.client), shop.client_id, grants=("client_credentials",))] == [ClientChanged]


def test_a_new_secret_replaces_the_old_one_or_stands_beside_it_until_the_next() -> None:
    shop = client(secret_digests=("aa",))

    def rotate(given: State, digest: str, keep_old: bool) -> ClientSecretRotated:
        (rotated,) = clients.rotate_secret(given, NOW, client_id=shop.client_id, secret_digest=digest, keep_old=keep_old)
        assert isinstance(rotated, ClientSecretRotated)
        return rotated

    assert rotate(state(shop), "bb", False).client.secret_digests == ("bb",)
    both = rotate(state(shop), "bb", True).client
    assert both.secret_digests == ("bb", "aa")
    assert rotate(state(both), "cc", True).client.secret_digests == ("cc", "bb")


def test_a_public_client_has_no_secret_to_rotate() -> None:
    with pytest.raises(NoSecret):
        clients.rotate_secret(state(console()), NOW, client_id=CONSOLE, secret_digest="bb", keep_old=False)


def test_a_client_is_suspended_and_reinstated() -> None:
    shop, until = client(), NOW + timedelta(hours=1)
    (suspended,) = clients.suspend(state(shop), NOW, client_id=shop.client_id, reason="leaked", until=until)
    assert isinstance(suspended, ClientSuspended)
    assert (suspended.client.status, suspended.client.status_until) == ("suspended", until)
    again = state(suspended.client)
    assert clients.suspend(again, NOW, client_id=shop.client_id, reason="leaked", until=until) == []
    (reinstated,) = clients.reinstate(again, NOW, client_id=shop.client_id, reason=None)
    assert isinstance(reinstated, ClientReinstated)
    assert clients.reinstate(state(reinstated.client), NOW, client_id=shop.client_id, reason=None) == []


def test_revoking_the_tokens_of_a_client_cuts_off() -> None:
    shop = client()
    (revoked,) = clients.revoke_tokens(state(shop), NOW, client_id=shop.client_id, reason="leaked")
    assert isinstance(revoked, ClientTokensRevoked)
    assert revoked.cuts_off
    assert revoked.reason == "leaked"


def test_what_people_log_in_through_stays() -> None:
    given = state(console())
    with pytest.raises(BuiltIn):
        clients.suspend(given, NOW, client_id=CONSOLE, reason=None)
    with pytest.raises(BuiltIn):
        change(given, CONSOLE, grants=("refresh_token",))
    with pytest.raises(BuiltIn):
        change(given, CONSOLE, api_ids=())
    assert len(change(given, CONSOLE, access_lifetime_seconds=300)) == 1
    assert len(clients.revoke_tokens(given, NOW, client_id=CONSOLE, reason=None)) == 1


COMMANDS: dict[str, Callable[[State], list[Event]]] = {
    "change": lambda s: change(s, SUBJECT),
    "set_keys": lambda s: clients.set_keys(s, NOW, client_id=SUBJECT, public_keys=(), keep_secrets=False),
    "rotate_secret": lambda s: clients.rotate_secret(s, NOW, client_id=SUBJECT, secret_digest="aa", keep_old=False),
    "suspend": lambda s: clients.suspend(s, NOW, client_id=SUBJECT, reason=None),
    "reinstate": lambda s: clients.reinstate(s, NOW, client_id=SUBJECT, reason=None),
    "revoke_tokens": lambda s: clients.revoke_tokens(s, NOW, client_id=SUBJECT, reason=None),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_client_that_is_not_there_is_unknown(command: Callable[[State], list[Event]]) -> None:
    with pytest.raises(UnknownClient):
        command(State())
