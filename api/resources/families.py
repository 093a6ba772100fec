"""/v1/families: tokens that descend from one grant, suspended, reinstated and revoked together."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import authorize
from api.body import read_body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_as_of, read_query, uuid_of
from api.resources.bodies import Because, Suspension
from api.seeing import Seen
from api.service import NOBODY, Service
from ledger.instants import rfc3339
from ledger.log import Actor
from ledger.states import Family
from ledger.statuses import stands
from ledger.tokens import UnknownFamily, change_family
from projections.archived import read_first_position, refuse_archived_events
from projections.audit import read_state_as_of
from projections.reading import Keys, read_state
from projections.reference import Kept


class Families:
    """Every endpoint of /v1/families, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get_one(self, req: Request, resp: Response, family_id: str) -> None:
        """Answer one family; its tokens are listed by GET /v1/tokens."""
        service = self._service
        await authorize(req, service)
        as_of = read_as_of(read_query(req, AS_OF))
        identifier = _family_id(family_id)
        keys = Keys(families=[identifier])
        if as_of is None:
            moment, reading = None, await read_state(service.pool, keys)
        else:
            moment = await service.moment(as_of)
            async with service.pool.connection() as connection:
                reading = await read_state_as_of(connection, keys, moment)
                first = await read_first_position(connection, identifier)
                if identifier not in reading.state.families and first is not None and first <= moment.position:
                    await refuse_archived_events(connection, first)
        family = reading.state.families.get(identifier)
        if family is None:
            raise UnknownFamily("there is no such family")
        _, kept = await service.find(NOBODY)
        seen = Seen(service, moment, kept)
        resp.media = _answer(family, kept, reading.instant) | seen.where(reading.position, reading.instant)

    async def on_post_suspend(self, req: Request, resp: Response, family_id: str) -> None:
        """Suspend every token of the family, up to an instant or until it is reinstated."""
        caller = await authorize(req, self._service)
        body = await read_body(req, Suspension)
        await self._change(req, resp, caller.actor, family_id, "suspend", body.reason, body.until)

    async def on_post_reinstate(self, req: Request, resp: Response, family_id: str) -> None:
        """End the suspension of the family; a token of it that was stopped by itself stays so."""
        caller = await authorize(req, self._service)
        body = await read_optional_body(req, Because)
        await self._change(req, resp, caller.actor, family_id, "reinstate", body.reason)

    async def on_post_revoke(self, req: Request, resp: Response, family_id: str) -> None:
        """Revoke every token of the family, for good."""
        caller = await authorize(req, self._service)
        body = await read_optional_body(req, Because)
        await self._change(req, resp, caller.actor, family_id, "revoke", body.reason)

    async def _change(
        self,
        req: Request,
        resp: Response,
        actor: Actor,
        family_id: str,
        verb: Literal["suspend", "reinstate", "revoke"],
        reason: str | None,
        until: datetime | None = None,
    ) -> None:
        service = self._service
        identifier = _family_id(family_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, actor),
            Keys(families=[identifier]),
            lambda state, now: change_family(state, now, family_id=identifier, verb=verb, reason=reason, until=until),
            urgent=verb != "reinstate",
        )
        resp.media = {"family_id": str(identifier), "position": receipt.position}


def _answer(family: Family, kept: Kept, instant: datetime) -> dict[str, Any]:
    """Answer a family. `stands`: neither stopped nor over at `instant`; what stops its subject or client is said there."""
    return {
        "family_id": str(family.family_id),
        "subject_id": str(family.subject_id),
        "client": kept.clients[family.client_id].name,
        "refresh": family.refresh,
        "generation": family.generation,
        "refresh_token_id": _text(family.refresh_token_id),
        "access_token_id": _text(family.access_token_id),
        "rotated_at": None if family.rotated_at is None else rfc3339(family.rotated_at),
        "started_at": rfc3339(family.started_at),
        "expires_at": rfc3339(family.expires_at),
        "status": family.status,
        "status_reason": family.status_reason,
        "status_until": None if family.status_until is None else rfc3339(family.status_until),
        "stands": stands(family.status, family.status_until, instant) and instant < family.expires_at,
        "changed_at_position": family.position,
    }


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)


def _family_id(text: str) -> UUID:
    identifier = uuid_of(text)
    if identifier is None:
        raise UnknownFamily("there is no such family")
    return identifier
