"""Connections to PostgreSQL: how they are set, and nothing about what is asked over them."""

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

# Plans are made once and kept (a custom plan costs more than the query it is for), and made on an empty store they must
# stay right: every hot query is a probe of an index, so a sequential scan is never the answer (design measurement: 0.3 to
# 4.2 ms a decision by 28,800 events without it).
SERVICE_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
}


def service_conninfo(conninfo: str, *, statement_timeout_seconds: float, application_name: str) -> str:
    """Answer `conninfo` with the settings every connection of the service runs under."""
    settings = SERVICE_SETTINGS | {"statement_timeout": str(int(statement_timeout_seconds * 1000))}
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    return make_conninfo(conninfo, options=options, application_name=application_name, connect_timeout=5)


async def connect(conninfo: str) -> AsyncConnection[TupleRow]:
    """Open one autocommit connection that prepares every statement at its first use."""
    connection = await AsyncConnection.connect(conninfo, autocommit=True)
    await _prepare_at_once(connection)
    return connection


def is_closed(connection: AsyncConnection[TupleRow]) -> bool:
    """Say whether the server has closed an idle connection. Nothing is sent: what has arrived is read."""
    try:
        connection.pgconn.consume_input()  # the server's last words,
        connection.pgconn.consume_input()  # and the end
    except psycopg.OperationalError:
        return True
    return False


async def _prepare_at_once(connection: AsyncConnection[TupleRow]) -> None:
    connection.prepare_threshold = 0


def make_pool(
    conninfo: str, *, min_size: int = 1, max_size: int, wait_seconds: float
) -> AsyncConnectionPool[AsyncConnection[TupleRow]]:
    """Make a pool, not yet open, of autocommit connections; psycopg_pool.PoolTimeout after `wait_seconds` without one.

    Its attempts to connect lie ever further apart, up to minutes, until it gives up and begins anew with the next request:
    it gives up soon, so that a database that is back is found within seconds.
    """

    async def check(connection: AsyncConnection[TupleRow]) -> None:
        if is_closed(connection):
            # The others were most likely closed with it; found one by one each would make the caller wait twice as long.
            await pool.drain()
            raise psycopg.OperationalError("the server has closed the connection")

    pool: AsyncConnectionPool[AsyncConnection[TupleRow]] = AsyncConnectionPool(
        conninfo,
        kwargs={"autocommit": True},
        configure=_prepare_at_once,
        check=check,
        min_size=min_size,
        max_size=max_size,
        timeout=wait_seconds,
        reconnect_timeout=wait_seconds,
        max_waiting=100,
        open=False,
    )
    return pool
