"""`token-ledger login` and `logout`: the session of a person with one server (sessions.py)."""

import os
import sys
from collections.abc import Sequence

import click

from api.cli.calling import Call, calls, given
from api.cli.connection import TOKEN_VARIABLE, NotLoggedIn, session_of
from api.cli.output import escaped
from api.cli.secret_input import read_secret
from ledger.builtin import CONSOLE_NAME


@click.command("login")
@click.argument("username", required=False)
@click.option("--client", default=CONSOLE_NAME, show_default=True, help="The public client to log in through.")
@click.option("--scope", "scopes", metavar="API:ROLE", multiple=True, help="Take this role only; repeatable.")
@calls("POST", "/login", prints=False)
def login(call: Call, username: str | None, client: str, scopes: Sequence[str]) -> None:
    """Begin a session: later commands act as this user.

    The password is asked for, or read from standard input. The tokens are kept in a file that only you can read, and are
    refreshed by themselves. A script better sets TOKEN_LEDGER_TOKEN to a named token (`token-ledger me issue`).

    \b
    token-ledger login ann
    token-ledger login ann --scope ledger:auditor < password.txt
    """
    if username is None:
        if not sys.stdin.isatty():
            raise click.UsageError("USERNAME is needed when standard input is not a terminal")
        username = str(click.prompt("User name", err=True))
    asked = {"username": username, "password": read_secret("Password"), "client_id": client}
    file = call.connection.file
    # Before the tokens are there: what could not be kept is better not issued.
    with file.locked():
        answer = call(body=asked | given(scope=" ".join(scopes) or None), who="nobody")
        file.write(session_of(answer, client, username))
    click.echo(f"Logged in at {call.connection.url} as {escaped(username)}.", err=True)
    if TOKEN_VARIABLE in os.environ:
        click.echo(f"{TOKEN_VARIABLE} is set and comes first: unset it to use the session.", err=True)


@click.command("logout")
@calls("POST", "/logout", prints=False)
def logout(call: Call) -> None:
    """End the session: its tokens are revoked, and the file with them is removed.

    Not while TOKEN_LEDGER_TOKEN is set: a token in the environment is no session.
    """
    connection = call.connection
    if TOKEN_VARIABLE in os.environ:
        raise click.UsageError(f"{TOKEN_VARIABLE} is set: this would revoke that token; unset it to end the session")
    session = connection.file.read()
    if session is None:
        click.echo(f"Not logged in at {connection.url}.", err=True)
        return
    try:
        call(body={})
        how = "its tokens are revoked"
    except NotLoggedIn:
        how = "it had ended already"
    with connection.file.locked():
        connection.file.remove()
    click.echo(f"Logged out at {connection.url}: {how}.", err=True)
