"""Verify: silent on a true history, loud on every way in which views or log can be other than the log says."""

import asyncio
import io
import json
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from rich.console import Console

import projections.install as install_module
from api.cli.maintenance import replay_command, verify_command
from ledger.database import connect
from ledger.events import Event, TokenRevoked, TokensArchived
from ledger.log import Actor, append
from ledger.states import TokenState
from projections.replay import Progress, replay
from projections.verify import Behind, Difference, verify
from tests.builders import EXAMPLES, NOON, command, family, subject_registered, token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas, tamper

# Where the example of a type stands in a log that holds the examples alone.
POSITIONS = {event.TYPE: position for position, event in enumerate(EXAMPLES, start=1)}
A_SUBJECT = {"subject": json.loads(subject_registered().payload_json())["subject"]}


@pytest.fixture
def maintained(database: Database) -> Database:
    """Answer a database in which ledger_owner may make schemas, as it may where the ledger was installed."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(f"GRANT CREATE ON DATABASE {database.name} TO ledger_owner".encode())
    return database


def differences(database: Database) -> list[Difference]:
    """Verify, and answer what is different; all of it is counted."""
    report = verify(database.ledger_owner, piece=7)
    assert sum(report.totals.values()) == len(report.differences)
    assert report.clean == (not report.differences)
    return list(report.differences)


def test_a_history_of_every_event_is_clean(installed: Database) -> None:
    record(installed)
    before = contents(installed)

    report = verify(installed.ledger_owner)

    assert (report.differences, report.totals, report.clean) == ((), {}, True)
    assert report.events == len(EXAMPLES)
    assert contents(installed) == before
    assert schemas(installed) == {"ledger", "views"}


def test_an_empty_log_is_clean(installed: Database) -> None:
    assert verify(installed.ledger_owner).clean


# ------------------------------------------------------------------------------------------------------------ the views


def test_a_changed_row_is_found_with_the_columns_that_differ(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["subject_clearance_set"]
    tamper(maintained, "UPDATE views.subjects SET clearance = 100 WHERE position = %s", (position,))

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind, difference.positions) == ("subjects", "changed", (position,))
    assert (difference.live, difference.replayed) == ({"clearance": 100}, {"clearance": 40})
    assert difference.key["position"] == position


def test_a_missing_row_is_found(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["family_revoked"]
    tamper(maintained, "DELETE FROM views.families WHERE position = %s", (position,))

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind, difference.positions) == ("families", "missing", (position,))
    assert difference.live is None
    assert difference.replayed is not None
    assert difference.replayed["status"] == "revoked"


def test_a_surplus_row_is_found(maintained: Database) -> None:
    record(maintained)
    tamper(maintained, "INSERT INTO views.administrators (position, subject_ids) VALUES (1, ARRAY[gen_random_uuid()])")

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind, difference.positions) == ("administrators", "surplus", (1,))
    assert difference.replayed is None


def test_a_row_that_was_moved_is_both_missing_and_surplus(maintained: Database) -> None:
    record(maintained)
    tamper(maintained, "UPDATE views.keys SET position = position + 100 WHERE status = 'revoked'")

    assert [(d.view, d.kind) for d in differences(maintained)] == [("keys", "missing"), ("keys", "surplus")]


def test_a_fold_with_a_bug_is_found(maintained: Database) -> None:
    with psycopg.connect(maintained.ledger_owner, autocommit=True) as connection:
        row = connection.execute("SELECT pg_get_functiondef('views.fold_tokens(bigint, bigint)'::regprocedure)").fetchone()
        assert row is not None
        assert row[0].count("t.direct,") == 1
        connection.execute(row[0].replace("t.direct,", "NOT t.direct,").encode())
    record(maintained, [token_issued(direct=True), subject_registered()])

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind, difference.positions) == ("tokens", "changed", (1,))
    assert (difference.live, difference.replayed) == ({"direct": False}, {"direct": True})


def test_a_fold_that_forgets_a_type_is_found_although_both_sides_agree(
    maintained: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of the release itself: live and replayed views are the same, and neither is what the matrix says."""
    script = install_module._script

    def forgetful(path: Path) -> bytes:
        return script(path).replace(b", 'subject_erased');", b", 'name_released');")

    monkeypatch.setattr(install_module, "_script", forgetful)
    record(maintained)
    tamper(maintained, "UPDATE ledger.events SET payload = payload || %s WHERE type = 'name_released'", (Jsonb(A_SUBJECT),))
    replay(maintained.ledger_owner)

    found = [d for d in differences(maintained) if d.view == "matrix"]

    assert [(d.kind, d.key, d.positions) for d in found] == [
        ("missing", {"view": "subjects", "position": POSITIONS["subject_erased"]}, (POSITIONS["subject_erased"],)),
        ("surplus", {"view": "subjects", "position": POSITIONS["name_released"]}, (POSITIONS["name_released"],)),
    ]


def test_rows_that_left_the_views_with_what_is_archived_are_no_difference(maintained: Database) -> None:
    whose = family(expires_at=NOON)
    token = token_issued(family=whose, expires_at=NOON)
    revoked = TokenRevoked(
        family_id=whose.family_id,
        token_id=token.tokens[0].token_id,
        subject_id=whose.subject_id,
        client_id=whose.client_id,
        token_state=TokenState(token.tokens[0].token_id, "revoked", None, None),
    )
    archived = TokensArchived(log_id=uuid4(), from_position=1, to_position=2, ended_before=NOON)
    record(maintained, [token, revoked, archived, token_issued()])
    views = contents(maintained)
    assert [len(views[view]) for view in ("tokens", "families", "token_states")] == [1, 0, 0]

    assert differences(maintained) == []


def test_the_events_behind_a_difference_are_named(maintained: Database) -> None:
    ann = subject_registered()
    asyncio.run(_record_as(maintained, Actor("client", ann.subject_id, "password"), ann))
    tamper(maintained, "UPDATE views.subjects SET clearance = 7")

    report = verify(maintained.ledger_owner)

    assert report.behind == {1: Behind("subject_registered", "client", str(ann.subject_id))}


async def _record_as(database: Database, actor: Actor, event: Event) -> None:
    async with await connect(database.service) as connection:
        await append(connection, [command(event, actor=actor)])


def test_a_view_that_has_another_shape_is_found(maintained: Database) -> None:
    record(maintained)
    tamper(maintained, "ALTER TABLE views.names ADD COLUMN note text")
    tamper(maintained, "CREATE TABLE views.more (position bigint)")
    tamper(maintained, "DROP TABLE views.logs")

    assert {(d.view, d.kind) for d in differences(maintained)} == {
        ("names", "changed"),
        ("more", "surplus"),
        ("logs", "missing"),
    }


# -------------------------------------------------------------------------------------------------------------- the log


def test_a_changed_payload_is_found_in_the_views_that_were_made_from_it(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["subject_roles_granted"]
    tamper(
        maintained,
        "UPDATE ledger.events SET payload = jsonb_set(payload, '{subject,clearance}', '99') WHERE position = %s",
        (position,),
    )

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind, difference.positions) == ("subjects", "changed", (position,))
    assert (difference.live, difference.replayed) == ({"clearance": 40}, {"clearance": 99})


def test_a_payload_that_no_event_has_is_found_and_not_quoted(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["key_made"]
    tamper(
        maintained,
        "UPDATE ledger.events SET payload = jsonb_set(payload, '{key,use}', '\"top secret\"') WHERE position = %s",
        (position,),
    )

    found = differences(maintained)

    assert [(d.view, d.kind, d.positions) for d in found] == [
        ("ledger.events", "changed", (position,)),
        ("keys", "changed", (position,)),
    ]
    assert found[0].live == {"type": "key_made", "unreadable": "key.use: literal_error"}


@pytest.mark.parametrize(
    ("tag", "change", "says"),
    [
        ("subject_roles_granted", "payload - 'granted'", "not as it would be written: granted"),
        (
            "subject_clearance_set",
            "jsonb_set(payload, '{subject,clearance}', '\"40\"')",
            "not as it would be written: subject",
        ),
        ("reuse_detected", 'payload || \'{"generation_current": "1"}\'', "not as it would be written: generation_current"),
        ("subject_tokens_revoked", "payload - 'reason'", "reason: missing"),
        ("name_taken", "payload || '{\"reason\": null}'", "reason: unexpected_keyword_argument"),
    ],
)
def test_a_payload_that_is_not_in_the_shape_of_its_type_is_found(
    maintained: Database, tag: str, change: str, says: str
) -> None:
    record(maintained)
    tamper(maintained, f"UPDATE ledger.events SET payload = {change} WHERE position = %s", (POSITIONS[tag],))

    (found,) = (d for d in differences(maintained) if d.view == "ledger.events")

    assert (found.positions, found.live) == ((POSITIONS[tag],), {"type": tag, "unreadable": says})


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (1, "members that schema_version 1 has not"),
        (3, "unknown schema_version 3"),
        (0, "unknown schema_version 0"),
    ],
)
def test_a_payload_that_is_not_in_the_shape_of_its_version_is_found(maintained: Database, version: int, says: str) -> None:
    record(maintained)
    position = POSITIONS["subject_tokens_revoked"]
    tamper(maintained, "UPDATE ledger.events SET schema_version = %s WHERE position = %s", (version, position))

    (found,) = differences(maintained)

    assert (found.view, found.positions) == ("ledger.events", (position,))
    assert found.live == {"type": "subject_tokens_revoked", "unreadable": says}


def test_an_unknown_type_and_a_foreign_stream_are_found(maintained: Database) -> None:
    record(maintained, [subject_registered(), subject_registered(), subject_registered()])
    tamper(maintained, "UPDATE ledger.events SET type = 'subject_blessed' WHERE position = 1")
    tamper(
        maintained,
        "UPDATE ledger.events SET payload = (SELECT payload FROM ledger.events WHERE position = 3) WHERE position = 2",
    )

    found = {d.positions: d.live for d in differences(maintained) if d.view == "ledger.events"}

    assert found == {
        (1,): {"type": "subject_blessed", "unreadable": "unknown type"},
        (2,): {"type": "subject_registered", "unreadable": "the stream is not the one its payload names"},
    }


def test_an_event_that_cannot_be_folded_is_named_and_the_others_are_still_compared(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["subject_erased"]
    tamper(
        maintained,
        "UPDATE ledger.events SET payload = jsonb_set(payload, '{subject,kind}', 'null') WHERE position = %s",
        (position,),
    )

    found = differences(maintained)

    assert [(d.view, d.kind) for d in found] == [
        ("ledger.events", "changed"),
        ("fold", "changed"),
        ("audit_entries", "surplus"),
        ("subjects", "surplus"),
    ]
    assert found[1].live == {"first_position": position, "last_position": position, "sqlstate": "23502"}


@pytest.mark.parametrize("gone", [(13, 14), (14,)])
def test_a_gap_is_found_and_so_is_what_stood_there(maintained: Database, gone: tuple[int, ...]) -> None:
    record(maintained)
    tamper(maintained, "DELETE FROM ledger.events WHERE position = ANY (%s)", (list(gone),))

    report = verify(maintained.ledger_owner)

    assert report.differences[0] == Difference(
        "ledger.events", {"position": gone[0]}, "missing", None, {"positions": len(gone)}, gone
    )
    # Its command (of 13 to 15) has too few events, and its rows in the views have nothing behind them.
    assert report.totals["ledger.commands"] == 1
    assert report.totals["subjects"] == len(gone)


def test_a_cut_off_end_is_found(maintained: Database) -> None:
    record(maintained)
    last = len(EXAMPLES)
    tamper(maintained, "DELETE FROM ledger.events WHERE position = %s", (last,))

    report = verify(maintained.ledger_owner)

    assert report.differences[0] == Difference("ledger.events", {"position": last}, "missing", None, {"positions": 1}, (last,))
    assert report.totals["ledger.streams"] == 1
    assert report.totals["ledger.batches"] >= 1


def test_a_version_out_of_order_is_found(maintained: Database) -> None:
    record(maintained)
    position = POSITIONS["subject_password_set"]
    tamper(maintained, "UPDATE ledger.events SET version = 50 WHERE position = %s", (position,))

    found = {(d.view, d.kind): d for d in differences(maintained)}

    assert found.keys() == {("ledger.events", "changed"), ("ledger.streams", "changed")}
    difference = found[("ledger.events", "changed")]
    assert (difference.positions, difference.live, difference.replayed) == ((position,), {"version": 50}, {"version": 3})


@pytest.mark.parametrize("column", ["version", "first_position", "last_position"])
def test_a_broken_row_of_a_stream_is_found(maintained: Database, column: str) -> None:
    record(maintained)
    tamper(
        maintained, f"UPDATE ledger.streams SET {column} = {column} + 1 WHERE first_position = %s", (POSITIONS["name_taken"],)
    )

    (difference,) = differences(maintained)

    assert (difference.view, difference.kind) == ("ledger.streams", "changed")
    assert difference.live is not None
    assert list(difference.live) == [column]
    assert difference.positions == (POSITIONS["name_taken"], POSITIONS["name_released"])


def test_streams_without_events_and_events_without_a_stream_are_found(maintained: Database) -> None:
    record(maintained)
    tamper(maintained, "INSERT INTO ledger.streams VALUES (gen_random_uuid(), 1, 5, 5)")
    tamper(maintained, "DELETE FROM ledger.streams WHERE first_position = 1")

    assert sorted((d.view, d.kind) for d in differences(maintained)) == [
        ("ledger.streams", "missing"),
        ("ledger.streams", "surplus"),
    ]


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("DELETE FROM ledger.commands WHERE first_position = 4", ["missing"]),
        ("UPDATE ledger.commands SET last_position = 1000 WHERE first_position = 4", ["changed"]),
        ("UPDATE ledger.commands SET command_id = gen_random_uuid() WHERE first_position = 4", ["missing", "surplus"]),
        ("UPDATE ledger.events SET metadata = metadata - 'command_id' WHERE position = 4", ["changed", "missing"]),
    ],
)
def test_a_broken_row_of_a_command_is_found(maintained: Database, statement: str, kinds: list[str]) -> None:
    record(maintained)
    tamper(maintained, statement)

    found = differences(maintained)

    assert {d.view for d in found} == {"ledger.commands"}
    assert sorted(d.kind for d in found) == kinds


def test_time_that_runs_back_is_found(maintained: Database) -> None:
    record(maintained)
    tamper(maintained, "UPDATE ledger.events SET recorded_at = recorded_at - interval '1 day' WHERE position = 20")

    found = {d.view: d for d in differences(maintained)}

    assert found.keys() == {"ledger.events", "ledger.batches"}
    difference = found["ledger.events"]
    assert difference.positions == (19, 20)
    assert difference.live is not None
    assert difference.replayed is not None
    assert difference.replayed["recorded_at"] - difference.live["recorded_at"] > timedelta(hours=23)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.batches SET recorded_at = recorded_at + interval '1 microsecond' WHERE last_position = 6",
        "DELETE FROM ledger.batches WHERE last_position = 6",
        "INSERT INTO ledger.batches (last_position, recorded_at) VALUES (-1, now())",
    ],
)
def test_a_broken_row_of_a_batch_is_found(maintained: Database, statement: str) -> None:
    record(maintained)
    tamper(maintained, statement)

    assert {d.view for d in differences(maintained)} == {"ledger.batches"}


# -------------------------------------------------------------------------------------------------------- how it behaves


def test_what_is_kept_is_bounded_and_what_is_counted_is_not(maintained: Database) -> None:
    record(maintained, [*(token_issued() for _ in range(30)), subject_registered()])
    tamper(maintained, "UPDATE views.tokens SET name = 'changed'")
    tamper(maintained, "DELETE FROM views.subjects")

    report = verify(maintained.ledger_owner, kept=4)

    assert report.totals == {"tokens": 30, "subjects": 1}
    assert [(d.view, d.positions) for d in report.differences] == [
        ("subjects", (31,)),
        *(("tokens", (position,)) for position in (1, 2, 3, 4)),
    ]


def test_nothing_is_left_behind_when_it_is_interrupted(maintained: Database) -> None:
    record(maintained)

    def interrupt(progress: Progress) -> None:
        if progress.step == "comparing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(maintained.ledger_owner, progress=interrupt)

    assert schemas(maintained) == {"ledger", "views"}
    assert verify(maintained.ledger_owner).clean


def test_what_a_killed_run_left_is_no_obstacle_and_goes(maintained: Database) -> None:
    record(maintained)
    with psycopg.connect(maintained.ledger_owner, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA views_verify")
        connection.execute("CREATE TABLE views_verify.subjects (position bigint)")

    assert verify(maintained.ledger_owner).clean
    assert schemas(maintained) == {"ledger", "views"}


def test_the_log_is_folded_in_transactions_of_their_own_up_to_near_its_end(maintained: Database) -> None:
    record(maintained)
    seen = []

    def look(progress: Progress) -> None:
        if progress.step == "folding":
            with psycopg.connect(maintained.owner) as connection:
                rows = connection.execute(
                    "SELECT (SELECT count(*) FROM views_verify.audit_entries), count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'token-ledger maintenance' AND backend_xmin IS NOT NULL"
                ).fetchone()
                seen.append((progress.done, rows))

    verify(maintained.ledger_owner, piece=10, progress=look)

    assert [done for done, _ in seen] == [10, 20, 30, 40, len(EXAMPLES)]
    counts = [rows[0] for _, rows in seen if rows]
    assert counts == sorted(set(counts)), "each piece is there for others to see"
    assert [rows[1] for _, rows in seen if rows] == [0] * len(seen), "and no snapshot is held in between"


def test_a_live_system_is_read_no_faster_than_it_is_told(maintained: Database) -> None:
    record(maintained)

    report = verify(maintained.ledger_owner, rate=50)

    assert report.clean
    assert report.seconds > len(EXAMPLES) / 50


def test_the_outcome_is_kept_for_the_metrics(maintained: Database) -> None:
    record(maintained)
    verify(maintained.ledger_owner)
    tamper(maintained, "UPDATE views.subjects SET clearance = clearance + 1")
    report = verify(maintained.ledger_owner)

    with psycopg.connect(maintained.service) as connection:
        rows = connection.execute(
            "SELECT v.position, v.differences, v.seconds FROM ledger.verifications v ORDER BY v.verified_at"
        ).fetchall()
    assert [row[:2] for row in rows] == [(len(EXAMPLES), 0), (len(EXAMPLES), report.totals["subjects"])]
    assert rows[1][2] == report.seconds


def test_what_is_appended_meanwhile_is_no_difference(maintained: Database) -> None:
    record(maintained)
    appended = []

    def append_more(progress: Progress) -> None:
        appended.append(progress.step)
        record(maintained, [token_issued()])

    report = verify(maintained.ledger_owner, piece=10, progress=append_more)

    assert report.clean
    # All that was there when its snapshot was taken, before the last piece, and nothing after.
    assert report.events == report.position == len(EXAMPLES) + appended.index("comparing") - 1
    assert verify(maintained.ledger_owner).events == len(EXAMPLES) + len(appended)


def test_the_commands_say_what_they_found(maintained: Database) -> None:
    record(maintained)
    text = io.StringIO()
    console = Console(file=text, width=200)

    assert verify_command(maintained.ledger_owner, console) == 0
    assert "the views are what the log says" in text.getvalue()
    tamper(maintained, "UPDATE views.subjects SET clearance = 100 WHERE position = %s", (POSITIONS["subject_clearance_set"],))
    assert verify_command(maintained.ledger_owner, console) == 1
    assert "clearance: 100, not 40" in text.getvalue()
    assert replay_command(maintained.ledger_owner, console) == 0
    assert "its rows were not what the log says" in text.getvalue()
    assert verify_command(maintained.ledger_owner, console) == 0
