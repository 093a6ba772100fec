"""/login, /logout and /v1/me: a person's own tokens and password. How login hides who there is: test_login_http.py."""

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


# ---------------------------------------------------------------------------------------------------------- /v1/me: who am I


def me(http: httpx.Client, token: str) -> httpx.Response:
    """Ask who one is."""
    return http.get("/v1/me", headers=bearer(token))


def test_a_person_is_told_who_it_is_and_what_it_has(http: httpx.Client, api: str, ann: Person) -> None:
    token = login(http, ann)
    seen = ok(me(http, token["access_token"]))
    assert (seen["subject_id"], seen["username"], seen["kind"]) == (ann.subject_id, ann.username, "person")
    assert (seen["roles"], seen["clearance"], seen["client"]) == ([f"{api}:reader", f"{api}:writer"], 0, "console")
    assert (seen["token_id"], seen["family_id"]) == (token["token_id"], token["family_id"])


def test_a_token_for_another_api_is_none_here(http: httpx.Client, admin: httpx.Client, api: str, ann: Person) -> None:
    token = login(http, ann, first_party(admin, api))
    refused(me(http, token["access_token"]), 401, "not_authenticated")


# ------------------------------------------------------------------------------------------------------ /v1/me: the password


def change(http: httpx.Client, token: str, **body: object) -> httpx.Response:
    """Ask for a change of the password."""
    return http.put("/v1/me/password", json=body, headers=bearer(token))


def test_a_changed_password_revokes_every_token_and_is_the_only_one(http: httpx.Client, ann: Person) -> None:
    tokens = [login(http, ann) for _ in range(2)]
    position = ok(change(http, tokens[0]["access_token"], current=PASSWORD, new="another battery horse"))["position"]
    for token in tokens:
        refused(me(http, token["access_token"]), 401, "not_authenticated")
        assert refresh(http, App("console", None, None), token["refresh_token"]).json()["error"] == "invalid_grant"
    refused(attempt(http, ann), 401, "login_refused")
    again = ok(attempt(http, ann, password="another battery horse"))
    assert again["position"] > position
    assert ok(me(http, again["access_token"]))["subject_id"] == ann.subject_id


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"current": "not the password", "new": "another battery horse"}, ["current"]),
        ({"current": "", "new": "another battery horse"}, ["current"]),
        ({"current": PASSWORD, "new": "elevenbytes"}, ["new"]),
        ({"current": PASSWORD, "new": "é" * 513}, ["new"]),
        ({"current": PASSWORD, "new": ""}, ["new"]),
        ({"current": PASSWORD}, ["new"]),
        ({"new": "another battery horse"}, ["current"]),
        ({"current": PASSWORD, "new": 123456789012}, ["new"]),
        ({"current": PASSWORD, "new": "another battery horse", "colour": "blue"}, ["colour"]),
        ({}, ["current", "new"]),
    ],
)
def test_a_change_of_password_that_is_not_right_changes_nothing(
    http: httpx.Client, ann: Person, body: dict[str, object], fields: list[str]
) -> None:
    token = login(http, ann)
    with nothing_recorded(http):
        problem = refused(change(http, token["access_token"], **body), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == fields
    assert ok(me(http, token["access_token"]))["subject_id"] == ann.subject_id


def test_a_service_account_has_no_password_to_change(http: httpx.Client, admin: httpx.Client) -> None:
    machine = new_client(admin, grants=["client_credentials"], apis=["ledger"])
    token = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=machine.auth))
    assert ok(me(http, token["access_token"]))["kind"] == "service"
    problem = refused(change(http, token["access_token"], current=PASSWORD, new=PASSWORD), 400, "invalid_input")
    assert problem["problems"][0]["field"] == "current"


# --------------------------------------------------------------------------------------------------- /v1/me: tokens for scripts

DAY_SECONDS = 86_400


@pytest.fixture(scope="module")
def app(ledger_server: Served, api: str) -> App:
    with ledger_server.admin() as admin:
        return first_party(admin, api, "ledger")


def named(http: httpx.Client, token: str, **body: object) -> httpx.Response:
    """Ask for a named token."""
    return http.post("/v1/me/tokens", json={"name": "nightly export"} | body, headers=bearer(token))


def test_a_named_token_lives_long_and_has_no_refresh_token(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person, app: App
) -> None:
    asker = resource_server(admin, api)
    token = login(http, ann, app)
    year = ok(named(http, token["access_token"]), 201)
    assert year["expires_in"] in (365 * DAY_SECONDS - 1, 365 * DAY_SECONDS)
    assert "refresh_token" not in year
    week = ok(named(http, token["access_token"], lifetime_seconds=7 * DAY_SECONDS), 201)
    assert week["expires_in"] in (7 * DAY_SECONDS - 1, 7 * DAY_SECONDS)
    ok(http.post("/logout", headers=bearer(token["access_token"])))
    assert evaluate(http, asker, year["access_token"])["decision"] is True  # it is a family of its own


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lifetime_seconds": 365 * DAY_SECONDS + 1}, "lifetime_seconds"),
        ({"lifetime_seconds": 0}, "lifetime_seconds"),
        ({"lifetime_seconds": -1}, "lifetime_seconds"),
        ({"lifetime_seconds": "60"}, "lifetime_seconds"),
        ({"lifetime_seconds": True}, "lifetime_seconds"),
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": None}, "name"),
        ({"subject_id": "01890a5d-ac96-774b-bcce-b302099a8057"}, "subject_id"),
        ({"client": "console"}, "client"),
        ({"claims": {}}, "claims"),
    ],
)
def test_a_named_token_that_cannot_be_is_refused_by_name(
    http: httpx.Client, ann: Person, app: App, body: dict[str, object], field: str
) -> None:
    token = login(http, ann, app)
    with nothing_recorded(http):
        problem = refused(named(http, token["access_token"], **body), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == [field]


def test_a_narrow_token_makes_no_wide_one(http: httpx.Client, admin: httpx.Client, api: str, ann: Person, app: App) -> None:
    asker = resource_server(admin, api)
    narrow = login(http, ann, app, scope=f"{api}:reader")
    inherited = ok(named(http, narrow["access_token"]), 201)
    assert inherited["scope"] == f"{api}:reader"
    assert evaluate(http, asker, inherited["access_token"])["decision"] is True
    assert evaluate(http, asker, inherited["access_token"], "DELETE")["context"]["reason"] == "not_in_scope"
    with nothing_recorded(http):
        for scope in (f"{api}:reader {api}:writer", f"{api}:writer", f"{api}:reader direct", "direct"):
            refused(named(http, narrow["access_token"], scope=scope), 409, "grant_refused")
    # From a wide one a narrow one, and from that no wider.
    wide = login(http, ann, app)
    cut = ok(named(http, wide["access_token"], scope=f"{api}:reader"), 201)
    refused(named(http, cut["access_token"], scope=f"{api}:writer"), 409, "grant_refused")


def test_a_token_makes_none_for_an_api_outside_its_audience(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person, app: App
) -> None:
    asker = resource_server(admin, api)
    for_the_ledger = login(http, ann, app, apis=["ledger"])
    inherited = ok(named(http, for_the_ledger["access_token"]), 201)
    assert evaluate(http, asker, inherited["access_token"])["context"]["reason"] == "wrong_audience"
    with nothing_recorded(http):
        refused(named(http, for_the_ledger["access_token"], apis=[api]), 409, "grant_refused")


def test_one_revokes_ones_own_token_and_no_other(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person, app: App
) -> None:
    asker, bob = resource_server(admin, api), new_person(admin)
    token, others = login(http, ann, app), login(http, bob)
    script = ok(named(http, token["access_token"]), 201)

    def delete(token_id: str) -> httpx.Response:
        return http.delete(f"/v1/me/tokens/{token_id}", headers=bearer(token["access_token"]))

    position = ok(delete(script["token_id"]))["position"]
    answer = evaluate(http, asker, script["access_token"])
    assert answer["context"]["reason"] == "token_revoked"
    assert answer["context"]["position"] >= position
    with nothing_recorded(http):
        assert ok(delete(script["token_id"]))["position"] >= position  # once more is no error
        unknown = [others["token_id"], "01890a5d-ac96-774b-bcce-b302099a8057", "x", script["token_id"].replace("-", "")]
        for token_id in unknown:
            assert refused(delete(token_id), 404, "unknown_token")["detail"] == "there is no such token"
    assert ok(me(http, others["access_token"]))["subject_id"] == bob.subject_id
