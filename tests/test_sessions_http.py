"""/login, /logout and /v1/me: a person's own tokens and password. How login hides who there is: test_login_timing.py."""

import httpx
import pytest

from tests.calls import (
    PASSWORD,
    App,
    Person,
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


@pytest.fixture(scope="module")
def api(ledger_server: Served) -> str:
    with ledger_server.admin() as admin:
        return new_api(admin, {"reader": ["allow GET /orders/**"], "writer": ["allow * /orders/**"]})


@pytest.fixture
def ann(admin: httpx.Client, api: str) -> Person:
    return new_person(admin, f"{api}:reader", f"{api}:writer")


def attempt(http: httpx.Client, person: Person, app: App | None = None, **body: object) -> httpx.Response:
    """Try to log in."""
    asked: dict[str, object] = {"username": person.username, "password": person.password} | body
    return http.post("/login", json=asked if app is None else asked | {"client_id": app.name})


# ----------------------------------------------------------------------------------------------------------------- login


def test_a_login_is_narrowed_to_a_scope_and_to_apis(http: httpx.Client, admin: httpx.Client, api: str, ann: Person) -> None:
    other = new_api(admin)
    app, asker = first_party(admin, api, other), resource_server(admin, api)
    narrow = login(http, ann, app, scope=f"{api}:reader")
    assert narrow["scope"] == f"{api}:reader"
    assert evaluate(http, asker, narrow["access_token"])["decision"] is True
    assert evaluate(http, asker, narrow["access_token"], "DELETE")["context"]["reason"] == "not_in_scope"
    elsewhere = login(http, ann, app, apis=[other])
    assert evaluate(http, asker, elsewhere["access_token"])["context"]["reason"] == "wrong_audience"


@pytest.mark.parametrize(
    "asked",
    [
        {"scope": "nuke"},
        {"scope": ""},
        {"scope": "{api}:nobody"},
        {"scope": "{api}:reader  direct"},
        {"scope": "ledger:administrator"},
        {"apis": ["nuke"]},
        {"apis": ["ledger"]},
    ],
)
def test_a_login_for_what_person_or_client_cannot_have_is_a_clear_error(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person, asked: dict[str, object]
) -> None:
    app = first_party(admin, api)
    asked = {name: value.format(api=api) if isinstance(value, str) else value for name, value in asked.items()}
    with nothing_recorded(http):
        problem = refused(attempt(http, ann, app, **asked), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == ["scope"]


def test_a_role_that_is_not_the_persons_is_a_clear_error(http: httpx.Client, admin: httpx.Client, api: str) -> None:
    bob, app = new_person(admin, f"{api}:reader"), first_party(admin, api)
    refused(attempt(http, bob, app, scope=f"{api}:writer"), 400, "invalid_input")


def test_every_refused_login_says_the_same(http: httpx.Client, admin: httpx.Client, api: str, ann: Person) -> None:
    machine = new_client(admin, grants=["client_credentials"], apis=[api])
    app, suspended = first_party(admin, api), first_party(admin, api)
    ok(admin.post(f"/v1/clients/{suspended.name}/suspend", json={"reason": "an audit"}))
    bob = new_person(admin)
    ok(admin.post(f"/v1/subjects/{bob.subject_id}/suspend", json={"reason": "an audit"}))
    with nothing_recorded(http):
        answers = [
            attempt(http, ann, app, password="not the password"),
            attempt(http, bob, app),
            attempt(http, ann, app, username=unique("nobody")),
            attempt(http, ann, app, username=""),
            attempt(http, ann, suspended),
            attempt(http, ann, machine),  # it would have to authenticate
            attempt(http, ann, client_id=unique("nobody")),
            http.post("/login", json={"username": ann.username, "password": PASSWORD}, auth=machine.auth),  # no such grant
            http.post("/login", json={"username": ann.username, "password": PASSWORD}, auth=(machine.name, "guess")),
        ]
    for answer in answers:
        assert refused(answer, 401, "login_refused")["detail"] == "wrong user name or password"


def test_a_confidential_client_logs_people_in_with_its_secret(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    shop = new_client(admin, grants=["password"], apis=[api])
    body = {"username": ann.username, "password": ann.password}
    assert ok(http.post("/login", json=body, auth=shop.auth))["access_token"]
    assert ok(http.post("/login", json=body | {"client_id": shop.name}, auth=shop.auth))["access_token"]
    problem = refused(http.post("/login", json=body | {"client_id": "console"}, auth=shop.auth), 400, "invalid_input")
    assert problem["problems"][0]["field"] == "client_id"


def test_a_name_is_the_same_in_any_case_and_form(http: httpx.Client, admin: httpx.Client) -> None:
    name = unique("Zoë")
    new_person(admin, username=name)
    for written in (name, name.upper(), name.replace("ë", "e\u0308"), name.replace("Z", "Ｚ")):
        assert ok(http.post("/login", json={"username": written, "password": PASSWORD}))["access_token"]


# ---------------------------------------------------------------------------------------------------------------- logout


def test_a_logout_ends_the_family_at_once(http: httpx.Client, ann: Person) -> None:
    token = login(http, ann)
    ok(http.post("/logout", headers=bearer(token["access_token"])))
    refused(http.get("/v1/me", headers=bearer(token["access_token"])), 401, "not_authenticated")
    assert refresh(http, App("console", None, None), token["refresh_token"]).json()["error"] == "invalid_grant"
    refused(http.post("/logout", headers=bearer(token["access_token"])), 401, "not_authenticated")
