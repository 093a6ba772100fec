"""The commands that run where the ledger runs: `init`, `serve`, `replay`, `verify` and `reseal`. All others speak HTTP.

What they need is imported by each itself: it takes three times as long to import as all the rest, and the others do without.
"""

import sys
from typing import TYPE_CHECKING

import click

from api.cli.tour import tour

if TYPE_CHECKING:
    from api.first_start import FirstAdministrator


@click.command("init")
def init_command() -> None:
    """Install the log into the database and make the first administrator; nothing where that was done."""
    from api.server import initialise
    from ledger.settings import load_settings

    administrator = initialise(load_settings())
    if administrator is None:
        click.echo("The ledger is installed already.")
    else:
        _show(administrator)


@click.command("serve")
@click.option("--host", help="Address to serve on; TOKEN_LEDGER_HOST.")
@click.option("--port", type=int, help="Port to serve on, 0 for a free one; TOKEN_LEDGER_PORT.")
@click.option("--workers", type=int, help="Worker processes; TOKEN_LEDGER_WORKERS.")
def serve_command(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until Ctrl-C. Without TOKEN_LEDGER_DATABASE_URL an embedded PostgreSQL runs meanwhile."""
    from api.server import serve
    from ledger.settings import load_settings

    given = {"host": host, "port": port, "workers": workers}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})

    def announce(administrator: "FirstAdministrator | None") -> None:
        if administrator is not None:
            _show(administrator)
        click.echo(f"Token Ledger serves on {settings.address()} (Ctrl-C to stop).")
        # For who tries it: never in the logs of a production service, which has a PostgreSQL of its own.
        if administrator is not None or (settings.database_url is None and sys.stdout.isatty()):
            click.echo("\nThe tour, for another terminal in this folder, in bash:\n")
            click.echo(tour(settings.address(), administrator.password if administrator is not None else None))
        sys.stdout.flush()

    serve(settings, announce)


@click.command("replay")
def replay() -> None:
    """Build the views anew from the log beside the live ones, then swap them in."""
    from api.cli.maintenance import replay_command
    from api.server import maintained
    from ledger.settings import load_settings

    with maintained(load_settings()) as owner:
        sys.exit(replay_command(owner))


@click.command("verify")
@click.option(
    "--rate", type=click.IntRange(min=1), metavar="EVENTS_PER_SECOND", help="Read no faster than that, beside a busy server."
)
def verify(rate: int | None) -> None:
    """Fold the log into a scratch copy and compare it with the live views, row by row; 1 when anything differs."""
    from api.cli.maintenance import verify_command
    from api.server import maintained
    from ledger.settings import load_settings

    with maintained(load_settings()) as owner:
        sys.exit(verify_command(owner, rate=rate))


@click.command("reseal")
def reseal() -> None:
    """Seal anew under the master key what TOKEN_LEDGER_PREVIOUS_MASTER_KEY sealed; servers that know both go on meanwhile."""
    from api.server import reseal_keys
    from ledger.settings import load_settings

    done = reseal_keys(load_settings())
    click.echo(f"{done.resealed:,} of {done.seen:,} keys were sealed anew; nothing is left under another master key.")


def _show(administrator: "FirstAdministrator") -> None:
    click.echo("The first administrator, shown this once:")
    click.echo(f"  user name: {administrator.username}")
    click.echo(f"  password:  {administrator.password}")
