"""Somebody has stolen a key that tokens are made with. Until it is revoked nobody can tell his strings from ours; from then
on none of them is a token, whatever token's id he signs."""

from uuid import UUID

import httpx
import pytest

from ledger.jose import KeySet, write_encrypted, write_jwe, write_jwt
from tests.calls import (
    App,
    evaluate,
    first_party,
    introspect,
    login,
    new_api,
    new_person,
    resource_server,
)
from tests.forging import new_encryption_key, new_signing_key, revoke_key, stolen_keys
from tests.serving import Served


def newest(keys: KeySet, use: str) -> UUID:
    """Answer the key that the server uses now; ids are ordered by time."""
    found = keys.signing.values() if use == "sig" else keys.encryption.values()
    return max(key.key_id for key in found)


def setting(http: httpx.Client, admin: httpx.Client, strategy: str) -> tuple[App, dict[str, object], str]:
    """Answer who asks, the claims of a token of this strategy that stands, and its string."""
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    asker = resource_server(admin, api)
    person = new_person(admin, f"{api}:reader")
    token = login(http, person, first_party(admin, api, strategy=strategy))
    seen = introspect(http, asker, token["access_token"])
    claims = {name: seen[name] for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "jti")}
    return asker, claims, token["access_token"]


def write(strategy: str, claims: dict[str, object], keys: KeySet, signing: UUID, encryption: UUID) -> str:
    """Write a string as whoever has the keys can."""
    match strategy:
        case "jwt":
            return write_jwt(claims, keys, signing)
        case "jwe":
            return write_jwe(claims, keys, signing, encryption)
    return write_encrypted(claims, keys, encryption)


@pytest.mark.parametrize("strategy", ["jwt", "jwe", "encrypted"])
def test_a_revoked_key_makes_no_string_of_a_token_that_was_made_with_another(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, strategy: str
) -> None:
    stolen = stolen_keys(ledger_server)
    signing, encryption = newest(stolen, "sig"), newest(stolen, "enc")
    # The key is changed, and a token is made with the new one.
    new_signing, new_encryption = new_signing_key(ledger_server), new_encryption_key(ledger_server)
    asker, claims, genuine = setting(http, admin, strategy)
    forged = write(strategy, claims, stolen, signing, encryption)
    for key_id in (signing, encryption):
        revoke_key(ledger_server, key_id)
    # Its id is no secret: it stands in answers, in headers to upstreams, in the audit.
    answer = evaluate(http, asker, forged)
    assert (answer["decision"], answer["context"]["reason"]) == (False, "unknown_token")
    assert introspect(http, asker, forged)["active"] is False
    assert evaluate(http, asker, genuine)["decision"] is True
    # The same string of the keys it was made with is the token, however often it is written.
    again = write(strategy, claims, stolen_keys(ledger_server), new_signing, new_encryption)
    assert evaluate(http, asker, again)["decision"] is True


@pytest.mark.parametrize("strategy", ["jwt", "jwe", "encrypted"])
def test_a_token_that_was_made_with_a_revoked_key_is_dead_at_once(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client, strategy: str
) -> None:
    asker, _, text = setting(http, admin, strategy)
    keys = stolen_keys(ledger_server)
    signing, encryption = newest(keys, "sig"), newest(keys, "enc")
    new_signing_key(ledger_server)
    new_encryption_key(ledger_server)
    assert evaluate(http, asker, text)["decision"] is True  # the change alone kills nothing
    for key_id in (signing, encryption):
        revoke_key(ledger_server, key_id)
    answer = evaluate(http, asker, text)
    assert (answer["decision"], answer["context"]["reason"]) == (False, "key_revoked")
    assert str(signing) not in {key["kid"] for key in http.get("/.well-known/jwks.json").json()["keys"]}


def test_a_jwt_under_a_new_es256_key_is_read_on_every_worker(
    ledger_server: Served, http: httpx.Client, admin: httpx.Client
) -> None:
    key_id = new_signing_key(ledger_server, "ES256")
    asker, _, text = setting(http, admin, "jwt")
    assert str(key_id) in {key["kid"] for key in http.get("/.well-known/jwks.json").json()["keys"]}
    for _ in range(20):
        with ledger_server.client() as connection:
            assert evaluate(connection, asker, text)["decision"] is True
