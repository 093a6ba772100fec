"""`make bench`: starts its own PostgreSQL and servers on free ports, measures, prints a table, leaves nothing behind.

Rounds: every row is measured once a round, its floor in the same round, so that what disturbs the machine disturbs both. A
figure is the median of the rounds, a ratio the median of each round's ratio. Exit status 1 when an answer was wrong or missing.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.commits import Commits
from bench.ledger import STRATEGIES, BenchLedger
from bench.load import Measured, NoLoader, Request, find_wrk, run_load, write_requests
from ledger.embedded import EmbeddedPostgres
from tests.serving import free_port, served, wait_until_answers

BARE: Final = "hello-world, the bare worker"
FALCON: Final = "hello-world, Falcon on it"
QUERY: Final = "the query of a decision alone (pgbench)"
INSERT: Final = "plain INSERT and commit (pgbench)"
APPEND: Final = "the append alone, batches as of opaque issues (pgbench)"
FLOORS: Final = (BARE, FALCON, QUERY, INSERT, APPEND)
DATABASE: Final = "token_ledger"
WIDTH: Final = 220


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured; `measure` takes connections and seconds. `beside`: its second floor, by its label."""

    label: str
    measure: Callable[[int, int], Measured]
    beside: str | None = None


@dataclass(slots=True)
class Figures:
    """The rounds of a row at a number of connections, and the floors' of the same rounds."""

    label: str
    connections: int
    beside: str | None
    rounds: list[Measured] = field(default_factory=list)
    of_bare: list[float] = field(default_factory=list)
    of_falcon: list[float] = field(default_factory=list)
    of_own: list[float] = field(default_factory=list)

    def answer(self) -> dict[str, object]:
        """Answer the figures as they are printed."""
        rates = [measured.per_second for measured in self.rounds]
        p99s = [measured.p99_ms for measured in self.rounds if measured.p99_ms is not None]
        return {
            "what": self.label,
            "connections": self.connections,
            "per_second": round(statistics.median(rates)),
            "lowest": round(min(rates)),
            "highest": round(max(rates)),
            "of_bare": round(statistics.median(self.of_bare), 3),
            "of_falcon": round(statistics.median(self.of_falcon), 3),
            "beside": self.beside,
            "of_own": round(statistics.median(self.of_own), 2) if self.beside else None,
            "median_ms": round(statistics.median(measured.median_ms for measured in self.rounds), 2),
            "p99_ms": round(statistics.median(p99s), 2) if p99s else None,
            "answers": sum(measured.checked for measured in self.rounds),
            "wrong": sum(measured.wrong for measured in self.rounds),
            "failed": sum(measured.failed for measured in self.rounds),
        }


@click.command()
@click.option("--connections", default="8,32,64", show_default=True, help="Connections at once, with commas.")
@click.option("--seconds", default=1, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Measurements of each row.")
@click.option("--workers", default=2, show_default=True, help="Worker processes of service and hello-world.")
@click.option("--tokens", default=2_000, show_default=True, help="Tokens of each strategy.")
@click.option("--only", default="", help="Only rows whose name this regular expression is found in; the floors always.")
@click.option("--json", "as_json", is_flag=True, help="One object a line instead of the table.")
def main(connections: str, seconds: int, rounds: int, workers: int, tokens: int, only: str, as_json: bool) -> None:
    """Measure decisions and issues per second beside their floors."""
    try:
        find_wrk()
    except NoLoader as missing:
        raise click.ClickException(str(missing)) from None
    counts = [int(count) for count in connections.split(",")]
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="token-ledger-bench-") as folder, running(Path(folder), workers) as bench:
        console.print(f"Issuing {tokens:,} tokens of each strategy ...")
        facts = machine(bench.server, workers, tokens)
        rows = [row for row in bench.rows(tokens) if row.label in FLOORS or re.search(only, row.label)]
        figures = measure(rows, counts, seconds, rounds, console)
    answers = [each.answer() for each in figures]
    if as_json:
        for answer in [facts, *answers]:
            click.echo(json.dumps(answer))
    else:
        output = Console() if sys.stdout.isatty() else Console(width=WIDTH)
        output.print(table(answers))
        output.print(" · ".join(f"{name} {value}" for name, value in facts.items()), highlight=False, soft_wrap=True)
        again = " ".join(["python -m bench", *sys.argv[1:]])
        output.print(f"{rounds} rounds of {seconds} s; again with: {again}", highlight=False, soft_wrap=True)
    bad = [measured for each in figures for measured in each.rounds if measured.wrong or measured.failed]
    if bad:
        raise click.ClickException("wrong or missing answers, such as: " + next((m.example for m in bad if m.example), "none"))


def measure(rows: list[Row], counts: list[int], seconds: int, rounds: int, console: Console) -> list[Figures]:
    """Measure every row at every number of connections, once a round."""
    figures = {(row.label, count): Figures(row.label, count, row.beside) for row in rows for count in counts}
    with Progress(console=console) as progress:
        task = progress.add_task("Measuring", total=len(figures) * rounds)
        for _ in range(rounds):
            for count in counts:
                rates: dict[str, float] = {}
                for row in rows:
                    measured = row.measure(count, seconds)
                    rates[row.label] = measured.per_second
                    figures[row.label, count].rounds.append(measured)
                    progress.advance(task)
                for row in rows:
                    each = figures[row.label, count]
                    each.of_bare.append(rates[row.label] / rates[BARE])
                    each.of_falcon.append(rates[row.label] / rates[FALCON])
                    if row.beside is not None:
                        each.of_own.append(rates[row.label] / rates[row.beside])
    return list(figures.values())


def table(answers: list[dict[str, object]]) -> Table:
    """Make the table of the answers of Figures."""
    made = Table(title="A second of Token Ledger")
    for name in (
        "what",
        "connections",
        "a second",
        "lowest-highest",
        "of bare",
        "of Falcon",
        "of its floor",
        "median ms",
        "p99 ms",
    ):
        made.add_column(name, justify="left" if name == "what" else "right", no_wrap=True)
    made.add_column("answers checked", justify="right", no_wrap=True)
    made.add_column("wrong", justify="right", no_wrap=True)
    label = None
    for answer in answers:
        if label not in (None, answer["what"]):
            made.add_section()
        made.add_row(
            "" if label == answer["what"] else str(answer["what"]),
            str(answer["connections"]),
            f"{answer['per_second']:,}",
            f"{answer['lowest']:,}-{answer['highest']:,}",
            f"{answer['of_bare']:.0%}",
            f"{answer['of_falcon']:.0%}",
            "" if answer["of_own"] is None else f"{answer['of_own']:.0%}",
            f"{answer['median_ms']:.2f}",
            "" if answer["p99_ms"] is None else f"{answer['p99_ms']:.1f}",
            f"{answer['answers']:,}",
            f"{answer['wrong']:,}" + (f" + {answer['failed']:,} failed" if answer["failed"] else ""),
        )
        label = answer["what"]
    return made


# ---------------------------------------------------------------------------------------------------- what is measured


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers that run."""

    folder: Path
    server: EmbeddedPostgres
    hello: str
    service: str
    ledger: BenchLedger

    def rows(self, tokens: int) -> list[Row]:
        """Set up what is asked about, and answer the rows; the floors come first."""
        ledger = self.ledger
        known = {strategy: ledger.tokens(strategy, tokens) for strategy in STRATEGIES}
        ledger.wait_for_expiry()
        commits = Commits(self.server, DATABASE, self.folder)
        hello = Request("GET", "/bare", {}, contains="world")
        falcon = Request("GET", "/hello", {}, contains="world")
        issue_opaque = self._row("issue, opaque", self.service, ledger.issue("opaque"))
        return [
            self._row(BARE, self.hello, [hello]),
            self._row(FALCON, self.hello, [falcon]),
            Row(QUERY, commits.query),
            *(self._row(f"decision, gateway, {s}", self.service, ledger.gateway(known[s]), QUERY) for s in STRATEGIES),
            self._row("decision, AuthZEN, opaque", self.service, ledger.evaluation(known["opaque"]), QUERY),
            self._row("introspection, opaque", self.service, ledger.introspection(known["opaque"]), QUERY),
            Row(INSERT, commits.insert),
            Row("the log alone: one appender", commits.append, INSERT),
            Row("issue, opaque", commits.counting_batches(issue_opaque.measure), APPEND),
            Row(APPEND, commits.append_alone, INSERT),
            *(self._row(f"issue, {s}", self.service, ledger.issue(s), APPEND) for s in STRATEGIES if s != "opaque"),
            self._row("issue, client_credentials, opaque", self.service, ledger.client_credentials(), APPEND),
            Row("rotation of a one-time token", self._rotate, APPEND),
        ]

    def _row(self, label: str, url: str, requests: list[Request], beside: str | None = None) -> Row:
        file = write_requests(self.folder / f"{label}.requests", url, requests)
        return Row(label, lambda count, seconds: run_load(url, file, connections=count, seconds=seconds), beside)

    def _rotate(self, count: int, seconds: int) -> Measured:
        file = self.folder / "rotation.requests"
        write_requests(file, self.service, self.ledger.rotation(self.ledger.refresh_tokens(count)))
        return run_load(self.service, file, connections=count, seconds=seconds, chain=True)


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Bench]:
    """Run PostgreSQL as the service does (flushed to disk), the service and hello-world."""
    with EmbeddedPostgres(folder / "data") as server:
        owner = server.conninfo("postgres", DATABASE)
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE token_ledger")
        service = server.conninfo("ledger_service", DATABASE)
        with (
            floor(workers) as hello,
            served(service, owner, workers=workers, log=folder / "service.log") as ledger,
            closing(BenchLedger(ledger.url, ledger.username, ledger.password)) as known,
        ):
            yield Bench(folder, server, hello, ledger.url, known)


@contextmanager
def floor(workers: int) -> Iterator[str]:
    """Serve hello-world; answer its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.floor", str(port), str(workers)])
    try:
        wait_until_answers(f"http://127.0.0.1:{port}/hello")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def machine(server: EmbeddedPostgres, workers: int, tokens: int) -> dict[str, object]:
    """Answer what the figures were measured on."""
    with psycopg.connect(server.conninfo("postgres", DATABASE)) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    return {
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "Python": platform.python_version(),
        "PostgreSQL": row[0].partition(" ")[0],
        "uvicorn": version("uvicorn"),
        "workers": workers,
        "tokens of each strategy": tokens,
        "of a hundred": "85 good, 5 revoked, 5 expired, 5 unknown",
    }


if __name__ == "__main__":
    main()
