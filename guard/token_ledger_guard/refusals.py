"""How a request is refused: RFC 6750 section 3 for who calls, RFC 9457 for the body. The ledger's reason is not told to him."""

import json
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status, and its code; `error`: of RFC 6750 section 3.1, None where no token was presented."""

    status: HTTPStatus
    code: str
    detail: str
    error: str | None = None

    def line(self) -> str:
        """Answer the status as WSGI wants it."""
        return f"{self.status.value} {self.status.phrase}"

    def headers(self, realm: str) -> list[tuple[str, str]]:
        """Answer the header fields, but for the length."""
        headers = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")]
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return [*headers, ("Retry-After", "1")]
        if self.status == HTTPStatus.BAD_REQUEST:
            return headers
        challenge = f'Bearer realm="{realm}"' + (f', error="{self.error}"' if self.error else "")
        return [*headers, ("WWW-Authenticate", challenge)]

    def body(self) -> bytes:
        """Answer the body."""
        members = {"title": self.status.phrase, "status": self.status.value, "code": self.code, "detail": self.detail}
        return json.dumps(members).encode()


NO_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "token_required", "a bearer token is needed")
INVALID_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "invalid_token", "this token is not valid here", "invalid_token")
FORBIDDEN = Refusal(HTTPStatus.FORBIDDEN, "insufficient_scope", "this token may not do that", "insufficient_scope")
AMBIGUOUS = Refusal(HTTPStatus.BAD_REQUEST, "ambiguous_path", "this path can be read in two ways")
UNAVAILABLE = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no_decision", "whether this may be done cannot be said just now")
