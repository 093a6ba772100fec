"""The guard before a WSGI application (PEP 3333)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from token_ledger_guard.refusals import Refusal
from token_ledger_guard.requests import Request, path_of

if TYPE_CHECKING:
    from token_ledger_guard.guard import Guard

IDENTITY = "token_ledger.identity"


class WsgiGuard:
    """A WSGI application in front of another."""

    def __init__(self, guard: "Guard", app: WSGIApplication) -> None:
        self._guard = guard
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Let it pass, with who calls in the environment, or refuse it."""
        verdict = self._guard.decide(_request(environ))
        if isinstance(verdict, Refusal):
            body = verdict.body()
            headers = [*verdict.headers(self._guard.realm), ("Content-Length", str(len(body)))]
            start_response(verdict.line(), headers)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        # What a gateway tells an API in headers, a client may not say himself; `Ledger_Subject` is the same to WSGI.
        for name in [name for name in environ if name.startswith("HTTP_LEDGER_")]:
            del environ[name]
        environ[IDENTITY] = verdict
        return self._app(environ, start_response)


def _request(environ: WSGIEnvironment) -> Request:
    # Both are the server's own, a client's headers all begin with HTTP_: gunicorn, werkzeug; uWSGI, mod_wsgi, waitress.
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    method = environ["REQUEST_METHOD"]
    return Request(
        method,
        path_of(raw, environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), "latin-1"),
        environ.get("HTTP_AUTHORIZATION"),
        method == "OPTIONS" and "HTTP_ORIGIN" in environ and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ,
    )
