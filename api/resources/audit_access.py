"""/v1/audit, about access: what a decision says of a token by its id, now or as of the past.

For whoever may GET /v1/**, who needs no secret of the token for that. Whoever has it asks /access/v1/evaluation.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import Answered, Then, authorize, decide_token
from api.explaining import explain, explanation_answer
from api.pages import THEN, read_query, read_then, read_uuid
from api.resources.access import evaluation_answer
from api.service import Service
from ledger.apis import api_id_of
from ledger.errors import InvalidInput, Problem, UnknownApi
from projections.reference import Kept

QUESTION: Final = ("token_id", "api", "method", "path")


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


def needed(query: dict[str, str], names: tuple[str, ...]) -> None:
    """InvalidInput that names every parameter of these that is not there."""
    missing = [Problem(name, "is needed") for name in names if not query.get(name)]
    if missing:
        raise InvalidInput(missing)
