"""Random histories of real commands on a real ledger, and what must hold of every one: the state machine.

Live, after each append: what the views hold and what every token is worth is what the models say (model.py, worth.py). At the
end, of the whole log: folded again one event at a time, in random pieces and all at once it gives the same tables; and what was
answered live, the same question as of that position, the same question to views folded up to it, and the model agree.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from ledger import genesis
from ledger.builtin import LEDGER_API
from ledger.database import connect
from ledger.decisions import Decision, Question, Reference, decide
from ledger.errors import InvalidInput, LedgerError
from ledger.execute import Pool
from ledger.log import Actor, Command, append
from ledger.standing import standing_of
from projections.changes import read_changes
from projections.install import install_views
from projections.lookup import Found, look_up
from projections.moments import AsOf, Moment, read_moment
from projections.reading import Keys, read_state
from projections.reference import ReferenceKeeper, read_reference_of
from projections.replay import GROUPS, replay
from projections.token_listing import TokenFilters, list_tokens
from tests import deeds
from tests.builders import NOON, envelope
from tests.clock import put_clock
from tests.deeds import Deed, Scene
from tests.model import Recorded
from tests.stored import expected, stored_in
from tests.worth import METHODS, NOT_OPENED, TARGETS, Asked, Past

Answer = TypeVar("Answer")

SCRATCH: Final = "views_scratch"
STEPS: Final = 25
# What a step does is chosen at random by a number that is drawn.
CHOICES: Final = st.integers(0, 2**32 - 1)
NO_TOKEN: Final = UUID(int=0)
TICK: Final = timedelta(microseconds=1)
# Mostly short, or everything would have ended soon.
PASSING: Final = (*[timedelta(seconds=1)] * 6, *[timedelta(seconds=31)] * 4, timedelta(hours=2))
# The scratch views under the name that everything reads, and the folds that make them.
IN_THEIR_PLACE: Final = (
    "ALTER SCHEMA views RENAME TO views_aside",
    "ALTER SCHEMA views_scratch RENAME TO views",
    "SET LOCAL search_path = views, ledger, pg_temp",
    "SAVEPOINT empty",
)


@dataclass
class Tally:
    """What was done over all histories."""

    histories: int = 0
    events: int = 0
    refused: int = 0
    live: int = 0
    as_of: int = 0
    cuts: int = 0
    replays: int = 0


class OneConnection:
    """A pool that gives the same connection each time."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """Give it."""
        yield self._connection


def pool_of(connection: AsyncConnection[TupleRow]) -> Pool:
    """Answer a pool of this connection alone."""
    return cast("Pool", OneConnection(connection))


class Ledger:
    """A ledger that is emptied for each history, as a superuser can who turns the triggers off. Its clock is a test's."""

    def __init__(self, superuser: str, ledger_owner: str, service: str, *, positions: int, tally: Tally) -> None:
        """`positions`: as of how many positions of a history everything is asked again. `tally` is counted on."""
        self.positions = positions
        self.ledger_owner = ledger_owner
        self.tally = tally
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._superuser = psycopg.connect(superuser, autocommit=True)
        self._superuser.execute("SET session_replication_role = replica")
        with psycopg.connect(ledger_owner) as connection:
            install_views(connection, SCRATCH)
        self.service = self.run(connect(service))
        self.owner = self.run(connect(ledger_owner))

    def close(self) -> None:
        """Close the connections."""
        self.run(self.service.close())
        self.run(self.owner.close())
        self._superuser.close()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Run to the end."""
        return self._loop.run_until_complete(coroutine)

    def new_id(self) -> UUID:
        """Answer an id that no history had: the evaluator keeps a subject's rules by its id and their position."""
        return UUID(int=next(self._ids))

    def set_clock(self, now: datetime) -> None:
        """Stop the clock at an instant."""
        self._superuser.execute("UPDATE ledger.test_clock SET stopped_at = %s", (now,))

    def empty(self) -> None:
        """Take every event and row away."""
        tables = self._superuser.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('views', %s)"
            " UNION ALL SELECT 'ledger', t FROM unnest(ARRAY['events', 'streams', 'commands', 'batches']) AS t",
            (SCRATCH,),
        ).fetchall()
        names = sql.SQL(", ").join(sql.Identifier(schema, table) for schema, table in tables)
        self._superuser.execute(sql.SQL("TRUNCATE {}").format(names))


@contextmanager
def ledger_for_histories(
    superuser: str, ledger_owner: str, service: str, *, positions: int, tally: Tally | None = None
) -> Iterator[Ledger]:
    """Give a ledger to machines; the database is installed."""
    put_clock(ledger_owner)
    with closing(Ledger(superuser, ledger_owner, service, positions=positions, tally=tally or Tally())) as ledger:
        yield ledger


@dataclass(frozen=True)
class Live:
    """What was answered when `position` was the head."""

    position: int
    asked: Asked
    decision: Decision

    @property
    def token_id(self) -> UUID:
        """Of the token that was asked about."""
        return self.asked.token_id


class Histories(RuleBasedStateMachine):
    """One history, and what must hold of it."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.past = Past()
        self.log: list[Recorded] = []
        self.recorded_at: dict[int, datetime] = {0: NOON}
        self.now = NOON
        self.answered: list[Live] = []
        self.replayed = False
        self.choices = Random(0)
        self.worker = Worker(ledger.service)
        ledger.empty()
        ledger.set_clock(self.now)

    # ------------------------------------------------------------------------------------------------------- what happens

    @initialize(choices=CHOICES)
    def begins(self, choices: int) -> None:
        self.goes_on(choices)
        keys = [deeds.new_key(self.ledger.new_id(), use, self.now) for use in ("sig", "enc")]
        opened = genesis.genesis(
            self.now,
            log_id=self.ledger.new_id(),
            keys=keys,
            administrator_id=self.ledger.new_id(),
            administrator_name_id=self.ledger.new_id(),
            sealed_profile=b"profile",
            sealed_password=b"password",
        )
        streams = list(dict.fromkeys(event.stream for event in opened))
        self.perform(Deed(Keys(other_streams=streams), lambda state, now: opened))
        for deed in deeds.first_deeds(self.ledger.new_id, *(key.key_id for key in keys)):
            self.perform(deed)

    @rule(choices=CHOICES)
    def something_is_done(self, choices: int) -> None:
        self.goes_on(choices)
        self.perform(self.made())

    @rule(choices=CHOICES)
    def several_things_are_done_at_once(self, choices: int) -> None:
        """Each is decided without the others, and all are in one append."""
        self.goes_on(choices)
        self.perform(*(self.made() for _ in range(self.choices.randint(2, 4))))

    @rule(choices=CHOICES)
    def time_passes(self, choices: int) -> None:
        """A second, until a rotation is no retry any more, until a key is known to verifiers; or until something ends, or to
        just before. Something is done then."""
        self.goes_on(choices)
        ends = [end for end in self.ends() if end > self.now][:1]
        instants = [self.now + by for by in PASSING] + [instant for end in ends for instant in (end, end - TICK)]
        self.now = max(self.now, self.choices.choice(instants))
        self.ledger.set_clock(self.now)
        self.ask_live()
        self.perform(self.made())

    @precondition(lambda self: not self.replayed)
    @rule()
    def views_are_rebuilt(self) -> None:
        """Replay puts views in the place of the live ones that say the same; on go the appends."""
        report = replay(self.ledger.ledger_owner)
        assert not report.differences
        self.replayed = True
        self.ledger.tally.replays += 1
        self.ask_live()

    def goes_on(self, choices: int) -> None:
        """Let what was drawn, and all that was drawn before, say what is chosen from here: no two histories are alike."""
        self.choices = Random(f"{self.choices.random()} {choices}")

    def made(self) -> Deed:
        """Make a deed, perhaps by somebody with a token, and because of an event."""
        choose = self.choices
        deed = choose.choice(deeds.DEEDS)(Scene(self.past, self.now, self.ledger.new_id, choose))
        by = choose.choice([None, *self.past.tokens.values()])
        actor = deed.actor if by is None else Actor("subject", by.subject_id, f"token {by.token_id}")
        return replace(deed, actor=actor, causation=choose.choice([None, choose.randint(1, self.past.position)]))

    def ends(self) -> list[datetime]:
        """Answer the instants from which something is otherwise, without an event."""
        past = self.past
        paused = (past.token_states, past.families, past.subjects, past.clients, past.apis)
        ends = {row.status_until for rows in paused for row in cast("Mapping[UUID, Any]", rows).values()}
        ends |= {family.idle_expires_at for family in past.families.values()}
        return sorted({end for end in ends if end is not None} | {token.expires_at for token in past.tokens.values()})

    def perform(self, *waiting: Deed) -> None:
        """Read and decide each, append all in one batch; what was a conflict in it is decided again."""
        self.ledger.run(self._perform(waiting))
        self.ask_live()

    async def _perform(self, waiting: Sequence[Deed]) -> None:
        while waiting:
            decided: list[tuple[Deed, Command]] = []
            for deed in waiting:
                reading = await read_state(pool_of(self.ledger.service), deed.keys)
                assert reading.instant == self.now
                assert reading.position == self.past.position
                try:
                    events = deed.decide(reading.state, reading.instant)
                except LedgerError:
                    self.ledger.tally.refused += 1
                    continue
                if events:
                    by = envelope(actor=deed.actor, causation=deed.causation)
                    decided.append((deed, Command(by, reading.versions, events)))
            if not decided:
                return
            outcomes = await append(self.ledger.service, [command for _, command in decided])
            assert outcomes[0].outcome == "recorded"
            for (deed, command), outcome in zip(decided, outcomes, strict=True):
                if outcome.outcome == "recorded":
                    assert outcome.first_position == self.past.position + 1
                    for position, event in enumerate(command.events, self.past.position + 1):
                        self.log.append(Recorded(position, event, deed.actor, deed.causation))
                        self.past.take(self.log[-1])
                        self.recorded_at[position] = self.now
            waiting = [deed for (deed, _), outcome in zip(decided, outcomes, strict=True) if outcome.outcome == "conflict"]

    # ------------------------------------------------------------------------------------------------------ what must hold

    def ask_live(self) -> None:
        """Ask about every token, as a worker does that has been there from the start, and keep what was answered."""
        asked = self.questions_about([*self.past.tokens, NO_TOKEN], self.past, self.now)
        decisions = self.ledger.run(self._ask(asked, self.worker, None, self.past))
        self.answered += [Live(self.past.position, *answer) for answer in zip(asked, decisions, strict=True)]
        self.ledger.tally.live += len(asked)
        tokens = "SELECT token_id FROM views.current_tokens"
        permissions = "SELECT subject_id, api_id, role_id, effect, path, position FROM views.current_permissions"
        assert {row[0] for row in self.ledger.run(_rows(self.ledger.service, tokens))} == self.past.current_tokens(self.now)
        assert set(self.ledger.run(_rows(self.ledger.service, permissions))) == self.past.current_permissions()

    def questions_about(self, token_ids: Sequence[UUID], past: Past, now: datetime) -> list[Asked]:
        """Answer questions about each of these tokens, of those that are there several."""
        asked: list[Asked] = []
        choose = self.choices.choice
        for token_id in token_ids:
            token = past.tokens.get(token_id)
            own = [LEDGER_API] if token is None else token.api_ids
            for api_ids in [own] if token is None or token.kind == "refresh" else [own, own, [LEDGER_API, *past.apis]]:
                secret_matches = choose([True] * 19 + [False])
                asked.append(Asked(token_id, choose(api_ids), choose(METHODS), choose(list(TARGETS)), secret_matches, now))
        return asked

    async def _ask(self, asked: Sequence[Asked], at: "Reader", position: int | None, past: Past) -> list[Decision]:
        """Ask what the service asks, now (`position` None) or as of a position, and compare each answer with the model's."""
        now = asked[0].instant
        token_ids = list(dict.fromkeys(question.token_id for question in asked))
        instant = None if position is None else now
        found = await look_up(at.connection.cursor(), token_ids, position=position, instant=instant)
        of_token = dict(zip(token_ids, found, strict=True))
        decisions: list[Decision] = []
        for question in asked:
            one = of_token[question.token_id]
            assert (one.position, one.instant) == (past.position, question.instant)
            reference = await at.reference(one, question.api_id)
            decision = _decided(question, one, reference)
            worth = past.worth(question)
            said = decision.reason, decision.rule, decision.evidence.get("rule"), decision.missing
            assert said == (worth.reason, worth.rule, worth.rule_position, worth.missing), f"as of {past.position}: {question}"
            assert decision.allowed == (worth.reason == "allowed")
            if one.token is not None:
                standing = standing_of(one.token, reference, now)
                stands = past.standing(past.tokens[question.token_id], now)
                assert (standing.state, standing.reason, standing.api_ids) == stands, f"as of {past.position}: {question}"
            decisions.append(decision)
        return decisions

    def teardown(self) -> None:
        note("the log: " + ", ".join(f"{recorded.position} {recorded.event.TYPE}" for recorded in self.log))
        if sys.exc_info()[0] is not None or not self.log:
            return  # what went wrong was in a step
        self.ledger.run(self._look_back())
        self.ledger.tally.histories += 1
        self.ledger.tally.events += len(self.log)

    async def _look_back(self) -> None:
        live = await stored_in(self.ledger.service, "views")
        assert live == expected(self.log)
        head = self.past.position
        sampled = {0, head, *self.choices.sample(range(1, head + 1), min(self.ledger.positions, head))}
        async with scratch_views(self.ledger.owner) as scratch:
            await self._look_back_to(sampled)
            # The same log once more: all at once, in random pieces, and each group of views in pieces of its own.
            for pieces, groups in ((1, [GROUPS]), (12, [GROUPS]), (12, [[group] for group in GROUPS])):
                await scratch.execute("ROLLBACK TO SAVEPOINT empty")
                for together in groups:
                    most = min(self.choices.randint(1, pieces), head)
                    cuts = sorted({head, *self.choices.sample(range(1, head), most - 1)})
                    for first, last in zip([1, *(cut + 1 for cut in cuts)], cuts, strict=False):
                        await scratch.execute("SELECT fold(%s, %s, %s)", (first, last, list(together)))
                    self.ledger.tally.cuts += len(cuts)
                assert await stored_in(scratch, "views") == live, f"folded {groups} in pieces, the last that end at {cuts}"

    async def _look_back_to(self, sampled: set[int]) -> None:
        """Fold the log one event at a time; at the sampled positions compare, and ask as of them."""
        answered: dict[int, list[Live]] = {}
        for answer in self.answered:
            answered.setdefault(answer.position, []).append(answer)
        ends = self.ends()
        past, before, states = Past(), 0, dict[tuple[str, UUID], tuple[int, object]]()
        for recorded in [None, *self.log]:
            if recorded is not None:
                past.take(recorded)
                await self.ledger.owner.execute("SELECT fold(%s, %s)", (past.position, past.position))
                self.ledger.tally.cuts += 1
            position = past.position
            if position not in sampled:
                continue
            rows = await stored_in(self.ledger.owner, "views")
            assert rows == expected(self.log[:position]), f"folded one by one up to {position}"
            await self._find_moments(position)
            # What was answered live, at its instant; and what was not asked then, at an instant where something ends.
            again: dict[datetime, list[Live | Asked]] = {}
            for answer in answered.get(position, []):
                again.setdefault(answer.asked.instant, []).append(answer)
            instant = self.choices.choice([self.recorded_at[position], *ends, *(end - TICK for end in ends)])
            again.setdefault(instant, []).extend(self.questions_about([*self.past.tokens, NO_TOKEN], past, instant))
            # What left the views since with an archive is not there to be asked about.
            gone = past.tokens.keys() - self.past.tokens.keys()
            if past.log_id != NOT_OPENED and not gone:
                await self._compare_listings(Moment(position, instant, past.log_id), past)
                await self._compare_changes(before, states, past)
            before, states = position, past.states()
            for asked in again.values():
                await self._compare(position, [a for a in asked if a.token_id not in gone], past)

    async def _find_moments(self, position: int) -> None:
        """Find a position by itself, and by the time it was recorded: then it is the last one that was recorded by then."""
        at = self.recorded_at[position]
        for as_of, found in (
            (AsOf(position), position),
            (AsOf(at), max(p for p, recorded_at in self.recorded_at.items() if recorded_at <= at)),
            (AsOf(at - TICK), max(p for p, recorded_at in self.recorded_at.items() if recorded_at < at or p == 0)),
        ):
            try:
                moment = await read_moment(self.ledger.service, as_of)
            except InvalidInput:
                assert found == 0
                continue
            instant = as_of.at if isinstance(as_of.at, datetime) else at
            assert (moment.position, moment.instant, found > 0) == (found, instant, True)

    async def _compare_listings(self, moment: Moment, past: Past) -> None:
        """List the tokens as of a moment: the whole log, and views that go no further. Each is worth what the model says."""
        standings = {token_id: past.standing(token, moment.instant) for token_id, token in past.tokens.items()}
        for connection in (self.ledger.service, self.ledger.owner):
            pool = pool_of(connection)
            page = await list_tokens(pool, ReferenceKeeper(pool), TokenFilters(), limit=len(standings) + 1, moment=moment)
            listed = {
                one.token.token_id: (one.standing.state, one.standing.reason, one.standing.api_ids) for one in page.tokens
            }
            assert (page.next, listed) == (None, standings), f"listed as of {moment}"

    async def _compare_changes(self, before: int, states: dict[tuple[str, UUID], tuple[int, object]], past: Past) -> None:
        """List what is in another state than it was at a position before; nothing had left the views."""
        found: list[tuple[int, str, UUID, int | None]] = []
        cursor: int | None = None
        while True:
            page = await read_changes(self.ledger.service, before, past.position, kind=None, cursor=cursor, limit=7)
            found += [(change.position, change.kind, change.id, change.before) for change in page.changes]
            cursor = page.next
            if cursor is None:
                break
        nothing: tuple[int | None, object] = (None, None)
        changed = [
            (position, *key, states.get(key, nothing)[0])
            for key, (position, state) in past.states().items()
            if state != states.get(key, nothing)[1]
        ]
        assert found == sorted(changed, key=lambda change: change[:3]), f"changed from {before} to {past.position}"

    async def _compare(self, position: int, again: Sequence[Live | Asked], past: Past) -> None:
        """Ask as of a position: the whole log, and views that go no further. Both answer alike, and as was answered live."""
        asked = [question.asked if isinstance(question, Live) else question for question in again]
        of_log = await self._ask(asked, Then(self.ledger.service), position, past)
        of_prefix = await self._ask(asked, Worker(self.ledger.owner), position, past)
        assert of_log == of_prefix, f"as of {position}"
        for question, decision in zip(again, of_log, strict=True):
            assert not isinstance(question, Live) or question.decision == decision, f"live and as of {position}"
        self.ledger.tally.as_of += len(asked)


class Reader(Protocol):
    """Reads what decisions are made on, over a connection."""

    connection: AsyncConnection[TupleRow]

    async def reference(self, found: Found, api_id: UUID) -> Reference:
        """Answer the reference data for a token that was found, and an API."""


class Worker:
    """Reads as a worker does: it keeps reference data, and takes what has changed."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self.connection = connection
        self._keeper = ReferenceKeeper(pool_of(connection))

    async def reference(self, found: Found, api_id: UUID) -> Reference:
        """Answer all there is."""
        kept = await self._keeper.at(found.reference_position)
        assert kept is not None
        return kept


class Then:
    """Reads as is read as of the past: for each question what it needs of then."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self.connection = connection

    async def reference(self, found: Found, api_id: UUID) -> Reference:
        """Answer what the question needs."""
        return await read_reference_of(self.connection, found.position, found.token, api_id)


def run_histories(ledger: Ledger, histories: int, *, at_random: int | None = None) -> None:
    """Run so many histories, the same ones each time or those of a seed; raises what the first that does not hold raised."""
    # Not made smaller: it takes minutes, and a history that is found by its seed is found again.
    how = settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        derandomize=at_random is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    def machine() -> Histories:
        return Histories(ledger)

    machines = machine if at_random is None else seed(at_random)(machine)
    run_state_machine_as_test(cast("type[Histories]", machines), settings=how)


def _decided(asked: Asked, found: Found, reference: Reference) -> Decision:
    # What is the subject's own stands for its id in the model's paths.
    own = "own" if found.token is None else str(found.token.subject_id)
    target = asked.target.replace("/own", f"/{own}")
    secret_matches = asked.secret_matches
    question = Question(asked.api_id, asked.method, target, secret_matches, found.instant, found.position)
    return decide(question, found.token, reference)


async def _rows(connection: AsyncConnection[TupleRow], statement: Any) -> list[TupleRow]:
    return await (await connection.execute(statement)).fetchall()


@asynccontextmanager
async def scratch_views(owner: AsyncConnection[TupleRow]) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """Let `views` mean empty ones, in a transaction that is rolled back: what reads the live ones reads these."""
    await owner.execute("BEGIN")
    try:
        for statement in IN_THEIR_PLACE:
            await owner.execute(statement)
        yield owner
    finally:
        await owner.execute("ROLLBACK")
