"""Each command of the command line once, against a server: it calls the endpoint it says it calls, and prints what comes."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.cli.calling import said_of
from ledger.guessing import FAMILIAR_BURST
from ledger.rules import Rule
from tests.asserting import new_jwks
from tests.calls import PASSWORD, App, Person, first_party, login, new_api, new_client, new_person, resource_server, unique
from tests.serving import Served, command
from tests.terminal import Terminal, leaf_commands

LEAVES = leaf_commands()
REPEATABLE = {name for name, leaf in LEAVES.items() if any("--idempotency-key" in option.opts for option in leaf.params)}
COMMANDS = {name: said.endpoint for name, leaf in LEAVES.items() if (said := said_of(leaf)) is not None}


@dataclass(frozen=True)
class World:
    """What is there for a command to be tried on. `family` is a family of tokens nobody else uses."""

    api: str
    app: App
    asks: App
    person: Person
    tokens: dict[str, Any]

    @property
    def token_id(self) -> str:
        return str(self.tokens["token_id"])

    @property
    def family_id(self) -> str:
        return str(self.tokens["family_id"])

    @property
    def asked(self) -> str:
        """The secret of the API and a token, as `check` and `introspect` read them."""
        return f"{self.asks.secret}\n{self.tokens['access_token']}\n"


@pytest.fixture(scope="module")
def admin(ledger_server: Served) -> Iterator[httpx.Client]:
    """The administrator, logged in once: nothing here moves the clock."""
    with ledger_server.admin() as client:
        yield client


def new_world(admin: httpx.Client) -> World:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    person, app = new_person(admin, f"{api}:reader"), first_party(admin, api, refresh="rotating")
    return World(api, app, resource_server(admin, api), person, login(admin, person, app))


@pytest.fixture(scope="module")
def lasting_world(admin: httpx.Client) -> World:
    """For commands that change nothing of it."""
    return new_world(admin)


@pytest.fixture
def world(admin: httpx.Client) -> World:
    return new_world(admin)


@pytest.fixture
def terminal(ledger_server: Served, admin: httpx.Client, tmp_path: Path) -> Terminal:
    """The administrator, with a token of the environment."""
    return Terminal(ledger_server.url, tmp_path, token=admin.headers["Authorization"].removeprefix("Bearer "))


@dataclass(frozen=True)
class Try:
    """What is typed after the command's name, on standard input, and what plain output begins with."""

    arguments: Callable[[World], Sequence[str]] = lambda _: ()
    stdin: Callable[[World], str | None] = lambda _: None
    prints: str = ""


PETS = '{"openapi": "3.1.0", "paths": {"/pets": {"get": {"tags": ["pets"]}}}}'


def subject(*arguments: str, **others: Any) -> Try:
    return Try(lambda w: [w.person.username, *arguments], prints="subject_id\t", **others)


TRIES = {
    "login": Try(lambda w: [w.person.username], lambda w: f"{w.person.password}\n"),
    "me show": Try(prints="subject_id\t"),
    "me tokens": Try(lambda _: ["--kind", "access", "--state", "active"]),
    "api list": Try(),
    "api show": Try(lambda w: [w.api], prints="name\t"),
    "api register": Try(lambda _: [unique("stock"), "--audience", "https://stock.example.org"], prints="name\t"),
    "api change": Try(lambda w: [w.api, "--semicolons"], prints="name\t"),
    "api import": Try(lambda w: [w.api, "-", "--by", "tags", "--yes"], lambda _: PETS, "plan_id\t"),
    "api suspend": Try(lambda w: [w.api, "--reason", "maintenance"], prints="name\t"),
    "api reinstate": Try(lambda w: [w.api], prints="name\t"),
    "api revoke-tokens": Try(lambda w: [w.api, "--reason", "leaked"], prints="name\t"),
    "role list": Try(lambda w: [w.api]),
    "role show": Try(lambda w: [f"{w.api}:reader"], prints="api\t"),
    "role create": Try(lambda w: [f"{w.api}:writer"], prints="api\t"),
    "role remove": Try(lambda w: [f"{w.api}:reader", "--yes"], prints="api\t"),
    "role rules": Try(lambda w: [f"{w.api}:reader"]),
    "role grant-rules": Try(lambda w: [f"{w.api}:reader", "deny GET /orders/secret"], prints="api\t"),
    "role withdraw-rules": Try(lambda w: [f"{w.api}:reader", str(Rule.parse("allow GET /orders/**").rule_id)], prints="api\t"),
    "client list": Try(),
    "client show": Try(lambda w: [w.app.name], prints="name\t"),
    "client register": Try(lambda _: [unique("asks"), "--serves", "ledger"], prints="tl_cs_"),
    "client change": Try(lambda w: [w.app.name, "--strategy", "jwe", "--access-lifetime", "300"], prints="name\t"),
    "client secret": Try(lambda w: [w.asks.name, "--keep-old"], prints="tl_cs_"),
    "client keys": Try(lambda w: [w.asks.name, "-"], lambda _: json.dumps(new_jwks("EdDSA")[1]), "name\t"),
    "client suspend": Try(lambda w: [w.app.name, "--reason", "leaked"], prints="name\t"),
    "client reinstate": Try(lambda w: [w.app.name], prints="name\t"),
    "client revoke-tokens": Try(lambda w: [w.app.name, "--reason", "leaked"], prints="name\t"),
    "subject list": Try(lambda _: ["--kind", "person", "--status", "active"]),
    "subject show": subject(),
    "subject register": Try(lambda _: [unique("bob"), "--password"], lambda _: f"{PASSWORD}\n", prints="subject_id\t"),
    "subject profile": Try(lambda w: [w.person.subject_id, "--username", unique("new"), "--email", "a@example.org"]),
    "subject password": subject(stdin=lambda _: "another correct horse\n"),
    "subject clearance": subject("3"),
    "subject grant-roles": subject("ledger:auditor"),
    "subject withdraw-roles": Try(lambda w: [w.person.subject_id, f"{w.api}:reader"], prints="subject_id\t"),
    "subject rules": Try(lambda w: [w.person.username]),
    "subject grant-rules": Try(lambda w: [w.person.username, w.api], lambda _: "# own\n\nallow GET /x\n", "subject_id\t"),
    "subject withdraw-rules": Try(lambda w: [w.person.username, w.api, "00000000-0000-8000-8000-000000000000"]),
    "subject permissions": Try(lambda w: [w.person.username, "--api", w.api]),
    "subject suspend": subject("--reason", "laptop lost", "--until", "2100-01-01T00:00:00Z"),
    "subject reinstate": subject("--reason", "found again"),
    "subject revoke-tokens": subject("--reason", "leaked"),
    "subject erase": Try(lambda w: [w.person.subject_id, "--yes", "--reason", "asked for it"]),
    "token issue": Try(lambda w: [w.person.username, "--client", w.app.name, "--claims", '{"a": 1}'], prints="tl_at_"),
    "token list": Try(lambda w: ["--subject", w.person.username, "--state", "active"]),
    "token show": Try(lambda w: [w.token_id], prints="token_id\t"),
    "token suspend": Try(lambda w: [w.token_id, "--reason", "odd", "--until", "2100-01-01T00:00:00Z"], prints="token_id\t"),
    "token reinstate": Try(lambda w: [w.token_id, "--reason", "well"], prints="token_id\t"),
    "token revoke": Try(lambda w: [w.token_id, "--reason", "lost"], prints="token_id\t"),
    "token revoke-all": Try(lambda w: ["--subject", w.person.username, "--client", w.app.name, "--yes"], prints="plan_id\t"),
    "family show": Try(lambda w: [w.family_id], prints="family_id\t"),
    "family suspend": Try(lambda w: [w.family_id, "--reason", "odd"], prints="family_id\t"),
    "family reinstate": Try(lambda w: [w.family_id], prints="family_id\t"),
    "family revoke": Try(lambda w: [w.family_id], prints="family_id\t"),
    "check": Try(lambda w: [w.asks.name, "GET", "/orders/7"], lambda w: w.asked, "decision\ttrue\n"),
    "introspect": Try(lambda w: [w.asks.name], lambda w: w.asked, "active\ttrue\n"),
    "audit events": Try(lambda w: ["--subject", w.person.username, "--type", "subject_registered", "--order", "oldest"]),
    "explain": Try(lambda w: [w.token_id, w.api, "GET", "/orders/7"], prints="The access token "),
    "audit blast-radius": Try(lambda w: ["--token-id", w.token_id]),
    "audit follow": Try(lambda _: ["--once", "--type", "log_opened"], prints="1\t"),
    "audit timeline": Try(lambda w: ["--token-id", w.token_id]),
    "audit changes": Try(lambda _: ["--from", "1", "--kind", "client"]),
    "audit who-could": Try(lambda w: [w.api, "GET", "/orders/7"]),
    "audit decision": Try(lambda w: [w.token_id, w.api, "GET", "/orders/7"], prints="decision\ttrue\n"),
    "key list": Try(),
    "key make": Try(lambda _: ["enc"], prints="key_id\t"),
    "key activate": Try(),
    "key retire": Try(),
    "key revoke": Try(),
    "lockout list": Try(lambda w: ["--subject", w.person.username]),
    "lockout unlock": Try(lambda _: [], prints="lockout_id\t"),
    # Of one's own: as the person, not as the administrator.
    "me password": Try(stdin=lambda w: f"{w.person.password}\nanother correct horse\n", prints="subject_id\t"),
    "me issue": Try(lambda _: ["script", "--lifetime", "3600"], prints="tl_at_"),
    "me revoke": Try(lambda w: [w.token_id], prints="token_id\t"),
    "logout": Try(),
}
OWN = {"logout", "me password", "me issue", "me revoke"}


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every request that leaves this process, by method and path."""
    requests: list[tuple[str, str]] = []
    send = httpx.Client.send

    def observed(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        requests.append((request.method, request.url.path))
        return send(client, request, **options)

    monkeypatch.setattr(httpx.Client, "send", observed)
    return requests


def test_every_command_is_tried() -> None:
    assert set(TRIES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_the_endpoint_it_says_it_calls(
    name: str, request: pytest.FixtureRequest, terminal: Terminal, requested: list[tuple[str, str]], tmp_path: Path
) -> None:
    attempt, endpoint = TRIES[name], COMMANDS[name]
    changes_nothing = endpoint.method == "GET" or name in ("check", "introspect")
    world: World = request.getfixturevalue("lasting_world" if changes_nothing else "world")
    if name in OWN:
        terminal = Terminal(terminal.url, tmp_path / "person")
        terminal.done("login", world.person.username, stdin=f"{world.person.password}\n")
    if name == "me revoke":
        named = terminal.objects("me", "issue", "script")[0]
        attempt = Try(lambda _: [named["token_id"]], prints="token_id\t")
    if name == "lockout unlock":
        for _ in range(FAMILIAR_BURST + 1):
            httpx.post(f"{terminal.url}/login", json={"username": world.person.username, "password": "a wrong password"})
        lockout = terminal.objects("lockout", "list", "--subject", world.person.username)[0]
        attempt = Try(lambda _: [lockout["lockout_id"]], prints="lockout_id\t")
    if name in ("key activate", "key retire", "key revoke"):
        made = terminal.objects("key", "make", "enc")[0]
        more = ["--reason", "leaked", "--yes"] if name == "key revoke" else []
        attempt = Try(lambda _: [made["key_id"], *more], prints="key_id\t")
    requested.clear()
    arguments, stdin = [*name.split(), *attempt.arguments(world)], attempt.stdin(world)
    if name in REPEATABLE:
        arguments += ["--idempotency-key", unique("key")]
    printed = terminal.done(*arguments, stdin=stdin)
    route = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(endpoint.path)))
    assert any(method == endpoint.method and route.fullmatch(path) for method, path in requested), requested
    assert printed.startswith(attempt.prints)
    if name in REPEATABLE:
        again = terminal.objects(*arguments, stdin=stdin)[0]
        assert "tl_cs_" in printed or f"position\t{again['position']}\n" in printed


# ----------------------------------------------------------------------------------------------------------------- output


def test_json_is_exactly_what_the_api_answers(terminal: Terminal, admin: httpx.Client, world: World) -> None:
    assert terminal.objects("api", "show", world.api)[0].keys() == admin.get(f"/v1/apis/{world.api}").json().keys()
    listed = {row["name"]: row for row in admin.get("/v1/clients", params={"limit": 1000}).json()["clients"]}
    printed = terminal.done("client", "list", "--json").splitlines()
    assert {row["name"]: row for row in map(json.loads, printed)} == listed


def test_a_plain_listing_is_a_line_an_item_with_tabs(terminal: Terminal, world: World) -> None:
    terminal.done("role", "grant-rules", f"{world.api}:reader", "allow POST,PUT /orders/{id} clearance 2")
    lines = terminal.lines("role", "rules", f"{world.api}:reader")
    assert sorted(line[1:] for line in lines) == [
        ["allow", "GET", "/orders/**", "0"],
        ["allow", "POST,PUT", "/orders/{id}", "2"],
    ]


def test_a_listing_goes_to_its_end_page_by_page(
    terminal: Terminal, admin: httpx.Client, requested: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = new_api(admin, {"many": [f"allow GET /orders/{number}" for number in range(25)]})
    monkeypatch.setattr("api.cli.calling.MAX_PAGE", 10)
    requested.clear()
    assert len(terminal.lines("role", "rules", f"{api}:many")) == 25
    assert len(requested) == 3


def test_a_listing_cut_by_limit_says_where_to_go_on(terminal: Terminal, admin: httpx.Client) -> None:
    api = new_api(admin, {f"role-{number}": [] for number in range(5)})
    first = terminal.run("role", "list", api, "--limit", "3")
    assert [line.split("\t")[1] for line in first.stdout.splitlines()] == ["role-0", "role-1", "role-2"]
    assert first.stderr == "There are more: --cursor role-2\n"
    rest = terminal.run("role", "list", api, "--limit", "3", "--cursor", "role-2")
    assert [line.split("\t")[1] for line in rest.stdout.splitlines()] == ["role-3", "role-4"]
    assert rest.stderr == ""


def test_values_cannot_act_on_whoever_reads_them(terminal: Terminal, admin: httpx.Client) -> None:
    name = unique("x") + " [red]\U0001f642"
    person = new_person(admin, display_name=name + "\x1b]0;owned\x07\n")
    line = next(line for line in terminal.lines("subject", "show", person.username) if line[0] == "display_name")
    assert line[1] == name + r"\x1b]0;owned\x07\n"
    status, seen = terminal.shown("subject", "show", person.username)
    assert (status, r"\x1b]0;owned\x07\n" in seen, "[red]" in seen) == (0, True, True)
    assert "\x1b]0;" not in seen


def test_a_terminal_shows_tables_and_whole_secrets(terminal: Terminal, admin: httpx.Client, world: World) -> None:
    status, seen = terminal.shown("role", "list", world.api)
    assert status == 0
    heading, row = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines() if line.strip()]
    assert (heading, row[:2]) == (["api", "role", "role_id", "rule_count"], [world.api, "reader"])
    _, seen = terminal.shown("token", "show", world.token_id)
    assert re.search(r"issued_at +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.sub(r"\x1b\[[0-9;]*m", "", seen)), seen
    _, seen = terminal.shown("token", "issue", world.person.username, "--client", world.app.name)
    assert re.search(r"^access_token, shown this once:\r?\ntl_at_\w+\r?$", seen, re.MULTILINE), seen
    assert terminal.shown("role", "list", new_api(admin))[1] == "There is none.\r\n"


# ----------------------------------------------------------------------------------------------------------------- refusals


def test_a_refusal_names_field_and_rule(terminal: Terminal, world: World) -> None:
    assert terminal.refused("api", "register", "Not A Name") == (
        "Error: this cannot be used:\n  name: 1 to 128 of a-z 0-9 . _ : - and a letter or digit first\n"
    )
    assert "rules.1: allow|deny METHOD" in terminal.refused("role", "grant-rules", f"{world.api}:reader", "deny GET /x", "y")
    assert terminal.refused("api", "show", "nowhere") == "Error: there is no such API (unknown_api)\n"
    assert "there is no user nobody" in terminal.refused("subject", "show", "nobody")


def test_a_person_without_a_role_is_refused_in_words(
    terminal: Terminal, ledger_server: Served, http: httpx.Client, admin: httpx.Client, tmp_path: Path
) -> None:
    token = login(http, new_person(admin))["access_token"]
    assert "(not_allowed)" in Terminal(ledger_server.url, tmp_path, token=token).refused("subject", "list")
    assert "(not_authenticated)" in Terminal(ledger_server.url, tmp_path, token="tl_at_x").refused("subject", "list")


def test_what_cannot_be_undone_is_asked_about(terminal: Terminal, world: World) -> None:
    assert terminal.run("subject", "erase", world.person.username, stdin="n\n").exit_code == 1
    assert terminal.run("role", "remove", f"{world.api}:reader").exit_code == 1
    assert terminal.members("subject", "show", world.person.username)["status"] == "active"
    assert terminal.members("role", "show", f"{world.api}:reader")["rule_count"] == "1"


def test_tokens_are_revoked_in_bulk_as_listed_when_it_is_meant(terminal: Terminal, world: World) -> None:
    chosen = ("token", "revoke-all", "--subject", world.person.username, "--kind", "access")
    tried = terminal.run(*chosen, "--dry-run")
    assert [line.split("\t")[0] for line in tried.stdout.splitlines()] == [world.token_id]
    named = re.fullmatch(r"Plan (\d+\.[-0-9a-f]{36}): 1 to be revoked\.\n", tried.stderr)
    assert named
    refusing = terminal.run(*chosen, stdin="n\n")
    assert (refusing.exit_code, world.token_id in refusing.stdout) == (1, True)
    assert terminal.members("token", "show", world.token_id)["state"] == "active"
    later = terminal.objects("token", "issue", world.person.username, "--client", world.app.name)[0]["token_id"]
    assert "plan_id" in terminal.refused(*chosen, "--strategy", "opaque", "--plan", named[1], "--yes")
    done = terminal.objects(*chosen, "--plan", named[1], "--yes", "--reason", "incident", "--json")[0]
    assert (done["revoked"], done["plan_id"]) == (1, named[1].partition(".")[2])
    shown = terminal.members("token", "show", world.token_id)
    assert (shown["state"], shown["status_reason"]) == ("revoked", "incident")
    assert terminal.members("token", "show", later)["state"] == "active"
    again = terminal.objects(*chosen, "--plan", named[1], "--yes", "--json")[0]
    assert again["revoked"] == 0
    assert "POSITION.ID" in terminal.refused(*chosen, "--plan", "7", status=2)


def test_an_incident_is_taken_back_as_it_was_listed_when_it_is_meant(terminal: Terminal, world: World) -> None:
    start = ("audit", "blast-radius", "--token-id", world.token_id)
    listed = terminal.run(*start)
    (line,) = listed.stdout.splitlines()
    position, _, edge, _, what, _, about, _, undo = line.split("\t")
    assert (edge, what, about) == ("start", "token_issued", f"token:{world.token_id}")
    assert undo == f"revoke token {world.token_id}"
    assert listed.stderr.startswith("1 events as of position ")
    assert terminal.run(*start, "--revoke", stdin="n\n").exit_code == 1
    assert terminal.members("token", "show", world.token_id)["state"] == "active"
    done = terminal.run(*start, "--revoke", "--reason", "leaked", stdin="y\n")
    assert done.stdout.splitlines()[-1].split("\t")[:5] == [position, "revoke", "token", world.token_id, "done"]
    assert terminal.members("token", "show", world.token_id)["status_reason"] == "leaked"
    named = re.search(r"Plan (\d+\.[-0-9a-f]{36}): 1 steps\.\n", done.stderr)
    assert named
    (again,) = terminal.objects(*start, "--revoke", "--yes", "--plan", named[1], "--json")
    assert again["outcome"] == "nothing"
    elsewhere = (*start, "--from-position", "2")
    assert "another start" in terminal.refused(*elsewhere, "--revoke", "--yes", "--plan", named[1], status=2)


def test_a_rule_is_withdrawn_as_it_was_granted(terminal: Terminal, world: World) -> None:
    terminal.done("subject", "grant-rules", world.person.username, world.api, "allow GET /own", "deny * /own/not")
    terminal.done("subject", "withdraw-rules", world.person.username, world.api, "allow get /own")
    terminal.done("role", "withdraw-rules", f"{world.api}:reader", "allow  get /orders/**")
    assert terminal.lines("role", "rules", f"{world.api}:reader") == []
    assert [line[2:5] for line in terminal.lines("subject", "rules", world.person.username)] == [["deny", "*", "/own/not"]]
    absent = terminal.refused("role", "withdraw-rules", f"{world.api}:reader", "allow GET /absent")
    assert absent == "Error: there is no rule: allow GET /absent\n"
    assert "allow|deny METHOD" in terminal.refused("role", "withdraw-rules", f"{world.api}:reader", "nonsense")


def test_a_setting_is_taken_back_by_saying_so(terminal: Terminal, admin: httpx.Client, world: World) -> None:
    app = new_client(admin, serves=world.api)
    terminal.done("client", "change", app.name, "--serves-none")
    assert terminal.members("client", "show", app.name)["serves"] == ""
    assert "says the contrary" in terminal.refused("client", "change", app.name, "--api", world.api, "--no-apis", status=2)


def test_an_id_and_a_user_name_name_the_same_subject(terminal: Terminal, world: World) -> None:
    by_name = terminal.members("subject", "show", world.person.username)
    by_id = terminal.members("subject", "show", world.person.subject_id)
    assert by_name["subject_id"] == by_id["subject_id"] == world.person.subject_id


def test_a_claim_that_is_no_object_is_a_usage_error(terminal: Terminal, world: World) -> None:
    arguments = ("token", "issue", world.person.username, "--client", world.app.name)
    assert "--claims" in terminal.refused(*arguments, "--claims", "[1]", status=2)


@pytest.mark.parametrize("stdin", ["", "\n", "x" * 20_000])
def test_a_password_that_is_not_there_or_endless_is_a_usage_error(terminal: Terminal, stdin: str) -> None:
    assert "standard input" in terminal.refused("subject", "register", unique("eve"), "--password", stdin=stdin, status=2)


def test_a_secret_is_not_shown_again_by_a_repeated_command(terminal: Terminal, world: World) -> None:
    registering = ("client", "register", unique("asks"), "--serves", world.api, "--idempotency-key", unique("key"))
    assert terminal.done(*registering).startswith("tl_cs_")
    assert "client_secret" not in terminal.members(*registering)
    assert "idempotency_key_reused" in terminal.refused(*registering, "--strategy", "jwt")


def test_a_public_client_has_no_secret_to_show(terminal: Terminal) -> None:
    assert terminal.members("client", "register", unique("public"), "--kind", "public").keys() == {
        "name",
        "client_id",
        "subject_id",
        "position",
    }


# ------------------------------------------------------------------------------------------------------- as a real process


def test_a_reader_that_goes_away_ends_it_quietly(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    finished = subprocess.run(
        command("client", "list"), stdout=writing, stderr=subprocess.PIPE, env=terminal.environment, timeout=60, check=False
    )
    os.close(writing)
    assert (finished.returncode, finished.stderr) == (1, b"")


def test_what_the_encoding_of_the_environment_lacks_is_an_escape(terminal: Terminal, admin: httpx.Client) -> None:
    person = new_person(admin, display_name="日本")
    finished = terminal.process("subject", "show", person.username, PYTHONIOENCODING="latin-1")
    assert finished.returncode == 0
    assert "display_name\t\\u65e5\\u672c\n" in finished.stdout


def test_what_is_shown_as_of_the_past_is_asked_for_by_one_option(terminal: Terminal, admin: httpx.Client, world: World) -> None:
    before = terminal.objects("subject", "show", world.person.username)[0]
    reader = f"{world.api}:reader"
    admin.post(f"/v1/subjects/{world.person.subject_id}/suspend", json={"reason": "gone"}).raise_for_status()
    admin.post(f"/v1/apis/{world.api}/roles/reader/rules", json={"rules": ["deny GET /orders/7"]}).raise_for_status()
    then = ["--as-of", str(before["position"]), "--instant", before["instant"]]
    assert terminal.objects("subject", "show", world.person.username, *then)[0] == before | {"log_id": token_log(terminal)}
    assert terminal.objects("token", "show", world.token_id, *then)[0]["state"] == "active"
    assert terminal.objects("token", "show", world.token_id)[0]["state"] == "suspended"
    assert len(terminal.lines("role", "rules", reader, *then)) == 1
    assert len(terminal.lines("subject", "permissions", world.person.username, *then)) == 1
    assert terminal.lines("subject", "list", "--role", reader, "--status", "suspended", *then) == []
    assert terminal.objects("audit", "timeline", "--token-id", world.token_id, *then)[-1]["now"]["state"] == "active"
    asked = terminal.run("check", world.asks.name, "GET", "/orders/7", *then, stdin=world.asked)
    assert (asked.exit_code, asked.stdout.splitlines()[0]) == (0, "decision\ttrue")
    stood = terminal.run("introspect", world.asks.name, *then, stdin=world.asked)
    assert (stood.exit_code, stood.stdout.splitlines()[0]) == (0, "active\ttrue")
    decided = terminal.run("audit", "decision", world.token_id, world.api, "GET", "/orders/7")
    assert (decided.exit_code, decided.stdout.splitlines()[0]) == (4, "decision\tfalse")
    assert terminal.run("api", "list", "--as-of", "never").exit_code == 1


def token_log(terminal: Terminal) -> str:
    log_id: str = terminal.objects("audit", "timeline", "--client", "console", "--limit", "1")[-1]["log_id"]
    return log_id
