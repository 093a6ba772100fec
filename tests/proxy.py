"""Between the service and PostgreSQL: can lose an answer, hold answers on the wire, or take the whole database away."""

import asyncio
import contextlib
import random
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"  # the end of an answer, outside a transaction


class Proxy:
    """A Unix socket in `folder` in front of the server's own; `conninfo` leads through it."""

    def __init__(self, folder: Path, conninfo: str) -> None:
        settings = conninfo_to_dict(conninfo)
        self._behind = f"{settings['host']}/.s.PGSQL.{settings['port']}"
        self._path = folder / f".s.PGSQL.{settings['port']}"
        self.conninfo = make_conninfo(conninfo, host=str(folder))
        self.lose_next_answer = False
        self.answers_lost = 0
        self.connections = 0
        self.delay_seconds = 0.0  # of each answer, at most: it is drawn
        self._held: asyncio.Condition = asyncio.Condition()
        self._hold_next = 0
        self._holding = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take connections, for the first time or again."""
        self._server = await asyncio.start_unix_server(self._connected, self._path)

    async def close(self) -> None:
        """Cut every connection and take no new one: the database is away."""
        if self._server is not None:
            self._server.close()
            self._path.unlink()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection, with the answers that are held; others are taken."""
        await self.release()
        for writer in list(self._writers):
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hold(self, answers: int = 1_000_000) -> None:
        """Hold the next answers back, one a connection: the database has given them, nobody has received them."""
        self._hold_next = answers

    @property
    def held(self) -> int:
        """How many answers are held."""
        return self._holding

    async def until_held(self, answers: int) -> None:
        """Return once so many answers are held."""
        async with self._held:
            await self._held.wait_for(lambda: self._holding >= answers)

    async def release(self) -> None:
        """Let what is held go on, and hold nothing more."""
        async with self._held:
            self._hold_next = self._holding = 0
            self._held.notify_all()

    async def _connected(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        server_reader, server = await asyncio.open_unix_connection(self._behind)
        self._writers |= {client, server}
        requests = asyncio.create_task(self._forward(client_reader, server))
        try:
            while answer := await server_reader.read(65_536):
                if self.lose_next_answer:
                    while not answer.endswith(READY_FOR_QUERY):
                        answer += await server_reader.read(65_536)
                    self.lose_next_answer = False
                    self.answers_lost += 1
                    break
                if self.delay_seconds:
                    await asyncio.sleep(random.uniform(0, self.delay_seconds))
                if self._hold_next:
                    await self._hold()
                client.write(answer)
        except ConnectionError:
            pass
        finally:
            requests.cancel()
            for writer in (client, server):
                writer.close()
                self._writers.discard(writer)

    async def _hold(self) -> None:
        async with self._held:
            self._hold_next -= 1
            self._holding += 1
            self._held.notify_all()
            await self._held.wait_for(lambda: self._holding == 0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(65_536):
                writer.write(some)
        writer.close()
