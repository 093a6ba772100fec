"""What gateways ask, as each of them asks it, byte for byte. With the gateways themselves: test_gateways.py.

nginx (`auth_request`, deploy/nginx.conf) names method and target in headers of its own. Traefik's `forwardAuth` and Caddy's
`forward_auth` are documented to ask with GET, and to say in `X-Forwarded-Method` and `X-Forwarded-Uri` what they were asked,
the query with it, beside `X-Forwarded-For`, `-Host` and `-Proto`. Envoy's `ext_authz` over HTTP asks with the method and the
`:path` that it was asked for, behind its `path_prefix`, and without a body.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refused,
    resource_server,
)
from tests.serving import Served

ROLES = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden", "allow * /any/{id}", "allow GET /caf%C3%A9"],
    "writer": ["allow POST /orders/**"],
}
GATEWAYS: Final = ("nginx", "forward", "envoy")
PLAIN: Final = 'Bearer realm="token-ledger"'
INVALID: Final = f'{PLAIN}, error="invalid_token"'
INSUFFICIENT: Final = f'{PLAIN}, error="insufficient_scope"'


@dataclass(frozen=True)
class World:
    """An API with a gateway, and somebody who may read it."""

    api: str
    app: App
    asker: App
    person: Person
    token: str
    narrow: str  # of scope `writer` alone


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> Iterator[World]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, ROLES)
        app, asker = first_party(admin, api), resource_server(admin, api)
        person = new_person(admin, f"{api}:reader", f"{api}:writer")
        token, narrow = (login(http, person, app, **scope)["access_token"] for scope in ({}, {"scope": f"{api}:writer"}))
        yield World(api, app, asker, person, token, narrow)


@dataclass(frozen=True)
class Said:
    """An answer: its status, and its headers by their names in lower case."""

    status: int
    headers: dict[str, str]


def asked(
    gateway: str, key: str | None, token: str | None, method: str = "GET", target: bytes = b"/orders/7"
) -> tuple[bytes, list[bytes]]:
    """Answer the request line and the headers that this gateway sends for a request that it got."""
    headers = [] if key is None else [b"Ledger-Gateway-Key: " + key.encode()]
    headers += [] if token is None else [b"Authorization: Bearer " + token.encode()]
    if gateway == "nginx":
        return b"GET /gateway/nginx", [*headers, b"X-Original-Method: " + method.encode(), b"X-Original-URI: " + target]
    if gateway == "forward":
        forwarded = [b"X-Forwarded-Method: " + method.encode(), b"X-Forwarded-Uri: " + target]
        rest = [b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Host: api.example", b"X-Forwarded-Proto: https"]
        return b"GET /gateway/forward", [*headers, *forwarded, *rest]
    return method.encode() + b" /gateway/envoy" + target, [*headers, b"Content-Length: 0", b"X-Envoy-Internal: true"]


def send(server: Served, line: bytes, headers: list[bytes]) -> Said:
    """Send a request byte for byte."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(b"\r\n".join([line + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""]))
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    first, *rest = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return Said(int(first.split()[1]), {n.lower(): v.strip() for n, _, v in (one.partition(":") for one in rest)})


def ask(
    server: Served, gateway: str, world: World, token: str | None = None, method: str = "GET", target: bytes = b"/orders/7"
) -> Said:
    """Ask as the gateway of the API does, with the token of who may read unless another is given."""
    return send(server, *asked(gateway, world.asker.secret, world.token if token is None else token or None, method, target))


every_gateway = pytest.mark.parametrize("gateway", GATEWAYS)


# ------------------------------------------------------------------------------------------------------------- decisions

CASES: list[tuple[str, bytes]] = [
    ("GET", b"/orders/7"),
    ("HEAD", b"/orders/7"),
    ("GET", b"/orders/7?page=2&x=/../y"),
    ("GET", b"/orders/"),
    ("GET", b"/orders"),
    ("GET", b"/"),
    ("GET", b"/orders/hidden"),
    ("GET", b"/orders/hidden?as_of=1"),
    ("GET", b"/orders/hid%64en"),
    ("POST", b"/orders/7"),
    ("PUT", b"/orders/7"),
    ("PATCH", b"/any/1"),
    ("DELETE", b"/any/1"),
    ("OPTIONS", b"/any/1"),
    ("OPTIONS", b"/orders/7"),
    ("GET", b"/caf%C3%A9"),
    ("GET", b"/orders/a,b:c@d!$&'()*+=~"),
    # what is no path of ours, and a question all the same
    ("GET", b"//orders/7"),
    ("GET", b"/orders//7"),
    ("GET", b"/orders/7//"),
    ("GET", b"/orders/./7"),
    ("GET", b"/orders/../orders/7"),
    ("GET", b"/../gateway/nginx"),
    ("GET", b"/orders/%2e%2e/orders/7"),
    ("GET", b"/orders/%2F7"),
    ("GET", b"/orders%2F7"),
    ("GET", b"/orders/%5c7"),
    ("GET", b"/orders/\\7"),
    ("GET", b"/orders/7;v=1"),
    ("GET", b"/orders/..;/7"),
    ("GET", b"/orders/%00"),
    ("GET", b"/orders/%0d%0aX:y"),
    ("GET", b"/orders/%252F7"),
    ("GET", b"/orders/%"),
    ("GET", b"/orders/%zz"),
    ("GET", b"/orders/%ff"),
    ("GET", b"/orders/%c0%ae%c0%ae/7"),
    ("GET", b"/" + b"x/" * 70),
    ("GET", b"/orders/" + b"a" * 7_000),
    # what is an endpoint here is a path like any other there
    ("GET", b"/v1/me"),
    ("GET", b"/gateway/envoy/orders/7"),
]


@every_gateway
@pytest.mark.parametrize(("method", "target"), CASES, ids=[f"{m} {t[:30].decode()}" for m, t in CASES])
def test_a_gateway_is_answered_as_the_api_itself_is(
    ledger_server: Served, http: httpx.Client, world: World, gateway: str, method: str, target: bytes
) -> None:
    context = (decided := evaluate(http, world.asker, world.token, method, target.decode()))["context"]
    said = ask(ledger_server, gateway, world, method=method, target=target)
    assert (said.status, said.headers.get("ledger-reason")) == (200 if decided["decision"] else 403, context["reason"])
    identity = {name: said.headers.get(name) for name in ("ledger-subject", "ledger-client", "ledger-token-id")}
    if decided["decision"]:
        assert identity["ledger-subject"] == world.person.subject_id
        assert identity["ledger-client"] == world.app.name
        assert identity["ledger-token-id"] == context["token"]["token_id"]
    else:
        assert set(identity.values()) == {None}
    assert said.headers.get("www-authenticate") == (None if decided["decision"] else INSUFFICIENT)


@every_gateway
def test_who_is_not_known_is_401_and_who_may_not_is_403_each_with_its_challenge(
    ledger_server: Served, world: World, gateway: str
) -> None:
    def challenged(token: str, method: str = "GET", target: bytes = b"/orders/7") -> tuple[int, str | None]:
        said = ask(ledger_server, gateway, world, token, method, target)
        return said.status, said.headers.get("www-authenticate")

    assert challenged("") == (401, PLAIN)
    assert challenged("x") == (401, INVALID)
    assert challenged(world.narrow) == (403, INSUFFICIENT)
    assert challenged(world.token, target=b"/orders/hidden") == (403, INSUFFICIENT)
    assert challenged(world.token, "DELETE") == (403, INSUFFICIENT)


@every_gateway
def test_a_token_that_was_revoked_passes_no_gateway(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, world: World, gateway: str
) -> None:
    issued = login(http, world.person, world.app)
    assert ask(ledger_server, gateway, world, issued["access_token"]).status == 200
    ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={"reason": "a test"}))
    said = ask(ledger_server, gateway, world, issued["access_token"])
    assert (said.status, said.headers["ledger-reason"], said.headers["www-authenticate"]) == (401, "token_revoked", INVALID)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_envoy_asks_with_the_method_that_it_was_asked_with(http: httpx.Client, world: World, method: str) -> None:
    key = {"Ledger-Gateway-Key": world.asker.secret or ""}
    for headers, target, status in (
        (key | bearer(world.token), "/any/1", 200),
        (key | bearer(world.token), "/elsewhere", 403),
        (key, "/any/1", 401),
        (bearer(world.token), "/any/1", 503),
    ):
        assert http.request(method, f"/gateway/envoy{target}", headers=headers).status_code == status


def test_traefik_and_caddy_ask_the_same_endpoint(http: httpx.Client, world: World) -> None:
    forwarded = {"Ledger-Gateway-Key": world.asker.secret or "", "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/orders/7"}
    for token, target, status in (
        (world.token, "/orders/7", 200),
        (world.token, "/orders/hidden", 403),
        ("x", "/orders/7", 401),
    ):
        headers = forwarded | bearer(token) | {"X-Forwarded-Uri": target}
        assert http.get("/gateway/forward", headers=headers).status_code == status


# ------------------------------------------------------------------------------------------- who asks, and what is believed


@pytest.mark.parametrize("gateway", ["forward", "envoy"])
def test_a_gateway_that_gets_no_decision_blames_nobody_s_token(
    ledger_server: Served, admin: httpx.Client, world: World, gateway: str
) -> None:
    serves_none = new_client(admin, grants=["client_credentials"], apis=[world.api]).secret
    for key in (None, "", "tl_cs_", "x", serves_none, world.token):
        said = send(ledger_server, *asked(gateway, key, world.token))
        assert said.status == 503
        assert not {"ledger-reason", "www-authenticate", "ledger-subject"} & said.headers.keys()


def test_what_is_wrong_with_a_gateway_is_said_in_the_answer(http: httpx.Client, world: World) -> None:
    headers = {"Ledger-Gateway-Key": world.asker.secret or "", "X-Forwarded-Method": "GET"}
    answer = refused(http.get("/gateway/forward", headers=headers), 503, "no_decision")
    assert "x-forwarded-uri" in answer["detail"]


@pytest.mark.parametrize("gateway", ["forward", "envoy"])
def test_a_header_that_stands_twice_is_no_decision(ledger_server: Served, world: World, gateway: str) -> None:
    line, headers = asked(gateway, world.asker.secret, world.token)
    read = [header for header in headers if header.startswith((b"Ledger", b"Auth", b"X-Forwarded-M", b"X-Forwarded-U"))]
    assert len(read) == (4 if gateway == "forward" else 2)
    for header in read:
        said = send(ledger_server, line, [*headers, header])
        assert (said.status, "ledger-reason" in said.headers) == (503, False)


@every_gateway
def test_the_headers_of_other_gateways_decide_nothing(ledger_server: Served, world: World, gateway: str) -> None:
    others = [
        b"X-HTTP-Method-Override: GET",
        b"X-Rewrite-URL: /orders/7",
        b"Ledger-Subject: root",
        b"Ledger-Reason: allowed",
        b"X-Forwarded_Uri: /orders/7",
    ]
    others += [] if gateway == "nginx" else [b"X-Original-Method: GET", b"X-Original-URI: /orders/7"]
    others += [] if gateway == "forward" else [b"X-Forwarded-Method: GET", b"X-Forwarded-Uri: /orders/7"]
    line, headers = asked(gateway, world.asker.secret, world.token, "DELETE", b"/orders/hidden")
    said = send(ledger_server, line, [*headers, *others])
    assert (said.status, said.headers["ledger-reason"]) == (403, "no_rule")


@pytest.mark.parametrize("gateway", ["nginx", "forward"])
def test_nothing_is_read_from_the_query_of_an_endpoint(ledger_server: Served, world: World, gateway: str) -> None:
    line, headers = asked(gateway, world.asker.secret, world.token, target=b"/orders/hidden")
    query = b"?X-Forwarded-Uri=/orders/7&X-Original-URI=/orders/7&target=/orders/7&as_of=1"
    assert send(ledger_server, line + query, headers).status == 403


@pytest.mark.parametrize(
    "line",
    [b"GET /gateway/%65nvoy/orders/7", b"GET /gateway/envoy", b"GET /gateway/envoy*", b"GET /gateway/./envoy/orders/7"],
    ids=["encoded", "bare", "a star", "dots"],
)
def test_the_prefix_is_what_it_is(ledger_server: Served, world: World, line: bytes) -> None:
    _, headers = asked("envoy", world.asker.secret, world.token)
    assert send(ledger_server, line, headers).status == 404


def test_a_fragment_is_no_part_of_a_target(ledger_server: Served, world: World) -> None:
    assert ask(ledger_server, "envoy", world, target=b"/orders/7#top").status == 400
    assert send(ledger_server, b"GET /healthz#top", []).status == 400


def test_a_method_that_http_does_not_know_does_not_pass_envoy(ledger_server: Served, world: World) -> None:
    for method in ("TRACE", "PROPFIND", "PURGE"):
        assert ask(ledger_server, "envoy", world, method=method, target=b"/any/1").status in (400, 405)
        assert ask(ledger_server, "forward", world, method=method, target=b"/any/1").status == 200


# ------------------------------------------------------------------------------------------------------------- preflights


@every_gateway
def test_a_preflight_passes_where_the_api_says_so(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, gateway: str
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**", "allow OPTIONS /known"]})
    app, asker, person = first_party(admin, api), resource_server(admin, api), new_person(admin, f"{api}:reader")
    token = login(http, person, app)["access_token"]

    def answered(method: str = "OPTIONS", target: bytes = b"/orders/7", token: str | None = None) -> tuple[int, str]:
        said = send(ledger_server, *asked(gateway, asker.secret, token, method, target))
        assert ("ledger-subject" in said.headers) == (said.headers["ledger-reason"] == "allowed")
        return said.status, said.headers["ledger-reason"]

    assert answered() == (401, "unknown_token")
    ok(admin.patch(f"/v1/apis/{api}", json={"preflights": True}))
    assert answered() == (200, "preflight")
    assert answered(token="x") == (200, "preflight")
    assert answered(token=token) == (200, "preflight")
    assert answered(target=b"/known", token=token) == (200, "allowed")
    assert answered("GET") == (401, "unknown_token")
    assert answered("HEAD") == (401, "unknown_token")
    assert answered(target=b"/orders/../7") == (401, "unknown_token")
    assert answered(target=b"/orders/7;v=1", token=token) == (403, "path_semicolon")
    ok(admin.post(f"/v1/apis/{api}/suspend", json={"reason": "a test"}))
    assert answered() == (401, "unknown_token")
    ok(admin.post(f"/v1/apis/{api}/reinstate"))
    ok(admin.patch(f"/v1/apis/{api}", json={"preflights": False}))
    assert answered() == (401, "unknown_token")
