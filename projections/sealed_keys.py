"""The sealed keys: of subjects (personal data is under them), of signing and of encryption. Neither log nor view.

A change of the master key (`reseal`) seals them anew, and keeps the root that ids by HMAC are made under.

Stored before the event that needs them; a key whose event was never recorded is garbage that harms nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from ledger.execute import Pool
from ledger.sealing import MasterKey, SealBroken, UnsafeKey

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


# ------------------------------------------------------------------------------------------------- the change of the master key

ROOT_ID: Final = UUID("00000000-0000-8000-8000-000000000003")
READ_KEY: Final = "SELECT k.sealed FROM ledger.sealed_keys k WHERE k.key_id = %s"
READ_ANY_KEY: Final = "SELECT k.key_id, k.purpose, k.sealed FROM ledger.sealed_keys k WHERE k.purpose = 'signing' LIMIT 1"
READ_KEYS_AFTER: Final = """
SELECT k.key_id, k.purpose, k.sealed FROM ledger.sealed_keys k WHERE k.key_id > %s ORDER BY k.key_id LIMIT 1000
"""
RESEAL_KEY: Final = "UPDATE ledger.sealed_keys SET sealed = %s WHERE key_id = %s AND sealed = %s"
READ_RETRY_KEYS: Final = "SELECT k.epoch, k.sealed FROM ledger.retry_keys k ORDER BY k.epoch"
RESEAL_RETRY_KEY: Final = "UPDATE ledger.retry_keys SET sealed = %s WHERE epoch = %s AND sealed = %s"


def context_of(purpose: str, key_id: UUID) -> str:
    """Answer what a key is sealed as: it must be said again to open it."""
    return {"subject": f"subject key {key_id}", "root": "root"}.get(purpose, f"token key {key_id}")


def retry_context(epoch: int) -> str:
    """Answer what a retry key is sealed as."""
    return f"retry key {epoch}"


def ready_master_key(connection: Connection[TupleRow], master: MasterKey, previous: MasterKey | None) -> MasterKey:
    """Answer the master key as it is to be used with this database. UnsafeKey when it is another database's."""
    root = connection.execute(READ_KEY, (ROOT_ID,)).fetchone()
    ready = master.after(previous)
    try:
        if root is not None:
            ready = master.after(previous, ready.unseal(root[0], context_of("root", ROOT_ID)))
        row = connection.execute(READ_ANY_KEY).fetchone()
        if row is not None:
            ready.unseal(row[2], context_of(row[1], row[0]))
    except SealBroken:
        raise UnsafeKey("the master key does not open what is sealed in this database: it is another one's") from None
    return ready


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many keys were looked at, and how many of them were sealed anew."""

    seen: int
    resealed: int


def reseal(connection: Connection[TupleRow], master: MasterKey, progress: Callable[[int], None] = lambda _: None) -> Resealed:
    """Seal anew under the master key what the one before it sealed; the connection is autocommit, as ledger_owner.

    May be stopped and begun again at any time, while servers that know both keys run. SealBroken for what neither opens.
    """
    connection.execute(
        "INSERT INTO ledger.sealed_keys (key_id, purpose, sealed) VALUES (%s, 'root', %s) ON CONFLICT (key_id) DO NOTHING",
        (ROOT_ID, master.seal(master.root, context_of("root", ROOT_ID))),
    )
    seen = resealed = 0

    def anew(sealed: bytes, context: str) -> bytes | None:
        return None if master.is_sealed(sealed) else master.seal(master.unseal(sealed, context), context)

    last = UUID(int=0)
    while rows := connection.execute(READ_KEYS_AFTER, (last,)).fetchall():
        with connection.transaction():
            for key_id, purpose, sealed in rows:
                fresh = anew(sealed, context_of(purpose, key_id))
                if fresh is not None:
                    resealed += connection.execute(RESEAL_KEY, (fresh, key_id, sealed)).rowcount
        last = rows[-1][0]
        seen += len(rows)
        progress(seen)
    for epoch, sealed in connection.execute(READ_RETRY_KEYS).fetchall():
        fresh = anew(sealed, retry_context(epoch))
        if fresh is not None:
            resealed += connection.execute(RESEAL_RETRY_KEY, (fresh, epoch, sealed)).rowcount
        seen += 1
    return Resealed(seen, resealed)
