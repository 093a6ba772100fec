"""A decision told in sentences, over HTTP: who made it so, at which position, and why; now and as of the past."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.calls import (
    App,
    Person,
    evaluate,
    first_party,
    login,
    new_api,
    new_person,
    ok,
    refresh,
    refused,
    resource_server,
)


@pytest.fixture
def api(admin: httpx.Client) -> str:
    return new_api(admin, {"reader": ["allow GET /orders/**", "allow GET /vault clearance 9"], "barred": ["deny * /secret"]})


@pytest.fixture
def olga(admin: httpx.Client, api: str) -> Person:
    return new_person(admin, f"{api}:reader", name="olga")


@pytest.fixture
def app(admin: httpx.Client, api: str) -> App:
    return first_party(admin, api, refresh="rotating", retry_window_seconds=0)


def explain(admin: httpx.Client, token_id: str, api: str, path: str = "/orders/7", **then: Any) -> dict[str, Any]:
    question = {"token_id": token_id, "api": api, "method": "GET", "path": path} | then
    return ok(admin.get("/v1/audit/explain", params=question))


def texts(answer: dict[str, Any]) -> list[str]:
    return [sentence["text"] for sentence in answer["sentences"]]


def types_at(admin: httpx.Client, answer: dict[str, Any]) -> list[str | None]:
    """Answer what stands in the log where the sentences say so."""
    found: list[str | None] = []
    for sentence in answer["sentences"]:
        at = sentence["position"]
        if at is None:
            found.append(None)
            continue
        (event,) = ok(admin.get("/v1/audit/events", params={"from_position": at, "to_position": at}))["events"]
        assert f"position {at}" in sentence["text"]
        found.append(event["type"])
    return found


def test_a_yes_is_told_from_the_issue_over_the_rule_to_the_grant(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App
) -> None:
    token = login(http, olga, app)
    answer = explain(admin, token["token_id"], api)
    issued, rule, grant, conclusion = texts(answer)
    assert types_at(admin, answer) == ["token_issued", "role_rules_granted", "subject_roles_granted", None]
    assert f"was issued to {olga.username} (subject {olga.subject_id}) through the client {app.name}, for {api}" in issued
    assert "The rule “allow GET /orders/**” of the role reader allows it, as admin (subject " in rule
    assert f"The role reader was granted to {olga.username} (subject {olga.subject_id}) by admin (subject " in grant
    assert conclusion == "So GET /orders/7 is allowed."
    # The decision beside it is the one that the API itself is given.
    asked = evaluate(http, resource_server(admin, api), token["access_token"])
    assert (answer["decision"], answer["context"]["reason"]) == (asked["decision"], asked["context"]["reason"])
    assert answer["context"]["evidence"].keys() == {"token", "family", "subject", "client", "api", "roles", "rule", "role"}


def test_a_no_is_told_with_who_suspended_and_why_even_if_other_things_changed_since(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App
) -> None:
    token = login(http, olga, app)
    before = ok(http.get("/readyz"))["position"]
    subject = f"/v1/subjects/{olga.subject_id}"
    at = ok(admin.post(f"{subject}/suspend", json={"reason": "laptop stolen", "until": "2199-01-01T00:00:00Z"}))["position"]
    ok(admin.put(f"{subject}/clearance", json={"clearance": 7}))
    answer = explain(admin, token["token_id"], api)
    assert types_at(admin, answer) == ["token_issued", "subject_suspended", None]
    _, suspended, conclusion = texts(answer)
    assert suspended.startswith(f"{olga.username} (subject {olga.subject_id}) was suspended by admin (subject ")
    assert f"at position {at}, " in suspended
    assert suspended.endswith("until 2199-01-01T00:00:00Z, because: laptop stolen.")
    assert conclusion == "So GET /orders/7 is denied: subject_suspended, the subject is suspended."
    # As of then it was allowed, and is told so.
    assert texts(explain(admin, token["token_id"], api, as_of=before))[-1] == "So GET /orders/7 is allowed."
    assert texts(explain(admin, token["token_id"], api, as_of=at))[1] == suspended


STOPS: dict[str, tuple[Callable[[httpx.Client, str, Person, App, dict[str, Any]], object], str, str]] = {
    "token": (
        lambda admin, _api, _olga, _app, token: admin.post(f"/v1/tokens/{token['token_id']}/revoke", json={"reason": "odd"}),
        "token_revoked",
        "It was revoked by admin",
    ),
    "family": (
        lambda admin, _api, _olga, _app, token: admin.post(
            f"/v1/families/{token['family_id']}/suspend", json={"reason": "odd"}
        ),
        "family_suspended",
        "Its family was suspended by admin",
    ),
    "client": (
        lambda admin, _api, _olga, app, _token: admin.post(f"/v1/clients/{app.name}/suspend", json={"reason": "odd"}),
        "client_suspended",
        "The client it was issued to was suspended by admin",
    ),
    "api": (
        lambda admin, api, _olga, _app, _token: admin.post(f"/v1/apis/{api}/suspend", json={"reason": "odd"}),
        "api_suspended",
        "The API was suspended by admin",
    ),
    "cut-off of the subject": (
        lambda admin, _api, olga, _app, _token: admin.post(
            f"/v1/subjects/{olga.subject_id}/revoke-tokens", json={"reason": "odd"}
        ),
        "subject_tokens_revoked",
        "All tokens of olga",
    ),
    "cut-off of the API": (
        lambda admin, api, _olga, _app, _token: admin.post(f"/v1/apis/{api}/revoke-tokens", json={"reason": "odd"}),
        "api_tokens_revoked",
        "All tokens of the API up to then were revoked by admin",
    ),
}


@pytest.mark.parametrize("stop", STOPS)
def test_whatever_stops_a_token_is_told(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App, stop: str
) -> None:
    token = login(http, olga, app)
    change, event_type, begins = STOPS[stop]
    change(admin, api, olga, app, token)
    answer = explain(admin, token["token_id"], api)
    assert types_at(admin, answer) == ["token_issued", event_type, None]
    told = texts(answer)[1]
    assert told.startswith(begins)
    assert told.endswith("because: odd.")


def test_reuse_is_told_as_what_revoked_the_family(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App
) -> None:
    first = login(http, olga, app)
    second = ok(refresh(http, app, first["refresh_token"]))
    refresh(http, app, first["refresh_token"])
    answer = explain(admin, second["token_id"], api)
    assert types_at(admin, answer) == ["token_rotated", "reuse_detected", None]
    assert "by a refresh of its family" in texts(answer)[0]
    assert "Its family was revoked, because a rotated refresh token was used again at position" in texts(answer)[1]


def test_what_is_lacking_is_told(admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App) -> None:
    token = login(http, olga, app)
    lacking = explain(admin, token["token_id"], api, path="/vault")
    assert any("It needs a clearance of 9; olga" in text and "has 0" in text for text in texts(lacking))
    none = explain(admin, token["token_id"], api, path="/elsewhere")
    assert f"has the roles {api}:reader" in texts(none)[1]
    assert "no_rule" in texts(none)[-1]
    ok(admin.post(f"/v1/subjects/{olga.subject_id}/roles", json={"roles": [f"{api}:barred"]}))
    denied = explain(admin, token["token_id"], api, path="/secret")
    assert "The rule “deny * /secret” of the role barred denies it" in texts(denied)[1]
    elsewhere = explain(admin, token["token_id"], new_api(admin))
    assert texts(elsewhere)[1].startswith("It is not for the API ")
    assert "path_dot_segment" in texts(explain(admin, token["token_id"], api, path="/a/../b"))[-1]


def test_an_own_rule_is_told(admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App) -> None:
    token = login(http, olga, app)
    ok(
        admin.post(
            f"/v1/subjects/{olga.subject_id}/rules",
            json={"rules": [{"api": api, "effect": "allow", "methods": ["GET"], "path": "/own"}]},
        )
    )
    answer = explain(admin, token["token_id"], api, path="/own")
    assert types_at(admin, answer) == ["token_issued", "subject_rules_granted", None]
    assert "The rule “allow GET /own” of the subject itself allows it" in texts(answer)[1]


def test_of_the_unknown_and_of_the_erased_is_told_what_there_is(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App
) -> None:
    unknown = explain(admin, "00000000-0000-0000-0000-000000000001", api)
    assert texts(unknown)[0] == "The ledger knows no token of this id at that position."
    token = login(http, olga, app)
    ok(admin.post(f"/v1/subjects/{olga.subject_id}/erase", json={"reason": "asked for"}))
    erased = texts(explain(admin, token["token_id"], api))
    assert olga.username not in str(erased)
    assert erased[1].startswith(f"subject {olga.subject_id} was erased by admin")


def test_a_question_that_is_none_is_refused_by_name(admin: httpx.Client, http: httpx.Client, api: str) -> None:
    problem = refused(admin.get("/v1/audit/explain", params={"api": api}), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == ["token_id", "method", "path"]
    assert http.get("/v1/audit/explain").status_code == 401


def test_a_cut_off_by_an_instant_says_up_to_where(
    admin: httpx.Client, http: httpx.Client, api: str, olga: Person, app: App
) -> None:
    token = login(http, olga, app)
    instant = evaluate(http, resource_server(admin, api), token["access_token"])["context"]["instant"]
    last = ok(admin.get("/readyz"))["position"]
    new_person(admin)  # what is recorded after the instant is not up to then
    path = f"/v1/subjects/{olga.subject_id}/revoke-tokens"
    ok(admin.post(path, json={"issued_before": instant, "reason": "odd"}))
    answer = explain(admin, token["token_id"], api)
    assert types_at(admin, answer) == ["token_issued", "subject_tokens_revoked", None]
    assert f" up to position {last} were revoked by admin" in texts(answer)[1]
