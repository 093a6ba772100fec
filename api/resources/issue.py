"""POST /v1/tokens: tokens for subjects that were authenticated elsewhere, and named long-lived ones for scripts.

By a client with the grant `issue` (HTTP Basic), for itself; or by an administrator (Bearer), for any client.
"""

from typing import Annotated, Any
from uuid import UUID

import falcon
from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import Caller, authorize, basic_credentials
from api.body import Body, read_body
from api.client_authentication import authenticated_client
from api.commands import make_envelope
from api.issuing import issue_tokens, token_answer
from api.scopes import read_scope
from api.service import NOBODY, Service
from ledger import jsontext
from ledger.errors import InvalidInput, NotAllowed, Refused
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.log import Actor
from ledger.states import Client
from ledger.tokens import Grant, GrantRefused
from ledger.user_names import user_name_id
from projections.reading import Keys, read_state
from projections.reference import Kept

MAX_CLAIMS_BYTES = 2_048
# Registered for JWT access tokens or meant by us: nobody else sets them (RFC 9068 section 2.2, RFC 7519 section 4.1).
RESERVED_CLAIMS = frozenset(
    [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "client_id",
        "scope",
        "auth_time",
        "acr",
        "amr",
        "typ",
        "active",
        "token_type",
        "username",
        "position",
        "instant",
        "semantics",
        "log_id",
        "strategy",
    ]
)


class TokenRefused(Refused):
    """No token can be issued for this request: subject, client, API or scope does not allow it."""

    code = "grant_refused"
    cure = (
        "Compare with the client (`GET /v1/clients/{name}`): its grants and APIs, and whether client, subject and APIs stand."
    )


class IssueBody(Body):
    """For whom, through which client, and for what the token is."""

    subject_id: UUID | None = None
    username: Annotated[str, Field(max_length=512)] | None = None
    client: Annotated[str, Field(max_length=256)] | None = None
    apis: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    scope: Annotated[str, Field(max_length=8_192)] | None = None
    lifetime_seconds: Annotated[int, Field(ge=1)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    claims: dict[str, Any] | None = None


async def issue_as_asked(
    req: Request,
    service: Service,
    kept: Kept,
    client: Client,
    subject_id: UUID,
    actor: Actor,
    body: IssueBody,
    within: Caller | None = None,
) -> dict[str, Any]:
    """Issue what the body asks for and answer it; `within`: no more than the token of this caller stands for. A repeat under
    an Idempotency-Key is answered with ids and position, without the strings.

    TokenRefused; InvalidInput for a lifetime over its ceiling or bad claims.
    """
    if body.claims is not None:
        wrong = sorted(RESERVED_CLAIMS & set(body.claims))
        if wrong:
            raise InvalidInput.of(f"claims.{wrong[0]}", "a registered name: the ledger sets it")
        if len(jsontext.dumps(body.claims).encode()) > MAX_CLAIMS_BYTES:
            raise InvalidInput.of("claims", f"at most {MAX_CLAIMS_BYTES} bytes of JSON")
    settings = service.settings
    ceiling = settings.max_named_token_lifetime_seconds if body.name else settings.max_access_lifetime_seconds
    if body.lifetime_seconds is not None and body.lifetime_seconds > ceiling:
        raise InvalidInput.of("lifetime_seconds", f"at most {ceiling}")
    try:
        scope = read_scope(kept, client, body.scope, None, body.apis)
        if within is not None:
            scope = scope.within(within.api_ids, within.role_ids, within.direct)
        grant = Grant(
            subject_id=subject_id,
            client_id=client.client_id,
            api_ids=scope.api_ids,
            role_ids=scope.role_ids,
            direct=scope.direct,
            with_refresh=body.name is None and body.lifetime_seconds is None,
            lifetime_seconds=body.lifetime_seconds or (ceiling if body.name else None),
            name=body.name,
            claims=body.claims or None,
        )
        handout = await issue_tokens(service, make_envelope(req, service, actor), kept, client, grant)
    except GrantRefused as refused:
        raise TokenRefused(refused.cause) from None
    answer = token_answer(service, kept, handout)
    return answer | {"expires_at": rfc3339(handout.access.expires_at), "subject_id": str(subject_id)}


async def issue_on_behalf(req: Request, resp: Response, service: Service) -> None:
    """Issue a token for a subject that was authenticated elsewhere; its string is in this answer and nowhere else."""
    credentials = basic_credentials(req)
    if credentials is not None:
        client, kept, _ = await authenticated_client(service, credentials)
        if "issue" not in client.grants:
            raise NotAllowed("this client may not issue tokens")
        actor = Actor("client", client.client_id, "client_secret_basic")
        body = await read_body(req, IssueBody)
        if body.client not in (None, client.name):
            raise NotAllowed("a client issues its own tokens only")
    else:
        caller = await authorize(req, service)
        actor = caller.actor
        body = await read_body(req, IssueBody)
        _, kept = await service.find(NOBODY)
        if body.client is None:
            raise InvalidInput.of("client", "the client the token is for")
        found = kept.clients.get(name_id("client", body.client))
        if found is None:
            raise InvalidInput.of("client", "there is no such client")
        client = found
    subject_id = await _subject(service, body)
    resp.media = await issue_as_asked(req, service, kept, client, subject_id, actor, body)
    resp.status = falcon.HTTP_201


async def _subject(service: Service, body: IssueBody) -> UUID:
    if (body.subject_id is None) == (body.username is None):
        raise InvalidInput.of("subject_id", "either this or username")
    if body.subject_id is not None:
        return body.subject_id
    assert body.username is not None
    name = user_name_id(service.master, body.username)
    holder = (await read_state(service.pool, Keys(names=[name]))).state.names.get(name)
    if holder is None or holder.holder_id is None:
        raise InvalidInput.of("username", "there is no such user")
    return holder.holder_id
