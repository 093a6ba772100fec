"""The judge of histories: what it finds, and that it does not cry wolf."""

from dataclasses import replace

import pytest

from tests.acceptance.history import Change, Decision, Issued, Level, Verb, Violation, judge

TOKEN = Issued("t", 10, 1.0, (("token", "t"), ("family", "f"), ("subject", "s"), ("client", "c")))


def change(level: Level, verb: Verb, position: int, invoked_at: float, completed_at: float) -> Change:
    return Change((level, level[0]), verb, invoked_at, completed_at, position)


def decision(allowed: bool, position: int, invoked_at: float, completed_at: float) -> Decision:
    return Decision("t", invoked_at, completed_at, position, allowed, "")


def found(changes: list[Change], *decisions: Decision) -> list[tuple[str, str]]:
    violations: list[Violation] = judge([TOKEN], changes, decisions)
    return [(violation.rule, violation.why) for violation in violations]


STOPS: list[tuple[Level, Verb]] = [
    ("token", "revoke"),
    ("family", "revoke"),
    ("subject", "cut"),
    ("client", "cut"),
    ("token", "suspend"),
    ("family", "suspend"),
    ("subject", "suspend"),
    ("client", "suspend"),
]


@pytest.mark.parametrize(("level", "verb"), STOPS)
def test_an_allow_after_an_acknowledged_stop_is_found_by_both_rules(level: Level, verb: Verb) -> None:
    stop = change(level, verb, 20, 2.0, 3.0)
    assert found([stop], decision(False, 20, 3.1, 3.2)) == []
    assert found([stop], decision(True, 20, 3.1, 3.2)) == [
        ("position", "allowed after a stop"),
        ("time", "allowed after a stop"),
    ]


def test_an_old_position_does_not_excuse_an_allow() -> None:
    stop = change("token", "revoke", 20, 2.0, 3.0)
    assert found([stop], decision(True, 19, 3.1, 3.2)) == [
        ("position", "older than what was answered before"),
        ("time", "allowed after a stop"),
    ]


def test_a_decision_under_way_while_the_stop_is_may_be_either_but_must_fit_its_position() -> None:
    stop = change("family", "revoke", 20, 2.0, 3.0)
    for invoked_at, completed_at in ((1.5, 2.5), (2.1, 2.9), (2.9, 3.5)):
        assert found([stop], decision(True, 19, invoked_at, completed_at)) == []
        assert found([stop], decision(False, 20, invoked_at, completed_at)) == []
        assert found([stop], decision(True, 20, invoked_at, completed_at)) == [("position", "allowed after a stop")]
        assert found([stop], decision(False, 19, invoked_at, completed_at)) == [("position", "denied though it stands")]


def test_a_decision_that_sees_less_than_an_answer_before_it_is_found() -> None:
    first, second = decision(True, 30, 2.0, 3.0), decision(True, 29, 3.1, 3.2)
    assert found([], first, second) == [("position", "older than what was answered before")]
    assert found([], first, replace(second, invoked_at=2.9)) == []


def test_what_was_reinstated_is_allowed_again() -> None:
    changes = [change("subject", "suspend", 20, 2.0, 3.0), change("subject", "reinstate", 30, 4.0, 5.0)]
    assert found(changes, decision(True, 30, 5.1, 5.2)) == []
    assert found(changes, decision(False, 30, 5.1, 5.2)) == [
        ("position", "denied though it stands"),
        ("time", "denied though it stands"),
    ]
    assert found(changes, decision(True, 30, 4.5, 4.6)) == []
    assert found(changes, decision(True, 20, 3.5, 3.6)) == [
        ("position", "allowed after a stop"),
        ("time", "allowed after a stop"),
    ]


def test_reinstating_one_level_ends_the_suspension_of_no_other() -> None:
    changes = [
        change("token", "suspend", 20, 2.0, 2.1),
        change("subject", "suspend", 21, 2.2, 2.3),
        change("subject", "reinstate", 22, 2.4, 2.5),
    ]
    assert ("time", "allowed after a stop") in found(changes, decision(True, 22, 2.6, 2.7))
    assert ("time", "allowed after a stop") in found(changes, decision(True, 22, 2.4, 2.7))


@pytest.mark.parametrize(("level", "verb"), [("token", "revoke"), ("client", "cut")])
def test_nothing_under_way_excuses_an_allow_after_a_revocation(level: Level, verb: Verb) -> None:
    changes = [change(level, verb, 20, 2.0, 2.1), change(level, "reinstate", 21, 2.2, 9.0)]
    assert ("time", "allowed after a stop") in found(changes, decision(True, 20, 3.0, 3.1))


def test_a_token_issued_after_a_cut_off_stands() -> None:
    token = replace(TOKEN, position=21, issued_at=3.5)
    cut = change("subject", "cut", 20, 2.0, 3.0)
    assert judge([token], [cut], [decision(True, 21, 3.6, 3.7)]) == []
    assert [violation.rule for violation in judge([token], [cut], [decision(False, 21, 3.6, 3.7)])] == ["position", "time"]


def test_a_token_that_is_not_known_where_it_was_issued_is_found() -> None:
    assert found([], decision(False, 10, 1.1, 1.2)) == [
        ("position", "denied though it stands"),
        ("time", "denied though it stands"),
    ]


def test_violations_come_in_the_order_of_their_answers() -> None:
    stop = change("token", "revoke", 20, 2.0, 3.0)
    late, early = decision(True, 20, 3.5, 3.6), decision(True, 20, 3.1, 3.2)
    assert [violation.decision for violation in judge([TOKEN], [stop], [late, early])] == [early, early, late, late]
