"""GET /gateway/nginx: the decision for nginx's `auth_request`, by status alone.

nginx asks with the gateway's own secret in `Ledger-Gateway-Key`; original method, target and token are believed only then.
Nothing is read from this endpoint's own query string. deploy/nginx.conf is ready to use.
"""

from typing import Final

import falcon
from falcon.asgi import Request, Response

from api.asking import Asker, bearer_of, credentials_of_secret, decide_access
from api.challenges import bearer_challenge
from api.service import Service
from ledger.errors import InvalidInput, NotAuthenticated

_READ: Final = {
    name.lower().encode(): name for name in ("Ledger-Gateway-Key", "X-Original-Method", "X-Original-URI", "Authorization")
}


class NginxGateway:
    """200: may pass. 401: no token that stands. 403: it may not. Each with `Ledger-Reason`.

    Without that header it is no decision: 401 or 403 for a gateway that is not one of the API's, 400 for one that asks badly.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer by status; with 200 the identity for the upstream, in headers."""
        key, method, target = _asked(req)
        asker = Asker(credentials_of_secret(key))
        if method is None or target is None:
            raise InvalidInput.of("X-Original-URI" if target is None else "X-Original-Method", "a header that is needed")
        # Header values arrive as latin-1; what nginx forwards is the raw target, byte for byte.
        token = bearer_of(req)
        answered = await decide_access(self._service, token, asker, method, target)
        decision, standing = answered.decision, answered.standing
        resp.set_header("Ledger-Reason", decision.reason)
        resp.set_header("Ledger-Position", str(decision.position))
        if decision.allowed and standing is not None:
            resp.set_header("Ledger-Subject", str(standing.subject_id))
            resp.set_header("Ledger-Client", answered.kept.clients[standing.client_id].name)
            resp.set_header("Ledger-Token-Id", str(standing.token_id))
        elif decision.token_stands:
            resp.status = falcon.HTTP_403
            resp.set_header("WWW-Authenticate", bearer_challenge("insufficient_scope"))
        else:
            resp.status = falcon.HTTP_401
            resp.set_header("WWW-Authenticate", bearer_challenge("invalid_token" if token else "no_token"))


def _asked(req: Request) -> tuple[str, str | None, str | None]:
    """Answer the gateway's key, the original method and target, None where one is not there.

    NotAuthenticated without a key. InvalidInput where one of these or `Authorization` stands twice: one is not the gateway's.
    """
    found: dict[bytes, str] = {}
    twice: str | None = None
    for name, value in req.scope["headers"]:
        if name in _READ:
            twice = _READ[name] if name in found else twice
            found[name] = value.decode("latin-1")
    if b"ledger-gateway-key" not in found:
        raise NotAuthenticated("the header Ledger-Gateway-Key is needed")
    if twice is not None:
        raise InvalidInput.of(twice, "stands twice")
    return found[b"ledger-gateway-key"], found.get(b"x-original-method"), found.get(b"x-original-uri")
