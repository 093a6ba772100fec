"""Rows of the views, read as the records of ledger/states.py."""

from typing import TypeVar

from pydantic import TypeAdapter

Rows = TypeVar("Rows")


def read_rows(rows: TypeAdapter[Rows], found: object) -> Rows:
    """Answer what a statement found, as these records.

    A column that they do not have is left out: the views may be those of the next release, which was replayed already while
    servers of this one go on.
    """
    return rows.validate_python(found, extra="ignore")
