"""The rules of a key's life, without a database: each command, each status, and the scheduled rotation at its instants."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from ledger.errors import LedgerError
from ledger.events import Event, KeyActivated, KeyEvent, KeyMade, KeyRetired, KeyRevoked
from ledger.keys import (
    AFTER_THE_LAST,
    ENCRYPTION_KEY_LIFETIME,
    MADE_AHEAD,
    MAX_PENDING,
    PUBLISHED_AHEAD,
    KeysChangedMeanwhile,
    KeyTooNew,
    TooManyPendingKeys,
    UnknownKey,
    Use,
    WrongKeyStatus,
    activate,
    active_key,
    is_published,
    make,
    next_key_id,
    next_step,
    renew,
    retire,
    revoke,
)
from ledger.states import Key
from tests import builders
from tests.rows import NOW, state

LIFETIME = timedelta(days=90)
MOMENT = timedelta(microseconds=1)
EVERY_STATUS = ("pending", "active", "retired", "revoked")


def key(status: str = "pending", *, age: timedelta = timedelta(days=10), use: str = "sig", position: int = 1) -> Key:
    """Make a key that was made and came to its status `age` ago."""
    algorithm, jwk = ("EdDSA", {"kty": "OKP"}) if use == "sig" else ("A256GCM", None)
    return builders.key(
        use=use,
        algorithm=algorithm,
        public_jwk=jwk,
        made_at=NOW - age,
        changed_at=NOW - age,
        status=status,
        status_reason="leaked" if status == "revoked" else None,
        position=position,
    )


def changes(events: Sequence[Event]) -> list[tuple[type[Event], UUID, str]]:
    """Answer what the events do: each with its key and the status that this has afterwards, since now."""
    for event in events:
        assert isinstance(event, KeyEvent)
        assert event.key_id == event.key.key_id
        assert event.key.changed_at == NOW
    return [(type(event), event.key.key_id, event.key.status) for event in events if isinstance(event, KeyEvent)]


def activated(new: Key, *old: Key) -> list[tuple[type[Event], UUID, str]]:
    """Answer what an activation does."""
    return [(KeyActivated, new.key_id, "active"), *((KeyRetired, key.key_id, "retired") for key in old)]


# ----------------------------------------------------------------------------------------------------------------- making


def test_a_key_is_made_pending_from_now_on_whatever_its_maker_says() -> None:
    (made,) = make(state(key("active")), NOW, key=key("active", age=LIFETIME))
    assert isinstance(made, KeyMade)
    assert (made.key.status, made.key.made_at, made.key.changed_at) == ("pending", NOW, NOW)


def test_a_key_that_is_known_is_not_made_again() -> None:
    pending = key()
    assert make(state(pending), NOW, key=pending) == []


@pytest.mark.parametrize("use", ["sig", "enc"])
def test_pending_keys_are_limited_by_use(use: str) -> None:
    waiting = [key(use=use) for _ in range(MAX_PENDING)]
    with pytest.raises(TooManyPendingKeys) as refused:
        make(state(*waiting), NOW, key=key(use=use))
    assert refused.value.limit == MAX_PENDING
    assert make(state(*waiting), NOW, key=key(use="enc" if use == "sig" else "sig"))
    assert make(state(*waiting[1:], key("retired", use=use)), NOW, key=key(use=use))


# ------------------------------------------------------------------------------------------------------------- activation


@pytest.mark.parametrize("use", ["sig", "enc"])
def test_activating_a_key_retires_the_active_one_of_its_use_alone(use: str) -> None:
    pending, active, other = key(use=use), key("active", use=use), key("active", use="enc" if use == "sig" else "sig")
    assert changes(activate(state(pending, active, other), NOW, key_id=pending.key_id)) == activated(pending, active)


def test_a_signing_key_is_activated_two_hours_after_it_was_published_and_no_moment_before() -> None:
    active, pending = key("active"), key(age=PUBLISHED_AHEAD)
    with pytest.raises(KeyTooNew) as refused:
        activate(state(active, pending), NOW - MOMENT, key_id=pending.key_id)
    assert refused.value.from_at == NOW
    assert "2026-03-01T12:00:00.000000Z" in refused.value.message
    assert changes(activate(state(active, pending), NOW, key_id=pending.key_id)) == activated(pending, active)


def test_an_encryption_key_is_activated_at_once_for_nobody_else_needs_it() -> None:
    active, pending = key("active", use="enc"), key(age=timedelta(0), use="enc")
    assert changes(activate(state(active, pending), NOW, key_id=pending.key_id)) == activated(pending, active)


def test_activating_the_active_key_is_nothing_new() -> None:
    active = key("active")
    assert activate(state(active), NOW, key_id=active.key_id) == []


@pytest.mark.parametrize("status", ["retired", "revoked"])
def test_what_is_over_is_not_activated(status: str) -> None:
    over = key(status)
    with pytest.raises(WrongKeyStatus) as refused:
        activate(state(over, key("active")), NOW, key_id=over.key_id)
    assert refused.value.status == status


def test_an_activation_that_does_not_see_the_active_key_is_tried_again() -> None:
    # The active one was activated after the ids of all keys were read.
    pending = key()
    with pytest.raises(KeysChangedMeanwhile):
        activate(state(pending, key("retired")), NOW, key_id=pending.key_id)


# ----------------------------------------------------------------------------------------------------- retiring, revoking


def test_a_pending_key_is_retired_by_itself_and_an_active_one_by_the_next() -> None:
    pending, active = key(), key("active")
    assert changes(retire(state(pending, active), NOW, key_id=pending.key_id)) == [(KeyRetired, pending.key_id, "retired")]
    for status in ("active", "revoked"):
        refused = key(status)
        with pytest.raises(WrongKeyStatus):
            retire(state(refused), NOW, key_id=refused.key_id)
    retired = key("retired")
    assert retire(state(retired), NOW, key_id=retired.key_id) == []


@pytest.mark.parametrize("status", ["pending", "retired"])
def test_revoking_a_key_that_is_not_the_active_one_needs_no_other(status: str) -> None:
    revoked = key(status)
    events = revoke(state(revoked, key("active"), key()), NOW, key_id=revoked.key_id, reason="leaked")
    assert changes(events) == [(KeyRevoked, revoked.key_id, "revoked")]
    assert isinstance(events[0], KeyRevoked)
    assert events[0].key.status_reason == "leaked"


def test_a_key_is_revoked_once_for_the_first_reason() -> None:
    revoked = key("revoked")
    assert revoke(state(revoked), NOW, key_id=revoked.key_id, reason="again", spare=key()) == []


def test_in_the_place_of_the_revoked_active_key_comes_the_oldest_pending_one_of_its_use() -> None:
    active, older, newer = key("active"), key(age=timedelta(hours=2), position=9), key(age=timedelta(hours=1), position=2)
    world = state(newer, key(use="enc", age=LIFETIME), active, older, key("retired"))
    events = revoke(world, NOW, key_id=active.key_id, reason="leaked", spare=key())
    assert changes(events) == [(KeyRevoked, active.key_id, "revoked"), (KeyActivated, older.key_id, "active")]


def test_in_an_emergency_a_key_that_was_made_just_now_is_good_enough() -> None:
    active, pending = key("active"), key(age=timedelta(0))
    events = revoke(state(active, pending), NOW, key_id=active.key_id, reason="leaked")
    assert changes(events)[1] == (KeyActivated, pending.key_id, "active")


@pytest.mark.parametrize("use", ["sig", "enc"])
def test_where_no_key_is_pending_the_spare_is_made_and_activated(use: str) -> None:
    active, spare = key("active", use=use), key(use=use)
    events = revoke(state(active, key("retired", use=use)), NOW, key_id=active.key_id, reason="leaked", spare=spare)
    assert changes(events) == [
        (KeyRevoked, active.key_id, "revoked"),
        (KeyMade, spare.key_id, "pending"),
        (KeyActivated, spare.key_id, "active"),
    ]


def test_the_active_key_is_never_revoked_without_another_in_its_place() -> None:
    active, pending, over = key("active"), key(use="enc"), key("revoked")
    for spare in (None, pending, over):
        with pytest.raises(KeysChangedMeanwhile):
            revoke(state(active, over), NOW, key_id=active.key_id, reason="leaked", spare=spare)


COMMANDS: dict[str, Callable[..., list[Event]]] = {
    "activate": activate,
    "retire": retire,
    "revoke": lambda *arguments, key_id: revoke(*arguments, key_id=key_id, reason="leaked", spare=key()),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_that_nobody_made_is_unknown(command: str) -> None:
    with pytest.raises(UnknownKey):
        COMMANDS[command](state(key("active")), NOW, key_id=uuid4())


@pytest.mark.parametrize("status", EVERY_STATUS)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("use", ["sig", "enc"])
def test_after_every_command_one_key_of_each_use_is_active(command: str, status: str, use: str) -> None:
    world = state(key("active"), key("active", use="enc"), key(), key(use="enc"), key("retired"), key("revoked", use="enc"))
    asked = next((k for k in world.keys.values() if (k.use, k.status) == (use, status)), key(status, use=use))
    world.keys.setdefault(asked.key_id, asked)
    try:
        events = COMMANDS[command](world, NOW, key_id=asked.key_id)
    except LedgerError:
        return
    rows = world.keys | {event.key_id: event.key for event in events if isinstance(event, KeyEvent)}
    assert sorted(row.use for row in rows.values() if row.status == "active") == ["enc", "sig"]


# ----------------------------------------------------------------------------------------------------- scheduled rotation


def step(*keys: Key, use: Use = "sig", now: datetime = NOW, lifetime: timedelta = LIFETIME) -> str | None:
    return next_step(keys, now, use=use, lifetime=lifetime)


def test_the_next_signing_key_is_made_a_day_before_it_is_needed() -> None:
    active = key("active", age=LIFETIME - MADE_AHEAD)
    assert step(active, now=NOW - MOMENT) is None
    assert step(active) == "make"
    assert step(active, key(age=timedelta(0))) is None


def test_the_next_signing_key_is_activated_at_its_time_if_verifiers_know_it() -> None:
    active = key("active", age=LIFETIME)
    assert step(active, key(), now=NOW - MOMENT) is None
    assert step(active, key()) == "activate"
    assert step(active, key(age=PUBLISHED_AHEAD), now=NOW) == "activate"
    assert step(active, key(age=PUBLISHED_AHEAD - MOMENT)) is None


def test_after_a_long_sleep_the_next_key_is_published_before_it_is_used() -> None:
    active = key("active", age=10 * LIFETIME)
    assert step(active) == "make"
    assert step(active, key(age=timedelta(hours=1))) is None


def test_an_encryption_key_serves_a_day_and_its_successor_is_made_at_that_moment() -> None:
    lifetime = ENCRYPTION_KEY_LIFETIME
    active = key("active", age=lifetime, use="enc")
    assert step(active, use="enc", lifetime=lifetime, now=NOW - MOMENT) is None
    assert step(active, use="enc", lifetime=lifetime) == "replace"
    assert step(active, key(use="enc", age=timedelta(0)), use="enc", lifetime=lifetime) == "activate"


def test_the_keys_of_one_use_say_nothing_of_the_other() -> None:
    assert step(key("active", use="enc", age=LIFETIME), use="sig") is None
    assert step(key("active", age=LIFETIME), key(use="enc")) == "make"


def test_a_rotation_takes_the_step_it_wants() -> None:
    due, soon, spare = key("active", age=LIFETIME), key("active", age=LIFETIME - MADE_AHEAD), key()

    def taken(*keys: Key, use: Use = "sig", spare: Key | None = spare) -> list[tuple[type[Event], UUID, str]]:
        return changes(renew(state(*keys), NOW, use=use, lifetime=LIFETIME, spare=spare))

    assert taken(soon) == [(KeyMade, spare.key_id, "pending")]
    pending = key(age=PUBLISHED_AHEAD)
    assert taken(due, key(age=timedelta(hours=1)), pending, spare=None) == activated(pending, due)
    secret, new_secret = key("active", age=LIFETIME, use="enc"), key(use="enc")
    assert taken(secret, use="enc", spare=new_secret) == [
        (KeyMade, new_secret.key_id, "pending"),
        *activated(new_secret, secret),
    ]


def test_a_rotation_that_finds_its_key_made_by_another_worker_does_nothing() -> None:
    spare = key(age=timedelta(0))
    active = key("active", age=LIFETIME)
    assert renew(state(active, spare), NOW, use="sig", lifetime=LIFETIME, spare=spare) == []
    assert renew(state(active, replace(spare, status="retired")), NOW, use="sig", lifetime=LIFETIME, spare=spare) == []
    assert renew(state(active), NOW, use="sig", lifetime=LIFETIME, spare=None) == []


def test_every_worker_gives_the_next_key_the_same_id_and_none_that_is_taken() -> None:
    active = uuid4()
    first = next_key_id({active}, active)
    assert first == next_key_id([active, uuid4()], active)
    second = next_key_id({active, first}, active)
    assert len({active, first, second}) == 3
    assert next_key_id({active, first, second}, active) not in {active, first, second}
    assert next_key_id({active}, uuid4()) != first


def test_the_active_key_is_the_one_that_was_activated_last() -> None:
    older, newer = key("active", position=5), key("active", position=7, age=2 * LIFETIME)
    assert active_key([newer, older, key(position=9)], "sig") == newer
    assert active_key([key(use="enc"), key("retired")], "enc") is None


# ------------------------------------------------------------------------------------------------------------ publication


@pytest.mark.parametrize("status", ["pending", "active"])
def test_a_key_is_published_from_the_moment_it_is_made(status: str) -> None:
    assert is_published(key(status, age=timedelta(0)), NOW, timedelta(hours=1))
    assert is_published(key(status, age=100 * LIFETIME), NOW, timedelta(hours=1))


def test_a_retired_key_is_published_until_the_last_token_that_needs_it_is_gone() -> None:
    longest = timedelta(hours=1)
    retired = key("retired", age=longest + AFTER_THE_LAST)
    assert is_published(retired, NOW - MOMENT, longest)
    assert not is_published(retired, NOW, longest)


def test_a_revoked_key_and_one_for_encryption_are_never_published() -> None:
    assert not is_published(key("revoked", age=timedelta(0)), NOW, LIFETIME)
    assert not any(is_published(key(status, use="enc"), NOW, LIFETIME) for status in EVERY_STATUS)
