"""/v1/apis/{name}/import: the roles of an API made what a document says: first a dry run, then exactly what it listed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import allowed, authorize
from api.body import Body, read_body
from api.commands import make_envelope
from api.resources.bodies import RuleBody, checked_rule
from api.service import Service
from ledger.apis import api_id_of, role_name_id
from ledger.errors import InvalidInput, NotAllowed, PlanIsPast, Problem
from ledger.events import Event
from ledger.execute import Reading, execute
from ledger.identifiers import uuid7
from ledger.imports import MAX_ROLES, MAX_STANDING, ImportPlan, Wanted, carry_out, make_plan
from ledger.names import check_name, check_role_name
from ledger.rules import Rule
from ledger.states import RuleOfRole, State
from projections.listing import read_rules_of_roles
from projections.reading import Keys
from projections.reference import Kept

Read = tuple[State, dict[UUID, dict[UUID, RuleOfRole]]]


class Import(Body):
    """Roles, each with all the rules that it is to have, and those to be removed; a dry run, or a run of what one listed."""

    roles: dict[str, tuple[str | RuleBody, ...]] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()
    dry_run: bool = False
    plan_id: UUID | None = None

    def wanted(self, api: str, kept: Kept) -> list[Wanted]:
        """Answer it with ids for names. InvalidInput names what is wrong."""
        names = [*self.roles, *self.remove]
        if len(names) > MAX_ROLES:
            raise InvalidInput.of("roles", f"at most {MAX_ROLES} roles, with those to be removed")
        if twice := {name for name in names if names.count(name) > 1}:
            raise InvalidInput(
                [Problem("remove", f"{name[:128]} once, and not a role that is to stay") for name in sorted(twice)]
            )
        wanted: list[Wanted] = []
        for name in names:
            check_role_name(name, "roles" if name in self.roles else "remove")
            rules = None
            if name in self.roles:
                made = [checked_rule(rule, f"roles.{name}.{number}").of_role() for number, rule in enumerate(self.roles[name])]
                rules = {rule.rule_id: rule for rule in made}
            role_id = kept.role_id(f"{api}:{name}")
            wanted.append(Wanted(role_id or uuid7(datetime.now(UTC)), name, rules))
        standing = sum(kept.roles[one.role_id].rule_count for one in wanted if one.role_id in kept.roles)
        if standing > MAX_STANDING:
            raise InvalidInput.of("roles", f"roles that hold at most {MAX_STANDING} rules together, these hold {standing}")
        return wanted


class Imports:
    """The endpoint /v1/apis/{name}/import."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response, name: str) -> None:
        """List what it takes to make the roles what they are to be, writing nothing; or do what such a list said, whole."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Import)
        check_name(name)
        if not body.dry_run and body.plan_id is None:
            raise InvalidInput.of("plan_id", "of the plan, as its dry run answered it")
        wanted = body.wanted(name, caller.kept)
        envelope = make_envelope(req, service, caller.actor)

        async def read() -> Reading[Read]:
            reading = await service.states.read(
                Keys(
                    apis=[api_id_of(name)],
                    roles=[one.role_id for one in wanted],
                    names=[role_name_id(api_id_of(name), one.name) for one in wanted],
                )
            )
            # After the versions: what is granted or withdrawn later than this is a conflict.
            standing = await read_rules_of_roles(service.pool, list(reading.state.roles))
            return Reading((reading.state, standing), reading.versions, reading.position, reading.instant)

        reading = await read()
        plan = make_plan(*reading.state, name, wanted)
        if body.dry_run:
            carry_out(reading.state[0], reading.instant, plan)  # for what it refuses
            resp.media = _listed(plan, caller.kept) | {"position": reading.position}
            return
        is_meant = plan.plan_id == body.plan_id
        if is_meant:
            # Whoever may call this, and not the endpoints that do the same one by one, may not do it by this.
            await _check_allowed(req, service, plan)

        def decide(read: Read, now: datetime) -> Sequence[Event]:
            state, standing = read
            plan = make_plan(state, standing, name, wanted)
            if not is_meant or plan.plan_id != body.plan_id:
                raise PlanIsPast("something that the plan is about has changed since it was made, or it is another import's")
            return carry_out(state, now, plan)

        receipt = await execute(service.appender, service.pool, envelope, read, decide)
        resp.media = {
            "api": name,
            "api_id": str(api_id_of(name)),
            "plan_id": str(body.plan_id),
            "position": receipt.position,
        }


async def _check_allowed(req: Request, service: Service, plan: ImportPlan) -> None:
    """Refuse a plan with a step that the caller may not take by its own endpoint: NotAllowed."""
    roles = f"/v1/apis/{plan.api}/roles"
    endpoints = {("POST", "/v1/apis")} if plan.registers else set()
    for step in plan.steps:
        role = f"{roles}/{quote(step.wanted.name, safe='')}"
        if step.action == "create":
            endpoints.add(("POST", roles))
        if step.action == "remove":
            endpoints.add(("DELETE", role))
        elif step.withdrawn:
            endpoints.add(("POST", f"{role}/rules/withdraw"))
        if step.granted:
            endpoints.add(("POST", f"{role}/rules"))
    asked = sorted(endpoints)
    for endpoint, may in zip(asked, await allowed(req, service, asked) if asked else (), strict=True):
        if not may:
            raise NotAllowed(f"this token may not do what the plan does: {' '.join(endpoint)}")


def _listed(plan: ImportPlan, kept: Kept) -> dict[str, Any]:
    api_id = api_id_of(plan.api)
    named = {step.wanted.name for step in plan.steps}
    others = (role for role in kept.roles.values() if role.api_id == api_id and not role.removed and role.name not in named)
    return {
        "plan_id": str(plan.plan_id),
        "api": plan.api,
        "registers": plan.registers,
        "roles": [
            {
                "role": step.wanted.name,
                "action": step.action,
                "granted": _lines(step.granted),
                "withdrawn": _lines(step.withdrawn),
            }
            for step in plan.steps
        ],
        "others": [{"role": role.name, "rule_count": role.rule_count} for role in sorted(others, key=lambda role: role.name)],
    }


def _lines(rules: Sequence[RuleOfRole]) -> list[str]:
    return sorted(Rule(rule.effect, rule.methods, rule.path, rule.min_clearance).line() for rule in rules)
