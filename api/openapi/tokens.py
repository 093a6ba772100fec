"""/v1/tokens, families, bulk revocation, the keys of tokens, and lock-outs."""

from typing import Final, get_args

from api.body import Body
from api.openapi.operations import Operation, json_of, query
from api.openapi.shapes import (
    BOOLEAN,
    COUNT,
    CURSOR,
    ID,
    INSTANT,
    ISSUED,
    LISTED_TOKEN,
    NAME,
    OF_THEN,
    POSITION,
    TEXT,
    TOKEN,
    TOKENS,
    WHERE,
    list_of,
    maybe,
    one_of,
    page,
    thing,
)
from api.pages import AS_OF
from api.resources.bodies import Because, Suspension
from api.resources.issue import IssueBody, TokenRefused
from api.resources.keys import ALGORITHMS, KeyRevocation, NewKey
from api.resources.revocations import Revocation
from api.resources.tokens import KINDS, STATES, STRATEGIES
from ledger.errors import IsArchived, NotAllowed, PlanIsPast, UnknownApi, UnknownClient, UnknownSubject
from ledger.guessing import Kind
from ledger.keys import KeyTooNew, TooManyPendingKeys, UnknownKey, Use, WrongKeyStatus
from ledger.lockouts import UnknownLockout
from ledger.states import Refresh
from ledger.tokens import TokenIsRevoked, UnknownFamily, UnknownToken
from projections.revocations import LEVELS

OF_ONE: Final = "/v1/tokens/{token_id}"
ONE_FAMILY: Final = "/v1/families/{family_id}"
ONE_KEY: Final = "/v1/keys/{key_id}"

OF_TOKEN: Final = json_of(thing({"token_id": ID, "family_id": ID, "position": POSITION}))
OF_FAMILY: Final = json_of(thing({"family_id": ID, "position": POSITION}))
FAMILY: Final = {
    "family_id": ID,
    "subject_id": ID,
    "client": NAME,
    "refresh": one_of(get_args(Refresh)),
    "generation": COUNT,
    "refresh_token_id": maybe(ID),
    "access_token_id": maybe(ID),
    "rotated_at": maybe(INSTANT),
    "started_at": INSTANT,
    "expires_at": INSTANT,
    "status": one_of(("active", "suspended", "revoked")),
    "status_reason": maybe(TEXT),
    "status_until": maybe(INSTANT),
    "stands": BOOLEAN,
    "changed_at_position": POSITION,
}

ALGORITHM: Final = one_of(sorted({name for names in ALGORITHMS.values() for name in names}))
KEY: Final = {
    "key_id": ID,
    "use": one_of(get_args(Use)),
    "algorithm": ALGORITHM,
    "status": one_of(("pending", "active", "retired", "revoked")),
    "status_reason": maybe(TEXT),
    "made_at": INSTANT,
    "changed_at": INSTANT,
    "changed_at_position": POSITION,
    "published": BOOLEAN,
}

_OF_PLAN: Final = {"plan_id": ID, "as_of_position": POSITION, "level": maybe(one_of(list(LEVELS.values())))}
DRY_RUN: Final = thing(
    {
        **_OF_PLAN,
        "instant": INSTANT,
        "log_id": ID,
        "count": maybe(COUNT),
        "tokens": list_of(LISTED_TOKEN),
        "next": maybe(CURSOR),
    }
)
RUN: Final = thing(
    {
        **_OF_PLAN,
        "done": BOOLEAN,
        "positions": list_of(POSITION),
        "position": POSITION,
        "next": maybe(CURSOR),
        "revoked": maybe(COUNT),
        "passed": maybe(COUNT),
    }
)

OPERATIONS: Final = {
    ("POST", "/v1/tokens"): Operation(
        "bearer_or_client",
        {201: json_of(ISSUED, "The token.")},
        body=IssueBody,
        refuses=(NotAllowed, TokenRefused),
        repeatable=True,
    ),
    ("GET", "/v1/tokens"): Operation(
        "bearer",
        {200: json_of(TOKENS)},
        query=query(
            "subject_id",
            "client",
            "api",
            "family_id",
            "issued_after",
            "issued_before",
            *AS_OF,
            "cursor",
            "limit",
            kind=one_of(KINDS),
            strategy=one_of(STRATEGIES),
            state=one_of(STATES),
        ),
        refuses=(UnknownClient, UnknownApi, IsArchived),
    ),
    ("GET", OF_ONE): Operation(
        "bearer",
        {200: json_of(thing({**TOKEN, "as_of_position": POSITION, "instant": INSTANT}, OF_THEN))},
        query=query(*AS_OF),
        refuses=(UnknownToken, IsArchived),
    ),
    ("POST", f"{OF_ONE}/suspend"): Operation(
        "bearer", {200: OF_TOKEN}, body=Suspension, refuses=(UnknownToken, TokenIsRevoked), repeatable=True
    ),
    ("POST", f"{OF_ONE}/reinstate"): Operation(
        "bearer",
        {200: OF_TOKEN},
        body=Because,
        optional_body=True,
        refuses=(UnknownToken, TokenIsRevoked),
        repeatable=True,
    ),
    ("POST", f"{OF_ONE}/revoke"): Operation(
        "bearer", {200: OF_TOKEN}, body=Because, optional_body=True, refuses=(UnknownToken,), repeatable=True
    ),
    ("POST", "/v1/revocations"): Operation(
        "bearer",
        {200: json_of({"anyOf": [DRY_RUN, RUN]}, "What a filter means; or what was done of a plan.")},
        body=Revocation,
        refuses=(UnknownClient, UnknownApi, UnknownSubject, UnknownFamily, PlanIsPast, IsArchived),
    ),
    ("GET", ONE_FAMILY): Operation(
        "bearer",
        {200: json_of(thing({**FAMILY, **WHERE}, OF_THEN))},
        query=query(*AS_OF),
        refuses=(UnknownFamily, IsArchived),
    ),
    ("POST", f"{ONE_FAMILY}/suspend"): Operation(
        "bearer", {200: OF_FAMILY}, body=Suspension, refuses=(UnknownFamily, TokenIsRevoked), repeatable=True
    ),
    ("POST", f"{ONE_FAMILY}/reinstate"): Operation(
        "bearer",
        {200: OF_FAMILY},
        body=Because,
        optional_body=True,
        refuses=(UnknownFamily, TokenIsRevoked),
        repeatable=True,
    ),
    ("POST", f"{ONE_FAMILY}/revoke"): Operation(
        "bearer", {200: OF_FAMILY}, body=Because, optional_body=True, refuses=(UnknownFamily,), repeatable=True
    ),
    ("GET", "/v1/keys"): Operation(
        "bearer", {200: json_of(thing({"keys": list_of(thing(KEY)), **WHERE}, OF_THEN))}, query=query(*AS_OF)
    ),
    ("POST", "/v1/keys"): Operation(
        "bearer",
        {
            201: json_of(
                thing(
                    {**{name: KEY[name] for name in ("key_id", "use", "algorithm", "status", "made_at")}, "position": POSITION}
                ),
                "Made.",
            )
        },
        body=NewKey,
        refuses=(TooManyPendingKeys,),
        repeatable=True,
    ),
    ("POST", f"{ONE_KEY}/activate"): Operation(
        "bearer",
        {
            200: json_of(
                thing({"key_id": ID, "status": one_of(("active",)), "retired": list_of(ID), "position": POSITION}),
            )
        },
        body=Body,
        optional_body=True,
        refuses=(UnknownKey, WrongKeyStatus, KeyTooNew),
        repeatable=True,
    ),
    ("POST", f"{ONE_KEY}/retire"): Operation(
        "bearer",
        {200: json_of(thing({"key_id": ID, "status": one_of(("retired",)), "position": POSITION}))},
        body=Body,
        optional_body=True,
        refuses=(UnknownKey, WrongKeyStatus),
        repeatable=True,
    ),
    ("POST", f"{ONE_KEY}/revoke"): Operation(
        "bearer",
        {200: json_of(thing({"key_id": ID, "status": one_of(("revoked",)), "activated": maybe(ID), "position": POSITION}))},
        body=KeyRevocation,
        refuses=(UnknownKey,),
        repeatable=True,
    ),
    ("GET", "/v1/lockouts"): Operation(
        "bearer",
        {
            200: json_of(
                page(
                    "lockouts",
                    thing(
                        {
                            "lockout_id": ID,
                            "kind": one_of(get_args(Kind)),
                            "subject_id": maybe(ID),
                            "locked_at": INSTANT,
                            "stands": BOOLEAN,
                            "position": POSITION,
                        }
                    ),
                    WHERE,
                )
            )
        },
        query=query("subject_id", "cursor", "limit"),
    ),
    ("POST", "/v1/lockouts/{lockout_id}/unlock"): Operation(
        "bearer",
        {200: json_of(thing({"lockout_id": ID, "position": POSITION}))},
        body=Body,
        optional_body=True,
        refuses=(UnknownLockout,),
        repeatable=True,
    ),
}
