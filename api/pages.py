"""Query parameters and pages of listings: keyset paging, at most 1,000 a page."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from falcon.asgi import Request

from ledger.errors import InvalidInput
from ledger.instants import read_rfc3339
from ledger.jsontext import MAX_INTEGER

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100

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
        rule = "an instant as in RFC 3339, such as 2030-06-01T12:00:00Z (a + in a query is written %2B)"
        raise InvalidInput.of(name, rule) from None


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
