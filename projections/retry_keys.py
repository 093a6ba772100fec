"""The random keys under which a rotation's successor is derived: one for five minutes, gone ten minutes after.

They lie sealed in a side table, in no log, view, export or feed. The security argument is in docs/decisions.md; the
derivation in ledger/rotation.py.
"""

import secrets
from datetime import datetime
from typing import Final

from ledger.execute import Pool
from ledger.rotation import epoch_of, expired_before
from ledger.sealing import MasterKey
from projections.sealed_keys import retry_context

READ_KEY: Final = "SELECT k.sealed FROM ledger.retry_keys k WHERE k.epoch = %s"
# Whoever is first makes it; the others read what he made.
MAKE_KEY: Final = "INSERT INTO ledger.retry_keys (epoch, sealed) VALUES (%s, %s) ON CONFLICT (epoch) DO NOTHING"
FORGET_KEYS: Final = "DELETE FROM ledger.retry_keys WHERE epoch < %s"
READ_CLOCK: Final = "SELECT ledger.clock()"


class RetryKeys:
    """Makes, reads and forgets the keys; a worker keeps in memory those it has used, until they are past."""

    def __init__(self, pool: Pool, master: MasterKey) -> None:
        self._pool = pool
        self._master = master
        self._kept: dict[int, bytes] = {}

    async def current(self, now: datetime) -> tuple[int, bytes]:
        """Answer the epoch of `now` and its key, made now if nobody did before."""
        epoch = epoch_of(now)
        key = await self.of(epoch)
        if key is None:
            sealed = self._master.seal(secrets.token_bytes(32), retry_context(epoch))
            async with self._pool.connection() as connection:
                await connection.execute(MAKE_KEY, (epoch, sealed))
            key = await self.of(epoch)
            assert key is not None
        return epoch, key

    async def of(self, epoch: int) -> bytes | None:
        """Answer the key of an epoch, or None when it is gone."""
        key = self._kept.get(epoch)
        if key is None:
            async with self._pool.connection() as connection:
                row = await (await connection.execute(READ_KEY, (epoch,))).fetchone()
            if row is None:
                return None
            key = self._kept[epoch] = self._master.unseal(row[0], retry_context(epoch))
        return key

    async def forget_past(self) -> None:
        """Delete the keys whose time has come, from the table and from memory."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(READ_CLOCK)).fetchone()
            assert row is not None
            oldest = expired_before(row[0])
            await connection.execute(FORGET_KEYS, (oldest,))
        for epoch in [epoch for epoch in self._kept if epoch < oldest]:
            del self._kept[epoch]
