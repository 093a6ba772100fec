"""What can happen, in the past tense: the typed events of the log.

Each is a frozen record with a stable literal tag. An event says the whole new row of state for each key it touches
(states.py), computed once in `decide`; folds only copy. `STREAM` names the field that is the stream it belongs to.
Old events are never changed: rules in docs/events.md, golden bytes in tests/golden/events.json.
"""

from dataclasses import field
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from ledger.states import (
    CONFIG,
    Api,
    Binary,
    Client,
    Family,
    Key,
    Lockout,
    Role,
    RuleOfApi,
    RuleOfRole,
    Subject,
    Token,
    TokenState,
)

# The stream of the set of administrators: one in a log.
ADMINISTRATORS = UUID("00000000-0000-8000-8000-000000000001")

EVENT_TYPES: dict[str, type["Event"]] = {}


@dataclass(frozen=True, slots=True, config=CONFIG)
class Event:
    """The base of every event: its tag, the version of its shape, and which field is its stream."""

    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int] = 1
    STREAM: ClassVar[str]

    def __init_subclass__(cls) -> None:
        # A dataclass with slots is made twice, the second replacing the first: the later one is the one that is used.
        if "TYPE" in cls.__dict__:
            EVENT_TYPES[cls.TYPE] = cls

    @property
    def stream(self) -> UUID:
        """The stream this event belongs to."""
        stream: UUID = getattr(self, self.STREAM)
        return stream

    def payload_json(self) -> str:
        """Answer the payload as JSON text, without the tag and without positions."""
        return _adapter(type(self)).dump_json(self).decode()


_ADAPTERS: dict[type[Event], TypeAdapter[Any]] = {}


def _adapter(event_type: type[Event]) -> TypeAdapter[Any]:
    adapter = _ADAPTERS.get(event_type)
    if adapter is None:
        adapter = _ADAPTERS[event_type] = TypeAdapter(event_type)
    return adapter


def read_event(event_type: str, payload_json: str | bytes, *, extra: Literal["forbid", "ignore"] = "forbid") -> Event:
    """Answer the event of this tag and payload; KeyError for an unknown tag, pydantic's ValidationError for another shape.

    `extra="ignore"`: what a later release added to the shape is no error.
    """
    event: Event = _adapter(EVENT_TYPES[event_type]).validate_json(payload_json, extra=extra)
    return event


# ------------------------------------------------------------------------------------------------------------- the log


@dataclass(frozen=True, slots=True, config=CONFIG)
class LogOpened(Event):
    """The first event of a log: positions are comparable within one `log_id`."""

    TYPE: ClassVar[str] = "log_opened"
    STREAM: ClassVar[str] = "log_id"
    log_id: UUID


@dataclass(frozen=True, slots=True, config=CONFIG)
class PartitionArchived(Event):
    """A partition of the log, the events `from_position` to before `to_position`, went to an archive and is not here any more.
    `sha256`: of the archive's file, hex; docs/archive.md."""

    TYPE: ClassVar[str] = "partition_archived"
    STREAM: ClassVar[str] = "log_id"
    log_id: UUID
    name: str
    from_position: int
    to_position: int
    events: int
    sha256: str


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokensArchived(Event):
    """Of the tokens and families, those rows left the views that were made at `from_position` to before `to_position` and whose
    token, or whole family, ended at or before `ended_before`. Their events are in the archive."""

    TYPE: ClassVar[str] = "tokens_archived"
    STREAM: ClassVar[str] = "log_id"
    log_id: UUID
    from_position: int
    to_position: int
    ended_before: datetime


# --------------------------------------------------------------------------------------------------- tokens, families


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenIssued(Event):
    """Tokens were issued together: an access token, and with refresh the first refresh token of a family, or the next
    access token of a family whose refresh token is reusable."""

    TYPE: ClassVar[str] = "token_issued"
    STREAM: ClassVar[str] = "family_id"
    family_id: UUID
    subject_id: UUID
    client_id: UUID
    tokens: tuple[Token, ...]
    family: Family | None


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenRotated(Event):
    """A one-time refresh token was used: its successor and a new access token."""

    TYPE: ClassVar[str] = "token_rotated"
    STREAM: ClassVar[str] = "family_id"
    family_id: UUID
    subject_id: UUID
    client_id: UUID
    tokens: tuple[Token, ...]
    family: Family


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenStateChanged(Event):
    """The shape of the three events about one token."""

    family_id: UUID
    token_id: UUID
    subject_id: UUID
    client_id: UUID
    token_state: TokenState


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenSuspended(TokenStateChanged):
    """One token was suspended."""

    TYPE: ClassVar[str] = "token_suspended"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenReinstated(TokenStateChanged):
    """One token's suspension ended."""

    TYPE: ClassVar[str] = "token_reinstated"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class TokenRevoked(TokenStateChanged):
    """One token was revoked, for good."""

    TYPE: ClassVar[str] = "token_revoked"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class FamilyChanged(Event):
    """The shape of the events about a family."""

    family_id: UUID
    subject_id: UUID
    client_id: UUID
    family: Family


@dataclass(frozen=True, slots=True, config=CONFIG)
class FamilySuspended(FamilyChanged):
    """A family was suspended: all its tokens."""

    TYPE: ClassVar[str] = "family_suspended"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class FamilyReinstated(FamilyChanged):
    """A family's suspension ended."""

    TYPE: ClassVar[str] = "family_reinstated"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class FamilyRevoked(FamilyChanged):
    """A family was revoked: all its tokens, for good."""

    TYPE: ClassVar[str] = "family_revoked"
    STREAM: ClassVar[str] = "family_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ReuseDetected(FamilyChanged):
    """A rotated refresh token was presented again, not as a retry: the family is revoked (RFC 9700 section 4.14.2).

    The evidence: `seconds_since_rotation` of the presented one; who presented it, and in `family` who had rotated last, each
    sealed under the subject's key (network, user agent); and what it looks like, `verdict`: rotation.py.
    """

    TYPE: ClassVar[str] = "reuse_detected"
    STREAM: ClassVar[str] = "family_id"
    token_id: UUID
    generation_presented: int
    generation_current: int
    seconds_since_rotation: int
    verdict: Literal["race", "fork", "theft"]
    sealed_presented_by: Binary | None


# ------------------------------------------------------------------------------------------------------------- subjects


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectChanged(Event):
    """The shape of the events about a subject. `cuts_off`: its cut-off becomes the position of this event."""

    subject_id: UUID
    subject: Subject
    cuts_off: bool = False


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRegistered(SubjectChanged):
    """A person or service account came to be."""

    TYPE: ClassVar[str] = "subject_registered"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectProfileSet(SubjectChanged):
    """The sealed profile (user name and the like) was set."""

    TYPE: ClassVar[str] = "subject_profile_set"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectPasswordSet(SubjectChanged):
    """A password was set or changed."""

    TYPE: ClassVar[str] = "subject_password_set"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectClearanceSet(SubjectChanged):
    """The clearance was set."""

    TYPE: ClassVar[str] = "subject_clearance_set"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRolesGranted(SubjectChanged):
    """Roles were granted."""

    TYPE: ClassVar[str] = "subject_roles_granted"
    STREAM: ClassVar[str] = "subject_id"
    granted: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRolesWithdrawn(SubjectChanged):
    """Roles were withdrawn."""

    TYPE: ClassVar[str] = "subject_roles_withdrawn"
    STREAM: ClassVar[str] = "subject_id"
    withdrawn: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectSuspended(SubjectChanged):
    """A subject was suspended: every token it has."""

    TYPE: ClassVar[str] = "subject_suspended"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectReinstated(SubjectChanged):
    """A subject's suspension ended."""

    TYPE: ClassVar[str] = "subject_reinstated"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectTokensRevoked(SubjectChanged):
    """Every token of the subject issued up to its cut-off was revoked. Version 1 had no reason."""

    TYPE: ClassVar[str] = "subject_tokens_revoked"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "subject_id"
    reason: str | None = field(kw_only=True)


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectErased(SubjectChanged):
    """The subject's key was destroyed: nothing personal of it can be read any more."""

    TYPE: ClassVar[str] = "subject_erased"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRulesChanged(Event):
    """The shape of the events about a subject's own rules: all of them, as they are from now on."""

    subject_id: UUID
    rules: tuple[RuleOfApi, ...]


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRulesGranted(SubjectRulesChanged):
    """Own rules were granted."""

    TYPE: ClassVar[str] = "subject_rules_granted"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class SubjectRulesWithdrawn(SubjectRulesChanged):
    """Own rules were withdrawn."""

    TYPE: ClassVar[str] = "subject_rules_withdrawn"
    STREAM: ClassVar[str] = "subject_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class AdministratorsChanged(Event):
    """The subjects that can administer the ledger from now on: never none."""

    TYPE: ClassVar[str] = "administrators_changed"
    STREAM: ClassVar[str] = "stream_id"
    stream_id: UUID
    subject_ids: tuple[UUID, ...]


# ---------------------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True, slots=True, config=CONFIG)
class NameTaken(Event):
    """A unique name was taken; its stream is made from the name."""

    TYPE: ClassVar[str] = "name_taken"
    STREAM: ClassVar[str] = "name_id"
    name_id: UUID
    kind: Literal["user", "role"]
    holder_id: UUID


@dataclass(frozen=True, slots=True, config=CONFIG)
class NameReleased(Event):
    """A unique name is free again."""

    TYPE: ClassVar[str] = "name_released"
    STREAM: ClassVar[str] = "name_id"
    name_id: UUID
    kind: Literal["user", "role"]
    holder_id: None = None


# -------------------------------------------------------------------------------------------------------------- clients


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientEvent(Event):
    """The shape of the events about a client. `cuts_off`: its cut-off becomes the position of this event.

    Before the versions of today a client had no `public_keys`.
    """

    client_id: UUID
    client: Client
    cuts_off: bool = False


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientRegistered(ClientEvent):
    """A client came to be."""

    TYPE: ClassVar[str] = "client_registered"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientChanged(ClientEvent):
    """A client's settings changed."""

    TYPE: ClassVar[str] = "client_changed"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientSecretRotated(ClientEvent):
    """A client has a new secret."""

    TYPE: ClassVar[str] = "client_secret_rotated"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientKeysSet(ClientEvent):
    """A client has other public keys to prove itself with, and where they take the place of its secrets, none of these."""

    TYPE: ClassVar[str] = "client_keys_set"
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientSuspended(ClientEvent):
    """A client was suspended: every token issued to it, and its own requests."""

    TYPE: ClassVar[str] = "client_suspended"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientReinstated(ClientEvent):
    """A client's suspension ended."""

    TYPE: ClassVar[str] = "client_reinstated"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "client_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ClientTokensRevoked(ClientEvent):
    """Every token issued to the client up to its cut-off was revoked. Version 1 had no reason."""

    TYPE: ClassVar[str] = "client_tokens_revoked"
    SCHEMA_VERSION: ClassVar[int] = 3
    STREAM: ClassVar[str] = "client_id"
    reason: str | None = field(kw_only=True)


# ----------------------------------------------------------------------------------------------------------- APIs, roles


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiEvent(Event):
    """The shape of the events about an API. `cuts_off`: its cut-off becomes the position of this event.

    The version before had no `preflights`.
    """

    api_id: UUID
    api: Api
    cuts_off: bool = False


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiRegistered(ApiEvent):
    """An API came to be."""

    TYPE: ClassVar[str] = "api_registered"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "api_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiChanged(ApiEvent):
    """An API's settings changed."""

    TYPE: ClassVar[str] = "api_changed"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "api_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiSuspended(ApiEvent):
    """An API was suspended: every decision about it is no."""

    TYPE: ClassVar[str] = "api_suspended"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "api_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiReinstated(ApiEvent):
    """An API's suspension ended."""

    TYPE: ClassVar[str] = "api_reinstated"
    SCHEMA_VERSION: ClassVar[int] = 2
    STREAM: ClassVar[str] = "api_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class ApiTokensRevoked(ApiEvent):
    """Every token for the API issued up to its cut-off was revoked. Version 1 had no reason."""

    TYPE: ClassVar[str] = "api_tokens_revoked"
    SCHEMA_VERSION: ClassVar[int] = 3
    STREAM: ClassVar[str] = "api_id"
    reason: str | None = field(kw_only=True)


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoleEvent(Event):
    """The shape of the events about a role."""

    role_id: UUID
    api_id: UUID
    role: Role


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoleCreated(RoleEvent):
    """A role came to be, without rules."""

    TYPE: ClassVar[str] = "role_created"
    STREAM: ClassVar[str] = "role_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoleRulesGranted(RoleEvent):
    """Rules were added to a role."""

    TYPE: ClassVar[str] = "role_rules_granted"
    STREAM: ClassVar[str] = "role_id"
    rules: tuple[RuleOfRole, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoleRulesWithdrawn(RoleEvent):
    """Rules were taken from a role."""

    TYPE: ClassVar[str] = "role_rules_withdrawn"
    STREAM: ClassVar[str] = "role_id"
    rules: tuple[RuleOfRole, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoleRemoved(RoleEvent):
    """A role was removed, for good."""

    TYPE: ClassVar[str] = "role_removed"
    STREAM: ClassVar[str] = "role_id"


# ----------------------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyEvent(Event):
    """The shape of the events about a key."""

    key_id: UUID
    key: Key


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyMade(KeyEvent):
    """A key was made; its private part lies sealed outside the log."""

    TYPE: ClassVar[str] = "key_made"
    STREAM: ClassVar[str] = "key_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyActivated(KeyEvent):
    """Tokens are made with the key from now on."""

    TYPE: ClassVar[str] = "key_activated"
    STREAM: ClassVar[str] = "key_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyRetired(KeyEvent):
    """No token is made with the key any more; those that were still stand."""

    TYPE: ClassVar[str] = "key_retired"
    STREAM: ClassVar[str] = "key_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class KeyRevoked(KeyEvent):
    """The key was revoked: every token made with it is dead."""

    TYPE: ClassVar[str] = "key_revoked"
    STREAM: ClassVar[str] = "key_id"


# ------------------------------------------------------------------------------------------------------------- guessing


@dataclass(frozen=True, slots=True, config=CONFIG)
class LockoutEvent(Event):
    """The shape of the events about a lock-out."""

    lockout_id: UUID
    subject_id: UUID | None
    lockout: Lockout


@dataclass(frozen=True, slots=True, config=CONFIG)
class LoginLockedOut(LockoutEvent):
    """A budget of password attempts was spent: no more are looked at until it fills again."""

    TYPE: ClassVar[str] = "login_locked_out"
    STREAM: ClassVar[str] = "lockout_id"


@dataclass(frozen=True, slots=True, config=CONFIG)
class LoginUnlocked(LockoutEvent):
    """The budget was made whole by an operator."""

    TYPE: ClassVar[str] = "login_unlocked"
    STREAM: ClassVar[str] = "lockout_id"
