"""A running server for tests: the real command, two workers, on a database of the test's server."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import contract

MASTER_KEY = secrets.token_hex(32)
READY_SECONDS = 30.0
# No TLS here: reading the certificates of all the world costs a client 20 ms.
NO_TLS = httpx.create_ssl_context(verify=False)
# The floors: what is tested is not how long a hash takes.
CHEAP_PASSWORDS = {"TOKEN_LEDGER_PASSWORD_MEMORY_KIB": "19456", "TOKEN_LEDGER_PASSWORD_PASSES": "2"}


@dataclass(frozen=True)
class Served:
    """A server that runs: where, its first administrator, its process."""

    url: str
    username: str
    password: str
    process: subprocess.Popen[str]
    owner: str  # conninfo of the database's superuser
    log: Path | None  # what the server prints
    workers: int
    environment: dict[str, str]

    def again(self, launcher: Sequence[str] | None = None, **settings: str) -> AbstractContextManager["Served"]:
        """Run another server on the same ledger, with other settings, or started by another command line."""
        return _running(self.environment | settings, self.password, self.owner, None, launcher)

    def client(self) -> httpx.Client:
        """Answer an HTTP client of the server, without any credentials."""
        return httpx.Client(base_url=self.url, timeout=30, verify=NO_TLS)

    def admin(self) -> httpx.Client:
        """Answer an HTTP client of the server, with the administrator's token."""
        credentials = {"username": self.username, "password": self.password}
        answer = httpx.post(f"{self.url}/login", json=credentials, timeout=30, verify=NO_TLS)
        assert answer.status_code == 200, answer.text
        client = self.client()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    @contextmanager
    def each_worker(self) -> Iterator[list[httpx.Client]]:
        """Give an HTTP client of each worker, over one connection that stays with it."""
        with ExitStack() as clients:
            pinned: list[httpx.Client] = []
            workers = self._worker_processes()
            for worker in workers:
                others = [pid for pid in workers if pid != worker]
                for pid in others:
                    os.kill(pid, signal.SIGSTOP)  # who is stopped accepts no connection
                try:
                    pinned.append(clients.enter_context(_Pinned(base_url=self.url, timeout=30, verify=NO_TLS)))
                    assert pinned[-1].get("/healthz").status_code == 200
                finally:
                    for pid in others:
                        os.kill(pid, signal.SIGCONT)
            yield pinned

    def _worker_processes(self) -> list[int]:
        """Answer the processes of all workers; the first to be ready may not be the last to be started."""
        deadline = time.monotonic() + READY_SECONDS
        while len(found := _children(self.process.pid)) < self.workers:
            assert time.monotonic() < deadline, "not every worker was started"
            time.sleep(0.05)
        return found


def _children(pid: int) -> list[int]:
    """Answer the processes that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if children.exists():
        return [int(child) for child in children.read_text().split()]
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, table.splitlines()) if int(parent) == pid]


class _Pinned(httpx.Client):
    """A client that keeps its first connection, and fails when it is lost."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(limits=httpx.Limits(max_connections=1, keepalive_expiry=None), **settings)
        self._address: object = None
        self.event_hooks = {"response": [self._check]}

    def _check(self, answer: httpx.Response) -> None:
        address = answer.extensions["network_stream"].get_extra_info("client_addr")
        assert self._address in (None, address), "another connection, and so perhaps another worker"
        self._address = address


def free_port() -> int:
    """Answer a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def command(*arguments: str) -> list[str]:
    """Answer the command line of `token-ledger` of this environment."""
    return [str(Path(sys.executable).with_name("token-ledger")), *arguments]


@contextmanager
def served(
    service: str,
    owner: str,
    *,
    workers: int = 2,
    log: Path | None = None,
    prepared: Callable[[], object] = lambda: None,
    **settings: str,
) -> Iterator[Served]:
    """Install a ledger in this database and serve it; `service` and `owner` are conninfos.

    `prepared` is called between installing and serving; `settings` are variables of the environment.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
        "TOKEN_LEDGER_DATABASE_URL": service,
        "TOKEN_LEDGER_OWNER_DATABASE_URL": owner,
        "TOKEN_LEDGER_MASTER_KEY": MASTER_KEY,
        "TOKEN_LEDGER_WORKERS": str(workers),
        **CHEAP_PASSWORDS,
        **settings,
    }
    shown = subprocess.run(command("init"), env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"password: +(\S+)", shown)
    assert found is not None, shown
    prepared()
    with _running(environment, found[1], owner, log) as running:
        yield running


@contextmanager
def _running(
    environment: dict[str, str], password: str, owner: str, log: Path | None, launcher: Sequence[str] | None = None
) -> Iterator[Served]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    contract.served_at(url)
    environment = environment | {"TOKEN_LEDGER_PORT": str(port)}
    with log.open("w") if log is not None else nullcontext(subprocess.DEVNULL) as output:
        process = subprocess.Popen(
            launcher or command("serve"), env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
        )
        try:
            wait_until_ready(url)
            workers = int(environment["TOKEN_LEDGER_WORKERS"])
            yield Served(url, "admin", password, process, owner, log, workers, environment)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def wait_until_ready(url: str) -> None:
    """Wait until the server answers that it is ready."""
    wait_until_answers(f"{url}/readyz")


def wait_until_answers(url: str) -> None:
    """Wait until this answers 200."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if httpx.get(url, timeout=2, verify=NO_TLS).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the server did not become ready"
        time.sleep(0.05)
