"""What a token is worth, said a second time and plainly: the model that decisions are checked against, now and then.

Knows the events and nothing else: no SQL, no views, and none of the code that decides. `Past` takes events one after the other
and answers for the last one that it took. Of paths it knows those in TARGETS and TEMPLATES, whose meaning is written by hand.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ledger.events import (
    AdministratorsChanged,
    ApiEvent,
    ClientEvent,
    FamilyChanged,
    KeyEvent,
    LockoutEvent,
    LogOpened,
    NameReleased,
    NameTaken,
    PartitionArchived,
    RoleEvent,
    RoleRulesGranted,
    RoleRulesWithdrawn,
    SubjectChanged,
    SubjectRulesChanged,
    TokenIssued,
    TokenRotated,
    TokensArchived,
    TokenStateChanged,
)
from ledger.states import (
    Api,
    Client,
    Family,
    Key,
    Lockout,
    Role,
    RuleOfApi,
    RuleOfRole,
    Subject,
    Token,
    TokenState,
)
from tests.model import Recorded

NOT_OPENED: Final = UUID(int=0)
# What rules are written with, as a regular expression over the path; `own`: of the subject's own id.
TEMPLATES: Final[Mapping[str, str]] = {
    "/orders": "/orders",
    "/orders/{id}": "/orders/[^/]+",
    "/orders/**": "/orders/.*",
    "/orders/{id}/lines": "/orders/[^/]+/lines",
    "/people/{sub}": "/people/own",
    "/**": "/.*",
}
# What is asked for: the path after decoding, or the reason it is refused for. `own` as above.
TARGETS: Final[Mapping[str, str]] = {
    "/": "/",
    "/orders": "/orders",
    "/orders/": "/orders/",
    "/orders/7": "/orders/7",
    "/%6frders/7?page=2": "/orders/7",
    "/orders/7/lines": "/orders/7/lines",
    "/orders/7;rev=2": "/orders/7;rev=2",
    "/people/own": "/people/own",
    "/people/7": "/people/7",
    "/orders//7": "path_empty_segment",
    "/orders/%2e%2e/7": "path_dot_segment",
}
METHODS: Final = ("GET", "GET", "HEAD", "HEAD", "POST", "DELETE", "DELETE", "get")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a token: may it call this of that API at this instant? `target` is one of TARGETS."""

    token_id: UUID
    api_id: UUID
    method: str
    target: str
    secret_matches: bool
    instant: datetime


@dataclass(frozen=True, slots=True)
class Worth:
    """The answer: the reason, the rule it names with where that stands, and the clearance that is missing."""

    reason: str
    rule: dict[str, Any] | None = None
    rule_position: int | None = None
    missing: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A rule that matches a question. `role_id` None: the subject's own."""

    role_id: UUID | None
    rule: RuleOfRole | RuleOfApi
    position: int

    @property
    def line(self) -> str:
        clearance = f" clearance {self.rule.min_clearance}" if self.rule.min_clearance else ""
        return f"{self.rule.effect} {','.join(self.rule.methods)} {self.rule.path}{clearance}"


@dataclass(slots=True)
class Past:
    """What the events up to `position` have said last of everything, but for what left with an archive. Rows know where they
    were said."""

    position: int = 0
    log_id: UUID = NOT_OPENED
    tokens: dict[UUID, Token] = field(default_factory=dict)
    token_states: dict[UUID, TokenState] = field(default_factory=dict)
    families: dict[UUID, Family] = field(default_factory=dict)
    subjects: dict[UUID, Subject] = field(default_factory=dict)
    own_rules: dict[UUID, tuple[int, tuple[RuleOfApi, ...]]] = field(default_factory=dict)
    clients: dict[UUID, Client] = field(default_factory=dict)
    apis: dict[UUID, Api] = field(default_factory=dict)
    roles: dict[UUID, Role] = field(default_factory=dict)
    role_rules: dict[UUID, dict[UUID, tuple[int, RuleOfRole]]] = field(default_factory=dict)
    keys: dict[UUID, Key] = field(default_factory=dict)
    lockouts: dict[UUID, Lockout] = field(default_factory=dict)
    dead_up_to: dict[UUID, int] = field(default_factory=dict)  # of a subject, client or API: its tokens from here or before

    def take(self, recorded: Recorded) -> None:
        """Go on by one event."""
        self.position = position = recorded.position
        match recorded.event:
            case TokenIssued() | TokenRotated() as event:
                for token in event.tokens:
                    self.tokens[token.token_id] = replace(token, position=position)
                if event.family is not None:
                    self.families[event.family_id] = replace(event.family, position=position)
            case TokenStateChanged() as event:
                self.token_states[event.token_id] = replace(event.token_state, position=position)
            case FamilyChanged() as event:
                self.families[event.family_id] = replace(event.family, position=position)
            case SubjectChanged() as event:
                self.subjects[event.subject_id] = replace(event.subject, position=position)
                self._cut(event.subject_id, event.cuts_off, event.subject.cutoff_position)
            case SubjectRulesChanged() as event:
                self.own_rules[event.subject_id] = (position, event.rules)
            case ClientEvent() as event:
                self.clients[event.client_id] = replace(event.client, position=position)
                self._cut(event.client_id, event.cuts_off, event.client.cutoff_position)
            case ApiEvent() as event:
                self.apis[event.api_id] = replace(event.api, position=position)
                self._cut(event.api_id, event.cuts_off, event.api.cutoff_position)
            case RoleEvent() as event:
                self.roles[event.role_id] = replace(event.role, position=position)
                rules = self.role_rules.setdefault(event.role_id, {})
                if isinstance(event, RoleRulesGranted):
                    rules.update((rule.rule_id, (position, rule)) for rule in event.rules)
                if isinstance(event, RoleRulesWithdrawn):
                    for rule in event.rules:
                        del rules[rule.rule_id]
            case KeyEvent() as event:
                self.keys[event.key_id] = replace(event.key, position=position)
            case LockoutEvent() as event:
                self.lockouts[event.lockout_id] = event.lockout
            case TokensArchived() as event:
                self._let_go(event)
            case LogOpened() as event:
                self.log_id = event.log_id
            case AdministratorsChanged() | NameTaken() | NameReleased() | PartitionArchived():
                pass
            case other:
                raise AssertionError(f"the model does not know {other.TYPE}")

    def _let_go(self, archived: TokensArchived) -> None:
        def leaves(row: Token | Family) -> bool:
            in_range = archived.from_position <= row.position < archived.to_position
            return in_range and row.expires_at <= archived.ended_before

        for token_id in [token_id for token_id, token in self.tokens.items() if leaves(token)]:
            del self.tokens[token_id]
            self.token_states.pop(token_id, None)
        self.families = {family_id: family for family_id, family in self.families.items() if not leaves(family)}

    def _cut(self, entity_id: UUID, cuts_off: bool, said: int) -> None:
        self.dead_up_to[entity_id] = self.position if cuts_off else said

    # -------------------------------------------------------------------------------------------------------- decisions

    def worth(self, asked: Asked) -> Worth:
        """Answer whether the token may call what is asked for."""
        token = self.tokens.get(asked.token_id)
        if token is None or not asked.secret_matches:
            return Worth("unknown_token")
        if token.kind == "refresh":
            return Worth("not_an_access_token")
        stopped_by = self.stopped_by(token, asked.instant, asked.api_id)
        if stopped_by is not None:
            return Worth(stopped_by)
        if not asked.method.isupper():
            return Worth("bad_method")
        path = TARGETS[asked.target]
        if not path.startswith("/"):
            return Worth(path)
        if ";" in path and not self.apis[asked.api_id].semicolons:
            return Worth("path_semicolon")
        return self._by_rules(token, asked, path)

    def stopped_by(self, token: Token, now: datetime, api_id: UUID | None) -> str | None:
        """Answer what stops the token for an API, or, without one, altogether."""
        return next(self._stops(token, now, api_id), None)

    def _stops(self, token: Token, now: datetime, api_id: UUID | None) -> Iterator[str]:
        said, family = self.token_states.get(token.token_id), self.families.get(token.family_id)
        idle_end = family.idle_expires_at if family and token.kind == "refresh" else None
        if token.expires_at <= now or (idle_end is not None and idle_end <= now):
            yield "token_expired"
        if said is not None and said.status == "revoked":
            yield "token_revoked"
        if said is not None and _is_paused(said, now):
            yield "token_suspended"
        if api_id is not None and api_id not in token.api_ids:
            yield "wrong_audience"
        if family is not None and family.status == "revoked":
            yield "family_revoked"
        if family is not None and _is_paused(family, now):
            yield "family_suspended"
        subject = self.subjects[token.subject_id]
        if subject.status == "erased":
            yield "subject_erased"
        if _is_paused(subject, now):
            yield "subject_suspended"
        if _is_paused(self.clients[token.client_id], now):
            yield "client_suspended"
        if api_id is not None and _is_paused(self.apis[api_id], now):
            yield "api_suspended"
        if any(token.position <= self.dead_up_to[of] for of in (token.subject_id, token.client_id, *token.api_ids)):
            yield "tokens_revoked_before"
        if any(self.keys[key_id].status == "revoked" for key_id in token.key_ids):
            yield "key_revoked"

    def _by_rules(self, token: Token, asked: Asked, path: str) -> Worth:
        subject = self.subjects[token.subject_id]
        found = [rule for rule in self._rules_of(subject, asked.api_id) if _matches(rule.rule, asked.method, path)]
        # Which one is named: it asks least, then it is the oldest, then by its text.
        found.sort(key=lambda rule: (rule.rule.min_clearance or 0, rule.position, rule.line, str(rule.role_id)))
        denying = [rule for rule in found if rule.rule.effect == "deny"]
        if denying:
            return self._named("denied_by_rule", denying[0])
        in_scope = [
            rule
            for rule in found
            if (token.direct if rule.role_id is None else token.role_ids is None or rule.role_id in token.role_ids)
        ]
        for rule in in_scope:
            needed = rule.rule.min_clearance or 0
            if needed <= subject.clearance:
                return self._named("allowed", rule)
            return self._named("insufficient_clearance", rule, {"needed": needed, "has": subject.clearance})
        return Worth("not_in_scope" if found else "no_rule")

    def _rules_of(self, subject: Subject, api_id: UUID) -> Iterator[_Found]:
        position, own = self.own_rules.get(subject.subject_id, (0, ()))
        yield from (_Found(None, rule, position) for rule in own if rule.api_id == api_id)
        for role_id in subject.role_ids:
            role = self.roles[role_id]
            if role.api_id == api_id and not role.removed:
                yield from (_Found(role_id, rule, position) for position, rule in self.role_rules[role_id].values())

    def _named(self, reason: str, found: _Found, missing: dict[str, int] | None = None) -> Worth:
        role = "direct" if found.role_id is None else self.roles[found.role_id].name
        return Worth(reason, {"role": role, "rule": found.line}, found.position, missing)

    # --------------------------------------------------------------------------------------------------- what people read

    def standing(self, token: Token, now: datetime) -> tuple[str, str | None, tuple[UUID, ...]]:
        """Answer state, reason and the APIs it stands for, as listings and timelines say it."""
        if token.kind == "refresh":
            reason = self.stopped_by(token, now, None)
            if reason is None and token.generation != self.families[token.family_id].generation:
                return "rotated", "token_rotated", ()
            return _state_of(reason), reason, () if reason else token.api_ids
        reasons = [self.stopped_by(token, now, api_id) for api_id in token.api_ids]
        standing_for = tuple(api_id for api_id, reason in zip(token.api_ids, reasons, strict=True) if reason is None)
        if standing_for:
            return "active", None, standing_for
        # One API that is suspended says less than what another one knows.
        reason = next((reason for reason in reasons if reason != "api_suspended"), "api_suspended")
        return _state_of(reason), reason, ()

    def current_tokens(self, now: datetime) -> set[UUID]:
        """Answer the tokens of the view `current_tokens`: those that nothing stops but a suspended API, and no rotated ones."""
        return {
            token.token_id
            for token in self.tokens.values()
            if self.stopped_by(token, now, None) is None
            and (token.kind == "access" or token.generation == self.families[token.family_id].generation)
        }

    def current_permissions(self) -> set[tuple[UUID, UUID, UUID | None, str, str, int]]:
        """Answer the rows of the view `current_permissions`: subject, API, role, effect, path, where the rule was granted."""
        return {
            (subject.subject_id, api_id, found.role_id, found.rule.effect, found.rule.path, found.position)
            for subject in self.subjects.values()
            for api_id in self.apis
            for found in self._rules_of(subject, api_id)
        }

    def states(self) -> dict[tuple[str, UUID], tuple[int, object]]:
        """Answer the state of everything, and since which position it is so: what /v1/audit/changes compares."""
        active = {
            token_id: TokenState(token_id, "active", None, None, token.position) for token_id, token in self.tokens.items()
        }
        rows: Mapping[str, Mapping[UUID, Any]] = {
            "token": active | self.token_states,
            "family": self.families,
            "subject": self.subjects,
            "client": self.clients,
            "api": self.apis,
            "key": self.keys,
        }
        found: dict[tuple[str, UUID], tuple[int, object]] = {}
        for kind, of_kind in rows.items():
            for row_id, row in of_kind.items():
                # Of a cut-off a row says what it was before it: what counts is which tokens are dead.
                row_of = {"cutoff_position": 0} if hasattr(row, "cutoff_position") else {}
                found[kind, row_id] = row.position, (replace(row, position=0, **row_of), self.dead_up_to.get(row_id))
        found |= {("role", role_id): (role.position, role) for role_id, role in self.roles.items()}
        return found | {("subject_rules", subject_id): rules for subject_id, rules in self.own_rules.items()}


def _is_paused(row: TokenState | Family | Subject | Client | Api, now: datetime) -> bool:
    return row.status == "suspended" and (row.status_until is None or now < row.status_until)


def _matches(rule: RuleOfRole | RuleOfApi, method: str, path: str) -> bool:
    if rule.path not in TEMPLATES:
        return False  # of the roles that every ledger has: they are about none of TARGETS
    methods = {method, "*"} | ({"GET"} if method == "HEAD" else set())
    return bool(methods & set(rule.methods)) and re.fullmatch(TEMPLATES[rule.path], path) is not None


def _state_of(reason: str | None) -> str:
    if reason is None:
        return "active"
    if reason == "token_expired":
        return "expired"
    return "suspended" if reason.endswith("_suspended") else "revoked"
