"""`token-ledger audit follow`: prints what is recorded, goes on by itself, and says where it was."""

import json
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.calls import new_person, ok
from tests.serving import Served, command, free_port
from tests.terminal import Terminal


@pytest.fixture
def terminal(ledger_server: Served, admin: httpx.Client, tmp_path: Path) -> Terminal:
    return Terminal(ledger_server.url, tmp_path, token=admin.headers["Authorization"].removeprefix("Bearer "))


def test_once_ends_where_the_log_ends_and_says_where_to_go_on(
    terminal: Terminal, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.cli.audit.MAX_PAGE", 7)
    whole = terminal.run("audit", "follow", "--once", "--json")
    printed = [json.loads(line) for line in whole.stdout.splitlines()]
    assert printed == ok(admin.get("/v1/feed", params={"limit": 1000}))["events"]
    person = new_person(admin)
    cursor = whole.stderr.removeprefix("To go on: --after ").strip()
    rest = terminal.objects("audit", "follow", "--once", "--after", cursor, "--type", "subject_registered")
    assert [event["stream"] for event in rest] == [person.subject_id]


def test_what_comes_is_printed_until_it_is_stopped(terminal: Terminal, admin: httpx.Client) -> None:
    after = ok(admin.get("/v1/feed", params={"after": "now"}))["cursor"]
    following = subprocess.Popen(
        command("audit", "follow", "--after", after, "--type", "subject_registered"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=terminal.environment,
    )
    assert following.stdout is not None
    try:
        for _ in range(3):
            person = new_person(admin)
            assert following.stdout.readline().split("\t")[3:5] == ["subject_registered", person.subject_id]
    finally:
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)
    assert "To go on: --after " in said
    assert "Traceback" not in said


def test_a_server_that_is_away_is_waited_for_unless_it_is_asked_once(tmp_path: Path) -> None:
    away = Terminal(f"http://127.0.0.1:{free_port()}", tmp_path, token="tl_at_x")
    assert "cannot reach" in away.refused("audit", "follow", "--once", status=3)
    following = subprocess.Popen(command("audit", "follow"), stderr=subprocess.PIPE, text=True, env=away.environment)
    assert following.stderr is not None
    try:
        for _ in range(2):
            assert following.stderr.readline().endswith("; trying again\n")
    finally:
        following.kill()
        following.communicate()
