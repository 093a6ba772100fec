"""The floors beneath HTTP: what pgbench does on the same server with the same durability, and our appender alone.

pgbench has no Python in it: the query of a decision, one row inserted a commit, and our append called in batches.
"""

import asyncio
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg

from bench.load import Measured
from bench.stage import Size
from ledger.appender import Appender
from ledger.database import service_conninfo
from ledger.decisions import SEMANTICS
from ledger.embedded import EmbeddedPostgres
from ledger.events import TokenIssued, read_event
from ledger.identifiers import uuid7
from ledger.log import Actor, Command, Envelope
from projections.lookup import LOOKUP

# A row as large as the event of an issue, one a transaction, to a table with one index.
PREPARE: Final = """
CREATE TABLE bench_event AS
  SELECT e.payload, e.metadata FROM ledger.events e WHERE e.type = 'token_issued' ORDER BY e.position DESC LIMIT 1;
CREATE TABLE bench_floor (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream uuid, payload jsonb, metadata jsonb);
"""
INSERT: Final = """
INSERT INTO bench_floor (stream, payload, metadata) SELECT gen_random_uuid(), b.payload, b.metadata FROM bench_event b;
"""
# One token a query, each time another: what decisions would cost if none shared a query.
LOOKUPS: Final = """
\\set n random(1, {tokens})
{lookup};
"""
# Issues as they were recorded, under new ids, having read what an issue reads: made up beforehand, so that nothing is measured
# but their recording. Each batch is used once.
APPENDING: Final = """
CREATE TABLE bench_tokens AS
  SELECT row_number() OVER (ORDER BY t.position, t.token_id) AS n, t.token_id FROM views.tokens t LIMIT 10000;
ALTER TABLE bench_tokens ADD PRIMARY KEY (n);
CREATE TABLE bench_reads AS
  SELECT s.stream, s.version FROM bench_event e CROSS JOIN LATERAL jsonb_array_elements(e.payload -> 'tokens') AS t(token)
    JOIN ledger.streams s ON s.stream::text IN (e.payload ->> 'subject_id', e.payload ->> 'client_id')
      OR t.token -> 'api_ids' ? s.stream::text;
CREATE UNLOGGED TABLE bench_batches (n bigint PRIMARY KEY, command_ids uuid[], metadata jsonb[],
  read_of integer[], read_streams uuid[], read_versions integer[],
  event_of integer[], event_streams uuid[], event_types text[], event_shapes smallint[], event_payloads jsonb[]);
ALTER TABLE bench_batches ALTER metadata SET STORAGE EXTERNAL, ALTER event_payloads SET STORAGE EXTERNAL;
CREATE SEQUENCE bench_next;
GRANT SELECT ON bench_tokens, bench_batches TO ledger_service;
GRANT USAGE ON bench_next TO ledger_service;
CREATE FUNCTION bench_make_batches(p_batches integer, p_commands integer) RETURNS void LANGUAGE sql AS $$
  TRUNCATE bench_batches;
  SELECT setval('bench_next', 1, false);
  WITH issue AS MATERIALIZED (
      SELECT b.n, o.o, gen_random_uuid() AS command_id, gen_random_uuid() AS family_id, gen_random_uuid() AS token_id,
          e.payload, e.metadata
        FROM generate_series(1, p_batches) AS b(n) CROSS JOIN generate_series(1, p_commands) AS o(o) CROSS JOIN bench_event e),
    event AS (
      SELECT i.n, i.o, i.command_id, i.family_id, i.metadata || jsonb_build_object('command_id', i.command_id) AS metadata,
          replace(replace(i.payload::text, i.payload ->> 'family_id', i.family_id::text),
            i.payload -> 'tokens' -> 0 ->> 'token_id', i.token_id::text)::jsonb AS payload
        FROM issue i),
    read AS (
      SELECT array_agg(o.o) AS read_of, array_agg(r.stream) AS streams, array_agg(r.version) AS versions
        FROM generate_series(1, p_commands) AS o(o) CROSS JOIN bench_reads r)
  INSERT INTO bench_batches
    SELECT e.n, array_agg(e.command_id ORDER BY e.o), array_agg(e.metadata ORDER BY e.o),
        array_agg(e.o ORDER BY e.o) || r.read_of, array_agg(e.family_id ORDER BY e.o) || r.streams,
        array_agg(0 ORDER BY e.o) || r.versions, array_agg(e.o ORDER BY e.o), array_agg(e.family_id ORDER BY e.o),
        array_agg('token_issued'::text ORDER BY e.o), array_agg(1::smallint ORDER BY e.o), array_agg(e.payload ORDER BY e.o)
      FROM event e CROSS JOIN read r GROUP BY e.n, r.read_of, r.streams, r.versions
$$;
"""
# Divides by zero, and so ends pgbench, when there are no batches left or one was not recorded.
APPEND: Final = """
SELECT 1 / count(*) FROM bench_batches b
  CROSS JOIN LATERAL ledger.append(b.command_ids, b.metadata, b.read_of, b.read_streams, b.read_versions,
    b.event_of, b.event_streams, b.event_types, b.event_shapes, b.event_payloads) AS a
  WHERE b.n = (SELECT nextval('bench_next')) AND a.outcome = 'recorded';
"""
# Commands that are made up for a second; when that is not enough pgbench ends, and so does the bench.
MOST_A_SECOND: Final[dict[Size, int]] = {"small": 12_000, "default": 40_000, "full": 40_000}
FILLING_BATCH: Final = 250
NEW_TOKENS: Final = """
SELECT t.token_id FROM views.tokens t WHERE t.position > (SELECT max(b.last_position) - %s FROM ledger.batches b)
ORDER BY t.position DESC, t.token_id LIMIT %s
"""
BATCHES: Final = "SELECT count(*), coalesce(max(b.last_position), 0) FROM ledger.batches b"
AN_ISSUE: Final = "SELECT e.payload::text FROM ledger.events e WHERE e.type = 'token_issued' ORDER BY e.position DESC LIMIT 1"


class Commits:
    """Writes without HTTP, to a database that holds a ledger with a token in it."""

    def __init__(
        self, server: EmbeddedPostgres, database: str, folder: Path, appenders: int = 2, size: Size = "default"
    ) -> None:
        self._pgbench = server.bin_folder / "pgbench"
        self._appenders = appenders
        self._most_a_second = MOST_A_SECOND[size]
        self._owner = server.conninfo("postgres", database)
        self._service = service_conninfo(
            server.conninfo("ledger_service", database), statement_timeout_seconds=30, application_name="token-ledger bench"
        )
        self._script = folder / "insert.sql"
        self._script.write_text(INSERT)
        with psycopg.connect(self._owner, autocommit=True) as connection:
            connection.execute(PREPARE)
            connection.execute(APPENDING)
            tokens = connection.execute("SELECT count(*) FROM bench_tokens").fetchone()
            row = connection.execute(AN_ISSUE).fetchone()
        assert row is not None
        assert tokens is not None
        one = LOOKUP % {
            "position": "NULL",
            "instant": "NULL",
            "token_ids": "ARRAY[(SELECT t.token_id FROM bench_tokens t WHERE t.n = :n)]",
        }
        self._lookups = folder / "lookups.sql"
        self._lookups.write_text(LOOKUPS.format(tokens=tokens[0], lookup=" ".join(one.split())))
        self._appends = folder / "appends.sql"
        self._appends.write_text(APPEND)
        self._batch = 1
        issued = read_event(TokenIssued.TYPE, row[0])
        assert isinstance(issued, TokenIssued)
        self._issued = issued
        self.issued_token_id = issued.tokens[0].token_id

    def query(self, connections: int, seconds: int) -> Measured:
        """Look one token up a query, by pgbench, under the settings of the service."""
        return self._run_pgbench(self._lookups, self._service, connections, seconds)

    def insert(self, connections: int, seconds: int) -> Measured:
        """Insert one row a transaction, by pgbench."""
        return self._run_pgbench(self._script, self._owner, connections, seconds)

    def counting_batches(self, measure: Callable[[int, int], Measured]) -> Callable[[int, int], Measured]:
        """Answer the same measurement, which remembers how many commands a batch had in the mean."""

        def counted(connections: int, seconds: int) -> Measured:
            with psycopg.connect(self._owner, autocommit=True) as connection:
                before = connection.execute(BATCHES).fetchone()
                measured = measure(connections, seconds)
                after = connection.execute(BATCHES).fetchone()
            assert before is not None
            assert after is not None
            self._batch = max(1, round((after[1] - before[1]) / max(1, after[0] - before[0])))
            return measured

        return counted

    def append_alone(self, connections: int, seconds: int) -> Measured:
        """Call the append with batches of that size, by pgbench, over as many connections as there are appenders at most.

        Answers commands a second.
        """
        measured = self._append_batches(self._batch, min(self._appenders, connections), seconds)
        return replace(measured, per_second=measured.per_second * self._batch, checked=measured.checked * self._batch)

    def append_one(self, _connections: int, seconds: int) -> Measured:
        """Call the append with one event after the other, by pgbench, over one connection."""
        return self._append_batches(1, 1, seconds)

    def _append_batches(self, size: int, connections: int, seconds: int) -> Measured:
        # One by one they are slower.
        batches = seconds * self._most_a_second // max(size, 4)
        with psycopg.connect(self._owner, autocommit=True) as connection:
            connection.execute("SELECT bench_make_batches(%s, %s)", (batches, size))
        return self._run_pgbench(self._appends, self._service, connections, seconds)

    def tokens_to_revoke(self, count: int) -> list[UUID]:
        """Record so many more issues like the last one, of access tokens with its secret; answer the tokens' ids."""
        batches = -(-count // FILLING_BATCH)
        with psycopg.connect(self._owner, autocommit=True) as connection:
            connection.execute("SELECT bench_make_batches(%s, %s)", (batches, FILLING_BATCH))
            for _ in range(batches):
                connection.execute(APPEND.encode())
            found = connection.execute(NEW_TOKENS, (batches * FILLING_BATCH, count)).fetchall()
        return [token_id for (token_id,) in found]

    def revocations(self) -> int:
        """Answer how many tokens were revoked."""
        with psycopg.connect(self._owner, autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM views.token_states s WHERE s.status = 'revoked'").fetchone()
        assert row is not None
        count: int = row[0]
        return count

    def _run_pgbench(self, script: Path, conninfo: str, connections: int, seconds: int) -> Measured:
        options = ["--no-vacuum", "--protocol=prepared", f"--client={connections}", "--jobs=2", f"--time={seconds}"]
        ended = subprocess.run(
            [self._pgbench, *options, f"--file={script}", conninfo],
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
