"""What anybody may know: metadata (RFC 8414, AuthZEN 1.0), the public keys (RFC 7517), whether the service is up."""

from typing import Any

import falcon
from falcon.asgi import Request, Response

from api.service import NOBODY, Service
from ledger.apis import api_id_of, resource_of
from ledger.errors import UnknownApi
from ledger.instants import rfc3339
from ledger.jose import CLIENT_ALGORITHMS, read_public_keys
from ledger.keys import is_published

# A cache may keep the key set so long: ledger.keys.PUBLISHED_AHEAD reckons with it.
KEYS_MAX_AGE_SECONDS = 300


class Metadata:
    """GET /.well-known/oauth-authorization-server."""

    def __init__(self, service: Service) -> None:
        issuer = service.settings.issuer_url()
        base = issuer.rstrip("/")  # the issuer itself is told byte for byte (RFC 8414 section 2)
        methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
        self._metadata = {
            "issuer": issuer,
            "token_endpoint": f"{base}/oauth/token",
            "introspection_endpoint": f"{base}/oauth/introspect",
            "revocation_endpoint": f"{base}/oauth/revoke",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "grant_types_supported": ["client_credentials", "refresh_token", "password"],
            "response_types_supported": [],
            # The roles of APIs (`api:role`) are the others; who has what roles is not for everybody (RFC 8414 section 2).
            "scopes_supported": ["direct"],
            "token_endpoint_auth_methods_supported": [*methods, "none"],
            "token_endpoint_auth_signing_alg_values_supported": CLIENT_ALGORITHMS,
            "introspection_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_signing_alg_values_supported": CLIENT_ALGORITHMS,
            "revocation_endpoint_auth_methods_supported": [*methods, "none"],
            "revocation_endpoint_auth_signing_alg_values_supported": CLIENT_ALGORITHMS,
        }

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the metadata."""
        resp.media = self._metadata


class DecisionPoint:
    """GET /.well-known/authzen-configuration (AuthZEN 1.0 section 9). What is not there, searches, is not named."""

    def __init__(self, service: Service) -> None:
        issuer = service.settings.issuer_url()
        base = issuer.rstrip("/")
        self._metadata = {
            "policy_decision_point": issuer,
            "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
            "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
        }

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the metadata."""
        resp.media = self._metadata


class ProtectedResource:
    """GET /.well-known/oauth-protected-resource: of the management API, and below it of an API by its name (RFC 9728).

    An API whose audience is its URL has metadata, for its gateway to pass on from the place that belongs to that URL.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._issuer = service.settings.issuer_url()

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the metadata of the management API."""
        resp.media = self._metadata(self._issuer)

    async def on_get_one(self, _req: Request, resp: Response, name: str) -> None:
        """Answer the metadata of an API. UnknownApi, also for one whose audience is no URL."""
        _, kept = await self._service.find(NOBODY)
        api = kept.apis.get(api_id_of(name))
        resource = None if api is None else resource_of(api, self._issuer)
        if resource is None:
            raise UnknownApi(name)
        resp.media = self._metadata(resource)

    def _metadata(self, resource: str) -> dict[str, Any]:
        return {
            "resource": resource,
            "authorization_servers": [self._issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["direct"],
        }


class PublicKeys:
    """GET /.well-known/jwks.json."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._checked: list[dict[str, str]] = []

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the key set: pending keys, the active one, and retired ones until the last token that needs them is gone.

        BadKeySet, and so no answer, where it is not what we would take from others.
        """
        found, kept = await self._service.find(NOBODY)
        longest = self._service.longest_access_lifetime(kept)
        published = [key for key in kept.keys.values() if is_published(key, found.instant, longest)]
        jwks = [key.public_jwk for key in sorted(published, key=lambda key: (key.made_at, key.key_id)) if key.public_jwk]
        if jwks != self._checked:
            read_public_keys({"keys": jwks})
            self._checked = jwks
        resp.media = {"keys": jwks}
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
