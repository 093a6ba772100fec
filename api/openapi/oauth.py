"""The endpoints of OAuth 2.0: their forms, and their error objects (RFC 6749 section 5.2)."""

from typing import Final

from api.openapi.operations import Operation, json_of
from api.openapi.shapes import COUNT, HANDOUT, ID, IN_LOG, INSTANT, NAME, POSITION, TEXT, Schema, list_of, thing
from api.resources.oauth import GRANTS
from ledger.assertions import ASSERTION_TYPE
from ledger.errors import InvalidInput, IsArchived, NotAllowed
from ledger.guessing import TooManyAttempts

# With status 400.
ERRORS: Final = (
    "invalid_request",
    "invalid_grant",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
)
CLIENT: Final = {
    "client_id": TEXT,
    "client_secret": TEXT,
    "client_assertion": TEXT,
    "client_assertion_type": {"type": "string", "const": ASSERTION_TYPE},
}
# What is not known is not looked at (RFC 6749 section 3.2).
_OPEN: Final[Schema] = {"additionalProperties": TEXT}
_ACTIVE: Final = {
    "active": {"type": "boolean", "const": True},
    **IN_LOG,
    "semantics": POSITION,
    "iss": TEXT,
    "sub": ID,
    "aud": list_of(TEXT),
    "client_id": NAME,
    "token_type": {"type": "string", "const": "Bearer"},
    "iat": COUNT,
    "exp": COUNT,
    "jti": ID,
    "strategy": TEXT,
}
INTROSPECTION: Final[Schema] = {
    "oneOf": [
        # Custom claims of the token stand beside the members that are the ledger's own.
        thing(_ACTIVE, {"scope": TEXT}) | {"additionalProperties": True},
        thing({"active": {"type": "boolean", "const": False}}),
    ]
}
_TOKEN: Final = {"token": TEXT, "token_type_hint": TEXT, **CLIENT}

OPERATIONS: Final = {
    ("POST", "/oauth/token"): Operation(
        "form_client",
        {200: json_of(HANDOUT, "Tokens.", Cache_Control=TEXT, Pragma=TEXT)},
        form=thing(
            {"grant_type": {"type": "string", "enum": sorted(GRANTS)}},
            {
                **CLIENT,
                "refresh_token": TEXT,
                "username": TEXT,
                "password": TEXT,
                "scope": TEXT,
                "resource": TEXT,
            },
        )
        | _OPEN,
        refuses=(InvalidInput, TooManyAttempts),
    ),
    ("POST", "/oauth/introspect"): Operation(
        "form_client",
        {
            200: json_of(
                INTROSPECTION,
                "What the token stands for.",
                Ledger_Position=TEXT,
                Ledger_Instant=INSTANT,
                Ledger_Semantics=TEXT,
                Ledger_Log_Id=ID,
            )
        },
        form=thing({"token": TEXT}, {**_TOKEN, "as_of": TEXT, "instant": INSTANT, "semantics": TEXT}) | _OPEN,
        refuses=(NotAllowed, IsArchived),
    ),
    ("POST", "/oauth/revoke"): Operation(
        "form_client",
        {200: json_of(thing({"position": POSITION}), "The token is revoked, or was none of this client's.")},
        form=thing({"token": TEXT}, _TOKEN) | _OPEN,
    ),
}
