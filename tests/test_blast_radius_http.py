"""The blast radius of an incident over HTTP: what is found is exactly what was written down beforehand."""

from typing import Any

import httpx
import pytest

from ledger.clients import client_id_of
from tests.calls import login, new_person, nothing_recorded, ok, refused
from tests.incident import STARTS, STEPS, Incident, lines_of, table, take_back
from tests.serving import Served

NOBODY = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(scope="module")
def incident(ledger_server: Served) -> Incident:
    return Incident(ledger_server).play()


def test_the_table_has_an_event_for_every_step_and_edges_of_every_kind() -> None:
    assert {row.event[0] for row in table()} == set(STEPS)
    edges = {edge for row in table() for edge, _ in row.edges.values()}
    assert edges == {"start", "issued_from", "done_by", "caused_by", "granted_by"}
    assert all(any(start in row.edges for row in table()) for start in STARTS)
    assert sum(not row.edges for row in table()) > 15


def test_every_event_of_the_table_was_recorded_by_whom_it_says(incident: Incident) -> None:
    assert [row.event for row in table()] == sorted(incident.positions, key=lambda event: incident.positions[event])


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("limit", [1000, 3])
def test_what_an_incident_led_to_is_what_was_written_down_beforehand(incident: Incident, start: str, limit: int) -> None:
    with incident.served.admin() as admin:
        lines = list(lines_of(admin, incident.starts()[start], limit))
        assert incident.told(lines) == incident.expected(start)
        assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)
        names = {row.event: row.who for row in table()}
        events = {position: event for event, position in incident.positions.items()}
        for line in lines:
            assert incident.name_of(line["who"]) == names[events[line["position"]]]


# ------------------------------------------------------------------------------------------------------------ taken back


def undone(incident: Incident, taken: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Answer what was taken back, oldest first: the step it takes back, what was done to whom, and what became of it."""
    events = {position: event for event, position in incident.positions.items()}
    names = {person.subject_id: name for name, person in incident.people.items()}
    names |= {str(client_id_of(app.name)): name for name, app in incident.apps.items()}
    names |= {tokens["token_id"]: step for step, tokens in incident.tokens.items()}
    names |= {tokens["family_id"]: f"family of {step}" for step, tokens in reversed(incident.tokens.items())}
    return [
        (events[one["takes_back"]][0], one["verb"], names.get(one["id"], one["kind"]), one["outcome"])
        for one in reversed(taken)
    ]


def state_of(admin: httpx.Client, token: dict[str, Any]) -> str:
    state: str = ok(admin.get(f"/v1/tokens/{token['token_id']}"))["state"]
    return state


def status_of(admin: httpx.Client, incident: Incident, name: str) -> str:
    status: str = ok(admin.get(incident.subject(name)))["status"]
    return status


def test_an_incident_is_taken_back_by_new_events_and_only_what_is_its_own(own_ledger: Served) -> None:
    incident = Incident(own_ledger, noise=1).play()
    starts = incident.starts()
    with own_ledger.admin() as admin:
        before = {step: state_of(admin, tokens) for step, tokens in incident.tokens.items()}
        plan, taken = take_back(admin, starts["rogue"], reason="incident 17")
        assert undone(incident, taken) == [
            ("kate-is-registered", "suspend", "kate", "done"),
            ("kate-is-operator", "withdraw_roles", "kate", "done"),
            ("kate-logs-in", "revoke", "family of kate-logs-in", "done"),
            ("kate-suspends-ann", "reinstate", "ann", "done"),
            ("clerk-gets-a-rule", "withdraw_rules", "role", "done"),
            ("false-dora-logs-in", "revoke", "family of false-dora-logs-in", "done"),
            ("kiosk-is-registered", "suspend", "subject", "done"),
            ("kiosk-is-registered", "suspend", "kiosk", "done"),
            ("kiosk-has-a-token", "revoke", "family", "done"),
            ("eve-is-cleared", "set_clearance", "eve", "done"),
            ("mallory-has-a-script", "revoke", "family of mallory-has-a-script", "done"),
            ("ben-has-his-own-rule", "withdraw_rules", "ben", "done"),
        ]
        # The plan that was shown is what was taken, step by step.
        shown = [{"takes_back": line["position"], **step} for line in plan["lines"] for step in line["undo"]]
        assert sorted(map(repr, shown)) == sorted(
            repr({name: value for name, value in one.items() if name not in ("outcome", "position")}) for one in taken
        )
        # By new events, each caused by the one that it takes back.
        page = ok(admin.get("/v1/audit/events", params={"from_position": plan["as_of_position"] + 1, "limit": 1000}))
        caused = {
            event["position"]: event["causation"] for event in page["events"] if event["correlation_id"] == plan["plan_id"]
        }
        for one in taken:
            assert caused[one["position"]] == one["takes_back"]
        assert len(set(caused.values())) == len({one["takes_back"] for one in taken})
        # Everything is as it was before the incident, and nobody else lost anything.
        assert status_of(admin, incident, "kate") == "suspended"
        assert (status_of(admin, incident, "ann"), status_of(admin, incident, "dora")) == ("active", "active")
        assert ok(admin.get(incident.subject("eve")))["clearance"] == 0
        assert ok(admin.get(incident.subject("lia")))["clearance"] == 50
        assert ok(admin.get(f"{incident.subject('ben')}/rules"))["rules"] == []
        assert ok(admin.get(incident.clerk()))["rules"] == []
        revoked = {"kate-logs-in", "false-dora-logs-in", "mallory-has-a-script"}
        after = {step: state_of(admin, tokens) for step, tokens in incident.tokens.items()}
        changed = {step for step in before if before[step] != after[step]}
        # That of the kiosk is stopped with its client; those that were stopped by Mallory's friend stand again.
        assert changed - {"gina-at-the-kiosk", "ann-logs-in"} <= revoked
        # Again: nothing is left to be done, and nothing is done twice.
        with nothing_recorded(admin):
            body = starts["rogue"] | {"as_of_position": plan["as_of_position"], "plan_id": plan["plan_id"]}
            again = ok(admin.post("/v1/audit/blast-radius", json=body))
        assert {one["outcome"] for one in again["steps"]} <= {"nothing", "done"}

        # What others have put right meanwhile stays; what cannot come back is said.
        _, leak = take_back(admin, starts["leak"])
        assert undone(incident, leak) == [
            ("cora-logs-in", "revoke", "family of cora-logs-in", "done"),
            ("thief-has-a-script", "revoke", "family of thief-has-a-script", "done"),
            ("script-revokes-a-token", "none", "ben-elsewhere", "left"),
        ]
        assert status_of(admin, incident, "gina") == "active"
        assert state_of(admin, incident.tokens["cora-logs-in-anew"]) == "active"
        _, interval = take_back(admin, starts["interval"])
        assert undone(incident, interval) == [
            ("ivan-is-given-a-token", "revoke", "family of ivan-is-given-a-token", "done"),
            ("ivan-reinstates", "suspend", "max", "done"),
        ]
        assert ok(admin.get(incident.subject("max")))["status_reason"] == "a whim"
        _, key = take_back(admin, starts["key"], reason="stolen")
        assert [(one["verb"], one["kind"], one["outcome"]) for one in key] == [("revoke", "key", "done")]
        assert status_of(admin, incident, "hana") == "active"
        assert state_of(admin, incident.tokens["olaf-logs-in"]) == "revoked"
        assert state_of(admin, incident.tokens["olaf-logs-in-again"]) == "active"


def test_an_operator_takes_back_what_he_may_do_by_itself_and_an_auditor_nothing(own_ledger: Served) -> None:
    incident = Incident(own_ledger, noise=0).play()
    query = incident.starts()["rogue"]
    with own_ledger.admin() as admin, own_ledger.client() as http:
        for role in ("auditor", "operator"):
            person = new_person(admin, f"ledger:{role}")
            http.headers["Authorization"] = f"Bearer {login(http, person)['access_token']}"
            plan = ok(http.get("/v1/audit/blast-radius", params=query))
            body = query | {"as_of_position": plan["as_of_position"], "plan_id": plan["plan_id"]}
            if role == "auditor":
                with nothing_recorded(admin):
                    refused(http.post("/v1/audit/blast-radius", json=body), 403, "not_allowed")
                continue
            _, taken = take_back(http, query)
            allowed = {(one["verb"], one["kind"]): one["outcome"] for one in taken}
            assert allowed["suspend", "subject"] == allowed["revoke", "family"] == "done"
            assert allowed["withdraw_roles", "subject"] == allowed["set_clearance", "subject"] == "not_allowed"
            assert all(one["may"] == (one["outcome"] != "not_allowed") for one in taken)


def test_what_somebody_changed_since_the_plan_is_left(incident: Incident) -> None:
    with incident.served.admin() as admin:
        query = incident.starts()["rogue"]
        plan = ok(admin.get("/v1/audit/blast-radius", params=query))
        ok(admin.put(f"{incident.subject('eve')}/clearance", json={"clearance": 77}))
        body = query | {"as_of_position": plan["as_of_position"], "plan_id": plan["plan_id"]}
        taken = ok(admin.post("/v1/audit/blast-radius", json=body))["steps"]
        assert [one["outcome"] for one in taken if one["verb"] == "set_clearance"] == ["plan_is_past"]
        assert ok(admin.get(incident.subject("eve")))["clearance"] == 77


def test_a_plan_is_of_one_start_position_and_log(incident: Incident) -> None:
    with incident.served.admin() as admin:
        starts = incident.starts()
        plan = ok(admin.get("/v1/audit/blast-radius", params=starts["leak"]))
        run = {"as_of_position": plan["as_of_position"], "plan_id": plan["plan_id"]}
        with nothing_recorded(admin):
            for body in (starts["key"] | run, starts["leak"] | run | {"as_of_position": plan["as_of_position"] - 1}):
                problem = refused(admin.post("/v1/audit/blast-radius", json=body), 400, "invalid_input")
                assert [p["field"] for p in problem["problems"]] == ["plan_id"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({}, ["token_id", "actor_id", "key_id", "from_position", "from_time"]),
        ({"to_position": 9}, ["token_id", "actor_id", "key_id", "from_position", "from_time"]),
        ({"token_id": "x"}, ["token_id"]),
        ({"token_id": NOBODY, "key_id": NOBODY}, ["token_id", "key_id"]),
        ({"actor_id": NOBODY, "to_position": 9}, ["to_position"]),
        ({"from_position": 1, "as_of_position": 10**9}, ["as_of_position"]),
        ({"from_time": "yesterday"}, ["from_time"]),
    ],
    ids=["nothing", "no beginning", "no id", "two starts", "an end", "to come", "no instant"],
)
def test_what_is_no_start_is_refused_by_name(
    http: httpx.Client, admin: httpx.Client, query: dict[str, Any], fields: list[str]
) -> None:
    problem = refused(admin.get("/v1/audit/blast-radius", params=query), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == fields
    assert http.get("/v1/audit/blast-radius", params=query).status_code == 401


def test_what_is_not_there_is_not_found(admin: httpx.Client) -> None:
    refused(admin.get("/v1/audit/blast-radius", params={"token_id": NOBODY}), 404, "unknown_token")
    refused(admin.get("/v1/audit/blast-radius", params={"key_id": NOBODY}), 404, "unknown_key")
    nobody = ok(admin.get("/v1/audit/blast-radius", params={"actor_id": NOBODY}))
    assert (nobody["lines"], nobody["complete"], nobody["steps"]) == ([], True, 0)
