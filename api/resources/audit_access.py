"""/v1/audit, about access: what a decision says of a token by its id, now or as of the past.

For whoever may GET /v1/**, who needs no secret of the token for that. Whoever has it asks /access/v1/evaluation.
"""

from typing import Final

from falcon.asgi import Request, Response

from api.asking import authorize, decide_token
from api.pages import THEN, read_query, read_then, read_uuid
from api.resources.access import evaluation_answer
from api.service import Service
from ledger.apis import api_id_of
from ledger.errors import InvalidInput, Problem, UnknownApi

QUESTION: Final = ("token_id", "api", "method", "path")


class AuditDecision:
    """GET /v1/audit/decision."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer whether a token may call a method on a path of an API, or could then, as the API itself is answered."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, (*QUESTION, *THEN))
        needed(query, QUESTION)
        api_id = api_id_of(query["api"])
        if api_id not in caller.kept.apis:
            raise UnknownApi(query["api"])
        token_id = read_uuid(query, "token_id", None)
        assert token_id is not None
        then = read_then(query)
        resp.media = evaluation_answer(await decide_token(service, token_id, api_id, query["method"], query["path"], then))


def needed(query: dict[str, str], names: tuple[str, ...]) -> None:
    """InvalidInput that names every parameter of these that is not there."""
    missing = [Problem(name, "is needed") for name in names if not query.get(name)]
    if missing:
        raise InvalidInput(missing)
