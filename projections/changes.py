"""What changed between two positions: whatever is in another state at the second than it was at the first.

The events between are looked at in their order, SCANNED a request, and each names what it gave a new state. A thing is told at
the last event that did so, once: the state of before is that at the first position, the state of after that of this event. What
was changed and changed back is not told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from projections.archived import refuse_archived_events, refuse_archived_rows

Connection = AsyncConnection[TupleRow]

# Events looked at in one request.
SCANNED: Final = 1_000

# An issue or a rotation: two tokens and their family.
MOST_AT_ONCE: Final = 3
KINDS: Final = ("token", "family", "subject", "subject_rules", "client", "api", "role", "key")

# The state of a thing `c` as of a position: of a token what was done to it, or that nothing was.
_STATE: Final = """
CROSS JOIN LATERAL (SELECT max(x.position) AS position, (array_agg(x.state ORDER BY x.position DESC))[1] AS state FROM (
  (SELECT v.position, jsonb_build_object('token_id', v.token_id, 'status', 'active', 'status_reason', NULL,
      'status_until', NULL) AS state
    FROM views.tokens v
    WHERE c.kind = 'token' AND v.token_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.token_states v
    WHERE c.kind = 'token' AND v.token_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.families v
    WHERE c.kind = 'family' AND v.family_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.subjects v
    WHERE c.kind = 'subject' AND v.subject_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.subject_rules v
    WHERE c.kind = 'subject_rules' AND v.subject_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.clients v
    WHERE c.kind = 'client' AND v.client_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.apis v
    WHERE c.kind = 'api' AND v.api_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) FROM views.roles v
    WHERE c.kind = 'role' AND v.role_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)
  UNION ALL (SELECT v.position, to_jsonb(v) - 'position' FROM views.keys v
    WHERE c.kind = 'key' AND v.key_id = c.id AND v.position <= %(at)s::bigint ORDER BY v.position DESC LIMIT 1)) AS x) AS """
# A role's row does not hold its rules: it differs where its position does.
CHANGES: Final = (
    """
SELECT c.position, c.kind, c.id, c.type, b.position
FROM (
  SELECT h.position, h.type, k.kind, k.id::uuid AS id
  FROM views.history h
  CROSS JOIN LATERAL (
    SELECT 'token' AS kind, t.token ->> 'token_id' AS id FROM jsonb_array_elements(
      CASE WHEN jsonb_typeof(h.payload -> 'tokens') = 'array' THEN h.payload -> 'tokens' ELSE '[]' END) AS t(token)
    UNION ALL SELECT 'token', h.payload -> 'token_state' ->> 'token_id'
    UNION ALL SELECT 'family', h.payload -> 'family' ->> 'family_id'
    UNION ALL SELECT 'subject', h.payload -> 'subject' ->> 'subject_id'
    UNION ALL SELECT 'subject_rules', h.payload ->> 'subject_id'
      WHERE h.type IN ('subject_rules_granted', 'subject_rules_withdrawn')
    UNION ALL SELECT 'client', h.payload -> 'client' ->> 'client_id'
    UNION ALL SELECT 'api', h.payload -> 'api' ->> 'api_id'
    UNION ALL SELECT 'role', h.payload -> 'role' ->> 'role_id'
    UNION ALL SELECT 'key', h.payload -> 'key' ->> 'key_id') AS k
  WHERE h.position > %(after)s::bigint AND h.position <= %(upto)s::bigint AND k.id IS NOT NULL
    AND (%(kind)s::text IS NULL OR k.kind = %(kind)s::text)
  OFFSET 0) AS c"""  # noqa: S608 - of literals alone
    + _STATE.replace("%(at)s", "%(last)s")
    + "a"
    + _STATE.replace("%(at)s", "%(first)s")
    + """b
WHERE a.position = c.position AND a.state IS DISTINCT FROM b.state
ORDER BY c.position, c.kind, c.id
LIMIT %(limit)s::bigint
"""
)


class Change(NamedTuple):
    """A thing that is in another state: by the event at `position`; `before`: the position of the state it had, None: none."""

    position: int
    kind: str
    id: UUID
    type: str
    before: int | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order of their positions. `next`: what the page after this one follows; None: there are no more."""

    changes: Sequence[Change]
    next: int | None


async def read_changes(
    connection: Connection, first: int, last: int, *, kind: str | None, cursor: int | None, limit: int
) -> ChangePage:
    """Answer what is in another state as of `last` than as of `first`, from after `cursor` on.

    One event may change several things, which stand on one page: it may hold a few more than `limit`; and fewer, even none, and
    go on, having looked at SCANNED events. IsArchived for want of events, or of rows that have left the views since.
    """
    after = max(first, cursor or 0)
    upto = min(after + SCANNED, last)
    parameters = {
        **{name: Int8(value) for name, value in {"first": first, "last": last, "after": after, "upto": upto}.items()},
        "kind": kind,
        # As many as one event can change besides.
        "limit": Int8(limit + MOST_AT_ONCE),
    }
    rows = await (await connection.execute(CHANGES, parameters)).fetchall()
    if after < upto:
        await refuse_archived_events(connection, after + 1)
        await refuse_archived_rows(connection, after + 1, upto, last)
    changes = [Change(*row) for row in rows]
    if len(changes) > limit:
        end = changes[limit - 1].position
        return ChangePage([change for change in changes if change.position <= end], end)
    return ChangePage(changes, upto if upto < last else None)
