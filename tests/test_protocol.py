"""One connection of HTTP/1.1: what is slow, endless or malformed ends, and holds nobody else up.

The protocol runs in uvicorn in front of a few lines that read the body and answer what they got; deadlines are fractions of a
second here. What the service itself answers to such requests: test_server.py.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config, Server

from api import protocol
from api.body import STOPPING
from api.protocol import MAX_HEADER_BYTES, Protocol

pytestmark = pytest.mark.anyio

DEADLINE = 0.3
KEEP_ALIVE = 1  # uvicorn takes whole seconds


class Site:
    """A server of the protocol, and what its application saw."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.cut_off = 0
        self.answer = b""
        # asyncio switches Nagle's algorithm off only where the protocol is said; uvloop, which the service uses, always.
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.listener.bind(("127.0.0.1", 0))
        config = Config(
            self._application,
            interface="asgi3",
            http=Protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self.server = Server(config)

    async def _application(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        body = b""
        if scope["path"] != "/early":
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    self.cut_off += 1
                    return
                body += event["body"]
                if not event["more_body"]:
                    break
        if scope["path"] == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while self.server.server_state.connections and not scope[STOPPING].is_set():
                await send({"type": "http.response.body", "body": b"a" * 50_000, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body"})
            return
        self.bodies.append(body)
        answer = self.answer or body or scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
        await send({"type": "http.response.body", "body": answer})

    async def until_nobody_is_connected(self) -> None:
        """Return once the server holds no connection any more; of that there is no event."""
        async with asyncio.timeout(10):
            while self.server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


class Line:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer: its status and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]), await self._reader.readexactly(length)

    async def piece(self) -> bytes:
        """Read what is there, or comes."""
        return await self._reader.read(100_000)

    async def ended(self) -> bytes:
        """Answer what still comes until the other end closes."""
        try:
            return await asyncio.wait_for(self._reader.read(), 5)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", DEADLINE)
    monkeypatch.setattr(protocol, "READING_SECONDS", DEADLINE)
    site = Site()
    # uvicorn takes signals of the process for itself: only its parts are run.
    site.server.config.load()
    site.server.lifespan = site.server.config.lifespan_class(site.server.config)
    await site.server.startup(sockets=[site.listener])
    try:
        yield site
    finally:
        await site.server.shutdown(sockets=[site.listener])


@contextlib.asynccontextmanager
async def line_to(site: Site) -> AsyncIterator[Line]:
    line = Line(*await asyncio.open_connection(*site.listener.getsockname()))
    try:
        yield line
    finally:
        line.close()


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_requests_in_one_piece_in_many_and_one_behind_the_other_are_answered_in_order(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(GET)
        assert await line.answer() == (200, b"/a")
        for byte in b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz":
            await line.send(bytes([byte]))
        assert await line.answer() == (200, b"xyz")
        await line.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(200)))
        assert [await line.answer() for _ in range(200)] == [(200, b"/%d" % number) for number in range(200)]


async def test_a_request_that_is_answered_slowly_is_not_cut_off(site: Site) -> None:
    async with line_to(site) as line:
        for _ in range(2):
            await line.send(GET)
            assert (await line.answer())[0] == 200
            await asyncio.sleep(DEADLINE * 1.5)  # idle between two requests: uvicorn's own, longer time


async def test_a_connection_that_sends_nothing_is_closed(site: Site) -> None:
    async with line_to(site) as line:
        assert await line.ended() == b""


async def test_a_header_that_never_ends_is_cut_off_however_steadily_it_comes(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(30):
                await line.send(b"X: y\r\n")
                await asyncio.sleep(DEADLINE / 6)
            pytest.fail("it was never cut off")
    assert site.bodies == []


async def test_a_header_that_stops_is_told_so_and_cut_off(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert (await line.ended()).startswith(b"HTTP/1.1 408 ")
    assert site.bodies == []


async def test_line_ends_without_a_request_keep_no_connection_open(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(GET)
        await line.answer()
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                await line.send(b"\r\n")
                await asyncio.sleep(DEADLINE / 6)
        assert await line.ended() == b""


@pytest.mark.parametrize("piece", [b"a" * 16_384, b"x: y\r\n" * 3_000], ids=["one long line", "many short ones"])
async def test_a_header_without_end_is_refused_before_it_fills_memory(site: Site, piece: bytes) -> None:
    sent = 0
    async with line_to(site) as line:
        await line.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                await line.send(piece)
                sent += len(piece)
        assert sent < 50_000_000
    assert site.bodies == []


async def test_a_header_that_is_too_large_is_told_so(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"GET / HTTP/1.1\r\nX: ")
        await asyncio.sleep(0.05)
        await line.send(b"a" * (MAX_HEADER_BYTES + 1))
        assert (await line.ended()).startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_never_ends_is_cut_off_and_never_taken_for_a_whole_one(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert (await line.ended()).startswith(b"HTTP/1.1 408 ")
    assert (site.bodies, site.cut_off) == ([], 1)


async def test_a_body_that_comes_in_time_is_answered(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n")
        await asyncio.sleep(DEADLINE / 2)
        await line.send(b"2\r\n!!\r\n0\r\n\r\n")
        assert await line.answer() == (200, b"xyz!!")
        await asyncio.sleep(DEADLINE)
        await line.send(GET)
        assert await line.answer() == (200, b"/a")


async def test_who_goes_on_sending_a_body_that_was_answered_already_is_cut_off(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert await line.answer() == (200, b"/early")
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                await line.send(b"more")
                await asyncio.sleep(DEADLINE / 6)
        assert await line.ended() == b""


async def test_a_second_request_that_is_cut_off_never_answers_the_first(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz" + b"GET /never")
        assert await line.answer() == (200, b"xyz")
        assert (await line.ended()).startswith(b"HTTP/1.1 408 ")


async def test_who_does_not_read_his_answer_is_dropped(site: Site) -> None:
    site.answer = b"a" * 20_000_000  # more than the kernel takes
    async with line_to(site) as line:
        await line.send(GET)
        await asyncio.sleep(DEADLINE / 2)
        assert site.bodies == [b""]
        await site.until_nobody_is_connected()


ENDLESS = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_who_does_not_read_an_answer_that_goes_on_is_cut_off(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(ENDLESS)
        await line.piece()
        await site.until_nobody_is_connected()


async def test_who_reads_on_is_not_cut_off(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(ENDLESS)
        for _ in range(20):
            await asyncio.sleep(DEADLINE / 4)
            for _ in range(10):
                assert await line.piece()


async def test_an_answer_that_goes_on_is_told_when_the_server_stops(site: Site) -> None:
    async with line_to(site) as line:
        await line.send(ENDLESS)
        await line.piece()
        for connection in list(site.server.server_state.connections):
            connection.shutdown()
        assert (await line.ended()).endswith(b"0\r\n\r\n")


async def test_connections_that_send_half_a_request_hold_nobody_up_and_do_not_stay(site: Site) -> None:
    async with contextlib.AsyncExitStack() as others:
        for number in range(60):
            other = await others.enter_async_context(line_to(site))
            await other.send([b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", b""][number % 3])
        async with line_to(site) as line, asyncio.timeout(5):
            for _ in range(20):
                await line.send(GET)
                assert await line.answer() == (200, b"/a")
        await site.until_nobody_is_connected()


@pytest.mark.parametrize("version", [b"", b" HTTP/0.9", b" HTTP/2.0", b" HTTP/3.7", b" HTTP/1.2"])
async def test_other_versions_of_http_are_refused(site: Site, version: bytes) -> None:
    async with line_to(site) as line:
        await line.send(b"GET /" + version + b"\r\nHost: x\r\n\r\n")
        assert (await line.ended()).startswith(b"HTTP/1.1 400 ")
    assert site.bodies == []


async def test_a_request_for_another_protocol_is_answered_in_this_one(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with line_to(site) as line:
        await line.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert await line.answer() == (200, b"/a")
    assert caplog.text == ""
