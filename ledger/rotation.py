"""How the successor of a one-time refresh token is derived, so that a lost answer can be given again without being kept.

    seed = HMAC-SHA256(E, "rotate" | family | generation | presented secret)
    refresh secret, access secret = HKDF-SHA256(seed), each with its own info

E is a random key per epoch of five minutes, deleted ten minutes after its end (projections/retry_keys.py). The log holds
digests only. Whoever has the database, or the database and an old token, or later even the master key, can derive nothing;
what is left is said in docs/decisions.md, "Rotation".
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

EPOCH_SECONDS: Final = 300
KEPT_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, repr=False)
class Successor:
    """The secrets of the tokens that follow; 32 bytes each."""

    refresh_secret: bytes
    access_secret: bytes


def epoch_of(now: datetime) -> int:
    """Answer the number of the epoch `now` lies in."""
    return int(now.timestamp()) // EPOCH_SECONDS


def expired_before(now: datetime) -> int:
    """Answer the oldest epoch whose key is still kept: those below ended more than ten minutes ago."""
    return (int(now.timestamp()) - KEPT_SECONDS) // EPOCH_SECONDS


def derive(epoch_key: bytes, family_id: UUID, generation: int, presented_secret: bytes) -> Successor:
    """Answer the successor of the refresh token of this generation whose secret was presented.

    Every part has a fixed length, so no two inputs are encoded alike.
    """
    message = b"rotate" + family_id.bytes + generation.to_bytes(8, "big") + presented_secret
    seed = hmac.digest(epoch_key, message, "sha256")

    def secret(info: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=info).derive(seed)

    return Successor(secret(b"token-ledger/refresh"), secret(b"token-ledger/access"))


Verdict = Literal["race", "fork", "theft"]
# A race is told from a theft by time alone: whoever shares a token between processes is this fast.
RACE_SECONDS: Final = 30


def verdict_of(presented: int, current: int, seconds_since_rotation: float, window_seconds: int) -> Verdict:
    """Say what a reuse looks like, for whoever looks into it; every one revokes the family. A retry is none of these: it is
    the immediate predecessor within the window, and is answered again.

    race: two used the token at almost the same time, and one of them has used the successor already (or the window is 0).
    fork: the successor was never used: a thief and the client hold one each, or an answer was lost for longer than the window.
    theft: the successor was used long ago: both branches are alive.
    """
    if seconds_since_rotation < max(window_seconds, RACE_SECONDS):
        return "race"
    return "fork" if presented == current - 1 else "theft"
