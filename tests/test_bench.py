"""The bench: every row beside its floors, every answer compared with what is known of the token."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.__main__
import bench.ledger
from bench.__main__ import main
from bench.decisions import BARE, FALCON, QUERY
from bench.figures import Figure, Goal
from bench.load import Request, run_load, write_requests
from bench.plots import draw
from bench.running import floor
from bench.stage import Section, Stage
from bench.table import BEGINS, ENDS, as_markdown, write_between_marks
from tests.benches import TINY, measured

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_the_bench_answers_each_line_with_its_floors_and_no_wrong_answer() -> None:
    facts, lines = measured("^(decisions|appends): (gateway, jwe|.*append alone|issue, opaque$|revocation[^,]*$)")
    assert facts["workers"] == 1
    assert facts["PostgreSQL"].startswith("18")
    assert [line["what"] for line in lines if line["unit"] == "a second"] == [
        BARE,
        FALCON,
        QUERY,
        "gateway, jwe",
        "plain INSERT and commit (pgbench)",
        "issue, opaque",
        "the append alone, batches as of opaque issues (pgbench)",
        "revocation of an access token",
    ]
    for line in lines:
        assert line["lowest"] <= line["figure"] <= line["highest"], line
        if line["what"] not in (BARE, QUERY, "plain INSERT and commit (pgbench)") and line["unit"] == "a second":
            assert line["answers"] > 0, line
            assert all(ratio > 0 for ratio in line["ratios"].values()), line


def test_the_bench_fails_when_the_ledger_says_something_else_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.ledger.REASONS, "revoked", "token_suspended")
    ended = CliRunner().invoke(main, [*TINY, "--only", "decisions: gateway, opaque"])
    assert ended.exit_code == 1
    assert "token_revoked" in ended.stderr


def _never(_stage: Stage) -> list[Figure]:
    raise AssertionError("it was started")


def test_the_bench_refuses_a_disk_that_has_not_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vast = Section("vast", ("a line",), _never, seconds={"small": 7_200}, gigabytes={"small": 1e9})
    monkeypatch.setattr(bench.__main__, "SECTIONS", [vast])
    ended = CliRunner().invoke(main, [*TINY, "--folder", str(tmp_path)])
    assert ended.exit_code == 1
    assert "about 120 minutes" in ended.stderr
    assert f"{tmp_path} has" in ended.stderr
    assert "1,000,000,000,000,000,000 are needed" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    line = Figure("some", "a line", "8 connections", "a second", [10, 60, 30], {"floor": [10, 30, 60]}, Goal(least=1.5))
    assert line.value == 30
    assert line.ratios() == {"floor": 1}
    assert line.is_reached() is False
    assert Goal(most=3).is_reached(3)


def test_the_table_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGINS}\nold\n{ENDS}\nafter\n")
    line = Figure("some", "a line", "8 connections", "a second", [1_234.0], {"floor": [2_468.0]}, Goal(least=0.4))
    text = as_markdown([line], {"cores": 2}, "python -m bench", {"some": ["![A plot](plots/a.svg)"]})
    write_between_marks(page, text)
    write_between_marks(page, text)
    written = page.read_text()
    assert written.startswith(f"before\n{BEGINS}\n")
    assert written.endswith(f"{ENDS}\nafter\n")
    assert "old" not in written
    assert "`python -m bench --only 'some: a line'`" in written
    assert "![A plot](plots/a.svg)" in written
    assert written.count("| a line | 8 connections | 1,234 a second | 1,234 to 1,234 | 0.50 of floor | ≥ 0.40 | yes |") == 1


def test_plots_of_the_same_figures_are_the_same_bytes(tmp_path: Path) -> None:
    figures = [
        Figure("decisions", f"gateway, {strategy}", f"{connections} connections", "a second", [connections * 9.0, 300])
        for strategy in ("opaque", "jwt")
        for connections in (8, 32)
    ]
    shown = [draw(figures, tmp_path / name) for name in ("first", "second")]
    assert shown[0] == {"decisions": ["![Decisions a second](first/decisions.svg)"]}
    first, second = ((tmp_path / name / "decisions.svg").read_bytes() for name in ("first", "second"))
    assert first == second
    assert b"gateway, jwt" in first


@pytest.fixture(scope="module")
def hello() -> Iterator[str]:
    with floor(1) as url:
        yield url


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        (Request("GET", "/hello", {}, contains="world"), False),
        (Request("GET", "/hello", {}, status=401), True),
        (Request("GET", "/hello", {}, reason="allowed"), True),
        (Request("GET", "/hello", {}, contains="moon"), True),
    ],
    ids=["as it must be", "another status", "another reason", "another body"],
)
def test_every_answer_is_compared(hello: str, tmp_path: Path, expected: Request, wrong: bool) -> None:
    requests = write_requests(tmp_path / "requests", hello, [expected])
    measured = run_load(hello, requests, connections=2, seconds=1)
    assert measured.checked > 100
    assert measured.wrong == (measured.checked if wrong else 0)
    assert measured.failed == 0
    assert bool(measured.example) == wrong


def test_an_answer_that_does_not_say_which_request_it_answers_is_wrong(hello: str, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests", hello, [Request("GET", "/hello", {})] * 2)
    measured = run_load(hello, requests, connections=2, seconds=1)
    assert measured.wrong == measured.checked > 100


def test_a_refresh_without_a_new_token_is_wrong(hello: str, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests", hello, [Request("GET", "/hello", {})])
    measured = run_load(hello, requests, connections=1, seconds=1, use="chain")
    assert measured.wrong == measured.checked > 100
