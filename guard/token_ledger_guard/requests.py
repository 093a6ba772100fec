"""What of a request is decided on: its method, its path, and the token it presents."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

MAX_TOKEN_CHARACTERS: Final = 8_192
# What RFC 3986 lets stand in a path as it is.
_AS_IT_IS: Final = "/:@!$&'()*+,;=-._~"
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)  # RFC 6750 section 2.1, b64token
_ABSOLUTE_FORM: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """`path`: percent-encoded, without the query; None where it can be read in two ways. `preflight`: it is one of CORS."""

    method: str
    path: str | None
    authorization: str | None
    preflight: bool

    def token(self) -> str | None:
        """Answer the bearer token; None where none is presented, "" for one that cannot be any.

        Several `Authorization` arrive joined by a comma, which no token has: two of them are none that could be told apart.
        """
        scheme, _, rest = (self.authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        text = rest.strip(" ")
        return text if len(text) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(text) is not None else ""


def path_of(raw: str | None, seen: str, encoding: str) -> str | None:
    """Answer the path to be decided on: as it was sent, if that is what the application sees decoded (`seen`); else None.

    A server or a middleware before the guard that changes the path makes two paths of it: one that is decided on, and one that
    the application is routed by. Where the server does not tell how it was sent, what the application sees is encoded again.
    `encoding`: what the server decoded by.
    """
    if raw is None:
        return quote(seen, safe=_AS_IT_IS, encoding=encoding) or "/"
    path = raw.partition("?")[0]
    if _ABSOLUTE_FORM.match(path) is not None:  # RFC 9112 section 3.2.2
        path = urlsplit(path).path
    return path if unquote(path, encoding) == seen else None
