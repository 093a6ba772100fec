"""Which command calls which endpoint: said once, above the command, and called through that.

`@calls("POST", "/v1/apis")` gives a command its `Call`, the only way to the server that it has; so a command cannot claim an
endpoint that it does not call. A test compares what is said here with the routes of api/app.py.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import click

from api.cli.connection import Connection, Refusal, Who, read_url
from api.cli.options import as_of_options, is_id
from api.cli.output import Output, Row, escaped

DEFAULT_URL: Final = "http://127.0.0.1:8080"
MAX_PAGE: Final = 1_000


class Endpoint(NamedTuple):
    """A method and a route, as api/app.py spells it."""

    method: str
    path: str


# Where a subject's name becomes its id.
FIND_SUBJECT: Final = Endpoint("GET", "/v1/subjects")


class Said(NamedTuple):
    """What is said above a command: its endpoint, for a listing the columns of a table and of plain lines, and `also` the
    endpoint that does what was listed, where the same command does that too."""

    endpoint: Endpoint
    columns: tuple[str, ...]
    also: Endpoint | None = None


_said: dict[Callable[..., None], Said] = {}


def said_of(command: click.Command) -> Said | None:
    """Answer what is said above a command; None for one that opens the database itself."""
    return None if command.callback is None else _said.get(command.callback)


class Call:
    """What a command is given: its endpoint, to be called, and where to print."""

    def __init__(
        self,
        connection: Connection,
        said: Said,
        output: Output,
        idempotency_key: str | None = None,
        then: Mapping[str, str | None] | None = None,
    ) -> None:
        self.connection = connection
        self.output = output
        self._endpoint, self._columns, self._also = said
        self._then = then or {}
        self._headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}

    def __call__(
        self,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        who: Who = "caller",
        correlation_id: str | None = None,
        **path: str,
    ) -> dict[str, Any]:
        """Call the endpoint, `path` in the places of its route, and answer what it answers. Parameters that are None are left
        out. `correlation_id`: what the audit is to have in common of several calls. Raises what `Connection.ask` raises."""
        query = {**(query or {}), **self._then}
        headers = self._headers if correlation_id is None else {**self._headers, "X-Correlation-Id": correlation_id}
        return self._ask(self._endpoint, path, query=query, body=body, form=form, headers=headers, who=who)

    def also(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call the endpoint that does what was listed."""
        assert self._also is not None
        return self._ask(self._also, {}, body=body)

    def show(self, answer: Mapping[str, Any]) -> None:
        """Print one thing."""
        self.output.one(answer)

    def list(
        self,
        member: str,
        query: Mapping[str, object] | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        **path: str,
    ) -> None:
        """Print a listing, page after page to its end or to `limit`, holding one page at a time."""
        pages = self.pages(member, query or {}, limit=limit, cursor=cursor, **path)
        self.rows(page[member] for page in pages)

    def rows(self, pages: Iterable[Sequence[Row]], columns: Sequence[str] | None = None) -> None:
        """Print the items of pages; columns other than those of the listing where these are something else."""
        self.output.rows(pages, self._columns if columns is None else columns)

    def pages(
        self, member: str, query: Mapping[str, object], *, limit: int | None = None, cursor: str | None = None, **path: str
    ) -> Iterator[dict[str, Any]]:
        """Answer the answers of a listing, one a page."""
        return self._pages(self._endpoint, path, member, {**query, **self._then}, limit, cursor)

    # ----------------------------------------------------------------------------------------------------- what is named

    def subject_id(self, name: str) -> str:
        """Answer the id of a subject that is named by its id or by its user name. Refusal for a user who is not there."""
        if is_id(name):
            return name
        found = self._ask(FIND_SUBJECT, {}, query={"username": name})["subjects"]
        if not found:
            raise Refusal(f"there is no user {escaped(name)}")
        subject_id: str = found[0]["subject_id"]
        return subject_id

    def read(self, endpoint: Endpoint, **path: str) -> dict[str, Any]:
        """Answer what another endpoint does."""
        return self._ask(endpoint, path)

    def every(self, endpoint: Endpoint, member: str, **path: str) -> Iterator[Any]:
        """Answer each item of another listing."""
        for page in self._pages(endpoint, path, member, {}, None, None):
            yield from page[member]

    # -------------------------------------------------------------------------------------------------------- under way

    def _ask(
        self,
        endpoint: Endpoint,
        path: Mapping[str, str],
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        who: Who = "caller",
    ) -> dict[str, Any]:
        return self.connection.ask(
            endpoint.method,
            endpoint.path.format_map({place: segment(value) for place, value in path.items()}),
            query={name: str(value) for name, value in (query or {}).items() if value is not None},
            body=body,
            form=form,
            headers=headers,
            who=who,
        )

    def _pages(
        self,
        endpoint: Endpoint,
        path: Mapping[str, str],
        member: str,
        query: Mapping[str, object],
        limit: int | None,
        cursor: str | None,
    ) -> Iterator[dict[str, Any]]:
        left = limit
        while True:
            size = MAX_PAGE if left is None else min(left, MAX_PAGE)
            page = self._ask(endpoint, path, query={**query, "limit": size, "cursor": cursor})
            yield page
            cursor = page.get("next")
            if cursor is None:
                return
            if left is not None:
                left -= len(page[member])
                if left <= 0:
                    click.echo(f"There are more: --cursor {escaped(cursor)}", err=True)
                    return


def calls(
    method: str,
    path: str,
    *,
    columns: Sequence[str] = (),
    prints: bool = True,
    repeatable: bool = False,
    also: Endpoint | None = None,
    past: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which endpoint the command below calls, and the columns of a listing; give it its Call. Stands directly above the
    function.

    `also`: the endpoint that does what this one lists, for a command that does it when told so.

    Adds the options every such command has: `--url`, `--json` where it `prints` something, `--idempotency-key` where the
    endpoint takes one, and where it shows the `past`, `--as-of` and `--instant`, which the Call sends by itself.
    """
    said = Said(Endpoint(method, path), tuple(columns), also)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*, url: str, as_json: bool = False, idempotency_key: str | None = None, **given: Any) -> None:
            connection = Connection(url)
            then = {name: given.pop(name) for name in ("as_of", "instant")} if past else None
            try:
                function(Call(connection, said, Output(as_json=as_json), idempotency_key, then), **given)
            except UnicodeEncodeError:
                # Bytes of an argument that are no text come as lone surrogates.
                raise click.UsageError("an argument is not UTF-8") from None
            finally:
                connection.close()

        _said[command] = said
        if repeatable:
            command = _idempotency_key(command)
        if past:
            command = as_of_options(command)
        if prints:
            command = _json(command)
        return _url(command)

    return decorate


_url: Final = click.option(
    "--url",
    envvar="TOKEN_LEDGER_URL",
    default=DEFAULT_URL,
    show_default=True,
    callback=lambda _context, _parameter, value: read_url(value),
    help="The server; or TOKEN_LEDGER_URL.",
)
_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_idempotency_key: Final = click.option(
    "--idempotency-key",
    metavar="KEY",
    callback=lambda _context, _parameter, value: _checked_key(value),
    help="A word of your own: the same command again, under the same word, is done once. To repeat after exit status 3.",
)


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise click.BadParameter("1 to 255 printable ASCII characters")
    return key


def segment(value: str) -> str:
    """Answer a value as one segment of a path; a usage error for what would be another path (RFC 3986 section 5.2.4)."""
    if value in ("", ".", ".."):
        raise click.UsageError("a name is not empty, and neither `.` nor `..`")
    return quote(value, safe="")


def given(**members: object) -> dict[str, Any]:
    """Answer the members that are not None: what was not said is not sent."""
    return {name: value for name, value in members.items() if value is not None}
