"""Some of the strings that others have stumbled over, through every text field; all: the point standards.naughty-strings."""

import httpx

from tests.naughty import fields, tried

# Empty, text that runs the other way, combined and joined signs, what PostgreSQL cannot hold, and too long for any field.
SOME = (
    "",
    "\u202etest\u202e '; DROP TABLE events --",
    "Z\u0351\u036b\u0343a\u0308lgo 👩\u200d👩\u200d👧",
    "a\u0000b",
    "x" * 9_000,
)


def test_a_string_comes_back_as_it_was_or_is_refused_by_the_name_of_its_field(admin: httpx.Client, http: httpx.Client) -> None:
    outcomes = {(field.name, tried(admin, field, text)) for field in fields(admin, http) for text in SOME}
    assert {name for name, outcome in outcomes if outcome == "refused"} == {name for name, _ in outcomes}
    assert ("suspend token", "back") in outcomes
