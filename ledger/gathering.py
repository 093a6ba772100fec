"""How long a batch waits for more: until as many have come as the one before had, a moment at most.

Whoever was answered together asks again soon. Sent as soon as the first of them is there, batches are small, and what a batch
costs whatever its size is most of its price (docs/decisions.md). One alone, after one alone, waits for nobody.
"""

import asyncio
from collections.abc import Sized
from typing import Final

MOST_SECONDS: Final = 0.001


class Gathering:
    """The moment before a batch is sent. One waits at a time; whoever brings one more says so."""

    def __init__(self) -> None:
        self._wanted = 1
        self._enough: asyncio.Future[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether a batch is waiting for more."""
        return self._enough is not None

    async def wait(self, waiting: Sized) -> None:
        """Return when as many wait as the batch before had, or after the moment. At once where nobody waits, or enough do."""
        if not 0 < len(waiting) < self._wanted:
            return
        loop = asyncio.get_running_loop()
        self._enough = loop.create_future()
        timer = loop.call_later(MOST_SECONDS, self.hurry)
        try:
            await self._enough
        finally:
            timer.cancel()
            self._enough = None

    def come(self, waiting: Sized) -> None:
        """Note that there is one more."""
        if self._enough is not None and len(waiting) >= self._wanted:
            self.hurry()

    def hurry(self) -> None:
        """Wait no longer."""
        if self._enough is not None and not self._enough.done():
            self._enough.set_result(None)

    def sent(self, size: int) -> None:
        """Note how large a batch has become."""
        self._wanted = size
