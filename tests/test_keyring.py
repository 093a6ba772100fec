"""What a worker takes as a key: the private part that lies sealed, if it is that of the key in the log."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from ledger.database import make_pool
from ledger.decisions import Reference
from ledger.execute import Pool
from ledger.jose import BadKeySet, SigningKey
from ledger.sealing import MasterKey, SealBroken
from ledger.states import Key
from projections.keyring import Keyring, make_key
from projections.sealed_keys import context_of, destroy_sealed_key, store_sealed_key
from tests.builders import NOON
from tests.conftest import Database

pytestmark = pytest.mark.anyio

MASTER = MasterKey(bytes(range(32)))
ALGORITHMS = ("EdDSA", "ES256", "RS256", "A256GCM")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = make_pool(database.service, max_size=2, wait_seconds=5)
    await pool.open()
    yield pool
    await pool.close()


async def load(pool: Pool, *keys: Key, master: MasterKey = MASTER) -> Keyring:
    """Open keys that the log has so."""
    keyring, reference = Keyring(pool, master, "https://ledger.example"), Reference(keys={key.key_id: key for key in keys})
    await keyring.load(reference)
    assert keyring.knows(reference)
    return keyring


async def put(pool: Pool, key_id: UUID, private: bytes) -> None:
    """Put another private part in the place of a key's."""
    await destroy_sealed_key(pool, key_id)
    await store_sealed_key(pool, key_id, "signing", MASTER.seal(private, context_of("token", key_id)))


async def test_keys_of_every_algorithm_are_taken_as_they_were_made(pool: Pool) -> None:
    keys = [await make_key(pool, MASTER, uuid4(), algorithm, NOON) for algorithm in ALGORITHMS]
    assert [key.use for key in keys] == ["sig", "sig", "sig", "enc"]
    assert {key.status for key in keys} == {"pending"}
    await load(pool, *keys)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_key_that_is_made_twice_is_the_one_that_was_stored_first(pool: Pool, algorithm: str) -> None:
    key_id = uuid4()
    first = await make_key(pool, MASTER, key_id, algorithm, NOON)
    assert await make_key(pool, MASTER, key_id, algorithm, NOON) == first
    await load(pool, first)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_another_private_part_than_that_of_the_published_key_is_refused(pool: Pool, algorithm: str) -> None:
    key = await make_key(pool, MASTER, uuid4(), algorithm, NOON)
    for other in ("EdDSA", "ES256"):
        private = SigningKey.generate(key.key_id, "EdDSA" if other == "EdDSA" else "ES256").private_bytes()
        await put(pool, key.key_id, private)
        with pytest.raises(BadKeySet, match=str(key.key_id)):
            await load(pool, key)


async def test_a_private_part_that_is_not_there_is_named(pool: Pool) -> None:
    key = await make_key(pool, MASTER, uuid4(), "EdDSA", NOON)
    await destroy_sealed_key(pool, key.key_id)
    with pytest.raises(BadKeySet, match=f"the private part of the key {key.key_id} is not there"):
        await load(pool, key)


CHANGES: dict[str, Callable[[Key], Key]] = {
    "another kid": lambda key: replace(key, public_jwk={**(key.public_jwk or {}), "kid": str(uuid4())}),
    "of another use": lambda key: replace(key, public_jwk={**(key.public_jwk or {}), "use": "enc"}),
    "of another algorithm": lambda key: replace(key, algorithm="ES256"),
    "published with another algorithm": lambda key: replace(key, public_jwk={**(key.public_jwk or {}), "alg": "ES256"}),
    "with a private member": lambda key: replace(key, public_jwk={**(key.public_jwk or {}), "d": "AQAB"}),
    "not published": lambda key: replace(key, public_jwk=None),
    "for encryption": lambda key: replace(key, use="enc"),
    "a secret key": lambda key: replace(key, use="enc", algorithm="A256GCM", public_jwk=None),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_key_that_the_log_has_otherwise_is_refused(pool: Pool, change: str) -> None:
    key = await make_key(pool, MASTER, uuid4(), "EdDSA", NOON)
    with pytest.raises(BadKeySet):
        await load(pool, CHANGES[change](key))


async def test_one_bad_key_leaves_those_that_were_taken_before(pool: Pool) -> None:
    good, bad = [await make_key(pool, MASTER, uuid4(), "EdDSA", NOON) for _ in range(2)]
    keyring = await load(pool, good)
    both = Reference(keys={key.key_id: key for key in (good, replace(bad, public_jwk=good.public_jwk))})
    with pytest.raises(BadKeySet):
        await keyring.load(both)
    assert not keyring.knows(both)
    assert keyring.knows(Reference(keys={good.key_id: good}))
    assert keyring.write("jwt", {"a": 1}, [good.key_id])


async def test_keys_are_not_opened_under_another_master_key(pool: Pool) -> None:
    key = await make_key(pool, MASTER, uuid4(), "EdDSA", NOON)
    with pytest.raises(SealBroken):
        await load(pool, key, master=MasterKey(bytes(range(1, 33))))
