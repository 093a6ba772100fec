"""What anybody may know: metadata (RFC 8414), the public keys (RFC 7517), whether the service is up."""

import falcon
from falcon.asgi import Request, Response

from api.service import NOBODY, Service
from ledger.instants import rfc3339

# A verifier asks at least this often; a key is published from the moment it is made.
KEYS_MAX_AGE_SECONDS = 300


class Metadata:
    """GET /.well-known/oauth-authorization-server."""

    def __init__(self, service: Service) -> None:
        issuer = service.settings.issuer_url()
        base = issuer.rstrip("/")  # the issuer itself is told byte for byte (RFC 8414 section 2)
        methods = ["client_secret_basic", "client_secret_post"]
        self._metadata = {
            "issuer": issuer,
            "token_endpoint": f"{base}/oauth/token",
            "introspection_endpoint": f"{base}/oauth/introspect",
            "revocation_endpoint": f"{base}/oauth/revoke",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "grant_types_supported": ["client_credentials", "refresh_token", "password"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": [*methods, "none"],
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        }

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the metadata."""
        resp.media = self._metadata


class PublicKeys:
    """GET /.well-known/jwks.json."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer every public key that is not revoked, those of retired keys too: tokens made with them still stand."""
        _, kept = await self._service.find(NOBODY)
        keys = sorted(kept.keys.values(), key=lambda key: key.position)
        resp.media = {"keys": [key.public_jwk for key in keys if key.public_jwk is not None and key.status != "revoked"]}
        resp.set_header("Cache-Control", f"public, max-age={KEYS_MAX_AGE_SECONDS}")


class Health:
    """GET /healthz: this worker answers. GET /readyz: and its database does."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer that the worker is alive."""
        resp.status = falcon.HTTP_200
        resp.media = {"status": "alive"}

    async def on_get_ready(self, _req: Request, resp: Response) -> None:
        """Answer where the log is; 503 when the database does not answer."""
        found, _ = await self._service.find(NOBODY)
        resp.media = {"status": "ready", "position": found.position, "instant": rfc3339(found.instant)}
