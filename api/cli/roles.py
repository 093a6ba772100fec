"""`token-ledger role`: the roles of an API, and what they allow and deny."""

from collections.abc import Sequence
from typing import Final

import click

from api.cli.calling import Call, Endpoint, calls
from api.cli.options import confirmed, page_options, role_argument
from api.cli.rules import RULE_COLUMNS, read_lines, rule_ids

ROLE_COLUMNS: Final = ("api", "role", "role_id", "rule_count")
RULES_OF_ROLE: Final = Endpoint("GET", "/v1/apis/{name}/roles/{role}/rules")


@click.group("role")
def role_group() -> None:
    """The roles of an API, and what they allow and deny.

    A role is named API:ROLE, as in orders:reader. A rule is a line:

    \b
    allow GET,POST /orders/**            methods (* for all), a path of the API
    allow GET /orders/{id} clearance 3   for subjects with at least this clearance
    allow * /people/{sub}/notes          {sub} is the subject's own id
    deny GET /orders/secret              overrules every allow
    """


@role_group.command("list")
@click.argument("api")
@page_options
@calls("GET", "/v1/apis/{name}/roles", columns=ROLE_COLUMNS, past=True)
def list_roles(call: Call, api: str, limit: int | None, cursor: str | None) -> None:
    """List the roles of an API, by name."""
    call.list("roles", limit=limit, cursor=cursor, name=api)


@role_group.command("show")
@role_argument
@calls("GET", "/v1/apis/{name}/roles/{role}", past=True)
def show(call: Call, role: tuple[str, str]) -> None:
    """Show one role; its rules: `token-ledger role rules`."""
    call.show(call(name=role[0], role=role[1]))


@role_group.command("create")
@role_argument
@calls("POST", "/v1/apis/{name}/roles", repeatable=True)
def create(call: Call, role: tuple[str, str]) -> None:
    """Create a role, without rules.

    \b
    token-ledger role create orders:reader
    """
    call.show(call(name=role[0], body={"name": role[1]}))


@role_group.command("remove")
@role_argument
@confirmed("Its holders lose what it allowed; one made anew under this name has none of them. Remove it?")
@calls("DELETE", "/v1/apis/{name}/roles/{role}")
def remove(call: Call, role: tuple[str, str]) -> None:
    """Remove a role for good: its holders lose what it allowed."""
    call.show(call(name=role[0], role=role[1]))


@role_group.command("rules")
@role_argument
@page_options
@calls("GET", "/v1/apis/{name}/roles/{role}/rules", columns=RULE_COLUMNS, past=True)
def rules(call: Call, role: tuple[str, str], limit: int | None, cursor: str | None) -> None:
    """List the rules of a role."""
    call.list("rules", limit=limit, cursor=cursor, name=role[0], role=role[1])


@role_group.command("grant-rules")
@role_argument
@click.argument("rules", metavar="[RULE]...", nargs=-1)
@calls("POST", "/v1/apis/{name}/roles/{role}/rules", repeatable=True)
def grant_rules(call: Call, role: tuple[str, str], rules: Sequence[str]) -> None:
    """Add rules to a role. Without RULE: one a line from standard input, where `#` begins a comment.

    \b
    token-ledger role grant-rules orders:reader 'allow GET,POST /orders/**' 'deny GET /orders/secret'
    token-ledger role grant-rules orders:reader < rules.txt
    """
    call.show(call(name=role[0], role=role[1], body={"rules": read_lines(rules)}))


@role_group.command("withdraw-rules")
@role_argument
@click.argument("rules", metavar="RULE...", nargs=-1, required=True)
@calls("POST", "/v1/apis/{name}/roles/{role}/rules/withdraw", repeatable=True)
def withdraw_rules(call: Call, role: tuple[str, str], rules: Sequence[str]) -> None:
    """Take rules from a role, each by its id or as it was granted.

    \b
    token-ledger role withdraw-rules orders:reader 'allow GET,POST /orders/**'
    """
    api, name = role
    ids = rule_ids(rules, lambda: call.every(RULES_OF_ROLE, "rules", name=api, role=name))
    call.show(call(name=api, role=name, body={"rule_ids": ids}))
