"""A line to a server that loses every third answer: the request arrives, the server answers, nobody receives it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

EVERY: Final = 3
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class LosingLine:
    """A TCP port before a server. What it loses it has read whole, so all that the request did is done."""

    def __init__(self, server: str) -> None:
        address = urlsplit(server)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.answers = 0
        self.lost: list[bytes] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["LosingLine"]:
        """Take connections; at the end all are cut."""
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()
            for writer in self._writers:
                writer.close()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _connected(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server_reader, server = await asyncio.open_connection(self._host, self._port)
        self._writers |= {client, server}
        requests = asyncio.create_task(self._forward(client_reader, server))
        try:
            # No answer of ours is without a length.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    answer = await server_reader.readuntil(b"\r\n\r\n")
                    length = _LENGTH.search(answer)
                    assert length is not None, answer
                    answer += await server_reader.readexactly(int(length[1]))
                    self.answers += 1
                    if self.answers % EVERY == 0:
                        self.lost.append(answer)
                        break
                    client.write(answer)
                    await client.drain()
        finally:
            requests.cancel()
            for writer in (client, server):
                writer.close()
                self._writers.discard(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(65_536):
                writer.write(some)
        writer.close()
