"""deploy/nginx.conf in a real nginx: what of it is nginx's own, each target by its status, and that a doubt lets nobody in.

What is so with every gateway: test_gateways.py.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from ledger.token_strings import new_secret, write
from tests.calls import App, Person, bearer, evaluate, first_party, login, new_api, new_client, new_person, ok, resource_server
from tests.nginx import NGINX, Api, running_api, running_nginx
from tests.serving import Served, free_port

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

ROLES = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden", "allow GET /a%20b/{id}", "allow GET /caf%C3%A9"],
    "writer": ["allow POST /orders/**"],
}


@dataclass(frozen=True)
class Guarded:
    """An API behind nginx, somebody who may read it, and somebody who asks the ledger himself."""

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


@pytest.fixture(scope="module")
def guarded(ledger_server: Served, api_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, ROLES)
        app, asker, person = first_party(admin, api), resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, app)["access_token"]
    assert asker.secret is not None
    with running_nginx(tmp_path_factory.mktemp("nginx"), ledger_server.url, asker.secret, api_port) as url:
        yield Guarded(url, api, app, asker, person, token)


@pytest.fixture
def front(guarded: Guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=30) as client:
        yield client


def raw(url: str, target: bytes, *headers: bytes, method: bytes = b"GET") -> tuple[int, dict[str, Any]]:
    """Ask for a target byte for byte; the status, and what the API says it got."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        lines = [method + b" " + target + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""]
        connection.sendall(b"\r\n".join(lines))
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if status == 200 and body else {}


def test_the_location_that_asks_is_not_there_from_outside(front: httpx.Client, guarded: Guarded) -> None:
    before = len(Api.asked)
    for target in (b"/_ledger_decision", b"/_ledger_decision?x", b"/%5fledger_decision", b"/x/../_ledger_decision"):
        assert raw(guarded.url, target, b"Authorization: Bearer " + guarded.token.encode())[0] == 404
    assert len(Api.asked) == before


# ------------------------------------------------------------------------------------------------- one resource, three readers

TARGETS: dict[bytes, int] = {
    # decided on and passed on byte for byte
    b"/orders/7": 200,
    b"/orders/": 200,
    b"/orders/%37": 200,
    b"/%6frders/7": 200,
    b"/orders/a%3Fb": 200,
    b"/orders/a%23b": 200,
    b"/orders/a,b:c@d!$&'()*+=~": 200,
    b"/orders/...": 200,
    b"/a%20b/1": 200,
    b"/caf%C3%A9": 200,
    b"/orders/7?": 200,
    b"/orders/7?a=/../b&c=//;d": 200,
    b"http://elsewhere/orders/7": 200,
    # other resources, whatever nginx makes of them to choose a location
    b"/orders": 403,
    b"/Orders/7": 403,
    b"/orders%2F7": 403,
    b"/orders/hidden": 403,
    b"/orders/hid%64en": 403,
    b"/orders/hidden?x": 403,
    # what two readers could take for different resources
    b"//orders/7": 403,
    b"/orders//7": 403,
    b"/orders/7//": 403,
    b"/orders/./7": 403,
    b"/orders/x/../7": 403,
    b"/orders/../orders/7": 403,
    b"/elsewhere/../orders/7": 403,
    b"/elsewhere/%2e%2e/orders/7": 403,
    b"/orders/%2e%2e/elsewhere": 403,
    b"/orders/..%2felsewhere": 403,
    b"/orders/%2f7": 403,
    b"/orders/%5c..%5c7": 403,
    b"/orders/\\7": 403,
    b"/orders/7;v=1": 403,
    b"/orders/..;/elsewhere": 403,
    b"/orders/%3b": 403,
    b"/orders/%252e%252e/elsewhere": 403,
    b"/orders/%0a": 403,
    b"/orders/%ff": 403,
    b"/orders/%c0%ae%c0%ae/elsewhere": 403,
    b"/orders/\xc3\xa9": 403,
    b"/orders/\xe9": 403,
    b"/orders/7#top": 403,
    b"/" + b"x/" * 70: 403,
    # what nginx refuses itself
    b"/orders/%": 400,
    b"/orders/%zz": 400,
    b"/orders/%00": 400,
    b"/orders/../../etc/passwd": 400,
    b"/orders/\x017": 400,
    b"orders/7": 400,
    b"*": 400,
    b"/orders/" + b"a" * 9_000: 414,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:40].decode("latin-1"))
def test_what_is_decided_on_is_what_is_passed_on(http: httpx.Client, guarded: Guarded, target: bytes) -> None:
    before = len(Api.asked)
    status, got = raw(guarded.url, target, b"Authorization: Bearer " + guarded.token.encode())
    assert status == TARGETS[target]
    path = target.decode("latin-1").removeprefix("http://elsewhere")
    if status == 200:
        assert got["target"] == path
    else:
        assert len(Api.asked) == before
    if status in (200, 403):
        # The ledger, asked about the same target directly, says the same.
        assert evaluate(http, guarded.asker, guarded.token, "GET", path)["decision"] == (status == 200)


# --------------------------------------------------------------------------------------------------------- revoked in between


def test_from_a_revocation_on_no_request_passes_and_what_was_passed_before_is_finished(
    admin: httpx.Client, http: httpx.Client, guarded: Guarded
) -> None:
    issued = login(http, guarded.person, guarded.app)
    headers = bearer(issued["access_token"])
    stop = threading.Event()

    def ask() -> list[tuple[float, int]]:
        answers = []
        with httpx.Client(base_url=guarded.url, timeout=30) as client:
            while not stop.is_set():
                began = time.monotonic()
                answers.append((began, client.get("/orders/7", headers=headers).status_code))
        return answers

    def ask_slowly() -> httpx.Response:
        return httpx.get(f"{guarded.url}/orders/7", headers=headers | {"X-Answer-Slowly": "1.5"}, timeout=30)

    with ThreadPoolExecutor(5) as threads:
        slow = threads.submit(ask_slowly)
        streams = [threads.submit(ask) for _ in range(4)]
        time.sleep(0.7)
        ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={"reason": "a test"}))
        acknowledged = time.monotonic()
        time.sleep(0.5)
        stop.set()
        answers = [answer for stream in streams for answer in stream.result()]
    before = {status for began, status in answers if began < acknowledged}
    after = [status for began, status in answers if began >= acknowledged]
    assert 200 in before
    assert len(after) > 10
    assert set(after) == {401}
    assert slow.result().status_code == 200  # it was let in before, and a stream is not cut off


# ------------------------------------------------------------------------------------------------------- in doubt, nobody


def refused_in_doubt(url: str, token: str) -> httpx.Response:
    before = len(Api.asked)
    answer = httpx.get(f"{url}/orders/7", headers=bearer(token), timeout=30)
    assert answer.status_code == 503
    assert len(Api.asked) == before
    return answer


def test_without_a_ledger_nobody_passes(guarded: Guarded, api_port: int, tmp_path: Path) -> None:
    with running_nginx(tmp_path, f"http://127.0.0.1:{free_port()}", guarded.asker.secret or "", api_port) as url:
        assert refused_in_doubt(url, guarded.token).headers["Retry-After"] == "1"


def test_a_gateway_that_the_ledger_does_not_know_lets_nobody_pass_and_does_not_blame_their_tokens(
    ledger_server: Served, admin: httpx.Client, guarded: Guarded, api_port: int, tmp_path: Path
) -> None:
    serves_none = new_client(admin, grants=["client_credentials"], apis=[guarded.api])
    for number, key in enumerate(("tl_cs_", write("client", uuid4(), new_secret()), serves_none.secret or "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with running_nginx(folder, ledger_server.url, key, api_port) as url:
            assert "Bearer" not in refused_in_doubt(url, guarded.token).headers.get("WWW-Authenticate", "")


def test_a_gateway_of_another_api_lets_no_token_of_this_one_pass(
    ledger_server: Served, admin: httpx.Client, guarded: Guarded, api_port: int, tmp_path: Path
) -> None:
    other = resource_server(admin, new_api(admin, {}, "elsewhere"))
    with running_nginx(tmp_path, ledger_server.url, other.secret or "", api_port) as url:
        assert httpx.get(f"{url}/orders/7", headers=bearer(guarded.token)).status_code == 401
