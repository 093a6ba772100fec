"""What anybody may know, and what is said of the API itself; metrics."""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from api.openapi.operations import Answer, Operation, json_of, query
from api.openapi.shapes import INSTANT, POSITION, TEXT, Schema, list_of, thing
from ledger.errors import UnknownApi

URI: Final[Schema] = {"type": "string", "format": "uri"}
HTML: Final[Schema] = {"type": "string", "description": "A page that needs nothing besides."}
POLICY: Final = {"Content-Security-Policy": TEXT}

RESOURCE: Final = thing(
    {
        "resource": URI,
        "authorization_servers": list_of(URI),
        "bearer_methods_supported": list_of(TEXT),
        "scopes_supported": list_of(TEXT),
    }
)

OPERATIONS: Final = {
    ("GET", "/.well-known/oauth-authorization-server"): Operation(
        "anyone",
        {
            200: json_of(
                thing(
                    {
                        "issuer": URI,
                        "token_endpoint": URI,
                        "introspection_endpoint": URI,
                        "revocation_endpoint": URI,
                        "jwks_uri": URI,
                        "grant_types_supported": list_of(TEXT),
                        "response_types_supported": list_of(TEXT),
                        "scopes_supported": list_of(TEXT),
                        "token_endpoint_auth_methods_supported": list_of(TEXT),
                        "token_endpoint_auth_signing_alg_values_supported": list_of(TEXT),
                        "introspection_endpoint_auth_methods_supported": list_of(TEXT),
                        "introspection_endpoint_auth_signing_alg_values_supported": list_of(TEXT),
                        "revocation_endpoint_auth_methods_supported": list_of(TEXT),
                        "revocation_endpoint_auth_signing_alg_values_supported": list_of(TEXT),
                    }
                )
            )
        },
        database=False,
    ),
    ("GET", "/.well-known/authzen-configuration"): Operation(
        "anyone",
        {
            200: json_of(
                thing({"policy_decision_point": URI, "access_evaluation_endpoint": URI, "access_evaluations_endpoint": URI})
            )
        },
        database=False,
    ),
    ("GET", "/.well-known/oauth-protected-resource"): Operation("anyone", {200: json_of(RESOURCE)}, database=False),
    ("GET", "/.well-known/oauth-protected-resource/{name}"): Operation(
        "anyone", {200: json_of(RESOURCE)}, refuses=(UnknownApi,)
    ),
    ("GET", "/.well-known/jwks.json"): Operation(
        "anyone",
        {
            200: json_of(
                thing({"keys": list_of({"type": "object", "required": ["kty", "kid", "use", "alg"], "maxProperties": 8})}),
                Cache_Control=TEXT,
            )
        },
    ),
    ("GET", "/healthz"): Operation("anyone", {200: json_of(thing({"status": TEXT | {"const": "alive"}}))}, database=False),
    ("GET", "/readyz"): Operation(
        "anyone", {200: json_of(thing({"status": TEXT | {"const": "ready"}, "position": POSITION, "instant": INSTANT}))}
    ),
    ("GET", "/metrics"): Operation(
        "bearer", {200: Answer("Prometheus' text format.", {CONTENT_TYPE_LATEST.partition(";")[0]: TEXT})}, query=query()
    ),
    ("GET", "/openapi.json"): Operation("anyone", {200: json_of({"type": "object"}, "This document.")}, database=False),
    ("GET", "/docs"): Operation("anyone", {200: Answer("A page.", {"text/html": HTML}, POLICY)}, database=False),
    ("GET", "/errors"): Operation("anyone", {200: Answer("A page.", {"text/html": HTML}, POLICY)}, database=False),
}
