"""The sets of points, each in its order."""

from collections.abc import Mapping
from typing import Final

from tests.acceptance import corpus, killing, load, rotation
from tests.acceptance.points import Point

SETS: Final[Mapping[str, Mapping[str, Point]]] = {
    "runs": {
        "corpus": corpus.run,
        "load": load.run,
        "killing": killing.run,
        "rotation": rotation.run,
    },
}
