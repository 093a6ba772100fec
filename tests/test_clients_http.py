"""/v1/clients over HTTP: registered, changed, given new secrets, stopped."""

from typing import Any

import httpx
import pytest

from tests.calls import (
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    refused,
    resource_server,
    unique,
)
from tests.serving import Served


def get(admin: httpx.Client, name: str) -> dict[str, Any]:
    return ok(admin.get(f"/v1/clients/{name}"))


def works(http: httpx.Client, name: str, secret: str) -> bool:
    """Say whether a client obtains a token with this secret."""
    answer = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(name, secret))
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def test_a_client_is_registered_and_its_secret_is_shown_once(admin: httpx.Client) -> None:
    api, name = new_api(admin), unique("shop")
    body = {
        "name": name,
        "grants": ["client_credentials"],
        "apis": [api],
        "serves": api,
        "access_lifetime_seconds": 120,
    }
    headers = {"Idempotency-Key": name}
    answer = admin.post("/v1/clients", json=body, headers=headers)
    registered = ok(answer, 201)
    assert registered["client_secret"].startswith("tl_cs_")
    with nothing_recorded(admin):
        again = ok(admin.post("/v1/clients", json=body, headers=headers), 201)
        assert again == {member: value for member, value in registered.items() if member != "client_secret"}
        other = admin.post("/v1/clients", json=body | {"apis": []}, headers=headers)
        refused(other, 422, "idempotency_key_reused")
        refused(admin.post("/v1/clients", json={"name": name}), 409, "name_taken")
    client = ok(admin.get(answer.headers["location"]))
    assert (client["apis"], client["serves"], client["grants"]) == ([api], api, ["client_credentials"])
    assert (client["access_lifetime_seconds"], client["secrets"], client["subject_id"]) == (120, 1, registered["subject_id"])
    assert registered["client_secret"] not in str(client)
    assert ok(admin.get(f"/v1/subjects/{registered['subject_id']}"))["kind"] == "service"


def test_a_client_without_settings_has_the_defaults(admin: httpx.Client) -> None:
    client = get(admin, new_client(admin).name)
    assert (client["kind"], client["grants"], client["strategy"], client["refresh"]) == ("confidential", [], "opaque", "off")
    assert (client["access_lifetime_seconds"], client["retry_window_seconds"]) == (600, 30)
    assert (client["refresh_idle_seconds"], client["refresh_absolute_seconds"]) == (14 * 86_400, 90 * 86_400)
    assert (client["apis"], client["serves"], client["subject_id"], client["stands"]) == ([], None, None, True)


def test_a_public_client_has_no_secret(admin: httpx.Client) -> None:
    name = unique("app")
    registered = ok(admin.post("/v1/clients", json={"name": name, "kind": "public"}), 201)
    assert "client_secret" not in registered
    with nothing_recorded(admin):
        refused(admin.post(f"/v1/clients/{name}/secret"), 409, "no_secret")
    assert get(admin, name)["secrets"] == 0


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"kind": "public", "grants": ["issue"]}, ["grants"]),
        ({"kind": "public", "grants": ["client_credentials"]}, ["grants"]),
        ({"kind": "public", "serves": "ledger"}, ["serves"]),
        ({"kind": "secret"}, ["kind"]),
        ({"grants": ["implicit"]}, ["grants.0"]),
        ({"grants": ["refresh_token"]}, ["refresh"]),
        ({"refresh": "rotating"}, ["refresh"]),
        ({"strategy": "paseto"}, ["strategy"]),
        ({"access_lifetime_seconds": 59}, ["access_lifetime_seconds"]),
        ({"access_lifetime_seconds": 3_601}, ["access_lifetime_seconds"]),
        ({"refresh_absolute_seconds": 90 * 86_400 + 1}, ["refresh_absolute_seconds"]),
        ({"refresh_idle_seconds": 90 * 86_400 + 1}, ["refresh_idle_seconds"]),
        ({"retry_window_seconds": 301, "access_lifetime_seconds": 0}, ["access_lifetime_seconds", "retry_window_seconds"]),
        ({"name": "a:b"}, ["name"]),
        ({"name": "Shop"}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "a" * 129}, ["name"]),
    ],
)
def test_what_is_wrong_with_a_client_is_named(admin: httpx.Client, settings: dict[str, Any], fields: list[str]) -> None:
    with nothing_recorded(admin):
        problem = refused(admin.post("/v1/clients", json={"name": unique("app")} | settings), 400, "invalid_input")
    assert [wrong["field"] for wrong in problem["problems"]] == fields


def test_a_client_lives_up_to_its_ceilings_and_no_change_goes_over_them(admin: httpx.Client) -> None:
    ceilings: dict[str, Any] = {
        "access_lifetime_seconds": 3_600,
        "refresh_absolute_seconds": 90 * 86_400,
        "refresh_idle_seconds": 90 * 86_400,
    }
    name = new_client(admin, **ceilings).name
    assert get(admin, name).items() >= ceilings.items()
    for field, seconds in ceilings.items():
        with nothing_recorded(admin):
            problem = refused(admin.patch(f"/v1/clients/{name}", json={field: seconds + 1}), 400, "invalid_input")
        assert [wrong["field"] for wrong in problem["problems"]] == [field]


@pytest.mark.parametrize("settings", [{"apis": ["nowhere"]}, {"serves": "nowhere"}])
def test_a_client_is_for_apis_that_are_there(admin: httpx.Client, settings: dict[str, Any]) -> None:
    name = new_client(admin).name
    with nothing_recorded(admin):
        refused(admin.post("/v1/clients", json={"name": unique("app")} | settings), 404, "unknown_api")
        refused(admin.patch(f"/v1/clients/{name}", json=settings), 404, "unknown_api")


def test_settings_change_one_by_one(admin: httpx.Client) -> None:
    api = new_api(admin)
    name = new_client(admin, serves=api).name
    path = f"/v1/clients/{name}"
    ok(admin.patch(path, json={"grants": ["password", "refresh_token"], "refresh": "rotating"}))
    ok(admin.patch(path, json={"apis": ["ledger", api], "serves": None}))
    client = get(admin, name)
    assert (client["refresh"], client["apis"], client["serves"]) == ("rotating", ["ledger", api], None)
    with nothing_recorded(admin):
        ok(admin.patch(path, json={"refresh": "rotating"}))
        ok(admin.patch(path, json={}))
        for wrong in ({"refresh": "off"}, {"kind": "public"}, {"name": "other"}, {"access_lifetime_seconds": 10**6}):
            problem = refused(admin.patch(path, json=wrong), 400, "invalid_input")
            assert [problem["field"] for problem in problem["problems"]] == list(wrong)
    assert get(admin, name) | {"position": 0, "instant": ""} == client | {"position": 0, "instant": ""}


def test_a_client_becomes_a_service_account_when_it_first_needs_one(admin: httpx.Client, http: httpx.Client) -> None:
    app = new_client(admin, apis=["ledger"])
    assert app.subject_id is None
    ok(admin.patch(f"/v1/clients/{app.name}", json={"grants": ["client_credentials"]}))
    subject_id = get(admin, app.name)["subject_id"]
    token = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=app.auth))["access_token"]
    assert ok(http.get("/v1/me", headers=bearer(token)))["subject_id"] == subject_id


def test_a_rotated_secret_replaces_the_old_one_unless_it_is_kept(admin: httpx.Client, http: httpx.Client) -> None:
    app = new_client(admin, grants=["client_credentials"], apis=["ledger"])
    first, path = app.auth[1], f"/v1/clients/{app.name}/secret"
    headers = {"Idempotency-Key": app.name}
    second = ok(admin.post(path, json={"keep_old": True}, headers=headers))["client_secret"]
    with nothing_recorded(admin):
        assert "client_secret" not in ok(admin.post(path, json={"keep_old": True}, headers=headers))
    assert [works(http, app.name, secret) for secret in (first, second)] == [True, True]
    assert get(admin, app.name)["secrets"] == 2
    third = ok(admin.post(path))["client_secret"]
    assert [works(http, app.name, secret) for secret in (first, second, third)] == [False, False, True]


def test_a_suspended_client_obtains_nothing_until_it_is_reinstated(admin: httpx.Client, http: httpx.Client) -> None:
    app = new_client(admin, grants=["client_credentials"], apis=["ledger"])
    ok(admin.post(f"/v1/clients/{app.name}/suspend", json={"reason": "leaked"}))
    assert not works(http, *app.auth)
    client = get(admin, app.name)
    assert (client["status"], client["status_reason"], client["stands"]) == ("suspended", "leaked", False)
    ok(admin.post(f"/v1/clients/{app.name}/reinstate"))
    assert works(http, *app.auth)


def test_a_suspended_resource_server_may_not_ask(admin: httpx.Client, http: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /**"]})
    asker = resource_server(admin, api)
    token = login(http, new_person(admin, f"{api}:reader"), first_party(admin, api))["access_token"]
    assert evaluate(http, asker, token)["decision"]
    ok(admin.post(f"/v1/clients/{asker.name}/suspend", json={"reason": "leaked"}))
    assert http.post("/oauth/introspect", data={"token": token}, auth=asker.auth).status_code == 401
    ok(admin.post(f"/v1/clients/{asker.name}/reinstate"))
    assert evaluate(http, asker, token)["decision"]


def test_a_changed_strategy_is_that_of_the_next_token(admin: httpx.Client, http: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /**"]})
    app, asker = first_party(admin, api, refresh="rotating"), resource_server(admin, api)
    ann = new_person(admin, f"{api}:reader")
    tokens = login(http, ann, app)
    ok(admin.patch(f"/v1/clients/{app.name}", json={"strategy": "jwt"}))
    following = ok(refresh(http, app, tokens["refresh_token"]))
    assert following["access_token"].count(".") == 2
    for token in (tokens["access_token"], following["access_token"]):
        assert evaluate(http, asker, token)["decision"]


def test_the_tokens_of_a_client_are_revoked(ledger_server: Served, admin: httpx.Client, http: httpx.Client) -> None:
    token = login(http, new_person(admin))["access_token"]
    cut = ok(admin.post("/v1/clients/console/revoke-tokens"))
    refused(http.get("/v1/me", headers=bearer(token)), 401, "not_authenticated")
    refused(admin.get("/v1/clients"), 401, "not_authenticated")
    with ledger_server.admin() as again:
        assert get(again, "console")["cutoff_position"] == cut["position"]


def test_clients_are_listed_in_the_order_of_their_names(admin: httpx.Client) -> None:
    names = [unique("list") for _ in range(3)]
    for name in reversed(names):
        ok(admin.post("/v1/clients", json={"name": name, "kind": "public"}), 201)
    seen: list[str] = []
    query = {"limit": "2", "kind": "public"}
    while True:
        page = ok(admin.get("/v1/clients", params=query))
        seen += [client["name"] for client in page["clients"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == sorted(set(seen))
    assert {*names, "console"} <= set(seen)
    confidential = ok(admin.get("/v1/clients", params={"kind": "confidential", "limit": "1000"}))["clients"]
    assert not {client["name"] for client in confidential} & set(seen)


def test_clients_are_filtered_by_their_status(admin: httpx.Client) -> None:
    name = new_client(admin).name
    ok(admin.post(f"/v1/clients/{name}/suspend", json={"reason": "leaked"}))
    for status, there in (("suspended", True), ("active", False)):
        page = ok(admin.get("/v1/clients", params={"status": status, "limit": "1000"}))
        assert (name in {client["name"] for client in page["clients"]}) is there
    for query, field in (("kind=x", "kind"), ("status=erased", "status"), ("limit=0", "limit"), ("colour=red", "colour")):
        problem = refused(admin.get(f"/v1/clients?{query}"), 400, "invalid_input")
        assert problem["problems"][0]["field"] == field


def test_what_people_log_in_through_stays(admin: httpx.Client) -> None:
    with nothing_recorded(admin):
        refused(admin.post("/v1/clients/console/suspend", json={"reason": "x"}), 409, "built_in")
        refused(admin.patch("/v1/clients/console", json={"apis": []}), 409, "built_in")
        refused(admin.patch("/v1/clients/console", json={"grants": [], "refresh": "off"}), 409, "built_in")


@pytest.mark.parametrize("name", ["nobody", "Console", "%F0%9F%A6%8A", "a" * 200])
def test_a_client_that_is_not_there_is_unknown(admin: httpx.Client, name: str) -> None:
    path = f"/v1/clients/{name}"
    with nothing_recorded(admin):
        refused(admin.get(path), 404, "unknown_client")
        refused(admin.patch(path, json={"refresh": "off"}), 404, "unknown_client")
        refused(admin.post(f"{path}/suspend", json={"reason": "x"}), 404, "unknown_client")
        for part in ("secret", "reinstate", "revoke-tokens"):
            refused(admin.post(f"{path}/{part}"), 404, "unknown_client")
