"""/v1/audit, of now or the past: what is decided about a token, by its id; which subjects could call something; what changed.

For whoever may GET /v1/**, who needs no secret of the token for that. Whoever has it asks /access/v1/evaluation.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import Answered, Then, authorize, decide_token
from api.explaining import explain, explanation_answer
from api.pages import THEN, read_choice, read_cursor, read_limit, read_place, read_query, read_then, read_uuid
from api.resources.access import evaluation_answer
from api.service import Service
from ledger.apis import api_id_of
from ledger.decisions import SEMANTICS
from ledger.errors import InvalidInput, Problem, UnknownApi
from ledger.instants import rfc3339
from projections.changes import KINDS, read_changes
from projections.listing import FIRST
from projections.reference import Kept
from projections.who_could import who_could

ROUTE: Final = ("api", "method", "path")
QUESTION: Final = ("token_id", *ROUTE)


class AuditDecision:
    """GET /v1/audit/decision."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer whether a token may call a method on a path of an API, or could then, as the API itself is answered."""
        service = self._service
        caller = await authorize(req, service)
        resp.media = evaluation_answer(await read_question(req, caller.kept).decided(service))


class AuditExplanation:
    """GET /v1/audit/explain."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer the same decision in sentences: who made it so, when, and why."""
        service = self._service
        caller = await authorize(req, service)
        question = read_question(req, caller.kept)
        answered = await question.decided(service)
        sentences = await explain(service, answered, question.api_id, question.method, question.path)
        resp.media = evaluation_answer(answered) | {"sentences": explanation_answer(sentences)}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of both: a token by its id, an API, a method, a path, and perhaps as of when."""

    token_id: UUID
    api_id: UUID
    method: str
    path: str
    then: Then | None

    async def decided(self, service: Service) -> Answered:
        """Answer the decision. InvalidInput about `then`."""
        return await decide_token(service, self.token_id, self.api_id, self.method, self.path, self.then)


def read_question(req: Request, kept: Kept) -> Question:
    """Answer what is asked. InvalidInput, UnknownApi."""
    query = read_query(req, (*QUESTION, *THEN))
    needed(query, QUESTION)
    api_id = api_id_of(query["api"])
    if api_id not in kept.apis:
        raise UnknownApi(query["api"])
    token_id = read_uuid(query, "token_id", None)
    assert token_id is not None
    return Question(token_id, api_id, query["method"], query["path"], read_then(query))


class AuditWhoCould:
    """GET /v1/audit/who-could."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer which subjects may call a method on a path of an API, or could then, by their roles and rules. A page may hold
        fewer than its limit, and go on."""
        service = self._service
        await authorize(req, service)
        query = read_query(req, (*ROUTE, *THEN, "cursor", "limit"))
        needed(query, ROUTE)
        then, limit, after = read_then(query), read_limit(query), read_uuid(query, "cursor", FIRST)
        moment = await service.moment(None if then is None else then.as_of)
        semantics = SEMANTICS if then is None else then.semantics
        api_id = api_id_of(query["api"])
        async with service.pool.connection() as connection:
            page = await who_could(
                connection, moment, api_id, query["method"], query["path"], semantics, after=after, limit=limit
            )
        resp.media = {
            "subjects": [
                {
                    "subject_id": str(able.subject_id),
                    "kind": able.kind,
                    "rule": able.decision.rule,
                    "evidence": {"subject": able.position} | able.decision.evidence,
                }
                for able in page.subjects
            ],
            "next": None if page.next is None else str(page.next),
            "position": moment.position,
            "instant": rfc3339(moment.instant),
            "semantics": semantics,
            "log_id": str(moment.log_id),
        }


class AuditChanges:
    """GET /v1/audit/changes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer what is in another state at `to`, or now, than it was at `from`; each a position or a time. A page may hold
        fewer than its limit, and go on."""
        service = self._service
        await authorize(req, service)
        query = read_query(req, ("from", "to", "kind", "cursor", "limit"))
        needed(query, ("from",))
        first, last = await service.moment(read_place(query, "from")), await service.moment(read_place(query, "to"))
        if last.position < first.position:
            raise InvalidInput.of("to", "not before `from`")
        kind, cursor, limit = read_choice(query, "kind", KINDS), read_cursor(query), read_limit(query)
        async with service.pool.connection() as connection:
            page = await read_changes(connection, first.position, last.position, kind=kind, cursor=cursor, limit=limit)
        resp.media = {
            "changes": [
                {
                    "kind": change.kind,
                    "id": str(change.id),
                    "what": change.type,
                    "before_position": change.before,
                    "after_position": change.position,
                }
                for change in page.changes
            ],
            "next": None if page.next is None else str(page.next),
            "from_position": first.position,
            "to_position": last.position,
            "log_id": str(last.log_id),
        }


def needed(query: dict[str, str], names: tuple[str, ...]) -> None:
    """InvalidInput that names every parameter of these that is not there."""
    missing = [Problem(name, "is needed") for name in names if not query.get(name)]
    if missing:
        raise InvalidInput(missing)
