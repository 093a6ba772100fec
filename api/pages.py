"""Query parameters and pages of listings: keyset paging, at most 1,000 a page."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from falcon.asgi import Request

from api.asking import Then
from ledger.decisions import EVALUATORS, SEMANTICS
from ledger.errors import InvalidInput
from ledger.instants import read_rfc3339
from ledger.jsontext import MAX_INTEGER
from projections.moments import AsOf

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
INSTANT: Final = "an instant as in RFC 3339, such as 2030-06-01T12:00:00Z (a + in a query is written %2B)"
POSITION: Final = re.compile("[0-9]{1,16}")
# What a question may have that is asked as of the past, and a decision.
AS_OF: Final = ("as_of", "instant")
THEN: Final = (*AS_OF, "semantics")

Item = TypeVar("Item")
Default = TypeVar("Default")


def read_query(req: Request, allowed: Collection[str]) -> dict[str, str]:
    """Answer the query parameters; InvalidInput for one that is not `allowed` or stands twice: a misspelt filter filters
    nothing, and its answer would be taken for another."""
    query: dict[str, str] = {}
    for name, value in req.params.items():
        if name not in allowed:
            raise InvalidInput.of(name[:64], f"not a parameter here; there are: {', '.join(sorted(allowed))}")
        if not isinstance(value, str):
            raise InvalidInput.of(name, "stands twice")
        query[name] = value
    return query


def read_limit(query: dict[str, str]) -> int:
    """Answer how many are asked for: 100 unless said otherwise, at most 1,000."""
    text = query.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidInput.of("limit", f"1 to {MAX_PAGE}")
    return int(text)


def read_choice(query: dict[str, str], name: str, choices: Collection[str]) -> str | None:
    """Answer a parameter that is one of a few words, or None without it."""
    value = query.get(name)
    if value is not None and value not in choices:
        raise InvalidInput.of(name, f"one of: {', '.join(sorted(choices))}")
    return value


def read_uuid(query: dict[str, str], name: str, default: Default) -> UUID | Default:
    """Answer a parameter that is an id, or the default without it."""
    if name not in query:
        return default
    identifier = uuid_of(query[name])
    if identifier is None:
        raise InvalidInput.of(name, "a UUID")
    return identifier


def read_position(query: dict[str, str], name: str, rule: str = "a position: 1 or more") -> int | None:
    """Answer a parameter that is a position of the log, or None without it."""
    if name not in query:
        return None
    text = query[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and 1 <= int(text) <= MAX_INTEGER):
        raise InvalidInput.of(name, rule)
    return int(text)


def read_cursor(query: dict[str, str]) -> int | None:
    """Answer the position that a page follows, or None for the first."""
    return read_position(query, "cursor", "the `next` of the page before")


def read_instant(query: dict[str, str], name: str) -> datetime | None:
    """Answer a parameter that is an instant, or None without it."""
    if name not in query:
        return None
    try:
        return read_rfc3339(query[name])
    except ValueError:
        raise InvalidInput.of(name, INSTANT) from None


def read_as_of(members: Mapping[str, object], below: str = "") -> AsOf | None:
    """Answer the moment of the past that a query, a form or a context asks as of, or None: now. InvalidInput.

    `below`: what stands before the names of its members where one is wrong.
    """
    if "as_of" not in members:
        if "instant" in members:
            raise InvalidInput.of(f"{below}instant", "goes with as_of")
        return None
    at = _position_or_time(members["as_of"], f"{below}as_of")
    if "instant" not in members:
        return AsOf(at)
    if isinstance(at, datetime):
        raise InvalidInput.of(f"{below}instant", "goes with a position: a time is an instant itself")
    instant = _time_of(members["instant"])
    if instant is None:
        raise InvalidInput.of(f"{below}instant", INSTANT)
    return AsOf(at, instant)


def read_then(members: Mapping[str, object], below: str = "") -> Then | None:
    """The same for a decision, which is made under semantics: the current ones, or released ones that are asked for."""
    as_of = read_as_of(members, below)
    if "semantics" not in members:
        return None if as_of is None else Then(as_of, SEMANTICS)
    if as_of is None:
        raise InvalidInput.of(f"{below}semantics", "goes with as_of")
    semantics = members["semantics"]
    released = {str(number): number for number in sorted(EVALUATORS)}
    if isinstance(semantics, bool) or str(semantics) not in released:
        raise InvalidInput.of(f"{below}semantics", f"one that was released: {', '.join(released)}")
    return Then(as_of, released[str(semantics)])


def read_place(query: dict[str, str], name: str) -> AsOf | None:
    """Answer a parameter that is a position of the log or a time, or None without it."""
    return AsOf(_position_or_time(query[name], name), field=name) if name in query else None


def _position_or_time(value: object, field: str) -> int | datetime:
    if isinstance(value, str) and POSITION.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        at: int | datetime | None = value if 1 <= value <= MAX_INTEGER else None
    else:
        at = _time_of(value)
    if at is None:
        raise InvalidInput.of(field, f"a position of the log, 1 or more, or {INSTANT}")
    return at


def _time_of(value: object) -> datetime | None:
    try:
        return read_rfc3339(value) if isinstance(value, str) else None
    except ValueError:
        return None


def uuid_of(text: str) -> UUID | None:
    """Answer the UUID that a text is, in its one canonical form (RFC 9562 section 4); None for anything else."""
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None


@dataclass(frozen=True, slots=True)
class Slice:
    """A page of what is held in memory, and the key that the next one follows; None: this is the last."""

    items: list[Any]
    next: str | None


def slice_of(items: Iterable[Item], query: dict[str, str], key: Callable[[Item], str]) -> Slice:
    """Answer the items after the parameter `cursor`, in the order of their keys, as many as `limit` says."""
    limit, after = read_limit(query), query.get("cursor", "")
    following = sorted((item for item in items if key(item) > after), key=key)
    page = following[:limit]
    return Slice(page, key(page[-1]) if len(following) > limit else None)
