"""What a copy of the database gives away of a rotation: with and without an old token and the master key, during the minutes in
which a lost answer can be given again, and after them. docs/decisions.md, "Rotation", says the same in words."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from ledger.database import make_pool
from ledger.rotation import EPOCH_SECONDS, KEPT_SECONDS, derive
from ledger.sealing import MasterKey, SealBroken
from ledger.token_strings import read, secret_digest
from projections.retry_keys import RetryKeys
from projections.sealed_keys import retry_context
from tests.calls import first_party, login, new_api, new_person, ok, refresh
from tests.conftest import Clock
from tests.serving import MASTER_KEY, Served

WRONG = MasterKey(bytes(range(32)))
MASTER = MasterKey.from_text(MASTER_KEY)


@dataclass(frozen=True)
class Dump:
    """Every row of every table: what a stolen backup holds."""

    tables: dict[str, list[tuple[Any, ...]]]
    retry_keys: dict[int, bytes]
    refresh_digests: dict[bytes, str]  # of refresh tokens, to their ids

    @classmethod
    def of(cls, server: Served) -> "Dump":
        with psycopg.connect(server.owner) as connection:
            names = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'views') ORDER BY 1, 2"
            ).fetchall()
            tables = {
                f"{schema}.{name}": connection.execute(f'TABLE "{schema}"."{name}"'.encode()).fetchall()
                for schema, name in names
            }
            keys = connection.execute("SELECT epoch, sealed FROM ledger.retry_keys").fetchall()
            refresh = connection.execute("SELECT secret_digest, token_id FROM views.tokens WHERE kind = 'refresh'").fetchall()
        return cls(tables, {row[0]: row[1] for row in keys}, {row[0]: str(row[1]) for row in refresh})

    def holds(self, secret: bytes) -> bool:
        """Say whether the secret stands in any row, as bytes, hexadecimal digits or base62."""
        text = repr(self.tables)
        return secret.hex() in text or repr(secret)[2:-1] in text


def successors(dump: Dump, master: MasterKey | None, secrets: list[bytes], family_id: str) -> set[str]:
    """Answer the refresh tokens whose secrets somebody with all of this can compute, tried in every way the ledger knows."""
    keys = []
    for epoch, sealed in dump.retry_keys.items():
        try:
            keys.append((master or WRONG).unseal(sealed, retry_context(epoch)))
        except SealBroken:
            keys.append(sealed[-32:])  # what lies there, taken for the key
    found = set()
    for key, generation, secret in itertools.product(keys, range(1, 4), secrets or [bytes(32)]):
        computed = derive(key, UUID(family_id), generation, secret)
        for candidate in (computed.refresh_secret, computed.access_secret):
            if secret_digest(candidate) in dump.refresh_digests:
                found.add(dump.refresh_digests[secret_digest(candidate)])
    return found


@pytest.fixture
def rotated(admin: httpx.Client, http: httpx.Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """A token and the one that came of it."""
    app = first_party(admin, new_api(admin), refresh="rotating")
    first = login(http, new_person(admin), app)
    return first, ok(refresh(http, app, first["refresh_token"]))


def test_what_can_be_computed_from_a_dump(
    ledger_server: Served, server_clock: Clock, rotated: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    first, second = rotated
    (old_id, old), (new_id, new) = (read("refresh", token["refresh_token"]) for token in rotated)
    family_id, successor = first["family_id"], str(new_id)
    assert str(old_id) != successor
    dump = Dump.of(ledger_server)
    assert not dump.holds(old)
    assert not dump.holds(new)
    assert not dump.holds(MASTER.root)
    # While the retry key is kept: neither the dump, nor it and the old token, nor it and the master key, gives the successor.
    assert successors(dump, None, [], family_id) == set()
    assert successors(dump, None, [old], family_id) == set()
    assert successors(dump, MASTER, [], family_id) == set()
    # What is left: a copy from these minutes, the master key and the token that was rotated.
    assert successors(dump, MASTER, [old], family_id) == {successor}
    # Once the key is deleted, not even these together.
    server_clock.advance(EPOCH_SECONDS + KEPT_SECONDS + 1)
    _forget(ledger_server, set(dump.retry_keys))
    later = Dump.of(ledger_server)
    assert successors(later, MASTER, [old], family_id) == set()
    assert second["refresh_token"] not in repr(later.tables)


def _forget(server: Served, epochs: set[int]) -> None:
    """What the housekeeping of a worker does every few seconds, done at once."""

    async def forget() -> None:
        async with make_pool(server.environment["TOKEN_LEDGER_DATABASE_URL"], max_size=1, wait_seconds=5) as pool:
            await RetryKeys(pool, MASTER).forget_past()

    asyncio.run(forget())
    with psycopg.connect(server.owner) as connection:
        left = {epoch for (epoch,) in connection.execute("SELECT epoch FROM ledger.retry_keys").fetchall()}
    assert not left & epochs
