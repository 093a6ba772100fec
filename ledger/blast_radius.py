"""The blast radius of an incident: everything in the log that a leaked token, a rogue actor, a bad key or an interval led to.

A closure, worked out in waves: every event that is found raises questions (which events did it cause, what was done with the
token it issued, who could use the permission it gave), their answers are more events, until there are no more questions.
Pure: the questions are answered by projections/blast_radius.py. Taking it back: ledger/undoing.py. docs/incidents.md.

Each event is a line that says by which edge it is in, and from which line; the strongest edge that is found, in this order:

    start       what the question itself names
    issued_from a token that a refresh token was used for, in as many steps as there were
    done_by     an act of an account, or with a token
    caused_by   a command that names an event as what led to it
    granted_by  a token that could use a permission, or an account, that an event gave; it is in for what was done with it
                through that, not by itself
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from ledger.builtin import LEDGER_API
from ledger.log import Recorded

Edge = Literal["start", "issued_from", "done_by", "caused_by", "granted_by"]
By = Literal["token_id", "family_id", "subject_id", "client_id", "role_id"]

# Lines of a closure: more are left out, and that there are more is said.
MAX_LINES: Final = 10_000
# Questions that take statements of their own: about an account, and about who could use what was given.
MAX_ALONE: Final = 500
# Questions of a closure that were not answered to their end: so many are named.
MAX_LEFT_OUT: Final = 100

_ISSUES: Final = ("token_issued", "token_rotated")
# What makes an account somebody's, and up to which type of event about it.
_TAKES_ACCOUNT: Final[Mapping[str, tuple[str, str | None]]] = {
    "subject_registered": ("subject_id", None),
    "subject_password_set": ("subject_id", "subject_password_set"),
    "client_registered": ("client_id", None),
    "client_secret_rotated": ("client_id", "client_secret_rotated"),
    "client_keys_set": ("client_id", "client_keys_set"),
}
# What gives whatever is there already back, or an account a beginning: whose tokens.
_GIVES_TOKENS: Final[Mapping[str, By]] = {
    "subject_registered": "subject_id",
    "subject_reinstated": "subject_id",
    "client_registered": "client_id",
    "client_reinstated": "client_id",
    "family_reinstated": "family_id",
    "token_reinstated": "token_id",
}


class Found(Recorded, Protocol):
    """An event, with what was there before of a clearance, of a subject's own rules and of a client's settings."""

    @property
    def before(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Start:
    """Where an incident begins: one of the three ids, from `first` on; or every event from `first` to `last` (inclusive)."""

    token_id: UUID | None
    actor_id: UUID | None
    key_id: UUID | None
    first: int
    last: int | None


# ------------------------------------------------------------------------------------------------------------ questions
# `source`: the line that raises the question, None for the start. Positions: after the first, up to the second if any.


@dataclass(frozen=True, slots=True)
class Between:
    """Every event from one position to another, or to the end."""

    first: int
    last: int | None
    source: None = None


@dataclass(frozen=True, slots=True)
class IssueOf:
    """The event that issued a token."""

    token_id: UUID
    source: None = None


@dataclass(frozen=True, slots=True)
class MadeWith:
    """The tokens that were made with a key, as far as they stood after a position."""

    key_id: UUID
    after: int
    source: None = None


@dataclass(frozen=True, slots=True)
class CausedBy:
    """What an event led to."""

    position: int
    source: int


@dataclass(frozen=True, slots=True)
class ActsWith:
    """What was done with a token."""

    token_id: UUID
    after: int
    source: int


@dataclass(frozen=True, slots=True)
class IssuedFrom:
    """The tokens of a family that were issued after a position: each from a refresh token of it."""

    family_id: UUID
    after: int
    source: int


@dataclass(frozen=True, slots=True)
class ActsOf:
    """What an actor did, up to the next event of a type about it."""

    actor_id: UUID
    after: int
    until: str | None
    source: int | None


@dataclass(frozen=True, slots=True)
class Users:
    """The tokens that could use what an event gave: that stood there or were issued later, until it was taken back.

    Of one token, family, subject or client, or of whoever has a role. With the API in their audience and the role, or the
    subject's own rules `rule_ids`, in their scope, as far as these are given.
    """

    by: By
    of: UUID
    after: int
    source: int
    api_id: UUID | None = None
    role_id: UUID | None = None
    rule_ids: tuple[UUID, ...] = ()
    until: tuple[str, ...] = ()

    @property
    def reaches_ledger(self) -> bool:
        """Whether it can be used on the ledger itself, so that acts with the tokens may be through it."""
        return self.api_id in (None, LEDGER_API)


Question = Between | IssueOf | MadeWith | CausedBy | ActsWith | IssuedFrom | ActsOf | Users
_EDGES: Final[Mapping[type, Edge]] = {
    Between: "start",
    IssueOf: "start",
    MadeWith: "start",
    CausedBy: "caused_by",
    ActsWith: "done_by",
    IssuedFrom: "issued_from",
    ActsOf: "done_by",
    Users: "granted_by",
}
_STRENGTH: Final[Sequence[Edge]] = ("start", "issued_from", "done_by", "caused_by", "granted_by")


@dataclass(frozen=True, slots=True)
class Hit:
    """An event that answers a question; of tokens that were issued together, those that do. None: all of them."""

    event: Found
    token_ids: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question, by positions. `cut`: there is more than could be looked at. `until`: where it ends."""

    question: Question
    hits: Sequence[Hit]
    cut: bool = False
    until: int | None = None


# -------------------------------------------------------------------------------------------------------------- closure


@dataclass(frozen=True, slots=True)
class Line:
    """An event of the closure: by which edge and from which line it is in (None: by the start itself), and which of the
    tokens it issued are."""

    event: Found
    edge: Edge
    source: int | None
    token_ids: frozenset[UUID] = frozenset()

    @property
    def held(self) -> bool:
        """Whether the event itself belongs to the incident; otherwise it only could use something that does."""
        return self.edge != "granted_by"


@dataclass(slots=True)
class Closure:
    """The lines found so far, by position, and the questions that were not answered to their end."""

    start: Start
    api_of_role: Mapping[UUID, UUID]
    lines: dict[int, Line] = field(default_factory=dict)
    left_out: list[Question] = field(default_factory=list)
    _asked: set[tuple[object, ...]] = field(default_factory=set)
    _issued_at: dict[UUID, int] = field(default_factory=dict)
    _alone: int = 0

    def begin(self) -> list[Question]:
        """Answer the first questions."""
        start = self.start
        if start.token_id is not None:
            return [IssueOf(start.token_id)]
        if start.actor_id is not None:
            return [ActsOf(start.actor_id, start.first - 1, None, None)]
        if start.key_id is not None:
            return [MadeWith(start.key_id, start.first - 1)]
        return [Between(start.first, start.last)]

    def take(self, answers: Iterable[Answer]) -> list[Question]:
        """Take the answers of a wave in, and answer the questions of the next one."""
        following: list[Question] = []
        for answer in answers:
            if answer.cut:
                self.left_out.append(answer.question)
            for hit in answer.hits:
                if hit.event.position not in self.lines and len(self.lines) >= MAX_LINES:
                    self.left_out.append(answer.question)
                    break
                following += self._take(answer, hit)
        return [question for question in following if self._is_new(question) and self._has_room(question)]

    def _has_room(self, question: Question) -> bool:
        if not isinstance(question, ActsOf | Users):
            return True
        self._alone += 1
        if self._alone > MAX_ALONE:
            self.left_out.append(question)
        return self._alone <= MAX_ALONE

    def _take(self, answer: Answer, hit: Hit) -> list[Question]:
        question, event = answer.question, hit.event
        edge, source = edge_of(question), question.source
        tokens = _tokens(event)
        token_ids = hit.token_ids if hit.token_ids is not None else frozenset(tokens)
        if isinstance(question, IssuedFrom):
            parents = {UUID(row["issued_from"]) for row in tokens.values() if row["issued_from"] is not None}
            source = next((self._issued_at[parent] for parent in parents if parent in self._issued_at), source)
        line, known = Line(event, edge, source, token_ids), self.lines.get(event.position)
        if known is not None and known.held == line.held:
            line = replace(line, token_ids=token_ids | known.token_ids)
        if known is None or _STRENGTH.index(edge) < _STRENGTH.index(known.edge):
            self.lines[event.position] = line
        elif known.held == line.held:
            self.lines[event.position] = replace(known, token_ids=line.token_ids)
        if isinstance(question, Users):
            # The token is in for what it was used for: no more than what is done with it while it has what was given.
            after = max(event.position, question.after)
            return [
                ActsWith(token_id, after, event.position)
                for token_id in sorted(token_ids)
                if question.reaches_ledger and str(LEDGER_API) in tokens[token_id]["api_ids"]
            ]
        for token_id in token_ids:
            self._issued_at[token_id] = event.position
        after = max(event.position, question.after) if isinstance(question, MadeWith) else event.position
        if isinstance(question, IssueOf):
            after = max(after, self.start.first - 1)
        return [*_what_follows(event, self.api_of_role), *_of_tokens(event, tokens, token_ids, after)]

    def _is_new(self, question: Question) -> bool:
        # Whoever asks: the answer is the same.
        asked = (type(question), *(getattr(question, name) for name in question.__slots__ if name != "source"))
        if asked in self._asked:
            return False
        self._asked.add(asked)
        return True


def edge_of(question: Question) -> Edge:
    """Answer the edge by which the answers of a question are in."""
    return _EDGES[type(question)]


def _tokens(event: Found) -> dict[UUID, dict[str, Any]]:
    return {UUID(row["token_id"]): row for row in event.payload["tokens"]} if event.type in _ISSUES else {}


def _of_tokens(
    event: Found, tokens: Mapping[UUID, Mapping[str, Any]], token_ids: Collection[UUID], after: int
) -> list[Question]:
    """Answer what is asked about tokens that are in whole: what was done with them, and what was issued from them."""
    questions: list[Question] = []
    for token_id in sorted(token_ids):
        if tokens[token_id]["kind"] == "access":
            questions.append(ActsWith(token_id, after, event.position))
        else:
            questions.append(IssuedFrom(UUID(tokens[token_id]["family_id"]), after, event.position))
    return questions


def _what_follows(event: Found, api_of_role: Mapping[UUID, UUID]) -> list[Question]:
    """Answer what is asked about an event by its type."""
    payload, position = event.payload, event.position
    questions: list[Question] = [CausedBy(position, position)]
    if event.type in _TAKES_ACCOUNT:
        member, until = _TAKES_ACCOUNT[event.type]
        questions.append(ActsOf(UUID(payload[member]), position, until, position))
    if event.type in _GIVES_TOKENS:
        by = _GIVES_TOKENS[event.type]
        questions.append(Users(by, UUID(payload[by]), position, position))
    if event.type == "subject_roles_granted":
        questions += [
            Users(
                "subject_id",
                UUID(payload["subject_id"]),
                position,
                position,
                api_id=api_of_role[UUID(role_id)],
                role_id=UUID(role_id),
                until=("subject_roles_withdrawn",),
            )
            for role_id in payload["granted"]
        ]
    if event.type == "subject_rules_granted":
        held = {(rule["api_id"], rule["rule_id"]) for rule in event.before or ()}
        given: dict[UUID, list[UUID]] = {}
        for rule in payload["rules"]:
            if (rule["api_id"], rule["rule_id"]) not in held and rule["effect"] == "allow":
                given.setdefault(UUID(rule["api_id"]), []).append(UUID(rule["rule_id"]))
        questions += [
            Users(
                "subject_id",
                UUID(payload["subject_id"]),
                position,
                position,
                api_id=api_id,
                rule_ids=tuple(rule_ids),
                until=("subject_rules_withdrawn",),
            )
            for api_id, rule_ids in given.items()
        ]
    if event.type == "subject_clearance_set" and payload["subject"]["clearance"] > (event.before or 0):
        whose = UUID(payload["subject_id"])
        questions.append(Users("subject_id", whose, position, position, until=("subject_clearance_set",)))
    if event.type == "role_rules_granted" and any(rule["effect"] == "allow" for rule in payload["rules"]):
        role_id, api_id = UUID(payload["role_id"]), UUID(payload["api_id"])
        questions.append(Users("role_id", role_id, position, position, api_id=api_id, role_id=role_id, until=("role_removed",)))
    if event.type == "client_changed":
        client_id, had = UUID(payload["client_id"]), event.before
        if set(payload["client"]["grants"]) - set(had["grants"]):
            questions.append(ActsOf(client_id, position, None, position))
        questions += [
            Users("client_id", client_id, position, position, api_id=UUID(api_id))
            for api_id in payload["client"]["api_ids"]
            if api_id not in had["api_ids"]
        ]
    return questions
