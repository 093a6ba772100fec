"""Judges a history of changes and decisions: was an answer given that no order of what happened allows?

Pure: operations in, violations out. One process recorded all of them by its one monotonic clock: when each was sent and when
its answer was there. Two independent rules, each applied to every decision:

- By position. An answer that names position P is exactly what the changes at or below P make of the token, and P is not before
  any position that was answered to anybody before the decision was asked for.
- By time, without a word of the server's. Where every change of a token, its family, subject and client was acknowledged before
  the decision was asked for and the next one sent after it was answered, it is what those changes make of the token. Whatever
  else is under way: no allow after an acknowledged revocation, nor after a suspension that nobody has begun to end.

A change is repeated until it is acknowledged: a history without an outcome is not judged. Changes of one target follow one
another.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Level = Literal["token", "family", "subject", "client"]
# `revoke` of a token or family; `cut` of a subject or client: what was issued up to there is dead, what is issued later is not.
Verb = Literal["suspend", "reinstate", "revoke", "cut"]
Target = tuple[Level, str]
Why = Literal["allowed after a stop", "denied though it stands", "older than what was answered before"]


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, where it was issued, and whatever has a say in it."""

    token_id: str
    position: int
    issued_at: float  # when the answer was there
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one target, from its first sending to its acknowledgement at a position."""

    target: Target
    verb: Verb
    invoked_at: float
    completed_at: float
    position: int


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer about a token."""

    token_id: str
    invoked_at: float
    completed_at: float
    position: int
    allowed: bool
    said: str  # by whom and why, to be shown


@dataclass(frozen=True, slots=True)
class Violation:
    """An answer that cannot be right, by which rule, and when it was given."""

    decision: Decision
    why: Why
    rule: Literal["position", "time"]


def judge(issued: Iterable[Issued], changes: Iterable[Change], decisions: Iterable[Decision]) -> list[Violation]:
    """Answer every decision that one of the rules forbids, in the order of their answers."""
    tokens = {token.token_id: token for token in issued}
    by_target: dict[Target, list[Change]] = defaultdict(list)
    for change in sorted(changes, key=lambda change: change.invoked_at):
        by_target[change.target].append(change)
    decided = sorted(decisions, key=lambda decision: decision.completed_at)
    seen = [(token.issued_at, token.position) for token in tokens.values()]
    seen += [(change.completed_at, change.position) for group in by_target.values() for change in group]
    seen += [(decision.completed_at, decision.position) for decision in decided]
    seen.sort()
    moments = [moment for moment, _ in seen]
    highest = list(accumulate((position for _, position in seen), max))

    violations = []
    for decision in decided:
        token = tokens[decision.token_id]
        before = bisect_left(moments, decision.invoked_at)
        if before and decision.position < highest[before - 1]:
            violations.append(Violation(decision, "older than what was answered before", "position"))
        violations += _wrong(decision, stands_at(token, by_target, decision.position), "position")
        violations += _wrong(decision, _stands_during(token, by_target, decision), "time")
    return violations


def _wrong(decision: Decision, stands: bool | None, rule: Literal["position", "time"]) -> list[Violation]:
    if stands is None or stands == decision.allowed:
        return []
    return [Violation(decision, "allowed after a stop" if decision.allowed else "denied though it stands", rule)]


def stands_at(token: Issued, changes: Mapping[Target, Sequence[Change]], position: int) -> bool:
    """Say whether the changes at or below a position leave the token standing; it does not before it was issued."""
    if position < token.position:
        return False
    return all(
        _leaves_standing(token, [change for change in changes.get(target, ()) if change.position <= position])
        for target in token.targets
    )


def _stands_during(token: Issued, changes: Mapping[Target, Sequence[Change]], decision: Decision) -> bool | None:
    """Say whether the token stood from question to answer; None where that cannot be known by time alone."""
    certain = True
    for target in token.targets:
        of_target = changes.get(target, ())
        begun = bisect_right(of_target, decision.completed_at, key=lambda change: change.invoked_at)
        done = bisect_left(of_target, decision.invoked_at, key=lambda change: change.completed_at)
        if not _leaves_standing(token, of_target[:done]):
            # What is under way might end a suspension, and nothing else.
            if not any(_ends(token, of_target[:done], change) for change in of_target[done:begun]):
                return False
            certain = False
        elif begun > done:
            certain = False
    return True if certain else None


def _ends(token: Issued, done: Sequence[Change], change: Change) -> bool:
    return change.verb == "reinstate" and not any(_is_final(token, before) for before in done)


def _is_final(token: Issued, change: Change) -> bool:
    return change.verb == "revoke" or (change.verb == "cut" and token.position <= change.position)


def _leaves_standing(token: Issued, changes: Sequence[Change]) -> bool:
    suspended = False
    for change in changes:
        if _is_final(token, change):
            return False
        if change.verb in ("suspend", "reinstate"):
            suspended = change.verb == "suspend"
    return not suspended
