"""Instants in requests and answers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.instants import read_rfc3339, rfc3339


def test_an_instant_is_written_in_utc_with_microseconds() -> None:
    assert rfc3339(datetime(2030, 6, 1, 12, tzinfo=UTC)) == "2030-06-01T12:00:00.000000Z"
    assert rfc3339(datetime(2030, 6, 1, 0, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))) == "2030-05-31T22:30:00.000001Z"


@given(st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=st.timezones()))
def test_an_instant_is_read_back_exactly(instant: datetime) -> None:
    assert datetime.fromisoformat(rfc3339(instant)) == instant.astimezone(UTC)
    assert read_rfc3339(rfc3339(instant)) == instant.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        pytest.param("1985-04-12T23:20:50.52Z", datetime(1985, 4, 12, 23, 20, 50, 520_000, UTC), id="RFC 3339 5.8 first"),
        pytest.param("1996-12-19T16:39:57-08:00", datetime(1996, 12, 20, 0, 39, 57, 0, UTC), id="RFC 3339 5.8 second"),
        pytest.param(
            "1937-01-01T12:00:27.87+00:20", datetime(1937, 1, 1, 11, 40, 27, 870_000, UTC), id="RFC 3339 section 5.8, 5"
        ),
        pytest.param("2030-06-01t12:00:00z", datetime(2030, 6, 1, 12, tzinfo=UTC), id="lower case"),
        pytest.param("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC), id="the last"),
        pytest.param("0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC), id="the first"),
    ],
)
def test_an_instant_is_read_as_rfc_3339_writes_it(text: str, instant: datetime) -> None:
    assert read_rfc3339(text) == instant
    assert read_rfc3339(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "4102444800",
        "2030-06-01",
        "2030-06-01T12:00Z",
        "2030-06-01T12:00:00",
        "2030-06-01 12:00:00Z",
        "2030-06-01T12:00:00.1234567Z",
        "2030-06-01T12:00:60Z",
        "2030-06-01T12:00:00+24:00",
        "2030-06-01T12:00:00+0000",
        "2030-02-30T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "2030-06-01T12:00:00Z\n",
        "２０３０-06-01T12:00:00Z",
        # Of years that no datetime has, in UTC.
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_instant_or_could_not_be_read_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an instant"):
        read_rfc3339(text)
