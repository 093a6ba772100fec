"""What other projects expect of an OAuth server, over HTTP: reads the cases of vectors/oauth-expectations and does them.

The file has a little language of its own, half of it prose. Everything that it says is in one of the tables below, by its very
words; a word that is in none fails its case, so that nothing is passed over. Its names stand for these here: the scopes `read`
and `write` are roles of one API, the client has every grant, one-time refresh tokens with no retry window, and asks about that
API; its user has a longer password than the file's, which is under our least length. What it calls a protected resource is the
gateway.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID, uuid4

import httpx

from ledger.jose import KeySet, SigningKey, write_jwt
from tests.acceptance.wire import basic
from tests.calls import (
    PASSWORD,
    App,
    Person,
    bearer,
    first_party,
    gateway,
    login,
    new_api,
    new_client,
    new_person,
    ok,
    refused,
    resource_server,
)
from tests.clock import Clock
from tests.forging import claims_of, stolen_keys
from tests.serving import Served
from tests.test_bad_tokens_http import signed
from tests.vectors import FOLDER

FILE: Final = FOLDER / "vectors" / "oauth-expectations" / "expectations.json"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
WINDOW_SECONDS: Final = 0

Case = Mapping[str, Any]


def read_cases() -> list[Case]:
    """Answer the cases, none where the file is not there."""
    return list(json.loads(FILE.read_text())["cases"]) if FILE.exists() else []


@dataclass(frozen=True)
class World:
    """A ledger with what the cases need."""

    server: Served
    http: httpx.Client
    clock: Clock
    issuer: str
    api: str
    client: App
    other: App
    asker: App
    asker_elsewhere: App
    person: Person
    keys: KeySet


def new_world(server: Served, http: httpx.Client, admin: httpx.Client) -> World:
    """Make what the cases need."""
    rules = {"read": ["allow GET /orders/**"], "write": ["allow * /orders/**"]}
    api = new_api(admin, rules)
    roles = [f"{api}:read", f"{api}:write"]
    settings: dict[str, Any] = {"strategy": "jwt", "refresh": "rotating", "retry_window_seconds": WINDOW_SECONDS}
    grants = ["client_credentials", "password", "refresh_token"]
    client = new_client(admin, "client", grants=grants, apis=[api], serves=api, **settings)
    ok(admin.post(f"/v1/subjects/{client.subject_id}/roles", json={"roles": roles}))
    return World(
        server,
        http,
        Clock(server.owner),
        ok(http.get("/.well-known/oauth-authorization-server"))["issuer"],
        api,
        client,
        first_party(admin, api, refresh="rotating", retry_window_seconds=WINDOW_SECONDS),
        resource_server(admin, api),
        resource_server(admin, new_api(admin)),
        new_person(admin, *roles),
        stolen_keys(server),
    )


def check(world: World, case: Case) -> None:
    """Do a case and compare; AssertionError where it is otherwise."""
    unknown = case.keys() - {"id", "source", "rfc", "do", "expect", "note", "applies"}
    assert not unknown, f"cannot read {unknown}"
    do, expect = case["do"], dict(case["expect"])
    if isinstance(do, list):
        _steps(world, do, expect)
    elif "with" in do:
        assert do.keys() == {"GET", "with"}
        SHOWN[do["with"]](world, expect.pop("answer"))
    elif case["id"] in IN_PROSE:
        IN_PROSE[case["id"]](world)
        expect.pop("note")
    else:
        _request(world, do, expect)
    assert not expect, f"cannot read {expect.keys()}"


# ---------------------------------------------------------------------------------------------------------- one request


def _request(world: World, do: Mapping[str, Any], expect: dict[str, Any]) -> None:
    unknown = do.keys() - {*METHODS, "auth", "auth_bearer", "form", "raw"}
    assert not unknown, f"cannot read {unknown}"
    ((method, where),) = [(name, do[name]) for name in METHODS if name in do]
    held = _Held(world)
    headers = _authorization(world, do)
    for content in _contents(held, do):
        answer = _send(world, method, where, content, headers)
        _compare(world, answer, dict(expect), held)
    for name in EXPECTED:
        expect.pop(name, None)


@dataclass
class _Held:
    """The tokens that a case names; obtained when they are."""

    world: World
    tokens: dict[str, Any] | None = None
    of_another: dict[str, Any] | None = None

    def named(self, text: str) -> str:
        """Answer the token that the file means by this, or the text itself where it means none."""
        world = self.world
        if text in ("<at>", "<rt>"):
            self.tokens = self.tokens or obtain(world)
            return str(self.tokens["access_token" if text == "<at>" else "refresh_token"])
        if text in ("<at of other client>", "<rt of other client>"):
            self.of_another = self.of_another or login(world.http, world.person, world.other)
            return str(self.of_another["access_token" if text.startswith("<at") else "refresh_token"])
        if text == "<validly shaped at+jwt of another issuer>":
            return _jwt(world, obtain(world)["access_token"], {"iss": "https://issuer.example"})
        if (repeated := re.fullmatch(r"(\w) x (\d+)", text)) is not None:
            return repeated[1] * int(repeated[2])
        assert "<" not in text, f"cannot read {text}"
        return text


def obtain(world: World) -> dict[str, Any]:
    """Answer the tokens of the user, obtained by the client."""
    form = {"grant_type": "password", "username": world.person.username, "password": PASSWORD}
    form["scope"] = _scope(world, "read write")
    return ok(world.http.post("/oauth/token", data=form, auth=world.client.auth))


def _authorization(world: World, do: Mapping[str, Any]) -> dict[str, str]:
    name, secret = world.client.auth
    if "auth_bearer" in do:
        assert do["auth_bearer"] == "<token without introspection scope>"
        return bearer(obtain(world)["access_token"])
    if "auth" not in do:
        return {}
    credentials = {
        "client": (name, secret),
        "client:wrong-secret": (name, "wrong-secret"),
        "client:wrong": (name, "wrong"),
        "<introspection right>": world.asker.auth,
    }[do["auth"]]
    return basic(*credentials)


def _contents(held: _Held, do: Mapping[str, Any]) -> list[str]:
    """Answer the bodies to send: one, or those that a raw one is written with."""
    if "raw" in do:
        raw: str = do["raw"]
        return RAW.get(raw, [raw])
    world, form = held.world, dict(do.get("form", {}))
    if "scope" in form:
        form["scope"] = _scope(world, form["scope"])
    if "password" in form:
        form["username"] = world.person.username
        form["password"] = form["password"].replace("e2epassword", PASSWORD)
    return [urlencode({name: held.named(value) for name, value in form.items()})]


def _scope(world: World, text: str) -> str:
    return " ".join(f"{world.api}:{name}" for name in text.split())


def _send(world: World, method: str, where: str, content: str, headers: Mapping[str, str]) -> httpx.Response:
    url = where if where.startswith("/") else f"/oauth/{where}"
    if method in ("GET", "DELETE"):
        return world.http.request(method, url, params=dict(parse_qsl(content)), headers=dict(headers))
    return world.http.request(method, url, content=content, headers={**FORM, **headers})


RAW: Final = {
    "grant_type=client_credentials&scope=read&scope=write (also grant_type twice, client_id twice, token twice on"
    " introspect/revoke)": [
        "grant_type=client_credentials&scope=read&scope=write",
        "grant_type=client_credentials&grant_type=client_credentials",
        "grant_type=client_credentials&client_id=a&client_id=a",
        "grant_type=client_credentials&token=a&token=a",
    ],
}

# What an answer is compared with, each with what is expected.
Compare = Callable[[World, httpx.Response, Any, _Held], None]


def _has_status(_world: World, answer: httpx.Response, statuses: Sequence[int], _held: _Held) -> None:
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text}"


def _never(_world: World, answer: httpx.Response, statuses: Sequence[int], _held: _Held) -> None:
    assert answer.status_code not in statuses


def _has_values(world: World, answer: httpx.Response, values: Mapping[str, Any], _held: _Held) -> None:
    named = {"<client>": world.client.name, "<configured issuer>": world.issuer}
    for name, value in values.items():
        wanted = named.get(value, value) if isinstance(value, str) else value
        assert answer.json()[name] == wanted, (name, answer.text)


def _has_values_in_any_case(_world: World, answer: httpx.Response, values: Mapping[str, str], _held: _Held) -> None:
    for name, value in values.items():
        assert answer.json()[name].lower() == value.lower(), (name, answer.text)


def _has_members(_world: World, answer: httpx.Response, names: Sequence[str], _held: _Held) -> None:
    assert answer.json().keys() >= set(names), answer.text


def _lacks_members(_world: World, answer: httpx.Response, names: Sequence[str], _held: _Held) -> None:
    assert not answer.json().keys() & set(names)


def _is_exactly(_world: World, answer: httpx.Response, value: Any, _held: _Held) -> None:
    assert answer.json() == value


def _has_headers(_world: World, answer: httpx.Response, values: Mapping[str, str], _held: _Held) -> None:
    for name, value in values.items():
        assert answer.headers[name] == value, name


def _has_header_names(_world: World, answer: httpx.Response, names: Sequence[str], _held: _Held) -> None:
    assert answer.headers.keys() >= set(names)


def _has_scope_within(world: World, answer: httpx.Response, names: Sequence[str], _held: _Held) -> None:
    assert set(answer.json()["scope"].split()) <= {f"{world.api}:{name}" for name in names}


def _has_another_token(_world: World, answer: httpx.Response, value: bool, held: _Held) -> None:
    assert held.tokens is not None
    assert (answer.json()["access_token"] != held.tokens["access_token"]) is value


def _then(world: World, _answer: httpx.Response, said: Sequence[str], held: _Held) -> None:
    for words in said:
        AFTERWARDS[words](world, held)


EXPECTED: Final[Mapping[str, Compare]] = {
    "status": _has_status,
    "status_any": _has_status,
    "never": _never,
    "json": _has_values,
    "json_ci": _has_values_in_any_case,
    "json_has": _has_members,
    "json_absent": _lacks_members,
    "json_exact": _is_exactly,
    "headers": _has_headers,
    "headers_present": _has_header_names,
    "scope_subset_of": _has_scope_within,
    "new_access_token_differs": _has_another_token,
    "then": _then,
}


def _compare(world: World, answer: httpx.Response, expect: dict[str, Any], held: _Held) -> None:
    assert answer.status_code < 500
    for name, value in expect.items():
        EXPECTED[name](world, answer, value, held)


def _is_active(world: World, token: str) -> bool:
    active: bool = ok(world.http.post("/oauth/introspect", data={"token": token}, auth=world.asker.auth))["active"]
    return active


def _access_token_inactive(world: World, held: _Held) -> None:
    assert held.tokens is not None
    assert not _is_active(world, held.tokens["access_token"])


def _both_gone(world: World, held: _Held) -> None:
    _access_token_inactive(world, held)
    assert _refresh(world, held.named("<rt>")).status_code == 400


def _other_client_untouched(world: World, held: _Held) -> None:
    tokens = held.of_another
    assert tokens is not None
    assert _is_active(world, tokens["access_token"])
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": world.other.name}
    assert ok(world.http.post("/oauth/token", data=form))["access_token"]


AFTERWARDS: Final[Mapping[str, Callable[[World, _Held], None]]] = {
    "at inactive": _access_token_inactive,
    "rt revoked and its access token gone": _both_gone,
    "token of the other client untouched": _other_client_untouched,
    "untouched": _other_client_untouched,
}

# --------------------------------------------------------------------------------------------------- one step after another

STEP: Final = re.compile(r"(use|revoke|refresh|introspect)[ (](rt\d?|at)\)?(?: hint (\w+))?(?: ?-> ?(\w+))?")


def _steps(world: World, steps: Sequence[str], expect: dict[str, Any]) -> None:
    tokens = obtain(world)
    held = {"at": tokens["access_token"], "rt": tokens["refresh_token"], "rt0": tokens["refresh_token"]}
    answers: list[httpx.Response] = []
    for step in steps:
        found = STEP.fullmatch(step)
        assert found is not None, f"cannot read {step}"
        what, name, hint, outcome = found.groups()
        answers.append(_step(world, what, held[name], hint))
        if outcome is not None and outcome.isdecimal():
            assert answers[-1].status_code == int(outcome), answers[-1].text
        elif outcome is not None:
            held[outcome] = ok(answers[-1])["refresh_token"]
    last = answers[-1]
    if "status_sequence" in expect:
        assert [answer.status_code for answer in answers] == expect.pop("status_sequence")
    if "last_status" in expect:
        assert last.status_code in expect.pop("last_status")
    if "last_json" in expect:
        _has_values(world, last, expect.pop("last_json"), _Held(world))
    if "rt1_differs" in expect:
        assert (held["rt1"] != held["rt0"]) is expect.pop("rt1_differs")
    if "second" in expect:
        _compare(world, answers[1], expect.pop("second"), _Held(world))


def _step(world: World, what: str, token: str, hint: str | None) -> httpx.Response:
    if what == "use":
        return gateway(world.http, world.asker, token)
    if what == "refresh":
        return _refresh(world, token)
    form = {"token": token} | ({} if hint is None else {"token_type_hint": hint})
    return world.http.post(f"/oauth/{what}", data=form, auth=world.client.auth)


def _refresh(world: World, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return world.http.post("/oauth/token", data=form, auth=world.client.auth)


# ------------------------------------------------------------------------------------------------------- said in prose only


def _in_the_address(endpoint: str) -> Callable[[World], None]:
    """Check that nothing in the address of a request counts: no token, no client, no grant."""

    def checked(world: World) -> None:
        tokens, (name, secret) = obtain(world), world.client.auth
        token, url = tokens["access_token"], f"/oauth/{endpoint}"
        form = {"token": "foo", "grant_type": "client_credentials"}
        plain = world.http.post(url, data=form, auth=world.client.auth)
        for parameter in ("token", "secret", "code", "foo"):
            answer = world.http.post(url, params={parameter: token}, data=form, auth=world.client.auth)
            assert (answer.status_code, answer.json().get("active")) == (plain.status_code, plain.json().get("active"))
        assert _is_active(world, token)
        for parameters in ({"client_id": name, "client_secret": secret}, {"access_token": token}):
            assert world.http.post(url, params=parameters, data=form).status_code == 401
        missing = world.http.post(url, params=form | {"token": token}, content="a=b", headers=FORM, auth=world.client.auth)
        assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")

    return checked


def _spoofed_active(world: World) -> None:
    body = {"client": world.client.name, "subject_id": world.person.subject_id, "claims": {"active": True}}
    with world.server.admin() as admin:
        refused(admin.post("/v1/tokens", json=body), 400, "invalid_input")
    live, dead = obtain(world)["access_token"], obtain(world)["access_token"]
    ok(world.http.post("/oauth/revoke", data={"token": dead}, auth=world.client.auth))
    assert _is_active(world, _jwt(world, live, {"active": False}))
    assert not _is_active(world, _jwt(world, dead, {"active": True}))


IN_PROSE: Final[Mapping[str, Callable[[World], None]]] = {
    **{f"oauthlib-query-{endpoint}": _in_the_address(endpoint) for endpoint in ("token", "introspect", "revoke")},
    "oauthlib-intro-spoof-active": _spoofed_active,
}

# --------------------------------------------------------------------------------------------- a token shown to a resource


def _jwt(world: World, text: str, claims: Mapping[str, Any], *, without: str = "") -> str:
    """Write a JWT anew with the ledger's own key, as only its thief could: with other claims, or without one."""
    ((_, key),) = world.keys.signing.items()
    changed = {name: value for name, value in {**claims_of(text), **claims}.items() if name != without}
    return write_jwt(changed, world.keys, key.key_id)


def _with_header(world: World, text: str, header: Mapping[str, Any]) -> str:
    ((kid, key),) = world.keys.signing.items()
    whole = {"alg": key.algorithm, "kid": kid, "typ": "at+jwt", **header}
    return signed({name: value for name, value in whole.items() if value is not None}, text.split(".")[1], key)


def _answers(
    world: World, authorization: str | None, answer: str, *, asker: App | None = None, target: str = "/orders/7"
) -> None:
    """Show this Authorization to the gateway and compare with the words of the file."""
    secret = (asker or world.asker).auth[1]
    headers = {"Ledger-Gateway-Key": secret, "X-Original-Method": "GET", "X-Original-URI": target}
    if authorization is not None:
        headers["Authorization"] = authorization
    seen = world.http.get("/gateway/nginx", headers=headers)
    status, error = ANSWERS[answer]
    assert seen.status_code == status, seen.headers
    challenge = seen.headers.get("www-authenticate", "")
    if status != 200:
        assert challenge.startswith('Bearer realm="')
        assert ("error=" in challenge) is (error is not None)
        assert error is None or f'error="{error}"' in challenge


ANSWERS: Final[Mapping[str, tuple[int, str | None]]] = {
    "accepted": (200, None),
    "401 missing/Bearer challenge": (401, None),
    "401": (401, None),  # RFC 6750 section 3.1: no error for who used another scheme
    "401 invalid_token": (401, "invalid_token"),
    "401 invalid_token (authlib)": (401, "invalid_token"),
    "403 insufficient_scope": (403, "insufficient_scope"),
}


def _shows(make: Callable[[World, str], Sequence[str]]) -> Callable[[World, str], None]:
    """Show what is made of a token that stands, one after the other."""

    def shown(world: World, answer: str) -> None:
        token = obtain(world)["access_token"]
        for text in make(world, token):
            _answers(world, f"Bearer {text}", answer)
        _answers(world, f"Bearer {token}", "accepted")

    return shown


def _foreign_key(world: World, text: str) -> list[str]:
    ((kid, _),) = world.keys.signing.items()
    stranger = SigningKey.generate(UUID(kid), "EdDSA")
    return [write_jwt(claims_of(text), KeySet([stranger]), stranger.key_id)]


def _other_kids(world: World, text: str) -> list[str]:
    return [_with_header(world, text, {"kid": kid}) for kid in (*world.keys.encryption, str(uuid4()))]


def _expired(world: World, answer: str) -> None:
    token = obtain(world)["access_token"]
    _answers(world, f"Bearer {token}", "accepted")
    world.clock.advance(600)
    assert claims_of(token)["exp"] <= datetime.now(UTC).timestamp() + 600
    _answers(world, f"Bearer {token}", answer)


def _scope_absent(world: World, answer: str) -> None:
    form = {"grant_type": "client_credentials", "scope": f"{world.api}:read"}
    token = ok(world.http.post("/oauth/token", data=form, auth=world.client.auth))["access_token"]
    _answers(world, f"Bearer {token}", "accepted")
    _answers(world, f"Bearer {token}", answer, target="/elsewhere")


SHOWN: Final[Mapping[str, Callable[[World, str], None]]] = {
    "missing Authorization": lambda world, answer: _answers(world, None, answer),
    "unsupported scheme (Authorization: invalid <tok>)": lambda world, answer: _answers(
        world, f"invalid {obtain(world)['access_token']}", answer
    ),
    "Bearer garbage": _shows(lambda world, token: ["garbage"]),
    "typ at+jwt": _shows(lambda world, token: [_with_header(world, token, {})]),
    "typ application/at+jwt": _shows(lambda world, token: [_with_header(world, token, {"typ": "application/at+jwt"})]),
    "typ missing or JWT": _shows(lambda world, token: [_with_header(world, token, {"typ": typ}) for typ in (None, "JWT")]),
    "each of iss,exp,aud,sub,client_id,iat,jti missing in turn": _shows(
        lambda world, token: [
            _jwt(world, token, {}, without=name) for name in ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")
        ]
    ),
    "iss differs": _shows(lambda world, token: [_jwt(world, token, {"iss": "https://issuer.example"})]),
    "aud does not contain this resource": lambda world, answer: _answers(
        world, f"Bearer {obtain(world)['access_token']}", answer, asker=world.asker_elsewhere
    ),
    "exp in the past": _expired,
    "required scope absent": _scope_absent,
    "auth_time in the future / not a number": _shows(
        lambda world, token: [
            _jwt(world, token, {"auth_time": value}) for value in (int(datetime.now(UTC).timestamp()) + 3_600, "now")
        ]
    ),
    "amr not an array of strings": _shows(
        lambda world, token: [
            _jwt(world, token, json.loads(claims)) for claims in ('{"amr":"pwd"}', '{"amr":[1]}', '{"amr":{}}')
        ]
    ),
    "kid of another key": _shows(_other_kids),
    "signature of another key": _shows(_foreign_key),
}
