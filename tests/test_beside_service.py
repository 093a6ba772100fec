"""replay, verify and reseal beside a service that runs the embedded PostgreSQL on the same data folder."""

import os
import secrets
import signal
import subprocess
from pathlib import Path

import pytest

from tests.serving import CHEAP_PASSWORDS, command, free_port, wait_until_ready


def test_maintenance_uses_the_database_that_a_service_runs_and_leaves_it_running(tmp_path: Path) -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
        "TOKEN_LEDGER_DATA_FOLDER": str(tmp_path / "data"),
        "TOKEN_LEDGER_PORT": str(port),
        "TOKEN_LEDGER_WORKERS": "1",
        **CHEAP_PASSWORDS,
    }

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(name), env=environment, capture_output=True, text=True, timeout=120)

    with subprocess.Popen(command("serve"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}")
            assert "events verified" in run("verify").stdout
            assert "events replayed" in run("replay").stdout
            assert "0 of " in run("reseal").stdout
            second = run("serve")
            assert (second.returncode, "is in use by another Token Ledger" in second.stderr) == (1, True)
            wait_until_ready(f"http://127.0.0.1:{port}")
        finally:
            service.send_signal(signal.SIGTERM)
    assert service.returncode == 0
    assert "events verified" in run("verify").stdout  # the service is gone: an embedded server of its own, meanwhile


@pytest.mark.parametrize("name", ["verify", "replay", "reseal"])
def test_maintenance_of_a_folder_without_a_ledger_is_refused(name: str, tmp_path: Path) -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TOKEN_LEDGER_")}
    environment |= {"TOKEN_LEDGER_DATA_FOLDER": str(tmp_path / "data")}
    done = subprocess.run(command(name), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "token-ledger init" in done.stderr


@pytest.mark.parametrize("name", ["init", "serve", "verify", "replay", "reseal"])
def test_a_database_that_cannot_be_reached_is_said_in_one_line_without_the_password(name: str) -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TOKEN_LEDGER_")} | {
        "TOKEN_LEDGER_DATABASE_URL": f"postgresql://ledger_service:hunter2@127.0.0.1:{free_port()}/ledger",
        "TOKEN_LEDGER_MASTER_KEY": secrets.token_hex(32),
    }
    done = subprocess.run(command(name), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the database failed: ")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
