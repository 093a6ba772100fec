"""How long a batch waits for more."""

import asyncio
import time

import pytest

from ledger.gathering import Gathering

pytestmark = pytest.mark.anyio

LONG = 30.0  # no test takes so long: who waits for it has failed
SHORT = 0.05


@pytest.fixture(autouse=True)
def a_long_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever waits out the moment fail."""
    monkeypatch.setattr("ledger.gathering.MOST_SECONDS", LONG)


async def begun(gathering: Gathering, waiting: list[int]) -> "asyncio.Task[None]":
    """Begin to wait, and be waiting."""
    task = asyncio.create_task(gathering.wait(waiting))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(("before", "waiting"), [(1, 1), (3, 3), (3, 4), (3, 0)])
async def test_who_is_alone_or_enough_or_nobody_waits_for_nobody(before: int, waiting: int) -> None:
    gathering = Gathering()
    gathering.sent(before)
    async with asyncio.timeout(5):
        await gathering.wait([0] * waiting)
    assert not gathering.under_way


async def test_a_batch_waits_for_as_many_as_the_one_before_had() -> None:
    gathering = Gathering()
    gathering.sent(3)
    waiting = [1]
    task = await begun(gathering, waiting)
    waiting.append(2)
    gathering.come(waiting)
    await asyncio.sleep(SHORT)
    assert not task.done()
    assert gathering.under_way
    waiting.append(3)
    gathering.come(waiting)
    async with asyncio.timeout(5):
        await task
    assert not gathering.under_way


async def test_it_waits_a_moment_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.gathering.MOST_SECONDS", SHORT)
    gathering = Gathering()
    gathering.sent(64)
    began = time.monotonic()
    async with asyncio.timeout(5):
        await gathering.wait([1, 2])
    assert time.monotonic() - began >= SHORT / 2  # a timer may be early by its own grain


async def test_when_fewer_came_the_next_waits_for_no_more_than_those() -> None:
    gathering = Gathering()
    gathering.sent(64)
    gathering.sent(2)
    async with asyncio.timeout(5):
        await gathering.wait([1, 2])


async def test_what_is_urgent_ends_the_wait() -> None:
    gathering = Gathering()
    gathering.sent(64)
    task = await begun(gathering, [1])
    gathering.hurry()
    gathering.hurry()
    async with asyncio.timeout(5):
        await task


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    gathering = Gathering()
    gathering.sent(2)
    task = await begun(gathering, [1])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not gathering.under_way
    gathering.come([1, 2])
    gathering.hurry()
