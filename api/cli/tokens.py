"""`token-ledger token` and `family`: what was issued, and taking it back."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from api.cli.calling import MAX_PAGE, Call, calls, given
from api.cli.clients import STRATEGIES
from api.cli.options import Plan, is_id, page_options, plan_option, reason_option, suspension_options

TOKEN_COLUMNS: Final = (
    "token_id",
    "kind",
    "strategy",
    "client",
    "subject_id",
    "state",
    "issued_at",
    "expires_at",
    "family_id",
    "name",
)
KINDS: Final = ("access", "refresh")
STATES: Final = ("active", "suspended", "revoked", "expired", "rotated")


@click.group("token")
def token_group() -> None:
    """Tokens: what was issued, and taking it back. TOKEN_ID is the id of a token, never its string."""


@token_group.command("list")
@click.option("--subject", metavar="SUBJECT", help="Of this subject, by id or user name.")
@click.option("--client", help="Issued to this client.")
@click.option("--api", help="For this API.")
@click.option("--family-id", metavar="ID", help="Of this family.")
@click.option("--kind", type=click.Choice(KINDS), help="Of this kind only.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="With such bearer strings only.")
@click.option("--state", type=click.Choice(STATES), help="In this state now only.")
@click.option("--issued-after", metavar="INSTANT", help="As in 2030-01-31T12:00:00Z.")
@click.option("--issued-before", metavar="INSTANT", help="As in 2030-01-31T12:00:00Z.")
@page_options
@calls("GET", "/v1/tokens", columns=TOKEN_COLUMNS, past=True)
def list_tokens(call: Call, subject: str | None, limit: int | None, cursor: str | None, **filters: str | None) -> None:
    """List the tokens that match every filter, newest first.

    \b
    token-ledger token list --subject ann --state active
    """
    query = given(subject_id=None if subject is None else call.subject_id(subject), **filters)
    call.list("tokens", query, limit=limit, cursor=cursor)


@token_group.command("show")
@click.argument("token_id")
@calls("GET", "/v1/tokens/{token_id}", past=True)
def show(call: Call, token_id: str) -> None:
    """Show one token, and what it is worth now; what happened to it: `token-ledger audit timeline`."""
    call.show(call(token_id=token_id))


@token_group.command("issue")
@click.argument("subject")
@click.option("--client", required=True, help="The client it is issued to: its strategy, APIs and lifetimes.")
@click.option("--api", "apis", multiple=True, help="For this API of the client only; repeatable.")
@click.option("--scope", "scopes", metavar="API:ROLE", multiple=True, help="With this role only; repeatable.")
@click.option("--lifetime", type=int, metavar="SECONDS", help="Without a refresh token, for so long.")
@click.option("--name", help="A named, long-lived token for a script, without a refresh token.")
@click.option("--claims", metavar="JSON", help="Claims of your own in it: an object.")
@calls("POST", "/v1/tokens")
def issue(
    call: Call,
    subject: str,
    client: str,
    apis: Sequence[str],
    scopes: Sequence[str],
    lifetime: int | None,
    name: str | None,
    claims: str | None,
) -> None:
    """Issue a token for SUBJECT, an id or else a user name.

    Its string, and that of a refresh token if there is one, are shown once; in plain lines they are all that is printed, a
    line each.

    \b
    TOKEN=$(token-ledger token issue ann --client shop --lifetime 300)
    token-ledger token issue ann --client shop --claims '{"tenant": "north"}' --json
    """
    body = given(
        client=client,
        apis=list(apis) or None,
        scope=" ".join(scopes) or None,
        lifetime_seconds=lifetime,
        name=name,
        claims=_object(claims),
    )
    whose = {"subject_id": subject} if is_id(subject) else {"username": subject}
    call.output.secrets(call(body=whose | body), "access_token", "refresh_token")


@token_group.command("suspend")
@click.argument("token_id")
@suspension_options
@calls("POST", "/v1/tokens/{token_id}/suspend", repeatable=True)
def suspend(call: Call, token_id: str, reason: str, until: str | None) -> None:
    """Suspend one token; `reinstate` ends it."""
    call.show(call(token_id=token_id, body=given(reason=reason, until=until)))


@token_group.command("reinstate")
@click.argument("token_id")
@reason_option
@calls("POST", "/v1/tokens/{token_id}/reinstate", repeatable=True)
def reinstate(call: Call, token_id: str, reason: str | None) -> None:
    """End the suspension of one token; what else stops it goes on."""
    call.show(call(token_id=token_id, body=given(reason=reason)))


@token_group.command("revoke")
@click.argument("token_id")
@reason_option
@calls("POST", "/v1/tokens/{token_id}/revoke", repeatable=True)
def revoke(call: Call, token_id: str, reason: str | None) -> None:
    """Revoke one token, for good.

    What else was issued with it goes on: `family revoke`, `subject revoke-tokens`, `client revoke-tokens` take that back.

    \b
    token-ledger token revoke 0195f4a0-7d1e-7000-8000-000000000000 --reason 'laptop stolen'
    """
    call.show(call(token_id=token_id, body=given(reason=reason)))


@token_group.command("revoke-all")
@click.option("--subject", metavar="SUBJECT", help="Of this subject, by id or user name.")
@click.option("--client", help="Issued to this client.")
@click.option("--api", help="For this API.")
@click.option("--family-id", metavar="ID", help="Of this family.")
@click.option("--kind", type=click.Choice(KINDS), help="Of this kind only.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="With such bearer strings only.")
@click.option("--issued-after", metavar="INSTANT", help="Whose issue was recorded at or after it (RFC 3339).")
@click.option("--issued-before", metavar="INSTANT", help="Whose issue was recorded before it (RFC 3339).")
@reason_option
@click.option("--dry-run", is_flag=True, help="List what would be revoked, and change nothing.")
@plan_option
@click.option("--yes", is_flag=True, help="Neither list nor ask.")
@calls("POST", "/v1/revocations", columns=TOKEN_COLUMNS)
def revoke_all(
    call: Call, subject: str | None, reason: str | None, dry_run: bool, plan: Plan | None, yes: bool, **filters: str | None
) -> None:
    """Revoke every token that matches every filter, for good.

    What would be revoked is listed first, and exactly that is: tokens issued meanwhile stay. A run that was cut off goes on
    with the same filters and the --plan that it named.

    \b
    token-ledger token revoke-all --client shop --issued-before 2030-01-31T12:00:00Z --dry-run
    token-ledger token revoke-all --subject ann --api orders --reason 'laptop stolen'
    """
    chosen = given(subject_id=None if subject is None else call.subject_id(subject), **filters)
    asked = given(filter=chosen, reason=reason) | ({} if plan is None else plan._asdict())
    first = call(body=asked | {"dry_run": True, "limit": MAX_PAGE})
    asked |= {"as_of_position": first["as_of_position"], "plan_id": first["plan_id"]}
    if dry_run or not yes:
        call.rows(page["tokens"] for page in _pages(call, asked, first))
    count = "more than are counted" if first["count"] is None else first["count"]
    click.echo(f"Plan {first['as_of_position']}.{first['plan_id']}: {count} to be revoked.", err=True)
    if dry_run:
        return
    if first["count"] != 0 and not yes:
        click.confirm("Revoke these for good?", abort=True, err=True)
    call.show(_run(call, asked, first["count"]))


def _pages(call: Call, asked: Mapping[str, Any], page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield page
    while page["next"] is not None:
        page = call(body={**asked, "dry_run": True, "limit": MAX_PAGE, "cursor": page["next"]})
        yield page


def _run(call: Call, asked: Mapping[str, Any], count: int | None) -> dict[str, Any]:
    """Run a plan to its end, and answer what it came to. `revoked` is null where one event took all of them."""
    revoked: int | None = 0
    cursor: dict[str, str] = {}
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=count or 0, label="Revoking", file=sys.stderr, hidden=hidden) as bar:
        while True:
            answer = call(body={**asked, **cursor})
            revoked = None if revoked is None or answer["revoked"] is None else revoked + answer["revoked"]
            bar.update(answer["passed"] or 0)
            if answer["done"]:
                break
            cursor = {"cursor": answer["next"]}
    names = ("plan_id", "as_of_position", "level", "position")
    return {name: answer[name] for name in names} | {"revoked": revoked}


# -------------------------------------------------------------------------------------------------------------- families


@click.group("family")
def family_group() -> None:
    """Families: the tokens that descend from one login or issue, refreshed ones too."""


@family_group.command("show")
@click.argument("family_id")
@calls("GET", "/v1/families/{family_id}", past=True)
def show_family(call: Call, family_id: str) -> None:
    """Show one family; its tokens: `token-ledger token list --family-id`."""
    call.show(call(family_id=family_id))


@family_group.command("suspend")
@click.argument("family_id")
@suspension_options
@calls("POST", "/v1/families/{family_id}/suspend", repeatable=True)
def suspend_family(call: Call, family_id: str, reason: str, until: str | None) -> None:
    """Suspend every token of a family; `reinstate` ends it."""
    call.show(call(family_id=family_id, body=given(reason=reason, until=until)))


@family_group.command("reinstate")
@click.argument("family_id")
@reason_option
@calls("POST", "/v1/families/{family_id}/reinstate", repeatable=True)
def reinstate_family(call: Call, family_id: str, reason: str | None) -> None:
    """End the suspension of a family; a token of it that was stopped by itself stays so."""
    call.show(call(family_id=family_id, body=given(reason=reason)))


@family_group.command("revoke")
@click.argument("family_id")
@reason_option
@calls("POST", "/v1/families/{family_id}/revoke", repeatable=True)
def revoke_family(call: Call, family_id: str, reason: str | None) -> None:
    """Revoke every token of a family, for good; it cannot be refreshed any more."""
    call.show(call(family_id=family_id, body=given(reason=reason)))


def _object(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter("a JSON object", param_hint="--claims")
    return value
