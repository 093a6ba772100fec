"""Rows to decide on, for the tests of the rules of management: what builders.py makes, gathered into a state."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from ledger.builtin import CONSOLE, CONSOLE_NAME, LEDGER_API, LEDGER_API_NAME
from ledger.states import (
    Api,
    Client,
    Family,
    Key,
    Name,
    Role,
    RuleOfApi,
    RuleOfRole,
    State,
    Subject,
    SubjectRules,
    Token,
    TokenState,
)
from tests import builders
from tests.builders import api, role
from tests.builders import subject as person

__all__ = ["NOW", "api", "client", "console", "ledger_api", "person", "role", "rule_of_api", "rule_of_role", "service", "state"]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_KEYS = {
    Subject: "subject_id",
    SubjectRules: "subject_id",
    Client: "client_id",
    Api: "api_id",
    Role: "role_id",
    Name: "name_id",
    Key: "key_id",
    Token: "token_id",
    TokenState: "token_id",
    Family: "family_id",
}


def service(**fields: Any) -> Subject:
    """Make an active service account."""
    return person(**{"kind": "service", "name_id": None, "sealed_profile": None, "sealed_password": None} | fields)


def client(**fields: Any) -> Client:
    """Make an active confidential client without grants."""
    return builders.client(**{"grants": (), "refresh": "off", "api_ids": ()} | fields)


def console() -> Client:
    """Make the client that people log in through."""
    return builders.client(client_id=CONSOLE, name=CONSOLE_NAME, kind="public", secret_digests=(), api_ids=(LEDGER_API,))


def ledger_api() -> Api:
    """Make the API that manages the ledger."""
    return api(api_id=LEDGER_API, name=LEDGER_API_NAME, audience=LEDGER_API_NAME)


def rule_of_role(path: str = "/orders") -> RuleOfRole:
    """Make a rule that allows GET."""
    return RuleOfRole(rule_id=uuid4(), effect="allow", methods=("GET",), path=path, min_clearance=0)


def rule_of_api(api_id: UUID, path: str = "/orders") -> RuleOfApi:
    """Make an own rule that allows GET."""
    return RuleOfApi(rule_id=uuid4(), api_id=api_id, effect="allow", methods=("GET",), path=path, min_clearance=0)


def state(*rows: Any, administrators: tuple[UUID, ...] = (), standing: frozenset[tuple[UUID, UUID]] = frozenset()) -> State:
    """Answer the state that holds these rows."""
    views: dict[str, dict[UUID, Any]] = {}
    for row in rows:
        views.setdefault(row.VIEW, {})[getattr(row, _KEYS[type(row)])] = row
    return State(**views, administrators=administrators, standing_rules=standing)
