"""Decisions at the gateway with few rules and with many, with one API and with many: ledgers side by side, asked in turns.

The rules are those of a REST API as they come: ten for each kind of thing, with parameters, `{sub}`, parts of segments, the
rest of a path, and a deny among the allows. The questions go to all of the things.
"""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from bench.figures import Figure, Goal
from bench.ledger import Asking, Known
from bench.load import Request, run_load, write_requests
from bench.rounds import Row, at, measure, told_apart
from bench.running import Bench, serving
from bench.stage import Section, Size, Stage
from ledger.embedded import EmbeddedPostgres

NAME: Final = "paths"
GATEWAY: Final = "gateway, opaque"
START: Final = "a server's start, to its first decision"


@dataclass(frozen=True, slots=True)
class World:
    """So many rules in the role that is asked about, so many APIs of ten rules, that one among them."""

    rules: int
    apis: int

    def __str__(self) -> str:
        return f"{self.rules:,} rules a role, {self.apis:,} API{'s' if self.apis > 1 else ''}"


# The smallest first: what stands beside the others.
WORLDS: Final[dict[Size, tuple[World, ...]]] = {
    "small": (World(10, 1), World(100, 1), World(10, 5)),
    "default": (World(10, 1), World(1_000, 1), World(10_000, 1), World(10, 1_000)),
    "full": (World(10, 1), World(1_000, 1), World(10_000, 1), World(10, 1_000)),
}
TOKENS: Final[dict[Size, int]] = {"small": 100, "default": 2_000, "full": 10_000}
CONNECTIONS: Final = 32
FLAT: Final = Goal(least=1 / 1.3)


def rules(count: int) -> list[str]:
    """Answer the rules of a role; ten belong together."""
    return [rule for thing in range((count + 9) // 10) for rule in _rules(f"thing-{thing}")][:count]


def _rules(thing: str) -> Iterator[str]:
    yield f"allow GET /{thing}"
    yield f"allow GET /{thing}/{{id}}"
    yield f"allow PUT,DELETE /{thing}/{{id}}"
    yield f"deny GET /{thing}/secret"
    yield f"allow GET,POST /{thing}/{{id}}/notes"
    yield f"allow GET /{thing}/{{id}}/notes/{{note}}"
    yield f"allow GET,POST /{thing}/{{id}}/files/**"
    yield f"allow GET /{thing}/{{base}}...{{head}}/changes"
    yield f"allow GET /people/{{sub}}/{thing}"
    yield f"allow GET /{{tenant}}/{thing}/{{id}}"


def asking(things: int) -> Asking:
    """Answer what is asked about so many kinds of things."""

    def ask(number: int) -> tuple[str, str]:
        thing = f"thing-{number // 8 % things}"
        paths = (
            (f"/{thing}", "allowed"),
            (f"/{thing}/{number}", "allowed"),
            (f"/{thing}/secret", "denied_by_rule"),
            (f"/{thing}/{number}/notes/{number}", "allowed"),
            (f"/{thing}/{number}/files/2026/november/{number}.pdf", "allowed"),
            (f"/{thing}/v{number}...v{number + 1}/changes", "allowed"),
            (f"/berlin/{thing}/{number}", "allowed"),
            (f"/{thing}/{number}/elsewhere", "no_rule"),
        )
        return paths[number % len(paths)]

    return ask


def run(stage: Stage) -> Iterable[Figure]:
    """Set the ledgers up, then measure all of them once a round."""
    worlds = WORLDS[stage.size]
    with EmbeddedPostgres(stage.folder / "data") as server, ExitStack() as services:
        benches: list[Bench] = []
        for number, world in enumerate(worlds):
            stage.tell(f"registering {world.rules:,} rules, {world.apis:,} APIs")
            bench = serving(server, f"world_{number}", stage.folder, stage.workers, rules=rules(world.rules))
            benches.append(services.enter_context(bench))
            benches[-1].ledger.more_apis(world.apis - 1, rules(10))
        known = [bench.ledger.tokens("opaque", TOKENS[stage.size]) for bench in benches]
        benches[-1].ledger.wait_for_expiry()
        asked = [_requests(*each) for each in zip(worlds, benches, known, strict=True)]
        rows = [_row(*each) for each in zip(worlds, benches, asked, strict=True)]
        figures = told_apart(measure(replace(stage, connections=(CONNECTIONS,)), NAME, rows))
        if stage.wants(NAME, START):
            figures += _starts(stage, worlds, benches, [requests[0] for requests in asked])
    return figures


def _requests(world: World, bench: Bench, known: Sequence[Known]) -> list[Request]:
    asked = bench.ledger.gateway(known, asking((world.rules + 9) // 10))
    random.Random(1).shuffle(asked)
    return asked


def _row(world: World, bench: Bench, requests: Sequence[Request]) -> Row:
    name, smallest = at(GATEWAY, str(world)), at(GATEWAY, str(World(10, 1)))
    file = write_requests(bench.folder / f"{bench.database}.requests", bench.url, requests)
    return Row(
        name,
        lambda connections, seconds: run_load(bench.url, file, connections=connections, seconds=seconds),
        (smallest,) if name != smallest else (),
        {CONNECTIONS: FLAT} if name != smallest else {},
    )


def _starts(stage: Stage, worlds: Sequence[World], benches: Sequence[Bench], requests: Sequence[Request]) -> list[Figure]:
    """Measure how long a start takes: a worker reads and compiles all rules before it is ready."""
    figures = [Figure(NAME, START, str(world), "ms") for world in worlds]
    for number in range(stage.rounds):
        stage.tell(f"starts, round {number + 1} of {stage.rounds}")
        for figure, bench, request in zip(figures, benches, requests, strict=True):
            figure.rounds.append(_start(bench, request))
            figure.checked += 1
    for figure in figures[1:]:
        figure.beside[f"it at {worlds[0]}"] = figures[0].rounds
    return figures


def _start(bench: Bench, request: Request) -> float:
    """Start another server of one worker, and answer how many milliseconds it took to the first decision."""
    began = time.perf_counter()
    with bench.served.again(TOKEN_LEDGER_WORKERS="1") as served, served.client() as http:
        answered = http.request(request.method, request.path, headers=dict(request.headers))
        took = (time.perf_counter() - began) * 1e3
    if answered.status_code != request.status or answered.headers["Ledger-Reason"] != request.reason:
        raise RuntimeError(f"a first decision answered {answered.status_code} {answered.headers}")
    return took


SECTION: Final = Section(
    NAME,
    (GATEWAY, START),
    run,
    seconds={"small": 12, "default": 60, "full": 90},
    gigabytes={"small": 0.5, "default": 1, "full": 1},
)
