"""The twelve combinations of strategy and refresh, by their test (tests/test_combinations.py)."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from typing import Final

from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.running import ROOT

TESTS: Final = "tests/test_combinations.py"
SECONDS: Final = 900
STRATEGIES: Final = frozenset(["opaque", "encrypted", "jwt", "jwe"])
REFRESH: Final = frozenset(["off", "reusable", "rotating"])


def run(stage: Stage) -> Shown:
    """Run the tests, and count what passed and which combinations were lived through."""
    stage.progress("the combinations", 0, None)
    report = stage.folder / "combinations.xml"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-p", "no:cacheprovider", TESTS],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if not report.exists():
        raise FellShort(f"pytest ended with {ended.returncode}: {' '.join(ended.stdout.split())[-500:]}")
    passed, others = 0, Counter[str]()
    lived: set[frozenset[str]] = set()
    for case in ElementTree.parse(report).iter("testcase"):
        if outcomes := [child.tag for child in case if child.tag in ("failure", "error", "skipped")]:
            others[outcomes[0]] += 1
            continue
        passed += 1
        words = frozenset(re.findall(r"[a-z]+", case.attrib["name"].partition("[")[2]))
        if len(words & STRATEGIES) == 1 and len(words & REFRESH) == 1:
            lived.add(words & (STRATEGIES | REFRESH))
    wanted = len(STRATEGIES) * len(REFRESH)
    figure = f"{len(lived)} of {wanted} combinations, {passed} tests passed"
    if others or ended.returncode != 0:
        failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", ended.stdout, re.MULTILINE)
        return Shown("login to expiry, by the table", f"{figure}, {dict(others)}: {'; '.join(failed)[:500]}", held=False)
    return Shown("login to expiry, by the table", figure, held=len(lived) == wanted)
