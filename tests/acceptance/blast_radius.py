"""The blast radius of a seeded incident, among others who go about their business: for each of its starts (a rogue, a leaked
token, a bad key, an interval) every event that was written down beforehand (tests/incident.csv), by the edge that it says, and
no other."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.calls import ok
from tests.incident import STARTS, Event, Incident, lines_of, table, take_back

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
            outcomes: Counter[str] = Counter()
            for start, query in incident.starts().items():
                stage.progress("taking it back", 0, None)
                plan, taken = take_back(admin, query, reason="an incident")
                outcomes.update(one["outcome"] for one in taken)
                wrong += [f"{start}: {what}" for what in not_as_planned(admin, plan, taken)]
        clean, said = ledger.verify()
    if not clean:
        wrong.append(said)
    bystanders = sum(not row.edges for row in table())
    figure = (
        f"{', '.join(found)} lines by their edge; {bystanders} events of bystanders and {incident.noisy:,} acts of others;"
        f" the slowest answer in {slowest * 1000:.0f} ms; taken back by {outcomes['done']} steps as listed, each caused by the"
        f" event that it takes back, {outcomes['left']} left because it is for good"
    )
    if outcomes.keys() - {"done", "left"}:
        wrong.append(f"steps came to {dict(outcomes)}")
    done = f"an incident of {len(table())} events written down beforehand, from {len(STARTS)} starts"
    return Shown(done, figure + "".join(f"; {what}" for what in wrong[:5]), held=not wrong)


def not_as_planned(admin: httpx.Client, plan: dict[str, Any], taken: Sequence[dict[str, Any]]) -> list[str]:
    """Answer which steps are not those that were listed, or not recorded as caused by what they take back."""
    listed = [{"takes_back": line["position"], **step} for line in plan["lines"] for step in line["undo"]]
    listed += [{"takes_back": None, **step} for step in plan["undo_besides"]]
    by_position = {line["position"] for line in plan["lines"]}
    done = [
        {name: value for name, value in one.items() if name not in ("outcome", "position")}
        | {"takes_back": one["takes_back"] if one["takes_back"] in by_position else None}
        for one in taken
    ]
    wrong = [] if sorted(map(repr, listed)) == sorted(map(repr, done)) else [f"listed {len(listed)} steps, took {len(done)}"]
    for one in taken:
        if one["position"] is not None:
            (event,) = ok(
                admin.get("/v1/audit/events", params={"from_position": one["position"], "to_position": one["position"]})
            )["events"]
            if (event["causation"], event["correlation_id"]) != (one["takes_back"], plan["plan_id"]):
                wrong.append(f"position {one['position']} does not name {one['takes_back']} as its cause")
    return wrong


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
