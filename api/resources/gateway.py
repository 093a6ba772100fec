"""/gateway/*: the decision for a gateway in front of an API, by status and headers alone (docs/gateways.md, deploy/).

A gateway asks with its own secret in `Ledger-Gateway-Key`; original method, target and token are believed only then. Nothing
is read from a query string of these endpoints.
"""

from collections.abc import Mapping
from typing import Final

import falcon
from falcon.asgi import Request, Response

from api.asking import Asker, bearer_of, credentials_of_secret, decide_access
from api.challenges import RefusedToken, bearer_challenge
from api.errors import NoDecision
from api.service import Service
from ledger.apis import passes_without_token, resource_of
from ledger.errors import InvalidInput, NotAllowed, NotAuthenticated

# Envoy asks for what it was asked for, behind this.
ENVOY_PREFIX: Final = b"/gateway/envoy"
# The reason of what passes without a decision about a token.
PREFLIGHT: Final = "preflight"


def _named(*names: str) -> Mapping[bytes, str]:
    return {name.lower().encode(): name for name in names}


_OF_NGINX: Final = _named("Ledger-Gateway-Key", "Authorization", "X-Original-Method", "X-Original-URI")
_OF_FORWARD: Final = _named("Ledger-Gateway-Key", "Authorization", "X-Forwarded-Method", "X-Forwarded-Uri")
_OF_ENVOY: Final = _named("Ledger-Gateway-Key", "Authorization")


class NginxGateway:
    """200: may pass. 401: no token that stands. 403: it may not. Each with `Ledger-Reason`.

    Without that header it is no decision: 401 or 403 for a gateway that is not one of the API's, 400 for one that asks badly.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer nginx's `auth_request` by status; with 200 the identity for the upstream, in headers."""
        found = _read(req, _OF_NGINX)
        method, target = _needed(found, b"x-original-method"), _needed(found, b"x-original-uri")
        await _answer(self._service, req, resp, found, method, target)


class ForwardGateway:
    """The same, for gateways that hand on to their client whatever is not 2xx: what is no decision is 503 to it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer Traefik's `forwardAuth` and Caddy's `forward_auth`."""
        try:
            found = _read(req, _OF_FORWARD)
            method, target = _needed(found, b"x-forwarded-method"), _needed(found, b"x-forwarded-uri")
            await _answer(self._service, req, resp, found, method, target)
        except (NotAuthenticated, NotAllowed, InvalidInput) as error:
            raise NoDecision(error) from None


class EnvoyGateway:
    """The same, for Envoy's `ext_authz` over HTTP, which sends the method and the target that it was asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response, target: str) -> None:  # noqa: ARG002 - decoded, and so not what is asked
        """Answer about the raw target behind the prefix; its query is no business of a decision."""
        raw = req.scope["raw_path"]
        if not raw.startswith(ENVOY_PREFIX):
            raise falcon.HTTPNotFound  # the prefix itself with something encoded in it
        try:
            found = _read(req, _OF_ENVOY)
            await _answer(self._service, req, resp, found, req.method, raw[len(ENVOY_PREFIX) :].decode("latin-1"))
        except (NotAuthenticated, NotAllowed, InvalidInput) as error:
            raise NoDecision(error) from None

    on_head = on_post = on_put = on_patch = on_delete = on_options = on_get


async def _answer(service: Service, req: Request, resp: Response, found: Mapping[bytes, str], method: str, target: str) -> None:
    """Decide and answer. NotAuthenticated, NotAllowed: about the gateway."""
    asker = Asker(credentials_of_secret(found[b"ledger-gateway-key"]))
    token = bearer_of(req)
    # Header values arrive as latin-1; what a gateway forwards is the raw target, byte for byte.
    answered = await decide_access(service, token, asker, method, target)
    decision, standing = answered.decision, answered.standing
    resp.content_type, resp.text = "text/plain", ""  # else Falcon says that nothing is JSON
    resp.set_header("Ledger-Reason", decision.reason)
    resp.set_header("Ledger-Position", str(decision.position))
    if decision.allowed and standing is not None:
        resp.set_header("Ledger-Subject", str(standing.subject_id))
        resp.set_header("Ledger-Client", answered.kept.clients[standing.client_id].name)
        resp.set_header("Ledger-Token-Id", str(standing.token_id))
    elif passes_without_token(answered.kept.apis[answered.api_id], method, target, decision.instant):
        resp.set_header("Ledger-Reason", PREFLIGHT)
    else:
        resp.status = falcon.HTTP_403 if decision.token_stands else falcon.HTTP_401
        refused: RefusedToken = "insufficient_scope" if decision.token_stands else "invalid_token" if token else "no_token"
        resource = resource_of(answered.kept.apis[answered.api_id], req.context.issuer)
        resp.set_header("WWW-Authenticate", bearer_challenge(refused, resource))


def _read(req: Request, names: Mapping[bytes, str]) -> dict[bytes, str]:
    """Answer the values of these headers that are there, by their names in lower case.

    NotAuthenticated without a key. InvalidInput where one of them stands twice: one is not the gateway's.
    """
    found: dict[bytes, str] = {}
    twice: str | None = None
    for name, value in req.scope["headers"]:
        if name in names:
            twice = names[name] if name in found else twice
            found[name] = value.decode("latin-1")
    if b"ledger-gateway-key" not in found:
        raise NotAuthenticated("the header Ledger-Gateway-Key is needed")
    if twice is not None:
        raise InvalidInput.of(twice, "stands twice")
    return found


def _needed(found: Mapping[bytes, str], name: bytes) -> str:
    value = found.get(name)
    if value is None:
        raise InvalidInput.of(name.decode(), "a header that is needed")
    return value
