"""The lookup behind every decision: concurrent ones share one query.

While a query is under way the keys that arrive form the next one. A key joins only a query that has not been sent, so
every answer is read after its request arrived: an acknowledged revocation is seen by every later request, without any
cache to be invalidated. A second query is sent beside the first when that one is late, or when a whole batch waits: otherwise
two would only be two halves of one, at nearly twice the price. For the same reason a query waits a moment for as many keys as
the one before had (ledger/gathering.py). What the rows mean is ledger/decisions.py.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.cascade import TokenStanding
from ledger.database import connect, is_closed
from ledger.errors import TryAgain
from ledger.gathering import Gathering
from projections.reading import as_array

logger = logging.getLogger(__name__)

MAX_BATCH_KEYS: Final = 64
CONNECTIONS: Final = 2
# As long as a query takes on a busy machine. One that takes longer holds nobody else up.
PATIENCE_SECONDS: Final = 0.003
MAX_WAITING: Final = 1_000
ANSWER_SECONDS: Final = 1.0

# One text for now and for then, for decisions and for listings (token_listing.py): a null position is the head, a null
# instant the database's clock. The columns are those of TokenStanding, but for the subject's own rules, its last two.
STANDING_COLUMNS: Final = """
  t.token_id, t.position, t.family_id, t.generation, t.kind, t.strategy, t.subject_id, t.client_id, t.api_ids, t.role_ids,
  t.direct, t.secret_digest, t.key_ids, t.name, t.claims, t.issued_at, t.expires_at,
  ts.status, ts.status_until, ts.position,
  f.status, f.status_until, f.position, f.generation, f.idle_expires_at,
  s.kind, s.status, s.status_until, s.position, s.cutoff_position, s.clearance, s.role_ids"""
STANDING_ROWS: Final = """
FROM (SELECT coalesce(%(position)s::bigint, (SELECT b.last_position FROM ledger.batches b
      ORDER BY b.last_position DESC LIMIT 1), 0) AS position,
    coalesce(%(instant)s::timestamptz, ledger.clock()) AS instant OFFSET 0) AS at
LEFT JOIN LATERAL (SELECT v.position FROM views.reference_changes v WHERE v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS reference ON true
LEFT JOIN LATERAL (SELECT v.log_id FROM views.logs v WHERE v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS log ON true
CROSS JOIN unnest(%(token_ids)s::uuid[]) WITH ORDINALITY AS k(token_id, ordinal)
LEFT JOIN LATERAL (SELECT v.* FROM views.tokens v WHERE v.token_id = k.token_id AND v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS t ON true
LEFT JOIN LATERAL (SELECT v.* FROM views.token_states v WHERE v.token_id = k.token_id AND v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS ts ON true
LEFT JOIN LATERAL (SELECT v.* FROM views.families v WHERE v.family_id = t.family_id AND v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS f ON true
LEFT JOIN LATERAL (SELECT v.* FROM views.subjects v WHERE v.subject_id = t.subject_id AND v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS s ON true
"""
LOOKUP: Final = (
    "SELECT at.position, at.instant, reference.position, log.log_id, k.ordinal,"  # noqa: S608 - of literals alone
    + STANDING_COLUMNS
    + ", r.rules, r.position"
    + STANDING_ROWS
    + """
LEFT JOIN LATERAL (SELECT v.* FROM views.subject_rules v WHERE v.subject_id = t.subject_id AND v.position <= at.position
  ORDER BY v.position DESC LIMIT 1) AS r ON true
"""
)


class LookupOverloaded(TryAgain):
    """Too many decisions are waiting; nothing was decided."""

    code = "overloaded"


class LookupFailed(TryAgain):
    """The database did not answer in time; nothing was decided."""

    code = "database_unavailable"


class Found(NamedTuple):
    """The answer for one key: as of which position and instant, and the newest change of reference data up to there.

    `log_id` None: the log is empty.
    """

    position: int
    instant: datetime
    reference_position: int
    log_id: UUID | None
    token: TokenStanding | None


@dataclass(eq=False, slots=True)
class _Waiting:
    token_id: UUID
    found: asyncio.Future[Found]


class Lookup:
    """Looks tokens up, many in one query, over two connections of its own (made at `start`, after a fork).

    `on_connected` is called with each before it is used; what it raises, those who wait get.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        connections: int = CONNECTIONS,
        max_batch_keys: int = MAX_BATCH_KEYS,
        max_waiting: int = MAX_WAITING,
        answer_seconds: float = ANSWER_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        on_connected: Callable[[AsyncConnection[TupleRow]], Awaitable[None]] | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._connections = connections
        self._max_batch_keys = max_batch_keys
        self._max_waiting = max_waiting
        self._answer_seconds = answer_seconds
        self._patience_seconds = patience_seconds
        self._on_connected = on_connected
        self._waiting: deque[_Waiting] = deque()
        self._gathering = Gathering()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._idle: deque[asyncio.Future[None]] = deque()
        self._prompt: set[int] = set()  # the connections whose query is under way, and not late
        self._timers: dict[int, asyncio.TimerHandle] = {}  # until a query is late, then until it is given up
        self._given_up: set[asyncio.Task[None]] = set()
        self.queries = 0
        self.keys = 0

    async def start(self) -> None:
        """Begin. Each connection is made by the first query over it, so that a database that is away is no reason to fail."""
        self._tasks = [self._begin(number) for number in range(self._connections)]

    async def stop(self) -> None:
        """Answer what waits, take nothing new, close."""
        self._stopping = True
        self._gathering.hurry()
        while self._idle:
            self._wake()
        while under_way := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(under_way)
        if self._given_up:
            await asyncio.wait(self._given_up)

    async def find(self, token_id: UUID) -> Found:
        """Answer what stands about a token at the head, read after this call. LookupOverloaded, LookupFailed."""
        if self._stopping or len(self._waiting) >= self._max_waiting:
            raise LookupOverloaded("too many decisions are waiting")
        # A future of its own: a request that is cancelled cancels nobody else.
        waiting = _Waiting(token_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._gathering.under_way:
            self._gathering.come(self._waiting)
        elif not self._prompt or len(self._waiting) >= self._max_batch_keys:
            self._wake()
        try:
            return await waiting.found
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # under way already
                self._waiting.remove(waiting)
            raise

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def _begin(self, number: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(number), name=f"lookup-{number}")

    async def _run(self, number: int) -> None:
        """Answer batches over one connection, until told to stop, or until another has taken this one's place."""
        loop, ours = asyncio.get_running_loop(), asyncio.current_task()
        cursor: AsyncCursor[TupleRow] | None = None
        try:
            while True:
                if not self._waiting or self._gathering.under_way:
                    if self._stopping:
                        return
                    idle = loop.create_future()
                    self._idle.append(idle)
                    await idle
                    continue
                await self._gathering.wait(self._waiting)
                # From here on nobody joins: what the query will see may be older than who comes now.
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch_keys))]
                if not batch:
                    continue  # those who waited have gone
                self._gathering.sent(len(batch))
                self._prompt.add(number)
                self._timers[number] = loop.call_later(self._patience_seconds, self._be_late, number, batch)
                cursor = await self._answer(batch, cursor)
                if self._tasks[number] is not ours:
                    return
                self._timers[number].cancel()
                self._prompt.discard(number)
        finally:
            if cursor is not None:
                await cursor.connection.close()

    def _be_late(self, number: int, batch: list[_Waiting]) -> None:
        self._prompt.discard(number)
        self._timers[number] = asyncio.get_running_loop().call_later(self._answer_seconds, self._give_up, number, batch)
        if self._waiting:
            self._wake()

    def _give_up(self, number: int, batch: list[_Waiting]) -> None:
        """Answer a batch without its query, and go on over another connection: an answer that comes late must meet nobody."""
        self._fail(batch, "no answer in time")
        stuck, self._tasks[number] = self._tasks[number], self._begin(number)
        # Nobody waits for its end: psycopg answers a cancellation by waiting for the server, which may be what is stuck.
        stuck.cancel()
        self._given_up.add(stuck)
        stuck.add_done_callback(self._given_up.discard)

    async def _answer(self, batch: list[_Waiting], cursor: AsyncCursor[TupleRow] | None) -> AsyncCursor[TupleRow] | None:
        """Settle every key of the batch; answer the cursor to go on with, or None when its connection had to be thrown away."""
        try:
            cursor, found = await self._query(cursor, [waiting.token_id for waiting in batch])
        except Exception as error:  # a lost connection, an error: these keys have no answer
            self._fail(batch, type(error).__name__)
            return None
        self.queries += 1
        self.keys += len(batch)
        for waiting, answer in zip(batch, found, strict=True):
            if not waiting.found.done():
                waiting.found.set_result(answer)
        return cursor

    @staticmethod
    def _fail(batch: list[_Waiting], why: str) -> None:
        logger.warning("a lookup of %d keys failed: %s", len(batch), why)
        for waiting in batch:
            if not waiting.found.done():
                waiting.found.set_exception(LookupFailed("the database did not answer in time"))

    async def _query(
        self, cursor: AsyncCursor[TupleRow] | None, token_ids: list[UUID]
    ) -> tuple[AsyncCursor[TupleRow], list[Found]]:
        """Look the tokens up; whatever goes wrong, a connection, the one made here too, is closed.

        One cursor a connection: psycopg finds out only once then how the columns of the statement are read.
        """
        if cursor is not None and is_closed(cursor.connection):
            await cursor.connection.close()
            cursor = None
        connection = await connect(self._conninfo) if cursor is None else cursor.connection
        try:
            if cursor is None:
                if self._on_connected is not None:
                    await self._on_connected(connection)
                cursor = connection.cursor()
            return cursor, await look_up(cursor, token_ids)
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                await connection.close()
            raise


async def look_up(
    cursor: AsyncCursor[TupleRow],
    token_ids: list[UUID],
    *,
    position: int | None = None,
    instant: datetime | None = None,
) -> list[Found]:
    """Answer what the views say of these tokens, in their order, in one statement; now, or as of a position and instant."""
    parameters = {
        "token_ids": as_array(token_ids),
        "position": None if position is None else Int8(position),
        "instant": instant,
    }
    await cursor.execute(LOOKUP, parameters, binary=True)
    found: list[Found | None] = [None] * len(token_ids)
    for row in await cursor.fetchall():
        at, now, reference_position, log_id, ordinal, token_id = row[:6]
        standing = None if token_id is None else TokenStanding._make(row[5:])
        found[ordinal - 1] = Found(at, now, reference_position or 0, log_id, standing)
    assert all(found)
    return found  # type: ignore[return-value] # one row a key: the joins to the left of nothing keep it
