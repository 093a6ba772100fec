"""What a point of acceptance is given, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class FellShort(AssertionError):
    """What was promised was not seen; the message says what was."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a point runs.

    `folder` is its own and goes with it; temporary files of everything it starts land there too. `vectors` holds corpora and
    vectors, where there are any. `scale` below 1 makes a run smaller, for work on the point itself.
    """

    folder: Path
    vectors: Path
    scale: float
    progress: Callable[[str, int, int | None], None]

    def scaled(self, number: int) -> int:
        """Answer how many of `number` things are to be done; at least one."""
        return max(1, round(number * self.scale))

    def corpus(self, name: str) -> Path:
        """Answer the path of a file below `vectors`; FellShort where it is not there."""
        path = self.vectors / name
        if not path.exists():
            raise FellShort(f"{name} is not in {self.vectors}: TOKEN_LEDGER_VECTORS names the folder that holds it")
        return path


@dataclass(frozen=True, slots=True)
class Shown:
    """What a point did, the figure that came out, and whether it is what was promised; `lines` are printed below that."""

    done: str
    figure: str
    held: bool = True
    lines: tuple[str, ...] = ()


Point = Callable[[Stage], Shown]
