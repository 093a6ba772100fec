"""The ledger, over HTTP: one pool of connections for threads, one for an event loop; every wait is bounded.

The clients are made when they are first needed, so after a fork, and again in each process (guard.py) and for each event loop.
"""

import ssl
import threading
from typing import Final
from urllib.parse import quote_plus

import anyio
import anyio.lowlevel
import httpx

from token_ledger_guard.answers import Answer, LedgerUnavailable, Question, read_answer

EVALUATION: Final = "/access/v1/evaluation"
# A connection that the other end has closed meanwhile is no reason to refuse anybody: a question changes nothing, and is sent
# once more. Not after a time-out: that would be twice the bound.
_CLOSED_MEANWHILE: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Ledger:
    """Where the ledger is, and as which client it is asked: the one that serves the API."""

    def __init__(
        self,
        url: str,
        client: str,
        secret: str,
        *,
        timeout_seconds: float,
        max_connections: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._url = url.rstrip("/")
        # RFC 6749 section 2.3.1: form-encoded before they are joined by a colon.
        self.auth = httpx.BasicAuth(quote_plus(client), quote_plus(secret))
        self.timeout_seconds = timeout_seconds
        self._limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
        self._tls: ssl.SSLContext | None = tls
        self.begin_anew()

    def begin_anew(self) -> None:
        """Have no connections: for the child of a fork, to whom those of its parent do not belong."""
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._async_client: tuple[object, httpx.AsyncClient] | None = None

    def ask(self, question: Question) -> Answer:
        """Ask from a thread. LedgerUnavailable."""
        client = self.client()
        body = question.body()
        try:
            try:
                answer = client.post(EVALUATION, json=body, auth=self.auth)
            except _CLOSED_MEANWHILE:
                answer = client.post(EVALUATION, json=body, auth=self.auth)
        except httpx.HTTPError as error:
            raise LedgerUnavailable(type(error).__name__) from None
        return _read(answer)

    async def ask_async(self, question: Question) -> Answer:
        """Ask from an event loop. LedgerUnavailable."""
        client = self._for_this_loop()
        body = question.body()
        try:
            with anyio.fail_after(self.timeout_seconds):
                try:
                    answer = await client.post(EVALUATION, json=body, auth=self.auth)
                except _CLOSED_MEANWHILE:
                    answer = await client.post(EVALUATION, json=body, auth=self.auth)
        except (httpx.HTTPError, TimeoutError) as error:
            raise LedgerUnavailable(type(error).__name__) from None
        return _read(answer)

    def client(self) -> httpx.Client:
        """Answer the client of this process's threads."""
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    base_url=self._url,
                    timeout=self.timeout_seconds,
                    limits=self._limits,
                    verify=self._tls or True,
                    trust_env=False,  # neither a proxy nor a .netrc that happens to be there sees tokens, or changes who asks
                )
            return self._client

    def _for_this_loop(self) -> httpx.AsyncClient:
        loop = anyio.lowlevel.current_token()
        with self._lock:
            if self._async_client is None or self._async_client[0] != loop:
                made = httpx.AsyncClient(
                    base_url=self._url,
                    timeout=self.timeout_seconds,
                    limits=self._limits,
                    verify=self._tls or True,
                    trust_env=False,
                )
                self._async_client = loop, made
            return self._async_client[1]

    def close(self) -> None:
        """Close the connections of threads."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close those of this event loop."""
        with self._lock:
            here, self._async_client = self._async_client, None
        if here is not None and here[0] == anyio.lowlevel.current_token():
            await here[1].aclose()


def _read(answer: httpx.Response) -> Answer:
    if answer.status_code != httpx.codes.OK:
        # 401 and 403 are about who asks, not about whose token it is.
        raise LedgerUnavailable(f"status {answer.status_code}")
    try:
        body = answer.json()
    except ValueError:
        raise LedgerUnavailable("an answer that is no JSON") from None
    return read_answer(body)
