"""`token-ledger lockout`: users and networks from which too many passwords were tried."""

from typing import Final

import click

from api.cli.calling import Call, calls, given
from api.cli.options import page_options

LOCKOUT_COLUMNS: Final = ("lockout_id", "kind", "subject_id", "locked_at", "stands")


@click.group("lockout")
def lockout_group() -> None:
    """Users and networks from which too many passwords were tried: they wait; a familiar network of a user does not."""


@lockout_group.command("list")
@click.option("--subject", metavar="SUBJECT", help="Of this subject only, by id or user name.")
@page_options
@calls("GET", "/v1/lockouts", columns=LOCKOUT_COLUMNS)
def list_lockouts(call: Call, subject: str | None, limit: int | None, cursor: str | None) -> None:
    """List lock-outs, newest first, and whether they still stand."""
    query = given(subject_id=None if subject is None else call.subject_id(subject))
    call.list("lockouts", query, limit=limit, cursor=cursor)


@lockout_group.command("unlock")
@click.argument("lockout_id")
@calls("POST", "/v1/lockouts/{lockout_id}/unlock")
def unlock(call: Call, lockout_id: str) -> None:
    """Let passwords be tried again at once: of a user, from all networks."""
    call.show(call(lockout_id=lockout_id))
