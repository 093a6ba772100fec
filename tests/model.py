"""What the views hold, said a second time and plainly: the model that the SQL folds are checked against.

Knows nothing of SQL. `Recorded` is an event where the log has it; `views` answers the rows of every view. A row is a dict
of its columns with the values that psycopg reads: UUID, datetime, bytes, list, dict.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger.events import (
    AdministratorsChanged,
    ApiEvent,
    ClientEvent,
    Event,
    FamilyChanged,
    KeyEvent,
    LockoutEvent,
    LogOpened,
    NameReleased,
    NameTaken,
    PartitionArchived,
    RoleEvent,
    RoleRulesGranted,
    RoleRulesWithdrawn,
    SubjectChanged,
    SubjectRolesGranted,
    SubjectRolesWithdrawn,
    SubjectRulesChanged,
    TokenIssued,
    TokenRotated,
    TokensArchived,
    TokenStateChanged,
)
from ledger.log import Actor

Row = dict[str, Any]

VIEWS = (
    "tokens",
    "token_states",
    "families",
    "subjects",
    "subject_rules",
    "names",
    "administrators",
    "clients",
    "apis",
    "roles",
    "role_rules",
    "keys",
    "reference_changes",
    "audit_entries",
    "acts",
    "consequences",
    "logs",
    "lockouts",
    "archived_partitions",
    "archived_tokens",
)
# The fields that name who or what an event is about.
ABOUT = ("subject_id", "client_id", "api_id", "role_id", "key_id", "token_id", "family_id", "holder_id")


@dataclass(frozen=True)
class Recorded:
    """An event at its position, who did it, and the position of what led to it."""

    position: int
    event: Event
    actor: Actor
    causation: int | None = None


def views(log: Iterable[Recorded]) -> dict[str, list[Row]]:
    """Answer the rows of every view after these events."""
    made: dict[str, list[Row]] = defaultdict(list)
    for recorded in log:
        for view, row in _rows(recorded.event):
            if getattr(recorded.event, "cuts_off", False) and "cutoff_position" in row:
                row["cutoff_position"] = recorded.position
            made[view].append(row | {"position": recorded.position})
        for entity_id in _concerned(recorded):
            made["audit_entries"].append({"entity_id": entity_id, "position": recorded.position})
        how, _, token_id = recorded.actor.authenticated_by.partition(" ")
        if how == "token":
            made["acts"].append({"token_id": UUID(token_id), "position": recorded.position})
        if recorded.causation is not None:
            made["consequences"].append({"cause": recorded.causation, "position": recorded.position})
        if isinstance(recorded.event, TokensArchived):
            _let_go(made, recorded.event)
    return {view: made[view] for view in VIEWS}


def _let_go(made: dict[str, list[Row]], archived: TokensArchived) -> None:
    """Take away what had ended of the rows that were made in the range; what was done to a token goes with it."""

    def leaves(row: Row) -> bool:
        in_range: bool = archived.from_position <= row["position"] < archived.to_position
        return in_range and row["expires_at"] <= archived.ended_before

    gone = {row["token_id"] for row in made["tokens"] if leaves(row)}
    made["token_states"] = [row for row in made["token_states"] if row["token_id"] not in gone]
    made["tokens"] = [row for row in made["tokens"] if not leaves(row)]
    made["families"] = [row for row in made["families"] if not leaves(row)]


def _rows(event: Event) -> Iterable[tuple[str, Row]]:
    match event:
        case LogOpened():
            yield "logs", {"log_id": event.log_id}
        case PartitionArchived():
            yield "archived_partitions", _without_log(event)
        case TokensArchived():
            yield "archived_tokens", _without_log(event)
        case TokenIssued() | TokenRotated():
            for token in event.tokens:
                yield "tokens", _columns(token)
            if event.family is not None:
                yield "families", _columns(event.family)
        case TokenStateChanged():
            yield "token_states", _columns(event.token_state)
        case FamilyChanged():
            yield "families", _columns(event.family)
        case SubjectChanged():
            yield "subjects", _columns(event.subject)
        case SubjectRulesChanged():
            yield "subject_rules", {"subject_id": event.subject_id, "rules": json.loads(event.payload_json())["rules"]}
        case AdministratorsChanged():
            yield "administrators", {"subject_ids": list(event.subject_ids)}
        case NameTaken() | NameReleased():
            yield "names", {"name_id": event.name_id, "kind": event.kind, "holder_id": event.holder_id}
        case ClientEvent():
            yield "clients", _columns(event.client)
            yield "reference_changes", {}
        case ApiEvent():
            yield "apis", _columns(event.api)
            yield "reference_changes", {}
        case RoleEvent():
            yield "roles", _columns(event.role)
            yield "reference_changes", {}
            if isinstance(event, RoleRulesGranted | RoleRulesWithdrawn):
                withdrawn = isinstance(event, RoleRulesWithdrawn)
                for rule in event.rules:
                    yield "role_rules", {"role_id": event.role_id, "withdrawn": withdrawn} | _columns(rule)
        case KeyEvent():
            yield "keys", _columns(event.key)
            yield "reference_changes", {}
        case LockoutEvent():
            yield "lockouts", _columns(event.lockout)
        case _:
            raise AssertionError(f"the model does not know {event.TYPE}")


def _columns(row: Any) -> Row:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _without_log(event: Event) -> Row:
    return {name: value for name, value in _columns(event).items() if name != "log_id"}


def _concerned(recorded: Recorded) -> set[UUID]:
    """Answer whom audit finds the event by: issues and rotations only by an actor that is neither subject nor client."""
    about = {getattr(recorded.event, field, None) for field in ABOUT}
    if isinstance(recorded.event, SubjectRolesGranted | SubjectRolesWithdrawn):
        about |= {*getattr(recorded.event, "granted", ()), *getattr(recorded.event, "withdrawn", ())}
    if isinstance(recorded.event, TokenIssued | TokenRotated):
        found = {recorded.actor.id} - {recorded.event.subject_id, recorded.event.client_id}
    else:
        found = {recorded.actor.id} | about
    return {entity_id for entity_id in found if entity_id is not None}
