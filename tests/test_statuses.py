"""What is suspended and reinstated alike: subjects, clients, APIs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ledger.errors import InvalidInput
from ledger.states import Api, Client, Subject
from ledger.statuses import reinstated, suspended
from tests.builders import api, client, subject
from tests.rows import NOW

UNTIL = NOW + timedelta(hours=1)
TICK = timedelta(microseconds=1)
ROWS = [subject(), client(), api()]

of_each = pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__.lower())


def _with(row: Any, status: str, reason: str | None, until: object = None) -> Any:
    return replace(row, status=status, status_reason=reason, status_until=until)


@of_each
@pytest.mark.parametrize("until", [None, UNTIL, NOW + TICK])
def test_a_row_is_suspended_with_its_reason_up_to_an_instant(row: Subject, until: Any) -> None:
    assert suspended(row, NOW, "why", until) == _with(row, "suspended", "why", until)


@of_each
def test_another_reason_or_another_end_is_another_suspension(row: Subject) -> None:
    given = _with(row, "suspended", "why", UNTIL)
    assert suspended(given, NOW, "why", UNTIL) is None
    for reason, until in (("other", UNTIL), (None, UNTIL), ("why", None), ("why", UNTIL + TICK)):
        assert suspended(given, NOW, reason, until) == _with(row, "suspended", reason, until)


@of_each
@pytest.mark.parametrize("until", [NOW, NOW - TICK])
def test_an_end_that_has_come_is_refused(row: Client, until: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        suspended(row, NOW, "why", until)
    assert [problem.field for problem in refused.value.problems] == ["until"]


@of_each
@pytest.mark.parametrize("until", [None, UNTIL, NOW - TICK])
def test_a_suspension_is_ended_also_where_its_end_has_come(row: Api, until: Any) -> None:
    assert reinstated(_with(row, "suspended", "why", until), "well again") == _with(row, "active", "well again")


@of_each
def test_what_is_active_is_not_reinstated(row: Api) -> None:
    assert reinstated(row, "well again") is None
