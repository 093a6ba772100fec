"""Making the roles of an API what a document says they are: a plan first, then exactly that. Pure.

A plan is recorded nowhere. It is made from what is wanted and from what stands, and its id from both: made again when it is
carried out, it has the same id only while nothing that it is about has changed. Where documents come from: openapi.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final, Literal
from uuid import UUID

from ledger import apis
from ledger.apis import api_id_of, role_name_id
from ledger.errors import PlanIsPast
from ledger.events import ApiRegistered, Event, RoleCreated, RoleRulesWithdrawn
from ledger.identifiers import name_id
from ledger.jsontext import dumps
from ledger.states import Role, RuleOfRole, State

# Roles of one import: at most three events each, and the API's, are within what one command may add.
MAX_ROLES: Final = 300
# Rules that stand in them: all of them are read.
MAX_STANDING: Final = 20_000

Action = Literal["create", "change", "leave", "remove"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a role is to be: with exactly these rules, or removed (None). `role_id` is its own, or what it is created under."""

    role_id: UUID
    name: str
    rules: Mapping[UUID, RuleOfRole] | None


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one role."""

    wanted: Wanted
    action: Action
    granted: Sequence[RuleOfRole]
    withdrawn: Sequence[RuleOfRole]


@dataclass(frozen=True)
class ImportPlan:
    """What becomes of the roles of an API. `changed_at`: where each role, or its free name, was last changed."""

    api: str
    registers: bool
    steps: Sequence[Step]
    changed_at: Sequence[int]

    @cached_property
    def plan_id(self) -> UUID:
        """The id of the plan: of its steps, and of what they were found on. Not of whether the API is registered by it."""
        lines = [
            [
                step.wanted.name,
                step.action,
                sorted(str(rule.rule_id) for rule in step.granted),
                sorted(str(rule.rule_id) for rule in step.withdrawn),
                position,
            ]
            for step, position in zip(self.steps, self.changed_at, strict=True)
        ]
        return name_id("import", self.api, dumps(lines))


def make_plan(
    state: State, standing: Mapping[UUID, Mapping[UUID, RuleOfRole]], api: str, wanted: Sequence[Wanted]
) -> ImportPlan:
    """Answer what is to be done. Reads the API, the roles, their names; `standing` has the rules of each role by their ids.

    PlanIsPast where a name is held by another role than the one that was read.
    """
    api_id = api_id_of(api)
    steps: list[Step] = []
    changed_at: list[int] = []
    for one in wanted:
        name = state.names.get(role_name_id(api_id, one.name))
        role = state.roles.get(one.role_id)
        holder = None if role is None or role.removed else role.role_id
        if (None if name is None else name.holder_id) != holder:
            raise PlanIsPast(f"the role {one.name} was made or removed meanwhile")
        if holder is None and one.rules is None:
            continue
        steps.append(_step(one, role if holder is not None else None, standing.get(one.role_id, {})))
        changed_at.append(role.position if role is not None else 0 if name is None else name.position)
    return ImportPlan(api, api_id not in state.apis, steps, changed_at)


def _step(wanted: Wanted, role: Role | None, standing: Mapping[UUID, RuleOfRole]) -> Step:
    if wanted.rules is None:
        return Step(wanted, "remove", (), tuple(standing.values()))
    granted = tuple(rule for rule_id, rule in wanted.rules.items() if rule_id not in standing)
    withdrawn = tuple(rule for rule_id, rule in standing.items() if rule_id not in wanted.rules)
    if role is None:
        return Step(wanted, "create", granted, ())
    return Step(wanted, "change" if granted or withdrawn else "leave", granted, withdrawn)


def carry_out(state: State, now: datetime, plan: ImportPlan) -> list[Event]:
    """Answer the events of a plan that was made on this state: those of the commands that would do the same one by one.

    BuiltIn, TooManyRules, InvalidInput: as those.
    """
    events: list[Event] = []
    if plan.registers:
        events += apis.register(state, now, name=plan.api)
        state = replace(state, apis={event.api_id: event.api for event in events if isinstance(event, ApiRegistered)})
    for step in plan.steps:
        events += _events(state, now, api_id_of(plan.api), step)
    return events


def _events(state: State, now: datetime, api_id: UUID, step: Step) -> list[Event]:
    role_id = step.wanted.role_id
    if step.action == "leave":
        return []
    if step.action == "remove":
        return apis.remove_role(state, now, role_id=role_id)
    events: list[Event] = []
    if step.action == "create":
        events += apis.create_role(state, now, role_id=role_id, api_id=api_id, name=step.wanted.name)
    if step.withdrawn:
        standing = frozenset((role_id, rule.rule_id) for rule in step.withdrawn)
        events += apis.withdraw_rules(replace(state, standing_rules=standing), now, role_id=role_id, rules=step.withdrawn)
    if step.granted:
        # As the event before left the role.
        role = next((e.role for e in events if isinstance(e, RoleCreated | RoleRulesWithdrawn)), state.roles.get(role_id))
        assert role is not None
        then = replace(state, roles={role_id: role}, standing_rules=frozenset())
        events += apis.grant_rules(then, now, role_id=role_id, rules=step.granted)
    return events
