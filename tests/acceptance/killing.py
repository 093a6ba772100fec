"""The same load while the database and the workers are killed with -9, ten times each.

A round kills every process of PostgreSQL and, half a stretch later, one or both workers; in every third round the workers die
while the database is away. What PostgreSQL is: started again by us after a moment, as a supervisor would; the workers come
back by themselves. Nothing may be lost for it, nothing recorded twice, and every outcome that a client could not know is
accounted for.
"""

import contextlib
import math
import os
import random
import signal
import time
from typing import Final

from tests.acceptance.ledgers import Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.processes import children
from tests.acceptance.writing import CLIENTS, Writers, compare, poison, writing

ROUNDS: Final = 10
MAX_AWAY_SECONDS: Final = 2.0
BACK_SECONDS: Final = 60.0


def run(stage: Stage) -> Shown:
    """Let them write while killing; then compare their files with the log, and have the log verified."""
    with running_ledger(stage, prepared=poison) as ledger:
        with writing(stage, ledger, patient=True) as writers:
            stretch = writers.commands / (ROUNDS + 1)
            back: list[float] = []
            for number in range(1, ROUNDS + 1):
                both = number % 3 == 0
                _wait(stage, writers, until=number * stretch)
                back.append(_kill(stage, ledger, writers, database=True, workers=2 if both else 0))
                if not both:
                    _wait(stage, writers, until=(number + 0.5) * stretch)
                    back.append(_kill(stage, ledger, writers, database=False, workers=1 + number % 2))
            _wait(stage, writers)
        stage.progress("comparing the files with the log", 0, None)
        compared = compare(writers.files.notes, writers.head, ledger.owner())
        stage.progress("verify", 0, None)
        clean, said = ledger.verify()
    done = f"{writers.commands:,} commands from {CLIENTS} clients, the database killed {ROUNDS} times and workers as often"
    figure = f"{compared.figure()}; going on after at most {max(back):.1f} s; {said}"
    return Shown(done, figure, held=clean and not compared.wrong)


def _wait(stage: Stage, writers: Writers, until: float = math.inf) -> None:
    """Wait until the clients have done so many commands, or all."""
    while writers.running() and (done := writers.files.follow()) < until:
        stage.progress("commands", done, writers.commands)
        time.sleep(0.02)
    writers.files.follow()


def _kill(stage: Stage, ledger: Ledger, writers: Writers, *, database: bool, workers: int) -> float:
    """Kill, start PostgreSQL again where it was killed, and answer the seconds until a command was acknowledged again."""
    if not writers.running():
        raise FellShort("the clients were done before the last kill")
    if ledger.served.process.poll() is not None:
        raise FellShort(f"the server ended: {ledger.log()[-400:]}")
    began = time.monotonic()
    if database:
        stage.progress("killing the database", writers.files.follow(), writers.commands)
        postmaster = ledger.postgres.pid
        # All in one breath, the backends first: one that outlives the postmaster ends by itself, and says why to its client.
        for process in (*(child.pid for child in children(postmaster)), postmaster):
            _kill_now(process)
        ledger.postgres.kill()
    victims = children(ledger.served.process.pid)
    for worker in random.sample(victims, min(workers, len(victims))):
        _kill_now(worker.pid)
    if database:
        time.sleep(random.uniform(0, MAX_AWAY_SECONDS))
        ledger.postgres.start()
    before = writers.files.follow()
    while writers.running() and writers.files.follow() == before:
        if time.monotonic() - began > BACK_SECONDS:
            raise FellShort(f"nothing was acknowledged for {BACK_SECONDS:.0f} s after a kill: {ledger.log()[-400:]}")
        time.sleep(0.02)
    return time.monotonic() - began


def _kill_now(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
