"""What a command prints: a table on a terminal, plain lines elsewhere, JSON when asked for.

Values come from whoever wrote them into the ledger, so nothing of them may act on the terminal: what could is written as an
escape. docs/cli.md promises the shapes.
"""

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

Row = Mapping[str, Any]

# Controls (C0, DEL, C1: ECMA-48), lone surrogates, and what reorders or hides text (Unicode's line separators, bidirectional
# marks, zero-width characters and tags).
_ACTING: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MICROSECONDS: Final = re.compile(r"\.\d{6}Z$")
# Of a table, in characters; no answer has a longer line.
MAX_WIDTH: Final = 1_000_000
_SHORT: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def escaped(text: str) -> str:
    """Answer the text with a backslash doubled and each character that could act on a terminal as an escape of Python's."""
    return _ACTING.sub(_escape, text.replace("\\", "\\\\"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in _SHORT:
        return _SHORT[found[0]]
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


def json_line(value: object) -> str:
    """Answer JSON on one line, in printable ASCII: safe on every terminal and in every encoding."""
    return json.dumps(value).replace("\x7f", r"\u007f")


def text_of(value: object) -> str:
    """Answer a value on one line: nothing for null, lists with commas, a role as `api:role`, who or what as `kind:name`, other
    members as `name=value`."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return escaped(value)
        case list():
            return ",".join(text_of(item) for item in value)
        case {"api": str(api), "role": str(role), "removed": bool(removed)}:
            return escaped(f"{api}:{role}") + (" (removed)" if removed else "")
        case {"kind": str(kind), "id": str() | None as identifier, **others}:
            name = others.get("name") or identifier
            return escaped(kind if name is None else f"{kind}:{name}")
        case dict():
            return " ".join(f"{escaped(name)}={text_of(member)}" for name, member in value.items() if member is not None)
        case _:
            return str(value)


class Output:
    """Where a command prints to, and how."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Asked of the stream of now: a test, or a pager, may have put another in its place.
        self._terminal = not as_json and sys.stdout.isatty()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the encoding of the environment does not have is shown as an escape, as on standard error.
            sys.stdout.reconfigure(errors="backslashreplace")

    def rows(self, pages: Iterable[Sequence[Row]], columns: Sequence[str]) -> None:
        """Print a listing page by page as the pages come: a table each, or a line an item with the columns and tabs between."""
        none = True
        for page in pages:
            none = none and not page
            if self.as_json:
                for row in page:
                    click.echo(json_line(row))
            elif not self._terminal:
                for row in page:
                    click.echo("\t".join(text_of(row.get(name)) for name in columns))
            elif page:
                _print_table(columns, ([_short(name, text_of(row.get(name))) for name in columns] for row in page))
        if none and self._terminal:
            click.echo("There is none.", err=True)

    def one(self, thing: Row) -> None:
        """Print one thing: a table of its members, or a line a member, `name<tab>value`."""
        if self.as_json:
            click.echo(json_line(thing))
        elif self._terminal:
            _print_table(None, ([escaped(name), _short(name, text_of(value))] for name, value in thing.items()))
        else:
            for name, value in thing.items():
                click.echo(f"{escaped(name)}\t{text_of(value)}")

    def secrets(self, thing: Row, *names: str) -> None:
        """Print one thing with secrets in it, which are shown this once.

        Plain: the secrets, each alone on its line, and nothing else, so that `SECRET=$(...)` takes it. On a terminal they
        stand below the table, whole, so that they can be copied. A public client has none, nor has a command that is repeated
        under its Idempotency-Key.
        """
        secrets = {name: str(thing[name]) for name in names if thing.get(name) is not None}
        if self.as_json or not secrets:
            self.one(thing)
            return
        if self._terminal:
            self.one({name: value for name, value in thing.items() if name not in secrets})
        for name, secret in secrets.items():
            if self._terminal:
                click.echo(f"{name}, shown this once:")
            click.echo(escaped(secret))


def _print_table(columns: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> None:
    # Here, because no other command needs it: it takes as long to import as all the rest.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=columns is not None, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns or ("", "")):
        table.add_column(Text(name), no_wrap=True, style="bold" if columns is None and number == 0 else "")
    for row in rows:
        # Text, not str: square brackets in a value are no markup.
        table.add_row(*(Text(value) for value in row))
    # As wide as it needs to be: the terminal folds a line, and an id can still be copied whole.
    console = Console(file=sys.stdout, highlight=False, width=MAX_WIDTH)
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def _short(name: str, text: str) -> str:
    """Answer a value as a table shows it: instants to the second."""
    return _MICROSECONDS.sub("Z", text) if name == "instant" or name.endswith(("_at", "_until")) else text
