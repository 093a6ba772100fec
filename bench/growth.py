"""The same questions and the same write on a small ledger and on large ones, which run side by side and are asked in turns.

The tokens that are asked about lie all over the population, so that pages of indexes that nobody has read lately count.
"""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import psycopg
from psycopg.sql import SQL, Identifier

from bench.figures import Figure, Goal
from bench.filling import Filled, begin, issue
from bench.load import Request, run_load, write_requests
from bench.rounds import Row, at, measure, told_apart
from bench.running import Bench, serving
from bench.stage import Section, Size, Stage
from ledger.embedded import EmbeddedPostgres

NAME: Final = "growth"
GATEWAY: Final = "gateway, opaque"
LIVE: Final = "AuthZEN evaluation, opaque"
THEN: Final = "the same as of a moment ago"
EARLY: Final = "the same as of the first tokens"
ISSUE: Final = "issue, opaque"
FILLING: Final = "filling: issues and revocations, batches of 250"
# The smallest first: what stands beside the others.
TOKENS: Final[dict[Size, tuple[int, ...]]] = {
    "small": (500, 2_000),
    "default": (10_000, 1_000_000),
    "full": (10_000, 1_000_000, 10_000_000),
}
ASKED: Final = 10_000  # distinct tokens, where there are so many
CONNECTIONS: Final = 32
TABLES: Final = """
SELECT t.schemaname, t.tablename FROM pg_tables t WHERE t.schemaname IN ('ledger', 'views') AND t.tablename NOT LIKE 'events%'
ORDER BY t.schemaname, t.tablename
"""
# Within 1.3 times, as a rate.
FLAT: Final = Goal(least=1 / 1.3)


def run(stage: Stage) -> Iterable[Figure]:
    """Fill the ledgers, then measure all of them once a round."""
    sizes = TOKENS[stage.size]
    rows: list[Row] = []
    with EmbeddedPostgres(stage.folder / "data") as server, ExitStack() as services:
        # So that it begins in the middle of no measurement; what it does is done before them.
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum TO off")
            connection.execute("SELECT pg_reload_conf()")
        filling: list[Figure] = []
        for tokens in sizes:
            bench = services.enter_context(serving(server, f"with_{tokens}", stage.folder, stage.workers))
            filled, early, filled_in = _fill(stage, bench, tokens, sizes[0])
            filling.append(filled_in)
            rows += _rows(bench, filled, early, sizes[0])
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        # One question after the other, each of every ledger in turn: their weather is the same.
        kinds = len(rows) // len(sizes)
        rows = [row for kind in range(kinds) for row in rows[kind::kinds]]
        figures = measure(replace(stage, connections=(CONNECTIONS,)), NAME, rows)
    return [*filling, *told_apart(figures)]


def _fill(stage: Stage, bench: Bench, tokens: int, first: int) -> tuple[Filled, int, Figure]:
    """Answer what was issued, the position of the first tokens, and how fast it went."""
    bench.ledger.tokens("opaque", 10)  # the last one is what all others are like
    filled = begin(bench.owner, tokens, bench.ledger.role_id)

    def tell(done: int, beyond: int) -> None:
        if (beyond + done) % 100_000 == 0:
            stage.tell(f"filling: {beyond + done:,} of {tokens:,} tokens")

    began = time.monotonic()
    issue(bench.owner, 0, first, lambda done: tell(done, 0))
    early = bench.position()
    issue(bench.owner, first, tokens, lambda done: tell(done, first))
    seconds = time.monotonic() - began
    _tidy(bench)
    size = bench.database_bytes()
    note = f"{size:,} bytes, {size / tokens:,.0f} a token"
    figure = Figure(NAME, FILLING, f"{tokens:,} tokens", "tokens a second", [tokens / seconds], note=note)
    return filled, early, figure


def _tidy(bench: Bench) -> None:
    """Do what autovacuum does in its own time, but for the events, which no decision and no append reads."""
    with psycopg.connect(bench.owner, autocommit=True) as connection:
        tables = connection.execute(TABLES).fetchall()
        for schema, table in tables:
            connection.execute(SQL("VACUUM (ANALYZE) {}").format(Identifier(schema, table)))


def _rows(bench: Bench, filled: Filled, early: int, first: int) -> list[Row]:
    tokens, ledger = filled.tokens, bench.ledger
    count = min(ASKED, tokens)
    known, of_first = filled.some(count), filled.some(min(ASKED, first), of_first=first)

    def row(what: str, requests: list[Request], *beside: str) -> Row:
        name, smallest = at(what, f"{tokens:,} tokens"), at(what, f"{first:,} tokens")
        file = write_requests(bench.folder / f"{name}.requests", bench.url, requests)
        return Row(
            name,
            lambda connections, seconds: run_load(bench.url, file, connections=connections, seconds=seconds),
            (*(() if tokens == first else (smallest,)), *(at(other, f"{tokens:,} tokens") for other in beside)),
            {} if tokens == first else {CONNECTIONS: FLAT},
        )

    return [
        row(GATEWAY, ledger.gateway(known)),
        row(LIVE, ledger.evaluation(known)),
        row(THEN, ledger.evaluation(known, bench.position()), LIVE),
        row(EARLY, ledger.evaluation(of_first, early)),
        row(ISSUE, ledger.issue("opaque")),
    ]


SECTION: Final = Section(
    NAME,
    (FILLING, GATEWAY, LIVE, THEN, EARLY, ISSUE),
    run,
    seconds={"small": 15, "default": 170, "full": 1_000},
    gigabytes={"small": 0.5, "default": 6, "full": 40},
)
