"""Decisions: each reason, which comes first, and what a decision does not depend on."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import decisions
from ledger.cascade import TokenStanding
from ledger.decisions import (
    EVALUATORS,
    REASONS,
    SEMANTICS,
    CompiledRules,
    Decision,
    Reference,
    decide,
)
from ledger.paths import Matcher, Template, canonical
from ledger.rules import Rule
from tests import decision_corpus as corpus
from tests.builders import NOON
from tests.decision_corpus import (
    ACTIVE_KEY,
    APIS,
    BARRED,
    CLERK,
    CLIENTS,
    CLOSED,
    CUT,
    CUT_SHOP,
    HEAD_POSITION,
    KEYS,
    MANAGER,
    ORDERS,
    READER,
    REMOVED,
    RETIRED_KEY,
    REVOKED_KEY,
    ROLES,
    RULES,
    SHOP,
    STOCK,
    SUBJECT,
    SUSPENDED_SHOP,
    TICK,
    everything,
    own_rules,
    question,
    reference,
    standing,
)

FROZEN_REFERENCE, FROZEN = corpus.read()


def decided(token: TokenStanding | None, method: str = "GET", target: str = "/orders", **asked: Any) -> Decision:
    return decide(question(method, target, **asked), token, everything())


def with_rules(*lines: str, clearance: int = 5, **changes: Any) -> TokenStanding:
    """A person without roles, and with own rules that no other test has: what is compiled is kept by subject and position."""
    return standing(subject_id=uuid4(), subject_role_ids=[], subject_clearance=clearance, **own_rules(310, *lines), **changes)


# ------------------------------------------------------------------------------------------------------ the frozen corpus


@pytest.mark.parametrize("name", FROZEN)
def test_what_was_decided_once_is_decided_so_for_ever(name: str) -> None:
    case = FROZEN[name]
    assert decide(case.question, case.token, FROZEN_REFERENCE) == case.answer


def test_the_corpus_has_every_case_and_every_reason() -> None:
    assert [name for name, _, _ in corpus.cases() if name not in FROZEN] == []
    assert len(FROZEN) >= 150
    assert {case.answer.reason for case in FROZEN.values()} == REASONS.keys()
    assert {case.question.semantics for case in FROZEN.values()} == EVALUATORS.keys()


def test_semantics_that_were_never_released_decide_nothing() -> None:
    assert SEMANTICS in EVALUATORS
    for semantics in (0, max(EVALUATORS) + 1):
        with pytest.raises(KeyError):
            decided(standing(), semantics=semantics)


def test_every_decision_says_when_and_under_what_it_was_made() -> None:
    for token in (None, standing(), standing(token_status="revoked", token_status_position=600)):
        answer = decided(token, position=777, instant=NOON + TICK)
        assert (answer.position, answer.instant, answer.semantics) == (777, NOON + TICK, SEMANTICS)


# ------------------------------------------------------------------------------------------------------------- the order

_STOPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("unknown_token", {}, {"secret_matches": False}),
    ("not_an_access_token", {"kind": "refresh"}, {}),
    ("token_expired", {"expires_at": NOON}, {}),
    ("token_revoked", {"token_status": "revoked", "token_status_position": 600}, {}),
    ("wrong_audience", {"api_ids": [CUT]}, {}),
    ("family_revoked", {"family_status": "revoked"}, {}),
    ("subject_suspended", {"subject_status": "suspended"}, {}),
    ("client_suspended", {"client_id": SUSPENDED_SHOP}, {}),
    ("tokens_revoked_before", {"subject_cutoff_position": 500}, {}),
    ("key_revoked", {"key_ids": [REVOKED_KEY]}, {}),
    ("bad_method", {}, {"method": "get"}),
    ("path_dot_segment", {}, {"target": "/.."}),
]


@pytest.mark.parametrize("first", range(len(_STOPS)), ids=[reason for reason, _, _ in _STOPS])
def test_of_several_reasons_the_first_in_order_is_given(first: int) -> None:
    changes: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for _, of_token, of_question in reversed(_STOPS[first:]):
        changes |= of_token
        asked |= of_question
    answer = decided(standing(**changes), **asked)
    assert (answer.allowed, answer.reason) == (False, _STOPS[first][0])
    assert answer.token_stands == (answer.reason in ("bad_method", "path_dot_segment"))


def test_a_suspended_api_comes_after_the_client_and_before_the_cut_off() -> None:
    closed = standing(api_ids=[CLOSED], subject_cutoff_position=500)
    assert decided(closed, api_id=CLOSED).reason == "api_suspended"
    assert decided(closed._replace(client_id=SUSPENDED_SHOP), api_id=CLOSED).reason == "client_suspended"


def test_whether_the_token_stands_does_not_depend_on_what_is_asked() -> None:
    for method, target in (("GET", "/orders"), ("GET", "/nothing"), ("get", "/orders"), ("GET", ""), ("DELETE", "/..")):
        assert decided(standing(), method, target).token_stands
        assert not decided(standing(subject_status="suspended"), method, target).token_stands


# -------------------------------------------------------------------------------------------------------------- instants


@pytest.mark.parametrize(("after", "reason"), [(-TICK, "allowed"), (timedelta(0), "token_expired"), (TICK, "token_expired")])
def test_a_token_ends_at_its_end(after: timedelta, reason: str) -> None:
    token = standing()
    assert decided(token, instant=token.expires_at + after).reason == reason


@pytest.mark.parametrize("what", ["token_status", "family_status", "subject_status"])
def test_a_suspension_ends_at_its_end(what: str) -> None:
    changes: dict[str, Any] = {what: "suspended", f"{what}_until": NOON}
    if what == "token_status":
        changes["token_status_position"] = 600
    token = standing(**changes)
    assert decided(token, instant=NOON - TICK).reason == what.replace("status", "suspended")
    assert decided(token, instant=NOON).allowed


@pytest.mark.parametrize("of_client", [True, False])
def test_a_suspension_of_a_client_or_an_api_ends_at_its_end(of_client: bool) -> None:
    suspended: dict[str, Any] = {"status": "suspended", "status_until": NOON}
    made = reference(
        [replace(CLIENTS[0], **suspended if of_client else {})],
        [replace(APIS[0], **{} if of_client else suspended), APIS[1]],
        ROLES,
        KEYS,
        RULES,
    )
    early, late = (decide(question(instant=instant), standing(), made) for instant in (NOON - TICK, NOON))
    assert early.reason == ("client_suspended" if of_client else "api_suspended")
    assert late.allowed


def test_a_revocation_has_no_end() -> None:
    token = standing(token_status="revoked", token_status_until=NOON, token_status_position=600)
    assert decided(token, instant=NOON + TICK).reason == "token_revoked"


# ------------------------------------------------------------------------------------------------------------- cut-offs


@pytest.mark.parametrize(("cutoff", "allowed"), [(499, True), (500, False), (501, False)])
@pytest.mark.parametrize("of", ["subject", "client", "api", "another API of the audience"])
def test_a_cut_off_takes_the_tokens_up_to_it(of: str, cutoff: int, allowed: bool) -> None:
    made = reference(
        [replace(CLIENTS[0], cutoff_position=cutoff if of == "client" else 0)],
        [
            replace(APIS[0], cutoff_position=cutoff if of == "api" else 0),
            replace(APIS[1], cutoff_position=cutoff if of == "another API of the audience" else 0),
        ],
        ROLES,
        KEYS,
        RULES,
    )
    answer = decide(question(), standing(subject_cutoff_position=cutoff if of == "subject" else 0), made)
    assert answer.allowed is allowed
    assert answer.evidence.get("cutoff") == (None if allowed else cutoff)


def test_the_newest_of_several_cut_offs_is_named() -> None:
    token = standing(client_id=CUT_SHOP, api_ids=[ORDERS, CUT], subject_cutoff_position=700)
    assert decided(token).evidence["cutoff"] == 700


# ------------------------------------------------------------------------------------------------------ rules and scope


def test_a_deny_wins_over_every_allow() -> None:
    answer = decided(with_rules("allow * /**", "deny GET /orders"))
    assert (answer.reason, answer.rule) == ("denied_by_rule", {"role": "direct", "rule": "deny GET /orders"})


def test_a_deny_of_a_role_outside_the_scope_counts() -> None:
    token = standing(subject_role_ids=[MANAGER, BARRED], role_ids=[MANAGER], direct=False)
    answer = decided(token, "GET", "/orders/7")
    assert answer.reason == "denied_by_rule"
    assert answer.rule is not None
    assert answer.rule["role"] == "barred"


def test_an_own_deny_counts_without_direct_in_the_scope() -> None:
    token = with_rules("deny GET /orders")._replace(subject_role_ids=[READER], role_ids=[READER], direct=False)
    assert decided(token).reason == "denied_by_rule"


def test_a_deny_counts_whatever_the_clearance() -> None:
    assert decided(standing(subject_role_ids=[MANAGER, BARRED], subject_clearance=100), "GET", "/orders/7").reason == (
        "denied_by_rule"
    )


def test_a_role_of_the_scope_that_the_subject_has_not_allows_nothing() -> None:
    assert decided(standing(subject_role_ids=[], role_ids=[MANAGER])).reason == "no_rule"
    assert decided(standing(subject_role_ids=[READER], role_ids=[MANAGER])).reason == "not_in_scope"


@pytest.mark.parametrize("target", ["/orders", "/files/a"])
def test_a_removed_role_neither_allows_nor_denies(target: str) -> None:
    assert decided(standing(subject_role_ids=[REMOVED]), "GET", target).reason == "no_rule"
    assert decided(standing(subject_role_ids=[REMOVED, READER]), "GET", target).allowed


def test_own_rules_allow_with_direct_in_the_scope_only() -> None:
    token = with_rules("allow GET /orders")
    assert decided(token).rule == {"role": "direct", "rule": "allow GET /orders"}
    assert decided(token._replace(role_ids=[])).allowed
    assert decided(token._replace(direct=False)).reason == "not_in_scope"


def test_own_rules_are_of_one_api() -> None:
    token = standing(subject_id=uuid4(), subject_role_ids=[], **own_rules(310, "allow GET /orders", api_id=STOCK))
    assert decided(token).reason == "no_rule"
    assert decided(token, api_id=STOCK).allowed


def test_own_rules_are_those_of_their_position() -> None:
    before = with_rules("allow GET /orders")
    after = before._replace(**own_rules(311, "allow GET /other"))
    none = before._replace(subject_rules=[], subject_rules_position=312)
    assert [decided(token).allowed for token in (before, after, none, before, after)] == [True, False, False, True, False]


def test_sub_is_the_subject_of_the_token() -> None:
    token = with_rules("allow GET /people/{sub}")
    assert decided(token, "GET", f"/people/{token.subject_id}").allowed
    assert decided(token, "GET", f"/people/{SUBJECT}").reason == "no_rule"


@pytest.mark.parametrize(("clearance", "reason"), [(6, "insufficient_clearance"), (7, "allowed"), (8, "allowed")])
def test_a_clearance_is_enough_at_its_level(clearance: int, reason: str) -> None:
    answer = decided(with_rules("allow GET /orders clearance 7", clearance=clearance))
    assert answer.reason == reason
    assert answer.missing == (None if answer.allowed else {"needed": 7, "has": clearance})


def test_the_rule_that_asks_least_is_named() -> None:
    lines = ["allow GET /orders clearance 9", "allow GET /{x} clearance 7", "allow * /** clearance 8"]
    for clearance, rule in ((6, lines[1]), (7, lines[1]), (100, lines[1])):
        assert decided(with_rules(*lines, clearance=clearance)).rule == {"role": "direct", "rule": rule}


def test_what_the_scope_leaves_out_is_said_only_where_nothing_in_the_scope_matches() -> None:
    token = with_rules("allow GET /orders clearance 7", clearance=5)._replace(subject_role_ids=[READER], role_ids=[])
    assert decided(token).reason == "insufficient_clearance"
    assert decided(token._replace(direct=False)).reason == "not_in_scope"


def test_head_is_allowed_and_denied_by_get() -> None:
    assert decided(with_rules("allow GET /a"), "HEAD", "/a").allowed
    assert decided(with_rules("allow * /**", "deny GET /a"), "HEAD", "/a").reason == "denied_by_rule"
    assert decided(with_rules("allow * /**", "deny HEAD /a"), "GET", "/a").allowed
    assert decided(with_rules("allow HEAD /a"), "GET", "/a").reason == "no_rule"


def test_semicolons_are_for_the_api_to_allow() -> None:
    token = standing(subject_id=uuid4(), subject_role_ids=[], **own_rules(310, "allow GET /**", api_id=STOCK))
    assert decided(token, "GET", "/a;b", api_id=STOCK).allowed
    assert decided(token, "GET", "/a;b").reason == "path_semicolon"


# -------------------------------------------------------------------------------------------------------------- evidence


def test_a_decision_names_the_positions_behind_it() -> None:
    token = standing(
        position=501,
        family_position=502,
        subject_position=503,
        strategy="jwe",
        key_ids=[ACTIVE_KEY, RETIRED_KEY],
        token_status="active",
        token_status_position=601,
        subject_role_ids=[CLERK],
    )
    answer = decided(token, "POST", "/orders")
    assert answer.evidence == {
        "token": 601,
        "family": 502,
        "subject": 503,
        "client": 110,
        "api": 120,
        "key": 141,
        "roles": 130,
        "rule": 152,
        "role": 130,
    }


def test_a_no_names_the_roles_and_own_rules_that_did_not_say_otherwise() -> None:
    assert decided(standing(subject_role_ids=[CLERK]), "PATCH", "/orders").evidence["roles"] == 130
    evidence = decided(with_rules("allow GET /orders"), "PATCH", "/orders").evidence
    assert evidence["own_rules"] == 310
    assert "rule" not in evidence


def test_what_was_not_looked_at_is_no_evidence() -> None:
    assert decided(None).evidence == {}
    assert decided(standing(), secret_matches=False).evidence == {}
    assert decided(standing(api_ids=[STOCK])).evidence == {"token": 500}
    assert decided(standing(family_status="revoked", family_position=611)).evidence == {"token": 500, "family": 611}


def test_an_own_rule_is_evidence_by_its_position_and_has_no_role() -> None:
    evidence = decided(with_rules("allow GET /orders")).evidence
    assert evidence["rule"] == 310
    assert "role" not in evidence


def test_no_position_of_the_evidence_is_above_the_one_of_the_answer() -> None:
    for case in FROZEN.values():
        if case.question.position == HEAD_POSITION:
            assert all(0 < position <= HEAD_POSITION for position in case.answer.evidence.values())


# ------------------------------------------------------------------------------------------- a naive evaluator, and order

_LINES = [
    *["allow GET /a", "allow GET,HEAD /a", "allow * /**", "allow POST /a", "allow GET /{x}", "allow GET /a clearance 5"],
    *["allow GET /** clearance 6", "allow GET /a/{x}", "allow GET /{sub}", "deny GET /a", "deny * /a/**", "deny HEAD /**"],
    *["deny POST /{x}", "deny GET /{sub}"],
]
_ROLES = [CLERK, MANAGER, BARRED, READER, REMOVED]
_PLACED = st.lists(st.tuples(st.sampled_from(_ROLES), st.sampled_from(_LINES), st.integers(150, 160)), max_size=8)
_SCOPES = st.tuples(st.none() | st.lists(st.sampled_from(_ROLES), unique=True), st.booleans())
_ASKED = st.tuples(st.sampled_from(["GET", "HEAD", "POST", "PUT"]), st.sampled_from(["/", "/a", "/a/", "/a/b", "/b", "sub"]))


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[corpus.Placed], TokenStanding]:
    """Draw the rules of roles, and a subject with roles and own rules. A rule stands in a role once."""
    placed = {(role_id, line): position for role_id, line, position in draw(_PLACED)}
    lines = draw(st.lists(st.sampled_from(_LINES), unique=True, max_size=4))
    token = standing(
        subject_id=uuid4(),
        subject_clearance=draw(st.sampled_from([0, 5, 6])),
        subject_role_ids=draw(st.lists(st.sampled_from(_ROLES), unique=True)),
        **(own_rules(161, *lines) if lines else {}),
    )
    return [(role_id, line, position) for (role_id, line), position in placed.items()], token


def _ask(token: TokenStanding, asked: tuple[str, str], made: Reference) -> Decision:
    method, target = asked
    return decide(question(method, f"/{token.subject_id}" if target == "sub" else target), token, made)


def _naive(placed: list[corpus.Placed], token: TokenStanding, asked: tuple[str, str]) -> str:
    """Decide rule by rule."""
    method, target = asked
    segments = canonical(f"/{token.subject_id}" if target == "sub" else target)
    matching: list[tuple[bool, Rule]] = []
    of_subject = [(role_id, line) for role_id, line, _ in placed if role_id in token.subject_role_ids and role_id != REMOVED]
    own: list[tuple[UUID | None, Rule]] = [
        (None, Rule.make(rule["effect"], rule["methods"], rule["path"], rule["min_clearance"]))
        for rule in token.subject_rules or []
    ]
    for role_id, rule in [*own, *((role_id, Rule.parse(line)) for role_id, line in of_subject)]:
        matcher: Matcher[int, Rule] = Matcher()
        matcher.add(0, UUID(int=0), rule.methods, Template.parse(rule.path), rule)
        in_scope = token.direct if role_id is None else token.role_ids is None or role_id in token.role_ids
        matching += [(in_scope, rule) for _ in matcher.match(method, segments, [0], str(token.subject_id))]
    if any(rule.effect == "deny" for _, rule in matching):
        return "denied_by_rule"
    if any(in_scope and (rule.min_clearance or 0) <= token.subject_clearance for in_scope, rule in matching):
        return "allowed"
    if any(in_scope for in_scope, _ in matching):
        return "insufficient_clearance"
    return "not_in_scope" if matching else "no_rule"


def _begin_anew() -> None:
    """Forget what was compiled, as a worker that has just begun."""
    decisions._own_rules._kept.clear()
    decisions._own_rules.rules = 0


@given(_worlds(), _SCOPES, _ASKED)
def test_a_decision_is_that_of_a_naive_reading(
    world: tuple[list[corpus.Placed], TokenStanding], scope: tuple[list[UUID] | None, bool], asked: tuple[str, str]
) -> None:
    placed, token = world
    token = token._replace(role_ids=scope[0], direct=scope[1])
    answer = _ask(token, asked, reference(CLIENTS, APIS, ROLES, KEYS, placed))
    assert answer.reason == _naive(placed, token, asked)
    assert answer.allowed == (answer.reason == "allowed")


@given(_worlds(), _SCOPES, _ASKED)
def test_asking_for_less_scope_never_sheds_a_deny_and_never_gains_an_allow(
    world: tuple[list[corpus.Placed], TokenStanding], scope: tuple[list[UUID] | None, bool], asked: tuple[str, str]
) -> None:
    placed, token = world
    made = reference(CLIENTS, APIS, ROLES, KEYS, placed)
    whole, narrow = _ask(token, asked, made), _ask(token._replace(role_ids=scope[0], direct=scope[1]), asked, made)
    if whole.reason == "denied_by_rule":
        assert narrow == whole
    assert narrow.reason != "denied_by_rule" or whole.reason == "denied_by_rule"
    assert whole.allowed or not narrow.allowed


@given(_worlds(), _SCOPES, _ASKED, st.randoms())
def test_a_decision_does_not_depend_on_the_order_in_which_a_worker_learned_anything(
    world: tuple[list[corpus.Placed], TokenStanding],
    scope: tuple[list[UUID] | None, bool],
    asked: tuple[str, str],
    order: random.Random,
) -> None:
    placed, token = world
    token = token._replace(role_ids=scope[0], direct=scope[1])
    first = _ask(token, asked, reference(CLIENTS, APIS, ROLES, KEYS, placed))

    def shuffled(rows: list[Any]) -> list[Any]:
        return order.sample(rows, len(rows))

    # Rules that came and went leave no trace either.
    gone = [(role_id, line, 149) for role_id in (CLERK, BARRED) for line in ("deny PUT /z/**", "allow * /z")]
    made = reference(shuffled(CLIENTS), shuffled(APIS), shuffled(ROLES), shuffled(KEYS), shuffled([*placed, *gone]))
    matcher = made.matchers[ORDERS]
    assert isinstance(matcher, Matcher)
    for role_id, line, _ in gone:
        matcher.remove(role_id, Rule.parse(line).rule_id)
    again = token._replace(
        subject_role_ids=shuffled(token.subject_role_ids),
        api_ids=shuffled(token.api_ids),
        role_ids=None if token.role_ids is None else shuffled(token.role_ids),
    )
    assert _ask(again, asked, made) == first
    _begin_anew()
    reordered = None if again.subject_rules is None else shuffled(again.subject_rules)
    assert _ask(again._replace(subject_rules=reordered), asked, made) == first


@pytest.mark.parametrize(
    "lines",
    [
        ["deny GET /orders", "deny GET /{x}", "deny * /**", "deny * /orders", "deny GET,POST /orders"],
        ["allow GET /orders", "allow GET /{x}", "allow * /**", "allow * /orders", "allow GET,POST /orders"],
        ["allow GET /orders clearance 7", "allow * /orders clearance 7", "allow GET,POST /orders clearance 7"],
        ["allow * /orders clearance 9", "allow GET /orders clearance 8"],
    ],
    ids=["denies", "allows", "too high", "higher"],
)
def test_of_several_rules_that_match_the_same_one_is_named_whatever_their_order(lines: list[str]) -> None:
    # Granted by one event, to two roles: all of one position but for one that is older.
    placed = [(role_id, line, 150) for role_id in (CLERK, READER) for line in lines] + [(MANAGER, lines[-1], 149)]
    for held, position in (([CLERK, READER, MANAGER], 149), ([CLERK, READER], 150)):
        first, *others = (
            _ask(standing(subject_role_ids=roles), ("GET", "/orders"), reference(CLIENTS, APIS, ROLES, KEYS, rules))
            for rules in (placed, placed[::-1])
            for roles in (held, held[::-1])
        )
        assert first.evidence["rule"] == position
        assert others == [first] * 3
    answers = []
    for own in (lines, lines[::-1]):
        _begin_anew()
        answers.append(decided(standing(subject_role_ids=[], **own_rules(310, *own))))
    assert answers[0] == answers[1]


def test_the_newest_of_several_keys_is_evidence_whatever_their_order() -> None:
    for key_ids in ([ACTIVE_KEY, RETIRED_KEY], [RETIRED_KEY, ACTIVE_KEY]):
        assert decided(standing(key_ids=key_ids)).evidence["key"] == 141


def test_deciding_changes_nothing_that_it_is_given() -> None:
    made, asked, token = everything(), question(), standing(**own_rules(310, "allow GET /mine"))
    before = (repr(asked), repr(token), repr(made.clients), repr(made.roles), repr(made.apis), repr(made.keys))
    first, second = (decide(asked, token, made) for _ in range(2))
    assert first == second
    assert first.evidence is not second.evidence
    assert before == (
        repr(asked),
        repr(token),
        repr(made.clients),
        repr(made.roles),
        repr(made.apis),
        repr(made.keys),
    )


# ---------------------------------------------------------------------------------------------------- what is kept of it


def _rules(count: int) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = own_rules(1, *(f"allow GET /a/{number}" for number in range(count)))["subject_rules"]
    return rules


def test_compiled_rules_are_bounded_by_their_number_and_the_first_go_first() -> None:
    compiled = CompiledRules(max_rules=10)
    subjects = [uuid4() for _ in range(20)]
    for subject_id in subjects:
        compiled.of(subject_id, 7, _rules(3))
        assert compiled.rules <= 10
    assert list(compiled._kept) == [(subject_id, 7) for subject_id in subjects[-3:]]
    assert compiled.rules == sum(len(matcher) for kept in compiled._kept.values() for matcher in kept.values())


def test_more_rules_than_the_bound_are_compiled_and_not_kept() -> None:
    compiled = CompiledRules(max_rules=10)
    matchers = compiled.of(SUBJECT, 7, _rules(11))
    assert [len(matcher) for matcher in matchers.values()] == [11]
    assert (compiled.rules, compiled._kept) == (0, {})


def test_rules_of_one_position_are_compiled_once() -> None:
    compiled = CompiledRules(max_rules=10)
    assert compiled.of(SUBJECT, 7, _rules(2)) is compiled.of(SUBJECT, 7, _rules(2))
    assert compiled.of(SUBJECT, 8, _rules(2)) is not compiled.of(SUBJECT, 7, _rules(2))
    assert compiled.rules == 4


def test_a_client_or_api_that_is_not_there_is_never_taken_for_one_that_stands() -> None:
    for token in (standing(client_id=uuid4()), standing(api_ids=[ORDERS, uuid4()])):
        with pytest.raises(KeyError):
            decided(token)
    assert SHOP in everything().clients
