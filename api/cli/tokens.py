"""`token-ledger token`: issuing tokens for others."""

import json
from collections.abc import Sequence
from typing import Any

import click

from api.cli.calling import Call, calls, given, is_id


@click.group("token")
def token_group() -> None:
    """Tokens."""


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
