"""Clients of others against a running ledger, as they are published: authlib, requests-oauthlib, oauth4webapi on Node; and a
JWT of ours verified by other JOSE implementations than those it was made with.

What Node needs comes from the npm registry when the tests run, by tests/acceptance/npm/package-lock.json; without Node, or
without the registry, its test is skipped and says so.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwk as joserfc_keys
from joserfc import jws as joserfc_jws
from jwcrypto import jwk as jwcrypto_keys
from jwcrypto import jwt as jwcrypto_jwt
from jwcrypto.jws import InvalidJWSSignature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session as RequestsSession

from tests.asserting import issuer_of, new_jwks
from tests.calls import PASSWORD, App, Person, first_party, new_api, new_client, new_person, ok
from tests.forging import new_signing_key
from tests.serving import Served

NPM: Final = Path(__file__).parent / "acceptance" / "npm"
GRANTS: Final = ["client_credentials", "password", "refresh_token"]
TO_JWK: Final[dict[str, Callable[[Any], Any]]] = {
    "EdDSA": OKPAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "RS256": RSAAlgorithm.to_jwk,
}


@dataclass(frozen=True)
class World:
    """An API, a person, and for each way of client authentication a client that obtains tokens for the API and asks about
    it."""

    issuer: str
    api: str
    person: Person
    with_secret: App
    public: App
    with_keys: dict[str, tuple[App, dict[str, Any]]]  # by algorithm: the client, and its private JWK

    def url(self, endpoint: str) -> str:
        return f"{self.issuer}/oauth/{endpoint}"


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> Iterator[World]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        role = f"{api}:reader"
        settings: dict[str, Any] = {"grants": GRANTS, "strategy": "jwt", "refresh": "rotating", "apis": [api], "serves": api}
        apps = {"": new_client(admin, "shop", **settings)}
        privates = {}
        for algorithm, to_jwk in TO_JWK.items():
            private, jwks = new_jwks(algorithm)
            apps[algorithm] = new_client(admin, "robot", jwks=jwks, **settings)
            privates[algorithm] = json.loads(to_jwk(private)) | {"kid": jwks["keys"][0]["kid"]}
        for app in apps.values():
            ok(admin.post(f"/v1/subjects/{app.subject_id}/roles", json={"roles": [role]}))
        with_keys = {algorithm: (apps[algorithm], jwk) for algorithm, jwk in privates.items()}
        public = first_party(admin, api, strategy="jwt", refresh="rotating")
        yield World(issuer_of(http), api, new_person(admin, role), apps[""], public, with_keys)


@pytest.fixture(autouse=True)
def on_a_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain HTTP, which both would refuse."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


# ----------------------------------------------------------------------------------------------------------------- authlib


def authlib_session(world: World, method: str) -> AuthlibSession:
    """Answer a session of authlib that authenticates so."""
    name, algorithm = method.partition(" ")[::2]
    ways = {"token_endpoint_auth_method": name, "revocation_endpoint_auth_method": name}
    if name == "none":
        return AuthlibSession(world.public.name, **ways)
    if name != "private_key_jwt":
        return AuthlibSession(*world.with_secret.auth, **ways)
    app, private = world.with_keys[algorithm]
    session = AuthlibSession(app.name, joserfc_keys.import_key(private), **ways)
    # It writes the URL it calls into `aud` unless told the issuer; and an `exp` of an hour.
    # EdDSA over Ed25519 it calls by its newer name (RFC 9864).
    session.register_client_auth_method(PrivateKeyJWT(world.issuer, alg={"EdDSA": "Ed25519"}.get(algorithm, algorithm)))
    return session


@pytest.mark.parametrize(
    "method",
    ["client_secret_basic", "client_secret_post", *(f"private_key_jwt {a}" for a in TO_JWK)],
)
def test_authlib_obtains_refreshes_introspects_and_revokes(world: World, method: str) -> None:
    session, token, introspect = authlib_session(world, method), world.url("token"), world.url("introspect")
    machine = session.fetch_token(token, grant_type="client_credentials", scope=f"{world.api}:reader")
    assert (machine["token_type"], machine["scope"]) == ("Bearer", f"{world.api}:reader")
    assert "refresh_token" not in machine

    person = dict(session.fetch_token(token, username=world.person.username, password=PASSWORD))
    assert session.introspect_token(introspect, token=person["access_token"]).json()["sub"] == world.person.subject_id
    refreshed = dict(session.refresh_token(token, refresh_token=person["refresh_token"]))
    assert refreshed["refresh_token"] != person["refresh_token"]

    for text, hint in ((machine["access_token"], "access_token"), (refreshed["refresh_token"], "refresh_token")):
        answer = session.revoke_token(world.url("revoke"), token=text, token_type_hint=hint)
        assert answer.status_code == 200
    for text in (machine["access_token"], refreshed["access_token"]):
        assert session.introspect_token(introspect, token=text).json() == {"active": False}


def test_authlib_of_a_public_client_obtains_refreshes_and_revokes(world: World, http: httpx.Client) -> None:
    session, token = authlib_session(world, "none"), world.url("token")
    person = dict(session.fetch_token(token, username=world.person.username, password=PASSWORD, grant_type="password"))
    refreshed = dict(session.refresh_token(token, refresh_token=person["refresh_token"]))
    assert session.revoke_token(world.url("revoke"), token=refreshed["refresh_token"]).status_code == 200
    asked = {"token": refreshed["access_token"]}
    assert ok(http.post("/oauth/introspect", data=asked, auth=world.with_secret.auth)) == {"active": False}


# ------------------------------------------------------------------------------------------------------- requests-oauthlib


@pytest.mark.parametrize("way", ["basic", "in the form"])
def test_requests_oauthlib_obtains_refreshes_and_revokes(world: World, way: str) -> None:
    name, secret = world.with_secret.auth
    shown: dict[str, Any] = (
        {"auth": HTTPBasicAuth(name, secret)} if way == "basic" else {"include_client_id": True, "client_secret": secret}
    )
    backend = BackendApplicationClient(client_id=name, scope=[f"{world.api}:reader"])
    machine = RequestsSession(client=backend).fetch_token(world.url("token"), **shown)
    assert machine["scope"] == [f"{world.api}:reader"]

    client = LegacyApplicationClient(client_id=name)
    session = RequestsSession(client=client)
    asked = {"username": world.person.username, "password": PASSWORD}
    person = dict(session.fetch_token(world.url("token"), **asked, **shown))
    again: dict[str, Any] = (
        {"auth": HTTPBasicAuth(name, secret)} if way == "basic" else {"client_id": name, "client_secret": secret}
    )
    refreshed = dict(session.refresh_token(world.url("token"), refresh_token=person["refresh_token"], **again))
    assert refreshed["refresh_token"] != person["refresh_token"]

    # It has no call for these two; oauthlib writes the one, and a session sends both.
    auth = HTTPBasicAuth(name, secret)
    url, headers, body = client.prepare_token_revocation_request(
        world.url("revoke"), refreshed["refresh_token"], "refresh_token"
    )
    assert session.request("POST", url, data=body, headers=headers, auth=auth, withhold_token=True).status_code == 200
    answer = session.request(
        "POST", world.url("introspect"), data={"token": refreshed["access_token"]}, auth=auth, withhold_token=True
    )
    assert answer.json() == {"active": False}


# --------------------------------------------------------------------------------------------------- other JOSE, other OAuth


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # of EdDSA by its older name
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_jwt_of_ours_is_verified_by_jwcrypto_and_by_joserfc(
    ledger_server: Served, world: World, http: httpx.Client, algorithm: str
) -> None:
    if algorithm == "ES256":
        new_signing_key(ledger_server, "ES256")
    form = {"grant_type": "client_credentials"}
    text = ok(http.post("/oauth/token", data=form, auth=world.with_secret.auth))["access_token"]
    published = ok(http.get("/.well-known/jwks.json"))
    expected: dict[str, str | None] = {"iss": world.issuer, "aud": world.api, "client_id": world.with_secret.name}
    expected |= dict.fromkeys(("jti", "sub", "exp", "iat"))
    by_jwcrypto = jwcrypto_keys.JWKSet.from_json(json.dumps(published))
    verified = jwcrypto_jwt.JWT(jwt=text, key=by_jwcrypto, check_claims=expected, algs=[algorithm], expected_type="JWS")
    assert json.loads(verified.header) == {"alg": algorithm, "typ": "at+jwt", "kid": json.loads(verified.header)["kid"]}

    registry = joserfc_jws.JWSRegistry(algorithms=[algorithm])
    by_joserfc = joserfc_keys.KeySet.import_key_set({"keys": published["keys"]})
    seen = joserfc_jws.deserialize_compact(text, by_joserfc, registry=registry)
    assert json.loads(seen.payload) == json.loads(verified.claims)

    header, payload, signature = text.split(".")
    altered = f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    with pytest.raises((InvalidJWSSignature, jwcrypto_jwt.JWTMissingKey, ValueError)):
        jwcrypto_jwt.JWT(jwt=altered, key=by_jwcrypto, algs=[algorithm], expected_type="JWS")


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Answer the command of the client for Node, with what it needs beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are not there")
    folder = tmp_path_factory.mktemp("npm")
    for file in NPM.iterdir():
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode != 0:
        pytest.skip(f"npm could not install what the lock file names: {installed.stderr.strip()[-300:]}")
    return [node, "--disable-warning=ExperimentalWarning", str(folder / "client.mjs")]


def test_a_strict_client_on_node_does_all_that_there_is(
    world: World, node_client: list[str], record_property: Callable[[str, object], None]
) -> None:
    name, secret = world.with_secret.auth
    clients: list[dict[str, Any]] = [
        {"client_id": name, "secret": secret, "method": method} for method in ("client_secret_basic", "client_secret_post")
    ]
    clients += [
        {"client_id": app.name, "method": "private_key_jwt", "algorithm": algorithm, "kid": jwk["kid"], "jwk": jwk}
        for algorithm, (app, jwk) in world.with_keys.items()
        if algorithm != "RS256"
    ]
    given = {
        "issuer": world.issuer,
        "audience": world.api,
        "scope": f"{world.api}:reader",
        "username": world.person.username,
        "password": PASSWORD,
        "clients": clients,
    }
    ended = subprocess.run(node_client, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = ended.stdout.splitlines()
    assert len(done) == 2 + 7 * len(clients)
    record_property("done", len(done))
