"""GET /v1/feed: what is recorded, told to whoever subscribes, by long-polling or as server-sent events. docs/feed.md.

For whoever a rule of the API `ledger` lets GET /v1/feed, for as long as it does. Whoever is cut off, for whatever reason, goes
on from his cursor.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

import psycopg
from falcon.asgi import Response

from api.asking import authorize
from api.body import WholeRequest
from api.event_answers import read_types
from api.pages import read_limit, read_query
from api.service import Service
from ledger.errors import InvalidInput, LedgerError
from projections.feed import Cursor, Entry, Subscription

EVENT_STREAM: Final = "text/event-stream"
NOW: Final = "now"
MAX_POSITION_DIGITS: Final = 16
# Under the minute after which proxies give up.
MAX_WAIT_SECONDS: Final = 30
# A stream says that it is there, and sooner that it has come further though nothing matched; and ends, so that no connection is
# for ever.
HEARTBEAT_SECONDS: Final = 15.0
PLACE_SECONDS: Final = 1.0
STREAM_SECONDS: Final = 900.0
STREAM_EVENTS: Final = 100
RETRY_MILLISECONDS: Final = 1_000
# A token that was looked at so long ago is looked at again before anything more is told; now and then also where there is
# nothing to tell.
STANDING_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0


class FeedOfEvents:
    """GET /v1/feed."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: WholeRequest, resp: Response) -> None:
        """Answer what follows the cursor: at once or within `wait` seconds, or as it comes where a stream is preferred."""
        service = self._service
        await authorize(req, service)
        streams = req.client_prefers(("application/json", EVENT_STREAM)) == EVENT_STREAM
        query = read_query(req, ("after", "types") if streams else ("after", "types", "limit", "wait"))
        types, limit, wait_seconds = read_types(query, "types"), read_limit(query), _read_wait(query)
        after, name = query.get("after"), "after"
        if streams and req.get_header("Last-Event-ID"):
            # Who connects again by itself says so, at the address it began with.
            after, name = req.get_header("Last-Event-ID"), "Last-Event-ID"
        subscription = service.feed.subscribe()
        try:
            cursor = await self._cursor(after, name)
            if streams:
                # Looked at before the stream begins: after that nothing can be refused.
                await service.feed.read(cursor, types, 1)
                resp.content_type = EVENT_STREAM
                resp.set_header("X-Accel-Buffering", "no")  # nginx would hold it back
                resp.stream = Stream(req, service, subscription, cursor, types)
                return
            resp.content_type = "application/json"
            resp.text = await self._poll(req, subscription, cursor, types, limit, wait_seconds)
        finally:
            if resp.stream is None:
                subscription.leave()

    async def _cursor(self, after: str | None, name: str) -> Cursor:
        head = await self._service.feed.head()
        if after is None:
            return Cursor(head.log_id, 0)
        if after == NOW:
            return head
        if after.isascii() and after.isdigit() and len(after) <= MAX_POSITION_DIGITS:
            return Cursor(head.log_id, int(after))
        cursor = Cursor.read(after)
        if cursor is None:
            raise InvalidInput.of(name, "a cursor of this feed, a position, or now; without it, from the beginning")
        return cursor

    async def _poll(
        self,
        req: WholeRequest,
        subscription: Subscription,
        cursor: Cursor,
        types: tuple[str, ...] | None,
        limit: int,
        wait_seconds: int,
    ) -> str:
        service, clock = self._service, asyncio.get_running_loop().time
        page = await service.feed.read(cursor, types, limit)
        if not page.entries and wait_seconds:
            ends_at = clock() + wait_seconds
            over = asyncio.create_task(req.over())
            over.add_done_callback(lambda _: subscription.wake())
            try:
                while not page.entries and not over.done() and clock() < ends_at:
                    if not page.more:
                        await subscription.wait(ends_at - clock())
                    page = await service.feed.read(page.cursor, types, limit)
            finally:
                over.cancel()
            await authorize(req, service)
        events = ", ".join(entry.text for entry in page.entries)
        return f'{{"events": [{events}], "cursor": "{page.cursor}", "more": {json.dumps(page.more)}}}'


class Stream:
    """The body of a stream of server-sent events (HTML, section 9.2); `close` is called however it ends."""

    def __init__(
        self,
        req: WholeRequest,
        service: Service,
        subscription: Subscription,
        cursor: Cursor,
        types: tuple[str, ...] | None,
    ) -> None:
        self._req = req
        self._service = service
        self._subscription = subscription
        self._cursor = cursor
        self._types = types
        self._over: asyncio.Task[None] | None = None
        self._body = self._blocks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._body)

    async def close(self) -> None:
        """End the subscription."""
        self._subscription.leave()
        if self._over is not None:
            self._over.cancel()

    async def _blocks(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        self._over = asyncio.create_task(self._req.over())
        self._over.add_done_callback(lambda _: self._subscription.wake())
        began = told_at = looked_at = clock()
        told = str(self._cursor)
        yield f"retry: {RETRY_MILLISECONDS}\n{_place(told)}".encode()
        while not self._over.done() and clock() < began + STREAM_SECONDS:
            try:
                if clock() >= looked_at + STANDING_SECONDS:
                    await authorize(self._req, self._service)
                    looked_at = clock()
                page = await self._service.feed.read(self._cursor, self._types, STREAM_EVENTS)
            except (LedgerError, psycopg.Error):
                return  # whoever connects again is told why
            self._cursor = page.cursor
            reached = str(page.cursor)
            if page.entries:
                told_at, told = clock(), page.entries[-1].cursor
                yield "".join(map(_block, page.entries)).encode()
            elif clock() >= told_at + (HEARTBEAT_SECONDS if told == reached else PLACE_SECONDS):
                told_at, told = clock(), reached
                yield _place(told).encode()
            if not page.more:
                await self._subscription.wait(IDLE_SECONDS if told == reached else PLACE_SECONDS)


def _place(cursor: str) -> str:
    """Answer a block without data: no event, but the cursor to connect again with."""
    return f"id: {cursor}\n\n"


def _block(entry: Entry) -> str:
    return f"id: {entry.cursor}\ndata: {entry.text}\n\n"


def _read_wait(query: dict[str, str]) -> int:
    text = query.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= MAX_WAIT_SECONDS):
        raise InvalidInput.of("wait", f"0 to {MAX_WAIT_SECONDS} seconds")
    return int(text)
