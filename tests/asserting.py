"""Client assertions for tests: keys of every algorithm that is taken, and what a client signs with them."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from ledger.assertions import ASSERTION_TYPE
from tests.calls import ok

ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")
_RSA = rsa.generate_private_key(65_537, 2_048)


def new_jwks(algorithm: str, kid: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Answer a private key, new but for RSA, and the JWK set of its public part."""
    private: Any
    public: Any
    if algorithm in ("EdDSA", "Ed25519"):
        private = Ed25519PrivateKey.generate()
        public = OKPAlgorithm.to_jwk(private.public_key())
    elif algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
        public = ECAlgorithm.to_jwk(private.public_key())
    else:
        private = _RSA
        public = RSAAlgorithm.to_jwk(private.public_key())
    jwk = {name: value for name, value in json.loads(public).items() if name != "key_ops"}
    return private, {"keys": [jwk | {"kid": kid or str(uuid4()), "alg": algorithm, "use": "sig"}]}


def issuer_of(http: httpx.Client) -> str:
    """Answer the issuer identifier."""
    issuer: str = ok(http.get("/.well-known/oauth-authorization-server"))["issuer"]
    return issuer


def claims_for(name: str, issuer: str, **claims: Any) -> dict[str, Any]:
    """Answer the claims of an assertion of this client; one that is None is left out."""
    now = int(datetime.now(UTC).timestamp())
    right = {"iss": name, "sub": name, "aud": issuer, "iat": now, "exp": now + 60, "jti": str(uuid4())}
    return {name: value for name, value in (right | claims).items() if value is not None}


def signed(claims: dict[str, Any], key: Any, algorithm: str, **header: Any) -> str:
    """Sign an assertion; a header member that is None is left out."""
    return jwt.encode(claims, key, algorithm, headers=header)


def form_of(assertion: str) -> dict[str, str]:
    """Answer the parameters that present an assertion."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
