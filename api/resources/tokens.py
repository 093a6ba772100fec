"""/v1/tokens: tokens as they stand, issued on behalf of others, suspended, reinstated, revoked."""

from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import authorize
from api.body import read_body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_choice, read_instant, read_limit, read_position, read_query, read_uuid, uuid_of
from api.resources.bodies import Because, Suspension
from api.resources.issue import issue_on_behalf
from api.seeing import see
from api.service import Service
from ledger.apis import api_id_of
from ledger.clients import client_id_of
from ledger.errors import InvalidInput, UnknownApi, UnknownClient
from ledger.instants import rfc3339
from ledger.log import Actor
from ledger.standing import TokenStatus
from ledger.states import Strategy
from ledger.tokens import UnknownToken, change_token
from projections.reading import Keys
from projections.reference import Kept
from projections.token_listing import NEWEST, Key, ListedToken, TokenFilters, TokenPage, find_token, list_tokens

KINDS: Final = ("access", "refresh")
STRATEGIES: Final = get_args(Strategy)
STATES: Final = get_args(TokenStatus)


class Tokens:
    """Every endpoint of /v1/tokens, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # ----------------------------------------------------------------------------------------------- /v1/tokens

    async def on_post(self, req: Request, resp: Response) -> None:
        """Issue a token for a subject; its string is in this answer and nowhere else."""
        await issue_on_behalf(req, resp, self._service)

    async def on_get(self, req: Request, resp: Response) -> None:
        """List tokens, newest first. A page may hold fewer than its limit, and go on."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(
            req,
            (
                "subject_id",
                "client",
                "api",
                "family_id",
                "kind",
                "strategy",
                "state",
                "issued_after",
                "issued_before",
                *AS_OF,
                "cursor",
                "limit",
            ),
        )
        filters = TokenFilters(
            subject_id=read_uuid(query, "subject_id", None),
            client_id=named_client(query.get("client"), caller.kept),
            api_id=named_api(query.get("api"), caller.kept),
            family_id=read_uuid(query, "family_id", None),
            kind=read_choice(query, "kind", KINDS),
            strategy=read_choice(query, "strategy", STRATEGIES),
            state=read_choice(query, "state", STATES),
            issued_after=read_instant(query, "issued_after"),
            issued_before=read_instant(query, "issued_before"),
        )
        limit, before = read_limit(query), read_token_cursor(query)
        seen = await see(service, query, caller.kept)
        page = await list_tokens(service.pool, service.reference, filters, limit=limit, before=before, moment=seen.moment)
        resp.media = page_answer(page) | seen.where(page.position, page.instant)

    # ------------------------------------------------------------------------------------ /v1/tokens/{token_id}

    async def on_get_one(self, req: Request, resp: Response, token_id: str) -> None:
        """Answer one token; `position` is where it was issued."""
        service = self._service
        caller = await authorize(req, service)
        seen = await see(service, read_query(req, AS_OF), caller.kept)
        identifier = _token_id(token_id)
        page = await find_token(service.pool, service.reference, identifier, seen.moment)
        if not page.tokens:
            raise UnknownToken("there is no such token")
        at = seen.where(page.position, page.instant)
        at["as_of_position"] = at.pop("position")
        resp.media = token_members(page.tokens[0], page.kept) | at

    async def on_post_suspend(self, req: Request, resp: Response, token_id: str) -> None:
        """Suspend one token, up to an instant or until it is reinstated."""
        caller = await authorize(req, self._service)
        body = await read_body(req, Suspension)
        await self._change(req, resp, caller.actor, token_id, "suspend", body.reason, body.until)

    async def on_post_reinstate(self, req: Request, resp: Response, token_id: str) -> None:
        """End the suspension of one token; what else stops it goes on."""
        caller = await authorize(req, self._service)
        body = await read_optional_body(req, Because)
        await self._change(req, resp, caller.actor, token_id, "reinstate", body.reason)

    async def on_post_revoke(self, req: Request, resp: Response, token_id: str) -> None:
        """Revoke one token, for good."""
        caller = await authorize(req, self._service)
        body = await read_optional_body(req, Because)
        await self._change(req, resp, caller.actor, token_id, "revoke", body.reason)

    async def _change(
        self,
        req: Request,
        resp: Response,
        actor: Actor,
        token_id: str,
        verb: Literal["suspend", "reinstate", "revoke"],
        reason: str | None,
        until: datetime | None = None,
    ) -> None:
        service = self._service
        identifier = _token_id(token_id)
        # The stream of a token is its family, which never changes.
        token = (await service.find(identifier))[0].token
        if token is None:
            raise UnknownToken("there is no such token")
        receipt = await carry_out(
            service,
            make_envelope(req, service, actor),
            Keys(tokens=[identifier], families=[token.family_id]),
            lambda state, now: change_token(state, now, token_id=identifier, verb=verb, reason=reason, until=until),
            urgent=verb != "reinstate",
        )
        resp.media = {"token_id": str(identifier), "family_id": str(token.family_id), "position": receipt.position}


def read_token_cursor(query: dict[str, str]) -> Key:
    """Answer the token that a page follows, or NEWEST for the first."""
    if "cursor" not in query:
        return NEWEST
    position, _, token = query["cursor"].partition(".")
    token_id, rule = uuid_of(token), "the `next` of the page before"
    if token_id is None:
        raise InvalidInput.of("cursor", rule)
    return Key(read_position({"cursor": position}, "cursor", rule) or 0, token_id)


def token_cursor(key: Key | None) -> str | None:
    """Answer what `read_token_cursor` reads; None where nothing follows."""
    return None if key is None else f"{key.position}.{key.token_id}"


def page_answer(page: TokenPage) -> dict[str, Any]:
    """Answer a page of tokens."""
    return {
        "tokens": [token_members(listed, page.kept) for listed in page.tokens],
        "next": token_cursor(page.next),
        "position": page.position,
        "instant": rfc3339(page.instant),
    }


def token_members(listed: ListedToken, kept: Kept) -> dict[str, Any]:
    """Answer a token as it is listed: neither its string nor what that is checked against.

    `state` is what it is worth now, `reason` why it does not stand, as a decision says it. `status_reason`: what was said when
    the token, or the family that stops it, was suspended, reinstated or revoked; `status_until`: when a suspension, at
    whatever level, ends by itself. `evidence`: the positions that `state` rests on, as of a decision.
    """
    token, standing = listed.token, listed.standing
    until = standing.until if standing.state == "suspended" else token.token_status_until
    return {
        "token_id": str(token.token_id),
        "kind": token.kind,
        "strategy": token.strategy,
        "subject_id": str(token.subject_id),
        "client": kept.clients[token.client_id].name,
        "apis": [kept.apis[api_id].name for api_id in token.api_ids],
        "scope": kept.scope_text(token.role_ids, token.direct),
        "family_id": str(token.family_id),
        "generation": token.generation,
        "name": token.name,
        "issued_at": rfc3339(token.issued_at),
        "expires_at": rfc3339(token.expires_at),
        "issued_from": None if listed.issued_from is None else str(listed.issued_from),
        "state": standing.state,
        "reason": standing.reason,
        "status_reason": listed.family_reason if standing.level == "family" else listed.token_reason,
        "status_until": None if until is None else rfc3339(until),
        "key_ids": [str(key_id) for key_id in token.key_ids],
        "position": token.position,
        "evidence": standing.evidence,
    }


def _token_id(text: str) -> UUID:
    identifier = uuid_of(text)
    if identifier is None:
        raise UnknownToken("there is no such token")
    return identifier


def named_client(name: str | None, kept: Kept) -> UUID | None:
    """Answer the id of a client that a filter names, or None without one; UnknownClient."""
    if name is None:
        return None
    client_id = client_id_of(name)
    if client_id not in kept.clients:
        raise UnknownClient(name)
    return client_id


def named_api(name: str | None, kept: Kept) -> UUID | None:
    """Answer the id of an API that a filter names, or None without one; UnknownApi."""
    if name is None:
        return None
    api_id = api_id_of(name)
    if api_id not in kept.apis:
        raise UnknownApi(name)
    return api_id
