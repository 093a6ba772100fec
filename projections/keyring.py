"""The keys that tokens are made with: which there are is said by the log, the private parts lie sealed beside it.

A worker opens each private part once, and takes it only when it belongs to the public key that the log has. Every key that
ever was stays readable, the revoked ones too: that a token was made with a revoked key is for the decision to say
(ledger/cascade.py). The rules of a key's life: ledger/keys.py.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ledger.appender import Appender
from ledger.decisions import SEMANTICS, Reference
from ledger.events import Event
from ledger.execute import Pool, Reading, execute
from ledger.identifiers import uuid7
from ledger.jose import (
    BadKeySet,
    EncryptionKey,
    KeySet,
    Proven,
    SigningAlgorithm,
    SigningKey,
    read_encrypted,
    read_jwe,
    read_jwt,
    read_public_keys,
    write_encrypted,
    write_jwe,
    write_jwt,
)
from ledger.keys import ENCRYPTION_KEY_LIFETIME, Use, active_key, next_key_id, next_step, renew
from ledger.log import Actor, Envelope
from ledger.sealing import MasterKey
from ledger.states import Key, State, Strategy
from ledger.token_strings import new_secret
from projections.reading import Keys, read_state
from projections.sealed_keys import context_of, read_sealed_keys, store_sealed_key

# Of the first key; the next ones are of the algorithm of the one before.
SIGNING_ALGORITHM: Final[SigningAlgorithm] = "EdDSA"
ENCRYPTION_ALGORITHM: Final = "A256GCM"
SIGNING_ALGORITHMS: Final[Mapping[str, SigningAlgorithm]] = {"EdDSA": "EdDSA", "ES256": "ES256", "RS256": "RS256"}


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
        """Open the keys that were not opened before. SealBroken under another master key.

        BadKeySet, with nothing taken: a private part that is not there, or is not that of the key that the log has; a public
        key that does not belong into a set of ours.
        """
        async with self._loading:
            wanted = [key for key_id, key in reference.keys.items() if key_id not in self._signing | self._encryption]
            if not wanted:
                return
            sealed = await read_sealed_keys(self._pool, [key.key_id for key in wanted])
            opened = [_opened(self._master, key, sealed.get(key.key_id)) for key in wanted]
            signing = self._signing | {key.key_id: key for key in opened if isinstance(key, SigningKey)}
            encryption = self._encryption | {key.key_id: key for key in opened if isinstance(key, EncryptionKey)}
            self._keys = KeySet(signing.values(), encryption.values())
            self._signing, self._encryption = signing, encryption

    def keys_for(self, strategy: Strategy, reference: Reference) -> tuple[UUID, ...]:
        """Answer the keys a new token of this strategy is made with: the active one of each use."""
        of_strategy: Mapping[Strategy, tuple[Use, ...]]
        of_strategy = {"opaque": (), "encrypted": ("enc",), "jwt": ("sig",), "jwe": ("sig", "enc")}
        active = (active_key(reference.keys.values(), use) for use in of_strategy[strategy])
        return tuple(key.key_id for key in active if key is not None)

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


def _opened(master: MasterKey, key: Key, sealed: bytes | None) -> SigningKey | EncryptionKey:
    """Answer the private part of a key. BadKeySet when it is not that."""
    if sealed is None:
        raise BadKeySet(f"the private part of the key {key.key_id} is not there")
    opened = _open(master, key.key_id, key.algorithm, sealed)
    if isinstance(opened, EncryptionKey):
        if (key.use, key.public_jwk) != ("enc", None):
            raise BadKeySet(f"the key {key.key_id} is for encryption, and the log has another")
        return opened
    published = read_public_keys({"keys": [key.public_jwk]})
    # Compared as keys, not as they are written; that `alg` is this one goes with `kty` and `crv`.
    if key.use != "sig" or published != {str(key.key_id): opened.private.public_key()}:
        raise BadKeySet(f"the private part of the key {key.key_id} is not that of the public key in the log")
    return opened


def _open(master: MasterKey, key_id: UUID, algorithm: str, sealed: bytes) -> SigningKey | EncryptionKey:
    private = master.unseal(sealed, context_of("token", key_id))
    if algorithm == ENCRYPTION_ALGORITHM:
        return EncryptionKey(key_id, private)
    return SigningKey.from_private_bytes(key_id, algorithm, private)


async def make_key(pool: Pool, master: MasterKey, key_id: UUID, algorithm: str, made_at: datetime) -> Key:
    """Make a key, store it sealed, and answer its row, pending: for the event that makes it known.

    Where one is stored under this id already, the row is of that one: another worker makes the same key now, or began to.
    """
    sealed = (await read_sealed_keys(pool, [key_id])).get(key_id)
    if sealed is None:
        encrypts = algorithm == ENCRYPTION_ALGORITHM
        private = new_secret() if encrypts else await _new_private_bytes(key_id, SIGNING_ALGORITHMS[algorithm])
        context = context_of("token", key_id)
        await store_sealed_key(pool, key_id, "encryption" if encrypts else "signing", master.seal(private, context))
        # Not one's own try: of two that were stored at once one stayed.
        sealed = (await read_sealed_keys(pool, [key_id]))[key_id]
    stored = _open(master, key_id, algorithm, sealed)
    if isinstance(stored, SigningKey):
        return Key(key_id, "sig", algorithm, stored.public_jwk(), made_at, "pending", made_at, None)
    return Key(key_id, "enc", algorithm, None, made_at, "pending", made_at, None)


async def _new_private_bytes(key_id: UUID, algorithm: SigningAlgorithm) -> bytes:
    # Off the event loop: an RSA key takes a second.
    return (await asyncio.to_thread(SigningKey.generate, key_id, algorithm)).private_bytes()


def new_key_id() -> UUID:
    """Answer the id of a key that follows no other."""
    return uuid7(datetime.now(UTC))


async def renew_keys(
    pool: Pool, appender: Appender, master: MasterKey, keys: Iterable[Key], now: datetime, signing_lifetime: timedelta
) -> None:
    """Take the step of the scheduled rotation that is due by `keys`, of each use; where none is, read and write nothing.

    Every worker does this. Two that make the next key at once make it under one id, so that one of them is a conflict, and
    then finds it made.
    """
    keys = list(keys)
    lifetimes: Mapping[Use, timedelta] = {"sig": signing_lifetime, "enc": ENCRYPTION_KEY_LIFETIME}
    for use, lifetime in lifetimes.items():
        step, active = next_step(keys, now, use=use, lifetime=lifetime), active_key(keys, use)
        if step is None or active is None:
            continue
        spare: Key | None = None
        if step != "activate":
            key_id = next_key_id({key.key_id for key in keys}, active.key_id)
            spare = await make_key(pool, master, key_id, active.algorithm, now)
        # What led to it: that the active key was activated when it was.
        await _renew(pool, appender, use, lifetime, spare, now, causation=active.position)


async def _renew(
    pool: Pool, appender: Appender, use: Use, lifetime: timedelta, spare: Key | None, now: datetime, *, causation: int
) -> None:
    request_id = uuid7(now)
    envelope = Envelope(uuid7(now), request_id, request_id, Actor.SYSTEM, SEMANTICS, causation=causation)

    async def read() -> Reading[State]:
        return await read_state(pool, Keys(every_key=True, keys=[] if spare is None else [spare.key_id]))

    def decide(state: State, instant: datetime) -> Sequence[Event]:
        return renew(state, instant, use=use, lifetime=lifetime, spare=spare)

    await execute(appender, pool, envelope, read, decide)
