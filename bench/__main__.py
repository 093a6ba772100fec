"""`make bench`: starts its own PostgreSQL and servers on free ports, measures, prints a table, leaves nothing behind.

Exit status 1 when an answer was wrong or missing. A section (bench/stage.py) is a module that answers figures
(bench/figures.py); they are listed here.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench import appends, decisions, growth, memory, paths, replay
from bench.figures import Figure
from bench.load import NoLoader, find_wrk
from bench.plots import draw
from bench.running import machine
from bench.stage import Section, Size, Stage
from bench.table import as_markdown, for_terminal, repeat, write_between_marks

SECTIONS: Final = (decisions.SECTION, appends.SECTION, replay.SECTION, growth.SECTION, paths.SECTION, memory.SECTION)
DOCS: Final = Path(__file__).parents[1] / "docs"
# Where each size is written; the plots stand in a folder beside it.
PAGES: Final[dict[Size, tuple[str, str]]] = {
    "default": ("benchmarks.md", "plots"),
    "full": ("benchmarks-full.md", "plots-full"),
}
ROUNDS: Final[dict[Size, int]] = {"small": 1, "default": 3, "full": 5}
CONNECTIONS: Final[dict[Size, str]] = {"small": "8", "default": "8,32,64", "full": "8,32,64"}
WIDTH: Final = 240


@click.command()
@click.option("--size", type=click.Choice(["small", "default", "full"]), default="default", show_default=True)
@click.option("--connections", default="", help="Connections at once, with commas.  [default: 8,32,64; small: 8]")
@click.option("--seconds", default=1, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=0, help="Measurements of each line.  [default: 3; small: 1, full: 5]")
@click.option("--workers", default=2, show_default=True, help="Worker processes of service and hello-world.")
@click.option(
    "--only", default="", help="Only lines whose 'section: what' this regular expression is found in; their floors too."
)
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where databases are made meanwhile."
)
@click.option("--json", "as_json", is_flag=True, help="One object a line instead of the table.")
@click.option("--write", is_flag=True, help="Write the table to docs/benchmarks.md (full: docs/benchmarks-full.md) as well.")
def main(
    size: Size,
    connections: str,
    seconds: int,
    rounds: int,
    workers: int,
    only: str,
    folder: Path | None,
    as_json: bool,
    write: bool,
) -> None:
    """Measure Token Ledger, each figure beside its floor.

    default: about ten minutes on two cores, up to 1,000,000 tokens. small: about a minute. full: up to 10,000,000 tokens and
    5,000,000 events, an hour and many gigabytes, which are said before it begins.
    """
    if write and (only or size not in PAGES):
        raise click.UsageError("--write takes the whole table, not lines of it, and of no small size")
    try:
        find_wrk()
    except NoLoader as missing:
        raise click.ClickException(str(missing)) from None
    pattern = re.compile(only)
    sections = [s for s in SECTIONS if any(pattern.search(f"{s.name}: {what}") for what in s.rows)]
    if not sections:
        raise click.UsageError(f"no line of the table matches {only!r}")
    console = Console(stderr=True)
    facts = {"size": size, **machine(workers)}
    figures: list[Figure] = []
    if as_json:
        click.echo(json.dumps(facts))
    with tempfile.TemporaryDirectory(prefix="token-ledger-bench-", dir=folder) as made:
        check_room(Path(made), sections, size, console)
        for section in sections:
            place = Path(made) / section.name
            place.mkdir()
            stage = Stage(
                size=size,
                folder=place,
                workers=workers,
                rounds=rounds or ROUNDS[size],
                seconds=seconds,
                connections=tuple(int(count) for count in (connections or CONNECTIONS[size]).split(",")),
                only=pattern,
                tell=lambda doing, name=section.name: console.print(f"{datetime.now(UTC):%H:%M:%S} {name}: {doing}"),  # type: ignore[misc]
            )
            measured = list(section.measure(stage))
            shutil.rmtree(place)
            show(measured, as_json=as_json)  # at once: a later section may take an hour, or fail
            figures += measured
    if not as_json:
        click.echo(" · ".join(f"{name} {value}" for name, value in facts.items()))
        click.echo("One line again: python -m bench --only 'section: what'")
    if write:
        page, plots = PAGES[size]
        pictures = draw(figures, DOCS / plots)
        write_between_marks(DOCS / page, as_markdown(figures, facts, " ".join(["python -m bench", *sys.argv[1:]]), pictures))
    bad = [figure for figure in figures if figure.wrong or figure.failed]
    if bad:
        raise click.ClickException("wrong or missing answers, such as: " + next((f.example for f in bad if f.example), "none"))


def check_room(folder: Path, sections: Sequence[Section], size: Size, console: Console) -> None:
    """Say how long it will take; refuse when the disk has not the room. One section is on the disk at a time."""
    needed = int(max(section.gigabytes[size] for section in sections) * 1e9)
    minutes = sum(section.seconds[size] for section in sections) / 60
    free = shutil.disk_usage(folder).free
    console.print(f"Takes about {minutes:,.0f} minutes on two cores, and up to {needed / 1e9:,.1f} GB in {folder.parent}.")
    if free < needed:
        raise click.ClickException(
            f"{folder.parent} has {free:,} bytes free, and {needed:,} are needed; --folder names another place"
        )


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print what was measured."""
    if as_json:
        for figure in figures:
            click.echo(json.dumps({**figure.answer(), "again": repeat(figure)}))
        return
    output = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    for table in for_terminal(figures):
        output.print(table)


if __name__ == "__main__":
    main()
