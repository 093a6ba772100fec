"""A ledger for a point: a PostgreSQL of its own as it is in production (every write flushed), served by two workers."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.embedded import EmbeddedPostgres
from tests.acceptance.points import Stage
from tests.acceptance.processes import children, connections
from tests.postgres import create_database, running_server
from tests.serving import MASTER_KEY, Served, command, served

WORKERS: Final = 2
DATABASE: Final = "ledger"
BAR: Final = "━"  # of the lines by which verify shows how far it is


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger that is served, and the server of its database."""

    served: Served
    postgres: EmbeddedPostgres

    def owner(self) -> str:
        """Answer the conninfo of ledger_owner."""
        return self.postgres.conninfo("ledger_owner", DATABASE)

    def connections(self) -> list[int]:
        """Answer how many connections each worker has accepted, as far as they are open."""
        port = int(self.served.url.rpartition(":")[2])
        return [connections(worker.pid, port) for worker in children(self.served.process.pid)]

    def log(self) -> str:
        """Answer what the server has printed."""
        assert self.served.log is not None
        return self.served.log.read_text(errors="replace")

    def maintain(self, *arguments: str) -> tuple[int, list[str]]:
        """Run a command that opens the database itself, and answer its exit status and the lines it printed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")} | {
            "TOKEN_LEDGER_DATABASE_URL": self.postgres.conninfo("ledger_service", DATABASE),
            "TOKEN_LEDGER_OWNER_DATABASE_URL": self.postgres.conninfo("postgres", DATABASE),
            "TOKEN_LEDGER_MASTER_KEY": MASTER_KEY,
        }
        ended = subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, check=False, timeout=600)
        said = [line for line in ended.stdout.splitlines() if BAR not in line]
        return ended.returncode, [*said, *ended.stderr.splitlines()]

    def verify(self) -> tuple[bool, str]:
        """Run `token-ledger verify`, and answer whether it is clean and what it says."""
        status, said = self.maintain("verify")
        return status == 0, "verify: " + " ".join(said)[-500:].strip()


@contextmanager
def running_ledger(stage: Stage, *, prepared: Callable[[str], object] = lambda _: None, **settings: str) -> Iterator[Ledger]:
    """Serve a new ledger; `prepared` is called with the conninfo of ledger_owner when it is installed, before it is served."""
    stage.progress("starting a ledger", 0, None)
    with running_server() as postgres:
        owner = create_database(postgres, DATABASE)
        ledger_owner = postgres.conninfo("ledger_owner", DATABASE)
        service = postgres.conninfo("ledger_service", DATABASE)
        log = Path(stage.folder) / "server.log"
        with served(service, owner, workers=WORKERS, log=log, prepared=lambda: prepared(ledger_owner), **settings) as running:
            yield Ledger(running, postgres)
