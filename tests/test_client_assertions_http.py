"""Clients that prove themselves by what they signed (`private_key_jwt`, RFC 7523), at each endpoint of /oauth/."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from tests.asserting import ALGORITHMS, claims_for, form_of, issuer_of, new_jwks, signed
from tests.calls import App, first_party, login, new_api, new_client, new_person, nothing_recorded, ok, refused, unique
from tests.clock import Clock
from tests.serving import Served

GRANT = {"grant_type": "client_credentials"}
PROVES_NOBODY = "the client assertion proves no client"


@dataclass(frozen=True)
class Robot:
    """A client with a key: it obtains tokens for an API, and asks about that API."""

    app: App
    private: Any
    jwks: dict[str, Any]
    issuer: str

    def form(self, **claims: Any) -> dict[str, str]:
        """Answer the parameters of a new assertion."""
        return form_of(signed(claims_for(self.app.name, self.issuer, **claims), self.private, "EdDSA"))


def new_robot(http: httpx.Client, admin: httpx.Client, **settings: Any) -> Robot:
    private, jwks = new_jwks("EdDSA")
    api = settings.pop("api", None) or new_api(admin, {"reader": ["allow GET /orders/**"]})
    app = new_client(admin, "robot", grants=["client_credentials"], apis=[api], serves=api, jwks=jwks, **settings)
    return Robot(app, private, jwks, issuer_of(http))


@pytest.fixture(scope="module")
def robot(ledger_server: Served) -> Iterator[Robot]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        yield new_robot(http, admin)


def error(answer: httpx.Response, name: str, status: int) -> str:
    assert (answer.status_code, answer.json()["error"]) == (status, name), answer.text
    description: str = answer.json()["error_description"]
    return description


def test_a_client_with_keys_has_no_secret_and_obtains_asks_and_revokes_by_assertions(http: httpx.Client, robot: Robot) -> None:
    assert robot.app.secret is None
    token = ok(http.post("/oauth/token", data=GRANT | robot.form()))["access_token"]
    assert ok(http.post("/oauth/introspect", data={"token": token} | robot.form()))["active"] is True
    ok(http.post("/oauth/revoke", data={"token": token} | robot.form()))
    assert ok(http.post("/oauth/introspect", data={"token": token} | robot.form()))["active"] is False


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_client_signs_by_each_algorithm_that_the_metadata_names(
    http: httpx.Client, admin: httpx.Client, robot: Robot, algorithm: str
) -> None:
    private, jwks = new_jwks(algorithm, "one")
    app = new_client(admin, "robot", grants=["client_credentials"], apis=[new_api(admin)], jwks=jwks)
    assertion = signed(claims_for(app.name, robot.issuer), private, algorithm, kid="one")
    assert ok(http.post("/oauth/token", data=GRANT | form_of(assertion) | {"client_id": app.name}))["access_token"]
    metadata = ok(http.get("/.well-known/oauth-authorization-server"))
    for endpoint in ("token", "introspection", "revocation"):
        assert "private_key_jwt" in metadata[f"{endpoint}_endpoint_auth_methods_supported"]
        assert algorithm in metadata[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]


def test_who_did_it_stands_in_the_log_with_the_method(http: httpx.Client, admin: httpx.Client, robot: Robot) -> None:
    token = ok(http.post("/oauth/token", data=GRANT | robot.form()))
    (event,) = ok(admin.get("/v1/audit/events", params={"from_position": token["position"], "order": "oldest", "limit": 1}))[
        "events"
    ]
    assert event["actor"]["authenticated_by"] == "private_key_jwt"


# ------------------------------------------------------------------------------------------------------------------- once


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
def test_an_assertion_is_good_for_one_request(http: httpx.Client, robot: Robot, endpoint: str) -> None:
    form = GRANT | {"token": "x"} | robot.form()
    ok(http.post("/oauth/revoke", data=form))
    with nothing_recorded(http):
        again = http.post(f"/oauth/{endpoint}", data=form)
    assert error(again, "invalid_client", 401) == "the client assertion: used before"


def test_of_many_requests_at_once_with_one_assertion_one_is_answered(
    each_worker: list[httpx.Client], http: httpx.Client, robot: Robot
) -> None:
    form = GRANT | robot.form()
    clients = [each_worker[number % len(each_worker)] for number in range(12)]
    with ThreadPoolExecutor(len(clients)) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda c: c.post("/oauth/token", data=form), clients))
    assert statuses == [200] + [401] * 11


def test_the_jti_of_another_client_is_another(http: httpx.Client, admin: httpx.Client, robot: Robot) -> None:
    jti = unique("jti")
    for one in (robot, new_robot(http, admin)):
        ok(http.post("/oauth/token", data=GRANT | one.form(jti=jti)))


def test_a_request_that_is_refused_before_uses_no_assertion(http: httpx.Client, robot: Robot) -> None:
    form = robot.form()
    error(http.post("/oauth/token", data=form), "invalid_request", 400)
    error(http.post("/oauth/token", data=form | {"grant_type": "bar"}), "unsupported_grant_type", 400)
    error(http.post("/oauth/introspect", data=form | {"token": "x", "as_of": "noon"}), "invalid_request", 400)
    error(http.post("/oauth/token", data=GRANT | form | {"client_id": "another"}), "invalid_client", 401)
    ok(http.post("/oauth/token", data=GRANT | form))


def test_what_was_used_is_forgotten_when_it_is_too_old(ledger_server: Served, http: httpx.Client, admin: httpx.Client) -> None:
    robot, clock = new_robot(http, admin), Clock(ledger_server.owner)
    form = GRANT | robot.form()
    ok(http.post("/oauth/token", data=form))
    count = "SELECT count(*) FROM ledger.used_assertions WHERE until > ledger.clock()"
    with psycopg.connect(ledger_server.owner, autocommit=True) as owner:
        before = owner.execute("SELECT count(*) FROM ledger.used_assertions").fetchone()
        assert owner.execute(count).fetchone() == before
        clock.advance(400)
        try:
            owner.execute("SELECT ledger.forget_assertions()")
            assert owner.execute("SELECT count(*) FROM ledger.used_assertions").fetchone() == (0,)
            assert owner.execute("SELECT ledger.use_assertion(gen_random_uuid(), ledger.clock())").fetchone() == (False,)
            description = error(http.post("/oauth/token", data=form), "invalid_client", 401)
        finally:
            clock.advance(-400)
    assert description == "the client assertion: not expired, and made within 300 s"


# ------------------------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
def test_whatever_proves_no_client_is_refused_in_the_same_words(
    http: httpx.Client, admin: httpx.Client, robot: Robot, endpoint: str
) -> None:
    suspended, stranger = new_robot(http, admin), new_jwks("EdDSA")[0]
    ok(admin.post(f"/v1/clients/{suspended.app.name}/suspend", json={"reason": "an audit"}))
    with_secret = new_client(admin, "shop", grants=["client_credentials"])
    claims = claims_for(robot.app.name, robot.issuer)
    assertions = {
        "no JWT": "x",
        "nothing": ".",
        "too long": "x" * 9_000,
        "a stranger's": signed(claims, stranger, "EdDSA"),
        "unsigned": signed(claims, None, "none"),
        "of nobody": signed(claims_for("nobody-at-all", robot.issuer), stranger, "EdDSA"),
        "of a client without keys": signed(claims_for(with_secret.name, robot.issuer), stranger, "EdDSA"),
        "of a suspended client": suspended.form()["client_assertion"],
        "iss and sub differ": signed(claims | {"iss": "another"}, robot.private, "EdDSA"),
        "no sub": signed({k: v for k, v in claims.items() if k != "sub"}, robot.private, "EdDSA"),
        "an access token's type": signed(claims, robot.private, "EdDSA", typ="at+jwt"),
        "an unknown kid": signed(claims, robot.private, "EdDSA", kid="another"),
    }
    with nothing_recorded(http):
        for what, assertion in assertions.items():
            answer = http.post(f"/oauth/{endpoint}", data=GRANT | {"token": "x"} | form_of(assertion))
            assert error(answer, "invalid_client", 401) == PROVES_NOBODY, what
    ok(http.post("/oauth/token", data=GRANT | form_of(signed(claims, robot.private, "EdDSA"))))


def test_what_is_wrong_with_a_claim_is_said_to_whoever_signed_it(http: httpx.Client, robot: Robot) -> None:
    url = f"{robot.issuer}/oauth/token"
    for claims, said in (
        ({"aud": url}, "aud is the issuer identifier and nothing else"),
        ({"jti": None}, "jti of 1 to 255 characters"),
        ({"iat": None}, "iat is a number of seconds"),
        ({"exp": 1}, "not expired, and made within 300 s"),
    ):
        answer = http.post("/oauth/token", data=GRANT | robot.form(**claims))
        assert error(answer, "invalid_client", 401) == f"the client assertion: {said}"


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
def test_an_assertion_beside_another_way_is_refused(
    http: httpx.Client, admin: httpx.Client, robot: Robot, endpoint: str
) -> None:
    shop = new_client(admin, "shop", grants=["client_credentials"])
    form = GRANT | {"token": "x"} | robot.form()
    with nothing_recorded(http):
        error(http.post(f"/oauth/{endpoint}", data=form, auth=shop.auth), "invalid_request", 400)
        error(http.post(f"/oauth/{endpoint}", data=form | {"client_secret": shop.auth[1]}), "invalid_request", 400)
        for name in ("client_assertion", "client_assertion_type"):
            half = {key: value for key, value in form.items() if key != name}
            error(http.post(f"/oauth/{endpoint}", data=half), "invalid_request", 400)
        other = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
        error(http.post(f"/oauth/{endpoint}", data=form | {"client_assertion_type": other}), "invalid_request", 400)


# ------------------------------------------------------------------------------------------------------------ registration


def test_keys_take_the_place_of_the_secret_or_stand_beside_it(http: httpx.Client, admin: httpx.Client, robot: Robot) -> None:
    private, jwks = new_jwks("EdDSA")
    shop = new_client(admin, "shop", grants=["client_credentials"], apis=[new_api(admin)])
    url = f"/v1/clients/{shop.name}/keys"

    def ways() -> list[int]:
        assertion = signed(claims_for(shop.name, robot.issuer), private, "EdDSA")
        asked = [{"auth": shop.auth, "data": GRANT}, {"data": GRANT | form_of(assertion)}]
        return [http.post("/oauth/token", **one).status_code for one in asked]  # type: ignore[arg-type]

    assert ways() == [200, 401]
    ok(admin.post(url, json={"jwks": jwks, "keep_secret": True}))
    assert ways() == [200, 200]
    ok(admin.post(url, json={"jwks": jwks}))
    assert ways() == [401, 200]
    shown = ok(admin.get(f"/v1/clients/{shop.name}"))
    assert (shown["secrets"], shown["jwks"]["keys"][0]["kid"]) == (0, jwks["keys"][0]["kid"])
    with nothing_recorded(http):
        ok(admin.post(url, json={"jwks": jwks}))
        refused(admin.post(url, json={"jwks": {"keys": []}}), 400, "invalid_input")
    # A secret that is made anew stands beside the keys, which can then go.
    secret = ok(admin.post(f"/v1/clients/{shop.name}/secret"))["client_secret"]
    shop = App(shop.name, secret, None)
    assert ways() == [200, 200]
    ok(admin.post(url, json={"jwks": {"keys": []}, "keep_secret": True}))
    assert ways() == [200, 401]


def test_a_key_that_was_taken_away_proves_nobody(http: httpx.Client, admin: httpx.Client) -> None:
    robot = new_robot(http, admin)
    ok(http.post("/oauth/token", data=GRANT | robot.form()))
    ok(admin.post(f"/v1/clients/{robot.app.name}/keys", json={"jwks": new_jwks("ES256")[1]}))
    error(http.post("/oauth/token", data=GRANT | robot.form()), "invalid_client", 401)


def test_keys_that_could_not_be_used_are_refused_by_name(http: httpx.Client, admin: httpx.Client, robot: Robot) -> None:
    (key,) = new_jwks("EdDSA")[1]["keys"]
    unusable: list[Any] = [[key | {"d": "AAAA"}], [key | {"alg": "HS256"}], [key, key], [{}], [1], "x", [key | {"kid": None}]]
    with nothing_recorded(http):
        for keys in unusable:
            for url, body in (
                (f"/v1/clients/{robot.app.name}/keys", {}),
                ("/v1/clients", {"name": unique("robot")}),
            ):
                problem = refused(admin.post(url, json=body | {"jwks": {"keys": keys}}), 400, "invalid_input")
                assert [p["field"] for p in problem["problems"]] == ["jwks"]
        many = [key | {"kid": str(number)} for number in range(11)]
        refused(admin.post(f"/v1/clients/{robot.app.name}/keys", json={"jwks": {"keys": many}}), 400, "invalid_input")
        public = {"name": unique("app"), "kind": "public", "jwks": {"keys": [key]}}
        refused(admin.post("/v1/clients", json=public), 400, "invalid_input")
    app = first_party(admin, new_api(admin))
    refused(admin.post(f"/v1/clients/{app.name}/keys", json={"jwks": {"keys": [key]}}), 409, "no_secret")


def test_an_operator_gives_no_client_other_keys(http: httpx.Client, admin: httpx.Client, robot: Robot) -> None:
    operator = login(http, new_person(admin, "ledger:operator"))["access_token"]
    headers = {"Authorization": f"Bearer {operator}"}
    with nothing_recorded(http):
        answer = http.post(f"/v1/clients/{robot.app.name}/keys", json={"jwks": robot.jwks}, headers=headers)
    refused(answer, 403, "not_allowed")
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="token-ledger", error="insufficient_scope",'
        f' resource_metadata="{robot.issuer}/.well-known/oauth-protected-resource"'
    )
