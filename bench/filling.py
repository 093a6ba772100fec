"""Many tokens, soon: issued and revoked by `ledger.append` itself, under ids and secrets that follow from a token's number.

The arrays of a batch are made in the server from one real issue, so that no client is what is waited for. Any token's string
can be made from its number, so that millions can be asked about and none need be remembered.
"""

import asyncio
import dataclasses
import hashlib
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg

from bench.ledger import Known, Standing
from ledger.database import connect
from ledger.decisions import SEMANTICS
from ledger.events import NameTaken, SubjectRegistered, SubjectRolesGranted
from ledger.log import Actor, Command, Envelope, append
from ledger.token_strings import new_secret, write
from tests.builders import subject

# Beyond some hundreds a batch is no faster: the flush is a small part by then, and the append compares ids within it.
BATCH: Final = 250
AT_ONCE: Final = 2
TOKENS_A_SUBJECT: Final = 100
OF_A_HUNDRED: Final = 5  # revoked; as many expired: filling.sql has the same
AN_ISSUE: Final = """
SELECT e.payload, e.metadata, e.recorded_at FROM ledger.events e WHERE e.type = 'token_issued' ORDER BY e.position DESC LIMIT 1
"""
SCRIPT: Final = Path(__file__).with_name("filling.sql")
CHUNK: Final = 20 * BATCH  # tokens after which those of them that are to be revoked are


@dataclass(frozen=True, slots=True)
class Filled:
    """A population of tokens, numbered from 0."""

    tokens: int
    began_ms: int

    def known(self, number: int) -> Known:
        """Answer the token of this number."""
        secret = hashlib.sha256(f"secret{number}".encode()).digest()
        standing: Standing = "good"
        if number % 100 < OF_A_HUNDRED:
            standing = "revoked"
        elif number % 100 < 2 * OF_A_HUNDRED:
            standing = "expired"
        return Known(write("access", _id("token", number, self.began_ms), secret), standing)

    def some(self, count: int, *, of_first: int | None = None) -> list[Known]:
        """Answer distinct tokens from all over the population, in any order, and 5 of 100 that never were."""
        chance = random.Random(0)
        unknown = max(1, count * OF_A_HUNDRED // 100)
        known = [self.known(number) for number in chance.sample(range(of_first or self.tokens), count - unknown)]
        known += [Known(write("access", uuid4(), new_secret()), "unknown") for _ in range(unknown)]
        chance.shuffle(known)
        return known


def begin(owner: str, tokens: int, role_id: UUID) -> Filled:
    """Register the people of so many tokens, with this role; the tokens will be like the last one that was issued.

    `owner` is the conninfo of the superuser.
    """
    subjects = max(1, tokens // TOKENS_A_SUBJECT)
    with psycopg.connect(owner, autocommit=True) as connection:
        row = connection.execute(AN_ISSUE).fetchone()
        assert row is not None
        payload, metadata, recorded_at = row
        # Long ago enough that those which are to be expired are.
        began_ms = int((recorded_at - timedelta(days=30)).timestamp() * 1000)
        connection.execute(SCRIPT.read_bytes())
        connection.execute(
            "INSERT INTO bench_filling (issued, revoked, metadata, began_ms, subjects) VALUES (%s, %s, %s, %s, %s)",
            (_issued(payload), _revoked(payload), json.dumps(metadata | {"command_id": "%s"}), began_ms, subjects),
        )
    asyncio.run(_register(owner, subjects, began_ms, role_id))
    return Filled(tokens, began_ms)


def issue(owner: str, first: int, until: int, tell: Callable[[int], None]) -> None:
    """Issue the tokens of these numbers; `tell` is told how many there are.

    Two connections: one makes a batch up while the other has the turn.
    """
    chunks = [(start, min(start + CHUNK, until)) for start in range(first, until, CHUNK)]
    done = 0

    def take(share: list[tuple[int, int]]) -> None:
        nonlocal done
        with psycopg.connect(owner, autocommit=True) as connection:
            for first, until in share:
                connection.execute("SELECT ledger.make_partitions()")
                for start in range(first, until, BATCH):
                    batch = (start, min(start + BATCH, until))
                    assert _count(connection, "SELECT bench_issue(%s, %s)", *batch) == batch[1] - start
                _count(connection, "SELECT bench_revoke(%s, %s)", first, until)
                done += until - first
                tell(done)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(take, [chunks[number::AT_ONCE] for number in range(AT_ONCE)]))


def _count(connection: psycopg.Connection[Any], statement: Any, first: int, until: int) -> int:
    row = connection.execute(statement, (first, until)).fetchone()
    assert row is not None
    recorded: int = row[0]
    return recorded


async def _register(owner: str, subjects: int, began_ms: int, role_id: UUID) -> None:
    """Register the people, by commands as the service makes them."""
    async with await connect(owner) as connection:
        for first in range(0, subjects, BATCH):
            commands = []
            for number in range(first, min(first + BATCH, subjects)):
                row = subject(
                    subject_id=_id("subject", number, began_ms), name_id=_id("name", number, began_ms), role_ids=(role_id,)
                )
                assert row.name_id is not None
                events = (
                    NameTaken(name_id=row.name_id, kind="user", holder_id=row.subject_id),
                    SubjectRegistered(subject_id=row.subject_id, subject=dataclasses.replace(row, role_ids=())),
                    SubjectRolesGranted(subject_id=row.subject_id, subject=row, granted=(role_id,)),
                )
                command_id = _id("register", number, began_ms)
                envelope = Envelope(command_id, command_id, command_id, Actor.SYSTEM, SEMANTICS)
                commands.append(Command(envelope, {row.subject_id: 0, row.name_id: 0}, events))
            for outcome in await append(connection, commands):
                assert outcome.outcome == "recorded"


def _issued(payload: dict[str, Any]) -> str:
    """Answer the event of an issue with places for what differs."""
    whose = {"family_id": "%1$s", "subject_id": "%2$s"}
    token = (
        payload["tokens"][0] | whose | {"token_id": "%3$s", "secret_digest": "%4$s", "issued_at": "%5$s", "expires_at": "%6$s"}
    )
    family = payload["family"] | whose | {"access_token_id": "%3$s", "started_at": "%5$s", "expires_at": "%6$s"}
    return json.dumps(payload | whose | {"tokens": [token], "family": family})


def _revoked(payload: dict[str, Any]) -> str:
    """Answer the event of a revocation with places for what differs."""
    state = {"token_id": "%3$s", "status": "revoked", "status_reason": "requested", "status_until": None}
    whose = {"family_id": "%1$s", "subject_id": "%2$s", "client_id": payload["client_id"], "token_id": "%3$s"}
    return json.dumps(whose | {"token_state": state})


def _id(kind: str, number: int, began_ms: int) -> UUID:
    digits = hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()
    return UUID(f"{began_ms + number // 10:012x}7{digits[:3]}8{digits[3:18]}")
