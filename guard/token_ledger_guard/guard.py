"""The guard: from a request to whether it passes, and as whom. The middlewares (wsgi.py, asgi.py) do what it says."""

import logging
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal
from wsgiref.types import WSGIApplication

from token_ledger_guard.answers import Answer, Identity, LedgerUnavailable, Question
from token_ledger_guard.asgi import App, AsgiGuard
from token_ledger_guard.ledger import Ledger
from token_ledger_guard.refusals import AMBIGUOUS, FORBIDDEN, INVALID_TOKEN, NO_TOKEN, UNAVAILABLE, Refusal
from token_ledger_guard.requests import Request
from token_ledger_guard.wsgi import IDENTITY as IDENTITY
from token_ledger_guard.wsgi import WsgiGuard

logger = logging.getLogger(__name__)

# None: it passes as nobody, because it is open to all.
Verdict = Identity | None | Refusal
_REALM: Final = re.compile(r"[ !#-\[\]-~]+", re.ASCII)  # RFC 9110 section 5.6.4, without what needs a backslash


class Guard:
    """Asks the ledger about each request."""

    def __init__(
        self,
        ledger: str,
        *,
        client: str,
        secret: str,
        decides: Literal["ledger", "application"] = "ledger",
        open_to_all: Iterable[str] = (),
        preflight: bool = False,
        realm: str = "token-ledger",
        timeout_seconds: float = 2.0,
        max_connections: int = 20,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`ledger`: its address; `client`, `secret`: of the client that serves this API.

        `decides`: with "application" whoever has a token that stands passes, and what he may do is the application's to say.
        `open_to_all`: what passes without a token, each as "GET /healthz", exactly. `preflight`: preflight requests of CORS
        pass; they never have a token. `tls`: for a ledger whose certificate the system does not know. ValueError.
        """
        if _REALM.fullmatch(realm) is None:
            raise ValueError("realm: visible ASCII and spaces, without quotes and backslashes")
        if decides not in ("ledger", "application"):
            raise ValueError("decides: ledger or application")
        self.realm = realm
        self._decides = decides
        self._open = frozenset(open_to_all)
        self._preflight = preflight
        self._ledger = Ledger(ledger, client, secret, timeout_seconds=timeout_seconds, max_connections=max_connections, tls=tls)
        self._answers = True

    def wsgi(self, app: WSGIApplication) -> WSGIApplication:
        """Answer the WSGI application with the guard before it."""
        return WsgiGuard(self, app)

    def asgi(self, app: App) -> App:
        """Answer the ASGI application with the guard before it."""
        return AsgiGuard(self, app)

    def decide(self, request: Request) -> Verdict:
        """Say from a thread whether the request passes, and as whom."""
        settled = self._settle(request)
        if not isinstance(settled, Question):
            return settled
        try:
            return self._take(self._ledger.ask(settled))
        except LedgerUnavailable as error:
            return self._without_answer(error)

    async def decide_async(self, request: Request) -> Verdict:
        """Say from an event loop whether the request passes, and as whom."""
        settled = self._settle(request)
        if not isinstance(settled, Question):
            return settled
        try:
            return self._take(await self._ledger.ask_async(settled))
        except LedgerUnavailable as error:
            return self._without_answer(error)

    def close(self) -> None:
        """Close the connections of threads. The next request begins anew."""
        self._ledger.close()

    async def aclose(self) -> None:
        """The same, with those of this event loop."""
        await self._ledger.aclose()
        self.close()

    def _settle(self, request: Request) -> Verdict | Question:
        """Say what needs nobody to be asked; otherwise the question."""
        if f"{request.method} {request.path}" in self._open or (self._preflight and request.preflight):
            return None
        token = request.token()
        if token is None:
            return NO_TOKEN
        if not token:
            return INVALID_TOKEN
        if request.path is None:
            return AMBIGUOUS
        return Question(token, request.method, request.path)

    def _take(self, answer: Answer) -> Verdict:
        if not self._answers:
            self._answers = True
            logger.warning("the ledger answers again")
        if answer.identity is None:
            return INVALID_TOKEN
        if answer.allowed or self._decides == "application":
            return answer.identity
        return FORBIDDEN

    def _without_answer(self, error: LedgerUnavailable) -> Refusal:
        if self._answers:
            self._answers = False
            logger.warning("the ledger does not answer (%s): nobody passes", error)
        return UNAVAILABLE


def identity_of(environ_or_scope: Mapping[str, Any]) -> Identity:
    """Answer who calls, from the environment of WSGI or the scope of ASGI.

    LookupError where nobody is known: no guard is before the application, or the request is open to all.
    """
    found = environ_or_scope.get(IDENTITY)
    if not isinstance(found, Identity):
        raise LookupError("nobody is known to call: no guard before this application, or open to all")
    return found
