"""What a command reads before it decides: rows of the views with the versions of their streams, in one statement.

One text for every command: the keys it does not ask for are empty arrays and cost next to nothing. Every row is the newest
of its key, found by one probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ledger.events import ADMINISTRATORS
from ledger.execute import Pool, Reading
from ledger.states import (
    Api,
    Client,
    Family,
    Key,
    Lockout,
    Name,
    Role,
    State,
    Subject,
    SubjectRules,
    Token,
    TokenState,
)
from projections.moments import until_recorded
from projections.rows import read_rows

READ_STATE: Final = """
SELECT ledger.clock() AS instant,
  coalesce((SELECT b.last_position FROM ledger.batches b ORDER BY b.last_position DESC LIMIT 1), 0) AS position,
  (SELECT array_agg(coalesce((SELECT s.version FROM ledger.streams s WHERE s.stream = k.stream), 0) ORDER BY k.ordinal)
    FROM unnest(%(streams)s::uuid[]) WITH ORDINALITY AS k(stream, ordinal)) AS versions,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(token_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.tokens v WHERE v.token_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS tokens,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(token_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.token_states v WHERE v.token_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS token_states,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(family_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.families v WHERE v.family_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS families,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(subject_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.subjects v WHERE v.subject_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS subjects,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(rules_of_subjects)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.subject_rules v WHERE v.subject_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS subject_rules,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(name_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.names v WHERE v.name_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS names,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(client_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.clients v WHERE v.client_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS clients,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(api_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.apis v WHERE v.api_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS apis,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(role_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.roles v WHERE v.role_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS roles,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(key_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.keys v WHERE v.key_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS keys,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(lockout_ids)s::uuid[]) AS k(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.lockouts v WHERE v.lockout_id = k.id ORDER BY v.position DESC LIMIT 1) AS x) AS lockouts,
  (SELECT v.subject_ids FROM views.administrators v WHERE %(administrators)s
    ORDER BY v.position DESC LIMIT 1) AS administrators,
  (SELECT jsonb_agg(jsonb_build_array(x.role_id, x.rule_id))
    FROM unnest(%(rule_roles)s::uuid[], %(rule_ids)s::uuid[]) AS k(role_id, rule_id)
    CROSS JOIN LATERAL (SELECT v.role_id, v.rule_id, v.withdrawn FROM views.role_rules v
      WHERE v.role_id = k.role_id AND v.rule_id = k.rule_id ORDER BY v.position DESC LIMIT 1) AS x
    WHERE NOT x.withdrawn) AS standing_rules,
  (SELECT jsonb_object_agg(x.key_id, encode(x.sealed, 'hex')) FROM unnest(%(sealed_key_ids)s::uuid[]) AS k(id)
    CROSS JOIN LATERAL (SELECT s.key_id, s.sealed FROM ledger.sealed_keys s WHERE s.key_id = k.id LIMIT 1) AS x) AS sealed_keys
"""
# A handful a year: the whole of them is read.
EVERY_KEY: Final = "SELECT DISTINCT v.key_id FROM views.keys v ORDER BY v.key_id"


@dataclass(frozen=True, slots=True)
class Keys:
    """What to read. `rules_of_subjects` and `tokens` belong to the streams of subjects and families: name those as well.

    `rules` are (role_id, rule_id) pairs whose standing is asked for; name the roles as well. `every_key`: of those that tokens
    are made with all there are, and `keys` too. `sealed_keys` are of subjects: name those as well.
    """

    tokens: Sequence[UUID] = ()
    families: Sequence[UUID] = ()
    subjects: Sequence[UUID] = ()
    rules_of_subjects: Sequence[UUID] = ()
    names: Sequence[UUID] = ()
    clients: Sequence[UUID] = ()
    apis: Sequence[UUID] = ()
    roles: Sequence[UUID] = ()
    keys: Sequence[UUID] = ()
    lockouts: Sequence[UUID] = ()
    sealed_keys: Sequence[UUID] = ()
    rules: Sequence[tuple[UUID, UUID]] = ()
    administrators: bool = False
    every_key: bool = False
    other_streams: Sequence[UUID] = field(default=())

    def streams(self) -> list[UUID]:
        """Answer every stream these keys belong to, each once."""
        streams = [*self.families, *self.subjects, *self.names, *self.clients, *self.apis, *self.roles, *self.keys]
        streams += self.lockouts
        if self.administrators:
            streams.append(ADMINISTRATORS)
        return list(dict.fromkeys([*streams, *self.other_streams]))


_ROWS: Final[dict[str, tuple[TypeAdapter[Any], str]]] = {
    "tokens": (TypeAdapter(list[Token]), "token_id"),
    "token_states": (TypeAdapter(list[TokenState]), "token_id"),
    "families": (TypeAdapter(list[Family]), "family_id"),
    "subjects": (TypeAdapter(list[Subject]), "subject_id"),
    "subject_rules": (TypeAdapter(list[SubjectRules]), "subject_id"),
    "names": (TypeAdapter(list[Name]), "name_id"),
    "clients": (TypeAdapter(list[Client]), "client_id"),
    "apis": (TypeAdapter(list[Api]), "api_id"),
    "roles": (TypeAdapter(list[Role]), "role_id"),
    "keys": (TypeAdapter(list[Key]), "key_id"),
    "lockouts": (TypeAdapter(list[Lockout]), "lockout_id"),
}


async def read_state(pool: Pool, keys: Keys) -> Reading[State]:
    """Answer the newest rows of these keys, with the versions of all their streams, the head and the instant."""
    if keys.every_key:
        # A statement of its own: a key that is made after it is not read. But whoever activates that one touches the stream of
        # the active key, which is read.
        async with pool.connection() as connection:
            rows_of_keys = await (await connection.execute(EVERY_KEY)).fetchall()
        keys = replace(keys, keys=list(dict.fromkeys([*(key_id for (key_id,) in rows_of_keys), *keys.keys])))
    streams = keys.streams()
    parameters = {
        "streams": as_array(streams),
        "token_ids": as_array(keys.tokens),
        "family_ids": as_array(keys.families),
        "subject_ids": as_array(keys.subjects),
        "rules_of_subjects": as_array(keys.rules_of_subjects),
        "name_ids": as_array(keys.names),
        "client_ids": as_array(keys.clients),
        "api_ids": as_array(keys.apis),
        "role_ids": as_array(keys.roles),
        "key_ids": as_array(keys.keys),
        "lockout_ids": as_array(keys.lockouts),
        "administrators": keys.administrators,
        "rule_roles": as_array([role_id for role_id, _ in keys.rules]),
        "rule_ids": as_array([rule_id for _, rule_id in keys.rules]),
        "sealed_key_ids": as_array(keys.sealed_keys),
    }
    async with pool.connection() as connection:
        row = await (await connection.execute(READ_STATE, parameters)).fetchone()
    assert row is not None
    instant, position, versions, *views = row
    rows: dict[str, dict[UUID, Any]] = {}
    for (view, (adapter, key)), found in zip(_ROWS.items(), views[:-3], strict=True):
        rows[view] = {getattr(r, key): r for r in read_rows(adapter, found)} if found else {}
    administrators, standing_rules, sealed_keys = views[-3:]
    state = State(
        **rows,
        administrators=tuple(administrators or ()),
        standing_rules=frozenset((UUID(role_id), UUID(rule_id)) for role_id, rule_id in standing_rules or ()),
        sealed_keys={UUID(key_id): bytes.fromhex(sealed) for key_id, sealed in (sealed_keys or {}).items()},
    )
    return Reading(state, dict(zip(streams, versions or (), strict=True)), position, instant)


def as_array(ids: Sequence[UUID]) -> str:
    """Write ids as PostgreSQL writes an array.

    A list takes psycopg several times as long, and an empty one has another type to it: a statement would be prepared and
    planned anew for every choice of lists that are empty.
    """
    return f"{{{','.join([f'{one.int:032x}' for one in ids])}}}"


ROTATED_AT: Final = """
SELECT v.rotated_at FROM views.families v WHERE v.family_id = %s AND v.generation = %s ORDER BY v.position LIMIT 1
"""


async def read_rotated_at(pool: Pool, family_id: UUID, generation: int) -> datetime | None:
    """Answer when a generation of a family was made. Reads no more rows than the family has: once, for it is revoked then."""
    async with pool.connection() as connection:
        row = await (await connection.execute(ROTATED_AT, (family_id, generation))).fetchone()
    return None if row is None else row[0]


POSITION_BEFORE: Final = """
SELECT coalesce((SELECT b.last_position FROM ledger.batches b WHERE b.recorded_at < %s
  ORDER BY b.recorded_at DESC, b.last_position DESC LIMIT 1), 0), ledger.clock()
"""


async def read_position_before(pool: Pool, instant: datetime) -> tuple[int, datetime]:
    """Answer the last position recorded before an instant, and the instant of the answer. MomentNotOver."""
    async with pool.connection() as connection:
        row = await (await connection.execute(POSITION_BEFORE, (instant,))).fetchone()
        assert row is not None
        position, now = row
        if instant <= now:
            # What is recorded before the instant and is not to be seen yet must not be missed.
            await until_recorded(connection)
            row = await (await connection.execute(POSITION_BEFORE, (instant,))).fetchone()
            assert row is not None
            position, _ = row
    return position, now
