"""`token-ledger me`: one's own account, password and tokens."""

from collections.abc import Sequence

import click

from api.cli.calling import Call, calls, given
from api.cli.options import page_options
from api.cli.secret_input import read_secret
from api.cli.tokens import KINDS, STATES, TOKEN_COLUMNS


@click.group("me")
def me_group() -> None:
    """Your own account, password and tokens."""


@me_group.command("show")
@calls("GET", "/v1/me")
def show(call: Call) -> None:
    """Show who you are here, and what you have."""
    call.show(call())


@me_group.command("password")
@calls("PUT", "/v1/me/password")
def password(call: Call) -> None:
    """Change your own password; every token you have is revoked, so log in again.

    The current one and then the new one are asked for, or read from standard input, a line each.
    """
    body = {"current": read_secret("Current password"), "new": read_secret("New password", twice=True)}
    call.show(call(body=body))


@me_group.command("tokens")
@click.option("--kind", type=click.Choice(KINDS), help="Of this kind only.")
@click.option("--state", type=click.Choice(STATES), help="In this state now only.")
@page_options
@calls("GET", "/v1/me/tokens", columns=TOKEN_COLUMNS)
def tokens(call: Call, kind: str | None, state: str | None, limit: int | None, cursor: str | None) -> None:
    """List your own tokens, newest first."""
    call.list("tokens", given(kind=kind, state=state), limit=limit, cursor=cursor)


@me_group.command("issue")
@click.argument("name")
@click.option("--api", "apis", multiple=True, help="For this API only; repeatable.")
@click.option("--scope", "scopes", metavar="API:ROLE", multiple=True, help="With this role only; repeatable.")
@click.option("--lifetime", type=int, metavar="SECONDS", help="The longest there is unless said.")
@calls("POST", "/v1/me/tokens")
def issue(call: Call, name: str, apis: Sequence[str], scopes: Sequence[str], lifetime: int | None) -> None:
    """Issue yourself a named, long-lived token for a script. It is shown once; in plain lines it is all that is printed.

    \b
    TOKEN_LEDGER_TOKEN=$(token-ledger me issue nightly-export --scope ledger:auditor)
    """
    asked = given(apis=list(apis) or None, scope=" ".join(scopes) or None, lifetime_seconds=lifetime)
    call.output.secrets(call(body={"name": name} | asked), "access_token", "refresh_token")


@me_group.command("revoke")
@click.argument("token_id")
@calls("DELETE", "/v1/me/tokens/{token_id}", repeatable=True)
def revoke(call: Call, token_id: str) -> None:
    """Revoke a token of your own, for good."""
    call.show(call(token_id=token_id))
