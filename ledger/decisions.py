"""The decision: may this token call METHOD on this path? A pure function of position, instant, semantics and question.

Everything it looks at was read at one position; the instant is that of the same statement. Asked again with the same, the
answer is the same, for ever: a change of meaning gets the next number in EVALUATORS, and the released ones stay.
tests/golden/decisions.json is a frozen corpus of answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from ledger.cascade import TokenStanding, what_stops
from ledger.paths import Matcher, PathRefused, Template, canonical
from ledger.rules import METHOD, Rule
from ledger.states import Api, Client, Key, Role
from ledger.statuses import stands

SEMANTICS: Final = 1

# Every reason a decision can give, with what it means. Stable: clients and dashboards compare them.
REASONS: Final[Mapping[str, str]] = {
    "allowed": "a rule allows it, and none denies it",
    "unknown_token": "no token of this ledger, or its secret is wrong",
    "not_an_access_token": "a refresh token cannot call anything",
    "token_expired": "the token's time is over",
    "token_suspended": "the token is suspended",
    "token_revoked": "the token is revoked",
    "wrong_audience": "the token is not for the API that asks",
    "family_suspended": "the token's family is suspended",
    "family_revoked": "the token's family is revoked",
    "subject_suspended": "the subject is suspended",
    "subject_erased": "the subject was erased",
    "client_suspended": "the client the token was issued to is suspended",
    "api_suspended": "the API is suspended",
    "tokens_revoked_before": "all tokens of the subject, the client or the API up to a position were revoked",
    "key_revoked": "a key the token was made with is revoked",
    "bad_method": "not an HTTP method",
    "path_too_long": "over 8 KiB",
    "path_not_absolute": "not in origin form: it does not begin with /",
    "path_not_ascii": "characters that belong percent-encoded",
    "path_has_fragment": "a # in the path",
    "path_too_many_segments": "over 64 segments",
    "path_empty_segment": "two slashes together",
    "path_dot_segment": "a segment . or ..",
    "path_encoded_slash": "a slash after decoding",
    "path_backslash": "a backslash",
    "path_control_character": "a control character",
    "path_double_encoded": "%XX left after decoding once",
    "path_bad_escape": "a % without two hexadecimal digits",
    "path_not_utf8": "not UTF-8 after decoding",
    "path_semicolon": "a semicolon, which this API does not allow in paths",
    "denied_by_rule": "a rule of the subject denies it",
    "insufficient_clearance": "a rule allows it with a higher clearance than the subject has",
    "not_in_scope": "a role or rule of the subject allows it, which the token's scope leaves out",
    "no_rule": "no rule of the subject allows it",
}
# Of a decision about a subject, whatever its tokens: what can be said beside the reasons above.
REASONS_ABOUT_SUBJECTS: Final[Mapping[str, str]] = {
    "unknown_subject": "no subject, or one that has neither role nor rule of the API that asks",
}


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule, where the log says so, and its `line`, which decisions name it by."""

    rule: Rule
    position: int
    line: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", self.rule.line())


class RulesOfRoles(Protocol):
    """The compiled rules of an API's roles."""

    def match(self, method: str, segments: Sequence[str], groups: Iterable[UUID], own: str) -> list[tuple[UUID, PlacedRule]]:
        """Answer those of these roles that match, as ledger/paths.py does."""


@dataclass(slots=True)
class Reference:
    """Clients, APIs, roles, keys by id, and the compiled rules of each API's roles, as of one position."""

    position: int = 0
    clients: dict[UUID, Client] = field(default_factory=dict)
    apis: dict[UUID, Api] = field(default_factory=dict)
    roles: dict[UUID, Role] = field(default_factory=dict)
    keys: dict[UUID, Key] = field(default_factory=dict)
    matchers: dict[UUID, RulesOfRoles] = field(default_factory=dict)


class Holds(Protocol):
    """What rules are looked up by: roles and rules of a subject, and the scope of its token."""

    @property
    def subject_id(self) -> UUID: ...
    @property
    def subject_clearance(self) -> int: ...
    @property
    def subject_role_ids(self) -> list[UUID]: ...
    @property
    def subject_rules(self) -> list[dict[str, Any]] | None: ...
    @property
    def subject_rules_position(self) -> int | None: ...
    @property
    def role_ids(self) -> list[UUID] | None: ...
    @property
    def direct(self) -> bool: ...


class SubjectStanding(NamedTuple):
    """What the views say of one subject at one position: what Holds asks for, of a token that no scope restricts."""

    subject_id: UUID
    kind: str
    position: int
    status: str
    status_until: datetime | None
    subject_clearance: int
    subject_role_ids: list[UUID]
    subject_rules: list[dict[str, Any]] | None
    subject_rules_position: int | None
    role_ids: None = None
    direct: bool = True


class Question(NamedTuple):
    """What is asked. `api_id` is fixed by who asks, never by the request. `secret_matches`: None where there is no secret."""

    api_id: UUID
    method: str
    target: str
    secret_matches: bool | None
    instant: datetime
    position: int
    semantics: int = SEMANTICS


class Decision(NamedTuple):
    """The answer. `token_stands`: it is the path and the rules that said no, or yes.

    `evidence`: the positions behind it, as far as was looked: of token, family, subject, client, API and key where each came to
    be as it is; `cutoff`; `own_rules` of the subject, and of its `roles` in the API the one that changed last; of the `rule`
    that is named, and its `role`. docs/audit.md.
    """

    allowed: bool
    token_stands: bool
    reason: str
    position: int
    instant: datetime
    semantics: int
    evidence: dict[str, int]
    rule: dict[str, Any] | None = None
    missing: dict[str, int] | None = None


def decide(question: Question, token: TokenStanding | None, reference: Reference) -> Decision:
    """Decide under the semantics of the question; KeyError for semantics that were never released."""
    return EVALUATORS[question.semantics](question, token, reference)


def why_not_standing(
    question: Question, token: TokenStanding | None, reference: Reference, evidence: dict[str, int]
) -> str | None:
    """Answer why the token does not stand for the asking API, or None when it does; its evidence is added."""
    if token is None or question.secret_matches is False:
        return "unknown_token"
    if token.kind != "access":
        evidence["token"] = token.position
        return "not_an_access_token"
    return what_stops(token, reference, question.instant, question.api_id, evidence)


def _evaluate_1(question: Question, token: TokenStanding | None, reference: Reference) -> Decision:
    evidence: dict[str, int] = {}
    reason = why_not_standing(question, token, reference, evidence)
    if reason is not None or token is None:
        said = reason or "unknown_token"
        return Decision(False, False, said, question.position, question.instant, question.semantics, evidence)
    return _by_rules_1(question, token, reference, evidence)


def _by_rules_1(question: Question, token: Holds, reference: Reference, evidence: dict[str, int]) -> Decision:
    """Decide what the path and the rules say, where the token itself stands."""

    def answer(
        reason: str, *, allowed: bool = False, rule: dict[str, Any] | None = None, missing: dict[str, int] | None = None
    ) -> Decision:
        return Decision(allowed, True, reason, question.position, question.instant, question.semantics, evidence, rule, missing)

    if METHOD.fullmatch(question.method) is None:
        return answer("bad_method")
    try:
        segments = canonical(question.target, semicolons=reference.apis[question.api_id].semicolons)
    except PathRefused as refused:
        return answer(refused.reason)

    own = str(token.subject_id)
    found: list[tuple[UUID | None, PlacedRule]] = []
    if token.subject_rules and token.subject_rules_position is not None:
        evidence["own_rules"] = token.subject_rules_position
        rules = _own_rules.of(token.subject_id, token.subject_rules_position, token.subject_rules).get(question.api_id)
        if rules is not None:
            found += rules.match(question.method, segments, (None,), own)
    roles = [reference.roles.get(role_id) for role_id in token.subject_role_ids]
    held = [role for role in roles if role is not None and not role.removed and role.api_id == question.api_id]
    if held:
        # Each of them could deny or allow: where the one that changed last did so.
        evidence["roles"] = max([role.position for role in held])
        matcher = reference.matchers.get(question.api_id)
        if matcher is not None:
            found += matcher.match(question.method, segments, [role.role_id for role in held], own)
    if not found:
        return answer("no_rule")

    # A deny of any role or rule of the subject, whatever the token's scope: asking for less never sheds it.
    denying = [match for match in found if match[1].rule.effect == "deny"]
    if denying:
        return answer("denied_by_rule", rule=_rule_answer(*_named(denying), reference, evidence))
    in_scope = [match for match in found if _is_in_scope(match[0], token)]
    allowing = [match for match in in_scope if (match[1].rule.min_clearance or 0) <= token.subject_clearance]
    if allowing:
        return answer("allowed", allowed=True, rule=_rule_answer(*_named(allowing), reference, evidence))
    if in_scope:
        lacking = _named(in_scope)
        return answer(
            "insufficient_clearance",
            rule=_rule_answer(*lacking, reference, evidence),
            missing={"needed": lacking[1].rule.min_clearance or 0, "has": token.subject_clearance},
        )
    return answer("not_in_scope")


EVALUATORS: Final[Mapping[int, Callable[[Question, TokenStanding | None, Reference], Decision]]] = {1: _evaluate_1}
_BY_RULES: Final[Mapping[int, Callable[[Question, Holds, Reference, dict[str, int]], Decision]]] = {1: _by_rules_1}


def decide_by_rules(question: Question, subject: Holds, reference: Reference) -> Decision:
    """Decide for a subject that stands, whatever its tokens; the API must be in the reference data."""
    return _BY_RULES[question.semantics](question, subject, reference, {})


def decide_about_subject(question: Question, subject: SubjectStanding | None, reference: Reference) -> Decision:
    """Decide as for a token of the subject that stands and has its whole scope; the API must be in the reference data.

    Of whoever has nothing to do with the API its askers learn nothing, not even that there is such a subject.
    """
    evidence: dict[str, int] = {}

    def no(reason: str) -> Decision:
        return Decision(False, False, reason, question.position, question.instant, question.semantics, evidence)

    if subject is None or not _has_to_do_with(subject, question.api_id, reference):
        return no("unknown_subject")
    evidence["subject"] = subject.position
    if not stands(subject.status, subject.status_until, question.instant):
        return no(f"subject_{subject.status}")
    api = reference.apis[question.api_id]
    evidence["api"] = api.position
    if not stands(api.status, api.status_until, question.instant):
        return no("api_suspended")
    return _BY_RULES[question.semantics](question, subject, reference, evidence)


def _has_to_do_with(subject: SubjectStanding, api_id: UUID, reference: Reference) -> bool:
    return any(_is_standing(reference.roles.get(role_id), api_id) for role_id in subject.subject_role_ids) or any(
        rule["api_id"] == str(api_id) for rule in subject.subject_rules or ()
    )


def _is_standing(role: Role | None, api_id: UUID) -> bool:
    return role is not None and not role.removed and role.api_id == api_id


def _is_in_scope(role_id: UUID | None, token: Holds) -> bool:
    if role_id is None:
        return token.direct
    return token.role_ids is None or role_id in token.role_ids


def _named(matches: list[tuple[UUID | None, PlacedRule]]) -> tuple[UUID | None, PlacedRule]:
    """Answer which of several rules is named: the one that asks least, then the oldest, then by its text.

    The order is total, so that the answer never depends on how this worker came by its rules: one that was there for long found
    them in another order than one that has just begun.
    """
    return matches[0] if len(matches) == 1 else min(matches, key=_order)


def _order(match: tuple[UUID | None, PlacedRule]) -> tuple[int, int, str, str]:
    role_id, placed = match
    return placed.rule.min_clearance or 0, placed.position, placed.line, str(role_id)


def _rule_answer(role_id: UUID | None, placed: PlacedRule, reference: Reference, evidence: dict[str, int]) -> dict[str, Any]:
    evidence["rule"] = placed.position
    if role_id is None:
        return {"role": "direct", "rule": placed.line}
    role = reference.roles[role_id]
    evidence["role"] = role.position
    return {"role": role.name, "rule": placed.line}


# About 4 KB each (measured), so 80 MB: a bound on subjects would let 10,000 of them with 100 rules each take 4 GB.
MAX_COMPILED_RULES: Final = 20_000


class CompiledRules:
    """Rules of subjects' own, or of roles of the past, compiled; at most `max_rules`, those that came first go first.

    What stands at a position never changes, so its holder and the position name it for ever.
    """

    def __init__(self, max_rules: int) -> None:
        self._max_rules = max_rules
        self._kept: dict[tuple[UUID, int], dict[UUID, Matcher[None, PlacedRule]]] = {}
        self.rules = 0

    def __contains__(self, holder: tuple[UUID, int]) -> bool:
        return holder in self._kept

    def of(self, holder_id: UUID, position: int, rules: Sequence[dict[str, Any]]) -> dict[UUID, Matcher[None, PlacedRule]]:
        """Answer the matcher of each API of these rules, which are the holder's at this position.

        A subject's own stand at its position; one of a role has a position itself.
        """
        matchers = self._kept.get((holder_id, position))
        if matchers is None:
            matchers = {}
            for rule in rules:
                placed = PlacedRule(
                    Rule(rule["effect"], tuple(rule["methods"]), rule["path"], rule["min_clearance"]),
                    rule.get("position", position),
                )
                matcher = matchers.setdefault(UUID(rule["api_id"]), Matcher())
                matcher.add(None, UUID(rule["rule_id"]), placed.rule.methods, Template.parse(rule["path"]), placed)
            self._kept[holder_id, position] = matchers
            self.rules += _weight(matchers)
            while self.rules > self._max_rules:
                first = self._kept.pop(next(iter(self._kept)))
                self.rules -= _weight(first)
        return matchers


def _weight(matchers: Mapping[UUID, Matcher[None, PlacedRule]]) -> int:
    """Answer how many rules these are; none at all counts as one, or there would be no end of those."""
    return sum(map(len, matchers.values())) or 1


_own_rules: Final = CompiledRules(MAX_COMPILED_RULES)
