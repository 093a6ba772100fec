"""The listing of tokens: one request looks at a fixed number of them, and the pages together leave none out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from ledger.database import make_pool
from ledger.events import ApiRegistered, ApiSuspended, ClientRegistered, Event, SubjectRegistered, TokenIssued, TokenRevoked
from ledger.execute import Pool
from ledger.states import Token, TokenState
from projections.reading import as_array
from projections.reference import Kept, ReferenceKeeper
from projections.token_listing import NEWEST, SCANNED, Key, TokenFilters, TokenPage, find_token, list_tokens
from projections.token_listing import PARTIES as READ_PARTIES
from tests.builders import api, client, subject, token
from tests.conftest import Database
from tests.recording import record

Answer = TypeVar("Answer")

API, CLIENT, SUBJECT = api(), client(), subject()
PARTIES: Sequence[Event] = (
    ApiRegistered(api_id=API.api_id, api=API),
    ClientRegistered(client_id=CLIENT.client_id, client=CLIENT),
    SubjectRegistered(subject_id=SUBJECT.subject_id, subject=SUBJECT),
)
TOKENS_AN_EVENT = 100


def ask(database: Database, query: Callable[[Pool, ReferenceKeeper], Awaitable[Answer]]) -> Answer:
    """Ask as a worker does that has just started."""

    async def asked() -> Answer:
        async with make_pool(database.service, max_size=1, wait_seconds=5) as pool:
            return await query(pool, ReferenceKeeper(pool))

    return asyncio.run(asked())


def issued(number: int, **fields: object) -> list[Event]:
    """Issue so many tokens, a hundred at a time, all of the same client and subject."""
    events: list[Event] = []
    for start in range(0, number, TOKENS_AN_EVENT):
        family_id = uuid4()
        row = token(
            family_id=family_id, subject_id=SUBJECT.subject_id, client_id=CLIENT.client_id, api_ids=(API.api_id,), **fields
        )
        rows = tuple(replace(row, token_id=uuid4()) for _ in range(min(TOKENS_AN_EVENT, number - start)))
        events.append(
            TokenIssued(family_id=family_id, subject_id=row.subject_id, client_id=row.client_id, tokens=rows, family=None)
        )
    return events


def tokens_of(events: Sequence[Event]) -> list[Token]:
    return [row for event in events if isinstance(event, TokenIssued) for row in event.tokens]


def revoked(row: Token) -> Event:
    state = TokenState(row.token_id, "revoked", "leaked", None)
    return TokenRevoked(row.family_id, row.token_id, row.subject_id, row.client_id, state)


def page_of(database: Database, filters: TokenFilters, limit: int, before: Key = NEWEST) -> TokenPage:
    return ask(database, lambda pool, reference: list_tokens(pool, reference, filters, limit=limit, before=before))


def ids(page: TokenPage) -> list[UUID]:
    return [listed.token.token_id for listed in page.tokens]


@pytest.mark.parametrize(
    "filters",
    [
        TokenFilters(state="revoked"),
        TokenFilters(kind="refresh"),
        TokenFilters(client_id=CLIENT.client_id, state="revoked"),
        TokenFilters(subject_id=SUBJECT.subject_id, kind="refresh"),
    ],
)
def test_a_page_ends_where_so_many_tokens_were_looked_at_and_the_next_goes_on(
    database: Database, filters: TokenFilters
) -> None:
    old = issued(1, kind="refresh")
    record(database, [*PARTIES, *old, *issued(SCANNED + 50), revoked(tokens_of(old)[0])])
    first = page_of(database, filters, 1_000)
    assert first.tokens == []
    assert first.next is not None
    second = page_of(database, filters, 1_000, first.next)
    assert ids(second) == [tokens_of(old)[0].token_id]
    assert second.next is None


def test_pages_together_hold_every_token_once_though_hundreds_have_one_position(database: Database) -> None:
    events = issued(650)
    record(database, [*PARTIES, *events])
    for filters in (TokenFilters(), TokenFilters(state="active"), TokenFilters(client_id=CLIENT.client_id)):
        seen, before = list[tuple[int, UUID]](), NEWEST
        while True:
            page = page_of(database, filters, 97, before)
            seen += [(listed.token.position, listed.token.token_id) for listed in page.tokens]
            if page.next is None:
                break
            assert len(page.tokens) == 97
            before = page.next
        assert seen == sorted(seen, reverse=True)
        assert {token_id for _, token_id in seen} == {row.token_id for row in tokens_of(events)}
        assert len(seen) == 650


def test_a_token_recorded_long_after_it_was_decided_on_is_found_by_when_it_was_issued(database: Database) -> None:
    events = issued(1)
    (row,) = tokens_of(events)
    record(database, [*PARTIES, *events])
    position = page_of(database, TokenFilters(), 1).position
    recorded_at = page_of(database, TokenFilters(), 1).instant
    for late, found in ((timedelta(seconds=100), True), (timedelta(days=1), False)):
        other = issued(1, issued_at=recorded_at - late, expires_at=recorded_at + timedelta(minutes=10))
        record(database, other)
        filters = TokenFilters(issued_after=recorded_at - late, issued_before=recorded_at - late + timedelta(seconds=1))
        # A day late there is none: what is decided is recorded within two minutes, or not at all.
        assert ids(page_of(database, filters, 10)) == [t.token_id for t in tokens_of(other) if found]
    assert page_of(database, TokenFilters(), 10).position == position + 2
    assert row.token_id in ids(page_of(database, TokenFilters(), 10))


@pytest.mark.parametrize("one", [False, True], ids=["a page", "one token"])
def test_what_was_judged_by_reference_data_that_changed_meanwhile_is_read_again(database: Database, one: bool) -> None:
    """What a token is worth is said by the clients, APIs and keys of the very position that it was read at."""
    events = issued(1)
    record(database, [*PARTIES, *events])
    suspended = ApiSuspended(api_id=API.api_id, api=replace(API, status="suspended"))

    class Changing(ReferenceKeeper):
        """Another request of the worker sees a change between the steps of this one."""

        changed_at = 0

        async def at(self, position: int) -> Kept | None:
            kept = await super().at(position)
            if not self.changed_at:
                self.changed_at = len(PARTIES) + len(events) + 1
                await asyncio.to_thread(record, database, [suspended])
                await super().at(self.changed_at)
            return kept

    async def query(pool: Pool, _: ReferenceKeeper) -> TokenPage:
        reference = Changing(pool)
        if one:
            return await find_token(pool, reference, tokens_of(events)[0].token_id)
        return await list_tokens(pool, reference, TokenFilters(), limit=1)

    page = ask(database, query)
    assert (page.position, page.tokens[0].standing.reason) == (len(PARTIES) + len(events) + 1, "api_suspended")


def test_a_token_that_is_not_there_is_a_page_of_none(database: Database) -> None:
    record(database, [*PARTIES, *issued(1)])
    assert ask(database, lambda pool, reference: find_token(pool, reference, uuid4())).tokens == []


def test_tokens_for_many_apis_with_many_roles_in_scope_are_no_more_work_than_that(
    database: Database,
) -> None:
    number, many = 20, 100
    apis, roles = tuple(uuid4() for _ in range(many)), tuple(uuid4() for _ in range(many))
    events = [
        TokenIssued(e.family_id, e.subject_id, e.client_id, widened(e.tokens, apis, roles), None)
        for e in issued(number)
        if isinstance(e, TokenIssued)
    ]
    record(database, [*PARTIES, *events])
    token_ids = [row.token_id for row in tokens_of(events)]

    async def rows_looked_at(pool: Pool, _: ReferenceKeeper) -> float:
        async with pool.connection() as connection:
            explained = await connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + READ_PARTIES, (as_array(token_ids),))
            ((plans,),) = await explained.fetchall()
        return max(rows_of(plans[0]["Plan"]))

    assert ask(database, rows_looked_at) <= 2 * number * many


def widened(rows: Sequence[Token], api_ids: tuple[UUID, ...], role_ids: tuple[UUID, ...]) -> tuple[Token, ...]:
    return tuple(replace(row, api_ids=api_ids, role_ids=role_ids) for row in rows)


def rows_of(plan: dict[str, Any]) -> Iterator[float]:
    """Answer how many rows each step of a plan has made."""
    yield plan["Actual Rows"] * plan["Actual Loops"]
    for below in plan.get("Plans", []):
        yield from rows_of(below)
