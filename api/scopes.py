"""What a request may narrow a token to: APIs of the client's audience, roles as `api:role`, the subject's rules as `direct`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from ledger.states import Client
from ledger.tokens import GrantRefused
from projections.reference import Kept


@dataclass(frozen=True, slots=True)
class Scope:
    """The audience and scope of a token to be issued. Not `apis_asked`: the client's whole audience. Not `asked`: no scope was
    said, so none restricts."""

    api_ids: tuple[UUID, ...]
    role_ids: tuple[UUID, ...] | None
    direct: bool
    apis_asked: bool
    asked: bool

    def within(self, api_ids: Sequence[UUID], role_ids: Sequence[UUID] | None, direct: bool) -> "Scope":
        """Answer what the bearer of a token of this audience and scope may have issued: what was not asked for is the
        token's. GrantRefused for more than the token's."""
        audience = self.api_ids if self.apis_asked else tuple(api_id for api_id in self.api_ids if api_id in api_ids)
        if not set(audience) <= set(api_ids):
            raise GrantRefused("an API that is not in the token's audience", "invalid_scope")
        if not self.asked:
            return replace(self, api_ids=audience, role_ids=None if role_ids is None else tuple(role_ids), direct=direct)
        if (role_ids is not None and not set(self.role_ids or ()) <= set(role_ids)) or (self.direct and not direct):
            raise GrantRefused("a scope that is wider than the token's", "invalid_scope")
        return replace(self, api_ids=audience)


def read_scope(kept: Kept, client: Client, scope: str | None, resource: str | None = None, apis: tuple[str, ...] = ()) -> Scope:
    """Answer the scope of a request; GrantRefused (`invalid_scope`) for a role or API that is not there or not the client's.

    `resource` (RFC 8707, one API by name or audience; `invalid_target`) and `apis` (names) narrow the audience; else it is
    the client's.
    """
    named = tuple(_api_id(kept, client, name, "invalid_scope") for name in apis)
    target = () if resource is None else (_api_id(kept, client, resource, "invalid_target"),)
    wanted = tuple(dict.fromkeys([*named, *target]))
    api_ids = wanted or client.api_ids
    if scope is None:
        return Scope(api_ids, None, True, bool(wanted), False)
    names = scope.split(" ")
    role_ids = []
    for name in names:
        if name == "direct":
            continue
        role_id = kept.role_id(name)
        if role_id is None or kept.roles[role_id].api_id not in api_ids:
            raise GrantRefused("an unknown role in the scope", "invalid_scope")
        role_ids.append(role_id)
    return Scope(api_ids, tuple(dict.fromkeys(role_ids)), "direct" in names, bool(wanted), True)


def _api_id(kept: Kept, client: Client, name: str, error: Literal["invalid_scope", "invalid_target"]) -> UUID:
    for api_id in client.api_ids:
        api = kept.apis[api_id]
        if name in (api.name, api.audience):
            return api_id
    raise GrantRefused("an API that is not in the client's audience", error)
