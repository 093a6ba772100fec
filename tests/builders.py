"""Valid events, commands and rows with defaults, and random histories of them.

A builder takes what a test is about and makes up the rest. `EXAMPLES` has one event of each type with fixed content, for the
golden file; `histories` draws lists of events of all types.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID, uuid4

from hypothesis import strategies as st

from ledger.events import (
    ADMINISTRATORS,
    EVENT_TYPES,
    AdministratorsChanged,
    ApiChanged,
    ApiRegistered,
    ApiReinstated,
    ApiSuspended,
    ApiTokensRevoked,
    ClientChanged,
    ClientKeysSet,
    ClientRegistered,
    ClientReinstated,
    ClientSecretRotated,
    ClientSuspended,
    ClientTokensRevoked,
    Event,
    FamilyReinstated,
    FamilyRevoked,
    FamilySuspended,
    KeyActivated,
    KeyMade,
    KeyRetired,
    KeyRevoked,
    LoginLockedOut,
    LoginUnlocked,
    LogOpened,
    NameReleased,
    NameTaken,
    PartitionArchived,
    ReuseDetected,
    RoleCreated,
    RoleRemoved,
    RoleRulesGranted,
    RoleRulesWithdrawn,
    SubjectClearanceSet,
    SubjectErased,
    SubjectPasswordSet,
    SubjectProfileSet,
    SubjectRegistered,
    SubjectReinstated,
    SubjectRolesGranted,
    SubjectRolesWithdrawn,
    SubjectRulesGranted,
    SubjectRulesWithdrawn,
    SubjectSuspended,
    SubjectTokensRevoked,
    TokenIssued,
    TokenReinstated,
    TokenRevoked,
    TokenRotated,
    TokensArchived,
    TokenSuspended,
)
from ledger.log import Actor, Command, Envelope
from ledger.states import Api, Client, Family, Key, Lockout, Role, RuleOfApi, RuleOfRole, Subject, Token, TokenState

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)

# ---------------------------------------------------------------------------------------------------- rows, events, commands


def _filled(fields: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    return defaults | dict(fields)


def token(**fields: Any) -> Token:
    """Make an opaque access token of a subject, client and family of its own."""
    return Token(
        **_filled(
            fields,
            token_id=uuid4(),
            family_id=uuid4(),
            generation=0,
            kind="access",
            strategy="opaque",
            subject_id=uuid4(),
            client_id=uuid4(),
            api_ids=(uuid4(),),
            role_ids=None,
            direct=True,
            secret_digest=b"\x5a" * 32,
            key_ids=(),
            name=None,
            claims=None,
            issued_from=None,
            issued_at=NOON,
            expires_at=NOON + timedelta(minutes=10),
        )
    )


def family(**fields: Any) -> Family:
    """Make an active rotating family."""
    return Family(
        **_filled(
            fields,
            family_id=uuid4(),
            subject_id=uuid4(),
            client_id=uuid4(),
            refresh="rotating",
            generation=0,
            refresh_token_id=uuid4(),
            access_token_id=uuid4(),
            rotated_at=None,
            retry_epoch=None,
            sealed_rotated_by=None,
            started_at=NOON,
            expires_at=NOON + timedelta(days=90),
            idle_expires_at=None,
            status="active",
            status_reason=None,
            status_until=None,
        )
    )


def subject(**fields: Any) -> Subject:
    """Make an active person without roles."""
    return Subject(
        **_filled(
            fields,
            subject_id=uuid4(),
            kind="person",
            name_id=uuid4(),
            sealed_profile=b"sealed profile",
            sealed_password=b"sealed password",
            clearance=0,
            role_ids=(),
            cutoff_position=0,
            status="active",
            status_reason=None,
            status_until=None,
        )
    )


def client(**fields: Any) -> Client:
    """Make an active confidential client with opaque tokens and rotating refresh."""
    return Client(
        **_filled(
            fields,
            client_id=uuid4(),
            name="shop",
            kind="confidential",
            secret_digests=("ab" * 32,),
            public_keys=(),
            grants=("refresh_token", "password"),
            strategy="opaque",
            refresh="rotating",
            access_lifetime_seconds=600,
            refresh_idle_seconds=1_209_600,
            refresh_absolute_seconds=7_776_000,
            retry_window_seconds=30,
            revoke_access_on_rotation=False,
            api_ids=(uuid4(),),
            serves_api_id=None,
            subject_id=None,
            cutoff_position=0,
            status="active",
            status_reason=None,
            status_until=None,
        )
    )


def api(**fields: Any) -> Api:
    """Make an active API."""
    return Api(
        **_filled(
            fields,
            api_id=uuid4(),
            name="orders",
            audience="https://orders.example",
            semicolons=False,
            preflights=False,
            cutoff_position=0,
            status="active",
            status_reason=None,
            status_until=None,
        )
    )


def role(**fields: Any) -> Role:
    """Make a role without rules."""
    return Role(**_filled(fields, role_id=uuid4(), api_id=uuid4(), name="clerk", rule_count=0, removed=False))


def key(**fields: Any) -> Key:
    """Make a pending signing key."""
    return Key(
        **_filled(
            fields,
            key_id=uuid4(),
            use="sig",
            algorithm="EdDSA",
            public_jwk={"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            made_at=NOON,
            status="pending",
            changed_at=NOON,
            status_reason=None,
        )
    )


def subject_registered(**fields: Any) -> SubjectRegistered:
    """Register a subject; the fields are those of its row."""
    row = subject(**fields)
    return SubjectRegistered(subject_id=row.subject_id, subject=row)


def token_issued(*, family: Family | None = None, **fields: Any) -> TokenIssued:
    """Issue one access token, into a family where one is given; the fields are those of the token's row."""
    if family is not None:
        fields = {"family_id": family.family_id, "subject_id": family.subject_id, "client_id": family.client_id} | fields
    row = token(**fields)
    return TokenIssued(
        family_id=row.family_id, subject_id=row.subject_id, client_id=row.client_id, tokens=(row,), family=family
    )


def family_revoked(row: Family, reason: str = "requested") -> FamilyRevoked:
    """Revoke a family."""
    row = dataclasses.replace(row, status="revoked", status_reason=reason)
    return FamilyRevoked(family_id=row.family_id, subject_id=row.subject_id, client_id=row.client_id, family=row)


def envelope(**fields: Any) -> Envelope:
    """Make the envelope of a command of the ledger itself."""
    return Envelope(
        **_filled(fields, command_id=uuid4(), request_id=uuid4(), correlation_id=uuid4(), actor=Actor.SYSTEM, semantics=1)
    )


def command(*events: Event, reads: Mapping[UUID, int] | None = None, urgent: bool = False, **fields: Any) -> Command:
    """Make a command that adds these events, by default to streams that it read as not there; fields: of its envelope."""
    events = events or (token_issued(),)
    return Command(envelope(**fields), {event.stream: 0 for event in events} | dict(reads or {}), events, urgent=urgent)


# ------------------------------------------------------------------------------------------- one example of each type of event


def _id(number: int) -> UUID:
    return UUID(f"01890a5d-ac96-774b-bcce-{number:012x}")


_SUBJECT_ID, _CLIENT_ID, _FAMILY_ID, _API_ID, _ROLE_ID, _KEY_ID, _NAME_ID, _TOKEN_ID = map(_id, range(1, 9))
_REFRESH = token(
    token_id=_id(9),
    family_id=_FAMILY_ID,
    generation=1,
    kind="refresh",
    subject_id=_SUBJECT_ID,
    client_id=_CLIENT_ID,
    api_ids=(_API_ID,),
    role_ids=(_ROLE_ID,),
    issued_from=_id(10),
    expires_at=NOON + timedelta(days=14),
)
_ACCESS = token(
    token_id=_TOKEN_ID,
    family_id=_FAMILY_ID,
    generation=1,
    strategy="jwe",
    subject_id=_SUBJECT_ID,
    client_id=_CLIENT_ID,
    api_ids=(_API_ID, _id(11)),
    direct=False,
    secret_digest=None,
    key_ids=(_KEY_ID, _id(12)),
    name="nightly export",
    claims={"tenant": "süd", "limits": {"orders": 9007199254740991}, "tags": ["a", None, True]},
    issued_at=NOON + timedelta(microseconds=1),
)
_FAMILY = family(
    family_id=_FAMILY_ID,
    subject_id=_SUBJECT_ID,
    client_id=_CLIENT_ID,
    generation=1,
    refresh_token_id=_id(9),
    access_token_id=_TOKEN_ID,
    rotated_at=NOON,
    retry_epoch=6_355_296,
)
_SUBJECT = subject(
    subject_id=_SUBJECT_ID,
    name_id=_NAME_ID,
    sealed_profile=bytes(range(16)),
    sealed_password=b"\xff\x00\x7f",
    clearance=40,
    role_ids=(_ROLE_ID, _id(13)),
    cutoff_position=17,
)
_CLIENT = client(
    client_id=_CLIENT_ID, api_ids=(_API_ID,), serves_api_id=_API_ID, subject_id=_SUBJECT_ID, retry_window_seconds=0
)
_API = api(api_id=_API_ID)
_ROLE = role(role_id=_ROLE_ID, api_id=_API_ID, rule_count=2)
_KEY = key(key_id=_KEY_ID)
_LOCKOUT_ID = _id(18)
_LOCKOUT = Lockout(
    lockout_id=_LOCKOUT_ID, kind="user", throttle_id=_id(19), subject_id=_SUBJECT_ID, locked_at=NOON, unlocked=False
)
_ALLOW: dict[str, Any] = {
    "rule_id": _id(14),
    "effect": "allow",
    "methods": ("GET", "POST"),
    "path": "/orders/{id}",
    "min_clearance": 10,
}
_DENY: dict[str, Any] = {
    "rule_id": _id(15),
    "effect": "deny",
    "methods": ("DELETE",),
    "path": "/orders/**",
    "min_clearance": None,
}
_RULES = (RuleOfRole(**_ALLOW), RuleOfRole(**_DENY))
_OWN_RULES = (RuleOfApi(api_id=_API_ID, **_ALLOW), RuleOfApi(api_id=_id(11), **_DENY))
_UNTIL: dict[str, Any] = {"status": "suspended", "status_reason": "investigation", "status_until": NOON + timedelta(hours=1)}
_OF_FAMILY: dict[str, Any] = {"family_id": _FAMILY_ID, "subject_id": _SUBJECT_ID, "client_id": _CLIENT_ID}
_REVOKED = dataclasses.replace(_FAMILY, status="revoked", status_reason="reuse")
_ERASED = dataclasses.replace(_SUBJECT, status="erased", name_id=None, sealed_profile=None, sealed_password=None, role_ids=())


def _token_state(status: Literal["active", "suspended", "revoked"], until: datetime | None = None) -> TokenState:
    return TokenState(token_id=_TOKEN_ID, status=status, status_reason="leaked", status_until=until)


EXAMPLES: Sequence[Event] = (
    LogOpened(log_id=_id(16)),
    PartitionArchived(
        log_id=_id(16), name="events_from_1", from_position=1, to_position=1_000_001, events=1_000_000, sha256="ef" * 32
    ),
    TokensArchived(log_id=_id(16), from_position=1, to_position=5_001, ended_before=NOON - timedelta(days=1)),
    TokenIssued(**_OF_FAMILY, tokens=(_ACCESS,), family=None),
    TokenRotated(**_OF_FAMILY, tokens=(_REFRESH, _ACCESS), family=_FAMILY),
    TokenSuspended(**_OF_FAMILY, token_id=_TOKEN_ID, token_state=_token_state("suspended", NOON + timedelta(hours=1))),
    TokenReinstated(**_OF_FAMILY, token_id=_TOKEN_ID, token_state=_token_state("active")),
    TokenRevoked(**_OF_FAMILY, token_id=_TOKEN_ID, token_state=_token_state("revoked")),
    FamilySuspended(**_OF_FAMILY, family=dataclasses.replace(_FAMILY, **_UNTIL)),
    FamilyReinstated(**_OF_FAMILY, family=_FAMILY),
    FamilyRevoked(**_OF_FAMILY, family=_REVOKED),
    ReuseDetected(
        **_OF_FAMILY,
        family=_REVOKED,
        token_id=_id(9),
        generation_presented=0,
        generation_current=1,
        seconds_since_rotation=31,
        verdict="fork",
        sealed_presented_by=b"sealed",
    ),
    SubjectRegistered(subject_id=_SUBJECT_ID, subject=_SUBJECT),
    SubjectProfileSet(subject_id=_SUBJECT_ID, subject=_SUBJECT),
    SubjectPasswordSet(subject_id=_SUBJECT_ID, subject=_SUBJECT, cuts_off=True),
    SubjectClearanceSet(subject_id=_SUBJECT_ID, subject=_SUBJECT),
    SubjectRolesGranted(subject_id=_SUBJECT_ID, subject=_SUBJECT, granted=(_id(13),)),
    SubjectRolesWithdrawn(subject_id=_SUBJECT_ID, subject=_SUBJECT, withdrawn=(_id(17),)),
    SubjectSuspended(subject_id=_SUBJECT_ID, subject=dataclasses.replace(_SUBJECT, **_UNTIL)),
    SubjectReinstated(subject_id=_SUBJECT_ID, subject=_SUBJECT),
    SubjectTokensRevoked(subject_id=_SUBJECT_ID, subject=_SUBJECT, cuts_off=True, reason="laptop stolen"),
    SubjectErased(subject_id=_SUBJECT_ID, subject=_ERASED, cuts_off=True),
    SubjectRulesGranted(subject_id=_SUBJECT_ID, rules=_OWN_RULES),
    SubjectRulesWithdrawn(subject_id=_SUBJECT_ID, rules=()),
    AdministratorsChanged(stream_id=ADMINISTRATORS, subject_ids=(_SUBJECT_ID,)),
    NameTaken(name_id=_NAME_ID, kind="user", holder_id=_SUBJECT_ID),
    NameReleased(name_id=_NAME_ID, kind="user"),
    ClientRegistered(client_id=_CLIENT_ID, client=_CLIENT),
    ClientChanged(client_id=_CLIENT_ID, client=_CLIENT),
    ClientSecretRotated(client_id=_CLIENT_ID, client=dataclasses.replace(_CLIENT, secret_digests=("cd" * 32, "ab" * 32))),
    ClientKeysSet(
        client_id=_CLIENT_ID,
        client=dataclasses.replace(
            _CLIENT,
            secret_digests=(),
            public_keys=({"kid": "one", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": "A" * 43},),
        ),
    ),
    ClientSuspended(client_id=_CLIENT_ID, client=dataclasses.replace(_CLIENT, **_UNTIL)),
    ClientReinstated(client_id=_CLIENT_ID, client=_CLIENT),
    ClientTokensRevoked(client_id=_CLIENT_ID, client=_CLIENT, cuts_off=True, reason=None),
    ApiRegistered(api_id=_API_ID, api=_API),
    ApiChanged(api_id=_API_ID, api=dataclasses.replace(_API, semicolons=True, preflights=True)),
    ApiSuspended(api_id=_API_ID, api=dataclasses.replace(_API, **_UNTIL)),
    ApiReinstated(api_id=_API_ID, api=_API),
    ApiTokensRevoked(api_id=_API_ID, api=_API, cuts_off=True, reason="incident 17"),
    RoleCreated(role_id=_ROLE_ID, api_id=_API_ID, role=dataclasses.replace(_ROLE, rule_count=0)),
    RoleRulesGranted(role_id=_ROLE_ID, api_id=_API_ID, role=_ROLE, rules=_RULES),
    RoleRulesWithdrawn(role_id=_ROLE_ID, api_id=_API_ID, role=dataclasses.replace(_ROLE, rule_count=1), rules=_RULES[:1]),
    RoleRemoved(role_id=_ROLE_ID, api_id=_API_ID, role=dataclasses.replace(_ROLE, removed=True)),
    KeyMade(key_id=_KEY_ID, key=_KEY),
    KeyActivated(key_id=_KEY_ID, key=dataclasses.replace(_KEY, status="active")),
    KeyRetired(key_id=_KEY_ID, key=dataclasses.replace(_KEY, status="retired")),
    KeyRevoked(
        key_id=_KEY_ID, key=dataclasses.replace(_KEY, use="enc", public_jwk=None, status="revoked", status_reason="leaked")
    ),
    LoginLockedOut(lockout_id=_LOCKOUT_ID, subject_id=_LOCKOUT.subject_id, lockout=_LOCKOUT),
    LoginUnlocked(lockout_id=_LOCKOUT_ID, subject_id=_LOCKOUT.subject_id, lockout=dataclasses.replace(_LOCKOUT, unlocked=True)),
)

# --------------------------------------------------------------------------------------------------------- random histories

# Few enough that events of one history meet each other's streams and keys.
_IDS = [_id(number) for number in range(100, 108)]
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
_BY_TYPE: Mapping[Any, st.SearchStrategy[Any]] = {
    UUID: st.sampled_from(_IDS),
    int: st.integers(0, 2**31 - 1),
    str: _TEXT,
    bool: st.booleans(),
    bytes: st.binary(max_size=3),
    datetime: st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    dict[str, Any]: st.dictionaries(_TEXT, _JSON, max_size=2),
    dict[str, str]: st.dictionaries(_TEXT, _TEXT, max_size=2),
    types.NoneType: st.none(),
}
# What leaves the views leaves by its place in the log, which a random history does not know: nothing leaves.
_BY_NAME: Mapping[str, st.SearchStrategy[Any]] = {"ended_before": st.just(datetime(2019, 1, 1, tzinfo=UTC))}


@st.composite
def _value(draw: st.DrawFn, annotation: Any, ids: Mapping[str, UUID]) -> Any:
    """Draw a value of a field; the ids of the event stand in its rows too."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in _BY_TYPE:
        return draw(_BY_TYPE[annotation])
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return draw(st.sampled_from(arguments))
    if get_origin(annotation) in (types.UnionType, typing.Union):
        return draw(_value(draw(st.sampled_from(arguments)), ids))
    if get_origin(annotation) is tuple:
        return tuple(draw(st.lists(_value(arguments[0], ids), max_size=2, unique_by=_key)))
    return draw(_record(annotation, ids))


def _key(item: Any) -> object:
    """Answer by what the items of a list differ: a token or rule stands in an event once."""
    return getattr(item, "token_id", None) or getattr(item, "rule_id", None) or repr(item)


@st.composite
def _record(draw: st.DrawFn, cls: type, ids: Mapping[str, UUID]) -> Any:
    annotations = typing.get_type_hints(cls, include_extras=True)
    return cls(
        **{
            field.name: ids[field.name]
            if field.name in ids
            else draw(_BY_NAME.get(field.name, _value(annotations[field.name], ids)))
            for field in dataclasses.fields(cls)
            if field.name != "position"
        }
    )


@st.composite
def _event(draw: st.DrawFn) -> Event:
    cls = draw(st.sampled_from(list(EVENT_TYPES.values())))
    annotations = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if annotations[f.name] is UUID]
    ids = {name: ADMINISTRATORS if name == "stream_id" else draw(st.sampled_from(_IDS)) for name in names}
    event: Event = draw(_record(cls, ids))
    return event


def events(max_size: int) -> st.SearchStrategy[list[Event]]:
    """Draw events of all types about a few entities."""
    return st.lists(_event(), min_size=1, max_size=max_size)


@st.composite
def actors(draw: st.DrawFn) -> Actor:
    """Draw who did something, sometimes an entity of the events."""
    return draw(
        st.just(Actor.SYSTEM)
        | st.builds(Actor, st.sampled_from(["subject", "client"]), st.sampled_from(_IDS), st.just("password"))
        | st.builds(Actor, st.just("subject"), st.sampled_from(_IDS), st.sampled_from(_IDS).map("token {}".format))
    )
