"""Who could call something, and what changed between two moments: over HTTP, beside what decisions say."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.calls import evaluate, first_party, login, new_api, new_person, ok, refused, resource_server
from tests.serving import Served

ROLES = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden"],
    "cleared": ["allow GET /orders/secret clearance 5"],
    "own": ["allow GET /people/{sub}"],
    "barred": ["deny * /**"],
}


@pytest.fixture(scope="module")
def admin(ledger_server: Served) -> Iterator[httpx.Client]:
    with ledger_server.admin() as client:
        yield client


def head(admin: httpx.Client) -> int:
    position: int = ok(admin.get("/readyz"))["position"]
    return position


def everyone(admin: httpx.Client, api: str, method: str, path: str, **query: Any) -> list[dict[str, Any]]:
    """Walk all pages of who could."""
    found: list[dict[str, Any]] = []
    while True:
        asked = {"api": api, "method": method, "path": path} | query
        page = ok(admin.get("/v1/audit/who-could", params=asked))
        found += page["subjects"]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


def who(admin: httpx.Client, api: str, method: str, path: str, **query: Any) -> set[str]:
    return {subject["subject_id"] for subject in everyone(admin, api, method, path, **query)}


# --------------------------------------------------------------------------------------------------------------- who could


def test_who_could_is_what_a_token_of_each_subject_would_be_told(admin: httpx.Client) -> None:
    api = new_api(admin, ROLES)
    app, asker = first_party(admin, api), resource_server(admin, api)
    people = [
        new_person(admin, f"{api}:reader"),
        new_person(admin, f"{api}:reader", f"{api}:barred"),
        new_person(admin, f"{api}:cleared", clearance=5),
        new_person(admin, f"{api}:cleared", clearance=4),
        new_person(admin, f"{api}:own"),
        new_person(admin),
        new_person(admin),
    ]
    own = [
        {"api": api, "methods": ["DELETE"], "path": "/orders/{id}"},
        {"api": api, "effect": "deny", "methods": ["GET"], "path": "/x"},
    ]
    ok(admin.post(f"/v1/subjects/{people[5].subject_id}/rules", json={"rules": own}))
    tokens = {person.subject_id: login(admin, person, app)["access_token"] for person in people}
    named = [f"/people/{person.subject_id}" for person in people[3:6]]
    for path in ("/orders/7", "/orders/hidden", "/orders/secret", "/x", "/", *named):
        for method in ("GET", "DELETE", "HEAD"):
            allowed = {s for s, token in tokens.items() if evaluate(admin, asker, token, method, path)["decision"]}
            assert who(admin, api, method, path) == allowed, (method, path)
            assert who(admin, api, method, path, limit=1) == allowed
    found = everyone(admin, api, "GET", "/orders/7")
    assert [one["rule"] for one in found] == [{"role": "reader", "rule": "allow GET /orders/**"}]


def test_who_could_then_is_asked_as_it_was(admin: httpx.Client) -> None:
    api = new_api(admin, ROLES)
    ann, bob = new_person(admin, f"{api}:reader"), new_person(admin)
    positions = [head(admin)]
    subject = f"/v1/subjects/{ann.subject_id}"
    for change, body in (
        (f"{subject}/suspend", {"reason": "gone"}),
        (f"/v1/subjects/{bob.subject_id}/roles", {"roles": [f"{api}:reader"]}),
        (f"{subject}/reinstate", {}),
        (f"/v1/apis/{api}/roles/reader/rules", {"rules": ["deny GET /orders/7"]}),
        (f"/v1/apis/{api}/suspend", {"reason": "maintenance"}),
    ):
        ok(admin.post(change, json=body))
        positions.append(head(admin))
    expected: list[set[str]] = [{ann.subject_id}, set(), {bob.subject_id}, {ann.subject_id, bob.subject_id}, set(), set()]
    assert [who(admin, api, "GET", "/orders/7", as_of=at) for at in positions] == expected
    assert who(admin, api, "GET", "/orders/7") == set()
    assert who(admin, api, "GET", "/orders/8", as_of=positions[4]) == {ann.subject_id, bob.subject_id}
    refused(admin.get("/v1/audit/who-could", params={"api": api, "method": "GET", "path": "/", "as_of": 1}), 404, "unknown_api")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"method": "GET", "path": "/"}, "api"),
        ({"api": "ledger", "path": "/"}, "method"),
        ({"api": "ledger", "method": "GET"}, "path"),
        ({"api": "ledger", "method": "no method", "path": "/"}, "method"),
        ({"api": "ledger", "method": "GET", "path": "/a/../b"}, "path"),
        ({"api": "ledger", "method": "GET", "path": "/", "as_of": "999999999"}, "as_of"),
        ({"api": "ledger", "method": "GET", "path": "/", "cursor": "x"}, "cursor"),
        ({"api": "ledger", "method": "GET", "path": "/", "limit": "0"}, "limit"),
    ],
    ids=["no api", "no method", "no path", "method", "path", "as_of", "cursor", "limit"],
)
def test_what_is_wrong_with_the_question_is_named(admin: httpx.Client, query: dict[str, str], field: str) -> None:
    problems = refused(admin.get("/v1/audit/who-could", params=query), 400, "invalid_input")["problems"]
    assert [problem["field"] for problem in problems] == [field]


# ------------------------------------------------------------------------------------------------------------ what changed


def changes(admin: httpx.Client, **query: Any) -> list[tuple[str, str, str]]:
    """Walk all pages of what changed: kind, id and what."""
    found: list[dict[str, Any]] = []
    query = {name.rstrip("_"): value for name, value in query.items()}
    while True:
        page = ok(admin.get("/v1/audit/changes", params=query))
        found += page["changes"]
        assert all(query["from"] < row["after_position"] for row in page["changes"])
        assert all((row["before_position"] or 0) <= query["from"] for row in page["changes"])
        if page["next"] is None:
            return [(row["kind"], row["id"], row["what"]) for row in found]
        query["cursor"] = page["next"]


def test_what_changed_is_told_once_and_what_was_changed_back_not_at_all(admin: httpx.Client) -> None:
    api = new_api(admin, ROLES)
    person, app = new_person(admin, f"{api}:reader"), first_party(admin, api, refresh="rotating")
    before = login(admin, person, app)
    first = head(admin)
    subject = f"/v1/subjects/{person.subject_id}"
    ok(admin.post(f"/v1/tokens/{before['token_id']}/suspend", json={"reason": "looked into"}))
    ok(admin.post(f"{subject}/suspend", json={"reason": "gone"}))
    ok(admin.post(f"/v1/tokens/{before['token_id']}/reinstate", json={}))
    ok(admin.post(f"{subject}/reinstate", json={}))
    ok(admin.put(f"{subject}/clearance", json={"clearance": 3}))
    after = login(admin, person, app)
    ok(admin.post(f"{subject}/rules", json={"rules": [{"api": api, "methods": ["GET"], "path": "/x"}]}))
    ok(admin.post(f"/v1/apis/{api}/roles/own/rules", json={"rules": ["allow GET /y"]}))
    ok(admin.post(f"/v1/families/{before['family_id']}/revoke", json={}))
    last = head(admin)
    ok(admin.post(f"{subject}/suspend", json={"reason": "later"}))
    found = changes(admin, from_=first, to=last)
    role = ok(admin.get(f"/v1/apis/{api}/roles/own"))["role_id"]
    issued = {("token", after["token_id"], "token_issued"), ("family", after["family_id"], "token_issued")}
    others = {
        ("subject", person.subject_id, "subject_clearance_set"),
        ("subject_rules", person.subject_id, "subject_rules_granted"),
        ("role", role, "role_rules_granted"),
        ("family", before["family_id"], "family_revoked"),
    }
    refresh = [row for row in found if row[0] == "token" and row[1] != after["token_id"]]
    assert [row[2] for row in refresh] == ["token_issued"]
    assert sorted(found) == sorted([*issued, *others, *refresh])
    assert changes(admin, from_=first, to=last, limit=1) == found
    assert changes(admin, from_=first, to=last, kind="role") == [("role", role, "role_rules_granted")]
    assert changes(admin, from_=last, to=last) == []
    assert changes(admin, from_=last) == [("subject", person.subject_id, "subject_suspended")]


def test_between_times_is_between_their_positions(admin: httpx.Client) -> None:
    first = ok(admin.get("/v1/audit/events", params={"limit": 1}))
    api = new_api(admin)
    last = ok(admin.get("/v1/audit/events", params={"limit": 1}))
    page = ok(admin.get("/v1/audit/changes", params={"from": first["instant"], "to": last["instant"]}))
    assert (page["from_position"], page["to_position"]) == (first["position"], last["position"])
    api_id = ok(admin.get(f"/v1/apis/{api}"))["api_id"]
    assert [(row["kind"], row["id"], row["before_position"]) for row in page["changes"]] == [("api", api_id, None)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "from"),
        ({"from": "0"}, "from"),
        ({"from": "999999999"}, "from"),
        ({"from": "1", "to": "soon"}, "to"),
        ({"from": "1", "to": "2999-01-01T00:00:00Z"}, "to"),
        ({"from": "2", "to": "1"}, "to"),
        ({"from": "1", "kind": "password"}, "kind"),
    ],
    ids=["nothing", "zero", "above", "word", "future", "backwards", "kind"],
)
def test_what_is_wrong_with_an_interval_is_named(admin: httpx.Client, query: dict[str, str], field: str) -> None:
    problems = refused(admin.get("/v1/audit/changes", params=query), 400, "invalid_input")["problems"]
    assert [problem["field"] for problem in problems] == [field]
