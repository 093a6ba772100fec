"""WWW-Authenticate: what a request that was refused is to come back with (RFC 9110 section 11.6.1)."""

from typing import Literal

from ledger.apis import well_known

REALM = "token-ledger"
RefusedToken = Literal["no_token", "invalid_token", "insufficient_scope"]


def bearer_challenge(refused: RefusedToken, resource: str | None = None) -> str:
    """Answer the challenge of RFC 6750 section 3: one who showed no token is told of no error (section 3.1).

    `resource`: the identifier of the API, for it to be told where its metadata is (RFC 9728 section 5.1).
    """
    error = "" if refused == "no_token" else f', error="{refused}"'
    # What could end the quotation is no part of a URL here: an audience may hold anything that is printed.
    metadata = "" if resource is None else well_known(resource, "oauth-protected-resource")
    known = f', resource_metadata="{metadata}"' if metadata and not {'"', "\\"} & set(metadata) else ""
    return f'Bearer realm="{REALM}"{error}{known}'
