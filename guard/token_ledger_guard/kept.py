"""Yeses that the ledger gave, kept as long as nothing was heard that could make a no of one, and as long as it is known that
nothing could be unheard.

Only yeses are kept: a no is asked about again, so that whoever is let in again is let in at once. What takes a yes away comes
in the feed, whose positions have no holes. That nothing is unheard is proved by asking: what is asked at an instant is
answered at a position that is not before anything acknowledged by then, so once the feed was heard up to there, everything up
to that instant was. A yes counts only while the last such instant is no longer ago than the bound, by this process's own clock:
whatever the feed, the network or a process that was stopped do, it is not counted longer.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_ledger_guard.answers import Answer, Basis, Identity
from token_ledger_guard.clock import now

# Nothing in these makes a no of a yes, and they are most of what is recorded. Whatever is not known here takes everything.
HARMLESS: Final = frozenset(
    ["token_issued", "token_rotated", "subject_registered", "name_taken", "login_locked_out", "login_unlocked"]
)
OF_ONE_SUBJECT: Final = frozenset(
    [
        "token_suspended",
        "token_reinstated",
        "token_revoked",
        "family_suspended",
        "family_reinstated",
        "family_revoked",
        "reuse_detected",
        "subject_profile_set",
        "subject_password_set",
        "subject_clearance_set",
        "subject_roles_granted",
        "subject_roles_withdrawn",
        "subject_suspended",
        "subject_reinstated",
        "subject_tokens_revoked",
        "subject_erased",
        "subject_rules_granted",
        "subject_rules_withdrawn",
    ]
)
# Instants that wait to be proved: older ones prove less than newer ones.
MAX_CLAIMS: Final = 16


@dataclass(frozen=True, slots=True)
class _Yes:
    identity: Identity
    ends_at: float


class Kept:
    """At most `max_kept` yeses, those used last. From any thread."""

    def __init__(self, *, max_kept: int, max_staleness_seconds: float) -> None:
        self._max_kept = max_kept
        self._max_staleness = max_staleness_seconds
        self._lock = threading.Lock()
        self._session = 0
        self._forget()

    def _forget(self) -> None:
        """Know nothing, and hear nothing of the session before."""
        self._session += 1
        self._basis: Basis | None = None
        self._listening = False
        self._heard = 0  # everything up to this position
        self._floor = 0  # a yes given before it may have been taken away unheard
        self._proved_at = float("-inf")
        self._claims: deque[tuple[float, int]] = deque(maxlen=MAX_CLAIMS)
        self._yeses: OrderedDict[bytes, _Yes] = OrderedDict()
        self._of_subject: dict[str, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._yeses)

    def find(self, key: bytes) -> Identity | None:
        """Answer to whom yes was said, if that counts now."""
        at = now()
        with self._lock:
            if not self._listening or at - self._proved_at > self._max_staleness:
                return None
            yes = self._yeses.get(key)
            if yes is None:
                return None
            if at >= yes.ends_at:
                self._drop(key)
                return None
            self._yeses.move_to_end(key)
            return yes.identity

    def keep(self, key: bytes, answer: Answer, asked_at: float) -> None:
        """Keep a yes, unless something was heard since it was given that took any away, or nothing is heard."""
        if answer.identity is None:
            return
        with self._lock:
            if self._is_other(answer.basis) or self._basis is None or answer.position < self._floor:
                return
            self._drop(key)
            # By the ledger's clock, from before it was asked: whatever this machine's clock says, no longer than there.
            self._yeses[key] = _Yes(answer.identity, asked_at + answer.lives_seconds)
            self._of_subject.setdefault(answer.identity.subject_id, set()).add(key)
            while len(self._yeses) > self._max_kept:
                self._drop(next(iter(self._yeses)))

    def drop(self, key: bytes) -> None:
        """Keep this yes no longer: the ledger has said no."""
        with self._lock:
            self._drop(key)

    def prove(self, answer: Answer, asked_at: float) -> None:
        """Take it that nothing which was acknowledged at `asked_at` is above the position of the answer."""
        with self._lock:
            if self._basis is None or self._is_other(answer.basis):
                return
            self._claims.append((asked_at, answer.position))
            self._settle()

    def begin(self, answer: Answer, asked_at: float) -> int:
        """Begin to hear what follows the position of this answer, which is a proof, knowing nothing; the session's number."""
        with self._lock:
            self._forget()
            self._basis = answer.basis
            self._heard = self._floor = answer.position
            self._proved_at = asked_at
            return self._session

    def listen(self, session: int, *, listening: bool) -> None:
        """Take it that the feed is heard from now on, or that it is not: then no yes counts."""
        with self._lock:
            if session == self._session:
                self._listening = listening

    def hear(self, session: int, event: Mapping[str, Any]) -> None:
        """Hear an event of this session, which is over if there is a hole before it."""
        position, kind = event["position"], event["type"]
        with self._lock:
            if session != self._session or position <= self._heard:
                return
            if position != self._heard + 1:
                self._forget()
                return
            if kind not in HARMLESS:
                self._take_away(event["payload"].get("subject_id") if kind in OF_ONE_SUBJECT else None)
                self._floor = position
            self._heard = position
            self._settle()

    def is_heard(self, session: int) -> bool:
        """Say whether the session goes on."""
        return session == self._session

    def forget(self) -> None:
        """Know nothing any more."""
        with self._lock:
            self._forget()

    def staleness_seconds(self) -> float:
        """Answer how long ago it was that nothing was unheard; infinite where that is not known."""
        return now() - self._proved_at

    def _is_other(self, basis: Basis) -> bool:
        """Say whether an answer is of another log, or by other semantics, than what is kept; then that counts no more."""
        if self._basis is None or self._basis == basis:
            return False
        self._forget()
        return True

    def _settle(self) -> None:
        proved = [asked_at for asked_at, position in self._claims if position <= self._heard]
        if proved:
            self._proved_at = max(self._proved_at, *proved)
            left = [claim for claim in self._claims if claim[1] > self._heard]
            self._claims.clear()
            self._claims.extend(left)

    def _take_away(self, subject_id: str | None) -> None:
        if subject_id is None:
            self._yeses.clear()
            self._of_subject.clear()
        else:
            for key in self._of_subject.pop(subject_id, ()):
                del self._yeses[key]

    def _drop(self, key: bytes) -> None:
        yes = self._yeses.pop(key, None)
        if yes is not None:
            keys = self._of_subject[yes.identity.subject_id]
            keys.discard(key)
            if not keys:
                del self._of_subject[yes.identity.subject_id]
