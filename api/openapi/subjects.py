"""/v1/subjects."""

from typing import Final

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
    maybe,
    named,
    one_of,
    page,
    status,
    thing,
)
from api.pages import AS_OF
from api.resources.bodies import Because, CutOff, RuleIds, Suspension
from api.resources.subjects import (
    KINDS,
    STATUSES,
    Clearance,
    NewPassword,
    NewSubject,
    OwnRules,
    Profile,
    RoleNames,
)
from ledger.errors import (
    LastAdministrator,
    NameIsTaken,
    NotAPerson,
    SubjectIsErased,
    TooManyRoles,
    TooManyRules,
    UnknownApi,
    UnknownRole,
    UnknownSubject,
)

SUBJECT: Final = {
    "subject_id": ID,
    "kind": one_of(KINDS),
    "username": maybe(TEXT),
    "display_name": maybe(TEXT),
    "email": maybe(TEXT),
    "has_password": BOOLEAN,
    "clearance": COUNT,
    "roles": list_of(thing({"role_id": ID, "api": NAME, "role": ROLE_NAME, "removed": BOOLEAN})),
    **status(*STATUSES),
}
DONE: Final = json_of(thing({"subject_id": ID, "position": POSITION}))
PERMISSION: Final = thing({"api": NAME, "role": maybe(ROLE_NAME), **RULE, "applies": BOOLEAN, "changed_at_position": POSITION})
OWN_RULE: Final = thing({"api": NAME, **RULE})
ONE: Final = "/v1/subjects/{subject_id}"

OPERATIONS: Final = {
    ("POST", "/v1/subjects"): Operation(
        "bearer",
        {201: json_of(thing({"subject_id": ID, "position": POSITION}), "Registered.", Location=TEXT)},
        body=NewSubject,
        refuses=(NameIsTaken, NotAPerson),
        repeatable=True,
    ),
    ("GET", "/v1/subjects"): Operation(
        "bearer",
        {200: json_of(page("subjects", named("Subject", thing(SUBJECT)), WHERE, OF_THEN))},
        query=query("username", "role", *AS_OF, "cursor", "limit", kind=one_of(KINDS), status=one_of(STATUSES)),
        refuses=(UnknownRole, UnknownApi),
    ),
    ("GET", ONE): Operation(
        "bearer", {200: json_of(thing({**SUBJECT, **WHERE}, OF_THEN))}, query=query(*AS_OF), refuses=(UnknownSubject,)
    ),
    ("PUT", f"{ONE}/profile"): Operation(
        "bearer",
        {200: DONE},
        body=Profile,
        refuses=(UnknownSubject, SubjectIsErased, NameIsTaken, NotAPerson),
        repeatable=True,
    ),
    ("PUT", f"{ONE}/password"): Operation(
        "bearer",
        {200: DONE},
        body=NewPassword,
        refuses=(UnknownSubject, SubjectIsErased, NotAPerson),
        repeatable=True,
    ),
    ("PUT", f"{ONE}/clearance"): Operation(
        "bearer", {200: DONE}, body=Clearance, refuses=(UnknownSubject, SubjectIsErased), repeatable=True
    ),
    ("POST", f"{ONE}/roles"): Operation(
        "bearer",
        {200: DONE},
        body=RoleNames,
        refuses=(UnknownSubject, UnknownRole, SubjectIsErased, TooManyRoles),
        repeatable=True,
    ),
    ("POST", f"{ONE}/roles/withdraw"): Operation(
        "bearer",
        {200: DONE},
        body=RoleNames,
        refuses=(UnknownSubject, UnknownRole, SubjectIsErased, LastAdministrator),
        repeatable=True,
    ),
    ("GET", f"{ONE}/rules"): Operation(
        "bearer",
        {200: json_of(thing({"subject_id": ID, "rules": list_of(OWN_RULE), **WHERE}, OF_THEN))},
        query=query(*AS_OF),
        refuses=(UnknownSubject,),
    ),
    ("POST", f"{ONE}/rules"): Operation(
        "bearer",
        {200: json_of(thing({"subject_id": ID, "rule_ids": list_of(ID), "position": POSITION}))},
        body=OwnRules,
        refuses=(UnknownSubject, UnknownApi, SubjectIsErased, TooManyRules),
        repeatable=True,
    ),
    ("POST", f"{ONE}/rules/withdraw"): Operation(
        "bearer", {200: DONE}, body=RuleIds, refuses=(UnknownSubject, SubjectIsErased), repeatable=True
    ),
    ("GET", f"{ONE}/permissions"): Operation(
        "bearer",
        {
            200: json_of(
                page(
                    "permissions",
                    PERMISSION,
                    {"subject_id": ID, "clearance": COUNT, "status": one_of(STATUSES), **WHERE},
                    OF_THEN,
                )
            )
        },
        query=query("api", *AS_OF, "cursor", "limit"),
        refuses=(UnknownSubject, UnknownApi),
    ),
    ("POST", f"{ONE}/suspend"): Operation(
        "bearer",
        {200: DONE},
        body=Suspension,
        refuses=(UnknownSubject, SubjectIsErased, LastAdministrator),
        repeatable=True,
    ),
    ("POST", f"{ONE}/reinstate"): Operation(
        "bearer",
        {200: DONE},
        body=Because,
        optional_body=True,
        refuses=(UnknownSubject, SubjectIsErased),
        repeatable=True,
    ),
    ("POST", f"{ONE}/revoke-tokens"): Operation(
        "bearer", {200: DONE}, body=CutOff, optional_body=True, refuses=(UnknownSubject, SubjectIsErased), repeatable=True
    ),
    ("POST", f"{ONE}/erase"): Operation(
        "bearer",
        {200: DONE},
        body=Because,
        optional_body=True,
        refuses=(UnknownSubject, LastAdministrator),
        repeatable=True,
    ),
}
