"""/v1/apis over HTTP: APIs, their roles and the rules of those."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.calls import (
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refused,
    resource_server,
    unique,
)
from tests.serving import Served

ALLOW_READ = {"methods": ["GET"], "path": "/orders/{id}"}


def get(admin: httpx.Client, path: str) -> dict[str, Any]:
    return ok(admin.get(path))


# ---------------------------------------------------------------------------------------------------------------- APIs


def test_an_api_is_registered_and_changed(admin: httpx.Client) -> None:
    name = unique("orders")
    answer = admin.post("/v1/apis", json={"name": name})
    ok(answer, 201)
    api = get(admin, answer.headers["location"])
    assert (api["audience"], api["semicolons"], api["preflights"]) == (name, False, False)
    assert (api["status"], api["stands"]) == ("active", True)
    for change in ({"audience": "https://orders.example", "semicolons": True}, {"preflights": True}):
        ok(admin.patch(f"/v1/apis/{name}", json=change))
    api = get(admin, f"/v1/apis/{name}")
    assert (api["audience"], api["semicolons"], api["preflights"]) == ("https://orders.example", True, True)
    with nothing_recorded(admin):
        ok(admin.patch(f"/v1/apis/{name}", json={"semicolons": True}))
        ok(admin.patch(f"/v1/apis/{name}", json={}))


def test_the_name_of_an_api_is_taken_once(admin: httpx.Client) -> None:
    name = new_api(admin)
    headers = {"Idempotency-Key": name}
    with nothing_recorded(admin):
        refused(admin.post("/v1/apis", json={"name": name}), 409, "name_taken")
        refused(admin.post("/v1/apis", json={"name": name}, headers=headers), 409, "name_taken")
    other = {"name": unique("orders")}
    first = ok(admin.post("/v1/apis", json=other, headers=headers), 201)
    with nothing_recorded(admin):
        assert ok(admin.post("/v1/apis", json=other, headers=headers), 201) == first


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "a:b"}, "name"),
        ({"name": "Orders"}, "name"),
        ({"name": "o/rders"}, "name"),
        ({"name": ""}, "name"),
        ({"audience": "two words"}, "audience"),
        ({"audience": "https://orders.example/#here"}, "audience"),
        ({"audience": "https://" + "a" * 300}, "audience"),
    ],
)
def test_what_is_wrong_with_an_api_is_named(admin: httpx.Client, body: dict[str, Any], field: str) -> None:
    known = new_api(admin)
    with nothing_recorded(admin):
        problem = refused(admin.post("/v1/apis", json={"name": unique("orders")} | body), 400, "invalid_input")
        assert [wrong["field"] for wrong in problem["problems"]] == [field]
        if "audience" in body:
            problem = refused(admin.patch(f"/v1/apis/{known}", json=body), 400, "invalid_input")
            assert [wrong["field"] for wrong in problem["problems"]] == [field]


def test_a_suspended_api_is_denied_to_everybody_until_it_is_reinstated(admin: httpx.Client, http: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /**"]})
    app, asker = first_party(admin, api), resource_server(admin, api)
    token = login(http, new_person(admin, f"{api}:reader"), app)["access_token"]
    ok(admin.post(f"/v1/apis/{api}/suspend", json={"reason": "down", "until": "2199-01-01T00:00:00Z"}))
    assert evaluate(http, asker, token)["context"]["reason"] == "api_suspended"
    shown = get(admin, f"/v1/apis/{api}")
    assert (shown["stands"], shown["status_reason"]) == (False, "down")
    suspended = get(admin, "/v1/apis?status=suspended&limit=1000")["apis"]
    assert api in {listed["name"] for listed in suspended}
    ok(admin.post(f"/v1/apis/{api}/reinstate"))
    assert evaluate(http, asker, token)["decision"]
    assert get(admin, f"/v1/apis/{api}")["stands"] is True


def test_the_tokens_for_an_api_are_revoked(ledger_server: Served, admin: httpx.Client, http: httpx.Client) -> None:
    token = login(http, new_person(admin))["access_token"]
    cut = ok(admin.post("/v1/apis/ledger/revoke-tokens"))
    refused(http.get("/v1/me", headers=bearer(token)), 401, "not_authenticated")
    refused(admin.get("/v1/apis"), 401, "not_authenticated")
    with ledger_server.admin() as again:
        assert get(again, "/v1/apis/ledger")["cutoff_position"] == cut["position"]


def test_apis_are_listed_in_the_order_of_their_names(admin: httpx.Client) -> None:
    names = [new_api(admin) for _ in range(3)]
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        page = ok(admin.get("/v1/apis", params=query))
        seen += [api["name"] for api in page["apis"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == sorted(set(seen))
    assert {*names, "ledger"} <= set(seen)
    for wrong, field in (("status=gone", "status"), ("limit=1001", "limit"), ("name=orders", "name")):
        problem = refused(admin.get(f"/v1/apis?{wrong}"), 400, "invalid_input")
        assert problem["problems"][0]["field"] == field


def test_what_the_ledger_lives_by_stays(admin: httpx.Client) -> None:
    rules = get(admin, "/v1/apis/ledger/roles/administrator/rules")["rules"]
    withdraw = {"rule_ids": [rule["rule_id"] for rule in rules]}
    with nothing_recorded(admin):
        refused(admin.post("/v1/apis/ledger/suspend", json={"reason": "x"}), 409, "built_in")
        refused(admin.patch("/v1/apis/ledger", json={"semicolons": True}), 409, "built_in")
        refused(admin.delete("/v1/apis/ledger/roles/administrator"), 409, "built_in")
        refused(admin.post("/v1/apis/ledger/roles/administrator/rules/withdraw", json=withdraw), 409, "built_in")


def test_an_api_that_is_not_there_is_unknown(admin: httpx.Client) -> None:
    path = "/v1/apis/nowhere"
    with nothing_recorded(admin):
        for part in ("", "/roles", "/roles/reader", "/roles/reader/rules"):
            refused(admin.get(f"{path}{part}"), 404, "unknown_api")
        refused(admin.patch(path, json={"semicolons": True}), 404, "unknown_api")
        refused(admin.post(f"{path}/suspend", json={"reason": "x"}), 404, "unknown_api")
        for part in ("reinstate", "revoke-tokens"):
            refused(admin.post(f"{path}/{part}"), 404, "unknown_api")
        refused(admin.post(f"{path}/roles", json={"name": "reader"}), 404, "unknown_api")
        refused(admin.delete(f"{path}/roles/reader"), 404, "unknown_api")
        refused(admin.post(f"{path}/roles/reader/rules", json={"rules": [ALLOW_READ]}), 404, "unknown_api")


def test_nobody_without_a_token_manages_anything(http: httpx.Client) -> None:
    for method, path in (
        ("GET", "/v1/subjects"),
        ("POST", "/v1/clients"),
        ("GET", "/v1/apis"),
        ("GET", "/v1/apis/ledger/roles"),
        ("DELETE", "/v1/apis/ledger/roles/auditor"),
    ):
        refused(http.request(method, path, json={}), 401, "not_authenticated")


# --------------------------------------------------------------------------------------------------------------- roles


def test_roles_and_their_rules_are_managed(admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/{id}", "deny * /orders/secret/**"]})
    path = f"/v1/apis/{api}/roles/reader"
    listed = get(admin, f"{path}/rules")["rules"]
    assert {(rule["effect"], tuple(rule["methods"]), rule["path"], rule["min_clearance"]) for rule in listed} == {
        ("allow", ("GET",), "/orders/{id}", 0),
        ("deny", ("*",), "/orders/secret/**", None),
    }
    assert get(admin, path)["rule_count"] == 2
    with nothing_recorded(admin):
        again = ok(admin.post(f"{path}/rules", json={"rules": [ALLOW_READ]}))
        ok(admin.post(f"{path}/rules/withdraw", json={"rule_ids": [str(uuid4())]}))
    ok(admin.post(f"{path}/rules/withdraw", json={"rule_ids": [*again["rule_ids"], str(uuid4())]}))
    assert [rule["effect"] for rule in get(admin, f"{path}/rules")["rules"]] == ["deny"]
    ok(admin.post(f"{path}/rules", json={"rules": [ALLOW_READ]}))
    first = get(admin, f"{path}/rules?limit=1")
    second = get(admin, f"{path}/rules?limit=1&cursor={first['next']}")
    assert {rule["effect"] for rule in first["rules"] + second["rules"]} == {"allow", "deny"}


def test_a_rule_is_in_force_for_the_next_question(
    admin: httpx.Client, http: httpx.Client, each_worker: list[httpx.Client]
) -> None:
    api = new_api(admin, {"reader": []})
    asker = resource_server(admin, api)
    token = login(http, new_person(admin, f"{api}:reader"), first_party(admin, api))["access_token"]
    path = f"/v1/apis/{api}/roles/reader"

    def decisions() -> list[bool]:
        return [evaluate(worker, asker, token)["decision"] for worker in each_worker]

    assert decisions() == [False, False]
    granted = ok(admin.post(f"{path}/rules", json={"rules": [ALLOW_READ]}))
    assert decisions() == [True, True]
    ok(admin.post(f"{path}/rules/withdraw", json={"rule_ids": granted["rule_ids"]}))
    assert decisions() == [False, False]
    ok(admin.post(f"{path}/rules", json={"rules": ["allow GET /orders/**"]}))
    assert decisions() == [True, True]
    ok(admin.delete(path))
    assert decisions() == [False, False]


def test_a_role_made_again_under_a_name_revives_nothing(admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/{id}"]})
    ann = new_person(admin, f"{api}:reader")
    refused(admin.post(f"/v1/apis/{api}/roles", json={"name": "reader"}), 409, "name_taken")
    removed = ok(admin.delete(f"/v1/apis/{api}/roles/reader"))
    assert get(admin, f"/v1/apis/{api}/roles")["roles"] == []
    refused(admin.get(f"/v1/apis/{api}/roles/reader"), 404, "unknown_role")
    refused(admin.delete(f"/v1/apis/{api}/roles/reader"), 404, "unknown_role")
    answer = admin.post(f"/v1/apis/{api}/roles", json={"name": "reader"})
    assert ok(answer, 201)["role_id"] != removed["role_id"]
    assert get(admin, answer.headers["location"])["rule_count"] == 0
    assert get(admin, f"/v1/apis/{api}/roles/reader/rules")["rules"] == []
    assert get(admin, f"/v1/subjects/{ann.subject_id}/permissions")["permissions"] == []


def test_roles_are_listed_in_the_order_of_their_names(admin: httpx.Client) -> None:
    api = new_api(admin, {name: [] for name in ("writer", "clerk", "reader")})
    listed = get(admin, f"/v1/apis/{api}/roles")
    assert [role["role"] for role in listed["roles"]] == ["clerk", "reader", "writer"]
    first = get(admin, f"/v1/apis/{api}/roles?limit=2")
    assert first["next"] == "reader"
    rest = get(admin, f"/v1/apis/{api}/roles?limit=2&cursor=reader")
    assert ([role["role"] for role in rest["roles"]], rest["next"]) == (["writer"], None)


@pytest.mark.parametrize("name", ["direct", "a/b", "Reader", "", "a" * 129])
def test_what_cannot_be_the_name_of_a_role_is_refused(admin: httpx.Client, name: str) -> None:
    api = new_api(admin)
    with nothing_recorded(admin):
        problem = refused(admin.post(f"/v1/apis/{api}/roles", json={"name": name}), 400, "invalid_input")
    assert [wrong["field"] for wrong in problem["problems"]] == ["name"]


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("permit GET /orders", "rules.1"),
        ("allow GET orders", "rules.1.path"),
        ("allow GET /orders/{id", "rules.1.path"),
        ("allow GET /orders clearance 101", "rules.1.min_clearance"),
        ("deny GET /orders clearance 1", "rules.1.min_clearance"),
        ({"methods": ["GET"], "path": "/a//b"}, "rules.1.path"),
        ({"methods": ["*", "G T"], "path": "/a"}, "rules.1.methods"),
        ({"methods": [f"M{number}" for number in range(17)], "path": "/a"}, "rules.1.methods"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(admin: httpx.Client, rule: object, field: str) -> None:
    api = new_api(admin, {"reader": []})
    with nothing_recorded(admin):
        answer = admin.post(f"/v1/apis/{api}/roles/reader/rules", json={"rules": ["allow GET /orders", rule]})
    assert [wrong["field"] for wrong in refused(answer, 400, "invalid_input")["problems"]] == [field]


def test_a_role_that_is_not_there_is_unknown(admin: httpx.Client) -> None:
    path = f"/v1/apis/{new_api(admin)}/roles/nobody"
    with nothing_recorded(admin):
        refused(admin.get(path), 404, "unknown_role")
        refused(admin.get(f"{path}/rules"), 404, "unknown_role")
        refused(admin.delete(path), 404, "unknown_role")
        refused(admin.post(f"{path}/rules", json={"rules": [ALLOW_READ]}), 404, "unknown_role")
        refused(admin.post(f"{path}/rules/withdraw", json={"rule_ids": [str(uuid4())]}), 404, "unknown_role")


def test_a_role_has_room_for_ten_thousand_rules_and_no_more(admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": []})
    path = f"/v1/apis/{api}/roles/reader/rules"
    for start in range(0, 10_000, 2_000):
        ok(admin.post(path, json={"rules": [f"allow GET /{number}" for number in range(start, start + 2_000)]}))
    with nothing_recorded(admin):
        refused(admin.post(path, json={"rules": ["allow GET /one/too/many"]}), 409, "too_many_rules")
    assert get(admin, f"/v1/apis/{api}/roles/reader")["rule_count"] == 10_000
