"""The strings that prove themselves, without a ledger: what is written, and everything that must not be read.

Strings that attack are made here with `cryptography` alone, segment by segment, so that neither library of the product can
refuse to make them. The vectors of Wycheproof (`jose-adversarial`) and of the JOSE cookbook (RFC 7520) run on our own
functions. Ours is a strict profile: EdDSA with Ed25519, ES256 and RS256 to sign, `dir` with A256GCM to encrypt, compact only,
exact header members. Of all those vectors IN_PROFILE are signatures that our keys can make; the rest is refused, valid or not.

What is recorded as a property of a test is counted by `make acceptance` (tests/acceptance/vectors_of_others.py).
"""

import base64
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ledger.jose import (
    JWE_SEGMENTS,
    JWS_SEGMENTS,
    BadKeySet,
    EncryptionKey,
    InvalidToken,
    KeySet,
    Pieces,
    Proven,
    SigningKey,
    read_encrypted,
    read_jwe,
    read_jwt,
    read_public_keys,
    take_apart,
    write_encrypted,
    write_jwe,
    write_jwt,
)
from ledger.token_strings import MAX_TOKEN_CHARACTERS, MalformedToken, checksum, new_secret, read, secret_digest, write
from tests.forging import decoded, readings_of
from tests.vectors import FOLDER, vectors

Recorded = Callable[[str, object], None]

ISSUER = "https://ledger.example"
TOKEN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ED, ES = SigningKey.generate(uuid4(), "EdDSA"), SigningKey.generate(uuid4(), "ES256")
RS = SigningKey.generate(uuid4(), "RS256")
each_algorithm = pytest.mark.parametrize("key", [ED, ES, RS], ids=["EdDSA", "ES256", "RS256"])
ENC, OTHER_ENC = EncryptionKey(uuid4(), new_secret()), EncryptionKey(uuid4(), new_secret())
KEYS = KeySet([ED, ES, RS], [ENC, OTHER_ENC])
FOREIGN = KeySet([SigningKey.generate(uuid4(), "EdDSA")], [EncryptionKey(uuid4(), new_secret())])
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "01890a5d-ac96-774b-bcce-000000000001",
    "aud": ["orders-audience"],
    "client_id": "shop-client",
    "iat": 1_900_000_000,
    "exp": 1_900_000_600,
    "jti": str(TOKEN),
    "scope": "orders:reader",
    "colour": "heliotrope",
}


# ------------------------------------------------------------------------------------------------- strings made by hand


def encoded(value: bytes | str | Mapping[str, Any]) -> str:
    """Write a segment: base64url without padding of bytes, of a text, or of JSON."""
    if isinstance(value, Mapping):
        value = json.dumps(value)
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else value.encode()).rstrip(b"=").decode()


def signature_by(key: SigningKey, message: bytes) -> bytes:
    """Sign as JWS wants it (RFC 7518 section 3.4: r and s, 32 bytes each)."""
    if isinstance(key.private, ed25519.Ed25519PrivateKey):
        return key.private.sign(message)
    if isinstance(key.private, rsa.RSAPrivateKey):
        return key.private.sign(message, padding.PKCS1v15(), SHA256())
    r, s = decode_dss_signature(key.private.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def jwt_of(
    claims: bytes | str | Mapping[str, Any] = CLAIMS,
    key: SigningKey = ED,
    header: bytes | str | Mapping[str, Any] | None = None,
    **members: Any,
) -> str:
    """Write a JWT that the key has signed, whatever stands in it; `members` are added to the right header."""
    if header is None:
        header = {"alg": key.algorithm, "kid": str(key.key_id), "typ": "at+jwt"} | members
    body = f"{encoded(header)}.{encoded(claims)}"
    return f"{body}.{encoded(signature_by(key, body.encode()))}"


def jwe_of(
    plain: bytes | str | Mapping[str, Any],
    *,
    key: EncryptionKey = ENC,
    header: bytes | str | Mapping[str, Any] | None = None,
    encrypted_key: bytes = b"",
    iv: bytes = b"twelve bytes",
    **members: Any,
) -> str:
    """Write a JWE under the key, whatever stands in it; `members` are added to the header of a nested JWT."""
    if header is None:
        header = {"alg": "dir", "enc": "A256GCM", "kid": str(key.key_id), "typ": "at+jwe", "cty": "JWT"} | members
    if isinstance(plain, Mapping):
        plain = json.dumps(plain)
    protected = encoded(header)
    sealed = AESGCM(key.secret).encrypt(iv, plain if isinstance(plain, bytes) else plain.encode(), protected.encode())
    parts = (encrypted_key, iv, sealed[:-16], sealed[-16:])
    return ".".join([protected, *map(encoded, parts)])


def encrypted_of(claims: bytes | str | Mapping[str, Any] = CLAIMS, **members: Any) -> str:
    """Write an encrypted string, whatever stands in it."""
    header = {"alg": "dir", "enc": "A256GCM", "kid": str(ENC.key_id), "typ": "tl-at+jwe"} | members
    return checked("tl_at_" + jwe_of(claims, header=header))


def checked(body: str) -> str:
    """Close a string with its checksum."""
    return body + checksum(body)


def changed(text: str, number: int, change: Callable[[str], str]) -> str:
    """Change one segment."""
    segments = text.split(".")
    segments[number] = change(segments[number])
    return ".".join(segments)


def flipped(segment: str) -> str:
    """Change one bit of what a segment says."""
    data = bytearray(decoded(segment))
    data[0] ^= 1
    return encoded(bytes(data))


def reason_of(reader: Callable[..., Proven], text: str, keys: KeySet = KEYS) -> str:
    """Answer why a string is refused."""
    with pytest.raises(InvalidToken) as refused:
        reader(text, keys, ISSUER)
    return refused.value.reason


def refuses(reader: Callable[..., Proven], text: str, reason: str, keys: KeySet = KEYS) -> None:
    """Check that a string is refused, for this reason, with nothing of it in the message."""
    with pytest.raises(InvalidToken) as refused:
        reader(text, keys, ISSUER)
    assert refused.value.reason == reason
    assert str(refused.value) == f"not a valid token: {reason}"


STRATEGIES: dict[str, tuple[Callable[[Mapping[str, Any]], str], Callable[..., Proven], tuple[UUID, ...]]] = {
    "jwt-eddsa": (lambda claims: write_jwt(claims, KEYS, ED.key_id), read_jwt, (ED.key_id,)),
    "jwt-es256": (lambda claims: write_jwt(claims, KEYS, ES.key_id), read_jwt, (ES.key_id,)),
    "jwt-rs256": (lambda claims: write_jwt(claims, KEYS, RS.key_id), read_jwt, (RS.key_id,)),
    "encrypted": (lambda claims: write_encrypted(claims, KEYS, ENC.key_id), read_encrypted, (ENC.key_id,)),
    "jwe-eddsa": (
        lambda claims: write_jwe(claims, KEYS, ED.key_id, ENC.key_id),
        read_jwe,
        (ED.key_id, ENC.key_id),
    ),
    "jwe-es256": (
        lambda claims: write_jwe(claims, KEYS, ES.key_id, OTHER_ENC.key_id),
        read_jwe,
        (ES.key_id, OTHER_ENC.key_id),
    ),
    "jwe-rs256": (
        lambda claims: write_jwe(claims, KEYS, RS.key_id, ENC.key_id),
        read_jwe,
        (RS.key_id, ENC.key_id),
    ),
}
each_strategy = pytest.mark.parametrize(("writer", "reader", "key_ids"), STRATEGIES.values(), ids=STRATEGIES)
# Hand-made strings around claims of choice, and who reads them.
HAND_MADE: dict[str, tuple[Callable[[Any], str], Callable[..., Proven]]] = {
    "jwt": (jwt_of, read_jwt),
    "encrypted": (encrypted_of, read_encrypted),
    "jwe": (lambda claims: jwe_of(jwt_of(claims)), read_jwe),
}
each_hand_made = pytest.mark.parametrize(("make", "reader"), HAND_MADE.values(), ids=HAND_MADE)

# ------------------------------------------------------------------------------------------------------- what is written


@each_strategy
def test_a_string_proves_its_token_and_the_keys_it_was_made_with(
    writer: Callable[[Mapping[str, Any]], str], reader: Callable[..., Proven], key_ids: tuple[UUID, ...]
) -> None:
    assert reader(writer(CLAIMS), KEYS, ISSUER) == Proven(TOKEN, key_ids)


@each_hand_made
def test_what_attacks_are_made_of_is_read_when_nothing_is_wrong_with_it(
    make: Callable[[Any], str], reader: Callable[..., Proven]
) -> None:
    assert reader(make(CLAIMS), KEYS, ISSUER).token_id == TOKEN


# joserfc advises the name that RFC 9864 gives to EdDSA with Ed25519; verifiers that know it alone are few yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@each_algorithm
def test_a_jwt_verifies_in_another_library_with_the_published_key_alone(key: SigningKey) -> None:
    published = JWKRegistry.import_key({**key.public_jwk()})
    registry = JWSRegistry(algorithms=["EdDSA", "ES256", "RS256"])
    verified = jws.deserialize_compact(write_jwt(CLAIMS, KEYS, key.key_id), published, registry=registry)
    assert json.loads(verified.payload) == CLAIMS
    assert verified.headers() == {"alg": key.algorithm, "kid": str(key.key_id), "typ": "at+jwt"}


@each_algorithm
def test_a_published_key_has_no_private_member(key: SigningKey) -> None:
    jwk = key.public_jwk()
    assert jwk.keys() <= {"kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"}
    assert (jwk["kid"], jwk["use"], jwk["alg"]) == (str(key.key_id), "sig", key.algorithm)


def test_what_is_encrypted_opens_with_the_key_by_plain_aes_gcm() -> None:
    protected, encrypted_key, nonce, sealed, tag = write_jwe(CLAIMS, KEYS, ED.key_id, ENC.key_id).split(".")
    plain = AESGCM(ENC.secret).decrypt(decoded(nonce), decoded(sealed) + decoded(tag), protected.encode())
    assert encrypted_key == ""
    assert json.loads(decoded(plain.decode().split(".")[1])) == CLAIMS


def test_no_two_encrypted_strings_have_the_same_nonce() -> None:
    nonces = {write_encrypted(CLAIMS, KEYS, ENC.key_id).split(".")[2] for _ in range(500)}
    assert len(nonces) == 500


@pytest.mark.parametrize("strategy", ["encrypted", "jwe-eddsa", "jwe-es256"])
def test_nothing_of_the_claims_can_be_read_in_an_encrypted_string(strategy: str) -> None:
    writer, _, _ = STRATEGIES[strategy]
    words = [*CLAIMS, *(str(v) for v in CLAIMS.values() if not isinstance(v, list)), *CLAIMS["aud"], "heliotrop", "at+jwt"]
    # Short names could stand in random bytes by chance.
    words = [word for word in words if len(word) > 4]
    clear = b"\n".join(readings_of(write_jwt(CLAIMS, KEYS, ED.key_id)))
    assert all(word.encode() in clear for word in words)  # the same search finds every word in a signed string
    for reading in readings_of(writer(CLAIMS)):
        assert not [word for word in words if word.encode() in reading]


# ---------------------------------------------------------------------------------------- the strings of other strategies


@each_strategy
def test_each_string_is_refused_by_the_check_of_every_other_strategy(
    writer: Callable[[Mapping[str, Any]], str], reader: Callable[..., Proven], key_ids: tuple[UUID, ...]
) -> None:
    text = writer(CLAIMS)
    for other in {read_jwt, read_encrypted, read_jwe} - {reader}:
        with pytest.raises(InvalidToken):
            other(text, KEYS, ISSUER)
    for kind in ("access", "refresh", "client"):
        with pytest.raises(MalformedToken):
            read(kind, text)


@pytest.mark.parametrize("reader", [read_jwt, read_encrypted, read_jwe])
def test_an_opaque_string_is_refused_by_every_check_of_strings_that_prove_themselves(reader: Callable[..., Proven]) -> None:
    assert reason_of(reader, write("access", TOKEN, new_secret())) == "malformed"


@pytest.mark.parametrize("member", ["typ", "cty"])
def test_an_encrypted_string_is_no_encrypted_jwt_even_without_prefix_and_checksum(member: str) -> None:
    bare = encrypted_of().removeprefix("tl_at_")[:-6]
    assert reason_of(read_jwe, bare) == "malformed"  # there is no cty
    header = {"alg": "dir", "enc": "A256GCM", "kid": str(ENC.key_id), "typ": "at+jwe", "cty": "JWT"}
    assert reason_of(read_jwe, jwe_of(jwt_of(), header=header | {member: "tl-at+jwe"})) == "type"


def test_a_nested_jwt_is_not_an_encrypted_string_under_its_prefix() -> None:
    assert reason_of(read_encrypted, checked("tl_at_" + jwe_of(jwt_of()))) == "malformed"


def test_claims_that_were_encrypted_unsigned_are_no_nested_jwt() -> None:
    assert reason_of(read_jwe, jwe_of(CLAIMS)) == "malformed"


def test_an_encrypted_jwt_inside_an_encrypted_jwt_is_refused() -> None:
    assert reason_of(read_jwe, jwe_of(jwe_of(jwt_of()))) == "malformed"


# --------------------------------------------------------------------------------------------------- algorithms and keys

PUBLIC_FORMS: dict[str, Callable[[SigningKey], bytes]] = {
    "raw-or-point-or-pkcs1": lambda key: key.private.public_key().public_bytes(
        *{
            ED: (Encoding.Raw, PublicFormat.Raw),
            ES: (Encoding.X962, PublicFormat.UncompressedPoint),
            RS: (Encoding.PEM, PublicFormat.PKCS1),
        }[key]
    ),
    "der": lambda key: key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "pem": lambda key: key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "jwk": lambda key: json.dumps(key.public_jwk()).encode(),
    "kid": lambda key: str(key.key_id).encode(),
    "empty": lambda key: b"",
}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", PUBLIC_FORMS)
@each_algorithm
def test_a_public_key_is_no_shared_secret(key: SigningKey, form: str, algorithm: str) -> None:
    body = f"{encoded({'alg': algorithm, 'kid': str(key.key_id), 'typ': 'at+jwt'})}.{encoded(CLAIMS)}"
    mac = hmac.digest(PUBLIC_FORMS[form](key), body.encode(), algorithm.replace("HS", "sha"))
    assert reason_of(read_jwt, f"{body}.{encoded(mac)}") == "algorithm"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "PS256", "ES384", "ES512", "ES256K", "Ed25519", "eddsa"]
)
@pytest.mark.parametrize("signature", [b"", b"\0" * 64, None], ids=["empty", "zeros", "right"])
def test_another_algorithm_than_the_keys_is_refused(algorithm: str, signature: bytes | None) -> None:
    text = jwt_of(alg=algorithm)
    if signature is not None:
        text = changed(text, 2, lambda _: encoded(signature))
    assert reason_of(read_jwt, text) == "algorithm"


def test_a_key_does_not_sign_under_the_name_of_the_other_algorithm_of_ours() -> None:
    assert reason_of(read_jwt, jwt_of(key=ED, alg="ES256")) == "algorithm"
    assert reason_of(read_jwt, jwt_of(key=ES, alg="EdDSA")) == "algorithm"
    assert reason_of(read_jwt, jwt_of(key=ES, alg="RS256")) == "algorithm"
    assert reason_of(read_jwt, jwt_of(key=RS, alg="PS256")) == "algorithm"


def test_a_signature_of_another_key_of_ours_is_refused() -> None:
    stranger = SigningKey.generate(uuid4(), "EdDSA")
    keys = KeySet([ED, stranger], [])
    assert reason_of(read_jwt, jwt_of(key=stranger, kid=str(ED.key_id)), keys) == "signature"


@pytest.mark.parametrize(
    "signature", [b"", b"\0" * 64, b"\xff" * 64, b"\0" * 63, b"\0" * 65, b"\0" * 128, b"\0" * 384, b"\0" * 383 + b"\1"]
)
@each_algorithm
def test_a_signature_of_zeros_or_of_another_length_is_refused(key: SigningKey, signature: bytes) -> None:
    # All zeros: CVE-2022-21449, r = s = 0.
    assert reason_of(read_jwt, changed(jwt_of(key=key), 2, lambda _: encoded(signature))) == "signature"


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    body = jwt_of(key=ES).rpartition(".")[0]
    assert isinstance(ES.private, ec.EllipticCurvePrivateKey)
    der = ES.private.sign(body.encode(), ec.ECDSA(SHA256()))
    assert reason_of(read_jwt, f"{body}.{encoded(der)}") == "signature"


def test_the_twin_of_an_ecdsa_signature_is_the_same_token(record_property: Recorded) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    text = write_jwt(CLAIMS, KEYS, ES.key_id)

    def twin(segment: str) -> str:
        signature = decoded(segment)
        s = order - int.from_bytes(signature[32:], "big")
        return encoded(signature[:32] + s.to_bytes(32, "big"))

    assert changed(text, 2, twin) != text
    assert read_jwt(changed(text, 2, twin), KEYS, ISSUER) == read_jwt(text, KEYS, ISSUER)
    record_property("same", 1)


def test_an_eddsa_signature_has_no_twin(record_property: Recorded) -> None:
    order = 2**252 + 27742317777372353535851937790883648493

    def twin(segment: str) -> str:
        signature = decoded(segment)
        s = int.from_bytes(signature[32:], "little") + order
        return encoded(signature[:32] + s.to_bytes(32, "little"))

    assert reason_of(read_jwt, changed(jwt_of(), 2, twin)) == "signature"
    record_property("refused", 1)


@pytest.mark.parametrize(
    "kid",
    [
        str(uuid4()),
        str(ENC.key_id),
        str(ED.key_id).upper(),
        str(ED.key_id) + " ",
        ED.key_id.hex,
        "../../dev/null",
        "' OR 1=1 --",
        "",
    ],
    ids=["foreign", "of-an-encryption-key", "upper-case", "with-a-space", "without-hyphens", "a-path", "sql", "empty"],
)
def test_a_kid_that_is_not_of_a_signing_key_of_ours_is_refused(kid: str) -> None:
    assert reason_of(read_jwt, jwt_of(kid=kid)) == "unknown_key"


@pytest.mark.parametrize("kid", [str(uuid4()), str(ED.key_id), str(ENC.key_id).upper(), ""])
def test_a_kid_that_is_not_of_an_encryption_key_of_ours_is_refused(kid: str) -> None:
    assert reason_of(read_jwe, jwe_of(jwt_of(), kid=kid)) == "unknown_key"
    assert reason_of(read_encrypted, encrypted_of(kid=kid)) == "unknown_key"


def test_strings_of_another_ledger_are_refused() -> None:
    (signing,), (encryption,) = FOREIGN.signing.values(), FOREIGN.encryption.values()
    assert reason_of(read_jwt, write_jwt(CLAIMS, FOREIGN, signing.key_id)) == "unknown_key"
    assert reason_of(read_encrypted, write_encrypted(CLAIMS, FOREIGN, encryption.key_id)) == "unknown_key"
    assert reason_of(read_jwe, write_jwe(CLAIMS, FOREIGN, signing.key_id, encryption.key_id)) == "unknown_key"
    mixed = KeySet(FOREIGN.signing.values(), [ENC])
    assert reason_of(read_jwe, write_jwe(CLAIMS, mixed, signing.key_id, ENC.key_id)) == "unknown_key"


ATTACKERS = SigningKey.generate(uuid4(), "EdDSA")
FORBIDDEN_MEMBERS: dict[str, Any] = {
    "jku": "https://attacker.example/jwks.json",
    "jwk": ATTACKERS.public_jwk(),
    "x5u": "https://attacker.example/cert.pem",
    "x5c": ["MIIB"],
    "x5t": "AAAA",
    "x5t#S256": "AAAA",
    "crit": ["exp"],
    "b64": False,
    "zip": "DEF",
    "cty": "JWT",
    "p2c": 2_000_000_000,
    "p2s": "AAAA",
    "epk": ATTACKERS.public_jwk(),
    "apu": "AAAA",
    "tag": "AAAA",
    "nonce": "AAAA",
    "": "",
}


@pytest.mark.parametrize("name", FORBIDDEN_MEMBERS)
def test_a_header_member_that_we_do_not_write_is_refused(name: str) -> None:
    member = {name: FORBIDDEN_MEMBERS[name]}
    assert reason_of(read_jwt, jwt_of(**member)) == "malformed"
    assert reason_of(read_encrypted, encrypted_of(**member)) == "malformed"
    if name != "cty":
        assert reason_of(read_jwe, jwe_of(jwt_of(), **member)) == "malformed"


def test_a_key_that_the_attacker_brings_along_is_not_used() -> None:
    for kid in (str(ED.key_id), str(ATTACKERS.key_id)):
        text = jwt_of(key=ATTACKERS, kid=kid, jwk=ATTACKERS.public_jwk())
        assert reason_of(read_jwt, text) == "malformed"


@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
def test_a_header_without_one_of_its_members_or_with_another_type_is_refused(name: str) -> None:
    header: dict[str, Any] = {"alg": "EdDSA", "kid": str(ED.key_id), "typ": "at+jwt"}
    assert reason_of(read_jwt, jwt_of(header={k: v for k, v in header.items() if k != name})) == "malformed"
    for value in (None, 1, True, [header[name]], {"": header[name]}):
        assert reason_of(read_jwt, jwt_of(header=header | {name: value})) == "malformed"


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b'"alg"', b"null", b"1", b"\xff\xfe", b"{}", b"\xef\xbb\xbf{}"])
def test_a_header_that_is_no_json_object_is_refused(header: bytes) -> None:
    assert reason_of(read_jwt, jwt_of(header=header)) == "malformed"
    assert reason_of(read_jwe, jwe_of(jwt_of(), header=header)) == "malformed"


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
def test_a_header_member_that_stands_twice_is_refused(name: str, position: str) -> None:
    header = {"alg": "EdDSA", "kid": str(ED.key_id), "typ": "at+jwt"}
    right = json.dumps(header)[1:-1]
    again = f'"{name}":"none"'
    text = f"{{{again},{right}}}" if position == "first" else f"{{{right},{again}}}"
    assert reason_of(read_jwt, jwt_of(header=text)) == "malformed"
    escaped = right + f',"\\u{ord(name[0]):04x}{name[1:]}":"none"'  # the same name, spelt another way
    assert reason_of(read_jwt, jwt_of(header=f"{{{escaped}}}")) == "malformed"


@pytest.mark.parametrize("typ", ["JWT", "at+JWT", "AT+JWT", "application/jwt", "at+jwe", "tl-at+jwe", "logout+jwt", "", "jwt"])
def test_another_type_of_jwt_is_refused(typ: str) -> None:
    assert reason_of(read_jwt, jwt_of(typ=typ)) == "type"


def test_the_type_may_be_written_as_the_media_type_that_it_is() -> None:  # RFC 9068 section 4
    assert read_jwt(jwt_of(typ="application/at+jwt"), KEYS, ISSUER).token_id == TOKEN


@pytest.mark.parametrize("name", ["auth_time", "acr", "amr", "nbf"])
def test_a_registered_claim_that_no_token_of_ours_has_is_refused(name: str) -> None:
    assert reason_of(read_jwt, jwt_of(CLAIMS | {name: CLAIMS["iat"]})) == "claims"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alg", "A256KW"),
        ("alg", "A256GCMKW"),
        ("alg", "PBES2-HS512+A256KW"),
        ("alg", "RSA1_5"),
        ("alg", "ECDH-ES"),
        ("alg", "none"),
        ("alg", "DIR"),
        ("enc", "A128GCM"),
        ("enc", "A256CBC-HS512"),
        ("enc", "none"),
        ("enc", "a256gcm"),
    ],
)
def test_another_algorithm_of_encryption_is_refused(name: str, value: str) -> None:
    member: dict[str, Any] = {name: value}
    assert reason_of(read_jwe, jwe_of(jwt_of(), **member)) == "algorithm"
    assert reason_of(read_encrypted, encrypted_of(**member)) == "algorithm"


# -------------------------------------------------------------------------------------------------------- one spelling

ALTERED: dict[str, Callable[[str], str]] = {
    "padding": lambda s: s + "=" * (-len(s) % 4 or 4),
    "one equals sign": lambda s: s + "=",
    "standard alphabet": lambda s: s.replace("-", "+").replace("_", "/"),
    "a space": lambda s: s + " ",
    "a space inside": lambda s: s[:4] + " " + s[4:],
    "a line break": lambda s: s + "\n",
    "a carriage return": lambda s: "\r" + s,
    "a tab": lambda s: s[:2] + "\t" + s[2:],
    "NUL": lambda s: s + "\0",
    "a non-ASCII letter": lambda s: s + "é",
    "a full-width letter": lambda s: s + "Ａ",
    "percent": lambda s: s + "%3D",
    "a tilde": lambda s: s + "~",
}


@pytest.mark.parametrize("how", ALTERED)
@each_strategy
def test_every_segment_has_one_spelling(
    writer: Callable[[Mapping[str, Any]], str],
    reader: Callable[..., Proven],
    key_ids: tuple[UUID, ...],
    how: str,
    record_property: Recorded,
) -> None:
    refused = 0
    text = writer(CLAIMS)
    encrypted = reader is read_encrypted
    body = text.removeprefix("tl_at_")[:-6] if encrypted else text
    for number in range(body.count(".") + 1):
        altered = changed(body, number, ALTERED[how])
        if altered == body:
            continue  # no such character in this segment
        if not encrypted:
            assert reason_of(reader, altered) == "malformed"
        elif altered.isascii():
            assert reason_of(reader, checked("tl_at_" + altered)) == "malformed"
        else:
            continue  # it has no checksum
        refused += 1
    record_property("refused", refused)


def test_bits_that_decode_to_nothing_are_refused(record_property: Recorded) -> None:
    text = jwt_of()
    last = text.rpartition(".")[2]
    assert len(last) == 86  # 64 bytes: of the last character four bits are left over
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [letter for letter in alphabet if decoded(last[:-1] + letter) == decoded(last)]
    assert len(same) == 16
    accepted = [letter for letter in same if not _is_refused(read_jwt, text[:-1] + letter)]
    assert accepted == [last[-1]]
    record_property("refused", len(same) - 1)


def _is_refused(reader: Callable[..., Proven], text: str) -> bool:
    try:
        reader(text, KEYS, ISSUER)
    except InvalidToken:
        return True
    return False


@each_strategy
def test_dots_before_after_and_between_are_refused(
    writer: Callable[[Mapping[str, Any]], str],
    reader: Callable[..., Proven],
    key_ids: tuple[UUID, ...],
    record_property: Recorded,
) -> None:
    text = writer(CLAIMS)
    spellings = (
        text + ".",
        "." + text,
        text.replace(".", "..", 1),
        text + "..",
        text.replace(".", "", 1),
        "." * 2,
        "." * 4,
    )
    for altered in spellings:
        assert reason_of(reader, altered) == "malformed"
    record_property("refused", len(spellings))


def test_three_and_five_segments_are_not_confused() -> None:
    three, five = jwt_of(), jwe_of(jwt_of())
    assert reason_of(read_jwt, five) == reason_of(read_jwe, three) == "malformed"
    assert reason_of(read_jwt, ".".join(five.split(".")[:3])) == "malformed"
    assert reason_of(read_jwe, three + "..") == "malformed"
    assert reason_of(read_jwt, three.rpartition(".")[0]) == "malformed"  # unsecured: two segments


@each_strategy
def test_every_truncation_is_refused(
    writer: Callable[[Mapping[str, Any]], str], reader: Callable[..., Proven], key_ids: tuple[UUID, ...]
) -> None:
    text = writer(CLAIMS)
    assert [end for end in range(len(text)) if not _is_refused(reader, text[:end])] == []


@each_strategy
def test_every_changed_character_is_refused(
    writer: Callable[[Mapping[str, Any]], str], reader: Callable[..., Proven], key_ids: tuple[UUID, ...]
) -> None:
    text = writer(CLAIMS)
    for place, character in enumerate(text):
        other = "A" if character != "A" else "B"
        assert _is_refused(reader, text[:place] + other + text[place + 1 :]), place


@pytest.mark.parametrize("reader", [read_jwt, read_encrypted, read_jwe])
def test_over_8_kib_nothing_is_looked_at(reader: Callable[..., Proven]) -> None:
    strategy = {read_jwt: "jwt-eddsa", read_encrypted: "encrypted", read_jwe: "jwe-eddsa"}[reader]
    writer, _, _ = STRATEGIES[strategy]
    # The largest of our own strings that fits, and the next: claims grow by a byte at a time.
    sizes = [3_000, 6_200]
    while sizes[1] - sizes[0] > 1:
        middle = sum(sizes) // 2
        sizes[len(writer(CLAIMS | {"filler": "x" * middle})) > MAX_TOKEN_CHARACTERS] = middle
    assert reader(writer(CLAIMS | {"filler": "x" * sizes[0]}), KEYS, ISSUER).token_id == TOKEN
    assert reason_of(reader, writer(CLAIMS | {"filler": "x" * sizes[1]})) == "malformed"


# ------------------------------------------------------------------------------------------------------------ encryption


@pytest.mark.parametrize("number", range(5), ids=["header", "encrypted key", "nonce", "ciphertext", "tag"])
def test_no_part_of_an_encrypted_string_can_be_changed(number: int) -> None:
    text = jwe_of(jwt_of())
    altered = changed(text, number, flipped if number != 1 else lambda _: encoded(b"x"))
    assert _is_refused(read_jwe, altered)


@pytest.mark.parametrize("encrypted_key", [b"\0", b"\0" * 32, ENC.secret])
def test_an_encrypted_key_is_refused_where_the_key_is_ours(encrypted_key: bytes) -> None:
    assert reason_of(read_jwe, jwe_of(jwt_of(), encrypted_key=encrypted_key)) == "algorithm"


@pytest.mark.parametrize("length", [0, 1, 4, 8, 12, 15])
def test_a_shortened_tag_is_refused(length: int) -> None:
    # GCM takes tags from 4 bytes on, and the shorter the easier to forge; RFC 7518 section 5.3 wants 16.
    text = changed(jwe_of(jwt_of()), 4, lambda tag: encoded(decoded(tag)[:length]))
    assert reason_of(read_jwe, text) == "malformed"


@pytest.mark.parametrize("length", [8, 11, 13, 16, 64])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    assert reason_of(read_jwe, jwe_of(jwt_of(), iv=b"n" * length)) == "malformed"
    assert reason_of(read_jwe, changed(jwe_of(jwt_of()), 2, lambda _: "")) == "malformed"


def test_header_and_ciphertext_of_two_strings_do_not_go_together() -> None:
    one, other = jwe_of(jwt_of()), jwe_of(jwt_of(), key=OTHER_ENC)
    assert reason_of(read_jwe, ".".join([one.split(".")[0], *other.split(".")[1:]])) == "decryption"


def test_what_was_encrypted_under_another_header_does_not_open() -> None:
    relabelled = changed(jwe_of(jwt_of(), typ="other"), 0, lambda _: jwe_of(jwt_of()).split(".")[0])
    assert reason_of(read_jwe, relabelled) == "decryption"


@pytest.mark.parametrize("plain", [b"", b"\xff\xfe", b"..", b"a.b.c", jwt_of().encode() + b"\n"])
def test_an_encrypted_jwt_around_something_else_is_refused(plain: bytes) -> None:
    assert reason_of(read_jwe, jwe_of(plain)) == "malformed"


# ---------------------------------------------------------------------------------------------------------------- claims

WRONG: dict[str, list[Any]] = {
    "iss": ["https://other.example", ISSUER + "/", ISSUER.upper(), "", 1, None, [ISSUER]],
    "sub": ["", 1, None, [], {"id": "x"}],
    "client_id": ["", 1, None, ["shop"]],
    "aud": ["orders", "", [], [""], [1], None, {"orders": True}, ["orders", None]],
    "jti": ["", "x", str(TOKEN).upper(), TOKEN.hex, f"{{{TOKEN}}}", f"urn:uuid:{TOKEN}", f" {TOKEN}", 1, None, [str(TOKEN)]],
    "iat": ["1900000000", True, -1, 0, None, [], 2**53],
    "exp": ["1900000600", True, False, -1, 0, None, {}, [1_900_000_600], 2**53, 10**30],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
@each_hand_made
def test_a_claim_of_another_type_or_value_is_refused(
    make: Callable[[Any], str], reader: Callable[..., Proven], name: str, value: Any
) -> None:
    assert reason_of(reader, make(CLAIMS | {name: value})) == "claims"


@pytest.mark.parametrize("name", WRONG)
@each_hand_made
def test_a_claim_that_is_missing_is_refused(make: Callable[[Any], str], reader: Callable[..., Proven], name: str) -> None:
    assert reason_of(reader, make({key: value for key, value in CLAIMS.items() if key != name})) == "claims"


@pytest.mark.parametrize(
    "number", ["1900000600.0", "1900000600.5", "19e8", "NaN", "Infinity", "-Infinity", "0x71404d18", "01", "-0"]
)
@each_hand_made
def test_an_expiry_that_is_no_plain_integer_is_refused(
    make: Callable[[Any], str], reader: Callable[..., Proven], number: str
) -> None:
    assert reason_of(reader, make(json.dumps(CLAIMS).replace("1900000600", number))) == "claims"


@pytest.mark.parametrize("name", ["jti", "exp", "sub", "colour"])
@each_hand_made
def test_a_claim_that_stands_twice_is_refused(make: Callable[[Any], str], reader: Callable[..., Proven], name: str) -> None:
    text = json.dumps(CLAIMS)
    assert reason_of(reader, make(f"{text[:-1]},{json.dumps(name)}:{json.dumps(CLAIMS[name])}}}")) == "claims"
    assert reason_of(reader, make(f'{text[:-1]},"more":{{"a":1,"a":1}}}}')) == "claims"


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b"{}",
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b"[" * 5_000,
        json.dumps(CLAIMS).encode("utf-16"),
    ],
)
@each_hand_made
def test_claims_that_are_no_json_object_are_refused(
    make: Callable[[Any], str], reader: Callable[..., Proven], claims: bytes
) -> None:
    if len(claims) > 4_000 and reader is not read_jwt:
        claims = claims[:2_000]  # so that the string is under its own bound
    assert reason_of(reader, make(claims)) == "claims"


@each_hand_made
def test_expiry_is_not_judged_here_but_at_the_instant_of_the_database(
    make: Callable[[Any], str], reader: Callable[..., Proven]
) -> None:
    assert reader(make(CLAIMS | {"iat": 1, "exp": 2}), KEYS, ISSUER).token_id == TOKEN


# ------------------------------------------------------------------------------------------------------------------ keys


@each_algorithm
def test_a_private_key_is_read_back_from_its_bytes(key: SigningKey) -> None:
    again = SigningKey.from_private_bytes(key.key_id, key.algorithm, key.private_bytes())
    assert again.public_jwk() == key.public_jwk()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 32,
        ED.private_bytes()[:-1],
        ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        ec.generate_private_key(ec.SECP256K1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["nothing", "random bytes", "cut", "P-384", "secp256k1"],
)
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "none", "HS256"])
def test_what_is_no_key_of_its_algorithm_is_refused(algorithm: str, data: bytes) -> None:
    with pytest.raises(BadKeySet):
        SigningKey.from_private_bytes(uuid4(), algorithm, data)


def test_a_key_of_one_algorithm_is_not_read_as_one_of_the_other() -> None:
    for key, algorithm in (
        (ED, "ES256"),
        (ES, "EdDSA"),
        (ED, "none"),
        (ES, "HS256"),
        (RS, "ES256"),
        (RS, "PS256"),
        (ES, "RS256"),
    ):
        with pytest.raises(BadKeySet):
            SigningKey.from_private_bytes(key.key_id, algorithm, key.private_bytes())


@pytest.mark.parametrize("secret", [b"", b"k" * 16, b"\0" * 32, b"ab" * 16, bytes(31), new_secret() + b"x"])
def test_a_secret_that_is_not_32_random_bytes_is_refused(secret: bytes) -> None:
    with pytest.raises(BadKeySet, match="not 32 random bytes"):
        KeySet([], [EncryptionKey(uuid4(), secret)])


def test_one_kid_is_of_one_key() -> None:
    for signing, encryption in (
        ([ED, SigningKey.generate(ED.key_id, "ES256")], []),
        ([], [ENC, EncryptionKey(ENC.key_id, new_secret())]),
        ([ED], [EncryptionKey(ED.key_id, new_secret())]),
    ):
        with pytest.raises(BadKeySet, match="twice"):
            KeySet(signing, encryption)


def test_a_key_set_with_several_problems_names_them_all() -> None:
    with pytest.raises(BadKeySet) as refused:
        KeySet([ED, ED], [EncryptionKey(ENC.key_id, b"short")])
    assert str(ED.key_id) in str(refused.value)
    assert str(ENC.key_id) in str(refused.value)
    assert "short" not in str(refused.value)


@pytest.mark.parametrize("value", [ED, ENC, KEYS], ids=["signing", "encryption", "set"])
def test_no_key_shows_itself(value: object) -> None:
    shown = repr(value) + str(value)
    for secret in (ENC.secret, ED.private_bytes()):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert secret_digest(ENC.secret).hex() not in shown


# ------------------------------------------------------------------------------------------------- sets of public keys

RSA_JWK = RS.public_jwk()


def number_of(segment: str) -> int:
    """Read a number of a key."""
    return int.from_bytes(decoded(segment), "big")


def segment_of(number: int, before: bytes = b"") -> str:
    """Write a number of a key, in as few octets as there can be; with others before it."""
    return encoded(before + number.to_bytes((number.bit_length() + 7) // 8, "big"))


def one_key_set(key: SigningKey, **members: Any) -> dict[str, Any]:
    """Answer the published set of one key, with other members; None: without."""
    jwk = {**key.public_jwk()} | members
    return {"keys": [{name: value for name, value in jwk.items() if value is not None}]}


@each_algorithm
def test_what_we_publish_is_a_set_of_keys_of_our_own_profile(key: SigningKey) -> None:
    assert read_public_keys(one_key_set(key)) == {str(key.key_id): key.private.public_key()}
    for also in ({"use": None}, {"key_ops": ["verify"]}, {"use": None, "key_ops": ["verify"]}, {"colour": "green"}):
        assert list(read_public_keys(one_key_set(key, **also))) == [str(key.key_id)]


def test_keys_of_all_algorithms_stand_together_in_a_set_each_under_its_kid() -> None:
    read = read_public_keys({"keys": [key.public_jwk() for key in (ED, ES, RS)]})
    assert [*read] == [str(key.key_id) for key in (ED, ES, RS)]


def test_two_keys_of_one_kid_are_refused_even_when_they_are_the_same_key() -> None:
    for other in (ED, ES):
        with pytest.raises(BadKeySet, match="key 1: its kid stands twice"):
            read_public_keys({"keys": [ED.public_jwk(), other.public_jwk() | {"kid": str(ED.key_id)}]})


@pytest.mark.parametrize(
    "value", [None, [], {}, {"keys": None}, {"keys": {}}, {"keys": [None]}, {"keys": ["x"]}, ED.public_jwk()]
)
def test_what_is_no_set_of_keys_is_refused(value: object) -> None:
    with pytest.raises(BadKeySet):
        read_public_keys(value)


@each_algorithm
@pytest.mark.parametrize(
    "members",
    [
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": "k" * 256},
        {"use": "enc"},
        {"use": "SIG"},
        {"use": ["sig"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": ["sign"]},
        {"key_ops": ["verify", "sign"]},
        {"key_ops": ["verify", "verify"]},
        {"key_ops": ["encrypt"]},
        {"alg": None},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "PS256"},
        {"alg": "ES384"},
        {"kty": None},
        {"kty": "oct"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"crv": "P-384"},
        {"crv": "X25519"},
        {"d": "AQAB"},
        {"k": "c2VjcmV0"},
        {"p": "AQAB"},
    ],
    ids=str,
)
def test_a_key_that_is_not_to_verify_with_or_says_too_much_or_too_little_is_refused(
    key: SigningKey, members: dict[str, Any]
) -> None:
    with pytest.raises(BadKeySet, match=r"^key 0: "):
        read_public_keys(one_key_set(key, **members))


@pytest.mark.parametrize(
    ("key", "members"),
    [
        (ED, {"x": None}),
        (ED, {"x": encoded(b"x" * 31)}),
        (ED, {"x": encoded(b"x" * 33)}),
        (ED, {"x": ED.public_jwk()["x"] + "="}),
        (ED, {"x": ED.public_jwk()["x"][:-1] + "_"}),
        (ES, {"y": None}),
        (ES, {"y": ES.public_jwk()["x"]}),
        (ES, {"x": encoded(bytes(32)), "y": encoded(bytes(32))}),
        (ES, {"x": encoded(b"\0" + decoded(ES.public_jwk()["x"]))}),
        (RS, {"n": None}),
        (RS, {"n": ""}),
        (RS, {"e": ""}),
        (RS, {"n": segment_of(number_of(RSA_JWK["n"]), b"\0")}),
        (RS, {"e": segment_of(65_537, b"\0")}),
        (RS, {"e": segment_of(1)}),
        (RS, {"e": segment_of(3)}),
        (RS, {"e": segment_of(65_538)}),
        (RS, {"e": segment_of(2**256 + 1)}),
        (RS, {"n": segment_of(number_of(RSA_JWK["n"]) - 1)}),
        (RS, {"n": segment_of(2**2046 + 1)}),
        (RS, {"n": segment_of(2**4096 + 1)}),
        (RS, {"n": "A" * 1_000_000}),
    ],
)
def test_a_key_of_another_size_or_spelling_or_of_weak_numbers_is_refused(key: SigningKey, members: dict[str, Any]) -> None:
    with pytest.raises(BadKeySet, match=r"^key 0: "):
        read_public_keys(one_key_set(key, **members))


def test_every_problem_of_a_set_is_named_with_its_key_and_no_key_material() -> None:
    wrong = {**ES.public_jwk(), "d": "c2VjcmV0"}
    with pytest.raises(BadKeySet) as refused:
        read_public_keys({"keys": [ED.public_jwk() | {"use": "enc"}, RS.public_jwk(), wrong]})
    assert refused.value.message == "key 0: not to verify with; key 2: has the private d"


@pytest.mark.parametrize("bits", [1024, 2040])
def test_a_private_rsa_key_that_is_too_short_is_no_key(bits: int) -> None:
    short = rsa.generate_private_key(65_537, bits).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadKeySet, match=f"RSA of {bits} bits"):
        SigningKey.from_private_bytes(uuid4(), "RS256", short)


def _published() -> Iterator[tuple[str, str, object]]:
    path = FOLDER / "vectors/jose-adversarial/json_web_key_test.json"
    for group in json.loads(path.read_text())["testGroups"] if path.exists() else []:
        yield from ((f"{case['tcId']} {case['comment']}", case["result"], group) for case in group["tests"])


WYCHEPROOF_KEYS = [*_published()]


@pytest.mark.parametrize(("name", "result", "group"), WYCHEPROOF_KEYS, ids=[name for name, _, _ in WYCHEPROOF_KEYS])
def test_of_wycheproofs_key_sets_we_read_the_one_that_is_public_and_right(
    name: str, result: str, group: dict[str, Any]
) -> None:
    for value in (group["private"], group.get("public")):
        if name == "5 acceptsValid" and value is group["public"]:
            assert (result, [*read_public_keys(value)]) == ("valid", ["kid-rsa-sign"])
        else:
            with pytest.raises(BadKeySet):
                read_public_keys(value)


def test_wycheproofs_rsa_key_of_a_broken_generator_is_refused_for_that() -> None:
    path = vectors("vectors", "jose-adversarial", "json_web_key_test.json")
    (broken,) = (group["public"] for group in json.loads(path.read_text())["testGroups"] if "roca" in group["comment"])
    with pytest.raises(BadKeySet, match="CVE-2017-15361"):
        read_public_keys(broken)


def test_of_the_cookbooks_keys_the_public_rsa_key_is_read_once_it_says_its_algorithm() -> None:
    read: dict[str, bool] = {}
    for path in sorted(vectors("vectors", "jose-cookbook", "jwk").glob("*.json")):
        jwk = json.loads(path.read_text())
        with pytest.raises(BadKeySet):
            read_public_keys({"keys": [jwk]})
        try:
            read_public_keys({"keys": [jwk | {"alg": {"RSA": "RS256", "EC": "ES256"}.get(jwk["kty"], jwk.get("alg"))}]})
        except BadKeySet:
            read[path.name] = False
        else:
            read[path.name] = True
    assert [name for name, taken in read.items() if taken] == ["3_3.rsa_public_key.json"]
    assert len(read) == 6


# ------------------------------------------------------------------------------------------------- the vectors of others

# Valid in Wycheproof or the cookbook, and made with a key that ours can be: the signature is verified by our function. As
# tokens they are refused all the same, for their header.
IN_PROFILE = {
    "json_web_crypto_test.json 18",
    "json_web_crypto_test.json 33",
    "json_web_key_test.json 5",
    "curve25519/jws.json",
}


def _wycheproof() -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    for name in ("json_web_crypto_test.json", "json_web_key_test.json"):
        path = FOLDER / "vectors/jose-adversarial" / name
        groups = json.loads(path.read_text())["testGroups"] if path.exists() else []
        for group in groups:
            keys = group["private"]
            for case in group["tests"]:
                text = case.get("jws", case.get("jwe", ""))
                yield (
                    f"{name} {case['tcId']}",
                    case["result"],
                    text if isinstance(text, str) else json.dumps(text),
                    keys.get("keys", [keys]),
                )


def _cookbook() -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    folder = FOLDER / "vectors/jose-cookbook"
    for path in sorted(folder.glob("**/*.json")):
        content = json.loads(path.read_text())
        for part in (content, content.get("sign", {}), content.get("encrypt", {})):
            key = part.get("input", {}).get("key")
            for form, text in part.get("output", {}).items():
                text = text if isinstance(text, str) else json.dumps(text)
                name = str(path.relative_to(folder))
                keys = [jwk for jwk in (key if isinstance(key, list) else [key]) if jwk is not None]
                yield name if form == "compact" else f"{name} {form}", "valid", text, keys


def _ours(jwks: list[dict[str, Any]]) -> tuple[list[SigningKey], list[EncryptionKey], str]:
    """Answer those of the keys that ours can be, and why the others cannot."""
    signing: list[SigningKey] = []
    encryption: list[EncryptionKey] = []
    refusals: list[str] = []
    for jwk in jwks:
        key_id = uuid4()
        algorithm = jwk.get("alg", "EdDSA" if jwk.get("crv") == "Ed25519" else "none")
        try:
            if jwk["kty"] == "oct" and jwk.get("use") == "enc":
                key = EncryptionKey(key_id, decoded(jwk["k"]))
                KeySet([], [key])
                encryption.append(key)
            elif jwk["kty"] == "oct" or jwk.get("use") == "enc":
                raise BadKeySet("no signing key of ours")
            else:
                imported = JWKRegistry.import_key(jwk)
                if not isinstance(imported, ECKey | OKPKey | RSAKey) or not imported.is_private:
                    raise BadKeySet("no private key")
                signing.append(SigningKey.from_private_bytes(key_id, algorithm, imported.as_der(private=True)))
        except (BadKeySet, JoseError, ValueError) as error:
            refusals.append(type(error).__name__)
    return signing, encryption, " ".join(refusals)


VECTORS = [*_wycheproof(), *_cookbook()]


@pytest.mark.filterwarnings("ignore:Key size should be")  # joserfc, of a key that is short on purpose
@pytest.mark.parametrize(
    ("name", "result", "text", "jwks"),
    VECTORS,
    ids=[name for name, _, _, _ in VECTORS],
)
def test_of_the_vectors_of_others_we_take_what_is_in_our_profile_and_nothing_else(
    name: str, result: str, text: str, jwks: list[dict[str, Any]], record_property: Recorded
) -> None:
    signing, encryption, refusals = _ours(jwks)
    keys = KeySet([*signing, ED, ES], [*encryption, ENC])
    record_property("vector", "jose-adversarial" if name.startswith("json_web_") else "jose-cookbook")
    record_property("result", result)
    # By the verification and decryption beneath, with every key of the set.
    verified = [kid for kid in keys.signing if _takes(keys.verify, text, JWS_SEGMENTS, kid)]
    decrypted = [kid for kid in keys.encryption if _takes(keys.decrypt, text, JWE_SEGMENTS, kid)]
    record_property("taken", bool(verified or decrypted))
    assert decrypted == []
    # As tokens: none, whatever its key is called.
    for reader in (read_jwt, read_encrypted, read_jwe):
        for altered in (text, checked("tl_at_" + text)):
            assert reason_of(reader, altered, keys)
    if name in IN_PROFILE:
        assert result == "valid"
        assert verified == [str(key.key_id) for key in signing]
    else:
        assert verified == []
        # What is valid and yet refused is so for its form (JSON), or for its key: none that ours can be, or of another use.
        assert result == "invalid" or text.startswith("{") or refusals or encryption or not jwks


def _takes(proof: Callable[[Pieces, str], object], text: str, segments: int, kid: str) -> bool:
    try:
        proof(take_apart(text, segments), kid)
    except InvalidToken:
        return False
    return True


def test_the_vectors_are_all_there() -> None:
    vectors("vectors", "jose-adversarial", "SOURCE.txt")
    vectors("vectors", "jose-cookbook", "SOURCE.txt")
    names = [name for name, _, _, _ in VECTORS]
    assert len([name for name in names if name.startswith("json_web_crypto")]) == 83
    assert len([name for name in names if name.startswith("json_web_key")]) == 26
    assert len(names) - 83 - 26 >= 40
    assert set(names) >= IN_PROFILE
