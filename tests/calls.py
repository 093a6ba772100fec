"""What tests do over HTTP, in few words: people, APIs, clients, tokens, and the questions of a resource server.

Every name is made unique, so that the tests of a module share one server. `ok` and `refused` check the status of an answer
and give its body.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

PASSWORD = "correct horse battery"
_numbers = itertools.count(1)


def unique(name: str) -> str:
    """Answer a name that nobody else in this run has."""
    return f"{name}-{next(_numbers)}"


def ok(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """Answer the body of an answer that must have this status."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Answer the problem of an answer that must be this refusal (RFC 9457)."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    return body


@contextmanager
def nothing_recorded(http: httpx.Client) -> Iterator[None]:
    """Check that the log stands afterwards where it stands now."""
    before = ok(http.get("/readyz"))["position"]
    yield
    assert ok(http.get("/readyz"))["position"] == before


# ------------------------------------------------------------------------------------------- what an administrator sets up


@dataclass(frozen=True)
class Person:
    """A registered person."""

    subject_id: str
    username: str
    password: str


@dataclass(frozen=True)
class App:
    """A registered client; `secret` None: a public one."""

    name: str
    secret: str | None
    subject_id: str | None

    @property
    def auth(self) -> tuple[str, str]:
        """HTTP Basic credentials of a confidential client."""
        assert self.secret is not None
        return self.name, self.secret


def new_api(admin: httpx.Client, roles: Mapping[str, Sequence[str]] | None = None, name: str = "orders") -> str:
    """Register an API with roles, each with its rules as lines (`allow GET /orders/**`), and answer its name."""
    api = unique(name)
    ok(admin.post("/v1/apis", json={"name": api}), 201)
    for role, rules in (roles or {}).items():
        ok(admin.post(f"/v1/apis/{api}/roles", json={"name": role}), 201)
        if rules:
            ok(admin.post(f"/v1/apis/{api}/roles/{role}/rules", json={"rules": list(rules)}))
    return api


def new_person(admin: httpx.Client, *roles: str, name: str = "ann", **body: Any) -> Person:
    """Register a person with a password and these roles (`api:role`)."""
    username = unique(name)
    registered = ok(admin.post("/v1/subjects", json={"username": username, "password": PASSWORD} | body), 201)
    if roles:
        ok(admin.post(f"/v1/subjects/{registered['subject_id']}/roles", json={"roles": list(roles)}))
    return Person(registered["subject_id"], username, PASSWORD)


def new_client(admin: httpx.Client, name: str = "app", **settings: Any) -> App:
    """Register a client with these settings (members of POST /v1/clients)."""
    registered = ok(admin.post("/v1/clients", json={"name": unique(name)} | settings), 201)
    return App(registered["name"], registered.get("client_secret"), registered["subject_id"])


def resource_server(admin: httpx.Client, api: str) -> App:
    """Register the client by which an API asks about tokens."""
    return new_client(admin, f"{api}-asks", serves=api)


def first_party(admin: httpx.Client, *apis: str, strategy: str = "opaque", refresh: str = "off", **settings: Any) -> App:
    """Register a public first-party client through which people log in."""
    grants = ["password"] if refresh == "off" else ["password", "refresh_token"]
    return new_client(admin, kind="public", grants=grants, strategy=strategy, refresh=refresh, apis=list(apis), **settings)


# ------------------------------------------------------------------------------------------------ what people and clients do


def login(http: httpx.Client, person: Person, app: App | None = None, **body: Any) -> dict[str, Any]:
    """Log a person in, through the ledger's console or a public client, and answer the tokens."""
    asked = {"username": person.username, "password": person.password} | body
    if app is not None:
        asked["client_id"] = app.name
    return ok(http.post("/login", json=asked))


def bearer(token: str) -> dict[str, str]:
    """Answer the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


def refresh(http: httpx.Client, app: App, refresh_token: str, **form: str) -> httpx.Response:
    """Ask for a refresh as this client."""
    asked = {"grant_type": "refresh_token", "refresh_token": refresh_token} | form
    if app.secret is None:
        return http.post("/oauth/token", data=asked | {"client_id": app.name})
    return http.post("/oauth/token", data=asked, auth=app.auth)


# ---------------------------------------------------------------------------------------------- what a resource server asks


def evaluate(http: httpx.Client, asker: App, token: str, method: str = "GET", path: str = "/orders/7") -> dict[str, Any]:
    """Answer the decision and its context (AuthZEN)."""
    question = {
        "subject": {"type": "token", "id": token},
        "action": {"name": method},
        "resource": {"type": "route", "id": path},
    }
    return ok(http.post("/access/v1/evaluation", json=question, auth=asker.auth))


def introspect(http: httpx.Client, asker: App, token: str) -> dict[str, Any]:
    """Answer what introspection says of a token."""
    return ok(http.post("/oauth/introspect", data={"token": token}, auth=asker.auth))


def gateway(
    http: httpx.Client, asker: App, token: str | None, method: str = "GET", target: str = "/orders/7"
) -> httpx.Response:
    """Ask as nginx's auth_request does; the answer is the status."""
    assert asker.secret is not None
    headers = {"Ledger-Gateway-Key": asker.secret, "X-Original-Method": method, "X-Original-URI": target}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return http.get("/gateway/nginx", headers=headers)
