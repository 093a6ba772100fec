"""The guard before APIs of each framework, on real servers: who passes, who does not, and that a doubt lets nobody in."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

from tests.calls import App, Person, bearer, first_party, gateway, login, new_api, new_client, new_person, ok, resource_server
from tests.guarded import FRAMEWORKS, HEALTH, client, running, wsgi_server
from tests.guarded_processes import in_processes
from tests.serving import Served, free_port
from token_ledger_guard import Guard, identity_of

ROLES = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden", "allow GET /a%20b/{id}", "allow GET /caf%C3%A9"],
    "writer": ["allow POST /orders/**", "allow OPTIONS /orders/**"],
}
CHALLENGE = 'Bearer realm="token-ledger"'


@dataclass(frozen=True)
class World:
    """An API, somebody who may read it, and the client it asks as."""

    ledger: str
    api: str
    app: App
    asker: App
    person: Person
    token: str
    writer: str

    def guard(self, **settings: Any) -> Guard:
        """Answer a guard of this API."""
        arguments: dict[str, Any] = {"client": self.asker.name, "secret": self.asker.secret} | settings
        return Guard(arguments.pop("ledger", self.ledger), **arguments)


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> World:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, ROLES)
        app, asker, person = first_party(admin, api), resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, app)["access_token"]
        writer = login(http, new_person(admin, f"{api}:writer"), app)["access_token"]
    return World(ledger_server.url, api, app, asker, person, token, writer)


@pytest.fixture(scope="module")
def fronts(world: World) -> Iterator[dict[str, httpx.Client]]:
    """Give a client of each framework's API."""
    with ExitStack() as running_apis:
        clients = {}
        for framework in FRAMEWORKS:
            guard = world.guard(open_to_all=[f"GET {HEALTH}"])
            url = running_apis.enter_context(running(framework, guard))
            clients[framework] = running_apis.enter_context(client(url))
        yield clients


@pytest.fixture(params=FRAMEWORKS)
def front(request: pytest.FixtureRequest, fronts: dict[str, httpx.Client]) -> httpx.Client:
    found: httpx.Client = fronts[request.param]
    return found


def raw(url: httpx.URL, target: bytes, *headers: bytes, method: bytes = b"GET") -> tuple[int, dict[str, Any]]:
    """Ask for a target byte for byte; the status, and what the API says it got."""
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        lines = [method + b" " + target + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""]
        connection.sendall(b"\r\n".join(lines))
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status != 200 or not body:
        return status, {}
    found = re.search(rb"\{.*\}", body, re.DOTALL)
    return status, json.loads(found[0]) if found else {}


# ------------------------------------------------------------------------------------------------------ passes and refuses


def test_who_may_passes_and_the_api_is_told_who_it_is(front: httpx.Client, world: World) -> None:
    got = ok(front.get("/orders/7?page=2", headers=bearer(world.token) | {"Cookie": "a=b"}))
    assert (got["method"], got["path"]) == ("GET", "/orders/7")
    identity = got["identity"]
    assert identity["subject_id"] == world.person.subject_id
    assert identity["client_id"] == world.app.name
    assert identity["roles"] == [f"{world.api}:reader"]
    assert identity["scope"] is None
    assert identity["token_id"]
    assert identity["position"] > 0


@pytest.mark.parametrize(
    ("method", "target", "authorization", "status", "challenge"),
    [
        ("GET", "/orders/hidden", None, 403, ', error="insufficient_scope"'),
        ("POST", "/orders/7", None, 403, ', error="insufficient_scope"'),
        ("GET", "/", None, 403, ', error="insufficient_scope"'),
        ("OPTIONS", "/orders/7", None, 403, ', error="insufficient_scope"'),
        ("GET", "/orders/7", "", 401, ""),
        ("GET", "/orders/7", "Basic YTpi", 401, ""),
        ("GET", "/orders/7", "Bearer", 401, ', error="invalid_token"'),
        ("GET", "/orders/7", "Bearer x", 401, ', error="invalid_token"'),
        ("GET", "/orders/7", "Bearer x y", 401, ', error="invalid_token"'),
        ("GET", "/orders/7", "Bearer " + "a" * 8_193, 401, ', error="invalid_token"'),
    ],
)
def test_who_may_not_does_not_reach_the_api_and_is_told_why_as_rfc_6750_section_3_says(
    front: httpx.Client, world: World, method: str, target: str, authorization: str | None, status: int, challenge: str
) -> None:
    sent = f"Bearer {world.token}" if authorization is None else authorization
    answer = front.request(method, target, headers={"Authorization": sent} if sent else {})
    assert answer.status_code == status
    assert answer.headers.get_list("WWW-Authenticate") == [CHALLENGE + challenge]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    problem = answer.json()
    assert problem["status"] == status
    assert "identity" not in problem
    assert world.token not in answer.text


def test_head_is_covered_by_get_and_its_refusal_has_no_body(front: httpx.Client, world: World) -> None:
    assert front.head("/orders/7", headers=bearer(world.token)).status_code == 200
    refused = front.head("/orders/hidden", headers=bearer(world.token))
    assert (refused.status_code, refused.content) == (403, b"")
    assert int(refused.headers["Content-Length"]) > 0
    # On the same connection: nothing was left on the wire.
    assert front.get("/orders/7", headers=bearer(world.token)).status_code == 200


def test_options_is_a_method_like_any_other(front: httpx.Client, world: World) -> None:
    preflight = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    assert front.options("/orders/7", headers=preflight).status_code == 401
    assert front.options("/orders/7", headers=bearer(world.writer)).status_code == 200


def test_what_is_open_to_all_passes_as_nobody_and_nothing_that_only_looks_like_it(front: httpx.Client, world: World) -> None:
    for headers in ({}, bearer("x"), bearer(world.token)):
        assert ok(front.get(HEALTH, headers=headers))["identity"] is None
    assert ok(front.get(f"{HEALTH}?x"))["identity"] is None
    for target in (b"/healthz/", b"/healthz;x", b"/x/../healthz", b"/%68ealthz"):
        assert raw(front.base_url, target)[0] == 401
    assert raw(front.base_url, HEALTH.encode(), method=b"get")[0] in (400, 401)
    assert front.post(HEALTH).status_code == 401


def test_from_a_revocation_on_no_request_passes(
    front: httpx.Client, http: httpx.Client, admin: httpx.Client, world: World
) -> None:
    issued = login(http, world.person, world.app)
    headers = bearer(issued["access_token"])
    assert front.get("/orders/7", headers=headers).status_code == 200
    ok(admin.post(f"/v1/tokens/{issued['token_id']}/suspend", json={"reason": "a test"}))
    assert front.get("/orders/7", headers=headers).status_code == 401
    ok(admin.post(f"/v1/tokens/{issued['token_id']}/reinstate", json={"reason": "a test"}))
    assert front.get("/orders/7", headers=headers).status_code == 200
    ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={"reason": "a test"}))
    assert front.get("/orders/7", headers=headers).status_code == 401


# --------------------------------------------------------------------------------------------------------------- WebSockets


def open_websocket(guard: Guard, path: str, token: str | None, *, extension: bool) -> tuple[list[dict[str, Any]], list[Any]]:
    """Open a WebSocket as a server does, and answer what was sent to it and the scopes that the application saw."""
    sent: list[dict[str, Any]] = []
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "websocket.accept"})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def opened() -> None:
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode()), (b"ledger-subject", b"root")]
        extensions: dict[str, Any] = {"websocket.http.response": {}} if extension else {}
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "headers": headers, "extensions": extensions}
        await guard.asgi(app)(scope, receive, send)
        await guard.aclose()

    anyio.run(opened)
    return sent, seen


def test_a_websocket_is_judged_when_it_is_opened(world: World) -> None:
    sent, (scope,) = open_websocket(world.guard(), "/orders/7", world.token, extension=True)
    assert sent == [{"type": "websocket.accept"}]
    assert identity_of(scope).subject_id == world.person.subject_id
    assert [name for name, _ in scope["headers"]] == [b"authorization"]
    for path, token, status in (("/orders/hidden", world.token, 403), ("/orders/7", None, 401), ("/orders/7", "x", 401)):
        (start, body), seen = open_websocket(world.guard(), path, token, extension=True)
        assert (start["type"], start["status"], seen) == ("websocket.http.response.start", status, [])
        assert body["type"] == "websocket.http.response.body"
        assert open_websocket(world.guard(), path, token, extension=False) == ([{"type": "websocket.close", "code": 1008}], [])


def test_what_is_neither_http_nor_a_websocket_is_not_let_through(world: World) -> None:
    with pytest.raises(ValueError, match="cannot be guarded"):
        anyio.run(world.guard().asgi(None), {"type": "webtransport"}, None, None)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------- spoofed headers


def test_headers_of_ours_that_a_client_sends_neither_decide_nor_reach_the_api(front: httpx.Client, world: World) -> None:
    spoofed = [
        b"Ledger-Gateway-Key: " + (world.asker.secret or "").encode(),
        b"Ledger-Subject: 00000000-0000-0000-0000-000000000000",
        b"ledger-subject: root",
        b"Ledger_Subject: root",
        b"LEDGER-CLIENT: root",
        b"Ledger-Token-Id: root",
        b"Token-Ledger.Identity: root",
        b"X-Original-URI: /orders/7",
        b"RAW_URI: /orders/7",
        b"Request-Uri: /orders/7",
        b"X-HTTP-Method-Override: GET",
    ]
    token = b"Authorization: Bearer " + world.token.encode()
    assert raw(front.base_url, b"/elsewhere", token, *spoofed)[0] == 403
    assert raw(front.base_url, b"/orders/7", *spoofed)[0] == 401
    status, got = raw(front.base_url, b"/orders/8", token, *spoofed)
    assert (status, got["path"], got["ours"]) == (200, "/orders/8", [])
    assert got["identity"]["subject_id"] == world.person.subject_id
    status, got = raw(front.base_url, HEALTH.encode(), *spoofed)
    assert (status, got["ours"], got["identity"]) == (200, [], None)


def test_a_second_token_beside_the_first_is_no_token(front: httpx.Client, world: World) -> None:
    token = b"Authorization: Bearer " + world.token.encode()
    for lines in ((token, b"Authorization: Bearer x"), (b"Authorization: Bearer x", token), (token, token)):
        assert raw(front.base_url, b"/orders/7", *lines)[0] in (400, 401)


# --------------------------------------------------------------------------------------------------- the path, and its readers

# As the ledger decides about the target itself. 200: and the API sees this path.
TARGETS: dict[bytes, str | None] = {
    b"/orders/7": "/orders/7",
    b"/orders/": "/orders/",
    b"/orders/%37": "/orders/7",
    b"/%6frders/7": "/orders/7",
    b"/orders/a%3Fb": "/orders/a?b",
    b"/orders/a,b:c@d!$&'()*+=~": "/orders/a,b:c@d!$&'()*+=~",
    b"/orders/...": "/orders/...",
    b"/a%20b/1": "/a b/1",
    b"/caf%C3%A9": "/café",
    b"/orders/7?": "/orders/7",
    b"/orders/7?a=/../b&c=//;d": "/orders/7",
    b"/orders": None,
    b"/Orders/7": None,
    b"/orders%2F7": None,
    b"/orders/hidden": None,
    b"/orders/hid%64en": None,
    b"/orders/hidden?x": None,
    b"/orders//7": None,  # and //orders below, with gunicorn: the server of werkzeug makes one slash of the first two
    b"/orders/./7": None,
    b"/orders/x/../7": None,
    b"/elsewhere/../orders/7": None,
    b"/elsewhere/%2e%2e/orders/7": None,
    b"/orders/..%2felsewhere": None,
    b"/orders/%2f7": None,
    b"/orders/%5c..%5c7": None,
    b"/orders/7;v=1": None,
    b"/orders/..;/elsewhere": None,
    b"/orders/%3b": None,
    b"/orders/%252e%252e/elsewhere": None,
    b"/orders/%0a": None,
    b"/orders/%ff": None,
    b"/orders/%zz": None,
    b"/" + b"x/" * 70: None,
    b"*": None,
}


def test_what_is_decided_on_is_the_path_as_it_was_sent(front: httpx.Client, http: httpx.Client, world: World) -> None:
    for target, path in TARGETS.items():
        status, got = raw(front.base_url, target, b"Authorization: Bearer " + world.token.encode())
        if path is None:
            assert status in (400, 403, 404), target  # 400, 404: of the server itself
            assert gateway(http, world.asker, world.token, "GET", target.decode()).status_code == 403
        else:
            assert (status, got.get("path")) == (200, path), target
            assert gateway(http, world.asker, world.token, "GET", target.decode()).status_code == 200


# ------------------------------------------------------------------------------------------------------- in doubt, nobody


def refused_in_doubt(front: httpx.Client, token: str) -> None:
    answer = front.get("/orders/7", headers=bearer(token))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "WWW-Authenticate" not in answer.headers
    assert answer.json()["code"] == "no_decision"


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_without_a_ledger_or_with_one_that_does_not_answer_nobody_passes(world: World, framework: str) -> None:
    with running(framework, world.guard(ledger=f"http://127.0.0.1:{free_port()}")) as url, client(url) as front:
        refused_in_doubt(front, world.token)
        assert front.get("/orders/7").status_code == 401
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ledger = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(framework, world.guard(ledger=ledger, timeout_seconds=0.3)) as url, client(url) as front:
            refused_in_doubt(front, world.token)


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_a_guard_that_the_ledger_does_not_take_lets_nobody_pass_and_does_not_blame_their_tokens(
    admin: httpx.Client, world: World, framework: str
) -> None:
    serves_none = new_client(admin, grants=["client_credentials"], apis=[world.api])
    for settings in ({"secret": "wrong"}, {"client": serves_none.name, "secret": serves_none.secret}):
        with running(framework, world.guard(**settings)) as url, client(url) as front:
            refused_in_doubt(front, world.token)


def test_a_guard_of_another_api_lets_no_token_of_this_one_pass(admin: httpx.Client, world: World) -> None:
    other = resource_server(admin, new_api(admin, {}, "elsewhere"))
    with running("flask", world.guard(client=other.name, secret=other.secret)) as url, client(url) as front:
        assert front.get("/orders/7", headers=bearer(world.token)).status_code == 401


WRONG: dict[str, Any] = {
    "no JSON": b"yes",
    "no object": [True],
    "a yes to nobody": {"decision": True, "context": {"position": 1, "log_id": "x", "semantics": 1}},
    "a yes that is a word": {"decision": "true", "context": {"position": 1, "log_id": "x", "semantics": 1}},
}


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_that_is_none_of_the_ledgers_lets_nobody_pass(world: World, answer: str) -> None:
    said = WRONG[answer] if isinstance(WRONG[answer], bytes) else json.dumps(WRONG[answer]).encode()

    def instead(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(said)))])
        return [said]

    with wsgi_server(instead) as ledger, running("flask", world.guard(ledger=ledger)) as url, client(url) as front:
        refused_in_doubt(front, world.token)


# ----------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_preflight_requests_pass_where_they_may_and_no_other_options(world: World, framework: str) -> None:
    with running(framework, world.guard(preflight=True)) as url, client(url) as front:
        preflight = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        assert ok(front.options("/orders/7", headers=preflight))["identity"] is None
        assert front.options("/orders/7").status_code == 401
        assert front.options("/orders/7", headers={"Origin": "https://elsewhere.example"}).status_code == 401
        assert front.get("/orders/7", headers=preflight).status_code == 401


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_where_the_application_decides_whoever_has_a_token_that_stands_passes(
    http: httpx.Client, admin: httpx.Client, world: World, framework: str
) -> None:
    with running(framework, world.guard(decides="application")) as url, client(url) as front:
        issued = login(http, world.person, world.app, scope=f"{world.api}:reader")
        headers = bearer(issued["access_token"])
        got = ok(front.delete("/elsewhere", headers=headers))
        assert got["identity"]["scope"] == f"{world.api}:reader"
        ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={"reason": "a test"}))
        assert front.delete("/elsewhere", headers=headers).status_code == 401
        assert front.get("/orders/7").status_code == 401


def test_settings_that_mean_nothing_are_refused() -> None:
    for settings in ({"realm": 'a"b'}, {"decides": "nobody"}):
        with pytest.raises(ValueError, match=r"realm|decides"):
            Guard("http://127.0.0.1:1", client="a", secret="b", **settings)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- real deployments


@pytest.mark.parametrize("framework", ["django-wsgi", "falcon-asgi"])
def test_a_guard_made_before_the_workers_are_forked_works_in_each(world: World, framework: str) -> None:
    environment = {"GUARD_LEDGER": world.ledger, "GUARD_CLIENT": world.asker.name, "GUARD_SECRET": world.asker.secret or ""}
    with in_processes(framework, 2, environment) as url:
        for _ in range(8):  # each on a connection of its own
            with client(url) as front:
                assert front.get("/orders/7", headers=bearer(world.token)).status_code == 200
                assert front.get("/orders/hidden", headers=bearer(world.token)).status_code == 403
        base = httpx.URL(url)
        for target in (b"/orders%2F7", b"/elsewhere/../orders/7", b"//orders/7", b"/orders/..;/x", b"/orders/%252e"):
            assert raw(base, target, b"Authorization: Bearer " + world.token.encode())[0] == 403
        assert raw(base, b"/orders/%37", b"Authorization: Bearer " + world.token.encode())[1]["path"] == "/orders/7"
