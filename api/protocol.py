"""HTTP/1.1 on one connection: uvicorn's protocol, with the bounds that it lacks.

uvicorn collects a header for as long as bytes of it come, whatever their number; it closes a connection that is idle
between two requests, but none that begins a request and never ends it, and none whose other end reads no answers; and it waits
for an answer that goes on for ever when it is to stop. How large a header or a body may be is said, to those who send no more
than a little too much, by api/middleware.py and api/body.py.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.body import STOPPING

# In whole pieces as they are read from the socket.
MAX_HEADER_BYTES: Final = 64 * 1024
REQUEST_SECONDS: Final = 20.0
# Of an answer that waits to be read, so much is to be read in so long.
READING_SECONDS: Final = 10.0
READING_BYTES: Final = 16 * 1024


class Protocol(HttpToolsProtocol):
    """One connection. A request has REQUEST_SECONDS to arrive whole, the first one from the connection's beginning on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving = False
        self._in_header = False
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; an application that still reads the body is told that nothing more comes."""
        self._clear_deadline()
        self._clear_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next piece: of a request, of several, of none."""
        if self._in_header:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(431)
                return
        super().data_received(data)
        if self._deadline is None and not self.transport.is_closing() and (self._arriving or self._is_idle()):
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope[STOPPING] = self._stopping  # type: ignore[typeddict-unknown-key] # ours
        self._arriving = self._in_header = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_header = False
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("neither HTTP/1.0 nor HTTP/1.1")  # to httptools, which makes it a 400
        if b"#" in self.url:
            # No target has one (RFC 9112 section 3.2); cut off here, what Envoy asks about would not be what it passes on.
            raise ValueError("a fragment in the target")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._arriving = False
        self._clear_deadline()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Stop: an answer that would go on for long is told to end."""
        self._stopping.set()
        super().shutdown()

    def pause_writing(self) -> None:
        """Hold the answer back until the other end has read; not for as long as it likes."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._clear_reading()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; at once where the other end has not read its answer, or closing would wait for that."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as if it had not asked for another protocol (RFC 9110 section 7.8)."""

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        self._reading = self.loop.call_later(READING_SECONDS, self._read_enough, self.transport.get_write_buffer_size())

    def _read_enough(self, waiting_before: int) -> None:
        if self.transport.get_write_buffer_size() > waiting_before - READING_BYTES:
            self.transport.abort()
        else:
            self._expect_reading()

    def _clear_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._arriving:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        # Only where no other answer has begun or is to come first: it would be taken for that one.
        if not self.pipeline and (self._is_idle() or (not self._in_header and not self.cycle.response_started)):
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
