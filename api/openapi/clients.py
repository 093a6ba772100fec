"""/v1/clients."""

from typing import Final

from api.openapi.operations import Operation, json_of, query
from api.openapi.shapes import (
    BOOLEAN,
    CLIENT_SETTINGS,
    COUNT,
    ID,
    NAME,
    OF_THEN,
    POSITION,
    TEXT,
    WHERE,
    list_of,
    maybe,
    named,
    one_of,
    page,
    status,
    thing,
)
from api.pages import AS_OF
from api.resources.bodies import Because, CutOff, Suspension
from api.resources.clients import KINDS, STATUSES, NewClient, NewKeys, NewSecret, Settings
from ledger.errors import BuiltIn, NameIsTaken, NoSecret, UnknownApi, UnknownClient
from ledger.jose import KEPT_ALGORITHMS

# A public key of a client, of which no more is kept than what it is.
JWKS: Final = thing(
    {
        "keys": list_of(
            thing({"kid": TEXT, "kty": TEXT, "alg": one_of(KEPT_ALGORITHMS)}, dict.fromkeys(("crv", "x", "y", "n", "e"), TEXT))
        )
    }
)
CLIENT: Final = {
    "name": NAME,
    "client_id": ID,
    "kind": one_of(KINDS),
    "secrets": COUNT,
    "jwks": JWKS,
    **CLIENT_SETTINGS,
    "access_lifetime_seconds": COUNT,
    "refresh_idle_seconds": COUNT,
    "refresh_absolute_seconds": COUNT,
    "retry_window_seconds": COUNT,
    "revoke_access_on_rotation": BOOLEAN,
    "apis": list_of(NAME),
    "serves": maybe(NAME),
    "subject_id": maybe(ID),
    **status(*STATUSES),
}
_DONE: Final = {"name": NAME, "client_id": ID, "position": POSITION}
DONE: Final = json_of(thing(_DONE))
SECRET: Final = {"client_secret": TEXT}
ONE: Final = "/v1/clients/{name}"

OPERATIONS: Final = {
    ("POST", "/v1/clients"): Operation(
        "bearer",
        {201: json_of(thing({**_DONE, "subject_id": maybe(ID)}, SECRET), "Registered.", Location=TEXT)},
        body=NewClient,
        refuses=(NameIsTaken, UnknownApi),
        repeatable=True,
    ),
    ("GET", "/v1/clients"): Operation(
        "bearer",
        {200: json_of(page("clients", named("Client", thing(CLIENT)), WHERE, OF_THEN))},
        query=query(*AS_OF, "cursor", "limit", kind=one_of(KINDS), status=one_of(STATUSES)),
    ),
    ("GET", ONE): Operation(
        "bearer", {200: json_of(thing({**CLIENT, **WHERE}, OF_THEN))}, query=query(*AS_OF), refuses=(UnknownClient,)
    ),
    ("PATCH", ONE): Operation(
        "bearer", {200: DONE}, body=Settings, refuses=(UnknownClient, UnknownApi, BuiltIn), repeatable=True
    ),
    ("POST", f"{ONE}/secret"): Operation(
        "bearer",
        {200: json_of(thing(_DONE, SECRET), "The secret.")},
        body=NewSecret,
        optional_body=True,
        refuses=(UnknownClient, NoSecret),
        repeatable=True,
    ),
    ("POST", f"{ONE}/keys"): Operation("bearer", {200: DONE}, body=NewKeys, refuses=(UnknownClient, NoSecret), repeatable=True),
    ("POST", f"{ONE}/suspend"): Operation(
        "bearer", {200: DONE}, body=Suspension, refuses=(UnknownClient, BuiltIn), repeatable=True
    ),
    ("POST", f"{ONE}/reinstate"): Operation(
        "bearer", {200: DONE}, body=Because, optional_body=True, refuses=(UnknownClient,), repeatable=True
    ),
    ("POST", f"{ONE}/revoke-tokens"): Operation(
        "bearer", {200: DONE}, body=CutOff, optional_body=True, refuses=(UnknownClient,), repeatable=True
    ),
}
