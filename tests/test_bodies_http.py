"""What is wrong with a request to a management endpoint is refused by name, at every one of them, and nothing is recorded.

An endpoint that takes a body is a line in BODIES, with every member it knows: all that can be wrong with a body is then tried
on it. Forms and questions of decisions: test_oauth_http.py and test_access_http.py.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import ROUTES
from tests.calls import (
    PASSWORD,
    bearer,
    first_party,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refused,
    unique,
)
from tests.serving import Served

SUSPENSION = {"reason": "incident", "until": "2199-01-01T00:00:00Z"}
BECAUSE = {"reason": "incident"}
CUT_OFF = {"issued_before": "2020-01-01T00:00:00Z", "reason": "incident"}
CLIENT = {
    "grants": ["password", "refresh_token"],
    "strategy": "jwt",
    "refresh": "rotating",
    "access_lifetime_seconds": 600,
    "refresh_idle_seconds": 600,
    "refresh_absolute_seconds": 600,
    "retry_window_seconds": 0,
    "apis": ["ledger"],
    "serves": "ledger",
}
KEY = {"kid": "one", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
REVOCATION = {
    "filter": {"client": "console", "kind": "access"},
    "dry_run": True,
    "as_of_position": 1,
    "plan_id": str(uuid4()),
    "reason": "incident",
    "cursor": "1.00000000-0000-0000-0000-000000000000",
    "limit": 10,
}
TAKING_BACK = {
    "token_id": str(uuid4()),
    "actor_id": str(uuid4()),
    "key_id": str(uuid4()),
    "from_position": 1,
    "to_position": 2,
    "from_time": "2030-01-01T00:00:00Z",
    "to_time": "2030-01-02T00:00:00Z",
    "as_of_position": 1,
    "plan_id": str(uuid4()),
    "reason": "incident",
    "cursor": "50",
}
PROFILE = {"username": "ann", "display_name": "Ann", "email": "ann@example.com"}
NAMED = {"name": "script", "apis": ["ledger"], "scope": "direct", "lifetime_seconds": 60}


@dataclass(frozen=True)
class Taken:
    """A body with every member that an endpoint knows, and those that it cannot do without."""

    body: Mapping[str, Any]
    required: tuple[str, ...] = ()
    optional: bool = False  # the whole body


BODIES: Mapping[tuple[str, str], Taken] = {
    ("POST", "/login"): Taken(
        {"username": "ann", "password": PASSWORD, "client_id": "console", "apis": ["ledger"], "scope": "direct"},
        ("username", "password"),
    ),
    ("PUT", "/v1/me/password"): Taken({"current": PASSWORD, "new": "another horse"}, ("current", "new")),
    ("POST", "/v1/me/tokens"): Taken(NAMED, ("name",)),
    ("POST", "/v1/subjects"): Taken(PROFILE | {"kind": "person", "password": PASSWORD, "clearance": 1}),
    ("PUT", "/v1/subjects/{subject_id}/profile"): Taken(PROFILE),
    ("PUT", "/v1/subjects/{subject_id}/password"): Taken({"password": PASSWORD, "keep_tokens": True}, ("password",)),
    ("PUT", "/v1/subjects/{subject_id}/clearance"): Taken({"clearance": 7}, ("clearance",)),
    ("POST", "/v1/subjects/{subject_id}/roles"): Taken({"roles": ["ledger:auditor"]}, ("roles",)),
    ("POST", "/v1/subjects/{subject_id}/roles/withdraw"): Taken({"roles": ["ledger:auditor"]}, ("roles",)),
    ("POST", "/v1/subjects/{subject_id}/rules"): Taken(
        {"rules": [{"api": "ledger", "effect": "allow", "methods": ["GET"], "path": "/v1/me", "min_clearance": 1}]}, ("rules",)
    ),
    ("POST", "/v1/subjects/{subject_id}/rules/withdraw"): Taken({"rule_ids": [str(uuid4())]}, ("rule_ids",)),
    ("POST", "/v1/subjects/{subject_id}/suspend"): Taken(SUSPENSION, ("reason",)),
    ("POST", "/v1/subjects/{subject_id}/reinstate"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/subjects/{subject_id}/revoke-tokens"): Taken(CUT_OFF, optional=True),
    ("POST", "/v1/subjects/{subject_id}/erase"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/clients"): Taken({"name": "shop", "kind": "confidential", "jwks": {"keys": [KEY]}} | CLIENT, ("name",)),
    ("PATCH", "/v1/clients/{name}"): Taken(CLIENT),
    ("POST", "/v1/clients/{name}/secret"): Taken({"keep_old": True}, optional=True),
    ("POST", "/v1/clients/{name}/keys"): Taken({"jwks": {"keys": [KEY]}, "keep_secret": True}, ("jwks",)),
    ("POST", "/v1/clients/{name}/suspend"): Taken(SUSPENSION, ("reason",)),
    ("POST", "/v1/clients/{name}/reinstate"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/clients/{name}/revoke-tokens"): Taken(CUT_OFF, optional=True),
    ("POST", "/v1/apis"): Taken({"name": "orders", "audience": "orders", "semicolons": False, "preflights": False}, ("name",)),
    ("PATCH", "/v1/apis/{api}"): Taken({"audience": "orders", "semicolons": False, "preflights": False}),
    ("POST", "/v1/apis/{api}/suspend"): Taken(SUSPENSION, ("reason",)),
    ("POST", "/v1/apis/{api}/reinstate"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/apis/{api}/revoke-tokens"): Taken(CUT_OFF, optional=True),
    ("POST", "/v1/apis/{api}/import"): Taken(
        {"roles": {"reader": ["allow GET /orders"]}, "remove": ["old"], "dry_run": True, "plan_id": str(uuid4())}
    ),
    ("POST", "/v1/apis/{api}/roles"): Taken({"name": "reader"}, ("name",)),
    ("POST", "/v1/apis/{api}/roles/{role}/rules"): Taken({"rules": ["allow GET /orders"]}, ("rules",)),
    ("POST", "/v1/apis/{api}/roles/{role}/rules/withdraw"): Taken({"rule_ids": [str(uuid4())]}, ("rule_ids",)),
    ("POST", "/v1/tokens"): Taken(
        NAMED | {"subject_id": str(uuid4()), "username": "ann", "client": "console", "claims": {"tenant": "south"}}
    ),
    ("POST", "/v1/tokens/{token_id}/suspend"): Taken(SUSPENSION, ("reason",)),
    ("POST", "/v1/tokens/{token_id}/reinstate"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/tokens/{token_id}/revoke"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/revocations"): Taken(REVOCATION, ("filter",)),
    ("POST", "/v1/audit/blast-radius"): Taken(TAKING_BACK, ("as_of_position", "plan_id")),
    ("POST", "/v1/families/{family_id}/suspend"): Taken(SUSPENSION, ("reason",)),
    ("POST", "/v1/families/{family_id}/reinstate"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/families/{family_id}/revoke"): Taken(BECAUSE, optional=True),
    ("POST", "/v1/keys"): Taken({"use": "enc", "algorithm": "A256GCM"}, ("use",)),
    ("POST", "/v1/keys/{key_id}/activate"): Taken({}, optional=True),
    ("POST", "/v1/keys/{key_id}/retire"): Taken({}, optional=True),
    ("POST", "/v1/keys/{key_id}/revoke"): Taken(BECAUSE, ("reason",)),
    ("POST", "/v1/lockouts/{lockout_id}/unlock"): Taken({}, optional=True),
}
# Their answer is worth something once, or they are repeated under a secret that is not kept, or under the id of a plan.
NOT_REPEATABLE = {
    ("POST", "/login"),
    ("PUT", "/v1/me/password"),
    ("POST", "/v1/revocations"),
    ("POST", "/v1/audit/blast-radius"),
}


def every_endpoint_but(left_out: Collection[tuple[str, str]]) -> pytest.MarkDecorator:
    """Try a test on the endpoints that take a body."""
    endpoints = [endpoint for endpoint in BODIES if endpoint not in left_out]
    return pytest.mark.parametrize(("method", "path"), endpoints, ids=[" ".join(endpoint) for endpoint in endpoints])


every_endpoint = every_endpoint_but(())


@pytest.fixture(scope="module")
def things(ledger_server: Served) -> dict[str, str]:
    """What the paths are about: one of everything that is there, but for lock-outs and keys."""
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/{id}"]})
        person, app = new_person(admin, f"{api}:reader"), first_party(admin, api, refresh="rotating")
        tokens = login(http, person, app)
        return {
            "api": api,
            "role": "reader",
            "subject_id": person.subject_id,
            "name": app.name,
            "token_id": tokens["token_id"],
            "family_id": tokens["family_id"],
            "lockout_id": str(uuid4()),
            "key_id": str(uuid4()),
        }


def wrong_member(value: object) -> object:
    """Answer what is easily taken for a value, and is of another type."""
    match value:
        case bool():
            return "true"
        case int():
            return str(value)
        case str():
            return 7
        case list():
            return json.dumps(value)
        case _:
            return [value]


def with_text(value: object, text: str) -> object | None:
    """Answer a value that has this text somewhere within; None where it has no room for text."""
    match value:
        case bool() | int():
            return None
        case str():
            return value + text
        case [first, *rest]:
            return [with_text(first, text), *rest]
        case dict():
            name, first = next(iter(value.items()))
            return value | {name: with_text(first, text)}
    return None


def broken(taken: Taken) -> Iterator[tuple[str, bytes, str]]:
    """Answer every broken form of a body: what is wrong, the bytes, and the member that is to be named."""
    good = dict(taken.body)

    def written(value: object) -> bytes:
        return json.dumps(value).encode()

    for member in taken.required:
        yield f"without {member}", written({name: value for name, value in good.items() if name != member}), member
    for member, value in good.items():
        yield f"{member} mistyped", written(good | {member: wrong_member(value)}), member
        yield f"{member} a fraction", written(good | {member: 1.5}), member
        yield f"{member} beyond 2^53", written(good | {member: 2**53}), member
        yield f"{member} twice", written(good)[:-1] + b"," + written({member: value})[1:], member
        for what, text in (("NUL", "\0"), ("a lone surrogate", "\ud800")):
            if (holding := with_text(value, text)) is not None:
                yield f"{what} in {member}", written(good | {member: holding}), member
    yield "an unknown member", written(good | {"colour": "red"}), "colour"
    yield "NUL in a name", written(good | {"col\0our": "red"}), ""
    yield "too deep", b'{"colour":' + b"[" * 40 + b"]" * 40 + b"}", "colour"
    for raw in (b"nonsense", b"{", b"{}{}", b'{"colour": NaN}', b'{"colour": "\xff"}', b"\xef\xbb\xbf{}", b"'{}'", b" "):
        yield repr(raw), raw, ""
    for raw in (b"[]", b"null", b'"text"', b"7"):
        yield repr(raw), raw, ""
    if not taken.optional:
        yield "nothing", b"", ""


def test_every_endpoint_that_takes_a_body_is_tried_here() -> None:
    taking = set()
    for route in ROUTES:
        if route.path.startswith(("/v1/", "/login")):
            responders = dir(route.resource)
            suffix = f"_{route.suffix}" if route.suffix else ""
            path = route.path.replace("/apis/{name}", "/apis/{api}")
            taking |= {(m, path) for m in ("POST", "PUT", "PATCH") if f"on_{m.lower()}{suffix}" in responders}
    assert taking == BODIES.keys()


@every_endpoint
def test_whatever_is_wrong_with_a_body_is_named(admin: httpx.Client, things: dict[str, str], method: str, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    with nothing_recorded(admin):
        for what, content, member in broken(BODIES[method, path]):
            answer = admin.request(method, path.format(**things), content=content, headers=headers)
            assert answer.status_code == 400, f"{what}: {answer.status_code} {answer.text}"
            problems = refused(answer, 400, "invalid_input")["problems"]
            # Below a member that has members of its own, the one of these.
            fields = {problem["field"] for problem in problems}
            assert any(field == member or field.startswith(f"{member}.") for field in fields), f"{what}: {fields}"


@every_endpoint
def test_a_body_of_another_type_or_too_large_is_refused(
    admin: httpx.Client, things: dict[str, str], method: str, path: str
) -> None:
    url, body = path.format(**things), json.dumps(dict(BODIES[method, path].body)).encode()
    with nothing_recorded(admin):
        for content_type in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "application/merge-patch+json",
        ):
            answer = admin.request(method, url, content=body, headers={"Content-Type": content_type})
            refused(answer, 415, "unsupported_media_type")
        refused(admin.request(method, url, content=body), 415, "unsupported_media_type")
        padded = body + b" " * (256 * 1024 + 1 - len(body))
        headers = {"Content-Type": "application/json"}
        refused(admin.request(method, url, content=padded, headers=headers), 413, "too_large")
        refused(admin.request(method, url, content=iter([padded[:7], padded[7:]]), headers=headers), 413, "too_large")


def test_a_body_of_just_256_kib_and_a_type_with_parameters_are_taken(admin: httpx.Client) -> None:
    body = json.dumps({"name": unique("orders")}).encode()
    padded = body + b" " * (256 * 1024 - len(body))
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    ok(admin.post("/v1/apis", content=padded, headers=headers), 201)


@every_endpoint
def test_a_header_over_16_kib_or_a_target_over_8_kib_is_refused(
    admin: httpx.Client, things: dict[str, str], method: str, path: str
) -> None:
    url, body = path.format(**things), BODIES[method, path].body
    with nothing_recorded(admin):
        answer = admin.request(method, url, json=body, headers={"X-Filler": "x" * 16 * 1024})
        assert refused(answer, 431, "too_large")["detail"] == "the header is larger than 16 KiB"
        refused(admin.request(method, f"{url}?{'x' * 8 * 1024}", json=body), 414, "too_large")


@every_endpoint_but(NOT_REPEATABLE)
def test_an_idempotency_key_that_is_none_is_refused_by_name(
    admin: httpx.Client, things: dict[str, str], method: str, path: str
) -> None:
    body = dict(BODIES[method, path].body)
    if (method, path) == ("POST", "/v1/tokens"):
        del body["username"]
    with nothing_recorded(admin):
        for key in (b"", b"x" * 256, "schlüssel".encode(), b"a\tb"):
            answer = admin.request(method, path.format(**things), json=body, headers=[(b"Idempotency-Key", key)])
            problem = refused(answer, 400, "invalid_input")
            assert [wrong["field"] for wrong in problem["problems"]] == ["Idempotency-Key"]


def test_an_idempotency_key_is_of_one_actor_and_one_endpoint(admin: httpx.Client, http: httpx.Client) -> None:
    key = {"Idempotency-Key": unique("key")}
    other = bearer(login(http, new_person(admin, "ledger:administrator"))["access_token"])
    body = {"name": unique("orders")}
    ok(admin.post("/v1/apis", json=body, headers=key), 201)
    refused(http.post("/v1/apis", json=body, headers=key | other), 409, "name_taken")
    ok(admin.post("/v1/clients", json=body, headers=key), 201)


def test_no_refusal_quotes_what_was_sent(admin: httpx.Client, things: dict[str, str]) -> None:
    secret = "a password in the wrong place"
    for body in ({"password": [secret]}, {"username": {"x": secret}}, {"clearance": secret}, {"roles": secret}):
        assert secret not in admin.post("/v1/subjects", json={"username": unique("ann")} | body).text
    answer = admin.put(f"/v1/subjects/{things['subject_id']}/password", content=f'{{"password": "{secret}" "x"}}')
    assert secret not in answer.text


def test_a_method_or_a_path_that_is_not_there_is_a_plain_answer(admin: httpx.Client, things: dict[str, str]) -> None:
    with nothing_recorded(admin):
        refused(admin.put("/v1/subjects", json={}), 405, "method_not_allowed")
        refused(admin.delete(f"/v1/tokens/{things['token_id']}"), 405, "method_not_allowed")
        refused(admin.get(f"/v1/tokens/{things['token_id']}/suspend"), 405, "method_not_allowed")
        for path in ("/v1", "/v1/token", "/v1/roles/", "/v2/tokens"):
            refused(admin.get(path), 404, "no_such_endpoint")
        refused(admin.get("/v1/tokens/"), 404, "unknown_token")
