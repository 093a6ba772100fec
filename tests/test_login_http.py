"""A login in vain tells nothing: the same status, headers and words, and the same work, whatever is wrong.

Work is counted here, in statements, seals opened and hashes computed; time is measured by `make acceptance`.
"""

import itertools
import json
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import argon2
import httpx
import psycopg
import pytest
from falcon.asgi import Request
from falcon.testing import create_scope
from psycopg.conninfo import make_conninfo

from api.people import check_password_of
from api.service import Service, make_service
from ledger import sealing
from ledger.embedded import EmbeddedPostgres
from ledger.sealing import MasterKey
from ledger.settings import Settings
from tests.calls import PASSWORD, first_party, login, new_client, new_person, nothing_recorded, ok, refused, unique
from tests.conftest import FAST
from tests.postgres import create_database, running_server
from tests.serving import MASTER_KEY, Served, served


def attempts_in_vain(admin: httpx.Client) -> dict[str, dict[str, str]]:
    """Set people up, and answer the login bodies that nothing may tell apart, each by what is wrong with it."""
    standing, suspended, erased = (new_person(admin, name=name) for name in ("standing", "suspended", "erased"))
    ok(admin.post(f"/v1/subjects/{suspended.subject_id}/suspend", json={"reason": "a test"}))
    ok(admin.post(f"/v1/subjects/{erased.subject_id}/erase", json={}))
    without = unique("without-password")
    ok(admin.post("/v1/subjects", json={"username": without}), 201)
    wrong = "wrong horse battery!!"  # as long as the right one
    return {
        "unknown user": {"username": unique("nobody"), "password": PASSWORD},
        "wrong password": {"username": standing.username, "password": wrong},
        "suspended user": {"username": suspended.username, "password": PASSWORD},
        "suspended user, wrong password": {"username": suspended.username, "password": wrong},
        "user without password": {"username": without, "password": PASSWORD},
        "erased user": {"username": erased.username, "password": PASSWORD},
    }


# Each attempt comes from an address of its own: what too many of them do is another matter (test_guessing_http.py).
SETTINGS = {"TOKEN_LEDGER_TRUSTED_PROXIES": "127.0.0.0/8"}
_addresses = itertools.count(1)


def address() -> str:
    """Answer an address that nobody else in this run has."""
    number = next(_addresses)
    return f"10.0.{number >> 8}.{number & 255}"


def attempt_login(http: httpx.Client, attempt: dict[str, str]) -> httpx.Response:
    return http.post("/login", json=attempt, headers={"X-Forwarded-For": address()})


# Those that can be no name are one name to the budgets, which allow twenty attempts.
ODD: dict[str, dict[str, str]] = {
    "no name": {"username": "", "password": PASSWORD},
    "a name of spaces": {"username": "   ", "password": PASSWORD},
    "a name with a control character": {"username": "ann\u0007", "password": PASSWORD},
    "a name with an invisible character": {"username": "ann\u200b", "password": PASSWORD},
    "an endless name": {"username": "a" * 20_000, "password": PASSWORD},
    "an endless name that grows": {"username": "\ufdfa" * 20_000, "password": PASSWORD},
    "an endless password": {"username": "nobody", "password": "p" * 20_000},
    "no password": {"username": "nobody", "password": ""},
}


@pytest.fixture(scope="module")
def attempts(ledger_server: Served) -> dict[str, dict[str, str]]:
    with ledger_server.admin() as admin:
        return attempts_in_vain(admin)


# --------------------------------------------------------------------------------------------------------- what it says

VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def told(answer: httpx.Response) -> str:
    """Answer all that an answer tells, without its own ids and the time."""
    headers = [(name, value) for name, value in answer.headers.items() if name != "date"]
    return VARYING.sub("id", json.dumps([answer.status_code, headers, answer.text]))


def test_whatever_is_wrong_the_answer_is_the_same(http: httpx.Client, attempts: dict[str, dict[str, str]]) -> None:
    answers = {name: attempt_login(http, attempt) for name, attempt in (attempts | ODD).items()}
    refused(next(iter(answers.values())), 401, "login_refused")
    assert len({told(answer) for answer in answers.values()}) == 1, {name: told(a) for name, a in answers.items()}


def test_the_same_at_the_token_endpoint(http: httpx.Client, admin: httpx.Client, attempts: dict[str, dict[str, str]]) -> None:
    app = first_party(admin)
    answers = {
        name: http.post(
            "/oauth/token",
            data=attempt | {"grant_type": "password", "client_id": app.name},
            headers={"X-Forwarded-For": address()},
        )
        for name, attempt in (attempts | ODD).items()
        if attempt["username"] and attempt["password"]  # RFC 6749 section 3.2: sent without a value = omitted
    }
    assert {answer.status_code for answer in answers.values()} == {400}
    assert {answer.json()["error"] for answer in answers.values()} == {"invalid_grant"}
    assert len({told(answer) for answer in answers.values()}) == 1


def test_a_client_that_may_not_log_people_in_tells_nothing_of_them_either(
    http: httpx.Client, admin: httpx.Client, attempts: dict[str, dict[str, str]]
) -> None:
    app = new_client(admin, kind="public")
    right = new_person(admin)
    answers = [
        attempt_login(http, attempt | {"client_id": app.name})
        for attempt in (*attempts.values(), {"username": right.username, "password": right.password})
    ]
    assert len({told(answer) for answer in answers}) == 1
    assert answers[0].status_code == 401


def test_a_login_in_vain_records_nothing(http: httpx.Client, attempts: dict[str, dict[str, str]]) -> None:
    with nothing_recorded(http):
        for attempt in attempts.values():
            attempt_login(http, attempt)


@pytest.mark.parametrize(
    "body",
    [
        b'{"username": "ann\\u0000", "password": "x"}',
        b'{"username": "\\ud800", "password": "x"}',
        b'{"username": 7, "password": "x"}',
        b'{"username": "ann"}',
        b'{"username": "ann", "password": "x", "admin": true}',
    ],
    ids=["NUL", "surrogate", "number", "missing", "unknown member"],
)
def test_what_no_name_can_be_written_with_is_refused_at_the_door_before_anybody_is_looked_for(
    http: httpx.Client, body: bytes
) -> None:
    refused(http.post("/login", content=body, headers={"Content-Type": "application/json"}), 400, "invalid_input")


# ------------------------------------------------------------------------------------------------------------ the same work


@dataclass
class Work:
    """What an attempt makes the service do."""

    statements: list[str] = field(default_factory=list)
    seals_opened: list[int] = field(default_factory=list)  # by their length
    hashes: list[tuple[int, int, int]] = field(default_factory=list)


@pytest.fixture
async def service(ledger_server: Served) -> AsyncIterator[Service]:
    """The parts of a worker of our own, on the server's database."""
    conninfo = make_conninfo(ledger_server.owner, user="ledger_service")
    settings = Settings(password_memory_kib=19_456, password_passes=2)
    service = make_service(settings, MasterKey.from_text(MASTER_KEY), conninfo)
    await service.start()
    yield service
    await service.stop()


def request() -> Request:
    """Make a request that comes from an address of its own."""
    scope = create_scope() | {"client": (address(), 1)}
    return Request(scope, lambda: pytest.fail("it has no body"))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Counts what is done from here on, where it is done."""
    work = Work()
    execute, unseal, verify = psycopg.AsyncConnection.execute, sealing._Sealer.unseal, argon2.PasswordHasher.verify

    async def counted_execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        work.statements.append(query)
        return await execute(self, query, *args, **kwargs)

    def counted_unseal(self: Any, sealed: bytes, context: str) -> bytes:
        work.seals_opened.append(len(sealed))
        return unseal(self, sealed, context)

    def counted_verify(self: Any, encoded: Any, password: Any) -> Any:
        parameters = argon2.extract_parameters(encoded)
        work.hashes.append((parameters.memory_cost, parameters.time_cost, parameters.parallelism))
        return verify(self, encoded, password)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted_execute)
    monkeypatch.setattr(sealing._Sealer, "unseal", counted_unseal)
    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted_verify)
    return work


@pytest.mark.anyio
async def test_whatever_is_wrong_the_same_statements_seals_and_one_hash_are_the_work(
    service: Service, work: Work, attempts: dict[str, dict[str, str]]
) -> None:
    done: dict[str, Work] = {}
    for name, attempt in (attempts | ODD).items():
        work.statements, work.seals_opened, work.hashes = [], [], []
        assert await check_password_of(request(), service, attempt["username"], attempt["password"]) is None
        done[name] = Work(work.statements, work.seals_opened, work.hashes)
    first = done["wrong password"]
    assert len(first.statements) == 4  # the name, the attempt, the subject, its key
    assert len(first.seals_opened) == 2
    assert first.hashes == [(19_456, 2, 1)]
    assert {name: each for name, each in done.items() if each != first} == {}


@pytest.mark.anyio
async def test_the_right_password_costs_no_other_work(service: Service, work: Work, admin: httpx.Client) -> None:
    person = new_person(admin)
    assert await check_password_of(request(), service, person.username, person.password) is not None
    assert (len(work.statements), len(work.seals_opened), len(work.hashes)) == (6, 2, 1)  # and the attempt given back


# ------------------------------------------------------------------------------------------------- more than can be hashed


@pytest.fixture(scope="module")
def postgres() -> Any:
    with running_server(None, FAST) as server:
        yield server


def test_logins_beyond_the_bound_are_told_to_come_again_and_nothing_of_whom_they_were_for(postgres: EmbeddedPostgres) -> None:
    owner = create_database(postgres, "busy")
    service = postgres.conninfo("ledger_service", "busy")
    # One at once, none waiting, each long enough to meet the others.
    bound = served(
        service,
        owner,
        workers=1,
        TOKEN_LEDGER_PASSWORD_HASHES_AT_ONCE="1",
        TOKEN_LEDGER_PASSWORD_HASHES_WAITING="0",
        TOKEN_LEDGER_PASSWORD_PASSES="20",
        TOKEN_LEDGER_TRUSTED_PROXIES="127.0.0.0/8",
    )
    with bound as server, server.admin() as admin, server.client() as http:
        person = new_person(admin)
        bodies = [{"username": name, "password": PASSWORD} for name in (person.username, "nobody")] * 6

        with ThreadPoolExecutor(len(bodies)) as threads:
            answers = list(threads.map(lambda body: attempt_login(http, body), bodies))
        busy = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} <= {200, 401, 503}
        assert busy
        for answer in busy:
            refused(answer, 503, "hashing_busy")
            assert answer.headers["Retry-After"] == "1"
        assert len({told(answer) for answer in busy}) == 1
        # Nobody else waits for them, and the place is given back.
        assert ok(httpx.get(f"{server.url}/readyz"))
        assert login(http, person)["access_token"]
