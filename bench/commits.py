"""The floors under every write: commits by pgbench on the same server with the same durability, and our log alone.

Neither has HTTP in it; the first has no Python either.
"""

import asyncio
import re
import statistics
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from bench.load import Measured
from ledger.appender import Appender
from ledger.database import service_conninfo
from ledger.decisions import SEMANTICS
from ledger.embedded import EmbeddedPostgres
from ledger.events import TokenIssued, read_event
from ledger.identifiers import uuid7
from ledger.log import Actor, Command, Envelope

# A row as large as the event of an issue, one a transaction, to a table with one index.
PREPARE: Final = """
CREATE TABLE bench_event AS
  SELECT e.payload, e.metadata FROM ledger.events e WHERE e.type = 'token_issued' ORDER BY e.position DESC LIMIT 1;
CREATE TABLE bench_floor (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream uuid, payload jsonb, metadata jsonb);
"""
INSERT: Final = """
INSERT INTO bench_floor (stream, payload, metadata) SELECT gen_random_uuid(), b.payload, b.metadata FROM bench_event b;
"""
AN_ISSUE: Final = "SELECT e.payload::text FROM ledger.events e WHERE e.type = 'token_issued' ORDER BY e.position DESC LIMIT 1"


class Commits:
    """Writes without HTTP, to a database that holds a ledger with a token in it."""

    def __init__(self, server: EmbeddedPostgres, database: str, folder: Path) -> None:
        self._pgbench = server.bin_folder / "pgbench"
        self._owner = server.conninfo("postgres", database)
        self._service = service_conninfo(
            server.conninfo("ledger_service", database), statement_timeout_seconds=30, application_name="token-ledger bench"
        )
        self._script = folder / "insert.sql"
        self._script.write_text(INSERT)
        with psycopg.connect(self._owner, autocommit=True) as connection:
            connection.execute(PREPARE)
            row = connection.execute(AN_ISSUE).fetchone()
        assert row is not None
        issued = read_event(TokenIssued.TYPE, row[0])
        assert isinstance(issued, TokenIssued)
        self._issued = issued

    def insert(self, connections: int, seconds: int) -> Measured:
        """Insert one row a transaction, by pgbench."""
        options = ["--no-vacuum", "--protocol=prepared", f"--client={connections}", "--jobs=2", f"--time={seconds}"]
        ended = subprocess.run(
            [self._pgbench, *options, f"--file={self._script}", self._owner],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
        if ended.returncode != 0:
            raise RuntimeError(f"pgbench ended with {ended.returncode}: {ended.stderr}")

        def number(pattern: str) -> float:
            found = re.search(pattern, ended.stdout)
            if found is None:
                raise RuntimeError(f"pgbench says nothing of {pattern}: {ended.stdout}")
            return float(found[1])

        return Measured(
            per_second=number(r"tps = ([\d.]+)"),
            median_ms=number(r"latency average = ([\d.]+) ms"),
            p99_ms=None,
            checked=int(number(r"actually processed: (\d+)")),
            wrong=0,
            failed=int(number(r"failed transactions: (\d+)")),
            example="",
        )

    def append(self, at_once: int, seconds: int) -> Measured:
        """Record issues through one appender, as many waiting at once as there would be connections."""
        return asyncio.run(self._append(at_once, seconds))

    async def _append(self, at_once: int, seconds: int) -> Measured:
        appender = Appender(self._service)
        await appender.start()
        took: list[float] = []
        wrong = 0
        began = time.perf_counter()

        async def one_after_another() -> None:
            nonlocal wrong
            while time.perf_counter() < began + seconds:
                sent = time.perf_counter()
                outcome = await appender.append(self._issue_again())
                took.append(time.perf_counter() - sent)
                wrong += outcome.outcome != "recorded"

        await asyncio.gather(*(one_after_another() for _ in range(at_once)))
        ended = time.perf_counter()
        await appender.stop()
        return Measured(
            per_second=len(took) / (ended - began),
            median_ms=statistics.median(took) * 1e3,
            p99_ms=statistics.quantiles(took, n=100, method="inclusive")[-1] * 1e3,
            checked=len(took),
            wrong=wrong,
            failed=0,
            example="an issue under new ids was not recorded" if wrong else "",
        )

    def _issue_again(self) -> Command:
        """Make the command of an issue, under new ids."""
        now = datetime.now(UTC)
        family_id, request_id = uuid7(now), uuid7(now)
        assert self._issued.family is not None
        tokens = tuple(replace(token, token_id=uuid7(now), family_id=family_id) for token in self._issued.tokens)
        family = replace(self._issued.family, family_id=family_id, access_token_id=tokens[0].token_id)
        event = replace(self._issued, family_id=family_id, tokens=tokens, family=family)
        return Command(Envelope(uuid7(now), request_id, request_id, Actor.SYSTEM, SEMANTICS), {family_id: 0}, [event])
