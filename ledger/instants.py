"""Instants as they stand in requests and answers: RFC 3339."""

import re
from datetime import UTC, datetime
from typing import Final

# RFC 3339 section 5.6, to the microsecond: PostgreSQL knows no less.
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def rfc3339(instant: datetime) -> str:
    """Answer an instant in RFC 3339, UTC, with microseconds: it is read back exactly."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_rfc3339(text: str) -> datetime:
    """Answer the instant that a text is, in UTC. ValueError for anything else, and for what UTC has outside the years 1 to
    9999: PostgreSQL would keep it, and nobody could read the row again."""
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("not an instant as in RFC 3339, of the years 1 to 9999")
