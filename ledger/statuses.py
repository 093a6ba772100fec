"""What tokens, families, subjects, clients and APIs have in common: suspended, perhaps up to an instant, and reinstated."""

from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from ledger.errors import InvalidInput
from ledger.states import Api, Client, Subject

Row = TypeVar("Row", Subject, Client, Api)


def stands(status: str, until: datetime | None, now: datetime) -> bool:
    """Say whether a status lets things pass: active, or suspended up to an instant that has come."""
    return status == "active" or (status == "suspended" and until is not None and until <= now)


def suspended(row: Row, now: datetime, reason: str | None, until: datetime | None) -> Row | None:
    """Answer the row as suspended, or None where it is so already, for the same reason up to the same instant.

    InvalidInput for an `until` that has come.
    """
    if until is not None and until <= now:
        raise InvalidInput.of("until", "an instant in the future")
    if (row.status, row.status_reason, row.status_until) == ("suspended", reason, until):
        return None
    return replace(row, status="suspended", status_reason=reason, status_until=until)


def reinstated(row: Row, reason: str | None) -> Row | None:
    """Answer the row as active, or None where it is. A suspension whose end has come is ended by this as well."""
    if row.status == "active":
        return None
    return replace(row, status="active", status_reason=reason, status_until=None)
