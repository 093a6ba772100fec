"""JWTs, verified here: what is certainly none of the ledger's is refused without asking (RFC 9068 section 4, RFC 8725).

A yes is the ledger's alone, which looks at the same string more strictly: this is what a flood of forged tokens ends at.
"""

from collections.abc import Mapping
from typing import Any, Final

import jwt

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
# Of `exp`, `nbf` and `iat`, between the two clocks. No token lives longer by it: when a yes ends is told by the ledger's clock.
LEEWAY_SECONDS: Final = 30
CLAIMS: Final = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")  # RFC 9068 section 2.2
_JWT_SEGMENTS: Final = 3


class Keys:
    """The public keys of the ledger, and what its JWTs have to say: who issued them, and for whom."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self.wanted = True  # there are none, or a token names one that is not there

    def take(self, jwks: Any) -> None:
        """Take a set of keys (RFC 7517) in the place of the one before. What is no key of ours is left out."""
        found: dict[str, jwt.PyJWK] = {}
        for jwk in jwks["keys"]:
            if jwk.get("alg") not in ALGORITHMS or jwk.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK(jwk)
            except jwt.PyJWTError:
                continue
            if key.key_id is not None:
                found[key.key_id] = key
        self._keys = found
        self.wanted = False

    def refuse(self, token: str) -> bool:
        """Say whether a token is certainly not good here. False: it is, or it is no JWT, or its key is not known here (yet)."""
        if token.count(".") != _JWT_SEGMENTS - 1:
            return False
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != "at+jwt" or "crit" in header:
                return True
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                self.wanted = True
                return False
            # The algorithm is the key's, whatever the header says (RFC 8725 section 3.1).
            jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": list(CLAIMS)},
            )
        except (jwt.PyJWTError, ValueError):
            return True
        return False
