"""Strings that are no tokens, to everything that takes one: a plain no or a clear 4xx, never a 5xx, and nothing recorded.

Malformed, cut, altered and forged strings of every kind; the forged ones are made with the ledger's own keys, as only
somebody could who had stolen them, so that nothing but what is wrong with them is wrong.
"""

import hmac
import json
import random
import socket
import string
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from ledger.jose import KeySet, SigningKey, write_encrypted, write_jwe, write_jwt
from ledger.token_strings import checksum, new_secret, write
from tests.calls import (
    App,
    evaluate,
    first_party,
    gateway,
    introspect,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    resource_server,
)
from tests.forging import decoded, stolen_keys
from tests.serving import Served

STRATEGIES = ("opaque", "encrypted", "jwt", "jwe")
KINDS = (*STRATEGIES, "refresh")
SAMPLES = 12


@dataclass(frozen=True)
class Setting:
    """Who asks, an app of each strategy, and a token of each kind that stands: its string, and what it says."""

    asker: App
    apps: dict[str, App]
    tokens: dict[str, str]
    claims: dict[str, dict[str, Any]]
    keys: KeySet


@pytest.fixture(scope="module")
def setting(ledger_server: Served) -> Iterator[Setting]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        asker, person = resource_server(admin, api), new_person(admin, f"{api}:reader")
        apps = {strategy: first_party(admin, api, strategy=strategy, refresh="rotating") for strategy in STRATEGIES}
        answers = {strategy: login(http, person, app) for strategy, app in apps.items()}
        tokens = {strategy: answer["access_token"] for strategy, answer in answers.items()}
        claims = {}
        for strategy, text in tokens.items():
            seen = introspect(http, asker, text)
            claims[strategy] = {name: seen[name] for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "jti")}
        tokens["refresh"] = answers["opaque"]["refresh_token"]
        yield Setting(asker, apps, tokens, claims, stolen_keys(ledger_server))


def refused_everywhere(http: httpx.Client, setting: Setting, text: str, what: str) -> None:
    """Present a string to everything that takes a token: nobody takes it, nothing fails."""
    question = {
        "subject": {"type": "token", "id": text},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": "/orders/7"},
    }
    answer = http.post("/access/v1/evaluation", json=question, auth=setting.asker.auth)
    assert answer.status_code in (200, 400), (what, answer.text)
    assert answer.status_code == 400 or answer.json()["decision"] is False, (what, answer.text)

    answer = http.post("/oauth/introspect", data={"token": text}, auth=setting.asker.auth)
    assert answer.status_code in (200, 400), (what, answer.text)
    assert answer.status_code == 400 or answer.json()["active"] is False, (what, answer.text)

    app = setting.apps["opaque"]
    answer = refresh(http, app, text)
    assert (answer.status_code, answer.json()["error"]) in ((400, "invalid_grant"), (400, "invalid_request")), (
        what,
        answer.text,
    )
    answer = http.post("/oauth/revoke", data={"token": text, "client_id": app.name})
    assert answer.status_code in (200, 400), (what, answer.text)

    if text.isascii() and text.isprintable() and text.strip() and len(text) < 15_000:  # what a header can hold
        assert gateway(http, setting.asker, text).status_code == 401, what
        assert http.get("/v1/me", headers={"Authorization": f"Bearer {text}"}).status_code == 401, what


def stand_still(http: httpx.Client, setting: Setting) -> None:
    """Check that the tokens which the strings were made from still stand."""
    for strategy in STRATEGIES:
        assert evaluate(http, setting.asker, setting.tokens[strategy])["decision"] is True


# -------------------------------------------------------------------------------------------- cut and altered strings


def cuts(text: str, chance: random.Random) -> Iterator[str]:
    """Cut a string: at its end, at its start, in its middle."""
    for _ in range(SAMPLES):
        place = chance.randrange(1, len(text))
        yield text[:place]
        yield text[place:]
        yield text[:place] + text[place + 1 :]
    for number in range(text.count(".") + 1):
        segments = text.split(".")
        yield ".".join(segments[:number] + segments[number + 1 :])
        yield ".".join([*segments[:number], "", *segments[number + 1 :]])


def alterations(text: str, chance: random.Random) -> Iterator[str]:
    """Alter a string: one bit, one letter, its case, the order of its segments, one letter more."""
    for _ in range(SAMPLES):
        place, bit = chance.randrange(len(text)), 1 << chance.randrange(7)
        yield text[:place] + chr(ord(text[place]) ^ bit) + text[place + 1 :]
        letter = chance.choice([c for c in string.ascii_letters + string.digits if c != text[place]])
        yield text[:place] + letter + text[place + 1 :]
        yield text[:place] + letter + text[place:]
    yield from (text.swapcase(), text[::-1], text + "=", text + ".", "." + text, text + "\n", text + "\0", "\ufeff" + text)
    yield ".".join(reversed(text.split("."))) if "." in text else text + text


@pytest.mark.parametrize("make", [cuts, alterations])
@pytest.mark.parametrize("kind", KINDS)
def test_a_string_that_was_cut_or_altered_is_no_token(
    http: httpx.Client, setting: Setting, kind: str, make: Callable[[str, random.Random], Iterator[str]]
) -> None:
    text = setting.tokens[kind]
    with nothing_recorded(http):
        for number, altered in enumerate(make(text, random.Random(f"{kind} 1"))):
            if altered not in setting.tokens.values() and altered:
                refused_everywhere(http, setting, altered, f"{kind}, {number}: {altered!r}")
    stand_still(http, setting)


@pytest.mark.parametrize("kind", ["opaque", "encrypted", "refresh"])
def test_a_string_that_was_altered_under_a_right_checksum_is_no_token(http: httpx.Client, setting: Setting, kind: str) -> None:
    body, chance = setting.tokens[kind][:-6], random.Random(f"{kind} 2")
    with nothing_recorded(http):
        for _ in range(SAMPLES):
            place = chance.randrange(6, len(body))
            altered = body[:place] + ("A" if body[place] != "A" else "B") + body[place + 1 :]
            refused_everywhere(http, setting, altered + checksum(altered), f"{kind}: {altered!r}")
    stand_still(http, setting)


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "..",
        "....",
        "a",
        "null",
        "Bearer",
        "tl_",
        "tl_at_",
        "tl_rt_",
        "tl_cs_",
        "tl_at_" + "0" * 71,
        "tl_at_" + "z" * 71,
        "tl_at_....",
        "eyJhbGciOiJub25lIn0.e30.",
        "eyJhbGciOiJub25lIn0..",
        "\u00e9",
        "\u202e",
        "\U0001f600",
        " ",
        "\t",
        "' OR 1=1 --",
        "../../etc/passwd",
        "{}",
        "%00",
        "\x7f",
        "x" * 8_192,
        "x" * 8_193,
        "a." * 4_000,
        "tl_at_" + "x" * 8_186,
        "e30." * 2_000 + "e30",
        "x" * 200_000,
    ],
    ids=lambda text: f"{text[:16]!r} ({len(text)})",
)
def test_what_was_never_a_token_is_none(http: httpx.Client, setting: Setting, text: str) -> None:
    with nothing_recorded(http):
        refused_everywhere(http, setting, text, repr(text[:40]))


# --------------------------------------------------------------------------------------------------------- forged strings


def encoded(value: bytes | dict[str, Any]) -> str:
    """Write a segment of a compact serialisation."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict[str, Any], payload: str, key: SigningKey) -> str:
    """Sign whatever header and payload with a key of ours."""
    body = f"{encoded(header)}.{payload}"
    return f"{body}.{encoded(key.private.sign(body.encode()))}"  # type: ignore[call-arg] # EdDSA, the server's algorithm


def forgeries_of_jwt(setting: Setting) -> Iterator[tuple[str, str]]:
    """Forge the JWT that stands, in every way in which a check of JWTs was ever too mild."""
    text, (key,) = setting.tokens["jwt"], setting.keys.signing.values()
    _, payload, signature = text.split(".")
    header = {"alg": "EdDSA", "kid": str(key.key_id), "typ": "at+jwt"}
    published = json.dumps(key.public_jwk()).encode()
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        for with_header in (header | {"alg": algorithm}, {"alg": algorithm}, {"alg": algorithm, "typ": "JWT"}):
            yield f"alg {algorithm}", f"{encoded(with_header)}.{payload}."
            yield f"alg {algorithm}, with a signature", f"{encoded(with_header)}.{payload}.{signature}"
            yield f"alg {algorithm}, two segments", f"{encoded(with_header)}.{payload}"
    for secret in (key.private.public_key().public_bytes_raw(), published, str(key.key_id).encode(), b""):  # type: ignore[union-attr]
        body = f"{encoded(header | {'alg': 'HS256'})}.{payload}"
        yield "the public key as a shared secret", f"{body}.{encoded(hmac.digest(secret, body.encode(), 'sha256'))}"
    stranger = SigningKey.generate(uuid4(), "EdDSA")
    for kid in (str(stranger.key_id), str(key.key_id), *setting.keys.encryption, "", "0", "../../dev/null"):
        yield f"signed by a stranger as {kid}", signed(header | {"kid": kid}, payload, stranger)
    members: dict[str, Any] = {
        "jwk": stranger.public_jwk(),
        "jku": "http://127.0.0.1:9/jwks.json",
        "x5u": "http://127.0.0.1:9/cert.pem",
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
    }
    for name, value in members.items():
        yield f"a stranger's, with {name}", signed(header | {name: value, "kid": str(stranger.key_id)}, payload, stranger)
        yield f"ours, with {name}", signed(header | {name: value}, payload, key)
    for typ in ("JWT", "application/jwt", "at+JWT", "at+jwe", "tl-at+jwe", None):
        yield f"typ {typ}", signed(header | {"typ": typ}, payload, key)
    yield "no kid", signed({"alg": "EdDSA", "typ": "at+jwt"}, payload, key)
    twice = f'{{"alg":"EdDSA","alg":"EdDSA","kid":"{key.key_id}","typ":"at+jwt"}}'.encode()
    body = f"{encoded(twice)}.{payload}"
    yield "alg twice", f"{body}.{encoded(key.private.sign(body.encode()))}"  # type: ignore[call-arg]
    claims = decoded(payload)
    for what, data in {
        "exp as text": claims.replace(b'"exp":', b'"exp":"').replace(b',"iat"', b'","iat"'),
        "jti twice": claims[:-1] + b',"jti":"' + str(uuid4()).encode() + b'"}',
        "NUL": claims[:-1] + b',"a":"\\u0000"}',
        "a lone surrogate": claims[:-1] + b',"a":"\\ud800"}',
        "not UTF-8": claims[:-1] + b',"a":"\xff"}',
        "deep": claims[:-1] + b',"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        "an array": b"[" + claims + b"]",
        "nothing": b"",
    }.items():
        assert data != claims, what
        yield f"claims: {what}", signed(header, encoded(data), key)


def test_a_forged_jwt_is_no_token(http: httpx.Client, setting: Setting) -> None:
    with nothing_recorded(http):
        for what, text in forgeries_of_jwt(setting):
            refused_everywhere(http, setting, text, what)
    stand_still(http, setting)


WRONG_CLAIMS: dict[str, list[Any]] = {
    "iss": ["https://elsewhere.example", "", 1, None],
    "sub": ["", 1, None],
    "aud": ["", [], None, [1]],
    "client_id": ["", None],
    "iat": ["1900000000", -1, 0, True, None],
    "exp": ["1900000000", -1, 0, True, None, 2**53],
    "jti": ["", "x", str(UUID(int=0)), str(uuid4()), None],
}


@pytest.mark.parametrize("strategy", ["encrypted", "jwt", "jwe"])
def test_a_string_with_other_claims_under_our_own_keys_is_no_token(http: httpx.Client, setting: Setting, strategy: str) -> None:
    (signing,), encryption = setting.keys.signing, max(setting.keys.encryption)

    def forge(claims: dict[str, Any]) -> str:
        writers: dict[str, Callable[[], str]] = {
            "encrypted": lambda: write_encrypted(claims, setting.keys, UUID(encryption)),
            "jwt": lambda: write_jwt(claims, setting.keys, UUID(signing)),
            "jwe": lambda: write_jwe(claims, setting.keys, UUID(signing), UUID(encryption)),
        }
        return writers[strategy]()

    right = setting.claims[strategy]
    assert evaluate(http, setting.asker, forge(right))["decision"] is True  # it is not the forging that is refused
    with nothing_recorded(http):
        for name, values in WRONG_CLAIMS.items():
            missing = {key: value for key, value in right.items() if key != name}
            for claims in (missing, *(right | {name: value} for value in values)):
                refused_everywhere(http, setting, forge(claims), f"{strategy}: {name} {claims.get(name)!r}")
    stand_still(http, setting)


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_the_id_of_a_token_with_another_secret_is_no_token(http: httpx.Client, setting: Setting, kind: str) -> None:
    with nothing_recorded(http):
        for claims in setting.claims.values():
            for secret in (new_secret(), bytes(32), b"\xff" * 32):
                text = write(kind, UUID(claims["jti"]), secret)  # type: ignore[arg-type]
                refused_everywhere(http, setting, text, f"{kind} of {claims['jti']}")
    stand_still(http, setting)


# ------------------------------------------------------------------------------------------------- requests byte by byte


def raw(server: Served, request: bytes) -> tuple[int, bytes]:
    """Send bytes, and answer the status and what came with it."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(
    "token",
    [b"\xff\xfe", b"\xc3\xa9", b"a\x00b", b"a\x01b", b"a\tb", b"a b", b"", b"\x80" * 64, b"a, Bearer b"],
    ids=repr,
)
@pytest.mark.parametrize("path", [b"/v1/me", b"/gateway/nginx"])
def test_a_header_of_any_bytes_is_answered_with_a_plain_no(ledger_server: Served, path: bytes, token: bytes) -> None:
    head = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    status, answer = raw(ledger_server, head)
    assert status in (400, 401), answer


@pytest.mark.parametrize("path", [b"/v1/me", b"/gateway/nginx"])
def test_two_tokens_in_one_request_are_none(ledger_server: Served, setting: Setting, path: bytes) -> None:
    token = setting.tokens["opaque"].encode()
    lines = b"Authorization: Bearer " + token + b"\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    status, answer = raw(ledger_server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines)
    assert status == 401, answer


@pytest.mark.parametrize("size", [16_384, 40_000, 70_000])
def test_a_header_over_16_kib_is_refused_by_name_or_not_read_at_all(ledger_server: Served, size: int) -> None:
    with ledger_server.client() as client:
        answer = client.get("/v1/me", headers={"Authorization": "Bearer " + "x" * size})
    assert answer.status_code in (400, 431)


@pytest.mark.parametrize("body", [b"\xff", b'{"a":"\xff"}', b"\x00", b"{", b"[" * 100_000, b'{"subject":' * 50_000, b"nul"])
def test_a_question_that_is_no_json_is_a_clear_error(http: httpx.Client, setting: Setting, body: bytes) -> None:
    answer = http.post(
        "/access/v1/evaluation", content=body, headers={"Content-Type": "application/json"}, auth=setting.asker.auth
    )
    assert answer.status_code in (400, 413), answer.text


@pytest.mark.parametrize(
    "body", [b"token=\xff", b"token=%ff", b"token=%ed%a0%80", b"token=%00", b"token=a%", b"token=%zz", b"\x00=a"]
)
@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
def test_a_form_of_any_bytes_is_answered_with_a_plain_no_or_a_clear_error(
    http: httpx.Client, setting: Setting, endpoint: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with nothing_recorded(http):
        answer = http.post(f"/oauth/{endpoint}", content=body, headers=headers, auth=setting.asker.auth)
    assert answer.status_code in (200, 400), answer.text
    assert answer.json().get("active", False) is False


def test_after_all_of_this_nothing_went_wrong_inside(http: httpx.Client, ledger_server: Served, setting: Setting) -> None:
    stand_still(http, setting)
    assert ok(http.get("/readyz"))["status"] == "ready"
    assert ledger_server.log is not None
    assert "unexpected" not in ledger_server.log.read_text()
