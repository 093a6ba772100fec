"""Group commit: one appender a process, one connection, one batch under way.

Commands that arrive while a batch commits form the next one, which waits a moment for as many as the one before had
(gathering.py); suspensions and revocations go first, and wait for nobody here. A command that
breaks its batch is found by sending the batch's commands one by one; after a lost connection the batch is sent again with the
same command ids, so that nothing is recorded twice and nothing acknowledged is lost. Retrying a conflict is execute.py.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.database import connect
from ledger.errors import LedgerError, TryAgain
from ledger.gathering import Gathering
from ledger.log import Command, Outcome, append

logger = logging.getLogger(__name__)

MAX_BATCH_COMMANDS: Final = 128
MAX_BATCH_EVENTS: Final = 2_000  # two of the largest commands
MAX_WAITING: Final = 1_000
RESEND_SECONDS: Final = 10.0


class Overloaded(TryAgain):
    """Too much is waiting already; nothing was done. Try again after a moment."""

    code = "overloaded"


class OutcomeUnknown(TryAgain):
    """The database was lost for too long: the command may or may not be recorded. The same command id will tell."""

    code = "outcome_unknown"
    cure = "Send the same request again under the same Idempotency-Key: it is carried out once."


class NotRecorded(TryAgain):
    """The database is away or held up: nothing of the command is recorded. Try again after a moment."""

    code = "database_unavailable"


class CommandRefused(LedgerError):
    """The database refused this command, alone in its batch; nothing of it is recorded."""

    code = "command_refused"
    cure = "Report it with the request id: the rules should have refused it before."


@dataclass(eq=False, slots=True)
class _Waiting:
    command: Command
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Appender:
    """Appends commands in batches over one connection of its own, made after `start` (after a fork, never before)."""

    def __init__(
        self,
        conninfo: str,
        *,
        max_batch_commands: int = MAX_BATCH_COMMANDS,
        max_waiting: int = MAX_WAITING,
        resend_seconds: float = RESEND_SECONDS,
        on_recorded: Callable[[int], None] | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._max_batch_commands = max_batch_commands
        self._max_waiting = max_waiting
        self._resend_seconds = resend_seconds
        self._on_recorded = on_recorded
        self._urgent: deque[_Waiting] = deque()
        self._ordinary: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._gathering = Gathering()
        self._stopping = False
        self._connection: AsyncConnection[TupleRow] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin. The connection is made by the first append, so that a database that is away is no reason to fail."""
        self._task = asyncio.create_task(self._run(), name="appender")

    async def stop(self) -> None:
        """Take nothing new, finish what waits, close. Bounded by the resend time."""
        self._stopping = True
        self._arrived.set()
        self._gathering.hurry()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close()

    async def append(self, command: Command) -> Outcome:
        """Record one command with whatever else arrives, and answer its outcome once it is durable.

        Cancelling the caller does not take the command back. Overloaded: nothing was sent. CommandRefused: nothing is
        recorded. NotRecorded: the same, and it may be sent again. OutcomeUnknown: it may be recorded.
        """
        if self._stopping or len(self._urgent) + len(self._ordinary) >= self._max_waiting:
            raise Overloaded("too many commands are waiting to be recorded")
        waiting = _Waiting(command)
        (self._urgent if command.urgent else self._ordinary).append(waiting)
        self._arrived.set()
        if command.urgent:
            self._gathering.hurry()
        else:
            self._gathering.come(self._ordinary)
        return await waiting.outcome

    async def _run(self) -> None:
        while True:
            # One turn of the event loop: whoever has read meanwhile decides now, and is recorded with the others.
            await asyncio.sleep(0)
            if not self._urgent and not self._stopping:
                await self._gathering.wait(self._ordinary)
            batch = self._next_batch()
            if batch:
                self._gathering.sent(len(batch))
                await self._record(batch)
            elif self._stopping:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        events = 0
        for queue in (self._urgent, self._ordinary):
            while queue and len(batch) < self._max_batch_commands:
                events += len(queue[0].command.events)
                if batch and events > MAX_BATCH_EVENTS:
                    return batch
                batch.append(queue.popleft())
        return batch

    async def _record(self, batch: list[_Waiting]) -> None:
        """Settle every command of the batch; never raises."""
        try:
            outcomes = await self._send(batch)
        except (OutcomeUnknown, NotRecorded) as failed:
            self._fail(batch, failed)
            if self._connection is None or isinstance(failed, OutcomeUnknown):
                # What waits was never sent. Batch by batch it would wait as long again, and `stop` with it.
                waiting = [*self._urgent, *self._ordinary]
                self._urgent.clear()
                self._ordinary.clear()
                self._fail(waiting, NotRecorded("the database could not be reached; nothing was sent"))
        except Exception as error:
            if len(batch) > 1:
                # One of them broke the batch, and nothing of it is recorded: each on its own, only the culprit fails.
                for alone in batch:
                    await self._record([alone])
                return
            # The text of the database's error can quote a payload: its class and SQLSTATE are enough to find it.
            state = error.sqlstate if isinstance(error, psycopg.Error) else None
            logger.error("a command was refused: %s %s", type(error).__name__, state)
            self._fail(batch, CommandRefused(f"the command could not be recorded ({state or type(error).__name__})"))
        else:
            for settled, outcome in zip(batch, outcomes, strict=True):
                if not settled.outcome.done():
                    settled.outcome.set_result(outcome)
            recorded = [o.last_position for o in outcomes if o.outcome == "recorded" and o.last_position]
            if recorded and self._on_recorded is not None:
                self._on_recorded(max(recorded))

    @staticmethod
    def _fail(batch: list[_Waiting], error: LedgerError) -> None:
        for waiting in batch:
            if not waiting.outcome.done():
                waiting.outcome.set_exception(error)

    async def _send(self, batch: list[_Waiting]) -> list[Outcome]:
        """Append the batch, again over a new connection as long as connections are lost, for `resend_seconds` in all.

        OutcomeUnknown, NotRecorded; psycopg.Error and others: one of the commands is at fault.
        """
        lost = False
        deadline = asyncio.get_running_loop().time() + self._resend_seconds
        pause = 0.02
        while True:
            try:
                if self._connection is None:
                    self._connection = await connect(self._conninfo)
                return await append(self._connection, [waiting.command for waiting in batch])
            except psycopg.OperationalError as error:
                if self._connection is not None and not self._connection.broken and not self._connection.closed:
                    if not isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
                        raise  # refused by a database that is there: no space, a fold that failed
                    # The turn was held for longer than a statement may take: sent one by one, each would wait as long again.
                    if lost:
                        raise OutcomeUnknown("the database did not answer in time; the outcome is unknown") from None
                    raise NotRecorded("the database did not answer in time; nothing was recorded") from None
                lost = lost or self._connection is not None  # over one that was never made nothing was sent
                logger.warning("the connection of the appender was lost: %s", type(error).__name__)
                if self._connection is not None:
                    with contextlib.suppress(psycopg.Error):
                        await self._connection.close()
                    self._connection = None
                if asyncio.get_running_loop().time() + pause > deadline:
                    if not lost:
                        raise NotRecorded("the database could not be reached; nothing was sent") from None
                    raise OutcomeUnknown("the database could not be reached; the outcome is unknown") from None
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - a jitter, not a secret
                pause = min(pause * 2, 0.5)
