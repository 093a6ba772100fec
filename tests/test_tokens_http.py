"""Tokens and families over HTTP: what was taken back stands no more, for the very next question on every worker."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ledger.token_strings import read, secret_digest
from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    gateway,
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
)
from tests.conftest import Clock

STRATEGIES = ("opaque", "encrypted", "jwt", "jwe")
MEMBERS = {
    "token_id",
    "kind",
    "strategy",
    "subject_id",
    "client",
    "apis",
    "scope",
    "family_id",
    "generation",
    "name",
    "issued_at",
    "expires_at",
    "issued_from",
    "state",
    "reason",
    "status_reason",
    "status_until",
    "key_ids",
    "evidence",
    "position",
}
READER = {"reader": ["allow GET /orders/{id}"]}


@dataclass(frozen=True)
class Session:
    """A person with a token for an API of its own, and the client by which the API asks."""

    api: str
    app: App
    person: Person
    asker: App
    tokens: dict[str, Any]

    @property
    def access(self) -> str:
        return str(self.tokens["access_token"])

    @property
    def token_id(self) -> str:
        return str(self.tokens["token_id"])

    @property
    def family_id(self) -> str:
        return str(self.tokens["family_id"])

    def path(self, level: str) -> str:
        """Answer where a level is managed."""
        return {
            "token": f"/v1/tokens/{self.token_id}",
            "family": f"/v1/families/{self.family_id}",
            "subject": f"/v1/subjects/{self.person.subject_id}",
            "client": f"/v1/clients/{self.app.name}",
            "api": f"/v1/apis/{self.api}",
        }[level]


def new_session(admin: httpx.Client, http: httpx.Client, strategy: str = "opaque", refresh: str = "rotating") -> Session:
    api = new_api(admin, READER)
    app = first_party(admin, api, strategy=strategy, refresh=refresh)
    person = new_person(admin, f"{api}:reader")
    return Session(api, app, person, resource_server(admin, api), login(http, person, app))


def assert_stands(workers: Sequence[httpx.Client], session: Session) -> None:
    """Ask every worker, in every way."""
    for worker in workers:
        assert evaluate(worker, session.asker, session.access)["decision"]
        assert introspect(worker, session.asker, session.access)["active"]
        assert gateway(worker, session.asker, session.access).status_code == 200


def assert_does_not_stand(workers: Sequence[httpx.Client], session: Session, reason: str) -> None:
    for worker in workers:
        answer = evaluate(worker, session.asker, session.access)
        assert (answer["decision"], answer["context"]["reason"]) == (False, reason)
        assert introspect(worker, session.asker, session.access)["active"] is False
        assert gateway(worker, session.asker, session.access).status_code == 401


def token_of(admin: httpx.Client, session: Session) -> dict[str, Any]:
    return ok(admin.get(f"/v1/tokens/{session.token_id}"))


def listed(asked: httpx.Client, /, **query: str) -> list[dict[str, Any]]:
    """Answer every token of a listing, page after page."""
    tokens: list[dict[str, Any]] = []
    while True:
        page = ok(asked.get("/v1/tokens", params=query))
        tokens += page["tokens"]
        if page["next"] is None:
            return tokens
        query["cursor"] = page["next"]


def ids(tokens: Sequence[dict[str, Any]]) -> list[str]:
    return [token["token_id"] for token in tokens]


def now(admin: httpx.Client) -> datetime:
    """Answer the server's instant."""
    return datetime.fromisoformat(ok(admin.get("/v1/tokens", params={"limit": "1"}))["instant"])


# ------------------------------------------------------------------------------- in force for the very next question


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("level", "suspended", "revoke", "revoked"),
    [
        ("token", "token_suspended", "revoke", "token_revoked"),
        ("family", "family_suspended", "revoke", "family_revoked"),
        ("subject", "subject_suspended", "revoke-tokens", "tokens_revoked_before"),
        ("client", "client_suspended", "revoke-tokens", "tokens_revoked_before"),
        ("api", "api_suspended", "revoke-tokens", "tokens_revoked_before"),
    ],
)
def test_what_is_done_to_a_token_at_any_level_is_in_force_on_every_worker_at_once(
    admin: httpx.Client,
    http: httpx.Client,
    each_worker: list[httpx.Client],
    strategy: str,
    level: str,
    suspended: str,
    revoke: str,
    revoked: str,
) -> None:
    session = new_session(admin, http, strategy, refresh="off")
    path = session.path(level)
    for worker in each_worker:
        worker.headers["Authorization"] = admin.headers["Authorization"]
    assert_stands(each_worker, session)
    for worker in each_worker:
        ok(worker.post(f"{path}/suspend", json={"reason": "incident 7"}))
        assert_does_not_stand(each_worker, session, suspended)
        token = token_of(admin, session)
        assert (token["state"], token["reason"]) == ("suspended", suspended)
        ok(worker.post(f"{path}/reinstate"))
        assert_stands(each_worker, session)
        assert (token_of(admin, session)["state"], token_of(admin, session)["reason"]) == ("active", None)
    ok(each_worker[0].post(f"{path}/{revoke}"))
    assert_does_not_stand(each_worker, session, revoked)
    assert (token_of(admin, session)["state"], token_of(admin, session)["reason"]) == ("revoked", revoked)


@pytest.mark.parametrize("level", ["token", "family", "subject", "client", "api"])
def test_a_suspension_ends_by_itself_at_its_instant(
    admin: httpx.Client, http: httpx.Client, each_worker: list[httpx.Client], server_clock: Clock, level: str
) -> None:
    session = new_session(admin, http)
    until = now(admin) + timedelta(seconds=60)
    ok(admin.post(f"{session.path(level)}/suspend", json={"reason": "cooling off", "until": until.isoformat()}))
    assert_does_not_stand(each_worker, session, f"{level}_suspended")
    assert datetime.fromisoformat(token_of(admin, session)["status_until"]) == until
    server_clock.advance(60)
    assert_stands(each_worker, session)
    assert token_of(admin, session)["state"] == "active"


@pytest.mark.parametrize("level", ["token", "family"])
def test_an_end_that_has_come_or_is_none_is_refused_and_nothing_is_recorded(
    admin: httpx.Client, http: httpx.Client, level: str
) -> None:
    session = new_session(admin, http, refresh="off")
    for until in (
        "2020-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "tomorrow",
        "4102444800",
        "2199-01-01T00:00:00",
        4_102_444_800,
        True,
    ):
        with nothing_recorded(admin):
            answer = admin.post(f"{session.path(level)}/suspend", json={"reason": "investigation", "until": until})
        assert [wrong["field"] for wrong in refused(answer, 400, "invalid_input")["problems"]] == ["until"], until
    assert token_of(admin, session)["state"] == "active"


def test_an_end_that_is_now_has_come(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    body = {"reason": "investigation", "until": now(admin).isoformat()}
    refused(admin.post(f"{session.path('token')}/suspend", json=body), 400, "invalid_input")


def test_a_suspension_may_last_as_long_as_there_are_years(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http, refresh="off")
    for level in ("token", "family"):
        body = {"reason": "for good, nearly", "until": "9999-12-31T23:59:59.999999Z"}
        ok(admin.post(f"{session.path(level)}/suspend", json=body))
        assert token_of(admin, session)["status_until"] == "9999-12-31T23:59:59.999999Z"
        assert not evaluate(http, session.asker, session.access)["decision"]
        ok(admin.post(f"{session.path(level)}/reinstate"))


def test_a_suspension_is_prolonged_and_cut_short_by_another(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    path = session.path("token")
    first = ok(admin.post(f"{path}/suspend", json={"reason": "investigation"}))
    again = ok(admin.post(f"{path}/suspend", json={"reason": "investigation"}))
    assert again == first
    other = ok(admin.post(f"{path}/suspend", json={"reason": "a day off", "until": "2199-01-01T00:00:00Z"}))
    assert other["position"] > first["position"]
    token = token_of(admin, session)
    assert (token["status_reason"], token["status_until"]) == ("a day off", "2199-01-01T00:00:00.000000Z")


# ---------------------------------------------------------------------------------------------------- revoked for good


@pytest.mark.parametrize("level", ["token", "family"])
def test_what_is_revoked_is_neither_reinstated_nor_suspended(admin: httpx.Client, http: httpx.Client, level: str) -> None:
    session = new_session(admin, http)
    path = session.path(level)
    ok(admin.post(f"{path}/revoke", json={"reason": "stolen"}))
    with nothing_recorded(admin):
        refused(admin.post(f"{path}/reinstate"), 409, "token_revoked")
        refused(admin.post(f"{path}/suspend", json={"reason": "again"}), 409, "token_revoked")
    assert token_of(admin, session)["status_reason"] == "stolen"
    assert not evaluate(http, session.asker, session.access)["decision"]


@pytest.mark.parametrize("level", ["token", "family"])
def test_revoking_twice_is_no_error_and_adds_no_event(admin: httpx.Client, http: httpx.Client, level: str) -> None:
    session = new_session(admin, http)
    first = ok(admin.post(f"{session.path(level)}/revoke", json={"reason": "stolen"}))
    with nothing_recorded(admin):
        assert ok(admin.post(f"{session.path(level)}/revoke", json={"reason": "really"})) == first
    assert token_of(admin, session)["status_reason"] == "stolen"


@pytest.mark.parametrize("level", ["token", "family"])
def test_reinstating_what_stands_adds_no_event(admin: httpx.Client, http: httpx.Client, level: str) -> None:
    session = new_session(admin, http)
    with nothing_recorded(admin):
        answer = ok(admin.post(f"{session.path(level)}/reinstate"))
    assert answer["position"] == ok(admin.get(session.path("family")))["position"]


def test_a_level_that_is_reinstated_revives_nothing_that_another_stops(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)

    def reason() -> str:
        return str(evaluate(http, session.asker, session.access)["context"]["reason"])

    for level in ("token", "family", "subject"):
        ok(admin.post(f"{session.path(level)}/suspend", json={"reason": "incident"}))
    ok(admin.post(f"{session.path('token')}/reinstate"))
    assert reason() == "family_suspended"
    ok(admin.post(f"{session.path('family')}/revoke"))
    ok(admin.post(f"{session.path('subject')}/reinstate"))
    assert reason() == "family_revoked"
    other = login(http, session.person, session.app)
    ok(admin.post(f"{session.path('subject')}/revoke-tokens"))
    ok(admin.post(f"/v1/families/{other['family_id']}/suspend", json={"reason": "incident"}))
    ok(admin.post(f"/v1/families/{other['family_id']}/reinstate"))
    assert evaluate(http, session.asker, other["access_token"])["context"]["reason"] == "tokens_revoked_before"


@pytest.mark.parametrize("kind", ["reusable", "rotating"])
def test_a_refresh_token_is_stopped_and_started_by_itself(admin: httpx.Client, http: httpx.Client, kind: str) -> None:
    session = new_session(admin, http, refresh=kind)
    (token,) = listed(admin, family_id=session.family_id, kind="refresh")
    path = f"/v1/tokens/{token['token_id']}"
    ok(admin.post(f"{path}/suspend", json={"reason": "incident"}))
    assert ok(admin.get(path))["state"] == "suspended"
    assert refresh(http, session.app, session.tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert evaluate(http, session.asker, session.access)["decision"]
    ok(admin.post(f"{path}/reinstate"))
    assert evaluate(http, session.asker, ok(refresh(http, session.app, session.tokens["refresh_token"]))["access_token"])[
        "decision"
    ]
    ok(admin.post(f"{path}/revoke"))
    assert refresh(http, session.app, session.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_family_takes_its_refresh_token_and_every_access_token_with_it(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    second = ok(refresh(http, session.app, session.tokens["refresh_token"]))
    ok(admin.post(f"/v1/families/{session.family_id}/revoke"))
    for token in (session.access, second["access_token"]):
        assert evaluate(http, session.asker, token)["context"]["reason"] == "family_revoked"
    assert refresh(http, session.app, second["refresh_token"]).json()["error"] == "invalid_grant"
    states = {token["state"] for token in listed(admin, family_id=session.family_id)}
    assert states == {"revoked"}


# --------------------------------------------------------------------------------------------------- who may, and what


def act(client: httpx.Client, session: Session, token: str | None) -> dict[str, list[int]]:
    """Answer the statuses of looking at a token and its family, and of each thing that is done to them."""
    headers = {} if token is None else bearer(token)
    paths = session.path("token"), session.path("family")
    done = [
        client.post(f"{path}/{verb}", json={"reason": "on duty"}, headers=headers).status_code
        for path in paths
        for verb in ("suspend", "reinstate", "revoke")
    ]
    seen = [client.get(path, headers=headers).status_code for path in ("/v1/tokens", *paths)]
    issue = {"subject_id": session.person.subject_id, "client": session.app.name}
    return {"seen": seen, "done": done, "issued": [client.post("/v1/tokens", json=issue, headers=headers).status_code]}


@pytest.mark.parametrize(
    ("role", "seen", "done", "issued"),
    [("administrator", 200, 200, 201), ("operator", 200, 200, 403), ("auditor", 200, 403, 403), (None, 403, 403, 403)],
)
def test_roles_of_the_ledger_say_who_sees_stops_and_issues_tokens(
    admin: httpx.Client, http: httpx.Client, role: str | None, seen: int, done: int, issued: int
) -> None:
    session = new_session(admin, http)
    person = new_person(admin, *([] if role is None else [f"ledger:{role}"]))
    token = login(http, person)["access_token"]
    assert act(http, session, token) == {"seen": [seen] * 3, "done": [done] * 6, "issued": [issued]}


def test_nobody_sees_or_stops_tokens_without_a_token_for_the_ledger(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    for token in (None, session.access, "nonsense"):
        assert act(http, session, token) == {"seen": [401] * 3, "done": [401] * 6, "issued": [401]}
    assert evaluate(http, session.asker, session.access)["decision"]


@pytest.mark.parametrize("kind", ["token", "family"])
@pytest.mark.parametrize("identifier", [str(uuid4()), "7", "{00000000-0000-0000-0000-000000000000}", "a" * 4_000])
def test_what_is_not_there_is_unknown(admin: httpx.Client, kind: str, identifier: str) -> None:
    path = f"/v1/{'tokens' if kind == 'token' else 'families'}/{identifier}"
    refused(admin.get(path), 404, f"unknown_{kind}")
    for verb in ("suspend", "reinstate", "revoke"):
        refused(admin.post(f"{path}/{verb}", json={"reason": "x"}), 404, f"unknown_{kind}")


def test_a_token_is_no_family_and_a_family_no_token(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    refused(admin.get(f"/v1/tokens/{session.family_id}"), 404, "unknown_token")
    refused(admin.get(f"/v1/families/{session.token_id}"), 404, "unknown_family")


@pytest.mark.parametrize("level", ["token", "family"])
def test_a_repeat_under_an_idempotency_key_answers_the_same_and_other_content_is_refused(
    admin: httpx.Client, http: httpx.Client, level: str
) -> None:
    session = new_session(admin, http)
    path, headers = session.path(level), {"Idempotency-Key": f"suspend {session.token_id}"}
    first = ok(admin.post(f"{path}/suspend", json={"reason": "incident"}, headers=headers))
    ok(admin.post(f"{path}/reinstate"))
    assert ok(admin.post(f"{path}/suspend", json={"reason": "incident"}, headers=headers)) == first
    assert evaluate(http, session.asker, session.access)["decision"]  # done once, and undone since
    other = admin.post(f"{path}/suspend", json={"reason": "another"}, headers=headers)
    refused(other, 422, "idempotency_key_reused")
    assert evaluate(http, session.asker, session.access)["decision"]


# ------------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_token_is_shown_whole_but_for_its_string_and_what_that_is_checked_against(
    admin: httpx.Client, http: httpx.Client, strategy: str
) -> None:
    session = new_session(admin, http, strategy)
    shown = token_of(admin, session)
    assert shown.keys() == MEMBERS | {"as_of_position", "instant"}
    assert (shown["kind"], shown["strategy"], shown["generation"]) == ("access", strategy, 1)
    assert (shown["client"], shown["apis"], shown["scope"]) == (session.app.name, [session.api], None)
    assert (shown["subject_id"], shown["family_id"]) == (session.person.subject_id, session.family_id)
    expected = {"token", "family", "subject", "client", "api"} | ({"key"} if shown["key_ids"] else set())
    assert shown["evidence"].keys() == expected
    assert shown["evidence"]["token"] == shown["position"]
    assert len(shown["key_ids"]) == {"opaque": 0, "encrypted": 1, "jwt": 1, "jwe": 2}[strategy]
    assert shown["position"] == session.tokens["position"]
    lifetime = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["issued_at"])
    assert lifetime == timedelta(seconds=600)
    page = ok(admin.get("/v1/tokens", params={"family_id": session.family_id}))
    assert {token["kind"] for token in page["tokens"]} == {"access", "refresh"}
    assert next(token for token in page["tokens"] if token["kind"] == "access").items() <= shown.items()
    text = json.dumps([page, shown])
    secrets = [session.access, session.tokens["refresh_token"]]
    for kind, token in (("access", session.access), ("refresh", session.tokens["refresh_token"])):
        if kind == "refresh" or strategy == "opaque":
            secrets.append(secret_digest(read(kind, token)[1]).hex())  # type: ignore[arg-type]
    assert not [secret for secret in secrets if secret in text or secret[10:40] in text]


def test_a_narrowed_and_named_token_says_so(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    body = {
        "subject_id": session.person.subject_id,
        "client": session.app.name,
        "name": "nightly export",
        "scope": f"{session.api}:reader direct",
        "lifetime_seconds": 86_400,
    }
    issued = ok(admin.post("/v1/tokens", json=body), 201)
    shown = ok(admin.get(f"/v1/tokens/{issued['token_id']}"))
    assert (shown["name"], shown["scope"]) == ("nightly export", f"{session.api}:reader direct")
    assert shown["expires_at"] == issued["expires_at"]


def test_a_token_without_refresh_is_a_family_of_one(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http, refresh="off")
    family = ok(admin.get(session.path("family")))
    assert family["family_id"] == session.family_id
    assert (family["refresh"], family["generation"], family["refresh_token_id"]) == ("off", 0, None)
    assert family["access_token_id"] == session.token_id
    assert family["expires_at"] == token_of(admin, session)["expires_at"]
    assert ids(listed(admin, family_id=session.family_id)) == [session.token_id]
    revoked = ok(admin.post(f"{session.path('family')}/revoke", json={"reason": "stolen"}))
    token = token_of(admin, session)
    assert (token["state"], token["reason"], token["status_reason"]) == ("revoked", "family_revoked", "stolen")
    assert ok(admin.get(session.path("family")))["changed_at_position"] == revoked["position"]


def test_a_family_is_shown_as_it_goes_on(admin: httpx.Client, http: httpx.Client, server_clock: Clock) -> None:
    session = new_session(admin, http)
    family = ok(admin.get(session.path("family")))
    assert (family["subject_id"], family["client"]) == (session.person.subject_id, session.app.name)
    assert (family["refresh"], family["generation"], family["rotated_at"]) == ("rotating", 1, None)
    assert (family["status"], family["stands"]) == ("active", True)
    second = ok(refresh(http, session.app, session.tokens["refresh_token"]))
    after = ok(admin.get(session.path("family")))
    assert (after["generation"], after["access_token_id"]) == (2, second["token_id"])
    assert after["refresh_token_id"] != family["refresh_token_id"]
    assert datetime.fromisoformat(after["rotated_at"]) <= datetime.fromisoformat(after["instant"])
    assert after["changed_at_position"] == second["position"] <= after["position"]
    until = (now(admin) + timedelta(seconds=60)).isoformat()
    ok(admin.post(f"{session.path('family')}/suspend", json={"reason": "incident", "until": until}))
    stopped = ok(admin.get(session.path("family")))
    assert (stopped["status"], stopped["status_reason"], stopped["stands"]) == ("suspended", "incident", False)
    server_clock.advance(60)
    assert ok(admin.get(session.path("family")))["stands"] is True


def test_a_used_refresh_token_is_rotated_and_its_reuse_is_told(
    admin: httpx.Client, http: httpx.Client, server_clock: Clock
) -> None:
    session = new_session(admin, http)
    second = ok(refresh(http, session.app, session.tokens["refresh_token"]))
    tokens = {(t["kind"], t["generation"]): t for t in listed(admin, family_id=session.family_id)}
    used, successor = tokens["refresh", 1], tokens["refresh", 2]
    assert (used["state"], used["reason"], successor["state"]) == ("rotated", "token_rotated", "active")
    assert successor["issued_from"] == tokens["access", 2]["issued_from"] == used["token_id"]
    assert tokens["access", 2]["token_id"] == second["token_id"]
    assert tokens["access", 1]["state"] == "active"
    server_clock.advance(31)
    assert refresh(http, session.app, session.tokens["refresh_token"]).json()["error"] == "invalid_grant"
    states = {(t["state"], t["reason"], t["status_reason"]) for t in listed(admin, family_id=session.family_id)}
    assert states == {("revoked", "family_revoked", "a rotated refresh token was used again")}


def test_a_token_for_two_apis_stands_as_long_as_it_does_for_one(admin: httpx.Client, http: httpx.Client) -> None:
    one, other = new_api(admin), new_api(admin)
    person, app = new_person(admin), first_party(admin, one, other)
    token_id = login(http, person, app)["token_id"]
    ok(admin.post(f"/v1/apis/{one}/suspend", json={"reason": "down"}))
    assert ok(admin.get(f"/v1/tokens/{token_id}"))["state"] == "active"
    ok(admin.post(f"/v1/apis/{other}/suspend", json={"reason": "down"}))
    shown = ok(admin.get(f"/v1/tokens/{token_id}"))
    assert (shown["state"], shown["reason"], shown["apis"]) == ("suspended", "api_suspended", [one, other])
    ok(admin.post(f"/v1/apis/{other}/revoke-tokens"))
    ok(admin.post(f"/v1/apis/{one}/reinstate"))
    assert ok(admin.get(f"/v1/tokens/{token_id}"))["reason"] == "tokens_revoked_before"


# ------------------------------------------------------------------------------------------------------------- listing


def test_tokens_are_found_by_what_they_are(admin: httpx.Client, http: httpx.Client) -> None:
    api, other_api = new_api(admin), new_api(admin)
    opaque = first_party(admin, api, refresh="rotating")
    jwt = first_party(admin, api, other_api, strategy="jwt")
    ann, bob = new_person(admin), new_person(admin)
    first = login(http, ann, opaque)
    second = login(http, ann, jwt)
    third = login(http, bob, jwt)
    (refresh_token,) = ids(listed(admin, client=opaque.name, kind="refresh"))

    def found(**query: str) -> set[str]:
        return set(ids(listed(admin, **query)))

    assert found(subject_id=ann.subject_id) == {first["token_id"], refresh_token, second["token_id"]}
    assert found(client=jwt.name) == {second["token_id"], third["token_id"]}
    assert found(api=api) == {first["token_id"], refresh_token, second["token_id"], third["token_id"]}
    assert found(api=other_api) == {second["token_id"], third["token_id"]}
    assert found(family_id=first["family_id"]) == {first["token_id"], refresh_token}
    assert found(api=api, kind="access", strategy="opaque") == {first["token_id"]}
    assert found(api=api, strategy="jwt") == {second["token_id"], third["token_id"]}
    assert found(subject_id=ann.subject_id, client=jwt.name) == {second["token_id"]}
    assert found(client=jwt.name, subject_id=bob.subject_id, api=other_api, kind="access") == {third["token_id"]}
    assert found(family_id=first["family_id"], subject_id=bob.subject_id) == set()
    assert found(subject_id=str(uuid4())) == found(family_id=str(uuid4())) == set()


def test_tokens_are_found_by_what_they_are_worth_now(admin: httpx.Client, http: httpx.Client, server_clock: Clock) -> None:
    api = new_api(admin)
    app = first_party(admin, api, refresh="rotating", access_lifetime_seconds=60)
    person = new_person(admin)
    expired = login(http, person, app)
    server_clock.advance(60)
    active, suspended, revoked, rotated = (login(http, person, app) for _ in range(4))
    ok(admin.post(f"/v1/tokens/{suspended['token_id']}/suspend", json={"reason": "incident"}))
    ok(admin.post(f"/v1/families/{revoked['family_id']}/revoke"))
    successor = ok(refresh(http, app, rotated["refresh_token"]))
    refresh_of = {token["family_id"]: token["token_id"] for token in listed(admin, api=api, kind="refresh", state="active")}
    (used,) = listed(admin, api=api, kind="refresh", state="rotated")

    def found(state: str, **query: str) -> set[str]:
        return set(ids(listed(admin, subject_id=person.subject_id, state=state, **query)))

    assert found("expired") == {expired["token_id"]}
    assert found("suspended") == {suspended["token_id"]}
    assert found("rotated") == {used["token_id"]}
    assert used["family_id"] == rotated["family_id"]
    assert found("active", kind="access") == {active["token_id"], rotated["token_id"], successor["token_id"]}
    assert refresh_of.keys() == {t["family_id"] for t in (expired, active, suspended, successor)}
    revoked_of_family = {token["family_id"] for token in listed(admin, api=api, state="revoked")}
    assert revoked_of_family == {revoked["family_id"]}
    assert len(found("revoked")) == 2


def test_pages_of_tokens_follow_one_another_newest_first_while_others_are_issued(
    admin: httpx.Client, http: httpx.Client
) -> None:
    app, person = first_party(admin, new_api(admin), refresh="rotating"), new_person(admin)
    issued = [login(http, person, app) for _ in range(3)]
    everything = listed(admin, client=app.name)
    assert [token["position"] for token in everything] == [
        position for tokens in reversed(issued) for position in [tokens["position"]] * 2
    ]
    for limit in ("1", "2", "4", "5"):
        seen, query = [], {"client": app.name, "limit": limit}
        while True:
            page = ok(admin.get("/v1/tokens", params=query))
            assert len(page["tokens"]) <= int(limit)
            seen += page["tokens"]
            if page["next"] is None:
                break
            if "cursor" not in query:
                login(http, person, app)  # newer than every page to come
            query["cursor"] = page["next"]
        assert ids(seen) == ids(everything)
        everything = listed(admin, client=app.name)


def test_a_page_that_is_just_full_is_the_last(admin: httpx.Client, http: httpx.Client) -> None:
    session = new_session(admin, http)
    for query in ({"family_id": session.family_id}, {"family_id": session.family_id, "state": "active"}):
        assert ok(admin.get("/v1/tokens", params=query | {"limit": "2"}))["next"] is None
        assert ok(admin.get("/v1/tokens", params=query | {"limit": "1"}))["next"] is not None


def test_tokens_are_found_by_when_they_were_issued(admin: httpx.Client, http: httpx.Client, server_clock: Clock) -> None:
    app, person = first_party(admin, new_api(admin)), new_person(admin)
    issued = []
    for _ in range(3):
        issued.append(login(http, person, app)["token_id"])
        server_clock.advance(150)  # so that the next is recorded long after
    instants = [ok(admin.get(f"/v1/tokens/{token_id}"))["issued_at"] for token_id in issued]

    def found(**query: str) -> list[str]:
        return ids(listed(admin, client=app.name, **query))[::-1]

    assert found(issued_after=instants[1]) == issued[1:]
    assert found(issued_before=instants[1]) == issued[:1]
    assert found(issued_after=instants[1], issued_before=instants[2]) == issued[1:2]
    assert found(issued_after=instants[2], issued_before=instants[0]) == []
    shifted = (datetime.fromisoformat(instants[1]) + timedelta(microseconds=1)).isoformat()
    assert found(issued_after=shifted) == issued[2:]
    assert found(issued_before=shifted) == issued[:2]
    assert found(issued_after="0001-01-01T00:00:00Z", issued_before="9999-12-31T23:59:59.999999Z") == issued
    assert ok(admin.get("/v1/tokens", params={"issued_before": "2020-01-01T00:00:00Z"}))["tokens"] == []
    assert ok(admin.get("/v1/tokens", params={"issued_after": "2199-01-01T00:00:00Z"}))["tokens"] == []


def test_tokens_issued_within_moments_are_told_apart_by_the_second(admin: httpx.Client, http: httpx.Client) -> None:
    """Recorded after the second at which they were issued: the filter is about what is shown."""
    session = new_session(admin, http, refresh="off")
    issued_at = token_of(admin, session)["issued_at"]
    following = (datetime.fromisoformat(issued_at) + timedelta(seconds=1)).isoformat()
    assert ids(listed(admin, client=session.app.name, issued_after=issued_at, issued_before=following)) == [session.token_id]
    assert listed(admin, client=session.app.name, issued_after=following) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("subject_id=ann", "subject_id"),
        ("family_id=7", "family_id"),
        ("kind=id", "kind"),
        ("strategy=paseto", "strategy"),
        ("state=gone", "state"),
        ("issued_after=yesterday", "issued_after"),
        ("issued_after=2030-06-01T12:00:00", "issued_after"),
        ("issued_before=9999-12-31T23:59:59-14:00", "issued_before"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("cursor=", "cursor"),
        ("cursor=7", "cursor"),
        ("cursor=0.00000000-0000-0000-0000-000000000000", "cursor"),
        ("cursor=99999999999999999999.00000000-0000-0000-0000-000000000000", "cursor"),
        ("cursor=7.x", "cursor"),
        ("colour=red", "colour"),
        ("kind=access&kind=refresh", "kind"),
    ],
)
def test_a_query_that_means_nothing_is_refused_by_name(admin: httpx.Client, query: str, field: str) -> None:
    problem = refused(admin.get(f"/v1/tokens?{query}"), 400, "invalid_input")
    assert [wrong["field"] for wrong in problem["problems"]] == [field]


def test_a_client_or_an_api_that_is_not_there_is_unknown(admin: httpx.Client) -> None:
    refused(admin.get("/v1/tokens", params={"client": "nobody"}), 404, "unknown_client")
    refused(admin.get("/v1/tokens", params={"api": "nowhere"}), 404, "unknown_api")
    refused(admin.get("/v1/tokens", params={"api": "\0"}), 404, "unknown_api")


# ---------------------------------------------------------------------------------------------------------- one's own


def test_people_see_their_own_tokens_and_nobody_elses(admin: httpx.Client, http: httpx.Client) -> None:
    ann, bob = new_person(admin), new_person(admin)
    first, second, others = login(http, ann), login(http, ann), login(http, bob)
    own = bearer(first["access_token"])
    page = ok(http.get("/v1/me/tokens", headers=own))
    assert page["next"] is None
    assert {token["subject_id"] for token in page["tokens"]} == {ann.subject_id}
    assert all(token.keys() == MEMBERS for token in page["tokens"])
    access = ok(http.get("/v1/me/tokens", params={"kind": "access", "state": "active"}, headers=own))
    assert ids(access["tokens"]) == [second["token_id"], first["token_id"]]
    refused(http.delete(f"/v1/me/tokens/{others['token_id']}", headers=own), 404, "unknown_token")
    ok(http.delete(f"/v1/me/tokens/{second['token_id']}", headers=own))
    revoked = ok(http.get("/v1/me/tokens", params={"state": "revoked"}, headers=own))["tokens"]
    assert [(token["token_id"], token["status_reason"]) for token in revoked] == [(second["token_id"], "revoked by its owner")]
    refused(http.get("/v1/me", headers=bearer(second["access_token"])), 401, "not_authenticated")
    ok(http.get("/v1/me", headers=bearer(others["access_token"])))


def test_ones_own_tokens_come_by_pages(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    headers = bearer(login(http, ann)["access_token"])
    named = [ok(http.post("/v1/me/tokens", json={"name": f"script {n}"}, headers=headers), 201) for n in range(3)]
    first = ok(http.get("/v1/me/tokens", params={"limit": "2"}, headers=headers))
    second = ok(http.get("/v1/me/tokens", params={"limit": "2", "cursor": first["next"]}, headers=headers))
    tokens = [*first["tokens"], *second["tokens"]]
    assert ids(tokens)[:3] == [token["token_id"] for token in reversed(named)]
    assert [token["name"] for token in tokens][:3] == ["script 2", "script 1", "script 0"]
    for query in ("subject_id=x", "client=console", "limit=0", "state=gone"):
        refused(http.get(f"/v1/me/tokens?{query}", headers=headers), 400, "invalid_input")


def test_ones_own_tokens_are_nobodys_without_a_token_that_stands_for_the_ledger(
    admin: httpx.Client, http: httpx.Client
) -> None:
    session = new_session(admin, http)
    refused(http.get("/v1/me/tokens"), 401, "not_authenticated")
    refused(http.get("/v1/me/tokens", headers=bearer(session.access)), 401, "not_authenticated")


def test_a_service_account_sees_its_own_tokens(admin: httpx.Client, http: httpx.Client) -> None:
    client = new_client(admin, grants=["client_credentials"], apis=["ledger"], strategy="jwt")
    issued = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=client.auth))
    (own,) = ok(http.get("/v1/me/tokens", headers=bearer(issued["access_token"])))["tokens"]
    assert (own["token_id"], own["client"], own["subject_id"]) == (issued["token_id"], client.name, client.subject_id)
