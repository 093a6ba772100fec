"""The strings of opaque tokens and secrets: prefix, id, secret, checksum. Below this module only ids and digests travel.

    tl_at_  access token    tl_rt_  refresh token    tl_cs_  client secret
    22 base62 digits: the id, 16 bytes; 43: the secret, 32 bytes; 6: CRC-32 of all before it

The length is fixed and each value has one spelling. The checksum is for scanners that look for leaked secrets: it tells a
token of ours from a look-alike without asking anybody. It protects nothing.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from typing import Final, Literal
from uuid import UUID

import gmpy2

from ledger.errors import LedgerError

Kind = Literal["access", "refresh", "client"]
Strings = Literal["opaque", "encrypted", "jwt", "jwe", "refresh"]

PREFIXES: Final[dict[Kind, str]] = {"access": "tl_at_", "refresh": "tl_rt_", "client": "tl_cs_"}
SECRET_BYTES: Final = 32
MAX_TOKEN_CHARACTERS: Final = 8_192
_BASE: Final = 62  # GMP's digits of it: 0-9, A-Z, a-z
_ID_DIGITS: Final = 22
_SECRET_DIGITS: Final = 43
_CHECK_DIGITS: Final = 6
_FORMS: Final = {kind: re.compile(f"{prefix}[0-9A-Za-z]{{71}}", re.ASCII) for kind, prefix in PREFIXES.items()}


class MalformedToken(LedgerError):
    """Not a string of ours. The message never quotes it."""

    code = "malformed_token"
    cure = "Present the string as it was handed out, whole."


def new_secret() -> bytes:
    """Answer 256 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_digest(secret: bytes) -> bytes:
    """Answer what is stored of a secret: SHA-256, enough for 256 random bits."""
    return hashlib.sha256(secret).digest()


def digest_matches(digest: bytes, secret: bytes) -> bool:
    """Say whether the secret has this digest, in constant time."""
    return hmac.compare_digest(digest, secret_digest(secret))


def write(kind: Kind, identifier: UUID, secret: bytes) -> str:
    """Answer the string of an id and its 32-byte secret."""
    assert len(secret) == SECRET_BYTES
    body = PREFIXES[kind] + _base62(identifier.int, _ID_DIGITS) + _base62(int.from_bytes(secret, "big"), _SECRET_DIGITS)
    return body + checksum(body)


def read(kind: Kind, text: str) -> tuple[UUID, bytes]:
    """Answer id and secret of a string of this kind; MalformedToken for anything that `write` does not write."""
    if _FORMS[kind].fullmatch(text) is None:
        raise MalformedToken("not a token of this kind")
    body, check = text[:-_CHECK_DIGITS], text[-_CHECK_DIGITS:]
    if _number(check) != zlib.crc32(body.encode("ascii")):
        raise MalformedToken("the checksum is wrong")
    start = len(PREFIXES[kind])
    identifier = _number(body[start : start + _ID_DIGITS])
    secret = _number(body[start + _ID_DIGITS :])
    if identifier >> 128 or secret >> 8 * SECRET_BYTES:
        raise MalformedToken("out of range")
    return UUID(int=identifier), secret.to_bytes(SECRET_BYTES, "big")


def checksum(body: str) -> str:
    """Answer the six digits of CRC-32 that close every string of ours."""
    return _base62(zlib.crc32(body.encode("ascii")), _CHECK_DIGITS)


def classify(text: str) -> Strings | None:
    """Say which kind of bearer string this is, by its prefix and the number of its dots alone; None for none."""
    if len(text) > MAX_TOKEN_CHARACTERS or not text.isascii():
        return None
    if text.startswith("tl_"):
        if text.startswith(PREFIXES["access"]):
            return "opaque" if "." not in text else "encrypted"
        return "refresh" if text.startswith(PREFIXES["refresh"]) else None
    return {2: "jwt", 4: "jwe"}.get(text.count("."))  # type: ignore[return-value] # both are in Strings


def _base62(value: int, digits: int) -> str:
    written: str = gmpy2.mpz(value).digits(_BASE)
    return written.rjust(digits, "0")


def _number(text: str) -> int:
    return int(gmpy2.mpz(text, _BASE))
