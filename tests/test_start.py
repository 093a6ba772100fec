"""The start: what is missing, weak, unsafe or unreachable ends it with one message that lists all of it, and status 1."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.embedded import EmbeddedPostgres
from tests.conftest import NEWEST, _new_database
from tests.serving import CHEAP_PASSWORDS, MASTER_KEY, command

KEY = secrets.token_hex(32)


def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run `token-ledger` under these settings alone: its status and what it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")}
    environment |= {f"TOKEN_LEDGER_{name}": value for name, value in settings.items()}
    done = subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def refused(*arguments: str, **settings: str) -> dict[str, str]:
    """Answer the variables that the start is refused for, and why."""
    status, said, error = run(*arguments, **settings)
    assert status == 1, error
    assert said == ""
    assert "Traceback" not in error
    first, *lines = error.splitlines()
    assert first == "Error: this cannot be used:"
    problems = dict(line.strip().split(": ", 1) for line in lines)
    assert len(problems) == len(lines)
    return problems


# ------------------------------------------------------------------------------------------------------- unsafe settings


@pytest.mark.parametrize("arguments", [["serve"], ["init"]], ids=lambda arguments: arguments[0])
def test_every_unsafe_setting_is_named_in_one_message_and_no_value_is_quoted(arguments: list[str]) -> None:
    settings = {
        "HOST": "0.0.0.0",
        "PORT": "65536",
        "WORKERS": "none",
        "MASTER_KEY": "hunter2hunter2",
        "DATABASE_URL": "postgres//ledger_service:hunter2@db/ledger",
        "LOG_LEVEL": "loud",
        "PASSWORD_MEMORY_KIB": "1024",
        "PASSWORD_PASSES": "1",
        "MAX_ACCESS_LIFETIME_SECONDS": "1e9",
    }
    problems = refused(*arguments, **settings)
    assert set(problems) == {f"TOKEN_LEDGER_{name}" for name in settings if name != "HOST"} | {"TOKEN_LEDGER_ISSUER"}
    assert "hunter2" not in str(problems)


# ----------------------------------------------------------------------------------------------------------- the database


@pytest.fixture(scope="module")
def postgres(server_named: "object") -> EmbeddedPostgres:
    server: EmbeddedPostgres = server_named(NEWEST)  # type: ignore[operator] # the fixture of the session
    return server


@pytest.fixture
def urls(postgres: EmbeddedPostgres) -> Iterator[dict[str, str]]:
    """A database without a ledger, as the settings of a server."""
    with _new_database(postgres, None) as database:
        yield {
            "DATABASE_URL": postgres.conninfo("ledger_service", database.name),
            "OWNER_DATABASE_URL": database.owner,
            "MASTER_KEY": MASTER_KEY,
            "PORT": "0",
            "ISSUER": "http://localhost",
        } | {name.removeprefix("TOKEN_LEDGER_"): value for name, value in CHEAP_PASSWORDS.items()}


@pytest.mark.parametrize("arguments", [["serve"], ["verify"]], ids=lambda arguments: arguments[0])
def test_a_database_that_cannot_be_reached_is_said_so(arguments: list[str], tmp_path: Path) -> None:
    url = f"postgresql://ledger_service:hunter2@/ledger?host={tmp_path}"
    status, said, error = run(*arguments, DATABASE_URL=url, MASTER_KEY=KEY)
    assert (status, said.strip()) == (1, "")
    assert error.startswith("Error: the database failed: ")
    assert error.count("\n") == 1
    assert "hunter2" not in error


def test_a_database_without_a_ledger_is_said_so(urls: dict[str, str]) -> None:
    with psycopg.connect(urls["OWNER_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE ledger_service LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    status, said, error = run("serve", **urls)
    assert (status, said) == (1, "")
    assert error == "Error: the database holds no ledger: run `token-ledger init` first\n"


def test_another_master_key_and_a_role_that_could_forge_the_log_stop_the_start(urls: dict[str, str]) -> None:
    assert run("init", **urls)[0] == 0
    status, said, error = run("serve", **urls | {"MASTER_KEY": KEY})
    assert (status, said) == (1, "")
    assert error.startswith("Error: the master key does not open what is sealed in this database")
    assert set(refused("serve", **urls | {"DATABASE_URL": urls["OWNER_DATABASE_URL"]})) == {"TOKEN_LEDGER_DATABASE_URL"}


# ------------------------------------------------------------------------------------------------------------ gunicorn's end

WORKERS_THAT_FAIL = """
import os, sys
from pathlib import Path
import api.server
from ledger.embedded import EmbeddedPostgres
from ledger.settings import load_settings

stop = EmbeddedPostgres.stop
def noting(self):
    with Path(sys.argv[1]).open("a") as file:
        print(os.getpid(), file=file)
    stop(self)
EmbeddedPostgres.stop = noting
def failing(service):
    raise RuntimeError("this worker cannot start")
api.server.make_app = failing
print(os.getpid(), flush=True)
settings = load_settings(workers=2, port=0, issuer="http://localhost", data_folder=sys.argv[2])
api.server.serve(settings, lambda administrator: None)
"""


def test_a_worker_that_ends_leaves_the_database_to_its_master_whose_failure_is_no_success(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | CHEAP_PASSWORDS
    stopped = tmp_path / "stopped"
    done = subprocess.run(
        [sys.executable, "-c", WORKERS_THAT_FAIL, str(stopped), str(tmp_path / "data")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert stopped.read_text() == done.stdout  # once, by the master
