"""Bugs that somebody could well write, each put in for a while: what random histories (histories.py) must find."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import ledger.cascade
import ledger.decisions
import projections.install
import projections.lookup
import projections.reference


@contextmanager
def _in_sql(file: str, right: str, wrong: str) -> Iterator[None]:
    """Put a bug into a file of the projections: for what is installed from now on."""
    read: Callable[[Path], bytes] = projections.install._script

    def script(path: Path) -> bytes:
        text = read(path)
        if path.name != file:
            return text
        assert right.encode() in text
        return text.replace(right.encode(), wrong.encode())

    with patch.object(projections.install, "_script", script):
        yield


@contextmanager
def _in_text(module: Any, constant: str, right: str, wrong: str) -> Iterator[None]:
    """Put a bug into a statement."""
    text: str = getattr(module, constant)
    assert right in text
    with patch.object(module, constant, text.replace(right, wrong)):
        yield


def fold_forgets_a_type() -> AbstractContextManager[None]:
    """A token that is revoked gets no row."""
    types = "'token_suspended', 'token_reinstated', 'token_revoked'"
    return _in_sql("tokens.sql", types, "'token_suspended', 'token_reinstated'")


def fold_sees_the_piece() -> AbstractContextManager[None]:
    """One row is made of a whole piece of the log."""
    right = "p_to AND e.type ~ '^(client|api|role|key)_'"
    right = f"SELECT e.position FROM history e\n      WHERE e.position BETWEEN p_from AND {right}"
    return _in_sql(
        "reference.sql", right, right.replace("SELECT e.position", "SELECT max(e.position)") + " HAVING count(*) > 0"
    )


def lookup_forgets_the_position() -> AbstractContextManager[None]:
    """What was done to a token later is seen before."""
    right = "views.token_states v WHERE v.token_id = k.token_id AND v.position <= at.position"
    return _in_text(projections.lookup, "LOOKUP", right, right.removesuffix(" AND v.position <= at.position"))


def reference_forgets_the_position() -> AbstractContextManager[None]:
    """Clients are as they are now, whenever is asked about."""
    right = "views.clients v WHERE v.client_id = i.id AND v.position <= k.position"
    return _in_text(projections.reference, "AS_OF", right, right.removesuffix(" AND v.position <= k.position"))


@contextmanager
def evaluator_ignores_a_status() -> Iterator[None]:
    """The tokens of a suspended client go on."""
    what_stops = ledger.cascade.what_stops

    def lenient(*asked: Any) -> str | None:
        reason = what_stops(*asked)
        return None if reason == "client_suspended" else reason

    with patch.object(ledger.decisions, "what_stops", lenient):
        yield


BUGS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "a fold that forgets a type": fold_forgets_a_type,
    "a fold that sees how the log is cut": fold_sees_the_piece,
    "a lookup that forgets the position": lookup_forgets_the_position,
    "reference data that forgets the position": reference_forgets_the_position,
    "an evaluator that ignores a status": evaluator_ignores_a_status,
}
