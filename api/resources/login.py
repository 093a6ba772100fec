"""POST /login and POST /logout: people, by user name and password."""

from typing import Annotated

from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import Credentials, authenticate, basic_credentials
from api.body import Body, read_body
from api.client_authentication import authenticated_client
from api.commands import carry_out, make_envelope
from api.issuing import issue_tokens, token_answer
from api.people import check_password_of
from api.scopes import read_scope
from api.service import Service
from ledger.builtin import CONSOLE_NAME
from ledger.errors import InvalidInput, NotAuthenticated
from ledger.identifiers import name_id
from ledger.log import Actor
from ledger.tokens import Grant, GrantRefused, change_family
from projections.reading import Keys


class LoginRefused(NotAuthenticated):
    """Unknown user, wrong password, suspended user, unknown client: the same words for all."""

    code = "login_refused"
    cure = "Try again with the right user name and password, and a client that people may log in through."


class LoginBody(Body):
    """What a person, or the application in front of it, sends."""

    username: str  # too long for a name is a wrong name, not a malformed request; the same for the password
    password: str
    client_id: Annotated[str, Field(max_length=256)] = CONSOLE_NAME
    apis: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    scope: Annotated[str, Field(max_length=8_192)] | None = None


class Login:
    """A person obtains tokens through a first-party client (grant `password`)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer tokens; LoginRefused for whatever is wrong with user, password or client, InvalidInput for a scope that
        this person or client cannot have."""
        body = await read_body(req, LoginBody)
        service = self._service
        named = Credentials(name_id("client", body.client_id), None)
        try:
            credentials = basic_credentials(req) or named
            if "client_id" in body.model_fields_set and named.client_id != credentials.client_id:
                raise InvalidInput.of("client_id", "the client that authenticates, or none")
            client, kept, _ = await authenticated_client(service, credentials)
        except NotAuthenticated:
            raise LoginRefused("wrong user name or password") from None
        proved = await check_password_of(req, service, body.username, body.password)
        if proved is None or "password" not in client.grants:
            raise LoginRefused("wrong user name or password")
        try:
            scope = read_scope(kept, client, body.scope, None, body.apis)
            grant = Grant(
                subject_id=proved.subject_id,
                client_id=client.client_id,
                api_ids=scope.api_ids,
                role_ids=scope.role_ids,
                direct=scope.direct,
                proved_at=proved.position,
            )
            envelope = make_envelope(req, service, Actor("subject", proved.subject_id, "password"), repeatable=False)
            handout = await issue_tokens(service, envelope, kept, client, grant)
        except GrantRefused as refused:
            if refused.error == "invalid_scope":
                raise InvalidInput.of("scope", "roles of this person, in APIs of this client that stand") from None
            raise LoginRefused("wrong user name or password") from None
        resp.media = token_answer(service, kept, handout)


class Logout:
    """The end of a session: the token's family is revoked, its refresh token with it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Revoke the family of the bearer token of this request."""
        service = self._service
        caller = await authenticate(req, service)
        envelope = make_envelope(req, service, caller.actor)
        receipt = await carry_out(
            service,
            envelope,
            Keys(families=[caller.family_id]),
            lambda state, now: change_family(state, now, family_id=caller.family_id, verb="revoke", reason="logout"),
            urgent=True,
        )
        resp.media = {"family_id": str(caller.family_id), "position": receipt.position}
