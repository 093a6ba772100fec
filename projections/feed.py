"""The feed: what the log holds after a cursor, for subscribers who are to miss nothing.

Positions have no holes and are visible in their order, so a cursor is one position: what comes after it, up to the head, is all
there will ever be. A worker reads what is new once, whatever the number of its subscribers, and keeps the last of it: its tail.
Who is near the head is served from there, who comes from farther back by pages of views.history, one at a time in a worker. For
a subscriber nothing is kept but his cursor. The connections are the feed's own: it takes none from those who append or decide.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from psycopg.types.numeric import Int8

from ledger.database import make_pool
from ledger.errors import LedgerError, TryAgain
from ledger.jsontext import MAX_INTEGER
from projections.audit import Connection, Filters, RecordedEvent, Span, read_events

logger = logging.getLogger(__name__)

# Between two looks at the head; what this worker records itself is looked for at once.
LOOK_SECONDS: Final = 0.05
# After a look, for each subscriber: so that handing out what is new takes a part of a worker's time, however fast it comes.
PAUSE_SECONDS: Final = 0.0005
FAILED_SECONDS: Final = 0.5
# Taken by one look, and kept.
LOOK_EVENTS: Final = 200
TAIL_EVENTS: Final = 2_000
TAIL_BYTES: Final = 4_000_000
# One for the tail, one for whoever comes from farther back.
CONNECTIONS: Final = 2
_CURSOR_BYTES: Final = 24
_NOTHING: Final = MAX_INTEGER  # no position is above it

# Where the log is, and what it holds after a position.
TAIL: Final = """
SELECT at.log_id, at.position, h.position, h.stream, h.version, h.type, h.schema_version, h.payload, h.metadata, h.recorded_at,
  h.recorded_schema_version
FROM (SELECT coalesce((SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1), 0) AS position,
    (SELECT v.log_id FROM views.logs v ORDER BY v.position DESC LIMIT 1) AS log_id OFFSET 0) AS at
LEFT JOIN LATERAL (SELECT v.* FROM views.history v WHERE v.position > %(after)s::bigint AND v.position <= at.position
  ORDER BY v.position LIMIT %(limit)s::integer) AS h ON true
ORDER BY h.position
"""


class CursorOfAnotherLog(LedgerError):
    """The cursor is of another log than the one there is now, or of a part of it that is not there any more."""

    code = "cursor_of_another_log"
    cure = "Begin anew, without a cursor or from a position that you know (docs/feed.md)."

    def __init__(self, log_id: UUID) -> None:
        super().__init__("this cursor is of another log: the database was restored to an earlier point, or is another one")
        self.log_id = log_id


class TooManySubscribers(TryAgain):
    """This worker serves as many subscribers as it may."""

    code = "too_many_subscribers"
    cure = "Connect again later; if it lasts, raise the bound on subscribers (docs/settings.md)."


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a log: what follows is after `position`. Written, it is a word that nobody has to understand."""

    log_id: UUID
    position: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.log_id.bytes + self.position.to_bytes(8)).decode()

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """Answer the cursor that was written so; None for anything else."""
        try:
            written = base64.b64decode(text, altchars=b"-_", validate=True)
        except ValueError:
            return None
        if len(written) != _CURSOR_BYTES:
            return None
        cursor = cls(UUID(bytes=written[:16]), int.from_bytes(written[16:]))
        return cursor if cursor.position <= MAX_INTEGER else None


class Entry(NamedTuple):
    """An event as subscribers get it; `cursor` is the one to go on from after it."""

    position: int
    type: str
    cursor: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Events in their order, and the cursor to go on from, which moves whether or not anything matched. `more`: at once."""

    entries: Sequence[Entry]
    cursor: Cursor
    more: bool


class Subscription:
    """Somebody who waits for what is new; `leave` when he does no longer."""

    def __init__(self, feed: "Feed") -> None:
        self._feed = feed
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something may be new since the last wait ended, for `seconds` at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    def leave(self) -> None:
        """End it; more than once does no harm."""
        self._feed.left(self)


class Feed:
    """What one worker tells its subscribers, at most `max_subscribers` at once. `write`: an event as subscribers get it."""

    def __init__(
        self, conninfo: str, write: Callable[[RecordedEvent], str], *, max_subscribers: int, wait_seconds: float
    ) -> None:
        self._pool = make_pool(conninfo, min_size=0, max_size=CONNECTIONS, wait_seconds=wait_seconds)
        self._write = write
        self._max_subscribers = max_subscribers
        self._subscriptions: set[Subscription] = set()
        self._from_farther_back = asyncio.Semaphore(1)
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._stopping = False
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the log: the next look begins at the head."""
        self._log_id: UUID | None = None
        self._position = _NOTHING
        self._tail: list[Entry] = []
        self._tail_bytes = 0

    async def start(self) -> None:
        """Begin. Connections are made for the first subscriber."""
        await self._pool.open()

    async def stop(self) -> None:
        """Take no more subscribers, and close."""
        self._stopping = True
        self._due.set()
        for subscription in self._subscriptions:
            subscription.wake()
        if self._task is not None:
            await self._task
        await self._pool.close()

    def recorded(self, _position: int) -> None:
        """Look at once: this worker has recorded something."""
        self._due.set()

    def subscribe(self) -> Subscription:
        """Let one more wait. TooManySubscribers."""
        if self._stopping or len(self._subscriptions) >= self._max_subscribers:
            raise TooManySubscribers("this worker serves as many subscribers as it may; another one may have room")
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="feed")
        return subscription

    def left(self, subscription: Subscription) -> None:
        """Wait for nobody of this subscription any more."""
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            self._due.set()

    async def head(self) -> Cursor:
        """Answer where the log is now."""
        async with self._pool.connection() as connection:
            log_id, position, _ = await _read_tail(connection, _NOTHING)
        return Cursor(log_id, position)

    async def read(self, cursor: Cursor, types: tuple[str, ...] | None, limit: int) -> Page:
        """Answer what follows the cursor, of these types, at most `limit`. CursorOfAnotherLog."""
        page = self._page_of_tail(cursor, types, limit)
        if page is not None:
            return page
        async with self._from_farther_back, self._pool.connection() as connection:
            span = Span(newest_first=False, cursor=cursor.position)
            found = await read_events(connection, Filters(types=types), span, limit=limit)
        if found.log_id != cursor.log_id or found.position < cursor.position:
            raise CursorOfAnotherLog(found.log_id)
        reached = found.position if found.next is None else found.next
        entries = [self._entry(cursor.log_id, event) for event in found.events]
        return Page(entries, Cursor(cursor.log_id, reached), found.next is not None)

    def _page_of_tail(self, cursor: Cursor, types: tuple[str, ...] | None, limit: int) -> Page | None:
        """Answer the page from the tail; None where that does not begin early enough, or has not come so far."""
        skipped = cursor.position - (self._position - len(self._tail))
        if cursor.log_id != self._log_id or not 0 <= skipped <= len(self._tail):
            return None
        entries: list[Entry] = []
        position = cursor.position
        for entry in self._tail[skipped:]:
            if len(entries) == limit:
                break
            position = entry.position
            if types is None or entry.type in types:
                entries.append(entry)
        return Page(entries, Cursor(cursor.log_id, position), position < self._position)

    # --------------------------------------------------------------------------------------------------- the tail

    async def _follow(self) -> None:
        """Look for what is new as long as anybody subscribes."""
        while self._subscriptions and not self._stopping:
            self._due.clear()
            try:
                more = await self._look()
                pause = min(LOOK_SECONDS, PAUSE_SECONDS * len(self._subscriptions))
            except Exception as error:
                # Whatever it is: subscribers of a feed that looks no more would wait for ever.
                logger.warning("the feed could not look at the log, and tries again: %s", type(error).__name__)
                more, pause = False, FAILED_SECONDS
            await asyncio.sleep(pause)
            if not more and pause < LOOK_SECONDS:
                try:
                    async with asyncio.timeout(LOOK_SECONDS - pause):
                        await self._due.wait()
                except TimeoutError:
                    pass
        self._forget()
        self._task = None

    async def _look(self) -> bool:
        """Take what is new into the tail, and say whether there is more."""
        async with self._pool.connection() as connection:
            log_id, head, events = await _read_tail(connection, self._position)
        if log_id != self._log_id or head < self._position:
            # The first look, or the log of a database that was restored.
            self._forget()
            self._log_id, self._position = log_id, head
        elif not events:
            return False
        else:
            for event in events:
                entry = self._entry(log_id, event)
                self._tail.append(entry)
                self._tail_bytes += len(entry.text)
            self._position = events[-1].position
            self._trim()
        for subscription in self._subscriptions:
            subscription.wake()
        return self._position < head

    def _trim(self) -> None:
        if len(self._tail) > TAIL_EVENTS or self._tail_bytes > TAIL_BYTES:
            # More than has to go, so that it is not done for every event.
            gone = max(len(self._tail) // 4, len(self._tail) - TAIL_EVENTS)
            self._tail_bytes -= sum(len(entry.text) for entry in self._tail[:gone])
            del self._tail[:gone]

    def _entry(self, log_id: UUID, event: RecordedEvent) -> Entry:
        return Entry(event.position, event.type, str(Cursor(log_id, event.position)), self._write(event))


async def _read_tail(connection: Connection, after: int) -> tuple[UUID, int, list[RecordedEvent]]:
    """Answer the log and its head, and the events after a position, as many as one look takes."""
    rows = await (await connection.execute(TAIL, {"after": Int8(after), "limit": Int8(LOOK_EVENTS)})).fetchall()
    log_id, head, *_ = rows[0]
    return log_id, head, [RecordedEvent(*row[2:]) for row in rows if row[2] is not None]
