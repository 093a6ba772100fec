"""The keys of a running server, as somebody has them who stole the database and the master key: to make strings that no
client could make, and to put other keys in their place."""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import psycopg

from ledger.events import KeyActivated, KeyMade, KeyRevoked
from ledger.identifiers import uuid7
from ledger.jose import EncryptionKey, KeySet, SigningKey
from ledger.sealing import MasterKey
from ledger.states import Key
from ledger.token_strings import new_secret
from tests.recording import record_at
from tests.serving import MASTER_KEY, Served

STOLEN = """
SELECT s.key_id, s.sealed, v.use, v.algorithm FROM ledger.sealed_keys s
CROSS JOIN LATERAL (SELECT k.use, k.algorithm FROM views.keys k WHERE k.key_id = s.key_id ORDER BY k.position DESC LIMIT 1) AS v
ORDER BY s.key_id
"""
STORE = "INSERT INTO ledger.sealed_keys (key_id, purpose, sealed) VALUES (%s, %s, %s)"
NEWEST = "SELECT to_jsonb(k) FROM views.keys k WHERE k.key_id = %s ORDER BY k.position DESC LIMIT 1"
_MASTER = MasterKey.from_text(MASTER_KEY)


def stolen_keys(server: Served) -> KeySet:
    """Answer every key that the server makes tokens with, private parts and all."""
    with psycopg.connect(server.owner) as connection:
        rows = connection.execute(STOLEN).fetchall()
    opened = [
        (key_id, use, algorithm, _MASTER.unseal(sealed, f"token key {key_id}")) for key_id, sealed, use, algorithm in rows
    ]
    return KeySet(
        [SigningKey.from_private_bytes(key_id, algorithm, data) for key_id, use, algorithm, data in opened if use == "sig"],
        [EncryptionKey(key_id, data) for key_id, use, _, data in opened if use == "enc"],
    )


def new_signing_key(server: Served, algorithm: str = "EdDSA") -> UUID:
    """Put a new signing key in place: from now on the server signs with it."""
    key = SigningKey.generate(uuid7(datetime.now(UTC)), "ES256" if algorithm == "ES256" else "EdDSA")
    _begin(server, Key(key.key_id, "sig", key.algorithm, key.public_jwk(), _now(), "active", _now(), None), key.private_bytes())
    return key.key_id


def new_encryption_key(server: Served) -> UUID:
    """Put a new encryption key in place."""
    key = EncryptionKey(uuid7(datetime.now(UTC)), new_secret())
    _begin(server, Key(key.key_id, "enc", "A256GCM", None, _now(), "active", _now(), None), key.secret)
    return key.key_id


def revoke_key(server: Served, key_id: UUID) -> None:
    """Revoke a key: it has leaked."""
    with psycopg.connect(server.owner) as connection:
        found = connection.execute(NEWEST, (key_id,)).fetchone()
    assert found is not None
    row = Key(**found[0] | {"status": "revoked"})
    record_at(server.owner, [KeyRevoked(row.key_id, row)])


def claims_of(text: str) -> dict[str, Any]:
    """Answer the claims of a JWT without asking whether they are true."""
    claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return claims


def decoded(segment: str) -> bytes:
    """Read a segment of a compact serialisation."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def readings_of(text: str) -> Iterator[bytes]:
    """Read a string in every way a curious person would: as it is, and base64-decoded whole and in parts, at each offset."""
    yield text.encode()
    for part in [*re.split(r"[._]", text), re.sub(r"[^A-Za-z0-9_-]", "", text)]:
        for offset in range(4):
            piece = part[offset:]
            yield base64.urlsafe_b64decode(piece[: len(piece) // 4 * 4])
            yield decoded(piece if len(piece) % 4 != 1 else piece[:-1])


def _begin(server: Served, row: Key, private: bytes) -> None:
    purpose = "signing" if row.use == "sig" else "encryption"
    with psycopg.connect(server.owner) as connection:
        connection.execute(STORE, (row.key_id, purpose, _MASTER.seal(private, f"token key {row.key_id}")))
    record_at(server.owner, [KeyMade(row.key_id, row), KeyActivated(row.key_id, row)])


def _now() -> datetime:
    # Later than any key of the same second that the server made itself: the newest is the one that is used.
    return datetime.now(UTC)
