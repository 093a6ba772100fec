"""The twelve combinations of strategy and refresh, by their test (tests/test_combinations.py)."""

import re
from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests

STRATEGIES: Final = frozenset(["opaque", "encrypted", "jwt", "jwe"])
REFRESH: Final = frozenset(["off", "reusable", "rotating"])


def run(stage: Stage) -> Shown:
    """Run the tests, and count what passed and which combinations were lived through."""
    ran = run_tests(stage, "tests/test_combinations.py")
    lived: set[frozenset[str]] = set()
    for case in ran.passed():
        words = frozenset(re.findall(r"[a-z]+", case.parameters))
        if len(words & STRATEGIES) == 1 and len(words & REFRESH) == 1:
            lived.add(words & (STRATEGIES | REFRESH))
    wanted = len(STRATEGIES) * len(REFRESH)
    figure = f"{len(lived)} of {wanted} combinations, {len(ran.passed())} tests passed"
    if ran.trouble:
        return Shown("login to expiry, by the table", f"{figure}; {ran.trouble}", held=False)
    return Shown("login to expiry, by the table", figure, held=len(lived) == wanted)
