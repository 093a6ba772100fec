"""What one worker works with: made once, connected at its start (after the fork), and handed to every resource."""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from api.counting import RequestCounts
from api.event_answers import event_text
from ledger.appender import Appender
from ledger.database import make_pool, service_conninfo
from ledger.errors import LedgerError
from ledger.execute import Pool
from ledger.passwords import Passwords
from ledger.sealing import MasterKey
from ledger.settings import Settings
from projections.archived import refuse_archived_token
from projections.feed import Feed
from projections.keyring import Keyring, renew_keys
from projections.lookup import Found, Lookup, LookupFailed, look_up
from projections.moments import AsOf, Moment, read_moment
from projections.reference import Kept, ReferenceKeeper, read_reference_of
from projections.retry_keys import RetryKeys
from projections.state_reader import StateReader
from projections.throttles import trim_throttles
from projections.used_assertions import forget_assertions

logger = logging.getLogger(__name__)

STATEMENT_TIMEOUT_SECONDS: Final = 5.0
APPEND_TIMEOUT_SECONDS: Final = 30.0
HOUSEKEEPING_SECONDS: Final = 15.0
# No token has it: looking it up answers where the log is, and nothing else.
NOBODY: Final = UUID(int=0)
ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Service:
    """The worker's parts. Each is documented where it is made."""

    settings: Settings
    master: MasterKey
    pool: Pool
    appender: Appender
    feed: Feed
    lookup: Lookup
    states: StateReader
    reference: ReferenceKeeper
    keyring: Keyring
    retry_keys: RetryKeys
    passwords: Passwords
    requests: RequestCounts

    async def start(self) -> None:
        """Begin, with reference data and keys at hand before the first request.

        A database that is away fails requests, not the worker: of one that does not start gunicorn says that none would,
        and ends the server.
        """
        await self.pool.open()
        await self.feed.start()
        await self.appender.start()
        await self.lookup.start()
        try:
            await self.find(NOBODY)
        except (psycopg.Error, LedgerError) as error:
            logger.warning("the worker begins without the database: %s", type(error).__name__)

    async def stop(self) -> None:
        """Finish what is waiting, then close."""
        await self.feed.stop()
        await self.lookup.stop()
        await self.appender.stop()
        await self.pool.close()
        self.passwords.close()

    async def find(self, token_id: UUID) -> tuple[Found, Kept]:
        """Answer what stands about a token and the reference data of that very position, until the caller next awaits."""
        for _ in range(ATTEMPTS):
            found = await self.lookup.find(token_id)
            kept = await self.reference.at(found.reference_position)
            if kept is None:
                continue  # the worker has seen a newer change meanwhile: what was found is past
            if self.keyring.knows(kept):
                return found, kept
            await self.keyring.load(kept)
        raise LookupFailed("reference data kept changing")

    async def find_as_of(self, token_id: UUID, moment: Moment, api_id: UUID) -> tuple[Found, Kept]:
        """Answer what stood about a token at a moment of the past, and what a decision about this API needs of then.

        IsArchived for a token that may have been there then, and has left since.
        """
        async with self.pool.connection() as connection:
            (found,) = await look_up(connection.cursor(), [token_id], position=moment.position, instant=moment.instant)
            if found.token is None and token_id != NOBODY:
                await refuse_archived_token(connection, token_id, moment.position)
            return found, await read_reference_of(connection, moment.position, found.token, api_id)

    async def moment(self, as_of: AsOf | None) -> Moment:
        """Answer which moment is meant: of the past, or None for now. InvalidInput."""
        if as_of is None:
            found, _ = await self.find(NOBODY)
            assert found.log_id is not None  # nobody asks before the log begins
            return Moment(found.position, found.instant, found.log_id)
        async with self.pool.connection() as connection:
            return await read_moment(connection, as_of)

    def longest_access_lifetime(self, kept: Kept) -> timedelta:
        """Answer how long an access token lives at most; of a client registered under a higher ceiling, that counts."""
        ceilings = self.settings.max_access_lifetime_seconds, self.settings.max_named_token_lifetime_seconds
        return timedelta(seconds=max(*ceilings, *(client.access_lifetime_seconds for client in kept.clients.values())))

    async def keep_house(self) -> None:
        """Every few seconds, for ever: partitions ahead of the head, keys that are due, what is past."""
        while True:
            try:
                async with self.pool.connection() as connection:
                    await connection.execute("SELECT ledger.make_partitions()")
                await self.retry_keys.forget_past()
                await trim_throttles(self.pool)
                await forget_assertions(self.pool)
                found, kept = await self.find(NOBODY)
                keys, lifetime = list(kept.keys.values()), timedelta(days=self.settings.signing_key_days)
                await renew_keys(self.pool, self.appender, self.master, keys, found.instant, lifetime)
            except Exception as error:
                # Whatever it is: a worker that keeps house no more would be noticed when the partitions are full.
                logger.warning("housekeeping failed, and is tried again: %s", type(error).__name__)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)


async def _end_on_another_log(reference: ReferenceKeeper, connection: AsyncConnection[TupleRow]) -> None:
    """End this worker, for another one to begin anew, where its database is not what it was. LookupFailed.

    What a worker keeps of a log that was restored to an earlier point is wrong, and not reference data alone. A restore ends
    every connection, so that it is enough to look when one is made: before anything is answered, and at no cost later.
    """
    if not await reference.is_of(connection):
        logger.error("the database was restored to an earlier point, or is another one: this worker ends, another begins")
        os.kill(os.getpid(), signal.SIGTERM)
        raise LookupFailed("the database is not what it was")


def make_service(settings: Settings, master: MasterKey, conninfo: str, requests: RequestCounts | None = None) -> Service:
    """Make the parts of a worker over `conninfo` (as ledger_service), not yet connected. `requests`: shared with the others."""
    ordinary = service_conninfo(conninfo, statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS, application_name="token-ledger")
    patient = service_conninfo(
        conninfo, statement_timeout_seconds=APPEND_TIMEOUT_SECONDS, application_name="token-ledger append"
    )
    pool = make_pool(ordinary, max_size=settings.pool_size, wait_seconds=STATEMENT_TIMEOUT_SECONDS)
    reference = ReferenceKeeper(pool)
    feed = Feed(
        service_conninfo(conninfo, statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS, application_name="token-ledger feed"),
        event_text,
        max_subscribers=settings.feed_subscribers,
        wait_seconds=STATEMENT_TIMEOUT_SECONDS,
    )
    return Service(
        settings=settings,
        master=master,
        pool=pool,
        appender=Appender(patient, on_recorded=feed.recorded),
        feed=feed,
        lookup=Lookup(ordinary, on_connected=lambda connection: _end_on_another_log(reference, connection)),
        states=StateReader(pool),
        reference=reference,
        keyring=Keyring(pool, master, settings.issuer_url()),
        retry_keys=RetryKeys(pool, master),
        passwords=Passwords(
            memory_kib=settings.password_memory_kib,
            passes=settings.password_passes,
            lanes=settings.password_lanes,
            at_once=settings.password_hashes_at_once,
            waiting=settings.password_hashes_waiting,
        ),
        requests=requests or RequestCounts(),
    )
