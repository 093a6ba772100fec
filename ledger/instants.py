"""Instants as they stand in answers."""

from datetime import UTC, datetime


def rfc3339(instant: datetime) -> str:
    """Answer an instant in RFC 3339, UTC, with microseconds: it is read back exactly."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
