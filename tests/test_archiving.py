"""Archiving: what is dropped is whole in the archive, at whatever point a run is stopped; what ended leaves the views."""

import gzip
import hashlib
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

import projections.archiving
from ledger.errors import InvalidInput
from projections.archive_files import ArchiveRefused, file_of, manifest_of
from projections.archiving import PartitionInUse, archive
from tests.archives import LOG_ID, PAST, archive_half, fill
from tests.builders import subject_registered
from tests.conftest import Database
from tests.recording import contents, record


def asked(database: Database, query: str, *parameters: object) -> list[Any]:
    with psycopg.connect(database.ledger_owner) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


EVERYTHING = "SELECT to_jsonb(e) FROM ledger.events e ORDER BY e.position"


def test_whole_partitions_below_the_position_are_in_files_and_not_in_the_log(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    before = [row for (row,) in asked(any_database, EVERYTHING)]

    report = archive_half(any_database, tmp_path)

    assert [archived.manifest.name for archived in report.partitions] == ["events_from_1", "events_from_11"]
    assert lines(file_of(tmp_path, "events_from_1")) + lines(file_of(tmp_path, "events_from_11")) == before[:20]
    after = [row for (row,) in asked(any_database, EVERYTHING)]
    assert after[: len(before) - 20] == before[20:]
    assert asked(any_database, "SELECT min(p.from_position) FROM ledger.partitions p") == [(21,)]
    assert asked(any_database, "SELECT to_regclass('ledger.events_from_1')") == [(None,)]


def test_the_log_says_what_was_archived_and_under_which_checksum(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)

    events = asked(
        any_database,
        "SELECT e.payload, e.metadata -> 'actor' FROM ledger.events e WHERE e.type = 'partition_archived' ORDER BY 1",
    )
    for name, (payload, actor) in zip(("events_from_1", "events_from_11"), events, strict=True):
        packed = file_of(tmp_path, name).read_bytes()
        manifest = json.loads(manifest_of(tmp_path, name).read_bytes())
        assert payload["sha256"] == manifest["sha256"] == hashlib.sha256(packed).hexdigest()
        assert manifest["lines_sha256"] == hashlib.sha256(gzip.decompress(packed)).hexdigest()
        assert (payload["events"], payload["to_position"] - payload["from_position"]) == (10, 10)
        assert manifest["log_id"] == payload["log_id"] == str(LOG_ID)
        assert actor == {"kind": "system", "id": None, "authenticated_by": "ledger_owner"}


def test_what_ended_of_the_archived_positions_leaves_the_views_and_nothing_else(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    before = contents(any_database)

    report = archive_half(any_database, tmp_path)

    after = contents(any_database)
    left = {
        view: [row for row in rows if row not in after[view]]
        for view, rows in before.items()
        if view not in ("archived_partitions", "archived_tokens")
    }
    assert {view for view, rows in left.items() if rows} == {"tokens", "token_states", "families"}
    positions = {view: sorted(row["position"] for row in rows) for view, rows in left.items()}
    assert positions["tokens"] == positions["families"] == [2, 6, 10, 14, 18]
    assert positions["token_states"] == [3, 7, 11, 15, 19]
    assert (report.tokens, report.families) == (5, 5)


def test_what_ended_since_leaves_with_the_next_run(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive(any_database.ledger_owner, tmp_path, below=25, ended_before=datetime(2019, 1, 1, tzinfo=UTC))
    assert asked(any_database, "SELECT count(*) FROM views.tokens") == [(20,)]

    report = archive_half(any_database, tmp_path)

    assert (report.partitions, report.tokens) == ((), 5)
    assert asked(any_database, "SELECT count(*) FROM views.tokens") == [(15,)]
    assert archive_half(any_database, tmp_path).events == 0


def test_few_rows_leave_by_one_event(any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections.archiving, "LEAVING", 2)
    fill(any_database)

    report = archive_half(any_database, tmp_path)

    assert (report.events, report.tokens, report.families) == (3, 5, 5)
    assert asked(any_database, "SELECT from_position, to_position, ended_before > %s FROM views.archived_tokens", PAST) == [
        (2, 10, True),
        (10, 18, True),
        (18, 21, True),
    ]


@pytest.mark.parametrize("below", [5, 11, 10_000])
def test_only_whole_partitions_that_are_full_of_events_go(any_database: Database, tmp_path: Path, below: int) -> None:
    fill(any_database)
    archive(any_database.ledger_owner, tmp_path, below=below, ended_before=PAST)
    assert asked(any_database, "SELECT min(p.from_position) FROM ledger.partitions p") == [({5: 1, 11: 11, 10_000: 41}[below],)]


def test_what_still_stands_does_not_leave(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    with pytest.raises(InvalidInput, match="ended_before: an instant that has come"):
        archive(any_database.ledger_owner, tmp_path, below=25, ended_before=datetime.now(UTC) + timedelta(hours=1))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------- stopped on the way


class Stopped(Exception):
    """As if the process had been killed here."""


@pytest.mark.parametrize("at", ["write", "check", "_drop", "_let_go"])
def test_a_run_that_was_stopped_is_gone_on_with(
    any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    fill(any_database)
    before = [row for (row,) in asked(any_database, EVERYTHING)]

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(projections.archiving, at, stop)
        with pytest.raises(Stopped):
            archive_half(any_database, tmp_path)
    in_files = [line for path in sorted(tmp_path.glob("*.gz")) for line in lines(path)]
    in_log = [row for (row,) in asked(any_database, EVERYTHING)]
    assert all(row in in_log or row in in_files for row in before)
    archive_half(any_database, tmp_path)
    in_files = [line for name in ("events_from_1", "events_from_11") for line in lines(file_of(tmp_path, name))]
    assert in_files == before[:20]
    assert asked(any_database, "SELECT count(*) FROM views.tokens") == [(15,)]


def test_a_file_that_was_half_written_is_written_anew(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    file_of(tmp_path, "events_from_1").with_suffix(".gz.partial").write_bytes(b"half")
    archive_half(any_database, tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".gz", ".json", ".json"]


def test_a_file_of_another_log_is_refused_by_name_and_nothing_is_dropped(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for path in [file_of(tmp_path, "events_from_11"), manifest_of(tmp_path, "events_from_11")]:
        path.rename(other / path.name.replace("from_11", "from_21"))

    with pytest.raises(ArchiveRefused, match=r"events_from_21\.jsonl\.gz: is not what events_from_21 holds"):
        archive(any_database.ledger_owner, other, below=31, ended_before=PAST)

    assert asked(any_database, "SELECT min(p.from_position) FROM ledger.partitions p") == [(21,)]


def test_a_partition_with_a_hole_is_not_archived(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    with psycopg.connect(any_database.owner, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM ledger.events WHERE position = 4")
    with pytest.raises(ArchiveRefused, match="has 9 events"):
        archive_half(any_database, tmp_path)
    assert asked(any_database, "SELECT min(p.from_position) FROM ledger.partitions p") == [(1,)]


# --------------------------------------------------------------------------------------------------------- beside the others


def test_whoever_reads_the_log_for_long_keeps_the_partition_and_nobody_waits_for_it(
    any_database: Database, tmp_path: Path
) -> None:
    fill(any_database)
    with psycopg.connect(any_database.ledger_owner) as dump:
        dump.execute("LOCK TABLE ledger.events IN ACCESS SHARE MODE")
        refused: list[PartitionInUse] = []

        def run() -> None:
            try:
                archive(any_database.ledger_owner, tmp_path, below=25, ended_before=PAST, patience_seconds=1.0)
            except PartitionInUse as error:
                refused.append(error)

        running = threading.Thread(target=run)
        running.start()
        longest = 0.0
        while running.is_alive():
            began = time.monotonic()
            record(any_database, [subject_registered()])
            longest = max(longest, time.monotonic() - began)
        running.join()
        (error,) = refused
        assert dump.info.backend_pid in error.pids
        assert longest < 5
    assert [p.manifest.name for p in archive_half(any_database, tmp_path).partitions] == ["events_from_1", "events_from_11"]


def test_a_stream_that_began_in_the_archive_goes_on(any_database: Database, tmp_path: Path) -> None:
    fill(any_database)
    archive_half(any_database, tmp_path)
    assert asked(any_database, "SELECT s.version FROM ledger.streams s WHERE s.stream = %s", LOG_ID) == [(1 + 2 + 1,)]
    assert asked(any_database, "SELECT s.first_position FROM ledger.streams s WHERE s.stream = %s", UUID(int=500)) == [(5,)]
