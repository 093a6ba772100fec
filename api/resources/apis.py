"""/v1/apis: the APIs that tokens are for."""

from datetime import datetime
from typing import Annotated, Any, Final

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
from ledger import apis
from ledger.apis import api_id_of
from ledger.errors import UnknownApi
from ledger.states import Api
from projections.reading import Keys

STATUSES: Final = ("active", "suspended")

Audience = Annotated[str, Field(min_length=1, max_length=apis.MAX_AUDIENCE_CHARACTERS)]


class NewApi(Body):
    """An API to be registered; its audience is its name unless said otherwise.

    `semicolons`: may `;` stand in its paths? `preflights`: does OPTIONS pass its gateways without a token?
    """

    name: str
    audience: Audience | None = None
    semicolons: bool = False
    preflights: bool = False


class ApiChanges(Body):
    """What is to be other than it was."""

    audience: Audience | None = None
    semicolons: bool | None = None
    preflights: bool | None = None


class Apis:
    """Every endpoint of /v1/apis but those of roles, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # ------------------------------------------------------------------------------------------------- /v1/apis

    async def on_post(self, req: Request, resp: Response) -> None:
        """Register an API."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewApi)
        api_id = api_id_of(body.name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id]),
            lambda state, now: apis.register(state, now, **body.model_dump()),
        )
        resp.status = falcon.HTTP_201
        resp.location = f"/v1/apis/{body.name}"
        resp.media = {"name": body.name, "api_id": str(api_id), "position": receipt.position}

    async def on_get(self, req: Request, resp: Response) -> None:
        """List APIs in the order of their names."""
        await authorize(req, self._service)
        query = read_query(req, ("status", *AS_OF, "cursor", "limit"))
        status = read_choice(query, "status", STATUSES)
        seen, position, instant = await see_reference(self._service, query)
        page = await seen.slice("apis", seen.kept.apis.values(), query, lambda api: status in (None, api.status))
        resp.media = {
            "apis": [_answer(api, instant) for api in page.items],
            "next": page.next,
            **seen.where(position, instant),
        }

    # ------------------------------------------------------------------------------------------ /v1/apis/{name}

    async def on_get_one(self, req: Request, resp: Response, name: str) -> None:
        """Answer one API."""
        await authorize(req, self._service)
        query = read_query(req, AS_OF)
        seen, position, instant = await see_reference(self._service, query)
        api_id = api_id_of(name)
        api = (await seen.reference(api_ids=[api_id])).apis.get(api_id)
        if api is None:
            raise UnknownApi(name)
        resp.media = _answer(api, instant) | seen.where(position, instant)

    async def on_patch_one(self, req: Request, resp: Response, name: str) -> None:
        """Change what is given; its name stays."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, ApiChanges)
        api_id = api_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id]),
            lambda state, now: apis.change(state, now, api_id=api_id, **body.model_dump()),
        )
        resp.media = {"name": name, "api_id": str(api_id), "position": receipt.position}

    async def on_post_suspend(self, req: Request, resp: Response, name: str) -> None:
        """Suspend the API: every decision about it is no."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Suspension)
        api_id = api_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id]),
            lambda state, now: apis.suspend(state, now, api_id=api_id, reason=body.reason, until=body.until),
            urgent=True,
        )
        resp.media = {"name": name, "api_id": str(api_id), "position": receipt.position}

    async def on_post_reinstate(self, req: Request, resp: Response, name: str) -> None:
        """End the suspension."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, Because)
        api_id = api_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id]),
            lambda state, now: apis.reinstate(state, now, api_id=api_id, reason=body.reason),
        )
        resp.media = {"name": name, "api_id": str(api_id), "position": receipt.position}

    async def on_post_revoke_tokens(self, req: Request, resp: Response, name: str) -> None:
        """Revoke every token for the API issued so far, or recorded before an instant."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, CutOff)
        cutoff_position = await body.position(service)
        api_id = api_id_of(name)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id]),
            lambda state, now: apis.revoke_tokens(
                state, now, api_id=api_id, reason=body.reason, cutoff_position=cutoff_position
            ),
            urgent=True,
        )
        resp.media = {"name": name, "api_id": str(api_id), "position": receipt.position}


def _answer(api: Api, instant: datetime) -> dict[str, Any]:
    return {
        "name": api.name,
        "api_id": str(api.api_id),
        "audience": api.audience,
        "semicolons": api.semicolons,
        "preflights": api.preflights,
        **status_of(api, instant),
    }
