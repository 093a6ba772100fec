"""Install the log and the views: schema.sql once, the files of the projections into any schema.

A fresh schema `views` at installation, `views_next` for a replay, a scratch schema for verify: the same files each time.
"""

from pathlib import Path
from typing import Final

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ledger.errors import LedgerError
from ledger.events import EVENT_TYPES

HERE: Final = Path(__file__).parent
# In a checkout schema.sql stands at the top; a wheel carries it inside the package `ledger`.
SCHEMA: Final = next(p for p in (HERE.parent / "schema.sql", HERE.parent / "ledger" / "schema.sql") if p.exists())
PROJECTIONS: Final = ("history", "tokens", "subjects", "reference", "audit", "lockouts", "archived", "fold")
OLDEST_SERVER: Final = 150_000
# Which events these folds know: who goes back to them later is told of others.
KNOWN_EVENTS: Final = "CREATE VIEW event_types AS SELECT k.type FROM unnest({}::text[]) AS k(type)"


class InstallRefused(LedgerError):
    """The database cannot hold a ledger; the message says why."""

    code = "install_refused"
    cure = "Use a database as docs/settings.md describes it."


def is_installed(connection: Connection[TupleRow]) -> bool:
    """Say whether the log is there."""
    return connection.execute("SELECT to_regclass('ledger.events') IS NOT NULL").fetchone() == (True,)


def writes_past_the_append(connection: Connection[TupleRow]) -> bool:
    """Say whether whoever is connected may write the log otherwise than through `ledger.append`: the service must not."""
    return connection.execute("SELECT has_table_privilege('ledger.events', 'INSERT')").fetchone() == (True,)


def install(connection: Connection[TupleRow]) -> bool:
    """Install the log and the views in one transaction; False, and nothing done, where they are already.

    The connection may create roles, or is ledger_owner with both roles made before. InstallRefused on a server before
    PostgreSQL 15 or a database that is not UTF8.
    """
    if connection.info.server_version < OLDEST_SERVER:
        raise InstallRefused(f"PostgreSQL 15 or newer is needed, this is {connection.info.server_version // 10_000}")
    if connection.info.parameter_status("server_encoding") != "UTF8":
        raise InstallRefused("the database's encoding must be UTF8")
    with connection.transaction():
        # Two that install at once: the second waits here and then finds it done.
        connection.execute("SELECT pg_advisory_xact_lock(7236837478227600)")
        if is_installed(connection):
            return False
        connection.execute(_script(SCHEMA))
        connection.execute("SET LOCAL ROLE ledger_owner")
        install_views(connection, "views")
    return True


def install_views(connection: Connection[TupleRow], schema: str) -> None:
    """Make `schema` with the empty views and folds of this release, inside the caller's transaction."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    with_views(connection, schema)
    for projection in PROJECTIONS:
        connection.execute(_script(HERE / f"{projection}.sql"))
    connection.execute(sql.SQL(KNOWN_EVENTS).format(sorted(EVENT_TYPES)))


def install_history(connection: Connection[TupleRow], schema: str) -> None:
    """Make this release's view `history` over the table `events` that `schema` has, inside the caller's transaction."""
    with_views(connection, schema)
    connection.execute(_script(HERE / "history.sql"))


def with_views(connection: Connection[TupleRow], schema: str, source: str | None = None) -> None:
    """Let unqualified names mean the views and folds of `schema`, for the rest of the caller's transaction.

    `source`: a schema whose `history` is read in the place of the log's.
    """
    schemas = [schema, "ledger", "pg_temp"] if source is None else [source, schema, "ledger", "pg_temp"]
    path = sql.SQL(", ").join(map(sql.Identifier, schemas))
    connection.execute(sql.SQL("SET LOCAL search_path = {}").format(path))


def _script(path: Path) -> bytes:
    # psycopg takes bytes as they are: our own SQL files are as trusted as literals in the code.
    return path.read_bytes()
