"""The first start: install the log, and write its first command — the ledger's own API, its roles, its keys, its first
administrator. Every later start finds it done."""

import asyncio
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psycopg

from ledger.database import connect, make_pool, service_conninfo
from ledger.decisions import SEMANTICS
from ledger.errors import LedgerError, Problem
from ledger.events import ADMINISTRATORS
from ledger.genesis import genesis
from ledger.identifiers import uuid7
from ledger.log import Actor, Command, Envelope, append
from ledger.passwords import Passwords
from ledger.sealing import MasterKey, SubjectKey
from ledger.settings import Settings, UnsafeSettings
from ledger.user_names import user_name_id
from projections.install import install, is_installed, writes_past_the_append
from projections.keyring import ENCRYPTION_ALGORITHM, SIGNING_ALGORITHM, make_key, new_key_id
from projections.sealed_keys import store_sealed_key

ADMINISTRATOR_NAME: Final = "admin"


class NotInstalled(LedgerError):
    """The database holds no ledger yet: `token-ledger init` makes one."""

    code = "not_installed"
    cure = "Run `token-ledger init`."


@dataclass(frozen=True, slots=True, repr=False)
class FirstAdministrator:
    """The one administrator of a new ledger; the password is shown once and kept nowhere."""

    username: str
    password: str


def prepare(owner_conninfo: str, settings: Settings, master: MasterKey) -> FirstAdministrator | None:
    """Install what is missing, as the owner of the database; answer the first administrator when he was made just now."""
    with psycopg.connect(owner_conninfo) as connection:
        install(connection)
    return asyncio.run(_open_log(owner_conninfo, settings, master))


def check_installed(conninfo: str) -> None:
    """NotInstalled unless the log is there and open."""
    with psycopg.connect(conninfo) as connection:
        if not is_installed(connection) or connection.execute("SELECT FROM ledger.batches LIMIT 1").fetchone() is None:
            raise NotInstalled("the database holds no ledger: run `token-ledger init` first")


def check_service_role(conninfo: str) -> None:
    """UnsafeSettings for a role that could forge the log."""
    with psycopg.connect(conninfo) as connection:
        if writes_past_the_append(connection):
            rule = "as ledger_service, not as a role that may write the log itself"
            raise UnsafeSettings([Problem("TOKEN_LEDGER_DATABASE_URL", rule)])


async def _open_log(conninfo: str, settings: Settings, master: MasterKey) -> FirstAdministrator | None:
    conninfo = service_conninfo(conninfo, statement_timeout_seconds=60, application_name="token-ledger init")
    pool = make_pool(conninfo, max_size=1, wait_seconds=30)
    connection = await connect(conninfo)
    try:
        if await (await connection.execute("SELECT FROM ledger.batches LIMIT 1")).fetchone() is not None:
            return None
        await pool.open()
        now = datetime.now(UTC)
        administrator = FirstAdministrator(ADMINISTRATOR_NAME, secrets.token_urlsafe(18))
        subject_id = uuid7(now)
        key = SubjectKey.new()
        await store_sealed_key(pool, subject_id, "subject", key.sealed(master, subject_id))
        passwords = Passwords(
            memory_kib=settings.password_memory_kib,
            passes=settings.password_passes,
            lanes=settings.password_lanes,
            at_once=1,
            waiting=0,
        )
        encoded = passwords.hash_now(administrator.password)
        passwords.close()
        events = genesis(
            now,
            log_id=uuid7(now),
            keys=[
                await make_key(pool, master, new_key_id(), algorithm, now)
                for algorithm in (SIGNING_ALGORITHM, ENCRYPTION_ALGORITHM)
            ],
            administrator_id=subject_id,
            administrator_name_id=user_name_id(master, ADMINISTRATOR_NAME),
            sealed_profile=key.seal(json.dumps({"username": ADMINISTRATOR_NAME}).encode(), "profile"),
            sealed_password=key.seal(encoded.encode(), "password"),
        )
        request_id = uuid7(now)
        envelope = Envelope(uuid7(now), request_id, request_id, Actor.SYSTEM, SEMANTICS)
        # ADMINISTRATORS is the same stream in every log: of two that start at once, one opens the log.
        reads = dict.fromkeys((event.stream for event in events), 0)
        assert ADMINISTRATORS in reads
        (outcome,) = await append(connection, [Command(envelope, reads, events)])
        return administrator if outcome.outcome == "recorded" else None
    finally:
        await connection.close()
        await pool.close()
