"""Replay and verify through archives: the same views as from the log, and no file is believed but by its checksum there."""

import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from projections.archive_files import ArchiveRefused, file_of, manifest_of
from projections.archive_reading import ArchiveNeeded
from projections.archiving import archive
from projections.copies import COPY, copy_as_of
from projections.going_back import go_back
from projections.replay import replay
from projections.verify import verify
from tests.archives import archive_half, fill
from tests.builders import subject_registered
from tests.conftest import Database
from tests.recording import contents, record, schemas, tamper


@pytest.mark.parametrize("piece", [3, 1_000])
def test_views_that_are_replayed_through_archives_are_the_live_ones(any_database: Database, tmp_path: Path, piece: int) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    before = contents(any_database)

    report = replay(any_database.ledger_owner, folder=tmp_path, piece=piece)

    assert report.differences == ()
    assert contents(any_database) == before
    assert schemas(any_database) == {"ledger", "views", "views_previous"}
    assert verify(any_database.ledger_owner, folder=tmp_path, piece=piece).totals == {}
    assert schemas(any_database) == {"ledger", "views", "views_previous"}


def test_archives_that_are_told_of_in_archives_are_believed_one_by_the_other(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    record(any_database, [subject_registered() for _ in range(30)])
    archive(any_database.ledger_owner, tmp_path, below=71, ended_before=datetime.now(UTC))
    told = "SELECT count(*) FROM ledger.events e WHERE e.type = 'partition_archived' AND e.payload ->> 'name' = 'events_from_1'"
    with psycopg.connect(any_database.ledger_owner) as connection:
        assert connection.execute(told.encode()).fetchone() == (0,)

    assert replay(any_database.ledger_owner, folder=tmp_path).differences == ()
    assert verify(any_database.ledger_owner, folder=tmp_path).clean


def test_a_copy_as_of_an_archived_position_is_what_the_views_were(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    copy_as_of(any_database.ledger_owner, 15)
    before = contents(any_database, COPY)
    archive_half(any_database, tmp_path)

    copy_as_of(any_database.ledger_owner, 15, folder=tmp_path)

    assert contents(any_database, COPY) == before


@pytest.mark.parametrize("read", [replay, verify], ids=["replay", "verify"])
def test_without_the_archives_it_is_said_which_is_needed(
    any_database: Database, tmp_path: Path, read: Callable[[str], object]
) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    before = contents(any_database)

    with pytest.raises(ArchiveNeeded, match="positions 1 to 20 are archived, the last of them in events_from_11"):
        read(any_database.ledger_owner)

    assert contents(any_database) == before
    assert schemas(any_database) == {"ledger", "views"}


def test_views_of_before_that_need_what_was_archived_since_are_not_gone_back_to(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    replay(any_database.ledger_owner)
    archive_half(any_database, tmp_path)
    go_back(any_database.ledger_owner)
    assert verify(any_database.ledger_owner, folder=tmp_path).clean

    record(any_database, [subject_registered() for _ in range(30)])
    archive(any_database.ledger_owner, tmp_path, below=71, ended_before=datetime.now(UTC))
    with pytest.raises(ArchiveNeeded):
        go_back(any_database.ledger_owner)


# ------------------------------------------------------------------------------------------------------- what is refused


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


def rewrite(path: Path) -> None:
    """Other events, packed well, with a manifest that says so."""
    lines = gzip.decompress(path.read_bytes()).replace(b"active", b"edited")
    path.write_bytes(gzip.compress(lines, mtime=0))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [flip, remove, rewrite, cut], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["events_from_1", "events_from_11"])
def test_a_damaged_missing_or_rewritten_file_is_refused_by_its_name(
    any_database: Database, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    before = contents(any_database)
    damage(file_of(tmp_path, name))

    for read in (replay, verify):
        with pytest.raises(ArchiveRefused, match=rf"{name}\.jsonl\.gz: is (damaged|not there)"):
            read(any_database.ledger_owner, folder=tmp_path)

    assert contents(any_database) == before


def test_a_file_of_another_log_is_refused_by_its_name(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    path = manifest_of(tmp_path, "events_from_1")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"log_id": str(UUID(int=8))}))
    with pytest.raises(ArchiveRefused, match=r"events_from_1\.jsonl\.gz: is of another log"):
        replay(any_database.ledger_owner, folder=tmp_path)


def test_a_file_in_the_place_of_another_is_refused(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    shutil.copy(file_of(tmp_path, "events_from_11"), file_of(tmp_path, "events_from_1"))
    with pytest.raises(ArchiveRefused, match=r"events_from_1\.jsonl\.gz: is damaged, or another's"):
        replay(any_database.ledger_owner, folder=tmp_path)


# ------------------------------------------------------------------------------------------------- what verify still finds


@pytest.mark.parametrize(
    ("view", "change"),
    [
        ("tokens", "UPDATE views.tokens SET direct = NOT direct WHERE position = 4"),
        ("subjects", "DELETE FROM views.subjects WHERE position = 5"),
        ("archived_partitions", "UPDATE views.archived_partitions SET sha256 = '00'"),
        ("ledger.streams", "UPDATE ledger.streams SET first_position = 6 WHERE first_position = 5"),
        ("ledger.commands", "DELETE FROM ledger.commands WHERE first_position <= 5"),
        ("ledger.batches", "DELETE FROM ledger.batches WHERE last_position <= 5"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_verify_through_archives_finds_what_is_not_as_the_archived_events_say(
    any_database: Database, tmp_path: Path, view: str, change: str
) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    tamper(any_database, change)
    assert verify(any_database.ledger_owner, folder=tmp_path).totals.keys() == {view}


def test_a_token_that_did_not_leave_is_found(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    tamper(
        any_database,
        "INSERT INTO views.token_states (token_id, position, status) VALUES (%s, 3, 'active')",
        (UUID(int=200),),
    )
    report = verify(any_database.ledger_owner, folder=tmp_path)
    assert report.totals == {"token_states": 1}
    assert report.differences[0].kind == "surplus"
