"""The keys that tokens are made with: which there are is said by the log, the private parts lie sealed beside it.

A worker opens each private part once. Every key that ever was stays readable, the revoked ones too: that a token was made
with a revoked key is for the decision to say (ledger/decisions.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ledger.appender import Appender
from ledger.decisions import SEMANTICS, Reference
from ledger.events import Event, KeyActivated, KeyMade, KeyRetired
from ledger.execute import Pool, Reading, execute
from ledger.identifiers import uuid7
from ledger.jose import (
    EncryptionKey,
    KeySet,
    Proven,
    SigningAlgorithm,
    SigningKey,
    read_encrypted,
    read_jwe,
    read_jwt,
    write_encrypted,
    write_jwe,
    write_jwt,
)
from ledger.log import Actor, Envelope
from ledger.sealing import MasterKey
from ledger.states import Key, State, Strategy
from ledger.token_strings import new_secret
from projections.reading import Keys, read_state
from projections.sealed_keys import context_of, read_sealed_keys, store_sealed_key

# An encryption key serves at most 2^31 tokens or a day; at 20,000 tokens a second a day is 1.7e9 < 2^31: the day binds.
ENCRYPTION_KEY_LIFETIME: Final = timedelta(days=1)
SIGNING_ALGORITHM: Final[SigningAlgorithm] = "EdDSA"


class Keyring:
    """Writes and reads the strings of tokens with the keys the log knows."""

    def __init__(self, pool: Pool, master: MasterKey, issuer: str) -> None:
        self._pool = pool
        self._master = master
        self._issuer = issuer
        self._signing: dict[UUID, SigningKey] = {}
        self._encryption: dict[UUID, EncryptionKey] = {}
        self._keys = KeySet()
        self._loading = asyncio.Lock()

    def knows(self, reference: Reference) -> bool:
        """Say whether every key of the reference data was opened."""
        return len(reference.keys) == len(self._signing) + len(self._encryption)

    async def load(self, reference: Reference) -> None:
        """Open the keys that were not opened before. SealBroken under another master key."""
        async with self._loading:
            wanted = [key for key_id, key in reference.keys.items() if key_id not in self._signing | self._encryption]
            if not wanted:
                return
            sealed = await read_sealed_keys(self._pool, [key.key_id for key in wanted])
            for key in wanted:
                private = self._master.unseal(sealed[key.key_id], context_of("token", key.key_id))
                if key.use == "sig":
                    self._signing[key.key_id] = SigningKey.from_private_bytes(key.key_id, key.algorithm, private)
                else:
                    self._encryption[key.key_id] = EncryptionKey(key.key_id, private)
            self._keys = KeySet(self._signing.values(), self._encryption.values())

    def keys_for(self, strategy: Strategy, reference: Reference) -> tuple[UUID, ...]:
        """Answer the keys a new token of this strategy is made with: the newest active of each use."""
        uses = {"opaque": (), "encrypted": ("enc",), "jwt": ("sig",), "jwe": ("sig", "enc")}[strategy]
        return tuple(self._newest(reference, use) for use in uses)

    @staticmethod
    def _newest(reference: Reference, use: str) -> UUID:
        active = [key for key in reference.keys.values() if key.use == use and key.status == "active"]
        return max(active, key=lambda key: (key.made_at, key.position)).key_id

    def write(self, strategy: Strategy, claims: Mapping[str, Any], key_ids: Sequence[UUID]) -> str:
        """Answer the string of a token made with these keys; not for `opaque`, which has no claims."""
        match strategy, key_ids:
            case "encrypted", (encryption,):
                return write_encrypted(claims, self._keys, encryption)
            case "jwt", (signing,):
                return write_jwt(claims, self._keys, signing)
            case "jwe", (signing, encryption):
                return write_jwe(claims, self._keys, signing, encryption)
        raise ValueError(f"{strategy} has no claims")

    def read(self, strategy: str, text: str) -> Proven:
        """Answer what a string of this strategy proves. InvalidToken."""
        reader = {"encrypted": read_encrypted, "jwt": read_jwt, "jwe": read_jwe}[strategy]
        return reader(text, self._keys, self._issuer)


async def make_key(pool: Pool, master: MasterKey, key: SigningKey | EncryptionKey, made_at: datetime) -> Key:
    """Store a new key sealed and answer its row, active: for the event that makes it known."""
    if isinstance(key, SigningKey):
        sealed = master.seal(key.private_bytes(), context_of("token", key.key_id))
        await store_sealed_key(pool, key.key_id, "signing", sealed)
        return Key(key.key_id, "sig", key.algorithm, key.public_jwk(), made_at, "active")
    await store_sealed_key(pool, key.key_id, "encryption", master.seal(key.secret, context_of("token", key.key_id)))
    return Key(key.key_id, "enc", "A256GCM", None, made_at, "active")


def new_signing_key() -> SigningKey:
    """Make the key that new JWTs are signed with."""
    return SigningKey.generate(uuid7(datetime.now(UTC)), SIGNING_ALGORITHM)


def new_encryption_key() -> EncryptionKey:
    """Make the key that new tokens are encrypted under, for a day."""
    return EncryptionKey(uuid7(datetime.now(UTC)), new_secret())


async def renew_encryption_key(pool: Pool, appender: Appender, master: MasterKey, reference: Reference, now: datetime) -> None:
    """Put a new encryption key in the place of the active one when that has served a day; nothing before."""
    active = [key for key in reference.keys.values() if key.use == "enc" and key.status == "active"]
    if any(now - key.made_at < ENCRYPTION_KEY_LIFETIME for key in active):
        return
    row = await make_key(pool, master, new_encryption_key(), now)
    request_id = uuid7(now)
    envelope = Envelope(uuid7(now), request_id, request_id, Actor.SYSTEM, SEMANTICS)
    # Another worker may do the same now: both read the old key, and one of them finds it retired.
    old = [key.key_id for key in active]

    async def read() -> Reading[State]:
        return await read_state(pool, Keys(keys=[*old, row.key_id]))

    def decide(state: State, _now: datetime) -> Sequence[Event]:
        if any(state.keys[key_id].status != "active" for key_id in old):
            return []
        events: list[Event] = [KeyMade(row.key_id, row), KeyActivated(row.key_id, row)]
        return [*events, *(KeyRetired(key_id, _retired(state.keys[key_id])) for key_id in old)]

    await execute(appender, pool, envelope, read, decide)


def _retired(key: Key) -> Key:
    return Key(key.key_id, key.use, key.algorithm, key.public_jwk, key.made_at, "retired")
