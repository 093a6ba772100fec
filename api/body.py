"""Bodies at the door: bounded, of the right type, strict JSON or a form, checked against a model that names each problem.

And the request itself, as far as it matters that the other end may go.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import parse_qsl

from falcon import RequestOptions
from falcon.asgi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from api.context import Context
from api.errors import PayloadTooLarge, UnsupportedMediaType
from ledger import jsontext
from ledger.errors import InvalidInput, Problem

MAX_BODY_BYTES: Final = 256 * 1024
MAX_FORM_FIELDS: Final = 100
# In the scope of a request: an asyncio.Event, set when the server begins to stop (api/protocol.py).
STOPPING: Final = "token_ledger.stopping"
# The answer to a body of nothing but wrong members is not to be ten times as large.
MAX_PROBLEMS: Final = 50

Model = TypeVar("Model", bound="Body")


class _Events:
    """What the server says of a request; that the sender has gone is noted in its context."""

    __slots__ = ("_receive", "context")

    def __init__(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._receive = receive
        self.context: Context | None = None  # until there is a request

    async def next(self) -> dict[str, Any]:
        event = await self._receive()
        if event["type"] == "http.disconnect" and self.context is not None:
            self.context.cut_off = True
        return event


class WholeRequest(Request):
    """Falcon's request, which takes for a whole body what a sender who has gone had sent of one: `context.cut_off` tells."""

    context_type = Context

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        first_event: dict[str, Any] | None = None,
        options: RequestOptions | None = None,
    ) -> None:
        # Knows nothing of the request: a request that leads to itself would be the garbage collector's to find, each of them.
        self._events = _Events(receive)
        super().__init__(scope, self._events.next, first_event=first_event, options=options)
        self._events.context = self.context  # type: ignore[assignment] # of our context_type

    async def over(self) -> None:
        """Return when the other end has gone or the server stops. For what goes on for long, when the body was read."""
        waits = [asyncio.create_task(self._until_gone())]
        if STOPPING in self.scope:
            waits.append(asyncio.create_task(self.scope[STOPPING].wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _until_gone(self) -> None:
        while not self.context.cut_off:
            await self._events.next()


class Body(BaseModel):
    """A request body: unknown, missing and mistyped members are refused by name."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


async def read_bytes(req: Request) -> bytes:
    """Answer the whole body; PayloadTooLarge beyond 256 KiB, having read no more than that. Asked again, the same."""
    if req.context.body is not None:
        whole: bytes = req.context.body
        return whole
    if req.content_length is not None and req.content_length > MAX_BODY_BYTES:
        raise PayloadTooLarge("the body", "256 KiB", 413)
    body: bytes = await req.stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge("the body", "256 KiB", 413)
    if req.context.cut_off:
        raise InvalidInput.of("", "a whole body")  # half a command is none; nobody is there to read this
    req.context.body = body  # what an Idempotency-Key stands for: commands.py
    return body


def content_type(req: Request) -> str:
    """Answer the media type without its parameters, lower case."""
    return (req.content_type or "").partition(";")[0].strip().lower()


async def read_json(req: Request, *, floats: bool = False) -> object:
    """Answer the strict JSON of the body (ledger/jsontext.py says what strict is)."""
    if content_type(req) != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    return jsontext.loads(await read_bytes(req), max_bytes=MAX_BODY_BYTES, floats=floats)


async def read_body(req: Request, model: type[Model]) -> Model:
    """Answer the JSON body as `model`; InvalidInput names every member that is wrong."""
    value = await read_json(req)
    return check(model, value)


async def read_optional_body(req: Request, model: type[Model]) -> Model:
    """The same, where no body at all means one without members."""
    return await read_body(req, model) if await read_bytes(req) else check(model, {})


def check(model: type[Model], value: object) -> Model:
    """Answer `value` as `model`; InvalidInput names every member that is wrong and its rule, up to fifty."""
    try:
        # In JSON's own types (a UUID is a string there), and yet strict: "1" is no number.
        return model.model_validate_json(jsontext.dumps(value))
    except ValidationError as error:
        raise InvalidInput(
            [
                Problem(".".join(str(part) for part in problem["loc"])[:200], problem["msg"])
                for problem in error.errors(include_input=False, include_url=False, include_context=False)[:MAX_PROBLEMS]
            ]
        ) from None


async def read_form(req: Request) -> dict[str, str]:
    """Answer an application/x-www-form-urlencoded body; a parameter that stands twice is refused (RFC 6749 section 3.2)."""
    if content_type(req) != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("the body must be application/x-www-form-urlencoded")
    raw = await read_bytes(req)
    try:
        fields = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise InvalidInput.of("", "a form of at most 100 fields, percent-encoded UTF-8") from None
    form: dict[str, Any] = {}
    names: set[str] = set()
    for name, value in fields:
        if name in names:
            raise InvalidInput.of(name[:64] if name.isascii() and name.isprintable() else "", "stands twice")
        names.add(name)
        jsontext.check(value)
        if value:  # RFC 6749 section 3.2: sent without a value = omitted
            form[name] = value
    return form
