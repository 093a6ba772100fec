"""Between a guard and the ledger: a way that can be held up, whole or for the feed alone, and goes on where it was."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

FEED = b"GET /v1/feed"


class Between:
    """Takes connections at `url` and leads them to the ledger."""

    def __init__(self, ledger: str) -> None:
        parts = urlsplit(ledger)
        assert parts.hostname is not None
        assert parts.port is not None
        self._behind = parts.hostname, parts.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._all, self._feed = threading.Event(), threading.Event()
        self.go_on()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._take)]
        self._threads[0].start()

    def hold_up(self, *, feed_alone: bool = False) -> None:
        """Let nothing pass in either direction until `go_on`; what is sent meanwhile waits."""
        (self._feed if feed_alone else self._all).clear()

    def go_on(self) -> None:
        """Let pass what waits, and everything."""
        self._all.set()
        self._feed.set()

    def break_off(self) -> None:
        """Cut every connection there is; new ones are taken."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_on()
        self.break_off()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _take(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._behind)
            except OSError:
                return
            self._sockets += [near, far]
            is_feed = threading.Event()
            for source, target in ((near, far), (far, near)):
                thread = threading.Thread(target=self._lead, args=(source, target, is_feed, source is near))
                self._threads.append(thread)
                thread.start()

    def _lead(self, source: socket.socket, target: socket.socket, is_feed: threading.Event, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65_536):
                if asks and some.startswith(FEED):
                    is_feed.set()
                self._all.wait()
                if is_feed.is_set():
                    self._feed.wait()
                target.sendall(some)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def between(ledger: str) -> Iterator[Between]:
    """Lead to a ledger."""
    way = Between(ledger)
    try:
        yield way
    finally:
        way.close()
