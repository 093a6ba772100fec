"""WWW-Authenticate: what a request that was refused is to come back with (RFC 9110 section 11.6.1)."""

from typing import Literal

REALM = "token-ledger"


def bearer_challenge(refused: Literal["no_token", "invalid_token", "insufficient_scope"]) -> str:
    """Answer the challenge of RFC 6750 section 3: one who showed no token is told of no error (section 3.1)."""
    error = "" if refused == "no_token" else f', error="{refused}"'
    return f'Bearer realm="{REALM}"{error}'
