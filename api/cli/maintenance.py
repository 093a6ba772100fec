"""The commands that open the database themselves: replay, going back, a copy as of then, verify and archive, with a bar.

They are given the connection string of ledger_owner; where it comes from is not theirs to know.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from api.event_answers import VERIFIERS
from ledger.instants import rfc3339
from projections.archiving import archive, position_before
from projections.copies import COPY, copy_as_of, drop_copy
from projections.going_back import go_back
from projections.replay import FreeBytes, Progress, plenty, replay
from projections.verify import Behind, Difference, Row, verify

WHY = {
    "rows": "its rows were not what the log says",
    "shape": "its columns are others in this release",
    "new": "new in this release",
    "gone": "not there any more in this release",
}


def replay_command(
    owner_conninfo: str, console: Console | None = None, *, free_bytes: FreeBytes = plenty, folder: Path | None = None
) -> int:
    """Replay the log into fresh views and put them in place of the live ones; answer the exit status.

    Raises what `replay` raises: the live views are then as they were.
    """
    console = console or Console()
    with _bars(console) as bars:
        report = replay(owner_conninfo, free_bytes=free_bytes, folder=folder, progress=_show(bars))
    rate = report.events / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.events:,} events replayed in {report.seconds:.1f} s ({rate:,.0f}/s); "
        f"appends waited {report.held_seconds * 1000:.0f} ms for the swap."
    )
    table = Table("view", "rows", "before", "")
    differing = {difference.view: difference for difference in report.differences}
    for view in sorted(report.rows.keys() | differing.keys()):
        difference = differing.get(view)
        before = difference.rows_before if difference else report.rows[view]
        table.add_row(view, _number(report.rows.get(view)), _number(before), WHY[difference.why] if difference else "")
    console.print(table)
    return 0


def back_command(owner_conninfo: str, console: Console | None = None) -> int:
    """Put the views before the last replay in place again; answer the exit status. Raises what `go_back` raises."""
    console = console or Console()
    with _bars(console) as bars:
        report = go_back(owner_conninfo, progress=_show(bars))
    console.print(
        f"The views before the last replay are in place again, up to position {report.events:,}; "
        f"appends waited {report.held_seconds * 1000:.0f} ms for the swap. Those of the last replay are in views_previous."
    )
    return 0


def copy_command(
    owner_conninfo: str,
    moment: int | datetime,
    console: Console | None = None,
    *,
    free_bytes: FreeBytes = plenty,
    folder: Path | None = None,
) -> int:
    """Make the scratch copy as of then; answer the exit status. Raises what `copy_as_of` raises."""
    console = console or Console()
    with _bars(console) as bars:
        copy = copy_as_of(owner_conninfo, moment, free_bytes=free_bytes, folder=folder, progress=_show(bars))
    console.print(
        f"The views as of position {copy.position:,}, recorded at {rfc3339(copy.recorded_at)}, are in the schema {COPY} "
        f"({copy.seconds:.1f} s). `token-ledger replay --drop-copy` drops it.",
        highlight=False,
    )
    return 0


def drop_copy_command(owner_conninfo: str, console: Console | None = None) -> int:
    """Drop the scratch copy; answer the exit status."""
    dropped = drop_copy(owner_conninfo)
    (console or Console()).print(f"{COPY} is dropped." if dropped else f"There is no {COPY}.")
    return 0


def archive_command(
    owner_conninfo: str,
    folder: Path,
    console: Console | None = None,
    *,
    keep_positions: int | None,
    before: int | datetime | None,
    ended_before: datetime,
) -> int:
    """Archive the old partitions; answer the exit status. Raises what `archive` raises: the next run goes on."""
    console = console or Console()
    if keep_positions is not None:
        below = position_before(owner_conninfo, None) - keep_positions + 1
    else:
        below = before if isinstance(before, int) else position_before(owner_conninfo, before) + 1
    with _bars(console) as bars:
        report = archive(owner_conninfo, folder, below=below, ended_before=ended_before, progress=_show(bars))
    table = Table("partition", "events", "bytes in the log", "bytes in the archive", "appends waited")
    for done in report.partitions:
        sizes = (done.manifest.events, done.table_bytes, done.file_bytes)
        table.add_row(done.manifest.name, *map(_number, sizes), f"{done.held_seconds * 1000:.0f} ms")
    if report.partitions:
        console.print(table)
    else:
        console.print("No partition is whole below that position: nothing was archived.")
    console.print(
        f"{report.tokens:,} tokens and {report.families:,} rows of families had ended and left the views "
        f"by {report.events:,} events; "
        f"appends waited {report.longest_held_seconds * 1000:.0f} ms at most.",
        soft_wrap=True,
    )
    return 0


def verify_command(
    owner_conninfo: str, console: Console | None = None, *, rate: int | None = None, folder: Path | None = None
) -> int:
    """Compare the live views and the log's own tables with the log; answer the exit status: 1 where anything differs.

    `rate`: at most so many events a second. `folder`: of the archives, also above.
    """
    console = console or Console()
    with _bars(console) as bars:
        report = verify(owner_conninfo, rate=rate, folder=folder, progress=_show(bars))
    if report.clean:
        console.print(f"{report.events:,} events verified in {report.seconds:.1f} s: the views are what the log says.")
        return 0
    for difference in report.differences:
        for line in _lines(difference, report.behind):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    total = sum(report.totals.values())
    by_view = ", ".join(f"{view} {count:,}" for view, count in sorted(report.totals.items()))
    console.print(f"{total:,} differences in {report.events:,} events ({by_view}), {len(report.differences):,} shown.")
    return 1


def _lines(difference: Difference, behind: Mapping[int, Behind]) -> Iterator[str]:
    """Say what differs, and below it, a line each, the events behind it."""
    line = " ".join([f"{difference.kind}: {difference.view}", *(f"{name}={value}" for name, value in difference.key.items())])
    if difference.kind == "changed":
        live, replayed = _without_verifiers(difference.live), _without_verifiers(difference.replayed)
        columns = [
            f"{name}: {live.get(name)!r}" + (f", not {replayed[name]!r}" if name in replayed else "")
            for name in {**live, **replayed}
        ]
        line = f"{line}: {'; '.join(columns)}"
    yield line
    for position in difference.positions:
        event = behind.get(position)
        yield f"  {position} " + ("is not there" if event is None else f"{event.type} by {_who(event)}")


def _who(event: Behind) -> str:
    return f"{event.actor_kind or 'nobody'} {event.actor_id or ''}".rstrip()


def _without_verifiers(row: Row | None) -> Row:
    """Answer a row without what secrets are checked against: that it differs is enough (docs/audit.md)."""
    return {name: "withheld" if name in VERIFIERS else value for name, value in (row or {}).items()}


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _bars(console: Console) -> Bars:
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _show(bars: Bars) -> Callable[[Progress], None]:
    """Answer a callback that gives every step a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def show(progress: Progress) -> None:
        if progress.step not in tasks:
            tasks[progress.step] = bars.add_task(progress.step, total=progress.total, rate="")
        rate = f"{progress.per_second:,.0f}/s" if progress.done else ""
        bars.update(tasks[progress.step], completed=progress.done, total=progress.total, rate=rate)

    return show
