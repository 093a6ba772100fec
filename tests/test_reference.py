"""Reference data kept in a worker: used for its exact position only, whatever changes meanwhile.

What is kept is a cache, and a cache of permissions that is wrong for a moment lets somebody in. So the tests try to make it
wrong: with changes between two decisions, while a decision is on the wire, and under load; and they show that they catch a
keeper that answers with newer or with older data than the lookup was made at.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from api.service import Service, make_service
from ledger.decisions import Decision, Question, decide
from ledger.events import (
    ApiRegistered,
    ApiSuspended,
    ApiTokensRevoked,
    ClientRegistered,
    ClientSuspended,
    Event,
    KeyMade,
    KeyRevoked,
    RoleCreated,
    RoleRemoved,
    RoleRulesGranted,
    RoleRulesWithdrawn,
    SubjectRegistered,
)
from ledger.paths import Matcher
from ledger.rules import Rule
from ledger.sealing import MasterKey
from ledger.settings import Settings
from ledger.states import Api, Client, Role, Subject, Token
from projections.keyring import make_key, new_key_id
from projections.lookup import Found, LookupFailed
from projections.reference import Kept, ReferenceKeeper
from tests.builders import NOON, api, client, command, role, subject, token, token_issued
from tests.conftest import Clock, Database
from tests.proxy import Proxy
from tests.recording import record

pytestmark = pytest.mark.anyio

CHEAP = Settings(password_memory_kib=19_456, password_passes=2)


@dataclass(frozen=True)
class World:
    """One token of a subject with one role in one API."""

    api: Api
    client: Client
    role: Role
    subject: Subject
    token: Token
    events: Sequence[Event]

    @classmethod
    def new(cls) -> "World":
        """Make one, with the events that make it so; the role has no rules yet."""
        of_api, of_client = api(name=f"api-{uuid4().hex[:8]}"), client(name=f"client-{uuid4().hex[:8]}")
        of_role = role(api_id=of_api.api_id)
        holder = subject(role_ids=(of_role.role_id,))
        issued = token_issued(
            subject_id=holder.subject_id, client_id=of_client.client_id, api_ids=(of_api.api_id,), direct=False
        )
        return cls(
            of_api,
            of_client,
            of_role,
            holder,
            issued.tokens[0],
            [
                ApiRegistered(api_id=of_api.api_id, api=of_api),
                ClientRegistered(client_id=of_client.client_id, client=of_client),
                RoleCreated(role_id=of_role.role_id, api_id=of_api.api_id, role=of_role),
                SubjectRegistered(subject_id=holder.subject_id, subject=holder),
                issued,
            ],
        )

    def granted(self, *lines: str) -> RoleRulesGranted:
        """Grant rules to the role."""
        rules = tuple(Rule.parse(line).of_role() for line in lines)
        changed = replace(self.role, rule_count=len(rules))
        return RoleRulesGranted(role_id=self.role.role_id, api_id=self.api.api_id, role=changed, rules=rules)

    def withdrawn(self, *lines: str) -> RoleRulesWithdrawn:
        """Withdraw rules from the role."""
        rules = tuple(Rule.parse(line).of_role() for line in lines)
        return RoleRulesWithdrawn(role_id=self.role.role_id, api_id=self.api.api_id, role=self.role, rules=rules)


@contextlib.asynccontextmanager
async def started(conninfo: str, keeper: type[ReferenceKeeper] = ReferenceKeeper) -> AsyncIterator[Service]:
    """Run the parts of a worker."""
    service = make_service(CHEAP, MasterKey(bytes(range(32))), conninfo)
    service = replace(service, reference=keeper(service.pool))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@pytest.fixture
async def proxy(socket_folder: Path, database: Database) -> AsyncIterator[Proxy]:
    proxy = Proxy(socket_folder, database.service)
    await proxy.open()
    yield proxy
    await proxy.close()


async def append(service: Service, *events: Event) -> int:
    """Record events whatever the versions of their streams, and answer the position of the last."""
    async with service.pool.connection() as connection:
        rows = await connection.execute(
            "SELECT s.stream, s.version FROM ledger.streams s WHERE s.stream = ANY (%s)", ([event.stream for event in events],)
        )
        versions: dict[UUID, int] = dict(await rows.fetchall())
    outcome = await service.appender.append(command(*events, reads=versions, urgent=True))
    assert outcome.last_position is not None
    return outcome.last_position


async def decision(service: Service, world: World, target: str = "/orders/7") -> Decision:
    """Decide as the endpoints do: one lookup, and the reference data of its position."""
    found, kept = await service.find(world.token.token_id)
    return decided(world, found, kept, target)


def decided(world: World, found: Found, kept: Kept, target: str = "/orders/7") -> Decision:
    question = Question(world.api.api_id, "GET", target, True, NOON, found.position)
    return decide(question, found.token, kept)


# ------------------------------------------------------------------------------------------------- changes are in force at once


async def test_a_rule_granted_withdrawn_and_granted_again_is_in_force_for_the_next_decision(database: Database) -> None:
    world = World.new()
    async with started(database.service) as service:
        await append(service, *world.events)
        assert (await decision(service, world)).reason == "no_rule"
        for _ in range(3):
            await append(service, world.granted("allow GET /orders/{id}"))
            assert (await decision(service, world)).allowed
            await append(service, world.withdrawn("allow GET /orders/{id}"))
            assert (await decision(service, world)).reason == "no_rule"


CHANGES: dict[str, Callable[[World], Event]] = {
    "a client suspended": lambda world: ClientSuspended(
        client_id=world.client.client_id, client=replace(world.client, status="suspended")
    ),
    "an API suspended": lambda world: ApiSuspended(api_id=world.api.api_id, api=replace(world.api, status="suspended")),
    "the tokens of an API cut off": lambda world: ApiTokensRevoked(
        api_id=world.api.api_id, api=world.api, cuts_off=True, reason=None
    ),
    "a role removed": lambda world: RoleRemoved(
        role_id=world.role.role_id, api_id=world.api.api_id, role=replace(world.role, removed=True)
    ),
    "a deny granted": lambda world: world.granted("deny * /**"),
}
REASONS = {
    "a client suspended": "client_suspended",
    "an API suspended": "api_suspended",
    "the tokens of an API cut off": "tokens_revoked_before",
    "a role removed": "no_rule",
    "a deny granted": "denied_by_rule",
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_change_between_two_decisions_is_in_force_for_the_second_in_every_worker(database: Database, what: str) -> None:
    world = World.new()
    async with started(database.service) as one, started(database.service) as other:
        await append(one, *world.events, world.granted("allow GET /orders/**"))
        for worker in (one, other):
            assert (await decision(worker, world)).allowed
        position = await append(one, CHANGES[what](world))
        for worker in (other, one):
            answer = await decision(worker, world)
            assert (answer.allowed, answer.reason) == (False, REASONS[what])
            assert answer.position >= position


async def test_events_that_are_not_of_reference_data_cost_no_reading_of_it(database: Database) -> None:
    readings = []

    class Counting(ReferenceKeeper):
        async def _advance(self, position: int) -> None:
            readings.append(position)
            await super()._advance(position)

    world = World.new()
    async with started(database.service, Counting) as service:
        await append(service, *world.events)
        await decision(service, world)
        readings.clear()
        for _ in range(5):
            await append(service, token_issued())
            await decision(service, world)
        assert readings == []
        await append(service, world.granted("allow GET /orders/{id}"))
        assert (await decision(service, world)).allowed
        assert len(readings) == 1


# ------------------------------------------------------------------------------------------------------ the exact position only


async def test_data_is_answered_for_its_exact_position_and_none_for_one_that_is_past(database: Database) -> None:
    world = World.new()
    async with started(database.service) as service:
        first = await append(service, *world.events[:3])
        second = await append(service, world.granted("allow GET /orders/{id}"))
        keeper = ReferenceKeeper(service.pool)
        then = await keeper.at(first)
        assert then is not None
        assert (then.position, len(then.matchers)) == (first, 0)
        now = await keeper.at(second)
        assert now is not None
        matcher = now.matchers[world.api.api_id]
        assert isinstance(matcher, Matcher)
        assert (now.position, len(matcher)) == (second, 1)
        assert await keeper.at(first) is None
        assert await keeper.at(second) is now


class NeverCurrent(ReferenceKeeper):
    """As if a newer change had been taken each time."""

    async def at(self, position: int) -> Kept | None:
        await asyncio.sleep(0)
        return None


async def test_a_worker_that_is_always_too_late_gives_up_and_decides_nothing(database: Database) -> None:
    async with started(database.service, NeverCurrent) as service:
        queries = service.lookup.queries
        with pytest.raises(LookupFailed):
            await service.find(uuid4())
        assert service.lookup.queries == queries + 10


class AnswersWithNewer(ReferenceKeeper):
    """The bug: whatever is kept is good enough for a lookup that is older."""

    async def at(self, position: int) -> Kept | None:
        await super().at(position)
        return self._kept


class AnswersWithOlder(ReferenceKeeper):
    """The bug of every cache: what is kept is good for a while."""

    uses = 0

    async def at(self, position: int) -> Kept | None:
        self.uses += 1
        if self.uses % 5 == 0 or not self._kept.position:
            await super().at(position)
        return self._kept


async def change_while_a_lookup_is_held(database: Database, proxy: Proxy, keeper: type[ReferenceKeeper]) -> None:
    """Fail unless a decision whose lookup was on the wire while a rule was granted is that of the position it names."""
    world = World.new()
    async with started(database.service) as direct, started(proxy.conninfo, keeper) as service:
        await append(direct, *world.events)
        await asyncio.gather(*[decision(service, world) for _ in range(4)])  # both connections are there
        queries = service.lookup.queries
        proxy.hold(1)
        slow = asyncio.create_task(decision(service, world))
        await proxy.until_held(1)
        position = await append(direct, world.granted("allow GET /orders/{id}"))
        assert (await decision(service, world)).allowed  # over the other connection: the worker now keeps the newer data
        await proxy.release()
        answer = await slow
        assert answer.allowed == (answer.position >= position)
        assert service.lookup.queries == queries + 3  # asked again


async def test_a_lookup_whose_reference_data_is_past_when_it_arrives_is_made_again(database: Database, proxy: Proxy) -> None:
    await change_while_a_lookup_is_held(database, proxy, ReferenceKeeper)


async def change_rules_under_load(database: Database, proxy: Proxy, keeper: type[ReferenceKeeper]) -> None:
    """Fail unless every decision is the one of the position it names, while rules come and go under it."""
    world = World.new()
    line = "allow GET /orders/{id}"
    changes: list[tuple[int, bool]] = []
    answers: list[Decision] = []
    done = asyncio.Event()
    async with started(database.service) as writer, started(proxy.conninfo, keeper) as service:
        await append(writer, *world.events)
        proxy.delay_seconds = 0.008

        async def ask() -> None:
            draw = random.Random(id(asyncio.current_task()))
            while not done.is_set():
                await asyncio.sleep(draw.random() * 0.004)
                answers.append(await decision(service, world))

        askers = [asyncio.create_task(ask()) for _ in range(20)]
        for _ in range(30):
            changes.append((await append(writer, world.granted(line)), True))
            changes.append((await append(writer, world.withdrawn(line)), False))
        done.set()
        await asyncio.gather(*askers)
    assert len(answers) > 20
    for answer in answers:
        standing = [allowed for position, allowed in changes if position <= answer.position]
        assert answer.allowed == (standing[-1] if standing else False), answer


async def test_under_load_every_decision_is_that_of_the_position_it_names(database: Database, proxy: Proxy) -> None:
    await change_rules_under_load(database, proxy, ReferenceKeeper)


async def test_the_first_test_catches_a_keeper_that_answers_with_newer_data(database: Database, proxy: Proxy) -> None:
    with pytest.raises(AssertionError):
        await change_while_a_lookup_is_held(database, proxy, AnswersWithNewer)


async def test_the_second_test_catches_a_keeper_that_answers_with_older_data(database: Database, proxy: Proxy) -> None:
    with pytest.raises(AssertionError):
        await change_rules_under_load(database, proxy, AnswersWithOlder)


# -------------------------------------------------------------------------------------------------------------------- advancing


def contents(kept: Kept, worlds: Sequence[World]) -> Any:
    """Answer what a decision can see of reference data, comparably."""
    matches = {
        (world.api.name, path): sorted(
            (str(role_id), placed.rule.line(), placed.position)
            for role_id, placed in kept.matchers[world.api.api_id].match("GET", path[1:].split("/"), [world.role.role_id], "me")
        )
        for world in worlds
        if world.api.api_id in kept.matchers
        for path in ("/orders/1", "/orders/2", "/items", "/x/y/z")
    }
    names = {world.api.name: kept.role_id(f"{world.api.name}:{world.role.name}") for world in worlds}
    return kept.position, kept.clients, kept.apis, kept.roles, kept.keys, matches, names


LINES = (
    "allow GET /orders/{id}",
    "allow GET /orders/1",
    "deny GET /items",
    "allow * /**",
    "allow GET /orders/{id} clearance 5",
)


def history(seed: int) -> tuple[list[World], list[Event]]:
    """Draw a history in which everything changes, over and over."""
    draw = random.Random(seed)
    worlds = [World.new() for _ in range(3)]
    events = [event for world in worlds for event in world.events[:3]]
    for _ in range(60):
        world = draw.choice(worlds)
        event: Event = draw.choice(
            [
                world.granted(*draw.sample(LINES, draw.randint(1, 3))),
                world.withdrawn(*draw.sample(LINES, draw.randint(1, 3))),
                CHANGES[draw.choice(sorted(CHANGES))](world),
                RoleCreated(role_id=world.role.role_id, api_id=world.api.api_id, role=world.role),
            ]
        )
        events.append(event)
    return worlds, events


@pytest.mark.parametrize("seed", range(4))
async def test_however_its_changes_are_cut_into_steps_it_keeps_what_one_reading_gives(database: Database, seed: int) -> None:
    worlds, events = history(seed)
    await asyncio.to_thread(record, database, events)
    async with started(database.service) as service:
        at_once = await ReferenceKeeper(service.pool).at(len(events))
        for steps in (7, 23):
            keeper = ReferenceKeeper(service.pool)
            for position in sorted(random.Random(seed).sample(range(1, len(events)), steps)):
                assert await keeper.at(position) is not None
            stepped = await keeper.at(len(events))
            assert at_once is not None
            assert stepped is not None
            assert contents(stepped, worlds) == contents(at_once, worlds)


async def test_many_who_need_the_same_change_read_it_once(database: Database) -> None:
    readings = []

    class Counting(ReferenceKeeper):
        async def _advance(self, position: int) -> None:
            readings.append(position)
            await super()._advance(position)

    _, events = history(9)
    await asyncio.to_thread(record, database, events)
    async with started(database.service) as service:
        keeper = Counting(service.pool)
        answers = await asyncio.gather(*[keeper.at(len(events)) for _ in range(50)])
        assert all(kept is not None and kept.position == len(events) for kept in answers)
        assert readings == [len(events)]


async def test_those_who_need_different_changes_get_theirs_or_none_and_it_never_goes_back(database: Database) -> None:
    _, events = history(11)
    await asyncio.to_thread(record, database, events)
    async with started(database.service) as service:
        keeper = ReferenceKeeper(service.pool)
        positions = [random.Random(5).randint(1, len(events)) for _ in range(60)]
        seen: list[int] = []

        async def take(position: int) -> None:
            kept = await keeper.at(position)
            assert kept is None or kept.position == position
            seen.append(kept.position if kept else 0)

        await asyncio.gather(*[take(position) for position in positions])
        taken = [position for position in seen if position]
        assert taken == sorted(taken)
        assert await keeper.at(len(events)) is not None


async def test_who_is_cancelled_while_he_reads_a_change_leaves_it_to_the_next(database: Database) -> None:
    _, events = history(13)
    await asyncio.to_thread(record, database, events)
    async with started(database.service) as service:
        keeper = ReferenceKeeper(service.pool)
        readers = [asyncio.create_task(keeper.at(len(events))) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        readers[0].cancel()
        assert all(kept is not None for kept in await asyncio.gather(*readers[1:]))
        assert readers[0].cancelled()


async def test_a_change_that_cannot_be_read_leaves_what_was_kept_and_is_read_when_it_can_be(
    database: Database, proxy: Proxy
) -> None:
    world = World.new()
    async with started(proxy.conninfo) as service:
        first = await append(service, *world.events)
        assert (await decision(service, world)).reason == "no_rule"
        second = await append(service, world.granted("allow GET /orders/{id}"))
        keeper = service.reference
        await proxy.close()
        with pytest.raises((psycopg.OperationalError, PoolTimeout)):
            await keeper.at(second)
        kept = await keeper.at(first - 2)  # the newest change of reference data before
        assert kept is not None
        assert len(kept.matchers) == 0
        await proxy.open()
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(psycopg.OperationalError, LookupFailed):
                    assert (await decision(service, world)).allowed
                    break


# ------------------------------------------------------------------------------------------------------------------------- keys


async def test_a_key_revoked_between_two_decisions_is_in_force_for_the_second(database: Database, clock: Clock) -> None:
    world = World.new()
    async with started(database.service) as service:
        row = await make_key(service.pool, service.master, new_key_id(), "EdDSA", NOON)
        made_with_it = token(
            subject_id=world.subject.subject_id,
            client_id=world.client.client_id,
            api_ids=(world.api.api_id,),
            key_ids=(row.key_id,),
            strategy="jwt",
            secret_digest=None,
        )
        issued = replace(
            token_issued(subject_id=world.subject.subject_id, client_id=world.client.client_id),
            family_id=made_with_it.family_id,
            tokens=(made_with_it,),
        )
        await append(service, *world.events[:4], KeyMade(key_id=row.key_id, key=row), issued)
        await append(service, world.granted("allow GET /orders/**"))
        found, kept = await service.find(made_with_it.token_id)
        # It was granted to the role, and the token is not restricted to a scope.
        assert decided(world, found, kept).allowed
        await append(service, KeyRevoked(key_id=row.key_id, key=replace(row, status="revoked")))
        found, kept = await service.find(made_with_it.token_id)
        assert decided(world, found, kept).reason == "key_revoked"
