"""Append-only is a grant, and a trigger behind it: what the service cannot do, and what the owner cannot either."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import TupleRow

from ledger.database import connect
from ledger.log import append
from tests.builders import command, subject_registered, token_issued
from tests.conftest import Database

LOG = ("events", "events_from_1", "streams", "commands", "batches", "partitions")
APPEND_ONLY = ("events", "events_from_1", "commands", "batches")
CHANGES = ("UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}")

# Functions over the budgets of password attempts, and over the client assertions that were used.
SIDE_TABLES = (
    *("take_attempt", "return_attempt", "remember_network", "unlock", "trim_throttles"),
    *("use_assertion", "forget_assertions"),
)


@pytest.fixture
def recorded(installed: Database) -> Database:
    """A database with a few events in it."""

    async def record() -> None:
        async with await connect(installed.service) as connection:
            await append(connection, [command(subject_registered(), token_issued())])

    asyncio.run(record())
    return installed


@pytest.fixture
def service(recorded: Database) -> Iterator[Connection[TupleRow]]:
    with psycopg.connect(recorded.service, autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(recorded: Database) -> Iterator[Connection[TupleRow]]:
    with psycopg.connect(recorded.ledger_owner, autocommit=True) as connection:
        yield connection


def tables(connection: Connection[TupleRow], schema: str) -> list[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", (schema,)).fetchall()
    return [f"{schema}.{name}" for (name,) in found]


def first_column(connection: Connection[TupleRow], table: str) -> str:
    row = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1", (table,)
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_the_service_appends_and_reads(service: Connection[TupleRow]) -> None:
    assert service.execute("SELECT count(*) FROM views.history").fetchone() == (2,)
    for table in [f"ledger.{table}" for table in ("events", "streams", "commands", "batches", "partitions")] + tables(
        service, "views"
    ):
        service.execute(f"SELECT FROM {table}".encode())
    service.execute("SELECT FROM views.current_tokens")
    service.execute("SELECT FROM views.current_permissions")


def test_the_service_can_write_no_table_of_log_or_views(service: Connection[TupleRow]) -> None:
    written = [f"ledger.{table}" for table in LOG] + tables(service, "views")
    assert len(written) > 20
    for table in written:
        column = first_column(service, table)
        for change in (*CHANGES, "INSERT INTO {} SELECT * FROM {} LIMIT 0"):
            with pytest.raises(InsufficientPrivilege, match="permission denied"):
                service.execute(change.format(table, column if "{} = {}" in change else table, column).encode())


def test_the_service_can_write_none_of_the_partitions_there_are_or_will_be(
    recorded: Database, service: Connection[TupleRow]
) -> None:
    with psycopg.connect(recorded.ledger_owner, autocommit=True) as connection:
        connection.execute("SELECT ledger.make_partitions(1000000, 9000000)")
    partitions = [table for table in tables(service, "ledger") if ".events_from_" in table]
    assert len(partitions) > 9
    for partition in partitions:
        for change in CHANGES:
            with pytest.raises(InsufficientPrivilege):
                service.execute(change.format(partition, "version", "version").encode())
        with pytest.raises(InsufficientPrivilege):
            service.execute(f"INSERT INTO {partition} SELECT * FROM ledger.events".encode())


@pytest.mark.parametrize(
    "attempt",
    [
        "SET search_path = views, ledger; SELECT fold(1, 2)",
        "SET search_path = views, ledger; SELECT fold_tokens(1, 2)",
        "SET search_path = views, ledger; SELECT fold_audit_entries(1, 2)",
        "BEGIN; LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE ledger.append_turn IN ACCESS SHARE MODE",
        "SELECT FROM ledger.append_turn",
        "BEGIN; LOCK TABLE ledger.events IN ACCESS EXCLUSIVE MODE",
        "CREATE OR REPLACE FUNCTION ledger.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now()'",
        "CREATE OR REPLACE FUNCTION views.fold(p_from bigint, p_to bigint) RETURNS void LANGUAGE sql AS ''",
        "CREATE TABLE ledger.mine ()",
        "CREATE TABLE views.mine ()",
        "CREATE FUNCTION views.clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "CREATE TABLE public.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
        "ALTER TABLE ledger.events DETACH PARTITION ledger.events_from_1",
        "DROP TABLE ledger.events_from_1",
        "SET ROLE ledger_owner",
        "SET session_replication_role = replica",
        "UPDATE ledger.sealed_keys SET sealed = ''",
        "UPDATE ledger.retry_keys SET sealed = ''",
        "DELETE FROM ledger.used_assertions",
        "INSERT INTO ledger.used_assertions (assertion_id, until) VALUES (gen_random_uuid(), now())",
        "UPDATE ledger.sealed_keys SET purpose = 'signing'",
        "TRUNCATE ledger.sealed_keys",
        "SELECT pg_read_file('/etc/hostname')",
    ],
)
def test_the_service_is_refused(service: Connection[TupleRow], attempt: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        service.execute(attempt.encode())


def test_the_service_can_keep_and_destroy_sealed_keys(service: Connection[TupleRow]) -> None:
    service.execute("INSERT INTO ledger.sealed_keys (key_id, purpose, sealed) VALUES (%s, 'subject', 'x')", (uuid4(),))
    assert service.execute("DELETE FROM ledger.sealed_keys").rowcount == 1
    service.execute("INSERT INTO ledger.retry_keys (epoch, sealed) VALUES (1, 'x')")
    assert service.execute("DELETE FROM ledger.retry_keys").rowcount == 1


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES, ids=["update", "delete", "truncate"])
@pytest.mark.parametrize("who", ["ledger_owner", "owner"])
def test_changing_what_is_recorded_is_refused_to_owner_and_superuser_too(
    recorded: Database, who: str, change: str, table: str
) -> None:
    with psycopg.connect(getattr(recorded, who), autocommit=True) as connection:
        before = connection.execute("SELECT * FROM views.history ORDER BY position").fetchall()
        column = first_column(connection, f"ledger.{table}")
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            connection.execute(change.format(f"ledger.{table}", column, column).encode())
        assert connection.execute("SELECT * FROM views.history ORDER BY position").fetchall() == before


@pytest.mark.parametrize("change", CHANGES[1:], ids=["delete", "truncate"])
def test_the_guard_of_versions_cannot_be_emptied(owner: Connection[TupleRow], change: str) -> None:
    with pytest.raises(InsufficientPrivilege, match="append-only"):
        owner.execute(change.format("ledger.streams").encode())


def test_a_partition_made_later_refuses_changes_as_well(owner: Connection[TupleRow]) -> None:
    owner.execute("SELECT ledger.make_partitions(1000000, 9000000)")
    for change in CHANGES:
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            owner.execute(change.format("ledger.events_from_9000001", "version", "version").encode())


def test_functions_that_run_as_their_owner_say_where_names_come_from(owner: Connection[TupleRow]) -> None:
    found = owner.execute("""
        SELECT p.proname, p.proconfig, r.rolname FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
        WHERE p.prosecdef AND p.pronamespace IN ('ledger'::regnamespace, 'views'::regnamespace) ORDER BY p.proname
    """).fetchall()
    assert [name for name, *_ in found] == sorted(["append", "make_partitions", *SIDE_TABLES])
    for _, settings, role in found:
        assert role == "ledger_owner"
        assert next(s for s in settings if s.startswith("search_path=")).endswith("ledger, pg_temp")


def test_nobody_but_the_service_may_call_what_the_ledger_schema_holds(owner: Connection[TupleRow]) -> None:
    granted = owner.execute("""
        SELECT p.proname, coalesce(r.rolname, 'public') FROM pg_proc p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE p.pronamespace = 'ledger'::regnamespace AND a.grantee <> p.proowner ORDER BY p.proname
    """).fetchall()
    assert granted == [(name, "ledger_service") for name in sorted(["append", "clock", "make_partitions", *SIDE_TABLES])]


def test_what_stands_in_a_temporary_schema_cannot_take_the_place_of_the_log(recorded: Database) -> None:
    """Even a service that may make temporary tables, and names that schema first."""
    with psycopg.connect(recorded.owner, autocommit=True) as superuser:
        superuser.execute(f"GRANT TEMPORARY ON DATABASE {recorded.name} TO ledger_service".encode())

    async def attack() -> None:
        async with await connect(recorded.service) as connection:
            for table in ("events", "streams", "commands", "batches", "history", "tokens"):
                source = f"views.{table}" if table in ("history", "tokens") else f"ledger.{table}"
                await connection.execute(f"CREATE TEMPORARY TABLE {table} (LIKE {source})".encode())
                await connection.execute(f"GRANT ALL ON {table} TO PUBLIC".encode())
            await connection.execute(
                "CREATE FUNCTION pg_temp.clock() RETURNS timestamptz LANGUAGE sql AS $$SELECT '-infinity'::timestamptz$$"
            )
            await connection.execute("SET search_path = pg_temp, ledger, views")
            [outcome] = await append(connection, [command(token_issued())])
            assert (outcome.outcome, outcome.last_position) == ("recorded", 3)
            for table in ("events", "streams", "commands", "batches", "tokens"):
                cursor = await connection.execute(f"SELECT FROM pg_temp.{table}".encode())
                assert cursor.rowcount == 0

    asyncio.run(attack())
