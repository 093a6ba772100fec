"""Clients of others, as they are published, against a ledger with two workers: authlib and requests-oauthlib by every grant
and way of authentication, an OAuth client for Node that checks strictly, and JWTs of ours under three other implementations of
JOSE; by their tests (tests/test_real_clients.py), of which none may be skipped here.
"""

from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests

# How the tests of each begin.
OF: Final = {
    "authlib": "test_authlib",
    "requests-oauthlib": "test_requests_oauthlib",
    "JWTs under jwcrypto and joserfc": "test_a_jwt",
    "oauth4webapi and jose on Node": "test_a_strict_client",
}


def run(stage: Stage) -> Shown:
    """Run the tests, and count what each client did."""
    ran = run_tests(stage, "tests/test_real_clients.py")
    passed = {name: sum(case.function.startswith(begin) for case in ran.passed()) for name, begin in OF.items()}
    steps = sum(int(case.recorded.get("done", 0)) for case in ran.passed())
    figure = ", ".join(f"{name}: {count}" for name, count in passed.items()) + f" of {steps} steps"
    if ran.trouble:
        figure += f"; {ran.trouble}"
    return Shown("clients of others", figure, held=all(passed.values()) and steps > 0 and not ran.trouble)
