"""The description of the API held against what servers answer: every answer that an HTTP client of the test run gets.

`watch` puts a look at each answer between httpx and whoever asked, tests and the command line alike; what does not fit the
description fails where it was asked. What occurred is kept, to be held against what is described when the whole suite was run
(conftest.py): an answer that no test gets, and a code that no test provokes, fail the run.

Only servers that tests have started (serving.py) are looked at; one that a test's own proxy stands before is not.
"""

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jsonschema_rs
import pytest

from api.app import ROUTES
from api.openapi.document import make_document, template_of
from api.openapi.errors_page import lines_of
from ledger.errors import LedgerError

DOCUMENT: Final = make_document(ROUTES)
# Where the servers of this run listen.
servers: Final[set[str]] = set()


@dataclass(frozen=True, slots=True)
class Occurred:
    """What occurred in the run: answers, as "METHOD path status", and codes of problems."""

    answers: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def give(self) -> dict[str, list[str]]:
        """Answer it as another process takes it."""
        return {"answers": sorted(self.answers), "codes": sorted(self.codes)}

    def take(self, given: dict[str, list[str]]) -> None:
        """Add what occurred in another process."""
        self.answers.update(given["answers"])
        self.codes.update(given["codes"])

    def missing(self) -> list[str]:
        """Answer what is described and did not occur: answers, and codes that are said over HTTP."""
        described = {
            f"{method.upper()} {path} {status}"
            for path, methods in DOCUMENT["paths"].items()
            for method, operation in methods.items()
            for status in operation["responses"]
        }
        codes = {line.code for line in lines_of(over_http=True)} - NOT_TO_PROVOKE.keys()
        return [*sorted(described - self.answers), *sorted(codes - self.codes)]


occurred: Final = Occurred()
# Codes that no test provokes over HTTP, each with its reason.
NOT_TO_PROVOKE: Final = {
    "error": "the root of the tree",
    "refused": "the root of a branch",
    "not_found": "the root of a branch",
    "try_again": "the root of a branch",
    "internal_error": "is never meant to be",
    "oauth_error": "is said as an error object",
}


class NotAsDescribed(AssertionError):
    """An answer is not what the description says; the message says where."""


def served_at(url: str) -> None:
    """Look at what this server answers."""
    servers.add(urlsplit(url).netloc)


@contextmanager
def watch() -> Iterator[None]:
    """Look at what any client of httpx gets from our servers, and at every refusal that is made here, until the end."""
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    @functools.wraps(send)
    def sent(client: httpx.Client, request: httpx.Request, **how: Any) -> httpx.Response:
        return look_at(send(client, request, **how))

    @functools.wraps(send_async)
    async def sent_async(client: httpx.AsyncClient, request: httpx.Request, **how: Any) -> httpx.Response:
        return look_at(await send_async(client, request, **how))

    made = LedgerError.__init__

    @functools.wraps(made)
    def refused(error: LedgerError, *arguments: Any, **named: Any) -> None:
        occurred.codes.add(error.code)
        made(error, *arguments, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LedgerError, "__init__", refused)
        patched.setattr(httpx.Client, "send", sent)
        patched.setattr(httpx.AsyncClient, "send", sent_async)
        yield


def look_at(answer: httpx.Response) -> httpx.Response:
    """Hold an answer against the description, and answer it. NotAsDescribed."""
    if answer.request.url.netloc.decode() in servers:
        _look_at(answer, answer.request)
    return answer


def _look_at(answer: httpx.Response, request: httpx.Request) -> None:
    method, asked, status = request.method, request.url.raw_path.partition(b"?")[0].decode(), str(answer.status_code)
    path = _path_of(asked)
    if path is None and asked.startswith("/.well-known/") and status == "200":
        path = _path_of("/".join(asked.split("/")[:3]))  # the document of an issuer with a path (RFC 8414 section 3.1)
    operation = None if path is None else DOCUMENT["paths"][path].get(method.lower())
    if path is None or operation is None:
        check_elsewhere(answer, method)
        return
    where = f"{method} {path} {status}"
    response = _resolved(operation["responses"].get(status))
    if response is None:
        raise NotAsDescribed(f"{where} is not described: {_text(answer)}")
    for name, header in response.get("headers", {}).items():
        if name not in answer.headers:
            raise NotAsDescribed(f"{where}: the header {name} is missing")
        _check(where, ("headers", name), header["schema"], answer.headers[name])
    media = answer.headers.get("Content-Type", "").partition(";")[0]
    content = response.get("content", {})
    if answer.is_closed and answer.content:
        if media not in content:
            raise NotAsDescribed(f"{where}: {media or 'no media type'} is not described: {_text(answer)}")
        _check(where, ("content", media), content[media]["schema"], _body(answer, media))
    elif answer.is_closed and content and method != "HEAD" and not path.startswith("/gateway/"):
        raise NotAsDescribed(f"{where}: there is no body")
    occurred.answers.add(where)


def check_elsewhere(answer: httpx.Response, method: str) -> None:
    """Hold an answer that is no operation's against what is said of all: there is no such path, or it has no such method."""
    if answer.is_closed and answer.headers.get("Content-Type") == "application/problem+json":
        occurred.codes.add(answer.json()["code"])
    if answer.status_code not in (400, 404, 405, 413, 414, 431) and not (method == "OPTIONS" and answer.status_code == 200):
        raise NotAsDescribed(f"{method} {answer.request.url.path} is no operation, and was answered {answer.status_code}")


def _body(answer: httpx.Response, media: str) -> Any:
    if not media.endswith("json"):
        return answer.text
    body = json.loads(answer.content)
    if media == "application/problem+json":
        occurred.codes.add(body["code"])
    return body


def _check(where: str, place: tuple[str, str], schema: dict[str, Any], value: Any) -> None:
    validator = _validator(json.dumps(schema, sort_keys=True))
    if not validator.is_valid(value):
        error = next(iter(validator.iter_errors(value)))
        pointer = "/".join(map(str, error.instance_path))
        raise NotAsDescribed(f"{where}: {' '.join(place)} /{pointer}: {error.message[:500]}")


@functools.cache
def _validator(schema: str) -> Any:
    whole = json.loads(schema) | {"components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _resolved(response: dict[str, Any] | None) -> dict[str, Any] | None:
    if response is None or "$ref" not in response:
        return response
    found: dict[str, Any] = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return found


def _text(answer: httpx.Response) -> str:
    return answer.text[:500] if answer.is_closed else ""


# A template that says more stands before one that says less.
_TEMPLATES: Final = [
    (re.compile(re.sub(r"{\w+}", "[^/]+", re.sub(r"{\w+:path}", ".*", route.path))), template_of(route.path))
    for route in sorted(ROUTES, key=lambda route: route.path.count("{"))
]


@functools.cache
def _path_of(raw_path: str) -> str | None:
    return next((path for template, path in _TEMPLATES if template.fullmatch(raw_path)), None)
