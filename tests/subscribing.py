"""A subscriber of the feed by server-sent events, as the standard says it has to be read (HTML, section 9.2)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

FEED = "/v1/feed"


@dataclass(frozen=True)
class Message:
    """One block: the cursor it names, and its event; None: it only names the cursor."""

    cursor: str | None
    event: dict[str, Any] | None


def messages(answer: httpx.Response) -> Iterator[Message]:
    """Answer the blocks of a stream as they come."""
    fields: dict[str, str] = {}
    rest = b""
    for piece in answer.iter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.decode().partition(": ")
                fields[name] = value
            else:
                yield Message(fields.get("id"), json.loads(fields["data"]) if "data" in fields else None)
                fields = {}


@contextmanager
def stream(http: httpx.Client, last_event_id: str | None = None, **query: str) -> Iterator[Iterator[Message]]:
    """Open a stream, and give its blocks."""
    headers = {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    with http.stream("GET", FEED, params=query, headers=headers) as answer:
        if answer.status_code != 200:
            answer.read()
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        assert answer.headers["content-type"] == "text/event-stream"
        yield messages(answer)


def next_event(blocks: Iterator[Message]) -> Message:
    """Answer the next block that holds an event."""
    return next(block for block in blocks if block.event is not None)
