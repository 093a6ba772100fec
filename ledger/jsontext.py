"""Strict JSON (RFC 8259, I-JSON's rules of RFC 7493 and ours): what PostgreSQL and every reader understand alike."""

import json
import math
import re
from typing import Any, Final, NoReturn

from ledger.errors import InvalidInput

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32
_UNSPEAKABLE: Final = re.compile("[\0\ud800-\udfff]")


def loads(data: bytes, *, max_bytes: int, floats: bool = False) -> object:
    """Answer the value of a JSON text. InvalidInput: not UTF-8 or not JSON, more than `max_bytes`, a member twice, NUL or a
    lone surrogate, an integer beyond 2^53 - 1, deeper than 32; without `floats` any fraction or exponent."""
    if len(data) > max_bytes:
        raise InvalidInput.of("", f"at most {max_bytes} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput.of("", "UTF-8") from None
    try:
        value = _DECODER.decode(text)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        raise InvalidInput.of("", "JSON") from None
    check(value, floats=floats)
    return value


def check(value: object, *, floats: bool = False) -> None:
    """Refuse a parsed value that breaks the rules, naming where: InvalidInput."""
    _check(value, [], floats)


def dumps(value: object) -> str:
    """Answer the canonical text: compact, members sorted."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check(value: object, path: list[str | int], floats: bool) -> None:
    """Check a value at a path, which is written out only for a refusal: a body can have a name of 100 KiB and 50,000 items."""
    if len(path) > MAX_DEPTH:
        raise _refused(path, f"nested no deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name, path)
            path.append(name)
            _check(member, path, floats)
            path.pop()
    elif isinstance(value, list):
        for number, item in enumerate(value):
            path.append(number)
            _check(item, path, floats)
            path.pop()
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise _refused(path, "integers within 2^53 - 1")
    elif isinstance(value, float) and (not floats or not math.isfinite(value)):
        raise _refused(path, "numbers are integers" if not floats else "a finite number")


def _check_text(text: str, path: list[str | int]) -> None:
    # Of ASCII nothing but NUL.
    if "\0" in text if text.isascii() else _UNSPEAKABLE.search(text) is not None:
        raise _refused(path, "no NUL and no lone surrogate")


def _refused(path: list[str | int], rule: str) -> InvalidInput:
    return InvalidInput.of(".".join(str(part)[:200] for part in path)[:200], rule)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidInput.of(name[:100].encode("utf-8", "replace").decode(), "stands twice")
            seen.add(name)
    return members


def _integer(digits: str) -> int:
    # Enough of them to tell that it is too large, which is said where it stands; the whole of a long one takes its time.
    return int(digits[:18])


def _no_constant(_: str) -> NoReturn:
    raise InvalidInput.of("", "NaN and Infinity are not JSON")


# Made once: `json.loads` with hooks makes one a call.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant, parse_int=_integer)
