"""The longer sections of the bench, each run as small as it can be: measured beside their floors, and no answer wrong."""

import shutil
from pathlib import Path

import pytest

from bench import replay
from tests.benches import measured

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_a_replay_and_writes_by_appenders_are_measured_beside_their_floors() -> None:
    _, lines = measured("^replay|appends: (one append, by|rotation.*by appenders)")
    by_what = {line["what"]: line for line in lines}
    assert [*by_what["one append, by an appender"]["ratios"]] == ["one plain INSERT and commit (pgbench)"]
    slower = by_what["rotation of a one-time token, by appenders"]
    assert slower["at"] == "2 appenders, flushed 2 ms slower, 8 connections"
    assert [*slower["ratios"]] == ["it by 2 appenders, flushed as it is, 8 connections"]
    if not Path("/proc/self/status").exists():  # where memory is read
        return
    for what in (replay.REPLAY, replay.CLIENT, replay.SERVER, f"{replay.REPLAY}, linear"):
        assert by_what[what]["figure"] > 0, what
        assert all(ratio > 0 for ratio in by_what[what]["ratios"].values()), what
    assert next(iter(by_what[replay.REPLAY]["ratios"])) == replay.FLOOR


def test_growth_paths_and_memory_are_measured_and_no_answer_is_wrong() -> None:
    _, lines = measured("^(growth: (gateway|the same as of the first)|paths: gateway|memory: )")
    assert {line["section"] for line in lines} == {"growth", "paths", "memory"}
    asked = {(line["what"], line["at"]): line for line in lines if line["answers"]}
    grown = asked["the same as of the first tokens", "2,000 tokens"]
    assert list(grown["ratios"]) == ["it at 500 tokens"]
    assert grown["goal"] == "≥ 0.77"
    assert list(asked["gateway, opaque", "100 rules a role, 1 API"]["ratios"]) == ["it at 10 rules a role, 1 API"]
    assert asked["a worker after all requests", lines[-1]["at"]]["figure"] > 1
