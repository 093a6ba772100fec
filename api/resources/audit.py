"""/v1/audit: what happened, by whom and when; and the timeline of a token, a family, a subject or a client.

For whoever may GET /v1/**: auditors, operators, administrators. What is withheld and why: docs/audit.md.
"""

import json
from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import authorize
from api.event_answers import about, event_answer, read_types, who, why
from api.pages import AS_OF, read_choice, read_cursor, read_instant, read_limit, read_position, read_query, read_uuid, uuid_of
from api.people import names_of_subjects
from api.seeing import see
from api.service import NOBODY, Service
from api.timelines import Part, now_answer, of_client, of_family, of_subject, of_token, state_answer
from ledger.apis import api_id_of
from ledger.clients import client_id_of
from ledger.errors import InvalidInput, Problem, UnknownApi, UnknownClient
from ledger.instants import rfc3339
from ledger.sealing import SubjectKey
from projections.audit import EventPage, Filters, RecordedEvent, Span, read_events
from projections.reference import Kept
from projections.sealed_keys import read_sealed_keys

IDS: Final = ("subject_id", "token_id", "family_id", "role_id", "key_id", "actor_id")
FILTERS: Final = (*IDS, "client", "api", "type")
SPAN: Final = ("from_time", "to_time", "from_position", "to_position", "order", "limit", "cursor")
WHOSE: Final = ("token_id", "family_id", "subject_id", "client")


class AuditEvents:
    """GET /v1/audit/events."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer the events that match every filter, newest first unless asked otherwise."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, (*FILTERS, *SPAN))
        filters, span, limit = _filters(query, caller.kept), _span(query), read_limit(query)
        async with service.pool.connection() as connection:
            page = await read_events(connection, filters, span, limit=limit)
        resp.media = {"events": [event_answer(event) for event in page.events], **_where(page)}


class AuditTimeline:
    """GET /v1/audit/timeline."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer what happened to one token, family, subject or client, oldest first, with the state after each."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, (*WHOSE, *AS_OF, "limit", "cursor"))
        given = [name for name in WHOSE if name in query]
        if len(given) != 1:
            raise InvalidInput([Problem(name, f"exactly one of: {', '.join(WHOSE)}") for name in given or WHOSE])
        part = Part(read_cursor(query), read_limit(query), (await see(service, query, caller.kept)).moment)
        async with service.pool.connection() as connection:
            match given[0]:
                case "token_id":
                    timeline = await of_token(connection, _id(query, "token_id"), part)
                case "family_id":
                    timeline = await of_family(connection, _id(query, "family_id"), part)
                case "subject_id":
                    timeline = await of_subject(connection, _id(query, "subject_id"), part)
                case _:
                    timeline = await of_client(connection, query["client"], part)
        # Names as of now: from after the reading, so that there is one for whatever was read.
        _, kept = await service.find(NOBODY)
        names = await names_of_subjects(service, timeline.page.events)
        resp.media = {
            **timeline.of,
            "entries": [
                {
                    "position": event.position,
                    "instant": rfc3339(event.recorded_at),
                    "who": who(event, names, kept),
                    "what": event.type,
                    "about": about(event, timeline.of),
                    "why": why(event),
                    "after": state_answer(timeline.after.get(event.position), event.position, kept),
                    **({"evidence": await _evidence(service, event)} if event.type == "reuse_detected" else {}),
                }
                for event in timeline.page.events
            ],
            "now": now_answer(timeline.now, timeline.page, kept),
            **_where(timeline.page),
        }


def _where(page: EventPage) -> dict[str, Any]:
    return {
        "next": None if page.next is None else str(page.next),
        "position": page.position,
        "instant": rfc3339(page.instant),
        "log_id": str(page.log_id),
    }


# ----------------------------------------------------------------------------------------------------------- the query


def _filters(query: dict[str, str], kept: Kept) -> Filters:
    ids = {name: read_uuid(query, name, None) for name in IDS}
    return Filters(
        **ids,
        client_id=_client_id(query["client"], kept) if "client" in query else None,
        api_id=_api_id(query["api"], kept) if "api" in query else None,
        types=read_types(query, "type"),
    )


def _span(query: dict[str, str]) -> Span:
    return Span(
        from_position=read_position(query, "from_position"),
        to_position=read_position(query, "to_position"),
        from_time=read_instant(query, "from_time"),
        to_time=read_instant(query, "to_time"),
        newest_first=read_choice(query, "order", ("newest", "oldest")) != "oldest",
        cursor=read_cursor(query),
    )


def _id(query: dict[str, str], name: str) -> UUID:
    identifier = uuid_of(query[name])
    if identifier is None:
        raise InvalidInput.of(name, "a UUID")
    return identifier


def _client_id(name: str, kept: Kept) -> UUID:
    client_id = client_id_of(name)
    if client_id not in kept.clients:
        raise UnknownClient(name)
    return client_id


def _api_id(name: str, kept: Kept) -> UUID:
    api_id = api_id_of(name)
    if api_id not in kept.apis:
        raise UnknownApi(name)
    return api_id


async def _evidence(service: Service, event: RecordedEvent) -> dict[str, Any]:
    """Answer what is known of a reuse: what was presented, what it looks like, and who, as far as the subject is not erased."""
    payload = event.payload
    subject_id = UUID(payload["subject_id"])
    sealed_keys = await read_sealed_keys(service.pool, [subject_id])
    key = SubjectKey.open(service.master, subject_id, sealed_keys[subject_id]) if subject_id in sealed_keys else None

    def opened(sealed: str | None) -> Any:
        return None if key is None or sealed is None else json.loads(key.unseal(bytes.fromhex(sealed), "presenter"))

    return {
        "generation_presented": payload["generation_presented"],
        "generation_current": payload["generation_current"],
        "seconds_since_rotation": payload["seconds_since_rotation"],
        "verdict": payload["verdict"],
        "presented_by": opened(payload["sealed_presented_by"]),
        "rotated_by": opened(payload["family"]["sealed_rotated_by"]),
    }
