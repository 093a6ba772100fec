"""The memory of a worker: at its start, and after many requests of all kinds. It must not grow."""

import itertools
import subprocess
from collections.abc import Iterable
from typing import Final

from bench.figures import Figure, Goal
from bench.ledger import STRATEGIES, BenchLedger
from bench.load import Measured, Request, run_load, write_requests
from bench.running import running
from bench.stage import Section, Size, Stage

NAME: Final = "memory"
START: Final = "a worker at its start"
WARM: Final = "a worker after the first tenth of the requests"
END: Final = "a worker after all requests"
REQUESTS: Final[dict[Size, int]] = {"small": 500, "default": 200_000, "full": 1_000_000}
TOKENS: Final[dict[Size, int]] = {"small": 40, "default": 2_000, "full": 2_000}  # of each strategy
CONNECTIONS: Final = 32
SECONDS: Final = 5  # between two looks
FLAT: Final = Goal(most=1.05)


def run(stage: Stage) -> Iterable[Figure]:
    """Send the mixture until it was so many requests, and look at the workers."""
    requests = REQUESTS[stage.size]
    seconds = SECONDS if stage.size != "small" else 1
    with running(stage.folder, stage.workers) as bench:
        start = _megabytes(bench.served.process.pid)
        file = write_requests(stage.folder / "mixed.requests", bench.url, _mixture(bench.ledger, TOKENS[stage.size]))
        runs: list[Measured] = []
        warm: list[float] = []
        while (sent := sum(run.checked for run in runs)) < requests:
            stage.tell(f"{sent:,} of {requests:,} requests")
            runs.append(run_load(bench.url, file, connections=CONNECTIONS, seconds=seconds))
            if not warm and sent + runs[-1].checked >= requests // 10:
                warm, warm_after = _megabytes(bench.served.process.pid), sent + runs[-1].checked
        sent = sum(run.checked for run in runs)
        end = _megabytes(bench.served.process.pid)
    grown = [after - before for before, after in zip(warm, end, strict=True)]
    return [
        Figure(NAME, START, "no request", "MB", start),
        Figure(NAME, WARM, f"{warm_after:,} requests", "MB", warm, {START: start}),
        Figure(
            NAME,
            END,
            f"{sent:,} requests",
            "MB",
            end,
            {WARM: warm, START: start},
            goal=FLAT,
            checked=sent,
            wrong=sum(run.wrong for run in runs),
            failed=sum(run.failed for run in runs),
            example=next((run.example for run in runs if run.example), ""),
            note=f"of each worker; grown by {min(grown):+.1f} to {max(grown):+.1f} MB since the first tenth",
        ),
    ]


def _mixture(ledger: BenchLedger, tokens: int) -> list[Request]:
    """Answer decisions of every kind and issues, one of each in turn."""
    known = {strategy: ledger.tokens(strategy, tokens) for strategy in STRATEGIES}
    ledger.wait_for_expiry()
    kinds = [
        *(ledger.gateway(known[strategy]) for strategy in STRATEGIES),
        ledger.evaluation(known["opaque"]),
        ledger.introspection(known["jwt"]),
        list(itertools.islice(itertools.cycle(ledger.issue("opaque")), tokens)),
        list(itertools.islice(itertools.cycle(ledger.issue("jwe")), tokens)),
    ]
    return [request for together in zip(*kinds, strict=True) for request in together]


def _megabytes(parent: int) -> list[float]:
    """Answer the resident memory of each worker, the children of the process that serves; in the order of their ids."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
    processes = sorted([int(number) for number in line.split()] for line in listed.splitlines())
    return [rss * 1024 / 1e6 for _, ppid, rss in processes if ppid == parent]


SECTION: Final = Section(
    NAME,
    (START, WARM, END),
    run,
    seconds={"small": 10, "default": 50, "full": 250},
    gigabytes={"small": 0.3, "default": 1, "full": 2},
)
