"""AuthZEN 1.0 over HTTP: users and subjects, the working group's own scenarios, the metadata.

Questions about tokens: test_decisions_http.py.

A case of others records what became of it, for acceptance (tests/acceptance/authzen.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import authzen
from tests.authzen import Case, in_our_words
from tests.calls import App, Person, first_party, login, new_api, new_person, ok, resource_server
from tests.serving import Served
from tests.vectors import vectors

Record = Callable[[str, object], None]


def asked(http: httpx.Client, asker: App, body: object, endpoint: str = "evaluation") -> httpx.Response:
    return http.post(f"/access/v1/{endpoint}", json=body, auth=asker.auth)


def question(kind: str, identifier: str, method: str = "GET", path: str = "/orders/7", **others: Any) -> dict[str, Any]:
    return {
        "subject": {"type": kind, "id": identifier},
        "action": {"name": method},
        "resource": {"type": "route", "id": path},
    } | others


# ------------------------------------------------------------------------------------------------------- users and subjects


@dataclass(frozen=True)
class World:
    """An API, somebody with roles of it and rules of his own, and who asks about it."""

    api: str
    asker: App
    app: App
    person: Person


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> Iterator[World]:
    roles = {
        "reader": ["allow GET /orders/**", "deny GET /orders/hidden", "allow GET /people/{sub}"],
        "cleared": ["allow GET /secrets clearance 5"],
    }
    with ledger_server.admin() as admin:
        api = new_api(admin, roles)
        person = new_person(admin, f"{api}:reader", f"{api}:cleared", clearance=3)
        rules = [{"api": api, "methods": ["PUT"], "path": "/direct/{id}"}]
        ok(admin.post(f"/v1/subjects/{person.subject_id}/rules", json={"rules": rules}))
        yield World(api, resource_server(admin, api), first_party(admin, api), person)


@pytest.fixture(scope="module")
def admin(ledger_server: Served) -> Iterator[httpx.Client]:
    with ledger_server.admin() as client:
        yield client


ROUTES = [
    ("GET", "/orders/7", "allowed"),
    ("HEAD", "/orders/7", "allowed"),
    ("GET", "/orders/hidden", "denied_by_rule"),
    ("GET", "/secrets", "insufficient_clearance"),
    ("PUT", "/direct/1", "allowed"),
    ("GET", "/nothing", "no_rule"),
    ("GET", "/orders/../7", "path_dot_segment"),
    ("get", "/orders/7", "bad_method"),
]


@pytest.mark.parametrize(("method", "path", "reason"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_a_user_is_decided_about_as_a_token_of_his_whole_scope_is(
    http: httpx.Client, world: World, method: str, path: str, reason: str
) -> None:
    token = login(http, world.person, world.app)["access_token"]
    ways = [("token", token), ("subject", world.person.subject_id)]
    ways += [(kind, name) for kind in ("user", "identity") for name in (world.person.username, world.person.username.upper())]
    answers = [ok(asked(http, world.asker, question(kind, identifier, method, path))) for kind, identifier in ways]
    first = answers[0]["context"]
    assert (answers[0]["decision"], first["reason"]) == (reason == "allowed", reason)
    for answer in answers[1:]:
        assert (answer["decision"], answer["context"]["reason"]) == (reason == "allowed", reason)
        assert answer["context"].get("rule") == first.get("rule")
        assert answer["context"].get("missing") == first.get("missing")
        assert answer["context"]["evidence"].items() <= first["evidence"].items()
        assert "token" not in answer["context"]


def test_one_s_own_path_is_one_s_own(http: httpx.Client, world: World) -> None:
    own = world.person.subject_id
    assert ok(asked(http, world.asker, question("subject", own, path=f"/people/{own}")))["decision"] is True


def test_of_whoever_has_nothing_to_do_with_the_api_nothing_is_told(
    http: httpx.Client, admin: httpx.Client, world: World
) -> None:
    other_api = new_api(admin, {"reader": ["allow GET /orders/**"]}, "elsewhere")
    elsewhere, nothing = new_person(admin, f"{other_api}:reader"), new_person(admin)
    ok(admin.post(f"/v1/subjects/{nothing.subject_id}/suspend", json={"reason": "a test"}))
    unknown = [("user", "nobody at all"), ("subject", "00000000-0000-0000-0000-000000000000")]
    unknown += [("user", elsewhere.username), ("subject", elsewhere.subject_id), ("user", nothing.username)]
    told = []
    for kind, identifier in unknown:
        answer = ok(asked(http, world.asker, question(kind, identifier)))
        told.append({name: value for name, value in answer["context"].items() if name not in ("position", "instant")})
        assert answer["decision"] is False
    assert told == [told[0]] * len(unknown)
    assert (told[0]["reason"], told[0]["evidence"]) == ("unknown_subject", {})


def test_a_subject_stands_or_not_and_its_api_with_it(http: httpx.Client, admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    asker, person = resource_server(admin, api), new_person(admin, f"{api}:reader")

    def reason() -> str:
        found: str = ok(asked(http, asker, question("user", person.username)))["context"]["reason"]
        return found

    assert reason() == "allowed"
    before = ok(asked(http, asker, question("user", person.username)))["context"]["position"]
    for path, suspended in ((f"/v1/subjects/{person.subject_id}", "subject_suspended"), (f"/v1/apis/{api}", "api_suspended")):
        ok(admin.post(f"{path}/suspend", json={"reason": "a test"}))
        assert reason() == suspended
        ok(admin.post(f"{path}/reinstate"))
        assert reason() == "allowed"
    ok(admin.post(f"/v1/subjects/{person.subject_id}/roles/withdraw", json={"roles": [f"{api}:reader"]}))
    assert reason() == "unknown_subject"
    then = question("user", person.username, context={"as_of": before})
    assert ok(asked(http, asker, then))["decision"] is True
    then = question("user", person.username, context={"as_of": 1})
    assert ok(asked(http, asker, then))["context"]["reason"] == "unknown_subject"
    ok(admin.post(f"/v1/subjects/{person.subject_id}/erase"))
    assert reason() == "unknown_subject"


@pytest.mark.parametrize(
    ("subject", "about"),
    [
        ({"type": "group", "id": "editors"}, "subject.type"),
        ({"type": "user", "id": "a" * 2_000}, "username"),
        ({"type": "subject", "id": "not an id"}, "subject.id"),
        ({"type": "user", "id": ""}, "subject.id"),
    ],
    ids=["a group", "too long", "no id", "empty"],
)
def test_a_subject_that_can_be_none_is_an_error_that_says_so(
    http: httpx.Client, world: World, subject: dict[str, str], about: str
) -> None:
    body = question("user", world.person.username) | {"subject": subject}
    answer = asked(http, world.asker, body)
    assert (answer.status_code, about in answer.text) == (400, True)
    items = ok(asked(http, world.asker, question("user", world.person.username) | {"evaluations": [{}, body]}, "evaluations"))
    first, second = items["evaluations"]
    assert (first["decision"], second["decision"], second["context"]["error"]["status"]) == (True, False, 400)


def test_a_batch_may_ask_about_tokens_and_users_together(http: httpx.Client, world: World) -> None:
    token = login(http, world.person, world.app)["access_token"]
    items = [
        {"subject": {"type": "token", "id": token}},
        {},
        {"resource": {"type": "route", "id": "/nothing"}},
        {"subject": {"type": "user", "id": "nobody"}},
        {"subject": {"type": "token", "id": "x"}},
    ]
    body = question("user", world.person.username) | {"evaluations": items}
    found = ok(asked(http, world.asker, body, "evaluations"))["evaluations"]
    reasons = ["allowed", "allowed", "no_rule", "unknown_subject", "unknown_token"]
    assert [answer["context"]["reason"] for answer in found] == reasons


def test_a_batch_about_users_alone_is_not_answered_to_who_may_not_ask(http: httpx.Client, world: World) -> None:
    body = question("user", world.person.username) | {"evaluations": [{}, {"subject": {"type": "user", "id": "x"}}]}
    for endpoint in ("evaluation", "evaluations"):
        for answer in (
            http.post(f"/access/v1/{endpoint}", json=body),
            http.post(f"/access/v1/{endpoint}", json=body, auth=(world.asker.name, world.asker.auth[1] + "x")),
        ):
            assert answer.status_code == 401
            assert answer.headers["content-type"].startswith("text/plain")


# The place of a no in the batch, and how many are answered; an item that says too little is a no like another.
SEMANTICS = [
    ("execute_all", ["/orders/1", "/nothing", "/orders/2"], [True, False, True]),
    ("deny_on_first_deny", ["/orders/1", "/nothing", "/orders/2"], [True, False]),
    ("deny_on_first_deny", ["/orders/1", None, "/orders/2"], [True, False]),
    ("deny_on_first_deny", ["/orders/1", "/orders/2"], [True, True]),
    ("permit_on_first_permit", ["/nothing", None, "/orders/2", "/orders/3"], [False, False, True]),
    ("permit_on_first_permit", ["/nothing", None], [False, False]),
]


@pytest.mark.parametrize(("semantic", "paths", "decisions"), SEMANTICS)
def test_a_batch_is_cut_right_behind_the_item_that_decides_it(
    http: httpx.Client, world: World, semantic: str, paths: list[str | None], decisions: list[bool]
) -> None:
    items = [{"resource": {"type": "route", "id": path} if path else {"type": "route"}} for path in paths]
    body = question("user", world.person.username) | {"evaluations": items, "options": {"evaluations_semantic": semantic}}
    found = ok(asked(http, world.asker, body, "evaluations"))
    assert list(found) == ["evaluations"]
    assert [answer["decision"] for answer in found["evaluations"]] == decisions


def test_a_semantic_that_is_not_known_is_no_guess(http: httpx.Client, world: World) -> None:
    body = question("user", world.person.username) | {"evaluations": [{}], "options": {"evaluations_semantic": "any"}}
    answer = asked(http, world.asker, body, "evaluations")
    assert (answer.status_code, "permit_on_first_permit" in answer.text) == (400, True)


# -------------------------------------------------------------------------------------------------------------- the interop


@pytest.fixture(scope="module")
def gateway(ledger_server: Served) -> App:
    with ledger_server.admin() as admin:
        return authzen.new_world(admin, authzen.GATEWAY_ROLES, authzen.GATEWAY_USERS)


def test_the_decisions_of_the_interop_are_all_there() -> None:
    vectors("vectors", "authzen-interop", "api-gateway-decisions.json")
    assert len(authzen.gateway_decisions()) == 25


@pytest.mark.parametrize("number", range(len(authzen.gateway_decisions())))
def test_an_api_gateway_of_the_interop_is_answered_as_it_expects(http: httpx.Client, gateway: App, number: int) -> None:
    case = authzen.gateway_decisions()[number]
    assert ok(asked(http, gateway, case["request"]))["decision"] is case["expected"]


# -------------------------------------------------------------------------------------------------------- the certification


@pytest.fixture(scope="module")
def records(ledger_server: Served) -> App:
    with ledger_server.admin() as admin:
        return authzen.new_world(admin, authzen.RECORD_ROLES, {"alice": ("alice",), "bob": ("bob",)})


CASES = authzen.scenario()


def test_the_cases_of_the_certification_are_all_there() -> None:
    vectors("vectors", "authzen-scenario", "authorization-api-1_0-scenario.md")
    assert len(CASES) == 29
    assert sum(case.by_properties for case in CASES) == 7


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_request_of_the_certification_is_answered_as_it_says(
    http: httpx.Client, records: App, case: Case, record_property: Record
) -> None:
    answer = asked(http, records, in_our_words(case.body), case.endpoint)
    record_property("what", "error" if case.decisions is None else "shape" if case.by_properties else "decision")
    if case.decisions is None:
        assert answer.status_code == 400
        assert answer.text
        return
    assert answer.headers["content-type"] == "application/json"
    body = ok(answer)
    answered = body["evaluations"] if case.batch else [body]
    assert len(answered) == len(case.decisions)
    for one, expected in zip(answered, case.decisions, strict=True):
        assert isinstance(one["decision"], bool)
        assert isinstance(one.get("context", {}), dict)
        if expected is not None and not case.by_properties:
            assert one["decision"] is expected


def test_what_the_certification_calls_a_record_is_an_error_that_says_what_is_decided_on(
    http: httpx.Client, records: App
) -> None:
    vectors("vectors", "authzen-scenario", "authorization-api-1_0-scenario.md")
    answer = asked(http, records, CASES[0].body)
    assert (answer.status_code, "resource.type" in answer.text, "route" in answer.text) == (400, True, True)


# ------------------------------------------------------------------------------------------------------------------- the rest


def test_the_metadata_names_what_is_there_and_no_searches(http: httpx.Client, ledger_server: Served) -> None:
    answer = http.get("/.well-known/authzen-configuration")
    assert answer.headers["content-type"] == "application/json"
    found = ok(answer)
    assert found == {
        "policy_decision_point": ledger_server.url,
        "access_evaluation_endpoint": f"{ledger_server.url}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{ledger_server.url}/access/v1/evaluations",
    }
    for search in ("subject", "resource", "action"):
        assert http.post(f"/access/v1/search/{search}", json={}).status_code == 404


def test_an_error_is_a_sentence_and_comes_back_with_its_request_id(http: httpx.Client, world: World) -> None:
    for headers, content, status in (
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "text/plain"}, b"{}", 400),
        ({}, b"{}", 400),
    ):
        given = {"X-Request-ID": "bfe9eb29 ab87"} | headers
        answer = http.post("/access/v1/evaluation", content=content, headers=given, auth=world.asker.auth)
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "bfe9eb29 ab87")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text


def test_the_same_question_is_answered_alike(http: httpx.Client, world: World) -> None:
    body = question("user", world.person.username)
    assert {ok(asked(http, world.asker, body))["decision"] for _ in range(5)} == {True}
