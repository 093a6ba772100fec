"""The rules of lock-outs: the log is told that a budget of password attempts was spent, and that an operator made it whole.

The budgets themselves are counters outside the log: guessing.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from ledger.errors import NotFound
from ledger.events import Event, LoginLockedOut, LoginUnlocked
from ledger.guessing import Kind
from ledger.states import Lockout, State


class UnknownLockout(NotFound):
    """There is no such lock-out."""

    code = "unknown_lockout"
    cure = "Find it in `GET /v1/lockouts`, or `token-ledger lockout list`."

    def __init__(self, lockout_id: UUID | str) -> None:
        super().__init__("there is no such lock-out")
        self.lockout_id = lockout_id


def lock_out(now: datetime, subject_id: UUID | None, locked: Sequence[tuple[UUID, Kind, UUID]]) -> list[Event]:
    """Say which budgets were spent: (lockout_id, kind, throttle_id) each. Of a network nobody in particular is the subject."""
    events: list[Event] = []
    for lockout_id, kind, throttle_id in locked:
        concerned = None if kind == "network" else subject_id
        row = Lockout(lockout_id, kind, throttle_id, concerned, now, unlocked=False)
        events.append(LoginLockedOut(lockout_id=lockout_id, subject_id=concerned, lockout=row))
    return events


def unlock(state: State, _now: datetime, *, lockout_id: UUID) -> list[Event]:
    """Say that the budget was made whole; nothing where it was before. UnknownLockout."""
    lockout = state.lockouts.get(lockout_id)
    if lockout is None:
        raise UnknownLockout(lockout_id)
    if lockout.unlocked:
        return []
    row = replace(lockout, unlocked=True)
    return [LoginUnlocked(lockout_id=lockout_id, subject_id=lockout.subject_id, lockout=row)]
