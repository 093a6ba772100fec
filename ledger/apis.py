"""The rules of protected APIs and of their roles. Pure: state and instant in, events out.

What a rule looks like is rules.py; what it means for a request is decisions.py. Each function answers no event where there is
nothing new, and raises what the state does not allow: UnknownApi and UnknownRole go without saying.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from ledger.builtin import LEDGER_API, ROLE_NAMES
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
from ledger.identifiers import name_id
from ledger.names import check_name, check_role_name
from ledger.paths import PathRefused, canonical
from ledger.states import Api, Role, RuleOfRole, State
from ledger.statuses import reinstated, stands, suspended

MAX_RULES: Final = 10_000
MAX_AUDIENCE_CHARACTERS: Final = 255
# RFC 3986 section 4.3, by its characters: a scheme, and no `#`.
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!$-;=?-\[\]_a-z~]+")


def api_id_of(name: str) -> UUID:
    """Answer the id of the API of this name: names are for ever, and so the id is made from it."""
    return name_id("api", name)


def role_name_id(api_id: UUID, name: str) -> UUID:
    """Answer the stream that a role's name in its API is taken on."""
    return name_id("role", str(api_id), name)


# ----------------------------------------------------------------------------------------------------------------- APIs


def register(
    state: State,
    _now: datetime,
    *,
    name: str,
    audience: str | None = None,
    semicolons: bool = False,
    preflights: bool = False,
) -> list[Event]:
    """Register an API; its `aud` is its name unless said otherwise.

    `semicolons`: whether `;` may stand in its paths. `preflights`: whether OPTIONS passes its gateways without a token.
    Reads the API. NameIsTaken; InvalidInput for an audience that is neither a name nor an absolute URI.
    """
    check_name(name)
    api_id = api_id_of(name)
    if api_id in state.apis:
        raise NameIsTaken("api")
    api = Api(
        api_id=api_id,
        name=name,
        audience=name if audience is None else _checked_audience(audience),
        semicolons=semicolons,
        preflights=preflights,
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    return [ApiRegistered(api_id=api_id, api=api)]


def change(
    state: State,
    _now: datetime,
    *,
    api_id: UUID,
    audience: str | None = None,
    semicolons: bool | None = None,
    preflights: bool | None = None,
) -> list[Event]:
    """Change what is not None. BuiltIn; InvalidInput as in `register`."""
    api = _changeable(state, api_id)
    row = replace(
        api,
        audience=api.audience if audience is None else _checked_audience(audience),
        semicolons=api.semicolons if semicolons is None else semicolons,
        preflights=api.preflights if preflights is None else preflights,
    )
    return [] if row == api else [ApiChanged(api_id=api_id, api=row)]


def suspend(state: State, now: datetime, *, api_id: UUID, reason: str | None, until: datetime | None = None) -> list[Event]:
    """Suspend an API: every decision about it is no. BuiltIn; InvalidInput: `until` has come."""
    row = suspended(_changeable(state, api_id), now, reason, until)
    return [] if row is None else [ApiSuspended(api_id=api_id, api=row)]


def reinstate(state: State, _now: datetime, *, api_id: UUID, reason: str | None) -> list[Event]:
    """End the suspension of an API."""
    row = reinstated(_api(state, api_id), reason)
    return [] if row is None else [ApiReinstated(api_id=api_id, api=row)]


def revoke_tokens(
    state: State, _now: datetime, *, api_id: UUID, reason: str | None, cutoff_position: int | None = None
) -> list[Event]:
    """Revoke every token for the API issued so far, or up to a position: one event, whatever their number."""
    api = _api(state, api_id)
    if cutoff_position is None:
        return [ApiTokensRevoked(api_id=api_id, api=api, cuts_off=True, reason=reason)]
    if cutoff_position <= api.cutoff_position:
        return []
    return [ApiTokensRevoked(api_id=api_id, api=replace(api, cutoff_position=cutoff_position), reason=reason)]


def passes_without_token(api: Api, method: str, target: str, instant: datetime) -> bool:
    """Say whether a request passes the gateways of an API without a decision about a token: OPTIONS, where the API lets it.

    What a browser sends ahead of a request of another origin has no token (Fetch section 3.2.2). Its path is canonical too.
    """
    if method != "OPTIONS" or not api.preflights or not stands(api.status, api.status_until, instant):
        return False
    try:
        canonical(target, semicolons=api.semicolons)
    except PathRefused:
        return False
    return True


def _api(state: State, api_id: UUID) -> Api:
    api = state.apis.get(api_id)
    if api is None:
        raise UnknownApi(api_id)
    return api


def _changeable(state: State, api_id: UUID) -> Api:
    api = _api(state, api_id)
    if api_id == LEDGER_API:
        raise BuiltIn("the API that manages the ledger")
    return api


def resource_of(api: Api, issuer: str) -> str | None:
    """Answer the resource identifier of an API (RFC 9728 section 1.2): its audience where that is a URL, and None where it is
    a name. The ledger's own API is where its issuer is."""
    if api.api_id == LEDGER_API:
        return issuer
    return api.audience if api.audience.startswith(("https://", "http://")) else None


def well_known(identifier: str, name: str) -> str:
    """Answer the URL of the metadata of an issuer or a resource: the name between host and path (RFC 8414 section 3.1, RFC
    9728 section 3.1)."""
    parts = urlsplit(identifier)
    return urlunsplit(parts._replace(path=f"/.well-known/{name}{parts.path.rstrip('/')}"))


def _checked_audience(audience: str) -> str:
    """Answer what may stand in `aud`: a name, or an absolute URI without a fragment (RFC 8707 section 2)."""
    if ":" not in audience:
        check_name(audience, "audience")
    elif len(audience) > MAX_AUDIENCE_CHARACTERS or _ABSOLUTE_URI.fullmatch(audience) is None:
        raise InvalidInput.of(
            "audience", f"a name, or an absolute URI without a fragment of at most {MAX_AUDIENCE_CHARACTERS} characters"
        )
    return audience


# ---------------------------------------------------------------------------------------------------------------- roles


def create_role(state: State, _now: datetime, *, role_id: UUID, api_id: UUID, name: str) -> list[Event]:
    """Create a role of an API, without rules. Reads the API, the role and its name. NameIsTaken; InvalidInput."""
    check_role_name(name)
    _api(state, api_id)
    stream = role_name_id(api_id, name)
    taken = state.names.get(stream)
    if taken is not None and taken.holder_id is not None:
        raise NameIsTaken("role")
    role = Role(role_id=role_id, api_id=api_id, name=name, rule_count=0, removed=False)
    return [
        NameTaken(name_id=stream, kind="role", holder_id=role_id),
        RoleCreated(role_id=role_id, api_id=api_id, role=role),
    ]


def grant_rules(state: State, _now: datetime, *, role_id: UUID, rules: Iterable[RuleOfRole]) -> list[Event]:
    """Add rules to a role. Reads which of them stand. BuiltIn, TooManyRules."""
    role = _changeable_role(state, role_id)
    granted = {rule.rule_id: rule for rule in rules if (role_id, rule.rule_id) not in state.standing_rules}
    if not granted:
        return []
    row = replace(role, rule_count=role.rule_count + len(granted))
    if row.rule_count > MAX_RULES:
        raise TooManyRules(row.rule_count, MAX_RULES)
    return [RoleRulesGranted(role_id=role_id, api_id=role.api_id, role=row, rules=tuple(granted.values()))]


def withdraw_rules(state: State, _now: datetime, *, role_id: UUID, rules: Iterable[RuleOfRole]) -> list[Event]:
    """Take rules from a role. Reads which of them stand. BuiltIn."""
    role = _changeable_role(state, role_id)
    withdrawn = {rule.rule_id: rule for rule in rules if (role_id, rule.rule_id) in state.standing_rules}
    if not withdrawn:
        return []
    row = replace(role, rule_count=role.rule_count - len(withdrawn))
    return [RoleRulesWithdrawn(role_id=role_id, api_id=role.api_id, role=row, rules=tuple(withdrawn.values()))]


def remove_role(state: State, _now: datetime, *, role_id: UUID) -> list[Event]:
    """Remove a role for good: its holders lose what it allowed, its name is free. Reads its name as well. BuiltIn.

    A role made again under the name is another one: it revives nothing. Of a role removed before: no event.
    """
    role = state.roles.get(role_id)
    if role is None:
        raise UnknownRole(role_id)
    if role_id in ROLE_NAMES:
        raise BuiltIn(f"the role {role.name}")
    if role.removed:
        return []
    return [
        NameReleased(name_id=role_name_id(role.api_id, role.name), kind="role"),
        RoleRemoved(role_id=role_id, api_id=role.api_id, role=replace(role, removed=True)),
    ]


def _changeable_role(state: State, role_id: UUID) -> Role:
    role = state.roles.get(role_id)
    if role is None or role.removed:
        raise UnknownRole(role_id)
    if role_id in ROLE_NAMES:
        raise BuiltIn(f"the role {role.name}")
    return role
