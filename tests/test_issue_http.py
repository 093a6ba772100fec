"""Tokens that nobody logged in for: on behalf of subjects authenticated elsewhere, for scripts, and for machines themselves.
And what anybody may know of the ledger."""

import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from api.resources.issue import MAX_CLAIMS_BYTES, RESERVED_CLAIMS
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
    refused,
    resource_server,
    unique,
)
from tests.forging import claims_of
from tests.serving import Served

STRATEGIES = ("opaque", "encrypted", "jwt", "jwe")
DAY_SECONDS = 86_400
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture(scope="module")
def api(ledger_server: Served) -> str:
    with ledger_server.admin() as admin:
        return new_api(admin, {"reader": ["allow GET /orders/**"], "writer": ["allow * /orders/**"]})


@pytest.fixture(scope="module")
def asker(ledger_server: Served, api: str) -> App:
    with ledger_server.admin() as admin:
        return resource_server(admin, api)


@pytest.fixture(scope="module")
def ann(ledger_server: Served, api: str) -> Person:
    with ledger_server.admin() as admin:
        return new_person(admin, f"{api}:reader", f"{api}:writer")


@pytest.fixture(scope="module")
def issuer(ledger_server: Served, api: str) -> App:
    with ledger_server.admin() as admin:
        return new_client(admin, "sso", grants=["issue"], strategy="jwt", apis=[api])


def issue(http: httpx.Client, issuer: App, **body: Any) -> httpx.Response:
    """Ask for a token as an issuer."""
    return http.post("/v1/tokens", json=body, auth=issuer.auth)


def allowed(http: httpx.Client, asker: App, token: dict[str, Any], method: str = "GET") -> bool:
    """Ask whether the token may."""
    decision: bool = evaluate(http, asker, token["access_token"], method)["decision"]
    return decision


# ------------------------------------------------------------------------------------------------- on behalf of others


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_issuer_obtains_tokens_for_people_by_id_and_by_name(
    http: httpx.Client, admin: httpx.Client, api: str, asker: App, ann: Person, strategy: str
) -> None:
    issuer = new_client(admin, "sso", grants=["issue"], strategy=strategy, apis=[api])
    for named in ({"subject_id": ann.subject_id}, {"username": ann.username}, {"username": ann.username.upper()}):
        token = ok(issue(http, issuer, **named), 201)
        assert (token["subject_id"], token["token_type"]) == (ann.subject_id, "Bearer")
        assert "refresh_token" not in token
        seen = introspect(http, asker, token["access_token"])
        assert (seen["sub"], seen["client_id"], seen["strategy"]) == (ann.subject_id, issuer.name, strategy)
        assert allowed(http, asker, token)


def test_an_issuer_with_refresh_obtains_a_family(http: httpx.Client, admin: httpx.Client, api: str, ann: Person) -> None:
    issuer = new_client(admin, "sso", grants=["issue", "refresh_token"], refresh="rotating", apis=[api])
    token = ok(issue(http, issuer, subject_id=ann.subject_id, claims={"colour": "blue"}), 201)
    again = ok(refresh(http, issuer, token["refresh_token"]))
    assert again["family_id"] == token["family_id"]
    # A token whose lifetime was asked for has none to follow it.
    assert "refresh_token" not in ok(issue(http, issuer, subject_id=ann.subject_id, lifetime_seconds=60), 201)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_administrator_obtains_tokens_through_any_client(
    http: httpx.Client, admin: httpx.Client, api: str, asker: App, ann: Person, strategy: str
) -> None:
    client = first_party(admin, api, strategy=strategy)
    token = ok(admin.post("/v1/tokens", json={"subject_id": ann.subject_id, "client": client.name}), 201)
    assert introspect(http, asker, token["access_token"])["client_id"] == client.name


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "client"),
        ({"client": "{client}"}, "subject_id"),
        ({"client": "{client}", "subject_id": "{ann}", "username": "x"}, "subject_id"),
        ({"client": "nobody-at-all", "subject_id": "{ann}"}, "client"),
        ({"client": "{client}", "username": "nobody-at-all"}, "username"),
        ({"client": "{client}", "username": ""}, "username"),
        ({"client": "{client}", "subject_id": "x"}, "subject_id"),
        ({"client": "{client}", "subject_id": 7}, "subject_id"),
        ({"client": ["{client}"], "subject_id": "{ann}"}, "client"),
        ({"client": "{client}", "subject_id": "{ann}", "apis": "orders"}, "apis"),
        ({"client": "{client}", "subject_id": "{ann}", "scope": ["direct"]}, "scope"),
        ({"client": "{client}", "subject_id": "{ann}", "lifetime_seconds": 3_601}, "lifetime_seconds"),
        ({"client": "{client}", "subject_id": "{ann}", "lifetime_seconds": 0}, "lifetime_seconds"),
        ({"client": "{client}", "subject_id": "{ann}", "lifetime_seconds": True}, "lifetime_seconds"),
        ({"client": "{client}", "subject_id": "{ann}", "name": "x", "lifetime_seconds": 31_536_001}, "lifetime_seconds"),
        ({"client": "{client}", "subject_id": "{ann}", "claims": []}, "claims"),
        ({"client": "{client}", "subject_id": "{ann}", "expires_at": "2030-01-01"}, "expires_at"),
    ],
)
def test_a_request_that_is_not_right_is_refused_by_name_and_records_nothing(
    http: httpx.Client, admin: httpx.Client, ann: Person, issuer: App, body: dict[str, Any], field: str
) -> None:
    words = {"{client}": issuer.name, "{ann}": ann.subject_id}
    asked = {name: words.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    with nothing_recorded(http):
        problem = refused(admin.post("/v1/tokens", json=asked), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]][:1] == [field]


def test_whoever_may_not_issue_is_refused(http: httpx.Client, admin: httpx.Client, api: str, ann: Person, issuer: App) -> None:
    machine = new_client(admin, grants=["client_credentials"], apis=[api])
    suspended = new_client(admin, grants=["issue"], apis=[api])
    ok(admin.post(f"/v1/clients/{suspended.name}/suspend", json={"reason": "an audit"}))
    operator = login(http, new_person(admin, "ledger:operator"))
    body = {"subject_id": ann.subject_id, "client": issuer.name}
    with nothing_recorded(http):
        refused(issue(http, machine, subject_id=ann.subject_id), 403, "not_allowed")
        refused(issue(http, issuer, subject_id=ann.subject_id, client=machine.name), 403, "not_allowed")
        refused(issue(http, suspended, subject_id=ann.subject_id), 401, "not_authenticated")
        wrong = http.post("/v1/tokens", json={"subject_id": ann.subject_id}, auth=(issuer.name, "guess"))
        refused(wrong, 401, "not_authenticated")
        assert wrong.headers["www-authenticate"] == 'Basic realm="token-ledger"'
        nobody = http.post("/v1/tokens", json=body)
        refused(nobody, 401, "not_authenticated")
        assert nobody.headers["www-authenticate"] == (
            f'Bearer realm="token-ledger", resource_metadata="{http.base_url}/.well-known/oauth-protected-resource"'
        )
        refused(http.post("/v1/tokens", json=body, headers=bearer(operator["access_token"])), 403, "not_allowed")


def test_no_token_is_issued_for_a_subject_that_does_not_stand(http: httpx.Client, admin: httpx.Client, issuer: App) -> None:
    suspended, erased = new_person(admin), new_person(admin)
    ok(admin.post(f"/v1/subjects/{suspended.subject_id}/suspend", json={"reason": "an audit"}))
    ok(admin.post(f"/v1/subjects/{erased.subject_id}/erase", json={"reason": "asked for"}))
    with nothing_recorded(http):
        for subject_id in (suspended.subject_id, erased.subject_id, NOBODY):
            refused(issue(http, issuer, subject_id=subject_id), 409, "grant_refused")


def test_a_token_is_restricted_to_apis_and_scope(http: httpx.Client, admin: httpx.Client, api: str, ann: Person) -> None:
    other = new_api(admin)
    askers = [resource_server(admin, name) for name in (api, other)]
    issuer = new_client(admin, "sso", grants=["issue"], apis=[api, other])
    narrow = ok(issue(http, issuer, subject_id=ann.subject_id, apis=[api], scope=f"{api}:reader"), 201)
    assert narrow["scope"] == f"{api}:reader"
    assert [introspect(http, who, narrow["access_token"])["active"] for who in askers] == [True, False]
    assert allowed(http, askers[0], narrow)
    assert not allowed(http, askers[0], narrow, "DELETE")
    with nothing_recorded(http):
        for body in (
            {"apis": ["ledger"]},
            {"apis": ["nuke"]},
            {"scope": "nuke"},
            {"scope": ""},
            {"apis": [other], "scope": f"{api}:reader"},
        ):
            refused(issue(http, issuer, subject_id=ann.subject_id, **body), 409, "grant_refused")


def test_a_named_token_lives_as_long_as_its_ceiling_and_shows_its_name_nowhere(
    http: httpx.Client, asker: App, ann: Person, issuer: App
) -> None:
    token = ok(issue(http, issuer, subject_id=ann.subject_id, name="nightly export"), 201)
    assert token["expires_in"] in (365 * DAY_SECONDS - 1, 365 * DAY_SECONDS)
    assert "nightly export" not in json.dumps(
        [claims_of(token["access_token"]), introspect(http, asker, token["access_token"])]
    )
    longest = ok(issue(http, issuer, subject_id=ann.subject_id, name="x", lifetime_seconds=365 * DAY_SECONDS), 201)
    assert longest["expires_in"] >= 365 * DAY_SECONDS - 1


# --------------------------------------------------------------------------------------------------------- custom claims


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_custom_claims_are_told_by_introspection_whatever_the_strategy(
    http: httpx.Client, admin: httpx.Client, api: str, asker: App, ann: Person, strategy: str
) -> None:
    issuer = new_client(admin, "sso", grants=["issue"], strategy=strategy, apis=[api])
    claims = {"tenant": "süd", "limits": {"orders": 2**53 - 1, "open": None}, "tags": ["a", True, -1]}
    token = ok(issue(http, issuer, subject_id=ann.subject_id, claims=claims), 201)
    seen = introspect(http, asker, token["access_token"])
    assert {name: seen[name] for name in claims} == claims
    assert seen["active"] is True


def test_custom_claims_stand_in_a_jwt_beside_the_registered_ones(http: httpx.Client, ann: Person, issuer: App) -> None:
    token = ok(issue(http, issuer, subject_id=ann.subject_id, claims={"tenant": "süd"}), 201)
    claims = claims_of(token["access_token"])
    assert claims.pop("tenant") == "süd"
    assert claims.keys() == {"iss", "sub", "aud", "client_id", "iat", "exp", "jti"}


def test_custom_claims_go_with_every_token_of_the_family(
    http: httpx.Client, admin: httpx.Client, api: str, asker: App, ann: Person
) -> None:
    issuer = new_client(admin, "sso", grants=["issue", "refresh_token"], strategy="jwt", refresh="rotating", apis=[api])
    token = ok(issue(http, issuer, subject_id=ann.subject_id, claims={"tenant": "süd"}), 201)
    again = ok(refresh(http, issuer, token["refresh_token"]))
    assert claims_of(again["access_token"])["tenant"] == "süd"


@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
def test_no_custom_claim_has_the_name_of_a_registered_one(http: httpx.Client, ann: Person, issuer: App, name: str) -> None:
    with nothing_recorded(http):
        answer = issue(http, issuer, subject_id=ann.subject_id, claims={"tenant": "süd", name: False})
    assert refused(answer, 400, "invalid_input")["problems"][0]["field"] == f"claims.{name}"


def test_what_introspection_and_jwts_say_themselves_is_reserved(
    http: httpx.Client, asker: App, ann: Person, issuer: App
) -> None:
    token = ok(issue(http, issuer, subject_id=ann.subject_id, scope="direct"), 201)
    seen = introspect(http, asker, token["access_token"])
    assert {*seen, *claims_of(token["access_token"])} <= RESERVED_CLAIMS


def test_custom_claims_have_room_for_2_kib_of_json(http: httpx.Client, asker: App, ann: Person, issuer: App) -> None:
    room = MAX_CLAIMS_BYTES - len('{"filler":""}')
    token = ok(issue(http, issuer, subject_id=ann.subject_id, claims={"filler": "é" * (room // 2)}), 201)
    assert introspect(http, asker, token["access_token"])["active"] is True
    with nothing_recorded(http):
        answer = issue(http, issuer, subject_id=ann.subject_id, claims={"filler": "x" * (room + 1)})
    assert refused(answer, 400, "invalid_input")["problems"][0]["field"] == "claims"


@pytest.mark.parametrize(
    "claims",
    [
        '{"a":1.5}',
        '{"a":1e3}',
        '{"a":9007199254740992}',
        '{"a":1,"a":1}',
        '{"a":"\\u0000"}',
        '{"a":"\\ud800"}',
        '{"a":NaN}',
        '{"a":' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_claims_that_not_everybody_reads_alike_are_refused(http: httpx.Client, ann: Person, issuer: App, claims: str) -> None:
    body = f'{{"subject_id":"{ann.subject_id}","claims":{claims}}}'
    with nothing_recorded(http):
        answer = http.post("/v1/tokens", content=body, headers={"Content-Type": "application/json"}, auth=issuer.auth)
    refused(answer, 400, "invalid_input")


# ------------------------------------------------------------------------------------------- strings that would be too long


@pytest.fixture(scope="module")
def wide(ledger_server: Served) -> list[str]:
    """APIs whose audiences together are more than a JWT has room for."""
    with ledger_server.admin() as admin:
        names = [unique("wide") for _ in range(17)]
        for name in names:
            audience = f"https://{name}.example/".ljust(255, "x")
            ok(admin.post("/v1/apis", json={"name": name, "audience": audience}), 201)
        return names


@pytest.mark.parametrize("strategy", ["encrypted", "jwt", "jwe"])
def test_a_token_whose_string_we_would_not_take_back_is_not_issued(
    http: httpx.Client, admin: httpx.Client, wide: list[str], strategy: str
) -> None:
    app = first_party(admin, *wide, strategy=strategy, refresh="reusable")
    machine = new_client(admin, strategy=strategy, grants=["client_credentials", "issue"], apis=wide)
    person = new_person(admin)
    by_login = {"username": person.username, "password": person.password, "client_id": app.name}
    with nothing_recorded(http):
        problem = refused(http.post("/login", json=by_login), 400, "invalid_input")
        assert problem["problems"][0]["field"] == "scope"
        refused(issue(http, machine, subject_id=person.subject_id), 400, "invalid_input")
        answer = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=machine.auth)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    # The most that fits is read back, whatever the strategy: for fewer APIs, with as many claims as there may be.
    fitting = ok(issue(http, machine, subject_id=person.subject_id, apis=wide[:6], claims={"filler": "x" * 2_000}), 201)
    assert len(fitting["access_token"]) <= 8_192
    assert introspect(http, resource_server(admin, wide[0]), fitting["access_token"])["active"] is True


def test_a_refresh_into_a_string_that_is_too_long_is_refused_and_uses_nothing(
    http: httpx.Client, admin: httpx.Client, wide: list[str]
) -> None:
    app = first_party(admin, *wide, strategy="opaque", refresh="rotating")
    token = login(http, new_person(admin), app)  # an opaque string does not grow with its audience
    ok(admin.patch(f"/v1/clients/{app.name}", json={"strategy": "jwe"}))
    with nothing_recorded(http):
        answer = refresh(http, app, token["refresh_token"])
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert ok(refresh(http, app, token["refresh_token"], resource=wide[0]))["access_token"].count(".") == 4


# ----------------------------------------------------------------------------------------------------- the same again


@pytest.mark.parametrize("strategy", ["opaque", "jwt"])
def test_a_repeat_under_an_idempotency_key_issues_nothing_and_shows_no_string(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person, strategy: str
) -> None:
    issuer = new_client(admin, "sso", grants=["issue", "refresh_token"], strategy=strategy, refresh="reusable", apis=[api])
    headers = {"Idempotency-Key": unique("key")}
    body = {"subject_id": ann.subject_id}
    first = ok(http.post("/v1/tokens", json=body, headers=headers, auth=issuer.auth), 201)
    with nothing_recorded(http):
        again = ok(http.post("/v1/tokens", json=body, headers=headers, auth=issuer.auth), 201)
        other = http.post("/v1/tokens", json=body | {"name": "x"}, headers=headers, auth=issuer.auth)
        refused(other, 422, "idempotency_key_reused")
    shown_once = {"access_token", "refresh_token"}
    assert first.keys() - again.keys() == shown_once
    assert again == {name: value for name, value in first.items() if name not in shown_once}


# ------------------------------------------------------------------------------------------------- machines for themselves


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_machine_obtains_tokens_for_itself_and_no_refresh_token(
    http: httpx.Client, admin: httpx.Client, api: str, asker: App, strategy: str
) -> None:
    grants = ["client_credentials", "refresh_token"]
    machine = new_client(admin, "machine", grants=grants, strategy=strategy, refresh="rotating", apis=[api])
    ok(admin.post(f"/v1/subjects/{machine.subject_id}/roles", json={"roles": [f"{api}:reader"]}))
    token = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=machine.auth))
    assert "refresh_token" not in token  # RFC 6749 section 4.4.3
    seen = introspect(http, asker, token["access_token"])
    assert (seen["sub"], seen["client_id"], seen["strategy"]) == (machine.subject_id, machine.name, strategy)
    assert allowed(http, asker, token)
    assert not allowed(http, asker, token, "DELETE")
    ok(admin.post(f"/v1/subjects/{machine.subject_id}/suspend", json={"reason": "an audit"}))
    assert evaluate(http, asker, token["access_token"])["context"]["reason"] == "subject_suspended"
    with nothing_recorded(http):
        answer = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=machine.auth)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


# ---------------------------------------------------------------------------------------------------- what anybody may know


def test_the_metadata_says_what_is(ledger_server: Served, http: httpx.Client) -> None:
    metadata = ok(http.get("/.well-known/oauth-authorization-server"))
    assert metadata["issuer"] == ledger_server.url
    endpoints = {name: url for name, url in metadata.items() if name.endswith("_endpoint")}
    assert endpoints.keys() == {"token_endpoint", "introspection_endpoint", "revocation_endpoint"}
    for name, url in endpoints.items():
        assert urlsplit(url)[:2] == urlsplit(ledger_server.url)[:2]
        answer = httpx.post(url, data={"grant_type": "client_credentials", "token": "x"})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), name
    for grant_type in (*metadata["grant_types_supported"], "authorization_code"):
        answer = http.post("/oauth/token", data={"grant_type": grant_type})
        supported = answer.json()["error"] != "unsupported_grant_type"
        assert supported is (grant_type in metadata["grant_types_supported"])


def test_the_published_keys_are_public_and_verify_what_is_issued(http: httpx.Client, ann: Person, issuer: App) -> None:
    metadata = ok(http.get("/.well-known/oauth-authorization-server"))
    answer = httpx.get(metadata["jwks_uri"])
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = ok(answer)["keys"]
    assert keys
    for key in keys:
        assert key.keys() <= {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["use"], key["alg"]) == ("sig", "EdDSA")
    token = ok(issue(http, issuer, subject_id=ann.subject_id), 201)
    assert claims_of(token["access_token"])["iss"] == metadata["issuer"]


def test_the_server_says_that_it_lives_and_that_it_is_ready(http: httpx.Client) -> None:
    assert ok(http.get("/healthz")) == {"status": "alive"}
    ready = ok(http.get("/readyz"))
    assert (ready["status"], ready["position"] > 0) == ("ready", True)
