"""The guard: from a request to whether it passes, and as whom. The middlewares (wsgi.py, asgi.py) do what it says."""

import hashlib
import logging
import os
import re
import ssl
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from wsgiref.types import WSGIApplication

import anyio.to_thread

from token_ledger_guard.answers import Answer, Identity, LedgerUnavailable, Question
from token_ledger_guard.asgi import App, AsgiGuard
from token_ledger_guard.clock import now
from token_ledger_guard.ledger import Ledger
from token_ledger_guard.refusals import AMBIGUOUS, FORBIDDEN, INVALID_TOKEN, NO_TOKEN, UNAVAILABLE, Refusal
from token_ledger_guard.requests import Request
from token_ledger_guard.wsgi import IDENTITY as IDENTITY
from token_ledger_guard.wsgi import WsgiGuard

if TYPE_CHECKING:
    from token_ledger_guard.following import Following

logger = logging.getLogger(__name__)

# None: it passes as nobody, because it is open to all.
Verdict = Identity | None | Refusal
_REALM: Final = re.compile(r"[ !#-\[\]-~]+", re.ASCII)  # RFC 9110 section 5.6.4, without what needs a backslash


class Guard:
    """Asks the ledger about each request; or verifies JWTs by itself, keeps the ledger's yeses, and follows the feed."""

    def __init__(
        self,
        ledger: str,
        *,
        client: str,
        secret: str,
        mode: Literal["ask", "verify"] = "ask",
        audience: str | None = None,
        issuer: str | None = None,
        max_staleness_seconds: float = 5.0,
        max_kept: int = 10_000,
        decides: Literal["ledger", "application"] = "ledger",
        open_to_all: Iterable[str] = (),
        preflight: bool = False,
        realm: str = "token-ledger",
        timeout_seconds: float = 2.0,
        max_connections: int = 20,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`ledger`: its address; `client`, `secret`: of the client that serves this API.

        For `mode` "verify": `audience` of this API; `issuer`, where it is not the address; the bound on staleness, and on how
        many yeses are kept. `decides`: with "application" whoever has a token that stands passes, and what he may do is the
        application's to say. `open_to_all`: what passes without a token, each as "GET /healthz", exactly. `preflight`:
        preflight requests of CORS pass; they never have a token. `tls`: for a ledger whose certificate the system does not
        know. ValueError.
        """
        if _REALM.fullmatch(realm) is None:
            raise ValueError("realm: visible ASCII and spaces, without quotes and backslashes")
        if decides not in ("ledger", "application"):
            raise ValueError("decides: ledger or application")
        if mode not in ("ask", "verify") or (mode == "verify") != (audience is not None):
            raise ValueError("mode: ask, or verify with an audience")
        self.realm = realm
        self._decides = decides
        self._open = frozenset(open_to_all)
        self._preflight = preflight
        self._ledger = Ledger(ledger, client, secret, timeout_seconds=timeout_seconds, max_connections=max_connections, tls=tls)
        self._answers = True
        self._following: Following | None = None
        if audience is not None:
            from token_ledger_guard import following  # needs PyJWT, which a guard that only asks does not

            # Connections of its own: what proves that yeses count does not wait behind those who ask because none does.
            self._following = following.Following(
                Ledger(
                    ledger,
                    client,
                    secret,
                    timeout_seconds=timeout_seconds,
                    max_connections=following.CONNECTIONS,
                    tls=tls,
                ),
                issuer=issuer or ledger,
                audience=audience,
                max_kept=max_kept,
                max_staleness_seconds=max_staleness_seconds,
            )
        _guards.add(self)

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
        asked_at = now()
        try:
            return self._take(settled, self._ledger.ask(settled), asked_at)
        except LedgerUnavailable as error:
            return self._without_answer(error)

    async def decide_async(self, request: Request) -> Verdict:
        """Say from an event loop whether the request passes, and as whom."""
        settled = self._settle(request)
        if not isinstance(settled, Question):
            return settled
        asked_at = now()
        try:
            return self._take(settled, await self._ledger.ask_async(settled), asked_at)
        except LedgerUnavailable as error:
            return self._without_answer(error)

    def staleness_seconds(self) -> float | None:
        """Answer, in mode "verify", how old what is known may be; infinite before it is known. None where each is asked."""
        return None if self._following is None else self._following.kept.staleness_seconds()

    def close(self) -> None:
        """Stop following, and close the connections of threads. The next request begins anew."""
        if self._following is not None:
            self._following.stop()
        self._ledger.close()

    async def aclose(self) -> None:
        """The same, with the connections of this event loop."""
        await self._ledger.aclose()
        await anyio.to_thread.run_sync(self.close)

    def begin_anew(self) -> None:
        """Have no connections and no threads: those of the parent are not the child's."""
        self._ledger.begin_anew()
        if self._following is not None:
            self._following.begin_anew()

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
        question = Question(token, request.method, request.path)
        if self._following is None:
            return question
        identity = self._following.find(self._key(question))
        if identity is not None:
            return identity
        return INVALID_TOKEN if self._following.refuse(token) else question

    def _take(self, question: Question, answer: Answer, asked_at: float) -> Verdict:
        if not self._answers:
            self._answers = True
            logger.warning("the ledger answers again")
        if answer.identity is None or (not answer.allowed and self._decides == "ledger"):
            if self._following is not None:
                self._following.kept.drop(self._key(question))  # of which the feed has not told yet
            return INVALID_TOKEN if answer.identity is None else FORBIDDEN
        if self._following is not None:
            self._following.kept.keep(self._key(question), answer, asked_at)
        return answer.identity

    def _key(self, question: Question) -> bytes:
        """Answer what a yes is kept by: the token byte for byte, and what was asked of it. No token stays in memory."""
        parts = question if self._decides == "ledger" else (question.token,)
        return hashlib.sha256("\n".join(parts).encode()).digest()  # no token and no method has a line feed

    def _without_answer(self, error: LedgerUnavailable) -> Refusal:
        if self._answers:
            self._answers = False
            logger.warning("the ledger does not answer (%s): nobody passes", error)
        return UNAVAILABLE


# A lock that a thread of the parent holds in that moment is held for ever in the child: new ones are made there.
_guards: Final[weakref.WeakSet[Guard]] = weakref.WeakSet()


def _begin_anew() -> None:
    for guard in list(_guards):
        guard.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def identity_of(environ_or_scope: Mapping[str, Any]) -> Identity:
    """Answer who calls, from the environment of WSGI or the scope of ASGI.

    LookupError where nobody is known: no guard is before the application, or the request is open to all.
    """
    found = environ_or_scope.get(IDENTITY)
    if not isinstance(found, Identity):
        raise LookupError("nobody is known to call: no guard before this application, or open to all")
    return found
