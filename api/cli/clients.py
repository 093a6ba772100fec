"""`token-ledger client`: applications that obtain tokens, resource servers and gateways that ask about them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from api.cli.calling import Call, calls, given
from api.cli.options import Function, page_options, reason_option, suspension_options
from ledger import jsontext
from ledger.errors import InvalidInput

CLIENT_COLUMNS: Final = ("name", "kind", "grants", "strategy", "refresh", "apis", "serves", "status", "stands")
GRANTS: Final = ("password", "client_credentials", "refresh_token", "issue")
STRATEGIES: Final = ("opaque", "encrypted", "jwt", "jwe")
REFRESH: Final = ("off", "reusable", "rotating")
MAX_JWKS_BYTES: Final = 64 * 1024


def settings_options(function: Function) -> Function:
    """What is chosen for a client, at its registration and later."""
    options: Sequence[Callable[[Function], Function]] = (
        click.option("--grant", "grants", type=click.Choice(GRANTS), multiple=True, help="How it obtains tokens; repeatable."),
        click.option("--strategy", type=click.Choice(STRATEGIES), help="What its bearer strings are; at first opaque."),
        click.option("--refresh", type=click.Choice(REFRESH), help="Its refresh tokens; at first off."),
        click.option("--api", "apis", multiple=True, help="An API its tokens are for; repeatable."),
        click.option("--serves", help="The API it is a resource server or gateway of, and may ask about."),
        click.option("--access-lifetime", type=int, metavar="SECONDS", help="Of access tokens."),
        click.option("--refresh-idle", type=int, metavar="SECONDS", help="How long a refresh token lives unused."),
        click.option("--refresh-absolute", type=int, metavar="SECONDS", help="How long a family lives at most."),
        click.option("--retry-window", type=int, metavar="SECONDS", help="How long a lost rotation can be fetched again."),
        click.option(
            "--revoke-access/--keep-access",
            default=None,
            help="Whether a rotation revokes the access token before; at first kept.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """Answer the members that were said, as the API calls them."""
    return given(
        grants=list(settings["grants"]) or None,
        strategy=settings["strategy"],
        refresh=settings["refresh"],
        apis=list(settings["apis"]) or None,
        serves=settings["serves"],
        access_lifetime_seconds=settings["access_lifetime"],
        refresh_idle_seconds=settings["refresh_idle"],
        refresh_absolute_seconds=settings["refresh_absolute"],
        retry_window_seconds=settings["retry_window"],
        revoke_access_on_rotation=settings["revoke_access"],
    )


def read_jwks(path: str) -> object:
    """Answer what a file of keys holds, `-` for standard input; a usage error for what is no JSON. What it must be, the server
    says."""
    try:
        with click.open_file(path, "rb") as file:
            return jsontext.loads(file.read(MAX_JWKS_BYTES + 1), max_bytes=MAX_JWKS_BYTES)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except InvalidInput as error:
        raise click.UsageError(f"{path}: no JSON: {error}") from None


@click.group("client")
def client_group() -> None:
    """Applications that obtain tokens; resource servers and gateways that ask about them."""


@client_group.command("list")
@click.option("--kind", type=click.Choice(["confidential", "public"]), help="Of this kind only.")
@click.option("--status", type=click.Choice(["active", "suspended"]), help="With this status only.")
@page_options
@calls("GET", "/v1/clients", columns=CLIENT_COLUMNS, past=True)
def list_clients(call: Call, kind: str | None, status: str | None, limit: int | None, cursor: str | None) -> None:
    """List clients, by name."""
    call.list("clients", given(kind=kind, status=status), limit=limit, cursor=cursor)


@client_group.command("show")
@click.argument("name")
@calls("GET", "/v1/clients/{name}", past=True)
def show(call: Call, name: str) -> None:
    """Show one client; of its secrets only how many there are."""
    call.show(call(name=name))


@client_group.command("register")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["confidential", "public"]),
    default="confidential",
    show_default=True,
    help="Whether it can keep a secret, and so has one.",
)
@click.option(
    "--jwks",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="A file with its public keys (a JWK set), in the place of a secret.",
)
@settings_options
@calls("POST", "/v1/clients", repeatable=True)
def register(call: Call, name: str, kind: str, jwks: str | None, **settings: Any) -> None:
    """Register a client. The secret of a confidential one is shown once; in plain lines it is all that is printed.

    \b
    token-ledger client register shop --kind public --grant password --grant refresh_token \\
      --strategy jwt --refresh rotating --api orders
    SECRET=$(token-ledger client register orders-api --serves orders)
    token-ledger client register robot --grant client_credentials --api orders --jwks keys.json
    """
    keys = {} if jwks is None else {"jwks": read_jwks(jwks)}
    call.output.secrets(call(body={"name": name, "kind": kind} | keys | chosen(settings)), "client_secret")


@client_group.command("change")
@click.argument("name")
@settings_options
@click.option("--no-grants", is_flag=True, help="It obtains no tokens any more.")
@click.option("--no-apis", is_flag=True, help="Its tokens are for no API any more.")
@click.option("--serves-none", is_flag=True, help="It asks about no API any more.")
@calls("PATCH", "/v1/clients/{name}", repeatable=True)
def change(call: Call, name: str, no_grants: bool, no_apis: bool, serves_none: bool, **settings: Any) -> None:
    """Change the settings that are given, each whole; the others stay, and so do name and kind.

    \b
    token-ledger client change shop --strategy jwe --api orders --api stock
    """
    changes = chosen(settings)
    for said, option, member, empty in (
        (no_grants, "--no-grants", "grants", []),
        (no_apis, "--no-apis", "apis", []),
        (serves_none, "--serves-none", "serves", None),
    ):
        if said and member in changes:
            raise click.UsageError(f"{option} says the contrary")
        if said:
            changes[member] = empty
    call.show(call(name=name, body=changes))


@client_group.command("secret")
@click.argument("name")
@click.option("--keep-old", is_flag=True, help="The secret of now stays good until the next change.")
@calls("POST", "/v1/clients/{name}/secret", repeatable=True)
def secret(call: Call, name: str, keep_old: bool) -> None:
    """Give a client a new secret, which is shown once; in plain lines it is all that is printed.

    \b
    token-ledger client secret orders-api --keep-old > secret.txt
    """
    call.output.secrets(call(name=name, body={"keep_old": keep_old}), "client_secret")


@client_group.command("keys")
@click.argument("name")
@click.argument("jwks", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--keep-secret", is_flag=True, help="Its secret stays good beside them.")
@calls("POST", "/v1/clients/{name}/keys", repeatable=True)
def keys(call: Call, name: str, jwks: str, keep_secret: bool) -> None:
    """Give a client the public keys of the file JWKS (a JWK set), in the place of those it had and of its secret.

    \b
    token-ledger client keys robot keys.json
    """
    call.show(call(name=name, body={"jwks": read_jwks(jwks), "keep_secret": keep_secret}))


@client_group.command("suspend")
@click.argument("name")
@suspension_options
@calls("POST", "/v1/clients/{name}/suspend", repeatable=True)
def suspend(call: Call, name: str, reason: str, until: str | None) -> None:
    """Suspend a client: every token issued to it, and its own requests; `reinstate` ends it."""
    call.show(call(name=name, body=given(reason=reason, until=until)))


@client_group.command("reinstate")
@click.argument("name")
@reason_option
@calls("POST", "/v1/clients/{name}/reinstate", repeatable=True)
def reinstate(call: Call, name: str, reason: str | None) -> None:
    """End a client's suspension."""
    call.show(call(name=name, body=given(reason=reason)))


@client_group.command("revoke-tokens")
@click.argument("name")
@click.option("--issued-before", metavar="INSTANT", help="Only those whose issue was recorded before it (RFC 3339).")
@reason_option
@calls("POST", "/v1/clients/{name}/revoke-tokens", repeatable=True)
def revoke_tokens(call: Call, name: str, issued_before: str | None, reason: str | None) -> None:
    """Revoke every token issued to a client so far, for good."""
    call.show(call(name=name, body=given(issued_before=issued_before, reason=reason)))
