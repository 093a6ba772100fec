"""The application: every route in one place, the worker's parts handed to each resource."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from falcon.asgi import App, Request, Response
from falcon.constants import MEDIA_JSON
from falcon.media import JSONHandler
from pydantic_core import to_json

from api.body import WholeRequest
from api.errors import install_error_handlers
from api.middleware import Lifespan, RequestContext
from api.resources import (
    access,
    apis,
    audit,
    audit_access,
    blast_radius,
    clients,
    description,
    families,
    feed,
    gateway,
    imports,
    keys,
    lockouts,
    login,
    me,
    metrics,
    oauth,
    revocations,
    roles,
    subjects,
    tokens,
    wellknown,
)
from api.service import Service


class Route(NamedTuple):
    """A path, who answers it, and which responders (Falcon's suffix: `on_post_<suffix>`)."""

    path: str
    resource: Callable[[Service], Any]
    suffix: str | None = None


ROUTES: Final = (
    Route("/login", login.Login),
    Route("/logout", login.Logout),
    Route("/v1/me", me.Me),
    Route("/v1/me/password", me.Me, "password"),
    Route("/v1/me/tokens", me.Me, "tokens"),
    Route("/v1/me/tokens/{token_id}", me.Me, "token"),
    Route("/oauth/token", oauth.TokenEndpoint),
    Route("/oauth/introspect", oauth.Introspection),
    Route("/oauth/revoke", oauth.Revocation),
    Route("/access/v1/evaluation", access.Evaluation),
    Route("/access/v1/evaluations", access.Evaluations),
    Route("/gateway/nginx", gateway.NginxGateway),
    Route("/gateway/forward", gateway.ForwardGateway),
    Route("/gateway/envoy/{target:path}", gateway.EnvoyGateway),
    Route("/v1/subjects", subjects.Subjects),
    Route("/v1/subjects/{subject_id}", subjects.Subjects, "one"),
    Route("/v1/subjects/{subject_id}/profile", subjects.Subjects, "profile"),
    Route("/v1/subjects/{subject_id}/password", subjects.Subjects, "password"),
    Route("/v1/subjects/{subject_id}/clearance", subjects.Subjects, "clearance"),
    Route("/v1/subjects/{subject_id}/roles", subjects.Subjects, "roles"),
    Route("/v1/subjects/{subject_id}/roles/withdraw", subjects.Subjects, "roles_withdraw"),
    Route("/v1/subjects/{subject_id}/rules", subjects.Subjects, "rules"),
    Route("/v1/subjects/{subject_id}/rules/withdraw", subjects.Subjects, "rules_withdraw"),
    Route("/v1/subjects/{subject_id}/permissions", subjects.Subjects, "permissions"),
    Route("/v1/subjects/{subject_id}/suspend", subjects.Subjects, "suspend"),
    Route("/v1/subjects/{subject_id}/reinstate", subjects.Subjects, "reinstate"),
    Route("/v1/subjects/{subject_id}/revoke-tokens", subjects.Subjects, "revoke_tokens"),
    Route("/v1/subjects/{subject_id}/erase", subjects.Subjects, "erase"),
    Route("/v1/clients", clients.Clients),
    Route("/v1/clients/{name}", clients.Clients, "one"),
    Route("/v1/clients/{name}/secret", clients.Clients, "secret"),
    Route("/v1/clients/{name}/keys", clients.Clients, "keys"),
    Route("/v1/clients/{name}/suspend", clients.Clients, "suspend"),
    Route("/v1/clients/{name}/reinstate", clients.Clients, "reinstate"),
    Route("/v1/clients/{name}/revoke-tokens", clients.Clients, "revoke_tokens"),
    Route("/v1/apis", apis.Apis),
    Route("/v1/apis/{name}", apis.Apis, "one"),
    Route("/v1/apis/{name}/suspend", apis.Apis, "suspend"),
    Route("/v1/apis/{name}/reinstate", apis.Apis, "reinstate"),
    Route("/v1/apis/{name}/revoke-tokens", apis.Apis, "revoke_tokens"),
    Route("/v1/apis/{name}/import", imports.Imports),
    Route("/v1/apis/{name}/roles", roles.Roles),
    Route("/v1/apis/{name}/roles/{role}", roles.Roles, "one"),
    Route("/v1/apis/{name}/roles/{role}/rules", roles.Roles, "rules"),
    Route("/v1/apis/{name}/roles/{role}/rules/withdraw", roles.Roles, "rules_withdraw"),
    Route("/v1/tokens", tokens.Tokens),
    Route("/v1/tokens/{token_id}", tokens.Tokens, "one"),
    Route("/v1/tokens/{token_id}/suspend", tokens.Tokens, "suspend"),
    Route("/v1/tokens/{token_id}/reinstate", tokens.Tokens, "reinstate"),
    Route("/v1/tokens/{token_id}/revoke", tokens.Tokens, "revoke"),
    Route("/v1/revocations", revocations.Revocations),
    Route("/v1/families/{family_id}", families.Families, "one"),
    Route("/v1/families/{family_id}/suspend", families.Families, "suspend"),
    Route("/v1/families/{family_id}/reinstate", families.Families, "reinstate"),
    Route("/v1/families/{family_id}/revoke", families.Families, "revoke"),
    Route("/v1/keys", keys.TokenKeys),
    Route("/v1/keys/{key_id}/activate", keys.TokenKeys, "activate"),
    Route("/v1/keys/{key_id}/retire", keys.TokenKeys, "retire"),
    Route("/v1/keys/{key_id}/revoke", keys.TokenKeys, "revoke"),
    Route("/v1/lockouts", lockouts.Lockouts),
    Route("/v1/lockouts/{lockout_id}/unlock", lockouts.Lockouts, "unlock"),
    Route("/v1/audit/events", audit.AuditEvents),
    Route("/v1/audit/timeline", audit.AuditTimeline),
    Route("/v1/audit/explain", audit_access.AuditExplanation),
    Route("/v1/audit/blast-radius", blast_radius.BlastRadius),
    Route("/v1/audit/decision", audit_access.AuditDecision),
    Route("/v1/audit/who-could", audit_access.AuditWhoCould),
    Route("/v1/audit/changes", audit_access.AuditChanges),
    Route("/v1/feed", feed.FeedOfEvents),
    Route("/.well-known/oauth-authorization-server", wellknown.Metadata),
    Route("/.well-known/authzen-configuration", wellknown.DecisionPoint),
    Route("/.well-known/oauth-protected-resource", wellknown.ProtectedResource),
    Route("/.well-known/oauth-protected-resource/{name}", wellknown.ProtectedResource, "one"),
    Route("/.well-known/jwks.json", wellknown.PublicKeys),
    Route("/healthz", wellknown.Health),
    Route("/readyz", wellknown.Health, "ready"),
    Route("/metrics", metrics.Metrics),
    Route("/openapi.json", description.Description),
    Route("/docs", description.Description, "page"),
    Route("/errors", description.Description, "errors"),
)


def make_app(service: Service) -> App[Request, Response]:
    """Make the application of one worker; its service starts and stops with the server."""
    housekeeping: list[asyncio.Task[None]] = []

    async def start() -> None:
        await service.start()
        # What is there now stays: without this the collector looks at all of it every ten thousand requests, for 40 ms.
        gc.collect()
        gc.freeze()
        housekeeping.append(asyncio.create_task(service.keep_house(), name="housekeeping"))

    async def stop() -> None:
        for task in housekeeping:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await service.stop()

    app: App[Request, Response] = App(request_type=WholeRequest)
    app.add_middleware(Lifespan(start, stop))
    app.add_middleware(RequestContext(service.requests, service.settings.issuer_url()))
    # A path with a trailing slash is another path, for us as for the paths we decide on.
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.resp_options.media_handlers[MEDIA_JSON] = JSONHandler(dumps=to_json)
    install_error_handlers(app)
    resources: dict[Callable[[Service], Any], Any] = {}
    for route in ROUTES:
        resource = resources.setdefault(route.resource, route.resource(service))
        app.add_route(route.path, resource, suffix=route.suffix)
    # An issuer with a path has its metadata there besides: RFC 8414 section 3.1, RFC 9728 section 3.1, AuthZEN 1.0 section 9.
    path = urlsplit(service.settings.issuer_url()).path.rstrip("/")
    if path:
        app.add_route(f"/.well-known/oauth-authorization-server{path}", resources[wellknown.Metadata])
        app.add_route(f"/.well-known/oauth-protected-resource{path}", resources[wellknown.ProtectedResource])
        app.add_route(f"/.well-known/authzen-configuration{path}", resources[wellknown.DecisionPoint])
    resources[description.Description].describe(ROUTES)
    return app
