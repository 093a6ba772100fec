"""/oauth/*: token (RFC 6749), introspection (RFC 7662), revocation (RFC 7009), for clients that authenticate."""

from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import UNREADABLE, Asker, Presented, decide_access, judge, read_presented
from api.body import read_form
from api.client_authentication import authenticated_client, client_credentials
from api.commands import carry_out, make_envelope
from api.errors import OAuthError
from api.issuing import issue_tokens, refresh_tokens, token_answer
from api.networks import presenter_of
from api.pages import read_then
from api.people import check_password_of
from api.scopes import Scope, read_scope
from api.service import NOBODY, Service
from ledger.instants import rfc3339
from ledger.log import Actor
from ledger.states import Client
from ledger.token_strings import MalformedToken, read
from ledger.tokens import Grant, GrantRefused, change_family, change_token
from projections.lookup import Found
from projections.reading import Keys
from projections.reference import Kept

GRANTS: Final = {"client_credentials", "refresh_token", "password"}


class TokenEndpoint:
    """POST /oauth/token."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer tokens for client_credentials, refresh_token or, for clients that may, password."""
        form = await read_form(req)
        grant_type = form.get("grant_type")
        if grant_type is None:
            raise OAuthError("invalid_request", "grant_type is missing")
        if grant_type not in GRANTS:
            raise OAuthError("unsupported_grant_type", "client_credentials, refresh_token or password")
        credentials, method = await client_credentials(req, form, self._service)
        presented = _read_refresh_token(form.get("refresh_token", "")) if grant_type == "refresh_token" else None
        client, kept, found = await authenticated_client(
            self._service, credentials, presented.token_id if presented else NOBODY
        )
        if grant_type not in client.grants:
            raise OAuthError("unauthorized_client", "the client may not use this grant")
        try:
            if presented is not None:
                resp.media = await self._refresh(req, form, client, kept, method, presented, found)
            else:
                resp.media = await self._grant(req, form, grant_type, client, kept, method)
        except GrantRefused as error:
            raise OAuthError(error.error, "the grant is refused") from None

    async def _refresh(
        self, req: Request, form: dict[str, str], client: Client, kept: Kept, method: str, presented: Presented, found: Found
    ) -> dict[str, Any]:
        service = self._service
        scope = read_scope(kept, client, form.get("scope"), form.get("resource"))
        if "refresh_token" not in form:
            raise OAuthError("invalid_request", "refresh_token is missing")
        envelope = make_envelope(req, service, Actor("client", client.client_id, method), repeatable=False)
        presenter = await presenter_of(req, service)
        handout = await refresh_tokens(service, envelope, kept, client, presented, found, scope, presenter)
        return token_answer(service, kept, handout)

    async def _grant(
        self, req: Request, form: dict[str, str], grant_type: str, client: Client, kept: Kept, method: str
    ) -> dict[str, Any]:
        service = self._service
        scope = read_scope(kept, client, form.get("scope"), form.get("resource"))
        actor = Actor("client", client.client_id, method)
        if grant_type == "client_credentials":
            if client.subject_id is None:
                raise GrantRefused("the client is no subject", "unauthorized_client")
            grant = _grant_of(client, client.subject_id, scope, with_refresh=False)
        else:
            if "username" not in form or "password" not in form:
                raise OAuthError("invalid_request", "username and password are needed")
            proved = await check_password_of(req, service, form["username"], form["password"])
            if proved is None:
                raise GrantRefused("wrong user or password")
            actor = Actor("subject", proved.subject_id, "password")
            grant = _grant_of(client, proved.subject_id, scope, with_refresh=True, proved_at=proved.position)
        envelope = make_envelope(req, service, actor, repeatable=False)
        return token_answer(service, kept, await issue_tokens(service, envelope, kept, client, grant))


def _read_refresh_token(text: str) -> Presented:
    """Answer what a refresh token presents; UNREADABLE for any other string."""
    try:
        token_id, secret = read("refresh", text)
    except MalformedToken:
        return UNREADABLE
    return Presented(token_id, "refresh", secret)


def _grant_of(client: Client, subject_id: UUID, scope: Scope, *, with_refresh: bool, proved_at: int | None = None) -> Grant:
    return Grant(
        subject_id=subject_id,
        client_id=client.client_id,
        api_ids=scope.api_ids,
        role_ids=scope.role_ids,
        direct=scope.direct,
        with_refresh=with_refresh,
        proved_at=proved_at,
    )


class Introspection:
    """POST /oauth/introspect, by the resource server of an API, about access tokens for that API (RFC 7662).

    A refresh token is not active, whoever asks: section 2.2 leaves it to the server what a protected resource is told. No
    resource server ever has one to ask about but a stolen one, and its client learns all there is to know by using it.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer what the token stands for, or stood for (`as_of`); or `active: false` and no more."""
        form = await read_form(req)
        if "token" not in form:
            raise OAuthError("invalid_request", "token is missing")
        then = read_then(form)
        credentials, _ = await client_credentials(req, form, self._service)
        answered = await decide_access(self._service, form["token"], Asker(credentials), "GET", "/", then)
        decision, standing, kept = answered.decision, answered.standing, answered.kept
        where = {
            "position": decision.position,
            "instant": rfc3339(decision.instant),
            "semantics": decision.semantics,
            "log_id": str(answered.found.log_id),
        }
        # Section 2.2: of a token that is not active nothing else is said. What the answer was made on is said in headers.
        for name, value in where.items():
            resp.set_header(f"Ledger-{name.replace('_', '-').title()}", str(value))
        token = answered.found.token
        if not decision.token_stands or standing is None or token is None:
            resp.media = {"active": False}
            return
        scope = kept.scope_text(tuple(token.role_ids) if token.role_ids is not None else None, token.direct)
        # Custom claims first: none stands for anything that the ledger says itself.
        resp.media = dict(token.claims or {}) | {
            "active": True,
            "iss": self._service.settings.issuer_url(),
            "sub": str(token.subject_id),
            "aud": [kept.apis[api_id].audience for api_id in token.api_ids],
            "client_id": kept.clients[token.client_id].name,
            "token_type": "Bearer",
            "iat": int(token.issued_at.timestamp()),
            "exp": int(token.expires_at.timestamp()),
            "jti": str(token.token_id),
            "strategy": token.strategy,
            **({} if scope is None else {"scope": scope}),
            **where,
        }


class Revocation:
    """POST /oauth/revoke, by the client the token was issued to (RFC 7009)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Revoke an access token, or with a refresh token its family. A token that is not there is no error."""
        form = await read_form(req)
        if "token" not in form:
            raise OAuthError("invalid_request", "token is missing")
        service = self._service
        credentials, method = await client_credentials(req, form, service)
        presented = await read_presented(service, form["token"])
        client, _, found = await authenticated_client(service, credentials, presented.token_id)
        token, secret_matches = judge(presented, found.token)
        resp.media = {"position": found.position}
        if token is None or secret_matches is False or token.client_id != client.client_id:
            return  # RFC 7009 section 2.2: the purpose is met, the string is no token of this client's
        envelope = make_envelope(req, service, Actor("client", client.client_id, method), repeatable=False)
        keys = Keys(tokens=[token.token_id], families=[token.family_id])
        if token.kind == "refresh":
            receipt = await carry_out(
                service,
                envelope,
                keys,
                lambda state, now: change_family(
                    state, now, family_id=token.family_id, verb="revoke", reason="revoked by its client"
                ),
                urgent=True,
            )
        else:
            receipt = await carry_out(
                service,
                envelope,
                keys,
                lambda state, now: change_token(
                    state, now, token_id=token.token_id, verb="revoke", reason="revoked by its client"
                ),
                urgent=True,
            )
        resp.media = {"position": receipt.position}
