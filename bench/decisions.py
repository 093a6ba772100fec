"""Decisions a second, the four strategies side by side, beside hello-world and beside the query alone."""

from collections.abc import Iterable
from typing import Final

from bench.commits import Commits
from bench.figures import Figure, Goal
from bench.ledger import STRATEGIES
from bench.load import Request, run_load, write_requests
from bench.rounds import Row, measure
from bench.running import DATABASE, Bench, floor, running
from bench.stage import Section, Size, Stage
from ledger.states import Strategy

NAME: Final = "decisions"
BARE: Final = "hello-world, the bare worker"
FALCON: Final = "hello-world, Falcon on it"
QUERY: Final = "the query of a decision alone (pgbench)"
GATEWAY: Final = "gateway, {}"
EVALUATION: Final = "AuthZEN evaluation, opaque"
INTROSPECTION: Final = "introspection, opaque"

# Distinct tokens that are asked about: opaque ones, and of each other strategy.
TOKENS: Final[dict[Size, tuple[int, int]]] = {"small": (200, 40), "default": (10_000, 4_000), "full": (10_000, 10_000)}
# Of Falcon's hello-world on the same workers; the goals of this project, which are about opaque tokens.
GATEWAY_GOALS: Final = {32: Goal(least=0.35), 64: Goal(least=0.45)}
JSON_GOALS: Final = {32: Goal(least=0.28)}
P99_GOAL: Final = Goal(most=3)


def run(stage: Stage) -> Iterable[Figure]:
    """Issue the tokens, wait until those that are to be expired are, measure."""
    with running(stage.folder, stage.workers) as bench, floor(stage.workers) as hello:
        figures = measure(stage, NAME, _rows(stage, bench, hello))
        opaque, others = TOKENS[stage.size]
        size = f"a database of {bench.database_bytes():,} bytes"
        figures[0].note = f"{opaque:,} distinct opaque tokens, {others:,} of each other strategy, {size}"
    return figures


def _rows(stage: Stage, bench: Bench, hello: str) -> list[Row]:
    ledger = bench.ledger
    wanted = [s for s in STRATEGIES if stage.wants(NAME, GATEWAY.format(s))]
    if "opaque" not in wanted:
        wanted.append("opaque")
    known = {}
    for strategy in wanted:
        count = TOKENS[stage.size][strategy != "opaque"]
        stage.tell(f"issuing {count:,} tokens, {strategy}")
        known[strategy] = ledger.tokens(strategy, count)
    ledger.wait_for_expiry()
    commits = Commits(bench.server, DATABASE, bench.folder)

    def row(
        what: str,
        url: str,
        requests: list[Request],
        *beside: str,
        goals: dict[int, Goal] | None = None,
        p99_goal: Goal | None = None,
    ) -> Row:
        file = write_requests(bench.folder / f"{what}.requests", url, requests)
        return Row(
            what,
            lambda count, seconds: run_load(url, file, connections=count, seconds=seconds),
            beside,
            goals or {},
            p99_goal,
        )

    def gateway(strategy: Strategy) -> Row:
        requests = ledger.gateway(known[strategy])
        if strategy != "opaque":
            return row(GATEWAY.format(strategy), bench.url, requests, *floors)
        return row(GATEWAY.format(strategy), bench.url, requests, *floors, goals=GATEWAY_GOALS, p99_goal=P99_GOAL)

    floors = (FALCON, BARE, QUERY)
    return [
        row(BARE, hello, [Request("GET", "/bare", {}, contains="world")]),
        row(FALCON, hello, [Request("GET", "/hello", {}, contains="world")], BARE),
        Row(QUERY, commits.query),
        *(gateway(s) for s in wanted),
        row(EVALUATION, bench.url, ledger.evaluation(known["opaque"]), *floors, goals=JSON_GOALS),
        row(INTROSPECTION, bench.url, ledger.introspection(known["opaque"]), *floors, goals=JSON_GOALS),
    ]


SECTION: Final = Section(
    NAME,
    (BARE, FALCON, QUERY, *(GATEWAY.format(s) for s in STRATEGIES), EVALUATION, INTROSPECTION),
    run,
    seconds={"small": 20, "default": 150, "full": 200},
    gigabytes={"small": 0.3, "default": 1, "full": 1},
)
