"""Audit queries: pages under whatever filters, spans and orders are what a plain walk over the whole log finds."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.database import connect
from ledger.events import Event, FamilyRevoked, TokenIssued, TokenRotated
from ledger.log import Actor, append
from projections import audit
from projections.audit import Connection, EventPage, Filters, Source, Span, candidates, read_events
from tests.audit_model import any_filters, any_span, matches, whole_log, within
from tests.builders import actors, command, events, family, token_issued
from tests.conftest import Database


async def walk(connection: Connection, filters: Filters, span: Span, limit: int) -> list[EventPage]:
    """Answer every page, from the first to the one that says it is the last."""
    pages: list[EventPage] = []
    cursor: int | None = None
    while not pages or cursor is not None:
        pages.append(await read_events(connection, filters, replace(span, cursor=cursor), limit=limit))
        assert pages[-1].next is None or pages[-1].next != cursor
        cursor = pages[-1].next
    return pages


def positions(pages: Sequence[EventPage]) -> list[int]:
    return [event.position for page in pages for event in page.events]


Question = tuple[Filters, Span, int]


def check(database: Database, questions: Sequence[Question]) -> list[list[EventPage]]:
    """Answer the pages of each question, compared with the model."""
    log = whole_log(database.ledger_owner)

    async def walked() -> list[list[EventPage]]:
        async with await connect(database.service) as connection:
            return [await walk(connection, *question) for question in questions]

    answers = asyncio.run(walked())
    for (filters, span, limit), pages in zip(questions, answers, strict=True):
        expected = [event["position"] for event in log if matches(event, filters) and within(event, span)]
        assert positions(pages) == (expected[::-1] if span.newest_first else expected)
        assert all(len(page.events) <= limit for page in pages)
    return answers


# ------------------------------------------------------------------------------------------------------------ any history


History = Sequence[tuple[Actor, Sequence[Event]]]


def _is_whole(added: Sequence[Event]) -> bool:
    """Nobody issues no token."""
    return all(event.tokens for event in added if isinstance(event, TokenIssued | TokenRotated))


@st.composite
def issues_by_anybody(draw: st.DrawFn) -> tuple[Actor, Sequence[Event]]:
    """An issue by its subject, its client, the ledger or somebody else: only the last has an audit entry."""
    few = [UUID(int=number) for number in range(1, 5)]
    subject_id, client_id, other = (draw(st.sampled_from(few)) for _ in range(3))
    ids = {"family_id": draw(st.sampled_from(few)), "subject_id": subject_id, "client_id": client_id}
    actor = draw(
        st.sampled_from(
            [
                Actor("subject", subject_id, "password"),
                Actor("client", client_id, "client_secret_basic"),
                Actor("subject", other, "token"),
                Actor.SYSTEM,
            ]
        )
    )
    return actor, [token_issued(family=family(**ids))]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Commands of one to three events, each a batch of its own."""
    anything = st.tuples(actors(), events(max_size=3).filter(_is_whole))
    return draw(st.lists(anything | issues_by_anybody(), min_size=1, max_size=10))


def record(database: Database, history: History) -> None:
    async def appended() -> None:
        async with await connect(database.service) as connection:
            for actor, added in history:
                found = await connection.execute("SELECT s.stream, s.version FROM ledger.streams s")
                versions: dict[UUID, int] = dict(await found.fetchall())
                reads = {event.stream: versions.get(event.stream, 0) for event in added}
                (outcome,) = await append(connection, [command(*added, reads=reads, actor=actor)])
                assert outcome.outcome == "recorded"

    asyncio.run(appended())


@pytest.mark.parametrize("scanned", [1, 4])
def test_pages_hold_what_a_walk_over_the_whole_log_finds(
    any_database: Database, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    """However little a request may scan: pages get shorter, nothing is left out, nothing comes twice."""
    monkeypatch.setattr(audit, "SCANNED", scanned)
    monkeypatch.setattr(audit, "MIN_CHUNK", 2)

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(histories(), st.integers(0, 2**32))
    def checked(history: History, seed: int) -> None:
        record(any_database, history)
        log = whole_log(any_database.ledger_owner)
        chance = random.Random(seed)
        check(
            any_database,
            [(any_filters(log, chance), any_span(log, chance), chance.choice([1, 2, 5, 100])) for _ in range(12)],
        )

    checked()


# ------------------------------------------------------------------------------------------------------ how far a page goes


def issues(count: int, **ids: UUID) -> History:
    """Answer logins, each a batch of its own."""
    return [(Actor("subject", uuid4(), "password"), [token_issued(family=family(**ids))]) for _ in range(count)]


def test_the_filter_that_reaches_farthest_leads(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a busy client's events one type is rare, of a common type one client's are: neither takes a page for each scan."""
    monkeypatch.setattr(audit, "SCANNED", 4)
    busy, quiet = uuid4(), uuid4()
    other = family(client_id=busy)
    rare = FamilyRevoked(family_id=other.family_id, subject_id=other.subject_id, client_id=busy, family=other)
    record(database, [*issues(2, client_id=quiet), (Actor.SYSTEM, [rare]), *issues(30, client_id=busy)])
    of_rare_type = Filters(client_id=busy, types=("family_revoked",))
    of_quiet_client = Filters(client_id=quiet, types=("token_issued",))
    spans = Span(newest_first=True), Span(newest_first=False)
    answers = check(database, [(filters, span, 10) for filters in (of_rare_type, of_quiet_client) for span in spans])
    assert [len(pages) for pages in answers] == [1, 1, 1, 1]


def test_a_request_scans_no_more_than_its_share_of_a_long_family(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SCANNED", 5)
    ids = {"family_id": uuid4(), "subject_id": uuid4(), "client_id": uuid4()}
    record(database, issues(23, **ids))
    spans = [Span(from_position=f, to_position=t, newest_first=n) for f, t in ((1, 23), (9, 12)) for n in (True, False)]
    for pages in check(database, [(Filters(family_id=ids["family_id"]), span, 100) for span in spans]):
        assert all(len(page.events) <= 5 for page in pages)
        assert len(pages) <= 6


def test_a_page_is_full_by_the_size_of_its_events_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record(database, issues(6))
    monkeypatch.setattr(audit, "PAGE_BYTES", 1)
    (pages,) = check(database, [(Filters(), Span(), 100)])
    assert [len(page.events) for page in pages] == [1] * 6
    monkeypatch.setattr(audit, "PAGE_BYTES", 2_000)
    (pages,) = check(database, [(Filters(), Span(newest_first=False), 100)])
    assert 1 < len(pages) < 6


def test_a_page_says_up_to_where_the_log_was_read(database: Database) -> None:
    record(database, issues(3))
    ((page,),) = check(database, [(Filters(), Span(newest_first=False), 100)])
    assert page.position == 3
    assert page.next is None


def test_sources_are_whole_as_far_as_the_least_of_their_branches() -> None:
    everything = Source(frozenset({1, 2, 3, 4, 5, 6}), None)
    cut = Source(frozenset({2, 3}), 3)
    assert candidates([everything, cut]) == ([2, 3, 4, 5, 6], None)
    assert candidates([cut, Source(frozenset({1, 2, 4, 9}), 9)]) == ([2, 4, 9], 9)
    assert candidates([Source(frozenset(), None), cut]) == ([], None)
