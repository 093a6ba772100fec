"""Tokens by pages, newest first, each with what it is worth: by the rows and the rule that decisions are made from.

A page is read in steps, all as of one position and instant: where the log is, a walk backwards along one index, which tells
the tokens that match what never changes about them, then what stands about those (lookup.py), and the rule
(ledger/standing.py). Whatever is asked for, one request looks at SCANNED tokens at most: a page may hold fewer than its limit,
none even, and go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.cascade import TokenStanding
from ledger.decisions import Reference
from ledger.execute import Pool
from ledger.jsontext import MAX_INTEGER
from ledger.standing import Standing, standing_of
from projections.archived import refuse_archived_rows, refuse_archived_token
from projections.lookup import STANDING_COLUMNS, STANDING_ROWS, LookupFailed
from projections.moments import AT, Moment, at_parameters
from projections.reading import as_array
from projections.reference import Kept, ReferenceKeeper, read_reference_as_of

Connection = AsyncConnection[TupleRow]

# Tokens looked at in one request: twice the largest page.
SCANNED: Final = 2_000
# Tokens whose standing is read by one statement: some milliseconds.
CHUNK: Final = 200
ATTEMPTS: Final = 10
# Tokens are issued at the instant they were decided on and recorded after it: by no more than two appends that were held up
# for 30 s each and the 10 s for which a batch is sent again (appender.py), rounded up.
RECORDED_WITHIN: Final = timedelta(seconds=120)

# Where the log is, and the positions between which tokens issued in an interval can be: after the first, up to the last.
BOUNDS: Final = """
SELECT at.position, at.instant,
  coalesce((SELECT v.position FROM views.reference_changes v WHERE v.position <= at.position
    ORDER BY v.position DESC LIMIT 1), 0),
  coalesce((SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < %(issued_after)s::timestamptz
    ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0),
  CASE WHEN %(issued_before)s::timestamptz IS NULL THEN at.position
    ELSE least(at.position, coalesce((SELECT b.last_position FROM ledger.batches b
      WHERE b.recorded_at < %(issued_before)s::timestamptz + %(recorded_within)s::interval
      ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0)) END
"""

# One index each; what the index does not hold is checked on the rows of the walk, which is as long however many match.
_WALK: Final = """
SELECT v.position, v.token_id,
  (%(subject_id)s::uuid IS NULL OR v.subject_id = %(subject_id)s::uuid)
    AND (%(client_id)s::uuid IS NULL OR v.client_id = %(client_id)s::uuid)
    AND (%(api_id)s::uuid IS NULL OR v.api_ids @> ARRAY[%(api_id)s::uuid])
    AND (%(kind)s::text IS NULL OR v.kind = %(kind)s::text)
    AND (%(strategy)s::text IS NULL OR v.strategy = %(strategy)s::text)
    AND (%(issued_after)s::timestamptz IS NULL OR v.issued_at >= %(issued_after)s::timestamptz)
    AND (%(issued_before)s::timestamptz IS NULL OR v.issued_at < %(issued_before)s::timestamptz)
FROM views.tokens v
WHERE v.position > %(first)s::bigint AND v.position <= %(last)s::bigint
  AND (v.position, v.token_id) < (%(before_position)s::bigint, %(before_token)s::uuid)
"""
_BACKWARDS: Final = """
ORDER BY v.position DESC, v.token_id DESC
LIMIT %(scanned)s::integer
"""
# By the filter whose index is walked, the one that leaves the fewest first.
WALKS: Final[Mapping[str, LiteralString]] = {
    "family_id": _WALK + "AND v.family_id = %(family_id)s::uuid" + _BACKWARDS,
    "subject_id": _WALK + "AND v.subject_id = %(subject_id)s::uuid" + _BACKWARDS,
    "client_id": _WALK + "AND v.client_id = %(client_id)s::uuid" + _BACKWARDS,
}
WALK_OF_ALL: Final = _WALK + _BACKWARDS

# What stands about tokens but for rules, which are not asked here, and what is shown besides.
LISTED: Final = (
    "SELECT k.ordinal,"
    + STANDING_COLUMNS
    + ", NULL::jsonb, NULL::bigint, t.issued_from, ts.status_reason, f.status_reason"
    + STANDING_ROWS
    + "ORDER BY k.ordinal"
)


@dataclass(frozen=True, slots=True)
class Key:
    """Where a token stands in a listing: tokens issued together have one position."""

    position: int
    token_id: UUID


# Before every token there can be.
NEWEST: Final = Key(MAX_INTEGER, UUID(int=2**128 - 1))


@dataclass(frozen=True, slots=True)
class TokenFilters:
    """What a token must match: all that are not None. Issued at or after the first instant, and before the second."""

    subject_id: UUID | None = None
    client_id: UUID | None = None
    api_id: UUID | None = None
    family_id: UUID | None = None
    kind: str | None = None
    strategy: str | None = None
    state: str | None = None
    issued_after: datetime | None = None
    issued_before: datetime | None = None

    def walked(self) -> str | None:
        """Answer the filter whose index is walked; None: the index of all tokens."""
        return next((name for name in WALKS if getattr(self, name) is not None), None)

    def checked(self) -> bool:
        """Say whether there is a filter besides, which a token that is looked at may not match."""
        return any(value is not None for name, value in asdict(self).items() if name != self.walked())


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token, what it is worth, and why somebody said so: `token_reason` of itself, `family_reason` of its family."""

    token: TokenStanding
    issued_from: UUID | None
    token_reason: str | None
    family_reason: str | None
    standing: Standing


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Tokens, newest first, as of a position and an instant. `next` None: there are no more."""

    tokens: Sequence[ListedToken]
    next: Key | None
    position: int
    instant: datetime
    kept: Kept


@dataclass(frozen=True, slots=True)
class Bounds:
    """As of where a page is read, and the positions it can be from: after `first`, up to `last`."""

    position: int
    instant: datetime
    reference_position: int
    first: int
    last: int


async def list_tokens(
    pool: Pool,
    reference: ReferenceKeeper,
    filters: TokenFilters,
    *,
    limit: int,
    before: Key = NEWEST,
    moment: Moment | None = None,
) -> TokenPage:
    """Answer at most `limit` tokens that match, newest first, from after `before` on; as of now or a moment.

    LookupFailed; IsArchived where some of those of then have left since.
    """
    for _ in range(ATTEMPTS):
        page = await _page(pool, reference, filters, limit, before, moment)
        if page is not None:
            return page
    raise LookupFailed("reference data kept changing")


async def find_token(pool: Pool, reference: ReferenceKeeper, token_id: UUID, moment: Moment | None = None) -> TokenPage:
    """Answer a page of this token alone, or of none. LookupFailed; IsArchived where it may have left since the moment."""
    for _ in range(ATTEMPTS):
        bounds, kept = await _where(pool, reference, TokenFilters(), moment)
        if kept is None and moment is None:
            continue
        async with pool.connection() as connection:
            judged = kept or await read_parties(connection, [token_id], bounds.position)
            tokens = await read_listed(connection, [token_id], judged, bounds)
            if moment is not None and not tokens:
                await refuse_archived_token(connection, token_id, bounds.position)
        if moment is not None or judged.position == bounds.reference_position:
            return TokenPage(tokens, None, bounds.position, bounds.instant, judged)
    raise LookupFailed("reference data kept changing")


async def _where(
    pool: Pool, reference: ReferenceKeeper, filters: TokenFilters, moment: Moment | None
) -> tuple[Bounds, Kept | None]:
    """Answer as of where is read, and the worker's reference data of there: None for another moment than now, or none of it."""
    async with pool.connection() as connection:
        bounds = await read_bounds(connection, filters, moment)
    # Outside: this too takes a connection of the pool, and nobody waits for a second one while holding a first.
    return bounds, await reference.at(bounds.reference_position) if moment is None else None


async def _page(
    pool: Pool, reference: ReferenceKeeper, filters: TokenFilters, limit: int, before: Key, moment: Moment | None
) -> TokenPage | None:
    """Answer the page, or None when reference data changed while it was read: it could not be judged as of one position."""
    bounds, now = await _where(pool, reference, filters, moment)
    if now is None and moment is None:
        return None
    scanned = SCANNED if filters.checked() else limit + 1
    tokens: list[ListedToken] = []
    async with pool.connection() as connection:
        walked = await walk(connection, filters, bounds, before, scanned)
        end = walked[-1][0] if len(walked) == scanned else None
        matching = [key.token_id for key, matches in walked if matches]
        kept = now or await read_parties(connection, matching, bounds.position)
        for start in range(0, len(matching), CHUNK):
            some = await read_listed(connection, matching[start : start + CHUNK], kept, bounds)
            if moment is None and kept.position != bounds.reference_position:
                return None
            tokens += [token for token in some if filters.state in (None, token.standing.state)]
            if len(tokens) > limit:
                last = tokens[limit - 1].token
                end = Key(last.position, last.token_id)
                break
        if moment is not None:
            await refuse_archived_rows(connection, bounds.first + 1, bounds.last, bounds.position)
    return TokenPage(tokens[:limit], end, bounds.position, bounds.instant, kept)


async def read_bounds(connection: Connection, filters: TokenFilters, moment: Moment | None = None) -> Bounds:
    """Answer where the log is or was, and which positions an interval of issue means."""
    parameters = at_parameters(moment) | {
        "issued_after": filters.issued_after,
        "issued_before": filters.issued_before,
        "recorded_within": RECORDED_WITHIN,
    }
    row = await (await connection.execute(BOUNDS + AT, parameters)).fetchone()
    assert row is not None
    return Bounds(*row)


async def walk(
    connection: Connection, filters: TokenFilters, bounds: Bounds, before: Key, scanned: int
) -> list[tuple[Key, bool]]:
    """Answer the next tokens of the walk, `scanned` unless there are no more, and whether each matches but for its state."""
    walked = filters.walked()
    parameters = asdict(filters) | {
        "first": bounds.first,
        "last": bounds.last,
        "before_position": before.position,
        "before_token": before.token_id,
        "scanned": scanned,
    }
    rows = await connection.execute(WALK_OF_ALL if walked is None else WALKS[walked], parameters)
    return [(Key(position, token_id), matches) for position, token_id, matches in await rows.fetchall()]


# What has a say in these tokens, and the roles of their scopes. Each list by itself: a token may be for a hundred APIs and have
# a hundred roles in its scope, and there are thousands of tokens.
PARTIES: Final = """
WITH t AS MATERIALIZED (
  SELECT v.client_id, v.api_ids, v.role_ids, v.key_ids
  FROM unnest(%s::uuid[]) AS i(token_id)
  CROSS JOIN LATERAL (SELECT x.client_id, x.api_ids, x.role_ids, x.key_ids FROM views.tokens x WHERE x.token_id = i.token_id
    ORDER BY x.position DESC LIMIT 1) AS v)
SELECT ARRAY(SELECT DISTINCT t.client_id FROM t),
  ARRAY(SELECT DISTINCT a.api_id FROM t CROSS JOIN LATERAL unnest(t.api_ids) AS a(api_id)),
  ARRAY(SELECT DISTINCT r.role_id FROM t CROSS JOIN LATERAL unnest(t.role_ids) AS r(role_id)),
  ARRAY(SELECT DISTINCT k.key_id FROM t CROSS JOIN LATERAL unnest(t.key_ids) AS k(key_id))
"""


async def read_parties(connection: Connection, token_ids: Sequence[UUID], position: int) -> Kept:
    """Answer whatever else has a say in these tokens, as it was at a position."""
    row = await (await connection.execute(PARTIES, (as_array(token_ids),))).fetchone()
    assert row is not None
    parties = dict(zip(("client_ids", "api_ids", "role_ids", "key_ids"), row, strict=True))
    return (await read_reference_as_of(connection, [position], **parties))[position]


async def read_listed(
    connection: Connection, token_ids: Sequence[UUID], reference: Reference, bounds: Bounds
) -> list[ListedToken]:
    """Answer what these tokens are worth, in their order; one that is not there is left out."""
    parameters = {"token_ids": list(token_ids), "position": bounds.position, "instant": bounds.instant}
    rows = await (await connection.execute(LISTED, parameters, binary=True)).fetchall()
    listed: list[ListedToken] = []
    for _, *columns, issued_from, token_reason, family_reason in rows:
        if columns[0] is not None:
            token = TokenStanding(*columns)
            standing = standing_of(token, reference, bounds.instant)
            listed.append(ListedToken(token, issued_from, token_reason, family_reason, standing))
    return listed
