"""/v1/subjects over HTTP: what is written is there when read, and what was taken away works no more."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.calls import (
    PASSWORD,
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    nothing_recorded,
    ok,
    refused,
    resource_server,
    unique,
)
from tests.serving import Served

FAR_AWAY = "2199-01-01T00:00:00Z"


def get(admin: httpx.Client, subject_id: str) -> dict[str, Any]:
    return ok(admin.get(f"/v1/subjects/{subject_id}"))


def me(http: httpx.Client, token: str) -> int:
    """Answer how a token is received for the things of its owner."""
    return http.get("/v1/me", headers=bearer(token)).status_code


# ------------------------------------------------------------------------------------------------ registered and found


def test_a_person_is_registered_and_read_back_with_its_profile_in_clear(admin: httpx.Client) -> None:
    name = unique("Ann")
    profile = {"username": name, "display_name": "Ann Ü. 👩‍🚀", "email": "ann@example.com"}
    answer = admin.post("/v1/subjects", json=profile | {"password": PASSWORD, "clearance": 7})
    body = ok(answer, 201)
    subject = ok(admin.get(answer.headers["location"]))
    assert subject["subject_id"] == body["subject_id"]
    assert {member: subject[member] for member in profile} == profile
    assert (subject["kind"], subject["clearance"], subject["roles"], subject["stands"]) == ("person", 7, [], True)
    assert subject["has_password"] is True
    assert subject["position"] >= body["position"] == subject["changed_at_position"]
    assert "password" not in subject


def test_a_user_name_is_unique_however_it_is_written(admin: httpx.Client) -> None:
    ann = new_person(admin)
    with nothing_recorded(admin):
        for spelling in (ann.username, ann.username.upper(), ann.username.replace("a", "\uff41", 1)):
            refused(admin.post("/v1/subjects", json={"username": spelling}), 409, "name_taken")


def test_a_subject_is_found_by_its_user_name(admin: httpx.Client) -> None:
    ann = new_person(admin)
    found = ok(admin.get("/v1/subjects", params={"username": ann.username.upper()}))
    assert [subject["subject_id"] for subject in found["subjects"]] == [ann.subject_id]
    assert found["next"] is None
    assert ok(admin.get("/v1/subjects", params={"username": unique("bob")}))["subjects"] == []


def test_a_service_account_needs_no_name(admin: httpx.Client) -> None:
    body = ok(admin.post("/v1/subjects", json={"kind": "service", "display_name": "nightly export"}), 201)
    subject = get(admin, body["subject_id"])
    assert (subject["kind"], subject["username"], subject["display_name"]) == ("service", None, "nightly export")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"password": "too short"}, "password"),
        ({"password": "x" * 1_025}, "password"),
        ({"clearance": 101}, "clearance"),
        ({"clearance": -1}, "clearance"),
        ({"username": " ann"}, "username"),
        ({"username": "a" * 201}, "username"),
        ({"username": ""}, "username"),
        ({"username": None}, "username"),
        ({"email": ""}, "email"),
        ({"kind": "robot"}, "kind"),
    ],
)
def test_what_is_wrong_with_a_new_subject_is_named(admin: httpx.Client, body: dict[str, Any], field: str) -> None:
    with nothing_recorded(admin):
        problem = refused(admin.post("/v1/subjects", json={"username": unique("ann")} | body), 400, "invalid_input")
    assert [wrong["field"] for wrong in problem["problems"]] == [field]
    assert "too short" not in str(problem)


def test_every_problem_of_a_new_subject_is_told_at_once(admin: httpx.Client) -> None:
    body = {"username": 7, "clearance": "high", "colour": "red"}
    problem = refused(admin.post("/v1/subjects", json=body), 400, "invalid_input")
    assert {wrong["field"] for wrong in problem["problems"]} == {"username", "clearance", "colour"}


@pytest.mark.parametrize("body", [{"password": PASSWORD}, {"username": "robot"}])
def test_a_service_account_has_neither_name_nor_password(admin: httpx.Client, body: dict[str, Any]) -> None:
    with nothing_recorded(admin):
        refused(admin.post("/v1/subjects", json={"kind": "service"} | body), 409, "not_a_person")


def test_the_same_request_under_an_idempotency_key_registers_one_subject(admin: httpx.Client) -> None:
    ann, headers = {"username": unique("ann")}, {"Idempotency-Key": unique("register")}
    first = ok(admin.post("/v1/subjects", json=ann, headers=headers), 201)
    with nothing_recorded(admin):
        again = admin.post("/v1/subjects", json=ann, headers=headers)
        assert ok(again, 201) == first
        assert again.headers["location"] == f"/v1/subjects/{first['subject_id']}"
        other = admin.post("/v1/subjects", json={"username": unique("bob")}, headers=headers)
        refused(other, 422, "idempotency_key_reused")


def test_subjects_are_listed_page_by_page(admin: httpx.Client) -> None:
    registered = [new_person(admin).subject_id for _ in range(5)]
    seen, query = [], {"limit": "2"}
    while True:
        page = ok(admin.get("/v1/subjects", params=query))
        assert len(page["subjects"]) <= 2
        seen += [subject["subject_id"] for subject in page["subjects"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert [subject_id for subject_id in seen if subject_id in registered] == registered
    assert len(seen) == len(set(seen))


def test_subjects_are_filtered_by_what_they_are_now(admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": []})
    ann, bob = new_person(admin, f"{api}:reader"), new_person(admin)
    ok(admin.post(f"/v1/subjects/{bob.subject_id}/suspend", json={"reason": "left"}))

    def found(**query: str) -> list[str]:
        page = ok(admin.get("/v1/subjects", params=query | {"limit": "1000"}))
        return [subject["subject_id"] for subject in page["subjects"]]

    assert found(role=f"{api}:reader") == [ann.subject_id]
    assert found(role=f"{api}:reader", status="suspended") == []
    assert bob.subject_id in found(status="suspended")
    assert bob.subject_id not in found(status="active")
    assert {ann.subject_id, bob.subject_id} <= set(found(kind="person"))
    assert not {ann.subject_id, bob.subject_id} & set(found(kind="service"))
    refused(admin.get("/v1/subjects", params={"role": f"{api}:nobody"}), 404, "unknown_role")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("kind=robot", "kind"),
        ("status=gone", "status"),
        ("cursor=1", "cursor"),
        ("colour=red", "colour"),
        ("kind=person&kind=service", "kind"),
        ("username=ann&kind=person", "username"),
        ("username=%00", "username"),
    ],
)
def test_a_query_that_means_nothing_is_refused_by_name(admin: httpx.Client, query: str, field: str) -> None:
    problem = refused(admin.get(f"/v1/subjects?{query}"), 400, "invalid_input")
    assert [wrong["field"] for wrong in problem["problems"]] == [field]


@pytest.mark.parametrize("subject_id", [str(uuid4()), "ann", "{00000000-0000-0000-0000-000000000000}"])
def test_a_subject_that_is_not_there_is_unknown(admin: httpx.Client, subject_id: str) -> None:
    path = f"/v1/subjects/{subject_id}"
    with nothing_recorded(admin):
        for part in ("", "/rules", "/permissions"):
            refused(admin.get(f"{path}{part}"), 404, "unknown_subject")
        refused(admin.put(f"{path}/profile", json={"username": unique("ann")}), 404, "unknown_subject")
        refused(admin.put(f"{path}/password", json={"password": PASSWORD}), 404, "unknown_subject")
        refused(admin.put(f"{path}/clearance", json={"clearance": 1}), 404, "unknown_subject")
        for part in ("roles", "roles/withdraw"):
            refused(admin.post(f"{path}/{part}", json={"roles": ["ledger:auditor"]}), 404, "unknown_subject")
        rule = {"api": "ledger", "methods": ["GET"], "path": "/v1/me"}
        refused(admin.post(f"{path}/rules", json={"rules": [rule]}), 404, "unknown_subject")
        refused(admin.post(f"{path}/rules/withdraw", json={"rule_ids": [str(uuid4())]}), 404, "unknown_subject")
        refused(admin.post(f"{path}/suspend", json={"reason": "x"}), 404, "unknown_subject")
        for part in ("reinstate", "revoke-tokens", "erase"):
            refused(admin.post(f"{path}/{part}"), 404, "unknown_subject")


# ------------------------------------------------------------------------------------------------------------- changed


def test_renaming_frees_the_old_name(admin: httpx.Client) -> None:
    ann, new_name = new_person(admin), unique("anna")
    profile = f"/v1/subjects/{ann.subject_id}/profile"
    ok(admin.put(profile, json={"username": new_name, "email": "a@example.com"}))
    subject = get(admin, ann.subject_id)
    assert (subject["username"], subject["email"], subject["has_password"]) == (new_name, "a@example.com", True)
    ok(admin.post("/v1/subjects", json={"username": ann.username}), 201)
    with nothing_recorded(admin):
        refused(admin.put(profile, json={"username": ann.username}), 409, "name_taken")
    assert get(admin, ann.subject_id)["username"] == new_name


def test_a_person_keeps_a_name(admin: httpx.Client) -> None:
    ann = new_person(admin)
    with nothing_recorded(admin):
        problem = refused(
            admin.put(f"/v1/subjects/{ann.subject_id}/profile", json={"display_name": "Ann"}), 400, "invalid_input"
        )
    assert problem["problems"][0]["field"] == "username"


def test_the_service_account_of_a_client_takes_a_profile_and_no_name(admin: httpx.Client) -> None:
    subject_id = new_client(admin, grants=["client_credentials"]).subject_id
    assert subject_id is not None
    ok(admin.put(f"/v1/subjects/{subject_id}/profile", json={"display_name": "nightly"}))
    assert get(admin, subject_id)["display_name"] == "nightly"
    refused(admin.put(f"/v1/subjects/{subject_id}/profile", json={"username": unique("robot")}), 409, "not_a_person")
    refused(admin.put(f"/v1/subjects/{subject_id}/password", json={"password": PASSWORD}), 409, "not_a_person")


def test_a_changed_password_revokes_the_tokens_of_its_subject_unless_they_are_kept(
    admin: httpx.Client, http: httpx.Client
) -> None:
    ann = new_person(admin)
    token = login(http, ann)["access_token"]
    password = f"/v1/subjects/{ann.subject_id}/password"
    ok(admin.put(password, json={"password": "another horse", "keep_tokens": True}))
    assert me(http, token) == 200
    refused(http.post("/login", json={"username": ann.username, "password": PASSWORD}), 401, "login_refused")
    ok(admin.put(password, json={"password": "a third horse"}))
    assert me(http, token) == 401
    assert me(http, login(http, ann, password="a third horse")["access_token"]) == 200


def test_a_clearance_is_set_and_set_again_it_is_nothing_new(admin: httpx.Client) -> None:
    ann = new_person(admin)
    first = ok(admin.put(f"/v1/subjects/{ann.subject_id}/clearance", json={"clearance": 9}))
    assert get(admin, ann.subject_id)["clearance"] == 9
    with nothing_recorded(admin):
        ok(admin.put(f"/v1/subjects/{ann.subject_id}/clearance", json={"clearance": 9}))
    assert get(admin, ann.subject_id)["changed_at_position"] == first["position"]


# ----------------------------------------------------------------------------------------------------- roles and rules


def test_a_granted_role_can_be_used_at_once_and_a_withdrawn_one_no_more(
    admin: httpx.Client, http: httpx.Client, each_worker: list[httpx.Client]
) -> None:
    ann = new_person(admin)
    headers = bearer(login(http, ann)["access_token"])

    def statuses() -> list[int]:
        return [worker.get("/v1/subjects", headers=headers).status_code for worker in each_worker]

    assert statuses() == [403, 403]
    ok(admin.post(f"/v1/subjects/{ann.subject_id}/roles", json={"roles": ["ledger:auditor"]}))
    assert statuses() == [200, 200]
    refused(http.post("/v1/apis", json={"name": "orders"}, headers=headers), 403, "not_allowed")
    ok(admin.post(f"/v1/subjects/{ann.subject_id}/roles/withdraw", json={"roles": ["ledger:auditor"]}))
    assert statuses() == [403, 403]


def test_a_role_granted_or_withdrawn_twice_is_nothing_new(admin: httpx.Client) -> None:
    ann = new_person(admin, "ledger:auditor")
    with nothing_recorded(admin):
        ok(admin.post(f"/v1/subjects/{ann.subject_id}/roles", json={"roles": ["ledger:auditor", "ledger:auditor"]}))
        ok(admin.post(f"/v1/subjects/{ann.subject_id}/roles/withdraw", json={"roles": ["ledger:operator"]}))


def test_an_operator_stops_people_but_grants_nothing(admin: httpx.Client, http: httpx.Client) -> None:
    operator, ann = new_person(admin, "ledger:operator"), new_person(admin)
    headers = bearer(login(http, operator)["access_token"])
    path = f"/v1/subjects/{ann.subject_id}"
    ok(http.post(f"{path}/suspend", json={"reason": "incident"}, headers=headers))
    ok(http.post(f"{path}/reinstate", headers=headers))
    ok(http.post(f"{path}/revoke-tokens", headers=headers))
    with nothing_recorded(admin):
        grant = {"roles": ["ledger:administrator"]}
        for subject_id in (operator.subject_id, ann.subject_id):
            refused(http.post(f"/v1/subjects/{subject_id}/roles", json=grant, headers=headers), 403, "not_allowed")
        refused(http.put(f"{path}/password", json={"password": PASSWORD}, headers=headers), 403, "not_allowed")
        refused(http.post(f"{path}/erase", headers=headers), 403, "not_allowed")


def test_roles_are_shown_with_the_subject_and_a_removed_one_is_withdrawn_by_its_id(admin: httpx.Client) -> None:
    api = new_api(admin, {"clerk:eu": []})
    role = f"{api}:clerk:eu"
    ann = new_person(admin, role)
    (held,) = get(admin, ann.subject_id)["roles"]
    assert (held["api"], held["role"], held["removed"]) == (api, "clerk:eu", False)
    ok(admin.delete(f"/v1/apis/{api}/roles/clerk:eu"))
    assert get(admin, ann.subject_id)["roles"][0]["removed"] is True
    withdraw = f"/v1/subjects/{ann.subject_id}/roles/withdraw"
    refused(admin.post(withdraw, json={"roles": [role]}), 404, "unknown_role")
    ok(admin.post(withdraw, json={"roles": [held["role_id"]]}))
    assert get(admin, ann.subject_id)["roles"] == []


def test_a_role_that_is_not_there_is_not_granted(admin: httpx.Client) -> None:
    ann = new_person(admin)
    with nothing_recorded(admin):
        for role in ("ledger:nobody", "nowhere:reader", "reader", "", str(uuid4())):
            asked = {"roles": ["ledger:auditor", role]}
            refused(admin.post(f"/v1/subjects/{ann.subject_id}/roles", json=asked), 404, "unknown_role")


def test_own_rules_are_granted_listed_and_withdrawn(admin: httpx.Client) -> None:
    path = f"/v1/subjects/{new_person(admin).subject_id}/rules"
    rule = {"api": "ledger", "methods": ["get"], "path": "/v1/subjects/{sub}", "min_clearance": 3}
    granted = ok(admin.post(path, json={"rules": [rule]}))
    with nothing_recorded(admin):
        assert ok(admin.post(path, json={"rules": [rule]}))["rule_ids"] == granted["rule_ids"]
    kept = rule | {"rule_id": granted["rule_ids"][0], "effect": "allow", "methods": ["GET"]}
    assert ok(admin.get(path))["rules"] == [kept]
    ok(admin.post(f"{path}/withdraw", json={"rule_ids": granted["rule_ids"]}))
    assert ok(admin.get(path))["rules"] == []
    with nothing_recorded(admin):
        ok(admin.post(f"{path}/withdraw", json={"rule_ids": granted["rule_ids"]}))


def test_an_own_rule_is_in_force_for_the_next_question(
    admin: httpx.Client, http: httpx.Client, each_worker: list[httpx.Client]
) -> None:
    api = new_api(admin)
    ann, asker = new_person(admin), resource_server(admin, api)
    token = login(http, ann, first_party(admin, api))["access_token"]
    path = f"/v1/subjects/{ann.subject_id}/rules"

    def decisions() -> list[bool]:
        return [evaluate(worker, asker, token)["decision"] for worker in each_worker]

    assert decisions() == [False, False]
    rule = {"api": api, "methods": ["GET"], "path": "/orders/{id}"}
    granted = ok(admin.post(path, json={"rules": [rule]}))
    assert decisions() == [True, True]
    ok(admin.post(f"{path}/withdraw", json={"rule_ids": granted["rule_ids"]}))
    assert decisions() == [False, False]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"path": "/v1/../me"}, "rules.1.path"),
        ({"path": "v1/me"}, "rules.1.path"),
        ({"methods": []}, "rules.1.methods"),
        ({"methods": ["G T"]}, "rules.1.methods"),
        ({"min_clearance": 101}, "rules.1.min_clearance"),
        ({"effect": "deny", "min_clearance": 1}, "rules.1.min_clearance"),
        ({"effect": "perhaps"}, "rules.1.effect"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(admin: httpx.Client, wrong: dict[str, Any], field: str) -> None:
    ann = new_person(admin)
    good = {"api": "ledger", "methods": ["GET"], "path": "/v1/me"}
    with nothing_recorded(admin):
        answer = admin.post(f"/v1/subjects/{ann.subject_id}/rules", json={"rules": [good, good | wrong]})
    assert [wrong["field"] for wrong in refused(answer, 400, "invalid_input")["problems"]] == [field]


def test_an_own_rule_is_of_an_api_that_is_there(admin: httpx.Client) -> None:
    ann = new_person(admin)
    rule = {"api": "nowhere", "methods": ["GET"], "path": "/v1/me"}
    refused(admin.post(f"/v1/subjects/{ann.subject_id}/rules", json={"rules": [rule]}), 404, "unknown_api")


def test_a_subject_holds_a_hundred_roles_and_a_hundred_own_rules_and_no_more(admin: httpx.Client) -> None:
    api = new_api(admin, {f"role-{number}": [] for number in range(101)})
    ann = new_person(admin)
    path = f"/v1/subjects/{ann.subject_id}"
    roles = [f"{api}:role-{number}" for number in range(101)]
    rules = [{"api": api, "methods": ["GET"], "path": f"/{number}"} for number in range(101)]
    ok(admin.post(f"{path}/roles", json={"roles": roles[:100]}))
    ok(admin.post(f"{path}/rules", json={"rules": rules[:100]}))
    with nothing_recorded(admin):
        refused(admin.post(f"{path}/roles", json={"roles": roles[100:]}), 409, "too_many_roles")
        refused(admin.post(f"{path}/rules", json={"rules": rules[100:]}), 409, "too_many_rules")
        for part, many in (("roles", roles), ("rules", rules)):
            problem = refused(admin.post(f"{path}/{part}", json={part: many}), 400, "invalid_input")
            assert problem["problems"][0]["field"] == part


def test_permissions_say_what_a_subject_may_call_and_whether_its_clearance_is_enough(admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/{id}", "allow DELETE /orders/{id} clearance 50"]})
    ann = new_person(admin, f"{api}:reader", clearance=10)
    path = f"/v1/subjects/{ann.subject_id}"
    deny = {"api": api, "effect": "deny", "methods": ["*"], "path": "/orders/secret"}
    ok(admin.post(f"{path}/rules", json={"rules": [deny]}))

    def rows(**query: str) -> list[tuple[Any, ...]]:
        page = ok(admin.get(f"{path}/permissions", params=query))
        return [(p["role"], p["effect"], p["methods"], p["path"], p["applies"]) for p in page["permissions"]]

    own, *of_role = rows()
    assert own == (None, "deny", ["*"], "/orders/secret", True)
    assert sorted(of_role) == [
        ("reader", "allow", ["DELETE"], "/orders/{id}", False),
        ("reader", "allow", ["GET"], "/orders/{id}", True),
    ]
    assert rows(api=api) == [own, *of_role]
    assert rows(api="ledger") == []
    first = ok(admin.get(f"{path}/permissions?limit=1"))
    assert rows(cursor=first["next"]) == of_role
    for cursor in ("", "x", "a.b.c", first["next"] + ".x"):
        problem = refused(admin.get(f"{path}/permissions", params={"cursor": cursor}), 400, "invalid_input")
        assert problem["problems"][0]["field"] == "cursor"


# ----------------------------------------------------------------------------------- suspended, cut off, erased


def test_a_suspended_subject_is_locked_out_until_it_is_reinstated(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    token = login(http, ann)["access_token"]
    path = f"/v1/subjects/{ann.subject_id}"
    ok(admin.post(f"{path}/suspend", json={"reason": "investigation", "until": FAR_AWAY}))
    assert me(http, token) == 401
    refused(http.post("/login", json={"username": ann.username, "password": PASSWORD}), 401, "login_refused")
    subject = get(admin, ann.subject_id)
    assert (subject["status"], subject["status_reason"], subject["stands"]) == ("suspended", "investigation", False)
    ok(admin.post(f"{path}/reinstate", json={"reason": "cleared"}))
    assert me(http, token) == 200
    assert get(admin, ann.subject_id)["status_reason"] == "cleared"


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "tomorrow"])
def test_a_suspension_whose_end_has_come_or_is_none_is_refused(admin: httpx.Client, until: str) -> None:
    ann = new_person(admin)
    with nothing_recorded(admin):
        answer = admin.post(f"/v1/subjects/{ann.subject_id}/suspend", json={"reason": "x", "until": until})
        assert [wrong["field"] for wrong in refused(answer, 400, "invalid_input")["problems"]] == ["until"]


def test_revoked_tokens_stay_revoked_and_new_ones_are_good(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    token = login(http, ann)["access_token"]
    cut = ok(admin.post(f"/v1/subjects/{ann.subject_id}/revoke-tokens"))
    assert me(http, token) == 401
    assert me(http, login(http, ann)["access_token"]) == 200
    assert get(admin, ann.subject_id)["cutoff_position"] == cut["position"]


def test_an_erased_subject_shows_nothing_personal_and_its_name_is_free(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin, "ledger:auditor", email="ann@example.com")
    token = login(http, ann)["access_token"]
    path = f"/v1/subjects/{ann.subject_id}"
    ok(admin.post(f"{path}/erase", json={"reason": "asked for it"}))
    with nothing_recorded(admin):
        ok(admin.post(f"{path}/erase"))
    subject = get(admin, ann.subject_id)
    assert (subject["username"], subject["email"], subject["status"]) == (None, None, "erased")
    assert (subject["roles"], subject["has_password"], subject["stands"]) == ([], False, False)
    assert me(http, token) == 401
    assert ok(admin.get("/v1/subjects", params={"username": ann.username}))["subjects"] == []
    with nothing_recorded(admin):
        refused(admin.put(f"{path}/password", json={"password": PASSWORD}), 409, "subject_erased")
        refused(admin.put(f"{path}/profile", json={"username": ann.username}), 409, "subject_erased")
        refused(admin.post(f"{path}/roles", json={"roles": ["ledger:auditor"]}), 409, "subject_erased")
        refused(admin.post(f"{path}/reinstate"), 409, "subject_erased")
    assert ok(admin.post("/v1/subjects", json={"username": ann.username}), 201)["subject_id"] != ann.subject_id


def test_the_last_administrator_cannot_go(own_ledger: Served) -> None:
    with own_ledger.admin() as admin:
        (last,) = ok(admin.get("/v1/subjects", params={"username": own_ledger.username}))["subjects"]
        path = f"/v1/subjects/{last['subject_id']}"
        withdraw = {"roles": ["ledger:administrator"]}
        with nothing_recorded(admin):
            refused(admin.post(f"{path}/roles/withdraw", json=withdraw), 409, "last_administrator")
            refused(admin.post(f"{path}/suspend", json={"reason": "x"}), 409, "last_administrator")
            refused(admin.post(f"{path}/erase"), 409, "last_administrator")
        # Neither who cannot log in nor a service account takes his place.
        ok(admin.post(f"/v1/subjects/{_without_password(admin)}/roles", json=withdraw))
        robot = new_client(admin, grants=["client_credentials"]).subject_id
        ok(admin.post(f"/v1/subjects/{robot}/roles", json=withdraw))
        refused(admin.post(f"{path}/erase"), 409, "last_administrator")
        new_person(admin, "ledger:administrator")
        ok(admin.post(f"{path}/roles/withdraw", json=withdraw))
        refused(admin.get("/v1/subjects"), 403, "not_allowed")


def _without_password(admin: httpx.Client) -> str:
    return str(ok(admin.post("/v1/subjects", json={"username": unique("bob")}), 201)["subject_id"])


@pytest.mark.parametrize("level", ["subject", "client", "api"])
def test_tokens_issued_before_an_instant_are_revoked_and_later_ones_stay(
    level: str, admin: httpx.Client, http: httpx.Client
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    ann, app, asker = new_person(admin, f"{api}:reader"), first_party(admin, api), resource_server(admin, api)
    old = login(http, ann, app)["access_token"]
    between = ok(http.get("/readyz"))["instant"]
    new = login(http, ann, app)["access_token"]
    path = {"subject": f"/v1/subjects/{ann.subject_id}", "client": f"/v1/clients/{app.name}", "api": f"/v1/apis/{api}"}[level]
    first = ok(admin.post(f"{path}/revoke-tokens", json={"issued_before": between}))
    assert evaluate(http, asker, old)["context"]["reason"] == "tokens_revoked_before"
    assert evaluate(http, asker, new)["decision"]
    again = ok(admin.post(f"{path}/revoke-tokens", json={"issued_before": between}))
    assert ok(http.get("/readyz"))["position"] == again["position"] >= first["position"]
    problem = refused(admin.post(f"{path}/revoke-tokens", json={"issued_before": FAR_AWAY}), 400, "invalid_input")
    assert problem["problems"][0]["field"] == "issued_before"
