"""Runs points one after the other: a folder for each, a bar on standard error, a line on standard output (and a table indented
below it, where a point has one), nothing left behind.

A point that raises fell short, and the next still runs. Ctrl-C (or SIGTERM) ends the run through the points' own clean-up; a
second one does not cut that short. What a point leaves running is killed, and it fell short by that.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.acceptance.points import FellShort, Point, Shown, Stage
from tests.acceptance.processes import adopt_orphans, end_descendants

Sets = Mapping[str, Mapping[str, Point]]

ROOT: Final = Path(__file__).resolve().parents[2]
INTERRUPTED: Final = 130  # as a shell says it: 128 and the number of SIGINT


class UnknownPoint(Exception):
    """There is no such set or point."""


def chosen(sets: Sets, only: Sequence[str]) -> dict[str, Point]:
    """Answer the points that `only` names (`runs`, `runs.load`), in the order of the sets; all when it names none."""
    points = {f"{name}.{point}": run for name, group in sets.items() for point, run in group.items()}
    for wanted in only:
        if wanted not in points and wanted not in sets:
            raise UnknownPoint(f"there is no {wanted}; there are {', '.join([*sets, *points])}")
    return {name: run for name, run in points.items() if not only or name in only or name.partition(".")[0] in only}


def run(sets: Sets, only: Sequence[str]) -> int:
    """Run the points that `only` names and answer the exit status: 1 when any fell short."""
    try:
        points = chosen(sets, only)
    except UnknownPoint as unknown:
        print(unknown, file=sys.stderr)
        return 2
    adopt_orphans()
    _stop_once()
    fell_short = 0
    for name, point in points.items():
        began = time.monotonic()
        try:
            shown = _run(name, point)
        except KeyboardInterrupt as stopped:
            end_descendants()
            print(f"stopped in {name} by {stopped}", file=sys.stderr)
            return INTERRUPTED
        fell_short += not shown.held
        verdict = "held" if shown.held else "fell short"
        print(f"{verdict:<10}  {name}  {shown.done}: {shown.figure} ({time.monotonic() - began:.0f} s)", flush=True)
        for line in shown.lines:
            print(f"    {line}", flush=True)
    return 1 if fell_short else 0


def _run(name: str, point: Point) -> Shown:
    with _stage(name) as stage:
        try:
            shown = point(stage)
        except Exception as error:
            kind = "" if isinstance(error, FellShort) else f"{type(error).__name__}: "
            shown = Shown("ended early", f"{kind}{' '.join(str(error).split())}", held=False)
        left = end_descendants()
    if left:
        names = ", ".join(f"{process.name} ({process.pid})" for process in left)
        return replace(shown, figure=f"{shown.figure}; left running: {names}", held=False)
    return shown


@contextmanager
def _stage(name: str) -> Iterator[Stage]:
    """Give a point its folder and its bar; both are gone afterwards."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bars.add_task(name, total=None)

    def progress(what: str, done: int, total: int | None) -> None:
        bars.update(task, description=f"{name}: {what}", completed=done, total=total)

    # Readable by others: PostgreSQL, started by root, runs as somebody else, and may have to find its programs in here.
    with tempfile.TemporaryDirectory(prefix="token-ledger-acceptance-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        with _temporary_files_in(folder), bars:
            yield Stage(
                folder=folder,
                vectors=Path(os.environ.get("TOKEN_LEDGER_VECTORS") or ROOT.parent / "shared").resolve(),
                scale=float(os.environ.get("TOKEN_LEDGER_ACCEPTANCE_SCALE") or 1),
                progress=progress,
            )


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _stop_once() -> None:
    """Make the first SIGINT or SIGTERM a KeyboardInterrupt, and let nothing disturb the clean-up that follows."""

    def stop(number: int, _frame: FrameType | None) -> None:
        # Not SIG_IGN: what is started from now on would inherit it.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
