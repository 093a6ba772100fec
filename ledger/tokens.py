"""The rules of a token's life: issue, refresh, suspend, reinstate, revoke. Pure: state and instant in, events out.

Strings and secrets are made elsewhere (token_strings.py, jose.py, rotation.py); only ids and digests come here. Whether a
token may call something is decisions.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from ledger.cascade import TokenStanding, what_stops
from ledger.errors import InvalidInput, LedgerError, NotFound, PlanIsPast, Refused, TryAgain
from ledger.events import (
    Event,
    FamilyReinstated,
    FamilyRevoked,
    FamilySuspended,
    ReuseDetected,
    TokenIssued,
    TokenReinstated,
    TokenRevoked,
    TokenRotated,
    TokenStateChanged,
    TokenSuspended,
)
from ledger.rotation import verdict_of
from ledger.states import Client, Family, State, Strategy, Subject, Token, TokenState
from ledger.statuses import stands


class UnknownToken(NotFound):
    """There is no such token."""

    code = "unknown_token"
    cure = "A token is named by its token id, not by its string: `GET /v1/tokens`."


class UnknownFamily(NotFound):
    """There is no such family."""

    code = "unknown_family"
    cure = "A family is named by the `family_id` of any of its tokens: `GET /v1/tokens`."


class ClientChangedMeanwhile(TryAgain):
    """The client's strategy was changed while strings of the old one were being made; nothing was recorded."""

    code = "client_changed_meanwhile"


class TokenIsRevoked(Refused):
    """What was revoked stays revoked."""

    code = "token_revoked"
    cure = "Issue a new token: a revocation is for good."


class GrantRefused(LedgerError):
    """No token for this request. `cause` says why, to the ledger's own log and tests; the asker is told no more than
    `invalid_grant`, `invalid_scope`, `unauthorized_client` (RFC 6749 section 5.2) or `invalid_target` (RFC 8707 section 2),
    which is `error`."""

    code = "grant_refused"
    cure = "See `grant_refused` over HTTP, or the error object of the endpoint."

    def __init__(
        self,
        cause: str,
        error: Literal["invalid_grant", "invalid_scope", "invalid_target", "unauthorized_client"] = "invalid_grant",
    ) -> None:
        super().__init__("the grant is refused")
        self.cause = cause
        self.error = error


@dataclass(frozen=True, slots=True)
class Grant:
    """What is to be issued. `role_ids` None: no restriction. `lifetime_seconds` None: the client's. `proved_at`: the position
    as of which the subject proved who it is, None where nobody asked it to."""

    subject_id: UUID
    client_id: UUID
    api_ids: tuple[UUID, ...]
    role_ids: tuple[UUID, ...] | None = None
    direct: bool = True
    with_refresh: bool = True
    lifetime_seconds: int | None = None
    name: str | None = None
    claims: dict[str, Any] | None = None
    proved_at: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Ids and digests of the strings that will be handed out, made before the decision."""

    strategy: Strategy
    access_token_id: UUID
    access_digest: bytes | None
    refresh_token_id: UUID
    refresh_digest: bytes | None
    key_ids: tuple[UUID, ...] = ()


def _standing_parties(state: State, subject_id: UUID, client_id: UUID, now: datetime) -> tuple[Subject, Client]:
    client = state.clients.get(client_id)
    if client is None or not stands(client.status, client.status_until, now):
        raise GrantRefused("the client does not stand", "unauthorized_client")
    subject = state.subjects.get(subject_id)
    if subject is None or not stands(subject.status, subject.status_until, now):
        raise GrantRefused("the subject does not stand")
    return subject, client


def _check_made(state: State, client: Client, made: Made) -> None:
    if client.strategy != made.strategy or any(state.keys[key_id].status == "revoked" for key_id in made.key_ids):
        raise ClientChangedMeanwhile("the client or a key was changed meanwhile")


def issue(state: State, now: datetime, *, family_id: UUID, grant: Grant, made: Made) -> list[Event]:
    """Issue an access token, and a refresh token where the client's settings and the grant want one.

    Reads the client, the subject, the APIs and the keys of `made`.
    GrantRefused: client or subject does not stand, an API is not the
    client's or does not stand, a role of the scope is not the subject's, its tokens were cut off since it proved itself.
    """
    subject, client = _standing_parties(state, grant.subject_id, grant.client_id, now)
    # Otherwise who logs in with a stolen password while its owner changes it has a token from after the change.
    if grant.proved_at is not None and grant.proved_at < subject.cutoff_position:
        raise GrantRefused("cut off since the subject proved itself")
    _check_made(state, client, made)
    if not grant.api_ids or not set(grant.api_ids) <= set(client.api_ids):
        raise GrantRefused("an API is not in the client's audience", "invalid_scope")
    for api_id in grant.api_ids:
        api = state.apis.get(api_id)
        if api is None or not stands(api.status, api.status_until, now):
            raise GrantRefused("an API does not stand", "invalid_scope")
    if grant.role_ids is not None and not set(grant.role_ids) <= set(subject.role_ids):
        raise GrantRefused("a role is not the subject's", "invalid_scope")
    started_at = now.replace(microsecond=0)
    refresh = client.refresh if grant.with_refresh else "off"
    ends_at = started_at + timedelta(seconds=client.refresh_absolute_seconds)
    access_ends_at = started_at + timedelta(seconds=grant.lifetime_seconds or client.access_lifetime_seconds)
    if refresh != "off":
        access_ends_at = min(access_ends_at, ends_at)
    idle_ends_at = min(started_at + timedelta(seconds=client.refresh_idle_seconds), ends_at)
    family = Family(
        family_id=family_id,
        subject_id=grant.subject_id,
        client_id=grant.client_id,
        refresh=refresh,
        generation=0 if refresh == "off" else 1,
        refresh_token_id=None if refresh == "off" else made.refresh_token_id,
        access_token_id=made.access_token_id,
        rotated_at=None,
        retry_epoch=None,
        sealed_rotated_by=None,
        started_at=started_at,
        expires_at=access_ends_at if refresh == "off" else ends_at,
        idle_expires_at=idle_ends_at if refresh == "reusable" else None,
        status="active",
        status_reason=None,
        status_until=None,
    )
    access = Token(
        token_id=made.access_token_id,
        family_id=family_id,
        generation=family.generation,
        kind="access",
        strategy=client.strategy,
        subject_id=grant.subject_id,
        client_id=grant.client_id,
        api_ids=grant.api_ids,
        role_ids=grant.role_ids,
        direct=grant.direct,
        secret_digest=made.access_digest,
        key_ids=made.key_ids,
        name=grant.name,
        claims=grant.claims,
        issued_from=None,
        issued_at=started_at,
        expires_at=access_ends_at,
    )
    tokens = [access]
    if refresh != "off":
        tokens.append(
            replace(
                access,
                token_id=made.refresh_token_id,
                kind="refresh",
                strategy="opaque",
                secret_digest=made.refresh_digest,
                key_ids=(),
                expires_at=ends_at if refresh == "reusable" else idle_ends_at,
            )
        )
    return [
        TokenIssued(
            family_id=family_id, subject_id=grant.subject_id, client_id=grant.client_id, tokens=tuple(tokens), family=family
        )
    ]


def refresh(
    state: State,
    now: datetime,
    *,
    token_id: UUID,
    client_id: UUID,
    made: Made,
    retry_epoch: int,
    role_ids: tuple[UUID, ...] | None,
    direct: bool,
    narrowed: bool,
    api_ids: tuple[UUID, ...] | None = None,
    presented_rotated_at: datetime | None = None,
    sealed_presented_by: bytes | None = None,
) -> list[Event]:
    """Use a refresh token whose secret was found right: RFC 9700 section 4.14.2.

    Of a one-time token: TokenRotated by compare-and-set on the family's version; no event at all for a retry (the
    immediate predecessor, within the client's window, its successor not used: answer the same successor again);
    ReuseDetected, which revokes the family, for anything else. Of a reusable one: TokenIssued. With the client's
    `revoke_access_on_rotation` the access token of the generation before is revoked as well.
    `presented_rotated_at`: when the presented token was rotated, if that was not just now; `sealed_presented_by`: who asks.
    `narrowed` with `role_ids` and `direct`: the scope of the new access token; the refresh token's stays (RFC 6749
    section 6). `api_ids`: its audience; None: that of the grant, as far as it is still the client's. Nor does it name a
    role that the subject has lost: who checks a token offline knows nothing else. GrantRefused, and nothing recorded, for a
    token that does not stand or is not the client's, and for a scope that is wider or names a role that is not the subject's.
    """
    token = state.tokens[token_id]
    family = state.families[token.family_id]
    if token.client_id != client_id:
        raise GrantRefused("the token was issued to another client")
    if token.kind != "refresh":
        raise GrantRefused("not a refresh token")
    reason = what_stops(TokenStanding.of(state, token_id), state, now, None, {})
    if reason is not None:
        raise GrantRefused(reason, "unauthorized_client" if reason == "client_suspended" else "invalid_grant")
    if now >= family.expires_at:
        raise GrantRefused("the absolute end of the family has come")
    subject, client = state.subjects[token.subject_id], state.clients[client_id]
    if "refresh_token" not in client.grants:
        raise GrantRefused("the client may not refresh any more", "unauthorized_client")
    if token.generation != family.generation:
        if _is_retry(token, family, client, now):
            return []
        return [_reuse(token, family, client, now, presented_rotated_at, sealed_presented_by)]
    _check_made(state, client, made)
    if narrowed and not _narrower(token, role_ids, direct):
        raise GrantRefused("the scope is wider than the grant's", "invalid_scope")
    if not narrowed:
        direct = token.direct
        role_ids = token.role_ids and tuple(role_id for role_id in token.role_ids if role_id in subject.role_ids)
    elif not set(role_ids or ()) <= set(subject.role_ids):
        raise GrantRefused("a role is not the subject's", "invalid_scope")
    if api_ids is not None and not set(api_ids) <= set(token.api_ids):
        raise GrantRefused("an API is not in the grant's audience", "invalid_target")
    audience = tuple(api_id for api_id in api_ids or token.api_ids if api_id in client.api_ids)
    if not audience:
        raise GrantRefused("no API of the grant is the client's any more")
    rotates = family.refresh == "rotating"
    generation = family.generation + 1 if rotates else family.generation
    issued_at = now.replace(microsecond=0)
    access = replace(
        token,
        token_id=made.access_token_id,
        generation=generation,
        kind="access",
        strategy=client.strategy,
        api_ids=audience,
        role_ids=role_ids,
        direct=direct,
        secret_digest=made.access_digest,
        key_ids=made.key_ids,
        issued_from=token_id,
        issued_at=issued_at,
        expires_at=min(issued_at + timedelta(seconds=client.access_lifetime_seconds), family.expires_at),
    )
    idle_ends_at = min(issued_at + timedelta(seconds=client.refresh_idle_seconds), family.expires_at)
    if not rotates:
        return [
            TokenIssued(
                family_id=family.family_id,
                subject_id=token.subject_id,
                client_id=token.client_id,
                tokens=(access,),
                family=replace(family, idle_expires_at=idle_ends_at),
            )
        ]
    successor = replace(
        token,
        token_id=made.refresh_token_id,
        generation=generation,
        secret_digest=made.refresh_digest,
        issued_from=token_id,
        issued_at=issued_at,
        expires_at=idle_ends_at,
    )
    rotated = TokenRotated(
        family_id=family.family_id,
        subject_id=token.subject_id,
        client_id=token.client_id,
        tokens=(access, successor),
        family=replace(
            family,
            generation=generation,
            refresh_token_id=made.refresh_token_id,
            access_token_id=made.access_token_id,
            rotated_at=now,
            retry_epoch=retry_epoch,
            sealed_rotated_by=sealed_presented_by,
        ),
    )
    if not client.revoke_access_on_rotation or family.access_token_id is None:
        return [rotated]
    before = TokenState(family.access_token_id, "revoked", "its refresh token was rotated", None)
    revoked = TokenRevoked(
        family_id=family.family_id,
        token_id=before.token_id,
        subject_id=token.subject_id,
        client_id=token.client_id,
        token_state=before,
    )
    return [rotated, revoked]


def _is_retry(token: Token, family: Family, client: Client, now: datetime) -> bool:
    # The successor is unused as long as the family is at its generation: using it would have made the next one.
    return token.generation == family.generation - 1 and _seconds_since_rotation(family, now) < client.retry_window_seconds


def _seconds_since_rotation(family: Family, now: datetime) -> float:
    assert family.rotated_at is not None
    # A clock that was set back makes no retry a reuse, and no window out of none.
    return max(0.0, (now - family.rotated_at).total_seconds())


def _reuse(
    token: Token, family: Family, client: Client, now: datetime, rotated_at: datetime | None, sealed_by: bytes | None
) -> Event:
    # Of the immediate predecessor the family knows it. Of an older one whoever asks has looked it up: unless it became older
    # while this was decided, just now.
    if token.generation < family.generation - 1 and rotated_at is not None:
        seconds = max(0.0, (now - rotated_at).total_seconds())
    else:
        seconds = _seconds_since_rotation(family, now)
    return ReuseDetected(
        family_id=family.family_id,
        subject_id=token.subject_id,
        client_id=token.client_id,
        token_id=token.token_id,
        generation_presented=token.generation,
        generation_current=family.generation,
        seconds_since_rotation=int(seconds),
        verdict=verdict_of(token.generation, family.generation, seconds, client.retry_window_seconds),
        sealed_presented_by=sealed_by,
        family=replace(family, status="revoked", status_reason="a rotated refresh token was used again", status_until=None),
    )


def _narrower(token: Token, role_ids: tuple[UUID, ...] | None, direct: bool) -> bool:
    if token.role_ids is not None and (role_ids is None or not set(role_ids) <= set(token.role_ids)):
        return False
    return token.direct or not direct


def _check_until(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        raise InvalidInput.of("until", "an instant in the future")


def change_token(
    state: State,
    now: datetime,
    *,
    token_id: UUID,
    verb: Literal["suspend", "reinstate", "revoke"],
    reason: str | None,
    until: datetime | None = None,
) -> list[Event]:
    """Suspend, reinstate or revoke one token. Reads the token and its family's stream.

    Already so: no event. UnknownToken; TokenIsRevoked for suspending or reinstating what is revoked; InvalidInput for an
    `until` that has passed.
    """
    token = state.tokens.get(token_id)
    if token is None:
        raise UnknownToken("there is no such token")
    _check_until(until, now)
    current = state.token_states.get(token_id)
    status = current.status if current else "active"
    event_type: type[TokenStateChanged]
    if verb == "revoke":
        if status == "revoked":
            return []
        event_type, row = TokenRevoked, TokenState(token_id, "revoked", reason, None)
    elif status == "revoked":
        raise TokenIsRevoked("the token is revoked, for good")
    elif verb == "suspend":
        event_type, row = TokenSuspended, TokenState(token_id, "suspended", reason, until)
        if current is not None and replace(current, position=0) == row:
            return []
    else:
        if status == "active":
            return []
        event_type, row = TokenReinstated, TokenState(token_id, "active", reason, None)
    return [
        event_type(
            family_id=token.family_id,
            token_id=token_id,
            subject_id=token.subject_id,
            client_id=token.client_id,
            token_state=row,
        )
    ]


def revoke_tokens(state: State, now: datetime, *, token_ids: Sequence[UUID], reason: str | None) -> list[Event]:
    """Revoke these tokens, each by an event of its own. Reads the tokens and the streams of their families.

    One that is revoked, or whose family is: no event. UnknownToken.
    """
    events: list[Event] = []
    for token_id in token_ids:
        token = state.tokens.get(token_id)
        family = None if token is None else state.families.get(token.family_id)
        if family is None or family.status != "revoked":
            events += change_token(state, now, token_id=token_id, verb="revoke", reason=reason)
    return events


def change_family(
    state: State,
    now: datetime,
    *,
    family_id: UUID,
    verb: Literal["suspend", "reinstate", "revoke"],
    reason: str | None,
    until: datetime | None = None,
) -> list[Event]:
    """Suspend, reinstate or revoke a family: every token of it. The same rules as for one token; UnknownFamily."""
    family = state.families.get(family_id)
    if family is None:
        raise UnknownFamily("there is no such family")
    _check_until(until, now)
    event_type: type[FamilySuspended | FamilyReinstated | FamilyRevoked]
    if verb == "revoke":
        if family.status == "revoked":
            return []
        event_type, row = FamilyRevoked, replace(family, status="revoked", status_reason=reason, status_until=None)
    elif family.status == "revoked":
        raise TokenIsRevoked("the family is revoked, for good")
    elif verb == "suspend":
        event_type, row = FamilySuspended, replace(family, status="suspended", status_reason=reason, status_until=until)
        if row == family:
            return []
    else:
        if family.status == "active":
            return []
        event_type, row = FamilyReinstated, replace(family, status="active", status_reason=reason, status_until=None)
    return [event_type(family_id=family_id, subject_id=family.subject_id, client_id=family.client_id, family=row)]


def revoke_listed_family(
    state: State, now: datetime, *, family_id: UUID, reason: str | None, issued_since: bool
) -> list[Event]:
    """Revoke a family whose tokens were listed. Revoked already: no event. UnknownFamily; PlanIsPast where tokens were
    `issued_since`, which nobody has seen on the list."""
    events = change_family(state, now, family_id=family_id, verb="revoke", reason=reason)
    if events and issued_since:
        raise PlanIsPast("the family has tokens that are not on the list; make it anew, or revoke the family itself")
    return events
