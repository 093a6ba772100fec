"""/v1/audit/blast-radius: what came of an incident, to the last event (ledger/blast_radius.py); and taking it back.

To be read by whoever may GET /v1/**. Taken back by operators and administrators, each step only by whoever may do it by itself.
What is read is the dry run: its plan, a function of the start, the position and the log, is what the run takes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import allowed, authorize
from api.body import Body, read_body
from api.commands import make_envelope
from api.event_answers import about, who, why
from api.pages import MAX_PAGE, read_cursor, read_instant, read_limit, read_position, read_query, read_uuid
from api.people import names_of_subjects
from api.resources.bodies import Reason
from api.service import NOBODY, Service
from api.undoing import endpoint_of, take_back
from ledger.blast_radius import MAX_LEFT_OUT, Closure, Line, Question, Start, edge_of
from ledger.errors import InvalidInput, NotFound, Problem, Refused
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.jsontext import MAX_INTEGER, dumps
from ledger.keys import UnknownKey
from ledger.log import Envelope
from ledger.rules import Rule
from ledger.tokens import UnknownToken
from ledger.undoing import Step, steps_of, streams_of
from projections.archived import refuse_archived_events, refuse_archived_rows, refuse_archived_token
from projections.audit import Span, resolve
from projections.blast_radius import read_closure, read_streams
from projections.reference import Kept, read_reference_as_of

STARTS: Final = ("token_id", "actor_id", "key_id")
FROM: Final = ("from_position", "from_time")
TO: Final = ("to_position", "to_time")
# Commands a request.
STEPS: Final = 50

Position = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


@dataclass(frozen=True, slots=True)
class Incident:
    """The closure of a start as of a position, with the reference data of that position or a later one."""

    closure: Closure
    position: int
    instant: datetime
    log_id: UUID
    kept: Kept
    steps: Sequence[Step]

    @property
    def plan_id(self) -> UUID:
        """The id of the plan: of the start, the position and the log, and so of the steps."""
        start = {name: None if value is None else str(value) for name, value in asdict(self.closure.start).items()}
        return name_id("blast-radius", str(self.log_id), str(self.position), dumps(start))

    def lines(self) -> list[Line]:
        """Answer the lines in the order of the log."""
        return [self.closure.lines[position] for position in sorted(self.closure.lines)]


class TakingBack(Body):
    """A run of the plan that a question answered: the same start, its position and its id."""

    token_id: UUID | None = None
    actor_id: UUID | None = None
    key_id: UUID | None = None
    from_position: Position | None = None
    to_position: Position | None = None
    from_time: str | None = None
    to_time: str | None = None
    as_of_position: Position
    plan_id: UUID
    reason: Reason | None = None
    cursor: str | None = None

    def query(self) -> dict[str, str]:
        """Answer the question that was answered with the plan."""
        members = self.model_dump(exclude={"plan_id", "reason", "cursor"}, exclude_none=True)
        return {name: str(value) for name, value in members.items()}


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
        positions = {line.event.position for line in page}
        # A bad key is not made by a line of the incident: its step stands with the first page.
        besides = [] if cursor else [step for step in incident.steps if step.position not in incident.closure.lines]
        steps = [*besides, *(step for step in incident.steps if step.position in positions)]
        undo = await _undo_answers(req, service, steps, incident.kept)
        resp.media = {
            "plan_id": str(incident.plan_id),
            "lines": [
                _line_answer(line, names, incident.kept)
                | {"undo": [answer for step, answer in undo if step.position == line.event.position]}
                for line in page
            ],
            "undo_besides": [answer for step, answer in undo if step.position not in positions],
            "count": len(incident.closure.lines),
            "steps": len(incident.steps),
            "complete": not left_out,
            "left_out": [_left_out(question) for question in left_out[:MAX_LEFT_OUT]],
            "next": str(page[-1].event.position) if len(following) > limit else None,
            "as_of_position": incident.position,
            "instant": rfc3339(incident.instant),
            "log_id": str(incident.log_id),
        }

    async def on_post(self, req: Request, resp: Response) -> None:
        """Take an incident back, some steps a request, as its plan said."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, TakingBack)
        incident = await self._read(body.query())
        if body.plan_id != incident.plan_id:
            raise InvalidInput.of("plan_id", "that of this start as of this position, as the question answered it")
        first = 0 if body.cursor is None else read_position({"cursor": body.cursor}, "cursor", "the `next` of the answer") or 0
        envelope = replace(make_envelope(req, service, caller.actor, repeatable=False), correlation_id=incident.plan_id)
        some = incident.steps[first : first + STEPS]
        undo = await _undo_answers(req, service, some, incident.kept)
        taken: list[dict[str, Any]] = []
        for number, (step, answer) in enumerate(undo, start=first):
            # Whoever does the same does it under the same id.
            command = replace(envelope, command_id=name_id("command", str(incident.plan_id), str(number)))
            outcome, position = await _outcome(service, command, step, answer, incident.position, body.reason)
            taken.append({"takes_back": step.position, **answer, "outcome": outcome, "position": position})
        following = first + STEPS if first + STEPS < len(incident.steps) else None
        resp.media = {
            "plan_id": str(incident.plan_id),
            "as_of_position": incident.position,
            "steps": taken,
            "done": following is None,
            "next": None if following is None else str(following),
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
            # Tokens of before that stood, and could use what was given.
            await refuse_archived_rows(connection, 1, began, began, standing=True)
            streams = await read_streams(connection, streams_of(closure), position)
            then = await read_reference_as_of(connection, [position], key_ids=[start.key_id] if start.key_id else [])
        key = None if start.key_id is None else then[position].keys.get(start.key_id)
        steps = steps_of(closure, streams, None if key is None else key.position)
        return Incident(closure, position, bounds.instant, bounds.log_id, kept, steps)


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


async def _undo_answers(req: Request, service: Service, steps: Sequence[Step], kept: Kept) -> list[tuple[Step, dict[str, Any]]]:
    """Answer the steps, each with whether the caller may take it."""
    able = [step for step in steps if step.verb != "none"]
    may = await allowed(req, service, [endpoint_of(step, kept) for step in able]) if able else []
    by_step = dict(zip(map(id, able), may, strict=True))
    return [
        (
            step,
            {
                "verb": step.verb,
                "kind": step.kind,
                "id": str(step.target),
                "value": _value_answer(step, kept),
                "may": by_step.get(id(step), False),
                "why": step.why,
            },
        )
        for step in steps
    ]


def _value_answer(step: Step, kept: Kept) -> Any:
    """Answer what a step sets, in words: roles by name, rules as lines."""
    if step.verb in ("withdraw_roles", "grant_roles"):
        return [kept.role_name(UUID(role_id)) for role_id in step.value]
    if step.verb in ("withdraw_rules", "grant_rules"):
        return [Rule(r["effect"], tuple(r["methods"]), r["path"], r["min_clearance"]).line() for r in step.value]
    return step.value


async def _outcome(
    service: Service, envelope: Envelope, step: Step, answer: dict[str, Any], as_of: int, reason: str | None
) -> tuple[str, int | None]:
    """Carry a step out; answer what became of it and where that is recorded. A refusal is no error: the others go on."""
    if step.verb == "none":
        return "left", None
    if not answer["may"]:
        return "not_allowed", None
    try:
        receipt = await take_back(service, envelope, step, as_of, reason)
    except (Refused, NotFound, InvalidInput) as error:
        return error.code, None
    return ("done", receipt.position) if receipt.events else ("nothing", None)
