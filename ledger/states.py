"""The rows of the views: what a key's state is, whole, after an event.

An event carries such a row as its absolute value; the fold writes it into the view of the same name; a command reads it
back to decide. Field names are column names, so there is no mapper. `position` is where the row was made so: it is of the
log, not of the event, and so left out of payloads.

Rules for changing a field: docs/events.md.
"""

import dataclasses
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass


def _from_postgres_hex(value: object) -> object:
    """PostgreSQL writes bytea in JSON as `\\x0123`; an event has the digits alone."""
    return value[2:] if isinstance(value, str) and value.startswith("\\x") else value


Binary = Annotated[bytes, BeforeValidator(_from_postgres_hex)]
Position = Annotated[int, Field(exclude=True)]
Strategy = Literal["opaque", "encrypted", "jwt", "jwe"]
Refresh = Literal["off", "reusable", "rotating"]
Effect = Literal["allow", "deny"]

CONFIG = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex", extra="forbid")


@dataclass(frozen=True, slots=True, config=CONFIG)
class Token:
    """One token as issued. `role_ids` None: no restriction, every role of its subject."""

    VIEW: ClassVar[str] = "tokens"
    token_id: UUID
    family_id: UUID
    generation: int
    kind: Literal["access", "refresh"]
    strategy: Strategy
    subject_id: UUID
    client_id: UUID
    api_ids: tuple[UUID, ...]
    role_ids: tuple[UUID, ...] | None
    direct: bool
    secret_digest: Binary | None
    key_ids: tuple[UUID, ...]
    name: str | None
    claims: dict[str, Any] | None
    issued_from: UUID | None
    issued_at: datetime
    expires_at: datetime
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenState:
    """What was done to one token. No row: active."""

    VIEW: ClassVar[str] = "token_states"
    token_id: UUID
    status: Literal["active", "suspended", "revoked"]
    status_reason: str | None
    status_until: datetime | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Family:
    """A token family: `generation` is that of the refresh token that may be used now."""

    VIEW: ClassVar[str] = "families"
    family_id: UUID
    subject_id: UUID
    client_id: UUID
    refresh: Refresh
    generation: int
    refresh_token_id: UUID | None
    access_token_id: UUID | None
    rotated_at: datetime | None
    retry_epoch: int | None
    sealed_rotated_by: Binary | None
    started_at: datetime
    expires_at: datetime
    idle_expires_at: datetime | None
    status: Literal["active", "suspended", "revoked"]
    status_reason: str | None
    status_until: datetime | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Subject:
    """A person or a service account. The name and the password hash are sealed under the subject's own key."""

    VIEW: ClassVar[str] = "subjects"
    subject_id: UUID
    kind: Literal["person", "service"]
    name_id: UUID | None
    sealed_profile: Binary | None
    sealed_password: Binary | None
    clearance: int
    role_ids: tuple[UUID, ...]
    cutoff_position: int
    status: Literal["active", "suspended", "erased"]
    status_reason: str | None
    status_until: datetime | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class RuleOfApi:
    """A subject's own rule: one API, one path, some methods. A deny has no clearance."""

    rule_id: UUID
    api_id: UUID
    effect: Effect
    methods: tuple[str, ...]
    path: str
    min_clearance: int | None


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRules:
    """All the own rules of a subject. No row: none."""

    VIEW: ClassVar[str] = "subject_rules"
    subject_id: UUID
    rules: tuple[RuleOfApi, ...]
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Client:
    """An application that obtains tokens, or asks about them (`serves_api_id`), or both.

    `public_keys`: JWKs, each with `kid` and `alg`, by which it proves itself without a secret (assertions.py).
    """

    VIEW: ClassVar[str] = "clients"
    client_id: UUID
    name: str
    kind: Literal["confidential", "public"]
    secret_digests: tuple[str, ...]
    public_keys: tuple[dict[str, str], ...]
    grants: tuple[Literal["client_credentials", "refresh_token", "password", "issue"], ...]
    strategy: Strategy
    refresh: Refresh
    access_lifetime_seconds: int
    refresh_idle_seconds: int
    refresh_absolute_seconds: int
    retry_window_seconds: int
    revoke_access_on_rotation: bool
    api_ids: tuple[UUID, ...]
    serves_api_id: UUID | None
    subject_id: UUID | None
    cutoff_position: int
    status: Literal["active", "suspended"]
    status_reason: str | None
    status_until: datetime | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Api:
    """A protected API. `audience` is its name in `aud`; `preflights`: OPTIONS passes its gateways without a token."""

    VIEW: ClassVar[str] = "apis"
    api_id: UUID
    name: str
    audience: str
    semicolons: bool
    preflights: bool
    cutoff_position: int
    status: Literal["active", "suspended"]
    status_reason: str | None
    status_until: datetime | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Role:
    """A role of an API. `removed` is for good: a role made again under the name is another one."""

    VIEW: ClassVar[str] = "roles"
    role_id: UUID
    api_id: UUID
    name: str
    rule_count: int
    removed: bool
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class RuleOfRole:
    """A rule of a role, as it stands in events."""

    rule_id: UUID
    effect: Effect
    methods: tuple[str, ...]
    path: str
    min_clearance: int | None


@dataclass(frozen=True, slots=True, config=CONFIG)
class Key:
    """A key that tokens are made with. `key_id` is its `kid`; the private part is in `sealed_keys`.

    `changed_at`: since when it has its status. `status_reason`: why it was revoked, and None otherwise.
    """

    VIEW: ClassVar[str] = "keys"
    key_id: UUID
    use: Literal["sig", "enc"]
    algorithm: str
    public_jwk: dict[str, str] | None
    made_at: datetime
    status: Literal["pending", "active", "retired", "revoked"]
    changed_at: datetime
    status_reason: str | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Name:
    """Who holds a unique name. No holder: nobody any more."""

    VIEW: ClassVar[str] = "names"
    name_id: UUID
    kind: Literal["user", "role"]
    holder_id: UUID | None
    position: Position = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Lockout:
    """A budget of password attempts that was spent (guessing.py). `throttle_id` is keyed: it tells neither name nor address.

    `subject_id` None: of a network, or of a user name that nobody has.
    """

    VIEW: ClassVar[str] = "lockouts"
    lockout_id: UUID
    kind: Literal["pair", "network", "user"]
    throttle_id: UUID
    subject_id: UUID | None
    locked_at: datetime
    unlocked: bool
    position: Position = 0


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a command decides on: the newest rows of the keys it asked for. A key without a row is not in its mapping.

    `sealed_keys`, of subjects, are no rows of the views: no rule looks at them.
    """

    tokens: dict[UUID, Token] = dataclasses.field(default_factory=dict)
    token_states: dict[UUID, TokenState] = dataclasses.field(default_factory=dict)
    families: dict[UUID, Family] = dataclasses.field(default_factory=dict)
    subjects: dict[UUID, Subject] = dataclasses.field(default_factory=dict)
    subject_rules: dict[UUID, SubjectRules] = dataclasses.field(default_factory=dict)
    names: dict[UUID, Name] = dataclasses.field(default_factory=dict)
    clients: dict[UUID, Client] = dataclasses.field(default_factory=dict)
    apis: dict[UUID, Api] = dataclasses.field(default_factory=dict)
    roles: dict[UUID, Role] = dataclasses.field(default_factory=dict)
    keys: dict[UUID, Key] = dataclasses.field(default_factory=dict)
    lockouts: dict[UUID, Lockout] = dataclasses.field(default_factory=dict)
    administrators: tuple[UUID, ...] = ()
    standing_rules: frozenset[tuple[UUID, UUID]] = frozenset()
    sealed_keys: dict[UUID, bytes] = dataclasses.field(default_factory=dict, repr=False)
