"""A log on partitions of another size than the million it is installed with."""

from typing import Final

import psycopg

# The log as installed has a place for millions: here it is put, with the events it has, on partitions of another size.
PUT_ON: Final = """
CREATE TEMPORARY TABLE kept AS SELECT * FROM ledger.events;
DO $$ DECLARE partition record; BEGIN
  FOR partition IN SELECT p.name FROM ledger.partitions p LOOP
    EXECUTE format('DROP TABLE ledger.%I', partition.name);
  END LOOP;
  DELETE FROM ledger.partitions;
END $$;
"""
BACK: Final = "INSERT INTO ledger.events SELECT * FROM kept ORDER BY position"


def on_small_partitions(conninfo: str, *, size: int = 10, ahead: int = 1_000) -> None:
    """Put the log on partitions of `size`."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK TABLE ledger.append_turn IN EXCLUSIVE MODE")
        connection.execute(PUT_ON)
        connection.execute("SELECT ledger.make_partitions(%s, %s)", (size, ahead))
        connection.execute(BACK)
