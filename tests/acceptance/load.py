"""20,000 commands from 16 clients over two workers, with conflicts, repeats and poisoned commands: nothing is lost,
nothing is made up."""

import time

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.acceptance.writing import CLIENTS, compare, poison, writing


def run(stage: Stage) -> Shown:
    """Let them write, then compare their files with the log, and have the log verified."""
    with running_ledger(stage, prepared=poison) as ledger:
        began = time.monotonic()
        with writing(stage, ledger, patient=False) as writers:
            while writers.running():
                stage.progress("commands", writers.files.follow(), writers.commands)
                time.sleep(0.1)
            writers.files.follow()
        seconds = time.monotonic() - began
        stage.progress("comparing the files with the log", 0, None)
        compared = compare(writers.files.notes, writers.head, ledger.owner())
        stage.progress("verify", 0, None)
        clean, said = ledger.verify()
    done = f"{writers.commands:,} commands from {CLIENTS} clients over 2 workers"
    rate = f"{writers.commands / seconds:,.0f} commands/s"
    return Shown(done, f"{compared.figure()}; {rate}; {said}", held=clean and not compared.wrong)
