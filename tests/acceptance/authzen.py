"""What the AuthZEN working group's own scenarios expect of a decision point, by their tests (tests/test_authzen.py).

The interop's API gateway: its users, roles and rules, and every decision. The certification scenario, its records said as
routes: every request of its chapters on evaluation and evaluations; of those that hang on properties the shape alone
(docs/authzen.md).
"""

from collections import Counter
from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests

FILES: Final = (
    "vectors/authzen-interop/api-gateway-decisions.json",
    "vectors/authzen-scenario/authorization-api-1_0-scenario.md",
)
INTEROP: Final = "test_an_api_gateway_of_the_interop_is_answered_as_it_expects"
CERTIFICATION: Final = "test_a_request_of_the_certification_is_answered_as_it_says"
DECISIONS: Final = 25


def run(stage: Stage) -> Shown:
    """Run the tests, and count what they were about."""
    for file in FILES:
        stage.corpus(file)
    ran = run_tests(stage, "tests/test_authzen.py")
    passed = ran.passed()
    decisions = sum(case.function == INTEROP for case in passed)
    whats = Counter(case.recorded["what"] for case in passed if case.function == CERTIFICATION)
    figure = (
        f"{decisions} of {DECISIONS} decisions of the interop's API gateway; of the certification {whats['decision']} requests"
        f" decided as it says, {whats['error']} refused as it says, {whats['shape']} that hang on properties in the right shape"
    )
    if ran.trouble:
        figure += f"; {ran.trouble}"
    return Shown(
        f"{len(passed)} tests of AuthZEN 1.0",
        figure,
        held=decisions == DECISIONS and min(whats["decision"], whats["error"], whats["shape"]) > 0 and not ran.trouble,
        lines=tuple(f"fell short: {case.function} {case.parameters}" for case in ran.cases if case.outcome != "passed"),
    )
