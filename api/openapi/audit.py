"""/v1/audit and the feed."""

from typing import Final

from api.openapi.operations import Answer, Operation, json_of, query
from api.openapi.shapes import (
    ABOUT,
    BOOLEAN,
    CLIENT_SETTINGS,
    COUNT,
    CURSOR,
    DECISION,
    EVALUATION,
    EVENT,
    EVENT_TYPE,
    EVIDENCE,
    ID,
    IN_LOG,
    INSTANT,
    LEVEL,
    MATCHED_RULE,
    NAME,
    POSITION,
    TEXT,
    WHO,
    Schema,
    list_of,
    maybe,
    one_of,
    page,
    thing,
)
from api.pages import AS_OF, MAX_PAGE, THEN
from api.resources.audit import FILTERS, SPAN, WHOSE
from api.resources.audit_access import QUESTION, ROUTE
from api.resources.blast_radius import FROM, STARTS, TO, TakingBack
from api.resources.feed import EVENT_STREAM, MAX_WAIT_SECONDS
from ledger.errors import IsArchived, UnknownApi, UnknownClient, UnknownSubject
from ledger.keys import UnknownKey
from ledger.tokens import UnknownFamily, UnknownToken
from projections.changes import KINDS as KINDS_OF_CHANGE
from projections.feed import CursorOfAnotherLog

TYPES: Final[Schema] = TEXT | {"description": "Event types, separated by commas, at most 20."}

_UNTIL: Final = {"until": maybe(INSTANT)}
_TOKEN_WORTH: Final = {
    "state": TEXT,
    "reason": maybe(TEXT),
    "level": maybe(LEVEL),
    **_UNTIL,
    "stands_for": list_of(NAME),
}
STATE: Final[Schema] = {
    "anyOf": [
        {"type": "null"},
        thing(_TOKEN_WORTH),
        thing({"status": TEXT, **_UNTIL, "generation": COUNT}),
        thing({"status": TEXT, **_UNTIL, "clearance": COUNT, "roles": list_of(TEXT), "cutoff_position": COUNT}),
        thing({"status": TEXT, **_UNTIL, "cutoff_position": COUNT, **CLIENT_SETTINGS, "apis": list_of(NAME)}),
    ]
}
NOW: Final[Schema] = {
    "anyOf": [
        thing(_TOKEN_WORTH, {"expired_at": INSTANT}),
        thing({"state": TEXT, "reason": maybe(TEXT)}, _UNTIL),
    ]
}
REUSE: Final = thing(
    {
        "generation_presented": COUNT,
        "generation_current": COUNT,
        "seconds_since_rotation": maybe(COUNT),
        "verdict": TEXT,
        "presented_by": maybe({"type": "object"}),
        "rotated_by": maybe({"type": "object"}),
    }
)
ENTRY: Final = thing(
    {
        "position": POSITION,
        "instant": INSTANT,
        "who": WHO,
        "what": EVENT_TYPE,
        "about": ABOUT,
        "why": maybe(TEXT),
        "after": STATE,
    },
    {"evidence": REUSE},
)
SENTENCE: Final = thing({"text": TEXT, "position": maybe(POSITION)})

_STEP: Final = {
    "verb": TEXT,
    "kind": TEXT,
    "id": ID,
    "value": {},
    "may": BOOLEAN,
    "why": maybe(TEXT),
}
LINE: Final = thing(
    {
        "position": POSITION,
        "instant": INSTANT,
        "edge": TEXT,
        "from": maybe(POSITION),
        "what": EVENT_TYPE,
        "who": WHO,
        "about": ABOUT,
        "why": maybe(TEXT),
        "token_ids": list_of(ID),
        "undo": list_of(thing(_STEP)),
    }
)
BLAST_RADIUS: Final = thing(
    {
        "plan_id": ID,
        "lines": list_of(LINE),
        "undo_besides": list_of(thing(_STEP)),
        "count": COUNT,
        "steps": COUNT,
        "complete": BOOLEAN,
        "left_out": list_of(thing({"edge": TEXT, "from": maybe(POSITION)})),
        "next": maybe(CURSOR),
        "as_of_position": POSITION,
        "instant": INSTANT,
        "log_id": ID,
    }
)
TAKEN_BACK: Final = thing(
    {
        "plan_id": ID,
        "as_of_position": POSITION,
        "steps": list_of(thing({"takes_back": POSITION, **_STEP, "outcome": TEXT, "position": maybe(POSITION)})),
        "done": BOOLEAN,
        "next": maybe(CURSOR),
    }
)
_INCIDENT: Final = (UnknownToken, UnknownKey, IsArchived)

OPERATIONS: Final = {
    ("GET", "/v1/audit/events"): Operation(
        "bearer",
        {200: json_of(page("events", EVENT, IN_LOG))},
        query=query(*(name for name in (*FILTERS, *SPAN) if name != "type"), type=TYPES),
        refuses=(UnknownClient, UnknownApi, IsArchived),
    ),
    ("GET", "/v1/audit/timeline"): Operation(
        "bearer",
        {
            200: json_of(
                page(
                    "entries",
                    ENTRY,
                    {"now": NOW, **IN_LOG},
                    {"token_id": ID, "family_id": ID, "subject_id": ID, "client": NAME},
                )
            )
        },
        query=query(*WHOSE, *AS_OF, "limit", "cursor"),
        refuses=(UnknownToken, UnknownFamily, UnknownSubject, UnknownClient, IsArchived),
    ),
    ("GET", "/v1/audit/explain"): Operation(
        "bearer",
        {200: json_of(thing({**DECISION, "sentences": list_of(SENTENCE)}))},
        query=query(*QUESTION, *THEN),
        needed_query=QUESTION,
        refuses=(UnknownApi, IsArchived),
    ),
    ("GET", "/v1/audit/decision"): Operation(
        "bearer",
        {200: json_of(EVALUATION)},
        query=query(*QUESTION, *THEN),
        needed_query=QUESTION,
        refuses=(UnknownApi, IsArchived),
    ),
    ("GET", "/v1/audit/blast-radius"): Operation(
        "bearer",
        {200: json_of(BLAST_RADIUS)},
        query=query(*STARTS, *FROM, *TO, "as_of_position", "cursor")
        | {"limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE}},
        refuses=_INCIDENT,
    ),
    ("POST", "/v1/audit/blast-radius"): Operation("bearer", {200: json_of(TAKEN_BACK)}, body=TakingBack, refuses=_INCIDENT),
    ("GET", "/v1/audit/who-could"): Operation(
        "bearer",
        {
            200: json_of(
                page(
                    "subjects",
                    thing(
                        {
                            "subject_id": ID,
                            "kind": one_of(("person", "service")),
                            "rule": MATCHED_RULE,
                            "evidence": EVIDENCE,
                        }
                    ),
                    {**IN_LOG, "semantics": POSITION},
                )
            )
        },
        query=query(*ROUTE, *THEN, "cursor", "limit"),
        needed_query=ROUTE,
        refuses=(UnknownApi,),
    ),
    ("GET", "/v1/audit/changes"): Operation(
        "bearer",
        {
            200: json_of(
                page(
                    "changes",
                    thing(
                        {
                            "kind": one_of(KINDS_OF_CHANGE),
                            "id": ID,
                            "what": EVENT_TYPE,
                            "before_position": maybe(POSITION),
                            "after_position": POSITION,
                        }
                    ),
                    {"from_position": POSITION, "to_position": POSITION, "log_id": ID},
                )
            )
        },
        query=query("from", "to", "cursor", "limit", kind=one_of(KINDS_OF_CHANGE)),
        needed_query=("from",),
        refuses=(IsArchived,),
    ),
    ("GET", "/v1/feed"): Operation(
        "bearer",
        {
            200: Answer(
                "What follows the cursor; or as it comes, where a stream is preferred.",
                {
                    "application/json": thing({"events": list_of(EVENT), "cursor": TEXT, "more": BOOLEAN}),
                    EVENT_STREAM: TEXT,
                },
            )
        },
        query=query("limit", types=TYPES, after=TEXT, wait={"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS}),
        headers={"Last-Event-ID": TEXT},
        refuses=(CursorOfAnotherLog, IsArchived),
    ),
}
