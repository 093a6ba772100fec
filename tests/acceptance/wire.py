"""HTTP/1.1 over one connection, as little as a load needs: httpx spends more on a request than the server does."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

ANSWER_SECONDS: Final = 30.0


class Lost(Exception):
    """The connection was refused, or ended before an answer was complete: what became of the request is not known."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Answer the body read as JSON."""
        return json.loads(self.body)


def basic(name: str, secret: str) -> dict[str, str]:
    """Answer the header of HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


class Wire:
    """A connection to a server; made by the first request, and anew after it was lost. One request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answered:
        """Answer what the server says. Lost."""
        content, kind = b"", {}
        if form is not None:
            content, kind = urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        elif body is not None:
            content, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **kind}.items()]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write("\r\n".join([*lines, "", ""]).encode() + content)
                await writer.drain()
                answered = await _read(reader)
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise Lost(type(error).__name__) from None
        if answered.headers.get("connection") == "close":
            self.close()
        return answered

    def close(self) -> None:
        """Close the connection; the next request makes another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Answered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    return Answered(int(head[0].split()[1]), headers, await reader.readexactly(length) if length else b"")
