"""One-time refresh tokens over HTTP: what is recorded of a reuse, what a rotation leaves alone, and how far and
how long it reaches."""

from datetime import datetime
from typing import Any

import httpx

from tests.calls import (
    App,
    Person,
    evaluate,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    resource_server,
)
from tests.conftest import Clock


def rotating(admin: httpx.Client, http: httpx.Client, **settings: Any) -> tuple[App, App, Person, dict[str, Any]]:
    """Answer a client with one-time refresh tokens, who asks about them, a person and what it was given at login."""
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    app = first_party(admin, api, refresh="rotating", **settings)
    person = new_person(admin, f"{api}:reader")
    return app, resource_server(admin, api), person, login(http, person, app)


def evidence_of(admin: httpx.Client, family_id: str) -> dict[str, Any]:
    """Answer the evidence of the one reuse that was recorded in a family."""
    entries = ok(admin.get("/v1/audit/timeline", params={"family_id": family_id}))["entries"]
    (reuse,) = [entry for entry in entries if entry["what"] == "reuse_detected"]
    evidence: dict[str, Any] = reuse["evidence"]
    return evidence


def agent(name: str) -> dict[str, str]:
    return {"User-Agent": name}


def test_a_thief_who_uses_an_old_branch_is_recorded_with_both_who_used_it(
    admin: httpx.Client, http: httpx.Client, server_clock: Clock
) -> None:
    app, _, person, first = rotating(admin, http)
    form = {"grant_type": "refresh_token", "client_id": app.name}
    second = ok(http.post("/oauth/token", data=form | {"refresh_token": first["refresh_token"]}, headers=agent("the client")))
    server_clock.advance(100)
    ok(http.post("/oauth/token", data=form | {"refresh_token": second["refresh_token"]}, headers=agent("the client")))
    server_clock.advance(100)
    stolen = http.post("/oauth/token", data=form | {"refresh_token": first["refresh_token"]}, headers=agent("the thief"))
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    evidence = evidence_of(admin, first["family_id"])
    assert evidence == {
        "generation_presented": 1,
        "generation_current": 3,
        "seconds_since_rotation": evidence["seconds_since_rotation"],
        "verdict": "theft",
        "presented_by": {"network": "127.0.0.1/32", "user_agent": "the thief"},
        "rotated_by": {"network": "127.0.0.1/32", "user_agent": "the client"},
    }
    assert 199 <= evidence["seconds_since_rotation"] <= 210
    events = ok(admin.get("/v1/audit/events", params={"family_id": first["family_id"]}))
    assert "the thief" not in str(events)
    ok(admin.post(f"/v1/subjects/{person.subject_id}/erase"))
    erased = evidence_of(admin, first["family_id"])
    assert (erased["verdict"], erased["presented_by"], erased["rotated_by"]) == ("theft", None, None)


def test_a_fork_and_a_race_are_told_apart(admin: httpx.Client, http: httpx.Client, server_clock: Clock) -> None:
    app, _, _, lost = rotating(admin, http)
    ok(refresh(http, app, lost["refresh_token"]))
    server_clock.advance(31)
    assert refresh(http, app, lost["refresh_token"]).status_code == 400
    assert evidence_of(admin, lost["family_id"])["verdict"] == "fork"

    app, _, _, shared = rotating(admin, http)
    successor = ok(refresh(http, app, shared["refresh_token"]))
    ok(refresh(http, app, successor["refresh_token"]))
    assert refresh(http, app, shared["refresh_token"]).status_code == 400
    assert evidence_of(admin, shared["family_id"])["verdict"] == "race"


def test_a_dead_family_that_is_presented_again_and_again_writes_nothing(admin: httpx.Client, http: httpx.Client) -> None:
    app, _, _, first = rotating(admin, http, retry_window_seconds=0)
    ok(refresh(http, app, first["refresh_token"]))
    assert refresh(http, app, first["refresh_token"]).status_code == 400
    head = http.get("/readyz").json()["position"]
    assert [refresh(http, app, first["refresh_token"]).status_code for _ in range(20)] == [400] * 20
    assert http.get("/readyz").json()["position"] == head


def test_a_rotation_leaves_the_running_access_token_alone_unless_the_client_wants_it_revoked(
    admin: httpx.Client, http: httpx.Client
) -> None:
    app, asker, _, first = rotating(admin, http)
    ok(refresh(http, app, first["refresh_token"]))
    assert evaluate(http, asker, first["access_token"])["decision"]

    app, asker, _, first = rotating(admin, http, revoke_access_on_rotation=True)
    second = ok(refresh(http, app, first["refresh_token"]))
    assert evaluate(http, asker, first["access_token"])["context"]["reason"] == "token_revoked"
    again = ok(refresh(http, app, first["refresh_token"]))
    assert again["refresh_token"] == second["refresh_token"]
    assert evaluate(http, asker, again["access_token"])["decision"]
    entries = ok(admin.get("/v1/audit/timeline", params={"token_id": first["token_id"]}))["entries"]
    assert entries[-1]["why"] == "its refresh token was rotated"


def test_a_refresh_token_of_an_erased_person_makes_no_key_in_the_place_of_the_destroyed_one(
    admin: httpx.Client, http: httpx.Client
) -> None:
    app, _, person, first = rotating(admin, http, retry_window_seconds=0)
    other = login(http, person, app)
    ok(refresh(http, app, first["refresh_token"]))
    assert refresh(http, app, first["refresh_token"]).status_code == 400
    ok(admin.post(f"/v1/subjects/{person.subject_id}/erase"))
    assert refresh(http, app, other["refresh_token"]).json()["error"] == "invalid_grant"
    evidence = evidence_of(admin, first["family_id"])
    assert (evidence["presented_by"], evidence["rotated_by"]) == (None, None)


def test_a_service_account_that_has_nothing_sealed_yet_refreshes_too(admin: httpx.Client, http: httpx.Client) -> None:
    api = new_api(admin)
    robot = ok(admin.post("/v1/subjects", json={"kind": "service"}), 201)["subject_id"]
    machine = new_client(admin, grants=["client_credentials"], apis=[api]).subject_id
    issuer = new_client(admin, grants=["issue", "refresh_token"], refresh="rotating", apis=[api])
    for subject_id in (robot, machine):
        token = ok(http.post("/v1/tokens", json={"subject_id": subject_id}, auth=issuer.auth), 201)
        assert ok(refresh(http, issuer, token["refresh_token"]))["access_token"]


def test_over_several_rotations_each_scope_is_within_the_grant_and_never_within_more(
    admin: httpx.Client, http: httpx.Client
) -> None:
    rules = {"reader": ["allow GET /orders/**"], "writer": ["allow PUT /orders/**"], "closer": ["allow DELETE /orders/**"]}
    api = new_api(admin, rules)
    app, asker = first_party(admin, api, refresh="rotating"), resource_server(admin, api)
    reader, writer, closer = (f"{api}:{role}" for role in rules)
    person = new_person(admin, reader, writer, closer)
    token = login(http, person, app, scope=f"{reader} {writer}")

    def may(token: dict[str, Any]) -> list[str]:
        return [m for m in ("GET", "PUT", "DELETE") if evaluate(http, asker, token["access_token"], m)["decision"]]

    wider = (closer, f"{reader} {writer} {closer}", f"{reader} direct", "direct")
    for scope, methods in (
        (reader, ["GET"]),
        (writer, ["PUT"]),
        (None, ["GET", "PUT"]),
        (f"{writer} {reader}", ["GET", "PUT"]),
    ):
        with nothing_recorded(http):
            for more in wider:
                answer = refresh(http, app, token["refresh_token"], scope=more)
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
        presented = token["refresh_token"]
        token = ok(refresh(http, app, presented, **({} if scope is None else {"scope": scope})))
        assert set(token["scope"].split()) == set((scope or f"{reader} {writer}").split())
        assert may(token) == methods
        # A retry is given what the rotation gave, whatever it asks for.
        for other in ({"scope": f"{reader} {writer}"}, {}, {"scope": closer}):
            again = ok(refresh(http, app, presented, **other))
            assert (again["token_id"], again["scope"], may(again)) == (token["token_id"], token["scope"], methods)

    # What the person has lost is in no later token; and it is not asked for either.
    ok(admin.post(f"/v1/subjects/{person.subject_id}/roles/withdraw", json={"roles": [writer]}))
    assert refresh(http, app, token["refresh_token"], scope=writer).json()["error"] == "invalid_scope"
    token = ok(refresh(http, app, token["refresh_token"]))
    assert (token["scope"], may(token)) == (reader, ["GET"])


def test_an_unused_refresh_token_ends_at_its_very_second_and_each_rotation_begins_anew(
    admin: httpx.Client, http: httpx.Client, server_clock: Clock
) -> None:
    server_clock.set(datetime.fromisoformat(ok(http.get("/readyz"))["instant"]).replace(microsecond=0))
    app, _, person, used = rotating(admin, http, refresh_idle_seconds=3_600, refresh_absolute_seconds=3 * 3_600)
    unused = login(http, person, app)
    server_clock.advance(3_599)
    used = ok(refresh(http, app, used["refresh_token"]))
    server_clock.advance(1)
    with nothing_recorded(http):
        assert refresh(http, app, unused["refresh_token"]).json()["error"] == "invalid_grant"
    server_clock.advance(3_598)
    used = ok(refresh(http, app, used["refresh_token"]))
    server_clock.advance(3_599)
    last = ok(refresh(http, app, used["refresh_token"]))
    # The absolute end comes first now, 3 s later; the access token ends with it.
    assert last["expires_in"] == 3
    server_clock.advance(2)
    last = ok(refresh(http, app, last["refresh_token"]))
    assert last["expires_in"] == 1
    server_clock.advance(1)
    with nothing_recorded(http):
        assert refresh(http, app, last["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_reusable_refresh_token_ends_when_it_is_idle_and_not_before(
    admin: httpx.Client, http: httpx.Client, server_clock: Clock
) -> None:
    app = first_party(admin, new_api(admin), refresh="reusable", refresh_idle_seconds=3_600, refresh_absolute_seconds=9_000)
    person = new_person(admin)
    used, left = login(http, person, app), login(http, person, app)
    for _ in range(2):
        server_clock.advance(3_000)
        ok(refresh(http, app, used["refresh_token"]))
    assert refresh(http, app, left["refresh_token"]).status_code == 400
    server_clock.advance(3_000)
    assert refresh(http, app, used["refresh_token"]).status_code == 400  # the absolute end of the family
