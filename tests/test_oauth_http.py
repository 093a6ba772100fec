"""/oauth/*: the errors of RFC 6749 section 5.2, byte for byte where it says so; introspection and revocation as clients see
them. A refused request leaves the log where it was."""

import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_client,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    resource_server,
    unique,
)
from tests.serving import Served

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ENDPOINTS = ("token", "introspect", "revoke")
# What RFC 6749 section 5.2 lets stand in `error` and `error_description`.
ERROR_CHARACTERS = set(map(chr, range(0x20, 0x7F))) - set('"\\')


@dataclass(frozen=True)
class Setting:
    """An API with a role, its resource server, a machine that may call it, an app that people log in through, a person."""

    api: str
    role: str
    asker: App
    machine: App
    app: App
    person: Person


@pytest.fixture(scope="module")
def setting(ledger_server: Served) -> Setting:
    with ledger_server.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"], "writer": ["allow * /orders/**"]})
        role = f"{api}:reader"
        machine = new_client(admin, "machine", grants=["client_credentials"], apis=[api])
        ok(admin.post(f"/v1/subjects/{machine.subject_id}/roles", json={"roles": [role, f"{api}:writer"]}))
        app = first_party(admin, api, refresh="rotating")
        return Setting(api, role, resource_server(admin, api), machine, app, new_person(admin, role, f"{api}:writer"))


@pytest.fixture
def nothing_recorded_by_the_test(http: httpx.Client) -> Iterator[None]:
    """The log stands afterwards where it stood."""
    with nothing_recorded(http):
        yield


records_nothing = pytest.mark.usefixtures("nothing_recorded_by_the_test")


def error(answer: httpx.Response, name: str, status: int = 400) -> dict[str, Any]:
    """Answer the error object of an answer that must be this error (RFC 6749 section 5.2)."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"error", "error_description"}
    assert body["error"] == name, body
    assert body["error_description"]
    assert set(body["error"] + body["error_description"]) <= ERROR_CHARACTERS
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers.get("www-authenticate") == ('Basic realm="token-ledger"' if status == 401 else None)
    return body


def post(http: httpx.Client, endpoint: str, body: str, app: App) -> httpx.Response:
    """Send a form as it is written."""
    return http.post(f"/oauth/{endpoint}", content=body, headers=FORM, auth=app.auth)


def ask(http: httpx.Client, app: App, **form: str) -> httpx.Response:
    """Ask for a token with client_credentials, unless the form says otherwise."""
    return http.post("/oauth/token", data={"grant_type": "client_credentials"} | form, auth=app.auth)


# ----------------------------------------------------------------------------------------------------- what is answered


def test_a_token_answer_has_the_members_of_the_standard_and_is_not_to_be_stored(http: httpx.Client, setting: Setting) -> None:
    answer = ask(http, setting.machine)
    body = ok(answer)
    assert (body["token_type"], "refresh_token" in body, "scope" in body) == ("Bearer", False, False)
    assert 590 <= body["expires_in"] <= 600
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    assert evaluate(http, setting.asker, body["access_token"])["decision"] is True


def test_a_client_authenticates_by_basic_or_in_the_form(http: httpx.Client, setting: Setting) -> None:
    machine = setting.machine
    assert machine.secret is not None
    in_form = {"client_id": machine.name, "client_secret": machine.secret}
    assert ok(http.post("/oauth/token", data={"grant_type": "client_credentials"} | in_form))["access_token"]
    # RFC 6749 section 2.3.1: name and secret are form-encoded before they are joined.
    encoded = "".join(f"%{ord(c):02x}" for c in machine.name), machine.secret
    assert ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=encoded))["access_token"]
    repeated = {"grant_type": "client_credentials", "client_id": machine.name}
    assert ok(http.post("/oauth/token", data=repeated, auth=machine.auth))["access_token"]


def test_a_parameter_without_a_value_is_as_if_it_were_not_there(http: httpx.Client, setting: Setting) -> None:
    assert "scope" not in ok(post(http, "token", "grant_type=client_credentials&scope=&resource=", setting.machine))


def test_a_parameter_we_do_not_know_is_ignored(http: httpx.Client, setting: Setting) -> None:
    assert ok(ask(http, setting.machine, colour="blue", state="x"))["access_token"]


def test_the_address_of_the_request_says_nothing(http: httpx.Client, setting: Setting) -> None:
    machine = setting.machine
    query = {"scope": setting.role, "client_id": "another", "client_secret": "x", "grant_type": "password"}
    answer = http.post("/oauth/token", params=query, data={"grant_type": "client_credentials"}, auth=machine.auth)
    assert "scope" not in ok(answer)
    nothing = http.post("/oauth/token", params={"grant_type": "client_credentials", "client_id": machine.name})
    assert nothing.status_code == 415


# ------------------------------------------------------------------------------------------------- malformed requests


@records_nothing
@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("scope=x", "invalid_request"),
        ("grant_type=bar", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unsupported_grant_type"),
        ("grant_type=Client_Credentials", "unsupported_grant_type"),
        ("grant_type=client_credentials%00", "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=a&scope=b", "invalid_request"),
        ("grant_type=client_credentials&scope=&scope=b", "invalid_request"),
        ("grant_type=client_credentials&resource=a&resource=b", "invalid_request"),
        ("grant_type=client_credentials&%22%5C=1&%22%5C=2", "invalid_request"),
        ("grant_type=client_credentials&scope=%ff%fe", "invalid_request"),
        ("grant_type=client_credentials&scope=%ed%a0%80", "invalid_request"),
        ("grant_type=client_credentials&auth_token=%%7A&auth_token=1", "invalid_request"),
        ("grant_type", "invalid_request"),
        ("&&&", "invalid_request"),
        ("{}", "invalid_request"),
        ("&".join(f"p{n}=1" for n in range(101)), "invalid_request"),
        ("grant_type=refresh_token", "unauthorized_client"),
        ("grant_type=password&username=a&password=b", "unauthorized_client"),
    ],
)
def test_a_malformed_request_for_a_token_is_answered_as_the_standard_says(
    http: httpx.Client, setting: Setting, body: str, name: str
) -> None:
    error(post(http, "token", body, setting.machine), name)


@records_nothing
@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
@pytest.mark.parametrize(
    "body", ["", "token=", "token=a&token=b", "token=&token=b", "token_type_hint=access_token", "token=%00"]
)
def test_a_request_about_no_token_or_two_is_malformed(http: httpx.Client, setting: Setting, endpoint: str, body: str) -> None:
    error(post(http, endpoint, body, setting.asker), "invalid_request")


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", "", "a"])
def test_another_content_type_is_refused(http: httpx.Client, setting: Setting, endpoint: str, content_type: str) -> None:
    body = "token=x&grant_type=client_credentials"
    answer = http.post(f"/oauth/{endpoint}", content=body, headers={"Content-Type": content_type}, auth=setting.machine.auth)
    error(answer, "invalid_request", 415)


@records_nothing
@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded; charset=UTF-8", "APPLICATION/X-WWW-Form-URLencoded"]
)
def test_the_content_type_of_a_form_may_be_written_in_any_case(http: httpx.Client, setting: Setting, content_type: str) -> None:
    answer = http.post("/oauth/token", content="a=b", headers={"Content-Type": content_type}, auth=setting.machine.auth)
    error(answer, "invalid_request")


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(http: httpx.Client, setting: Setting, endpoint: str, method: str) -> None:
    answer = http.request(method, f"/oauth/{endpoint}", params={"token": "foo", "grant_type": "client_credentials"})
    error(answer, "invalid_request", 405)
    assert "POST" in answer.headers["allow"]


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_over_256_kib_is_refused(http: httpx.Client, setting: Setting, endpoint: str) -> None:
    error(post(http, endpoint, "token=" + "x" * 262_144, setting.asker), "invalid_request", 413)


# ----------------------------------------------------------------------------------------------- clients that are not


def basic(text: str | bytes) -> str:
    """Write HTTP Basic credentials, right or wrong."""
    return "Basic " + b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_whatever_is_wrong_with_a_client_is_answered_in_the_same_words_status_and_headers(
    http: httpx.Client, admin: httpx.Client, setting: Setting, endpoint: str
) -> None:
    name, secret = setting.machine.auth
    _, other_secret = setting.asker.auth
    suspended = new_client(admin, "suspended", grants=["client_credentials"], apis=[setting.api])
    ok(admin.post(f"/v1/clients/{suspended.name}/suspend", json={"reason": "an audit"}))
    wrong = secret[:-7] + ("0" if secret[-7] != "0" else "1")
    attempts: dict[str, str | bytes] = {
        "a wrong secret": f"{name}:{wrong}{secret[-6:]}",
        "a secret of another client": f"{name}:{other_secret}",
        "a name that is not there": f"{unique('nobody')}:{secret}",
        "a secret that is no secret of ours": f"{name}:guess",
        "an access token": f"{name}:tl_at_{secret[6:]}",
        "no secret": f"{name}:",
        "no name": f":{secret}",
        "no colon": name,
        "a name in another case": f"{name.upper()}:{secret}",
        "a suspended client": f"{suspended.name}:{suspended.secret}",
        "no UTF-8": b"\xff\xfe:" + secret.encode(),
        "NUL": f"{name}\0:{secret}",
    }
    headers = {what: basic(text) for what, text in attempts.items()}
    headers |= {
        "no base64": "Basic !",
        "padding missing": "Basic " + basic("ab:c").rstrip("=")[6:],
        "twice": "Basic a, Basic b",
    }
    answers: dict[str, str] = {}
    form = {"grant_type": "client_credentials", "token": "x"}
    with nothing_recorded(http):
        for what, header in headers.items():
            answer = http.post(f"/oauth/{endpoint}", data=form, headers={"Authorization": header})
            error(answer, "invalid_client", 401)
            shown = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
            answers[what] = repr((answer.status_code, answer.text, shown))
    assert len(set(answers.values())) == 1, answers


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_in_the_form_a_wrong_client_is_refused_in_the_same_words_too(
    http: httpx.Client, setting: Setting, endpoint: str
) -> None:
    name, secret = setting.machine.auth
    texts = set()
    for client_id, client_secret in ((name, "guess"), (unique("nobody"), secret), (name, setting.asker.auth[1])):
        form = {"grant_type": "client_credentials", "token": "x", "client_id": client_id, "client_secret": client_secret}
        texts.add(error(http.post(f"/oauth/{endpoint}", data=form), "invalid_client", 401)["error_description"])
    assert texts == {"unknown client, or wrong secret"}


@records_nothing
def test_a_header_that_is_no_ascii_is_refused(ledger_server: Served) -> None:
    host, port = ledger_server.url.removeprefix("http://").split(":")
    body = b"token=x"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /oauth/introspect HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic \xe9\xff\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"invalid_client" in answer


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_who_says_nothing_of_himself_is_refused(http: httpx.Client, setting: Setting, endpoint: str) -> None:
    for headers in ({}, bearer("x"), {"Authorization": "Digest x"}, {"Authorization": "Basic"}):
        answer = http.post(f"/oauth/{endpoint}", data={"grant_type": "client_credentials", "token": "x"}, headers=headers)
        error(answer, "invalid_client", 401)


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_two_ways_of_authentication_at_once_are_refused(http: httpx.Client, setting: Setting, endpoint: str) -> None:
    name, secret = setting.machine.auth
    for more in ({"client_secret": secret}, {"client_id": name, "client_secret": secret}, {"client_id": setting.asker.name}):
        form = {"grant_type": "client_credentials", "token": "x"} | more
        error(http.post(f"/oauth/{endpoint}", data=form, auth=(name, secret)), "invalid_request")


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_public_client_has_no_secret_to_show(http: httpx.Client, setting: Setting, endpoint: str) -> None:
    _, secret = setting.machine.auth
    form = {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"}
    for client_secret in (secret, "guess"):
        given = form | {"client_id": setting.app.name, "client_secret": client_secret}
        error(http.post(f"/oauth/{endpoint}", data=given), "invalid_client", 401)
        error(http.post(f"/oauth/{endpoint}", data=form, auth=(setting.app.name, client_secret)), "invalid_client", 401)


@records_nothing
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_confidential_client_must_show_its_secret(http: httpx.Client, setting: Setting, endpoint: str) -> None:
    form = {"grant_type": "client_credentials", "token": "x", "client_id": setting.machine.name}
    error(http.post(f"/oauth/{endpoint}", data=form), "invalid_client", 401)


@records_nothing
def test_a_grant_that_the_client_has_not_is_refused(http: httpx.Client, setting: Setting) -> None:
    error(ask(http, setting.asker), "unauthorized_client")
    form = {"grant_type": "client_credentials", "client_id": setting.app.name}
    error(http.post("/oauth/token", data=form), "unauthorized_client")


# ----------------------------------------------------------------------------------------------------------------- scope


@records_nothing
@pytest.mark.parametrize(
    "scope",
    ["nuke", "orders:reader", "{role} nuke", " {role}", "{role} ", "{role}  direct", "{role}\t", "ledger:administrator"],
)
def test_a_scope_that_is_not_there_or_badly_written_is_refused(http: httpx.Client, setting: Setting, scope: str) -> None:
    error(ask(http, setting.machine, scope=scope.format(role=setting.role)), "invalid_scope")


def test_a_role_that_the_subject_has_not_is_refused(http: httpx.Client, admin: httpx.Client, setting: Setting) -> None:
    ok(admin.post(f"/v1/apis/{setting.api}/roles", json={"name": (name := unique("clerk"))}), 201)
    with nothing_recorded(http):
        error(ask(http, setting.machine, scope=f"{setting.api}:{name}"), "invalid_scope")


def test_a_narrower_scope_is_granted_and_said(http: httpx.Client, setting: Setting) -> None:
    token = ok(ask(http, setting.machine, scope=setting.role))
    assert token["scope"] == setting.role
    assert introspect(http, setting.asker, token["access_token"])["scope"] == setting.role
    assert evaluate(http, setting.asker, token["access_token"], "DELETE")["context"]["reason"] == "not_in_scope"


def test_a_refresh_narrows_the_access_token_and_never_the_refresh_token(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    narrow = ok(refresh(http, setting.app, token["refresh_token"], scope=setting.role))
    assert narrow["scope"] == setting.role
    assert evaluate(http, setting.asker, narrow["access_token"], "DELETE")["decision"] is False
    wide = ok(refresh(http, setting.app, narrow["refresh_token"]))
    assert "scope" not in wide
    assert evaluate(http, setting.asker, wide["access_token"], "DELETE")["decision"] is True


def test_a_refresh_never_widens(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app, scope=setting.role)
    with nothing_recorded(http):
        for scope in (
            f"{setting.role} {setting.api}:writer",
            f"{setting.api}:writer",
            f"{setting.role} direct",
            "direct",
            "nuke",
        ):
            error(refresh(http, setting.app, token["refresh_token"], scope=scope), "invalid_scope")
    # Refused, it was not used: the next use is the first.
    assert ok(refresh(http, setting.app, token["refresh_token"]))["scope"] == setting.role


# ------------------------------------------------------------------------------------------- the API, by `resource` (RFC 8707)


def test_a_resource_narrows_the_audience_by_name_or_by_audience(http: httpx.Client, admin: httpx.Client) -> None:
    one = new_api(admin)
    ok(admin.post("/v1/apis", json={"name": (two := unique("two")), "audience": f"https://{two}.example/"}), 201)
    machine = new_client(admin, grants=["client_credentials"], apis=[one, two])
    asker = resource_server(admin, two)
    for resource, active in ((one, False), (two, True), (f"https://{two}.example/", True)):
        token = ok(ask(http, machine, resource=resource))
        assert introspect(http, asker, token["access_token"])["active"] is active
    assert introspect(http, asker, token["access_token"])["aud"] == [f"https://{two}.example/"]


@records_nothing
@pytest.mark.parametrize("resource", ["nuke", "ledger", "https://elsewhere.example", " ", "\x00"])
def test_a_resource_that_is_not_the_clients_is_refused(http: httpx.Client, setting: Setting, resource: str) -> None:
    error(ask(http, setting.machine, resource=resource), "invalid_request" if resource == "\x00" else "invalid_target")


def test_a_role_of_another_api_than_the_resource_is_refused(http: httpx.Client, admin: httpx.Client, setting: Setting) -> None:
    other = new_api(admin)
    machine = new_client(admin, grants=["client_credentials"], apis=[setting.api, other])
    ok(admin.post(f"/v1/subjects/{machine.subject_id}/roles", json={"roles": [setting.role]}))
    error(ask(http, machine, resource=other, scope=setting.role), "invalid_scope")


def test_a_refresh_narrows_the_audience_of_the_access_token_only(http: httpx.Client, admin: httpx.Client) -> None:
    one, two = new_api(admin), new_api(admin)
    asker, app, person = resource_server(admin, two), first_party(admin, one, two, refresh="rotating"), new_person(admin)
    token = login(http, person, app)
    narrow = ok(refresh(http, app, token["refresh_token"], resource=one))
    assert introspect(http, asker, narrow["access_token"])["active"] is False
    wide = ok(refresh(http, app, narrow["refresh_token"]))
    assert introspect(http, asker, wide["access_token"])["aud"] == [one, two]
    narrow_grant = login(http, person, app, apis=[one])
    with nothing_recorded(http):
        error(refresh(http, app, narrow_grant["refresh_token"], resource=two), "invalid_target")


def test_a_refresh_gives_no_api_that_was_taken_from_the_client(http: httpx.Client, admin: httpx.Client) -> None:
    one, two = new_api(admin), new_api(admin)
    askers = [resource_server(admin, api) for api in (one, two)]
    app, person = first_party(admin, one, two, refresh="rotating"), new_person(admin)
    both, second = login(http, person, app), login(http, person, app, apis=[two])
    ok(admin.patch(f"/v1/clients/{app.name}", json={"apis": [one]}))
    token = ok(refresh(http, app, both["refresh_token"]))
    assert [introspect(http, asker, token["access_token"])["active"] for asker in askers] == [True, False]
    error(refresh(http, app, second["refresh_token"]), "invalid_grant")


# --------------------------------------------------------------------------------------------------------- refresh tokens


def test_the_refresh_token_of_another_client_is_refused_and_stays_good(
    http: httpx.Client, admin: httpx.Client, setting: Setting
) -> None:
    token = login(http, setting.person, setting.app)
    other = first_party(admin, setting.api, refresh="rotating")
    with nothing_recorded(http):
        error(refresh(http, other, token["refresh_token"]), "invalid_grant")
    assert ok(refresh(http, setting.app, token["refresh_token"]))["access_token"]


@records_nothing
@pytest.mark.parametrize("text", ["not-a-real-refresh-token", "tl_rt_", "x" * 4_500, "tl_rt_" + "0" * 71])
def test_an_unknown_refresh_token_is_refused(http: httpx.Client, setting: Setting, text: str) -> None:
    error(refresh(http, setting.app, text), "invalid_grant")


@records_nothing
def test_a_missing_refresh_token_is_a_malformed_request_and_refused(http: httpx.Client, setting: Setting) -> None:
    form = {"grant_type": "refresh_token", "client_id": setting.app.name}
    error(http.post("/oauth/token", data=form), "invalid_request")
    error(http.post("/oauth/token", data=form | {"refresh_token": ""}), "invalid_request")


def test_an_access_token_does_not_refresh(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    error(refresh(http, setting.app, token["access_token"]), "invalid_grant")


# --------------------------------------------------------------------------------------------------------------- password


def test_a_password_at_the_token_endpoint_is_for_first_party_clients(http: httpx.Client, setting: Setting) -> None:
    form = {"grant_type": "password", "client_id": setting.app.name, "username": setting.person.username}
    assert ok(http.post("/oauth/token", data=form | {"password": setting.person.password}))["refresh_token"]


@records_nothing
def test_a_wrong_password_and_a_wrong_user_are_refused_in_the_same_words(http: httpx.Client, setting: Setting) -> None:
    form = {"grant_type": "password", "client_id": setting.app.name}
    answers = {
        str(error(http.post("/oauth/token", data=form | {"username": name, "password": "not the password"}), "invalid_grant"))
        for name in (setting.person.username, unique("nobody"), "", "\x85", "x" * 1_000)
        if name
    }
    assert len(answers) == 1


@records_nothing
def test_a_password_request_without_user_or_password_is_refused(http: httpx.Client, setting: Setting) -> None:
    form = {"grant_type": "password", "client_id": setting.app.name}
    for more in ({}, {"username": "a"}, {"password": "b"}, {"username": "", "password": "b"}):
        error(http.post("/oauth/token", data=form | more), "invalid_request")


# ------------------------------------------------------------------------------------------------- introspection, revocation


@records_nothing
def test_introspection_is_for_resource_servers(http: httpx.Client, setting: Setting) -> None:
    form = {"token": "x"}
    error(http.post("/oauth/introspect", data=form, auth=setting.machine.auth), "unauthorized_client", 403)
    error(http.post("/oauth/introspect", data=form | {"client_id": setting.app.name}), "unauthorized_client", 403)


def test_introspection_says_what_a_token_stands_for(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    answer = introspect(http, setting.asker, token["access_token"])
    assert (answer["active"], answer["token_type"], answer["client_id"]) == (True, "Bearer", setting.app.name)
    assert (answer["sub"], answer["aud"], answer["jti"]) == (setting.person.subject_id, [setting.api], token["token_id"])
    assert answer["exp"] - answer["iat"] == 600
    assert "username" not in answer  # a name is personal


def test_introspection_of_anything_else_says_that_it_is_not_active_and_no_more(
    http: httpx.Client, admin: httpx.Client, setting: Setting
) -> None:
    elsewhere = new_api(admin)
    token = login(http, setting.person, setting.app)
    for asker, text in (
        (setting.asker, "this-token-does-not-exist"),
        (setting.asker, token["refresh_token"]),  # a refresh token is the matter of its client and of ours
        (resource_server(admin, elsewhere), token["access_token"]),
    ):
        answer = http.post("/oauth/introspect", data={"token": text}, auth=asker.auth)
        assert ok(answer) == {"active": False}
        # As of when that was so is said all the same.
        assert int(answer.headers["ledger-position"]) == ok(http.get("/readyz"))["position"]
        assert {"ledger-instant", "ledger-semantics", "ledger-log-id"} <= answer.headers.keys()


def test_the_hint_of_a_token_type_changes_nothing(http: httpx.Client, setting: Setting) -> None:
    for hint in ("access_token", "refresh_token", "bad_hint", ""):
        token = login(http, setting.person, setting.app)
        form = {"token": token["access_token"], "token_type_hint": hint}
        assert ok(http.post("/oauth/introspect", data=form, auth=setting.asker.auth))["active"] is True
        ok(http.post("/oauth/revoke", data=form | {"client_id": setting.app.name}))
        assert introspect(http, setting.asker, token["access_token"])["active"] is False


def test_revoking_an_access_token_leaves_its_family(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    ok(http.post("/oauth/revoke", data={"token": token["access_token"], "client_id": setting.app.name}))
    assert introspect(http, setting.asker, token["access_token"])["active"] is False
    assert ok(refresh(http, setting.app, token["refresh_token"]))["access_token"]


def test_revoking_a_refresh_token_revokes_its_family(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    ok(http.post("/oauth/revoke", data={"token": token["refresh_token"], "client_id": setting.app.name}))
    answer = evaluate(http, setting.asker, token["access_token"])
    assert answer["context"]["reason"] == "family_revoked"
    error(refresh(http, setting.app, token["refresh_token"]), "invalid_grant")


def test_revoking_again_or_what_is_not_there_is_no_error_and_records_nothing(http: httpx.Client, setting: Setting) -> None:
    token = login(http, setting.person, setting.app)
    form = {"token": token["access_token"], "client_id": setting.app.name}
    position = ok(http.post("/oauth/revoke", data=form))["position"]
    for text in (token["access_token"], "this-token-does-not-exist", "9" * 4_500, "tl_at_" + "0" * 71):
        assert ok(http.post("/oauth/revoke", data=form | {"token": text}))["position"] == position


def test_a_client_revokes_no_token_of_another(http: httpx.Client, admin: httpx.Client, setting: Setting) -> None:
    other = first_party(admin, setting.api, refresh="rotating")
    token = login(http, setting.person, setting.app)
    position = ok(http.get("/readyz"))["position"]
    for text in (token["access_token"], token["refresh_token"]):
        assert ok(http.post("/oauth/revoke", data={"token": text, "client_id": other.name}))["position"] == position
        ok(http.post("/oauth/revoke", data={"token": text}, auth=setting.machine.auth))
    assert introspect(http, setting.asker, token["access_token"])["active"] is True
    assert ok(refresh(http, setting.app, token["refresh_token"]))["access_token"]


def test_a_form_is_read_as_it_is_encoded(http: httpx.Client, setting: Setting) -> None:
    body = urlencode({"grant_type": "client_credentials", "scope": setting.role}).replace("_", "%5F")
    assert ok(post(http, "token", body, setting.machine))["scope"] == setting.role
