"""/v1/apis/{name}/import over HTTP, and `token-ledger api import`: a plan that is shown, then exactly that."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.resources.imports import Import
from ledger.apis import api_id_of
from ledger.errors import InvalidInput
from projections.reference import Kept
from tests import builders
from tests.acceptance import importing
from tests.calls import (
    bearer,
    evaluate,
    first_party,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refused,
    resource_server,
    unique,
)
from tests.serving import Served
from tests.terminal import Terminal
from tests.vectors import vectors

ROLES = {"reader": ["allow GET /orders/**"], "writer": ["allow POST /orders", "deny DELETE /orders/{id}"]}


def planned(admin: httpx.Client, api: str, **body: Any) -> dict[str, Any]:
    with nothing_recorded(admin):
        return ok(admin.post(f"/v1/apis/{api}/import", json=body | {"dry_run": True}))


def done(admin: httpx.Client, api: str, **body: Any) -> dict[str, Any]:
    """Plan it, and do what was planned."""
    plan_id = planned(admin, api, **body)["plan_id"]
    return ok(admin.post(f"/v1/apis/{api}/import", json=body | {"plan_id": plan_id}))


def standing(admin: httpx.Client, api: str) -> dict[str, list[str]]:
    """Answer the rules of every role, as lines without clearances."""
    roles = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
    rules = {role["role"]: ok(admin.get(f"/v1/apis/{api}/roles/{role['role']}/rules"))["rules"] for role in roles}
    assert {role["role"]: role["rule_count"] for role in roles} == {role: len(rules) for role, rules in rules.items()}
    return {
        role: sorted(f"{rule['effect']} {','.join(rule['methods'])} {rule['path']}" for rule in rules)
        for role, rules in rules.items()
    }


# ------------------------------------------------------------------------------------------------------------ the endpoint


def test_a_name_that_is_two_segments_once_decoded_is_no_address(admin: httpx.Client) -> None:
    refused(admin.post("/v1/apis/orders%2Fold/import", json={"roles": ROLES}), 404, "no_such_endpoint")


def test_an_api_is_registered_with_roles_and_rules_by_one_command(admin: httpx.Client) -> None:
    api = unique("orders")
    plan = planned(admin, api, roles=ROLES)
    assert (plan["registers"], plan["others"]) == (True, [])
    assert plan["roles"] == [
        {"role": role, "action": "create", "granted": sorted(rules), "withdrawn": []} for role, rules in ROLES.items()
    ]
    refused(admin.get(f"/v1/apis/{api}"), 404, "unknown_api")
    answer = ok(admin.post(f"/v1/apis/{api}/import", json={"roles": ROLES, "plan_id": plan["plan_id"]}))
    assert (answer["api"], answer["plan_id"]) == (api, plan["plan_id"])
    assert standing(admin, api) == ROLES
    events = ok(admin.get("/v1/audit/events", params={"api": api, "order": "oldest"}))["events"]
    assert {event["type"] for event in events} == {"api_registered", "role_created", "role_rules_granted"}
    assert len({event["command_id"] for event in events}) == 1
    assert events[-1]["position"] <= answer["position"] <= events[-1]["position"] + 1


def test_roles_become_what_they_are_to_be_and_others_stay(admin: httpx.Client) -> None:
    api = new_api(
        admin, {"reader": ["allow GET /orders/**", "allow GET /old"], "other": ["allow GET /x"], "same": ["allow * /s"]}
    )
    wanted = {"reader": ["allow GET /orders/**", "allow GET /new"], "same": ["allow * /s"], "empty": []}
    plan = planned(admin, api, roles=wanted)
    assert (plan["registers"], plan["others"]) == (False, [{"role": "other", "rule_count": 1}])
    assert plan["roles"] == [
        {"role": "empty", "action": "create", "granted": [], "withdrawn": []},
        {"role": "reader", "action": "change", "granted": ["allow GET /new"], "withdrawn": ["allow GET /old"]},
        {"role": "same", "action": "leave", "granted": [], "withdrawn": []},
    ]
    done(admin, api, roles=wanted)
    assert standing(admin, api) == {
        "reader": ["allow GET /new", "allow GET /orders/**"],
        "other": ["allow GET /x"],
        "same": ["allow * /s"],
        "empty": [],
    }
    with nothing_recorded(admin):
        done(admin, api, roles=wanted)


def test_roles_are_removed_when_it_is_said_and_their_holders_lose_what_they_allowed(
    admin: httpx.Client, http: httpx.Client
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/{id}"], "old": ["allow PUT /orders/{id}"]})
    asks, person, app = resource_server(admin, api), new_person(admin, f"{api}:old", f"{api}:reader"), first_party(admin, api)
    token = login(http, person, app)["access_token"]
    assert evaluate(http, asks, token, "PUT")["decision"]
    plan = planned(admin, api, remove=["old", "never-there"])
    assert plan["roles"] == [{"role": "old", "action": "remove", "granted": [], "withdrawn": ["allow PUT /orders/{id}"]}]
    done(admin, api, remove=["old", "never-there"])
    assert standing(admin, api) == {"reader": ["allow GET /orders/{id}"]}
    assert not evaluate(http, asks, token, "PUT")["decision"]
    assert evaluate(http, asks, token, "GET")["decision"]
    done(admin, api, roles={"old": ["allow PUT /orders/{id}"]})
    assert not evaluate(http, asks, token, "PUT")["decision"]


@pytest.mark.parametrize("meanwhile", ["rule", "role", "removed", "registered"])
def test_a_plan_is_past_once_a_role_of_it_changed_and_nothing_of_it_is_done(admin: httpx.Client, meanwhile: str) -> None:
    api = unique("orders") if meanwhile == "registered" else new_api(admin, {"reader": ["allow GET /a"]})
    wanted = {"reader": ["allow GET /a", "allow GET /b"], "writer": ["allow PUT /a"]}
    plan_id = planned(admin, api, roles=wanted)["plan_id"]
    match meanwhile:
        case "rule":
            ok(admin.post(f"/v1/apis/{api}/roles/reader/rules", json={"rules": ["deny GET /a"]}))
        case "role":
            ok(admin.post(f"/v1/apis/{api}/roles", json={"name": "writer"}), 201)
        case "removed":
            ok(admin.delete(f"/v1/apis/{api}/roles/reader"))
        case "registered":
            # With what it is to be: of the API itself the plan says nothing else.
            ok(admin.post("/v1/apis", json={"name": api}), 201)
            ok(admin.post(f"/v1/apis/{api}/import", json={"roles": wanted, "plan_id": plan_id}))
            assert standing(admin, api) == wanted
            return
    with nothing_recorded(admin):
        refused(admin.post(f"/v1/apis/{api}/import", json={"roles": wanted, "plan_id": plan_id}), 409, "plan_is_past")
    done(admin, api, roles=wanted)
    assert standing(admin, api) == wanted


def test_a_plan_is_of_its_roles_and_its_api(admin: httpx.Client) -> None:
    api, other = new_api(admin), new_api(admin)
    plan_id = planned(admin, api, roles=ROLES)["plan_id"]
    assert planned(admin, api, roles=ROLES)["plan_id"] == plan_id
    bodies: list[dict[str, Any]] = [{"roles": ROLES | {"more": []}}, {"roles": {}}, {"roles": ROLES | {"reader": []}}]
    for body in bodies:
        refused(admin.post(f"/v1/apis/{api}/import", json=body | {"plan_id": plan_id}), 409, "plan_is_past")
    refused(admin.post(f"/v1/apis/{other}/import", json={"roles": ROLES, "plan_id": plan_id}), 409, "plan_is_past")
    ok(admin.post(f"/v1/apis/{api}/import", json={"roles": ROLES, "plan_id": plan_id}))


def test_an_import_that_is_sent_again_under_its_key_is_done_once(admin: httpx.Client) -> None:
    api, key = unique("orders"), {"Idempotency-Key": unique("key")}
    body = {"roles": ROLES, "plan_id": planned(admin, api, roles=ROLES)["plan_id"]}
    first = ok(admin.post(f"/v1/apis/{api}/import", json=body, headers=key))
    with nothing_recorded(admin):
        assert ok(admin.post(f"/v1/apis/{api}/import", json=body, headers=key)) == first
        refused(admin.post(f"/v1/apis/{api}/import", json=body), 409, "plan_is_past")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"roles": {"Reader": []}}, "roles"),
        ({"roles": {"direct": []}}, "roles"),
        ({"roles": {"reader": ["allow GET"]}}, "roles.reader.0"),
        ({"roles": {"reader": ["allow GET /a", {"methods": ["GET"], "path": "a"}]}}, "roles.reader.1.path"),
        ({"roles": {"reader": []}, "remove": ["reader"]}, "remove"),
        ({"remove": ["reader", "reader"]}, "remove"),
        ({"remove": ["Not a name"]}, "remove"),
        ({"roles": {f"r{number}": [] for number in range(200)}, "remove": [f"x{number}" for number in range(101)]}, "roles"),
        ({"roles": {}, "dry_run": False}, "plan_id"),
    ],
)
def test_what_is_wrong_with_an_import_is_named(admin: httpx.Client, body: dict[str, Any], field: str) -> None:
    with nothing_recorded(admin):
        problem = refused(admin.post(f"/v1/apis/{unique('a')}/import", json={"dry_run": True} | body), 400, "invalid_input")
        assert [wrong["field"] for wrong in problem["problems"]] == [field]
        refused(admin.post("/v1/apis/Not:a:name/import", json={"dry_run": True}), 400, "invalid_input")


def test_as_many_roles_as_a_request_may_have_are_one_command(admin: httpx.Client) -> None:
    api = unique("large")
    roles = {f"r{number}": [f"allow GET /{number}"] for number in range(300)}
    done(admin, api, roles=roles)
    assert len(ok(admin.get(f"/v1/apis/{api}/roles", params={"limit": 1000}))["roles"]) == 300
    done(admin, api, roles={role: ["allow GET /other"] for role in roles})
    done(admin, api, remove=list(roles))
    assert standing(admin, api) == {}


def test_roles_that_hold_too_many_rules_are_not_read_together() -> None:
    kept, orders = Kept(), builders.api(api_id=api_id_of("orders"), name="orders")
    holding = [builders.role(api_id=orders.api_id, name=name, rule_count=10_000) for name in ("a", "b", "c")]
    kept.take([], [orders], holding, [], [])
    assert [one.role_id for one in Import(roles={"a": (), "b": ()}).wanted("orders", kept)] == [
        role.role_id for role in holding[:2]
    ]
    with pytest.raises(InvalidInput, match="these hold 30000"):
        Import(roles={"a": (), "b": ()}, remove=("c",)).wanted("orders", kept)


def test_what_is_built_in_is_not_imported(admin: httpx.Client) -> None:
    bodies: list[dict[str, Any]] = [{"roles": {"auditor": []}}, {"remove": ["operator"]}]
    for body in bodies:
        refused(admin.post("/v1/apis/ledger/import", json=body | {"dry_run": True}), 409, "built_in")


def test_nobody_does_by_an_import_what_he_may_not_do_one_by_one(admin: httpx.Client, http: httpx.Client) -> None:
    api, new = new_api(admin, {"reader": ["allow GET /a"]}), unique("new")
    may = new_api(admin)  # for a name
    ok(admin.post("/v1/apis/ledger/roles", json={"name": may}), 201)

    def grant(*rules: str) -> None:
        ok(admin.post(f"/v1/apis/ledger/roles/{may}/rules", json={"rules": list(rules)}))

    grant("allow POST /v1/apis/{name}/import")
    token = bearer(login(http, new_person(admin, f"ledger:{may}"))["access_token"])
    endpoints: dict[str, tuple[str, dict[str, Any]]] = {
        "allow POST /v1/apis/{name}/roles": (api, {"roles": {"writer": []}}),
        "allow POST /v1/apis/{name}/roles/{role}/rules": (api, {"roles": {"reader": ["allow GET /a", "allow GET /b"]}}),
        "allow POST /v1/apis/{name}/roles/{role}/rules/withdraw": (api, {"roles": {"reader": ["allow GET /a"]}}),
        "allow DELETE /v1/apis/{name}/roles/{role}": (api, {"remove": ["reader"]}),
        "allow POST /v1/apis": (new, {"roles": {}}),
    }
    for rule, (of, body) in endpoints.items():
        plan_id = ok(http.post(f"/v1/apis/{of}/import", json=body | {"dry_run": True}, headers=token))["plan_id"]
        with nothing_recorded(admin):
            problem = refused(
                http.post(f"/v1/apis/{of}/import", json=body | {"plan_id": plan_id}, headers=token), 403, "not_allowed"
            )
        assert problem["detail"].partition(": ")[2].startswith(rule.split()[1])
        grant(rule)
        ok(http.post(f"/v1/apis/{of}/import", json=body | {"plan_id": plan_id}, headers=token))


# -------------------------------------------------------------------------------------------------------- the command line

GUIDE = Path(__file__).parent.with_name("docs").joinpath("import.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """Answer the first block of this kind in the guide."""
    return GUIDE.partition(f"```{kind}\n")[2].partition("```")[0]


PETS = block("yaml")


@pytest.fixture
def terminal(ledger_server: Served, admin: httpx.Client, tmp_path: Path) -> Terminal:
    """The administrator, with a token of the environment."""
    return Terminal(ledger_server.url, tmp_path, token=admin.headers["Authorization"].removeprefix("Bearer "))


@pytest.fixture
def pets(tmp_path: Path) -> str:
    file = tmp_path / "pets.yaml"
    file.write_text(PETS)
    return str(file)


def test_a_document_is_listed_as_the_guide_shows_it_and_nothing_is_done(
    terminal: Terminal, admin: httpx.Client, pets: str
) -> None:
    api = unique("pets")
    with nothing_recorded(admin):
        listed = terminal.run("api", "import", api, pets, "--by", "scopes", "--dry-run")
    lines = [line.rstrip() for line in listed.stdout.splitlines()]
    assert lines == block("text").replace("the API pets", f"the API {api}").splitlines()
    said = "3 roles created, 0 roles changed, 0 roles removed, 4 rules granted, 0 rules withdrawn; 3 findings."
    assert listed.stderr.startswith("Plan ")
    assert listed.stderr.endswith(f"{said}\n")


def test_a_plan_is_asked_about_and_done_on_a_terminal(terminal: Terminal, admin: httpx.Client, pets: str) -> None:
    api = unique("pets")
    status, seen = terminal.shown("api", "import", api, pets, "--by", "tags", typed=[("Make the roles so? [y/N]:", "n")])
    assert (status, "allow GET /v1/pets/mine" in seen, "Aborted" in seen) == (1, True, True)
    refused(admin.get(f"/v1/apis/{api}"), 404, "unknown_api")
    status, seen = terminal.shown("api", "import", api, pets, "--by", "tags", typed=[("Make the roles so? [y/N]:", "y")])
    assert (status, "roles_created" in seen) == (0, True)
    assert standing(admin, api) == {
        "own": ["allow GET /v1/pets/mine"],
        "pets": ["allow GET /v1/pets", "allow GET /v1/pets/{id}", "allow POST /v1/pets"],
    }


def test_a_document_that_changed_is_imported_again(terminal: Terminal, admin: httpx.Client, pets: str) -> None:
    api = unique("pets")
    first = terminal.objects("api", "import", api, pets, "--by", "scopes", "--yes")[0]
    assert (first["registered"], first["roles_created"], first["rules_granted"]) == (True, 3, 4)
    with nothing_recorded(admin):
        again = terminal.objects("api", "import", api, pets, "--by", "scopes", "--yes")[0]
    assert (again["registered"], again["roles_created"], again["roles_changed"]) == (False, 0, 0)
    events = ok(admin.get("/v1/audit/events", params={"api": api}))["events"]
    assert {event["correlation_id"] for event in events} == {first["plan_id"]}
    less = PETS.replace("post: {tags: [Pets], security: [{oauth: [write]}]}", "put: {security: [{oauth: [read]}]}")
    keeping = terminal.run("api", "import", api, "-", "--by", "scopes", "--dry-run", stdin=less)
    assert "keep\twrite\t\t" in keeping.stdout
    removed = terminal.objects("api", "import", api, "-", "--by", "scopes", "--remove-others", "--yes", stdin=less)[0]
    assert (removed["roles_changed"], removed["roles_removed"], removed["rules_granted"]) == (1, 1, 1)
    assert standing(admin, api) == {
        "own.and.read": ["allow GET /v1/pets/mine"],
        "read": ["allow GET /v1/pets", "allow GET /v1/pets/{id}", "allow PUT /v1/pets"],
    }


def test_a_plan_that_was_looked_at_is_done_only_while_it_is_the_same(
    terminal: Terminal, admin: httpx.Client, pets: str
) -> None:
    api = unique("pets")
    importing_pets = ("api", "import", api, pets, "--by", "scopes", "--yes")
    plan_id = terminal.run(*importing_pets[:-1], "--dry-run").stderr.split()[1].rstrip(":")
    assert "not the plan" in terminal.refused(*importing_pets, "--plan", str(uuid4()))
    assert terminal.objects(*importing_pets, "--plan", plan_id)[0]["plan_id"] == plan_id
    ok(admin.post(f"/v1/apis/{api}/roles/read/rules", json={"rules": ["allow GET /more"]}))
    assert "not the plan" in terminal.refused(*importing_pets, "--plan", plan_id)


def test_more_roles_than_a_request_takes_go_in_parts_and_are_of_one_correlation(
    terminal: Terminal, admin: httpx.Client
) -> None:
    api = unique("large")
    paths = {f"/{number}": {"get": {"operationId": f"op{number}"}} for number in range(350)}
    large = json.dumps({"openapi": "3.0.0", "paths": paths})
    done = terminal.objects("api", "import", api, "-", "--by", "operations", "--yes", stdin=large)[0]
    assert (done["roles_created"], done["rules_granted"]) == (350, 350)
    roles = ok(admin.get(f"/v1/apis/{api}/roles", params={"limit": 1000}))["roles"]
    assert {role["role"]: role["rule_count"] for role in roles} == {f"op{number}": 1 for number in range(350)}
    events = ok(admin.get("/v1/audit/events", params={"api": api, "limit": 1000}))["events"]
    assert {event["correlation_id"] for event in events} == {done["plan_id"]}
    assert len({event["command_id"] for event in events}) == 2
    with nothing_recorded(admin):
        terminal.done("api", "import", api, "-", "--by", "operations", "--yes", stdin=large)


def test_a_role_with_more_rules_than_a_request_takes_is_refused(terminal: Terminal) -> None:
    paths = {f"/{'x' * 100}/{number}": {"get": {"tags": ["a"]}} for number in range(2_500)}
    large = json.dumps({"openapi": "3.0.0", "paths": paths})
    said = terminal.refused("api", "import", unique("large"), "-", "--by", "tags", "--yes", stdin=large)
    assert "the role a has more rules than one request takes: 2500" in said


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["--by", "tags"], PETS, "nobody to ask"),
        (["--by", "tags", "--yes", "--prefix", "v1"], PETS, "--prefix"),
        (["--by", "tags", "--yes", "--role", "Pets"], PETS, "SOURCE=ROLE"),
        (["--by", "tags", "--yes", "--role", "Pets=a", "--role", "Pets=b"], PETS, "SOURCE=ROLE"),
        (["--yes"], PETS, "--by"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(terminal: Terminal, arguments: list[str], stdin: str, said: str) -> None:
    assert said in terminal.refused("api", "import", "pets", "-", *arguments, stdin=stdin, status=2)


def test_what_is_wrong_with_a_document_is_told_and_cannot_act_on_the_terminal(terminal: Terminal) -> None:
    hostile = json.dumps({"openapi": "3.0.0", "paths": {"/a\x1b[2J": {"get": "x"}}})
    said = terminal.refused("api", "import", "pets", "-", "--by", "tags", "--yes", stdin=hostile)
    assert said == "Error: this cannot be used:\n  paths./a\\x1b[2J.get: an object\n"
    assert "-: not YAML" in terminal.refused("api", "import", "pets", "-", "--by", "tags", "--yes", stdin="a: [")
    assert "3.0 or 3.1" in terminal.refused("api", "import", "pets", "-", "--by", "tags", "--yes", stdin="swagger: '2.0'")


def test_names_and_prefix_are_as_they_were_given(terminal: Terminal, admin: httpx.Client, pets: str) -> None:
    api = unique("pets")
    terminal.done("api", "import", api, pets, "--by", "tags", "--prefix", "/", "--role", "Pets=keeper", "--yes")
    assert standing(admin, api) == {
        "keeper": ["allow GET /pets", "allow GET /pets/{id}", "allow POST /pets"],
        "own": ["allow GET /pets/mine"],
    }


# -------------------------------------------------------------------------------------------------------- real documents


def test_the_permissions_of_a_real_api_are_imported_and_decided_on(
    terminal: Terminal, admin: httpx.Client, http: httpx.Client, tmp_path: Path
) -> None:
    corpus = json.loads(vectors(*importing.FILE.split("/")).read_text())
    file, api = tmp_path / "github.json", unique("github")
    file.write_text(json.dumps(importing.document_of(corpus)))
    done = terminal.objects("api", "import", api, str(file), "--by", "scopes", "--yes")[0]
    rows = importing.rows_of(corpus)
    assert done["roles_created"] == len({scope for scopes in rows.values() for scope in scopes})
    asks, app = resource_server(admin, api), first_party(admin, api)
    token = login(http, new_person(admin, f"{api}:issues.write"), app)["access_token"]
    assert evaluate(http, asks, token, "POST", "/repos/a/b/issues")["decision"]
    assert not evaluate(http, asks, token, "PUT", "/repos/a/b/contents/c")["decision"]


def test_a_document_without_security_is_imported_by_tags(terminal: Terminal, admin: httpx.Client) -> None:
    api, file = unique("todo"), str(vectors("vectors", "authzen-interop", "todo-openapi.json"))
    silent = terminal.run("api", "import", api, file, "--by", "scopes", "--dry-run")
    assert [line.split("\t")[0] for line in silent.stdout.splitlines()] == ["register", *["left_out"] * 5]
    terminal.done("api", "import", api, file, "--by", "tags", "--role", "Standard Todo List Endpoints=todo", "--yes")
    assert standing(admin, api) == {
        "todo": [
            "allow DELETE /todos/{todoId}",
            "allow GET /todos",
            "allow GET /users/{userId}",
            "allow POST /todos",
            "allow PUT /todos/{todoId}",
        ]
    }
