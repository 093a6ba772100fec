"""The page of codes, made from the error tree: what each means (its docstring) and what to do (`cure`).

`python -m api.openapi.errors_page > docs/errors.md` writes the document; the service answers GET /errors with what can be met
over HTTP.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

import api
import ledger
import projections
from api.errors import InternalError, OAuthError, PayloadTooLarge, error_tree, status_of_kind
from api.openapi.page import html_page, table
from ledger.errors import LedgerError

TITLE: Final = "Errors"
HTTP: Final = (
    "Whatever is refused has a code that never changes. Over HTTP it is the member `code` of a problem (RFC 9457), whose `type`"
    " is `urn:token-ledger:error:` and the code: a name that is the same wherever the ledger runs, to be looked up here. Below"
    " /oauth/ an error is an object of RFC 6749 section 5.2, and below /access/ a message, as those standards want it."
)
ELSEWHERE: Final = "Of the command line and of what it starts; over HTTP none of these is ever said."


class Line(NamedTuple):
    """A code as a page says it."""

    code: str
    statuses: tuple[int, ...]
    cause: str
    cure: str


def lines_of(*, over_http: bool) -> Iterator[Line]:
    """Answer a line a code that is, or is not, ever said over HTTP; what is one thing to a caller is raised in several layers
    under one."""
    by_code: dict[str, list[type[LedgerError]]] = {}
    for kind in error_tree():
        if bool(statuses_of(kind)) == over_http:
            by_code.setdefault(kind.code, []).append(kind)
    for code, of_code in sorted(by_code.items()):
        statuses = sorted({status for kind in of_code for status in statuses_of(kind)})
        causes = (" ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()) for kind in of_code)
        cures = (kind.cure for kind in of_code)
        yield Line(code, tuple(statuses), " ".join(dict.fromkeys(causes)), " ".join(dict.fromkeys(cures)))


def statuses_of(kind: type[LedgerError]) -> tuple[int, ...]:
    """Answer the statuses over HTTP of a kind of refusal; none for what no caller of HTTP is ever told."""
    if kind is OAuthError:
        return 400, 401
    if kind is PayloadTooLarge:
        return 413, 414, 431
    if kind is InternalError:
        return (500,)
    status = status_of_kind(kind)
    return () if status == 500 else (status,)


def error_page() -> str:
    """Answer the page of what can be met over HTTP."""
    rows = (
        (
            f'<code id="{line.code}">{line.code}</code>',
            ", ".join(map(str, line.statuses)),
            _html(line.cause),
            _html(line.cure),
        )
        for line in lines_of(over_http=True)
    )
    return html_page(TITLE, f"<p>{_html(HTTP)}</p>", table(("code", "status", "cause", "cure"), rows))


def error_document() -> str:
    """Answer docs/errors.md: every code there is."""
    for package in (ledger, projections, api):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return "\n".join(
        [
            f"# {TITLE}",
            "",
            "Made from the error tree by `python -m api.openapi.errors_page`; `GET /errors` of a server says the same of what"
            " it answers.",
            "",
            HTTP,
            "",
            "| code | status | cause | cure |",
            "| --- | --- | --- | --- |",
            *(
                f"| `{line.code}` | {', '.join(map(str, line.statuses))} | {_cell(line.cause)} | {_cell(line.cure)} |"
                for line in lines_of(over_http=True)
            ),
            "",
            f"## Not over HTTP\n\n{ELSEWHERE}",
            "",
            "| code | cause | cure |",
            "| --- | --- | --- |",
            *(f"| `{line.code}` | {_cell(line.cause)} | {_cell(line.cure)} |" for line in lines_of(over_http=False)),
            "",
        ]
    )


def _html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(error_document(), end="")  # noqa: T201 # this is the document
