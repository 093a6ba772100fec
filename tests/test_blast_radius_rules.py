"""The closure of an incident, its questions answered by hand: edges, the strongest of several, and bounds."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from ledger import blast_radius
from ledger.blast_radius import ActsOf, ActsWith, Answer, Between, CausedBy, Closure, Hit, IssuedFrom, Question, Start, Users
from ledger.builtin import LEDGER_API

OLGA, ROLE, ORDERS, FAMILY = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
ACCESS, REFRESH = UUID(int=5), UUID(int=6)


@dataclass(frozen=True)
class Event:
    """An event of the log."""

    position: int
    type: str = "name_taken"
    payload: dict[str, Any] = field(default_factory=dict, hash=False)
    stream: UUID = OLGA
    before: Any = None

    @property
    def metadata(self) -> dict[str, Any]:
        return {}

    @property
    def recorded_at(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


def issued(position: int, *apis: UUID) -> Event:
    row = {"family_id": str(FAMILY), "issued_from": None, "api_ids": [str(api) for api in apis]}
    tokens = [
        row | {"token_id": str(ACCESS), "kind": "access"},
        row | {"token_id": str(REFRESH), "kind": "refresh"},
    ]
    return Event(position, "token_issued", {"tokens": tokens, "family_id": str(FAMILY)})


def closure() -> Closure:
    return Closure(Start(None, OLGA, None, 1, None), {ROLE: ORDERS})


def asked(made: Closure, question: Question, *hits: Hit) -> list[Question]:
    """Answer what is asked after this answer, but for what events caused."""
    following = made.take([Answer(question, list(hits))])
    return [question for question in following if not isinstance(question, CausedBy)]


MINE = ActsOf(OLGA, 0, None, None)


def test_of_a_token_that_is_in_its_acts_and_what_was_issued_from_it_are_asked_for() -> None:
    made = closure()
    assert made.begin() == [MINE]
    assert asked(made, MINE, Hit(issued(7, LEDGER_API))) == [ActsWith(ACCESS, 7, 7), IssuedFrom(FAMILY, 7, 7)]
    # Asked once, whoever comes to it again.
    assert asked(made, MINE, Hit(issued(7, LEDGER_API))) == []


@pytest.mark.parametrize(("api", "reaches"), [(LEDGER_API, True), (ORDERS, False)])
def test_a_token_that_could_use_something_is_in_for_that_alone(api: UUID, reaches: bool) -> None:
    made, users = closure(), Users("subject_id", OLGA, 9, 9, api_id=api)
    acts = [ActsWith(ACCESS, 9, 7)] if reaches else []
    assert asked(made, users, Hit(issued(7, LEDGER_API, ORDERS), frozenset([ACCESS]))) == acts
    assert (made.lines[7].edge, made.lines[7].source, made.lines[7].held) == ("granted_by", 9, False)


def test_the_strongest_edge_names_a_line_and_what_only_could_is_not_held_by_it() -> None:
    made = closure()
    asked(made, Users("subject_id", OLGA, 3, 3), Hit(issued(7), frozenset([ACCESS, REFRESH])))
    asked(made, ActsOf(OLGA, 3, None, 3), Hit(issued(7), frozenset([ACCESS])))
    assert (made.lines[7].edge, made.lines[7].token_ids) == ("done_by", frozenset([ACCESS]))
    asked(made, CausedBy(4, 4), Hit(issued(7)))
    assert (made.lines[7].edge, made.lines[7].source, made.lines[7].token_ids) == ("done_by", 3, frozenset([ACCESS, REFRESH]))


def test_roles_that_were_granted_are_asked_for_until_they_are_withdrawn() -> None:
    granted = Event(5, "subject_roles_granted", {"subject_id": str(OLGA), "granted": [str(ROLE)]})
    until = ("subject_roles_withdrawn",)
    assert asked(closure(), MINE, Hit(granted)) == [Users("subject_id", OLGA, 5, 5, api_id=ORDERS, role_id=ROLE, until=until)]


def test_only_a_clearance_that_was_raised_gives_anything() -> None:
    def cleared(before: int) -> Event:
        return Event(5, "subject_clearance_set", {"subject_id": str(OLGA), "subject": {"clearance": 5}}, before=before)

    assert asked(closure(), MINE, Hit(cleared(9))) == []
    assert len(asked(closure(), MINE, Hit(cleared(0)))) == 1


def test_what_is_beyond_a_bound_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blast_radius, "MAX_LINES", 3)
    made = closure()
    made.take([Answer(Between(1, 9), [Hit(Event(position)) for position in range(1, 6)])])
    assert (sorted(made.lines), made.left_out) == ([1, 2, 3], [Between(1, 9)])
    monkeypatch.setattr(blast_radius, "MAX_ALONE", 1)
    registered = [Event(n, "subject_registered", {"subject_id": str(UUID(int=n))}) for n in (1, 2)]
    made = closure()
    kept = asked(made, MINE, *map(Hit, registered))
    assert len(kept) == 1
    assert len(made.left_out) == 3
    cut = closure()
    cut.take([Answer(MINE, [], cut=True)])
    assert cut.left_out == [MINE]
