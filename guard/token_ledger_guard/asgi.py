"""The guard before an ASGI application: HTTP and WebSockets."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from token_ledger_guard.refusals import Refusal
from token_ledger_guard.requests import Request, path_of
from token_ledger_guard.wsgi import IDENTITY

if TYPE_CHECKING:
    from token_ledger_guard.guard import Guard

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DENIAL: Final = "websocket.http.response"
POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1


class AsgiGuard:
    """An ASGI application in front of another."""

    def __init__(self, guard: "Guard", app: App) -> None:
        self._guard = guard
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it pass, with who calls in the scope, or refuse it. ValueError for a protocol that is not known here."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._guard.aclose()
            return
        if scope["type"] not in ("http", "websocket"):
            raise ValueError("neither HTTP nor a WebSocket: it cannot be guarded")
        verdict = await self._guard.decide_async(_request(scope))
        if isinstance(verdict, Refusal):
            await self._refuse(verdict, scope, receive, send)
            return
        # What a gateway tells an API in headers, a client may not say himself; some take `Ledger_Subject` for the same.
        headers = [(name, value) for name, value in scope["headers"] if name[:7].lower() not in (b"ledger-", b"ledger_")]
        await self._app({**scope, "headers": headers, IDENTITY: verdict}, receive, send)

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = "http.response"
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            if DENIAL not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})  # which the server makes a 403
                return
            prefix = DENIAL
        body = refusal.body()
        fields = [*refusal.headers(self._guard.realm), ("Content-Length", str(len(body)))]
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
        await send({"type": f"{prefix}.start", "status": refusal.status.value, "headers": headers})
        await send({"type": f"{prefix}.body", "body": b"" if scope.get("method") == "HEAD" else body})


def _request(scope: Scope) -> Request:
    fields: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        name = name.lower()
        fields[name] = fields[name] + b"," + value if name in fields else value
    authorization = fields.get(b"authorization")
    raw = scope.get("raw_path")
    method = scope["method"] if scope["type"] == "http" else "GET"  # RFC 6455 section 4.1
    return Request(
        method,
        path_of(raw.decode("latin-1") if raw else None, scope["path"], "utf-8"),
        None if authorization is None else authorization.decode("latin-1"),
        method == "OPTIONS" and b"origin" in fields and b"access-control-request-method" in fields,
    )
