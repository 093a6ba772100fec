"""What is left of a server that was killed, and how the next one starts."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.acceptance.processes import processes
from tests.serving import CHEAP_PASSWORDS, NO_TLS, command, free_port, wait_until_ready

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_workers_end_with_a_killed_server_and_the_next_start_has_its_port_and_all_its_data(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
        "TOKEN_LEDGER_DATA_FOLDER": str(tmp_path / "data"),
        "TOKEN_LEDGER_PORT": str(port),
        **CHEAP_PASSWORDS,
    }
    log = tmp_path / "output"
    with log.open("w") as output:
        with subprocess.Popen(command("serve"), env=environment, stdout=output, stderr=output, start_new_session=True) as first:
            wait_until_ready(url)
            os.kill(first.pid, signal.SIGKILL)
        with subprocess.Popen(command("serve"), env=environment, stdout=output, stderr=output) as second:
            try:
                # The group of the first holds what it left: its workers, of which one could still answer.
                while any(process.group == first.pid for process in processes()):
                    assert second.poll() is None, log.read_text()
                wait_until_ready(url)
                password = re.search(r"password: +(\S+)", log.read_text())
                assert password is not None
                credentials = {"username": "admin", "password": password[1]}
                assert httpx.post(f"{url}/login", json=credentials, verify=NO_TLS, timeout=30).status_code == 200
            finally:
                second.terminate()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(first.pid, signal.SIGKILL)
