"""The strings that prove themselves: JWT, encrypted claims, encrypted JWT. PyJWT signs and verifies, joserfc encrypts.

A string is taken to pieces once, here, more strictly than the libraries would; what is left is the cryptography, which is
PyJWT's algorithms' and cryptography's AES-GCM. The algorithm comes from the key and the key from our own set by `kid` (RFC
8725 section 3.1); headers are the exact members we write; base64url has one spelling; members stand once; claims have exact
types (RFC 9068 section 2.2). An ECDSA signature has two valid forms, s and n - s: both are the same token here, because state
hangs on `jti`, never on the string.

Expiry is not checked here: the ledger compares at the database's instant (decisions.py).
"""

import base64
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self
from uuid import UUID

import jwt
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from joserfc import jwe
from joserfc.jwk import OctKey

from ledger import jsontext
from ledger.errors import InvalidInput, LedgerError
from ledger.token_strings import MAX_TOKEN_CHARACTERS, PREFIXES, checksum

SigningAlgorithm = Literal["EdDSA", "ES256", "RS256"]
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | rsa.RSAPublicKey
Reason = Literal["malformed", "type", "unknown_key", "algorithm", "signature", "decryption", "claims"]

JWT_TYPE: Final = "at+jwt"  # RFC 9068 section 2.1
JWT_TYPES: Final = (JWT_TYPE, f"application/{JWT_TYPE}")  # section 4: what is taken; the second is never written here
# RFC 9068 section 2.2.1 and RFC 7519 section 4.1.5: what no token of ours says.
_NOT_OURS: Final = frozenset({"auth_time", "acr", "amr", "nbf"})
ENCRYPTED_TYPE: Final = "tl-at+jwe"
NESTED_TYPE: Final = "at+jwe"
JWS_SEGMENTS: Final = 3
JWE_SEGMENTS: Final = 5
SECRET_BYTES: Final = 32
# What a string of every strategy has room for within MAX_TOKEN_CHARACTERS: signed with RSA of 4,096 bits and then encrypted,
# JSON of 3,840 bytes is 8,051 characters; with Ed25519 it is 7,255.
MAX_CLAIMS_BYTES: Final = 3_840
# 128 bits of strength (NIST SP 800-57 part 1, table 2); made in about 0.8 s [measured]. What is taken: RFC 7518 section 3.3
# asks for 2,048; beyond 4,096 a token has no room for its signature.
RSA_BITS: Final = 3_072
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 4_096
RSA_EXPONENT: Final = 65_537
# base64url in its one spelling (RFC 4648 section 3.5): the bits of the last character that stand for nothing are zero.
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?", re.ASCII)
_JWS: Final = jwt.PyJWS(algorithms=["EdDSA", "ES256", "PS256", "RS256"])
_JWE: Final = jwe.JWERegistry(algorithms=["dir", "A256GCM"])


class InvalidToken(LedgerError):
    """The string is not a token of ours. `reason` says why; no part of the string is quoted."""

    code = "invalid_token"
    cure = "Present the string as it was handed out, whole, or obtain a new token."

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"not a valid token: {reason}")
        self.reason = reason


class Proven(NamedTuple):
    """What a string that proves itself is of: the token, and the keys it was made with, the signing key first.

    Both count. A token's id is no secret: whoever had a key that has leaked could sign the id of any token with it, and
    revoking that key would not touch him, unless a string is taken only with the keys that the ledger knows its token by.
    """

    token_id: UUID
    key_ids: tuple[UUID, ...]


class BadKeySet(LedgerError):
    """Keys that cannot be used together, or at all; the message names each problem, and no key material."""

    code = "bad_key_set"
    cure = "Retire or revoke the key that the message names: docs/keys.md."


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private key that signs, of one algorithm: Ed25519 for EdDSA (RFC 8037), P-256 for ES256, RSA for RS256 (RFC 7518)."""

    key_id: UUID
    algorithm: SigningAlgorithm
    private: PrivateKey

    @classmethod
    def generate(cls, key_id: UUID, algorithm: SigningAlgorithm) -> Self:
        """Make a new key. One for RS256 takes a second of a processor: not on an event loop."""
        match algorithm:
            case "EdDSA":
                return cls(key_id, algorithm, Ed25519PrivateKey.generate())
            case "ES256":
                return cls(key_id, algorithm, generate_private_key(SECP256R1()))
            case "RS256":
                return cls(key_id, algorithm, rsa.generate_private_key(RSA_EXPONENT, RSA_BITS))

    @classmethod
    def from_private_bytes(cls, key_id: UUID, algorithm: str, data: bytes) -> Self:
        """Read what `private_bytes` wrote. BadKeySet when it is no key, or not of this algorithm."""
        try:
            private = load_der_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BadKeySet(f"the key {key_id} is no private key") from None
        match algorithm, private:
            case "EdDSA", Ed25519PrivateKey():
                return cls(key_id, "EdDSA", private)
            case "ES256", EllipticCurvePrivateKey() if isinstance(private.curve, SECP256R1):
                return cls(key_id, "ES256", private)
            case "RS256", rsa.RSAPrivateKey():
                numbers = private.public_key().public_numbers()
                weakness = _rsa_weakness(numbers.n, numbers.e)
                if weakness is None:
                    return cls(key_id, "RS256", private)
                raise BadKeySet(f"the key {key_id}: {weakness}")
        raise BadKeySet(f"the key {key_id} is no key for {algorithm}")

    def private_bytes(self) -> bytes:
        """Answer the key as PKCS #8 DER, to be sealed by the caller."""
        return self.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def public_jwk(self) -> dict[str, str]:
        """Answer the public key as it is published (RFC 7517): no private member."""
        members: dict[str, str] = {"kid": str(self.key_id), "use": "sig", "alg": self.algorithm}
        public = self.private.public_key()
        if isinstance(public, Ed25519PublicKey):
            return members | {"kty": "OKP", "crv": "Ed25519", "x": _encode(public.public_bytes_raw())}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return members | {"kty": "RSA", "n": _encode_number(numbers.n), "e": _encode_number(numbers.e)}
        point = public.public_numbers()
        return members | {
            "kty": "EC",
            "crv": "P-256",
            "x": _encode(point.x.to_bytes(32, "big")),
            "y": _encode(point.y.to_bytes(32, "big")),
        }


# ------------------------------------------------------------------------------------------------- sets of public keys

MAX_KID_CHARACTERS: Final = 255
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4, RFC 8037 section 2: what nobody publishes.
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# What the generator of CVE-2017-15361 made is, modulo each of these primes, a power of 65,537: of other keys one in 2^27 is.
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS: Final = {prime: frozenset(pow(65_537, k, prime) for k in range(prime)) for prime in _ROCA_PRIMES}


# What we sign with; and what a client may sign with, by both names of EdDSA over Ed25519 (RFC 9864 section 2.2).
OUR_ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
CLIENT_ALGORITHMS: Final = ("EdDSA", "Ed25519", "ES256", "PS256", "RS256")
_ALIASES: Final = {"Ed25519": "EdDSA"}
KEPT_ALGORITHMS: Final = tuple(name for name in CLIENT_ALGORITHMS if name not in _ALIASES)
_MEMBERS: Final = ("kid", "kty", "crv", "x", "y", "n", "e")


def read_client_keys(value: object) -> tuple[dict[str, str], ...]:
    """Answer the keys of a client's JWK set as they are kept: of each what we know alone. BadKeySet, as `read_public_keys`."""
    read_public_keys(value, CLIENT_ALGORITHMS)
    assert isinstance(value, dict)
    return tuple(
        {"alg": _ALIASES.get(jwk["alg"], jwk["alg"])} | {name: jwk[name] for name in _MEMBERS if name in jwk}
        for jwk in value["keys"]
    )


def read_public_keys(value: object, algorithms: Sequence[str] = OUR_ALGORITHMS) -> dict[str, PublicKey]:
    """Answer the keys of a public JWK set (RFC 7517) by `kid`; BadKeySet that names every problem and its key.

    Our profile: each key has a `kid` of its own, an `alg` that fits its type and is one of these, `use` and `key_ops`, where
    they stand, for verifying and nothing else, the right size, one spelling; nothing private, nothing symmetric. Members that
    nobody knows are ignored (section 4).
    """
    jwks = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(jwks, list):
        raise BadKeySet("no set of keys")
    found: dict[str, PublicKey] = {}
    problems: list[str] = []
    for number, jwk in enumerate(jwks):
        try:
            kid, public = _public_key(jwk, algorithms)
            if kid in found:
                raise BadKeySet("its kid stands twice")
            found[kid] = public
        except BadKeySet as error:
            problems.append(f"key {number}: {error.message}")
    if problems:
        raise BadKeySet("; ".join(problems))
    return found


def _public_key(jwk: object, algorithms: Sequence[str]) -> tuple[str, PublicKey]:
    if not isinstance(jwk, dict):
        raise BadKeySet("no object")
    if private := _PRIVATE_MEMBERS & jwk.keys():
        raise BadKeySet(f"has the private {', '.join(sorted(private))}")
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KID_CHARACTERS:
        raise BadKeySet(f"no kid of 1 to {MAX_KID_CHARACTERS} characters")
    if jwk.get("use", "sig") != "sig" or operations != ["verify"]:
        raise BadKeySet("not to verify with")
    if jwk.get("alg") not in algorithms:
        raise BadKeySet(f"its alg is none of {', '.join(algorithms)}")
    match jwk.get("kty"), jwk.get("crv"), jwk.get("alg"):
        case "OKP", "Ed25519", "EdDSA" | "Ed25519":
            return kid, _made(lambda: Ed25519PublicKey.from_public_bytes(_member(jwk, "x", 32)))
        case "EC", "P-256", "ES256":
            x, y = (int.from_bytes(_member(jwk, name, 32), "big") for name in ("x", "y"))
            return kid, _made(lambda: EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key())
        case "RSA", None, "RS256" | "PS256":
            n, e = (_member(jwk, name) for name in ("n", "e"))
            # RFC 7518 section 6.3.1: as few octets as there can be.
            if n[:1] in (b"", b"\0") or e[:1] in (b"", b"\0"):
                raise BadKeySet("a number with zeros before it, or none")
            modulus, exponent = int.from_bytes(n, "big"), int.from_bytes(e, "big")
            weakness = _rsa_weakness(modulus, exponent)
            if weakness is not None:
                raise BadKeySet(weakness)
            return kid, _made(lambda: rsa.RSAPublicNumbers(exponent, modulus).public_key())
    raise BadKeySet("kty, crv and alg do not go together")


def _made(make: Callable[[], PublicKey]) -> PublicKey:
    try:
        return make()
    except (ValueError, UnsupportedAlgorithm):
        raise BadKeySet("no such key there can be") from None


def _member(jwk: Mapping[str, Any], name: str, length: int | None = None) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or len(text) > MAX_RSA_BITS // 4 or not _is_canonical(text):
        raise BadKeySet(f"{name} is not base64url in its one spelling")
    octets = _decode(text)
    if length not in (None, len(octets)):
        raise BadKeySet(f"{name} is not of {length} octets")
    return octets


def _rsa_weakness(n: int, e: int) -> str | None:
    """Answer what is wrong with the numbers of an RSA key, or None."""
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        return f"RSA of {n.bit_length()} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    # NIST SP 800-56B section 6.2 for the exponent.
    if e < RSA_EXPONENT or e % 2 == 0 or e.bit_length() > 256 or n % 2 == 0:
        return "RSA with an exponent or a modulus that is weak"
    if all(n % prime in powers for prime, powers in _ROCA_POWERS.items()):
        return "RSA of a generator that is broken (CVE-2017-15361)"
    return None


@dataclass(frozen=True, slots=True, repr=False)
class EncryptionKey:
    """A secret key for `dir` with A256GCM: 32 bytes."""

    key_id: UUID
    secret: bytes


class KeySet:
    """Our own keys by `kid`, validated together."""

    def __init__(self, signing: Iterable[SigningKey] = (), encryption: Iterable[EncryptionKey] = ()) -> None:
        """BadKeySet: a kid twice, or a secret that is not 32 random bytes."""
        signing, encryption = list(signing), list(encryption)
        problems: list[str] = []
        kids = [*(key.key_id for key in signing), *(key.key_id for key in encryption)]
        problems += [f"{kid}: twice" for kid in sorted({kid for kid in kids if kids.count(kid) > 1}, key=str)]
        for key in encryption:
            if len(key.secret) != SECRET_BYTES or len(set(key.secret)) < 8:
                problems.append(f"{key.key_id}: not 32 random bytes")
        if problems:
            raise BadKeySet("; ".join(problems))
        self.signing: Mapping[str, SigningKey] = {str(key.key_id): key for key in signing}
        self.encryption: Mapping[str, EncryptionKey] = {str(key.key_id): key for key in encryption}
        self._public = {kid: key.private.public_key() for kid, key in self.signing.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joserfc advises against raw secrets of unknown origin; these are random
            self._secrets = {kid: OctKey.import_key(key.secret) for kid, key in self.encryption.items()}
        self._ciphers = {kid: AESGCM(key.secret) for kid, key in self.encryption.items()}

    def verify(self, token: "Pieces", kid: str) -> bytes:
        """Answer the payload of a JWS under the signing key of this kid. InvalidToken: unknown_key, algorithm, signature."""
        key = self.signing.get(kid)
        if key is None:
            raise InvalidToken("unknown_key")
        if token.header.get("alg") != key.algorithm or len(token.segments) != JWS_SEGMENTS:
            raise InvalidToken("algorithm")
        if not _is_signed(token, key.algorithm, self._public[kid]):
            raise InvalidToken("signature")
        return _decode(token.segments[1])

    def decrypt(self, token: "Pieces", kid: str) -> bytes:
        """Answer the plain text of a JWE, `dir` with A256GCM (RFC 7518 section 5.3), under the encryption key of this kid.

        InvalidToken: unknown_key, algorithm, malformed, decryption.
        """
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise InvalidToken("unknown_key")
        if (token.header.get("alg"), token.header.get("enc")) != ("dir", "A256GCM") or len(token.segments) != JWE_SEGMENTS:
            raise InvalidToken("algorithm")
        header, encrypted_key, nonce, encrypted, tag = token.segments
        if encrypted_key or "zip" in token.header:
            raise InvalidToken("algorithm")
        if len(nonce) != 16 or len(tag) != 22:  # 96 bits of IV, 128 bits of tag
            raise InvalidToken("malformed")
        try:
            return cipher.decrypt(_decode(nonce), _decode(encrypted) + _decode(tag), header.encode())
        except (InvalidTag, ValueError):
            raise InvalidToken("decryption") from None

    def encrypt(self, plain: bytes, kid: str, header: Mapping[str, str]) -> str:
        """Answer a compact JWE with `dir` and A256GCM; joserfc draws a random 96-bit IV (RFC 7518 section 5.3)."""
        protected = {"alg": "dir", "enc": "A256GCM", "kid": kid, **header}
        return jwe.encrypt_compact(protected, plain, self._secrets[kid], registry=_JWE)


def write_jwt(claims: Mapping[str, Any], keys: KeySet, key_id: UUID) -> str:
    """Answer a signed JWT, `typ: at+jwt`."""
    key = keys.signing[str(key_id)]
    payload = jsontext.dumps(claims).encode()
    return _JWS.encode(payload, key.private, algorithm=key.algorithm, headers={"typ": JWT_TYPE, "kid": str(key_id)})


def write_encrypted(claims: Mapping[str, Any], keys: KeySet, key_id: UUID) -> str:
    """Answer the claims as an encrypted string: prefix, JWE, checksum."""
    body = PREFIXES["access"] + keys.encrypt(jsontext.dumps(claims).encode(), str(key_id), {"typ": ENCRYPTED_TYPE})
    return body + checksum(body)


def write_jwe(claims: Mapping[str, Any], keys: KeySet, signing_key_id: UUID, encryption_key_id: UUID) -> str:
    """Answer a JWT that was signed and then encrypted (RFC 7519 section 11.2)."""
    inner = write_jwt(claims, keys, signing_key_id).encode()
    return keys.encrypt(inner, str(encryption_key_id), {"typ": NESTED_TYPE, "cty": "JWT"})


def read_jwt(text: str, keys: KeySet, issuer: str) -> Proven:
    """Answer what a JWT of ours proves. InvalidToken."""
    token = take_apart(text, JWS_SEGMENTS)
    kid = _kid(token, ("alg",), {"typ": JWT_TYPES})
    payload = keys.verify(token, kid)
    return Proven(_jti(payload, issuer), (keys.signing[kid].key_id,))


def read_encrypted(text: str, keys: KeySet, issuer: str) -> Proven:
    """Answer what an encrypted string of ours proves. InvalidToken."""
    prefix = PREFIXES["access"]
    body, check = text[:-6], text[-6:]
    if len(text) > MAX_TOKEN_CHARACTERS or not text.isascii() or not body.startswith(prefix) or check != checksum(body):
        raise InvalidToken("malformed")
    plain, key_id = _decrypted(body.removeprefix(prefix), keys, {"typ": (ENCRYPTED_TYPE,)})
    return Proven(_jti(plain, issuer), (key_id,))


def read_jwe(text: str, keys: KeySet, issuer: str) -> Proven:
    """Answer what an encrypted JWT of ours proves. InvalidToken."""
    inner, key_id = _decrypted(text, keys, {"typ": (NESTED_TYPE,), "cty": ("JWT",)})
    try:
        proven = read_jwt(inner.decode("ascii"), keys, issuer)
    except UnicodeDecodeError:
        raise InvalidToken("malformed") from None
    return Proven(proven.token_id, (*proven.key_ids, key_id))


@dataclass(frozen=True, slots=True, repr=False)
class Assertion:
    """A JWT by which a client says who it is (RFC 7523 section 3), as it was read: nothing is proven yet."""

    token: "Pieces"
    claims: Mapping[str, object]

    def is_signed_by(self, jwks: Iterable[Mapping[str, str]]) -> bool:
        """Say whether one of these registered keys has signed it: the one of its `kid`, or without that the only one."""
        header = self.token.header
        fitting = [jwk for jwk in jwks if header.get("kid", jwk["kid"]) == jwk["kid"]]
        if len(fitting) != 1:
            return False
        (jwk,), algorithm = fitting, header.get("alg")
        # The algorithm is the key's: the header may only agree (RFC 8725 section 3.1).
        if not isinstance(algorithm, str) or _ALIASES.get(algorithm, algorithm) != jwk["alg"]:
            return False
        return _is_signed(self.token, jwk["alg"], _public_key(jwk, CLIENT_ALGORITHMS)[1])


# The media types that a client assertion may name, or none: that of an access token, above all, is none of them.
_ASSERTION_TYPES: Final = (None, "JWT", "client-authentication+jwt")
# Where others would look for a key, or for what is signed.
_BRINGS_KEYS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "b64", "zip"})


def read_assertion(text: str) -> Assertion:
    """Answer a client assertion of strict JSON and one spelling. InvalidToken: malformed, type, claims."""
    token = take_apart(text, JWS_SEGMENTS)
    if not _BRINGS_KEYS.isdisjoint(token.header):
        raise InvalidToken("malformed")
    if token.header.get("typ") not in _ASSERTION_TYPES:
        raise InvalidToken("type")
    try:
        claims = jsontext.loads(_decode(token.segments[1]), max_bytes=MAX_TOKEN_CHARACTERS)
    except InvalidInput:
        raise InvalidToken("claims") from None
    if not isinstance(claims, dict):
        raise InvalidToken("claims")
    return Assertion(token, claims)


def _decrypted(text: str, keys: KeySet, expected: Mapping[str, tuple[str, ...]]) -> tuple[bytes, UUID]:
    """Answer the plain text and the key it was under."""
    token = take_apart(text, JWE_SEGMENTS)
    kid = _kid(token, ("alg", "enc"), expected)
    return keys.decrypt(token, kid), keys.encryption[kid].key_id


@dataclass(frozen=True, slots=True, repr=False)
class Pieces:
    """A compact serialisation taken apart, of which nothing is proven yet: its segments, and the members of its header."""

    segments: Sequence[str]
    header: Mapping[str, object]


def take_apart(text: str, count: int) -> Pieces:
    """Take a compact serialisation of so many segments apart: each in the one spelling of base64url, a strict JSON header.

    InvalidToken: malformed, also where the header has `crit`: nothing that could be critical is understood here (RFC 7515
    section 4.1.11).
    """
    if len(text) > MAX_TOKEN_CHARACTERS or not text.isascii():
        raise InvalidToken("malformed")
    segments = text.split(".")
    if len(segments) != count or not all(map(_is_canonical, segments)):
        raise InvalidToken("malformed")
    try:
        header = jsontext.loads(_decode(segments[0]), max_bytes=MAX_TOKEN_CHARACTERS)
    except InvalidInput:
        raise InvalidToken("malformed") from None
    if not isinstance(header, dict) or "crit" in header:
        raise InvalidToken("malformed")
    return Pieces(segments, header)


def _kid(token: Pieces, names: Sequence[str], expected: Mapping[str, tuple[str, ...]]) -> str:
    """Answer the `kid` of a header of exactly these names, each a string, and of those with one of the expected values.

    `jku`, `jwk`, `x5u`, `zip` are no such names.
    """
    header = token.header
    if header.keys() != {"kid", *names, *expected} or not all(isinstance(value, str) for value in header.values()):
        raise InvalidToken("malformed")
    if any(header[name] not in values for name, values in expected.items()):
        raise InvalidToken("type")
    kid = header["kid"]
    assert isinstance(kid, str)
    return kid


def _jti(payload: bytes, issuer: str) -> UUID:
    """Answer the `jti` of claims that are whole and of exact types, from this issuer."""
    try:
        claims = jsontext.loads(payload, max_bytes=MAX_TOKEN_CHARACTERS)
    except InvalidInput:
        raise InvalidToken("claims") from None
    if not isinstance(claims, dict):
        raise InvalidToken("claims")
    texts = [claims.get(name) for name in ("iss", "sub", "client_id", "jti")]
    numbers = [claims.get(name) for name in ("iat", "exp")]
    audience = claims.get("aud")
    if (
        not all(isinstance(text, str) and text for text in texts)
        or not all(type(number) is int and number > 0 for number in numbers)
        or not isinstance(audience, list)
        or not audience
        or not all(isinstance(api, str) and api for api in audience)
        or claims["iss"] != issuer
        or not _NOT_OURS.isdisjoint(claims)
    ):
        raise InvalidToken("claims")
    try:
        jti = UUID(claims["jti"])
    except ValueError:
        raise InvalidToken("claims") from None
    if str(jti) != claims["jti"]:
        raise InvalidToken("claims")
    return jti


def _is_signed(token: Pieces, algorithm: str, key: PublicKey) -> bool:
    header, payload, signature = token.segments
    try:
        return _JWS.get_algorithm_by_name(algorithm).verify(f"{header}.{payload}".encode(), key, _decode(signature))
    except (InvalidSignature, ValueError):
        return False


def _is_canonical(segment: str) -> bool:
    return _SEGMENT.fullmatch(segment) is not None


def _encode_number(number: int) -> str:
    """Write a number as RFC 7518 section 2 says: in as few octets as there can be."""
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
