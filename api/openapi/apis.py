"""/v1/apis, and the roles of an API."""

from typing import Final, get_args

from api.openapi.operations import Operation, json_of, query
from api.openapi.shapes import (
    BOOLEAN,
    COUNT,
    ID,
    NAME,
    OF_THEN,
    POSITION,
    ROLE_NAME,
    RULE,
    TEXT,
    WHERE,
    list_of,
    named,
    one_of,
    page,
    status,
    thing,
)
from api.pages import AS_OF
from api.resources.apis import STATUSES, ApiChanges, NewApi
from api.resources.bodies import Because, CutOff, RuleIds, Suspension
from api.resources.imports import Import
from api.resources.roles import NewRole, Rules
from ledger.errors import BuiltIn, NameIsTaken, PlanIsPast, TooManyRules, UnknownApi, UnknownRole
from ledger.imports import Action

API: Final = {"name": NAME, "api_id": ID, "audience": TEXT, "semicolons": BOOLEAN, "preflights": BOOLEAN, **status(*STATUSES)}
_DONE: Final = {"name": NAME, "api_id": ID, "position": POSITION}
DONE: Final = json_of(thing(_DONE))
ONE: Final = "/v1/apis/{name}"

ROLE: Final = {"api": NAME, "role": ROLE_NAME, "role_id": ID, "rule_count": COUNT, "changed_at_position": POSITION}
_OF_ROLE: Final = {"api": NAME, "role": ROLE_NAME, "role_id": ID, "position": POSITION}
ROLES: Final = f"{ONE}/roles"
ONE_ROLE: Final = f"{ROLES}/{{role}}"

_STEP: Final = {
    "role": ROLE_NAME,
    "action": one_of(get_args(Action)),
    "granted": list_of(TEXT),
    "withdrawn": list_of(TEXT),
}
IMPORT_PLAN: Final = thing(
    {
        "plan_id": ID,
        "api": NAME,
        "registers": BOOLEAN,
        "roles": list_of(thing(_STEP)),
        "others": list_of(thing({"role": ROLE_NAME, "rule_count": COUNT})),
        "position": POSITION,
    }
)
IMPORTED: Final = thing({"api": NAME, "api_id": ID, "plan_id": ID, "position": POSITION})

OPERATIONS: Final = {
    ("POST", "/v1/apis"): Operation(
        "bearer",
        {201: json_of(thing(_DONE), "Registered.", Location=TEXT)},
        body=NewApi,
        refuses=(NameIsTaken,),
        repeatable=True,
    ),
    ("GET", "/v1/apis"): Operation(
        "bearer",
        {200: json_of(page("apis", named("Api", thing(API)), WHERE, OF_THEN))},
        query=query(*AS_OF, "cursor", "limit", status=one_of(STATUSES)),
    ),
    ("GET", ONE): Operation(
        "bearer", {200: json_of(thing({**API, **WHERE}, OF_THEN))}, query=query(*AS_OF), refuses=(UnknownApi,)
    ),
    ("PATCH", ONE): Operation("bearer", {200: DONE}, body=ApiChanges, refuses=(UnknownApi, BuiltIn), repeatable=True),
    ("POST", f"{ONE}/suspend"): Operation(
        "bearer", {200: DONE}, body=Suspension, refuses=(UnknownApi, BuiltIn), repeatable=True
    ),
    ("POST", f"{ONE}/reinstate"): Operation(
        "bearer", {200: DONE}, body=Because, optional_body=True, refuses=(UnknownApi,), repeatable=True
    ),
    ("POST", f"{ONE}/revoke-tokens"): Operation(
        "bearer", {200: DONE}, body=CutOff, optional_body=True, refuses=(UnknownApi,), repeatable=True
    ),
    ("POST", f"{ONE}/import"): Operation(
        "bearer",
        {200: json_of({"anyOf": [IMPORT_PLAN, IMPORTED]}, "What it takes; or that it is done.")},
        body=Import,
        refuses=(PlanIsPast, BuiltIn, TooManyRules),
        repeatable=True,
    ),
    ("POST", ROLES): Operation(
        "bearer",
        {201: json_of(thing(_OF_ROLE), "Created.", Location=TEXT)},
        body=NewRole,
        refuses=(UnknownApi, NameIsTaken),
        repeatable=True,
    ),
    ("GET", ROLES): Operation(
        "bearer",
        {200: json_of(page("roles", named("Role", thing(ROLE)), WHERE, OF_THEN))},
        query=query(*AS_OF, "cursor", "limit"),
        refuses=(UnknownApi,),
    ),
    ("GET", ONE_ROLE): Operation(
        "bearer",
        {200: json_of(thing({**ROLE, **WHERE}, OF_THEN))},
        query=query(*AS_OF),
        refuses=(UnknownApi, UnknownRole),
    ),
    ("DELETE", ONE_ROLE): Operation(
        "bearer", {200: json_of(thing(_OF_ROLE))}, refuses=(UnknownApi, UnknownRole, BuiltIn), repeatable=True, found_first=True
    ),
    ("GET", f"{ONE_ROLE}/rules"): Operation(
        "bearer",
        {200: json_of(page("rules", thing(RULE), WHERE, OF_THEN))},
        query=query(*AS_OF, "cursor", "limit"),
        refuses=(UnknownApi, UnknownRole),
    ),
    ("POST", f"{ONE_ROLE}/rules"): Operation(
        "bearer",
        {200: json_of(thing({**_OF_ROLE, "rule_ids": list_of(ID)}))},
        body=Rules,
        refuses=(UnknownApi, UnknownRole, TooManyRules, BuiltIn),
        repeatable=True,
    ),
    ("POST", f"{ONE_ROLE}/rules/withdraw"): Operation(
        "bearer",
        {200: json_of(thing(_OF_ROLE))},
        body=RuleIds,
        refuses=(UnknownApi, UnknownRole, BuiltIn),
        repeatable=True,
    ),
}
