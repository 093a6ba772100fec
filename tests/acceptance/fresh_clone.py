"""What the README promises whoever has just cloned the repository, with an empty home folder.

`make run` makes its own virtual environment and is ready, the tour works word for word, Ctrl-C stops everything, the next
start keeps all data, `make test` is green. The clone holds what is committed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from ledger.embedded import EmbeddedPostgres
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.processes import processes
from tests.acceptance.running import ROOT
from tests.calls import ok
from tests.serving import NO_TLS, free_port
from tests.tour import run_tour

INSTALL_SECONDS: Final = 600.0
STOP_SECONDS: Final = 60.0
TEST_SECONDS: Final = 3_600.0
PAGE: Final = 1_000


def run(stage: Stage) -> Shown:
    """Clone, run, take the tour, stop, run again, test."""
    clone = stage.folder / "clone"
    environment = _environment(stage)
    stage.progress("cloning", 0, None)
    _git(environment, "clone", "--quiet", str(ROOT), str(clone))
    commit = _git(environment, "-C", str(clone), "rev-parse", "--short", "HEAD")
    url = f"http://127.0.0.1:{free_port()}"
    with _make_run(stage, clone, url, environment) as first:
        password = first.password()
        stage.progress("the tour", 0, None)
        run_tour(clone / "README.md", url, password, clone)
        before = _events(url, password)
        _stop(first, clone)
    with _make_run(stage, clone, url, environment) as second:
        after = _events(url, password)
        _stop(second, clone)
    if after[: len(before)] != before:
        raise FellShort(f"of {len(before)} events before the stop {len(after)} were there after it, and not the same")
    stage.progress("make test", 0, None)
    tested, summary = _make_test(clone, environment | {"TOKEN_LEDGER_VECTORS": str(stage.vectors)})
    figure = (
        f"make run ready after {first.seconds:.0f} s, again after {second.seconds:.1f} s;"
        f" the tour worked, {len(before)} events kept; make test in {tested:.0f} s: {summary}"
    )
    return Shown(f"a fresh clone of {commit}, an empty home folder", figure)


def _environment(stage: Stage) -> dict[str, str]:
    """Answer the environment of somebody who has just logged in: nothing of ours, and nothing in his home folder."""
    home = stage.folder / "home"
    home.mkdir()
    ours = ("TOKEN_LEDGER_", "PYTHON", "VIRTUAL_ENV", "XDG_", "MAKE", "MFLAGS", "UV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = environment.get("PATH", os.defpath).split(os.pathsep)
    return environment | {
        "HOME": str(home),
        "PATH": os.pathsep.join(folder for folder in path if Path(folder) != Path(sys.prefix) / "bin"),
    }


def _git(environment: Mapping[str, str], *arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise FellShort(f"git {arguments[0]}: {ended.stderr.strip()}")
    return ended.stdout.strip()


@dataclass(frozen=True, slots=True)
class Started:
    """A `make run` that is ready: after how long, and what it prints."""

    process: subprocess.Popen[bytes]
    seconds: float
    output: Path

    def password(self) -> str:
        """Answer the password of the first administrator, as shown."""
        found = re.search(r"password: +(\S+)", self.output.read_text())
        if found is None:
            raise FellShort(f"no password was shown: {self.output.read_text()[-400:]}")
        return found[1]


@contextmanager
def _make_run(stage: Stage, clone: Path, url: str, environment: Mapping[str, str]) -> Iterator[Started]:
    """Run `make run` in a process group of its own, as a terminal does, and wait until it is ready."""
    stage.progress("make run", 0, None)
    output = stage.folder / "make-run.txt"
    began = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["make", "run", f"ARGS=--port {url.rpartition(':')[2]}"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() - began > INSTALL_SECONDS:
                raise FellShort(f"make run is not ready: {output.read_text()[-600:]}")
            time.sleep(0.02)
        yield Started(process, time.monotonic() - began, output)
    finally:
        if _group(process.pid):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, verify=NO_TLS).status_code == 200
    except httpx.TransportError:
        return False


def _group(group: int) -> list[int]:
    """Answer the live processes of a process group."""
    return [process.pid for process in processes() if process.group == group]


def _stop(started: Started, clone: Path) -> None:
    """Press Ctrl-C, and see that everything stops: whatever the group holds, and the database, which is not of the group."""
    os.killpg(started.process.pid, signal.SIGINT)
    try:
        started.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise FellShort(f"Ctrl-C did not stop it in {STOP_SECONDS:.0f} s") from None
    if left := _group(started.process.pid):
        raise FellShort(f"after Ctrl-C {left} of its process group live")
    if EmbeddedPostgres(clone / ".data").is_running():
        raise FellShort("after Ctrl-C the embedded PostgreSQL runs")


def _events(url: str, password: str) -> list[dict[str, Any]]:
    """Answer all events of the log, as an auditor sees them."""
    with httpx.Client(base_url=url, timeout=30, verify=NO_TLS) as http:
        token = ok(http.post("/login", json={"username": "admin", "password": password}))["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        events: list[dict[str, Any]] = []
        query: dict[str, str | int] = {"limit": PAGE}
        while True:
            page = ok(http.get("/v1/audit/events", params=query))
            events += page["events"]
            if page["next"] is None:
                return sorted(events, key=lambda event: int(event["position"]))
            query["cursor"] = page["next"]


def _make_test(clone: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Run `make test`; answer the seconds and the summary of pytest."""
    began = time.monotonic()
    ended = subprocess.run(
        ["make", "test"],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TEST_SECONDS,
    )
    lines = ended.stdout.strip().splitlines()
    if ended.returncode != 0:
        raise FellShort(f"make test: {' '.join(lines[-15:])[-800:]}")
    return time.monotonic() - began, lines[-1].strip("= ")
