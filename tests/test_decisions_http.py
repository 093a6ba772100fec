"""Decisions over HTTP: one table of cases, asked of evaluation, of the gateway and, as far as it goes, of introspection.

A case is a token, a method, a path, and the reason of the answer. The evaluation says the reason in its context, the gateway
in `Ledger-Reason` with the status for nginx, and introspection whether the token stands, whatever it may do.
"""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ledger.identifiers import name_id
from ledger.token_strings import new_secret, read, write
from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    gateway,
    introspect,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    resource_server,
    unique,
)
from tests.conftest import Clock
from tests.serving import Served

ROLES = {
    "reader": ["allow GET /orders/{id}", "allow GET /orders/**", "allow GET /"],
    "writer": ["allow POST,PUT /orders/{id}", "allow * /drafts/**"],
    "own": ["allow GET /people/{sub}", "allow GET /people/{sub}/**"],
    "cleared": ["allow GET /secrets/{id} clearance 5", "allow GET /secrets/low/{id} clearance 3"],
    "denied": ["deny GET /orders/hidden", "deny * /drafts/locked/**"],
    "odd": ["allow HEAD /heads", "allow GET /compare/{base}...{head}", "allow GET /caf%C3%A9/{id}", "allow GET /a;b/{id}"],
}


@dataclass
class World:
    """One API with every kind of rule, a person who holds them all, and those who ask about it."""

    api: str
    app: App
    person: Person
    asker: App
    other_asker: App  # of another API
    tokens: dict[str, str] = field(default_factory=dict)

    def scope(self, *roles: str) -> str:
        return " ".join(role if role == "direct" else f"{self.api}:{role}" for role in roles)


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> Iterator[World]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api, other = new_api(admin, ROLES), new_api(admin, {"reader": ["allow GET /**"]}, "elsewhere")
        person = new_person(admin, *(f"{api}:{role}" for role in ROLES), clearance=3)
        rules = [
            {"api": api, "methods": ["GET"], "path": "/direct/{id}"},
            {"api": api, "effect": "deny", "methods": ["GET"], "path": "/direct/no"},
            {"api": other, "methods": ["GET"], "path": "/elsewhere"},
        ]
        ok(admin.post(f"/v1/subjects/{person.subject_id}/rules", json={"rules": rules}))
        app = first_party(admin, api)
        world = World(api, app, person, resource_server(admin, api), resource_server(admin, other))
        world.tokens["whole"] = login(http, person, app)["access_token"]
        for name, roles in {"reading": ["reader"], "direct": ["direct"], "writing": ["writer", "own"]}.items():
            world.tokens[name] = login(http, person, app, scope=world.scope(*roles))["access_token"]
        world.tokens["nobody's"] = login(http, new_person(admin), app)["access_token"]
        yield world


# --------------------------------------------------------------------------------------------------------------- one table

STANDS = {"allowed", "denied_by_rule", "insufficient_clearance", "not_in_scope", "no_rule", "bad_method"}


def answers(http: httpx.Client, asker: App, token: str, method: str, path: str) -> dict[str, Any]:
    """Ask all three, and answer what each says, in the same words."""
    evaluated = evaluate(http, asker, token, method, path)
    passed = gateway(http, asker, token, method, path)
    return {
        "evaluation": (evaluated["decision"], evaluated["context"]["reason"]),
        "gateway": (passed.status_code, passed.headers["Ledger-Reason"]),
        "introspection": introspect(http, asker, token)["active"],
    }


def expected(reason: str) -> dict[str, Any]:
    """Answer what all three must say for a reason."""
    stands = reason in STANDS or reason.startswith("path_")
    return {
        "evaluation": (reason == "allowed", reason),
        "gateway": (200 if reason == "allowed" else 403 if stands else 401, reason),
        "introspection": stands,
    }


CASES = [
    # roles
    ("whole", "GET", "/orders/7", "allowed"),
    ("whole", "GET", "/orders/7/lines/2", "allowed"),
    ("whole", "DELETE", "/orders/7", "no_rule"),
    ("whole", "POST", "/orders/7", "allowed"),
    ("whole", "PUT", "/orders/7", "allowed"),
    ("whole", "PATCH", "/orders/7", "no_rule"),
    ("whole", "GET", "/nothing", "no_rule"),
    ("nobody's", "GET", "/orders/7", "no_rule"),
    # `/**` takes the rest, and `/orders/` itself, not `/orders`; a parameter never takes nothing
    ("whole", "GET", "/orders/", "allowed"),
    ("whole", "GET", "/orders", "no_rule"),
    ("whole", "GET", "/", "allowed"),
    ("whole", "POST", "/orders/", "no_rule"),
    ("whole", "PURGE", "/drafts/1/2/3", "allowed"),
    # `*` is every method; GET covers HEAD, HEAD covers nothing, and nothing else is implied
    ("whole", "HEAD", "/orders/7", "allowed"),
    ("whole", "HEAD", "/heads", "allowed"),
    ("whole", "GET", "/heads", "no_rule"),
    ("whole", "OPTIONS", "/orders/7", "no_rule"),
    ("whole", "HEAD", "/orders/hidden", "denied_by_rule"),
    # a deny of any role or rule
    ("whole", "GET", "/orders/hidden", "denied_by_rule"),
    ("whole", "GET", "/drafts/locked/1", "denied_by_rule"),
    ("whole", "GET", "/drafts/locked", "allowed"),
    ("whole", "GET", "/direct/no", "denied_by_rule"),
    # ... whatever the token's scope: asking for less never sheds it
    ("reading", "GET", "/orders/hidden", "denied_by_rule"),
    ("direct", "GET", "/direct/no", "denied_by_rule"),
    ("writing", "POST", "/drafts/locked/1", "denied_by_rule"),
    # direct rules
    ("whole", "GET", "/direct/7", "allowed"),
    ("direct", "GET", "/direct/7", "allowed"),
    ("whole", "GET", "/elsewhere", "no_rule"),
    # scope
    ("reading", "GET", "/orders/7", "allowed"),
    ("reading", "POST", "/orders/7", "not_in_scope"),
    ("reading", "GET", "/direct/7", "not_in_scope"),
    ("direct", "GET", "/orders/7", "not_in_scope"),
    ("writing", "POST", "/orders/7", "allowed"),
    ("writing", "GET", "/orders/7", "not_in_scope"),
    # clearance
    ("whole", "GET", "/secrets/low/1", "allowed"),
    ("whole", "GET", "/secrets/1", "insufficient_clearance"),
    ("reading", "GET", "/secrets/low/1", "not_in_scope"),
    # templates
    ("whole", "GET", "/compare/main...next", "allowed"),
    ("whole", "GET", "/compare/main..next", "no_rule"),
    ("whole", "GET", "/compare/...next", "no_rule"),
    ("whole", "GET", "/people/me", "no_rule"),
    # compared byte for byte after decoding once
    ("whole", "GET", "/orders/%37", "allowed"),
    ("whole", "GET", "/%6frders/7", "allowed"),
    ("whole", "GET", "/Orders/7", "no_rule"),
    ("whole", "GET", "/caf%C3%A9/1", "allowed"),
    ("whole", "GET", "/caf%c3%a9/1", "allowed"),
    ("whole", "GET", "/cafe%CC%81/1", "no_rule"),  # looks the same, and is not
    ("whole", "GET", "/orders/%20", "allowed"),
    ("whole", "GET", "/orders/a%3Fb", "allowed"),
    ("whole", "GET", "/orders/7?x=/../y&z=//", "allowed"),
    ("whole", "GET", "/orders?/7", "no_rule"),
    # paths that two components could read differently
    ("whole", "GET", "//orders/7", "path_empty_segment"),
    ("whole", "GET", "/orders//7", "path_empty_segment"),
    ("whole", "GET", "/orders/./7", "path_dot_segment"),
    ("whole", "GET", "/orders/../orders/7", "path_dot_segment"),
    ("whole", "GET", "/orders/%2e%2e/orders/7", "path_dot_segment"),
    ("whole", "GET", "/orders/.%2E", "path_dot_segment"),
    ("whole", "GET", "/orders/%2F7", "path_encoded_slash"),
    ("whole", "GET", "/orders/..%2f..%2fetc", "path_encoded_slash"),
    ("whole", "GET", "/orders/\\7", "path_backslash"),
    ("whole", "GET", "/orders/%5c7", "path_backslash"),
    ("whole", "GET", "/orders/%00", "path_control_character"),
    ("whole", "GET", "/orders/%0d%0aX:y", "path_control_character"),
    ("whole", "GET", "/orders/%C2%85", "path_control_character"),
    ("whole", "GET", "/orders/%252F7", "path_double_encoded"),
    ("whole", "GET", "/orders/%2541", "path_double_encoded"),
    ("whole", "GET", "/orders/%zz", "path_bad_escape"),
    ("whole", "GET", "/orders/7%", "path_bad_escape"),
    ("whole", "GET", "/orders/%ff", "path_not_utf8"),
    ("whole", "GET", "/orders/%c0%af", "path_not_utf8"),
    ("whole", "GET", "/orders/%ed%a0%80", "path_not_utf8"),
    ("whole", "GET", "/orders/7;v=1", "path_semicolon"),
    ("whole", "GET", "/orders/7%3bv=1", "path_semicolon"),
    ("whole", "GET", "/a;b/1", "path_semicolon"),
    ("whole", "GET", "/orders/7#top", "path_has_fragment"),
    ("whole", "GET", "orders/7", "path_not_absolute"),
    ("whole", "GET", "http://x/orders/7", "path_not_absolute"),
    ("whole", "GET", "*", "path_not_absolute"),
    ("whole", "GET", "/" + "a/" * 64, "path_too_many_segments"),
    ("whole", "GET", "/orders/" + "a" * 8_192, "path_too_long"),
    # methods
    ("whole", "get", "/orders/7", "bad_method"),
    ("whole", "G T", "/orders/7", "bad_method"),
    ("whole", "GET,POST", "/orders/7", "bad_method"),
    ("whole", "A" * 40, "/orders/7", "bad_method"),
    # strings that are no tokens
    ("?", "GET", "/orders/7", "unknown_token"),
    ("tl_at_" + "0" * 71, "GET", "/orders/7", "unknown_token"),
    ("a.b.c", "GET", "/orders/7", "unknown_token"),
    ("a.b.c.d.e", "GET", "/orders/7", "unknown_token"),
    ("a" * 8_193, "GET", "/orders/7", "unknown_token"),
]


@pytest.mark.parametrize(
    ("token", "method", "path", "reason"), CASES, ids=[f"{t[:10]} {m[:8]} {p[:30]} {r}" for t, m, p, r in CASES]
)
def test_each_endpoint_answers_every_case_alike(
    http: httpx.Client, world: World, token: str, method: str, path: str, reason: str
) -> None:
    found = answers(http, world.asker, world.tokens.get(token, token), method, path)
    assert found == expected(reason)


def test_one_s_own_id_in_a_path_is_one_s_own_and_nobody_else_s(http: httpx.Client, admin: httpx.Client, world: World) -> None:
    own, other = world.person.subject_id, new_person(admin).subject_id
    token = world.tokens["whole"]
    assert answers(http, world.asker, token, "GET", f"/people/{own}") == expected("allowed")
    assert answers(http, world.asker, token, "GET", f"/people/{own}/cards/1") == expected("allowed")
    assert answers(http, world.asker, token, "GET", f"/people/{own.upper()}") == expected("no_rule")
    assert answers(http, world.asker, token, "GET", f"/people/{other}") == expected("no_rule")
    assert answers(http, world.asker, world.tokens["writing"], "GET", f"/people/{own}") == expected("allowed")


def test_a_semicolon_in_a_path_is_for_the_api_to_allow(http: httpx.Client, admin: httpx.Client, world: World) -> None:
    api = unique("matrix")
    ok(admin.post("/v1/apis", json={"name": api, "semicolons": True}), 201)
    ok(admin.post(f"/v1/apis/{api}/roles", json={"name": "all"}), 201)
    ok(admin.post(f"/v1/apis/{api}/roles/all/rules", json={"rules": ["allow GET /a;b/{id}"]}))
    asker, app = resource_server(admin, api), first_party(admin, api)
    token = login(http, new_person(admin, f"{api}:all"), app)["access_token"]
    assert answers(http, asker, token, "GET", "/a;b/1") == expected("allowed")
    assert answers(http, asker, token, "GET", "/a%3Bb/1;x=y") == expected("allowed")
    assert answers(http, asker, token, "GET", "/a/1") == expected("no_rule")
    ok(admin.patch(f"/v1/apis/{api}", json={"semicolons": False}))
    assert answers(http, asker, token, "GET", "/a;b/1") == expected("path_semicolon")


def test_a_token_for_another_api_says_nothing_here(http: httpx.Client, world: World) -> None:
    assert answers(http, world.other_asker, world.tokens["whole"], "GET", "/orders/7") == expected("wrong_audience")


def test_the_api_that_is_asked_about_comes_from_who_asks_and_never_from_the_question(http: httpx.Client, world: World) -> None:
    question = {
        "subject": {"type": "token", "id": world.tokens["whole"]},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": "/orders/7", "properties": {"api": world.api}},
        "context": {"api": world.api, "audience": world.api},
    }
    answer = ok(http.post("/access/v1/evaluation", json=question, auth=world.other_asker.auth))
    assert answer["context"]["reason"] == "wrong_audience"


BECAUSE = {"reason": "a test"}
Change = Callable[[httpx.Client, World, Person, dict[str, Any]], httpx.Response]
CHANGES: dict[str, tuple[Change, str]] = {
    "token suspended": (lambda a, w, p, t: a.post(f"/v1/tokens/{t['token_id']}/suspend", json=BECAUSE), "token_suspended"),
    "token revoked": (lambda a, w, p, t: a.post(f"/v1/tokens/{t['token_id']}/revoke", json=BECAUSE), "token_revoked"),
    "family suspended": (lambda a, w, p, t: a.post(f"/v1/families/{t['family_id']}/suspend", json=BECAUSE), "family_suspended"),
    "family revoked": (lambda a, w, p, t: a.post(f"/v1/families/{t['family_id']}/revoke", json=BECAUSE), "family_revoked"),
    "subject suspended": (lambda a, w, p, t: a.post(f"/v1/subjects/{p.subject_id}/suspend", json=BECAUSE), "subject_suspended"),
    "subject erased": (lambda a, w, p, t: a.post(f"/v1/subjects/{p.subject_id}/erase", json={}), "subject_erased"),
    "subject's tokens revoked": (
        lambda a, w, p, t: a.post(f"/v1/subjects/{p.subject_id}/revoke-tokens", json={}),
        "tokens_revoked_before",
    ),
    "role withdrawn": (
        lambda a, w, p, t: a.post(f"/v1/subjects/{p.subject_id}/roles/withdraw", json={"roles": [f"{w.api}:reader"]}),
        "no_rule",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_in_force_for_the_very_next_question_of_each_endpoint(
    http: httpx.Client, admin: httpx.Client, world: World, change: str
) -> None:
    change_it, reason = CHANGES[change]
    person = new_person(admin, f"{world.api}:reader")
    issued = login(http, person, world.app)
    assert answers(http, world.asker, issued["access_token"], "GET", "/orders/7") == expected("allowed")
    position = ok(change_it(admin, world, person, issued))["position"]
    for _ in range(4):  # of whichever worker takes the connection
        with httpx.Client(base_url=http.base_url, timeout=30) as anew:
            assert answers(anew, world.asker, issued["access_token"], "GET", "/orders/7") == expected(reason)
            assert evaluate(anew, world.asker, issued["access_token"])["context"]["position"] >= position


@pytest.mark.parametrize(
    ("what", "reason"), [("clients", "client_suspended"), ("apis", "api_suspended")], ids=["its client", "its API"]
)
def test_what_a_token_hangs_on_can_be_suspended_and_reinstated(
    http: httpx.Client, admin: httpx.Client, what: str, reason: str
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    app, asker = first_party(admin, api), resource_server(admin, api)
    token = login(http, new_person(admin, f"{api}:reader"), app)["access_token"]
    name = app.name if what == "clients" else api
    ok(admin.post(f"/v1/{what}/{name}/suspend", json=BECAUSE))
    assert answers(http, asker, token, "GET", "/orders/7") == expected(reason)
    ok(admin.post(f"/v1/{what}/{name}/reinstate", json={}))
    assert answers(http, asker, token, "GET", "/orders/7") == expected("allowed")


def test_a_refresh_token_is_no_access_token(http: httpx.Client, admin: httpx.Client, world: World) -> None:
    app = first_party(admin, world.api, refresh="rotating")
    issued = login(http, new_person(admin, f"{world.api}:reader"), app)
    assert answers(http, world.asker, issued["refresh_token"], "GET", "/orders/7") == expected("not_an_access_token")


def test_a_token_with_a_wrong_secret_is_as_unknown_as_one_that_never_was(http: httpx.Client, world: World) -> None:
    token_id, _ = read("access", world.tokens["whole"])
    forged = write("access", token_id, new_secret())
    assert answers(http, world.asker, forged, "GET", "/orders/7") == expected("unknown_token")
    assert "evidence" in evaluate(http, world.asker, forged)["context"]
    assert evaluate(http, world.asker, forged)["context"]["evidence"] == {}


def test_the_answer_names_the_rule_what_is_missing_and_the_positions_behind_it(http: httpx.Client, world: World) -> None:
    token = world.tokens["whole"]
    allowed = evaluate(http, world.asker, token)["context"]
    assert allowed["rule"] == {"role": "reader", "rule": "allow GET /orders/**"}
    assert allowed["semantics"] == 1
    assert set(allowed["evidence"]) >= {"token", "subject", "client", "api", "rule", "role"}
    assert all(0 < position <= allowed["position"] for position in allowed["evidence"].values())
    lacking = evaluate(http, world.asker, token, path="/secrets/1")["context"]
    assert lacking["missing"] == {"needed": 5, "has": 3}
    denied = evaluate(http, world.asker, token, path="/direct/no")["context"]
    assert denied["rule"] == {"role": "direct", "rule": "deny GET /direct/no"}


def test_the_answer_about_a_token_that_stands_says_whose_it_is_and_nothing_of_another_api(
    http: httpx.Client, admin: httpx.Client, world: World
) -> None:
    other = new_api(admin, {"reader": ["allow GET /**"]}, "elsewhere")
    app = first_party(admin, world.api, other)
    person = new_person(admin, f"{world.api}:reader", f"{world.api}:writer", f"{other}:reader")
    scope = f"{world.api}:reader {other}:reader direct"
    for asked, roles, said in (
        ({}, ["reader", "writer"], None),
        ({"scope": scope}, ["reader"], f"{world.api}:reader direct"),
    ):
        issued = login(http, person, app, **asked)
        known = introspect(http, world.asker, issued["access_token"])
        for path in ("/orders/7", "/nothing"):
            token = evaluate(http, world.asker, issued["access_token"], path=path)["context"]["token"]
            assert datetime.fromisoformat(token.pop("expires_at")).timestamp() // 1 == known["exp"]
            assert token == {
                "token_id": issued["token_id"],
                "subject_id": person.subject_id,
                "client_id": app.name,
                "roles": [f"{world.api}:{role}" for role in roles],
                "scope": said,
            }
        ok(admin.post(f"/v1/tokens/{issued['token_id']}/revoke", json={}))
        assert "token" not in evaluate(http, world.asker, issued["access_token"])["context"]


# ---------------------------------------------------------------------------------------------------------- who may ask at all


def ask_evaluation(http: httpx.Client, auth: tuple[str, str] | None, token: str) -> httpx.Response:
    question = {"subject": {"type": "token", "id": token}, "action": {"name": "GET"}, "resource": {"type": "route", "id": "/x"}}
    return http.post("/access/v1/evaluation", json=question, auth=auth or httpx.USE_CLIENT_DEFAULT)


def ask_evaluations(http: httpx.Client, auth: tuple[str, str] | None, token: str) -> httpx.Response:
    return http.post("/access/v1/evaluations", json={"evaluations": [{}, {}]}, auth=auth or httpx.USE_CLIENT_DEFAULT)


def ask_introspection(http: httpx.Client, auth: tuple[str, str] | None, token: str) -> httpx.Response:
    return http.post("/oauth/introspect", data={"token": token}, auth=auth or httpx.USE_CLIENT_DEFAULT)


def ask_gateway(http: httpx.Client, auth: tuple[str, str] | None, token: str) -> httpx.Response:
    headers = bearer(token) | {"X-Original-Method": "GET", "X-Original-URI": "/x"}
    return http.get("/gateway/nginx", headers=headers | ({"Ledger-Gateway-Key": auth[1]} if auth else {}))


ENDPOINTS = {
    "evaluation": ask_evaluation,
    "evaluations, all incomplete": ask_evaluations,
    "introspection": ask_introspection,
    "gateway": ask_gateway,
}


@pytest.fixture(params=ENDPOINTS)
def ask(request: pytest.FixtureRequest) -> Callable[..., httpx.Response]:
    return ENDPOINTS[request.param]


def told(answer: httpx.Response) -> Any:
    """Answer what an answer tells, without what differs from each answer to the next."""
    varying = {"x-request-id", "date", "content-length"}
    text = answer.text.replace(answer.headers.get("x-request-id", "?"), "")
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in varying}, text


def test_who_may_not_ask_is_told_the_same_whether_unknown_or_with_a_wrong_secret(
    http: httpx.Client, admin: httpx.Client, world: World, ask: Callable[..., httpx.Response]
) -> None:
    assert world.asker.secret is not None
    asker_id, _ = read("client", world.asker.secret)
    suspended = resource_server(admin, world.api)
    ok(admin.post(f"/v1/clients/{suspended.name}/suspend", json=BECAUSE))
    rotated = resource_server(admin, world.api)
    ok(admin.post(f"/v1/clients/{rotated.name}/secret", json={}))
    token = world.tokens["whole"]
    refusals = {
        "wrong secret": (world.asker.name, write("client", asker_id, new_secret())),
        "unknown client": ("nobody", write("client", name_id("client", "nobody"), new_secret())),
        "suspended": suspended.auth,
        "the secret of before": rotated.auth,
        "no secret at all": (world.asker.name, "hunter2"),
        "a public client": (world.app.name, write("client", name_id("client", world.app.name), new_secret())),
    }
    answers = {name: told(ask(http, auth, token)) for name, auth in refusals.items()}
    assert {answer[0] for answer in answers.values()} == {401}
    assert len({json.dumps(answer, sort_keys=True) for answer in answers.values()}) == 1, answers
    nobody = ask(http, None, token)
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"]


def test_a_client_that_serves_no_api_may_not_ask(
    http: httpx.Client, admin: httpx.Client, world: World, ask: Callable[..., httpx.Response]
) -> None:
    app = new_client(admin, grants=["client_credentials"], apis=[world.api])
    assert ask(http, app.auth, world.tokens["whole"]).status_code == 403


def test_answers_about_tokens_are_not_to_be_stored(
    http: httpx.Client, world: World, ask: Callable[..., httpx.Response]
) -> None:
    for auth in (world.asker.auth, None):
        assert ask(http, auth, world.tokens["whole"]).headers["cache-control"] == "no-store"


def test_nothing_is_read_from_the_query_string_of_a_question(http: httpx.Client, world: World) -> None:
    token = world.tokens["whole"]
    query = "?token=x&access_token=x&client_id=x&uri=/orders/7&method=GET&subject=x&resource=/orders/7&X-Original-URI=/orders/7"
    key = {"Ledger-Gateway-Key": world.asker.secret or ""}
    original = {"X-Original-Method": "GET", "X-Original-URI": "/nothing"}
    passed = http.get(f"/gateway/nginx{query}", headers=key | original | bearer(token))
    assert (passed.status_code, passed.headers["Ledger-Reason"]) == (403, "no_rule")
    assert http.get(f"/gateway/nginx?access_token={token}", headers=key | original).status_code == 401
    assert http.post(f"/oauth/introspect?token={token}", data={}, auth=world.asker.auth).status_code in (400, 415)
    question = {"subject": {"type": "token", "id": token}, "action": {"name": "GET"}}
    assert http.post(f"/access/v1/evaluation{query}", json=question, auth=world.asker.auth).status_code == 400


# ------------------------------------------------------------------------------------------------------------------- AuthZEN


def question(world: World, path: str = "/orders/7", token: str = "whole", **others: Any) -> dict[str, Any]:
    return {
        "subject": {"type": "token", "id": world.tokens.get(token, token)},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": path},
    } | others


def evaluation(http: httpx.Client, world: World, body: Any, path: str = "evaluation", **headers: str) -> httpx.Response:
    return http.post(f"/access/v1/{path}", json=body, auth=world.asker.auth, headers=headers)


BAD_QUESTIONS: dict[str, Callable[[World], Any]] = {
    "no subject": lambda w: {k: v for k, v in question(w).items() if k != "subject"},
    "no action": lambda w: {k: v for k, v in question(w).items() if k != "action"},
    "no resource": lambda w: {k: v for k, v in question(w).items() if k != "resource"},
    "nothing": lambda w: {},
    "a list": lambda w: [question(w)],
    "a string": lambda w: "question",
    "subject is a string": lambda w: question(w) | {"subject": "ann"},
    "subject without type": lambda w: question(w) | {"subject": {"id": "x"}},
    "subject of another type": lambda w: question(w) | {"subject": {"type": "group", "id": "x"}},
    "subject with a number as id": lambda w: question(w) | {"subject": {"type": "token", "id": 7}},
    "subject with an empty id": lambda w: question(w) | {"subject": {"type": "token", "id": ""}},
    "action without name": lambda w: question(w) | {"action": {}},
    "action is null": lambda w: question(w) | {"action": None},
    "resource of another type": lambda w: question(w) | {"resource": {"type": "document", "id": "/orders/7"}},
    "resource without id": lambda w: question(w) | {"resource": {"type": "route"}},
}


@pytest.mark.parametrize("bad", BAD_QUESTIONS)
def test_a_malformed_question_is_400_in_plain_text(http: httpx.Client, world: World, bad: str) -> None:
    answer = evaluation(http, world, BAD_QUESTIONS[bad](world))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"{", 400),
        (b'{"subject": {}, "subject": {}}', 400),
        (b"\xff", 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a": "\\u0000"}', 400),
        (b'{"a": NaN}', 400),
        (b'{"a": 1e999}', 400),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", 400),
        (b"[" * 100_000, 400),
        (b" " * 300_000, 413),
    ],
    ids=[
        "nothing",
        "null",
        "cut off",
        "twice",
        "not UTF-8",
        "surrogate",
        "NUL",
        "NaN",
        "infinite",
        "deep",
        "very deep",
        "large",
    ],
)
def test_a_body_that_is_no_strict_json_is_refused_in_plain_text(
    http: httpx.Client, world: World, content: bytes, status: int
) -> None:
    for path in ("evaluation", "evaluations"):
        answer = http.post(
            f"/access/v1/{path}", content=content, headers={"Content-Type": "application/json"}, auth=world.asker.auth
        )
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/plain")


def test_another_content_type_is_refused(http: httpx.Client, world: World) -> None:
    body = json.dumps(question(world)).encode()
    for content_type, status in {"application/json; charset=utf-8": 200, "text/plain": 400, "": 400}.items():
        headers = {"Content-Type": content_type} if content_type else {}
        answer = http.post("/access/v1/evaluation", content=body, headers=headers, auth=world.asker.auth)
        assert answer.status_code == status


def test_members_we_do_not_know_are_not_looked_at_and_context_may_hold_fractions(http: httpx.Client, world: World) -> None:
    asked = question(
        world,
        context={"time": "2030-01-01T00:00:00Z", "risk": 0.25, "huge": 1e300, "deep": [{"a": [None, True]}]},
        options={"anything": 1.5},
        evaluations=[],
    )
    asked["subject"] |= {"properties": {"department": "sales"}}
    asked["action"] |= {"properties": {"x": -0.0}}
    asked["resource"] |= {"properties": {"y": 1}}
    assert ok(evaluation(http, world, asked))["decision"] is True


def test_the_request_id_of_the_caller_comes_back(http: httpx.Client, world: World) -> None:
    assert (
        evaluation(http, world, question(world), **{"X-Request-ID": "bfe9eb29-ab87"}).headers["X-Request-ID"] == "bfe9eb29-ab87"
    )
    assert evaluation(http, world, {}, **{"X-Request-ID": "bfe9eb29-ab87"}).headers["X-Request-ID"] == "bfe9eb29-ab87"
    assert (
        evaluation(http, world, question(world), **{"X-Request-ID": "an id of mine"}).headers["X-Request-ID"] == "an id of mine"
    )
    own = evaluation(http, world, question(world)).headers["X-Request-ID"]
    assert len(own) == 36
    for odd in ("x" * 200, "a\tb", "\u00e9", ""):
        answer = http.post(
            "/access/v1/evaluation",
            json=question(world),
            auth=world.asker.auth,
            headers=httpx.Headers([(b"X-Request-ID", odd.encode("latin-1"))]),
        )
        assert answer.status_code == 200
        assert len(answer.headers["X-Request-ID"]) == 36


def test_a_batch_answers_each_in_order_and_the_top_gives_what_an_item_leaves_out(http: httpx.Client, world: World) -> None:
    body = question(world) | {
        "evaluations": [
            {},
            {"resource": {"type": "route", "id": "/nothing"}},
            {"action": {"name": "POST"}},
            {"subject": {"type": "token", "id": world.tokens["direct"]}},
            {"subject": {"type": "token", "id": "unknown"}, "context": {"x": 1}},
        ]
    }
    found = ok(evaluation(http, world, body, "evaluations"))["evaluations"]
    assert [answer["context"]["reason"] for answer in found] == [
        "allowed",
        "no_rule",
        "allowed",
        "not_in_scope",
        "unknown_token",
    ]


def test_all_that_a_batch_asks_of_one_token_is_answered_as_of_one_position(http: httpx.Client, world: World) -> None:
    body = question(world) | {"evaluations": [{"resource": {"type": "route", "id": f"/orders/{n}"}} for n in range(100)]}
    found = ok(evaluation(http, world, body, "evaluations"))["evaluations"]
    assert len(found) == 100
    assert all(answer["decision"] for answer in found)
    assert len({(answer["context"]["position"], answer["context"]["instant"]) for answer in found}) == 1


def test_a_batch_of_a_hundred_tokens_is_answered_in_the_order_asked(http: httpx.Client, world: World) -> None:
    names = [["whole", "direct", f"tl_at_{number}"][number % 3] for number in range(100)]
    body = question(world) | {
        "evaluations": [{"subject": {"type": "token", "id": world.tokens.get(name, name)}} for name in names]
    }
    found = ok(evaluation(http, world, body, "evaluations"))["evaluations"]
    reasons = {"whole": "allowed", "direct": "not_in_scope"}
    assert [answer["context"]["reason"] for answer in found] == [reasons.get(name, "unknown_token") for name in names]


@pytest.mark.parametrize(
    ("semantic", "answered"),
    [(None, 4), ("execute_all", 4), ("deny_on_first_deny", 2), ("permit_on_first_permit", 1)],
)
def test_a_batch_ends_where_its_semantic_says(http: httpx.Client, world: World, semantic: str | None, answered: int) -> None:
    paths = ["/orders/7", "/nothing", "/orders/8", "/orders/hidden"]
    body = question(world) | {"evaluations": [{"resource": {"type": "route", "id": path}} for path in paths]}
    if semantic is not None:
        body["options"] = {"evaluations_semantic": semantic}
    found = ok(evaluation(http, world, body, "evaluations"))["evaluations"]
    assert [answer["decision"] for answer in found] == [True, False, True, False][:answered]


def test_the_semantics_end_nowhere_when_nothing_decides(http: httpx.Client, world: World) -> None:
    for semantic, path in (("deny_on_first_deny", "/orders/7"), ("permit_on_first_permit", "/nothing")):
        body = question(world, path) | {"evaluations": [{}, {}, {}], "options": {"evaluations_semantic": semantic}}
        assert len(ok(evaluation(http, world, body, "evaluations"))["evaluations"]) == 3


def test_an_item_that_says_too_little_is_a_no_among_the_others(http: httpx.Client, world: World) -> None:
    items: list[Any] = [
        {},
        {"subject": None},
        "item",
        None,
        {"action": {"name": 7}},
        {"resource": {"type": "route", "id": "/orders/8"}},
    ]
    found = ok(evaluation(http, world, question(world) | {"evaluations": items}, "evaluations"))["evaluations"]
    assert [answer["decision"] for answer in found] == [True, False, False, False, False, True]
    for answer in found[1:5]:
        assert answer["context"]["reason"] == "incomplete_question"
        assert answer["context"]["error"]["status"] == 400


def test_a_batch_without_items_is_one_question(http: httpx.Client, world: World) -> None:
    for body in (question(world), question(world) | {"evaluations": []}):
        answer = ok(evaluation(http, world, body, "evaluations"))
        assert answer["decision"] is True
        assert "evaluations" not in answer


@pytest.mark.parametrize(
    "others",
    [
        {"evaluations": [{}] * 101},
        {"evaluations": {}},
        {"evaluations": 0},
        {"evaluations": None},
        {"evaluations": [{}], "options": []},
        {"evaluations": [{}], "options": None},
        {"evaluations": [{}], "options": {"evaluations_semantic": "first"}},
        {"evaluations": [{}], "options": {"evaluations_semantic": ["execute_all"]}},
    ],
    ids=["101", "object", "number", "null", "options list", "options null", "unknown semantic", "semantic list"],
)
def test_a_malformed_batch_is_400(http: httpx.Client, world: World, others: dict[str, Any]) -> None:
    answer = evaluation(http, world, question(world) | others, "evaluations")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")


# ------------------------------------------------------------------------------------------------------------------- gateway


def raw(server: Served, *headers: bytes, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes]]:
    """Ask the gateway with these header lines, byte for byte."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        lines = [method + b" /gateway/nginx HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""]
        connection.sendall(b"\r\n".join(lines))
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return int(head[0].split()[1]), {name: value.strip() for name, _, value in (line.partition(b":") for line in head[1:])}


def original(world: World, token: str = "whole", target: bytes = b"/orders/7", key: str | None = None) -> list[bytes]:
    return [
        b"Ledger-Gateway-Key: " + (key if key is not None else world.asker.secret or "").encode(),
        b"Authorization: Bearer " + world.tokens[token].encode(),
        b"X-Original-Method: GET",
        b"X-Original-URI: " + target,
    ]


IDENTITY = {"ledger-subject", "ledger-client", "ledger-token-id"}


def test_who_may_pass_is_named_to_the_upstream_and_who_may_not_is_not(http: httpx.Client, world: World) -> None:
    passed = gateway(http, world.asker, world.tokens["whole"])
    assert passed.status_code == 200
    assert passed.headers["Ledger-Subject"] == world.person.subject_id
    assert passed.headers["Ledger-Client"] == world.app.name
    assert passed.headers["Ledger-Token-Id"]
    assert int(passed.headers["Ledger-Position"]) > 0
    for token, target, status in (("whole", "/nothing", 403), ("whole", "/orders/hidden", 403), (None, "/orders/7", 401)):
        refused = gateway(http, world.asker, world.tokens[token] if token else None, target=target)
        assert refused.status_code == status
        assert not IDENTITY & set(refused.headers)
        error = {403: ', error="insufficient_scope"', 401: ""}[status]  # RFC 6750 section 3.1: none to who showed no token
        assert refused.headers["www-authenticate"] == f'Bearer realm="token-ledger"{error}'
    wrong = gateway(http, world.asker, "a token of nobody")
    assert wrong.headers["www-authenticate"] == 'Bearer realm="token-ledger", error="invalid_token"'


def test_without_the_gateway_s_key_the_original_request_decides_nothing(ledger_server: Served, world: World) -> None:
    key, *rest = original(world)
    assert raw(ledger_server, key, *rest)[0] == 200
    for lines in (
        rest,
        original(world, key="wrong"),
        original(world, key=""),
        [key + b"x", *rest],
        [key.replace(b"-", b"_"), *rest],
    ):
        status, headers = raw(ledger_server, *lines)
        assert status == 401
        assert b"ledger-reason" not in headers
        assert not {name.encode() for name in IDENTITY} & set(headers)
        assert headers[b"www-authenticate"].startswith(b"Ledger-Gateway-Key")


def test_the_key_of_a_gateway_is_no_token_and_a_token_is_no_key(ledger_server: Served, world: World) -> None:
    key, token, method, target = original(world)
    secret = (world.asker.secret or "").encode()
    assert raw(ledger_server, key, b"Authorization: Bearer " + secret, method, target)[0] == 401
    assert raw(ledger_server, b"Ledger-Gateway-Key: " + world.tokens["whole"].encode(), token, method, target)[0] == 401


@pytest.mark.parametrize("twice", [0, 1, 2, 3], ids=["key", "token", "method", "target"])
def test_a_header_that_stands_twice_is_no_decision(ledger_server: Served, world: World, twice: int) -> None:
    lines = original(world)
    for again in (lines[twice], lines[twice].partition(b":")[0] + b": /orders/8"):
        status, headers = raw(ledger_server, *lines, again)
        assert status == 400
        assert b"ledger-reason" not in headers


@pytest.mark.parametrize("missing", [2, 3], ids=["method", "target"])
def test_a_gateway_that_does_not_say_what_is_asked_for_gets_no_decision(
    ledger_server: Served, world: World, missing: int
) -> None:
    lines = original(world)
    del lines[missing]
    assert raw(ledger_server, *lines)[0] == 400


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"/orders/\xe9", b"path_not_ascii"),
        (b"/orders/\xc3\xa9", b"path_not_ascii"),
        (b"/orders/\xff\xfe", b"path_not_ascii"),
        (b"/orders/a\tb", b"path_control_character"),
        (b"/orders/a b", b"allowed"),
        (b"/orders/a,b", b"allowed"),
        (b"", b"path_not_absolute"),
        (b"/orders/7 HTTP/1.1", b"allowed"),  # one segment "7 HTTP" and one "1.1": below /orders/
        (b"/orders/" + b"a" * 8_000, b"allowed"),
        (b"/orders/" + b"a" * 8_200, b"path_too_long"),
        (b"/orders/7?" + b"a" * 7_000, b"allowed"),
    ],
    ids=["latin-1", "UTF-8", "neither", "tab", "space", "comma", "empty", "a version", "long", "too long", "long query"],
)
def test_a_target_is_taken_byte_for_byte(ledger_server: Served, world: World, target: bytes, reason: bytes) -> None:
    status, headers = raw(ledger_server, *original(world, target=target))
    assert (status, headers[b"ledger-reason"]) == (200 if reason == b"allowed" else 403, reason)


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        b"Bearer \xe9\xff",
        b"bearer",
        b"Token x",
        b"Bearer " + b"a" * 9_000,
        b"Basic \xe9",
    ],
    ids=["empty", "no token", "space", "basic", "latin-1", "lower", "other", "long", "basic latin-1"],
)
def test_an_authorization_that_holds_no_token_is_401(ledger_server: Served, world: World, authorization: bytes) -> None:
    key, _, method, target = original(world)
    status, headers = raw(ledger_server, key, b"Authorization: " + authorization, method, target)
    assert (status, headers[b"ledger-reason"]) == (401, b"unknown_token")
    assert headers[b"www-authenticate"].startswith(b"Bearer")


def test_the_scheme_is_written_in_any_case_and_space_around_a_token_means_nothing(ledger_server: Served, world: World) -> None:
    key, _, method, target = original(world)
    token = world.tokens["whole"].encode()
    for written in (b"bearer " + token, b"BEARER   " + token + b"  "):
        assert raw(ledger_server, key, b"Authorization: " + written, method, target)[0] == 200


def test_headers_over_the_limit_are_no_decision(ledger_server: Served, world: World) -> None:
    for many in ([b"X-Cookie: " + b"a" * 17_000], [b"X-%d: a" % number for number in range(3_000)]):
        status, headers = raw(ledger_server, *original(world), *many)
        assert status == 431
        assert b"ledger-reason" not in headers


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"HEAD", b"DELETE"])
def test_the_gateway_is_asked_by_get_alone(ledger_server: Served, world: World, method: bytes) -> None:
    assert raw(ledger_server, *original(world), method=method)[0] == 405


def test_a_name_and_secret_are_form_encoded_inside_basic_credentials(http: httpx.Client, world: World) -> None:
    name, secret = world.asker.auth
    written = "".join(f"%{ord(character):02x}" for character in name) + ":" + secret.replace("_", "%5F")
    headers = {"Authorization": "BASIC " + base64.b64encode(written.encode()).decode()}
    assert http.post("/access/v1/evaluation", json=question(world), headers=headers).status_code == 200


# ------------------------------------------------------------------------------------------------------ the clock moves


def test_a_token_ends_with_its_time_at_each_endpoint(
    http: httpx.Client, admin: httpx.Client, world: World, server_clock: Clock
) -> None:
    app = first_party(admin, world.api, access_lifetime_seconds=60)
    token = login(http, new_person(admin, f"{world.api}:reader"), app)["access_token"]
    assert answers(http, world.asker, token, "GET", "/orders/7") == expected("allowed")
    server_clock.advance(61)
    assert answers(http, world.asker, token, "GET", "/orders/7") == expected("token_expired")


def test_a_suspension_ends_with_its_time(http: httpx.Client, admin: httpx.Client, world: World, server_clock: Clock) -> None:
    issued = login(http, new_person(admin, f"{world.api}:reader"), world.app)
    now = datetime.fromisoformat(ok(http.get("/readyz"))["instant"])
    end = (now + timedelta(seconds=30)).isoformat()
    ok(admin.post(f"/v1/tokens/{issued['token_id']}/suspend", json={"reason": "a test", "until": end}))
    assert answers(http, world.asker, issued["access_token"], "GET", "/orders/7") == expected("token_suspended")
    server_clock.advance(31)
    assert answers(http, world.asker, issued["access_token"], "GET", "/orders/7") == expected("allowed")
