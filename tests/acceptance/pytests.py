"""Tests that are points of acceptance: run by pytest in a process of its own, and what became of each."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.acceptance.points import FellShort, Stage
from tests.acceptance.running import ROOT

SECONDS: Final = 1_800
NOT_PASSED: Final = ("failure", "error", "skipped")


@dataclass(frozen=True, slots=True)
class Case:
    """A test that was run: its function, what stands in its brackets, and what it recorded (pytest's `record_property`)."""

    function: str
    parameters: str
    outcome: str  # passed, or one of NOT_PASSED
    recorded: dict[str, str]


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of a file of tests. `trouble`: what is to be said when not all passed; else empty."""

    cases: list[Case]
    trouble: str

    def passed(self) -> list[Case]:
        """Answer the tests that passed."""
        return [case for case in self.cases if case.outcome == "passed"]


def run_tests(stage: Stage, tests: str) -> Ran:
    """Run a file of tests; FellShort when pytest does not come to the end."""
    stage.progress(tests, 0, None)
    report = stage.folder / "report.xml"
    # Of the formats of a report the one that holds what tests record.
    options = ["-q", f"--junitxml={report}", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=ROOT,
        env=os.environ | {"TOKEN_LEDGER_VECTORS": str(stage.vectors)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if not report.exists():
        raise FellShort(f"pytest ended with {ended.returncode}: {' '.join(ended.stdout.split())[-500:]}")
    cases = [_case(element) for element in ElementTree.parse(report).iter("testcase")]
    others = Counter(case.outcome for case in cases if case.outcome != "passed")
    if not others and ended.returncode == 0:
        return Ran(cases, "")
    failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", ended.stdout, re.MULTILINE)
    return Ran(cases, f"pytest ended with {ended.returncode}, {dict(others)}: {'; '.join(failed)[:500]}")


def _case(element: ElementTree.Element) -> Case:
    function, _, rest = element.attrib["name"].partition("[")
    outcome = next((child.tag for child in element if child.tag in NOT_PASSED), "passed")
    recorded = {found.attrib["name"]: found.attrib["value"] for found in element.iter("property")}
    return Case(function, rest.removesuffix("]"), outcome, recorded)
