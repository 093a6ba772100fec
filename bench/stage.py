"""What a section of the bench is, and what it is given."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.figures import Figure

Size = Literal["small", "default", "full"]


@dataclass(frozen=True, slots=True)
class Stage:
    """How large, how often, where."""

    size: Size
    folder: Path  # the section's own; removed after it
    workers: int
    rounds: int
    seconds: int  # of one measurement
    connections: tuple[int, ...]
    only: re.Pattern[str]
    tell: Callable[[str], None]  # what is being done now, for whoever waits

    def wants(self, section: str, what: str) -> bool:
        """Say whether this line is asked for; floors are measured with whatever stands beside them."""
        return self.only.search(f"{section}: {what}") is not None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the bench that starts what it needs, measures, and leaves nothing behind.

    `rows` are the names (`Figure.what`) that `measure` may answer: a section of which none is asked for is not started.
    """

    name: str
    rows: tuple[str, ...]
    measure: Callable[[Stage], Iterable[Figure]]
    seconds: Mapping[Size, int]  # how long it takes on two cores
    gigabytes: Mapping[Size, float]  # of disk, at its largest
