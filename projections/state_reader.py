"""The readings of commands: concurrent ones share one statement, as lookups do (lookup.py).

While a reading is under way the commands that arrive form the next. A command joins only a statement that has not been sent,
so it reads what was recorded before it began. A statement of its own for each costs PostgreSQL as much as the append, and so
a statement waits a moment for as many commands as the one before had (ledger/gathering.py).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final
from uuid import UUID

from ledger.appender import Overloaded
from ledger.execute import Pool, Reading
from ledger.gathering import Gathering
from ledger.states import State
from projections.reading import Keys, read_state

MAX_BATCH_COMMANDS: Final = 64
MAX_WAITING: Final = 1_000


@dataclass(eq=False, slots=True)
class _Waiting:
    keys: Keys
    reading: asyncio.Future[Reading[State]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class StateReader:
    """Reads what commands decide on, one statement at a time over a connection of the pool."""

    def __init__(self, pool: Pool, *, max_waiting: int = MAX_WAITING) -> None:
        self._pool = pool
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._gathering = Gathering()
        self._task: asyncio.Task[None] | None = None
        self.statements = 0

    async def read(self, keys: Keys) -> Reading[State]:
        """Answer what `read_state` answers, read after this call. Overloaded, and what the pool and the database raise."""
        if keys.every_key:
            return await read_state(self._pool, keys)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("too many commands are waiting to be read for")
        # A future of its own: a request that is cancelled cancels nobody else.
        waiting = _Waiting(keys)
        self._waiting.append(waiting)
        self._gathering.come(self._waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="state reader")
        return await waiting.reading

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)  # whoever begins in the same turn of the event loop comes along
            await self._gathering.wait(self._waiting)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH_COMMANDS))]
            if not batch:
                self._task = None
                return
            self._gathering.sent(len(batch))
            await self._read(batch)

    async def _read(self, batch: list[_Waiting]) -> None:
        """Settle every command of the batch; never raises."""
        self.statements += 1
        try:
            reading = await read_state(self._pool, _together([waiting.keys for waiting in batch]))
        except Exception as error:
            for waiting in batch:
                if not waiting.reading.done():
                    waiting.reading.set_exception(error)
            return
        for waiting in batch:
            if not waiting.reading.done():
                waiting.reading.set_result(_part(reading, waiting.keys) if len(batch) > 1 else reading)


def _together(several: list[Keys]) -> Keys:
    """Answer keys that hold all of these."""
    if len(several) == 1:
        return several[0]
    together: dict[str, Any] = {}
    for each in fields(Keys):
        values = [getattr(keys, each.name) for keys in several]
        together[each.name] = (
            any(values) if isinstance(values[0], bool) else list(dict.fromkeys(v for vs in values for v in vs))
        )
    return Keys(**together)


def _part(reading: Reading[State], keys: Keys) -> Reading[State]:
    """Answer what a reading of these keys alone would have been."""
    state = reading.state

    def of(rows: dict[UUID, Any], ids: Sequence[UUID]) -> dict[UUID, Any]:
        return {key: rows[key] for key in ids if key in rows} if ids else {}

    part = State(
        tokens=of(state.tokens, keys.tokens),
        token_states=of(state.token_states, keys.tokens),
        families=of(state.families, keys.families),
        subjects=of(state.subjects, keys.subjects),
        subject_rules=of(state.subject_rules, keys.rules_of_subjects),
        names=of(state.names, keys.names),
        clients=of(state.clients, keys.clients),
        apis=of(state.apis, keys.apis),
        roles=of(state.roles, keys.roles),
        keys=of(state.keys, keys.keys),
        lockouts=of(state.lockouts, keys.lockouts),
        administrators=state.administrators if keys.administrators else (),
        standing_rules=state.standing_rules & frozenset(keys.rules) if keys.rules else frozenset(),
        sealed_keys=of(state.sealed_keys, keys.sealed_keys),
    )
    return Reading(part, {stream: reading.versions[stream] for stream in keys.streams()}, reading.position, reading.instant)
