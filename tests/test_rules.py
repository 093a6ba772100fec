"""Rules: what can be one, how it is written as a line, and that its id is its content."""

from typing import Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.rules import MAX_CLEARANCE, MAX_METHODS, Rule
from ledger.states import RuleOfApi, RuleOfRole

PATHS = ["/", "/a", "/a/", "/a/**", "/{a}", "/{sub}/b", "/clearance", "/5", "/a%20clearance%205", "/{a}.{b}", "/ü"]
METHODS = ["GET", "POST", "DELETE", "M-SEARCH", "X"]


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    methods = draw(st.lists(st.sampled_from(METHODS), min_size=1) | st.just(["*"]))
    effect: Literal["allow", "deny"] = draw(st.sampled_from(["allow", "deny"]))
    clearance = None if effect == "deny" else draw(st.none() | st.integers(0, MAX_CLEARANCE))
    return Rule.make(effect, methods, draw(st.sampled_from(PATHS)), clearance)


def wrong_fields(refused: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [problem.field for problem in refused.value.problems]


# ---------------------------------------------------------------------------------------------------- what can be a rule


def test_a_rule_is_made_with_its_methods_in_order_and_once() -> None:
    rule = Rule.make("allow", ["post", "GET", "POST"], "/orders", 3)
    assert rule == Rule("allow", ("GET", "POST"), "/orders", 3)


def test_every_method_is_a_star_alone() -> None:
    assert Rule.make("deny", ["GET", "*", "POST"], "/").methods == ("*",)


def test_an_allow_without_a_clearance_asks_for_none() -> None:
    assert Rule.make("allow", ["GET"], "/").min_clearance == 0


def test_a_deny_has_no_clearance() -> None:
    assert Rule.make("deny", ["GET"], "/").min_clearance is None
    for clearance in (0, 1):
        with pytest.raises(InvalidInput) as refused:
            Rule.make("deny", ["GET"], "/", clearance)
        assert wrong_fields(refused) == ["min_clearance"]


@pytest.mark.parametrize("clearance", [0, 1, MAX_CLEARANCE])
def test_a_clearance_is_a_level_up_to_the_highest(clearance: int) -> None:
    assert Rule.make("allow", ["GET"], "/", clearance).min_clearance == clearance


@pytest.mark.parametrize("clearance", [-1, MAX_CLEARANCE + 1, 2**63])
def test_another_clearance_is_refused(clearance: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        Rule.make("allow", ["GET"], "/", clearance, "rules.3")
    assert wrong_fields(refused) == ["rules.3.min_clearance"]


@pytest.mark.parametrize(
    "methods",
    [[], [""], ["GE T"], ["GET,POST"], ["GET\n"], ["1GET"], ["**"], ["poſt"], ["ß"], ["ＧＥＴ"], ["A" * 33], ["GET", "a/b"]],
)
def test_what_is_no_method_is_refused(methods: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Rule.make("allow", methods, "/", 0, "rules.3")
    assert wrong_fields(refused) == ["rules.3.methods"]


def test_a_rule_has_16_methods_at_most() -> None:
    assert len(Rule.make("allow", [f"M{n}" for n in range(MAX_METHODS)], "/").methods) == MAX_METHODS
    with pytest.raises(InvalidInput):
        Rule.make("allow", [f"M{n}" for n in range(MAX_METHODS + 1)], "/")


def test_a_path_that_is_no_template_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        Rule.make("allow", ["GET"], "orders", 0, "rules.3")
    assert wrong_fields(refused) == ["rules.3.path"]


# --------------------------------------------------------------------------------------------------------- as a line


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("allow GET /a", Rule("allow", ("GET",), "/a", 0)),
        ("  allow\tGET,post   /orders/**  ", Rule("allow", ("GET", "POST"), "/orders/**", 0)),
        ("deny * /admin/**", Rule("deny", ("*",), "/admin/**", None)),
        ("allow GET /a clearance 3", Rule("allow", ("GET",), "/a", 3)),
        ("allow GET /a clearance 007", Rule("allow", ("GET",), "/a", 7)),
        ("allow GET /a clearance 0", Rule("allow", ("GET",), "/a", 0)),
    ],
)
def test_a_line_is_read_as_a_rule(line: str, rule: Rule) -> None:
    assert Rule.parse(line) == rule


@pytest.mark.parametrize(
    "line",
    [
        "",
        "allow",
        "allow GET",
        "allow /a",
        "ALLOW GET /a",
        "permit GET /a",
        "allow GET, POST /a",
        "allow GET,,POST /a",
        "allow , /a",
        "allow GET a",
        "allow GET /a b",
        "allow GET /a clearance",
        "allow GET /a clearance -1",
        "allow GET /a clearance 101",
        "allow GET /a clearance 3 4",
        "allow GET /a clearance ٣",
        "allow GET /a clearance 9999999999",
        "allow GET /a\u00a0clearance 3",
        "allow GET /a\u00a0b",
        "deny GET /a clearance 3",
        "deny GET /a clearance 0",
        "allow GET /a\nallow GET /b",
    ],
)
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Rule.parse(line, "rules.0")
    assert all(field.split(".")[:2] == ["rules", "0"] for field in wrong_fields(refused))


@given(_rules())
def test_the_line_of_a_rule_is_read_as_the_rule(rule: Rule) -> None:
    assert Rule.parse(rule.line()) == rule


@given(st.text(max_size=40) | st.text(st.sampled_from("alowdeny GET,*/{}clearance 0123\n")))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = Rule.parse(text)
    except InvalidInput:
        return
    assert Rule.parse(rule.line()) == rule


# ------------------------------------------------------------------------------------------------------------- its id


@given(_rules(), _rules())
def test_two_rules_have_one_id_only_where_they_are_the_same(one: Rule, other: Rule) -> None:
    assert (one.rule_id == other.rule_id) == (one == other)


def test_the_id_of_a_rule_is_that_of_its_content_for_ever() -> None:
    assert Rule.parse("allow POST,GET /orders/{id} clearance 3").rule_id == UUID("e17e6714-d9a3-85a5-8800-7e066a977efd")


def test_a_rule_as_it_stands_in_events() -> None:
    rule, api_id = Rule.parse("allow GET /a clearance 3"), uuid4()
    assert rule.of_role() == RuleOfRole(rule.rule_id, "allow", ("GET",), "/a", 3)
    own = rule.of_api(api_id)
    assert own == RuleOfApi(own.rule_id, api_id, "allow", ("GET",), "/a", 3)


def test_the_same_rule_for_two_apis_is_two_rules() -> None:
    rule = Rule.parse("deny * /")
    ids = [rule.of_api(uuid4()).rule_id, rule.of_api(uuid4()).rule_id, rule.rule_id]
    assert len(set(ids)) == 3
