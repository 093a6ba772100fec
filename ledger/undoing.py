"""Taking an incident back: from its lines (blast_radius.py) to the steps that put things as they were, by new events only.

Pure. Of each thing that an event of the incident changed (a status, a role that somebody has, a rule, a clearance) the events
of its stream are gone through: what the incident changed, and nobody else since, is set back to what it was before. What
somebody else has changed since is left as he left it. What cannot come back is a step without a verb that says why.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from ledger.blast_radius import Closure, Line
from ledger.log import Recorded

Kind = Literal["token", "family", "subject", "client", "api", "role", "key"]
Verb = Literal[
    "revoke",
    "suspend",
    "reinstate",
    "withdraw_roles",
    "grant_roles",
    "withdraw_rules",
    "grant_rules",
    "set_clearance",
    "remove",
    "none",
]
FOR_GOOD: Final = "it is for good"
BY_HAND: Final = "look at it, and set it back by hand"
UNKNOWN: Final = "how it was before lies too far back: set it back by hand"

_ISSUES: Final = ("token_issued", "token_rotated")
# What an event is about, by how its type begins.
_KINDS: Final[Mapping[str, Kind]] = {
    "token": "token",
    "family": "family",
    "reuse": "family",
    "subject": "subject",
    "client": "client",
    "api": "api",
    "role": "role",
    "key": "key",
}
# The member of a payload that is the row of a kind with a status.
_ROWS: Final[Mapping[str, str]] = {
    "token": "token_state",
    "family": "family",
    "subject": "subject",
    "client": "client",
    "api": "api",
}
_STATUS: Final = ("_suspended", "_reinstated", "_revoked", "_erased", "_registered", "_detected")
# What never comes back, whoever did it.
_FOR_GOOD: Final = (
    "role_removed",
    "key_retired",
    "key_revoked",
    "subject_tokens_revoked",
    "client_tokens_revoked",
    "api_tokens_revoked",
)
_BY_HAND: Final = ("client_changed", "api_changed", "subject_profile_set")
# A secret that somebody else knows, a key that somebody else has: what it opens is suspended until there is another.
_SECRETS: Final = {"subject_password_set": "subject", "client_secret_rotated": "client", "client_keys_set": "client"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to be taken back, of the event at `position`. `value`: what it is set to; `why` it cannot be (verb none).

    `target` is an id; of a token, `family_id` is its family's.
    """

    position: int
    verb: Verb
    kind: Kind
    target: UUID
    value: Any = None
    family_id: UUID | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """The events of a stream, oldest first, without issues and rotations. `whole`: none before them is left out."""

    events: Sequence[Recorded]
    whole: bool = True


def streams_of(closure: Closure) -> list[UUID]:
    """Answer the streams in which the incident changed something that can be set back."""
    held = (line.event for line in closure.lines.values() if line.held)
    return sorted({event.stream for event in held if event.type not in _ISSUES and _kind(event) is not None})


def steps_of(closure: Closure, streams: Mapping[UUID, Stream], key_position: int | None) -> list[Step]:
    """Answer the steps, newest first; what is revoked or suspended twice is once. `key_position`: where the bad key came to be
    as it is, None where the incident does not begin with one: it is revoked, and with it all that was made with it."""
    steps: list[Step] = []
    if closure.start.key_id is not None and key_position is not None:
        steps.append(Step(key_position, "revoke", "key", closure.start.key_id))
    held = {position: line for position, line in closure.lines.items() if line.held}
    for line in held.values():
        if line.event.type in _ISSUES and not (line.edge == "start" and closure.start.key_id is not None):
            steps += _of_tokens(line)
    for stream in streams.values():
        steps += _of_stream(stream, held.keys())
    once: dict[tuple[Verb, Kind, UUID, str], Step] = {}
    for step in sorted(steps, key=lambda step: step.position):
        once.setdefault((step.verb, step.kind, step.target, repr(step.value) + str(step.why)), step)
    return sorted(once.values(), key=lambda step: (-step.position, step.verb, step.kind, str(step.target)))


def _of_tokens(line: Line) -> list[Step]:
    """Answer the steps of tokens: the family of a refresh token as a whole, and of one that has none; an access token alone."""
    event, family = line.event, line.event.payload["family"]
    family_id = UUID(event.payload["family_id"])
    kinds = {row["kind"] for row in event.payload["tokens"] if UUID(row["token_id"]) in line.token_ids}
    if "refresh" in kinds or (family is not None and family["refresh"] == "off"):
        return [Step(event.position, "revoke", "family", family_id)]
    return [Step(event.position, "revoke", "token", token_id, family_id=family_id) for token_id in sorted(line.token_ids)]


def _kind(event: Recorded) -> Kind | None:
    """Answer what an event is about, None where nothing is to be set back: names and administrators follow, lock-outs pass."""
    return _KINDS.get(event.type.partition("_")[0])


# ------------------------------------------------------------------------------------------------- one stream, event by event

_UNKNOWN: Final = object()
Fact = tuple[str, ...]


@dataclass(slots=True)
class _Run:
    """What the events since the last one of somebody else changed of a fact: what it was before, and where that began."""

    before: Any
    position: int


@dataclass(slots=True)
class _Facts:
    """The facts of a stream as they are, and the runs of the incident's changes to them."""

    now: dict[Fact, Any] = field(default_factory=dict)
    runs: dict[Fact, _Run] = field(default_factory=dict)

    def take(self, event: Recorded, *, held: bool, unknown: Any) -> None:
        for fact, value in _facts(event, self.now):
            before = self.now.get(fact, unknown)
            if value == before:
                continue
            self.now[fact] = value
            if held:
                self.runs.setdefault(fact, _Run(before, event.position))
            else:
                self.runs.pop(fact, None)


def _of_stream(stream: Stream, held: Collection[int]) -> list[Step]:
    facts, steps = _Facts(), list[Step]()
    for event in stream.events:
        # Of a stream that is not whole nobody knows what was before its first events.
        facts.take(event, held=event.position in held, unknown=None if stream.whole else _UNKNOWN)
        kind = _kind(event)
        if event.position not in held or kind is None:
            continue
        if event.type in _FOR_GOOD or event.type in _BY_HAND:
            why = FOR_GOOD if event.type in _FOR_GOOD else BY_HAND
            steps.append(Step(event.position, "none", kind, event.stream, why=why))
    return steps + _steps(facts, any(event.type == "subject_erased" for event in stream.events))


def _facts(event: Recorded, now: Mapping[Fact, Any]) -> Iterable[tuple[Fact, Any]]:
    """Answer what an event says, absolute: facts and their values. None: not there."""
    payload, kind, stream = event.payload, _kind(event), str(event.stream)
    if kind is None:
        return
    if event.type.endswith(_STATUS) and not event.type.endswith("_tokens_revoked") and kind in _ROWS:
        row = payload[_ROWS[kind]]
        target = payload["token_id"] if event.type.startswith("token_") else stream
        yield ("status", kind, target, payload.get("family_id", "")), (row["status"], row["status_reason"], row["status_until"])
    if event.type in _SECRETS:
        yield ("secret", kind, stream), event.position
    if event.type in ("subject_registered", "subject_clearance_set"):
        yield ("clearance", stream), payload["subject"]["clearance"]
    for role_id in (*payload.get("granted", ()), *payload.get("withdrawn", ())):
        yield ("role", stream, role_id), True if "granted" in payload else None
    if event.type in ("subject_rules_granted", "subject_rules_withdrawn"):
        rules = {(rule["api_id"], rule["rule_id"]): rule for rule in payload["rules"]}
        known = [fact for fact in now if fact[0] == "own"]
        for _, _, api_id, rule_id in known:
            if (api_id, rule_id) not in rules:
                yield ("own", stream, api_id, rule_id), None
        for (api_id, rule_id), rule in rules.items():
            yield ("own", stream, api_id, rule_id), rule
    if event.type in ("role_rules_granted", "role_rules_withdrawn"):
        for rule in payload["rules"]:
            yield ("rule", stream, rule["rule_id"]), rule if event.type == "role_rules_granted" else None
    if event.type in ("role_created", "role_removed"):
        yield ("made", "role", stream), True if event.type == "role_created" else None
    if event.type == "key_made":
        yield ("made", "key", stream), True


def _steps(facts: _Facts, erased: bool) -> list[Step]:
    steps: list[Step] = []
    sets: dict[tuple[int, Verb, Kind, str], list[Any]] = {}
    removed = {fact[2] for fact in facts.now if fact[:2] == ("made", "role") and facts.now[fact] is None}
    removed |= {fact[2] for fact in facts.runs if fact[:2] == ("made", "role")}
    for fact, run in facts.runs.items():
        now = facts.now[fact]
        if now == run.before:
            continue
        match fact:
            case ("status", kind, target, family_id):
                steps.append(_of_status(run, now, kind, UUID(target), UUID(family_id) if family_id else None))  # type: ignore[arg-type]
            case ("secret", kind, target):
                steps.append(Step(run.position, "suspend", kind, UUID(target)))  # type: ignore[arg-type]
            case ("made", "key", target):
                steps.append(Step(run.position, "revoke", "key", UUID(target)))
            case ("made", "role", target) if now is not None:
                steps.append(Step(run.position, "remove", "role", UUID(target)))
            case ("clearance", target) if not erased and run.before is not None:
                verb: Verb = "none" if run.before is _UNKNOWN else "set_clearance"
                why = UNKNOWN if run.before is _UNKNOWN else None
                value = None if run.before is _UNKNOWN else {"clearance": run.before, "from": now}
                steps.append(Step(run.position, verb, "subject", UUID(target), value, why=why))
            case ("role", target, role_id) if not erased:
                verb = "withdraw_roles" if now is not None else "grant_roles"
                sets.setdefault((run.position, verb, "subject", target), []).append(role_id)
            case ("own", target, _, _) if not erased:
                verb = "withdraw_rules" if now is not None else "grant_rules"
                sets.setdefault((run.position, verb, "subject", target), []).append(run.before or now)
            case ("rule", target, _) if target not in removed:
                verb = "withdraw_rules" if now is not None else "grant_rules"
                sets.setdefault((run.position, verb, "role", target), []).append(now or run.before)
    for (position, verb, kind, target), values in sets.items():
        if any(value is _UNKNOWN for value in values):
            steps.append(Step(position, "none", kind, UUID(target), why=UNKNOWN))
        else:
            steps.append(Step(position, verb, kind, UUID(target), values))
    return steps


def _of_status(run: _Run, now: tuple[str, str | None, str | None], kind: Kind, target: UUID, family_id: UUID | None) -> Step:
    if now[0] in ("revoked", "erased"):
        return Step(run.position, "none", kind, target, why=FOR_GOOD)
    if run.before is _UNKNOWN:
        return Step(run.position, "none", kind, target, why=UNKNOWN)
    if run.before is None and kind in ("subject", "client", "api"):
        return Step(run.position, "suspend", kind, target)  # it was made
    before = run.before or ("active", None, None)
    if before[0] == "active":
        if now[0] == "active":
            return Step(run.position, "none", kind, target, why="it stands as before")
        return Step(run.position, "reinstate", kind, target, family_id=family_id)
    return Step(run.position, "suspend", kind, target, {"reason": before[1], "until": before[2]}, family_id=family_id)
