"""From the acknowledged revocation to the first refusal at an API behind the guard, in both of its modes, WSGI and ASGI.

Each token is hammered over its own connections while it is revoked over a new one, on whichever worker of the ledger takes it.
In mode `ask` no request that begins after the acknowledgement may pass; in mode `verify` none after the first refusal, and none
after the bound on staleness. Then the ledger is cut off from a guard that knows a token: it passes up to the bound, and nobody
after it, revoked meanwhile or not.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.acceptance.ledgers import Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.wire import Lost, Wire
from tests.between import between
from tests.calls import App, new_api, new_client, ok
from tests.guarded_processes import in_processes

REVOCATIONS: Final = 100  # for each mode and each kind of application
FRAMEWORKS: Final = ("falcon-asgi", "flask")
MODES: Final = ("ask", "verify")
HAMMERS: Final = 2
BOUND_SECONDS: Final = 5.0
WARM_SECONDS: Final = 0.05
AFTER_REFUSAL: Final = 20
PATIENCE_SECONDS: Final = 30.0
PATH: Final = "/orders/7"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when it began and ended, and how it was answered."""

    began: float
    ended: float
    status: int


@dataclass(slots=True)
class Seen:
    """What came of the revocations in one mode."""

    seconds: list[float] = field(default_factory=list)
    let_in_after: int = 0  # began after the acknowledgement
    wrong: list[str] = field(default_factory=list)

    def line(self, mode: str) -> str:
        """Answer it in words."""
        ordered = sorted(self.seconds)
        at = [ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000 for part in (0.95, 0.99)]
        return (
            f"{mode}: p50 {statistics.median(ordered) * 1000:.1f}, p95 {at[0]:.1f}, p99 {at[1]:.1f},"
            f" most {ordered[-1] * 1000:.1f} ms of {len(ordered)}; {self.let_in_after} requests passed that began after the"
            " acknowledgement"
        )


def run(stage: Stage) -> Shown:
    """Revoke and hammer; then cut the ledger off."""
    seen = {mode: Seen() for mode in MODES}
    with running_ledger(stage) as ledger, ledger.served.admin() as admin:
        world = _World.made(admin, ledger)
        done = 0
        for mode in MODES:
            for framework in FRAMEWORKS:
                with in_processes(framework, 1, world.environment(mode)) as url:
                    for _ in range(stage.scaled(REVOCATIONS)):
                        stage.progress("revocations", done, len(MODES) * len(FRAMEWORKS) * stage.scaled(REVOCATIONS))
                        asyncio.run(_revoke(world, url, seen[mode], mode))
                        done += 1
        stage.progress("cutting the ledger off", 0, None)
        cut = _cut_off(world)
    lines = (*(one.line(mode) for mode, one in seen.items()), cut.figure)
    wrong = [problem for one in seen.values() for problem in one.wrong] + cut.wrong
    return Shown(
        f"{done} tokens revoked while they were used, behind guards in Falcon (ASGI) and Flask (WSGI)",
        f"to the first refusal, {'; '.join(lines[:2])}; {cut.figure}",
        held=not wrong,
        lines=tuple(wrong[:10]),
    )


@dataclass(frozen=True, slots=True)
class _World:
    """An API, who asks for it, and who calls it."""

    ledger: Ledger
    admin: httpx.Client
    api: str
    asker: App
    caller: App

    @classmethod
    def made(cls, admin: httpx.Client, ledger: Ledger) -> "_World":
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        ok(admin.post("/v1/apis/ledger/roles", json={"name": "listener"}), 201)
        ok(admin.post("/v1/apis/ledger/roles/listener/rules", json={"rules": ["allow GET /v1/feed"]}))
        asker = new_client(admin, serves=api, grants=["client_credentials"], apis=["ledger"])
        caller = new_client(admin, grants=["client_credentials"], strategy="jwt", apis=[api])
        for app, role in ((asker, "ledger:listener"), (caller, f"{api}:reader")):
            ok(admin.post(f"/v1/subjects/{app.subject_id}/roles", json={"roles": [role]}))
        return cls(ledger, admin, api, asker, caller)

    def environment(self, mode: str, url: str | None = None) -> dict[str, str]:
        """Answer the settings of a guard."""
        settings = {"GUARD_LEDGER": url or self.ledger.served.url, "GUARD_MODE": mode, "GUARD_CLIENT": self.asker.name}
        settings |= {"GUARD_SECRET": self.asker.secret or ""}
        return settings | ({"GUARD_AUDIENCE": self.api, "GUARD_ISSUER": self.ledger.served.url} if mode == "verify" else {})

    def token(self) -> dict[str, Any]:
        """Issue a token."""
        return ok(self.admin.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=self.caller.auth))

    async def revoke(self, token_id: str) -> float:
        """Revoke it over a new connection, and answer when that was acknowledged."""
        wire = Wire(_port(self.ledger.served.url))
        bearer = {"Authorization": self.admin.headers["Authorization"]}
        answered = await wire.request("POST", f"/v1/tokens/{token_id}/revoke", bearer, body={})
        acknowledged = time.monotonic()
        wire.close()
        if answered.status != 200:
            raise FellShort(f"a revocation was answered {answered.status}")
        return acknowledged


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def _hammer(url: str, headers: Mapping[str, str], asked: list[Asked], ended: asyncio.Event) -> None:
    wire = Wire(_port(url))
    while not ended.is_set():
        began = time.monotonic()
        try:
            answered = await wire.request("GET", PATH, headers)
        except Lost:
            continue
        asked.append(Asked(began, time.monotonic(), answered.status))
    wire.close()


async def _revoke(world: _World, url: str, seen: Seen, mode: str) -> None:
    """Revoke one token while it is used, and note what was seen."""
    issued = await asyncio.to_thread(world.token)
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    asked: list[Asked] = []
    ended = asyncio.Event()
    hammers = [asyncio.create_task(_hammer(url, headers, asked, ended)) for _ in range(HAMMERS)]
    await _until(lambda: len(asked) >= HAMMERS)
    await asyncio.sleep(WARM_SECONDS)
    acknowledged = await world.revoke(issued["token_id"])
    try:
        await _until(lambda: sum(one.status == 401 for one in asked) >= AFTER_REFUSAL)
    finally:
        ended.set()
        await asyncio.gather(*hammers)
    first = min(one.ended for one in asked if one.status == 401)
    seen.seconds.append(max(0.0, first - acknowledged))
    late = [one for one in asked if one.status == 200 and one.began > acknowledged]
    seen.let_in_after += len(late)
    if asked[0].status != 200:
        seen.wrong.append(f"{mode}: {asked[0].status} before the revocation")
    if mode == "ask" and late:
        seen.wrong.append(f"ask: {len(late)} passed that began after the acknowledgement")
    if any(one.status == 200 and one.began > first for one in asked):
        seen.wrong.append(f"{mode}: one passed that began after the first refusal")
    if any(one.began > acknowledged + BOUND_SECONDS for one in late):
        seen.wrong.append(f"{mode}: one passed after the bound")


async def _until(seen: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not seen():
        if time.monotonic() > deadline:
            raise FellShort("what was waited for was not seen")
        await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------------- cut off


@dataclass(frozen=True, slots=True)
class _Cut:
    figure: str
    wrong: list[str]


def _cut_off(world: _World) -> _Cut:
    """Cut the ledger off from a guard that knows two tokens, and revoke one of them there."""
    with between(world.ledger.served.url) as way, in_processes("flask", 1, world.environment("verify", way.url)) as url:
        return asyncio.run(_asked_while_cut_off(world, url, way.hold_up, way.go_on))


async def _asked_while_cut_off(world: _World, url: str, hold_up: Any, go_on: Any) -> _Cut:
    tokens = [await asyncio.to_thread(world.token) for _ in range(2)]
    headers = [{"Authorization": f"Bearer {issued['access_token']}"} for issued in tokens]
    asked: list[list[Asked]] = [[], []]
    ended = asyncio.Event()
    hammers = [asyncio.create_task(_hammer(url, *pair, ended)) for pair in zip(headers, asked, strict=True)]
    try:
        await _until(lambda: all(asked))
        await asyncio.sleep(1)
        hold_up()
        cut_at = time.monotonic()
        await world.revoke(tokens[0]["token_id"])
        await _until(lambda: all(_counted(one, 503) >= 2 for one in asked))
        await asyncio.sleep(1)
        go_on()
        free_at = time.monotonic()
        await _until(lambda: _counted(asked[0], 401) and asked[1][-1].status == 200)
    finally:
        ended.set()
        await asyncio.gather(*hammers)
    passed = [one.began - cut_at for all_of_one in asked for one in all_of_one if one.status == 200 and one.ended < free_at]
    wrong = []
    if max(passed) > BOUND_SECONDS:
        wrong.append(f"cut off: one passed {max(passed):.2f} s after")
    if any(one.status == 200 and one.ended > free_at for one in asked[0]):
        wrong.append("cut off: the revoked token passed when the ledger was there again")
    refused = sum(_counted(one, 503) for one in asked)
    figure = (
        f"with the ledger cut off the last request passed after {max(passed):.2f} s of {BOUND_SECONDS:.0f},"
        f" then {refused} were answered 503; when it was there again, the token revoked meanwhile 401 and the other 200"
    )
    return _Cut(figure, wrong)


def _counted(asked: Sequence[Asked], status: int) -> int:
    return sum(one.status == status for one in asked)
