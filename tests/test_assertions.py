"""The rules of client assertions (RFC 7523 section 3), without a server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.assertions import LEEWAY, MAX_AGE, check_claims, claimed_client
from ledger.errors import NotAuthenticated
from ledger.jose import BadKeySet, InvalidToken, read_assertion, read_client_keys
from tests.asserting import ALGORITHMS, new_jwks, signed
from tests.test_bad_tokens_http import encoded

ISSUER = "https://ledger.example"
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
CLAIMS = {"iss": "robot", "sub": "robot", "aud": ISSUER, "iat": AT, "exp": AT + 60, "jti": "one"}


def refused(claims: dict[str, Any], now: datetime = NOW) -> str:
    with pytest.raises(NotAuthenticated) as error:
        check_claims(claims, ISSUER, now)
    return error.value.message.removeprefix("the client assertion: ")


def test_an_assertion_is_good_until_it_expires_or_is_five_minutes_old() -> None:
    assert check_claims(CLAIMS, ISSUER, NOW).until == NOW + timedelta(seconds=60) + LEEWAY
    # As authlib writes it.
    assert check_claims(CLAIMS | {"exp": AT + 3_600}, ISSUER, NOW).until == NOW + MAX_AGE + LEEWAY
    until = NOW + MAX_AGE + LEEWAY
    assert check_claims(CLAIMS | {"exp": AT + 3_600}, ISSUER, until - timedelta(microseconds=1))
    assert refused(CLAIMS | {"exp": AT + 3_600}, until).startswith("not expired")
    assert refused(CLAIMS, NOW + timedelta(seconds=60) + LEEWAY).startswith("not expired")


def test_a_clock_may_go_wrong_by_half_a_minute() -> None:
    assert check_claims(CLAIMS | {"nbf": AT}, ISSUER, NOW - LEEWAY)
    before = NOW - LEEWAY - timedelta(microseconds=1)
    for claims in (CLAIMS, CLAIMS | {"iat": AT - 100, "nbf": AT}):
        assert refused(claims, before) == "iat and nbf are not in the future"


def test_the_use_is_of_this_client_and_this_jti() -> None:
    uses = [
        check_claims(CLAIMS | changed, ISSUER, NOW).assertion_id
        for changed in ({}, {"exp": AT + 61}, {"jti": "two"}, {"iss": "other", "sub": "other"})
    ]
    assert uses[0] == uses[1]
    assert len(set(uses)) == 3


@pytest.mark.parametrize("audience", [[ISSUER]])
def test_the_issuer_is_the_whole_audience(audience: object) -> None:
    assert check_claims(CLAIMS | {"aud": audience}, ISSUER, NOW)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "aud",
            [None, "", f"{ISSUER}/", f"{ISSUER}/oauth/token", [], [ISSUER, "https://other.example"], [ISSUER, ISSUER], {}, 1],
            "aud is the issuer identifier and nothing else",
        ),
        ("iat", [None, "1", 1.0, True, 0, -1, 2**53], "iat is a number of seconds"),
        ("exp", [None, "1", 1.0, True, 0, -1, 2**53], "exp is a number of seconds"),
        ("nbf", [None, "1", True, 2**53], "nbf is a number of seconds"),
        ("jti", [None, "", 1, "x" * 256, ["one"]], "jti of 1 to 255 characters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_is_wrong_or_not_there_is_named(name: str, values: list[Any], said: str) -> None:
    for value in values:
        assert refused(CLAIMS | {name: value}) == said, value
    if name != "nbf":
        assert refused({key: value for key, value in CLAIMS.items() if key != name}) == said


@pytest.mark.parametrize(
    "claims", [{}, {"sub": "robot"}, {"iss": "robot"}, {"iss": "robot", "sub": "other"}, {"iss": 1, "sub": 1}, {"iss": None}]
)
def test_who_says_no_name_or_two_says_none(claims: dict[str, Any]) -> None:
    assert claimed_client(claims) is None


# ------------------------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_registered_key_verifies_by_its_own_algorithm_alone(algorithm: str) -> None:
    private, jwks = new_jwks(algorithm, "one")
    keys = read_client_keys(jwks)
    right = signed(CLAIMS, private, algorithm, kid="one")
    assert read_assertion(right).is_signed_by(keys)
    header, payload, signature = right.split(".")
    assert not read_assertion(f"{header}.{encoded({**CLAIMS, 'jti': 'two'})}.{signature}").is_signed_by(keys)
    for other in (*ALGORITHMS, "none", "HS256", "Ed25519", "", None, 1):
        forged = read_assertion(f"{encoded({'alg': other, 'kid': 'one'})}.{payload}.{signature}")
        assert not forged.is_signed_by(keys)
    if algorithm in ("RS256", "PS256"):
        other = "PS256" if algorithm == "RS256" else "RS256"
        assert not read_assertion(signed(CLAIMS, private, other, kid="one")).is_signed_by(keys)


def test_ed25519_goes_by_both_of_its_names() -> None:  # RFC 9864 section 2.2
    private, jwks = new_jwks("EdDSA", "one")
    payload = signed(CLAIMS, private, "EdDSA").split(".")[1]
    for registered in ("EdDSA", "Ed25519"):
        keys = read_client_keys({"keys": [jwks["keys"][0] | {"alg": registered}]})
        for said in ("EdDSA", "Ed25519"):
            body = f"{encoded({'alg': said})}.{payload}"
            assert read_assertion(f"{body}.{encoded(private.sign(body.encode()))}").is_signed_by(keys)


def test_without_a_kid_there_must_be_one_key() -> None:
    private, one = new_jwks("EdDSA", "one")
    _, two = new_jwks("EdDSA", "two")
    both = read_client_keys({"keys": [*one["keys"], *two["keys"]]})
    assert read_assertion(signed(CLAIMS, private, "EdDSA")).is_signed_by(both[:1])
    assert not read_assertion(signed(CLAIMS, private, "EdDSA")).is_signed_by(both)
    assert read_assertion(signed(CLAIMS, private, "EdDSA", kid="one")).is_signed_by(both)
    for kid in ("two", "three", ""):
        assert not read_assertion(signed(CLAIMS, private, "EdDSA", kid=kid)).is_signed_by(both)
    assert not read_assertion(signed(CLAIMS, private, "EdDSA")).is_signed_by(())


@pytest.mark.parametrize("header", [{"typ": "at+jwt"}, {"typ": "jwt"}, {"typ": "dpop+jwt"}], ids=str)
def test_another_type_of_jwt_is_no_assertion(header: dict[str, Any]) -> None:  # RFC 8725 section 3.11
    private, _ = new_jwks("EdDSA")
    with pytest.raises(InvalidToken, match="type"):
        read_assertion(signed(CLAIMS, private, "EdDSA", **header))
    for typ in ("JWT", "client-authentication+jwt", None):
        assert read_assertion(signed(CLAIMS, private, "EdDSA", typ=typ))


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "zip", "crit"])
def test_a_key_that_comes_with_the_assertion_is_not_looked_at(member: str) -> None:
    private, jwks = new_jwks("EdDSA")
    value = {"jwk": jwks["keys"][0], "crit": ["exp"]}.get(member, "https://elsewhere.example")
    header, payload = encoded({"alg": "EdDSA", member: value}), encoded(CLAIMS)
    with pytest.raises(InvalidToken, match="malformed"):
        read_assertion(f"{header}.{payload}.{encoded(private.sign(f'{header}.{payload}'.encode()))}")


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'{"sub":"a","sub":"b"}', b"\xff", b'{"sub":"\\ud800"}'], ids=repr)
def test_claims_that_are_no_strict_json_are_none(payload: bytes) -> None:
    with pytest.raises(InvalidToken):
        read_assertion(f"{encoded({'alg': 'EdDSA'})}.{encoded(payload)}.{'A' * 86}")


def test_of_a_key_what_is_known_is_kept_and_nothing_private_taken() -> None:
    _, jwks = new_jwks("ES256", "one")
    (kept,) = read_client_keys({"keys": [jwks["keys"][0] | {"colour": "blue", "key_ops": ["verify"]}]})
    assert kept.keys() == {"kid", "kty", "crv", "x", "y", "alg"}
    for wrong in ({"d": "AAAA"}, {"alg": "HS256"}, {"alg": "ES384"}, {"alg": None}, {"kid": ""}, {"use": "enc"}, {"x": "AA=="}):
        with pytest.raises(BadKeySet):
            read_client_keys({"keys": [jwks["keys"][0] | wrong]})
    values: list[Any] = [[], None, {}, {"keys": {}}, {"keys": [*jwks["keys"], *jwks["keys"]]}]
    for value in values:
        with pytest.raises(BadKeySet):
            read_client_keys(value)
