"""What a request may narrow a token to: APIs of the client's audience, roles as `api:role`, the subject's rules as `direct`."""

from dataclasses import dataclass
from uuid import UUID

from ledger.states import Client
from ledger.tokens import GrantRefused
from projections.reference import Kept


@dataclass(frozen=True, slots=True)
class Scope:
    """The audience and scope of a token to be issued. Not `asked`: no scope was said, so none restricts."""

    api_ids: tuple[UUID, ...]
    role_ids: tuple[UUID, ...] | None
    direct: bool
    asked: bool


def read_scope(kept: Kept, client: Client, scope: str | None, resource: str | None = None, apis: tuple[str, ...] = ()) -> Scope:
    """Answer the scope of a request; GrantRefused (`invalid_scope`) for a role or API that is not there or not the client's.

    `resource` (RFC 8707, one API by name or audience) and `apis` (names) narrow the audience; else it is the client's.
    """
    wanted = [*apis, *([resource] if resource else [])]
    api_ids = tuple(dict.fromkeys(_api_id(kept, client, name) for name in wanted)) or client.api_ids
    if scope is None:
        return Scope(api_ids, None, True, False)
    names = scope.split(" ")
    role_ids = []
    for name in names:
        if name == "direct":
            continue
        role_id = kept.role_id(name)
        if role_id is None or kept.roles[role_id].api_id not in api_ids:
            raise GrantRefused("an unknown role in the scope", "invalid_scope")
        role_ids.append(role_id)
    return Scope(api_ids, tuple(dict.fromkeys(role_ids)), "direct" in names, True)


def _api_id(kept: Kept, client: Client, name: str) -> UUID:
    for api_id in client.api_ids:
        api = kept.apis[api_id]
        if name in (api.name, api.audience):
            return api_id
    raise GrantRefused("an API that is not in the client's audience", "invalid_scope")
