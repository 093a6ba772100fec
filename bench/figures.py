"""A figure of the table: what was measured, round by round, and beside what.

A figure is the median of its rounds. A ratio is the median of the rounds' own ratios: what disturbs the machine in a round
disturbs figure and floor alike.
"""

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio to the first floor is to be: at least or at most this."""

    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        return f"≥ {self.least:.2f}" if self.least is not None else f"≤ {self.most:.2f}"

    def is_reached(self, ratio: float) -> bool:
        """Say whether the ratio is as it is to be."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


@dataclass(slots=True)
class Figure:
    """A line of the table; without floors it is one itself, or stands alone."""

    section: str
    what: str
    at: str  # under which circumstance: "32 connections", "1,000,000 tokens"
    unit: str  # "a second", "p99 ms", "MB"
    rounds: list[float] = field(default_factory=list)
    # The floors' values in the same rounds, by their names; the goal is about the first.
    beside: dict[str, list[float]] = field(default_factory=dict)
    goal: Goal | None = None
    checked: int = 0  # answers compared with what is known
    wrong: int = 0
    failed: int = 0  # requests without an answer
    example: str = ""  # of a wrong answer
    note: str = ""  # what else a reader must know of this line

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    def ratios(self) -> dict[str, float]:
        """Answer the ratio to each floor."""
        return {
            floor: statistics.median(value / other for value, other in zip(self.rounds, values, strict=True))
            for floor, values in self.beside.items()
        }

    def is_reached(self) -> bool | None:
        """Say whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.goal.is_reached(next(iter(self.ratios().values())))

    def answer(self) -> dict[str, object]:
        """Answer the figure as JSON has it."""
        return {
            "section": self.section,
            "what": self.what,
            "at": self.at,
            "unit": self.unit,
            "figure": _rounded(self.value),
            "lowest": _rounded(min(self.rounds)),
            "highest": _rounded(max(self.rounds)),
            "rounds": len(self.rounds),
            "ratios": {floor: round(ratio, 3) for floor, ratio in self.ratios().items()},
            "goal": str(self.goal) if self.goal else None,
            "reached": self.is_reached(),
            "answers": self.checked,
            "wrong": self.wrong,
            "failed": self.failed,
            "note": self.note,
        }


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 100 else round(value, 3)
