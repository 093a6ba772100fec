"""The running server: requests that are none, workers and databases that go away, and what its log never says."""

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from ledger.embedded import EmbeddedPostgres
from ledger.token_strings import new_secret, write
from tests.calls import (
    PASSWORD,
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    gateway,
    introspect,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    refused,
    resource_server,
    unique,
)
from tests.conftest import FAST
from tests.postgres import create_database, running_server
from tests.serving import MASTER_KEY, Served, served, wait_until_ready

# ------------------------------------------------------------------------------------------------------- requests that are none


def raw(server: Served, request: bytes, *, then_close: bool = False) -> bytes:
    """Send bytes and answer what comes until the server closes, or nothing more comes for a while."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(request)
        if then_close:
            return b""
        connection.settimeout(0.5)
        answer = b""
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except TimeoutError:
            pass
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
REQUESTS: dict[str, tuple[bytes, int]] = {
    "raw bytes in the query": (b"GET /healthz?\xff HTTP/1.1\r\n" + HOST, 400),
    "raw bytes in the path": (b"GET /\xff HTTP/1.1\r\n" + HOST, 400),
    "encoded bytes that are no text": (b"GET /%ff HTTP/1.1\r\n" + HOST, 404),
    "an encoded NUL": (b"GET /healthz%00 HTTP/1.1\r\n" + HOST, 404),
    "an encoded slash": (b"GET /%2fhealthz HTTP/1.1\r\n" + HOST, 404),
    "two slashes": (b"GET //healthz HTTP/1.1\r\n" + HOST, 404),
    "dots": (b"GET /v1/../healthz HTTP/1.1\r\n" + HOST, 404),
    "a semicolon": (b"GET /healthz;x HTTP/1.1\r\n" + HOST, 404),
    "the server itself": (b"OPTIONS * HTTP/1.1\r\n" + HOST, 404),
    "an absolute target": (b"GET http://x/healthz HTTP/1.1\r\n" + HOST, 200),
    "an absolute target without a path": (b"GET http://x HTTP/1.1\r\n" + HOST, 400),
    "a tunnel": (b"CONNECT x:1 HTTP/1.1\r\n" + HOST, 400),
    "HTTP/0.9": (b"GET /healthz\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 400),
    "TLS": (b"\x16\x03\x01\x00\xa0" + b"a" * 100, 400),
    "line feeds alone": (b"GET /healthz HTTP/1.1\nHost: x\n", 400),
    "an unknown method": (b"FOO /healthz HTTP/1.1\r\n" + HOST, 400),
    "another method": (b"HEAD /healthz HTTP/1.1\r\n" + HOST, 405),
    "a folded header": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n", 400),
    "a space before the colon": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X : a\r\n", 400),
    "a NUL in a header": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n", 400),
    "latin-1 in ids": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Request-Id: \xe9\r\nX-Correlation-Id: \xff\r\n", 200),
    "latin-1 in Authorization": (b"GET /v1/me HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xe9\xff\r\n", 401),
    "a header of 20 KiB": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n", 431),
    "a header of 64 KiB": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65_536 + b"\r\n", 431),
    "1,000 headers": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"".join(b"X%d: a\r\n" % n for n in range(1_000)), 200),
    "5,000 headers": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"".join(b"X%d: a\r\n" % n for n in range(5_000)), 431),
    "a target of 9 KiB": (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST, 414),
    "a query of 9 KiB": (b"GET /healthz?" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST, 414),
    "a length that is no number": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: ten\r\n", 400),
    "a negative length": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n", 400),
    "two lengths": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 3\r\n", 400),
    "a length and chunks": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
    "an unknown encoding": (b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n", 400),
    "a length over the limit": (b"POST /login HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 300000\r\n", 0),
    "no content type": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n", 415),
    "latin-1 as content type": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Type: \xe9\r\nContent-Length: 0\r\n", 415),
    "no body": (b"POST /login HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 0\r\n", 400),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_is_no_request_of_ours_is_refused_and_is_no_error_of_the_server(ledger_server: Served, what: str) -> None:
    request, status = REQUESTS[what]
    assert status_of(raw(ledger_server, request + b"\r\n")) == status
    assert httpx.get(f"{ledger_server.url}/healthz").status_code == 200


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def test_a_body_over_the_limit_is_refused_in_chunks_too(ledger_server: Served) -> None:
    begin = b"POST /login HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    assert status_of(raw(ledger_server, begin + chunked(*[b" " * 60_000] * 5) + b"0\r\n\r\n")) == 413
    exactly = json.dumps({"username": "nobody", "password": "x"}).encode()
    exactly += b" " * (256 * 1024 - len(exactly))
    assert status_of(raw(ledger_server, begin + chunked(exactly) + b"0\r\n\r\n")) == 401
    assert status_of(raw(ledger_server, begin + chunked(exactly, b" ") + b"0\r\n\r\n")) == 413


def test_a_length_that_lies_makes_two_requests_of_which_the_second_is_none(ledger_server: Served) -> None:
    answer = raw(ledger_server, b"POST /login HTTP/1.1\r\n" + HOST + JSON + b'Content-Length: 1\r\n\r\n{"username": "x"}')
    assert status_of(answer) == 400


def test_requests_one_behind_the_other_are_answered_in_their_order(ledger_server: Served) -> None:
    paths = ["/healthz", "/nothing", "/v1/me", "/healthz"] * 5
    answer = raw(ledger_server, b"".join(b"GET %b HTTP/1.1\r\n" % path.encode() + HOST + b"\r\n" for path in paths))
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 401, 200] * 5


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(ledger_server: Served) -> None:
    answer = raw(
        ledger_server,
        b"POST /login HTTP/1.1\r\n" + HOST + JSON + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    )
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 400 " in answer


def test_an_answer_to_a_body_of_wrong_members_is_not_as_long_as_the_body(http: httpx.Client) -> None:
    answer = http.post("/login", json={f"member-{number}": number for number in range(10_000)})
    assert len(refused(answer, 400, "invalid_input")["problems"]) == 50
    assert len(answer.content) < 20_000


def management(admin: httpx.Client, method: str, path: str, headers: bytes) -> bytes:
    token = admin.headers["Authorization"].encode()
    return f"{method} {path} HTTP/1.1\r\n".encode() + HOST + b"Authorization: " + token + b"\r\n" + JSON + headers + b"\r\n"


@pytest.mark.parametrize(
    ("verb", "body"),
    [("suspend", b'{"reason": "half of what was meant"}'), ("revoke-tokens", b""), ("revoke-tokens", b"{}"), ("erase", b"")],
)
@pytest.mark.parametrize("how", ["chunks", "length"])
def test_a_command_whose_sender_goes_before_its_end_is_not_carried_out(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, verb: str, body: bytes, how: str
) -> None:
    person = new_person(admin)
    token = login(http, person)["access_token"]
    path = f"/v1/subjects/{person.subject_id}/{verb}"
    with nothing_recorded(http):
        if how == "chunks":
            begin = management(admin, "POST", path, b"Transfer-Encoding: chunked\r\n")
            raw(ledger_server, begin + (chunked(body) if body else b""), then_close=True)
        else:
            begin = management(admin, "POST", path, b"Content-Length: %d\r\n" % (len(body) + 20))
            raw(ledger_server, begin + body, then_close=True)
        time.sleep(0.3)  # that nothing happens has no event
    assert http.get("/v1/me", headers=bearer(token)).status_code == 200


def test_a_command_is_carried_out_with_a_body_in_chunks(ledger_server: Served, admin: httpx.Client) -> None:
    person = new_person(admin)
    for verb, body in (("suspend", b'{"reason": "chunks"}'), ("revoke-tokens", b"{}"), ("reinstate", b"")):
        begin = management(admin, "POST", f"/v1/subjects/{person.subject_id}/{verb}", b"Transfer-Encoding: chunked\r\n")
        answer = raw(ledger_server, begin + (chunked(body) if body else b"") + b"0\r\n\r\n")
        assert status_of(answer) == 200, answer


# --------------------------------------------------------------------------------------------------- what the log never says


def test_no_log_line_holds_a_secret_whatever_was_asked(own: "Own") -> None:
    server, secrets = own.served, {own.served.password, MASTER_KEY, PASSWORD}
    with server.admin() as admin, server.client() as http:
        secrets.add(admin.headers["Authorization"].removeprefix("Bearer "))
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        asker = resource_server(admin, api)
        secrets.add(asker.secret or "")
        person = new_person(admin, f"{api}:reader", email="ann@secret.example")
        secrets |= {person.username, "ann@secret.example", "wrong horse battery"}
        for strategy in ("opaque", "encrypted", "jwt", "jwe"):
            app = first_party(admin, api, strategy=strategy, refresh="rotating")
            issued = login(http, person, app)
            again = ok(refresh(http, app, issued["refresh_token"]))
            tokens = [issued["access_token"], issued["refresh_token"], again["access_token"], again["refresh_token"]]
            secrets |= set(tokens)
            for token in tokens:
                evaluate(http, asker, token)
                introspect(http, asker, token)
                gateway(http, asker, token)
                broken = token[:-3] + "AAA"
                secrets.add(broken)
                evaluate(http, asker, broken)
                http.get("/v1/me", headers=bearer(broken))
                http.get(f"/v1/me?token={token}", headers=bearer(token))
                http.get(f"/{token}")
            refresh(http, app, issued["refresh_token"])
        forged = write("client", person_id(person), new_secret())
        secrets.add(forged)
        http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(asker.name, forged))
        http.post("/login", json={"username": person.username, "password": "wrong horse battery"})
        http.post(
            "/login",
            content=f'{{"password": "{PASSWORD}", "username": "{person.username}"',
            headers={"Content-Type": "application/json"},
        )
        http.post("/login", json={"username": person.username, "password": [PASSWORD], PASSWORD: 1})
        http.post(
            "/oauth/token",
            content=f"password={PASSWORD}&password={PASSWORD}%ff",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        admin.post("/v1/subjects", json={"username": person.username, "password": PASSWORD})
        admin.post("/v1/subjects", json={"username": unique("bob"), "password": "short " + PASSWORD * 90})
        raw(server, b"GET /\xff" + PASSWORD.encode() + b" HTTP/1.1\r\nAuthorization: Bearer " + forged.encode() + b"\r\n\r\n")
        basic = base64.b64encode(f"{asker.name}:{asker.secret}".encode()).decode()
        secrets.add(basic)
        http.post("/oauth/introspect", data={"token": "x"}, headers={"Authorization": f"Basic {basic}x"})
        # With the database failing under them, and with a value that no column takes.
        own.kill_backends()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: evaluate_status(http, asker, issued["access_token"]), range(30)))
            own.kill_backends()
            list(threads.map(lambda _: login_status(http, person), range(4)))
        wait_until_ready(server.url)
    assert server.log is not None
    log = server.log.read_text()
    assert "Invalid HTTP request" in log  # it is the log
    for secret in secrets:
        assert secret
        assert secret not in log
    assert "Traceback" not in log


def person_id(person: Person) -> Any:
    from uuid import UUID

    return UUID(person.subject_id)


def evaluate_status(http: httpx.Client, asker: App, token: str) -> int:
    question = {"subject": {"type": "token", "id": token}, "action": {"name": "GET"}, "resource": {"type": "route", "id": "/x"}}
    return http.post("/access/v1/evaluation", json=question, auth=asker.auth).status_code


def login_status(http: httpx.Client, person: Person) -> int:
    body = {"username": person.username, "password": person.password}
    return http.post("/login", json=body, timeout=60).status_code


# ----------------------------------------------------------------------------------------- workers and databases that go away


class Own:
    """A server with a PostgreSQL of its own, which may be stopped."""

    def __init__(self, postgres: EmbeddedPostgres, running: Served) -> None:
        self.postgres = postgres
        self.served = running

    def workers(self) -> set[int]:
        """Answer the pids of the workers."""
        pid = self.served.process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def kill_backends(self) -> None:
        """Kill every connection of the service."""
        with psycopg.connect(self.served.owner, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger_service'")

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Stop PostgreSQL for a while."""
        self.postgres.stop()
        try:
            yield
        finally:
            self.postgres.start()


with_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    with running_server(None, FAST) as postgres:
        owner = create_database(postgres, "ledger")
        log = tmp_path_factory.mktemp("own") / "server.log"
        with served(postgres.conninfo("ledger_service", "ledger"), owner, log=log, TOKEN_LEDGER_LOG_LEVEL="debug") as running:
            yield Own(postgres, running)


def takes_connections(server: Served) -> bool:
    try:
        httpx.get(f"{server.url}/healthz", timeout=5)
    except httpx.TransportError:
        return False
    return True


def until(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@with_proc
def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(own: Own) -> None:
    before = own.workers()
    assert len(before) == 2
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(own.workers()) == 2 and victim not in own.workers())
    assert own.served.process.poll() is None
    wait_until_ready(own.served.url)
    with own.served.admin() as admin:
        assert ok(admin.get("/v1/me"))


def test_connections_of_the_database_that_are_killed_cost_503_at_most(own: Own) -> None:
    with own.served.admin() as admin, own.served.client() as http:
        api = new_api(admin, {"reader": ["allow GET /**"]})
        asker, person = resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, first_party(admin, api))["access_token"]
        statuses: set[int] = set()
        with ThreadPoolExecutor(8) as threads:
            for _ in range(3):
                asked = [threads.submit(evaluate_status, http, asker, token) for _ in range(30)]
                asked += [threads.submit(login_status, http, person) for _ in range(2)]
                own.kill_backends()
                statuses |= {each.result() for each in asked}
        assert statuses <= {200, 503}
        assert 200 in statuses
        until(lambda: evaluate_status(http, asker, token) == 200)


@with_proc
def test_without_its_database_everything_is_503_with_a_time_to_try_again_and_then_as_before(
    own: Own,
) -> None:
    with own.served.admin() as admin, own.served.client() as http:
        api = new_api(admin, {"reader": ["allow GET /**"]})
        asker, person = resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, first_party(admin, api))["access_token"]
        question = {
            "subject": {"type": "token", "id": token},
            "action": {"name": "GET"},
            "resource": {"type": "route", "id": "/x"},
        }
        calls: dict[str, Callable[[], httpx.Response]] = {
            "evaluation": lambda: http.post("/access/v1/evaluation", json=question, auth=asker.auth),
            "introspection": lambda: http.post("/oauth/introspect", data={"token": token}, auth=asker.auth),
            "gateway": lambda: gateway(http, asker, token),
            "login": lambda: http.post("/login", json={"username": person.username, "password": PASSWORD}),
            "management": lambda: admin.get("/v1/apis"),
            "a command": lambda: admin.post(f"/v1/apis/{api}/roles", json={"name": unique("role")}),
            "keys": lambda: http.get("/.well-known/jwks.json"),
            "readiness": lambda: http.get("/readyz"),
        }
        with own.without_database():
            for name, call in calls.items():
                answer = call()
                assert answer.status_code == 503, name
                assert int(answer.headers["Retry-After"]) >= 1, name
                assert answer.headers["Cache-Control"] == "no-store"
            assert http.get("/healthz").status_code == 200
            # A worker that has to start meanwhile starts.
            victim = min(own.workers())
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(own.workers()) == 2 and victim not in own.workers())
            time.sleep(1)
            assert own.served.process.poll() is None
            assert http.get("/readyz").status_code == 503
        for name, call in calls.items():
            until(lambda call=call: call().status_code in (200, 201), 15)  # type: ignore[misc] # bound as it is now
            assert name


def test_a_database_that_stalls_costs_503_within_seconds_and_holds_up_nobody_who_does_not_need_it(own: Own) -> None:
    with own.served.admin() as admin, own.served.client() as http:
        api = new_api(admin, {"reader": ["allow GET /**"]})
        asker, person = resource_server(admin, api), new_person(admin, f"{api}:reader")
        token = login(http, person, first_party(admin, api))["access_token"]
        with psycopg.connect(own.served.owner) as locking, ThreadPoolExecutor(64) as threads:
            locking.execute("LOCK TABLE views.tokens IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            asked = [threads.submit(evaluate_status, http, asker, token) for _ in range(150)]
            while not all(each.done() for each in asked):
                started = time.monotonic()
                assert http.get("/healthz").status_code == 200
                assert time.monotonic() - started < 3
                time.sleep(0.1)
            assert {each.result() for each in asked} == {503}
            assert time.monotonic() - began < 20
        assert evaluate_status(http, asker, token) == 200


def test_a_server_that_is_told_to_stop_answers_what_it_has_begun(own: Own) -> None:
    postgres = own.postgres
    owner = create_database(postgres, "stopping")
    service = postgres.conninfo("ledger_service", "stopping")
    with served(service, owner) as server, server.admin() as admin, server.client() as http, ThreadPoolExecutor(4) as threads:
        person = new_person(admin)
        with psycopg.connect(owner) as holding:
            holding.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
            begun = [threads.submit(login_status, http, person) for _ in range(4)]

            def waits() -> bool:
                with psycopg.connect(owner) as connection:
                    row = connection.execute(
                        "SELECT FROM pg_locks WHERE NOT granted AND relation = 'ledger.append_turn'::regclass"
                    ).fetchone()
                return row is not None

            until(waits)
            time.sleep(0.5)  # the passwords of the others are hashed
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not takes_connections(server))
            assert not any(each.done() for each in begun)
            assert server.process.poll() is None
        assert [each.result() for each in begun] == [200] * 4
        assert server.process.wait(20) == 0
