"""The feed of one worker by itself: its tail is short, readers come at every pace, and none misses anything."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from ledger.appender import Appender
from projections import feed as of_feed
from projections.feed import Cursor, Feed, TooManySubscribers
from tests.builders import EXAMPLES, command, subject_registered, token_issued
from tests.conftest import Database
from tests.recording import record

pytestmark = pytest.mark.anyio

READERS = 6


@pytest.fixture
async def feed(any_database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Feed]:
    """A feed with a tail of a few events, on a log that begins as every log does."""
    monkeypatch.setattr(of_feed, "TAIL_EVENTS", 20)
    monkeypatch.setattr(of_feed, "LOOK_EVENTS", 7)
    await asyncio.to_thread(record, any_database, EXAMPLES[:1])
    feed = Feed(any_database.service, lambda event: str(event.position), max_subscribers=READERS, wait_seconds=5)
    await feed.start()
    yield feed
    await feed.stop()


async def read_all(
    feed: Feed, cursor: Cursor, types: tuple[str, ...] | None, chance: random.Random, done: asyncio.Event
) -> list[int]:
    """Read from a cursor to the head, by pages of any size, with a rest now and then; answer the positions."""
    positions: list[int] = []
    subscription = feed.subscribe()
    try:
        while True:
            last = done.is_set()
            page = await feed.read(cursor, types, chance.choice((1, 3, 50)))
            assert page.cursor.position >= cursor.position
            positions += [entry.position for entry in page.entries]
            cursor = page.cursor
            if page.more:
                continue
            if last and cursor == await feed.head():
                return positions
            await subscription.wait(0.2)
            await asyncio.sleep(chance.choice((0, 0, 0.05, 0.3)))
    finally:
        subscription.leave()


async def test_readers_at_every_pace_read_the_log(feed: Feed, appender: Appender) -> None:
    done, log = asyncio.Event(), ["log_opened"]
    beginning = Cursor((await feed.head()).log_id, 0)

    async def write() -> None:
        chance = random.Random(0)
        for _ in range(120):
            events = [chance.choice((subject_registered, token_issued))() for _ in range(chance.randrange(1, 6))]
            await appender.append(command(*events))
            log.extend(event.TYPE for event in events)
            if chance.random() < 0.5:
                feed.recorded(len(log))
            await asyncio.sleep(chance.choice((0, 0, 0.01, 0.06)))
        done.set()

    filters = [None, ("token_issued",), ("key_revoked",)] * 2
    reading = [read_all(feed, beginning, types, random.Random(n), done) for n, types in enumerate(filters)]
    async with asyncio.timeout(60):
        read, _ = await asyncio.gather(asyncio.gather(*reading), write())
    for types, positions in zip(filters, read, strict=True):
        assert positions == [position for position, name in enumerate(log, start=1) if types is None or name in types]


async def test_a_feed_has_so_many_subscribers_and_room_for_another_when_one_leaves(feed: Feed) -> None:
    subscriptions = [feed.subscribe() for _ in range(READERS)]
    with pytest.raises(TooManySubscribers):
        feed.subscribe()
    subscriptions[0].leave()
    subscriptions[0].leave()
    feed.subscribe().leave()
    for subscription in subscriptions:
        subscription.leave()


async def test_a_subscriber_is_woken_by_what_somebody_else_recorded(feed: Feed, appender: Appender) -> None:
    subscription, cursor = feed.subscribe(), await feed.head()
    await subscription.wait(5)  # the first look
    await appender.append(command(subject_registered()))
    async with asyncio.timeout(5):
        while not (page := await feed.read(cursor, None, 10)).entries:
            await subscription.wait(5)
    assert [entry.position for entry in page.entries] == [cursor.position + 1]
    subscription.leave()


async def test_a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    cursor = Cursor(EXAMPLES[0].stream, 2**53 - 1)
    assert Cursor.read(str(cursor)) == cursor
    assert str(cursor).isascii()
    for text in ("", str(cursor)[:-1], str(cursor) + "A", "é" * 32, "+/" * 16, "-" * 32):
        assert Cursor.read(text) is None
