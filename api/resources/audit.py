"""/v1/audit: what happened, by whom and when; and the timeline of a token, a family, a subject or a client.

For whoever may GET /v1/**: auditors, operators, administrators. What is withheld and why: docs/audit.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import authorize
from api.pages import read_choice, read_cursor, read_instant, read_limit, read_position, read_query, read_uuid, uuid_of
from api.people import profiles_of
from api.service import Service
from ledger.apis import api_id_of
from ledger.cascade import TokenStanding
from ledger.clients import client_id_of
from ledger.errors import InvalidInput, Problem, UnknownApi, UnknownClient, UnknownSubject
from ledger.events import EVENT_TYPES
from ledger.instants import rfc3339
from ledger.sealing import SubjectKey
from ledger.standing import Standing, standing_of
from ledger.states import Client, Subject
from ledger.statuses import stands
from ledger.tokens import UnknownFamily, UnknownToken
from projections.audit import (
    Connection,
    EventPage,
    Filters,
    RecordedEvent,
    Span,
    read_clients_as_of,
    read_events,
    read_families_as_of,
    read_life,
    read_subjects_as_of,
    read_succession,
)
from projections.lookup import look_up
from projections.reading import Keys, read_state
from projections.reference import Kept, read_reference_as_of
from projections.sealed_keys import read_sealed_keys

MAX_TYPES: Final = 20
IDS: Final = ("subject_id", "token_id", "family_id", "role_id", "key_id", "actor_id")
FILTERS: Final = (*IDS, "client", "api", "type")
SPAN: Final = ("from_time", "to_time", "from_position", "to_position", "order", "limit", "cursor")
WHOSE: Final = ("token_id", "family_id", "subject_id", "client")

# What tells a right secret from a wrong one, wherever it stands in a row.
VERIFIERS: Final = frozenset(["secret_digest", "secret_digests", "sealed_password"])
WITHHELD: Final = "withheld"

# Where an event has its reason, if it was given one.
_REASONS: Final[Mapping[str, str]] = {
    "token_suspended": "token_state",
    "token_reinstated": "token_state",
    "token_revoked": "token_state",
    "family_suspended": "family",
    "family_reinstated": "family",
    "family_revoked": "family",
    "reuse_detected": "family",
    "subject_suspended": "subject",
    "subject_reinstated": "subject",
    "subject_erased": "subject",
    "client_suspended": "client",
    "client_reinstated": "client",
    "api_suspended": "api",
    "api_reinstated": "api",
}
# What can change whether a token stands: about the token itself, and about what it hangs on.
_OF_TOKEN: Final = ("token_issued", "token_rotated", "token_suspended", "token_reinstated", "token_revoked")
_OF_ITS_FAMILY: Final = ("family_suspended", "family_reinstated", "family_revoked", "reuse_detected")
_OF_OTHERS: Final = (
    "subject_suspended",
    "subject_reinstated",
    "subject_password_set",
    "subject_tokens_revoked",
    "subject_erased",
    "client_suspended",
    "client_reinstated",
    "client_tokens_revoked",
    "api_suspended",
    "api_reinstated",
    "api_tokens_revoked",
    "key_revoked",
)


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
        resp.media = {"events": [_event_answer(event) for event in page.events], **_where(page)}


class AuditTimeline:
    """GET /v1/audit/timeline."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer what happened to one token, family, subject or client, oldest first, with the state after each."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, (*WHOSE, "limit", "cursor"))
        given = [name for name in WHOSE if name in query]
        if len(given) != 1:
            raise InvalidInput([Problem(name, f"exactly one of: {', '.join(WHOSE)}") for name in given or WHOSE])
        asked = _Asked(caller.kept, read_cursor(query), read_limit(query))
        async with service.pool.connection() as connection:
            match given[0]:
                case "token_id":
                    timeline = await _of_token(connection, asked, _id(query, "token_id"))
                case "family_id":
                    timeline = await _of_family(connection, asked, _id(query, "family_id"))
                case "subject_id":
                    timeline = await _of_subject(connection, asked, _id(query, "subject_id"))
                case _:
                    timeline = await _of_client(connection, asked, query["client"])
        names = await _names_of_subjects(service, timeline.page.events)
        resp.media = {
            **timeline.of,
            "entries": [
                {
                    "position": event.position,
                    "instant": rfc3339(event.recorded_at),
                    "who": _who(event, names, caller.kept),
                    "what": event.type,
                    "about": _about(event, timeline.of),
                    "why": _why(event),
                    "after": timeline.after.get(event.position),
                    **({"evidence": await _evidence(service, event)} if event.type == "reuse_detected" else {}),
                }
                for event in timeline.page.events
            ],
            "now": timeline.now,
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
        types=_types(query["type"]) if "type" in query else None,
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


def _types(text: str) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(text.split(",")))
    for name in types:
        if name not in EVENT_TYPES:
            raise InvalidInput.of("type", f"there is no event type {name[:64]!r}")
    if len(types) > MAX_TYPES:
        raise InvalidInput.of("type", f"at most {MAX_TYPES}")
    return types


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


# ---------------------------------------------------------------------------------------------------------- the events


def _event_answer(event: RecordedEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "stream": str(event.stream),
        "version": event.version,
        "type": event.type,
        "schema_version": event.schema_version,
        "recorded_at": rfc3339(event.recorded_at),
        "payload": without_verifiers(event.payload),
        **{name: event.metadata[name] for name in ("command_id", "request_id", "correlation_id", "causation")},
        "actor": event.metadata["actor"],
        "semantics": event.metadata["semantics"],
    }


def without_verifiers(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a payload as recorded, but for what secrets are checked against: that it is there is said, not what it is.

    From the digest of 256 random bits nothing can be computed, and a sealed password hash cannot be opened; yet no question
    of an auditor needs them, and an answer ends up in files that live longer than the reasons why they are harmless.
    """
    return {name: _without_verifiers(member) for name, member in payload.items()}


def _without_verifiers(member: Any) -> Any:
    """Answer a row, or rows, of a payload; nothing below (claims) is the ledger's own."""
    if isinstance(member, list):
        return [_without_verifiers(item) for item in member]
    if not isinstance(member, dict):
        return member
    return {name: _withheld(value) if name in VERIFIERS else value for name, value in member.items()}


def _withheld(value: Any) -> Any:
    if isinstance(value, list):
        return [WITHHELD for _ in value]
    return None if value is None else WITHHELD


# -------------------------------------------------------------------------------------------------------- the timelines


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a timeline is asked for: which part, and names as they are now."""

    kept: Kept
    cursor: int | None
    limit: int

    @property
    def span(self) -> Span:
        """The part of the log that follows the page before."""
        return Span(newest_first=False, cursor=self.cursor)


@dataclass(frozen=True, slots=True)
class _Timeline:
    """A page of what happened to `of`, the state after each event by its position, and the state now."""

    of: dict[str, str]
    page: EventPage
    after: Mapping[int, dict[str, Any]]
    now: dict[str, Any]


async def _of_token(connection: Connection, asked: _Asked, token_id: UUID) -> _Timeline:
    """What happened to a token, and from its issue to its end to what it hangs on when that bears on whether it stands."""
    token = (await look_up(connection, [token_id]))[0].token
    if token is None:
        raise UnknownToken("there is no such token")
    turning_points = [token.position]
    succession = None
    if token.kind == "refresh":
        succession = await read_succession(connection, token.family_id, token.position, token.generation)
        turning_points += [] if succession is None else [succession]
    page = await read_life(
        connection,
        token_id,
        (token.family_id, token.subject_id, token.client_id, *token.api_ids, *token.key_ids),
        (*_OF_TOKEN, *_OF_ITS_FAMILY, *_OF_OTHERS),
        turning_points,
        token.expires_at,
        cursor=asked.cursor,
        limit=asked.limit,
    )
    events = [event for event in page.events if event.position == succession or _bears_on(event, token)]
    page = replace(page, events=events)
    standings = await _standings(
        connection, token, [(e.position, e.recorded_at) for e in events] + [(page.position, page.instant)]
    )
    *after, now = [_token_state(standing, asked.kept) for standing in standings]
    if now["state"] == "expired":
        now["expired_at"] = rfc3339(token.expires_at)
    states = {event.position: state for event, state in zip(events, after, strict=True)}
    return _Timeline({"token_id": str(token_id)}, page, states, now)


def _bears_on(event: RecordedEvent, token: TokenStanding) -> bool:
    """Say whether an event of these types is about the token, or about what it hangs on and can change whether it stands."""
    payload = event.payload
    if event.type in ("token_issued", "token_rotated"):
        return any(row["token_id"] == str(token.token_id) for row in payload["tokens"])
    if event.type in _OF_TOKEN:
        return bool(payload["token_id"] == str(token.token_id))
    if event.type == "subject_password_set" and not payload["cuts_off"]:
        return False
    return event.stream in (token.family_id, token.subject_id, token.client_id, *token.api_ids, *token.key_ids)


async def _standings(connection: Connection, token: TokenStanding, moments: Sequence[tuple[int, datetime]]) -> list[Standing]:
    """Answer what the token was worth at these moments: by the statement and the rule that answer live, as of then."""
    references = await read_reference_as_of(
        connection,
        [position for position, _ in moments],
        client_ids=[token.client_id],
        api_ids=token.api_ids,
        key_ids=token.key_ids,
    )
    standings: list[Standing] = []
    for position, instant in moments:
        (found,) = await look_up(connection, [token.token_id], position=position, instant=instant)
        assert found.token is not None
        standings.append(standing_of(found.token, references[position], instant))
    return standings


def _token_state(standing: Standing, kept: Kept) -> dict[str, Any]:
    return {
        "state": standing.state,
        "reason": standing.reason,
        "level": standing.level,
        "until": _instant(standing.until),
        "stands_for": sorted(kept.apis[api_id].name for api_id in standing.api_ids),
    }


async def _of_family(connection: Connection, asked: _Asked, family_id: UUID) -> _Timeline:
    """What happened to a family and its tokens. What it is worth now is what its token is worth: the refresh token, if any."""
    page = await read_events(connection, Filters(family_id=family_id), asked.span, limit=asked.limit)
    rows = await read_families_as_of(connection, family_id, _positions(page))
    row = rows.get(page.position)
    if row is None:
        raise UnknownFamily("there is no such family")
    after = {
        position: {"status": row.status, "until": _instant(row.status_until), "generation": row.generation}
        for position, row in rows.items()
    }
    token_id = row.refresh_token_id or row.access_token_id
    assert token_id is not None  # a family begins with its first tokens
    token = (await look_up(connection, [token_id]))[0].token
    assert token is not None
    (standing,) = await _standings(connection, token, [(page.position, page.instant)])
    now = _token_state(standing, asked.kept)
    if now["state"] == "expired":
        now["expired_at"] = rfc3339(token.expires_at)
    return _Timeline({"family_id": str(family_id)}, page, after, now)


async def _of_subject(connection: Connection, asked: _Asked, subject_id: UUID) -> _Timeline:
    page = await read_events(connection, Filters(subject_id=subject_id), asked.span, limit=asked.limit)
    rows = await read_subjects_as_of(connection, subject_id, _positions(page))
    if page.position not in rows:
        raise UnknownSubject(subject_id)
    kept = asked.kept

    def roles(row: Subject, position: int) -> list[str]:
        """Answer the names of the roles it had, those left out that were removed by then: names are for ever."""
        held = (kept.roles[role_id] for role_id in row.role_ids if role_id in kept.roles)
        return sorted(kept.role_name(role.role_id) for role in held if not (role.removed and role.position <= position))

    after = {
        position: {
            "status": row.status,
            "until": _instant(row.status_until),
            "clearance": row.clearance,
            "roles": roles(row, position),
            "cutoff_position": row.cutoff_position,
        }
        for position, row in rows.items()
    }
    return _Timeline({"subject_id": str(subject_id)}, page, after, _now("subject", rows[page.position], page.instant))


async def _of_client(connection: Connection, asked: _Asked, name: str) -> _Timeline:
    client_id = _client_id(name, asked.kept)
    page = await read_events(connection, Filters(client_id=client_id), asked.span, limit=asked.limit)
    rows = await read_clients_as_of(connection, client_id, _positions(page))
    after = {
        position: {
            "status": row.status,
            "until": _instant(row.status_until),
            "cutoff_position": row.cutoff_position,
            "grants": list(row.grants),
            "strategy": row.strategy,
            "refresh": row.refresh,
            "apis": sorted(asked.kept.apis[api_id].name for api_id in row.api_ids if api_id in asked.kept.apis),
        }
        for position, row in rows.items()
    }
    return _Timeline({"client": name}, page, after, _now("client", rows[page.position], page.instant))


def _positions(page: EventPage) -> list[int]:
    """Answer where the states of a timeline are asked for: after each event, and now."""
    return sorted({event.position for event in page.events} | {page.position})


def _now(kind: str, row: Subject | Client, instant: datetime) -> dict[str, Any]:
    """Answer the state at an instant: a suspension may be over."""
    if stands(row.status, row.status_until, instant):
        return {"state": "active", "reason": None}
    return {"state": row.status, "reason": f"{kind}_{row.status}", "until": _instant(row.status_until)}


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def _why(event: RecordedEvent) -> str | None:
    member = _REASONS.get(event.type)
    reason: str | None = None if member is None else event.payload[member]["status_reason"]
    return reason


def _about(event: RecordedEvent, of: Mapping[str, str]) -> dict[str, str]:
    """Answer what the event happened to: of tokens issued together, the one that is asked about or the access token."""
    if event.type in ("token_issued", "token_rotated"):
        token_ids = [row["token_id"] for row in event.payload["tokens"]]
        return {"kind": "token", "id": of["token_id"] if of.get("token_id") in token_ids else token_ids[0]}
    if event.type in _OF_TOKEN:
        return {"kind": "token", "id": event.payload["token_id"]}
    kind = "family" if event.type == "reuse_detected" else event.type.partition("_")[0]
    return {"kind": kind, "id": str(event.stream)}


async def _names_of_subjects(service: Service, events: Sequence[RecordedEvent]) -> dict[UUID, str]:
    """Answer the user names of the people who acted, as they are now: nobody's who was erased."""
    actors = {event.metadata["actor"]["id"] for event in events if event.metadata["actor"]["kind"] == "subject"}
    if not actors:
        return {}
    reading = await read_state(service.pool, Keys(subjects=[UUID(actor) for actor in actors]))
    profiles = await profiles_of(service, list(reading.state.subjects.values()))
    return {subject_id: profile["username"] for subject_id, profile in profiles.items() if "username" in profile}


def _who(event: RecordedEvent, names: Mapping[UUID, str], kept: Kept) -> dict[str, Any]:
    actor = event.metadata["actor"]
    name: str | None = None
    if actor["kind"] == "subject":
        name = names.get(UUID(actor["id"]))
    elif actor["kind"] == "client":
        client = kept.clients.get(UUID(actor["id"]))
        name = None if client is None else client.name
    return {"kind": actor["kind"], "id": actor["id"], "name": name, "authenticated_by": actor["authenticated_by"]}


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
