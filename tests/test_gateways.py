"""The files of deploy/ in real gateways: who passes, who does not, what the API is told, and what a decision is about.

What is nginx's own: test_nginx.py. What gateways send, byte for byte: test_gateways_http.py. Each case records which gateway it
was about, for acceptance (tests/acceptance/gateways.py).
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.calls import App, Person, bearer, evaluate, first_party, login, new_api, new_person, ok, resource_server
from tests.gateways import DEPLOY, GATEWAYS
from tests.nginx import Api, running_api
from tests.serving import Served, free_port
from tests.test_nginx import TARGETS, raw

Record = Callable[[str, object], None]

ROLES = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden", "allow GET /a%20b/{id}", "allow GET /caf%C3%A9"],
    "writer": ["allow POST /orders/**"],
}
IDENTITY = ["ledger-client", "ledger-position", "ledger-subject", "ledger-token-id"]


@dataclass(frozen=True)
class Guarded:
    """An API behind a gateway, somebody who may read it, and somebody who asks the ledger himself."""

    gateway: str
    url: str
    api: str
    app: App
    asker: App
    person: Person
    token: str


@pytest.fixture(scope="module")
def api_port() -> Iterator[int]:
    with running_api() as port:
        yield port


@pytest.fixture(scope="module", params=list(GATEWAYS))
def guarded(
    request: pytest.FixtureRequest, ledger_server: Served, api_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    runs, run = GATEWAYS[request.param]
    if runs is None:
        pytest.skip(f"{request.param} is not installed")
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, ROLES)
        app, asker, person = first_party(admin, api), resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, app)["access_token"]
    with run(tmp_path_factory.mktemp(request.param), ledger_server.url, asker.secret or "", api_port) as url:
        yield Guarded(request.param, url, api, app, asker, person, token)


@pytest.fixture(autouse=True)
def recorded(request: pytest.FixtureRequest, record_property: Record) -> None:
    if "guarded" in request.fixturenames:
        record_property("gateway", request.getfixturevalue("guarded").gateway)


@pytest.fixture
def front(guarded: Guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=30) as client:
        yield client


# ------------------------------------------------------------------------------------------------------ passes and refuses


def test_who_may_passes_and_the_api_is_told_who_it_is(front: httpx.Client, guarded: Guarded) -> None:
    got = ok(front.get("/orders/7?page=2&x=%2F", headers=bearer(guarded.token) | {"Cookie": "a=b"}))
    assert (got["method"], got["target"]) == ("GET", "/orders/7?page=2&x=%2F")
    headers = dict(got["headers"])
    assert headers["ledger-subject"] == guarded.person.subject_id
    assert headers["ledger-client"] == guarded.app.name
    assert headers["ledger-token-id"]
    assert int(headers["ledger-position"]) > 0
    assert headers["authorization"] == f"Bearer {guarded.token}"
    assert headers["cookie"] == "a=b"
    assert (guarded.asker.secret or "?") not in str(got)


REFUSED = [
    ("GET", "/orders/hidden", None, 403, "insufficient_scope"),
    ("GET", "/elsewhere", None, 403, "insufficient_scope"),
    ("POST", "/orders/7", None, 403, "insufficient_scope"),
    ("DELETE", "/orders/7", None, 403, "insufficient_scope"),
    ("GET", "/orders/7", "", 401, None),
    ("GET", "/orders/7", "Basic YTpi", 401, None),
    ("GET", "/orders/7", "Bearer x", 401, "invalid_token"),
    ("GET", "/orders/7", "Bearer " + "a" * 7_000, 401, "invalid_token"),
]


@pytest.mark.parametrize(("method", "target", "authorization", "status", "error"), REFUSED)
def test_who_may_not_does_not_reach_the_api_and_is_told_no_more_than_the_challenge(
    front: httpx.Client, guarded: Guarded, method: str, target: str, authorization: str | None, status: int, error: str | None
) -> None:
    sent = f"Bearer {guarded.token}" if authorization is None else authorization
    before = len(Api.asked)
    answer = front.request(method, target, headers={"Authorization": sent} if sent else {})
    assert answer.status_code == status
    assert len(Api.asked) == before
    challenge = 'Bearer realm="token-ledger"' + (f', error="{error}"' if error else "")
    if guarded.gateway == "nginx" and status == 403:
        assert "www-authenticate" not in answer.headers  # auth_request hands it on with 401 alone
    else:
        assert answer.headers.get_list("WWW-Authenticate") == [challenge]
    assert [name for name in answer.headers if name.startswith("ledger")] == []


def test_head_is_covered_by_get_and_bodies_reach_the_api_alone(
    front: httpx.Client, admin: httpx.Client, http: httpx.Client, guarded: Guarded
) -> None:
    assert front.head("/orders/7", headers=bearer(guarded.token)).status_code == 200
    assert front.head("/orders/hidden", headers=bearer(guarded.token)).status_code == 403
    writer = login(http, new_person(admin, f"{guarded.api}:writer"), guarded.app)["access_token"]
    got = ok(front.post("/orders/7", content="x" * 300_000, headers=bearer(writer)))
    assert (got["method"], len(got["body"])) == ("POST", 300_000)


def test_what_the_api_itself_refuses_is_left_as_it_is(front: httpx.Client, guarded: Guarded) -> None:
    for status in (401, 403, 404, 500, 503):
        answer = front.get("/orders/7", headers=bearer(guarded.token) | {"X-Answer-With": str(status)})
        assert (answer.status_code, answer.json()["target"]) == (status, "/orders/7")


def test_a_preflight_passes_where_the_api_says_so(front: httpx.Client, admin: httpx.Client, guarded: Guarded) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET", "Ledger-Subject": "root"}
    assert front.options("/orders/7", headers=asked).status_code == 401
    ok(admin.patch(f"/v1/apis/{guarded.api}", json={"preflights": True}))
    got = ok(front.options("/orders/7", headers=asked))
    assert (got["method"], got["target"]) == ("OPTIONS", "/orders/7")
    assert [value for name, value in got["headers"] if name.startswith("ledger") and name != "ledger-position" and value] == []
    assert front.get("/orders/7", headers=asked).status_code == 401
    ok(admin.patch(f"/v1/apis/{guarded.api}", json={"preflights": False}))
    assert front.options("/orders/7", headers=asked).status_code == 401


# --------------------------------------------------------------------------------------------------------- spoofed headers


def spoofed(guarded: Guarded) -> list[bytes]:
    return [
        b"Ledger-Gateway-Key: " + (guarded.asker.secret or "").encode(),
        b"X-Original-Method: GET",
        b"X-Original-URI: /orders/7",
        b"X-Forwarded-Method: GET",
        b"X-Forwarded-Uri: /orders/7",
        b"X-Forwarded-Host: elsewhere",
        b"X-HTTP-Method-Override: GET",
        b"X-Rewrite-URL: /orders/7",
        b"X-Envoy-Original-Path: /orders/7",
        b"Ledger-Subject: 00000000-0000-0000-0000-000000000000",
        b"ledger-subject: root",
        b"Ledger_Subject: root",
        b"Ledger-Client: root",
        b"Ledger-Token-Id: root",
        b"Ledger-Position: 1",
        b"Ledger-Reason: allowed",
    ]


def test_headers_that_a_client_makes_up_neither_decide_nor_reach_the_api(guarded: Guarded) -> None:
    token = b"Authorization: Bearer " + guarded.token.encode()
    before = len(Api.asked)
    assert raw(guarded.url, b"/elsewhere", token, *spoofed(guarded))[0] == 403
    assert raw(guarded.url, b"/orders/7", token, *spoofed(guarded), method=b"DELETE")[0] == 403
    assert raw(guarded.url, b"/orders/7", *spoofed(guarded))[0] == 401
    assert raw(guarded.url, b"/elsewhere?X-Forwarded-Uri=/orders/7&X-Original-URI=/orders/7", token)[0] == 403
    assert len(Api.asked) == before
    status, got = raw(guarded.url, b"/orders/8", token, *spoofed(guarded))
    assert (status, got["target"]) == (200, "/orders/8")
    headers = [(name, value) for name, value in got["headers"] if name.startswith("ledger")]
    assert sorted(name for name, _ in headers) == IDENTITY
    assert ("ledger-subject", guarded.person.subject_id) in headers


def test_a_client_cannot_have_the_identity_dropped_on_the_way(guarded: Guarded) -> None:
    token = b"Authorization: Bearer " + guarded.token.encode()
    for nominated in (b"Ledger-Subject", b"close, ledger-subject, Ledger-Client", b"Ledger-Gateway-Key", b"X-Forwarded-Uri"):
        status, got = raw(guarded.url, b"/orders/7", token, b"Connection: " + nominated)
        assert status in (200, 400)
        if status == 200:
            assert dict(got["headers"])["ledger-subject"] == guarded.person.subject_id


def test_a_second_token_beside_the_first_is_no_token(guarded: Guarded) -> None:
    token = b"Authorization: Bearer " + guarded.token.encode()
    before = len(Api.asked)
    for lines in ((token, b"Authorization: Bearer x"), (b"Authorization: Bearer x", token), (token, token)):
        assert raw(guarded.url, b"/orders/7", *lines)[0] in (400, 401, 503)
    assert len(Api.asked) == before


# ------------------------------------------------------------------------------------------------- one resource, three readers


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:40].decode("latin-1"))
def test_what_is_decided_on_is_what_reaches_the_api(
    http: httpx.Client, guarded: Guarded, target: bytes, record_property: Record
) -> None:
    """A gateway may write a target anew, or refuse it by itself: what passes is what the ledger says yes to, asked directly."""
    before = len(Api.asked)
    status, got = raw(guarded.url, target, b"Authorization: Bearer " + guarded.token.encode())
    record_property("passed", status == 200)
    if status != 200:
        assert status in (400, 403, 404, 414, 431, 503)
        assert len(Api.asked) == before
        assert TARGETS[target] != 200
        return
    assert len(Api.asked) == before + 1
    assert evaluate(http, guarded.asker, guarded.token, "GET", got["target"])["decision"] is True
    if TARGETS[target] == 200:
        assert got["target"].partition("?")[0] == target.decode().removeprefix("http://elsewhere").partition("?")[0]


# --------------------------------------------------------------------------------------------------------- revoked in between


def test_from_a_revocation_on_no_request_passes_on_connections_that_are_kept(
    admin: httpx.Client, http: httpx.Client, guarded: Guarded, record_property: Record
) -> None:
    issued = login(http, guarded.person, guarded.app)
    headers = bearer(issued["access_token"])
    stop = threading.Event()
    passing = threading.Barrier(3)

    def ask() -> list[tuple[float, int]]:
        answers = []
        with httpx.Client(base_url=guarded.url, timeout=30) as client:
            while not stop.is_set():
                began = time.monotonic()
                answers.append((began, client.get("/orders/7", headers=headers).status_code))
                if len(answers) == 10:
                    passing.wait()
        return answers

    with ThreadPoolExecutor(2) as threads:
        streams = [threads.submit(ask) for _ in range(2)]
        passing.wait()
        ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={"reason": "a test"}))
        acknowledged = time.monotonic()
        before = len(Api.asked)
        time.sleep(0.3)
        stop.set()
        answers = [answer for stream in streams for answer in stream.result()]
    assert {status for began, status in answers if began < acknowledged} <= {200, 401}
    after = [status for began, status in answers if began >= acknowledged]
    record_property("refused_after", after.count(401))
    record_property("passed_after", len(after) - after.count(401))
    assert len(after) >= 2
    assert set(after) == {401}
    assert len(Api.asked) <= before + 2  # what was under way when it was acknowledged


# ------------------------------------------------------------------------------------------------------- in doubt, nobody


def refused_in_doubt(url: str, token: str) -> None:
    before = len(Api.asked)
    answer = httpx.get(f"{url}/orders/7", headers=bearer(token), timeout=30)
    assert answer.status_code in (502, 503, 504)
    assert "Bearer" not in answer.headers.get("WWW-Authenticate", "")  # nothing is wrong with the token
    assert len(Api.asked) == before


def test_in_doubt_nobody_passes(ledger_server: Served, guarded: Guarded, api_port: int, tmp_path: Path) -> None:
    """Without a ledger, with one that does not answer, and as a gateway that it does not know."""
    _, run = GATEWAYS[guarded.gateway]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        doubts = [
            (f"http://127.0.0.1:{free_port()}", guarded.asker.secret or ""),
            (f"http://127.0.0.1:{silent.getsockname()[1]}", guarded.asker.secret or ""),
            (ledger_server.url, "tl_cs_nobody"),
        ]
        for number, (ledger, key) in enumerate(doubts):
            folder = tmp_path / str(number)
            folder.mkdir()
            with run(folder, ledger, key, api_port) as url:
                refused_in_doubt(url, guarded.token)


# ------------------------------------------------------------------------------------------------------------------ Traefik


def test_traefik_is_told_to_send_what_the_ledger_reads_and_to_hand_on_who_calls() -> None:
    """It is not run: what stands in the file is read, against what its documentation says of each option."""
    http = yaml.safe_load((DEPLOY / "traefik.yaml").read_text())["http"]
    middlewares = http["middlewares"]
    assert http["routers"]["api"]["middlewares"] == ["ledger"]
    chain = middlewares["ledger"]["chain"]["middlewares"]
    assert set(chain) == middlewares.keys() - {"ledger"}
    key, asked, dropped = (chain.index(name) for name in ("ledger-key", "ledger-decision", "ledger-key-dropped"))
    assert key < asked < dropped
    assert middlewares["ledger-key"]["headers"]["customRequestHeaders"] == {"Ledger-Gateway-Key": "GATEWAY_KEY"}
    assert middlewares["ledger-key-dropped"]["headers"]["customRequestHeaders"]["Ledger-Gateway-Key"] == ""
    forward = middlewares["ledger-decision"]["forwardAuth"]
    assert urlsplit(forward["address"]).path == "/gateway/forward"
    assert set(forward["authRequestHeaders"]) == {"Authorization", "Ledger-Gateway-Key"}
    assert sorted(name.lower() for name in forward["authResponseHeaders"]) == IDENTITY
    assert "trustForwardHeader" not in forward
    assert json.dumps(http).count("stripPrefix") == 0
