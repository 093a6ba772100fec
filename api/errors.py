"""From the error tree to HTTP, in one place.

/oauth/* answers OAuth error objects (RFC 6749 section 5.2), /access/* a plain message (AuthZEN 1.0 section 10.1.2),
everything else problem details (RFC 9457) with a stable `code`. No answer quotes a secret or an internal message.
"""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Final

import falcon
import psycopg
from falcon.asgi import App, Request, Response

from api.challenges import REALM, bearer_challenge
from ledger.errors import InvalidInput, IsArchived, LedgerError, NotAllowed, NotAuthenticated, NotFound, Refused, TryAgain
from ledger.execute import IdempotencyKeyReused
from ledger.guessing import TooManyAttempts
from projections.feed import CursorOfAnotherLog

logger = logging.getLogger(__name__)

# Of RFC 6749 section 5.2; the last two are of section 4.1.2.1, for what section 5.2 has no word for.
OAUTH_ERRORS: Final = {
    401: "invalid_client",
    403: "unauthorized_client",
    503: "temporarily_unavailable",
    500: "server_error",
}
# RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E.
NOT_IN_DESCRIPTIONS: Final = re.compile(r"[^ !#-\[\]-~]")


class OAuthError(LedgerError):
    """An error of RFC 6749 section 5.2: `error` is its code, `status` 400 or 401."""

    code = "oauth_error"
    cure = "Read `error` and `error_description` of the answer: RFC 6749 section 5.2."

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.status = status


class PayloadTooLarge(LedgerError):
    """The body, the headers or the target is larger than we take."""

    code = "too_large"
    cure = "Send less at once: the limits are 256 KiB a body, 16 KiB a header, 8 KiB a target."

    def __init__(self, what: str, limit: str, status: int) -> None:
        super().__init__(f"{what} is larger than {limit}")
        self.status = status


class UnsupportedMediaType(LedgerError):
    """The body has another content type than the endpoint takes."""

    code = "unsupported_media_type"
    cure = "Send `Content-Type: application/json`, or a form to /oauth/."


class NoDecision(LedgerError):
    """A gateway got no decision, for a reason of its own: a key that is not known, a header that lacks or stands twice.

    Its client is told whatever it is answered: nothing is wrong with the client's token, and so it is neither 401 nor 403.
    """

    code = "no_decision"
    cure = "Give the gateway the secret of a client that serves its API, and let it send each header once: docs/gateways.md."

    def __init__(self, error: LedgerError) -> None:
        super().__init__(f"the gateway got no decision: {error.message}")


class DatabaseUnavailable(TryAgain):
    """The database was needed for the answer, and is away, out of connections or too slow."""

    code = "database_unavailable"
    cure = "Try again after `Retry-After` seconds; if it lasts, look after the database. Nothing was answered."


class BadRequest(LedgerError):
    """It is no request of HTTP that can be served: a header that contradicts itself, for example."""

    code = "bad_request"
    cure = "Correct the request: `detail` says what is wrong with it."


class NoSuchEndpoint(LedgerError):
    """There is no endpoint of this path, or the path is one that nothing is decided on: empty or dot segments, for example."""

    code = "no_such_endpoint"
    cure = "Compare the path with `GET /docs`: each endpoint has one spelling, without a trailing slash."


class MethodNotAllowed(LedgerError):
    """The endpoint has no such method; the header `Allow` says which it has."""

    code = "method_not_allowed"
    cure = "Use a method of the header `Allow`."


class InternalError(LedgerError):
    """Something went wrong in the service itself; its own log says more, beside the request id."""

    code = "internal_error"
    cure = "Report it with the request id."


# The first that fits counts.
STATUSES: Final[tuple[tuple[type[LedgerError], int], ...]] = (
    (InvalidInput, 400),
    (BadRequest, 400),
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (NoSuchEndpoint, 404),
    (MethodNotAllowed, 405),
    (UnsupportedMediaType, 415),
    (IsArchived, 410),
    (IdempotencyKeyReused, 422),
    (Refused, 409),
    (CursorOfAnotherLog, 410),
    (TooManyAttempts, 429),
    (TryAgain, 503),
    (NoDecision, 503),
)


def status_of(error: LedgerError) -> int:
    """Answer the HTTP status of a refusal."""
    return error.status if isinstance(error, OAuthError | PayloadTooLarge) else status_of_kind(type(error))


def status_of_kind(kind: type[LedgerError]) -> int:
    """Answer the HTTP status of a kind of refusal, but for those that each say their own: OAuthError, PayloadTooLarge."""
    return next((status for known, status in STATUSES if issubclass(kind, known)), 500)


def error_tree() -> list[type[LedgerError]]:
    """Answer every kind of refusal that the modules loaded so far have, by code."""

    def below(kind: type[LedgerError]) -> Iterator[type[LedgerError]]:
        yield kind
        for child in kind.__subclasses__():
            if child.__module__.partition(".")[0] in ("ledger", "projections", "api"):
                yield from below(child)

    return sorted(set(below(LedgerError)), key=lambda kind: (kind.code, kind.__name__))


def install_error_handlers(app: App[Request, Response]) -> None:
    """Make every error an answer of the path it happened on."""
    app.add_error_handler(LedgerError, _refused)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(psycopg.OperationalError, _database_unavailable)
    app.add_error_handler(Exception, _unexpected)


async def _refused(req: Request, resp: Response, error: LedgerError, _params: dict[str, Any]) -> None:
    status = status_of(error)
    if status == 415 and req.path.startswith("/access/"):
        status = 400  # AuthZEN 1.0 section 10.1.2 knows no other for a request that is malformed
    if isinstance(error, TryAgain):
        resp.set_header("Retry-After", str(error.retry_after_seconds))
    if status == 500:
        logger.error("request %s: %s: %s", req.context.request_id, error.code, error.message)
        _answer(req, resp, status, InternalError.code, "something went wrong here; the request id helps to find it", None)
        return
    problems = [{"field": p.field, "rule": p.rule} for p in error.problems] if isinstance(error, InvalidInput) else None
    challenge = _challenge(req, status)
    if challenge is not None:
        resp.set_header("WWW-Authenticate", challenge)
    _answer(req, resp, status, error.code, error.message, problems, error)


async def _database_unavailable(req: Request, resp: Response, error: psycopg.OperationalError, params: dict[str, Any]) -> None:
    # Away, out of connections, or no answer in time. Writes have errors of their own, which tell what was recorded.
    logger.warning("request %s: the database failed: %s", req.context.request_id, type(error).__name__)
    await _refused(req, resp, DatabaseUnavailable("the database did not answer in time"), params)


def _challenge(req: Request, status: int) -> str | None:
    """Answer what a 401 challenges with, or a 403 where a token was shown; None for any other answer.

    The scheme is the one that was tried (RFC 6749 section 5.2), else the one of the endpoint.
    """
    if status not in (401, 403):
        return None
    tried = (req.get_header("Authorization") or "").partition(" ")[0].lower()
    if req.path.startswith("/gateway/"):
        # Nothing is wrong with the token that was passed on.
        return f'Ledger-Gateway-Key realm="{REALM}"' if status == 401 else None
    if tried == "basic" or req.path.startswith(("/oauth/", "/access/")):
        return f'Basic realm="{REALM}"' if status == 401 else None
    if status == 403:
        return bearer_challenge("insufficient_scope", req.context.issuer)
    return bearer_challenge("invalid_token" if tried == "bearer" else "no_token", req.context.issuer)


async def _http_error(req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    code = {404: NoSuchEndpoint, 405: MethodNotAllowed}.get(error.status_code, BadRequest).code
    _answer(req, resp, error.status_code, code, error.title or "the request cannot be served", None)


async def _unexpected(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    # The traceback without the message: a message of a library can quote its input, and so a secret.
    logger.error("request %s: unexpected %s at %s", req.context.request_id, type(error).__name__, _where(error), exc_info=False)
    _answer(req, resp, 500, InternalError.code, "something went wrong here; the request id helps to find it", None)


def _where(error: BaseException) -> str:
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " > ".join(places[-6:])


def _answer(
    req: Request,
    resp: Response,
    status: int,
    code: str,
    detail: str,
    problems: list[dict[str, str]] | None,
    error: LedgerError | None = None,
) -> None:
    resp.status = falcon.code_to_http_status(status)
    resp.set_header("Cache-Control", "no-store")
    body: dict[str, Any]
    if req.path.startswith("/oauth/"):
        name = error.error if isinstance(error, OAuthError) else OAUTH_ERRORS.get(status, "invalid_request")
        body = {"error": name, "error_description": NOT_IN_DESCRIPTIONS.sub("'", detail)}
        resp.content_type = "application/json"
    elif req.path.startswith("/access/"):
        resp.content_type = "text/plain; charset=utf-8"
        resp.text = detail
        return
    else:
        body = {
            "type": f"urn:token-ledger:error:{code}",
            "title": code.replace("_", " "),
            "status": status,
            "code": code,
            "detail": detail,
            "request_id": str(req.context.request_id),
        }
        if problems is not None:
            body["problems"] = problems
        if isinstance(error, IsArchived):
            body |= {"partition": error.partition, "from_position": error.from_position, "to_position": error.to_position}
        resp.content_type = "application/problem+json"
    resp.text = json.dumps(body, ensure_ascii=False)
