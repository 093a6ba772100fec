"""How a step of taking an incident back (ledger/undoing.py) is carried out: by the decision of the endpoint that does the same,
and only for whoever may call that endpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from api.resources.keys import make_spare
from api.service import NOBODY, Service
from ledger import apis, clients, keys, subjects
from ledger.errors import PlanIsPast
from ledger.events import Event
from ledger.execute import Reading, Receipt, execute
from ledger.instants import read_rfc3339
from ledger.log import Envelope
from ledger.states import RuleOfApi, RuleOfRole, State
from ledger.tokens import change_family, change_token
from ledger.undoing import Step
from projections.blast_radius import read_changed_since
from projections.reading import Keys
from projections.reference import Kept

Decide = Callable[[State, datetime], Sequence[Event]]

_ENDPOINTS = {
    "withdraw_roles": ("POST", "/roles/withdraw"),
    "grant_roles": ("POST", "/roles"),
    "withdraw_rules": ("POST", "/rules/withdraw"),
    "grant_rules": ("POST", "/rules"),
    "set_clearance": ("PUT", "/clearance"),
    "remove": ("DELETE", ""),
    "revoke": ("POST", "/revoke"),
    "suspend": ("POST", "/suspend"),
    "reinstate": ("POST", "/reinstate"),
}
_COLLECTIONS = {"token": "tokens", "family": "families", "subject": "subjects", "key": "keys"}


def endpoint_of(step: Step, kept: Kept) -> tuple[str, str]:
    """Answer the method and path that do the same as a step."""
    method, below = _ENDPOINTS[step.verb]
    return method, _path_of(step, kept) + below


def _path_of(step: Step, kept: Kept) -> str:
    if step.kind == "client":
        return f"/v1/clients/{quote(kept.clients[step.target].name, safe='')}"
    if step.kind == "api":
        return f"/v1/apis/{quote(kept.apis[step.target].name, safe='')}"
    if step.kind == "role":
        role = kept.roles[step.target]
        return f"/v1/apis/{quote(kept.apis[role.api_id].name, safe='')}/roles/{quote(role.name, safe='')}"
    return f"/v1/{_COLLECTIONS[step.kind]}/{step.target}"


async def take_back(
    service: Service, envelope: Envelope, step: Step, as_of: int, reason: str | None
) -> Receipt[tuple[State, int | None]]:
    """Carry out a step of a plan as of a position, caused by the event that it takes back.

    PlanIsPast where somebody else has changed the same thing since: what is set back would be his. What is revoked is revoked
    all the same. And what the decision raises.
    """
    wanted, decide = await _decision(service, step, reason)
    stream = step.family_id if step.kind == "token" and step.family_id is not None else step.target

    async def read() -> Reading[tuple[State, int | None]]:
        reading = await service.states.read(wanted)
        past = None
        if step.verb != "revoke":
            # After the versions: what is changed later than this is a conflict.
            async with service.pool.connection() as connection:
                past = await read_changed_since(connection, stream, as_of, envelope.correlation_id)
        return Reading((reading.state, past), reading.versions, reading.position, reading.instant)

    def checked(read: tuple[State, int | None], now: datetime) -> Sequence[Event]:
        state, past = read
        if past is not None:
            raise PlanIsPast(f"somebody changed it at position {past}, since the plan was made")
        return decide(state, now)

    caused = replace(envelope, causation=step.position)
    return await execute(service.appender, service.pool, caused, read, checked, urgent=True)


async def _decision(service: Service, step: Step, reason: str | None) -> tuple[Keys, Decide]:
    """Answer what is to be read, and decided."""
    target = step.target
    match step.kind:
        case "token":
            verb: Any = step.verb
            assert step.family_id is not None
            why, until = _suspension(step, reason)
            return Keys(tokens=[target], families=[step.family_id]), lambda state, now: change_token(
                state, now, token_id=target, verb=verb, reason=why, until=until
            )
        case "family":
            verb = step.verb
            why, until = _suspension(step, reason)
            return Keys(families=[target]), lambda state, now: change_family(
                state, now, family_id=target, verb=verb, reason=why, until=until
            )
        case "subject":
            return _of_subject(step, reason)
        case "client":
            return Keys(clients=[target]), _of_status(clients.suspend, clients.reinstate, step, reason, client_id=target)
        case "api":
            return Keys(apis=[target]), _of_status(apis.suspend, apis.reinstate, step, reason, api_id=target)
        case "role":
            return await _of_role(service, step)
        case "key":
            _, kept = await service.find(NOBODY)
            spare = await make_spare(service, kept, target)
            others = [target] if spare is None else [target, spare.key_id]
            return Keys(every_key=True, keys=others), lambda state, now: keys.revoke(
                state, now, key_id=target, reason=reason or "an incident", spare=spare
            )


def _of_subject(step: Step, reason: str | None) -> tuple[Keys, Decide]:
    subject_id, value = step.target, step.value
    wanted = Keys(subjects=[subject_id], administrators=True)
    match step.verb:
        case "withdraw_roles":
            role_ids = [UUID(role_id) for role_id in value]
            return wanted, lambda state, now: subjects.withdraw_roles(state, now, subject_id=subject_id, role_ids=role_ids)
        case "grant_roles":
            role_ids = [UUID(role_id) for role_id in value]
            return replace(wanted, roles=role_ids), lambda state, now: subjects.grant_roles(
                state, now, subject_id=subject_id, role_ids=role_ids
            )
        case "withdraw_rules":
            rule_ids = [UUID(rule["rule_id"]) for rule in value]
            return Keys(subjects=[subject_id], rules_of_subjects=[subject_id]), lambda state, now: subjects.withdraw_rules(
                state, now, subject_id=subject_id, rule_ids=rule_ids
            )
        case "grant_rules":
            own = [_rule_of_api(rule) for rule in value]
            of_apis = list(dict.fromkeys(rule.api_id for rule in own))
            return Keys(
                subjects=[subject_id], rules_of_subjects=[subject_id], apis=of_apis
            ), lambda state, now: subjects.grant_rules(state, now, subject_id=subject_id, rules=own)
        case "set_clearance":
            return Keys(subjects=[subject_id]), lambda state, now: subjects.set_clearance(
                state, now, subject_id=subject_id, clearance=value["clearance"]
            )
        case _:
            return wanted, _of_status(subjects.suspend, subjects.reinstate, step, reason, subject_id=subject_id)


async def _of_role(service: Service, step: Step) -> tuple[Keys, Decide]:
    role_id = step.target
    if step.verb == "remove":
        _, kept = await service.find(NOBODY)
        role = kept.roles[role_id]
        name = apis.role_name_id(role.api_id, role.name)
        return Keys(roles=[role_id], names=[name]), lambda state, now: apis.remove_role(state, now, role_id=role_id)
    rules = [_rule_of_role(rule) for rule in step.value]
    wanted = Keys(roles=[role_id], rules=[(role_id, rule.rule_id) for rule in rules])
    if step.verb == "withdraw_rules":
        return wanted, lambda state, now: apis.withdraw_rules(state, now, role_id=role_id, rules=rules)
    return wanted, lambda state, now: apis.grant_rules(state, now, role_id=role_id, rules=rules)


def _of_status(
    suspend: Callable[..., list[Event]], reinstate: Callable[..., list[Event]], step: Step, reason: str | None, **target: UUID
) -> Decide:
    why, until = _suspension(step, reason)
    if step.verb == "reinstate":
        return lambda state, now: reinstate(state, now, **target, reason=why)
    # Its end may have come meanwhile: then it stands as it would.
    return lambda state, now: (
        [] if until is not None and until <= now else suspend(state, now, **target, reason=why, until=until)
    )


def _suspension(step: Step, reason: str | None) -> tuple[str | None, datetime | None]:
    """Answer the reason, and the end of a suspension that is made again."""
    if step.verb != "suspend" or step.value is None:
        return reason, None
    until = step.value["until"]
    return step.value["reason"] or reason, None if until is None else read_rfc3339(until)


def _rule_of_api(rule: dict[str, Any]) -> RuleOfApi:
    of_role = _rule_of_role(rule)
    return RuleOfApi(
        of_role.rule_id, UUID(rule["api_id"]), of_role.effect, of_role.methods, of_role.path, of_role.min_clearance
    )


def _rule_of_role(rule: dict[str, Any]) -> RuleOfRole:
    return RuleOfRole(UUID(rule["rule_id"]), rule["effect"], tuple(rule["methods"]), rule["path"], rule["min_clearance"])
