"""The life of keys through HTTP and by the clock: what is published when, what is revoked at once, who may, and a verifier
that asks for the key set once an hour."""

import asyncio
import bisect
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Barrier
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from api.service import NOBODY, Service, make_service
from ledger.instants import read_rfc3339
from ledger.sealing import MasterKey
from ledger.settings import Settings
from projections.keyring import renew_keys
from tests.calls import (
    App,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refresh,
    refused,
    resource_server,
    unique,
)
from tests.conftest import Clock
from tests.forging import claims_of, decoded
from tests.serving import MASTER_KEY, Served

LONGEST_SECONDS = 3_600
SETTINGS = {
    "TOKEN_LEDGER_SIGNING_KEY_DAYS": "1",
    "TOKEN_LEDGER_MAX_ACCESS_LIFETIME_SECONDS": str(LONGEST_SECONDS),
    "TOKEN_LEDGER_MAX_NAMED_TOKEN_LIFETIME_SECONDS": str(LONGEST_SECONDS),
}
TWO_HOURS = 7_200.0


def published(http: httpx.Client) -> list[str]:
    """Answer the ids of the published keys."""
    answer = http.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    return [jwk["kid"] for jwk in ok(answer)["keys"]]


def listed(admin: httpx.Client) -> dict[str, dict[str, Any]]:
    """Answer every key by its id."""
    return {key["key_id"]: key for key in ok(admin.get("/v1/keys"))["keys"]}


def active(admin: httpx.Client, use: str) -> str:
    """Answer the key that new tokens are made with."""
    (key_id,) = (key_id for key_id, key in listed(admin).items() if (key["use"], key["status"]) == (use, "active"))
    return key_id


def made(admin: httpx.Client, use: str, algorithm: str | None = None) -> str:
    """Make a key and answer its id."""
    body = {"use": use} | ({} if algorithm is None else {"algorithm": algorithm})
    return str(ok(admin.post("/v1/keys", json=body), 201)["key_id"])


def revoked(admin: httpx.Client, key_id: str) -> dict[str, Any]:
    """Revoke a key and answer what came of it."""
    return ok(admin.post(f"/v1/keys/{key_id}/revoke", json={"reason": "leaked"}))


@contextlib.contextmanager
def later(server: Served, clock: Clock, seconds: float) -> Iterator[httpx.Client]:
    """Move the clock and log in anew: the token of before is over."""
    clock.advance(seconds)
    with server.admin() as admin:
        yield admin


def kid_of(token: str) -> str:
    """Answer the key that a JWT says it was signed with."""
    return str(json.loads(decoded(token.partition(".")[0]))["kid"])


@dataclass(frozen=True)
class Setting:
    """Somebody who has a token of one strategy, and who asks about it."""

    asker: App
    app: App
    tokens: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.tokens["access_token"])


def setting(http: httpx.Client, admin: httpx.Client, strategy: str, kind: str = "off") -> Setting:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    app = first_party(admin, api, strategy=strategy, refresh=kind)
    return Setting(resource_server(admin, api), app, login(http, new_person(admin, f"{api}:reader"), app))


# ------------------------------------------------------------------------------------------------------------- life


def test_a_signing_key_is_published_when_it_is_made_and_used_two_hours_later(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, server_clock: Clock, each_worker: list[httpx.Client]
) -> None:
    before = active(admin, "sig")
    held = setting(http, admin, "jwt")
    answer = ok(admin.post("/v1/keys", json={"use": "sig", "algorithm": "ES256"}), 201)
    key_id = answer["key_id"]
    assert (answer["use"], answer["algorithm"], answer["status"]) == ("sig", "ES256", "pending")
    for worker in each_worker:
        assert {before, key_id} <= set(published(worker))
    wait = refused(admin.post(f"/v1/keys/{key_id}/activate"), 409, "key_too_new")["detail"]
    assert read_rfc3339(wait.split()[-3]) == read_rfc3339(answer["made_at"]) + timedelta(hours=2)
    with later(ledger_server, server_clock, 500) as admin:
        assert evaluate(http, held.asker, held.text)["decision"] is True
        refused(admin.post(f"/v1/keys/{key_id}/activate"), 409, "key_too_new")
    with later(ledger_server, server_clock, TWO_HOURS - 500) as admin:
        seen = ok(admin.post(f"/v1/keys/{key_id}/activate"))
        assert (seen["status"], seen["retired"]) == ("active", [before])
        again = ok(admin.post(f"/v1/keys/{key_id}/activate"))  # nothing new
        assert (again["status"], again["retired"]) == ("active", [])
        keys = listed(admin)
        assert (keys[before]["status"], keys[before]["published"]) == ("retired", True)
        assert (keys[key_id]["status"], keys[key_id]["status_reason"]) == ("active", None)
        assert keys[key_id]["changed_at"] == keys[before]["changed_at"] > keys[key_id]["made_at"]
        new = setting(http, admin, "jwt")
        for worker in each_worker:
            assert evaluate(worker, new.asker, new.text)["decision"] is True
            assert {before, key_id} <= set(published(worker))
        refused(admin.post(f"/v1/keys/{before}/activate"), 409, "wrong_key_status")
        refused(admin.post(f"/v1/keys/{key_id}/retire"), 409, "wrong_key_status")
    # The last token that needs the retired key is gone, and an hour more.
    with later(ledger_server, server_clock, LONGEST_SECONDS + 3_600 - 60) as admin:
        assert listed(admin)[before]["published"] is True
    with later(ledger_server, server_clock, 60) as admin:
        assert listed(admin)[before]["published"] is False
        assert before not in published(http)
        assert key_id in published(http)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_token_is_verified_by_another_library_with_the_published_keys_alone(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, server_clock: Clock, algorithm: str
) -> None:
    key_id = made(admin, "sig", algorithm)
    with later(ledger_server, server_clock, TWO_HOURS) as admin:
        ok(admin.post(f"/v1/keys/{key_id}/activate"))
        held = setting(http, admin, "jwt")
        sealed = setting(http, admin, "jwe")
    assert evaluate(http, sealed.asker, sealed.text)["decision"] is True
    keys = KeySet.import_key_set(ok(http.get("/.well-known/jwks.json")))  # type: ignore[arg-type] # any JSON
    read = jwt.decode(held.text, keys, algorithms=[algorithm])
    assert (read.header["kid"], read.header["alg"]) == (key_id, algorithm)
    assert read.claims["jti"] == held.tokens["token_id"]


def test_the_next_key_is_of_the_algorithm_of_the_active_one_unless_said_otherwise(admin: httpx.Client) -> None:
    of_now = listed(admin)[active(admin, "sig")]["algorithm"]
    for use, algorithm in (("sig", of_now), ("enc", "A256GCM")):
        key_id = made(admin, use)
        assert listed(admin)[key_id]["algorithm"] == algorithm
        ok(admin.post(f"/v1/keys/{key_id}/retire"))
        ok(admin.post(f"/v1/keys/{key_id}/retire"))
        assert listed(admin)[key_id]["status"] == "retired"
    for body in (
        {"use": "sig", "algorithm": "A256GCM"},
        {"use": "enc", "algorithm": "RS256"},
        {"use": "sig", "algorithm": "HS256"},
    ):
        assert refused(admin.post("/v1/keys", json=body), 400, "invalid_input")["problems"][0]["field"] == "algorithm"


def test_a_command_that_is_sent_again_makes_no_second_key(admin: httpx.Client) -> None:
    headers = {"Idempotency-Key": unique("key")}
    first = ok(admin.post("/v1/keys", json={"use": "enc"}, headers=headers), 201)
    before = listed(admin)
    assert ok(admin.post("/v1/keys", json={"use": "enc"}, headers=headers), 201) == first
    assert listed(admin) == before
    headers = {"Idempotency-Key": unique("key")}
    activated = ok(admin.post(f"/v1/keys/{first['key_id']}/activate", headers=headers))
    assert ok(admin.post(f"/v1/keys/{first['key_id']}/activate", headers=headers)) == activated
    headers, body = {"Idempotency-Key": unique("key")}, {"reason": "leaked"}
    gone = ok(admin.post(f"/v1/keys/{first['key_id']}/revoke", json=body, headers=headers))
    assert gone["activated"] is not None
    assert ok(admin.post(f"/v1/keys/{first['key_id']}/revoke", json=body, headers=headers)) == gone


def test_a_key_that_nobody_made_is_unknown(admin: httpx.Client) -> None:
    for key_id in (str(NOBODY), "nonsense"):
        for verb, body in (("activate", {}), ("retire", {}), ("revoke", {"reason": "leaked"})):
            refused(admin.post(f"/v1/keys/{key_id}/{verb}", json=body), 404, "unknown_key")


def test_pending_keys_are_limited(admin: httpx.Client) -> None:
    waiting = [made(admin, "enc") for _ in range(10)]
    refused(admin.post("/v1/keys", json={"use": "enc"}), 409, "too_many_pending_keys")
    for key_id in waiting:
        ok(admin.post(f"/v1/keys/{key_id}/retire"))


def test_an_operator_revokes_keys_and_does_nothing_else_with_them(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client
) -> None:
    pending = made(admin, "enc")
    for role, may_revoke in (("ledger:auditor", False), ("ledger:operator", True)):
        with ledger_server.client() as person:
            person.headers["Authorization"] = f"Bearer {login(http, new_person(admin, role))['access_token']}"
            assert pending in listed(person)
            refused(person.post("/v1/keys", json={"use": "enc"}), 403, "not_allowed")
            for verb in ("activate", "retire"):
                refused(person.post(f"/v1/keys/{pending}/{verb}"), 403, "not_allowed")
            answer = person.post(f"/v1/keys/{pending}/revoke", json={"reason": "leaked"})
            if may_revoke:
                ok(answer)
            else:
                refused(answer, 403, "not_allowed")
    assert listed(admin)[pending]["status_reason"] == "leaked"


# ------------------------------------------------------------------------------------------------------- revocation


@pytest.mark.parametrize(("strategy", "use"), [("jwt", "sig"), ("encrypted", "enc"), ("jwe", "sig"), ("jwe", "enc")])
def test_a_revoked_key_makes_every_token_made_with_it_dead_for_the_next_decision_on_every_worker(
    http: httpx.Client, admin: httpx.Client, each_worker: list[httpx.Client], strategy: str, use: str
) -> None:
    held = setting(http, admin, strategy, "rotating")
    opaque = setting(http, admin, "opaque")
    for worker in each_worker:
        assert evaluate(worker, held.asker, held.text)["decision"] is True
    gone = revoked(admin, active(admin, use))
    for worker in each_worker:
        answer = evaluate(worker, held.asker, held.text)
        assert (answer["decision"], answer["context"]["reason"]) == (False, "key_revoked")
        assert introspect(worker, held.asker, held.text)["active"] is False
        assert gone["key_id"] not in published(worker)
        assert (gone["activated"] in published(worker)) is (use == "sig")
        assert evaluate(worker, opaque.asker, opaque.text)["decision"] is True
    # Refresh tokens are opaque: whoever has one goes on, with a token of another key.
    renewed = ok(refresh(http, held.app, held.tokens["refresh_token"]))
    for worker in each_worker:
        assert evaluate(worker, held.asker, renewed["access_token"])["decision"] is True
    if strategy == "jwt":
        assert kid_of(renewed["access_token"]) == gone["activated"]


def test_a_key_made_beforehand_takes_the_place_of_the_one_that_leaked(http: httpx.Client, admin: httpx.Client) -> None:
    leaked, ready = active(admin, "sig"), made(admin, "sig", "ES256")
    waiting = [key_id for key_id, key in listed(admin).items() if (key["use"], key["status"]) == ("sig", "pending")]
    gone = revoked(admin, leaked)
    assert gone["activated"] in waiting
    assert active(admin, "sig") == gone["activated"]
    for key_id in (*waiting, ready):
        if key_id != gone["activated"]:
            ok(admin.post(f"/v1/keys/{key_id}/retire"))
    assert revoked(admin, leaked)["activated"] is None  # said twice: nothing new


def test_where_no_key_is_ready_a_new_one_of_the_same_algorithm_is_made_and_used_at_once(
    http: httpx.Client, admin: httpx.Client, each_worker: list[httpx.Client]
) -> None:
    for key_id, key in listed(admin).items():
        if key["status"] == "pending":
            ok(admin.post(f"/v1/keys/{key_id}/retire"))
    leaked = active(admin, "sig")
    gone = revoked(admin, leaked)
    keys = listed(admin)
    assert (keys[leaked]["status"], keys[leaked]["status_reason"], keys[leaked]["published"]) == ("revoked", "leaked", False)
    assert keys[gone["activated"]]["algorithm"] == keys[leaked]["algorithm"]
    assert keys[gone["activated"]]["made_at"] == keys[gone["activated"]]["changed_at"] == keys[leaked]["changed_at"]
    held = setting(http, admin, "jwt")
    for worker in each_worker:
        assert evaluate(worker, held.asker, held.text)["decision"] is True


def test_of_two_activations_at_once_one_key_is_active_in_the_end(admin: httpx.Client, each_worker: list[httpx.Client]) -> None:
    for worker in each_worker:
        worker.headers["Authorization"] = admin.headers["Authorization"]
    for _ in range(10):
        rivals, start = [made(admin, "enc") for _ in each_worker], Barrier(len(each_worker))

        def activate(worker: httpx.Client, key_id: str, start: Barrier = start) -> httpx.Response:
            start.wait()
            return worker.post(f"/v1/keys/{key_id}/activate")

        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(activate, each_worker, rivals))
        assert all(answer.status_code == 200 for answer in answers), [answer.text for answer in answers]
        assert active(admin, "enc") in rivals  # exactly one
        retired = [key_id for answer in answers for key_id in answer.json()["retired"]]
        assert len(retired) == len(set(retired)) == len(rivals)


# -------------------------------------------------------------------------------------------------- scheduled rotation


@contextlib.asynccontextmanager
async def workers(server: Served, count: int) -> AsyncIterator[list[Service]]:
    """Run the parts of several workers beside those of the server, without their housekeeping."""
    settings = Settings(issuer=server.url, signing_key_days=1)
    services = [make_service(settings, MasterKey.from_text(MASTER_KEY), server.owner) for _ in range(count)]
    async with contextlib.AsyncExitStack() as running:
        for service in services:
            await service.start()
            running.push_async_callback(service.stop)
        yield services


async def look_after(service: Service) -> None:
    """Do what housekeeping does for keys."""
    found, kept = await service.find(NOBODY)
    keys = list(kept.keys.values())
    await renew_keys(service.pool, service.appender, service.master, keys, found.instant, timedelta(days=1))


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_of_many_workers_that_renew_a_key_at_once_one_makes_it_and_its_parts_belong_together(
    ledger_server: Served, admin: httpx.Client, server_clock: Clock, algorithm: str
) -> None:
    # Three steps: the next key is made, its time comes, and it is the active one, of the same algorithm.
    key_id = made(admin, "sig", algorithm)
    with later(ledger_server, server_clock, TWO_HOURS) as admin:
        ok(admin.post(f"/v1/keys/{key_id}/activate"))
        for other, key in listed(admin).items():
            if key["status"] == "pending" and other != key_id:
                ok(admin.post(f"/v1/keys/{other}/retire"))
        before = listed(admin)

    async def all_at_once() -> None:
        async with workers(ledger_server, 3) as services:
            await asyncio.gather(*(look_after(service) for service in services))
            for service in services:
                _, kept = await service.find(NOBODY)  # opens every key, and compares
                assert service.keyring.knows(kept)

    asyncio.run(all_at_once())
    with ledger_server.admin() as admin:
        after = listed(admin)
        (new,) = (k for k in after.keys() - before.keys() if after[k]["use"] == "sig")
        assert (after[new]["status"], after[new]["algorithm"]) == ("pending", algorithm)
    with later(ledger_server, server_clock, 86_400) as admin:
        asyncio.run(all_at_once())
        assert active(admin, "sig") == new
        assert len([key for key in listed(admin).values() if (key["use"], key["status"]) == ("enc", "active")]) == 1


@dataclass(frozen=True)
class Seen:
    """What a simulation has seen: the published kids at instants in their order, and tokens with their kid, begin and end."""

    instants: Sequence[float]
    sets: Sequence[frozenset[str]]
    tokens: Sequence[tuple[str, float, float]]

    def known(self, instant: float) -> frozenset[str]:
        """Answer the kids that were surely published at an instant: those of the looks before and after it."""
        after = bisect.bisect_left(self.instants, instant)
        return self.sets[max(0, after - 1)] & self.sets[min(after, len(self.sets) - 1)]

    def unknown(self, *, every: float, phase: float, cached: float) -> list[str]:
        """Answer the kids that a verifier meets without knowing them: it asks `every` so often, from a cache of this age."""
        first = self.instants[0]
        met = []
        for kid, begin, end in self.tokens:
            for instant in (begin, *(i for i in self.instants if begin < i < end), end - 0.001):
                asked = first + phase + (instant - first - phase) // every * every
                if asked - cached >= first and kid not in self.known(asked - cached):
                    met.append(kid)
        return met


def test_a_verifier_that_asks_once_an_hour_never_meets_an_unknown_kid(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, server_clock: Clock
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    app = new_client(admin, grants=["client_credentials"], strategy="jwt", apis=[api], access_lifetime_seconds=LONGEST_SECONDS)
    asker = resource_server(admin, api)
    instants: list[float] = []
    sets: list[frozenset[str]] = []
    tokens: list[tuple[str, float, float]] = []
    draw = random.Random(7)
    with asyncio.Runner() as runner:
        running = workers(ledger_server, 1)
        (service,) = runner.run(running.__aenter__())
        for number in range(400):
            if number == 200:
                # Nobody looks after the keys for three days, and none is ready: the next is made late, used as soon as may be.
                with ledger_server.admin() as admin:
                    for key_id, key in listed(admin).items():
                        if (key["use"], key["status"]) == ("sig", "pending"):
                            ok(admin.post(f"/v1/keys/{key_id}/retire"))
                server_clock.advance(3 * 86_400)
            server_clock.advance(draw.uniform(60, 180) if 200 <= number < 270 else draw.uniform(400, 1_000))
            runner.run(look_after(service))
            instants.append(read_rfc3339(ok(http.get("/readyz"))["instant"]).timestamp())
            sets.append(frozenset(published(http)))
            form = {"grant_type": "client_credentials"}
            token = ok(http.post("/oauth/token", data=form, auth=app.auth))["access_token"]
            claims = claims_of(token)
            tokens.append((kid_of(token), float(claims["iat"]), float(claims["exp"])))
            if number % 50 == 0:
                assert introspect(http, asker, token)["active"] is True
        runner.run(running.__aexit__(None, None, None))
    seen = Seen(instants, sets, tokens)
    kids = list(dict.fromkeys(kid for kid, _, _ in tokens))
    assert len(kids) >= 4, "too few rotations to show anything"
    assert len(sets[-1]) <= 4, "keys that nobody needs any more are still published"
    for _ in range(60):
        phase, cached = draw.uniform(0, 3_600), draw.choice([0.0, 300.0, draw.uniform(0, 300)])
        assert seen.unknown(every=3_600, phase=phase, cached=cached) == []
    # One that asks seldom does meet some: what is played here can be told.
    assert any(seen.unknown(every=100_000, phase=draw.uniform(0, 100_000), cached=0) for _ in range(60))


def test_keys_are_listed_as_they_were(admin: httpx.Client) -> None:
    before = ok(admin.get("/v1/keys"))
    made = ok(admin.post("/v1/keys", json={"use": "sig", "algorithm": "ES256"}), 201)
    ok(admin.post(f"/v1/keys/{made['key_id']}/revoke", json={"reason": "not needed"}))

    def statuses(**as_of: Any) -> dict[str, str]:
        return {key["key_id"]: key["status"] for key in ok(admin.get("/v1/keys", params=as_of))["keys"]}

    of_then = {key["key_id"]: key["status"] for key in before["keys"]}
    assert statuses(as_of=before["position"]) == of_then
    assert statuses(as_of=made["position"]) == of_then | {made["key_id"]: "pending"}
    assert statuses()[made["key_id"]] == "revoked"
    assert ok(admin.get("/v1/keys", params={"as_of": made["position"]}))["position"] == made["position"]
    refused(admin.get("/v1/keys", params={"as_of": "soon"}), 400, "invalid_input")
