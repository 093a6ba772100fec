"""What the command line promises without a server: a command for every endpoint, secrets never as arguments, safe output."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from api.app import ROUTES
from api.cli import main
from api.cli.calling import Endpoint, said_of
from api.cli.connection import read_url
from api.cli.output import escaped, json_line, text_of
from tests.terminal import Terminal, leaf_commands

COMMANDS = leaf_commands()
RESPONDER = re.compile(r"on_(get|post|put|patch|delete)((?:_[a-z_]+)?)")
# They open the database; and these ask as a resource server does.
LOCAL = {"init", "serve", "replay", "verify", "archive", "reseal"}
QUESTIONS = {Endpoint("POST", "/access/v1/evaluation"), Endpoint("POST", "/oauth/introspect")}
SECRET_WORDS = re.compile(r"password|secret|token|credential|pass")


def endpoints() -> set[Endpoint]:
    """Answer every endpoint that is there: each route, with the methods it has responders for (Falcon's naming)."""
    found: set[Endpoint] = set()
    for route in ROUTES:
        suffix = f"_{route.suffix}" if route.suffix else ""
        for name in dir(route.resource):
            responder = RESPONDER.fullmatch(name)
            if responder is not None and responder[2] == suffix:
                found.add(Endpoint(responder[1].upper(), route.path))
    return found


def called() -> dict[str, Endpoint]:
    """Answer the endpoint of each command that has one."""
    return {name: said.endpoint for name, command in COMMANDS.items() if (said := said_of(command)) is not None}


# --------------------------------------------------------------------------------------------------------------- commands


def test_every_management_endpoint_has_its_command() -> None:
    management = {e for e in endpoints() if e.path in ("/login", "/logout") or e.path.startswith("/v1/")}
    assert len(management) > 40
    done = {said.also for command in COMMANDS.values() if (said := said_of(command)) is not None and said.also is not None}
    assert management - set(called().values()) == done
    assert done <= endpoints()


def test_every_command_calls_an_endpoint_that_is_there_and_no_two_the_same() -> None:
    assert set(called().values()) - endpoints() == set()
    assert len(set(called().values())) == len(called())


def test_only_the_commands_of_the_place_where_it_runs_do_without_an_endpoint() -> None:
    assert set(COMMANDS) - set(called()) == LOCAL
    assert {e for e in called().values() if not e.path.startswith(("/v1/", "/log"))} == QUESTIONS


def test_no_command_takes_a_secret_as_an_argument() -> None:
    takes = [
        f"{name}: {parameter.opts}"
        for name, command in COMMANDS.items()
        for parameter in command.params
        if any(SECRET_WORDS.search(spelling) for spelling in parameter.opts) and not getattr(parameter, "is_flag", False)
    ]
    ids = {"token_id", "--token-id"}
    assert [entry for entry in takes if not any(repr([known]) in entry for known in ids)] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_says_what_it_does_and_explains_its_options(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").splitlines()[0].endswith((".", "?", ",", ":")), command.help
    unexplained = [o.opts[0] for o in command.params if isinstance(o, click.Option) and not o.help]
    assert unexplained == []


def examples() -> list[str]:
    """Answer every example of the help texts: the commands in blocks that keep their lines."""
    groups = [main, *(entry for entry in main.commands.values() if isinstance(entry, click.Group))]
    texts = [command.help or "" for command in (*COMMANDS.values(), *groups)]
    blocks = [block for text in texts for block in text.split("\b\n")[1:]]
    lines = [line for block in blocks for line in block.split("\n\n")[0].replace("\\\n", " ").splitlines()]
    return [line for line in lines if "token-ledger " in line]


@pytest.mark.parametrize("example", examples())
def test_an_example_of_a_help_text_is_a_command(example: str) -> None:
    words = shlex.split(re.split(r"[<>)]", example.partition("token-ledger ")[2], maxsplit=1)[0])
    command: click.Command | None = main
    while isinstance(command, click.Group):
        _, command, words = command.resolve_command(click.Context(command), words)  # a usage error where there is none
    assert command is not None
    command.make_context(None, words)  # the same for what it does not take


def listed_commands() -> list[str]:
    """Answer the table of commands as it stands in docs/cli.md."""
    lines = ["| command | endpoint | what |", "| --- | --- | --- |"]
    for name, command in COMMANDS.items():
        said = said_of(command)
        called = [] if said is None else [said.endpoint, *([said.also] if said.also else [])]
        endpoint = ", ".join(f"`{one.method} {one.path}`" for one in called) or "the database"
        what = re.split(r"(?<=[.?])\s", (command.help or "").partition("\b")[0].strip())[0]
        lines.append(f"| `{name}` | {endpoint} | {' '.join(what.split())} |")
    return lines


def listed_columns() -> list[str]:
    """Answer the table of columns as it stands in docs/cli.md."""
    said = [(name, said_of(command)) for name, command in COMMANDS.items()]
    rows = [f"| `{name}` | {', '.join(f'`{c}`' for c in what.columns)} |" for name, what in said if what and what.columns]
    return ["| listing | columns |", "| --- | --- |", *rows]


@pytest.mark.parametrize("table", [listed_commands(), listed_columns()], ids=["commands", "columns"])
def test_the_documentation_lists_every_command_and_column(table: list[str]) -> None:
    """When it fails: the lines it wants are the table, to be put into docs/cli.md."""
    text = Path(__file__).parent.with_name("docs").joinpath("cli.md").read_text()
    assert "\n".join(table) in text, "\n".join(table)


# --------------------------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:81", "http://127.7.7.7", "https://ledger.example.org/at"]
)
def test_a_server_is_on_this_computer_or_behind_https(url: str) -> None:
    assert read_url(url) == url


def test_one_server_has_one_spelling() -> None:
    assert read_url(" HTTPS://Ledger.Example.ORG:443/ ") == "https://ledger.example.org"


@pytest.mark.parametrize(
    "url",
    [
        "http://ledger.example.org",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://127.0.0.1@example.org",
        "https://user:pw@example.org",
        "https://example.org?x=1",
        "https://example.org#x",
        "ftp://127.0.0.1",
        "127.0.0.1:8080",
        "https://",
        "https://[::1",
        "https://example.org:99999",
        "",
    ],
)
def test_credentials_go_to_no_other_address(url: str, tmp_path: Path) -> None:
    terminal = Terminal("http://127.0.0.1:1", tmp_path, token="tl_at_x")
    assert "--url" in terminal.refused("me", "show", "--url", url, status=2)


def test_a_server_that_is_not_there_is_exit_status_3(tmp_path: Path) -> None:
    terminal = Terminal("http://127.0.0.1:1", tmp_path, token="tl_at_x")
    assert terminal.refused("me", "show", status=3).startswith("Error: cannot reach http://127.0.0.1:1")


def test_without_a_session_nothing_is_sent(tmp_path: Path) -> None:
    terminal = Terminal("http://127.0.0.1:1", tmp_path)
    assert "not logged in" in terminal.refused("me", "show")


@pytest.mark.parametrize("token", ["", "two words", "a\nb", "ü"])
def test_an_environment_variable_that_holds_no_token_is_said(tmp_path: Path, token: str) -> None:
    terminal = Terminal("http://127.0.0.1:1", tmp_path, token=token)
    assert "TOKEN_LEDGER_TOKEN holds no token" in terminal.refused("me", "show")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_never_leads_to_another_path(tmp_path: Path, name: str) -> None:
    terminal = Terminal("http://127.0.0.1:1", tmp_path, token="tl_at_x")
    terminal.refused("api", "show", name, status=2)


# ----------------------------------------------------------------------------------------------------------------- output

HOSTILE = {
    "clears the screen": "a\x1b[2Jb",
    "is a new line": "a\nb",
    "is a tab": "a\tb",
    "rings": "a\x07b",
    "is a C1 control": "a\x9b2Jb",
    "deletes": "a\x7fb",
    "turns the text around": "a\u202eb",
    "isolates": "a\u2066b",
    "hides": "a\u200bb",
    "separates lines": "a\u2028b",
    "is a tag": "a\U000e0041b",
    "is a lone surrogate": "a\ud800b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_what_could_act_on_a_terminal_is_escaped(text: str) -> None:
    shown = escaped(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode("ascii").decode("unicode_escape") == text
    line = json_line({"x": text})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"x": text}


def test_escapes_can_be_told_from_what_looks_like_them() -> None:
    assert escaped(r"a\nb") == r"a\\nb"
    assert escaped("ünï [bold] 日本 🙂") == "ünï [bold] 日本 🙂"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (7, "7"),
        (["GET", "POST"], "GET,POST"),
        ({"api": "orders", "role": "reader", "role_id": "x", "removed": False}, "orders:reader"),
        ({"api": "orders", "role": "reader", "role_id": "x", "removed": True}, "orders:reader (removed)"),
        ({"kind": "subject", "id": "7", "name": "ann", "authenticated_by": "password"}, "subject:ann"),
        ({"kind": "client", "id": "7", "authenticated_by": "none"}, "client:7"),
        ({"kind": "system", "id": None}, "system"),
        ({"state": "revoked", "reason": None, "stands_for": ["a", "b"]}, "state=revoked stands_for=a,b"),
    ],
)
def test_a_value_is_one_word_or_line(value: object, text: str) -> None:
    assert text_of(value) == text


def test_the_commands_stand_in_the_order_in_which_they_are_needed() -> None:
    assert list(main.commands)[:3] == ["init", "serve", "login"]
