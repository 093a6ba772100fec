"""The first command of a log: the ledger's own API with its roles, the client people log in through, the keys, the first
administrator.

From here on everything is managed through that API, and so by decisions of the ledger itself. All streams are new: each is
read as version 0.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.apis import role_name_id
from ledger.builtin import (
    ADMINISTRATOR_ROLE,
    AUDITOR_ROLE,
    CONSOLE,
    CONSOLE_NAME,
    LEDGER_API,
    LEDGER_API_NAME,
    OPERATOR_ROLE,
    ROLE_NAMES,
)
from ledger.clients import DAY_SECONDS
from ledger.events import (
    ADMINISTRATORS,
    AdministratorsChanged,
    ApiRegistered,
    ClientRegistered,
    Event,
    KeyActivated,
    KeyMade,
    LogOpened,
    NameTaken,
    RoleCreated,
    RoleRulesGranted,
    SubjectRegistered,
    SubjectRolesGranted,
)
from ledger.rules import Rule
from ledger.states import Api, Client, Key, Role, RuleOfRole, Subject

# What stops something, and starts it again: for whoever is on duty, who changes no permission and erases nobody.
_OPERATIONS: Final = (
    "/v1/tokens/{token_id}/suspend",
    "/v1/tokens/{token_id}/reinstate",
    "/v1/tokens/{token_id}/revoke",
    "/v1/families/{family_id}/suspend",
    "/v1/families/{family_id}/reinstate",
    "/v1/families/{family_id}/revoke",
    "/v1/subjects/{subject_id}/suspend",
    "/v1/subjects/{subject_id}/reinstate",
    "/v1/subjects/{subject_id}/revoke-tokens",
    "/v1/clients/{name}/suspend",
    "/v1/clients/{name}/reinstate",
    "/v1/clients/{name}/revoke-tokens",
    "/v1/revocations",
    "/v1/audit/blast-radius",
    "/v1/keys/{key_id}/revoke",
    "/v1/lockouts/{lockout_id}/unlock",
)
_METRICS: Final = ("GET", "/metrics")
_RULES: Final[dict[UUID, tuple[tuple[str, str], ...]]] = {
    ADMINISTRATOR_ROLE: (("*", "/v1/**"), _METRICS),
    OPERATOR_ROLE: (("GET", "/v1/**"), _METRICS, *(("POST", path) for path in _OPERATIONS)),
    AUDITOR_ROLE: (("GET", "/v1/**"), _METRICS),
}


def genesis(
    now: datetime,
    *,
    log_id: UUID,
    keys: Iterable[Key],
    administrator_id: UUID,
    administrator_name_id: UUID,
    sealed_profile: bytes,
    sealed_password: bytes,
) -> list[Event]:
    """Answer the events that open a log.

    `keys` are those that tokens are made with from the start: made, and active. The administrator's user name comes as its
    keyed id, profile and password sealed under the subject's key.
    """
    del now  # No event of these holds an instant of its own: `recorded_at` says when.
    return [
        LogOpened(log_id=log_id),
        *_ledger_api(),
        *_console(),
        *_keys(keys),
        *_administrator(administrator_id, administrator_name_id, sealed_profile, sealed_password),
    ]


def _ledger_api() -> list[Event]:
    api = Api(
        api_id=LEDGER_API,
        name=LEDGER_API_NAME,
        audience=LEDGER_API_NAME,
        semicolons=False,
        preflights=False,
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    events: list[Event] = [ApiRegistered(api_id=LEDGER_API, api=api)]
    for role_id, name in ROLE_NAMES.items():
        role = Role(role_id=role_id, api_id=LEDGER_API, name=name, rule_count=0, removed=False)
        rules = tuple(_allow(method, path) for method, path in _RULES[role_id])
        events += [
            NameTaken(name_id=role_name_id(LEDGER_API, name), kind="role", holder_id=role_id),
            RoleCreated(role_id=role_id, api_id=LEDGER_API, role=role),
            RoleRulesGranted(role_id=role_id, api_id=LEDGER_API, role=replace(role, rule_count=len(rules)), rules=rules),
        ]
    return events


def _allow(method: str, path: str) -> RuleOfRole:
    return Rule.make("allow", (method,), path).of_role()


def _console() -> list[Event]:
    client = Client(
        client_id=CONSOLE,
        name=CONSOLE_NAME,
        kind="public",
        secret_digests=(),
        public_keys=(),
        grants=("password", "refresh_token"),
        strategy="opaque",
        refresh="rotating",
        access_lifetime_seconds=600,
        refresh_idle_seconds=14 * DAY_SECONDS,
        refresh_absolute_seconds=90 * DAY_SECONDS,
        retry_window_seconds=30,
        revoke_access_on_rotation=False,
        api_ids=(LEDGER_API,),
        serves_api_id=None,
        subject_id=None,
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    return [ClientRegistered(client_id=CONSOLE, client=client)]


def _keys(keys: Iterable[Key]) -> list[Event]:
    events: list[Event] = []
    for key in keys:
        events += [
            KeyMade(key_id=key.key_id, key=replace(key, status="pending")),
            KeyActivated(key_id=key.key_id, key=replace(key, status="active")),
        ]
    return events


def _administrator(subject_id: UUID, name_id: UUID, sealed_profile: bytes, sealed_password: bytes) -> list[Event]:
    subject = Subject(
        subject_id=subject_id,
        kind="person",
        name_id=name_id,
        sealed_profile=sealed_profile,
        sealed_password=sealed_password,
        clearance=0,
        role_ids=(),
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    granted = (ADMINISTRATOR_ROLE,)
    return [
        NameTaken(name_id=name_id, kind="user", holder_id=subject_id),
        SubjectRegistered(subject_id=subject_id, subject=subject),
        SubjectRolesGranted(subject_id=subject_id, subject=replace(subject, role_ids=granted), granted=granted),
        AdministratorsChanged(stream_id=ADMINISTRATORS, subject_ids=(subject_id,)),
    ]
