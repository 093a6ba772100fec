"""The rules of subjects: people and service accounts, what they are granted, how they are stopped. Pure: state and instant
in, events out.

Names, profiles and passwords come here sealed and as keyed ids only (sealing.py); what a rule looks like is rules.py. Each
function answers no event where there is nothing new, and raises what the state does not allow: UnknownSubject and
SubjectIsErased go without saying. Those that could change who administers the ledger read the set of administrators as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

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
    ADMINISTRATORS,
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
from ledger.states import RuleOfApi, State, Subject
from ledger.statuses import reinstated, suspended

MAX_ROLES: Final = 100
MAX_RULES: Final = 100
MAX_CLEARANCE: Final = 100


def register(
    state: State,
    _now: datetime,
    *,
    subject_id: UUID,
    kind: Literal["person", "service"],
    name_id: UUID | None = None,
    sealed_profile: bytes | None = None,
    sealed_password: bytes | None = None,
    clearance: int = 0,
) -> list[Event]:
    """Register a person, who has a user name and perhaps a password, or a service account, which has neither.

    Reads the name. NameIsTaken, NotAPerson; InvalidInput for a person without a name.
    """
    _check_clearance(clearance)
    if kind == "service":
        if name_id is not None or sealed_password is not None:
            raise NotAPerson(subject_id)
    elif name_id is None or sealed_profile is None:
        raise InvalidInput.of("username", "a person has one")
    subject = Subject(
        subject_id=subject_id,
        kind=kind,
        name_id=name_id,
        sealed_profile=sealed_profile,
        sealed_password=sealed_password,
        clearance=clearance,
        role_ids=(),
        cutoff_position=0,
        status="active",
        status_reason=None,
        status_until=None,
    )
    return [*_take_name(state, subject), SubjectRegistered(subject_id=subject_id, subject=subject)]


def set_profile(state: State, _now: datetime, *, subject_id: UUID, name_id: UUID | None, sealed_profile: bytes) -> list[Event]:
    """Set the sealed profile; with another name id the old name is free and the new one taken.

    Reads both names. NameIsTaken, NotAPerson; Contention when the subject has by now another name than was read.
    """
    subject = _subject(state, subject_id)
    if subject.kind == "service":
        if name_id is not None:
            raise NotAPerson(subject_id)
    elif name_id is None:
        raise InvalidInput.of("username", "a person has one")
    row = replace(subject, name_id=name_id, sealed_profile=sealed_profile)
    renaming: list[Event] = []
    if name_id != subject.name_id:
        renaming = [*_release_name(state, subject), *_take_name(state, row)]
    return [*renaming, SubjectProfileSet(subject_id=subject_id, subject=row)]


def set_password(
    state: State,
    _now: datetime,
    *,
    subject_id: UUID,
    sealed_password: bytes,
    keep_tokens: bool = False,
    known: bytes | None = None,
) -> list[Event]:
    """Set the password, and with it revoke every token of the subject unless they are to be kept.

    `known`: the sealed password that whoever asks has proved to know, which must still be the one. Reads the administrators.
    NotAPerson; Contention when it is not.
    """
    subject = _subject(state, subject_id)
    if subject.kind != "person":
        raise NotAPerson(subject_id)
    if known is not None and subject.sealed_password != known:
        raise Contention("the password was changed meanwhile")
    row = replace(subject, sealed_password=sealed_password)
    return [
        SubjectPasswordSet(subject_id=subject_id, subject=row, cuts_off=not keep_tokens),
        *_administrators_changed(state, row),
    ]


def set_clearance(state: State, _now: datetime, *, subject_id: UUID, clearance: int) -> list[Event]:
    """Set the clearance, 0 to 100."""
    subject = _subject(state, subject_id)
    _check_clearance(clearance)
    if subject.clearance == clearance:
        return []
    return [SubjectClearanceSet(subject_id=subject_id, subject=replace(subject, clearance=clearance))]


def grant_roles(state: State, _now: datetime, *, subject_id: UUID, role_ids: Iterable[UUID]) -> list[Event]:
    """Grant roles. Reads them and the administrators. UnknownRole (a removed one is), TooManyRoles."""
    subject = _subject(state, subject_id)
    granted = tuple(role_id for role_id in dict.fromkeys(role_ids) if role_id not in subject.role_ids)
    for role_id in granted:
        role = state.roles.get(role_id)
        if role is None or role.removed:
            raise UnknownRole(role_id)
    if not granted:
        return []
    row = replace(subject, role_ids=(*subject.role_ids, *granted))
    if len(row.role_ids) > MAX_ROLES:
        raise TooManyRoles(len(row.role_ids), MAX_ROLES)
    return [
        SubjectRolesGranted(subject_id=subject_id, subject=row, granted=granted),
        *_administrators_changed(state, row),
    ]


def withdraw_roles(state: State, _now: datetime, *, subject_id: UUID, role_ids: Iterable[UUID]) -> list[Event]:
    """Withdraw roles, removed ones too. Reads the administrators. LastAdministrator."""
    subject = _subject(state, subject_id)
    withdrawn = tuple(role_id for role_id in dict.fromkeys(role_ids) if role_id in subject.role_ids)
    if not withdrawn:
        return []
    row = replace(subject, role_ids=tuple(role_id for role_id in subject.role_ids if role_id not in withdrawn))
    return [
        SubjectRolesWithdrawn(subject_id=subject_id, subject=row, withdrawn=withdrawn),
        *_administrators_changed(state, row),
    ]


def grant_rules(state: State, _now: datetime, *, subject_id: UUID, rules: Iterable[RuleOfApi]) -> list[Event]:
    """Grant own rules. Reads the subject's rules and the APIs. UnknownApi, TooManyRules."""
    _subject(state, subject_id)
    held = _rules(state, subject_id)
    wanted = {(rule.api_id, rule.rule_id): rule for rule in (*held, *rules)}
    for api_id, _ in wanted.keys() - {(rule.api_id, rule.rule_id) for rule in held}:
        if api_id not in state.apis:
            raise UnknownApi(api_id)
    if len(wanted) == len(held):
        return []
    if len(wanted) > MAX_RULES:
        raise TooManyRules(len(wanted), MAX_RULES)
    return [SubjectRulesGranted(subject_id=subject_id, rules=tuple(wanted.values()))]


def withdraw_rules(state: State, _now: datetime, *, subject_id: UUID, rule_ids: Iterable[UUID]) -> list[Event]:
    """Withdraw own rules. Reads the subject's rules."""
    _subject(state, subject_id)
    held = _rules(state, subject_id)
    gone = set(rule_ids)
    left = tuple(rule for rule in held if rule.rule_id not in gone)
    if len(left) == len(held):
        return []
    return [SubjectRulesWithdrawn(subject_id=subject_id, rules=left)]


def suspend(state: State, now: datetime, *, subject_id: UUID, reason: str | None, until: datetime | None = None) -> list[Event]:
    """Suspend the subject, every token it has. Reads the administrators. LastAdministrator; InvalidInput: `until` has come.

    An administrator suspended up to an instant is counted again when reinstated, not when the instant comes.
    """
    row = suspended(_subject(state, subject_id), now, reason, until)
    if row is None:
        return []
    return [SubjectSuspended(subject_id=subject_id, subject=row), *_administrators_changed(state, row)]


def reinstate(state: State, _now: datetime, *, subject_id: UUID, reason: str | None) -> list[Event]:
    """End the suspension. Reads the administrators."""
    row = reinstated(_subject(state, subject_id), reason)
    if row is None:
        return []
    return [SubjectReinstated(subject_id=subject_id, subject=row), *_administrators_changed(state, row)]


def revoke_tokens(
    state: State, _now: datetime, *, subject_id: UUID, reason: str | None, cutoff_position: int | None = None
) -> list[Event]:
    """Revoke every token of the subject issued so far, or up to a position: one event, whatever their number."""
    subject = _subject(state, subject_id)
    if cutoff_position is None:
        return [SubjectTokensRevoked(subject_id=subject_id, subject=subject, cuts_off=True, reason=reason)]
    if cutoff_position <= subject.cutoff_position:
        return []
    return [
        SubjectTokensRevoked(subject_id=subject_id, subject=replace(subject, cutoff_position=cutoff_position), reason=reason)
    ]


def erase(state: State, _now: datetime, *, subject_id: UUID, reason: str | None) -> list[Event]:
    """Erase what is personal: profile, password, name, roles and own rules go, and every token is revoked.

    Reads the name, the subject's rules and the administrators. The caller then destroys the subject's key. Of a subject
    erased before: no event. LastAdministrator; Contention when the subject has by now another name than was read.
    """
    subject = state.subjects.get(subject_id)
    if subject is None:
        raise UnknownSubject(subject_id)
    if subject.status == "erased":
        return []
    row = replace(
        subject,
        name_id=None,
        sealed_profile=None,
        sealed_password=None,
        clearance=0,
        role_ids=(),
        status="erased",
        status_reason=reason,
        status_until=None,
    )
    rules_gone = [SubjectRulesWithdrawn(subject_id=subject_id, rules=())] if _rules(state, subject_id) else []
    return [
        *_release_name(state, subject),
        *rules_gone,
        SubjectErased(subject_id=subject_id, subject=row, cuts_off=True),
        *_administrators_changed(state, row),
    ]


def _subject(state: State, subject_id: UUID) -> Subject:
    subject = state.subjects.get(subject_id)
    if subject is None:
        raise UnknownSubject(subject_id)
    if subject.status == "erased":
        raise SubjectIsErased(subject_id)
    return subject


def _rules(state: State, subject_id: UUID) -> Sequence[RuleOfApi]:
    row = state.subject_rules.get(subject_id)
    return row.rules if row else ()


def _check_clearance(clearance: int) -> None:
    if not 0 <= clearance <= MAX_CLEARANCE:
        raise InvalidInput.of("clearance", f"0 to {MAX_CLEARANCE}")


def _take_name(state: State, subject: Subject) -> list[Event]:
    if subject.name_id is None:
        return []
    name = state.names.get(subject.name_id)
    if name is not None and name.holder_id is not None:
        raise NameIsTaken("user")
    return [NameTaken(name_id=subject.name_id, kind="user", holder_id=subject.subject_id)]


def _release_name(state: State, subject: Subject) -> list[Event]:
    if subject.name_id is None:
        return []
    # Which name to read was known from an earlier reading: renamed in between, this one lacks it.
    if subject.name_id not in state.names:
        raise Contention("the subject was renamed meanwhile")
    return [NameReleased(name_id=subject.name_id, kind="user")]


def administers(subject: Subject) -> bool:
    """Say whether the subject can administer the ledger by itself: a person who can log in, stands, and has the role.

    A service account with the role may do the same, but is not counted upon: it is no better than its client's standing.
    """
    return (
        subject.kind == "person"
        and subject.status == "active"
        and subject.sealed_password is not None
        and ADMINISTRATOR_ROLE in subject.role_ids
    )


def _administrators_changed(state: State, subject: Subject) -> list[Event]:
    """Answer the event that says who administers the ledger from now on, if `subject` as it becomes makes a difference.

    The set is a stream: two who withdraw one another at once are a conflict, not an empty set.
    """
    before = state.administrators
    assert before, "the set of administrators, never empty, was not read"
    others = tuple(subject_id for subject_id in before if subject_id != subject.subject_id)
    if administers(subject) == (subject.subject_id in before):
        return []
    after = (*others, subject.subject_id) if administers(subject) else others
    if not after:
        raise LastAdministrator(subject.subject_id)
    return [AdministratorsChanged(stream_id=ADMINISTRATORS, subject_ids=after)]
