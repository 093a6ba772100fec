"""Instants in answers."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from ledger.instants import rfc3339


def test_an_instant_is_written_in_utc_with_microseconds() -> None:
    assert rfc3339(datetime(2030, 6, 1, 12, tzinfo=UTC)) == "2030-06-01T12:00:00.000000Z"
    assert rfc3339(datetime(2030, 6, 1, 0, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))) == "2030-05-31T22:30:00.000001Z"


@given(st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=st.timezones()))
def test_an_instant_is_read_back_exactly(instant: datetime) -> None:
    assert datetime.fromisoformat(rfc3339(instant)) == instant.astimezone(UTC)
