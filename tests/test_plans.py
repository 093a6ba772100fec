"""Plans made on an empty store and kept, as the service keeps them, while the store grows: counted in buffers.

Every hot statement is prepared and run on an empty store; then 100,000 tokens are loaded and nothing is analysed; then the
same prepared statement runs again. A new hot statement is a line in HOT_STATEMENTS.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from ledger.database import connect
from ledger.execute import RECORDED_BEFORE
from ledger.jsontext import MAX_INTEGER
from ledger.log import append
from projections import blast_radius
from projections.archived import (
    read_first_position,
    refuse_archived_events,
    refuse_archived_rows,
    refuse_archived_token,
)
from projections.audit import (
    Filters,
    Span,
    read_at,
    read_clients_as_of,
    read_events,
    read_families_as_of,
    read_life,
    read_newest,
    read_subjects_as_of,
    read_succession,
)
from projections.changes import read_changes
from projections.feed import TAIL
from projections.health import read_health
from projections.lookup import look_up
from projections.moments import AsOf, read_moment
from projections.reading import READ_STATE
from projections.reference import read_reference_as_of, read_rules_of
from projections.revocations import ISSUED_LAST, PLAN
from projections.token_listing import LISTED, NEWEST, TokenFilters, read_bounds, read_parties, walk
from projections.who_could import SCANNED as SUBJECTS_LOOKED_AT
from projections.who_could import SUBJECT_AND_RULES, SUBJECTS_AND_RULES
from tests.builders import NOON, command, envelope, family, role, subject_registered, token_issued
from tests.conftest import Database

TOKENS = 100_000
SUBJECTS = 10_000
KEYS = 64
CLIENT = UUID(int=1)  # of every loaded token

# What a command per event would have made, in one go. Random ids: the worst case for the cache.
LOAD = """
INSERT INTO ledger.events (position, stream, version, type, schema_version, payload, metadata, recorded_at)
  SELECT e.head + n, md5('family' || n)::uuid, 1, 'token_issued', 1, e.issued || jsonb_build_object(
      'family_id', md5('family' || n)::uuid, 'subject_id', i.subject_id,
      'tokens', jsonb_build_array(e.issued -> 'tokens' -> 0 || jsonb_build_object('family_id', md5('family' || n)::uuid,
        'subject_id', i.subject_id, 'token_id', md5('token' || n)::uuid)),
      'family', e.issued -> 'family' || jsonb_build_object('family_id', md5('family' || n)::uuid, 'subject_id', i.subject_id)),
      e.metadata, clock_timestamp()
    FROM (SELECT %(head)s::bigint AS head, %(issued)s::jsonb AS issued, %(metadata)s::jsonb AS metadata OFFSET 0) AS e
    CROSS JOIN generate_series(1, %(tokens)s) AS n
    CROSS JOIN LATERAL (SELECT md5('subject' || 1 + n %% %(subjects)s)::uuid AS subject_id OFFSET 0) AS i;
INSERT INTO ledger.events (position, stream, version, type, schema_version, payload, metadata, recorded_at)
  SELECT e.head + %(tokens)s + n, i.subject_id, 1, 'subject_registered', 1, e.registered || jsonb_build_object(
      'subject_id', i.subject_id, 'subject', e.registered -> 'subject' || jsonb_build_object('subject_id', i.subject_id)),
      e.metadata, clock_timestamp()
    FROM (SELECT %(head)s::bigint AS head, %(registered)s::jsonb AS registered, %(metadata)s::jsonb AS metadata OFFSET 0) AS e
    CROSS JOIN generate_series(1, %(subjects)s) AS n
    CROSS JOIN LATERAL (SELECT md5('subject' || n)::uuid AS subject_id OFFSET 0) AS i;
INSERT INTO ledger.streams (stream, version, first_position, last_position)
  SELECT stream, 1, position, position FROM ledger.events WHERE position > %(head)s;
INSERT INTO ledger.commands (command_id, first_position, last_position)
  SELECT md5('command' || position - %(head)s)::uuid, position, position FROM ledger.events WHERE position > %(head)s;
INSERT INTO ledger.batches (last_position, recorded_at)
  SELECT position, recorded_at FROM ledger.events WHERE position > %(head)s;
SET LOCAL search_path = views, ledger;
SELECT fold(%(head)s + 1, %(head)s + %(tokens)s + %(subjects)s);
"""


def ids(kind: str, count: int, of: int = TOKENS) -> list[UUID]:
    """Answer ids from all over the loaded store."""
    return [UUID(hashlib.md5(f"{kind}{n}".encode()).hexdigest()) for n in range(1, of + 1, of // count)][:count]


Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True)
class HotStatement:
    """A statement of the hot path, run for a number of keys, and the buffers it may touch for each."""

    name: str
    run: Callable[[Connection, int], Awaitable[object]]
    buffers_a_key: int


async def _issue(connection: Connection, keys: int) -> None:
    """Append a batch of commands, each the first of its stream, and having read a subject."""
    outcomes = await append(
        connection, [command(token_issued(family=family())) for _ in range(keys - 1)] + [command(subject_registered())]
    )
    assert {outcome.outcome for outcome in outcomes} == {"recorded"}


async def _append_what_is_stale(connection: Connection, keys: int) -> None:
    """Append commands that read streams which are there at another version."""
    await append(connection, [command(token_issued(), reads={stream: 9}) for stream in ids("family", keys)])


async def _find_recorded(connection: Connection, keys: int) -> None:
    for command_id in ids("command", keys):
        await connection.execute(RECORDED_BEFORE, (command_id,))


async def _look_up(connection: Connection, keys: int) -> None:
    await look_up(connection.cursor(), ids("token", keys))


async def _read_state(connection: Connection, keys: int) -> None:
    families, subjects = ids("family", keys), ids("subject", keys, of=SUBJECTS)
    parameters = {
        "streams": [*families, *subjects],
        "token_ids": ids("token", keys),
        "family_ids": families,
        "subject_ids": subjects,
        "rules_of_subjects": subjects,
        "name_ids": ids("name", keys),
        "client_ids": ids("client", keys),
        "api_ids": ids("api", keys),
        "role_ids": ids("role", keys),
        "key_ids": ids("key", keys),
        "lockout_ids": ids("lockout", keys),
        "administrators": True,
        "rule_roles": ids("role", keys),
        "rule_ids": ids("rule", keys),
        "sealed_key_ids": subjects,
    }
    await connection.execute(READ_STATE, parameters)


async def _head(connection: Connection, keys: int) -> None:
    for _ in range(keys):
        await connection.execute(
            "SELECT b.last_position, b.recorded_at FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1"
        )


async def _health(connection: Connection, keys: int) -> None:
    for _ in range(keys):
        await read_health(connection)


async def _walk_all(connection: Connection, keys: int) -> None:
    """Walk along the index that all tokens share, and along the one of a client that has them all."""
    for filters in (TokenFilters(), TokenFilters(client_id=CLIENT)):
        await walk(connection, filters, await read_bounds(connection, filters), NEWEST, keys)


async def _walk_some(connection: Connection, keys: int) -> None:
    bounds = await read_bounds(connection, TokenFilters())
    for subject_id, family_id in zip(ids("subject", keys, of=SUBJECTS), ids("family", keys), strict=True):
        await walk(connection, TokenFilters(subject_id=subject_id), bounds, NEWEST, TOKENS)
        await walk(connection, TokenFilters(family_id=family_id), bounds, NEWEST, TOKENS)


async def _bounds(connection: Connection, keys: int) -> None:
    for _ in range(keys):
        await read_bounds(connection, TokenFilters(issued_after=NOON, issued_before=NOON))


async def _plan_of_revocation(connection: Connection, keys: int) -> None:
    for position, family_id in enumerate(ids("family", keys), start=1):
        await connection.execute(PLAN, {"position": position, "issued_after": NOON, "issued_before": NOON})
        await connection.execute(ISSUED_LAST, (family_id,))
    await read_parties(connection, ids("token", keys), TOKENS)


async def _listed(connection: Connection, keys: int) -> None:
    parameters = {"token_ids": ids("token", keys), "position": None, "instant": None}
    assert len(await (await connection.execute(LISTED, parameters)).fetchall()) == keys


def _audited(
    filters: Callable[[int], Filters], span: Callable[[], Span] = Span, *, limit: int = 10
) -> Callable[[Connection, int], Awaitable[None]]:
    """Ask audit as many questions as there are keys, each a first page."""

    async def ask(connection: Connection, keys: int) -> None:
        for number in range(keys):
            await read_events(connection, filters(number), span(), limit=limit)

    return ask


_SOME = {kind: ids(kind, KEYS, of) for kind, of in (("token", TOKENS), ("family", TOKENS), ("subject", SUBJECTS))}
_OLDEST_FIRST = partial(Span, newest_first=False)
_IN_THE_MIDDLE = partial(Span, from_position=TOKENS // 3, to_position=TOKENS // 2, from_time=NOON - timedelta(days=36_500))


async def _life(connection: Connection, keys: int) -> None:
    """Read the lives of tokens whose client has all of them."""
    for token_id, family_id in zip(ids("token", keys), ids("family", keys), strict=True):
        ends_at, types = NOON + timedelta(days=36_500), ("token_revoked", "family_revoked", "client_suspended")
        others = (family_id, CLIENT, *ids("api", 2))
        await read_life(connection, token_id, others, types, [1], ends_at, Span(newest_first=False), limit=10)
        await read_succession(connection, family_id, 1, 0)


async def _what_is_archived(connection: Connection, keys: int) -> None:
    """Ask whether tokens, lists and events need an archive, and where families began."""
    for token_id, family_id in zip(ids("no token", keys), ids("family", keys), strict=True):
        await refuse_archived_token(connection, token_id, TOKENS)
        await refuse_archived_rows(connection, 1, TOKENS, TOKENS)
        await refuse_archived_events(connection, TOKENS)
        await read_first_position(connection, family_id)


async def _states_as_of(connection: Connection, keys: int) -> None:
    """Read the states of one subject, family and client at many positions."""
    positions = [TOKENS + SUBJECTS - number for number in range(keys)]
    await read_subjects_as_of(connection, ids("subject", 1, of=SUBJECTS)[0], positions)
    await read_families_as_of(connection, ids("family", 1)[0], positions)
    await read_clients_as_of(connection, CLIENT, positions)
    await read_reference_as_of(connection, positions, client_ids=[CLIENT], api_ids=ids("api", 2), key_ids=ids("key", 2))


async def _tail(connection: Connection, keys: int) -> None:
    """Look at the head as the feed does: with nothing new mostly, with an event, and first of all."""
    row = await (await connection.execute("SELECT max(b.last_position) FROM ledger.batches b")).fetchone()
    assert row is not None
    for after in [row[0]] * keys + [row[0] - 1, row[0] // 2, MAX_INTEGER]:
        await connection.execute(TAIL, {"after": Int8(after), "limit": Int8(1)})


async def _decisions_as_of(connection: Connection, keys: int) -> None:
    """Find moments, by position and by time, and read what decisions of then need."""
    for number, token_id in enumerate(ids("token", keys), start=1):
        await read_moment(connection, AsOf(1, datetime.now(UTC)))
        at_time = await read_moment(connection, AsOf(datetime.now(UTC)))
        await look_up(connection.cursor(), [token_id], position=at_time.position, instant=at_time.instant)
        some = {"client_ids": [CLIENT], "api_ids": ids("api", 2), "role_ids": ids("role", 5), "key_ids": ids("key", 2)}
        await read_reference_as_of(connection, [at_time.position], **some)
        await read_rules_of(connection, [role(role_id=UUID(int=number), position=number)])


async def _newest_events(connection: Connection, keys: int) -> None:
    """Find what made things so, and read it."""
    for subject_id in ids("subject", keys, of=SUBJECTS):
        await read_newest(connection, subject_id, ("subject_roles_granted",), TOKENS + SUBJECTS, CLIENT)
    await read_at(connection, [TOKENS - number for number in range(keys)])


async def _blast_radius(connection: Connection, keys: int) -> None:
    """Ask the questions of a closure: of the whole wave at once, and of one after the other."""
    bounds: dict[str, object] = {"last": Int8(TOKENS + SUBJECTS), "scanned": Int8(blast_radius.SCANNED)}
    afters, tokens, families = [Int8(1)] * keys, ids("token", keys), ids("family", keys)
    await connection.execute(blast_radius.CAUSED_BY, bounds | {"positions": [Int8(n) for n in range(1, keys + 1)]})
    await connection.execute(blast_radius.ACTS_WITH, bounds | {"token_ids": tokens, "afters": afters})
    await connection.execute(blast_radius.ISSUED_FROM, bounds | {"family_ids": families, "afters": afters})
    streams = ids("subject", keys, of=SUBJECTS)
    await connection.execute(blast_radius.STREAMS, bounds | {"streams": streams, "after": Int8(0)})
    await connection.execute(blast_radius.EVENTS, {"positions": [Int8(TOKENS - n) for n in range(keys)]})
    given = {"api_id": UUID(int=2), "role_id": None, "direct": False, "until": bounds["last"], "after": Int8(TOKENS // 2)}
    for token_id, family_id, subject_id in zip(tokens, families, ids("subject", keys, of=SUBJECTS), strict=True):
        whose = {"token_id": token_id, "family_id": family_id, "subject_id": subject_id}
        for issued in (blast_radius.ISSUED_LATER, blast_radius.ISSUED_EARLIER):
            for by, of in whose.items():
                await connection.execute(issued[by], bounds | given | {"id": of})  # type: ignore[index]
        taken = {"entity_id": subject_id, "after": Int8(1), "types": "subject_erased", "role_id": None, "rule_ids": None}
        await connection.execute(blast_radius.TAKEN_BACK, bounds | taken)
        await connection.execute(blast_radius.HOLDINGS, bounds | {"role_id": subject_id})
        await connection.execute(blast_radius.ISSUE_OF, (token_id,))
        key = {"key_id": subject_id, "after_the_last": timedelta(hours=1)}
        await connection.execute(blast_radius.USE_OF_KEY, bounds | key)
        await connection.execute(blast_radius.RECORDED_AT, {"position": Int8(TOKENS)})


async def _blast_radius_of_many(connection: Connection, keys: int) -> None:
    """The same of a key and of a client that have all the tokens."""
    bounds: dict[str, object] = {"last": Int8(TOKENS + SUBJECTS), "scanned": Int8(blast_radius.SCANNED)}
    given = {"api_id": None, "role_id": None, "direct": False, "until": bounds["last"], "after": Int8(TOKENS // 2)}
    for _ in range(keys):
        await connection.execute(blast_radius.MADE_WITH, bounds | {"key_id": CLIENT, "after": Int8(TOKENS // 2)})
        for issued in (blast_radius.ISSUED_LATER, blast_radius.ISSUED_EARLIER):
            await connection.execute(issued["client_id"], bounds | given | {"id": CLIENT})


async def _who_could(connection: Connection, keys: int) -> None:
    """Ask from different places on: a request looks at as many subjects wherever it begins."""
    parameters = {"position": Int8(2 * TOKENS), "scanned": Int8(SUBJECTS_LOOKED_AT)}
    for subject_id in ids("subject", max(1, keys // 16), of=SUBJECTS):
        await connection.execute(SUBJECTS_AND_RULES, parameters | {"after": subject_id})


async def _subjects_asked_about(connection: Connection, keys: int) -> None:
    """Ask about subjects by their ids, and by a user name that nobody has."""
    for subject_id in ids("subject", keys, of=SUBJECTS):
        for named in ({"subject_id": subject_id, "name_id": None}, {"subject_id": None, "name_id": subject_id}):
            await connection.execute(SUBJECT_AND_RULES, named | {"position": Int8(2 * TOKENS)})


async def _changes(connection: Connection, keys: int) -> None:
    for number in range(max(1, keys // 16)):
        await read_changes(connection, 1, TOKENS, kind=None, cursor=TOKENS // keys * number, limit=100)


# A request of audit looks at so many index entries that one of them is worth some hundred buffers, however large the log is.
AUDIT_STATEMENTS = (
    HotStatement("audit by token", _audited(lambda n: Filters(token_id=_SOME["token"][n])), 40),
    HotStatement("audit by family", _audited(lambda n: Filters(family_id=_SOME["family"][n])), 40),
    HotStatement("audit by subject", _audited(lambda n: Filters(subject_id=_SOME["subject"][n])), 100),
    HotStatement("audit by actor", _audited(lambda n: Filters(actor_id=_SOME["subject"][n])), 100),
    HotStatement("audit by role", _audited(lambda n: Filters(role_id=_SOME["subject"][n])), 100),
    HotStatement("audit by key", _audited(lambda n: Filters(key_id=_SOME["subject"][n])), 100),
    HotStatement("audit by API", _audited(lambda n: Filters(api_id=_SOME["subject"][n])), 100),
    HotStatement("audit by a client that has all tokens", _audited(lambda _: Filters(client_id=CLIENT)), 600),
    HotStatement("audit by that client, oldest first", _audited(lambda _: Filters(client_id=CLIENT), _OLDEST_FIRST), 600),
    HotStatement("audit by the commonest type", _audited(lambda _: Filters(types=("token_issued",))), 1_200),
    HotStatement(
        "audit by that type, oldest first", _audited(lambda _: Filters(types=("token_issued",)), _OLDEST_FIRST), 1_200
    ),
    HotStatement("audit by a type that never happened", _audited(lambda _: Filters(types=("key_revoked",))), 20),
    HotStatement("audit by subject and type", _audited(lambda n: Filters(_SOME["subject"][n], types=("token_issued",))), 1_000),
    HotStatement("audit of everything", _audited(lambda _: Filters()), 500),
    HotStatement("audit of everything, oldest first", _audited(lambda _: Filters(), _OLDEST_FIRST), 500),
    HotStatement("audit between positions and times", _audited(lambda _: Filters(), _IN_THE_MIDDLE), 500),
    HotStatement("audit of the life of a token", _life, 50),
    HotStatement("the newest events about subjects", _newest_events, 40),
    HotStatement("the blast radius, an edge each", _blast_radius, 120),
    HotStatement("the blast radius of a key and a client that have all tokens", _blast_radius_of_many, 3_000),
    HotStatement("what is archived", _what_is_archived, 25),
    HotStatement("audit of states as of positions", _states_as_of, 40),
    HotStatement("decisions as of the past", _decisions_as_of, 90),
    HotStatement("who could", _who_could, 1_000),
    HotStatement("a decision about a subject", _subjects_asked_about, 20),
    HotStatement("what changed", _changes, 3_000),
)
HOT_STATEMENTS = (
    HotStatement("append what is new", _issue, 60),
    HotStatement("append what is stale", _append_what_is_stale, 20),
    HotStatement("the command recorded before", _find_recorded, 10),
    HotStatement("look tokens up", _look_up, 20),
    HotStatement("read the state", _read_state, 45),
    HotStatement("the head", _head, 5),
    HotStatement("the health of log and views", _health, 15),
    HotStatement("the tail of the feed", _tail, 15),
    HotStatement("walk through all tokens, and all of a client", _walk_all, 1),
    HotStatement("the tokens of a subject, and of a family", _walk_some, 25),
    HotStatement("the bounds of a listing", _bounds, 15),
    HotStatement("what listed tokens are worth", _listed, 20),
    HotStatement("a plan of revocation, its parties, and the last issue of a family", _plan_of_revocation, 40),
    *AUDIT_STATEMENTS,
)


@dataclass(frozen=True)
class Cost:
    """What a statement touched, in tables and indexes of log and views."""

    buffers: int
    rows_by_sequential_scan: int


COUNTERS = """
SELECT (SELECT sum(coalesce(t.heap_blks_hit, 0) + coalesce(t.heap_blks_read, 0) + coalesce(t.idx_blks_hit, 0)
    + coalesce(t.idx_blks_read, 0) + coalesce(t.toast_blks_hit, 0) + coalesce(t.toast_blks_read, 0)
    + coalesce(t.tidx_blks_hit, 0) + coalesce(t.tidx_blks_read, 0))::bigint FROM pg_statio_user_tables t),
  (SELECT sum(t.seq_tup_read)::bigint FROM pg_stat_user_tables t)
"""


async def cost(statement: Callable[[Connection, int], Awaitable[object]], connection: Connection, database: Database) -> Cost:
    """Run a statement for KEYS keys and answer what it cost."""
    async with await AsyncConnection.connect(database.owner, autocommit=True) as observer:

        async def counters() -> tuple[int, int]:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            row = await (await observer.execute(COUNTERS)).fetchone()
            assert row is not None
            return row[0], row[1]

        buffers, rows = await counters()
        await statement(connection, KEYS)
        buffers_after, rows_after = await counters()
    return Cost(buffers_after - buffers, rows_after - rows)


def load(database: Database, *, tokens: int = TOKENS) -> None:
    with psycopg.connect(database.ledger_owner) as connection:
        row = connection.execute("SELECT max(last_position) FROM ledger.batches").fetchone()
        assert row is not None
        parameters = {
            "head": row[0],
            "tokens": tokens,
            "subjects": SUBJECTS,
            "issued": token_issued(family=family(client_id=CLIENT)).payload_json(),
            "registered": subject_registered().payload_json(),
            "metadata": envelope().metadata_json(),
        }
        # On the client, as it is many statements.
        psycopg.ClientCursor(connection).execute(LOAD, parameters)


NEVER_ANALYSED = """
SELECT DISTINCT c.reltuples = -1 FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace IN ('ledger'::regnamespace, 'views'::regnamespace)
"""


async def prepared(connection: Connection) -> list[TupleRow]:
    """Answer the prepared statements of the ledger in this connection, with how often they were planned for their values."""
    query = "SELECT name, custom_plans FROM pg_prepared_statements WHERE statement ~ 'ledger[.]' ORDER BY name"
    return await (await connection.execute(query.encode(), prepare=False)).fetchall()


def test_hot_statements_prepared_on_an_empty_store_stay_cheap_as_it_grows(any_database: Database) -> None:
    async def measure() -> dict[str, Cost]:
        async with await connect(any_database.service) as connection:
            for hot in HOT_STATEMENTS:
                await hot.run(connection, KEYS)
                await hot.run(connection, 3)
            before = await prepared(connection)
            await asyncio.to_thread(load, any_database)
            costs = {hot.name: await cost(hot.run, connection, any_database) for hot in HOT_STATEMENTS}
            assert await prepared(connection) == before
            assert {plans for _, plans in before} == {0}
            return costs

    costs = asyncio.run(measure())
    with psycopg.connect(any_database.owner) as connection:
        assert connection.execute(NEVER_ANALYSED).fetchall() == [(True,)]
    for hot in HOT_STATEMENTS:
        assert costs[hot.name].rows_by_sequential_scan == 0, hot.name
        assert costs[hot.name].buffers < hot.buffers_a_key * KEYS, hot.name


FEW_FAMILIES = """
UPDATE views.families f SET family_id = md5('family' || 1 + f.position % 4)::uuid;
ANALYZE views.families;
"""


def test_a_family_is_found_by_its_key_where_statistics_say_that_there_are_few(database: Database) -> None:
    """Walking back from the newest row would meet one of four families soon, and one that ended long ago never."""

    async def measure() -> Cost:
        async with await connect(database.service) as connection:
            await append(connection, [command()])
            await asyncio.to_thread(load, database, tokens=TOKENS // 5)
            async with await AsyncConnection.connect(database.ledger_owner, autocommit=True) as owner:
                await owner.execute(FEW_FAMILIES)
            return await cost(_look_up, connection, database)

    assert asyncio.run(measure()).buffers < 30 * KEYS


def test_the_count_would_notice_a_plan_that_went_bad(database: Database) -> None:
    """A join to a table that grows, over a connection without the settings of the service."""
    join = "SELECT count(*) FROM unnest(%s::uuid[]) AS k(token_id) JOIN views.tokens t ON t.token_id = k.token_id"
    tokens = TOKENS // 5

    async def bad(connection: Connection, keys: int) -> None:
        await connection.execute(join, (ids("token", keys, of=tokens),), prepare=True)

    async def measure() -> Cost:
        async with await AsyncConnection.connect(database.ledger_owner, autocommit=True) as connection:
            await append(connection, [command()])
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            await bad(connection, KEYS)
            await asyncio.to_thread(load, database, tokens=tokens)
            return await cost(bad, connection, database)

    found = asyncio.run(measure())
    assert found.rows_by_sequential_scan > tokens
    assert found.buffers > 400  # the whole table
