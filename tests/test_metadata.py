"""The metadata of an issuer that is not the address served on, and of protected resources (RFC 9728); over HTTP also:
test_issue_http.py."""

from dataclasses import dataclass

import httpx
import pytest

from api.resources.wellknown import Metadata
from ledger.apis import well_known
from ledger.settings import Settings, load_settings
from tests.calls import gateway, login, new_api, new_person, ok, refused, resource_server, unique
from tests.serving import Served


@dataclass(frozen=True)
class OnlySettings:
    """What the metadata is made from."""

    settings: Settings


@pytest.mark.parametrize("issuer", ["https://ledger.example/a", "https://ledger.example/a/"])
def test_the_endpoints_of_an_issuer_have_no_two_slashes_and_it_stands_byte_for_byte(issuer: str) -> None:
    metadata = Metadata(OnlySettings(load_settings(issuer=issuer)))._metadata  # type: ignore[arg-type]
    assert metadata["issuer"] == issuer
    assert metadata["token_endpoint"] == "https://ledger.example/a/oauth/token"
    assert metadata["jwks_uri"] == "https://ledger.example/a/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("identifier", "url"),
    [
        ("https://a.example", "https://a.example/.well-known/x"),
        ("https://a.example/", "https://a.example/.well-known/x"),
        ("https://a.example:8443/b/c/", "https://a.example:8443/.well-known/x/b/c"),
        ("https://a.example/b?c=d", "https://a.example/.well-known/x/b?c=d"),
    ],
)
def test_the_well_known_name_stands_between_host_and_path(identifier: str, url: str) -> None:
    assert well_known(identifier, "x") == url


def test_an_issuer_with_a_path_has_its_metadata_where_the_standards_look_for_it(ledger_server: Served) -> None:
    issuer = "https://ledger.example/tenant/one"
    with ledger_server.again(TOKEN_LEDGER_ISSUER=issuer) as elsewhere, elsewhere.client() as http:
        for path in ("", "/tenant/one"):
            assert ok(http.get(f"/.well-known/oauth-authorization-server{path}"))["issuer"] == issuer
            assert ok(http.get(f"/.well-known/oauth-protected-resource{path}"))["resource"] == issuer
        refused(http.get("/.well-known/oauth-authorization-server/tenant"), 404, "no_such_endpoint")
        challenge = http.get("/v1/me").headers["www-authenticate"]
    known = "https://ledger.example/.well-known/oauth-protected-resource/tenant/one"
    assert challenge == f'Bearer realm="token-ledger", resource_metadata="{known}"'


def test_a_refused_request_says_where_the_metadata_of_its_resource_is(http: httpx.Client, admin: httpx.Client) -> None:
    issuer = ok(http.get("/.well-known/oauth-authorization-server"))["issuer"]
    host = f"https://{unique('stock')}.example"
    ok(admin.post("/v1/apis", json={"name": (url_api := unique("stock")), "audience": f"{host}/v2/"}), 201)
    name_api = new_api(admin)
    assert ok(http.get("/.well-known/oauth-protected-resource")) == {
        "resource": issuer,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["direct"],
    }
    described = ok(http.get(f"/.well-known/oauth-protected-resource/{url_api}"))
    assert (described["resource"], described["authorization_servers"]) == (f"{host}/v2/", [issuer])
    for name in (name_api, unique("nothing")):
        refused(http.get(f"/.well-known/oauth-protected-resource/{name}"), 404, "unknown_api")

    asked = {
        url_api: f', resource_metadata="{host}/.well-known/oauth-protected-resource/v2"',
        name_api: "",
    }
    for api, known in asked.items():
        answer = gateway(http, resource_server(admin, api), None)
        assert answer.headers["www-authenticate"] == f'Bearer realm="token-ledger"{known}'
    known = f', resource_metadata="{issuer}/.well-known/oauth-protected-resource"'
    token = login(http, new_person(admin))["access_token"]
    for headers, error in (
        ({}, ""),
        ({"Authorization": "Digest x"}, ""),
        ({"Authorization": "Bearer x"}, ', error="invalid_token"'),
        ({"Authorization": f"Bearer {token}"}, ', error="insufficient_scope"'),
    ):
        challenge = http.get("/v1/clients", headers=headers).headers["www-authenticate"]
        assert challenge == f'Bearer realm="token-ledger"{error}{known}'
