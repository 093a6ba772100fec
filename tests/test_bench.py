"""The bench: every row beside its floors, every answer compared with what is known of the token."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.ledger
from bench.__main__ import APPEND, BARE, FALCON, INSERT, QUERY, floor, main
from bench.load import Request, run_load, write_requests

TINY = ["--rounds", "1", "--seconds", "1", "--workers", "1", "--tokens", "20", "--connections", "4"]

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_the_bench_answers_every_row_with_its_floors_and_no_wrong_answer() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *TINY, "--json", "--only", "gateway, jwe|AuthZEN|alone|issue, opaque|rotation"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    facts, *rows = map(json.loads, ended.stdout.splitlines())
    assert facts["workers"] == 1
    assert facts["PostgreSQL"].startswith("18")
    assert [row["what"] for row in rows] == [
        BARE,
        FALCON,
        QUERY,
        "decision, gateway, jwe",
        "decision, AuthZEN, opaque",
        INSERT,
        "the log alone: one appender",
        "issue, opaque",
        APPEND,
        "rotation of a one-time token",
    ]
    for row in rows:
        assert row["answers"] > 0, row
        assert row["wrong"] == row["failed"] == 0, row
        assert row["lowest"] <= row["per_second"] <= row["highest"], row
        assert row["of_bare"] > 0, row
        assert row["of_falcon"] > 0, row
        assert (row["of_own"] is None) == (row["what"] in (BARE, FALCON, QUERY, INSERT)), row


def test_the_bench_fails_when_the_ledger_says_something_else_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.ledger.REASONS, "revoked", "token_suspended")
    ended = CliRunner().invoke(main, [*TINY, "--only", "gateway, opaque"])
    assert ended.exit_code == 1
    assert "token_revoked" in ended.stderr


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
    measured = run_load(hello, requests, connections=1, seconds=1, chain=True)
    assert measured.wrong == measured.checked > 100
