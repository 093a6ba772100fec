"""The rules of the keys that tokens are made with: pending, then active, then retired; revoked from any of these. Pure.

Of each use (`sig`: signing, `enc`: encryption) one key is active: new tokens are made with it. A key for signing is published
from the moment it is made, and so before the first token that needs it: a verifier that asks for the key set once an hour
never meets a `kid` it does not know. Whether a token made with a key stands is cascade.py; the private parts are
projections/keyring.py. docs/keys.md tells operators.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from ledger.errors import NotFound, Refused, TryAgain
from ledger.events import Event, KeyActivated, KeyMade, KeyRetired, KeyRevoked
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.states import Key, State

Use = Literal["sig", "enc"]
Step = Literal["make", "activate", "replace"]

# A verifier that asks once an hour, through a cache that keeps an answer for max-age, knows a key an hour and five minutes
# after it was published; the rest is for requests that fail and clocks that differ.
PUBLISHED_AHEAD: Final = timedelta(hours=2)
# So long before it is needed the next signing key is made: a night in which no server runs costs no rotation.
MADE_AHEAD: Final = timedelta(days=1)
# Tokens are made with a key for a moment after it was retired: by commands that were under way.
AFTER_THE_LAST: Final = timedelta(hours=1)
# An encryption key serves at most 2^31 tokens or a day; at 20,000 tokens a second a day is 1.7e9 < 2^31: the day binds.
ENCRYPTION_KEY_LIFETIME: Final = timedelta(days=1)
MAX_PENDING: Final = 10


class UnknownKey(NotFound):
    """There is no such key."""

    code = "unknown_key"
    cure = "Find it in `GET /v1/keys`, or `token-ledger key list`."

    def __init__(self, key_id: UUID | str) -> None:
        super().__init__("there is no such key")
        self.key_id = key_id


class WrongKeyStatus(Refused):
    """A key of this status cannot go where it is sent."""

    code = "wrong_key_status"
    cure = "Read its status in `GET /v1/keys`: a key goes from pending to active to retired, and may be revoked (docs/keys.md)."

    def __init__(self, status: str, rule: str) -> None:
        super().__init__(f"the key is {status}: {rule}")
        self.status = status


class KeyTooNew(Refused):
    """Verifiers may not have seen the key yet; from `from_at` on they have."""

    code = "key_too_new"
    cure = "Activate it at the instant that the message names, or later; a leaked one is revoked at once (docs/keys.md)."

    def __init__(self, from_at: datetime) -> None:
        super().__init__(f"verifiers may not have seen the key yet: activate it at {rfc3339(from_at)} or later")
        self.from_at = from_at


class TooManyPendingKeys(Refused):
    """At most `limit` keys of a use wait for their time."""

    code = "too_many_pending_keys"
    cure = "Activate or retire a pending key of this use first."

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} pending keys of a use: activate or retire some first")
        self.limit = limit


class KeysChangedMeanwhile(TryAgain):
    """Another key was activated while this command was reading; nothing was recorded."""

    code = "keys_changed_meanwhile"


# ------------------------------------------------------------------------------------------------------------- commands


def make(state: State, now: datetime, *, key: Key) -> list[Event]:
    """Make a key known, pending: from `now` on it is published. Reads every key. One that is known: no event.

    TooManyPendingKeys.
    """
    if key.key_id in state.keys:
        return []
    if len(_pending(state.keys.values(), key.use)) >= MAX_PENDING:
        raise TooManyPendingKeys(MAX_PENDING)
    return [KeyMade(key.key_id, _made(key, now))]


def activate(state: State, now: datetime, *, key_id: UUID) -> list[Event]:
    """Make new tokens with this key, and retire the one they were made with. Reads every key. Active already: no event.

    WrongKeyStatus: retired or revoked. KeyTooNew: a signing key that was published less than PUBLISHED_AHEAD ago.
    """
    key = _key(state, key_id)
    if key.status == "active":
        return []
    if key.status != "pending":
        raise WrongKeyStatus(key.status, "only a pending one can be activated")
    if not _is_known_to_verifiers(key, now):
        raise KeyTooNew(key.made_at + PUBLISHED_AHEAD)
    return _activated(state, key, now)


def retire(state: State, now: datetime, *, key_id: UUID) -> list[Event]:
    """Let a pending key never be used. Retired already: no event. WrongKeyStatus: active or revoked."""
    key = _key(state, key_id)
    if key.status == "retired":
        return []
    if key.status != "pending":
        raise WrongKeyStatus(key.status, "only a pending one can be retired, an active one by activating another")
    return [KeyRetired(key_id, replace(key, status="retired", changed_at=now))]


def revoke(state: State, now: datetime, *, key_id: UUID, reason: str, spare: Key | None = None) -> list[Event]:
    """Revoke a key: every token made with it is dead. Reads every key. Revoked already: no event.

    In the place of the active one comes the oldest pending one of its use, however new it is: verifiers that do not know it
    yet refuse its tokens until they ask for the key set again, which is the price of an emergency. Where none is pending, the
    `spare`. KeysChangedMeanwhile without one.
    """
    key = _key(state, key_id)
    if key.status == "revoked":
        return []
    events: list[Event] = [KeyRevoked(key_id, replace(key, status="revoked", changed_at=now, status_reason=reason))]
    if key.status != "active" or any(other.key_id != key_id for other in _active(state.keys.values(), key.use)):
        return events
    pending = _pending(state.keys.values(), key.use)
    if pending:
        return [*events, _activation(pending[0], now)]
    if spare is None or spare.use != key.use or spare.key_id in state.keys:
        raise KeysChangedMeanwhile("other keys were changed meanwhile")
    made = _made(spare, now)
    return [*events, KeyMade(spare.key_id, made), _activation(made, now)]


# --------------------------------------------------------------------------------------------------- scheduled rotation


def next_step(keys: Iterable[Key], now: datetime, *, use: Use, lifetime: timedelta) -> Step | None:
    """Answer what the rotation of a use wants now, where the active key serves for `lifetime`; None: nothing.

    make: the next key, pending. activate: a pending key that verifiers know. replace: make and activate a key at once, for
    encryption alone: nobody else needs to know it.
    """
    keys = list(keys)
    active = _active(keys, use)
    if not active:
        return None
    due_at = active[-1].changed_at + lifetime
    pending = _pending(keys, use)
    if now >= due_at and any(_is_known_to_verifiers(key, now) for key in pending):
        return "activate"
    if pending:
        return None
    if use == "enc":
        return "replace" if now >= due_at else None
    return "make" if now >= due_at - MADE_AHEAD else None


def renew(state: State, now: datetime, *, use: Use, lifetime: timedelta, spare: Key | None) -> list[Event]:
    """Take the step that the rotation of a use wants now, if any. Reads every key; `spare` is what may be made.

    Without the spare it wants, or with one that somebody else has made meanwhile: no event, the next look takes the step.
    """
    step = next_step(state.keys.values(), now, use=use, lifetime=lifetime)
    if step == "activate":
        known = [key for key in _pending(state.keys.values(), use) if _is_known_to_verifiers(key, now)]
        return _activated(state, known[0], now)
    if step is None or spare is None or spare.key_id in state.keys:
        return []
    made = _made(spare, now)
    events: list[Event] = [KeyMade(spare.key_id, made)]
    return events if step == "make" else [*events, *_activated(state, made, now)]


def next_key_id(key_ids: Collection[UUID], active_id: UUID) -> UUID:
    """Answer the id of the key that comes after the active one: the same on every worker that knows the same keys, so that of
    two that make it at once only one does."""
    key_id = name_id("key", str(active_id))
    while key_id in key_ids:
        key_id = name_id("key", str(key_id))
    return key_id


def active_key(keys: Iterable[Key], use: Use) -> Key | None:
    """Answer the key that new tokens are made with."""
    active = _active(keys, use)
    return active[-1] if active else None


# ---------------------------------------------------------------------------------------------------------- publication


def is_published(key: Key, now: datetime, longest: timedelta) -> bool:
    """Say whether the public key belongs into the key set: a token made with it lives for `longest` at most."""
    if key.public_jwk is None or key.status == "revoked":
        return False
    return key.status != "retired" or now < key.changed_at + longest + AFTER_THE_LAST


def _is_known_to_verifiers(key: Key, now: datetime) -> bool:
    return key.use == "enc" or now >= key.made_at + PUBLISHED_AHEAD


def _key(state: State, key_id: UUID) -> Key:
    key = state.keys.get(key_id)
    if key is None:
        raise UnknownKey(key_id)
    return key


def _active(keys: Iterable[Key], use: str) -> list[Key]:
    """Answer the active keys of a use, the newest last: one, unless somebody wrote events by hand."""
    return sorted((key for key in keys if key.use == use and key.status == "active"), key=lambda key: key.position)


def _pending(keys: Iterable[Key], use: str) -> list[Key]:
    """Answer the pending keys of a use, oldest first."""
    return sorted((key for key in keys if key.use == use and key.status == "pending"), key=lambda k: (k.made_at, k.position))


def _made(key: Key, now: datetime) -> Key:
    return replace(key, status="pending", made_at=now, changed_at=now, status_reason=None)


def _activation(key: Key, now: datetime) -> KeyActivated:
    return KeyActivated(key.key_id, replace(key, status="active", changed_at=now))


def _activated(state: State, key: Key, now: datetime) -> list[Event]:
    """Answer the events that put a key in the place of the active one.

    They touch the stream of the active key: of two activations at once one is a conflict, and decides again.
    """
    active = _active(state.keys.values(), key.use)
    if not active:
        raise KeysChangedMeanwhile("another key was activated meanwhile")
    retired = [KeyRetired(old.key_id, replace(old, status="retired", changed_at=now)) for old in active]
    return [_activation(key, now), *retired]
