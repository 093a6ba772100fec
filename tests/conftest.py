"""Fixtures: a database of its own for every test, the ledger's one clock, an appender.

Which one to ask for:

    database        a fresh database with the ledger installed, on the wheel's PostgreSQL (the newest that is supported)
    any_database    the same on each server there is: the wheel's, and the oldest supported one of the system where one is
                    installed; the test's id names it. For what depends on PostgreSQL: the log, the folds, privileges, plans
    installed       like any_database, but installed in place, not copied: with the grants on the database itself
    clock           moves or stops the clock of `database`; any_clock: of `any_database`
    appender        a started Appender on `any_database`, stopped after the test
    connection      an open connection of the service to `any_database`, as ledger.database makes them
    ledger_server   the real command with two workers on a ledger that the tests of one module share: names are made unique
                    (calls.py). A module that has SETTINGS, variables of the environment, serves with them
    http, admin     HTTP clients of it: without credentials, and as its first administrator, logged in anew for each test
    each_worker     an HTTP client for each of its workers, on a connection of that worker alone
    server_clock    its clock, which only ever moves ahead: later tests see it where it was left
    own_ledger      a server like ledger_server for one test alone, which does what no other could go on from; slow

An async test is marked `@pytest.mark.anyio` (a whole module: `pytestmark = pytest.mark.anyio`), and so is one that asks for an
async fixture.
"""

import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import hypothesis
import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from ledger.appender import Appender
from ledger.database import connect, service_conninfo
from ledger.embedded import EmbeddedPostgres
from projections.install import install
from tests import contract
from tests.clock import Clock as Clock
from tests.clock import put_clock
from tests.postgres import create_database, drop_database, postgres_servers, running_server
from tests.serving import Served, served

# The same examples in every run, and none fails because the machine is busy. `--hypothesis-profile=default` looks further.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")

# What tests write need not outlive a crash of the machine; the tests of crashes start servers of their own.
FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
TEMPLATE = "ledger_template"
STATEMENT_TIMEOUT_SECONDS = 20.0
SERVERS = dict(postgres_servers())
NEWEST = next(iter(SERVERS))

_numbers = itertools.count(1)
# Ids and secrets that are drawn anew in each run.
RANDOM = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}|[0-9a-fA-F]{32}")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a case by its argument where its value is another in every run: the processes that share the tests compare names."""
    if isinstance(val, bool | int | float | type) or val is None or callable(val):
        return None
    return None if isinstance(val, str) and not RANDOM.search(val) else argname


@dataclass(frozen=True)
class Database:
    """Connection strings to one database, by who connects."""

    name: str
    owner: str  # the superuser
    ledger_owner: str
    service: str  # ledger_service, with the settings of the service


# A copy of a database does not take over who may do what with it: as in schema.sql.
GRANTS_ON_DATABASE = """
GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {database} TO ledger_owner;
GRANT CONNECT ON DATABASE {database} TO ledger_service;
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
"""


@contextmanager
def _new_database(server: EmbeddedPostgres, template: str | None) -> Iterator[Database]:
    name = f"ledger_{next(_numbers)}"
    owner = create_database(server, name, template)
    if template is not None:
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(sql.SQL(GRANTS_ON_DATABASE).format(database=sql.Identifier(name)))
    service = service_conninfo(
        server.conninfo("ledger_service", name),
        statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
        application_name="token-ledger-test",
    )
    try:
        yield Database(name, owner, server.conninfo("ledger_owner", name), service)
    finally:
        drop_database(server, name)


@pytest.fixture(scope="session")
def server_named() -> Iterator[Callable[[str], EmbeddedPostgres]]:
    """Give the server of a label, started with the first test that needs it, and with a template to copy databases from."""
    with ExitStack() as running:
        servers: dict[str, EmbeddedPostgres] = {}

        def named(label: str) -> EmbeddedPostgres:
            if label not in servers:
                servers[label] = running.enter_context(running_server(SERVERS[label], FAST))
                with psycopg.connect(create_database(servers[label], TEMPLATE), autocommit=True) as connection:
                    install(connection)
            return servers[label]

        yield named


@pytest.fixture(scope="session", params=list(SERVERS))
def any_server(request: pytest.FixtureRequest, server_named: Callable[[str], EmbeddedPostgres]) -> EmbeddedPostgres:
    return server_named(request.param)


@pytest.fixture
def database(server_named: Callable[[str], EmbeddedPostgres]) -> Iterator[Database]:
    with _new_database(server_named(NEWEST), TEMPLATE) as database:
        yield database


@pytest.fixture
def any_database(any_server: EmbeddedPostgres) -> Iterator[Database]:
    with _new_database(any_server, TEMPLATE) as database:
        yield database


@pytest.fixture
def installed(any_server: EmbeddedPostgres) -> Iterator[Database]:
    with _new_database(any_server, None) as database:
        with psycopg.connect(database.owner, autocommit=True) as connection:
            install(connection)
        yield database


@pytest.fixture
def clock(database: Database) -> Clock:
    return put_clock(database.ledger_owner)


@pytest.fixture
def any_clock(any_database: Database) -> Clock:
    return put_clock(any_database.ledger_owner)


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """Give a folder with a short name: the path of a Unix socket has 107 bytes, and `tmp_path` may have more."""
    with TemporaryDirectory(prefix="tl-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def connection(any_database: Database) -> AsyncIterator[AsyncConnection[TupleRow]]:
    async with await connect(any_database.service) as connection:
        yield connection


@pytest.fixture
async def appender(any_database: Database) -> AsyncIterator[Appender]:
    appender = Appender(any_database.service)
    await appender.start()
    yield appender
    await appender.stop()


@contextmanager
def _new_ledger(server: EmbeddedPostgres, folder: Path, **settings: Any) -> Iterator[Served]:
    with _new_database(server, None) as database:
        service = server.conninfo("ledger_service", database.name)
        log = folder / "server.log"
        with served(service, database.owner, log=log, prepared=lambda: put_clock(database.ledger_owner), **settings) as running:
            yield running


@pytest.fixture(scope="module")
def ledger_server(
    server_named: Callable[[str], EmbeddedPostgres], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Served]:
    settings: dict[str, Any] = getattr(request.module, "SETTINGS", {})
    with _new_ledger(server_named(NEWEST), tmp_path_factory.mktemp("server"), **settings) as running:
        yield running


@pytest.fixture
def own_ledger(server_named: Callable[[str], EmbeddedPostgres], tmp_path: Path) -> Iterator[Served]:
    with _new_ledger(server_named(NEWEST), tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def server_clock(ledger_server: Served) -> Clock:
    return Clock(ledger_server.owner)


@pytest.fixture
def http(ledger_server: Served) -> Iterator[httpx.Client]:
    with ledger_server.client() as client:
        yield client


@pytest.fixture
def admin(ledger_server: Served) -> Iterator[httpx.Client]:
    with ledger_server.admin() as client:
        yield client


@pytest.fixture
def each_worker(ledger_server: Served) -> Iterator[list[httpx.Client]]:
    with ledger_server.each_worker() as clients:
        yield clients


# ------------------------------------------------------------------------------------------- what the API is said to answer


@pytest.fixture(scope="session", autouse=True)
def _as_described() -> Iterator[None]:
    """Hold every answer of a server against the description of the API."""
    with contract.watch():
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """For runs of the whole suite: whatever is described occurs in some test, or the run fails."""
    parser.addoption("--all-described", action="store_true", dest="all_described", help="fail where an answer never occurred")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what occurred in a process that shared the tests."""
    occurred = getattr(node, "workeroutput", {}).get("occurred")
    if occurred is not None:
        contract.occurred.take(occurred)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give what occurred; with --all-described fail a run in which something that is described did not."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["occurred"] = contract.occurred.give()
    elif exitstatus == 0 and config.getoption("all_described") and contract.occurred.missing():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Say what did not occur."""
    if config.getoption("all_described"):
        missing = contract.occurred.missing()
        terminalreporter.section(f"described, and in no test: {len(missing)}")
        for line in missing:
            terminalreporter.write_line(line)
