"""Around every request: its ids, the limits of headers and target, and the worker's start and stop."""

import logging
import re
from collections.abc import Callable, Mapping
from itertools import chain
from time import perf_counter
from typing import Any, Final

from falcon import HTTPNotFound
from falcon.asgi import Request, Response

from api.counting import RequestCounts
from api.errors import PayloadTooLarge
from api.resources.gateway import ENVOY_PREFIX
from ledger.paths import PathRefused, canonical

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 16 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024
OF_ENVOY: Final = ENVOY_PREFIX + b"/"
_REQUEST_ID: Final = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?", re.ASCII)


class RequestContext:
    """Gives each request its ids, refuses what is too large, and counts what was answered."""

    def __init__(self, counts: RequestCounts, issuer: str) -> None:
        self._counts = counts
        self._issuer = issuer

    async def process_request(self, req: Request, resp: Response) -> None:
        req.context.issuer = self._issuer
        req.context.correlate(req.get_header("X-Correlation-Id"))
        scope = req.scope
        if sum(map(len, chain.from_iterable(scope["headers"]))) > MAX_HEADER_BYTES:
            raise PayloadTooLarge("the header", "16 KiB", 431)
        raw_path = scope.get("raw_path") or b""
        if len(raw_path) + len(scope["query_string"]) > MAX_TARGET_BYTES:
            raise PayloadTooLarge("the target", "8 KiB", 414)
        if raw_path.startswith(OF_ENVOY):
            return  # what follows is another's path, and a question: it is answered with the reason
        try:
            # What we refuse to decide on has no place here either: one address an endpoint, for us and whoever is before us.
            canonical(raw_path.decode("latin-1"))
        except PathRefused:
            raise HTTPNotFound from None

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        # AuthZEN 1.0 section 10.1.3: the caller's id comes back. What is no id does not: it would be a header of our answer.
        given = req.get_header("X-Request-Id") or ""
        resp.set_header("X-Request-Id", given if _REQUEST_ID.fullmatch(given) is not None else str(req.context.request_id))
        if resp.get_header("Cache-Control") is None:
            resp.set_header("Cache-Control", "no-store")
        if req.path.startswith("/oauth/"):
            resp.set_header("Pragma", "no-cache")  # RFC 6749 section 5.1
        self._counts.add(req.uri_template, resp.status_code, perf_counter() - req.context.began)


class Lifespan:
    """Starts the worker's service when the server does, and lets it finish its work when the server stops."""

    def __init__(self, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
        self._start = start
        self._stop = stop

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._start()

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._stop()
