"""The commands that run where the ledger runs: init, serve, replay, verify, archive and reseal. All others speak HTTP.

What they need is imported by each itself: it takes three times as long to import as all the rest, and the others do without.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.cli.options import Function
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


class Moment(click.ParamType[int | datetime]):
    """A position, or an instant as in RFC 3339."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        """Answer either."""
        from ledger.instants import read_rfc3339

        if str(value).isdecimal():
            return int(value)
        try:
            return read_rfc3339(str(value))
        except ValueError:
            self.fail("a position, or an instant as in 2030-01-31T12:00:00Z", param, ctx)


def archives_option(function: Function) -> Function:
    """--archives, for what reads the log from its beginning."""
    return click.option(
        "--archives",
        "folder",
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Where `token-ledger archive` put the files; needed once something is archived.",
    )(function)


@click.command("replay")
@click.option(
    "--to", "moment", metavar="POSITION|INSTANT", type=Moment(), help="Make a scratch copy as of then, and nothing else."
)
@click.option("--drop-copy", is_flag=True, help="Drop that copy, and nothing else.")
@click.option("--back", is_flag=True, help="Swap the views before the last replay in again, caught up by their own folds.")
@click.option(
    "--free-bytes",
    type=click.IntRange(min=0),
    help="How much is free on the disk of the database; needed with TOKEN_LEDGER_DATABASE_URL, whose disk cannot be seen.",
)
@archives_option
def replay(moment: int | datetime | None, drop_copy: bool, back: bool, free_bytes: int | None, folder: Path | None) -> None:
    """Build the views anew from the log beside the live ones, then swap them in.

    Decisions and changes go on meanwhile. It begins when twice the size of the views is free on the disk.
    """
    from api.cli.maintenance import back_command, copy_command, drop_copy_command, replay_command
    from api.server import free_bytes as seen
    from api.server import maintained
    from ledger.settings import load_settings

    if [moment is not None, drop_copy, back].count(True) > 1:
        raise click.UsageError("--to, --drop-copy and --back are each a thing of its own")
    settings = load_settings()

    def free() -> int | None:
        return seen(settings) if free_bytes is None else free_bytes

    with maintained(settings) as owner:
        if moment is not None:
            sys.exit(copy_command(owner, moment, free_bytes=free, folder=folder))
        if drop_copy:
            sys.exit(drop_copy_command(owner))
        sys.exit(back_command(owner) if back else replay_command(owner, free_bytes=free, folder=folder))


@click.command("verify")
@click.option(
    "--rate", type=click.IntRange(min=1), metavar="EVENTS_PER_SECOND", help="Read no faster than that, beside a busy server."
)
@archives_option
def verify(rate: int | None, folder: Path | None) -> None:
    """Fold the log into a scratch copy and compare it with the live views, row by row; 1 when anything differs."""
    from api.cli.maintenance import verify_command
    from api.server import maintained
    from ledger.settings import load_settings

    with maintained(load_settings()) as owner:
        sys.exit(verify_command(owner, rate=rate, folder=folder))


@click.command("archive")
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    required=True,
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where the files are written, one a partition and a manifest beside it.",
)
@click.option("--keep-positions", type=click.IntRange(min=0), metavar="N", help="The last N positions stay.")
@click.option("--before", metavar="POSITION|INSTANT", type=Moment(), help="What is at it or was recorded since stays.")
@click.option(
    "--ended-before",
    metavar="INSTANT",
    type=Moment(),
    help="What ended later stays in the views, so that decisions still say that it expired; a day ago unless said.",
)
def archive(folder: Path, keep_positions: int | None, before: int | datetime | None, ended_before: datetime | None) -> None:
    """Move old partitions of the log into files, and what ended with them out of the views.

    Whole partitions only; each is read back and compared before it is dropped. Decisions and changes go on meanwhile.
    """
    from api.cli.maintenance import archive_command
    from api.server import maintained
    from ledger.settings import load_settings

    if (keep_positions is None) == (before is None):
        raise click.UsageError("exactly one of --keep-positions and --before")
    if isinstance(ended_before, int):
        raise click.BadParameter("an instant, as in 2030-01-31T12:00:00Z", param_hint="--ended-before")
    with maintained(load_settings()) as owner:
        sys.exit(
            archive_command(
                owner,
                folder,
                keep_positions=keep_positions,
                before=before,
                ended_before=ended_before or datetime.now(UTC) - timedelta(days=1),
            )
        )


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
