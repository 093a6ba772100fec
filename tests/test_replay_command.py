"""`token-ledger replay` as it is typed: what it needs to know of the disk, going back, a copy as of then, and the bar."""

import io
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from pydantic import SecretStr
from rich.console import Console

from api.cli.maintenance import replay_command
from api.server import free_bytes
from ledger.settings import Settings
from projections.verify import verify
from tests.builders import EXAMPLES, token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas
from tests.serving import MASTER_KEY, command

PLENTY = ("--free-bytes", str(2**60))


def run(database: Database, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
        "TOKEN_LEDGER_DATABASE_URL": database.service,
        "TOKEN_LEDGER_OWNER_DATABASE_URL": database.owner,
        "TOKEN_LEDGER_MASTER_KEY": MASTER_KEY,
        "COLUMNS": "200",
    }
    return subprocess.run(
        command("replay", *options), env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def done(database: Database, *options: str) -> str:
    ended = run(database, *options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refused(database: Database, *options: str, status: int = 1) -> str:
    before = contents(database)
    ended = run(database, *options)
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert contents(database) == before
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize("what", [(), ("--to", "7")], ids=["replay", "copy"])
def test_the_free_disk_of_a_database_elsewhere_has_to_be_said(database: Database, what: tuple[str, ...]) -> None:
    record(database)
    said = refused(database, *what)
    assert re.search(r"[\d,]{7,} bytes, twice the size of the views, must be free on the disk of the database", said)
    assert "which cannot be seen from here: say with --free-bytes how many are" in said
    assert re.search(
        r"must be free on the disk of the database, and 1,000 are", refused(database, *what, "--free-bytes", "1000")
    )
    assert schemas(database) == {"ledger", "views"}
    done(database, *what, *PLENTY)


def test_the_free_disk_of_the_embedded_database_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {tmp_path / "cluster": SimpleNamespace(free=17)}
    monkeypatch.setattr("ledger.embedded.shutil.disk_usage", there.__getitem__)
    assert free_bytes(Settings(data_folder=tmp_path)) == 17
    elsewhere = Settings(data_folder=tmp_path, database_url=SecretStr("dbname=x"), master_key=SecretStr(MASTER_KEY))
    assert free_bytes(elsewhere) is None


def test_replay_and_back_and_a_copy(database: Database) -> None:
    record(database)
    assert "there are no views to go back to" in refused(database, "--back")
    assert f"{len(EXAMPLES)} events replayed in " in done(database, *PLENTY)
    record(database, [token_issued()])
    said = done(database, "--back")
    assert f"are in place again, up to position {len(EXAMPLES) + 1}; appends waited " in said
    assert verify(database.ledger_owner).clean

    said = done(database, "--to", "5", *PLENTY)
    assert re.search(r"The views as of position 5, recorded at 20\d\d-\S+Z, are in the schema views_then \(\S+ s\)\.", said)
    with psycopg.connect(database.service) as connection:
        row = connection.execute("SELECT recorded_at FROM ledger.events WHERE position = 9").fetchone()
        assert row is not None
    assert "as of position 9," in done(database, "--to", row[0].isoformat(), *PLENTY)
    assert done(database, "--drop-copy") == "views_then is dropped.\n"
    assert done(database, "--drop-copy") == "There is no views_then.\n"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--to", "yesterday"], "'--to': a position, or an instant as in 2030-01-31T12:00:00Z"),
        (["--to", "2030-01-31"], "'--to': a position, or an instant"),
        (["--to", "-1"], "'--to': a position, or an instant"),
        (["--to", "7", "--back"], "each a thing of its own"),
        (["--drop-copy", "--back"], "each a thing of its own"),
        (["--free-bytes", "-1"], "'--free-bytes': -1 is not in the range x>=0"),
    ],
    ids=["a word", "a day", "negative", "a copy and back", "drop and back", "less than nothing"],
)
def test_what_cannot_be_meant_is_refused_with_its_option_and_rule(database: Database, options: list[str], rule: str) -> None:
    assert rule in refused(database, *options, status=2)


@pytest.mark.parametrize("moment", ["0", "999999", str(2**80), "1999-01-01T00:00:00Z"])
def test_a_moment_that_is_not_in_the_log_is_refused(database: Database, moment: str) -> None:
    record(database)
    said = refused(database, "--to", moment, *PLENTY)
    assert f"to: in the log: from position 1 to {len(EXAMPLES)}, or an instant since the first" in said


def test_the_bar_shows_how_much_is_done_the_rate_and_the_time_left(database: Database) -> None:
    record(database, [token_issued() for _ in range(30)])
    text = io.StringIO()
    replay_command(database.ledger_owner, Console(file=text, force_terminal=True, width=120, color_system=None))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert re.search(r"folding +━+ 30/30 +[\d,]+/s +0:00:00", shown), shown
    assert re.search(r"comparing +━+ (\d+)/\1 +[\d,]+/s +0:00:00", shown), shown
