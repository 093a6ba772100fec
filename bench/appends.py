"""Writes a second through HTTP, beside the same append called by pgbench in batches of the same mean size."""

from collections.abc import Iterable
from typing import Final

from bench.commits import Commits
from bench.figures import Figure
from bench.ledger import STRATEGIES
from bench.load import Measured, Request, run_load, write_requests
from bench.rounds import Row, measure
from bench.running import DATABASE, Bench, running
from bench.stage import Section, Stage

NAME: Final = "appends"
INSERT: Final = "plain INSERT and commit (pgbench)"
ALONE: Final = "the append alone, batches as of opaque issues (pgbench)"
APPENDER: Final = "the log alone: one appender"
ISSUE: Final = "issue, {}"
CREDENTIALS: Final = "issue, client_credentials, opaque"
ROTATION: Final = "rotation of a one-time token"


def run(stage: Stage) -> Iterable[Figure]:
    """Measure the rows on a ledger of its own."""
    with running(stage.folder, stage.workers) as bench:
        return measure(stage, NAME, _rows(bench))


def _rows(bench: Bench) -> list[Row]:
    ledger = bench.ledger
    ledger.tokens("opaque", 10)  # pgbench issues one of them again and again
    commits = Commits(bench.server, DATABASE, bench.folder)

    def row(what: str, requests: list[Request]) -> Row:
        file = write_requests(bench.folder / f"{what}.requests", bench.url, requests)
        return Row(what, lambda count, seconds: run_load(bench.url, file, connections=count, seconds=seconds), (ALONE,))

    def rotate(count: int, seconds: int) -> Measured:
        file = bench.folder / "rotation.requests"
        write_requests(file, bench.url, ledger.rotation(ledger.refresh_tokens(count)))
        return run_load(bench.url, file, connections=count, seconds=seconds, chain=True)

    opaque = row(ISSUE.format("opaque"), ledger.issue("opaque"))
    return [
        Row(INSERT, commits.insert),
        Row(APPENDER, commits.append, (INSERT,)),
        # Before the append alone, which takes the mean size of its batches.
        Row(opaque.what, commits.counting_batches(opaque.measure), (ALONE,)),
        Row(ALONE, commits.append_alone, (INSERT,)),
        *(row(ISSUE.format(s), ledger.issue(s)) for s in STRATEGIES if s != "opaque"),
        row(CREDENTIALS, ledger.client_credentials()),
        Row(ROTATION, rotate, (ALONE,)),
    ]


SECTION: Final = Section(
    NAME,
    (INSERT, APPENDER, ALONE, *(ISSUE.format(s) for s in STRATEGIES), CREDENTIALS, ROTATION),
    run,
    seconds={"small": 15, "default": 100, "full": 100},
    gigabytes={"small": 0.3, "default": 2, "full": 2},
)
