"""The sealed keys: of subjects (personal data is under them), of signing and of encryption. Neither log nor view.

Stored before the event that needs them; a key whose event was never recorded is garbage that harms nobody.
"""

from typing import Final, Literal
from uuid import UUID

from ledger.execute import Pool

STORE_KEY: Final = (
    "INSERT INTO ledger.sealed_keys (key_id, purpose, sealed) VALUES (%s, %s, %s) ON CONFLICT (key_id) DO NOTHING"
)
READ_KEYS: Final = """
SELECT k.key_id, k.sealed FROM unnest(%s::uuid[]) AS w(key_id)
CROSS JOIN LATERAL (SELECT s.key_id, s.sealed FROM ledger.sealed_keys s WHERE s.key_id = w.key_id LIMIT 1) AS k
"""
DESTROY_KEY: Final = "DELETE FROM ledger.sealed_keys WHERE key_id = %s"


async def store_sealed_key(
    pool: Pool, key_id: UUID, purpose: Literal["subject", "signing", "encryption"], sealed: bytes
) -> None:
    """Store a key. One that is there stays as it is."""
    async with pool.connection() as connection:
        await connection.execute(STORE_KEY, (key_id, purpose, sealed))


async def read_sealed_keys(pool: Pool, key_ids: list[UUID]) -> dict[UUID, bytes]:
    """Answer the sealed keys that are there."""
    async with pool.connection() as connection:
        rows = await (await connection.execute(READ_KEYS, (key_ids,))).fetchall()
    return {row[0]: row[1] for row in rows}


async def destroy_sealed_key(pool: Pool, key_id: UUID) -> None:
    """Destroy a key: what is sealed under it can never be read again."""
    async with pool.connection() as connection:
        await connection.execute(DESTROY_KEY, (key_id,))
