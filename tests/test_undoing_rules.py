"""Taking an incident back: what is set to what it was before, by which event, and what is left as others have left it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ledger.blast_radius import Closure, Line, Start
from ledger.undoing import FOR_GOOD, UNKNOWN, Step, Stream, steps_of, streams_of

OLGA, ROLE, OTHER, API = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
RULE = {"rule_id": str(UUID(int=9)), "api_id": str(API), "effect": "allow", "methods": ["GET"], "path": "/", "min_clearance": 0}


@dataclass
class Event:
    """An event of a stream."""

    position: int
    type: str
    payload: dict[str, Any]
    stream: UUID = OLGA
    before: Any = None

    @property
    def metadata(self) -> dict[str, Any]:
        return {}

    @property
    def recorded_at(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


def subject(position: int, event_type: str, status: str = "active", clearance: int = 0, **payload: Any) -> Event:
    row = {"status": status, "status_reason": None, "status_until": None, "clearance": clearance}
    return Event(position, f"subject_{event_type}", {"subject": row} | payload)


def undone(events: list[Event], *held: int, whole: bool = True) -> list[Step]:
    lines = {event.position: Line(event, "done_by", None) for event in events if event.position in held}
    closure = Closure(Start(None, None, None, 1, None), {}, lines)
    assert streams_of(closure) == ([events[0].stream] if held else [])
    return steps_of(closure, {events[0].stream: Stream(events, whole)}, None)


REGISTERED = subject(1, "registered")


def test_what_was_granted_is_withdrawn_and_what_was_withdrawn_granted() -> None:
    granted = subject(2, "roles_granted", granted=[str(ROLE), str(OTHER)])
    withdrawn = subject(3, "roles_withdrawn", withdrawn=[str(OTHER)])
    assert undone([REGISTERED, granted], 2) == [Step(2, "withdraw_roles", "subject", OLGA, [str(ROLE), str(OTHER)])]
    assert undone([REGISTERED, granted, withdrawn], 3) == [Step(3, "grant_roles", "subject", OLGA, [str(OTHER)])]
    assert undone([REGISTERED, granted, withdrawn], 2, 3) == [Step(2, "withdraw_roles", "subject", OLGA, [str(ROLE)])]


def test_what_somebody_else_changed_since_is_left_as_he_left_it() -> None:
    events = [
        REGISTERED,
        subject(2, "roles_granted", granted=[str(ROLE)]),
        subject(3, "roles_withdrawn", withdrawn=[str(ROLE)]),
        subject(4, "roles_granted", granted=[str(ROLE)]),
    ]
    assert undone(events, 2) == []
    assert undone(events, 2, 4) == [Step(4, "withdraw_roles", "subject", OLGA, [str(ROLE)])]
    # Taken and given back within the incident: it is as it was.
    assert undone(events, 3, 4) == []


def test_a_clearance_is_set_to_what_it_was_before_the_first_change() -> None:
    events = [REGISTERED, subject(2, "clearance_set", clearance=5), subject(3, "clearance_set", clearance=9)]
    assert undone(events, 2, 3) == [Step(2, "set_clearance", "subject", OLGA, {"clearance": 0, "from": 9})]
    assert undone(events, 3) == [Step(3, "set_clearance", "subject", OLGA, {"clearance": 5, "from": 9})]
    assert undone(events, 2) == []


def test_a_suspension_is_ended_and_one_that_was_ended_is_made_again() -> None:
    suspended, reinstated = subject(2, "suspended", "suspended"), subject(3, "reinstated")
    assert undone([REGISTERED, suspended], 2) == [Step(2, "reinstate", "subject", OLGA)]
    again = {"reason": None, "until": None}
    assert undone([REGISTERED, suspended, reinstated], 3) == [Step(3, "suspend", "subject", OLGA, again)]
    assert undone([REGISTERED, suspended, reinstated], 2, 3) == []
    assert undone([REGISTERED, suspended, reinstated], 2) == []


def test_what_was_made_is_suspended_and_its_grants_are_withdrawn() -> None:
    granted = subject(2, "roles_granted", granted=[str(ROLE)])
    assert undone([REGISTERED, granted], 1, 2) == [
        Step(2, "withdraw_roles", "subject", OLGA, [str(ROLE)]),
        Step(1, "suspend", "subject", OLGA),
    ]


def test_a_password_that_somebody_knows_suspends_until_there_is_another() -> None:
    events = [REGISTERED, subject(2, "password_set"), subject(3, "password_set")]
    assert undone(events[:2], 2) == [Step(2, "suspend", "subject", OLGA)]
    assert undone(events, 2) == []


def test_what_is_for_good_says_so() -> None:
    assert undone([REGISTERED, subject(2, "tokens_revoked")], 2) == [Step(2, "none", "subject", OLGA, why=FOR_GOOD)]
    granted = subject(2, "roles_granted", granted=[str(ROLE)])
    erased = undone([REGISTERED, granted, subject(3, "erased", "erased")], 2, 3)
    assert erased == [Step(3, "none", "subject", OLGA, why=FOR_GOOD)]


def test_own_rules_are_taken_one_by_one() -> None:
    other = RULE | {"rule_id": str(UUID(int=8))}
    events = [
        REGISTERED,
        Event(2, "subject_rules_granted", {"rules": [RULE]}),
        Event(3, "subject_rules_granted", {"rules": [RULE, other]}),
    ]
    assert undone(events, 2) == [Step(2, "withdraw_rules", "subject", OLGA, [RULE])]
    assert undone(events, 3) == [Step(3, "withdraw_rules", "subject", OLGA, [other])]
    withdrawn = Event(4, "subject_rules_withdrawn", {"rules": [other]})
    assert undone([*events, withdrawn], 4) == [Step(4, "grant_rules", "subject", OLGA, [RULE])]


def test_a_role_that_was_made_is_removed_and_rules_of_others_are_set_back() -> None:
    made = Event(1, "role_created", {}, ROLE)
    rules = Event(2, "role_rules_granted", {"rules": [RULE]}, ROLE)
    assert undone([made, rules], 1, 2) == [Step(1, "remove", "role", ROLE)]
    assert undone([made, rules], 2) == [Step(2, "withdraw_rules", "role", ROLE, [RULE])]
    gone = Event(3, "role_removed", {}, ROLE)
    assert undone([made, rules, gone], 3) == [Step(3, "none", "role", ROLE, why=FOR_GOOD)]


def test_of_what_is_not_known_as_it_was_nothing_is_set() -> None:
    cleared = subject(2, "clearance_set", clearance=9)
    assert undone([cleared], 2, whole=False) == [Step(2, "none", "subject", OLGA, why=UNKNOWN)]
    own = Event(2, "subject_rules_granted", {"rules": [RULE]})
    assert undone([own], 2, whole=False) == [Step(2, "none", "subject", OLGA, why=UNKNOWN)]
    granted = subject(2, "roles_granted", granted=[str(ROLE)])
    assert undone([granted], 2, whole=False) == [Step(2, "withdraw_roles", "subject", OLGA, [str(ROLE)])]
