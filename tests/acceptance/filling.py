"""Fills a log with the history of an ordinary service, by real appends: families that are issued, rotated, suspended and
revoked, people who are registered and given roles. So many a second that a million is a matter of minutes: no HTTP, no rule is
asked, hundreds of commands a batch.

Some tokens can be asked about afterwards: their strings are known, and everything that has a say in them is told as history.py
judges it.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypedDict
from uuid import UUID

from ledger.database import connect, service_conninfo
from ledger.decisions import SEMANTICS
from ledger.events import (
    Event,
    FamilyRevoked,
    NameTaken,
    SubjectProfileSet,
    SubjectRegistered,
    SubjectRolesGranted,
    TokenIssued,
    TokenReinstated,
    TokenRevoked,
    TokenRotated,
    TokenSuspended,
)
from ledger.identifiers import name_id, uuid7
from ledger.log import Actor, Command, Envelope, append
from ledger.states import Family, Subject, Token, TokenState
from ledger.token_strings import new_secret, secret_digest, write
from tests.acceptance.history import Change, Issued, Target, Verb
from tests.builders import subject

COMMANDS_A_BATCH: Final = 500
OPEN: Final = 20_000  # families that may still be rotated, suspended, revoked
SUBJECTS_KEPT: Final = 5_000
ONE_IN: Final = 200  # tokens without a family row whose strings are remembered
DAYS: Final = timedelta(days=30)
VERBS: Final[dict[str, Verb]] = {"suspended": "suspend", "active": "reinstate", "revoked": "revoke"}


@dataclass(frozen=True, slots=True)
class World:
    """To whom what is filled in belongs: registered beforehand."""

    client_id: UUID
    client: str
    api_id: UUID
    role_id: UUID


@dataclass(slots=True)
class Filled:
    """What can be asked about. Their subjects have one role, and it is the one of the world."""

    strings: dict[str, str] = field(default_factory=dict)
    issued: list[Issued] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


class _Whose(TypedDict):
    family_id: UUID
    subject_id: UUID
    client_id: UUID


@dataclass(slots=True)
class _Life:
    """A family, its token that is the newest, and how far its stream is."""

    row: Family | None
    newest: Token
    version: int = 1
    suspended: bool = False


def fill(conninfo: str, world: World, events: int, progress: Callable[[int, int], None], *, seed: int = 0) -> Filled:
    """Append about `events` events as the service of `conninfo`, over two connections: one waits, the other makes up.

    A second time it takes another seed: of one seed the user names are the same.
    """
    filled = Filled()
    done = 0

    def tell(recorded: int) -> None:
        nonlocal done
        done += recorded
        progress(done, events)

    async def both() -> None:
        fillers = [_Filler(world, 2 * seed + number, filled) for number in range(2)]
        await asyncio.gather(*(filler.fill(conninfo, events // len(fillers), tell) for filler in fillers))

    asyncio.run(both())
    return filled


class _Filler:
    """Writes one history; the same for one seed, but for ids and secrets."""

    def __init__(self, world: World, seed: int, filled: Filled) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._client = Actor("client", world.client_id, "client_secret_basic")
        self._subjects: list[tuple[Subject, int]] = []
        self._lives: list[_Life] = []
        self._secrets: dict[UUID, bytes] = {}
        self._now = datetime.now(UTC)
        self._filled = filled

    async def fill(self, conninfo: str, events: int, progress: Callable[[int], None]) -> None:
        """Append about `events` events as whoever `conninfo` connects; `progress` is told of each batch."""
        service = service_conninfo(conninfo, statement_timeout_seconds=60, application_name="token-ledger filling")
        done = 0
        async with await connect(service) as connection:
            while done < events:
                commands = self._batch(min(COMMANDS_A_BATCH, events - done))
                outcomes = await append(connection, commands)
                instant = time.monotonic()
                for command, outcome in zip(commands, outcomes, strict=True):
                    assert outcome.outcome == "recorded"
                    assert outcome.first_position is not None
                    for position, event in enumerate(command.events, start=outcome.first_position):
                        self._tell(event, position, instant)
                recorded = sum(len(command.events) for command in commands)
                done += recorded
                progress(recorded)

    # -------------------------------------------------------------------------------------------------- what happens

    def _batch(self, size: int) -> list[Command]:
        """Answer commands of which none reads what another writes."""
        self._now = datetime.now(UTC)
        if not self._subjects:
            return [self._register() for _ in range(size // 4)]
        goes_on = self._random.sample(range(len(self._lives)), min(len(self._lives), size * 6 // 10))
        commands = [self._go_on(index) for index in sorted(goes_on, reverse=True)]
        commands += [self._issue() for _ in range(size - len(commands))]
        # Last: none of those before reads who is registered here.
        return commands + [self._register() for _ in range(size // 40)]

    def _register(self) -> Command:
        row = subject(
            subject_id=uuid7(self._now), name_id=name_id("user", str(self._random.random())), role_ids=(self._world.role_id,)
        )
        assert row.name_id is not None
        granted = SubjectRolesGranted(subject_id=row.subject_id, subject=row, granted=(self._world.role_id,))
        before = dataclasses.replace(row, role_ids=())
        events = (
            NameTaken(name_id=row.name_id, kind="user", holder_id=row.subject_id),
            SubjectRegistered(subject_id=row.subject_id, subject=before),
            SubjectProfileSet(subject_id=row.subject_id, subject=before),
            granted,
        )
        if len(self._subjects) == SUBJECTS_KEPT:
            self._subjects[self._random.randrange(SUBJECTS_KEPT)] = (row, 3)
        else:
            self._subjects.append((row, 3))
        return self._command(events, {row.subject_id: 0, row.name_id: 0})

    def _issue(self) -> Command:
        owner, version = self._random.choice(self._subjects)
        whose: _Whose = {
            "family_id": uuid7(self._now),
            "subject_id": owner.subject_id,
            "client_id": self._world.client_id,
        }
        known = False
        if self._random.random() < 0.35:
            known = self._random.randrange(ONE_IN) == 0
            row: Family | None = None
            tokens: tuple[Token, ...] = (self._token(whose, "access", 0, known=known),)
        else:
            tokens, row = self._pair(whose, 0, None)
        # A token without refresh lives its minutes and is seldom heard of again.
        if row is not None or known or self._random.random() < 0.05:
            self._keep(_Life(row, tokens[0]))
        event = TokenIssued(**whose, tokens=tokens, family=row)
        return self._command((event,), {whose["family_id"]: 0, owner.subject_id: version})

    def _go_on(self, index: int) -> Command:
        """Rotate a family mostly; now and then stop a token or a family, which then is left alone."""
        life = self._lives[index]
        newest = life.newest
        whose: _Whose = {
            "family_id": newest.family_id,
            "subject_id": newest.subject_id,
            "client_id": newest.client_id,
        }
        reads = {newest.family_id: life.version}
        life.version += 1
        chance = self._random.random()
        event: Event
        if life.suspended:
            life.suspended = False
            state = TokenState(newest.token_id, "active", None, None)
            event = TokenReinstated(**whose, token_id=newest.token_id, token_state=state)
        elif life.row is not None and chance < 0.93:
            tokens, life.row = self._pair(whose, life.row.generation + 1, newest.token_id)
            life.newest = tokens[0]
            event = TokenRotated(**whose, tokens=tokens, family=life.row)
        elif chance < 0.97:
            life.suspended = True
            state = TokenState(newest.token_id, "suspended", "looked into", None)
            event = TokenSuspended(**whose, token_id=newest.token_id, token_state=state)
        else:
            if life.row is not None:
                row = dataclasses.replace(life.row, status="revoked", status_reason="requested")
                event = FamilyRevoked(**whose, family=row)
            else:
                state = TokenState(newest.token_id, "revoked", "requested", None)
                event = TokenRevoked(**whose, token_id=newest.token_id, token_state=state)
            self._lives[index] = self._lives[-1]
            self._lives.pop()
        return self._command((event,), reads)

    def _keep(self, life: _Life) -> None:
        if len(self._lives) < OPEN:
            self._lives.append(life)
        else:
            self._lives[self._random.randrange(OPEN)] = life

    def _pair(self, whose: _Whose, generation: int, before: UUID | None) -> tuple[tuple[Token, Token], Family]:
        refresh = self._token(whose, "refresh", generation, before=before)
        access = self._token(whose, "access", generation, before=before)
        row = Family(
            **whose,
            refresh="rotating",
            generation=generation,
            refresh_token_id=refresh.token_id,
            access_token_id=access.token_id,
            rotated_at=self._now if before else None,
            retry_epoch=None,
            sealed_rotated_by=None,
            started_at=self._now,
            expires_at=self._now + DAYS,
            idle_expires_at=None,
            status="active",
            status_reason=None,
            status_until=None,
        )
        return (refresh, access), row

    def _token(
        self,
        whose: _Whose,
        kind: Literal["access", "refresh"],
        generation: int,
        *,
        before: UUID | None = None,
        known: bool = False,
    ) -> Token:
        digest = self._random.randbytes(32)
        token_id = uuid7(self._now)
        if known:
            self._secrets[token_id] = new_secret()
            digest = secret_digest(self._secrets[token_id])
        return Token(
            **whose,
            token_id=token_id,
            generation=generation,
            kind=kind,
            strategy="opaque",
            api_ids=(self._world.api_id,),
            role_ids=None,
            direct=True,
            secret_digest=digest,
            key_ids=(),
            name=None,
            claims=None,
            issued_from=before,
            issued_at=self._now,
            expires_at=self._now + DAYS,
        )

    def _command(self, events: tuple[Event, ...], reads: dict[UUID, int]) -> Command:
        request_id = uuid7(self._now)
        return Command(Envelope(uuid7(self._now), request_id, request_id, self._client, SEMANTICS), reads, events)

    # ----------------------------------------------------------------------------------------------- what is known of it

    def _tell(self, event: Event, position: int, instant: float) -> None:
        match event:
            case TokenIssued(tokens=(only,)) if only.token_id in self._secrets:
                token_id = str(only.token_id)
                targets: tuple[Target, ...] = (
                    ("token", token_id),
                    ("family", str(only.family_id)),
                    ("subject", str(only.subject_id)),
                    ("client", self._world.client),
                )
                self._filled.strings[token_id] = write("access", only.token_id, self._secrets[only.token_id])
                self._filled.issued.append(Issued(token_id, position, instant, targets))
            case TokenSuspended() | TokenReinstated() | TokenRevoked() if event.token_id in self._secrets:
                verb = VERBS[event.token_state.status]
                self._filled.changes.append(Change(("token", str(event.token_id)), verb, instant, instant, position))
