"""Live decisions, recorded while the log changes, asked again with the position, instant and semantics they named: identical
after the log has grown tenfold, after a replay, and after a restart.

Two workers decide about tokens of every strategy while an operator changes whatever a decision hangs on: tokens, families,
subjects, their roles, rules and clearances, the rules of roles, clients, APIs and keys. Nothing is assumed of an answer but
that it is one: what was said is what must be said again, to the letter.
"""

import asyncio
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from tests.acceptance.filling import World, fill
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.wire import Wire, basic
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, new_api, new_client, ok, resource_server
from tests.serving import command, wait_until_ready

DECISIONS: Final = 10_000
SUBJECTS: Final = 12
WIRES: Final = 4
BATCH: Final = 100
GROWN: Final = 10
FEWEST_REASONS: Final = 12

RULES: Final = {
    "reader": ["allow GET /orders/**", "deny GET /orders/hidden/**", "allow GET /people/{sub}"],
    "writer": ["allow POST,PUT /orders/{id}", "allow * /drafts/**"],
    "cleared": ["allow GET /secrets/{id} clearance 5", "allow GET /secrets/low/{id} clearance 2"],
}
MORE_RULES: Final = ("deny * /drafts/locked", "allow DELETE /orders/{id}", "deny GET /orders/7", "allow GET /new/**")
ROUTES: Final = (
    *(("GET", path) for path in ("/orders/7", "/orders/hidden/1", "/secrets/1", "/secrets/low/1", "/new/1", "/nothing")),
    *(("POST", "/orders/7"), ("DELETE", "/orders/7"), ("PATCH", "/drafts/locked"), ("PUT", "/drafts/1"), ("GET", "/own/1")),
    *(("GET", "//"), ("GET", "/a/../b"), ("GET", "/a%2Fb"), ("NO METHOD", "/orders/7"), ("GET", "/orders/7?x=1")),
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and what can be done to it."""

    string: str
    token_id: str
    family_id: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what was answered live."""

    token: str
    method: str
    path: str
    answer: dict[str, Any]

    def again(self) -> dict[str, Any]:
        """Answer the item that asks the same as of then."""
        context = self.answer["context"]
        return {
            "subject": {"type": "token", "id": self.token},
            "action": {"name": self.method},
            "resource": {"type": "route", "id": self.path},
            "context": {"as_of": context["position"], "instant": context["instant"], "semantics": context["semantics"]},
        }


@dataclass(slots=True)
class Parties:
    """Whoever has a say."""

    api: str
    asker: App
    issuers: dict[str, App]
    subjects: list[str]
    tokens: list[Token] = field(default_factory=list)


def run(stage: Stage) -> Shown:
    """Record, grow the log, replay, restart; and ask all of it again each time."""
    chance = random.Random(4)
    with running_ledger(stage) as ledger:
        with ledger.served.admin() as admin:
            parties = _set_up(admin)
            asked = asyncio.run(_record(stage, ledger, admin, parties, chance))
            recorded = _head(admin)
        _grow(stage, ledger, parties, GROWN * recorded - recorded)
        with ledger.served.client() as http:
            grown = _head(http)
        different = {"grown": asyncio.run(_different(stage, "after growth", ledger, parties.asker, asked))}
        stage.progress("replaying", 0, None)
        status, said = ledger.maintain("replay", "--free-bytes", str(10**12))
        if status != 0:
            raise FellShort(f"the replay ended with {status}: {' '.join(said)[-300:]}")
        different["replayed"] = asyncio.run(_different(stage, "after a replay", ledger, parties.asker, asked))
        with _restarted(ledger):
            different["restarted"] = asyncio.run(_different(stage, "after a restart", ledger, parties.asker, asked))
    reasons = Counter(one.answer["context"]["reason"] for one in asked)
    positions = len({one.answer["context"]["position"] for one in asked})
    done = (
        f"{len(asked):,} live decisions over {positions:,} positions and {len(STRATEGIES)} strategies,"
        f" {reasons['allowed']:,} of them allowed and the others denied for {len(reasons) - 1} reasons; the log then grew from"
        f" {recorded:,} to {grown:,} events"
    )
    figure = "identical when asked again: " + ", ".join(
        f"{len(asked) - len(wrong):,} {what}"
        for what, wrong in zip(("there", "after a replay", "after a restart"), different.values(), strict=True)
    )
    examples = [f"{one.answer} was {again}" for wrong in different.values() for one, again in wrong[:1]]
    enough = grown >= GROWN * recorded and len(reasons) >= FEWEST_REASONS
    if not enough:
        figure += "; which is not enough growth or variety to be shown"
    return Shown(done, "; ".join([figure, *examples]), held=not examples and enough)


def _head(http: httpx.Client) -> int:
    position: int = ok(http.get("/readyz"))["position"]
    return position


# ------------------------------------------------------------------------------------------------------------- recording


def _set_up(admin: httpx.Client) -> Parties:
    api = new_api(admin, RULES)
    subjects = []
    for number in range(SUBJECTS):
        subject_id = ok(admin.post("/v1/subjects", json={"kind": "service", "clearance": number % 4}), 201)["subject_id"]
        roles = [f"{api}:{role}" for index, role in enumerate(RULES) if (number + 1) >> index & 1]
        if roles:
            ok(admin.post(f"/v1/subjects/{subject_id}/roles", json={"roles": roles}))
        subjects.append(subject_id)
    issuers = {
        strategy: new_client(admin, strategy, grants=["issue"], strategy=strategy, apis=[api]) for strategy in STRATEGIES
    }
    return Parties(api, resource_server(admin, api), issuers, subjects)


async def _record(stage: Stage, ledger: Ledger, admin: httpx.Client, parties: Parties, chance: random.Random) -> list[Asked]:
    """Ask over several connections, while one change after the other is made."""
    port, wanted = int(ledger.served.url.rpartition(":")[2]), stage.scaled(DECISIONS)
    operator = _Operator(Wire(port), {"Authorization": admin.headers["Authorization"]}, parties, chance)
    asked: list[Asked] = []
    for strategy in STRATEGIES:
        for _ in range(3):
            await operator.issue(strategy)

    async def asking() -> None:
        wire = Wire(port)
        while len(asked) < wanted:
            token, (method, path) = chance.choice(parties.tokens).string, chance.choice(ROUTES)
            question = {
                "subject": {"type": "token", "id": token},
                "action": {"name": method},
                "resource": {"type": "route", "id": path},
            }
            answered = await wire.request("POST", "/access/v1/evaluation", basic(*parties.asker.auth), body=question)
            if answered.status != 200:
                raise FellShort(f"a decision answered {answered.status} {answered.body[:200]!r}")
            if len(asked) < wanted:
                asked.append(Asked(token, method, path, answered.json()))
            stage.progress("recording decisions", len(asked), wanted)
        wire.close()

    async def changing() -> None:
        while len(asked) < wanted:
            await operator.change()

    await asyncio.gather(changing(), *(asking() for _ in range(WIRES)))
    return asked


class _Operator:
    """Changes one thing after the other; most stops are ended soon, so that there is something to be allowed."""

    def __init__(self, wire: Wire, bearer: dict[str, str], parties: Parties, chance: random.Random) -> None:
        self._wire = wire
        self._bearer = bearer
        self._parties = parties
        self._chance = chance
        self._stopped: list[str] = []

    async def _post(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
        answered = await self._wire.request(method, path, self._bearer, body=body or {})
        # What was revoked can be neither suspended nor reinstated, which is no matter: something else is changed next.
        if answered.status not in (200, 201, 409):
            raise FellShort(f"{method} {path} answered {answered.status} {answered.body[:200]!r}")
        answer: dict[str, Any] = answered.json()
        return answer

    async def issue(self, strategy: str) -> None:
        """Issue a token to any subject that stands; some live for a second only, some have a narrow scope."""
        parties, chance = self._parties, self._chance
        standing = [one for one in parties.subjects if f"/v1/subjects/{one}" not in self._stopped]
        issuer = parties.issuers[strategy]
        if not standing or {f"/v1/clients/{issuer.name}", f"/v1/apis/{parties.api}"} & set(self._stopped):
            return
        body: dict[str, Any] = {"subject_id": chance.choice(standing), "lifetime_seconds": chance.choice([2, 600, 600])}
        if chance.random() < 0.3:
            body["scope"] = "direct"
        answered = await self._wire.request("POST", "/v1/tokens", basic(*issuer.auth), body=body)
        if answered.status != 201:
            raise FellShort(f"an issue answered {answered.status} {answered.body[:200]!r}")
        issued = answered.json()
        parties.tokens.append(Token(issued["access_token"], issued["token_id"], issued["family_id"]))
        del parties.tokens[:-40]

    async def change(self) -> None:
        """Change something."""
        chance, parties = self._chance, self._parties
        api, subject_id, token = parties.api, chance.choice(parties.subjects), chance.choice(parties.tokens)
        if self._stopped and chance.random() < 0.6:
            await self._post(f"{self._stopped.pop(chance.randrange(len(self._stopped)))}/reinstate")
            return
        match chance.randrange(12):
            case 0 | 1 | 2:
                await self.issue(chance.choice(STRATEGIES))
            case 3:
                client = f"/v1/clients/{_client_of_tokens(parties, chance)}"
                await self._suspend(chance.choice([f"/v1/subjects/{subject_id}", client]))
            case 4:
                whole = chance.random() < 0.2
                await self._suspend(f"/v1/apis/{api}" if whole else f"/v1/families/{token.family_id}")
            case 5:
                what = chance.choice([f"/v1/tokens/{token.token_id}", f"/v1/families/{token.family_id}"])
                await self._post(f"{what}/revoke")
                parties.tokens.remove(token)
                parties.tokens.insert(0, token)  # asked about a little longer
            case 6:
                roles = [f"{api}:{chance.choice(list(RULES))}"]
                await self._post(f"/v1/subjects/{subject_id}/roles{chance.choice(['', '/withdraw'])}", {"roles": roles})
            case 7:
                await self._post(f"/v1/subjects/{subject_id}/clearance", {"clearance": chance.randrange(7)}, "PUT")
            case 8:
                role = f"/v1/apis/{api}/roles/{chance.choice(list(RULES))}/rules"
                granted = await self._post(role, {"rules": [chance.choice(MORE_RULES)]})
                if chance.random() < 0.7:
                    await self._post(f"{role}/withdraw", {"rule_ids": granted["rule_ids"]})
            case 9:
                effect, path = chance.choice([("allow", "/own/**"), ("deny", "/own/1"), ("allow", "/orders/{id}")])
                own = {"api": api, "effect": effect, "methods": ["GET"], "path": path}
                granted = await self._post(f"/v1/subjects/{subject_id}/rules", {"rules": [own]})
                if chance.random() < 0.7:
                    await self._post(f"/v1/subjects/{subject_id}/rules/withdraw", {"rule_ids": granted["rule_ids"]})
            case 10:
                cut = [f"/v1/subjects/{subject_id}", f"/v1/clients/{_client_of_tokens(parties, chance)}", f"/v1/apis/{api}"]
                if chance.random() < 0.1:
                    await self._post(f"{chance.choice(cut)}/revoke-tokens")
            case _:
                await self._post(f"/v1/apis/{api}", {"semicolons": chance.random() < 0.5}, "PATCH")

    async def _suspend(self, what: str) -> None:
        if what not in self._stopped:
            suspended = await self._post(f"{what}/suspend", {"reason": "for the measurement"})
            if "position" in suspended:
                self._stopped.append(what)


def _client_of_tokens(parties: Parties, chance: random.Random) -> str:
    """Answer the name of a client that tokens were issued to."""
    return parties.issuers[chance.choice(STRATEGIES)].name


# ------------------------------------------------------------------------------------------------------------ asking again


def _grow(stage: Stage, ledger: Ledger, parties: Parties, events: int) -> None:
    with ledger.served.admin() as admin:
        client = new_client(admin, "filled", grants=["issue"], apis=[parties.api]).name
        role = ok(admin.get(f"/v1/apis/{parties.api}/roles/reader"))
    world = World(client_id_of(client), client, api_id_of(parties.api), UUID(role["role_id"]))
    service = ledger.postgres.conninfo("ledger_service", DATABASE)
    fill(service, world, events, lambda done, total: stage.progress("growing the log", done, total))


async def _different(
    stage: Stage, what: str, ledger: Ledger, asker: App, asked: Sequence[Asked]
) -> list[tuple[Asked, dict[str, Any]]]:
    """Ask everything again, and answer what was not answered as it was."""
    port = int(ledger.served.url.rpartition(":")[2])
    batches = iter([asked[start : start + BATCH] for start in range(0, len(asked), BATCH)])
    different: list[tuple[Asked, dict[str, Any]]] = []
    done = 0

    async def asking() -> None:
        nonlocal done
        wire = Wire(port)
        for batch in batches:
            body = {"evaluations": [one.again() for one in batch]}
            answered = await wire.request("POST", "/access/v1/evaluations", basic(*asker.auth), body=body)
            if answered.status != 200:
                raise FellShort(f"asked again, the answer was {answered.status} {answered.body[:200]!r}")
            answers = answered.json()["evaluations"]
            different.extend((one, again) for one, again in zip(batch, answers, strict=True) if one.answer != again)
            done += len(batch)
            stage.progress(f"asking again {what}", done, len(asked))
        wire.close()

    await asyncio.gather(*(asking() for _ in range(WIRES)))
    return different


@contextmanager
def _restarted(ledger: Ledger) -> Iterator[None]:
    """Stop the server, and serve the same database again at the same address."""
    ledger.served.process.terminate()
    ledger.served.process.wait(timeout=60)
    with subprocess.Popen(
        command("serve"), env=ledger.served.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until_ready(ledger.served.url)
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)
