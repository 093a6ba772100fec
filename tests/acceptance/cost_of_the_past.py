"""What a decision as of the past costs, beside a live one, on a small log and on a large one: it stays what it was.

The same questions about the same tokens, as of the same moment: once with the log at 10,000 events, once at 1,000,000. Over one
connection a live decision and one as of then take turns, so that both are measured in the same weather; what counts is the
ratio of their medians, at the median of the rounds.
"""

import asyncio
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from tests.acceptance.filling import Filled, World, fill
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.wire import Wire, basic
from tests.calls import App, new_api, new_client, ok, resource_server

SMALL: Final = 10_000
LARGE: Final = 1_000_000
ROUNDS: Final = 15
ASKED: Final = 100  # in a round
# Noise of a shared machine between two runs that are minutes apart.
FLAT: Final = 1.3


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians: seconds a decision, and of the rounds' ratios."""

    live: float
    then: float
    ratio: float


def run(stage: Stage) -> Shown:
    """Measure, let the log grow, measure again."""
    with running_ledger(stage) as ledger:
        asker, world = _set_up(ledger)
        filled = _fill(stage, ledger, world, SMALL, seed=0)
        with ledger.served.client() as http:
            small = ok(http.get("/readyz"))["position"]
        early = asyncio.run(_measure(stage, ledger, asker, filled, small))
        _fill(stage, ledger, world, max(stage.scaled(LARGE), 2 * small) - small, seed=1)
        with ledger.served.client() as http:
            large = ok(http.get("/readyz"))["position"]
        old = asyncio.run(_measure(stage, ledger, asker, filled, small))
        late = asyncio.run(_measure(stage, ledger, asker, filled, large - 1))
    growth = max(old.ratio, late.ratio) / early.ratio
    done = f"{ROUNDS} rounds of {ASKED} pairs of decisions, live and as of the past, at {small:,} and at {large:,} events"
    figure = (
        f"as of position {small:,}: {early.then * 1000:.2f} ms beside {early.live * 1000:.2f} live at {small:,} events,"
        f" {old.then * 1000:.2f} beside {old.live * 1000:.2f} at {large:,}; as of a moment ago {late.then * 1000:.2f} beside"
        f" {late.live * 1000:.2f}; ratios {early.ratio:.2f}, {old.ratio:.2f}, {late.ratio:.2f}: the greatest is {growth:.2f}"
        f" times the first, {FLAT} would be flat"
    )
    return Shown(done, figure, held=growth <= FLAT)


def _set_up(ledger: Ledger) -> tuple[App, World]:
    with ledger.served.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        (role,) = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
        client = new_client(admin, "filled", grants=["issue"], apis=[api]).name
        world = World(client_id_of(client), client, api_id_of(api), UUID(role["role_id"]))
        return resource_server(admin, api), world


def _fill(stage: Stage, ledger: Ledger, world: World, events: int, *, seed: int) -> Filled:
    service = ledger.postgres.conninfo("ledger_service", DATABASE)
    return fill(service, world, events, lambda done, total: stage.progress("filling the log", done, total), seed=seed)


async def _measure(stage: Stage, ledger: Ledger, asker: App, filled: Filled, position: int) -> Cost:
    """Answer the medians of rounds; the first is not counted. Live and then take turns, so that both have the same weather."""
    wire = Wire(int(ledger.served.url.rpartition(":")[2]))
    strings = list(filled.strings.values())
    if not strings:
        raise FellShort("no token that was filled in can be asked about")
    chance = random.Random(1)

    async def ask(context: dict[str, Any]) -> float:
        question = {
            "subject": {"type": "token", "id": chance.choice(strings)},
            "action": {"name": "GET"},
            "resource": {"type": "route", "id": "/orders/7"},
            "context": context,
        }
        began = time.perf_counter()
        answered = await wire.request("POST", "/access/v1/evaluation", basic(*asker.auth), body=question)
        if answered.status != 200:
            raise FellShort(f"a decision answered {answered.status} {answered.body[:200]!r}")
        return time.perf_counter() - began

    rounds: list[tuple[float, float]] = []
    for number in range(ROUNDS + 1):
        pairs = [(await ask({}), await ask({"as_of": position})) for _ in range(ASKED)]
        rounds.append((statistics.median(live for live, _ in pairs), statistics.median(then for _, then in pairs)))
        stage.progress("asking", number, ROUNDS + 1)
    wire.close()
    del rounds[0]
    return Cost(
        live=statistics.median(live for live, _ in rounds),
        then=statistics.median(then for _, then in rounds),
        ratio=statistics.median(then / live for live, then in rounds),
    )
