"""/v1/audit over HTTP, on histories made over HTTP: who did what and why, what it made of things, and nothing secret."""

import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.event_answers import VERIFIERS, about, without_verifiers
from ledger.events import Event, TokenIssued, TokenRotated
from ledger.instants import rfc3339
from ledger.token_strings import PREFIXES, read
from projections.audit import Filters, RecordedEvent, Span
from tests.audit_model import any_filters, any_span, matches, whole_log, within
from tests.builders import EXAMPLES, NOON
from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refresh,
    refused,
    resource_server,
)
from tests.conftest import Clock
from tests.forging import new_signing_key, revoke_key
from tests.serving import Served
from tests.vectors import vectors

Entry = dict[str, Any]
EVENTS, TIMELINE = "/v1/audit/events", "/v1/audit/timeline"


@pytest.fixture(scope="module")
def api(ledger_server: Served) -> str:
    with ledger_server.admin() as admin:
        return new_api(admin, {"reader": ["allow GET /orders/**"]})


@pytest.fixture
def asker(admin: httpx.Client, api: str) -> App:
    return resource_server(admin, api)


@pytest.fixture
def ann(admin: httpx.Client, api: str) -> Person:
    return new_person(admin, f"{api}:reader")


def events(admin: httpx.Client, **query: Any) -> Iterator[dict[str, Any]]:
    """Answer every page of events."""
    cursor: dict[str, str] = {}
    while True:
        page = ok(admin.get(EVENTS, params=query | cursor))
        yield page
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}


def positions(pages: Iterator[dict[str, Any]]) -> list[int]:
    return [event["position"] for page in pages for event in page["events"]]


def timeline(admin: httpx.Client, **whose: str) -> dict[str, Any]:
    """Answer a timeline in one piece."""
    answer = ok(admin.get(TIMELINE, params=whose | {"limit": "1000"}))
    assert answer["next"] is None
    return answer


def what(entries: list[Entry]) -> list[str]:
    return [entry["what"] for entry in entries]


# ---------------------------------------------------------------------------------------------------- timelines of tokens


@pytest.mark.parametrize("strategy", ["opaque", "jwt"])
def test_a_tokens_timeline_says_who_stopped_it_and_why_and_its_states_are_what_was_answered_live(
    http: httpx.Client, admin: httpx.Client, strategy: str
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    ann, asker, app = (
        new_person(admin, f"{api}:reader"),
        resource_server(admin, api),
        first_party(admin, api, strategy=strategy),
    )
    token = login(http, ann, app)
    done: list[tuple[int, str, str | None, str]] = [(token["position"], "token_issued", None, ann.username)]
    live = {token["position"]: evaluate(http, asker, token["access_token"])["context"]["reason"]}

    def change(path: str, what: str, reason: str | None = None) -> None:
        position = ok(admin.post(path, json={} if reason is None else {"reason": reason}))["position"]
        done.append((position, what, reason, "admin"))
        live[position] = evaluate(http, asker, token["access_token"])["context"]["reason"]

    of = {
        "token": f"/v1/tokens/{token['token_id']}",
        "family": f"/v1/families/{token['family_id']}",
        "subject": f"/v1/subjects/{ann.subject_id}",
        "client": f"/v1/clients/{app.name}",
        "api": f"/v1/apis/{api}",
    }
    for kind, path in of.items():
        change(f"{path}/suspend", f"{kind}_suspended", f"{kind} looks odd")
        change(f"{path}/reinstate", f"{kind}_reinstated", f"{kind} is fine")
    # Two at once: what is reinstated first does not make it stand.
    change(f"{of['subject']}/suspend", "subject_suspended", "away")
    change(f"{of['token']}/suspend", "token_suspended", "lost")
    change(f"{of['token']}/reinstate", "token_reinstated")
    change(f"{of['subject']}/reinstate", "subject_reinstated")
    change(f"{of['token']}/revoke", "token_revoked", "stolen")

    answer = timeline(admin, token_id=token["token_id"])
    found = [(e["position"], e["what"], e["why"], e["who"]["name"]) for e in answer["entries"]]
    assert found == done
    assert {e["position"]: e["after"]["reason"] or "allowed" for e in answer["entries"]} == live
    assert [e["after"]["state"] for e in answer["entries"]] == [
        *["active", "suspended"] * 5,
        *["active", "suspended", "suspended", "suspended", "active", "revoked"],
    ]
    levels = ["token", "family", "subject", "client", "api"]
    assert [e["after"]["level"] for e in answer["entries"] if e["after"]["level"]] == [
        *levels,
        *["subject", "token", "subject", "token"],
    ]
    assert answer["entries"][0]["after"]["stands_for"] == [api]
    assert {key: answer["now"][key] for key in ("state", "reason", "level")} == {
        "state": "revoked",
        "reason": "token_revoked",
        "level": "token",
    }
    assert [e["about"]["kind"] for e in answer["entries"]][:11] == ["token", *[kind for kind in levels for _ in range(2)]]


def test_whoever_acts_is_named_and_how_it_was_authenticated(http: httpx.Client, admin: httpx.Client, api: str) -> None:
    app = new_client(
        admin,
        grants=["client_credentials", "password", "refresh_token"],
        refresh="rotating",
        apis=[api],
    )
    ann = new_person(admin, f"{api}:reader")
    token = ok(http.post("/login", json={"username": ann.username, "password": ann.password}, auth=app.auth))
    ok(refresh(http, app, token["refresh_token"]))
    (issued, rotated) = timeline(admin, family_id=token["family_id"])["entries"]
    assert issued["who"] == {"kind": "subject", "id": ann.subject_id, "name": ann.username, "authenticated_by": "password"}
    assert (rotated["who"]["kind"], rotated["who"]["name"]) == ("client", app.name)
    assert rotated["who"]["authenticated_by"] == "client_secret_basic"
    itself = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=app.auth))
    (entry,) = timeline(admin, token_id=itself["token_id"])["entries"]
    assert (entry["who"]["kind"], entry["who"]["name"], entry["what"]) == ("client", app.name, "token_issued")
    ok(admin.post(f"/v1/subjects/{ann.subject_id}/suspend", json={"reason": "away"}))
    (admins, *_) = timeline(admin, subject_id=ann.subject_id)["entries"][-1:]
    mine = admin.get("/v1/me").json()
    assert admins["who"] == {
        "kind": "subject",
        "id": mine["subject_id"],
        "name": "admin",
        "authenticated_by": f"token {mine['token_id']}",
    }


def test_a_rotated_refresh_token_used_again_is_told_in_the_timelines_of_all_it_stopped(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api, refresh="rotating", retry_window_seconds=0)
    first = login(http, ann, app)
    second = ok(refresh(http, app, first["refresh_token"]))
    assert refresh(http, app, first["refresh_token"]).json()["error"] == "invalid_grant"

    family = timeline(admin, family_id=first["family_id"])
    assert what(family["entries"]) == ["token_issued", "token_rotated", "reuse_detected"]
    assert [(e["after"]["status"], e["after"]["generation"]) for e in family["entries"]] == [
        ("active", 1),
        ("active", 2),
        ("revoked", 2),
    ]
    assert family["entries"][2]["why"] == "a rotated refresh token was used again"
    assert family["now"]["state"] == "revoked"

    refresh_token_id = str(read("refresh", first["refresh_token"])[0])
    used = timeline(admin, token_id=refresh_token_id)
    assert [(e["what"], e["after"]["state"], e["after"]["reason"]) for e in used["entries"]] == [
        ("token_issued", "active", None),
        ("token_rotated", "rotated", "token_rotated"),
        ("reuse_detected", "revoked", "family_revoked"),
    ]
    for token in (first, second):
        access = timeline(admin, token_id=token["token_id"])
        assert [(e["after"]["state"], e["after"]["level"]) for e in access["entries"]] == [
            ("active", None),
            ("revoked", "family"),
        ]
        assert what(access["entries"])[1:] == ["reuse_detected"]
    (reuse,) = [e for page in events(admin, family_id=first["family_id"], type="reuse_detected") for e in page["events"]]
    assert reuse["payload"]["token_id"] == refresh_token_id
    assert (reuse["payload"]["generation_presented"], reuse["payload"]["generation_current"]) == (1, 2)


def test_a_refresh_token_is_worth_what_a_refresh_with_it_comes_to(http: httpx.Client, admin: httpx.Client, ann: Person) -> None:
    api = new_api(admin)
    app = first_party(admin, api, refresh="reusable")
    token = login(http, ann, app)
    refresh_token_id = str(read("refresh", token["refresh_token"])[0])

    def agreed() -> tuple[str, str | None]:
        now = timeline(admin, token_id=refresh_token_id)["now"]
        refreshed = refresh(http, app, token["refresh_token"]).status_code == 200
        assert refreshed == (now["state"] == "active"), now
        return now["state"], now["level"]

    stoppers = {
        "token": f"/v1/tokens/{refresh_token_id}",
        "family": f"/v1/families/{token['family_id']}",
        "subject": f"/v1/subjects/{ann.subject_id}",
        "client": f"/v1/clients/{app.name}",
    }
    for level, path in stoppers.items():
        ok(admin.post(f"{path}/suspend", json={"reason": "odd"}))
        assert agreed() == ("suspended", level)
        ok(admin.post(f"{path}/reinstate"))
        assert agreed() == ("active", None)
    # It calls no API; the access tokens it gives are refused there.
    ok(admin.post(f"/v1/apis/{api}/suspend", json={"reason": "closed"}))
    assert agreed() == ("active", None)
    ok(admin.post(f"/v1/apis/{api}/revoke-tokens"))
    assert agreed() == ("revoked", "api")


def test_a_cut_off_is_told_with_the_level_it_was_made_at(http: httpx.Client, admin: httpx.Client) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    asker, app = resource_server(admin, api), first_party(admin, api)
    ann = new_person(admin, f"{api}:reader")
    subject = f"/v1/subjects/{ann.subject_id}"
    because = {"reason": "leaked"}
    cuts: dict[tuple[str, str], Callable[[], httpx.Response]] = {
        ("subject", "subject_tokens_revoked"): lambda: admin.post(f"{subject}/revoke-tokens", json=because),
        ("subject", "subject_password_set"): lambda: admin.put(f"{subject}/password", json={"password": ann.password}),
        ("client", "client_tokens_revoked"): lambda: admin.post(f"/v1/clients/{app.name}/revoke-tokens", json=because),
        ("api", "api_tokens_revoked"): lambda: admin.post(f"/v1/apis/{api}/revoke-tokens", json=because),
        ("subject", "subject_erased"): lambda: admin.post(f"{subject}/erase", json=because),
    }
    for (level, event_type), cut in cuts.items():
        token = login(http, ann, app)
        # What does not cut off does not concern the token.
        if event_type != "subject_erased":
            ok(admin.put(f"{subject}/password", json={"password": ann.password, "keep_tokens": True}))
        position = ok(cut())["position"]
        answer = timeline(admin, token_id=token["token_id"])
        assert what(answer["entries"]) == ["token_issued", event_type]
        entry = answer["entries"][-1]
        assert entry["after"]["state"] == "revoked"
        assert entry["after"]["level"] == level
        assert entry["why"] == (None if event_type == "subject_password_set" else "leaked")
        assert entry["after"]["reason"] == evaluate(http, asker, token["access_token"])["context"]["reason"]
        assert entry["position"] <= position
        assert answer["now"] == entry["after"]


def test_a_revoked_key_is_told_in_the_timelines_of_the_tokens_made_with_it(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api, strategy="jwt")
    token = login(http, ann, app)
    (issued,) = [event for page in events(admin, token_id=token["token_id"]) for event in page["events"]]
    (key_id,) = issued["payload"]["tokens"][0]["key_ids"]
    new_signing_key(ledger_server)
    untouched = login(http, ann, app)
    revoke_key(ledger_server, UUID(key_id))
    answer = timeline(admin, token_id=token["token_id"])
    assert what(answer["entries"]) == ["token_issued", "key_revoked"]
    assert answer["entries"][1]["who"] == {"kind": "system", "id": None, "name": None, "authenticated_by": "none"}
    assert answer["entries"][1]["about"] == {"kind": "key", "id": key_id}
    assert (answer["now"]["state"], answer["now"]["level"]) == ("revoked", "key")
    assert what(timeline(admin, token_id=untouched["token_id"])["entries"]) == ["token_issued"]
    assert what([e | {"what": e["type"]} for p in events(admin, key_id=key_id) for e in p["events"]])[0] == "key_revoked"


def test_what_happens_to_other_tokens_of_the_same_owners_is_not_in_a_tokens_timeline(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api)
    token, other = login(http, ann, app), login(http, ann, app)
    ok(admin.post(f"/v1/tokens/{other['token_id']}/revoke", json={"reason": "another"}))
    ok(admin.post(f"/v1/families/{other['family_id']}/revoke", json={"reason": "another"}))
    ok(admin.put(f"/v1/subjects/{ann.subject_id}/clearance", json={"clearance": 7}))
    assert what(timeline(admin, token_id=token["token_id"])["entries"]) == ["token_issued"]


def test_a_token_for_two_apis_stands_as_long_as_it_does_for_one(http: httpx.Client, admin: httpx.Client, ann: Person) -> None:
    apis = sorted([new_api(admin), new_api(admin)])
    token = login(http, ann, first_party(admin, *apis))
    for api in apis:
        ok(admin.post(f"/v1/apis/{api}/suspend", json={"reason": "closed"}))
    answer = timeline(admin, token_id=token["token_id"])
    assert [e["after"]["stands_for"] for e in answer["entries"]] == [apis, apis[1:], []]
    assert [e["after"]["state"] for e in answer["entries"]] == ["active", "active", "suspended"]
    assert answer["now"]["level"] == "api"


def test_a_suspension_that_is_over_and_a_token_that_has_expired_are_no_events_but_said_as_of_now(
    http: httpx.Client, admin: httpx.Client, server_clock: Clock, ledger_server: Served, api: str, ann: Person
) -> None:
    app = first_party(admin, api)
    token = login(http, ann, app)
    now = datetime.fromisoformat(ok(admin.get(f"/v1/subjects/{ann.subject_id}"))["instant"])
    until = rfc3339(datetime.fromtimestamp(now.timestamp() + 60, now.tzinfo))
    ok(admin.post(f"/v1/subjects/{ann.subject_id}/suspend", json={"reason": "a minute", "until": until}))
    suspended = timeline(admin, token_id=token["token_id"])
    assert suspended["now"] == suspended["entries"][-1]["after"]
    assert (suspended["now"]["state"], suspended["now"]["until"]) == ("suspended", until)
    server_clock.advance(61)
    over = timeline(admin, token_id=token["token_id"])
    assert over["entries"] == suspended["entries"]
    assert over["now"]["state"] == "active"
    assert timeline(admin, subject_id=ann.subject_id)["now"] == {"state": "active", "reason": None}
    server_clock.advance(600)
    with ledger_server.admin() as later:
        # What happens to others after its end is nothing to the token, what happens to itself is.
        ok(later.post(f"/v1/subjects/{ann.subject_id}/suspend", json={"reason": "for good"}))
        ok(later.post(f"/v1/tokens/{token['token_id']}/revoke", json={"reason": "to be sure"}))
        expired = timeline(later, token_id=token["token_id"])
        issued = ok(later.get(EVENTS, params={"token_id": token["token_id"], "type": "token_issued"}))["events"][0]
        ends_at = datetime.fromisoformat(issued["payload"]["tokens"][0]["expires_at"])
    assert what(expired["entries"]) == ["token_issued", "subject_suspended", "token_revoked"]
    assert expired["entries"][-1]["after"]["state"] == "expired"
    assert (expired["now"]["state"], expired["now"]["reason"]) == ("expired", "token_expired")
    assert expired["now"]["expired_at"] == rfc3339(ends_at)


def test_a_timeline_comes_by_pages_that_hold_each_entry_once(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api)
    token = login(http, ann, app)
    for number in range(4):
        ok(admin.post(f"/v1/subjects/{ann.subject_id}/suspend", json={"reason": f"number {number}"}))
        ok(admin.post(f"/v1/families/{token['family_id']}/suspend", json={"reason": f"number {number}"}))
        ok(admin.patch(f"/v1/clients/{app.name}", json={"access_lifetime_seconds": 300 + number}))
    for whose in (
        {"token_id": token["token_id"]},
        {"family_id": token["family_id"]},
        {"subject_id": ann.subject_id},
        {"client": app.name},
    ):
        whole = timeline(admin, **whose)["entries"]
        assert len(whole) > 4
        for limit in (1, 3):
            entries: list[Entry] = []
            cursor: dict[str, str] = {}
            while True:
                page = ok(admin.get(TIMELINE, params=whose | cursor | {"limit": str(limit)}))
                assert len(page["entries"]) <= limit
                entries += page["entries"]
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
            assert entries == whole


# --------------------------------------------------------------------------------------------- timelines of the others


def test_a_subjects_timeline_tells_its_whole_life_with_the_state_after_each_event(
    http: httpx.Client, admin: httpx.Client, api: str
) -> None:
    bob = new_person(admin, f"{api}:reader", name="bob")
    of = f"/v1/subjects/{bob.subject_id}"
    ok(admin.put(f"{of}/clearance", json={"clearance": 40}))
    ok(admin.post(f"/v1/apis/{api}/roles", json={"name": "passing"}), 201)
    ok(admin.post(f"{of}/roles", json={"roles": [f"{api}:passing"]}))
    token = login(http, bob)
    ok(http.put("/v1/me/password", json={"current": bob.password, "new": bob.password}, headers=bearer(token["access_token"])))
    ok(admin.delete(f"/v1/apis/{api}/roles/passing"))
    ok(admin.post(f"{of}/suspend", json={"reason": "investigation"}))
    ok(admin.post(f"{of}/reinstate"))
    answer = timeline(admin, subject_id=bob.subject_id)
    entries = answer["entries"]
    cutoff = next(e["position"] for e in entries if e["what"] == "subject_password_set")

    def after(status: str = "active", clearance: int = 40, cutoff_position: int = 0, *roles: str) -> dict[str, Any]:
        names = [f"{api}:{role}" for role in roles]
        return {
            "status": status,
            "until": None,
            "clearance": clearance,
            "roles": names,
            "cutoff_position": cutoff_position,
        }

    assert [(e["what"], e["who"]["name"], e["why"], e["after"]) for e in entries] == [
        ("name_taken", "admin", None, None),
        ("subject_registered", "admin", None, after("active", 0)),
        ("subject_roles_granted", "admin", None, after("active", 0, 0, "reader")),
        ("subject_clearance_set", "admin", None, after("active", 40, 0, "reader")),
        ("subject_roles_granted", "admin", None, after("active", 40, 0, "passing", "reader")),
        ("token_issued", bob.username, None, after("active", 40, 0, "passing", "reader")),
        ("subject_password_set", bob.username, None, after("active", 40, cutoff, "passing", "reader")),
        # Of a role that was removed nothing is left, although nobody withdrew it.
        ("subject_suspended", "admin", "investigation", after("suspended", 40, cutoff, "reader")),
        ("subject_reinstated", "admin", None, after("active", 40, cutoff, "reader")),
    ]
    assert answer["now"] == {"state": "active", "reason": None}
    (granted, *_) = [e for p in events(admin, type="role_created", api=api) for e in p["events"]]
    found = [e for p in events(admin, role_id=granted["payload"]["role_id"], order="oldest") for e in p["events"]]
    assert [e["type"] for e in found] == ["name_taken", "role_created", "subject_roles_granted", "role_removed"]


def test_the_name_of_a_subject_that_was_erased_is_nowhere(http: httpx.Client, admin: httpx.Client, api: str) -> None:
    eve = new_person(admin, f"{api}:reader", name="eve", email="eve@example.org", display_name="Eve Moneypenny")
    token = login(http, eve)
    before = timeline(admin, subject_id=eve.subject_id)
    assert before["entries"][-1]["who"]["name"] == eve.username
    ok(admin.post(f"/v1/subjects/{eve.subject_id}/erase", json={"reason": "asked to be"}))
    after = admin.get(TIMELINE, params={"subject_id": eve.subject_id})
    assert [e["who"]["name"] for e in ok(after)["entries"] if e["what"] == "token_issued"] == [None]
    assert ok(after)["now"]["state"] == "erased"
    assert ok(after)["entries"][-1]["why"] == "asked to be"
    texts = [after.text, admin.get(TIMELINE, params={"token_id": token["token_id"]}).text]
    texts += [json.dumps(page, ensure_ascii=False) for page in events(admin, subject_id=eve.subject_id)]
    for personal in (eve.username, "eve@example.org", "Moneypenny"):
        assert all(personal not in text for text in texts)


def test_a_clients_timeline_tells_its_settings_and_what_was_done_with_it(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api, refresh="rotating")
    login(http, ann, app)
    ok(admin.patch(f"/v1/clients/{app.name}", json={"strategy": "jwt"}))
    ok(admin.post(f"/v1/clients/{app.name}/suspend", json={"reason": "leaks"}))
    answer = timeline(admin, client=app.name)
    assert [(e["what"], e["after"]["status"], e["after"]["strategy"]) for e in answer["entries"]] == [
        ("client_registered", "active", "opaque"),
        ("token_issued", "active", "opaque"),
        ("client_changed", "active", "jwt"),
        ("client_suspended", "suspended", "jwt"),
    ]
    assert answer["entries"][0]["after"]["apis"] == [api]
    assert answer["now"] == {"state": "suspended", "reason": "client_suspended", "until": None}


def test_a_family_is_worth_what_its_refresh_token_is_worth(
    http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    token = login(http, ann, first_party(admin, api, refresh="reusable"))
    assert timeline(admin, family_id=token["family_id"])["now"]["state"] == "active"
    ok(admin.post(f"/v1/subjects/{ann.subject_id}/revoke-tokens"))
    answer = timeline(admin, family_id=token["family_id"])
    assert what(answer["entries"]) == ["token_issued"]
    assert answer["entries"][0]["after"] == {"status": "active", "until": None, "generation": 1}
    assert (answer["now"]["state"], answer["now"]["level"]) == ("revoked", "subject")


# --------------------------------------------------------------------------------------------------------------- events


def test_an_event_is_answered_as_the_log_has_it(ledger_server: Served, admin: httpx.Client, ann: Person) -> None:
    correlation = str(uuid4())
    suspended = admin.post(
        f"/v1/subjects/{ann.subject_id}/suspend",
        json={"reason": "why not"},
        headers={"X-Correlation-Id": correlation},
    )
    (row,) = [row for row in whole_log(ledger_server.owner) if row["position"] == ok(suspended)["position"]]
    position = row["position"]
    (event,) = ok(admin.get(EVENTS, params={"from_position": position, "to_position": position}))["events"]
    payload = row["payload"] | {"subject": row["payload"]["subject"] | {"sealed_password": "withheld"}}
    assert event == {
        "position": position,
        "stream": ann.subject_id,
        "version": row["version"],
        "type": "subject_suspended",
        "schema_version": 1,
        "recorded_schema_version": 1,
        "recorded_at": rfc3339(row["recorded_at"]),
        "payload": payload,
        "command_id": row["metadata"]["command_id"],
        "request_id": row["metadata"]["request_id"],
        "correlation_id": correlation,
        "causation": None,
        "actor": row["metadata"]["actor"],
        "semantics": 1,
    }
    # Sealed under the subject's key, and so it stays.
    assert event["payload"]["subject"]["sealed_profile"] == row["payload"]["subject"]["sealed_profile"]


def test_who_did_it_is_found_whoever_it_was(http: httpx.Client, admin: httpx.Client, api: str) -> None:
    """Of issues and rotations too, which have no entry for the subject or client that did them."""
    app = new_client(admin, grants=["password", "refresh_token"], refresh="rotating", apis=[api])
    ann, bob = new_person(admin), new_person(admin, name="bob")
    tokens = {}
    for person in (ann, bob):
        asked = {"username": person.username, "password": person.password}
        tokens[person] = ok(http.post("/login", json=asked, auth=app.auth))
    rotation = ok(refresh(http, app, tokens[ann]["refresh_token"]))
    issued = ok(admin.post("/v1/tokens", json={"subject_id": ann.subject_id, "client": app.name}), 201)
    administrator = ok(admin.get("/v1/me"))["subject_id"]
    (registered,) = [e for p in events(admin, client=app.name, type="client_registered") for e in p["events"]]
    client_id = registered["stream"]

    assert positions(events(admin, actor_id=ann.subject_id)) == [tokens[ann]["position"]]
    assert positions(events(admin, actor_id=bob.subject_id)) == [tokens[bob]["position"]]
    assert positions(events(admin, actor_id=client_id)) == [rotation["position"]]
    by_administrator = positions(events(admin, actor_id=administrator))
    assert issued["position"] in by_administrator
    assert tokens[ann]["position"] not in by_administrator
    assert positions(events(admin, actor_id=administrator, client=app.name)) == [issued["position"], registered["position"]]


def query_of(filters: Filters, span: Span, names: Mapping[UUID, str]) -> dict[str, str] | None:
    """Answer the query that asks this; None where a client or an API has no name and so cannot be asked about."""
    query = {name: str(value) for name, value in asdict(filters).items() if value is not None and name != "types"}
    for kind in ("client", "api"):
        if f"{kind}_id" in query:
            name = names.get(UUID(query.pop(f"{kind}_id")))
            if name is None:
                return None
            query[kind] = name
    if filters.types is not None:
        query["type"] = ",".join(filters.types)
    for name in ("from_time", "to_time"):
        instant = getattr(span, name)
        if instant is not None:
            query[name] = rfc3339(instant)
    for name in ("from_position", "to_position"):
        if getattr(span, name) is not None:
            query[name] = str(getattr(span, name))
    return query | ({} if span.newest_first else {"order": "oldest"})


def test_every_filter_alone_and_with_others_finds_what_a_walk_over_the_whole_log_finds(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, api: str, ann: Person
) -> None:
    app = first_party(admin, api, refresh="rotating")
    token = login(http, ann, app)
    ok(refresh(http, app, token["refresh_token"]))
    ok(admin.post(f"/v1/tokens/{token['token_id']}/revoke", json={"reason": "stolen"}))
    log = whole_log(ledger_server.owner)
    names = {
        event["stream"]: event["payload"][kind]["name"]
        for event in log
        for kind in ("client", "api")
        if kind in event["payload"]
    }
    chance = random.Random(20300601)
    questions = [(any_filters(log, chance), any_span(log, chance)) for _ in range(80)]
    for name in asdict(Filters()):
        # Each alone, with what some event has.
        alone = (Filters(**{name: getattr(any_filters(log, chance), name)}) for _ in range(10_000))
        matching = (filters for filters in alone if filters != Filters() and any(matches(event, filters) for event in log))
        questions += [(filters, Span(newest_first=newest)) for filters, newest in zip(matching, (True, False), strict=False)]
    for name in ("from_position", "to_position", "from_time", "to_time"):
        drawn = (getattr(any_span(log, chance), name) for _ in range(1_000))
        questions.append((Filters(), Span(**{name: next(value for value in drawn if value is not None)})))
    found: set[str] = set()
    for filters, span in questions:
        query = query_of(filters, span, names)
        if query is None:
            continue
        # What was recorded since the log was read is nobody's business here.
        query.setdefault("to_position", str(log[-1]["position"]))
        expected = [event["position"] for event in log if matches(event, filters) and within(event, span)]
        limit = chance.choice([5, 1000])
        pages = list(events(admin, **query, limit=limit))
        assert all(len(page["events"]) <= limit for page in pages)
        assert positions(iter(pages)) == (expected[::-1] if span.newest_first else expected), query
        if expected:
            found |= {name for name, value in {**asdict(filters), **asdict(span)}.items() if value is not None}
    assert found == {*asdict(Filters()), *asdict(Span())} - {"cursor", "moment"}


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_of_the_whole_log_follow_one_another_without_a_gap_while_it_grows(
    admin: httpx.Client, ann: Person, order: str
) -> None:
    seen: list[int] = []
    head = None
    for number, page in enumerate(events(admin, order=order, limit=7)):
        head = head or page["position"]
        seen += [event["position"] for event in page["events"]]
        if number < 3:
            ok(admin.put(f"/v1/subjects/{ann.subject_id}/clearance", json={"clearance": 50 + number}))
    assert head is not None
    last = head if order == "newest" else head + 3
    assert sorted(seen) == list(range(1, last + 1))
    assert seen == sorted(seen, reverse=order == "newest")


def test_a_page_says_of_which_log_it_is_and_up_to_where(admin: httpx.Client, ann: Person) -> None:
    page = ok(admin.get(EVENTS, params={"limit": 1}))
    opened = ok(admin.get(EVENTS, params={"type": "log_opened"}))["events"]
    assert page["log_id"] == opened[0]["payload"]["log_id"]
    assert page["position"] == page["events"][0]["position"]
    assert page["next"] == str(page["position"])
    assert datetime.fromisoformat(page["instant"]) >= datetime.fromisoformat(page["events"][0]["recorded_at"])


def test_naughty_strings_come_back_as_they_were_given(admin: httpx.Client, ann: Person) -> None:
    strings = [s for s in json.loads(vectors("corpora", "naughty-strings", "blns.json").read_bytes()) if s]
    assert len(strings) > 500
    given: list[str] = []
    for text in strings:
        body = json.dumps({"reason": text}, ensure_ascii=False).encode()
        answer = admin.post(
            f"/v1/subjects/{ann.subject_id}/suspend", content=body, headers={"Content-Type": "application/json"}
        )
        ok(answer)
        if not given or given[-1] != text:
            given.append(text)
    entries = timeline(admin, subject_id=ann.subject_id)["entries"]
    assert [e["why"] for e in entries if e["what"] == "subject_suspended"] == given
    found = [e for p in events(admin, subject_id=ann.subject_id, type="subject_suspended", order="oldest") for e in p["events"]]
    assert [e["payload"]["subject"]["status_reason"] for e in found] == given


# --------------------------------------------------------------------------------------------------- what is not answered


@dataclass
class Secrets:
    """What must never be in an answer: as text, and what it is checked against, in every usual spelling."""

    texts: set[str] = field(default_factory=set)

    def add(self, text: str) -> None:
        """A secret, its digest, and of a string of ours the random part and its digest."""
        self.texts.add(text)
        self.add_bytes(hashlib.sha256(text.encode()).digest())
        for kind, prefix in PREFIXES.items():
            if text.startswith(prefix) and "." not in text:
                secret = read(kind, text)[1]
                self.texts.add(text[-49:-6])
                self.add_bytes(secret)
                self.add_bytes(hashlib.sha256(secret).digest())

    def add_bytes(self, data: bytes) -> None:
        """Bytes in hex and base64."""
        self.texts |= {data.hex(), data.hex().upper()}
        for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
            self.texts.add(encoded.decode().rstrip("="))

    def found_in(self, text: str) -> set[str]:
        """Answer those that stand in a text."""
        return {secret for secret in self.texts if secret in text}


def test_no_answer_holds_a_secret_or_what_a_secret_is_checked_against(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, api: str
) -> None:
    secrets = Secrets()
    password = "a password that nobody else has 4711"
    ann = new_person(admin, f"{api}:reader", password=password)
    ann = Person(ann.subject_id, ann.username, password)
    secrets.add(password)
    families = []
    for strategy in ("opaque", "encrypted", "jwt", "jwe"):
        app = new_client(admin, grants=["password", "refresh_token"], refresh="rotating", apis=[api], strategy=strategy)
        assert app.secret is not None
        secrets.add(app.secret)
        token = ok(http.post("/login", json={"username": ann.username, "password": password}, auth=app.auth))
        again = ok(refresh(http, app, token["refresh_token"]))
        for answer in (token, again):
            secrets.add(answer["access_token"])
            secrets.add(answer["refresh_token"])
        families.append((token["family_id"], token["token_id"], app.name))
        ok(admin.post(f"/v1/tokens/{again['token_id']}/revoke", json={"reason": "stolen"}))
    rotated = ok(admin.post(f"/v1/clients/{families[0][2]}/secret", json={"keep_old": True}))
    secrets.add(rotated["client_secret"])
    log = whole_log(ledger_server.owner)
    for event in log:
        payload = event["payload"]
        for row in payload.get("tokens", ()):
            if row["secret_digest"]:
                secrets.add_bytes(bytes.fromhex(row["secret_digest"]))
        for digest in payload.get("client", {}).get("secret_digests", ()):
            secrets.add_bytes(bytes.fromhex(digest))
        if payload.get("subject", {}).get("sealed_password"):
            secrets.texts.add(payload["subject"]["sealed_password"])
    # The log itself has digests, and so the search can find them.
    assert len(secrets.found_in(json.dumps([event["payload"] for event in log]))) > 15

    answers = [admin.get(EVENTS, params={"limit": 1000, "order": "oldest"}).text]
    answers += [json.dumps(page, ensure_ascii=False) for page in events(admin, limit=1000)]
    for family_id, token_id, name in families:
        for whose in ({"family_id": family_id}, {"token_id": token_id}, {"client": name}, {"subject_id": ann.subject_id}):
            answers.append(admin.get(TIMELINE, params=whose).text)
    assert sum(map(len, answers)) > 100_000
    for text in answers:
        assert secrets.found_in(text) == set()
    assert '"withheld"' in answers[0]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.TYPE)
def test_of_an_event_nothing_is_withheld_but_what_secrets_are_checked_against(event: Event) -> None:
    payload = json.loads(event.payload_json())
    answered = without_verifiers(payload)
    withheld = {path for path, value in _leaves(answered) if value == "withheld"}
    assert {path[-1] if isinstance(path[-1], str) else path[-2] for path in withheld} <= VERIFIERS
    assert {path: value for path, value in _leaves(answered) if path not in withheld} == {
        path: value for path, value in _leaves(payload) if path not in withheld
    }
    left = [(path, value) for path, value in _leaves(answered) if path not in withheld and value is not None]
    assert [path for path, _ in left if any(word in str(path) for word in ("digest", "password", "secret"))] == []


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.TYPE)
def test_an_entry_says_what_the_event_is_about(event: Event) -> None:
    payload = json.loads(event.payload_json())
    recorded = RecordedEvent(1, event.stream, 1, event.TYPE, 1, payload, {}, NOON, 1)
    told = about(recorded, {})
    assert told["id"] in json.dumps(payload)
    kinds = {"token", "family", "subject", "name", "client", "api", "role", "key", "lockout", "log", "stream"}
    assert told["kind"] in kinds
    if isinstance(event, TokenIssued | TokenRotated):
        for token in event.tokens:
            assert about(recorded, {"token_id": str(token.token_id)}) == {"kind": "token", "id": str(token.token_id)}


def test_claims_that_are_named_like_a_digest_are_answered() -> None:
    claims = {"secret_digest": "theirs", "sealed_password": ["theirs"]}
    assert without_verifiers({"tokens": [{"claims": claims}]}) == {"tokens": [{"claims": claims}]}


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Answer every value that is neither object nor array, with the way to it."""
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(member, (*path, key))
    else:
        yield path, value


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("type=token_issued,no_such_type", "type"),
        ("type=", "type"),
        ("type=token_issued,", "type"),
        ("subject_id=ann", "subject_id"),
        ("token_id=tl_at_123", "token_id"),
        ("family_id=", "family_id"),
        ("role_id=orders:reader", "role_id"),
        ("key_id=1", "key_id"),
        ("actor_id=%00", "actor_id"),
        ("actor_id={01890a5d-ac96-774b-bcce-000000000001}", "actor_id"),
        ("from_time=yesterday", "from_time"),
        ("from_time=2030-06-01", "from_time"),
        ("from_time=2030-06-01T12:00:00", "from_time"),
        ("from_time=2030-06-01T12:00:00+02:00", "from_time"),  # a bare + is a space
        ("to_time=2030-02-30T12:00:00Z", "to_time"),
        ("to_time=2030-06-01T12:00:00.1234567Z", "to_time"),
        ("to_time=2030-06-01T23:59:60Z", "to_time"),
        ("to_time=9999-12-31T23:59:59-14:00", "to_time"),
        ("from_position=0", "from_position"),
        ("from_position=-1", "from_position"),
        ("to_position=1.5", "to_position"),
        ("to_position=99999999999999999999", "to_position"),
        ("to_position=%D9%A1", "to_position"),
        ("order=random", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("cursor=next", "cursor"),
        ("cursor=", "cursor"),
        ("subject=ann", "subject"),
        ("order=oldest&order=newest", "order"),
    ],
)
def test_a_bad_query_is_refused_naming_the_parameter(admin: httpx.Client, query: str, parameter: str) -> None:
    problem = refused(admin.get(f"{EVENTS}?{query}"), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == [parameter]


def test_an_unknown_event_type_is_named(admin: httpx.Client) -> None:
    problem = refused(admin.get(f"{EVENTS}?type=token_issued,token_eaten"), 400, "invalid_input")
    assert "token_eaten" in problem["problems"][0]["rule"]


def test_of_types_there_are_at_most_twenty(admin: httpx.Client) -> None:
    page = ok(admin.get(EVENTS, params={"limit": 1000, "order": "oldest"}))
    types = list(dict.fromkeys(event["type"] for event in page["events"]))
    assert len(types) > 20
    ok(admin.get(EVENTS, params={"type": ",".join(types[:20])}))
    problem = refused(admin.get(EVENTS, params={"type": ",".join(types[:21])}), 400, "invalid_input")
    assert problem["problems"] == [{"field": "type", "rule": "at most 20"}]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", ["token_id", "family_id", "subject_id", "client"]),
        ("token_id={id}&client=console", ["token_id", "client"]),
        ("token_id=1", ["token_id"]),
        ("family_id=", ["family_id"]),
        ("subject_id=ann", ["subject_id"]),
        ("client=console&order=newest", ["order"]),
        ("client=console&limit=0", ["limit"]),
        ("client=console&cursor=x", ["cursor"]),
    ],
)
def test_a_bad_timeline_query_is_refused_naming_the_parameters(admin: httpx.Client, query: str, parameters: list[str]) -> None:
    problem = refused(admin.get(f"{TIMELINE}?{query.format(id=uuid4())}"), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == parameters


def test_what_is_not_there_has_no_timeline_and_no_events(admin: httpx.Client) -> None:
    nobody = str(uuid4())
    refused(admin.get(TIMELINE, params={"token_id": nobody}), 404, "unknown_token")
    refused(admin.get(TIMELINE, params={"family_id": nobody}), 404, "unknown_family")
    refused(admin.get(TIMELINE, params={"subject_id": nobody}), 404, "unknown_subject")
    refused(admin.get(TIMELINE, params={"client": "nobody"}), 404, "unknown_client")
    refused(admin.get(EVENTS, params={"client": "nobody"}), 404, "unknown_client")
    refused(admin.get(EVENTS, params={"api": "nothing"}), 404, "unknown_api")
    for name in ("subject_id", "token_id", "family_id", "role_id", "key_id", "actor_id"):
        page = ok(admin.get(EVENTS, params={name: nobody}))
        assert (page["events"], page["next"]) == ([], None)


def test_instants_at_the_ends_of_time_are_taken(admin: httpx.Client) -> None:
    for first, last, events_are_there in (
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", True),
        ("0001-01-01T14:00:00+14:00", "1969-12-31t23:59:59z", False),
    ):
        page = ok(admin.get(EVENTS, params={"from_time": first, "to_time": last, "limit": 1}))
        assert bool(page["events"]) == events_are_there


@pytest.mark.parametrize("path", [EVENTS, f"{TIMELINE}?client=console"])
def test_audit_is_for_those_who_may_read_the_management_api(http: httpx.Client, admin: httpx.Client, path: str) -> None:
    ordinary, auditor = new_person(admin), new_person(admin, "ledger:auditor")
    refused(http.get(path), 401, "not_authenticated")
    refused(http.get(path, headers=bearer(login(http, ordinary)["access_token"])), 403, "not_allowed")
    ok(http.get(path, headers=bearer(login(http, auditor)["access_token"])))
