"""/v1/audit/blast-radius: what came of an incident, to the last event (ledger/blast_radius.py).

To be read by whoever may GET /v1/**.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import authorize
from api.event_answers import about, who, why
from api.pages import MAX_PAGE, read_cursor, read_instant, read_limit, read_position, read_query, read_uuid
from api.people import names_of_subjects
from api.service import NOBODY, Service
from ledger.blast_radius import MAX_LEFT_OUT, Closure, Line, Question, Start, edge_of
from ledger.errors import InvalidInput, Problem
from ledger.instants import rfc3339
from ledger.keys import UnknownKey
from ledger.tokens import UnknownToken
from projections.archived import refuse_archived_events, refuse_archived_token
from projections.audit import Span, resolve
from projections.blast_radius import read_closure
from projections.reference import Kept

STARTS: Final = ("token_id", "actor_id", "key_id")
FROM: Final = ("from_position", "from_time")
TO: Final = ("to_position", "to_time")


@dataclass(frozen=True, slots=True)
class Incident:
    """The closure of a start as of a position, with the reference data of that position or a later one."""

    closure: Closure
    position: int
    instant: datetime
    log_id: UUID
    kept: Kept

    def lines(self) -> list[Line]:
        """Answer the lines in the order of the log."""
        return [self.closure.lines[position] for position in sorted(self.closure.lines)]


class BlastRadius:
    """The endpoint /v1/audit/blast-radius."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer everything that a token, an actor, a key or an interval led to, page by page, as of one position."""
        service = self._service
        await authorize(req, service)
        query = read_query(req, (*STARTS, *FROM, *TO, "as_of_position", "limit", "cursor"))
        limit, cursor = read_limit({"limit": str(MAX_PAGE)} | query), read_cursor(query) or 0
        incident = await self._read(query)
        following = [line for line in incident.lines() if line.event.position > cursor]
        page = following[:limit]
        names = await names_of_subjects(service, [line.event for line in page])
        left_out = incident.closure.left_out
        resp.media = {
            "lines": [_line_answer(line, names, incident.kept) for line in page],
            "count": len(incident.closure.lines),
            "complete": not left_out,
            "left_out": [_left_out(question) for question in left_out[:MAX_LEFT_OUT]],
            "next": str(page[-1].event.position) if len(following) > limit else None,
            "as_of_position": incident.position,
            "instant": rfc3339(incident.instant),
            "log_id": str(incident.log_id),
        }

    async def _read(self, query: dict[str, str]) -> Incident:
        """Answer the incident that a request names. InvalidInput, UnknownToken, UnknownKey, IsArchived."""
        service = self._service
        ids = {name: read_uuid(query, name, None) for name in STARTS}
        _check(query, [name for name, value in ids.items() if value is not None])
        span = Span(
            from_position=read_position(query, "from_position"),
            to_position=read_position(query, "to_position"),
            from_time=read_instant(query, "from_time"),
            to_time=read_instant(query, "to_time"),
        )
        as_of = read_position(query, "as_of_position")
        async with service.pool.connection() as connection:
            bounds = await resolve(connection, span)
        if as_of is not None and as_of > bounds.position:
            raise InvalidInput.of("as_of_position", f"a position that has come: the log ends at {bounds.position}")
        position = as_of or bounds.position
        # After the position was read: every role and key that is there up to it is known.
        found, kept = await service.find(ids["token_id"] or NOBODY)
        if ids["token_id"] is not None and found.token is None:
            async with service.pool.connection() as connection:
                await refuse_archived_token(connection, ids["token_id"], None)
            raise UnknownToken("there is no such token")
        if ids["key_id"] is not None and ids["key_id"] not in kept.keys:
            raise UnknownKey(ids["key_id"])
        start = Start(**ids, first=bounds.first, last=bounds.last if any(name in query for name in TO) else None)
        api_of_role = {role_id: role.api_id for role_id, role in kept.roles.items()}
        began = max(bounds.first, 0 if found.token is None else found.token.position)
        async with service.pool.connection() as connection:
            closure = await read_closure(connection, start, position, api_of_role)
            await refuse_archived_events(connection, began)
        return Incident(closure, position, bounds.instant, bounds.log_id, kept)


def _check(query: dict[str, str], ids: list[str]) -> None:
    """Refuse what is no start: InvalidInput."""
    if len(ids) > 1:
        raise InvalidInput([Problem(name, f"at most one of: {', '.join(STARTS)}") for name in ids])
    if ids:
        if beyond := [name for name in TO if name in query]:
            raise InvalidInput([Problem(name, f"not with {ids[0]}: what came of it has no end") for name in beyond])
    elif not any(name in query for name in FROM):
        raise InvalidInput([Problem(name, f"one of: {', '.join((*STARTS, *FROM))}") for name in (*STARTS, *FROM)])


def _line_answer(line: Line, names: dict[UUID, str], kept: Kept) -> dict[str, Any]:
    event = line.event
    token_ids = sorted(map(str, line.token_ids))
    return {
        "position": event.position,
        "instant": rfc3339(event.recorded_at),
        "edge": line.edge,
        "from": line.source,
        "what": event.type,
        "who": who(event, names, kept),
        "about": about(event, {"token_id": token_ids[0]} if token_ids else {}),
        "why": why(event),
        "token_ids": token_ids,
    }


def _left_out(question: Question) -> dict[str, Any]:
    return {"edge": edge_of(question), "from": question.source}
