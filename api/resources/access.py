"""POST /access/v1/evaluation: may this token call METHOD on this path? (OpenID AuthZEN Authorization API 1.0)

The subject is a token, the action a method, the resource a path of the asking client's API. A context with `as_of` asks what
the answer was then: the past is asked by whoever may ask now.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import Answered, Asker, Then, asker_of, decide_access, decide_accesses
from api.body import read_json
from api.pages import read_then
from api.service import Service
from ledger.cascade import TokenStanding
from ledger.errors import InvalidInput, Problem
from ledger.instants import rfc3339

MAX_EVALUATIONS: Final = 100
_Question = tuple[str, str, str, Then | None]
SEMANTICS_OF_BATCH: Final = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")


class Evaluation:
    """One question, one answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer a decision with its reason; a malformed question is 400, a no is 200."""
        asker = asker_of(req)
        question = _members(await read_json(req, floats=True), "")
        text, method, target = _parts(question)
        resp.media = evaluation_answer(await decide_access(self._service, text, asker, method, target, _then(question)))


class Evaluations:
    """Many questions; what stands at the top is the default of each (AuthZEN 1.0 section 7)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer each in order; a short-circuit ends the list with the item that decided it."""
        asker = asker_of(req)
        body = _members(await read_json(req, floats=True), "")
        items = body.get("evaluations", [])
        if items == []:
            text, method, target = _parts(body)
            resp.media = evaluation_answer(await decide_access(self._service, text, asker, method, target, _then(body)))
            return
        if not isinstance(items, list) or len(items) > MAX_EVALUATIONS:
            raise InvalidInput.of("evaluations", f"a list of at most {MAX_EVALUATIONS}")
        options = _members(body.get("options", {}), "options")
        semantic = options.get("evaluations_semantic", "execute_all")
        if semantic not in SEMANTICS_OF_BATCH:
            raise InvalidInput.of("options.evaluations_semantic", "one of " + ", ".join(SEMANTICS_OF_BATCH))
        answers = await self._evaluate([_question(body, item, number) for number, item in enumerate(items)], asker)
        decisive = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(semantic)
        last = next((n for n, answer in enumerate(answers) if answer["decision"] is decisive), len(answers))
        resp.media = {"evaluations": answers[: last + 1]}

    async def _evaluate(self, questions: list[_Question | InvalidInput], asker: Asker) -> list[dict[str, Any]]:
        """Answer each question: a token is looked up once, for all that is asked of it as of the same moment."""
        answers: list[dict[str, Any]] = [{} for _ in questions]
        of_tokens: dict[tuple[str, Then | None], list[tuple[int, str, str]]] = {}
        for number, question in enumerate(questions):
            if isinstance(question, InvalidInput):
                answers[number] = _incomplete(question)
            else:
                text, method, target, then = question
                of_tokens.setdefault((text, then), []).append((number, method, target))

        async def decide(text: str, then: Then | None, asked: list[tuple[int, str, str]]) -> None:
            routes = [(method, target) for _, method, target in asked]
            try:
                answered = await decide_accesses(self._service, text, asker, routes, then)
            except InvalidInput as error:  # of a moment that has not come
                for number, _, _ in asked:
                    answers[number] = _incomplete(error)
                return
            for (number, _, _), one in zip(asked, answered, strict=True):
                answers[number] = evaluation_answer(one)

        if len(of_tokens) != 1:
            # Who asks comes first: a hundred tokens are a hundred signatures, and no token at all is no way in.
            await decide("", None, [])
        await asyncio.gather(*[decide(text, then, asked) for (text, then), asked in of_tokens.items() if then is None])
        # Of the past one after the other: a lookup is shared, a connection is not, and others need one as well.
        for (text, then), asked in of_tokens.items():
            if then is not None:
                await decide(text, then, asked)
        return answers


def evaluation_answer(answered: Answered) -> dict[str, Any]:
    """Answer the decision and, to the authenticated asker, all that is behind it."""
    decision = answered.decision
    context: dict[str, Any] = {
        "reason": decision.reason,
        "position": decision.position,
        "instant": rfc3339(decision.instant),
        "semantics": decision.semantics,
        "log_id": str(answered.found.log_id),
        "evidence": decision.evidence,
    }
    if decision.token_stands and answered.standing is not None:
        context["token"] = _token_answer(answered, answered.standing)
    if decision.rule is not None:
        context["rule"] = decision.rule
    if decision.missing is not None:
        context["missing"] = decision.missing
    return {"decision": decision.allowed, "context": context}


def _token_answer(answered: Answered, token: TokenStanding) -> dict[str, Any]:
    """Answer whose token it is: what an API needs to know of who calls, and of no other API.

    `roles`: those of the asking API that the subject holds and the token's scope leaves it. `scope` None: nothing is left out.
    """
    kept = answered.kept

    def of_this_api(role_ids: Iterable[UUID]) -> list[UUID]:
        return [role_id for role_id in role_ids if kept.roles[role_id].api_id == answered.api_id]

    scope = None if token.role_ids is None else of_this_api(token.role_ids)
    held = [role_id for role_id in of_this_api(token.subject_role_ids) if scope is None or role_id in scope]
    return {
        "token_id": str(token.token_id),
        "subject_id": str(token.subject_id),
        "client_id": kept.clients[token.client_id].name,
        "roles": kept.role_names(held),
        "scope": kept.scope_text(scope, token.direct),
        "expires_at": rfc3339(token.expires_at),
    }


def _question(body: dict[str, Any], item: object, number: int) -> _Question | InvalidInput:
    """Answer token, method, path and moment of an item, or what is wrong with it; its defaults stand at the top of the body."""
    try:
        members = body | _members(item, f"evaluations.{number}")
        return *_parts(members), _then(members)
    except InvalidInput as error:
        return error


def _then(question: dict[str, Any]) -> Then | None:
    """Answer as of when a question is asked: its context is where AuthZEN leaves room for that."""
    return read_then(_members(question.get("context", {}), "context"), "context.")


def _incomplete(error: InvalidInput) -> dict[str, Any]:
    """An item that says too little is no reason to refuse the others: it is a no (AuthZEN 1.0 section 7.2.1)."""
    return {"decision": False, "context": {"reason": "incomplete_question", "error": {"status": 400, "message": str(error)}}}


def _members(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput.of(field, "an object")
    return value


def _parts(question: dict[str, Any]) -> tuple[str, str, str]:
    """Answer token, method and path of a question; members we do not know are allowed by AuthZEN, and not looked at."""
    problems: list[Problem] = []

    def text(entity: str, member: str, wanted: str | None = None) -> str:
        value = question.get(entity)
        if not isinstance(value, dict):
            problems.append(Problem(entity, "an object"))
            return ""
        found = value.get(member)
        if not isinstance(found, str) or not found:
            problems.append(Problem(f"{entity}.{member}", "a string that is not empty"))
            return ""
        if wanted is not None and found != wanted:
            problems.append(Problem(f"{entity}.{member}", f'"{wanted}" is what this ledger decides on'))
        return found

    text("subject", "type", "token")
    token = text("subject", "id")
    method = text("action", "name")
    text("resource", "type", "route")
    target = text("resource", "id")
    if problems:
        # The same member twice wrong (not an object) is said once.
        raise InvalidInput(list(dict.fromkeys(problems)))
    return token, method, target
