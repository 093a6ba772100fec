"""Sessions of the command line: where the tokens are kept, and how they are renewed."""

import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api.cli.connection import Connection
from tests.calls import PASSWORD, Person, first_party, new_person
from tests.conftest import Clock
from tests.serving import Served
from tests.terminal import Terminal

MINUTES = 60


@pytest.fixture
def person(admin: httpx.Client) -> Person:
    return new_person(admin)


@pytest.fixture
def terminal(ledger_server: Served, tmp_path: Path) -> Terminal:
    return Terminal(ledger_server.url, tmp_path)


@pytest.fixture
def logged_in(terminal: Terminal, person: Person) -> Terminal:
    terminal.done("login", person.username, stdin=f"{PASSWORD}\n")
    return terminal


def kept(terminal: Terminal) -> dict[str, object]:
    """Answer what the one session file holds."""
    (path,) = terminal.session_files
    members: dict[str, object] = json.loads(path.read_text())
    return members


def expire(terminal: Terminal) -> None:
    """Make the access token look expired to this computer."""
    (path,) = terminal.session_files
    path.write_text(json.dumps(kept(terminal) | {"expires_at": 0}))


def test_the_tokens_are_kept_where_only_the_user_can_read_them(logged_in: Terminal) -> None:
    folder = logged_in.home / "token-ledger"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert str(kept(logged_in)["refresh_token"]).startswith("tl_rt_")


def test_a_session_is_of_one_server(logged_in: Terminal) -> None:
    assert "not logged in at http://127.0.0.1:1:" in logged_in.refused("me", "show", "--url", "http://127.0.0.1:1")


def test_a_password_that_is_typed_is_not_seen(terminal: Terminal, person: Person) -> None:
    status, seen = terminal.shown("login", typed=[("User name:", person.username), ("Password:", PASSWORD)])
    assert (status, "Logged in at" in seen, PASSWORD in seen) == (0, True, False)
    assert terminal.members("me", "show")["username"] == person.username


def test_ctrl_c_at_the_password_ends_it_quietly(terminal: Terminal, person: Person) -> None:
    status, seen = terminal.shown("login", person.username, typed=[("Password:", "\x03")])
    assert (status, terminal.session_files) == (1, [])
    assert seen.split() == ["Password:", "Aborted!"]


def test_a_wrong_password_begins_no_session(terminal: Terminal, person: Person) -> None:
    refused = terminal.refused("login", person.username, stdin="not the password\n")
    assert refused == "Error: wrong user name or password (login_refused)\n"
    assert terminal.session_files == []


def test_a_session_can_be_narrowed_to_a_role(terminal: Terminal, admin: httpx.Client) -> None:
    auditor = new_person(admin, "ledger:administrator", "ledger:auditor")
    terminal.done("login", auditor.username, "--scope", "ledger:auditor", stdin=f"{PASSWORD}\n")
    assert terminal.lines("api", "list")
    assert "(not_allowed)" in terminal.refused("api", "register", "anything")


@pytest.mark.parametrize("scope", ["ledger:auditor", "ledger:nobody", "nowhere:auditor"])
def test_a_scope_that_is_not_to_be_had_is_refused_in_words(terminal: Terminal, person: Person, scope: str) -> None:
    refused = terminal.refused("login", person.username, "--scope", scope, stdin=f"{PASSWORD}\n")
    assert "scope: roles of this person" in refused
    assert terminal.session_files == []


def test_a_token_of_the_environment_comes_first_and_is_not_stored(
    logged_in: Terminal, ledger_server: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    script = Terminal(ledger_server.url, logged_in.home, token=token)
    before = kept(logged_in)
    assert script.members("me", "show")["username"] == "admin"
    assert kept(logged_in) == before
    assert token not in json.dumps(before)
    assert "TOKEN_LEDGER_TOKEN is set" in script.refused("logout", status=2)


def test_logout_revokes_the_tokens_and_forgets_them(logged_in: Terminal, http: httpx.Client) -> None:
    session = kept(logged_in)
    assert "its tokens are revoked" in logged_in.run("logout").stderr
    assert logged_in.session_files == []
    assert http.get("/v1/me", headers={"Authorization": f"Bearer {session['access_token']}"}).status_code == 401
    assert logged_in.run("logout").exit_code == 0


def test_logout_of_a_session_that_was_revoked_forgets_it(logged_in: Terminal, admin: httpx.Client) -> None:
    admin.post(f"/v1/subjects/{logged_in.members('me', 'show')['subject_id']}/revoke-tokens")
    assert "it had ended already" in logged_in.run("logout").stderr
    assert logged_in.session_files == []


def test_an_access_token_about_to_expire_is_renewed_first(logged_in: Terminal) -> None:
    before = kept(logged_in)
    expire(logged_in)
    logged_in.done("me", "show")
    after = kept(logged_in)
    assert before["access_token"] != after["access_token"]
    assert before["refresh_token"] != after["refresh_token"]


def test_a_session_that_was_revoked_says_to_log_in_again(logged_in: Terminal, admin: httpx.Client) -> None:
    admin.post(f"/v1/subjects/{logged_in.members('me', 'show')['subject_id']}/revoke-tokens")
    assert "`token-ledger login` begins a new one" in logged_in.refused("me", "show")


def test_an_answer_that_was_lost_on_its_way_does_not_end_the_session(logged_in: Terminal, http: httpx.Client) -> None:
    session = kept(logged_in)
    form = {"grant_type": "refresh_token", "refresh_token": str(session["refresh_token"]), "client_id": "console"}
    lost = http.post("/oauth/token", data=form).json()
    expire(logged_in)
    logged_in.done("me", "show")
    assert kept(logged_in)["refresh_token"] == lost["refresh_token"]


def test_a_damaged_session_file_is_said_and_not_used(logged_in: Terminal) -> None:
    (path,) = logged_in.session_files
    path.write_text("{")
    assert "holds no session: remove it and log in again" in logged_in.refused("me", "show")


def test_a_session_that_cannot_be_kept_is_not_begun(terminal: Terminal, person: Person, admin: httpx.Client) -> None:
    (terminal.home / "token-ledger").write_text("a file, where the folder should be")
    assert "the session cannot be kept in" in terminal.refused("login", person.username, stdin=f"{PASSWORD}\n")
    assert admin.get("/v1/tokens", params={"subject_id": person.subject_id}).json()["tokens"] == []


def test_of_many_that_find_the_token_expired_at_once_one_refreshes_it(
    terminal: Terminal, person: Person, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a retry window: if a second one presented the same refresh token, the family would be revoked.
    app = first_party(admin, "ledger", refresh="rotating", retry_window_seconds=0)
    terminal.done("login", person.username, "--client", app.name, stdin=f"{PASSWORD}\n")
    expire(terminal)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(terminal.home))
    started = threading.Barrier(8)

    def ask(_: int) -> str:
        connection = Connection(terminal.url)
        started.wait(timeout=60)
        try:
            return str(connection.ask("GET", "/v1/me")["token_id"])
        finally:
            connection.close()

    # Threads, so that they start together; the lock keeps them apart as it does processes (flock is of the open file).
    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(ask, range(8)))
    assert len(answers) == 1
    assert terminal.members("me", "show")["token_id"] in answers


def test_a_token_that_expired_by_the_clock_of_the_server_is_renewed(logged_in: Terminal, server_clock: Clock) -> None:
    before = kept(logged_in)
    server_clock.advance(11 * MINUTES)
    logged_in.done("me", "show")
    assert kept(logged_in)["access_token"] != before["access_token"]
