"""The cascade: what every security event does to every kind of token at every endpoint, by its test (tests/test_cascade.py),
printed as the matrix that was seen. What is expected is written by hand, in tests/cascade.csv; a cell stands here when its test
passed, which compares all of it.
"""

from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests
from tests.test_cascade import CANNOT_HAPPEN, COLUMNS, KINDS, table

TEST: Final = "test_a_security_event_reaches_what_the_table_says"
LEGEND: Final = (
    "A cell: refresh, introspect, evaluate, gateway, own tokens, audit; then @ from the position of the event, = unchanged.",
    "+ it works, - refused (401, invalid_grant, inactive), x forbidden (403); audit: + active, s suspended, r revoked.",
)
# By column: what is a sign of its own. Everything else is refused.
SIGNS: Final = {
    "refresh": {"ok": "+"},
    "introspect": {"active": "+"},
    "evaluate": {"allowed": "+"},
    "gateway": {"200": "+", "403": "x"},
    "own": {"200": "+", "403": "x"},
    "from": {"event": "@", "none": "="},
}


def run(stage: Stage) -> Shown:
    """Run the tests, and print what they saw."""
    expected = table()
    ran = run_tests(stage, "tests/test_cascade.py")
    outcomes = {case.parameters: case.outcome for case in ran.cases if case.function == TEST}
    events = list(dict.fromkeys(event for event, _ in expected))
    seen = {
        (event, kind): _cell(expected.get((event, kind), {}), outcomes.get(f"{event}-{kind}", "not run"))
        for event in events
        for kind in KINDS
    }
    empty = sum(not cell for cell in seen.values()) + len(outcomes.keys() - {f"{event}-{kind}" for event, kind in seen})
    impossible = sum(cell == CANNOT_HAPPEN for cell in seen.values())
    figure = (
        f"{len(seen)} cells of {len(COLUMNS)} answers, {empty} empty or surplus, {impossible} that {CANNOT_HAPPEN};"
        f" {len(ran.passed())} tests passed"
    )
    if ran.trouble:
        figure += f"; {ran.trouble}"
    rows = [["", *KINDS, "the decision says; the audit says"]]
    rows += [[event, *(seen[event, kind] for kind in KINDS), _words(expected, event)] for event in events]
    return Shown(
        f"{len(events)} security events, {len(KINDS)} kinds of token, {len(COLUMNS) - 1} endpoints",
        figure,
        held=not empty and not ran.trouble,
        lines=(*LEGEND, *_aligned(rows)),
    )


def _cell(answers: dict[str, str], outcome: str) -> str:
    """Answer a cell: a sign for every column, what became of its test when that did not pass, or nothing for no cell."""
    if outcome != "passed" or not answers:
        return "" if outcome == "not run" else outcome
    if set(answers.values()) == {CANNOT_HAPPEN}:
        return CANNOT_HAPPEN
    signs = [_sign(column, answers[column]) for column in ("refresh", "introspect", "evaluate", "gateway", "own", "audit")]
    return f"{' '.join(signs)} {_sign('from', answers['from'])}"


def _sign(column: str, answer: str) -> str:
    if column == "audit":
        return "+" if answer == "active" else answer[0]
    return SIGNS[column].get(answer, "-")


def _words(expected: dict[tuple[str, str], dict[str, str]], event: str) -> str:
    """Answer the reasons and states that an event leads to."""
    answers = [row for (of, _), row in expected.items() if of == event]
    reasons = {row["evaluate"] for row in answers} - {"allowed", "not_an_access_token", CANNOT_HAPPEN}
    states = {row["audit"] for row in answers} - {"active", CANNOT_HAPPEN}
    return "; ".join(", ".join(sorted(words)) for words in (reasons, states) if words)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
