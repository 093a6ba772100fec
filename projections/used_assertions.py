"""Which client assertions were used: each is good for once (RFC 7523 section 3, `jti`). A side table, neither log nor view.

A row stands until the assertion would be too old anyway (ledger/assertions.py): minutes.
"""

from typing import Final

from ledger.assertions import Use
from ledger.execute import Pool

USE: Final = "SELECT ledger.use_assertion(%s, %s)"
FORGET: Final = "SELECT ledger.forget_assertions()"


async def use_assertion(pool: Pool, use: Use) -> bool:
    """Use an assertion, and say whether that was its first use."""
    async with pool.connection() as connection:
        row = await (await connection.execute(USE, use)).fetchone()
    assert row is not None
    first: bool = row[0]
    return first


async def forget_assertions(pool: Pool) -> None:
    """Forget those that are too old by now."""
    async with pool.connection() as connection:
        await connection.execute(FORGET)
