"""The error tree: every refusal has a stable code and carries its evidence as attributes.

A refusal raised in `decide` or at the door means: rolled back, nothing recorded. api/errors.py maps the tree to HTTP in one
place; nothing here knows of HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class LedgerError(Exception):
    """Anything Token Ledger refuses. `code` is stable and documented; the message is for a person and holds no secret."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: the member it is about (a dotted path, "" for the whole) and the rule it breaks."""

    field: str
    rule: str


class InvalidInput(LedgerError):
    """The input breaks a rule; `problems` names every field and its rule."""

    code = "invalid_input"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.field or 'input'}: {p.rule}" for p in problems))
        self.problems = tuple(problems)

    @classmethod
    def of(cls, field: str, rule: str) -> "InvalidInput":
        return cls([Problem(field, rule)])


class NotFound(LedgerError):
    """What the request names is not there."""

    code = "not_found"


class Refused(LedgerError):
    """The state of the ledger does not allow it."""

    code = "refused"


class TryAgain(LedgerError):
    """Not now: too much is under way, or the database is away. `retry_after_seconds` is an advice."""

    code = "try_again"
    retry_after_seconds: ClassVar[int] = 1


class NotAuthenticated(LedgerError):
    """Nobody, or nobody we know, says so. The same words whatever is wrong."""

    code = "not_authenticated"


class NotAllowed(LedgerError):
    """We know who asks, and it may not."""

    code = "not_allowed"
