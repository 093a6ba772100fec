"""How a client says who it is at /oauth/*: one way a request (RFC 6749 section 2.3).

HTTP Basic, its secret in the form, an assertion in the form that it signed (RFC 7523), or, of a public client, its name alone.
"""

from uuid import UUID

from falcon.asgi import Request

from api.asking import Credentials, ProvedClient, basic_credentials, credentials_of_secret
from api.errors import OAuthError
from api.service import NOBODY, Service
from ledger.assertions import ASSERTION_TYPE, check_claims, claimed_client
from ledger.errors import NotAuthenticated
from ledger.identifiers import name_id
from ledger.jose import InvalidToken, read_assertion
from ledger.states import Client
from ledger.statuses import stands
from projections.lookup import Found
from projections.reference import Kept
from projections.used_assertions import use_assertion


async def client_credentials(req: Request, form: dict[str, str], service: Service) -> tuple[Credentials | ProvedClient, str]:
    """Answer who the client says it is, and the name of the method: one a request. An assertion is used by that.

    NotAuthenticated in the same words whatever is wrong with a secret, and OAuthError for two ways at once.
    """
    basic = basic_credentials(req)
    asserts = "client_assertion" in form or "client_assertion_type" in form
    ways = (basic is not None) + ("client_secret" in form) + asserts
    if ways > 1:
        raise OAuthError("invalid_request", "one way of client authentication a request")
    if basic is not None:
        if "client_id" in form and name_id("client", form["client_id"]) != basic.client_id:
            raise OAuthError("invalid_request", "one way of client authentication a request")
        return basic, "client_secret_basic"
    if asserts:
        return await _proved(form, service), "private_key_jwt"
    if "client_id" not in form:
        raise NotAuthenticated("client authentication is needed")
    if "client_secret" in form:
        return credentials_of_secret(form["client_secret"], form["client_id"]), "client_secret_post"
    return Credentials(name_id("client", form["client_id"]), None), "none"


async def authenticated_client(
    service: Service, credentials: Credentials | ProvedClient, token_id: UUID = NOBODY
) -> tuple[Client, Kept, Found]:
    """Answer the client the credentials are of, as of now, and what stands about the token it speaks of: by one lookup."""
    found, kept = await service.find(token_id)
    return credentials.client(kept, found), kept, found


async def _proved(form: dict[str, str], service: Service) -> ProvedClient:
    """Answer the client that has signed the assertion. What is wrong with its claims is said to whoever signed it alone."""
    if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
        raise OAuthError("invalid_request", f"client_assertion, and client_assertion_type {ASSERTION_TYPE}")
    try:
        assertion = read_assertion(form["client_assertion"])
    except InvalidToken:
        raise NotAuthenticated("the client assertion proves no client") from None
    name = claimed_client(assertion.claims)
    if name is None or form.get("client_id", name) != name:
        raise NotAuthenticated("the client assertion proves no client")
    found, kept = await service.find(NOBODY)
    client = kept.clients.get(name_id("client", name))
    if (
        client is None
        or not stands(client.status, client.status_until, found.instant)
        or not assertion.is_signed_by(client.public_keys)
    ):
        raise NotAuthenticated("the client assertion proves no client")
    use = check_claims(assertion.claims, service.settings.issuer_url(), found.instant)
    if not await use_assertion(service.pool, use):
        raise NotAuthenticated("the client assertion: used before")
    return ProvedClient(client.client_id)
