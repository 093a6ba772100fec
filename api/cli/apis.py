"""`token-ledger api`: the APIs that tokens are for."""

from collections.abc import Sequence
from typing import Final, Literal

import click

from api.cli.calling import Call, calls, given
from api.cli.options import page_options, reason_option, suspension_options

API_COLUMNS: Final = ("name", "audience", "semicolons", "preflights", "status", "stands")
IMPORT_COLUMNS: Final = ("what", "role", "rule", "note")

_audience = click.option("--audience", help="`aud` of the tokens for it; at first its name.")
_semicolons = click.option("--semicolons/--no-semicolons", default=None, help="May `;` stand in its paths? At first not.")
_preflights = click.option(
    "--preflights/--no-preflights", default=None, help="Does OPTIONS pass its gateways without a token? At first not."
)


@click.group("api")
def api_group() -> None:
    """The APIs that tokens are for."""


@api_group.command("list")
@click.option("--status", type=click.Choice(["active", "suspended"]), help="With this status only.")
@page_options
@calls("GET", "/v1/apis", columns=API_COLUMNS, past=True)
def list_apis(call: Call, status: str | None, limit: int | None, cursor: str | None) -> None:
    """List APIs, by name."""
    call.list("apis", given(status=status), limit=limit, cursor=cursor)


@api_group.command("show")
@click.argument("name")
@calls("GET", "/v1/apis/{name}", past=True)
def show(call: Call, name: str) -> None:
    """Show one API."""
    call.show(call(name=name))


@api_group.command("register")
@click.argument("name")
@_audience
@_semicolons
@_preflights
@calls("POST", "/v1/apis", repeatable=True)
def register(call: Call, name: str, audience: str | None, semicolons: bool | None, preflights: bool | None) -> None:
    """Register an API.

    \b
    token-ledger api register orders --audience https://orders.example.org
    """
    call.show(call(body=given(name=name, audience=audience, semicolons=semicolons, preflights=preflights)))


@api_group.command("change")
@click.argument("name")
@_audience
@_semicolons
@_preflights
@calls("PATCH", "/v1/apis/{name}", repeatable=True)
def change(call: Call, name: str, audience: str | None, semicolons: bool | None, preflights: bool | None) -> None:
    """Change what is given of an API; its name stays."""
    call.show(call(name=name, body=given(audience=audience, semicolons=semicolons, preflights=preflights)))


@api_group.command("import")
@click.argument("name")
@click.argument("file")
@click.option(
    "--by",
    type=click.Choice(["scopes", "tags", "operations"]),
    required=True,
    help="A role for each security scope, each tag, or each operation.",
)
@click.option("--prefix", metavar="PATH", help="The path before those of the document; else that of its first server.")
@click.option(
    "--role",
    "names",
    metavar="SOURCE=ROLE",
    multiple=True,
    help="What a scope, tag or operation is called as a role; repeatable.",
)
@click.option("--remove-others", is_flag=True, help="Remove the roles of the API that the document does not have.")
@click.option("--dry-run", is_flag=True, help="List what would be done, and change nothing.")
@click.option("--plan", metavar="ID", help="Only if it is still this plan, as a dry run named it.")
@click.option("--yes", is_flag=True, help="Neither list nor ask.")
@calls("POST", "/v1/apis/{name}/import", columns=IMPORT_COLUMNS)
def import_document(
    call: Call,
    name: str,
    file: str,
    by: Literal["scopes", "tags", "operations"],
    prefix: str | None,
    names: Sequence[str],
    remove_others: bool,
    dry_run: bool,
    plan: str | None,
    yes: bool,
) -> None:
    """Make the roles of an API what an OpenAPI document says: FILE, or `-` for standard input.

    JSON or YAML, OpenAPI 3.0 or 3.1. What would be done is listed first, with what the document says that roles and rules
    cannot. An API that is not there is registered. docs/import.md says how a document is read.

    \b
    token-ledger api import pets openapi.yaml --by scopes --dry-run
    token-ledger api import pets openapi.yaml --by tags --prefix /v2
    """
    # Here, because it takes longer to import than most commands run.
    from api.cli.importing import Asked, run_import

    run_import(call, name, Asked(file, by, prefix, tuple(names), remove_others, dry_run, plan, yes))


@api_group.command("suspend")
@click.argument("name")
@suspension_options
@calls("POST", "/v1/apis/{name}/suspend", repeatable=True)
def suspend(call: Call, name: str, reason: str, until: str | None) -> None:
    """Suspend an API: every decision about it is no; `reinstate` ends it."""
    call.show(call(name=name, body=given(reason=reason, until=until)))


@api_group.command("reinstate")
@click.argument("name")
@reason_option
@calls("POST", "/v1/apis/{name}/reinstate", repeatable=True)
def reinstate(call: Call, name: str, reason: str | None) -> None:
    """End an API's suspension."""
    call.show(call(name=name, body=given(reason=reason)))


@api_group.command("revoke-tokens")
@click.argument("name")
@click.option("--issued-before", metavar="INSTANT", help="Only those whose issue was recorded before it (RFC 3339).")
@reason_option
@calls("POST", "/v1/apis/{name}/revoke-tokens", repeatable=True)
def revoke_tokens(call: Call, name: str, issued_before: str | None, reason: str | None) -> None:
    """Revoke every token for an API that was issued so far, for good."""
    call.show(call(name=name, body=given(issued_before=issued_before, reason=reason)))
