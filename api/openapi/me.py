"""Logging in and out, and one's own account."""

from typing import Final

from api.openapi.operations import Operation, json_of, query
from api.openapi.shapes import (
    COUNT,
    HANDOUT,
    ID,
    ISSUED,
    NAME,
    POSITION,
    TEXT,
    TOKENS,
    WHERE,
    list_of,
    maybe,
    one_of,
    thing,
)
from api.resources.issue import TokenRefused
from api.resources.login import LoginBody, LoginRefused
from api.resources.me import NamedToken, PasswordChange
from api.resources.subjects import KINDS as KINDS_OF_SUBJECT
from api.resources.tokens import KINDS, STATES
from ledger.guessing import TooManyAttempts
from ledger.tokens import UnknownToken

OPERATIONS: Final = {
    ("POST", "/login"): Operation(
        "person", {200: json_of(HANDOUT, "Tokens.")}, body=LoginBody, refuses=(LoginRefused, TooManyAttempts)
    ),
    ("POST", "/logout"): Operation("self", {200: json_of(thing({"family_id": ID, "position": POSITION}))}, repeatable=True),
    ("GET", "/v1/me"): Operation(
        "self",
        {
            200: json_of(
                thing(
                    {
                        "subject_id": ID,
                        "kind": one_of(KINDS_OF_SUBJECT),
                        "username": maybe(TEXT),
                        "roles": list_of(TEXT),
                        "clearance": COUNT,
                        "client": NAME,
                        "token_id": ID,
                        "family_id": ID,
                        **WHERE,
                    }
                )
            )
        },
    ),
    ("PUT", "/v1/me/password"): Operation(
        "self",
        {200: json_of(thing({"subject_id": ID, "position": POSITION}))},
        body=PasswordChange,
        refuses=(TooManyAttempts,),
    ),
    ("GET", "/v1/me/tokens"): Operation(
        "self", {200: json_of(TOKENS)}, query=query("cursor", "limit", kind=one_of(KINDS), state=one_of(STATES))
    ),
    ("POST", "/v1/me/tokens"): Operation(
        "self", {201: json_of(ISSUED, "The token.")}, body=NamedToken, refuses=(TokenRefused,), repeatable=True
    ),
    ("DELETE", "/v1/me/tokens/{token_id}"): Operation(
        "self",
        {200: json_of(thing({"token_id": ID, "position": POSITION}))},
        refuses=(UnknownToken,),
        repeatable=True,
    ),
}
