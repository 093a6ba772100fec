"""/v1/clients: applications that obtain tokens, resource servers and gateways that ask about them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import falcon
from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import authorize
from api.body import Body, read_body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_choice, read_query
from api.resources.bodies import Because, CutOff, Suspension, status_of
from api.seeing import see_reference
from api.service import Service
from ledger import clients
from ledger.apis import api_id_of
from ledger.clients import Ceilings, ClientSettings, Grant, client_id_of
from ledger.errors import InvalidInput, UnknownApi, UnknownClient
from ledger.events import ClientRegistered
from ledger.identifiers import uuid7
from ledger.jose import BadKeySet, read_client_keys
from ledger.states import Client, Refresh, Strategy
from ledger.token_strings import new_secret, secret_digest, write
from projections.reading import Keys
from projections.reference import Kept

KINDS: Final = ("confidential", "public")
STATUSES: Final = ("active", "suspended")
DEFAULTS: Final = ClientSettings()


class Settings(Body):
    """What is chosen for a client; what is left out keeps its default, or in a change what it was."""

    grants: Annotated[tuple[Grant, ...], Field(max_length=4)] = ()
    strategy: Strategy = DEFAULTS.strategy
    refresh: Refresh = DEFAULTS.refresh
    access_lifetime_seconds: int = DEFAULTS.access_lifetime_seconds
    refresh_idle_seconds: int = DEFAULTS.refresh_idle_seconds
    refresh_absolute_seconds: int = DEFAULTS.refresh_absolute_seconds
    retry_window_seconds: int = DEFAULTS.retry_window_seconds
    revoke_access_on_rotation: bool = DEFAULTS.revoke_access_on_rotation
    apis: Annotated[tuple[str, ...], Field(max_length=clients.MAX_APIS)] = ()
    serves: str | None = None

    def chosen(self, kept: Kept) -> dict[str, Any]:
        """Answer the settings that were given, with APIs by their ids. UnknownApi."""
        given = self.model_dump(include=set(Settings.model_fields), exclude_unset=True)
        if "apis" in given:
            given["api_ids"] = tuple(_api_id(kept, name) for name in given.pop("apis"))
        if "serves" in given:
            name = given.pop("serves")
            given["serves_api_id"] = None if name is None else _api_id(kept, name)
        return given


class NewClient(Settings):
    """A client to be registered."""

    name: str
    kind: Literal["confidential", "public"] = "confidential"
    jwks: dict[str, Any] | None = None


class NewSecret(Body):
    """`keep_old`: the secret of now stays good until the next rotation."""

    keep_old: bool = False


class NewKeys(Body):
    """A JWK set of public keys in the place of those there are; `keep_secret`: the secret stays good beside them."""

    jwks: dict[str, Any]
    keep_secret: bool = False


class Clients:
    """Every endpoint of /v1/clients, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # ---------------------------------------------------------------------------------------------- /v1/clients

    async def on_post(self, req: Request, resp: Response) -> None:
        """Register a client; the secret of a confidential one without keys is in this answer and nowhere else."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewClient)
        settings = ClientSettings(**body.chosen(caller.kept))
        client_id, subject_id = client_id_of(body.name), uuid7(datetime.now(UTC))
        public_keys = () if body.jwks is None else _public_keys(body.jwks)
        secret = None if body.kind == "public" or public_keys else new_secret()
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id], subjects=[subject_id], apis=_apis_of(settings.api_ids, settings.serves_api_id)),
            lambda state, now: clients.register(
                state,
                now,
                name=body.name,
                kind=body.kind,
                settings=settings,
                ceilings=self._ceilings(),
                secret_digest=None if secret is None else secret_digest(secret).hex(),
                public_keys=public_keys,
                subject_id=subject_id,
            ),
        )
        (registered,) = (event for event in receipt.events if isinstance(event, ClientRegistered))
        resp.status = falcon.HTTP_201
        resp.location = f"/v1/clients/{body.name}"
        resp.media = {
            "name": registered.client.name,
            "client_id": str(client_id),
            "subject_id": None if registered.client.subject_id is None else str(registered.client.subject_id),
            "position": receipt.position,
        } | _secret_once(client_id, secret, repeated=receipt.repeated)

    async def on_get(self, req: Request, resp: Response) -> None:
        """List clients in the order of their names."""
        await authorize(req, self._service)
        query = read_query(req, ("kind", "status", *AS_OF, "cursor", "limit"))
        kind, status = read_choice(query, "kind", KINDS), read_choice(query, "status", STATUSES)
        seen, position, instant = await see_reference(self._service, query)
        page = await seen.slice(
            "clients",
            seen.kept.clients.values(),
            query,
            lambda client: kind in (None, client.kind) and status in (None, client.status),
        )
        resp.media = {
            "clients": [_answer(client, seen.kept, instant) for client in page.items],
            "next": page.next,
            **seen.where(position, instant),
        }

    # --------------------------------------------------------------------------------------- /v1/clients/{name}

    async def on_get_one(self, req: Request, resp: Response, name: str) -> None:
        """Answer one client; of its secrets only how many there are."""
        await authorize(req, self._service)
        query = read_query(req, AS_OF)
        seen, position, instant = await see_reference(self._service, query)
        client_id = client_id_of(name)
        client = (await seen.reference(client_ids=[client_id])).clients.get(client_id)
        if client is None:
            raise UnknownClient(name)
        resp.media = _answer(client, seen.kept, instant) | seen.where(position, instant)

    async def on_patch_one(self, req: Request, resp: Response, name: str) -> None:
        """Change the settings that are given; its name and kind stay."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Settings)
        changes = body.chosen(caller.kept)
        client_id, subject_id = client_id_of(name), uuid7(datetime.now(UTC))
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(
                clients=[client_id],
                subjects=[subject_id],
                apis=_apis_of(changes.get("api_ids", ()), changes.get("serves_api_id")),
            ),
            lambda state, now: clients.change(
                state, now, client_id=client_id, changes=changes, ceilings=self._ceilings(), subject_id=subject_id
            ),
        )
        resp.media = {"name": name, "client_id": str(client_id), "position": receipt.position}

    async def on_post_secret(self, req: Request, resp: Response, name: str) -> None:
        """Give the client a new secret, which is in this answer and nowhere else."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, NewSecret)
        client_id, secret = client_id_of(name), new_secret()
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id]),
            lambda state, now: clients.rotate_secret(
                state, now, client_id=client_id, secret_digest=secret_digest(secret).hex(), keep_old=body.keep_old
            ),
            urgent=True,
        )
        resp.media = {
            "name": name,
            "client_id": str(client_id),
            "position": receipt.position,
        } | _secret_once(client_id, secret, repeated=receipt.repeated)

    async def on_post_keys(self, req: Request, resp: Response, name: str) -> None:
        """Give the client these public keys, by which it proves itself without a secret (RFC 7523)."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewKeys)
        public_keys = _public_keys(body.jwks)
        client_id = client_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id]),
            lambda state, now: clients.set_keys(
                state, now, client_id=client_id, public_keys=public_keys, keep_secrets=body.keep_secret
            ),
            urgent=True,
        )
        resp.media = {"name": name, "client_id": str(client_id), "position": receipt.position}

    async def on_post_suspend(self, req: Request, resp: Response, name: str) -> None:
        """Suspend the client: every token issued to it, and its own requests."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Suspension)
        client_id = client_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id]),
            lambda state, now: clients.suspend(state, now, client_id=client_id, reason=body.reason, until=body.until),
            urgent=True,
        )
        resp.media = {"name": name, "client_id": str(client_id), "position": receipt.position}

    async def on_post_reinstate(self, req: Request, resp: Response, name: str) -> None:
        """End the suspension."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, Because)
        client_id = client_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id]),
            lambda state, now: clients.reinstate(state, now, client_id=client_id, reason=body.reason),
        )
        resp.media = {"name": name, "client_id": str(client_id), "position": receipt.position}

    async def on_post_revoke_tokens(self, req: Request, resp: Response, name: str) -> None:
        """Revoke every token issued to the client so far, or recorded before an instant."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, CutOff)
        cutoff_position = await body.position(service)
        client_id = client_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(clients=[client_id]),
            lambda state, now: clients.revoke_tokens(
                state, now, client_id=client_id, reason=body.reason, cutoff_position=cutoff_position
            ),
            urgent=True,
        )
        resp.media = {"name": name, "client_id": str(client_id), "position": receipt.position}

    def _ceilings(self) -> Ceilings:
        settings = self._service.settings
        return Ceilings(settings.max_access_lifetime_seconds, settings.max_refresh_absolute_seconds)


def _answer(client: Client, kept: Kept, instant: datetime) -> dict[str, Any]:
    return {
        "name": client.name,
        "client_id": str(client.client_id),
        "kind": client.kind,
        "secrets": len(client.secret_digests),
        "jwks": {"keys": list(client.public_keys)},
        "grants": list(client.grants),
        "strategy": client.strategy,
        "refresh": client.refresh,
        "access_lifetime_seconds": client.access_lifetime_seconds,
        "refresh_idle_seconds": client.refresh_idle_seconds,
        "refresh_absolute_seconds": client.refresh_absolute_seconds,
        "retry_window_seconds": client.retry_window_seconds,
        "revoke_access_on_rotation": client.revoke_access_on_rotation,
        "apis": [kept.apis[api_id].name for api_id in client.api_ids],
        "serves": None if client.serves_api_id is None else kept.apis[client.serves_api_id].name,
        "subject_id": None if client.subject_id is None else str(client.subject_id),
        **status_of(client, instant),
    }


def _secret_once(client_id: UUID, secret: bytes | None, *, repeated: bool) -> dict[str, str]:
    """Answer the secret as it is handed out; a repeat under an Idempotency-Key has none: only its digest is left."""
    return {} if secret is None or repeated else {"client_secret": write("client", client_id, secret)}


def _public_keys(jwks: dict[str, Any]) -> tuple[dict[str, str], ...]:
    try:
        return read_client_keys(jwks)
    except BadKeySet as bad:
        raise InvalidInput.of("jwks", bad.message) from None


def _api_id(kept: Kept, name: str) -> UUID:
    api_id = api_id_of(name)
    if api_id not in kept.apis:
        raise UnknownApi(name)
    return api_id


def _apis_of(api_ids: Sequence[UUID], serves_api_id: UUID | None) -> list[UUID]:
    return list(dict.fromkeys([*api_ids, *([] if serves_api_id is None else [serves_api_id])]))
