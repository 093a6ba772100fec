"""Bulk revocation over HTTP: what the dry run lists is what the run takes, however it is cut, repeated or raced."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from ledger.instants import rfc3339
from tests.calls import (
    App,
    Person,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    refused,
    resource_server,
)
from tests.serving import Served

STRATEGIES = ("opaque", "encrypted", "jwt", "jwe")
Filter = dict[str, Any]


def ask(admin: httpx.Client, filters: Filter, **members: Any) -> httpx.Response:
    return admin.post("/v1/revocations", json={"filter": filters} | members)


def dry_run(admin: httpx.Client, filters: Filter, **members: Any) -> dict[str, Any]:
    return ok(ask(admin, filters, dry_run=True, **members))


def listed(admin: httpx.Client, filters: Filter, plan: dict[str, Any], limit: int = 1000) -> list[str]:
    """Answer every token of a plan, page by page."""
    found: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = dry_run(admin, filters, as_of_position=plan["as_of_position"], limit=limit, **cursor)
        assert page["plan_id"] == plan["plan_id"]
        found += [token["token_id"] for token in page["tokens"]]
        if page["next"] is None:
            assert len(found) == len(set(found))
            return found
        cursor = {"cursor": page["next"]}


def run_on(admin: httpx.Client, filters: Filter, plan: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Do one request of a run."""
    return ok(ask(admin, filters, as_of_position=plan["as_of_position"], plan_id=plan["plan_id"], **members))


def run(admin: httpx.Client, filters: Filter, plan: dict[str, Any], **members: Any) -> list[dict[str, Any]]:
    """Run a plan to its end, and answer what each request answered."""
    answers = [run_on(admin, filters, plan, **members)]
    while not answers[-1]["done"]:
        answers.append(run_on(admin, filters, plan, cursor=answers[-1]["next"], **members))
    return answers


def tokens_in(admin: httpx.Client, **query: Any) -> dict[str, dict[str, Any]]:
    """Answer every token that a listing has, by its id."""
    found: dict[str, dict[str, Any]] = {}
    while True:
        page = ok(admin.get("/v1/tokens", params={"limit": 1000} | query))
        found |= {token["token_id"]: token for token in page["tokens"]}
        if page["next"] is None:
            return found
        query |= {"cursor": page["next"]}


def states(admin: httpx.Client, **query: Any) -> dict[str, str]:
    return {token_id: token["state"] for token_id, token in tokens_in(admin, **query).items()}


def events_of(served: Served, plan: dict[str, Any]) -> list[tuple[int, str]]:
    """Answer the events of a plan, by its id in their envelopes."""
    with psycopg.connect(served.owner) as connection:
        return connection.execute(
            "SELECT position, type FROM ledger.events WHERE metadata ->> 'correlation_id' = %s ORDER BY position",
            (plan["plan_id"],),
        ).fetchall()


def issue(admin: httpx.Client, person: Person, app: App, **body: Any) -> dict[str, Any]:
    return ok(admin.post("/v1/tokens", json={"subject_id": person.subject_id, "client": app.name} | body), 201)


@pytest.fixture
def api(admin: httpx.Client) -> str:
    return new_api(admin, {"reader": ["allow GET /orders/**"]})


def reader(admin: httpx.Client, api: str) -> Person:
    return new_person(admin, f"{api}:reader")


# ------------------------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize("level", ["subject", "client", "api", "family"])
def test_one_event_takes_a_level_and_exactly_what_the_dry_run_listed(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, api: str, level: str
) -> None:
    person, app = reader(admin, api), first_party(admin, api, refresh="rotating")
    first = login(http, person, app)
    token = ok(admin.get(f"/v1/tokens/{first['token_id']}"))
    filters = {
        "subject": {"subject_id": person.subject_id},
        "client": {"client": app.name},
        "api": {"api": api},
        "family": {"family_id": token["family_id"]},
    }[level]
    with nothing_recorded(admin):
        plan = dry_run(admin, filters)
        list_of_plan = listed(admin, filters, plan, limit=1)
    assert (plan["level"], plan["count"], len(list_of_plan)) == (level, 2, 2)
    since = login(http, person, app)
    (answer,) = run(admin, filters, plan)
    assert (answer["done"], answer["next"], answer["positions"]) == (True, None, [answer["position"]])
    assert [position for position, _ in events_of(ledger_server, plan)] == answer["positions"]
    found = states(admin, api=api)
    assert {token_id for token_id, state in found.items() if state == "revoked"} == set(list_of_plan)
    assert found[since["token_id"]] == "active"
    with nothing_recorded(admin):
        (again,) = run(admin, filters, plan)
    assert (again["done"], again["positions"]) == (True, [])


def test_a_level_issued_before_an_instant_is_one_event_too(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, api: str
) -> None:
    person, app = reader(admin, api), first_party(admin, api)
    old = login(http, person, app)["token_id"]
    between = ok(admin.get(f"/v1/subjects/{person.subject_id}"))["instant"]
    young = login(http, person, app)["token_id"]
    filters = {"subject_id": person.subject_id, "issued_before": between}
    plan = dry_run(admin, filters)
    assert (plan["level"], [token["token_id"] for token in plan["tokens"]]) == ("subject", [old])
    run(admin, filters, plan, reason="incident")
    assert states(admin, subject_id=person.subject_id) == {old: "revoked", young: "active"}
    assert [kind for _, kind in events_of(ledger_server, plan)] == ["subject_tokens_revoked"]
    (entry,) = ok(admin.get("/v1/audit/timeline", params={"token_id": old}))["entries"][1:]
    assert (entry["what"], entry["why"]) == ("subject_tokens_revoked", "incident")


def test_an_instant_to_come_takes_no_more_than_what_was_listed(admin: httpx.Client, http: httpx.Client, api: str) -> None:
    person, app = reader(admin, api), first_party(admin, api)
    old = login(http, person, app)["token_id"]
    filters = {"subject_id": person.subject_id, "issued_before": "2199-01-01T00:00:00Z"}
    plan = dry_run(admin, filters)
    young = login(http, person, app)["token_id"]
    run(admin, filters, plan)
    assert states(admin, subject_id=person.subject_id) == {old: "revoked", young: "active"}


def test_a_family_that_was_refreshed_since_its_list_is_not_revoked_by_it(
    admin: httpx.Client, http: httpx.Client, api: str
) -> None:
    person, app = reader(admin, api), first_party(admin, api, refresh="rotating")
    tokens = login(http, person, app)
    family_id = ok(admin.get(f"/v1/tokens/{tokens['token_id']}"))["family_id"]
    plan = dry_run(admin, {"family_id": family_id})
    ok(refresh(http, app, tokens["refresh_token"]))
    with nothing_recorded(admin):
        stale = ask(admin, {"family_id": family_id}, as_of_position=plan["as_of_position"], plan_id=plan["plan_id"])
        refused(stale, 409, "plan_is_past")
    fresh = dry_run(admin, {"family_id": family_id})
    run(admin, {"family_id": family_id}, fresh, reason="leaked")
    assert "active" not in states(admin, family_id=family_id).values()


# ------------------------------------------------------------------------------------------------------------------ chunks


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kept", ["reusable", "rotating"])
def test_what_was_taken_is_dead_for_the_next_question(
    admin: httpx.Client, http: httpx.Client, api: str, strategy: str, kept: str
) -> None:
    person, app, asker = (
        reader(admin, api),
        first_party(admin, api, strategy=strategy, refresh=kept),
        resource_server(admin, api),
    )
    tokens = login(http, person, app)
    assert evaluate(http, asker, tokens["access_token"])["decision"]
    filters = {"subject_id": person.subject_id, "client": app.name}
    plan = dry_run(admin, filters)
    assert (plan["level"], plan["count"]) == (None, 2)
    (answer,) = run(admin, filters, plan, reason="incident")
    assert (answer["revoked"], answer["passed"]) == (2, 2)
    decision = evaluate(http, asker, tokens["access_token"])
    assert (decision["decision"], decision["context"]["reason"]) == (False, "token_revoked")
    assert not introspect(http, asker, tokens["access_token"])["active"]
    assert refresh(http, app, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert {t["status_reason"] for t in tokens_in(admin, subject_id=person.subject_id).values()} == {"incident"}


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> dict[str, Any]:
    """Tokens of every kind and state, for filters that no test revokes anything by but in order."""
    chance = random.Random(7)
    with ledger_server.admin() as admin, ledger_server.client() as http:
        names = [new_api(admin, {"reader": ["allow GET /orders/**"]}) for _ in range(2)]
        people = [new_person(admin, f"{names[0]}:reader", f"{names[1]}:reader") for _ in range(3)]
        apps = [
            first_party(admin, *names[: 1 + n % 2], strategy=strategy, refresh=("off", "rotating", "reusable")[n % 3])
            for n, strategy in enumerate(STRATEGIES)
        ]
        instants = []
        for _ in range(60):
            person, app = chance.choice(people), chance.choice(apps)
            tokens = login(http, person, app)
            token_id = tokens["token_id"]
            match chance.randrange(9):
                case 0 if "refresh_token" in tokens:
                    ok(refresh(http, app, tokens["refresh_token"]))
                case 1:
                    ok(admin.post(f"/v1/tokens/{token_id}/revoke"))
                case 2:
                    ok(admin.post(f"/v1/tokens/{token_id}/suspend", json={"reason": "odd"}))
                case 3:
                    ok(admin.post(f"/v1/tokens/{token_id}/suspend", json={"reason": "odd"}))
                    ok(admin.post(f"/v1/families/{ok(admin.get(f'/v1/tokens/{token_id}'))['family_id']}/revoke"))
                case 4:
                    family = ok(admin.get(f"/v1/tokens/{token_id}"))["family_id"]
                    if "refresh_token" in tokens:
                        ok(refresh(http, app, tokens["refresh_token"]))
                        ok(admin.post(f"/v1/families/{family}/suspend", json={"reason": "odd"}))
                case _:
                    pass
            instants.append(ok(admin.get(f"/v1/tokens/{token_id}"))["instant"])
        return {"apis": names, "people": people, "apps": apps, "instants": instants}


def random_filter(world: dict[str, Any], chance: random.Random, families: Sequence[str]) -> Filter:
    members: dict[str, Callable[[], Any]] = {
        "subject_id": lambda: chance.choice(world["people"]).subject_id,
        "client": lambda: chance.choice(world["apps"]).name,
        "api": lambda: chance.choice(world["apis"]),
        "family_id": lambda: chance.choice(families),
        "kind": lambda: chance.choice(["access", "refresh"]),
        "strategy": lambda: chance.choice(STRATEGIES),
        "issued_after": lambda: chance.choice(world["instants"]),
        "issued_before": lambda: chance.choice(world["instants"]),
    }
    # One that keeps to this world, a family seldom because it matches so little; and up to two others.
    name = chance.choice(["subject_id", "subject_id", "client", "client", "api", "api", "family_id"])
    names = [name, *chance.sample([other for other in members if other not in (name, "family_id")], chance.randint(0, 2))]
    return {name: members[name]() for name in names}


def matches(token: dict[str, Any], filters: Filter) -> bool:
    """The model: what a filter means, said once more, of a token as it is listed."""
    return (
        token["alive"]
        and filters.get("subject_id", token["subject_id"]) == token["subject_id"]
        and filters.get("client", token["client"]) == token["client"]
        and ("api" not in filters or filters["api"] in token["apis"])
        and filters.get("family_id", token["family_id"]) == token["family_id"]
        and filters.get("kind", token["kind"]) == token["kind"]
        and filters.get("strategy", token["strategy"]) == token["strategy"]
        and ("issued_after" not in filters or token["recorded_at"] >= filters["issued_after"])
        and ("issued_before" not in filters or token["recorded_at"] < filters["issued_before"])
    )


# When its issue was recorded, and whether it is alive: neither expired, used up, nor revoked at any level; perhaps suspended.
ALIVE = """
SELECT t.token_id, e.recorded_at, t.expires_at > ledger.clock()
  AND coalesce((SELECT x.status FROM views.token_states x WHERE x.token_id = t.token_id ORDER BY x.position DESC LIMIT 1), '')
    <> 'revoked'
  AND coalesce((SELECT x.status <> 'revoked' AND (t.kind = 'access' OR x.generation = t.generation) FROM views.families x
    WHERE x.family_id = t.family_id ORDER BY x.position DESC LIMIT 1), true)
  AND t.position > (SELECT max(x.cutoff_position) FROM views.subjects x WHERE x.subject_id = t.subject_id)
  AND t.position > (SELECT max(x.cutoff_position) FROM views.clients x WHERE x.client_id = t.client_id)
  AND t.position > (SELECT max(x.cutoff_position) FROM views.apis x WHERE x.api_id = ANY (t.api_ids))
FROM views.tokens t JOIN ledger.events e ON e.position = t.position
"""


def everything(ledger_server: Served, admin: httpx.Client, world: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Answer all tokens of the world."""
    found: dict[str, dict[str, Any]] = {}
    for name in world["apis"]:
        found |= tokens_in(admin, api=name)
    with psycopg.connect(ledger_server.owner) as connection:
        for token_id, recorded_at, alive in connection.execute(ALIVE).fetchall():
            if str(token_id) in found:
                found[str(token_id)] |= {"recorded_at": rfc3339(recorded_at), "alive": alive}
    return found


def test_any_filter_lists_what_the_model_says_and_takes_exactly_that(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, world: dict[str, Any]
) -> None:
    chance = random.Random(11)
    taken_by_filters = 0
    for _ in range(30):
        before = everything(ledger_server, admin, world)
        filters = random_filter(world, chance, [token["family_id"] for token in before.values()])
        expected = {token_id for token_id, token in before.items() if matches(token, filters)}
        with nothing_recorded(admin):
            plan = dry_run(admin, filters)
            assert set(listed(admin, filters, plan, limit=chance.choice([1, 3, 1000]))) == expected, filters
        assert plan["count"] == len(expected)
        # Small plans are run, so that there is always something left for the next filter.
        if len(expected) <= 6:
            later = (
                None if "family_id" in filters else login(http, chance.choice(world["people"]), chance.choice(world["apps"]))
            )
            answers = run(admin, filters, plan)
            after = everything(ledger_server, admin, world)
            assert {t for t in before if before[t]["alive"] and not after[t]["alive"]} == expected, filters
            assert later is None or after[later["token_id"]]["alive"]
            events = events_of(ledger_server, plan)
            assert len(events) <= 1 if plan["level"] else len(events) == len(expected), (filters, events)
            assert sorted(p for answer in answers for p in answer["positions"]) == ([events[-1][0]] if events else [])
            taken_by_filters += len(expected)
    assert taken_by_filters > 10


# ------------------------------------------------------------------------------------------------- many, cut and concurrent


def make_many(served: Served, admin: httpx.Client, api: str, number: int) -> tuple[Person, App]:
    """Issue many tokens, each of a family of its own."""
    person, app = reader(admin, api), first_party(admin, api, access_lifetime_seconds=3600)
    token_id = issue(admin, person, app)["token_id"]
    copy_token(served, token_id, number - 1)
    return person, app


# As if each had been issued by a command of its own, in one go.
COPY = """
INSERT INTO ledger.events (position, stream, version, type, schema_version, payload, metadata, recorded_at)
  SELECT h.head + n, i.family_id, 1, e.type, e.schema_version,
      e.payload || jsonb_build_object('family_id', i.family_id, 'tokens', jsonb_build_array(
        e.payload -> 'tokens' -> 0 || jsonb_build_object('token_id', gen_random_uuid(), 'family_id', i.family_id))),
      e.metadata, h.recorded_at
    FROM (SELECT b.last_position AS head, b.recorded_at FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1) AS h
    CROSS JOIN (SELECT e.* FROM ledger.events e JOIN views.tokens t ON t.position = e.position
      WHERE t.token_id = %(token_id)s) AS e
    CROSS JOIN generate_series(1, %(copies)s) AS n
    CROSS JOIN LATERAL (SELECT gen_random_uuid() AS family_id WHERE n > 0) AS i;
INSERT INTO ledger.streams (stream, version, first_position, last_position)
  SELECT e.stream, 1, e.position, e.position FROM ledger.events e
    WHERE e.position > (SELECT max(b.last_position) FROM ledger.batches b);
INSERT INTO ledger.batches (last_position, recorded_at)
  SELECT e.position, e.recorded_at FROM ledger.events e WHERE e.position > (SELECT max(b.last_position) FROM ledger.batches b);
SET LOCAL search_path = views, ledger;
SELECT fold(x.head - %(copies)s + 1, x.head) FROM (SELECT max(b.last_position) AS head FROM ledger.batches b) AS x;
"""


def copy_token(served: Served, token_id: str, copies: int) -> None:
    with psycopg.connect(served.owner) as connection:
        connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
        # Several statements take parameters only when these are written into their text.
        psycopg.ClientCursor(connection).execute(COPY, {"token_id": UUID(token_id), "copies": copies})


def test_five_thousand_tokens_go_in_bounded_requests(ledger_server: Served, admin: httpx.Client, api: str) -> None:
    person, app = make_many(ledger_server, admin, api, 5_000)
    filters = {"subject_id": person.subject_id, "client": app.name}
    began = time.monotonic()
    plan = dry_run(admin, filters)
    assert (plan["level"], plan["count"], len(plan["tokens"])) == (None, 5_000, 100)
    answers = run(admin, filters, plan)
    assert [answer["revoked"] for answer in answers] == [1_000] * 5
    assert sum(answer["passed"] for answer in answers) == 5_000
    assert time.monotonic() - began < 60
    assert set(states(admin, subject_id=person.subject_id).values()) == {"revoked"}
    assert len(events_of(ledger_server, plan)) == 5_000


def test_a_run_that_was_cut_is_gone_on_with_by_anyone_and_ends_exact(
    ledger_server: Served, admin: httpx.Client, api: str
) -> None:
    person, app = make_many(ledger_server, admin, api, 2_500)
    filters = {"subject_id": person.subject_id, "client": app.name}
    plan = dry_run(admin, filters)
    expected = set(listed(admin, filters, plan))
    first = run_on(admin, filters, plan)
    assert (first["done"], first["revoked"]) == (False, 1_000)
    # Whoever goes on may know where it was cut, or begin from the start: what was done is gone past, and nothing is done twice.
    with ledger_server.admin() as another:
        again = run(another, filters, plan)
    assert [answer["revoked"] for answer in again] == [0, 1_000, 500]
    assert {t for t, state in states(admin, subject_id=person.subject_id).items() if state == "revoked"} == expected
    assert len(events_of(ledger_server, plan)) == len(expected) == 2_500


def test_the_same_plan_run_by_several_at_once_does_everything_once(
    ledger_server: Served, admin: httpx.Client, api: str
) -> None:
    person, app = make_many(ledger_server, admin, api, 1_500)
    filters = {"subject_id": person.subject_id, "client": app.name}
    plan = dry_run(admin, filters)
    together = threading.Barrier(4)

    def go() -> int:
        with ledger_server.admin() as one:
            together.wait()
            return sum(answer["revoked"] for answer in run(one, filters, plan))

    with ThreadPoolExecutor(4) as pool:
        revoked = sum(future.result() for future in [pool.submit(go) for _ in range(4)])
    assert revoked == len(events_of(ledger_server, plan)) == 1_500
    assert set(states(admin, subject_id=person.subject_id).values()) == {"revoked"}


def test_what_others_revoked_meanwhile_is_gone_past(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, api: str
) -> None:
    person, app = reader(admin, api), first_party(admin, api)
    tokens = [login(http, person, app)["token_id"] for _ in range(3)]
    filters = {"subject_id": person.subject_id, "kind": "access"}
    plan = dry_run(admin, filters)
    family_id = ok(admin.get(f"/v1/tokens/{tokens[1]}"))["family_id"]
    ok(admin.post(f"/v1/tokens/{tokens[0]}/revoke", json={"reason": "by hand"}))
    ok(admin.post(f"/v1/families/{family_id}/revoke"))
    (answer,) = run(admin, filters, plan)
    assert (answer["revoked"], answer["passed"]) == (1, 3)
    assert len(events_of(ledger_server, plan)) == 1
    assert ok(admin.get(f"/v1/tokens/{tokens[0]}"))["status_reason"] == "by hand"


def test_a_family_that_never_rests_does_not_hold_up_the_others(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, api: str
) -> None:
    person, _ = make_many(ledger_server, admin, api, 300)
    busy = first_party(admin, api, refresh="reusable")
    tokens = [login(http, person, busy)["refresh_token"] for _ in range(3)]
    filters = {"subject_id": person.subject_id, "api": api}
    plan = dry_run(admin, filters)
    stopped = threading.Event()

    def refresh_for_ever(token: str) -> int:
        with ledger_server.client() as client:
            served = 0
            while not stopped.is_set() and refresh(client, busy, token).status_code == 200:
                served += 1
            return served

    with ThreadPoolExecutor(3) as pool:
        refreshing = [pool.submit(refresh_for_ever, token) for token in tokens]
        deadline, done = time.monotonic() + 30, False
        cursor: dict[str, Any] = {}
        while not done and time.monotonic() < deadline:
            answer = ask(admin, filters, as_of_position=plan["as_of_position"], plan_id=plan["plan_id"], **cursor)
            if answer.status_code == 503:  # bounded: begun again
                assert answer.json()["code"] == "contention"
                continue
            done, cursor = ok(answer)["done"], {"cursor": answer.json()["next"]}
        stopped.set()
        assert all(future.result() for future in refreshing)
    assert done
    found = tokens_in(admin, subject_id=person.subject_id)
    assert {t["state"] for t in found.values() if t["position"] <= plan["as_of_position"]} == {"revoked"}


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_a_plan_is_run_only_as_it_was_made(admin: httpx.Client, http: httpx.Client, api: str) -> None:
    person, app = reader(admin, api), first_party(admin, api)
    login(http, person, app)
    filters = {"subject_id": person.subject_id, "client": app.name}
    plan = dry_run(admin, filters)
    plan_id, position = plan["plan_id"], plan["as_of_position"]
    wrong: list[tuple[Filter, dict[str, Any], set[str]]] = [
        (filters, {}, {"as_of_position", "plan_id"}),
        (filters, {"plan_id": plan_id}, {"as_of_position"}),
        (filters, {"as_of_position": position}, {"plan_id"}),
        (filters, {"as_of_position": position, "plan_id": str(uuid4())}, {"plan_id"}),
        (filters, {"as_of_position": position - 1, "plan_id": plan_id}, {"plan_id"}),
        (filters | {"kind": "access"}, {"as_of_position": position, "plan_id": plan_id}, {"plan_id"}),
        ({"subject_id": person.subject_id}, {"as_of_position": position, "plan_id": plan_id}, {"plan_id"}),
        (filters, {"as_of_position": 2**52, "plan_id": plan_id}, {"as_of_position"}),
        (filters, {"as_of_position": 0, "plan_id": plan_id}, {"as_of_position"}),
        (filters, {"as_of_position": position, "plan_id": plan_id, "limit": 5}, {"limit"}),
        (filters, {"as_of_position": position, "plan_id": plan_id, "cursor": "x"}, {"cursor"}),
        (filters, {"dry_run": True, "as_of_position": 2**52}, {"as_of_position"}),
        (filters, {"dry_run": True, "as_of_position": position, "plan_id": str(uuid4())}, {"plan_id"}),
        ({}, {"dry_run": True}, {"filter"}),
        ({"colour": "red"}, {"dry_run": True}, {"filter.colour"}),
        ({"subject_id": person.subject_id}, {"dry_run": True, "reason": ""}, {"reason"}),
    ]
    with nothing_recorded(admin):
        for asked, members, named in wrong:
            problems = refused(ask(admin, asked, **members), 400, "invalid_input")["problems"]
            assert {problem["field"] for problem in problems} == named, (asked, members)
        refused(ask(admin, {"client": "nobody"}, dry_run=True), 404, "unknown_client")
        refused(ask(admin, {"api": "nobody"}, dry_run=True), 404, "unknown_api")
    assert set(states(admin, subject_id=person.subject_id).values()) == {"active"}


def test_an_operator_may_revoke_in_bulk_and_an_auditor_not(
    ledger_server: Served, admin: httpx.Client, http: httpx.Client, api: str
) -> None:
    person = reader(admin, api)
    login(http, person)
    filters = {"subject_id": person.subject_id}
    for role, status in (("operator", 200), ("auditor", 403)):
        token = login(http, new_person(admin, f"ledger:{role}"))["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        answer = http.post("/v1/revocations", json={"filter": filters, "dry_run": True}, headers=headers)
        assert answer.status_code == status
