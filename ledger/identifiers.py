"""Ids and names: time-ordered ids, ids made from names, and what a name may be."""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ledger.errors import InvalidInput

MAX_NAME: Final = 128
# Valid inside an OAuth scope token (RFC 6749 section 3.3), a URL segment and a log line without any quoting.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._:-]{0,127}", re.ASCII)
# Shown as nothing, and no control or format characters either (Unicode's Default_Ignorable_Code_Point without category C):
# with them two names would look the same. Line and paragraph separators are white space that breaks lines.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef\u2028\u2029]"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def uuid7(now: datetime) -> UUID:
    """Answer a UUIDv7 (RFC 9562 section 5.7): milliseconds of `now`, the rest random."""
    milliseconds = (now - _EPOCH) // _MILLISECOND
    return _versioned(milliseconds << 80 | secrets.randbits(80), 7)


def name_id(kind: str, *parts: str) -> UUID:
    """Answer the UUIDv8 made from a kind of name and its parts: SHA-256 of an encoding that no two share."""
    return _versioned(int.from_bytes(hashlib.sha256(_encoded(kind, parts)).digest()[:16], "big"), 8)


def keyed_name_id(mac: Callable[[bytes], bytes], kind: str, *parts: str) -> UUID:
    """The same under a key, for names of people: the id tells nobody the name."""
    return _versioned(int.from_bytes(mac(_encoded(kind, parts))[:16], "big"), 8)


def normalize_user_name(text: str) -> str:
    """Answer the form under which user names are unique: NFKC, case-folded. InvalidInput naming `username`."""
    # Longer than any that normalises to a name: a normal form can be 18 times as long, and takes its time.
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text[: 8 * MAX_NAME]).casefold())
    if not 1 <= len(name) <= MAX_NAME or len(text) > 8 * MAX_NAME:
        raise InvalidInput.of("username", f"1 to {MAX_NAME} characters")
    hidden = _INVISIBLE.search(name) or any(unicodedata.category(character)[0] == "C" for character in name)
    if name != name.strip() or hidden:
        raise InvalidInput.of("username", "no control or invisible characters, and no white space around it")
    return name


def normalize_name(text: str, field: str = "name") -> str:
    """Answer a name of a client, API or role as it is; InvalidInput naming `field` for what can be none."""
    if _NAME.fullmatch(text) is None:
        raise InvalidInput.of(field, "1 to 128 of a-z 0-9 . _ : - and a letter or digit first")
    return text


def _encoded(kind: str, parts: tuple[str, ...]) -> bytes:
    raw = [part.encode("utf-8", "surrogatepass") for part in (kind, *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)


def _versioned(value: int, version: int) -> UUID:
    value = value & ~(0xF << 76) | version << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
