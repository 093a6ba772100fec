"""Real PostgreSQL servers for the tests: the wheel's, and an older one of the system where it is installed.

Both run through `ledger.embedded`, each in a folder of its own. What a test needs of them is a database of its own, cheap
because it is copied from a template.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql

from ledger.embedded import EmbeddedPostgres

_SYSTEM_FOLDER = Path("/usr/lib/postgresql")
_OLDEST_MAJOR = 15  # the oldest that Token Ledger supports; the wheel's is the newest


def postgres_servers() -> list[tuple[str, Path | None]]:
    """Return (label, bin folder) of each server to test on; None is the wheel's. The system's oldest supported one joins it."""
    installed = sorted(
        (int(folder.name), folder / "bin")
        for folder in _SYSTEM_FOLDER.glob("*")
        if re.fullmatch(r"\d+", folder.name) and int(folder.name) >= _OLDEST_MAJOR and (folder / "bin/initdb").exists()
    )
    servers: list[tuple[str, Path | None]] = [("embedded", None)]
    if installed:
        major, bin_folder = installed[0]
        servers.append((f"system-{major}", bin_folder))
    return servers


@contextmanager
def running_server(bin_folder: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """Run a server in a temporary folder, which goes with it."""
    with (
        TemporaryDirectory(prefix="token-ledger-test-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", bin_folder, settings) as server,
    ):
        yield server


def create_database(server: EmbeddedPostgres, name: str, template: str | None = None) -> str:
    """Create a database, a copy of `template` (to which nobody may be connected), and return postgres's conninfo to it."""
    _as_superuser(
        server,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template or "template0")),
    )
    return server.conninfo("postgres", name)


def drop_database(server: EmbeddedPostgres, name: str) -> None:
    """Drop a database, and the connections to it."""
    _as_superuser(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _as_superuser(server: EmbeddedPostgres, statement: sql.Composed) -> None:
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(statement)
