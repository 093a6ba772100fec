"""POST /access/v1/evaluation: may this token, or this user, call METHOD on this path? (OpenID AuthZEN Authorization API 1.0)

The subject is a token, a user by name or a subject by id, the action a method, the resource a path of the asking client's API
(docs/authzen.md). A context with `as_of` asks what the answer was then: the past is asked by whoever may ask now.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import UUID

from falcon.asgi import Request, Response

from api.asking import Answered, Asker, Then, asker_of, decide_accesses, decide_subject
from api.body import read_json
from api.pages import read_then, uuid_of
from api.service import Service
from ledger.cascade import TokenStanding
from ledger.decisions import Decision
from ledger.errors import InvalidInput, Problem
from ledger.instants import rfc3339
from ledger.user_names import user_name_id

MAX_EVALUATIONS: Final = 100
# What a subject may be: a bearer string; a subject's id, as in `sub`; a user name, which the interop scenario calls identity.
TYPES_OF_SUBJECT: Final = ("token", "subject", "user", "identity")
SEMANTICS_OF_BATCH: Final = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")


class _Asked(NamedTuple):
    """Whom a question is about, by a type and an id, and as of when."""

    type: str
    id: str
    then: Then | None


class _Question(NamedTuple):
    asked: _Asked
    method: str
    target: str


class Evaluation:
    """One question, one answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer a decision with its reason; a malformed question is 400, a no is 200."""
        asker = asker_of(req)
        question = _question(_members(await read_json(req, floats=True), ""))
        (resp.media,) = await _decide(self._service, asker, question.asked, [(question.method, question.target)])


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
            question = _question(body)
            (resp.media,) = await _decide(self._service, asker, question.asked, [(question.method, question.target)])
            return
        if not isinstance(items, list) or len(items) > MAX_EVALUATIONS:
            raise InvalidInput.of("evaluations", f"a list of at most {MAX_EVALUATIONS}")
        options = _members(body.get("options", {}), "options")
        semantic = options.get("evaluations_semantic", "execute_all")
        if semantic not in SEMANTICS_OF_BATCH:
            raise InvalidInput.of("options.evaluations_semantic", "one of " + ", ".join(SEMANTICS_OF_BATCH))
        answers = await self._evaluate([_item(body, item, number) for number, item in enumerate(items)], asker)
        decisive = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(semantic)
        last = next((n for n, answer in enumerate(answers) if answer["decision"] is decisive), len(answers))
        resp.media = {"evaluations": answers[: last + 1]}

    async def _evaluate(self, questions: list[_Question | InvalidInput], asker: Asker) -> list[dict[str, Any]]:
        """Answer each question: whoever it is about is looked up once, for all that is asked as of the same moment."""
        answers: list[dict[str, Any]] = [{} for _ in questions]
        together: dict[_Asked, list[tuple[int, str, str]]] = {}
        for number, question in enumerate(questions):
            if isinstance(question, InvalidInput):
                answers[number] = _incomplete(question)
            else:
                together.setdefault(question.asked, []).append((number, question.method, question.target))

        async def decide(asked: _Asked, places: list[tuple[int, str, str]]) -> None:
            try:
                answered = await _decide(self._service, asker, asked, [(method, target) for _, method, target in places])
            except InvalidInput as error:  # a moment that has not come, what can be no user name
                answered = [_incomplete(error)] * len(places)
            for (number, _, _), one in zip(places, answered, strict=True):
                answers[number] = one

        if len(together) != 1:
            # Who asks comes first: a hundred tokens are a hundred signatures, and no token at all is no way in.
            await decide(_Asked("token", "", None), [])
        live = [asked for asked in together if asked.type == "token" and asked.then is None]
        await asyncio.gather(*[decide(asked, together.pop(asked)) for asked in live])
        # The others one after the other: a lookup is shared, a connection is not, and others need one as well.
        for asked, places in together.items():
            await decide(asked, places)
        return answers


async def _decide(service: Service, asker: Asker, asked: _Asked, routes: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Answer what is decided about each method and target. InvalidInput, NotAuthenticated, NotAllowed."""
    if asked.type == "token":
        return [evaluation_answer(one) for one in await decide_accesses(service, asked.id, asker, routes, asked.then)]
    subject_id, name_id = None, None
    if asked.type == "subject":
        subject_id = uuid_of(asked.id)
        if subject_id is None:
            raise InvalidInput.of("subject.id", "the id of a subject")
    else:
        name_id = user_name_id(service.master, asked.id)
    moment, decisions = await decide_subject(service, asker, routes, asked.then, subject_id=subject_id, name_id=name_id)
    return [_answer(decision, moment.log_id, {}) for decision in decisions]


def evaluation_answer(answered: Answered) -> dict[str, Any]:
    """Answer a decision about a token and, to the authenticated asker, all that is behind it."""
    decision, token = answered.decision, answered.standing
    told = {"token": _token_answer(answered, token)} if decision.token_stands and token is not None else {}
    return _answer(decision, answered.found.log_id, told)


def _answer(decision: Decision, log_id: UUID | None, told: dict[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {
        "reason": decision.reason,
        "position": decision.position,
        "instant": rfc3339(decision.instant),
        "semantics": decision.semantics,
        "log_id": str(log_id),
        "evidence": decision.evidence,
        **told,
    }
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


def _item(body: dict[str, Any], item: object, number: int) -> _Question | InvalidInput:
    """Answer the question of an item, or what is wrong with it; its defaults stand at the top of the body."""
    try:
        return _question(body | _members(item, f"evaluations.{number}"))
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


def _question(question: dict[str, Any]) -> _Question:
    """Answer what is asked; members we do not know, `properties` among them, are allowed by AuthZEN, and not looked at."""
    problems: list[Problem] = []

    def text(entity: str, member: str, *wanted: str) -> str:
        value = question.get(entity)
        if not isinstance(value, dict):
            problems.append(Problem(entity, "an object"))
            return ""
        found = value.get(member)
        if not isinstance(found, str) or not found:
            problems.append(Problem(f"{entity}.{member}", "a string that is not empty"))
            return ""
        if wanted and found not in wanted:
            problems.append(Problem(f"{entity}.{member}", "what this ledger decides on: " + ", ".join(wanted)))
        return found

    asked = text("subject", "type", *TYPES_OF_SUBJECT), text("subject", "id")
    method = text("action", "name")
    text("resource", "type", "route")
    target = text("resource", "id")
    if problems:
        # The same member twice wrong (not an object) is said once.
        raise InvalidInput(list(dict.fromkeys(problems)))
    return _Question(_Asked(*asked, _then(question)), method, target)
