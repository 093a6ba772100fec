"""The rules of client assertions: a client proves itself by a JWT that it signed (RFC 7521, RFC 7523). Pure.

The signature is jose.py; that an assertion is used once is `ledger.use_assertion` (schema.sql), asked last.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ledger.errors import NotAuthenticated
from ledger.identifiers import name_id

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
# How old one may be, whatever its `exp` says: some clients write one of an hour. As long its use is remembered.
MAX_AGE: Final = timedelta(minutes=5)
# Clocks differ.
LEEWAY: Final = timedelta(seconds=30)
MAX_JTI_CHARACTERS: Final = 255


class Use(NamedTuple):
    """The one use of an assertion, to be remembered until it would be too old by itself."""

    assertion_id: UUID
    until: datetime


def claimed_client(claims: Mapping[str, object]) -> str | None:
    """Answer the client an assertion says to be of, None where it says none. Nothing is proven."""
    name = claims.get("sub")
    return name if isinstance(name, str) and claims.get("iss") == name else None


def check_claims(claims: Mapping[str, object], issuer: str, now: datetime) -> Use:
    """Answer the use of an assertion whose signature is the client's. NotAuthenticated says which claim is wrong.

    `aud` is the issuer and nothing else, no endpoint's URL: another server that this client also knows could name our
    endpoint as its own, and use here what was signed for it (draft-ietf-oauth-rfc7523bis section 4).
    """
    if claims.get("aud") not in (issuer, [issuer]):
        raise NotAuthenticated("the client assertion: aud is the issuer identifier and nothing else")
    issued_at, ends_at = _instant(claims, "iat"), _instant(claims, "exp")
    begins_at = _instant(claims, "nbf") if "nbf" in claims else issued_at
    if now < max(issued_at, begins_at) - LEEWAY:
        raise NotAuthenticated("the client assertion: iat and nbf are not in the future")
    until = min(ends_at, issued_at + MAX_AGE) + LEEWAY
    if now >= until:
        raise NotAuthenticated(f"the client assertion: not expired, and made within {int(MAX_AGE.total_seconds())} s")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI_CHARACTERS:
        raise NotAuthenticated(f"the client assertion: jti of 1 to {MAX_JTI_CHARACTERS} characters")
    return Use(name_id("client assertion", str(claims["sub"]), jti), until)


def _instant(claims: Mapping[str, object], name: str) -> datetime:
    seconds = claims.get(name)
    try:
        if type(seconds) is int and seconds > 0:
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # later than there are years
        pass
    raise NotAuthenticated(f"the client assertion: {name} is a number of seconds")
