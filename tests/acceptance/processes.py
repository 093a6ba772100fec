"""The processes below this one, read from /proc; where there is none (macOS), none are seen.

Orphans of what we started become our children (Linux' "child subreaper"), so that whatever a point leaves behind is found.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_PATIENCE_SECONDS: Final = 2.0
_ESTABLISHED: Final = "01"


@dataclass(frozen=True, slots=True)
class Process:
    """A live process; `name` is its command, cut to 15 characters."""

    pid: int
    name: str
    parent: int
    group: int


def adopt_orphans() -> None:
    """Become the parent of every orphan among our descendants."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> list[Process]:
    """Answer every live process; one that ended and was not waited for is not alive."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name stands in parentheses and may hold any character.
            before, _, after = (folder / "stat").read_text(errors="replace").rpartition(")")
            state, parent, group, *_ = after.split()
            if state not in "ZX":
                found.append(Process(int(folder.name), before.partition("(")[2], int(parent), int(group)))
    return found


def children(pid: int) -> list[Process]:
    """Answer the live children of a process."""
    return [process for process in processes() if process.parent == pid]


def descendants() -> list[Process]:
    """Answer every live process below this one."""
    everyone = processes()
    found: list[Process] = []
    parents = {os.getpid()}
    while below := [p for p in everyone if p.parent in parents and p not in found]:
        found += below
        parents = {process.pid for process in below}
    return found


def end_descendants() -> list[Process]:
    """Give what is below us a moment to end, kill the rest, and answer who had to be killed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := descendants()) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed = left
    while left:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        _reap()
        time.sleep(0.02)
        left = descendants()
    _reap()
    return killed


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def connections(pid: int, port: int) -> int:
    """Answer how many TCP connections to `port` of this machine a process of ours has accepted."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
        if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{inode}]")
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held += str(descriptor.readlink()) in inodes
    return held
