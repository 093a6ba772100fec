"""Shapes of events through time: whatever was ever recorded is read in the shape of today; and a change of one, rehearsed.

golden/events.json has a payload of every type in every version of its shape, golden/upcasts.json what each is read as in a
later one (`TYPE/VERSION as LATER`). Entries of both are only added.
"""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from ledger.events import EVENT_TYPES, Event, read_event
from projections.replay import replay
from projections.verify import verify
from tests.builders import EXAMPLES
from tests.calls import evaluate, first_party, login, new_api, new_person, ok, resource_server
from tests.conftest import Database
from tests.recording import contents, record, record_at
from tests.serving import Served

GOLDEN = Path(__file__).parent / "golden"
SHAPES: dict[str, str] = json.loads((GOLDEN / "events.json").read_text(encoding="utf-8"))
UPCASTS: dict[str, str] = json.loads((GOLDEN / "upcasts.json").read_text(encoding="utf-8"))


def versions_of(tag: str) -> list[int]:
    return sorted(int(entry.split("/")[1]) for entry in SHAPES if entry.split("/")[0] == tag)


def today(tag: str, version: int) -> dict[str, Any]:
    """What the corpus says a shape is read as by this release."""
    newest = EVENT_TYPES[tag].SCHEMA_VERSION
    text = SHAPES[f"{tag}/{version}"] if version == newest else UPCASTS[f"{tag}/{version} as {newest}"]
    payload: dict[str, Any] = json.loads(text)
    return payload


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_the_corpus_has_every_version_that_a_type_ever_had(tag: str) -> None:
    assert versions_of(tag) == list(range(1, EVENT_TYPES[tag].SCHEMA_VERSION + 1))


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_that_was_ever_recorded_is_read_as_the_corpus_says(shape: str, database: Database) -> None:
    tag, version = shape.split("/")[0], int(shape.split("/")[1])
    with psycopg.connect(database.service) as connection:
        row = connection.execute(
            "SELECT views.upcast(%(tag)s, %(version)s::smallint, %(payload)s)::text,"
            " views.upcast_version(%(tag)s, %(version)s::smallint)",
            {"tag": tag, "version": version, "payload": Jsonb(json.loads(SHAPES[shape]))},
        ).fetchone()
    assert row is not None
    assert json.loads(row[0]) == today(tag, version)
    assert row[1] == EVENT_TYPES[tag].SCHEMA_VERSION
    assert type(read_event(tag, row[0])).__name__ == EVENT_TYPES[tag].__name__


def test_a_version_of_a_later_release_is_left_as_it_is(database: Database) -> None:
    with psycopg.connect(database.service) as connection:
        row = connection.execute(
            "SELECT views.upcast(t.type, 3::smallint, '{}'), views.upcast_version(t.type, 3::smallint)"
            " FROM (VALUES ('subject_tokens_revoked')) AS t(type)"
        ).fetchone()
    assert row == ({}, 3)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.TYPE)
def test_what_a_later_release_added_to_a_shape_is_overlooked_in_a_repeat(event: Event) -> None:
    payload = json.loads(event.payload_json()) | {"added_later": 1}
    assert read_event(event.TYPE, json.dumps(payload), extra="ignore") == event


def test_reading_through_the_view_costs_no_call_of_a_function(database: Database) -> None:
    """The planner writes the upcast into what reads the view: no row is made for it, no function is called by name."""
    record(database)
    with psycopg.connect(database.service) as connection:
        plan = connection.execute(
            "EXPLAIN (VERBOSE) SELECT h.payload FROM views.history h WHERE h.type = 'api_changed' AND h.position < 10"
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "CASE WHEN" in text
    assert "upcast" not in text


# ------------------------------------------------------------------------------------------------------- a change, rehearsed

# The view as the release before `reason` had it.
FORMER_HISTORY = """
SET ROLE ledger_owner;
DROP VIEW views.history;
CREATE VIEW views.history AS
  SELECT e.position, e.stream, e.version, e.type, e.schema_version, e.payload, e.metadata, e.recorded_at,
      e.schema_version AS recorded_schema_version
    FROM ledger.events e;
GRANT SELECT ON views.history TO ledger_service;
RESET ROLE;
"""


class AsItWas:
    """An event of today in the bytes of its first version, which had no reason."""

    SCHEMA_VERSION = 1

    def __init__(self, conninfo: str, kind: str, entity_id: UUID) -> None:
        self.TYPE = f"{kind}_tokens_revoked"
        self.stream = entity_id
        row = {**_row(conninfo, kind, entity_id), "status_reason": None}
        self._payload = {f"{kind}_id": str(entity_id), kind: row, "cuts_off": True}

    def payload_json(self) -> str:
        assert self._payload.keys() == json.loads(SHAPES[f"{self.TYPE}/1"]).keys()
        return json.dumps(self._payload)


def _row(conninfo: str, kind: str, entity_id: UUID) -> dict[str, Any]:
    """The row of an entity as an event carries it."""
    newest = f"SELECT to_jsonb(v) - 'position' FROM views.{kind}s v WHERE v.{kind}_id = %s ORDER BY v.position DESC LIMIT 1"
    with psycopg.connect(conninfo) as connection:
        found = connection.execute(newest.encode(), (entity_id,)).fetchone()
    assert found is not None
    return {
        name: value.removeprefix("\\x") if name.startswith("sealed_") and value else value for name, value in found[0].items()
    }


def test_a_log_of_the_release_before_reads_the_same_after_install_replay_and_swap(own_ledger: Served) -> None:
    service = own_ledger.environment["TOKEN_LEDGER_DATABASE_URL"]
    with psycopg.connect(own_ledger.owner, autocommit=True) as connection:
        connection.execute(FORMER_HISTORY)
    with own_ledger.admin() as admin, own_ledger.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        asker, app, ann = resource_server(admin, api), first_party(admin, api), new_person(admin, f"{api}:reader")
        of = {"subject": UUID(ann.subject_id), "client": client_id_of(app.name), "api": api_id_of(api)}
        tokens = []
        for kind, entity_id in of.items():
            tokens.append(login(http, ann, app))
            assert evaluate(http, asker, tokens[-1]["access_token"])["decision"]
            record_at(service, [AsItWas(service, kind, entity_id)])  # type: ignore[list-item]

        def told() -> dict[str, Any]:
            """What decisions, timelines and audit say of it, but for where the log ends and when they were asked."""
            decisions = [evaluate(http, asker, token["access_token"]) for token in tokens]
            queries = [{"token_id": token["token_id"]} for token in tokens]
            queries += [{"subject_id": ann.subject_id}, {"client": app.name}]
            events = ok(admin.get("/v1/audit/events", params={"type": ",".join(f"{kind}_tokens_revoked" for kind in of)}))
            return {
                "decisions": [{**d, "context": {**d["context"], "instant": None}} for d in decisions],
                "timelines": [ok(admin.get("/v1/audit/timeline", params=query))["entries"] for query in queries],
                "events": events["events"],
            }

        before, views = told(), _views(own_ledger)
        assert {event["schema_version"] for event in before["events"]} == {1}
        report = replay(own_ledger.owner)
        after = told()

        assert report.differences == ()
        assert _views(own_ledger) == views
        for was, reads in zip(before.pop("events"), after.pop("events"), strict=True):
            today_s = EVENT_TYPES[was["type"]].SCHEMA_VERSION
            assert reads == {**was, "schema_version": today_s, "payload": {**was["payload"], "reason": None}}
        assert after == before
        assert all(d["context"]["reason"] == "tokens_revoked_before" for d in after["decisions"])

        # And what is recorded from now on has its reason, beside what was recorded before.
        _cut_off_with_a_reason(admin, {"subjects": ann.subject_id, "clients": app.name, "apis": api})
        # Also what a server of the release before records meanwhile.
        record_at(service, [AsItWas(service, "subject", of["subject"])])  # type: ignore[list-item]
        (late,) = ok(admin.get("/v1/audit/events", params={"limit": 1}))["events"]
        assert (late["schema_version"], late["recorded_schema_version"], late["payload"]["reason"]) == (2, 1, None)
    assert verify(own_ledger.owner).clean


def _cut_off_with_a_reason(admin: httpx.Client, of: dict[str, str]) -> None:
    for kind, name in of.items():
        position = ok(admin.post(f"/v1/{kind}/{name}/revoke-tokens", json={"reason": f"{kind} looks odd"}))["position"]
        (event,) = ok(admin.get("/v1/audit/events", params={"from_position": position}))["events"]
        newest = EVENT_TYPES[event["type"]].SCHEMA_VERSION
        assert event["schema_version"] == event["recorded_schema_version"] == newest
        assert event["payload"]["reason"] == f"{kind} looks odd"


def _views(ledger: Served) -> dict[str, list[Any]]:
    return contents(Database("", ledger.owner, ledger.owner, ""))
