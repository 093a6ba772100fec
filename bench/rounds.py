"""Rows that are measured in turns: each once a round, its floors in the same round."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.figures import Figure, Goal
from bench.load import Measured
from bench.stage import Stage

A_SECOND = "a second"
P99 = "p99 ms"


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured; `measure` takes connections and seconds.

    `beside` names its floors, other rows; the goals, by connections, are about the first of them, and so is the 99th
    percentile's, which is a line of its own.
    """

    what: str
    measure: Callable[[int, int], Measured]
    beside: tuple[str, ...] = ()
    goals: Mapping[int, Goal] = field(default_factory=dict)
    p99_goal: Goal | None = None


def needed(stage: Stage, section: str, rows: Sequence[Row]) -> list[Row]:
    """Answer the rows that are asked for, their floors and the floors' floors, in order."""
    by_name = {row.what: row for row in rows}
    names: set[str] = set()
    more = [row.what for row in rows if stage.wants(section, row.what)]
    while more:
        name = more.pop()
        if name not in names:
            names.add(name)
            more += by_name[name].beside
    return [row for row in rows if row.what in names]


def measure(stage: Stage, section: str, rows: Sequence[Row]) -> list[Figure]:
    """Measure the rows that are asked for, at every number of connections, once a round."""
    rows = needed(stage, section, rows)
    figures: dict[tuple[str, int, str], Figure] = {}
    for number in range(stage.rounds):
        for count in stage.connections:
            stage.tell(f"round {number + 1} of {stage.rounds}, {count} connections")
            measured: dict[str, Measured] = {}
            for row in rows:
                measured[row.what] = row.measure(count, stage.seconds)
            for row in rows:
                _add(figures, section, row, count, measured)
    return [figures[key] for key in sorted(figures, key=lambda key: key[2] == P99)]


def _add(
    figures: dict[tuple[str, int, str], Figure], section: str, row: Row, count: int, measured: Mapping[str, Measured]
) -> None:
    """Add what a round has measured of a row."""
    own = measured[row.what]
    figure = figures.setdefault(
        (row.what, count, A_SECOND),
        Figure(section, row.what, f"{count} connections", A_SECOND, goal=row.goals.get(count)),
    )
    figure.rounds.append(own.per_second)
    figure.checked += own.checked
    figure.wrong += own.wrong
    figure.failed += own.failed
    figure.example = figure.example or own.example
    for floor in row.beside:
        figure.beside.setdefault(floor, []).append(measured[floor].per_second)
    if own.p99_ms is None:
        return
    slowest = figures.setdefault(
        (row.what, count, P99), Figure(section, row.what, f"{count} connections", P99, goal=row.p99_goal)
    )
    slowest.rounds.append(own.p99_ms)
    for floor in row.beside:
        p99_ms = measured[floor].p99_ms
        if p99_ms is not None:
            slowest.beside.setdefault(floor, []).append(p99_ms)


def at(what: str, circumstance: str) -> str:
    """Name a row of something that is measured under several circumstances; they become the column of their own."""
    return f"{what} | {circumstance}"


def told_apart(figures: Iterable[Figure]) -> list[Figure]:
    """Answer the rates among the figures of such rows, what and circumstance in their own columns."""
    rates = [figure for figure in figures if figure.unit == A_SECOND]
    for figure in rates:
        figure.what, _, figure.at = figure.what.partition(" | ")
        figure.beside = {_seen_from(figure.what, floor): values for floor, values in figure.beside.items()}
    return rates


def _seen_from(what: str, floor: str) -> str:
    other, _, circumstance = floor.partition(" | ")
    return f"it at {circumstance}" if other == what else other
