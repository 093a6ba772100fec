"""How many requests there were, by route and status, and how long they took: counted by every worker, told by any.

The counts lie in memory that all workers share: made before they are forked, each adds in a place of its own, and whoever is
asked sums up the places. So nothing is locked, sent or written to a file, no count is lost with a worker that ends (its place
goes to the next), and a request costs less than a microsecond (docs/decisions.md).
"""

import mmap
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The last of each stands for all others.
OTHER_STATUS: Final = 0
STATUSES: Final = (200, 201, 204, 400, 401, 403, 404, 405, 409, 410, 413, 414, 415, 422, 429, 431, 500, 502, 503, OTHER_STATUS)
NO_ROUTE: Final = "none"
# Upper bounds in seconds; what is above the last counts for none of them.
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_COLUMNS: Final = {status: column for column, status in enumerate(STATUSES)}
_OTHER: Final = _COLUMNS[OTHER_STATUS]
_FIRST_BUCKET: Final = len(STATUSES)
_SECONDS: Final = _FIRST_BUCKET + len(BUCKETS) + 1
_WIDTH: Final = _SECONDS + 1
_BYTES: Final = 8  # of a float, which is read and written in one go


@dataclass(frozen=True, slots=True)
class RouteCounts:
    """Of one route: requests by status, how many took up to each of BUCKETS and how many more, and seconds in all."""

    route: str
    statuses: dict[int, int]
    durations: tuple[int, ...]
    seconds: float


class RequestCounts:
    """The counts of a server's workers, `places` at once; `take` says which place this process adds in."""

    def __init__(self, routes: Sequence[str] = (), places: int = 1) -> None:
        self._routes = (*dict.fromkeys(routes), NO_ROUTE)
        self._places = places
        self._size = len(self._routes) * _WIDTH
        self._cells = memoryview(mmap.mmap(-1, places * self._size * _BYTES)).cast("d")
        self._rows: dict[str | None, int] = {}
        self.take(0)

    def take(self, place: int) -> None:
        """Add in this place from now on."""
        start = place % self._places * self._size
        self._rows = {route: start + number * _WIDTH for number, route in enumerate(self._routes)}
        self._none = self._rows[NO_ROUTE]

    def add(self, route: str | None, status: int, seconds: float) -> None:
        """Count a request; route None, or one that is not known: it was for no route."""
        row, cells = self._rows.get(route, self._none), self._cells
        cells[row + _COLUMNS.get(status, _OTHER)] += 1.0
        cells[row + _FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1.0
        cells[row + _SECONDS] += seconds

    def read(self) -> list[RouteCounts]:
        """Answer what all workers have counted, of every route that was asked."""
        found = []
        for number, route in enumerate(self._routes):
            starts = [place * self._size + number * _WIDTH for place in range(self._places)]
            sums = [sum(self._cells[start + column] for start in starts) for column in range(_WIDTH)]
            counts = [int(count) for count in sums[:_SECONDS]]
            statuses = {status: count for status, count in zip(STATUSES, counts, strict=False) if count}
            if statuses:
                found.append(RouteCounts(route, statuses, tuple(counts[_FIRST_BUCKET:]), sums[_SECONDS]))
        return found
