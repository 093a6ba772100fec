"""The blast radius of a seeded incident, among others who go about their business: for each of its starts (a rogue, a leaked
token, a bad key, an interval) every event that was written down beforehand (tests/incident.csv), by the edge that it says, and
no other."""

import time
from collections.abc import Mapping

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.incident import STARTS, Event, Incident, lines_of, table

NOISE = 40  # acts of others between two steps


def run(stage: Stage) -> Shown:
    """Play the incident, ask for it, and compare."""
    with running_ledger(stage) as ledger:
        stage.progress("playing the incident", 0, None)
        incident = Incident(ledger.served, noise=stage.scaled(NOISE)).play()
        found: list[str] = []
        wrong: list[str] = []
        slowest = 0.0
        with ledger.served.admin() as admin:
            for start, query in incident.starts().items():
                began = time.monotonic()
                told = incident.told(list(lines_of(admin, query)))
                slowest = max(slowest, time.monotonic() - began)
                expected = incident.expected(start)
                found.append(f"{start} {len(told.keys() & expected.keys())} of {len(expected)}")
                wrong += [f"{start}: {what}" for what in differences(told, expected)]
        clean, said = ledger.verify()
    if not clean:
        wrong.append(said)
    bystanders = sum(not row.edges for row in table())
    figure = (
        f"{', '.join(found)} lines by their edge; {bystanders} events of bystanders and {incident.noisy:,} acts of others;"
        f" the slowest answer in {slowest * 1000:.0f} ms"
    )
    done = f"an incident of {len(table())} events written down beforehand, from {len(STARTS)} starts"
    return Shown(done, figure + "".join(f"; {what}" for what in wrong[:5]), held=not wrong)


def differences(told: Mapping[Event, tuple[str, str | None]], expected: Mapping[Event, tuple[str, str | None]]) -> list[str]:
    """Answer what is missing, surplus, or in by another edge."""
    wrong = [f"{' '.join(event)} is missing" for event in expected.keys() - told.keys()]
    wrong += [f"{' '.join(event)} is surplus" for event in told.keys() - expected.keys()]
    wrong += [
        f"{' '.join(event)} is in by {told[event]}, not {expected[event]}"
        for event in told.keys() & expected.keys()
        if told[event] != expected[event]
    ]
    return sorted(wrong)
