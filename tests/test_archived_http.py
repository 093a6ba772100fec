"""What can still be asked when a part of the log is archived: what needs none of it goes on, the rest is refused by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from projections.archiving import archive
from tests.calls import (
    App,
    Person,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_person,
    ok,
    refused,
    resource_server,
    unique,
)
from tests.clock import Clock
from tests.partitions import on_small_partitions
from tests.serving import Served

SIZE = 10
A_WEEK = 7 * 24 * 3600


@dataclass(frozen=True)
class Archived:
    """A ledger whose first partitions are archived: whom and what the tests ask about."""

    edge: int  # the first position that is here
    before: int  # a position in the archive, at which `old` could call
    after: int  # the head when everything had left
    asker: App
    ann: Person
    app: App
    old: dict[str, Any]  # a token that ended and left
    new: dict[str, Any]  # issued when that had left
    archived_key: str  # an Idempotency-Key, the command of which is archived
    plan: dict[str, Any]  # of a revocation, from before


@pytest.fixture(scope="module")
def archived(ledger_server: Served, server_clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Archived:
    on_small_partitions(ledger_server.owner, size=SIZE)
    key = unique("key")
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        asker, app = resource_server(admin, api), first_party(admin, api)
        ann = new_person(admin, f"{api}:reader")
        once = admin.post("/v1/apis", json={"name": unique("once")}, headers={"Idempotency-Key": key})
        assert once.status_code == 201
        old = login(http, ann, app)
        before = evaluate(http, asker, old["access_token"])["context"]["position"]
        plan = ok(admin.post("/v1/revocations", json={"filter": {"subject_id": ann.subject_id}, "dry_run": True}))
        for _ in range(2 * SIZE):
            login(http, ann, app)
    server_clock.advance(A_WEEK)
    with psycopg.connect(ledger_server.owner) as connection:
        row = connection.execute("SELECT max(b.last_position) FROM ledger.batches b").fetchone()
        assert row is not None
    folder, ended_before = tmp_path_factory.mktemp("archive"), datetime.now(UTC) + timedelta(days=6)
    archive(ledger_server.owner, folder, below=before + SIZE + 1, ended_before=ended_before)
    with psycopg.connect(ledger_server.owner) as connection:
        edges = connection.execute("SELECT min(p.from_position) FROM ledger.partitions p").fetchone()
        heads = connection.execute("SELECT max(b.last_position) FROM ledger.batches b").fetchone()
    assert edges is not None
    assert heads is not None
    assert before < edges[0] <= row[0]
    with ledger_server.client() as http:
        new = login(http, ann, app)
    return Archived(edges[0], before, heads[0], asker, ann, app, old, new, key, plan)


@pytest.fixture
def auditor(ledger_server: Served, archived: Archived) -> Iterator[httpx.Client]:
    with ledger_server.admin() as client:
        yield client


def question(token: str, **context: object) -> dict[str, Any]:
    return {
        "subject": {"type": "token", "id": token},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": "/orders/7"},
        "context": context,
    }


def names_a_partition(archived: Archived, problem: dict[str, Any]) -> bool:
    named = problem["partition"] == f"events_from_{problem['from_position']}"
    return named and bool(problem["from_position"] < problem["to_position"] <= archived.edge)


# ----------------------------------------------------------------------------------------------------------------- live


def test_decisions_go_on(http: httpx.Client, archived: Archived) -> None:
    assert evaluate(http, archived.asker, archived.new["access_token"])["decision"]
    assert introspect(http, archived.asker, archived.new["access_token"])["active"]


def test_a_token_that_left_is_unknown_and_so_no(http: httpx.Client, archived: Archived) -> None:
    answer = evaluate(http, archived.asker, archived.old["access_token"])
    assert (answer["decision"], answer["context"]["reason"]) == (False, "unknown_token")
    assert introspect(http, archived.asker, archived.old["access_token"])["active"] is False


def test_listings_hold_what_is_there(auditor: httpx.Client, archived: Archived) -> None:
    listed = ok(auditor.get("/v1/tokens", params={"subject_id": archived.ann.subject_id}))["tokens"]
    found = {token["token_id"] for token in listed}
    assert archived.new["token_id"] in found
    assert archived.old["token_id"] not in found
    refused(auditor.get(f"/v1/tokens/{archived.old['token_id']}"), 404, "unknown_token")


# ----------------------------------------------------------------------------------------------------------------- as of


def test_a_decision_as_of_when_everything_had_left_is_what_it_was(http: httpx.Client, archived: Archived) -> None:
    for token, reason in ((archived.new, "unknown_token"), (archived.old, "unknown_token")):
        asked = question(token["access_token"], as_of=archived.after)
        answer = ok(http.post("/access/v1/evaluation", json=asked, auth=archived.asker.auth))
        assert answer["context"]["reason"] == reason


def test_a_decision_as_of_before_about_a_token_that_may_have_left_is_refused(http: httpx.Client, archived: Archived) -> None:
    asked = question(archived.old["access_token"], as_of=archived.before)
    answer = http.post("/access/v1/evaluation", json=asked, auth=archived.asker.auth)
    assert answer.status_code == 410
    assert "events_from_" in answer.text
    form = {"token": archived.old["access_token"], "as_of": str(archived.before)}
    assert http.post("/oauth/introspect", data=form, auth=archived.asker.auth).status_code == 410


def test_a_decision_as_of_before_about_a_token_that_was_never_there_then_is_answered(
    http: httpx.Client, archived: Archived
) -> None:
    for text in (archived.new["access_token"], "no token at all"):
        asked = question(text, as_of=archived.before)
        answer = ok(http.post("/access/v1/evaluation", json=asked, auth=archived.asker.auth))
        assert answer["context"]["reason"] == "unknown_token"


def test_what_was_there_before_is_not_listed_from_less(auditor: httpx.Client, archived: Archived) -> None:
    for path in ("/v1/tokens", f"/v1/tokens/{archived.old['token_id']}", f"/v1/families/{archived.old['family_id']}"):
        refused(auditor.get(path, params={"as_of": str(archived.before)}), 410, "partition_archived")
    listed = ok(auditor.get("/v1/tokens", params={"as_of": str(archived.after)}))["tokens"]
    assert archived.old["token_id"] not in {token["token_id"] for token in listed}


# ----------------------------------------------------------------------------------------------------------------- audit


def test_events_newest_first_end_where_the_log_begins_and_the_next_page_is_refused(
    auditor: httpx.Client, archived: Archived
) -> None:
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer = auditor.get("/v1/audit/events", params={"limit": "7"} | cursor)
        if answer.status_code != 200:
            break
        page = answer.json()
        seen += [event["position"] for event in page["events"]]
        assert page["next"] is not None
        cursor = {"cursor": page["next"]}
    assert seen == list(range(seen[0], archived.edge - 1, -1))
    assert names_a_partition(archived, refused(answer, 410, "partition_archived"))


@pytest.mark.parametrize("by", ["type", "subject_id"])
def test_filtered_events_never_end_as_if_that_were_all(auditor: httpx.Client, archived: Archived, by: str) -> None:
    filters = {by: {"type": "token_issued", "subject_id": archived.ann.subject_id}[by]}
    page = ok(auditor.get("/v1/audit/events", params={"limit": "1000"} | filters))
    assert page["next"] == str(archived.edge)
    problem = refused(auditor.get("/v1/audit/events", params=filters | {"cursor": page["next"]}), 410, "partition_archived")
    assert problem["to_position"] == archived.edge


def test_events_oldest_first_begin_where_the_log_does(auditor: httpx.Client, archived: Archived) -> None:
    problem = refused(auditor.get("/v1/audit/events", params={"order": "oldest"}), 410, "partition_archived")
    assert (problem["partition"], problem["from_position"]) == ("events_from_1", 1)
    params = {"order": "oldest", "from_position": str(archived.edge)}
    assert ok(auditor.get("/v1/audit/events", params=params))["events"][0]["position"] == archived.edge


def test_timelines_that_begin_in_the_archive_are_refused_and_go_on_from_behind_it(
    auditor: httpx.Client, archived: Archived
) -> None:
    for of in ({"subject_id": archived.ann.subject_id}, {"client": archived.app.name}):
        assert names_a_partition(archived, refused(auditor.get("/v1/audit/timeline", params=of), 410, "partition_archived"))
        later = ok(auditor.get("/v1/audit/timeline", params=of | {"cursor": str(archived.edge - 1)}))
        assert later["entries"][0]["position"] >= archived.edge
    for of in ({"token_id": archived.old["token_id"]}, {"family_id": archived.old["family_id"]}):
        refused(auditor.get("/v1/audit/timeline", params=of), 410, "partition_archived")


def test_a_timeline_that_began_since_is_whole(auditor: httpx.Client, archived: Archived) -> None:
    for of in ({"token_id": archived.new["token_id"]}, {"family_id": archived.new["family_id"]}):
        entries = ok(auditor.get("/v1/audit/timeline", params=of))["entries"]
        assert [entry["what"] for entry in entries] == ["token_issued"]


def test_what_was_never_there_is_unknown(auditor: httpx.Client) -> None:
    nobody = "01890a5d-ac96-774b-bcce-0000000000ff"
    refused(auditor.get("/v1/audit/timeline", params={"family_id": nobody}), 404, "unknown_family")
    refused(auditor.get("/v1/audit/timeline", params={"subject_id": nobody}), 404, "unknown_subject")


# -------------------------------------------------------------------------------------------------------------- commands


def test_a_repeat_of_an_archived_command_is_refused_for_nobody_can_tell_what_it_did(
    auditor: httpx.Client, archived: Archived
) -> None:
    again = auditor.post("/v1/apis", json={"name": unique("once")}, headers={"Idempotency-Key": archived.archived_key})
    assert names_a_partition(archived, refused(again, 410, "partition_archived"))


def test_a_list_of_revocations_as_of_before_is_refused(auditor: httpx.Client, archived: Archived) -> None:
    body = {"filter": {"subject_id": archived.ann.subject_id}, "dry_run": True} | {
        name: archived.plan[name] for name in ("as_of_position", "plan_id")
    }
    refused(auditor.post("/v1/revocations", json=body), 410, "partition_archived")


def test_the_blast_radius_of_what_began_in_the_archive_is_refused(auditor: httpx.Client, archived: Archived) -> None:
    of = {"actor_id": archived.ann.subject_id}
    refused(auditor.get("/v1/audit/blast-radius", params=of), 410, "partition_archived")
    # Then tokens still stood that left since, and could use what was given.
    refused(auditor.get("/v1/audit/blast-radius", params=of | {"from_position": str(archived.edge)}), 410, "partition_archived")
    ok(auditor.get("/v1/audit/blast-radius", params=of | {"from_position": str(archived.after)}))


def test_a_feed_from_the_beginning_is_refused_and_one_from_now_goes_on(auditor: httpx.Client, archived: Archived) -> None:
    problem = refused(auditor.get("/v1/feed", params={"wait": "0"}), 410, "partition_archived")
    assert names_a_partition(archived, problem)
    assert ok(auditor.get("/v1/feed", params={"after": "now", "wait": "0"}))["events"] == []


def test_questions_about_before_are_refused_however_they_are_asked(
    auditor: httpx.Client, http: httpx.Client, archived: Archived
) -> None:
    of = {
        "token_id": archived.old["token_id"],
        "api": "ledger",
        "method": "GET",
        "path": "/v1/me",
        "as_of": str(archived.before),
    }
    for path in ("/v1/audit/decision", "/v1/audit/explain"):
        refused(auditor.get(path, params=of), 410, "partition_archived")
    refused(auditor.get("/v1/audit/changes", params={"from": "1"}), 410, "partition_archived")
    asked = question(archived.old["access_token"], as_of=archived.before)
    assert http.post("/access/v1/evaluations", json={"evaluations": [asked]}, auth=archived.asker.auth).status_code == 410
    body = {"actor_id": archived.ann.subject_id, "as_of_position": archived.after, "plan_id": archived.plan["plan_id"]}
    refused(auditor.post("/v1/audit/blast-radius", json=body), 410, "partition_archived")


def test_the_archive_is_in_the_audit_log(auditor: httpx.Client, archived: Archived) -> None:
    events = ok(auditor.get("/v1/audit/events", params={"type": "partition_archived"}))["events"]
    assert events[0]["payload"]["to_position"] == archived.edge
