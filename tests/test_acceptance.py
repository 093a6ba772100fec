"""How points of acceptance are run: what is printed, what the exit status says, and that nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.processes import processes
from tests.acceptance.running import INTERRUPTED, ROOT, UnknownPoint, chosen
from tests.acceptance.sets import SETS

with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

# Tiny points. `waits` has a child that ignores every signal it can, with a child of its own, a port and a file.
POINTS = """
import subprocess, sys, tempfile, time
from tests.acceptance.points import FellShort, Shown
from tests.acceptance.running import run

def good(stage):
    return Shown("added one and one", "2")

def table(stage):
    return Shown("added all", "2 sums", lines=("1 + 1  2", "1 + 2  3"))

def bad(stage):
    return Shown("added one and one", "3", held=False)

def raising(stage):
    raise ZeroDivisionError("one by none")

def missing(stage):
    stage.corpus("no/such.json")

CHILD = '''
import signal, socket, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w").write("ready")
time.sleep(600)
'''

def leaving(stage):
    child = subprocess.Popen([sys.executable, "-c", CHILD, sys.argv[1], sys.argv[2]], start_new_session=True)
    while not __import__("os").path.exists(sys.argv[2]):
        time.sleep(0.01)
    return Shown("started a child", "1")

def waiting(stage):
    leaving(stage)
    print("folder", stage.folder, tempfile.mkdtemp(), flush=True)
    time.sleep(600)

points = (good, table, bad, raising, missing, leaving, waiting)
sys.exit(run({"tiny": {point.__name__: point for point in points}}, sys.argv[3:]))
"""


class Run:
    """A run of tiny points in a process group of its own."""

    def __init__(self, folder: Path, only: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.ready = folder / "ready"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "TOKEN_LEDGER_VECTORS": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", POINTS, str(self.port), str(self.ready), *only],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, list[str]]:
        """Wait for the end and answer the exit status and the lines on standard output."""
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output.splitlines()

    def nothing_is_left(self) -> bool:
        """Say whether the port is free and no process mentions it."""
        with socket.socket() as port:
            port.bind(("127.0.0.1", self.port))
        return not any(str(self.port) in _command_line(process.pid) for process in processes())


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_each_point_is_one_line_and_one_that_falls_short_or_raises_makes_the_status_1(tmp_path: Path) -> None:
    status, lines = Run(tmp_path, ["tiny.bad", "tiny.raising", "tiny.missing", "tiny.good"]).end()
    assert status == 1
    assert [line.split("  ")[0].strip() for line in lines] == ["held", "fell short", "fell short", "fell short"]
    assert lines[0].startswith("held        tiny.good  added one and one: 2 (")
    assert "tiny.bad  added one and one: 3 (" in lines[1]
    assert "tiny.raising  ended early: ZeroDivisionError: one by none (" in lines[2]
    assert f"no/such.json is not in {tmp_path}: TOKEN_LEDGER_VECTORS names" in lines[3]


def test_the_lines_of_a_table_are_indented_below_the_line_of_their_point(tmp_path: Path) -> None:
    status, (line, *below) = Run(tmp_path, ["tiny.table"]).end()
    assert (status, below) == (0, ["    1 + 1  2", "    1 + 2  3"])
    assert line.startswith("held        tiny.table  added all: 2 sums (")


def test_the_status_is_0_when_all_held(tmp_path: Path) -> None:
    assert Run(tmp_path, ["tiny.good"]).end()[0] == 0


def test_a_point_or_set_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    assert Run(tmp_path, ["tiny.good", "tiny.better"]).end() == (2, [])


@with_proc
def test_a_point_that_leaves_processes_behind_fell_short_and_they_are_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, ["tiny.leaving"])
    status, (line,) = run.end()
    assert status == 1
    assert "started a child: 1; left running: " in line
    assert run.nothing_is_left()


@with_proc
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_no_port_and_no_file(tmp_path: Path, how: signal.Signals) -> None:
    run = Run(tmp_path, ["tiny.waiting"])
    assert run.process.stdout is not None
    _, folder, temporary = run.process.stdout.readline().split()
    assert Path(temporary).parent == Path(folder)
    # To the whole group, as a terminal does it; and once more while it cleans up.
    os.killpg(run.process.pid, how)
    time.sleep(0.3)
    os.killpg(run.process.pid, how)
    status, lines = run.end()
    assert (status, lines) == (INTERRUPTED, [])
    assert not Path(folder).exists()
    assert run.nothing_is_left()
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_only_names_sets_and_points_and_nothing_names_all() -> None:
    assert list(chosen(SETS, [])) == [f"{name}.{point}" for name, points in SETS.items() for point in points]
    assert list(chosen(SETS, ["runs"])) == [f"runs.{point}" for point in SETS["runs"]]
    assert list(chosen(SETS, ["runs.rotation"])) == ["runs.rotation"]
    with pytest.raises(UnknownPoint):
        chosen(SETS, ["run"])
