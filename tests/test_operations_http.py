"""What goes without saying of every operation (api/openapi/__init__.py): the refusals that all have in common, at each of them.

A request that would be right comes from `right`: bodies from BODIES (test_bodies_http.py), forms and questions from here. What
is answered is held against the description by contract.py; here it is made to occur.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.errors import NoDecision
from api.openapi.document import OPERATIONS
from ledger.errors import NotFound, SubjectIsErased
from projections.archiving import archive
from tests.calls import (
    PASSWORD,
    bearer,
    first_party,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refused,
    resource_server,
    unique,
)
from tests.conftest import Clock
from tests.partitions import on_small_partitions
from tests.serving import Served
from tests.test_bodies_http import BODIES, KEY

AS_ADMIN = ("bearer", "self", "bearer_or_client")
NOBODY = "00000000-0000-0000-0000-000000000000"
QUESTION = {
    "subject": {"type": "token", "id": "tl_at_nothing"},
    "action": {"name": "GET"},
    "resource": {"type": "route", "id": "/orders/7"},
}
FORMS = {
    "/oauth/token": {"grant_type": "client_credentials"},
    "/oauth/introspect": {"token": "tl_at_nothing"},
    "/oauth/revoke": {"token": "tl_at_nothing"},
}
QUERIES = {
    "/v1/audit/timeline": {"token_id": NOBODY},
    "/v1/audit/explain": {"token_id": NOBODY, "api": "ledger", "method": "GET", "path": "/v1/me"},
    "/v1/audit/decision": {"token_id": NOBODY, "api": "ledger", "method": "GET", "path": "/v1/me"},
    "/v1/audit/who-could": {"api": "ledger", "method": "GET", "path": "/v1/me"},
    "/v1/audit/changes": {"from": "1"},
    "/v1/audit/blast-radius": {"from_position": "1"},
}
INCIDENT = {"from_position": 1, "as_of_position": 1, "plan_id": NOBODY}
GATEWAY = {"X-Original-Method": "GET", "X-Original-URI": "/x", "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/x"}


@dataclass
class Right:
    """A request that is as it should be, but for who asks."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def send(self, client: httpx.Client, headers: dict[str, str] | None = None, **others: Any) -> httpx.Response:
        given = {"headers": self.headers | (headers or {}), "params": self.params or None, "content": self.content} | others
        return client.request(self.method, self.url, **given)


def right(method: str, route: str, things: dict[str, str] | None = None) -> Right:
    """Answer a right request to an operation, about these things or about nothing that is there."""
    found = {"name": "nobody", "role": "nothing", "target": "orders/7"} | (things or {})
    url = route.replace("{target:path}", "{target}")
    for part in url.split("{")[1:]:
        name = part.partition("}")[0]
        url = url.replace(f"{{{name}}}", found.get(name, NOBODY))
    request = Right(method, url, params=QUERIES.get(route, {}) if method == "GET" else {})
    operation = OPERATIONS[method, route]
    if route.startswith("/gateway/"):
        request.headers |= GATEWAY
    if operation.form is not None:
        request.content = "&".join(f"{name}={value}" for name, value in FORMS[route].items()).encode()
        request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif operation.has_body:
        spelled = route.replace("/apis/{name}", "/apis/{api}")
        body = QUESTION if route.startswith("/access/") else BODIES[method, spelled].body
        request.content = json.dumps(INCIDENT if route == "/v1/audit/blast-radius" else dict(body)).encode()
        request.headers["Content-Type"] = "application/json"
    return request


def those(**wanted: Any) -> list[tuple[str, str]]:
    """Answer the operations that are like this."""
    return [end for end, operation in OPERATIONS.items() if all(getattr(operation, n) == v for n, v in wanted.items())]


def expect(answer: httpx.Response, status: int, what: object) -> None:
    assert answer.status_code == status, f"{what}: {answer.status_code} {answer.text}"


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}


def test_whoever_does_not_say_who_it_is_is_refused(http: httpx.Client) -> None:
    for (method, route), operation in OPERATIONS.items():
        if operation.who != "anyone" and NoDecision not in operation.refuses:
            expect(right(method, route).send(http), 401, (method, route))


def test_a_token_that_no_rule_lets_is_refused(admin: httpx.Client, http: httpx.Client) -> None:
    nobody = bearer(login(http, new_person(admin))["access_token"])
    for method, route in [*those(who="bearer"), *those(who="bearer_or_client")]:
        expect(right(method, route).send(http, nobody), 403, (method, route))


def test_a_client_that_serves_no_api_may_not_ask(admin: httpx.Client, http: httpx.Client) -> None:
    app = new_client(admin)
    assert app.secret is not None
    for route in ("/oauth/introspect", "/access/v1/evaluation", "/access/v1/evaluations"):
        expect(right("POST", route).send(http, basic(app.name, app.secret)), 403, route)
    expect(right("GET", "/gateway/nginx").send(http, {"Ledger-Gateway-Key": app.secret}), 403, "nginx")


def test_a_header_or_a_target_that_is_too_large_is_refused(http: httpx.Client) -> None:
    for method, route in OPERATIONS:
        request = right(method, route)
        expect(request.send(http, {"X-Filler": "x" * 16 * 1024}), 431, (method, route))
        expect(request.send(http, params={"x": "x" * 8 * 1024}), 414, (method, route))


def test_a_body_that_is_too_large_or_of_another_type_is_refused(admin: httpx.Client, http: httpx.Client) -> None:
    asker = resource_server(admin, new_api(admin))
    for (method, route), operation in OPERATIONS.items():
        if operation.has_body:
            client, headers = (admin, {}) if operation.who in AS_ADMIN else (http, basic(*asker.auth))
            request = right(method, route)
            refused_type = 400 if route.startswith("/access/") else 415  # AuthZEN 1.0 section 10.1.2 has no other
            expect(request.send(client, headers | {"Content-Type": "text/plain"}), refused_type, (method, route))
            assert request.content is not None
            padded = request.content + b" " * (256 * 1024 + 1 - len(request.content))
            expect(request.send(client, headers, content=padded), 413, (method, route))


def test_what_a_path_names_and_is_not_there_is_404(admin: httpx.Client) -> None:
    for (method, route), operation in OPERATIONS.items():
        if operation.who != "gateway" and any(issubclass(kind, NotFound) for kind in operation.refuses) and "{" in route:
            expect(right(method, route).send(admin), 404, (method, route))


def test_an_idempotency_key_that_is_none_is_refused_without_a_body_too(admin: httpx.Client) -> None:
    own = ok(admin.post("/v1/me/tokens", json={"name": "script"}), 201)
    things = {"name": "ledger", "role": "auditor", "token_id": own["token_id"]}
    for method, route in those(repeatable=True, has_body=False):
        expect(right(method, route, things).send(admin, {"Idempotency-Key": "x" * 256}), 400, (method, route))


def steps(admin: httpx.Client, http: httpx.Client, clock: Clock) -> Iterator[tuple[str, str, dict[str, str], dict[str, Any]]]:
    """Answer requests that change something, one after the other: each repeatable operation with a body, once."""
    api = new_api(admin, {"reader": ["allow GET /orders/{id}"]})
    app = first_party(admin, api, "ledger", refresh="rotating")
    person = new_person(admin)
    confidential = new_client(admin)
    tokens, gone = login(http, person, app), new_person(admin)
    of_api, of_role = {"name": api}, {"name": api, "role": "reader"}
    of_client, of_subject = {"name": confidential.name}, {"subject_id": person.subject_id}
    of_token, of_family = {"token_id": tokens["token_id"]}, {"family_id": tokens["family_id"]}
    why = {"reason": "incident"}
    role, rule = {"roles": [f"{api}:reader"]}, {"api": api, "methods": ["GET"], "path": "/x"}

    yield "POST", "/v1/apis", {}, {"name": unique("orders")}
    yield "PATCH", "/v1/apis/{name}", of_api, {"audience": unique("audience")}
    yield "POST", "/v1/apis/{name}/roles", of_api, {"name": "writer"}
    yield "POST", "/v1/apis/{name}/roles/{role}/rules", of_role, {"rules": ["allow GET /more"]}
    (given, *_) = ok(admin.get(f"/v1/apis/{api}/roles/reader/rules"))["rules"]
    yield "POST", "/v1/apis/{name}/roles/{role}/rules/withdraw", of_role, {"rule_ids": [given["rule_id"]]}
    roles = {"roles": {"keeper": ["allow GET /kept"]}}
    plan = ok(admin.post(f"/v1/apis/{api}/import", json=roles | {"dry_run": True}))
    yield "POST", "/v1/apis/{name}/import", of_api, roles | {"plan_id": plan["plan_id"]}
    yield "POST", "/v1/clients", {}, {"name": unique("app")}
    yield "PATCH", "/v1/clients/{name}", of_client, {"access_lifetime_seconds": 300}
    yield "POST", "/v1/clients/{name}/secret", of_client, {"keep_old": True}
    yield "POST", "/v1/clients/{name}/keys", of_client, {"jwks": {"keys": [KEY]}}
    yield "POST", "/v1/subjects", {}, {"username": unique("ann")}
    yield "PUT", "/v1/subjects/{subject_id}/profile", of_subject, {"username": unique("ann")}
    yield "PUT", "/v1/subjects/{subject_id}/password", of_subject, {"password": PASSWORD, "keep_tokens": True}
    yield "PUT", "/v1/subjects/{subject_id}/clearance", of_subject, {"clearance": 3}
    yield "POST", "/v1/subjects/{subject_id}/roles", of_subject, role
    yield "POST", "/v1/subjects/{subject_id}/roles/withdraw", of_subject, role
    yield "POST", "/v1/subjects/{subject_id}/rules", of_subject, {"rules": [rule]}
    (own, *_) = ok(admin.get(f"/v1/subjects/{person.subject_id}/rules"))["rules"]
    yield "POST", "/v1/subjects/{subject_id}/rules/withdraw", of_subject, {"rule_ids": [own["rule_id"]]}
    yield "POST", "/v1/tokens", {}, {"subject_id": person.subject_id, "client": app.name}
    yield "POST", "/v1/me/tokens", {}, {"name": "script"}
    for path, of in (
        ("/v1/tokens/{token_id}", of_token),
        ("/v1/families/{family_id}", of_family),
        ("/v1/apis/{name}", of_api),
        ("/v1/clients/{name}", of_client),
        ("/v1/subjects/{subject_id}", of_subject),
    ):
        yield "POST", f"{path}/suspend", of, why
        yield "POST", f"{path}/reinstate", of, why
        yield "POST", f"{path}/{'revoke' if of in (of_token, of_family) else 'revoke-tokens'}", of, why
    yield "POST", "/v1/subjects/{subject_id}/erase", {"subject_id": gone.subject_id}, why
    script = ok(admin.post("/v1/me/tokens", json={"name": "script"}), 201)
    yield "DELETE", "/v1/me/tokens/{token_id}", {"token_id": script["token_id"]}, {}
    other = new_person(admin)
    while http.post("/login", json={"username": other.username, "password": "wrong password"}).status_code == 401:
        pass
    (lockout,) = ok(admin.get("/v1/lockouts", params={"subject_id": other.subject_id}))["lockouts"]
    yield "POST", "/v1/lockouts/{lockout_id}/unlock", {"lockout_id": lockout["lockout_id"]}, {}
    keys = [ok(admin.post("/v1/keys", json={"use": "enc"}), 201)["key_id"] for _ in range(2)]
    yield "POST", "/v1/keys/{key_id}/retire", {"key_id": keys[0]}, {}
    yield "POST", "/v1/keys", {}, {"use": "enc"}
    clock.advance(3_600)
    yield "POST", "/v1/keys/{key_id}/activate", {"key_id": keys[1]}, {}
    yield "POST", "/v1/keys/{key_id}/revoke", {"key_id": keys[1]}, why


def test_an_idempotency_key_stands_for_its_content_and_when_that_is_archived_nobody_can_tell(
    own_ledger: Served, tmp_path: Path
) -> None:
    """Wherever one is taken."""
    on_small_partitions(own_ledger.owner)
    done: list[tuple[tuple[str, str], Right]] = []
    with ExitStack() as clients:
        http, admin = clients.enter_context(own_ledger.client()), clients.enter_context(own_ledger.admin())
        for method, route, of, body in steps(admin, http, Clock(own_ledger.owner)):
            if route.endswith("/activate"):
                admin = clients.enter_context(own_ledger.admin())  # an hour has gone by
            request, has_body = right(method, route, of), OPERATIONS[method, route].has_body
            request.content = json.dumps(body).encode() if has_body else None
            request.headers["Idempotency-Key"] = str(uuid4())
            first = request.send(admin)
            assert first.status_code in (200, 201), f"{method} {route}: {first.text}"
            if request.content is not None:
                expect(request.send(admin, content=request.content + b" "), 422, (method, route))
            done.append(((method, route), request))
        leaving = right("POST", "/logout")
        leaving.headers["Idempotency-Key"] = str(uuid4())
        expect(leaving.send(clients.enter_context(own_ledger.admin())), 200, "logout")
        done.append((("POST", "/logout"), leaving))
        assert {end for end, _ in done} == set(those(repeatable=True, found_first=False))
        for number in range(30):
            ok(admin.post("/v1/apis", json={"name": f"later-{number}"}), 201)
        head = ok(http.get("/readyz"))["position"]
    archive(own_ledger.owner, tmp_path, below=head - 15, ended_before=datetime(2020, 1, 1, tzinfo=UTC))
    with own_ledger.admin() as admin:
        for end, request in done:
            expect(request.send(admin), 410, end)


def test_without_the_database_everything_that_needs_it_is_503(own_ledger: Served) -> None:
    name = str(conninfo_to_dict(own_ledger.owner)["dbname"])
    database = sql.Identifier(name)
    elsewhere = make_conninfo(own_ledger.owner, dbname="postgres")
    with own_ledger.admin() as admin, own_ledger.client() as http, psycopg.connect(elsewhere, autocommit=True) as owner:
        asker = resource_server(admin, "ledger")
        assert asker.secret is not None
        owner.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

        as_client, as_gateway = basic(*asker.auth), {"Ledger-Gateway-Key": asker.secret}

        def ask(endpoint: tuple[str, str]) -> tuple[tuple[str, str], httpx.Response]:
            who = OPERATIONS[endpoint].who
            client = admin if who in AS_ADMIN else http
            headers = as_gateway if who == "gateway" else as_client if who in ("client", "form_client") else {}
            return endpoint, right(*endpoint).send(client, headers)

        needing = [endpoint for endpoint, operation in OPERATIONS.items() if operation.database]
        with ThreadPoolExecutor(8) as threads:
            for endpoint, answer in threads.map(ask, needing):
                expect(answer, 503, endpoint)
        owner.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
        for endpoint in OPERATIONS.keys() - set(needing):
            expect(right(*endpoint).send(http), 200, endpoint)


@pytest.mark.parametrize("level", ["token", "family"])
def test_what_is_revoked_is_neither_suspended_nor_reinstated(admin: httpx.Client, http: httpx.Client, level: str) -> None:
    tokens = login(http, new_person(admin), first_party(admin, "ledger", refresh="rotating"))
    path = f"/v1/tokens/{tokens['token_id']}" if level == "token" else f"/v1/families/{tokens['family_id']}"
    ok(admin.post(f"{path}/revoke"))
    expect(admin.post(f"{path}/suspend", json={"reason": "x"}), 409, path)
    expect(admin.post(f"{path}/reinstate"), 409, path)


def test_nothing_of_an_erased_subject_is_changed(admin: httpx.Client) -> None:
    person = new_person(admin)
    ok(admin.post(f"/v1/subjects/{person.subject_id}/erase"))
    for (method, route), operation in OPERATIONS.items():
        if SubjectIsErased in operation.refuses:
            refused(right(method, route, {"subject_id": person.subject_id}).send(admin), 409, "subject_erased")


def test_an_api_or_a_token_that_an_auditor_asks_about_is_there(admin: httpx.Client) -> None:
    for route in ("/v1/audit/decision", "/v1/audit/explain"):
        expect(admin.get(route, params=QUERIES[route] | {"api": "nobody"}), 404, route)
    body = {"token_id": NOBODY, "as_of_position": 1, "plan_id": NOBODY}
    expect(admin.post("/v1/audit/blast-radius", json=body), 404, "blast radius")


def test_a_method_that_is_none_is_no_request(http: httpx.Client) -> None:
    refused(http.request("PURGE", "/healthz"), 400, "bad_request")


GATEWAYS = [end for end, operation in OPERATIONS.items() if operation.who == "gateway"]


def test_a_gateway_is_told_by_status(admin: httpx.Client, http: httpx.Client) -> None:
    api = new_api(admin, {"all": ["allow * /x", "allow * /orders/**"], "none": []})
    asker, app = resource_server(admin, api), first_party(admin, api)
    assert asker.secret is not None
    asked = {"Ledger-Gateway-Key": asker.secret}
    may, may_not = (bearer(login(http, new_person(admin, f"{api}:{role}"), app)["access_token"]) for role in ("all", "none"))
    for method, route in GATEWAYS:
        request = right(method, route)
        expect(request.send(http, asked | may), 200, (method, route))
        expect(request.send(http, asked | may_not), 403, (method, route))
        expect(request.send(http, asked), 401, (method, route))
    request = right("GET", "/gateway/nginx")
    del request.headers["X-Original-Method"]
    expect(request.send(http, asked), 400, "nginx")


def test_a_password_is_not_tried_again_and_again_over_oauth(admin: httpx.Client, http: httpx.Client) -> None:
    app = first_party(admin, "ledger")
    form = {"grant_type": "password", "client_id": app.name, "username": unique("ann"), "password": "wrong password"}
    statuses = [http.post("/oauth/token", data=form).status_code for _ in range(6)]
    assert statuses == [400] * 5 + [429]
