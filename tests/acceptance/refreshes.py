"""Two, eight and 32 simultaneous refreshes with one one-time token, 200 rounds of each (rotation.py)."""

from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.rotation import play

CALLERS: Final = (2, 8, 32)
ROUNDS: Final = 200


def run(stage: Stage) -> Shown:
    """Refresh in rounds, and count in the log what came of each."""
    return play(stage, CALLERS, ROUNDS)
