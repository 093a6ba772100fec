"""What management shows, as of now or of a moment of the past: the parts that its endpoints have in common.

Reference data of now is what the worker keeps; of then it is read, of just the rows that are shown. Nothing of it is ever
gone, and names are for ever: whatever was there then is among what is kept now.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from api.pages import MAX_PAGE, Slice, read_as_of, slice_of
from api.service import NOBODY, Service
from ledger.apis import api_id_of
from ledger.errors import UnknownApi, UnknownRole
from ledger.instants import rfc3339
from ledger.states import Api, Client, Role
from projections.moments import Moment
from projections.reference import Kept, read_reference_as_of

Row = TypeVar("Row", Client, Api, Role)

_IDS: Final = {"clients": "client_id", "apis": "api_id", "roles": "role_id"}


@dataclass(frozen=True, slots=True)
class Seen:
    """As of when something is shown: a moment, or None for now; and what the worker keeps as of now."""

    service: Service
    moment: Moment | None
    kept: Kept

    async def reference(self, **ids: Iterable[UUID]) -> Kept:
        """Answer the rows of these ids (`client_ids`, `api_ids`, `role_ids`) as they were; of now, all there are."""
        if self.moment is None:
            return self.kept
        position = self.moment.position
        async with self.service.pool.connection() as connection:
            wanted = {name: list(dict.fromkeys(some)) for name, some in ids.items()}
            return (await read_reference_as_of(connection, [position], **wanted))[position]

    async def rows(self, view: Literal["clients", "apis", "roles"], rows: Sequence[Row]) -> list[Row]:
        """Answer rows of now as they were; what was not there yet is left out."""
        if self.moment is None:
            return list(rows)
        name = _IDS[view]
        then = getattr(await self.reference(**{f"{name}s": [getattr(row, name) for row in rows]}), view)
        return [then[row_id] for row in rows if (row_id := getattr(row, name)) in then]

    async def role(self, api: str, name: str) -> Role:
        """Answer the role that has, or had then, this name. UnknownApi, UnknownRole."""
        api_id = api_id_of(api)
        if api_id not in (await self.reference(api_ids=[api_id])).apis:
            raise UnknownApi(api)
        # One that was removed since may have had it, and another have it now.
        named = [row for row in self.kept.roles.values() if (row.api_id, row.name) == (api_id, name)]
        for row in await self.rows("roles", named):
            if not row.removed:
                return row
        raise UnknownRole(f"{api}:{name}")

    async def slice(
        self,
        view: Literal["clients", "apis", "roles"],
        rows: Iterable[Row],
        query: dict[str, str],
        matches: Callable[[Row], bool] = lambda _: True,
    ) -> Slice:
        """Answer a page of those that match, in the order of their names. Of then it may hold fewer than its limit, and go on:
        one request looks at as many rows as the largest page has."""
        if self.moment is None:
            return slice_of(filter(matches, rows), query, _name)
        following = sorted((row for row in rows if row.name > query.get("cursor", "")), key=_name)
        window = following[:MAX_PAGE]
        # A role that was removed and made again has two rows under one name: a page ends after both.
        window += [row for row in following[MAX_PAGE:] if row.name == window[-1].name]
        page = slice_of(filter(matches, await self.rows(view, window)), query, _name)
        return Slice(page.items, page.next or (window[-1].name if len(following) > len(window) else None))

    def where(self, position: int, instant: datetime) -> dict[str, Any]:
        """Answer as of what an answer is, as it is said; of the past, in which log besides."""
        members: dict[str, Any] = {"position": position, "instant": rfc3339(instant)}
        return members if self.moment is None else members | {"log_id": str(self.moment.log_id)}


def _name(row: Client | Api | Role) -> str:
    return row.name


async def see(service: Service, query: Mapping[str, str], kept: Kept) -> Seen:
    """Answer as of when a query (`as_of`, `instant`) wants to see. InvalidInput."""
    as_of = read_as_of(query)
    return Seen(service, None if as_of is None else await service.moment(as_of), kept)


async def see_reference(service: Service, query: Mapping[str, str]) -> tuple[Seen, int, datetime]:
    """The same for reference data, with the position and the instant of what is seen."""
    found, kept = await service.find(NOBODY)
    seen = await see(service, query, kept)
    at = seen.moment or found
    return seen, at.position, at.instant
