"""Around every request: its ids, the limits of headers and target, and the worker's start and stop."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.errors import PayloadTooLarge
from ledger.identifiers import uuid7

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 16 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024


class RequestContext:
    """Gives each request its ids and refuses what is too large."""

    async def process_request(self, req: Request, resp: Response) -> None:
        req.context.request_id = uuid7(datetime.now(UTC))
        req.context.correlation_id = _uuid(req.get_header("X-Correlation-Id")) or req.context.request_id
        req.context.body = None
        scope = req.scope
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise PayloadTooLarge("the header", "16 KiB", 431)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
            raise PayloadTooLarge("the target", "8 KiB", 414)

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        resp.set_header("X-Request-Id", req.get_header("X-Request-Id") or str(req.context.request_id))
        if resp.get_header("Cache-Control") is None:
            resp.set_header("Cache-Control", "no-store")
        if req.path.startswith("/oauth/"):
            resp.set_header("Pragma", "no-cache")  # RFC 6749 section 5.1


class Lifespan:
    """Starts the worker's service when the server does, and lets it finish its work when the server stops."""

    def __init__(self, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
        self._start = start
        self._stop = stop

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._start()

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._stop()


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
