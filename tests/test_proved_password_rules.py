"""A password is changed while it is being checked: what the check allowed is then not recorded. Pure rules."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from ledger.events import SubjectPasswordSet, TokenIssued
from ledger.execute import Contention
from ledger.states import Client, State, Subject
from ledger.subjects import set_password
from ledger.tokens import Grant, GrantRefused, Made, issue
from tests.builders import NOON, api, client, subject

API = api()
CLIENT = client(api_ids=(API.api_id,))
PERSON = subject(sealed_password=b"sealed, as it was proved", cutoff_position=6)
CHANGED = replace(PERSON, sealed_password=b"sealed, as it is by now", cutoff_position=8)
GRANT = Grant(PERSON.subject_id, CLIENT.client_id, (API.api_id,), proved_at=7)
MADE = Made("opaque", uuid4(), bytes(32), uuid4(), bytes(32))


def state(person: Subject, app: Client = CLIENT) -> State:
    return State(
        subjects={person.subject_id: person},
        clients={app.client_id: app},
        apis={API.api_id: API},
        administrators=(uuid4(),),
    )


def test_a_login_with_the_password_of_now_is_granted() -> None:
    (event,) = issue(state(PERSON), NOON, family_id=uuid4(), grant=GRANT, made=MADE)
    assert isinstance(event, TokenIssued)


def test_a_login_with_a_password_that_was_changed_meanwhile_is_refused() -> None:
    # It would be recorded after the change, and so stand above its cut-off.
    with pytest.raises(GrantRefused) as refused:
        issue(state(CHANGED), NOON, family_id=uuid4(), grant=GRANT, made=MADE)
    assert (refused.value.error, refused.value.cause) == ("invalid_grant", "cut off since the subject proved itself")


def test_a_login_goes_on_when_the_same_password_was_hashed_anew_meanwhile() -> None:
    rehashed = replace(CHANGED, cutoff_position=PERSON.cutoff_position)
    (event,) = issue(state(rehashed), NOON, family_id=uuid4(), grant=GRANT, made=MADE)
    assert isinstance(event, TokenIssued)


def test_a_grant_that_rests_on_no_proof_of_the_subject_does_not_care() -> None:
    (event,) = issue(state(CHANGED), NOON, family_id=uuid4(), grant=replace(GRANT, proved_at=None), made=MADE)
    assert isinstance(event, TokenIssued)


def test_of_two_changes_that_knew_the_same_password_one_is_carried_out() -> None:
    known = PERSON.sealed_password
    changes = {"subject_id": PERSON.subject_id, "sealed_password": b"sealed, another"}
    (event,) = set_password(state(PERSON), NOON, known=known, **changes)  # type: ignore[arg-type]
    assert isinstance(event, SubjectPasswordSet)
    with pytest.raises(Contention):
        set_password(state(CHANGED), NOON + timedelta(seconds=1), known=known, **changes)  # type: ignore[arg-type]


def test_an_administrator_sets_a_password_whatever_it_was() -> None:
    (event,) = set_password(state(CHANGED), NOON, subject_id=PERSON.subject_id, sealed_password=b"sealed, another")
    assert isinstance(event, SubjectPasswordSet)
