"""/v1/apis/{name}/roles: the roles of an API and their rules."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import falcon
from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import authorize
from api.body import Body, read_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_limit, read_query, read_uuid
from api.resources.bodies import RuleBody, RuleIds, checked_rule, rule_answer
from api.seeing import see, see_reference
from api.service import Service
from ledger import apis
from ledger.apis import api_id_of, role_name_id
from ledger.errors import UnknownApi, UnknownRole
from ledger.events import RoleCreated
from ledger.identifiers import uuid7
from ledger.states import Role
from projections.listing import FIRST, list_role_rules, read_role_rules
from projections.reading import Keys
from projections.reference import Kept


class NewRole(Body):
    """A role to be created."""

    name: str


class Rules(Body):
    """Rules to be added."""

    rules: Annotated[tuple[str | RuleBody, ...], Field(min_length=1)]


class Roles:
    """Every endpoint of the roles of an API, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # ------------------------------------------------------------------------------------ /v1/apis/{name}/roles

    async def on_post(self, req: Request, resp: Response, name: str) -> None:
        """Create a role, without rules."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewRole)
        api_id, role_id = api_id_of(name), uuid7(datetime.now(UTC))
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(apis=[api_id], roles=[role_id], names=[role_name_id(api_id, body.name)]),
            lambda state, now: apis.create_role(state, now, role_id=role_id, api_id=api_id, name=body.name),
        )
        (created,) = (event for event in receipt.events if isinstance(event, RoleCreated))
        resp.status = falcon.HTTP_201
        resp.location = f"/v1/apis/{name}/roles/{body.name}"
        resp.media = {
            "api": name,
            "role": body.name,
            "role_id": str(created.role_id),
            "position": receipt.position,
        }

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        """List the roles of an API in the order of their names, without those that were removed."""
        await authorize(req, self._service)
        query = read_query(req, (*AS_OF, "cursor", "limit"))
        seen, position, instant = await see_reference(self._service, query)
        api_id = api_id_of(name)
        if api_id not in (await seen.reference(api_ids=[api_id])).apis:
            raise UnknownApi(name)
        of_api = (role for role in seen.kept.roles.values() if role.api_id == api_id)
        page = await seen.slice("roles", of_api, query, lambda role: not role.removed)
        resp.media = {
            "roles": [_answer(role, name) for role in page.items],
            "next": page.next,
            **seen.where(position, instant),
        }

    # ----------------------------------------------------------------------------- /v1/apis/{name}/roles/{role}

    async def on_get_one(self, req: Request, resp: Response, name: str, role: str) -> None:
        """Answer one role."""
        await authorize(req, self._service)
        query = read_query(req, AS_OF)
        seen, position, instant = await see_reference(self._service, query)
        resp.media = _answer(await seen.role(name, role), name) | seen.where(position, instant)

    async def on_delete_one(self, req: Request, resp: Response, name: str, role: str) -> None:
        """Remove a role for good: its holders lose what it allowed."""
        service = self._service
        caller = await authorize(req, service)
        role_id = _role_id(caller.kept, name, role)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(roles=[role_id], names=[role_name_id(api_id_of(name), role)]),
            lambda state, now: apis.remove_role(state, now, role_id=role_id),
            urgent=True,
        )
        resp.media = {"api": name, "role": role, "role_id": str(role_id), "position": receipt.position}

    # ----------------------------------------------------------------------- /v1/apis/{name}/roles/{role}/rules

    async def on_get_rules(self, req: Request, resp: Response, name: str, role: str) -> None:
        """List the rules of a role in the order of their ids."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, (*AS_OF, "cursor", "limit"))
        limit, after = read_limit(query), read_uuid(query, "cursor", FIRST)
        seen = await see(service, query, caller.kept)
        role_id = (await seen.role(name, role)).role_id
        page = await list_role_rules(service.pool, role_id, limit=limit, after=after, moment=seen.moment)
        resp.media = {
            "rules": [rule_answer(rule) for rule in page.rows],
            "next": str(page.rows[-1].rule_id) if len(page.rows) == limit else None,
            **seen.where(page.position, page.instant),
        }

    async def on_post_rules(self, req: Request, resp: Response, name: str, role: str) -> None:
        """Add rules; one that stands already is nothing new."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Rules)
        role_id = _role_id(caller.kept, name, role)
        rules = [checked_rule(rule, f"rules.{number}").of_role() for number, rule in enumerate(body.rules)]
        rule_ids = [rule.rule_id for rule in rules]
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(roles=[role_id], rules=[(role_id, rule_id) for rule_id in rule_ids]),
            lambda state, now: apis.grant_rules(state, now, role_id=role_id, rules=rules),
        )
        resp.media = {
            "api": name,
            "role": role,
            "role_id": str(role_id),
            "rule_ids": [str(rule_id) for rule_id in rule_ids],
            "position": receipt.position,
        }

    async def on_post_rules_withdraw(self, req: Request, resp: Response, name: str, role: str) -> None:
        """Take rules from a role; one that does not stand is nothing new."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, RuleIds)
        role_id = _role_id(caller.kept, name, role)
        rule_ids = list(dict.fromkeys(body.rule_ids))
        # What a rule says never changes under its id, so it may be read before; whether it stands is read by the command.
        rules = await read_role_rules(service.pool, role_id, rule_ids)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(roles=[role_id], rules=[(role_id, rule_id) for rule_id in rule_ids]),
            lambda state, now: apis.withdraw_rules(state, now, role_id=role_id, rules=rules),
            urgent=True,
        )
        resp.media = {"api": name, "role": role, "role_id": str(role_id), "position": receipt.position}


def _answer(role: Role, api: str) -> dict[str, Any]:
    return {
        "api": api,
        "role": role.name,
        "role_id": str(role.role_id),
        "rule_count": role.rule_count,
        "changed_at_position": role.position,
    }


def _role_id(kept: Kept, api: str, role: str) -> UUID:
    """Answer the id of a role by the names of its API and itself. UnknownApi, UnknownRole."""
    if api_id_of(api) not in kept.apis:
        raise UnknownApi(api)
    role_id = kept.role_id(f"{api}:{role}")
    if role_id is None:
        raise UnknownRole(f"{api}:{role}")
    return role_id
