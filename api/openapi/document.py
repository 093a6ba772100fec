"""The document itself: routes, responders, models and the error tree put together with what is said beside them."""

import inspect
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from pydantic.json_schema import models_json_schema

from api.body import MAX_BODY_BYTES
from api.errors import (
    OAUTH_ERRORS,
    NoDecision,
    NoSuchEndpoint,
    PayloadTooLarge,
    UnsupportedMediaType,
    error_tree,
    status_of_kind,
)
from api.middleware import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from api.openapi import access, apis, audit, clients, oauth, public, subjects, tokens
from api.openapi import me as own
from api.openapi.operations import JSON, WHO, Answer, Operation, parameters
from api.openapi.shapes import ID, NAME, POSITION, ROLE_NAME, SCHEMAS, TEXT, Schema, list_of, one_of, thing
from ledger.errors import InvalidInput, IsArchived, LedgerError, NotAllowed, NotAuthenticated, TryAgain
from ledger.execute import IdempotencyKeyReused
from ledger.jsontext import MAX_INTEGER

PROBLEM_JSON: Final = "application/problem+json"
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
AREAS: Final = (own, oauth, access, subjects, clients, apis, tokens, audit, public)
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    endpoint: operation for area in AREAS for endpoint, operation in area.OPERATIONS.items()
}
ABOUT: Final = (
    "Who is this token, and may it call METHOD on this path: now, or at any moment of the past? A JSON body is strict: UTF-8,"
    f" no member twice, no NUL, integers within 2^53, at most {MAX_BODY_BYTES // 1024} KiB; so is a query: a parameter that is"
    f" not known, or stands twice, is refused. A header has at most {MAX_HEADER_BYTES // 1024} KiB, a target"
    f" {MAX_TARGET_BYTES // 1024} KiB. Whatever is refused has a stable `code`: GET /errors says what each means."
)
# Said once: they are the same wherever they are.
SHARED: Final = frozenset([413, 414, 415, 422, 431, 503])
_ERROR: Final = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}


class Route(Protocol):
    """A route of api/app.py."""

    @property
    def path(self) -> str: ...
    @property
    def resource(self) -> Any: ...
    @property
    def suffix(self) -> str | None: ...


def endpoints(routes: Iterable[Route]) -> dict[tuple[str, str], Any]:
    """Answer every endpoint there is, method and path, with its responder."""
    found = {}
    for route in routes:
        suffix = f"_{route.suffix}" if route.suffix else ""
        for method in METHODS:
            responder = getattr(route.resource, f"on_{method}{suffix}", None)
            if responder is not None:
                found[method.upper(), route.path] = responder
    return found


def template_of(route: str) -> str:
    """Answer the path of a route as OpenAPI writes it: a parameter there is one segment, which only Envoy's is not."""
    return route.replace(":path}", "}")


def make_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Answer the document. KeyError for a route that nothing is said of."""
    paths: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for (method, route), responder in endpoints(routes).items():
        operation, path = OPERATIONS[method, route], template_of(route)
        described = _described(method, path, responder, operation)
        for status, response in described["responses"].items():
            if int(status) in SHARED and NoDecision not in operation.refuses:
                name = f"{path.split('/')[1] if _has_own_errors(path) else 'problem'}_{status}"
                assert shared.setdefault(name, response) == response, f"two responses are named {name}"
                described["responses"][status] = {"$ref": f"#/components/responses/{name}"}
        paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Token Ledger", "version": "1", "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS | _bodies(),
            "responses": dict(sorted(shared.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token that stands for the API `ledger`."},
                "client_basic": {"type": "http", "scheme": "basic", "description": "A client's name and secret."},
                "gateway_key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Ledger-Gateway-Key",
                    "description": "The secret of the client that a gateway is.",
                },
            },
        },
    }


def _described(method: str, path: str, responder: Any, operation: Operation) -> dict[str, Any]:
    text = inspect.getdoc(responder) or ""
    summary, _, rest = text.partition("\n\n")
    headers = dict(operation.headers)
    if operation.repeatable:
        headers["Idempotency-Key"] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
    described: dict[str, Any] = {
        "operationId": _operation_id(method, path),
        "tags": [_tag(path)],
        "summary": " ".join(summary.split()),
        "security": WHO[operation.who],
        "parameters": [
            *parameters("path", {name: _path_schema(name) for name in _in_path(path)}, tuple(_in_path(path))),
            *parameters("query", operation.query or {}, operation.needed_query),
            *parameters("header", headers, operation.needed_headers),
        ],
        "responses": _responses(path, operation),
    }
    if rest:
        described["description"] = " ".join(rest.split())
    if operation.has_body:
        described["requestBody"] = _request_body(operation)
    return described


def _operation_id(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"[a-z0-9]+", path.replace("{", "by_"))])


def _tag(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[1] if parts[0] == "v1" else parts[0]


def _in_path(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _path_schema(name: str) -> Schema:
    if name.endswith("_id"):
        return ID
    if name == "target":
        return TEXT | {"description": "The path and the query that were asked for, as they came: as many segments as it has."}
    return ROLE_NAME if name == "role" else NAME


def _request_body(operation: Operation) -> dict[str, Any]:
    if operation.form is not None:
        return {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": operation.form}}}
    schema = operation.json_body
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
    return {"required": not operation.optional_body, "content": {JSON: {"schema": schema}}}


# ------------------------------------------------------------------------------------------------------------- bodies


def _bodies() -> dict[str, Schema]:
    models = {operation.body for operation in OPERATIONS.values() if operation.body is not None}
    _, made = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Schema] = made["$defs"]
    assert len(schemas.keys() & SCHEMAS.keys()) == 0, "a body has the name of an answer"
    return {name: _plain(schema) for name, schema in schemas.items()}


def _plain(schema: Any) -> Any:
    """Answer a schema of pydantic's without its titles, integers within what our JSON has."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _plain(value) for name, value in schema.items() if not (name == "title" and isinstance(value, str))}
    if plain.get("type") == "integer" and "enum" not in plain:
        lowest = plain.get("exclusiveMinimum", plain.get("minimum", -MAX_INTEGER))
        plain = {"minimum": lowest, "maximum": MAX_INTEGER} | plain
    return plain


# ---------------------------------------------------------------------------------------------------------- refusals


def refusals(path: str, operation: Operation) -> dict[int, list[str]]:
    """Answer the statuses an operation is refused with, and the codes of each."""
    kinds: list[type[LedgerError]] = [*operation.refuses]
    if operation.has_body or operation.query is not None or operation.repeatable:
        kinds.append(InvalidInput)
    if operation.has_body:
        kinds.append(UnsupportedMediaType)
    # A gateway that hands answers on to its client is not told so: NoDecision.
    if WHO[operation.who] != [{}] and NoDecision not in kinds:
        kinds.append(NotAuthenticated)
    if operation.who == "bearer":
        kinds.append(NotAllowed)
    if operation.repeatable and not operation.found_first:
        kinds.append(IsArchived)  # what the first request did
    if operation.repeatable and operation.has_body:
        kinds.append(IdempotencyKeyReused)
    if _in_path(path) and operation.who != "gateway":
        kinds.append(NoSuchEndpoint)
    if operation.database:
        kinds += [kind for kind in error_tree() if issubclass(kind, TryAgain) and status_of_kind(kind) == 503]
    if path.startswith("/access/"):
        kinds = [InvalidInput if kind is UnsupportedMediaType else kind for kind in kinds]  # of one status (api/errors.py)
    found: dict[int, list[str]] = {414: [PayloadTooLarge.code], 431: [PayloadTooLarge.code]}
    if operation.has_body:
        found[413] = [PayloadTooLarge.code]
    for kind in kinds:
        codes = found.setdefault(status_of_kind(kind), [])
        if kind.code not in codes:
            codes.append(kind.code)
    return {status: sorted(codes) for status, codes in sorted(found.items())}


def _responses(path: str, operation: Operation) -> dict[str, Any]:
    responses = {status: _response(answer) for status, answer in operation.answers.items()}
    for status, codes in refusals(path, operation).items():
        refusal = _response(_refusal(path, status, codes))
        if status in responses:  # a gateway's answer has the same status as a refusal
            responses[status]["content"] = responses[status].get("content", {}) | refusal["content"]
            responses[status]["description"] += " Or: " + refusal["description"]
        else:
            responses[status] = refusal
    return {str(status): response for status, response in sorted(responses.items())}


def _has_own_errors(path: str) -> bool:
    """Say whether a standard says how errors below this path look (api/errors.py)."""
    return path.startswith(("/oauth/", "/access/"))


def _response(answer: Answer) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        response["headers"] = {name: {"required": True, "schema": schema} for name, schema in answer.headers.items()}
    if answer.content:
        response["content"] = {media: {"schema": schema} for media, schema in answer.content.items()}
    return response


def _refusal(path: str, status: int, codes: list[str]) -> Answer:
    description = HTTPStatus(status).phrase
    headers: dict[str, Schema] = {_ERROR[status]: TEXT} if status in _ERROR and NoDecision.code not in codes else {}
    if path.startswith("/oauth/"):
        errors = [OAUTH_ERRORS.get(status, "invalid_request"), *(oauth.ERRORS if status == 400 else ())]
        schema = thing({"error": one_of(sorted(set(errors))), "error_description": TEXT})
        return Answer(description, {JSON: schema}, headers)
    if path.startswith("/access/"):
        return Answer(description, {"text/plain": TEXT}, headers)
    return Answer(f"{description}: {', '.join(codes)}.", {PROBLEM_JSON: problem(status, codes)}, headers)


def problem(status: int, codes: list[str]) -> Schema:
    """Answer the schema of a problem (RFC 9457) of this status."""
    members = {
        "type": TEXT | {"format": "uri"},
        "title": TEXT,
        "status": {"type": "integer", "const": status},
        "code": one_of(codes),
        "detail": TEXT,
        "request_id": ID,
    }
    optional: dict[str, Schema] = {}
    if InvalidInput.code in codes:
        optional["problems"] = list_of(thing({"field": TEXT, "rule": TEXT}))
    if IsArchived.code in codes:
        optional |= {"partition": TEXT, "from_position": POSITION, "to_position": POSITION}
    return thing(members, optional)
