"""What django-oauth-toolkit, oauthlib and authlib expect of an OAuth server, case by case over HTTP, by its test
(tests/test_oauth_expectations.py): of a server with two workers, the cases on immediate reuse with no retry window.
"""

from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests
from tests.oauth_expectations import WINDOW_SECONDS

FILE: Final = "vectors/oauth-expectations/expectations.json"
TEST: Final = "test_a_client_of_others_finds_what_it_expects"
MANY: Final = 60


def run(stage: Stage) -> Shown:
    """Run the tests, and name each case that fell short."""
    stage.corpus(FILE)
    ran = run_tests(stage, "tests/test_oauth_expectations.py")
    cases = [case for case in ran.cases if case.function == TEST]
    short = [case for case in cases if case.outcome != "passed"]
    figure = f"{len(cases) - len(short)} of {len(cases)} as expected, the retry window {WINDOW_SECONDS} s"
    if ran.trouble:
        figure += f"; {ran.trouble}"
    return Shown(
        f"{len(cases)} expectations of other projects",
        figure,
        held=len(cases) >= MANY and not short and not ran.trouble,
        lines=tuple(f"fell short: {case.parameters}" for case in short),
    )
