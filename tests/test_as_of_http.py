"""Asked as of the past: what was answered live is answered again, whatever happened since."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.calls import (
    App,
    Person,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refused,
    resource_server,
)
from tests.conftest import Clock
from tests.serving import Served

ROLES = {
    "reader": ["allow GET /orders/{id}", "deny GET /orders/hidden", "allow GET /secrets/{id} clearance 5"],
    "writer": ["allow POST /orders/{id}"],
}


@dataclass(frozen=True)
class World:
    api: str
    app: App
    person: Person
    asker: App
    tokens: dict[str, Any]

    @property
    def token(self) -> str:
        return str(self.tokens["access_token"])


@pytest.fixture(scope="module")
def admin(ledger_server: Served) -> Iterator[httpx.Client]:
    with ledger_server.admin() as client:
        yield client


@pytest.fixture
def world(admin: httpx.Client) -> World:
    api = new_api(admin, ROLES)
    person, app = new_person(admin, f"{api}:reader"), first_party(admin, api, strategy="jwt", refresh="rotating")
    return World(api, app, person, resource_server(admin, api), login(admin, person, app))


def evaluate_then(
    http: httpx.Client, asker: App, token: str, method: str, path: str, context: dict[str, Any]
) -> httpx.Response:
    question = {
        "subject": {"type": "token", "id": token},
        "action": {"name": method},
        "resource": {"type": "route", "id": path},
        "context": context,
    }
    return http.post("/access/v1/evaluation", json=question, auth=asker.auth)


def moment_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Answer what asks the same again."""
    context = answer["context"]
    return {"as_of": context["position"], "instant": context["instant"], "semantics": context["semantics"]}


def change_everything(admin: httpx.Client, world: World) -> None:
    """Make every answer about the token another one, one change after the other."""
    subject, api = f"/v1/subjects/{world.person.subject_id}", f"/v1/apis/{world.api}"
    ok(admin.post(f"{api}/roles/writer/rules", json={"rules": ["deny GET /orders/7"]}))
    ok(admin.post(f"{subject}/roles", json={"roles": [f"{world.api}:writer"]}))
    ok(admin.put(f"{subject}/clearance", json={"clearance": 9}))
    ok(admin.post(f"{subject}/rules", json={"rules": [{"api": world.api, "methods": ["*"], "path": "/**"}]}))
    ok(admin.post(f"{subject}/suspend", json={"reason": "gone"}))
    ok(admin.post(f"/v1/clients/{world.app.name}/suspend", json={"reason": "leaked"}))
    ok(admin.post(f"/v1/tokens/{world.tokens['token_id']}/revoke", json={}))
    ok(admin.post(f"{api}/revoke-tokens", json={}))


QUESTIONS = [
    ("GET", "/orders/7"),
    ("GET", "/orders/hidden"),
    ("GET", "/secrets/1"),
    ("POST", "/orders/7"),
    ("GET", "//x"),
    ("FETCH it", "/x"),
]


def test_a_decision_asked_again_with_its_moment_is_identical(admin: httpx.Client, world: World) -> None:
    asked = [evaluate(admin, world.asker, world.token, method, path) for method, path in QUESTIONS]
    reasons = ["allowed", "denied_by_rule", "insufficient_clearance", "no_rule", "path_empty_segment", "bad_method"]
    assert [answer["context"]["reason"] for answer in asked] == reasons
    change_everything(admin, world)
    for (method, path), live in zip(QUESTIONS, asked, strict=True):
        assert ok(evaluate_then(admin, world.asker, world.token, method, path, moment_of(live))) == live
        query = {"token_id": world.tokens["token_id"], "api": world.api, "method": method, "path": path}
        assert ok(admin.get("/v1/audit/decision", params=query | moment_of(live))) == live
        assert ok(admin.get("/v1/audit/decision", params=query))["decision"] is False


def test_every_change_is_seen_from_its_position_on_and_not_before(admin: httpx.Client, world: World) -> None:
    recorded = ok(admin.get("/v1/audit/timeline", params={"token_id": world.tokens["token_id"]}))["position"]
    change_everything(admin, world)
    head = ok(admin.get("/readyz"))["position"]

    def reason(position: int) -> str:
        answer = ok(evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", {"as_of": position}))
        assert answer["context"]["position"] == position
        return str(answer["context"]["reason"])

    assert [reason(position) for position in range(recorded, head + 1)] == [
        "allowed",
        "allowed",  # the deny is in a role that the subject does not hold yet
        "denied_by_rule",
        "denied_by_rule",
        "denied_by_rule",
        "subject_suspended",
        "subject_suspended",
        "token_revoked",
        "token_revoked",
    ]


def test_before_it_was_issued_a_token_is_unknown(admin: httpx.Client, world: World) -> None:
    issued = ok(admin.get(f"/v1/tokens/{world.tokens['token_id']}"))["position"]
    answer = ok(evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", {"as_of": issued - 1}))
    assert (answer["decision"], answer["context"]["reason"]) == (False, "unknown_token")


def test_a_time_is_the_last_position_recorded_by_then_and_that_instant(admin: httpx.Client, world: World) -> None:
    entries = ok(admin.get("/v1/audit/timeline", params={"token_id": world.tokens["token_id"]}))["entries"]
    issued = entries[0]
    answer = ok(evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", {"as_of": issued["instant"]}))
    assert (answer["context"]["position"], answer["context"]["instant"]) == (issued["position"], issued["instant"])
    assert answer["context"]["reason"] == "allowed"
    of_position = ok(evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", {"as_of": issued["position"]}))
    assert of_position == answer


def test_whoever_asks_about_the_past_must_be_allowed_to_ask_now(admin: httpx.Client, world: World) -> None:
    live = evaluate(admin, world.asker, world.token)
    other_api = new_api(admin)
    ok(admin.patch(f"/v1/clients/{world.asker.name}", json={"serves": other_api}))
    # Its questions are about the API it serves now.
    answer = ok(evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", moment_of(live)))
    assert answer["context"]["reason"] == "wrong_audience"
    ok(admin.post(f"/v1/clients/{world.asker.name}/suspend", json={"reason": "leaked"}))
    assert evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", moment_of(live)).status_code == 401
    nobody = new_client(admin, grants=["issue"], apis=[world.api])
    assert evaluate_then(admin, nobody, world.token, "GET", "/orders/7", moment_of(live)).status_code == 403


def test_introspection_answers_what_the_token_stood_for(admin: httpx.Client, world: World) -> None:
    live = introspect(admin, world.asker, world.token)
    assert live["active"]
    ok(admin.patch(f"/v1/apis/{world.api}", json={"audience": "https://moved.example.org"}))
    change_everything(admin, world)
    moment = {"as_of": live["position"], "instant": live["instant"], "semantics": live["semantics"]}
    form = {"token": world.token} | {name: str(value) for name, value in moment.items()}
    assert ok(admin.post("/oauth/introspect", data=form, auth=world.asker.auth)) == live
    assert introspect(admin, world.asker, world.token)["active"] is False


def test_many_are_asked_each_as_of_its_own_moment(admin: httpx.Client, world: World) -> None:
    then = evaluate(admin, world.asker, world.token)
    ok(admin.post(f"/v1/subjects/{world.person.subject_id}/suspend", json={"reason": "gone"}))
    asked = {
        "subject": {"type": "token", "id": world.token},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": "/orders/7"},
        "context": moment_of(then),
        "evaluations": [
            {},
            {"context": {}},
            {"context": {"as_of": 10**9}},
            {"context": {"as_of": "yesterday"}},
            {"resource": {"type": "route", "id": "/orders/hidden"}},
        ],
    }
    answers = ok(admin.post("/access/v1/evaluations", json=asked, auth=world.asker.auth))["evaluations"]
    assert answers[0] == then
    reasons = [answer["context"]["reason"] for answer in answers]
    assert reasons[1:] == ["subject_suspended", "incomplete_question", "incomplete_question", "denied_by_rule"]
    assert "the log ends at" in answers[2]["context"]["error"]["message"]
    assert answers[4]["context"]["position"] == then["context"]["position"]


WRONG = {
    "nothing": ({"as_of": ""}, "as_of"),
    "zero": ({"as_of": "0"}, "as_of"),
    "a word": ({"as_of": "yesterday"}, "as_of"),
    "above the head": ({"as_of": "999999999"}, "as_of"),
    "beyond any log": ({"as_of": "9999999999999999"}, "as_of"),
    "the future": ({"as_of": "2999-01-01T00:00:00Z"}, "as_of"),
    "before the log": ({"as_of": "1999-01-01T00:00:00Z"}, "as_of"),
    "an instant of the future": ({"as_of": "1", "instant": "2999-01-01T00:00:00Z"}, "instant"),
    "an instant that is none": ({"as_of": "1", "instant": "noon"}, "instant"),
    "an instant with a time": ({"as_of": "2020-01-01T00:00:00Z", "instant": "2020-01-01T00:00:00Z"}, "instant"),
    "an instant alone": ({"instant": "2020-01-01T00:00:00Z"}, "instant"),
    "semantics alone": ({"semantics": "1"}, "semantics"),
    "semantics that were never released": ({"as_of": "1", "semantics": "99"}, "semantics"),
    "semantics that are none": ({"as_of": "1", "semantics": "new"}, "semantics"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_moment_is_named_everywhere(admin: httpx.Client, world: World, name: str) -> None:
    given, field = WRONG[name]
    query = {"token_id": world.tokens["token_id"], "api": world.api, "method": "GET", "path": "/orders/7"}
    if all(given.values()):  # a parameter without a value is none
        problem = refused(admin.get("/v1/audit/decision", params=query | given), 400, "invalid_input")["problems"]
        assert [one["field"] for one in problem] == [field]
        form = admin.post("/oauth/introspect", data={"token": world.token} | given, auth=world.asker.auth)
        assert (form.status_code, form.json()["error"]) == (400, "invalid_request")
        assert form.json()["error_description"].startswith(field)
    answer = evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", given)
    assert answer.status_code == 400
    assert field in answer.text.partition(":")[0]


@pytest.mark.parametrize("context", ["then", ["then"], 7, None], ids=["text", "list", "number", "null"])
def test_a_context_that_is_no_object_is_refused(admin: httpx.Client, world: World, context: Any) -> None:
    answer = evaluate_then(admin, world.asker, world.token, "GET", "/orders/7", context)
    assert (answer.status_code, answer.text) == (400, "context: an object")


@pytest.mark.parametrize("left_out", ["token_id", "api", "method", "path"])
def test_a_decision_of_the_audit_needs_its_whole_question(admin: httpx.Client, world: World, left_out: str) -> None:
    query = {"token_id": world.tokens["token_id"], "api": world.api, "method": "GET", "path": "/orders/7"}
    query.pop(left_out)
    problems = refused(admin.get("/v1/audit/decision", params=query), 400, "invalid_input")["problems"]
    assert problems == [{"field": left_out, "rule": "is needed"}]


def test_a_gateway_reads_no_moment_from_its_query(admin: httpx.Client, world: World) -> None:
    then = evaluate(admin, world.asker, world.token)
    ok(admin.post(f"/v1/subjects/{world.person.subject_id}/suspend", json={"reason": "gone"}))
    assert world.asker.secret is not None
    headers = {
        "Ledger-Gateway-Key": world.asker.secret,
        "X-Original-Method": "GET",
        "X-Original-URI": "/orders/7",
        "Authorization": f"Bearer {world.token}",
    }
    answer = admin.get("/gateway/nginx", params={"as_of": then["context"]["position"]}, headers=headers)
    assert (answer.status_code, answer.headers["Ledger-Reason"]) == (401, "subject_suspended")


# -------------------------------------------------------------------------------------------------- listings and timelines


def without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in names}


def shown(admin: httpx.Client, world: World, **then: Any) -> dict[str, Any]:
    """Answer what every listing and every single thing shows of a world, now or then."""
    subject, api = f"/v1/subjects/{world.person.subject_id}", f"/v1/apis/{world.api}"
    paths: dict[str, dict[str, Any]] = {
        subject: {},
        f"{subject}/rules": {},
        f"{subject}/permissions": {"limit": 3},
        "/v1/subjects": {"username": world.person.username},
        api: {},
        f"{api}/roles": {},
        f"{api}/roles/reader": {},
        f"{api}/roles/reader/rules": {"limit": 2},
        f"/v1/clients/{world.app.name}": {},
        f"/v1/tokens/{world.tokens['token_id']}": {},
        f"/v1/families/{world.tokens['family_id']}": {},
        "/v1/tokens": {"subject_id": world.person.subject_id},
    }
    answers: dict[str, Any] = {}
    for path, params in paths.items():
        answer = ok(admin.get(path, params=params | then))
        if then:
            at = answer.get("as_of_position", answer["position"])
            assert (at, answer["instant"]) == (then["as_of"], then["instant"]), path
            assert answer["log_id"]
        # Of then the answers say where then was, which is not where the log was when it was asked live.
        answers[path] = without(answer, "instant", "log_id", "as_of_position" if "as_of_position" in answer else "position")
    of = {
        "token_id": world.tokens["token_id"],
        "family_id": world.tokens["family_id"],
        "subject_id": world.person.subject_id,
        "client": world.app.name,
    }
    for name, value in of.items():
        answer = ok(admin.get("/v1/audit/timeline", params={name: value} | then))
        for entry in answer["entries"]:
            entry["who"].pop("name")  # as it is now
        answers[f"timeline of {name}"] = without(answer, "instant", "log_id", "position")
    every = {"limit": 1000} | then
    answers["apis"] = [row for row in ok(admin.get("/v1/apis", params=every))["apis"] if row["name"] == world.api]
    names = (world.app.name, world.asker.name)
    answers["clients"] = [row for row in ok(admin.get("/v1/clients", params=every))["clients"] if row["name"] in names]
    listed = ok(admin.get("/v1/subjects", params=every | {"role": f"{world.api}:reader"}))
    answers["subjects"] = without(listed, "instant", "log_id", "position")
    return answers


def test_everything_that_is_listed_is_shown_as_it_was(admin: httpx.Client, world: World) -> None:
    own = {"api": world.api, "methods": ["PUT"], "path": "/x"}
    ok(admin.post(f"/v1/subjects/{world.person.subject_id}/rules", json={"rules": [own]}))
    before = shown(admin, world)
    at = ok(admin.get("/readyz"))["position"]
    moment = ok(admin.get("/v1/audit/events", params={"limit": 1}))
    assert moment["position"] == at
    change_everything(admin, world)
    ok(admin.patch(f"/v1/apis/{world.api}", json={"audience": "https://moved.example.org"}))
    ok(admin.delete(f"/v1/apis/{world.api}/roles/reader"))
    ok(admin.post(f"/v1/apis/{world.api}/roles", json={"name": "reader"}), 201)
    ok(admin.post(f"/v1/apis/{world.api}/roles", json={"name": "newer"}), 201)
    ok(admin.patch(f"/v1/clients/{world.app.name}", json={"strategy": "opaque"}))
    ok(admin.put(f"/v1/subjects/{world.person.subject_id}/profile", json={"username": f"new-{world.person.username}"}))
    assert shown(admin, world, as_of=at, instant=moment["instant"]) == before


def test_what_was_not_there_yet_is_not_found(admin: httpx.Client, world: World) -> None:
    first = {"as_of": 1}
    for path in (
        f"/v1/subjects/{world.person.subject_id}",
        f"/v1/subjects/{world.person.subject_id}/rules",
        f"/v1/subjects/{world.person.subject_id}/permissions",
        f"/v1/apis/{world.api}",
        f"/v1/apis/{world.api}/roles",
        f"/v1/apis/{world.api}/roles/reader",
        f"/v1/apis/{world.api}/roles/reader/rules",
        f"/v1/clients/{world.app.name}",
        f"/v1/tokens/{world.tokens['token_id']}",
        f"/v1/families/{world.tokens['family_id']}",
    ):
        assert admin.get(path, params=first).status_code == 404, path
    assert ok(admin.get("/v1/subjects", params=first | {"username": world.person.username}))["subjects"] == []
    assert ok(admin.get("/v1/tokens", params=first))["tokens"] == []
    refused(admin.get("/v1/audit/timeline", params=first | {"token_id": world.tokens["token_id"]}), 404, "unknown_token")


def test_pages_of_the_past_go_on_where_they_ended(admin: httpx.Client, world: World) -> None:
    for _ in range(4):
        login(admin, world.person, world.app)
    at = ok(admin.get("/readyz"))["position"]
    login(admin, world.person, world.app)
    new_api(admin, name=world.api)

    def walk(path: str, member: str, key: str, **query: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = ok(admin.get(path, params=query | ({} if cursor is None else {"cursor": cursor})))
            found += [row[key] for row in page[member]]
            cursor = page["next"]
            if cursor is None:
                return found

    of_person = {"subject_id": world.person.subject_id, "as_of": at}
    whole = walk("/v1/tokens", "tokens", "token_id", **of_person, limit=1000)
    assert len(whole) == 10
    assert walk("/v1/tokens", "tokens", "token_id", **of_person, limit=3) == whole
    for member, key in (("apis", "name"), ("clients", "name"), ("subjects", "subject_id")):
        whole = walk(f"/v1/{member}", member, key, as_of=at, limit=1000)
        assert walk(f"/v1/{member}", member, key, as_of=at, limit=2) == whole
        assert len(set(whole)) == len(whole)
    assert world.api in walk("/v1/apis", "apis", "name", as_of=at)
    assert len(walk("/v1/apis", "apis", "name")) == len(walk("/v1/apis", "apis", "name", as_of=at)) + 1


@pytest.mark.parametrize(
    "path", ["/v1/subjects", "/v1/clients", "/v1/apis", "/v1/apis/ledger/roles", "/v1/tokens", "/v1/clients/console"]
)
def test_a_listing_names_what_is_wrong_with_its_moment(admin: httpx.Client, path: str) -> None:
    for given, field in WRONG.values():
        if all(given.values()):
            problems = refused(admin.get(path, params=given), 400, "invalid_input")["problems"]
            assert [one["field"] for one in problems] == [field]


# ------------------------------------------------------------------------------------------------------ the clock moves


def test_at_one_position_the_instant_tells_what_has_ended(admin: httpx.Client, world: World, server_clock: Clock) -> None:
    app = first_party(admin, world.api, access_lifetime_seconds=60)
    token = login(admin, world.person, app)["access_token"]
    pause = {"reason": "a pause", "until": in_seconds(admin, 30)}
    ok(admin.post(f"/v1/subjects/{world.person.subject_id}/suspend", json=pause))
    paused = evaluate(admin, world.asker, token)
    server_clock.advance(31)
    going_on = evaluate(admin, world.asker, token)
    server_clock.advance(31)
    over = evaluate(admin, world.asker, token)
    answers = [paused, going_on, over]
    assert len({answer["context"]["position"] for answer in answers}) == 1
    assert [answer["context"]["reason"] for answer in answers] == ["subject_suspended", "allowed", "token_expired"]
    for answer in answers:
        again = evaluate_then(admin, world.asker, token, "GET", "/orders/7", moment_of(answer))
        assert ok(again) == answer
    # Without an instant it is that of the recording.
    at = {"as_of": over["context"]["position"]}
    recorded = ok(evaluate_then(admin, world.asker, token, "GET", "/orders/7", at))
    assert recorded["context"]["reason"] == "subject_suspended"


def in_seconds(admin: httpx.Client, seconds: int) -> str:
    now = datetime.fromisoformat(ok(admin.get("/readyz"))["instant"])
    return (now + timedelta(seconds=seconds)).isoformat()
