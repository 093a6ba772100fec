"""Given rows, when a command about a subject, then events or a refusal."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from ledger import subjects
from ledger.builtin import ADMINISTRATOR_ROLE
from ledger.errors import (
    InvalidInput,
    LastAdministrator,
    NameIsTaken,
    NotAPerson,
    SubjectIsErased,
    TooManyRoles,
    TooManyRules,
    UnknownApi,
    UnknownRole,
    UnknownSubject,
)
from ledger.events import (
    AdministratorsChanged,
    Event,
    NameReleased,
    NameTaken,
    SubjectClearanceSet,
    SubjectErased,
    SubjectPasswordSet,
    SubjectProfileSet,
    SubjectRegistered,
    SubjectReinstated,
    SubjectRolesGranted,
    SubjectRolesWithdrawn,
    SubjectRulesGranted,
    SubjectRulesWithdrawn,
    SubjectSuspended,
    SubjectTokensRevoked,
)
from ledger.execute import Contention
from ledger.states import Name, State, Subject, SubjectRules
from tests.rows import NOW, api, person, role, rule_of_api, service, state

OTHER = uuid4()


def name_of(subject: Subject) -> Name:
    assert subject.name_id is not None
    return Name(name_id=subject.name_id, kind="user", holder_id=subject.subject_id, position=3)


def types(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def administrator(**values: Any) -> Subject:
    return person(role_ids=(ADMINISTRATOR_ROLE,), **values)


# ----------------------------------------------------------------------------------------------------------- registration


def test_registering_a_person_takes_the_name() -> None:
    subject_id, name_id = uuid4(), uuid4()
    taken, registered = subjects.register(
        State(),
        NOW,
        subject_id=subject_id,
        kind="person",
        name_id=name_id,
        sealed_profile=b"p",
        sealed_password=b"w",
        clearance=3,
    )
    assert taken == NameTaken(name_id=name_id, kind="user", holder_id=subject_id)
    assert isinstance(registered, SubjectRegistered)
    assert registered.subject.status == "active"
    assert (registered.subject.clearance, registered.subject.role_ids, registered.cuts_off) == (3, (), False)


def test_a_name_that_somebody_has_is_refused_and_one_that_was_released_is_free() -> None:
    name_id = uuid4()
    arguments: dict[str, Any] = {"subject_id": uuid4(), "kind": "person", "name_id": name_id, "sealed_profile": b"p"}
    with pytest.raises(NameIsTaken):
        subjects.register(state(Name(name_id=name_id, kind="user", holder_id=OTHER)), NOW, **arguments)
    free = state(Name(name_id=name_id, kind="user", holder_id=None))
    assert types(subjects.register(free, NOW, **arguments)) == [NameTaken, SubjectRegistered]


def test_a_service_account_has_neither_name_nor_password() -> None:
    assert types(subjects.register(State(), NOW, subject_id=OTHER, kind="service", sealed_profile=b"p")) == [SubjectRegistered]
    with pytest.raises(NotAPerson):
        subjects.register(State(), NOW, subject_id=OTHER, kind="service", sealed_password=b"w")
    with pytest.raises(NotAPerson):
        subjects.register(State(), NOW, subject_id=OTHER, kind="service", name_id=uuid4())


def test_a_person_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidInput):
        subjects.register(State(), NOW, subject_id=OTHER, kind="person", sealed_profile=b"p")


@pytest.mark.parametrize("clearance", [-1, 101])
def test_a_clearance_beyond_its_bounds_is_refused(clearance: int) -> None:
    ann = person()
    with pytest.raises(InvalidInput):
        subjects.register(State(), NOW, subject_id=OTHER, kind="service", clearance=clearance)
    with pytest.raises(InvalidInput):
        subjects.set_clearance(state(ann), NOW, subject_id=ann.subject_id, clearance=clearance)


# ------------------------------------------------------------------------------------------- profile, password, clearance


def test_renaming_releases_the_old_name_and_takes_the_new_one() -> None:
    ann, new = person(), uuid4()
    released, taken, changed = subjects.set_profile(
        state(ann, name_of(ann)), NOW, subject_id=ann.subject_id, name_id=new, sealed_profile=b"new"
    )
    assert isinstance(released, NameReleased)
    assert released.name_id == ann.name_id
    assert taken == NameTaken(name_id=new, kind="user", holder_id=ann.subject_id)
    assert isinstance(changed, SubjectProfileSet)
    assert changed.subject == replace(ann, name_id=new, sealed_profile=b"new")


def test_a_profile_under_the_same_name_touches_no_name() -> None:
    ann = person()
    events = subjects.set_profile(state(ann), NOW, subject_id=ann.subject_id, name_id=ann.name_id, sealed_profile=b"new")
    assert types(events) == [SubjectProfileSet]


def test_renaming_to_a_name_that_somebody_has_is_refused() -> None:
    ann, bob = person(), person()
    with pytest.raises(NameIsTaken):
        subjects.set_profile(
            state(ann, name_of(ann), name_of(bob)), NOW, subject_id=ann.subject_id, name_id=bob.name_id, sealed_profile=b"new"
        )


def test_a_name_that_changed_between_two_readings_is_read_again() -> None:
    ann = person()
    with pytest.raises(Contention):
        subjects.set_profile(state(ann), NOW, subject_id=ann.subject_id, name_id=uuid4(), sealed_profile=b"new")
    with pytest.raises(Contention):
        subjects.erase(state(ann, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, reason=None)


def test_a_changed_password_revokes_all_tokens_unless_they_are_kept() -> None:
    ann = person()
    given = state(ann, administrators=(OTHER,))
    (changed,) = subjects.set_password(given, NOW, subject_id=ann.subject_id, sealed_password=b"new")
    assert isinstance(changed, SubjectPasswordSet)
    assert changed.cuts_off
    assert changed.subject == replace(ann, sealed_password=b"new")
    (kept,) = subjects.set_password(given, NOW, subject_id=ann.subject_id, sealed_password=b"new", keep_tokens=True)
    assert isinstance(kept, SubjectPasswordSet)
    assert not kept.cuts_off


def test_a_service_account_gets_no_password() -> None:
    robot = service()
    with pytest.raises(NotAPerson):
        subjects.set_password(state(robot), NOW, subject_id=robot.subject_id, sealed_password=b"new")


def test_setting_the_clearance_it_has_is_nothing_new() -> None:
    ann = person(clearance=5)
    assert subjects.set_clearance(state(ann), NOW, subject_id=ann.subject_id, clearance=5) == []
    assert types(subjects.set_clearance(state(ann), NOW, subject_id=ann.subject_id, clearance=6)) == [SubjectClearanceSet]


# ------------------------------------------------------------------------------------------------------- roles and rules


def test_granting_roles_names_the_new_ones_and_carries_them_all() -> None:
    held, new = role(), role()
    ann = person(role_ids=(held.role_id,))
    (granted,) = subjects.grant_roles(
        state(ann, held, new, administrators=(OTHER,)),
        NOW,
        subject_id=ann.subject_id,
        role_ids=[held.role_id, new.role_id, new.role_id],
    )
    assert isinstance(granted, SubjectRolesGranted)
    assert granted.granted == (new.role_id,)
    assert granted.subject.role_ids == (held.role_id, new.role_id)


def test_granting_a_role_already_held_is_nothing_new() -> None:
    held = role()
    ann = person(role_ids=(held.role_id,))
    assert subjects.grant_roles(state(ann, held), NOW, subject_id=ann.subject_id, role_ids=[held.role_id]) == []


def test_a_role_that_is_not_there_or_was_removed_cannot_be_granted() -> None:
    ann, removed = person(), role(removed=True)
    for role_id in (uuid4(), removed.role_id):
        with pytest.raises(UnknownRole):
            subjects.grant_roles(state(ann, removed), NOW, subject_id=ann.subject_id, role_ids=[role_id])


def test_a_subject_holds_at_most_a_hundred_roles() -> None:
    new = role()
    ann = person(role_ids=tuple(uuid4() for _ in range(99)))
    grant = {"subject_id": ann.subject_id, "role_ids": [new.role_id]}
    assert types(subjects.grant_roles(state(ann, new, administrators=(OTHER,)), NOW, **grant)) == [SubjectRolesGranted]  # type: ignore[arg-type]
    full = replace(ann, role_ids=(*ann.role_ids, uuid4()))
    with pytest.raises(TooManyRoles) as refusal:
        subjects.grant_roles(state(full, new), NOW, **grant)  # type: ignore[arg-type]
    assert (refusal.value.wanted, refusal.value.limit) == (101, 100)


def test_withdrawing_roles_takes_removed_ones_too_and_twice_is_nothing_new() -> None:
    removed = uuid4()
    ann = person(role_ids=(removed,))
    (withdrawn,) = subjects.withdraw_roles(
        state(ann, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, role_ids=[removed]
    )
    assert isinstance(withdrawn, SubjectRolesWithdrawn)
    assert (withdrawn.withdrawn, withdrawn.subject.role_ids) == ((removed,), ())
    assert subjects.withdraw_roles(state(withdrawn.subject), NOW, subject_id=ann.subject_id, role_ids=[removed]) == []


def test_own_rules_are_carried_whole() -> None:
    ann, orders = person(), api()
    held, new = rule_of_api(orders.api_id, "/a"), rule_of_api(orders.api_id, "/b")
    given = state(ann, orders, SubjectRules(subject_id=ann.subject_id, rules=(held,)))
    (granted,) = subjects.grant_rules(given, NOW, subject_id=ann.subject_id, rules=[held, new])
    assert isinstance(granted, SubjectRulesGranted)
    assert granted.rules == (held, new)
    assert subjects.grant_rules(given, NOW, subject_id=ann.subject_id, rules=[held]) == []
    (withdrawn,) = subjects.withdraw_rules(given, NOW, subject_id=ann.subject_id, rule_ids=[held.rule_id])
    assert isinstance(withdrawn, SubjectRulesWithdrawn)
    assert withdrawn.rules == ()
    assert subjects.withdraw_rules(given, NOW, subject_id=ann.subject_id, rule_ids=[new.rule_id]) == []


def test_an_own_rule_needs_its_api_and_there_are_at_most_a_hundred() -> None:
    ann, orders = person(), api()
    with pytest.raises(UnknownApi):
        subjects.grant_rules(state(ann), NOW, subject_id=ann.subject_id, rules=[rule_of_api(orders.api_id)])
    hundred = [rule_of_api(orders.api_id, f"/{n}") for n in range(100)]
    assert len(subjects.grant_rules(state(ann, orders), NOW, subject_id=ann.subject_id, rules=hundred)) == 1
    with pytest.raises(TooManyRules):
        subjects.grant_rules(state(ann, orders), NOW, subject_id=ann.subject_id, rules=[*hundred, rule_of_api(orders.api_id)])


# ------------------------------------------------------------------------------------ suspension, revocation, erasure


def test_suspending_twice_alike_is_nothing_new_and_otherwise_is() -> None:
    ann, until = person(), NOW + timedelta(days=1)
    (suspended,) = subjects.suspend(
        state(ann, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, reason="left", until=until
    )
    assert isinstance(suspended, SubjectSuspended)
    assert (suspended.subject.status, suspended.subject.status_reason, suspended.subject.status_until) == (
        "suspended",
        "left",
        until,
    )
    again = state(suspended.subject, administrators=(OTHER,))
    assert subjects.suspend(again, NOW, subject_id=ann.subject_id, reason="left", until=until) == []
    assert types(subjects.suspend(again, NOW, subject_id=ann.subject_id, reason="left")) == [SubjectSuspended]


def test_a_suspension_up_to_an_instant_that_has_come_is_refused() -> None:
    ann = person()
    with pytest.raises(InvalidInput):
        subjects.suspend(state(ann), NOW, subject_id=ann.subject_id, reason=None, until=NOW)


def test_reinstating_ends_a_suspension_and_keeps_the_cut_off() -> None:
    ann = person(status="suspended", status_reason="left", cutoff_position=5)
    (reinstated,) = subjects.reinstate(state(ann, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, reason="is back")
    assert isinstance(reinstated, SubjectReinstated)
    assert reinstated.subject == replace(ann, status="active", status_reason="is back")
    assert subjects.reinstate(state(reinstated.subject), NOW, subject_id=ann.subject_id, reason=None) == []


def test_revoking_all_tokens_is_one_event_each_time() -> None:
    ann = person()
    (revoked,) = subjects.revoke_tokens(state(ann), NOW, subject_id=ann.subject_id, reason="leaked")
    assert isinstance(revoked, SubjectTokensRevoked)
    assert revoked.cuts_off
    assert revoked.reason == "leaked"


def test_erasing_leaves_nothing_personal_and_frees_the_name() -> None:
    ann, orders = person(clearance=4, role_ids=(uuid4(),)), api()
    rules = SubjectRules(subject_id=ann.subject_id, rules=(rule_of_api(orders.api_id),))
    events = subjects.erase(
        state(ann, name_of(ann), rules, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, reason="asked"
    )
    assert types(events) == [NameReleased, SubjectRulesWithdrawn, SubjectErased]
    erased = events[-1]
    assert isinstance(erased, SubjectErased)
    assert erased.cuts_off
    row = erased.subject
    assert (row.name_id, row.sealed_profile, row.sealed_password, row.clearance, row.role_ids) == (None, None, None, 0, ())
    assert subjects.erase(state(row), NOW, subject_id=ann.subject_id, reason=None) == []


COMMANDS: dict[str, Callable[[State, Any], list[Event]]] = {
    "set_profile": lambda s, i: subjects.set_profile(s, NOW, subject_id=i, name_id=uuid4(), sealed_profile=b"p"),
    "set_password": lambda s, i: subjects.set_password(s, NOW, subject_id=i, sealed_password=b"p"),
    "set_clearance": lambda s, i: subjects.set_clearance(s, NOW, subject_id=i, clearance=9),
    "grant_roles": lambda s, i: subjects.grant_roles(s, NOW, subject_id=i, role_ids=[uuid4()]),
    "withdraw_roles": lambda s, i: subjects.withdraw_roles(s, NOW, subject_id=i, role_ids=[uuid4()]),
    "grant_rules": lambda s, i: subjects.grant_rules(s, NOW, subject_id=i, rules=[rule_of_api(uuid4())]),
    "withdraw_rules": lambda s, i: subjects.withdraw_rules(s, NOW, subject_id=i, rule_ids=[uuid4()]),
    "suspend": lambda s, i: subjects.suspend(s, NOW, subject_id=i, reason=None),
    "reinstate": lambda s, i: subjects.reinstate(s, NOW, subject_id=i, reason=None),
    "revoke_tokens": lambda s, i: subjects.revoke_tokens(s, NOW, subject_id=i, reason=None),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_nothing_more_can_be_done_with_an_erased_subject(command: Callable[[State, Any], list[Event]]) -> None:
    gone = person(status="erased", name_id=None)
    with pytest.raises(SubjectIsErased):
        command(state(gone, administrators=(OTHER,)), gone.subject_id)


@pytest.mark.parametrize(
    "command",
    [*COMMANDS.values(), lambda s, i: subjects.erase(s, NOW, subject_id=i, reason=None)],
    ids=[*COMMANDS, "erase"],
)
def test_a_subject_that_is_not_there_is_unknown(command: Callable[[State, Any], list[Event]]) -> None:
    with pytest.raises(UnknownSubject):
        command(state(administrators=(OTHER,)), uuid4())


# --------------------------------------------------------------------------------------------------------- administrators


def last(events: list[Event]) -> tuple[Any, ...]:
    assert isinstance(events[-1], AdministratorsChanged)
    return events[-1].subject_ids


def test_granting_and_withdrawing_the_role_changes_the_set_of_administrators() -> None:
    ann, its_role = person(), role(role_id=ADMINISTRATOR_ROLE, name="administrator")
    granted = subjects.grant_roles(
        state(ann, its_role, administrators=(OTHER,)), NOW, subject_id=ann.subject_id, role_ids=[ADMINISTRATOR_ROLE]
    )
    assert last(granted) == (OTHER, ann.subject_id)
    boss = administrator()
    withdrawn = subjects.withdraw_roles(
        state(boss, administrators=(boss.subject_id, OTHER)), NOW, subject_id=boss.subject_id, role_ids=[ADMINISTRATOR_ROLE]
    )
    assert last(withdrawn) == (OTHER,)


def test_suspending_reinstating_and_erasing_change_the_set_of_administrators() -> None:
    boss = administrator()
    given = state(boss, name_of(boss), administrators=(OTHER, boss.subject_id))
    assert last(subjects.suspend(given, NOW, subject_id=boss.subject_id, reason=None)) == (OTHER,)
    assert last(subjects.erase(given, NOW, subject_id=boss.subject_id, reason=None)) == (OTHER,)
    suspended = state(replace(boss, status="suspended"), administrators=(OTHER,))
    assert last(subjects.reinstate(suspended, NOW, subject_id=boss.subject_id, reason=None)) == (OTHER, boss.subject_id)


GOING: dict[str, Callable[[State, Any], list[Event]]] = {
    "withdraw_roles": lambda s, i: subjects.withdraw_roles(s, NOW, subject_id=i, role_ids=[ADMINISTRATOR_ROLE]),
    "suspend": lambda s, i: subjects.suspend(s, NOW, subject_id=i, reason=None),
    "suspend until": lambda s, i: subjects.suspend(s, NOW, subject_id=i, reason=None, until=NOW + timedelta(hours=1)),
    "erase": lambda s, i: subjects.erase(s, NOW, subject_id=i, reason=None),
}


@pytest.mark.parametrize("command", GOING.values(), ids=GOING)
def test_the_last_administrator_cannot_go(command: Callable[[State, Any], list[Event]]) -> None:
    boss = administrator()
    with pytest.raises(LastAdministrator):
        command(state(boss, name_of(boss), administrators=(boss.subject_id,)), boss.subject_id)


def test_only_a_person_who_can_log_in_counts_as_an_administrator() -> None:
    its_role = role(role_id=ADMINISTRATOR_ROLE)
    for nobody in (service(), person(sealed_password=None), person(status="suspended")):
        events = subjects.grant_roles(
            state(nobody, its_role, administrators=(OTHER,)), NOW, subject_id=nobody.subject_id, role_ids=[ADMINISTRATOR_ROLE]
        )
        assert types(events) == [SubjectRolesGranted]
    without = administrator(sealed_password=None)
    events = subjects.set_password(
        state(without, administrators=(OTHER,)), NOW, subject_id=without.subject_id, sealed_password=b"new"
    )
    assert last(events) == (OTHER, without.subject_id)
