"""Decisions: AuthZEN's endpoints, and those that gateways ask."""

from typing import Final

from api.errors import NoDecision
from api.openapi.operations import Answer, Operation, json_of
from api.openapi.shapes import EVALUATION, POSITION, TEXT, Schema, list_of, one_of, thing
from api.resources.access import MAX_EVALUATIONS, SEMANTICS_OF_BATCH, TYPES_OF_SUBJECT
from api.resources.gateway import PREFLIGHT
from ledger.decisions import REASONS
from ledger.errors import InvalidInput, IsArchived, NotAllowed


# Members that AuthZEN does not know are allowed, and not looked at.
def _entity(**members: Schema) -> Schema:
    return {"type": "object", "properties": members, "required": list(members)}


_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_PARTS: Final[dict[str, Schema]] = {
    "subject": _entity(type=one_of(TYPES_OF_SUBJECT), id=_TEXT),
    "action": _entity(name=_TEXT),
    "resource": _entity(type=_TEXT | {"const": "route"}, id=_TEXT),
    "context": {
        "type": "object",
        "properties": {
            "as_of": {"anyOf": [POSITION, {"type": "string", "format": "date-time"}]},
            "instant": {"type": "string", "format": "date-time"},
            "semantics": POSITION,
        },
    },
}
QUESTION: Final[Schema] = {"type": "object", "properties": _PARTS, "required": ["subject", "action", "resource"]}
BATCH: Final[Schema] = {
    "type": "object",
    "properties": {
        # The default of each item, and what is wrong with an item is said in its own answer.
        **{name: {} for name in ("subject", "action", "resource", "context")},
        "evaluations": {"type": "array", "items": {}, "maxItems": MAX_EVALUATIONS},
        "options": {"type": "object", "properties": {"evaluations_semantic": one_of(SEMANTICS_OF_BATCH)}},
    },
}
INCOMPLETE: Final = thing(
    {
        "decision": {"type": "boolean", "const": False},
        "context": thing(
            {
                "reason": one_of(("incomplete_question",)),
                "error": thing({"status": {"type": "integer", "const": 400}, "message": TEXT}),
            }
        ),
    }
)

_DECIDED: Final = {"Ledger-Reason": one_of((*REASONS, PREFLIGHT)), "Ledger-Position": {"type": "string", "pattern": "^[0-9]+$"}}
EMPTY: Final = {"text/plain": TEXT | {"maxLength": 0}}
_DECISION: Final = {
    200: Answer(
        "May pass. `Ledger-Subject`, `Ledger-Client` and `Ledger-Token-Id` say who it is, but of a preflight.", {}, _DECIDED
    ),
    401: Answer("No token that stands, with `Ledger-Reason`.", EMPTY, {"WWW-Authenticate": TEXT}),
    403: Answer("It may not, with `Ledger-Reason`.", EMPTY, {"WWW-Authenticate": TEXT}),
}


OPERATIONS: Final = {
    ("POST", "/access/v1/evaluation"): Operation(
        "client", {200: json_of(EVALUATION, "The decision.")}, json_body=QUESTION, refuses=(NotAllowed, IsArchived)
    ),
    ("POST", "/access/v1/evaluations"): Operation(
        "client",
        {
            200: json_of(
                {"anyOf": [thing({"evaluations": list_of({"anyOf": [EVALUATION, INCOMPLETE]})}), EVALUATION]}, "The decisions."
            )
        },
        json_body=BATCH,
        refuses=(NotAllowed, IsArchived),
    ),
    ("GET", "/gateway/nginx"): Operation(
        "gateway",
        _DECISION | {403: Answer("It may not, with `Ledger-Reason`.", EMPTY)},
        headers={"X-Original-Method": TEXT, "X-Original-URI": TEXT, "Authorization": TEXT},
        needed_headers=("X-Original-Method", "X-Original-URI"),
        refuses=(InvalidInput, NotAllowed),
    ),
    ("GET", "/gateway/forward"): Operation(
        "gateway",
        _DECISION,
        headers={"X-Forwarded-Method": TEXT, "X-Forwarded-Uri": TEXT, "Authorization": TEXT},
        needed_headers=("X-Forwarded-Method", "X-Forwarded-Uri"),
        refuses=(NoDecision,),
    ),
    **{
        (method, "/gateway/envoy/{target:path}"): Operation(
            "gateway", _DECISION, headers={"Authorization": TEXT}, refuses=(NoDecision,)
        )
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    },
}
