"""Writes through HTTP beside the same append called by pgbench in batches of the same mean size; one append alone beside one
INSERT; and how many appenders and how slow a flush bear.

An appender is a worker process's: so many appenders are so many workers.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

import psycopg
from psycopg.sql import SQL

from bench.commits import Commits
from bench.figures import Figure, Goal
from bench.ledger import STRATEGIES
from bench.load import THREADS, Measured, Request, run_load, write_requests
from bench.rounds import A_SECOND, Row, measure
from bench.running import DATABASE, Bench, running
from bench.stage import Section, Size, Stage
from ledger.states import Strategy
from ledger.token_strings import read

NAME: Final = "appends"
INSERT: Final = "plain INSERT and commit (pgbench)"
ALONE: Final = "the append alone, batches as of opaque issues (pgbench)"
APPENDER: Final = "the log alone: one appender"
ISSUE: Final = "issue, {}"
CREDENTIALS: Final = "issue, client_credentials, opaque"
ROTATION: Final = "rotation of a one-time token"
REVOCATION: Final = "revocation of an access token"
LONE_INSERT: Final = "one plain INSERT and commit (pgbench)"
LONE_CALL: Final = "one append, called by pgbench"
LONE: Final = "one append, by an appender"
LONE_ISSUE: Final = "one issue over HTTP"
SIDE_BY_SIDE: Final = (ISSUE.format("opaque"), ROTATION, REVOCATION)
BY_APPENDERS: Final = "{}, by appenders"
HALF_OF_THE_APPEND: Final = {64: Goal(least=0.5)}
FOUR_TIMES: Final = Goal(most=4.0)
APPENDERS: Final[dict[Size, tuple[int, ...]]] = {"small": (2,), "default": (1, 2, 8), "full": (1, 2, 8)}
AT_ONCE: Final[dict[Size, int]] = {"small": 8, "default": 32, "full": 32}
FLUSHES: Final = {"flushed as it is": 0, "flushed 2 ms slower": 2_000}
# When they are not enough the answers are wrong.
REVOCATIONS_A_SECOND: Final[dict[Size, int]] = {"small": 2_000, "default": 8_000, "full": 8_000}


def run(stage: Stage) -> Iterable[Figure]:
    """Measure on a ledger of its own."""
    with running(stage.folder, stage.workers) as bench:
        writes = _prepare(bench, stage.workers, stage.size)
        return [*measure(stage, NAME, _rows(writes)), *_lone(stage, writes), *_scaled(stage, writes)]


@dataclass(frozen=True, slots=True)
class _Writes:
    """What is written to a ledger that runs, through HTTP; `secret`: of the token that `commits` issues again and again."""

    bench: Bench
    commits: Commits
    secret: bytes
    revocations_a_second: int

    def issue(self, connections: int, seconds: int) -> Measured:
        """Issue opaque access tokens."""
        return self.send(self.bench.ledger.issue("opaque"))(connections, seconds)

    def rotate(self, connections: int, seconds: int) -> Measured:
        """Use one-time refresh tokens, each connection the one it was given last."""
        tokens = self.bench.ledger.refresh_tokens(connections + THREADS)
        file = write_requests(self.bench.folder / "rotation.requests", self.bench.url, self.bench.ledger.rotation(tokens))
        return run_load(self.bench.url, file, connections=connections, seconds=seconds, use="chain")

    def revoke(self, connections: int, seconds: int) -> Measured:
        """Revoke access tokens, each once."""
        token_ids = self.commits.tokens_to_revoke(self.revocations_a_second * seconds)
        requests = self.bench.ledger.revocation("opaque", [(token_id, self.secret) for token_id in token_ids])
        file = write_requests(self.bench.folder / "revocation.requests", self.bench.url, requests)
        before = self.commits.revocations()
        measured = run_load(self.bench.url, file, connections=connections, seconds=seconds, use="once")
        # The answer is the same where there was nothing to revoke: it counts as right when it is recorded.
        missing = max(0, measured.checked - (self.commits.revocations() - before))
        return replace(measured, wrong=measured.wrong + missing, example=measured.example or "a revocation was not recorded")

    def send(self, requests: Sequence[Request]) -> Callable[[int, int], Measured]:
        """Answer what sends these over and over."""
        file = write_requests(self.bench.folder / f"{uuid4()}.requests", self.bench.url, requests)
        return lambda connections, seconds: run_load(self.bench.url, file, connections=connections, seconds=seconds)


def _prepare(bench: Bench, appenders: int, size: Size) -> _Writes:
    known = bench.ledger.tokens("opaque", 10)
    commits = Commits(bench.server, DATABASE, bench.folder, appenders, size)
    secrets = dict(read("access", one.text) for one in known if one.standing != "unknown")
    return _Writes(bench, commits, secrets[commits.issued_token_id], REVOCATIONS_A_SECOND[size])


def _rows(writes: _Writes) -> list[Row]:
    """Answer the rows that are measured at every number of connections."""
    commits, ledger = writes.commits, writes.bench.ledger

    def issue(strategy: Strategy) -> Row:
        return Row(ISSUE.format(strategy), writes.send(ledger.issue(strategy)), (ALONE,))

    return [
        Row(INSERT, commits.insert),
        Row(APPENDER, commits.append, (INSERT,)),
        # Before the append alone, which takes the mean size of its batches.
        Row(ISSUE.format("opaque"), commits.counting_batches(writes.issue), (ALONE,), HALF_OF_THE_APPEND),
        Row(ALONE, commits.append_alone, (INSERT,)),
        *(issue(strategy) for strategy in STRATEGIES if strategy != "opaque"),
        Row(CREDENTIALS, writes.send(ledger.client_credentials()), (ALONE,)),
        Row(ROTATION, writes.rotate, (ALONE,)),
        Row(REVOCATION, writes.revoke, (ALONE,)),
    ]


# ------------------------------------------------------------------------------------------------------------- one alone


def _lone(stage: Stage, writes: _Writes) -> list[Figure]:
    """Measure the latency of one write after the other, over one connection: the mean, which is what pgbench tells."""
    ways: dict[str, Callable[[int, int], Measured]] = {
        LONE_INSERT: writes.commits.insert,
        LONE_CALL: writes.commits.append_one,
        LONE: writes.commits.append,
        LONE_ISSUE: writes.issue,
    }
    asked = [what for what in ways if stage.wants(NAME, what)]
    if not asked:
        return []
    figures = {what: Figure(NAME, what, "one at a time", "ms") for what in [LONE_INSERT, *asked]}
    for number in range(stage.rounds):
        stage.tell(f"round {number + 1} of {stage.rounds}, one at a time")
        for what, figure in figures.items():
            measured = ways[what](1, stage.seconds)
            _count(figure, measured)
            figure.rounds.append(1e3 / measured.per_second)
    for what in asked:
        if what != LONE_INSERT:
            figures[what].beside[LONE_INSERT] = figures[LONE_INSERT].rounds
    if LONE in figures:
        figures[LONE].goal = FOUR_TIMES
    return list(figures.values())


def _count(figure: Figure, measured: Measured) -> None:
    figure.checked += measured.checked
    figure.wrong += measured.wrong
    figure.failed += measured.failed
    figure.example = figure.example or measured.example


# ---------------------------------------------------------------------------------------------- appenders and the flush


def _scaled(stage: Stage, writes: _Writes) -> list[Figure]:
    """Measure issue, rotation and revocation by so many appenders, with the flush as it is and slower; by one and the flush as
    it is stands beside the others."""
    asked = [what for what in SIDE_BY_SIDE if stage.wants(NAME, BY_APPENDERS.format(what))]
    figures: list[Figure] = []
    for number in range(1 if stage.size == "default" else stage.rounds):
        for appenders in APPENDERS[stage.size] if asked else ():
            # Another server on the same ledger, with so many workers.
            with writes.bench.served.again(TOKEN_LEDGER_WORKERS=str(appenders)) as served:
                there = replace(writes, bench=replace(writes.bench, served=served))
                ways = dict(zip(SIDE_BY_SIDE, (there.issue, there.rotate, there.revoke), strict=True))
                for flush in FLUSHES:
                    stage.tell(f"round {number + 1}, {appenders} appenders, {flush}")
                    with _flushing(writes.bench.owner, FLUSHES[flush]):
                        for what in asked:
                            _add(figures, stage, what, f"{appenders} appenders, {flush}", ways[what])
                        if len(asked) == len(SIDE_BY_SIDE) and appenders == APPENDERS[stage.size][0]:
                            _add(figures, stage, INSERT, flush, writes.commits.insert)
    for figure in figures:
        first = next(other for other in figures if other.what == figure.what)
        if figure is not first:
            figure.beside[f"it by {first.at}"] = first.rounds
    return sorted(figures, key=lambda figure: [f.what for f in figures].index(figure.what))


def _add(figures: list[Figure], stage: Stage, what: str, circumstance: str, way: Callable[[int, int], Measured]) -> None:
    connections = AT_ONCE[stage.size]
    at = f"{circumstance}, {connections} connections"
    figure = next((f for f in figures if f.what == BY_APPENDERS.format(what) and f.at == at), None)
    if figure is None:
        figure = Figure(NAME, BY_APPENDERS.format(what), at, A_SECOND)
        figures.append(figure)
    measured = way(connections, stage.seconds)
    _count(figure, measured)
    figure.rounds.append(measured.per_second)


@contextmanager
def _flushing(owner: str, delay_us: int) -> Iterator[None]:
    """Let every flush of a commit wait so much longer: also where no other transaction is open (commit_siblings)."""
    with psycopg.connect(owner, autocommit=True) as connection:

        def delay(microseconds: int) -> None:
            connection.execute(SQL("ALTER SYSTEM SET commit_delay = {}").format(microseconds))
            connection.execute("ALTER SYSTEM SET commit_siblings = 0")
            connection.execute("SELECT pg_reload_conf()")
            time.sleep(0.2)  # until every process has heard of it

        delay(delay_us)
        try:
            yield
        finally:
            delay(0)


SECTION: Final = Section(
    NAME,
    (
        INSERT,
        APPENDER,
        ALONE,
        *(ISSUE.format(s) for s in STRATEGIES),
        CREDENTIALS,
        ROTATION,
        REVOCATION,
        LONE_INSERT,
        LONE_CALL,
        LONE,
        LONE_ISSUE,
        *(BY_APPENDERS.format(what) for what in (*SIDE_BY_SIDE, INSERT)),
    ),
    run,
    seconds={"small": 30, "default": 200, "full": 420},
    gigabytes={"small": 0.5, "default": 3, "full": 6},
)
