"""Bodies and parts of answers that the resources of management have in common."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, PlainValidator, WithJsonSchema

from api.body import Body
from api.service import Service
from ledger.errors import InvalidInput
from ledger.instants import read_rfc3339, rfc3339
from ledger.rules import Rule
from ledger.states import Api, Client, RuleOfApi, RuleOfRole, Subject
from ledger.statuses import stands
from projections.reading import read_position_before


def _instant(value: object) -> datetime:
    try:
        if isinstance(value, str):
            return read_rfc3339(value)
    except ValueError:
        pass
    raise ValueError("an instant as in RFC 3339, such as 2030-06-01T12:00:00Z")


Instant = Annotated[datetime, PlainValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class Suspension(Body):
    """Why, and up to when; without `until`: until reinstated. No personal data: the reason stands in the log for ever."""

    reason: Reason
    until: Instant | None = None


class Because(Body):
    """Why, if it is to be remembered."""

    reason: Reason | None = None


class CutOff(Body):
    """Which tokens: all issued so far, or those whose issue was recorded before `issued_before`; and why."""

    issued_before: Instant | None = None
    reason: Reason | None = None

    async def position(self, service: Service) -> int | None:
        """Answer the position up to which tokens are revoked, None for all; InvalidInput for an instant that has not come."""
        if self.issued_before is None:
            return None
        position, now = await read_position_before(service.pool, self.issued_before)
        if self.issued_before > now:
            raise InvalidInput.of("issued_before", "an instant that has come")
        return position


class RuleBody(Body):
    """A rule. A deny has no `min_clearance`, an allow without one needs none."""

    effect: Literal["allow", "deny"] = "allow"
    methods: tuple[str, ...]
    path: str
    min_clearance: int | None = None

    def checked(self, field: str) -> Rule:
        """Answer the rule in its one spelling; InvalidInput names the member below `field`."""
        return Rule.make(self.effect, self.methods, self.path, self.min_clearance, field)


def checked_rule(rule: "str | RuleBody", field: str) -> Rule:
    """Answer a rule that is written as a line (`allow GET,POST /orders/** clearance 3`) or as members."""
    return Rule.parse(rule, field) if isinstance(rule, str) else rule.checked(field)


class RuleIds(Body):
    """Which rules, by their ids."""

    rule_ids: Annotated[tuple[UUID, ...], Field(min_length=1)]


def status_of(row: Subject | Client | Api, instant: datetime) -> dict[str, Any]:
    """Answer the status of a row. `stands`: whether it lets things pass at `instant`; a suspension may be over."""
    return {
        "status": row.status,
        "status_reason": row.status_reason,
        "status_until": None if row.status_until is None else rfc3339(row.status_until),
        "stands": stands(row.status, row.status_until, instant),
        "cutoff_position": row.cutoff_position,
        "changed_at_position": row.position,
    }


def rule_answer(rule: RuleOfRole | RuleOfApi) -> dict[str, Any]:
    """Answer a rule without its API."""
    return {
        "rule_id": str(rule.rule_id),
        "effect": rule.effect,
        "methods": list(rule.methods),
        "path": rule.path,
        "min_clearance": rule.min_clearance,
    }
