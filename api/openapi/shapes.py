"""Schemas (JSON Schema 2020-12) of what is asked and answered at more than one place, and the few words they are written in."""

from collections.abc import Collection, Mapping
from typing import Any, Final, get_args

from ledger.decisions import REASONS, REASONS_ABOUT_SUBJECTS, SEMANTICS
from ledger.events import EVENT_TYPES
from ledger.identifiers import MAX_NAME
from ledger.jsontext import MAX_INTEGER
from ledger.standing import Level, TokenStatus
from ledger.states import Effect, Refresh, Strategy

Schema = dict[str, Any]

# What `named` has made: the components of the document.
SCHEMAS: Final[dict[str, Schema]] = {}


def thing(members: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Answer the schema of an object of just these members; `optional`: those that may be missing."""
    schema: Schema = {"type": "object", "properties": {**members, **(optional or {})}, "additionalProperties": False}
    return schema | {"required": list(members)} if members else schema


def list_of(items: Schema) -> Schema:
    """Answer the schema of a list."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Answer the schema of the same or null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    null = schema | {"type": [schema["type"], "null"]}
    return null | {"enum": [*schema["enum"], None]} if "enum" in schema else null


def one_of(words: Collection[str]) -> Schema:
    """Answer the schema of one of a few words."""
    return {"type": "string", "enum": list(words)}


def named(name: str, schema: Schema) -> Schema:
    """Make a schema a component of the document and answer a reference to it."""
    assert SCHEMAS.setdefault(name, schema) == schema, f"two schemas are named {name}"
    return {"$ref": f"#/components/schemas/{name}"}


def page(member: str, items: Schema, where: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Answer the schema of a page of a listing."""
    return thing({member: list_of(items), "next": maybe(CURSOR), **where}, optional)


TEXT: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ID: Final[Schema] = {"type": "string", "format": "uuid"}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
POSITION: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER}
CURSOR: Final[Schema] = {"type": "string", "description": "The `next` of the page before."}
NAME: Final[Schema] = {"type": "string", "pattern": f"^[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}$"}
ROLE_NAME: Final[Schema] = {"type": "string", "pattern": f"^[a-z0-9][a-z0-9._:-]{{0,{MAX_NAME - 1}}}$"}

# As of when an answer is; of the past, in which log besides.
WHERE: Final = {"position": POSITION, "instant": INSTANT}
OF_THEN: Final = {"log_id": ID}
IN_LOG: Final = {**WHERE, "log_id": ID}

RULE: Final = {
    "rule_id": ID,
    "effect": one_of(get_args(Effect)),
    "methods": list_of(TEXT),
    "path": TEXT,
    "min_clearance": maybe(COUNT),
}


def status(*statuses: str) -> dict[str, Schema]:
    """Answer what says how a subject, a client or an API stands."""
    return {
        "status": one_of(statuses),
        "status_reason": maybe(TEXT),
        "status_until": maybe(INSTANT),
        "stands": BOOLEAN,
        "cutoff_position": COUNT,
        "changed_at_position": POSITION,
    }


EVIDENCE: Final[Schema] = {"type": "object", "additionalProperties": COUNT}

TOKEN: Final = {
    "token_id": ID,
    "kind": one_of(("access", "refresh")),
    "strategy": one_of(get_args(Strategy)),
    "subject_id": ID,
    "client": NAME,
    "apis": list_of(NAME),
    "scope": maybe(TEXT),
    "family_id": ID,
    "generation": COUNT,
    "name": maybe(TEXT),
    "issued_at": INSTANT,
    "expires_at": INSTANT,
    "issued_from": maybe(ID),
    "state": one_of(get_args(TokenStatus)),
    "reason": maybe(TEXT),
    "status_reason": maybe(TEXT),
    "status_until": maybe(INSTANT),
    "key_ids": list_of(ID),
    "position": POSITION,
    "evidence": EVIDENCE,
}
LISTED_TOKEN: Final = named("Token", thing(TOKEN))
TOKENS: Final = named("Tokens", page("tokens", LISTED_TOKEN, WHERE, OF_THEN))

# RFC 6749 section 5.1, with the ledger's own ids.
HANDED_OUT: Final = {
    "token_type": {"type": "string", "const": "Bearer"},
    "expires_in": COUNT,
    "token_id": ID,
    "family_id": ID,
    "position": POSITION,
}
STRINGS: Final = {"access_token": TEXT, "refresh_token": TEXT, "scope": TEXT}
HANDOUT: Final = named(
    "Handout", thing({"access_token": TEXT, **HANDED_OUT}, {name: STRINGS[name] for name in ("refresh_token", "scope")})
)
# A repeat under an Idempotency-Key is without the strings.
ISSUED: Final = named("Issued", thing({**HANDED_OUT, "expires_at": INSTANT, "subject_id": ID}, STRINGS))

MATCHED_RULE: Final = thing({"role": TEXT, "rule": TEXT})
OF_WHOM: Final = thing(
    {
        "token_id": ID,
        "subject_id": ID,
        "client_id": NAME,
        "roles": list_of(TEXT),
        "scope": maybe(TEXT),
        "expires_at": INSTANT,
    }
)
DECISION: Final = {
    "decision": BOOLEAN,
    "context": thing(
        {
            "reason": one_of((*REASONS, *REASONS_ABOUT_SUBJECTS)),
            **WHERE,
            "semantics": {"type": "integer", "minimum": 1, "maximum": SEMANTICS},
            "log_id": ID,
            "evidence": EVIDENCE,
        },
        {"token": OF_WHOM, "rule": MATCHED_RULE, "missing": {"type": "object", "additionalProperties": COUNT}},
    ),
}
EVALUATION: Final = named("Evaluation", thing(DECISION))

WHO: Final = thing(
    {
        "kind": one_of(("subject", "client", "system")),
        "id": maybe(ID),
        "name": maybe(TEXT),
        "authenticated_by": TEXT,
    }
)
ABOUT: Final = thing({"kind": TEXT, "id": TEXT})
EVENT_TYPE: Final = one_of(sorted(EVENT_TYPES))
EVENT: Final = named(
    "Event",
    thing(
        {
            "position": POSITION,
            "stream": ID,
            "version": POSITION,
            "type": EVENT_TYPE,
            "schema_version": POSITION,
            "recorded_schema_version": POSITION,
            "recorded_at": INSTANT,
            "payload": {"type": "object"},
            "command_id": ID,
            "request_id": ID,
            "correlation_id": ID,
            "causation": maybe(POSITION),
            "actor": thing({"kind": one_of(("subject", "client", "system")), "id": maybe(ID), "authenticated_by": TEXT}),
            "semantics": POSITION,
        }
    ),
)

# What a client's settings are in an answer.
CLIENT_SETTINGS: Final = {
    "grants": list_of(one_of(("client_credentials", "refresh_token", "password", "issue"))),
    "strategy": one_of(get_args(Strategy)),
    "refresh": one_of(get_args(Refresh)),
}
LEVEL: Final = one_of(get_args(Level))
