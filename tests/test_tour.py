"""The tour of the README works word for word, and the runner of it notices what does not."""

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.serving import CHEAP_PASSWORDS, Served, command, free_port, wait_until_ready
from tests.tour import run_tour, tour_of

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a clone after `make run`: the tour calls the Python of its virtual environment."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return tmp_path


def test_the_tour_works_word_for_word_and_works_again(ledger_server: Served, folder: Path) -> None:
    first = run_tour(README, ledger_server.url, ledger_server.password, folder)
    assert "token_issued" in first
    assert "token_revoked" in first
    assert "the tour is over" in first
    run_tour(README, ledger_server.url, ledger_server.password, folder)


def test_the_tour_that_a_start_prints_is_the_readmes() -> None:
    assert files("api.cli").joinpath("tour.sh").read_text() == tour_of(README)


def test_a_first_start_prints_the_tour_with_the_password_and_the_address(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
        "HOME": str(home),
        "TOKEN_LEDGER_DATA_FOLDER": str(tmp_path / "data"),
        "TOKEN_LEDGER_PORT": url.rpartition(":")[2],
        "TOKEN_LEDGER_WORKERS": "1",
        **CHEAP_PASSWORDS,
    }
    log = tmp_path / "output"
    with log.open("w") as output, subprocess.Popen(command("serve"), env=environment, stdout=output) as process:
        try:
            wait_until_ready(url)
        finally:
            process.terminate()
    printed = log.read_text()
    password = re.search(r"password: +(\S+)", printed)
    assert password is not None, printed
    assert f"serves on {url} " in printed
    assert f"\nexport TOKEN_LEDGER_URL={url}\nexport ADMIN_PASSWORD={password[1]}\n{tour_of(README)}" in printed
    assert list(home.iterdir()) == []  # what belongs to the ledger lies in its data folder


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("# decision: true, allowed", "# decision: false, allowed"),
        ("# decision: false, token_revoked", "# decision: false, token_suspended"),
        ('/revoke"', '/revoked"'),
        ('"password": "correct horse battery", "client_id"', '"password": "another horse battery", "client_id"'),
    ],
    ids=["another decision", "another reason", "a line that fails", "a line that fails inside another"],
)
def test_a_tour_that_is_wrong_is_noticed(ledger_server: Served, folder: Path, tmp_path: Path, line: str, changed: str) -> None:
    text = README.read_text()
    assert text.count(line) == 1
    wrong = tmp_path / "README.md"
    wrong.write_text(text.replace(line, changed))
    with pytest.raises(AssertionError, match="the tour"):
        run_tour(wrong, ledger_server.url, ledger_server.password, folder)
