"""The rules of clients: applications that obtain tokens, and resource servers and gateways that ask about them. Pure: state
and instant in, events out.

Of a secret only its digest comes here. Each function answers no event where there is nothing new, and raises what the state
does not allow: UnknownClient goes without saying.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from ledger.builtin import CONSOLE, LEDGER_API
from ledger.errors import BuiltIn, InvalidInput, NameIsTaken, NoSecret, Problem, UnknownApi, UnknownClient
from ledger.events import (
    ClientChanged,
    ClientKeysSet,
    ClientRegistered,
    ClientReinstated,
    ClientSecretRotated,
    ClientSuspended,
    ClientTokensRevoked,
    Event,
    SubjectRegistered,
)
from ledger.identifiers import name_id
from ledger.names import check_name
from ledger.states import Client, Refresh, State, Strategy, Subject
from ledger.statuses import reinstated, suspended

Grant = Literal["client_credentials", "refresh_token", "password", "issue"]

MIN_LIFETIME_SECONDS: Final = 60
MAX_RETRY_WINDOW_SECONDS: Final = 300
MAX_APIS: Final = 100
MAX_KEYS: Final = 10
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What is chosen for a client; `api_ids` is the audience its tokens may have, `serves_api_id` what it may ask about.

    The defaults are RFC 9700's advice in numbers: short access tokens, refresh only where it is asked for.
    """

    grants: tuple[Grant, ...] = ()
    strategy: Strategy = "opaque"
    refresh: Refresh = "off"
    access_lifetime_seconds: int = 600
    refresh_idle_seconds: int = 14 * DAY_SECONDS
    refresh_absolute_seconds: int = 90 * DAY_SECONDS
    retry_window_seconds: int = 30
    revoke_access_on_rotation: bool = False
    api_ids: tuple[UUID, ...] = ()
    serves_api_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The longest lifetimes a client may choose; of the operator, settings.py."""

    access_lifetime_seconds: int
    refresh_absolute_seconds: int


SETTINGS: Final = frozenset(field.name for field in fields(ClientSettings))


def client_id_of(name: str) -> UUID:
    """Answer the id of the client of this name: names are for ever, and so the id is made from it."""
    return name_id("client", name)


def register(
    state: State,
    _now: datetime,
    *,
    name: str,
    kind: Literal["confidential", "public"],
    settings: ClientSettings,
    ceilings: Ceilings,
    secret_digest: str | None,
    public_keys: Sequence[dict[str, str]] = (),
    subject_id: UUID,
) -> list[Event]:
    """Register a client; one with client_credentials becomes a service account as well, under `subject_id`.

    `secret_digest` is the SHA-256 of the secret, hex, and None for a public client, and for one that has `public_keys` (as
    jose.read_client_keys answers them) in its place. Reads the client, the subject, the APIs.
    NameIsTaken, UnknownApi; InvalidInput names every setting that does not go with the others.
    """
    check_name(name)
    client_id = client_id_of(name)
    if client_id in state.clients:
        raise NameIsTaken("client")
    if kind == "public" and public_keys:
        raise InvalidInput.of("jwks", "a public client can keep no key")
    if (secret_digest is None) != (kind == "public" or bool(public_keys)):
        raise InvalidInput.of("secret", "a confidential client has one, or keys; a public client has none")
    _check_keys(public_keys)
    client = Client(
        client_id=client_id,
        name=name,
        kind=kind,
        secret_digests=() if secret_digest is None else (secret_digest,),
        public_keys=tuple(public_keys),
        grants=settings.grants,
        strategy=settings.strategy,
        refresh=settings.refresh,
        access_lifetime_seconds=settings.access_lifetime_seconds,
        refresh_idle_seconds=settings.refresh_idle_seconds,
        refresh_absolute_seconds=settings.refresh_absolute_seconds,
        retry_window_seconds=settings.retry_window_seconds,
        revoke_access_on_rotation=settings.revoke_access_on_rotation,
        api_ids=settings.api_ids,
        serves_api_id=settings.serves_api_id,
        subject_id=None,
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    client = _checked(state, client, ceilings)
    client, service_account = _with_service_account(client, subject_id)
    return [*service_account, ClientRegistered(client_id=client_id, client=client)]


def change(
    state: State, _now: datetime, *, client_id: UUID, changes: Mapping[str, Any], ceilings: Ceilings, subject_id: UUID
) -> list[Event]:
    """Change settings: `changes` holds members of ClientSettings. `subject_id` is for a service account that it now needs.

    Reads the client, the subject, the APIs that are named. UnknownApi; BuiltIn for what people log in through; InvalidInput
    names every setting that does not go with the others. A client that loses client_credentials keeps its service account.
    """
    assert changes.keys() <= SETTINGS
    client = _client(state, client_id)
    row = _checked(state, replace(client, **changes), ceilings, known=client)
    if client_id == CONSOLE and not ("password" in row.grants and LEDGER_API in row.api_ids):
        raise BuiltIn("that people log in to the ledger through this client")
    if row == client:
        return []
    row, service_account = _with_service_account(row, subject_id)
    return [*service_account, ClientChanged(client_id=client_id, client=row)]


def rotate_secret(state: State, _now: datetime, *, client_id: UUID, secret_digest: str, keep_old: bool) -> list[Event]:
    """Give a client a new secret; the old one goes, or with `keep_old` stays good until the next rotation. NoSecret."""
    client = _client(state, client_id)
    if client.kind == "public":
        raise NoSecret(client_id)
    kept = client.secret_digests[:1] if keep_old else ()
    row = replace(client, secret_digests=(secret_digest, *kept))
    return [ClientSecretRotated(client_id=client_id, client=row)]


def set_keys(
    state: State, _now: datetime, *, client_id: UUID, public_keys: Sequence[dict[str, str]], keep_secrets: bool
) -> list[Event]:
    """Give a client these public keys in the place of those it had; its secrets go, unless `keep_secrets`. NoSecret.

    A shared secret that stays beside keys is the weaker of two ways in (RFC 9700 section 2.5). InvalidInput for one that
    would have neither.
    """
    client = _client(state, client_id)
    if client.kind == "public":
        raise NoSecret(client_id)
    _check_keys(public_keys)
    row = replace(client, public_keys=tuple(public_keys), secret_digests=client.secret_digests if keep_secrets else ())
    if not row.public_keys and not row.secret_digests:
        raise InvalidInput.of("jwks", "at least one key, or `keep_secrets` of a client that has one")
    return [] if row == client else [ClientKeysSet(client_id=client_id, client=row)]


def suspend(state: State, now: datetime, *, client_id: UUID, reason: str | None, until: datetime | None = None) -> list[Event]:
    """Suspend a client: its tokens and its own requests. BuiltIn; InvalidInput: `until` has come."""
    client = _client(state, client_id)
    if client_id == CONSOLE:
        raise BuiltIn("the client that people log in to the ledger through")
    row = suspended(client, now, reason, until)
    return [] if row is None else [ClientSuspended(client_id=client_id, client=row)]


def reinstate(state: State, _now: datetime, *, client_id: UUID, reason: str | None) -> list[Event]:
    """End the suspension of a client."""
    row = reinstated(_client(state, client_id), reason)
    return [] if row is None else [ClientReinstated(client_id=client_id, client=row)]


def revoke_tokens(
    state: State, _now: datetime, *, client_id: UUID, reason: str | None, cutoff_position: int | None = None
) -> list[Event]:
    """Revoke every token issued to the client so far, or up to a position: one event, whatever their number."""
    client = _client(state, client_id)
    if cutoff_position is None:
        return [ClientTokensRevoked(client_id=client_id, client=client, cuts_off=True, reason=reason)]
    if cutoff_position <= client.cutoff_position:
        return []
    return [ClientTokensRevoked(client_id=client_id, client=replace(client, cutoff_position=cutoff_position), reason=reason)]


def _check_keys(public_keys: Sequence[dict[str, str]]) -> None:
    if len(public_keys) > MAX_KEYS:
        raise InvalidInput.of("jwks", f"at most {MAX_KEYS} keys")


def _client(state: State, client_id: UUID) -> Client:
    client = state.clients.get(client_id)
    if client is None:
        raise UnknownClient(client_id)
    return client


def _with_service_account(client: Client, subject_id: UUID) -> tuple[Client, list[Event]]:
    if "client_credentials" not in client.grants or client.subject_id is not None:
        return client, []
    service_account = Subject(
        subject_id=subject_id,
        kind="service",
        name_id=None,
        sealed_profile=None,
        sealed_password=None,
        clearance=0,
        role_ids=(),
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    registered = SubjectRegistered(subject_id=subject_id, subject=service_account)
    return replace(client, subject_id=subject_id), [registered]


def _checked(state: State, client: Client, ceilings: Ceilings, known: Client | None = None) -> Client:
    """Answer the client with each grant and API once, or raise every rule that its settings break together.

    APIs that the client has already (`known`) need not have been read.
    """
    client = replace(client, grants=tuple(sorted(set(client.grants))), api_ids=tuple(dict.fromkeys(client.api_ids)))
    problems: list[Problem] = []

    def rule(holds: bool, field: str, text: str) -> None:
        if not holds:
            problems.append(Problem(field, text))

    if client.kind == "public":
        for grant in ("client_credentials", "issue"):
            rule(grant not in client.grants, "grants", f"{grant} is for confidential clients: a public one has no secret")
        rule(client.serves_api_id is None, "serves", "a public client cannot ask about tokens: it has no secret")
    rule(
        ("refresh_token" in client.grants) == (client.refresh != "off"),
        "refresh",
        "`reusable` or `rotating` together with the grant refresh_token, `off` without it",
    )
    access, absolute = ceilings.access_lifetime_seconds, ceilings.refresh_absolute_seconds
    rule(
        MIN_LIFETIME_SECONDS <= client.access_lifetime_seconds <= access,
        "access_lifetime_seconds",
        f"{MIN_LIFETIME_SECONDS} to {access}",
    )
    rule(
        MIN_LIFETIME_SECONDS <= client.refresh_absolute_seconds <= absolute,
        "refresh_absolute_seconds",
        f"{MIN_LIFETIME_SECONDS} to {absolute}",
    )
    rule(
        MIN_LIFETIME_SECONDS <= client.refresh_idle_seconds <= client.refresh_absolute_seconds,
        "refresh_idle_seconds",
        f"{MIN_LIFETIME_SECONDS} to refresh_absolute_seconds",
    )
    rule(
        0 <= client.retry_window_seconds <= MAX_RETRY_WINDOW_SECONDS,
        "retry_window_seconds",
        f"0 to {MAX_RETRY_WINDOW_SECONDS}",
    )
    rule(len(client.api_ids) <= MAX_APIS, "apis", f"at most {MAX_APIS}")
    if problems:
        raise InvalidInput(problems)
    had = set() if known is None else {*known.api_ids, known.serves_api_id}
    for api_id in {*client.api_ids, client.serves_api_id} - had - {None}:
        if api_id is not None and api_id not in state.apis:
            raise UnknownApi(api_id)
    return client
