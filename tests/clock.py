"""The ledger's one clock in the hands of tests: every process of a server sees it at once."""

from datetime import datetime, timedelta
from typing import Final

import psycopg

TEST_CLOCK: Final = """
CREATE TABLE ledger.test_clock (ahead interval NOT NULL, stopped_at timestamptz);
INSERT INTO ledger.test_clock (ahead) VALUES ('0');
GRANT SELECT ON ledger.test_clock TO ledger_service;
CREATE OR REPLACE FUNCTION ledger.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT coalesce(c.stopped_at, clock_timestamp() + c.ahead) FROM ledger.test_clock c';
"""


class Clock:
    """The clock of one database; `conninfo`: of its ledger_owner or superuser."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def advance(self, seconds: float) -> None:
        """Move the clock, running or stopped; a negative number moves it back."""
        self._execute(
            "UPDATE ledger.test_clock SET ahead = ahead + %(by)s, stopped_at = stopped_at + %(by)s", timedelta(seconds=seconds)
        )

    def set(self, instant: datetime) -> None:
        """Stop the clock at an instant; `advance` moves it from there."""
        self._execute("UPDATE ledger.test_clock SET stopped_at = %(by)s", instant)

    def _execute(self, statement: str, by: datetime | timedelta) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(statement, {"by": by})


def put_clock(ledger_owner: str) -> Clock:
    """Put a clock that can be moved in the place of an installed ledger's own; `ledger_owner` is a conninfo."""
    with psycopg.connect(ledger_owner, autocommit=True) as connection:
        connection.execute(TEST_CLOCK)
    return Clock(ledger_owner)
