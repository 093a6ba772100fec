"""What is asked of the ledger, and what it answers: the evaluation of AuthZEN 1.0, read strictly.

Whatever is not exactly what the ledger says is no answer, and lets nobody pass.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


class LedgerUnavailable(Exception):
    """There is no answer that can be relied on; the message says why, and holds nothing that was sent."""


class Question(NamedTuple):
    """May the bearer of this token call this method on this path?"""

    token: str
    method: str
    path: str

    def body(self) -> dict[str, Any]:
        """Answer it as POST /access/v1/evaluation takes it."""
        return {
            "subject": {"type": "token", "id": self.token},
            "action": {"name": self.method},
            "resource": {"type": "route", "id": self.path},
        }


class Basis(NamedTuple):
    """What positions and decisions can be compared within: the log, which a restored database opens anew, and its semantics."""

    log_id: str
    semantics: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as the ledger said at `position`.

    `client_id`: the name of the client that the token was issued to. `roles`: those of this API that are in force for this
    token, `api:role`. `scope`: what the token was narrowed to in this API; None: to nothing less than all.
    """

    subject_id: str
    client_id: str
    token_id: str
    roles: tuple[str, ...]
    scope: str | None
    position: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger said. `identity` None: the token does not stand; `lives_seconds`: for how long it would, if it does."""

    allowed: bool
    identity: Identity | None
    lives_seconds: float
    position: int
    basis: Basis


def read_answer(body: object) -> Answer:
    """Read an evaluation. LedgerUnavailable where anything is missing or of another type."""
    try:
        return _read(body)
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerUnavailable(f"an answer that is no evaluation ({type(error).__name__})") from None


def _read(body: Any) -> Answer:
    allowed, context = _of(bool, body["decision"]), body["context"]
    position, basis = _of(int, context["position"]), Basis(_of(str, context["log_id"]), _of(int, context["semantics"]))
    token = context.get("token")
    if token is None:
        if allowed:
            raise ValueError("a yes that does not say to whom")
        return Answer(False, None, 0.0, position, basis)
    identity = Identity(
        _of(str, token["subject_id"]),
        _of(str, token["client_id"]),
        _of(str, token["token_id"]),
        tuple(_of(str, role) for role in _of(list, token["roles"])),
        None if token["scope"] is None else _of(str, token["scope"]),
        position,
    )
    lives = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(context["instant"])
    return Answer(allowed, identity, lives.total_seconds(), position, basis)


def _of(kind: type[Any], value: object) -> Any:
    if type(value) is not kind:
        raise TypeError(f"not {kind.__name__}")
    return value
