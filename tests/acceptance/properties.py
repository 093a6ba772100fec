"""Random histories of real commands on each PostgreSQL there is: what must hold of every one (tests/histories.py), and bugs put
in for a while, each of which must be found (tests/history_bugs.py).

The histories are other ones in each run: the line says its seed, and with it in TOKEN_LEDGER_ACCEPTANCE_SEED they are the same
again.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from ledger.database import service_conninfo
from projections.install import install
from projections.replay import replay
from tests.acceptance.points import FellShort, Shown, Stage
from tests.histories import Ledger, Tally, ledger_for_histories, run_histories
from tests.history_bugs import BUGS
from tests.postgres import create_database, postgres_servers, running_server

HISTORIES: Final = 160
AT_ONCE: Final = 20  # histories that one seed makes
POSITIONS: Final = 16
FOUND_WITHIN: Final = 100
# Nothing here is about crashes.
SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}


def run(stage: Stage) -> Shown:
    """Run the histories, then each bug until it is found."""
    seed = int(os.environ.get("TOKEN_LEDGER_ACCEPTANCE_SEED") or secrets.randbelow(2**32))
    tally = Tally()
    servers = postgres_servers()
    wanted = stage.scaled(HISTORIES // len(servers))
    for number, (_, binaries) in enumerate(servers):
        with _ledger(binaries, tally) as ledger:
            for first in range(0, wanted, AT_ONCE):
                stage.progress("histories", number * wanted + first, wanted * len(servers))
                _run(ledger, min(AT_ONCE, wanted - first), seed=seed + number * wanted + first)
    lines = []
    for number, bug in enumerate(BUGS):
        stage.progress("bugs", number, len(BUGS))
        lines.append(f"{bug}: {_found(bug, seed)}")
    done = f"{tally.histories:,} random histories on {' and '.join(name for name, _ in servers)} (seed {seed})"
    figure = (
        f"{tally.events:,} events, {tally.refused:,} commands refused, {tally.cuts:,} pieces folded, {tally.replays} replays,"
        f" {tally.live:,} decisions live and {tally.as_of:,} as of, each as the model says, by the log and by views that end"
        f" there: no difference; {len(BUGS)} bugs put in, {sum('missed' not in line for line in lines)} found"
    )
    return Shown(done, figure, held=not any("missed" in line for line in lines), lines=tuple(lines))


@contextmanager
def _ledger(binaries: Path | None, tally: Tally) -> Iterator[Ledger]:
    with running_server(binaries, SETTINGS) as server:
        superuser, owner = create_database(server, "ledger"), server.conninfo("ledger_owner", "ledger")
        with psycopg.connect(superuser, autocommit=True) as connection:
            install(connection)
        replay(owner)  # by the folds as they are at this moment: with the bug that is being looked for
        service = service_conninfo(
            server.conninfo("ledger_service", "ledger"), statement_timeout_seconds=20, application_name="token-ledger-test"
        )
        with ledger_for_histories(superuser, owner, service, positions=POSITIONS, tally=tally) as ledger:
            yield ledger


def _run(ledger: Ledger, histories: int, *, seed: int) -> None:
    try:
        run_histories(ledger, histories, at_random=seed)
    except AssertionError as error:
        steps = " / ".join(getattr(error, "__notes__", []))
        raise FellShort(f"after {ledger.tally.histories} histories, seed {seed}: {error} in {steps}") from None


def _found(bug: str, seed: int) -> str:
    tally = Tally()
    with BUGS[bug](), _ledger(None, tally) as ledger:
        try:
            run_histories(ledger, FOUND_WITHIN, at_random=seed)
        except AssertionError:
            return f"found in history {tally.histories + 1}"
    return f"missed by {tally.histories} histories"
