"""The command line `token-ledger`. It speaks HTTP; only `init`, `serve`, `replay` and `verify` open the database."""

import sys
from collections.abc import Sequence

import click

from api.cli.maintenance import replay_command, verify_command
from api.first_start import FirstAdministrator
from api.server import database, initialise, serve
from ledger.errors import InvalidInput, LedgerError
from ledger.settings import load_settings


class Commands(click.Group):
    """A group whose refusals are one clear message and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a refusal of the ledger ends it."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            lines = [f"  {problem.field or 'input'}: {problem.rule}" for problem in error.problems]
            raise click.ClickException("\n".join(["this cannot be used:", *lines])) from None
        except LedgerError as error:
            raise click.ClickException(error.message) from None


@click.group(cls=Commands)
def main() -> None:
    """An event-sourced token ledger: who is this token, and may it call METHOD on this path?"""


@main.command("init")
def init_command() -> None:
    """Install the log into the database and make the first administrator; nothing where that was done."""
    administrator = initialise(load_settings())
    if administrator is None:
        click.echo("The ledger is installed already.")
    else:
        _show(administrator)


@main.command("serve")
@click.option("--host", help="Address to serve on; TOKEN_LEDGER_HOST.")
@click.option("--port", type=int, help="Port to serve on, 0 for a free one; TOKEN_LEDGER_PORT.")
@click.option("--workers", type=int, help="Worker processes; TOKEN_LEDGER_WORKERS.")
def serve_command(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until Ctrl-C. Without TOKEN_LEDGER_DATABASE_URL an embedded PostgreSQL runs meanwhile."""
    given = {"host": host, "port": port, "workers": workers}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})

    def announce(administrator: FirstAdministrator | None) -> None:
        if administrator is not None:
            _show(administrator)
        click.echo(f"Token Ledger serves on {settings.issuer_url()} (Ctrl-C to stop).")
        sys.stdout.flush()

    serve(settings, announce)


@main.command("replay")
def replay() -> None:
    """Build the views anew from the log beside the live ones, then swap them in."""
    with database(load_settings()) as (_, owner):
        sys.exit(replay_command(owner))


@main.command("verify")
def verify() -> None:
    """Fold the log into a scratch copy and compare it with the live views, row by row; 1 when anything differs."""
    with database(load_settings()) as (_, owner):
        sys.exit(verify_command(owner))


def _show(administrator: FirstAdministrator) -> None:
    click.echo("The first administrator, shown this once:")
    click.echo(f"  user name: {administrator.username}")
    click.echo(f"  password:  {administrator.password}")


__all__: Sequence[str] = ("main",)
