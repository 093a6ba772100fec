"""Load by wrk, which is cheap enough to run beside what it measures; every answer is compared with what it must be."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SCRIPT: Final = Path(__file__).with_name("load.lua")
THREADS: Final = 2


class NoLoader(Exception):
    """wrk is not installed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and what its answer must be: the status, the header `Ledger-Reason`, a part of the body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str = ""
    status: int = 200
    reason: str = ""
    contains: str = ""

    def written(self, number: int, host: str) -> bytes:
        """Answer it as load.lua reads it."""
        headers = {"Host": host, "X-Request-Id": str(number), **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body.encode()))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sent = f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n{self.body}".encode()
        return f"{self.status}\t{self.reason}\t{self.contains}\t{len(sent)}\n".encode() + sent


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Latencies in milliseconds (pgbench gives a mean for the median, and no percentile); `wrong`: answers other than
    they must be; `failed`: requests without an answer."""

    per_second: float
    median_ms: float
    p99_ms: float | None
    checked: int
    wrong: int
    failed: int
    example: str


def find_wrk() -> str:
    """Answer where wrk is; NoLoader saying how to get it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NoLoader("the bench needs wrk: apt install wrk, or brew install wrk")
    return wrk


def write_requests(file: Path, url: str, requests: Sequence[Request]) -> Path:
    """Write the requests for `run_load`."""
    host = url.partition("://")[2]
    file.write_bytes(b"".join(request.written(number, host) for number, request in enumerate(requests, start=1)))
    return file


def run_load(
    url: str, requests: Path, *, connections: int, seconds: int, use: Literal["again", "chain", "once"] = "again"
) -> Measured:
    """Send the requests for `seconds`, as many at once as there are connections.

    Over and over; or in chains, THREADS more than there are connections; or each once.
    """
    threads = min(THREADS, connections)
    arguments = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), url]
    ended = subprocess.run(
        [find_wrk(), *arguments, "--", str(requests), *([] if use == "again" else [str(threads), use])],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    results = [line for line in ended.stdout.splitlines() if line.startswith("RESULT\t")]
    if ended.returncode != 0 or len(results) != 1:
        raise RuntimeError(f"wrk ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    _, answers, duration, median, p99, failed, checked, wrong, example = results[0].split("\t")
    return Measured(
        per_second=int(answers) * 1e6 / int(duration),
        median_ms=int(median) / 1e3,
        p99_ms=int(p99) / 1e3,
        checked=int(checked),
        wrong=int(wrong),
        failed=int(failed),
        example=example,
    )
