"""The table: on the terminal, and in docs/benchmarks.md, where it stands between two marks."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from bench.figures import Figure

BEGINS: Final = "<!-- measured: written by `make bench`, not by hand -->"
ENDS: Final = "<!-- /measured -->"
COLUMNS: Final = ("what", "at", "figure", "lowest to highest", "ratio to its floor", "goal", "reached", "answers", "wrong")


def repeat(figure: Figure) -> str:
    """Answer the command that measures this line again."""
    return f"python -m bench --only '{re.escape(figure.section)}: {re.escape(figure.what)}'".replace("\\ ", " ")


def cells(figure: Figure) -> tuple[str, ...]:
    """Answer the columns of a line."""
    reached = figure.is_reached()
    return (
        figure.what,
        figure.at,
        f"{number(figure.value)} {figure.unit}",
        f"{number(min(figure.rounds))} to {number(max(figure.rounds))}",
        "; ".join(f"{ratio:.2f} of {floor}" for floor, ratio in figure.ratios().items()),
        str(figure.goal or ""),
        "" if reached is None else "yes" if reached else "no",
        f"{figure.checked:,}" if figure.checked else "",
        (f"{figure.wrong:,}" if figure.checked else "") + (f" + {figure.failed:,} failed" if figure.failed else ""),
    )


def number(value: float) -> str:
    """Write a number with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def notes(figures: Iterable[Figure]) -> list[str]:
    """Answer what else is to be known, of the lines that have it."""
    return [f"{figure.what}, {figure.at}: {figure.note}." for figure in figures if figure.note]


def for_terminal(figures: Sequence[Figure]) -> Iterator[Table]:
    """Make a table of each section."""
    for section, grouped in itertools.groupby(figures, key=lambda figure: figure.section):
        lines = list(grouped)
        table = Table(title=section, caption="\n".join(notes(lines)), caption_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in ("what", "at") else "right")
        for figure in lines:
            table.add_row(*cells(figure))
        yield table


def as_markdown(
    figures: Sequence[Figure], facts: Mapping[str, object], command: str, pictures: Mapping[str, Sequence[str]]
) -> str:
    """Write the tables of all sections, and what they were measured on; `pictures` are each section's, as Markdown."""
    parts = [f"`{command}`: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    for section, grouped in itertools.groupby(figures, key=lambda figure: figure.section):
        lines = list(grouped)
        rows = [" | ".join(("", *cells(figure), "")).strip() for figure in lines]
        parts.append(f"### {section}")
        parts.append(f"Again: `python -m bench --only '^{section}: '`; one line: `{repeat(lines[-1])}`.")
        parts.append("\n".join([f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|", *rows]))
        parts += ["\n".join(f"- {note}" for note in notes(lines))] if notes(lines) else []
        parts += pictures.get(section, ())
    return "\n\n".join(parts)


def write_between_marks(page: Path, text: str) -> None:
    """Put the text in the place of what stands between the marks of a page."""
    before, begins, rest = page.read_text().partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"{page} has no place for what was measured: {BEGINS} ... {ENDS}")
    page.write_text(f"{before}{BEGINS}\n\n{text}\n\n{ENDS}{after}")
