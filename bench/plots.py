"""The plots of docs/benchmarks.md, as SVG: of the same figures the same bytes."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing

from bench.figures import Figure

INCHES: Final = (8.0, 4.0)


@dataclass(frozen=True, slots=True)
class Plot:
    """A line for each `what` of a section, over the number that its circumstance begins with."""

    name: str
    title: str
    section: str
    unit: str
    across: str  # what the number counts
    only: str = ""  # a regular expression of "what, at"
    relative: bool = False  # to the line's own first point


PLOTS: Final = (
    Plot(
        "decisions",
        "Decisions a second",
        "decisions",
        "a second",
        "connections",
        "hello-world, Falcon|query|gateway|AuthZEN|intro",
    ),
    Plot(
        "p99",
        "99th percentile of latency, ms",
        "decisions",
        "p99 ms",
        "connections",
        "hello-world, Falcon|gateway|AuthZEN|intro",
    ),
    Plot("growth", "Rate beside that on the smallest ledger", "growth", "a second", "tokens", relative=True),
    Plot("paths", "Decisions a second by rules of a role", "paths", "a second", "rules a role", "1 API$"),
    Plot("replay", "Events a second that a replay folds", "replay", "events a second", "events"),
)


def draw(figures: Sequence[Figure], folder: Path) -> dict[str, list[str]]:
    """Write the plots of what was measured; answer how the page above the folder shows those of each section."""
    folder.mkdir(exist_ok=True)
    shown: dict[str, list[str]] = defaultdict(list)
    for plot in PLOTS:
        if _draw(plot, figures, folder / f"{plot.name}.svg"):
            shown[plot.section].append(f"![{plot.title}]({folder.name}/{plot.name}.svg)")
    return shown


def _draw(plot: Plot, figures: Sequence[Figure], path: Path) -> bool:
    lines: dict[str, list[tuple[int, Figure]]] = defaultdict(list)
    for figure in figures:
        number = re.match(r"[\d,]+", figure.at)
        asked = (figure.section, figure.unit) == (plot.section, plot.unit) and re.search(
            plot.only, f"{figure.what}, {figure.at}"
        )
        if asked and number is not None:
            lines[figure.what].append((int(number[0].replace(",", "")), figure))
    if not lines:
        return False
    # Text stays text: small files, and the same whatever fonts there are.
    with mpl.rc_context({"svg.hashsalt": "token-ledger", "svg.fonttype": "none", "font.size": 9}):
        drawing = Drawing(figsize=INCHES, layout="constrained")
        axes = drawing.subplots()
        axes.grid(alpha=0.3)
        for what, points in sorted(lines.items()):
            points.sort(key=lambda point: point[0])
            by = points[0][1].value if plot.relative else 1.0
            values = [figure.value / by for _, figure in points]
            spread = [
                [value - min(figure.rounds) / by for value, (_, figure) in zip(values, points, strict=True)],
                [max(figure.rounds) / by - value for value, (_, figure) in zip(values, points, strict=True)],
            ]
            floor = what.startswith(("hello-world", "the query", "INSERT"))
            axes.errorbar(
                [number for number, _ in points],
                values,
                spread,
                label=what,
                marker="o",
                capsize=3,
                linestyle="--" if floor else "-",
            )
        axes.set_xscale("log")
        ticks = sorted({number for points in lines.values() for number, _ in points})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:.1f}" if plot.relative else "{x:,.0f}")
        axes.set(title=plot.title, xlabel=plot.across)
        drawing.legend(loc="outside right upper")
        drawing.savefig(path, metadata={"Date": None})
    return True
