"""What this API is, for programs and for people: /openapi.json, and pages that need nothing besides.

Made once, before the first request. docs/api.md.
"""

import json
from collections.abc import Iterable
from typing import Final

from falcon.asgi import Request, Response

from api.openapi.document import Route, make_document
from api.openapi.errors_page import error_page
from api.openapi.page import POLICY, document_page
from api.service import Service

MAX_AGE: Final = "public, max-age=300"


class Description:
    """GET /openapi.json, GET /docs, GET /errors. The same whoever asks, and whatever the ledger holds."""

    def __init__(self, _service: Service) -> None:
        self._document = self._page = self._errors = b""

    def describe(self, routes: Iterable[Route]) -> None:
        """Take the routes that are described; api/app.py has them, this one among them."""
        document = make_document(routes)
        self._document = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        self._page = document_page(document).encode()
        self._errors = error_page().encode()

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the OpenAPI document of this API."""
        resp.content_type = "application/json"
        resp.data = self._document
        resp.set_header("Cache-Control", MAX_AGE)

    async def on_get_page(self, _req: Request, resp: Response) -> None:
        """Answer the same to be read: every operation, what it takes and what it answers."""
        _page(resp, self._page)

    async def on_get_errors(self, _req: Request, resp: Response) -> None:
        """Answer every code of a refusal, with its cause and its cure."""
        _page(resp, self._errors)


def _page(resp: Response, page: bytes) -> None:
    resp.content_type = "text/html; charset=utf-8"
    resp.data = page
    resp.set_header("Content-Security-Policy", POLICY)
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.set_header("Cache-Control", MAX_AGE)
