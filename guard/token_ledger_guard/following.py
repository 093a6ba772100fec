"""Following the ledger: two threads of each process, one that hears the feed, one that proves that nothing is unheard.

Neither ever lets anybody in. Whatever goes wrong with them is tried again, and meanwhile the ledger is asked.
"""

import contextlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

import httpx

from token_ledger_guard.answers import Identity, LedgerUnavailable, Question
from token_ledger_guard.clock import now
from token_ledger_guard.kept import Kept
from token_ledger_guard.keys import Keys
from token_ledger_guard.ledger import Ledger

logger = logging.getLogger(__name__)

FEED: Final = "/v1/feed"
KEY_SET: Final = "/.well-known/jwks.json"
TOKEN: Final = "/oauth/token"  # noqa: S105 - an address
# The feed says that it is there every 15 s.
SILENCE_SECONDS: Final = 20.0
# After a failure twice as long each time, and a part of it by chance: guards that lost the ledger together come back singly.
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
# The set of keys is looked at anew so often, and sooner where a token names a key that is not in it.
KEYS_SECONDS: Final = 300.0
KEYS_WANTED_SECONDS: Final = 5.0
# Of the life of the token that the feed is heard with.
USED_OF_A_LIFE: Final = 0.8
# Within the bound on staleness: two of them may fail.
PROOFS: Final = 4
CONNECTIONS: Final = 2  # one a thread
# Nobody's token: what is asked for is the position of the answer.
NOBODY: Final = Question("-", "GET", "/")


class FeedGone(Exception):
    """The feed does not go on from here: another log, or archived (410)."""


class Following:
    """What is known here without asking, in this process: begun with the first request, so after a fork."""

    def __init__(self, ledger: Ledger, *, issuer: str, audience: str, max_kept: int, max_staleness_seconds: float) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._audience = audience
        self._max_kept = max_kept
        self._max_staleness = max_staleness_seconds
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know nothing: for the child of a fork, which has none of its parent's threads."""
        self._ledger.begin_anew()
        self._lock = threading.Lock()
        self._follower: _Follower | None = None
        self._keys = Keys(self._issuer, self._audience)
        self.kept = Kept(max_kept=self._max_kept, max_staleness_seconds=self._max_staleness)

    def find(self, key: bytes) -> Identity | None:
        """Answer to whom yes was said, if that counts now."""
        if self._follower is None:
            with self._lock:
                if self._follower is None:
                    every = self._max_staleness / PROOFS
                    self._follower = _Follower(self._ledger, self.kept, self._keys, every_seconds=every)
                    self._follower.start()
        return self.kept.find(key)

    def stop(self) -> None:
        """Follow no more, and know nothing; the next request begins anew."""
        with self._lock:
            if self._follower is not None:
                self._follower.stop()
                self._follower = None
                self._ledger.close()

    def refuse(self, token: str) -> bool:
        """Say whether a token is certainly not good here."""
        return self._keys.refuse(token)


class _Follower:
    """Keeps `kept` true and `keys` current, from `start` to `stop`."""

    def __init__(self, ledger: Ledger, kept: Kept, keys: Keys, *, every_seconds: float) -> None:
        self._ledger = ledger
        self._kept = kept
        self._keys = keys
        self._every_seconds = every_seconds
        self._stopped = threading.Event()
        self._token: tuple[str, float] | None = None
        self._socket: socket.socket | None = None
        self._threads = [
            threading.Thread(target=self._hear, name="token-ledger-guard feed", daemon=True),
            threading.Thread(target=self._prove, name="token-ledger-guard proof", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        waiting_on = self._socket
        if waiting_on is not None:
            with contextlib.suppress(OSError):
                # Whoever waits for something to be read is woken; the plain call, which leaves the state of TLS alone.
                socket.socket.shutdown(waiting_on, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._kept.forget()

    # ------------------------------------------------------------------------------------------------------------ the feed

    def _hear(self) -> None:
        session, after, pause, said = -1, "", FIRST_PAUSE_SECONDS, ""
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if not self._kept.is_heard(session):
                    asked_at = now()
                    answer = self._ledger.ask(NOBODY)
                    session, after = self._kept.begin(answer, asked_at), str(answer.position)
                with contextlib.closing(self._blocks(after)) as blocks:
                    for cursor, event in blocks:
                        self._kept.listen(session, listening=True)
                        if said:
                            logger.warning("the feed is heard again")
                            said = ""
                        if event is not None:
                            self._kept.hear(session, event)
                        if self._stopped.is_set() or not self._kept.is_heard(session):
                            break
                        after = cursor or after
            except FeedGone:
                session = -1
                self._kept.forget()
                logger.warning("the feed does not go on from where it was heard: begun anew")
            except Exception as error:
                # Whatever it is: a guard that hears nothing any more would ask about each request, for ever.
                problem = f"{type(error).__name__}: {error}" if isinstance(error, LedgerUnavailable) else type(error).__name__
                if problem != said and not self._stopped.is_set():
                    logger.warning("the feed is not heard (%s): the ledger is asked about each request", problem)
                said = problem
            self._kept.listen(session, listening=False)
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > 1 else min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - it is no secret

    def _blocks(self, after: str) -> Generator[tuple[str | None, dict[str, Any] | None]]:
        """Answer the blocks of the stream as they come: a cursor, and an event or None. Ends when the stream does."""
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {self._bearer()}"}
        timeout = httpx.Timeout(self._ledger.timeout_seconds, read=SILENCE_SECONDS)
        stream = self._ledger.client().stream("GET", FEED, params={"after": after}, headers=headers, timeout=timeout)
        with stream as answer:
            if answer.status_code == httpx.codes.GONE:
                raise FeedGone
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                self._token = None
            if answer.status_code != httpx.codes.OK:
                raise LedgerUnavailable(f"{FEED}: status {answer.status_code}")
            self._socket = answer.extensions["network_stream"].get_extra_info("socket")
            try:
                if not self._stopped.is_set():  # looked at once more: `stop` may have found no socket to wake
                    yield from _read_blocks(answer.iter_lines())
            finally:
                self._socket = None

    def _bearer(self) -> str:
        """Answer the token that the feed is heard with, a new one when most of the life of the last one is over."""
        if self._token is None or now() >= self._token[1]:
            asked_at = now()
            answer = self._ledger.client().post(TOKEN, data={"grant_type": "client_credentials"}, auth=self._ledger.auth)
            if answer.status_code != httpx.codes.OK:
                raise LedgerUnavailable(f"{TOKEN}: status {answer.status_code}")
            body = answer.json()
            self._token = body["access_token"], asked_at + USED_OF_A_LIFE * body["expires_in"]
        return self._token[0]

    # ----------------------------------------------------------------------------------------------------------- the proof

    def _prove(self) -> None:
        keys_at, failed = float("-inf"), False
        while not self._stopped.is_set():
            try:
                asked_at = now()
                self._kept.prove(self._ledger.ask(NOBODY), asked_at)
                if now() - keys_at > (KEYS_WANTED_SECONDS if self._keys.wanted else KEYS_SECONDS):
                    keys_at = now()
                    self._keys.take(self._ledger.client().get(KEY_SET).raise_for_status().json())
                failed = False
            except Exception as error:
                if not failed and not self._stopped.is_set():
                    logger.warning("the ledger could not be looked at (%s)", type(error).__name__)
                failed = True
            self._stopped.wait(self._every_seconds)


def _read_blocks(lines: Iterator[str]) -> Iterator[tuple[str | None, dict[str, Any] | None]]:
    """Answer the blocks of server-sent events (HTML, section 9.2) as the feed writes them: `id` and `data` on one line each."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields.get("id"), json.loads(fields["data"]) if "data" in fields else None
            fields = {}
