"""Reference data kept in a worker: clients, APIs, roles, rules, keys, and the compiled matcher of each API.

What is kept is used only for an answer whose own query says that nothing of it changed since: the query returns the
position of the newest change, and `ReferenceKeeper.at` answers for exactly that position, or says to ask again. Of the past
nothing is kept but compiled rules: what a question of then needs is read as it was, and no more than that.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8
from pydantic import TypeAdapter

from ledger.cascade import TokenStanding
from ledger.decisions import MAX_COMPILED_RULES, CompiledRules, PlacedRule, Reference
from ledger.execute import Pool
from ledger.paths import Matcher, Template
from ledger.rules import Rule
from ledger.states import Api, Client, Key, Role
from projections.reading import as_array
from projections.rows import read_rows

# What changed after one position up to another. Each row is a whole state, so the newest of a key is what stands; read at a
# fixed position the answer never changes, so that two statements are as good as one.
CHANGES: Final = """
SELECT
  (SELECT jsonb_agg(to_jsonb(x)) FROM (SELECT DISTINCT ON (v.client_id) v.* FROM views.clients v
    WHERE v.position > %(after)s AND v.position <= %(upto)s ORDER BY v.client_id, v.position DESC) AS x) AS clients,
  (SELECT jsonb_agg(to_jsonb(x)) FROM (SELECT DISTINCT ON (v.api_id) v.* FROM views.apis v
    WHERE v.position > %(after)s AND v.position <= %(upto)s ORDER BY v.api_id, v.position DESC) AS x) AS apis,
  (SELECT jsonb_agg(to_jsonb(x)) FROM (SELECT DISTINCT ON (v.role_id) v.* FROM views.roles v
    WHERE v.position > %(after)s AND v.position <= %(upto)s ORDER BY v.role_id, v.position DESC) AS x) AS roles,
  (SELECT jsonb_agg(to_jsonb(x)) FROM (SELECT DISTINCT ON (v.key_id) v.* FROM views.keys v
    WHERE v.position > %(after)s AND v.position <= %(upto)s ORDER BY v.key_id, v.position DESC) AS x) AS keys,
  (SELECT h.metadata ->> 'command_id' FROM views.history h WHERE h.position = %(upto)s) AS changed_by
"""
# By which command the log has what it has at a position.
CHANGED_BY: Final = "SELECT h.metadata ->> 'command_id' FROM views.history h WHERE h.position = %s"
RULE_CHANGES: Final = """
SELECT DISTINCT ON (v.role_id, v.rule_id) v.role_id, v.rule_id, v.effect, v.methods, v.path, v.min_clearance,
  v.withdrawn, v.position
FROM views.role_rules v
WHERE v.position > %(after)s AND v.position <= %(upto)s
ORDER BY v.role_id, v.rule_id, v.position DESC
"""
# The clients, APIs, roles (and their APIs) and keys that are asked for, as they were at each of some positions.
AS_OF: Final = """
SELECT k.position,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(client_ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.clients v WHERE v.client_id = i.id AND v.position <= k.position
      ORDER BY v.position DESC LIMIT 1) AS x) AS clients,
  (SELECT jsonb_agg(to_jsonb(x)) FROM (SELECT unnest(%(api_ids)s::uuid[]) UNION SELECT r.api_id
      FROM unnest(%(role_ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL
      (SELECT v.api_id FROM views.roles v WHERE v.role_id = i.id ORDER BY v.position LIMIT 1) AS r) AS i(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.apis v WHERE v.api_id = i.id AND v.position <= k.position
      ORDER BY v.position DESC LIMIT 1) AS x) AS apis,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(role_ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.roles v WHERE v.role_id = i.id AND v.position <= k.position
      ORDER BY v.position DESC LIMIT 1) AS x) AS roles,
  (SELECT jsonb_agg(to_jsonb(x)) FROM unnest(%(key_ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL
    (SELECT v.* FROM views.keys v WHERE v.key_id = i.id AND v.position <= k.position
      ORDER BY v.position DESC LIMIT 1) AS x) AS keys
FROM unnest(%(positions)s::bigint[]) AS k(position)
ORDER BY k.position
"""
# The rules of a role, as they were.
_RULE: Final = ("rule_id", "effect", "methods", "path", "min_clearance", "position")
RULES_AS_OF: Final = """
SELECT DISTINCT ON (v.rule_id) v.rule_id::text, v.effect, v.methods, v.path, v.min_clearance, v.position, v.withdrawn
FROM views.role_rules v
WHERE v.role_id = %(role_id)s AND v.position <= %(position)s
ORDER BY v.rule_id, v.position DESC
"""
_CLIENTS: Final[TypeAdapter[list[Client]]] = TypeAdapter(list[Client])
_APIS: Final[TypeAdapter[list[Api]]] = TypeAdapter(list[Api])
_ROLES: Final[TypeAdapter[list[Role]]] = TypeAdapter(list[Role])
_KEYS: Final[TypeAdapter[list[Key]]] = TypeAdapter(list[Key])


@dataclass(slots=True)
class Kept(Reference):
    """Reference data as a worker keeps it: the evaluator's, and the names that people use."""

    _compiled: dict[UUID, Matcher[UUID, PlacedRule]] = field(default_factory=dict)
    _role_ids: dict[str, UUID] = field(default_factory=dict)

    def role_id(self, name: str) -> UUID | None:
        """Answer the id of the role `api:role` names, or None."""
        return self._role_ids.get(name)

    def role_name(self, role_id: UUID) -> str:
        """Answer `api:role`."""
        role = self.roles[role_id]
        return f"{self.apis[role.api_id].name}:{role.name}"

    def role_names(self, role_ids: Iterable[UUID]) -> list[str]:
        """Answer the names of roles that are not removed, in order."""
        return sorted(self.role_name(role_id) for role_id in role_ids if not self.roles[role_id].removed)

    def scope_text(self, role_ids: Iterable[UUID] | None, direct: bool) -> str | None:
        """Answer a scope as OAuth writes it; None for a token that no scope restricts."""
        if role_ids is None:
            return None
        return " ".join([*self.role_names(role_ids), *(["direct"] if direct else [])])

    def take(self, clients: list[Client], apis: list[Api], roles: list[Role], keys: list[Key], rules: list[TupleRow]) -> None:
        """Put changed rows in the place of what was there."""
        self.clients.update((client.client_id, client) for client in clients)
        self.apis.update((api.api_id, api) for api in apis)
        self.keys.update((key.key_id, key) for key in keys)
        for role in roles:
            self.roles[role.role_id] = role
            name = self.role_name(role.role_id)
            if not role.removed:
                self._role_ids[name] = role.role_id
            elif self._role_ids.get(name) == role.role_id:
                del self._role_ids[name]
        for role_id, rule_id, effect, methods, path, min_clearance, withdrawn, position in rules:
            api_id = self.roles[role_id].api_id
            matcher = self._compiled.setdefault(api_id, Matcher())
            self.matchers[api_id] = matcher
            if withdrawn:
                matcher.remove(role_id, rule_id)
            else:
                placed = PlacedRule(Rule(effect, tuple(methods), path, min_clearance), position)
                matcher.add(role_id, rule_id, placed.rule.methods, Template.parse(path), placed)


class ReferenceKeeper:
    """Keeps the newest reference data that any lookup of this worker has seen."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept = Kept()
        self._changed_by: str | None = None  # None: nothing is kept, or that event is archived
        self._advancing = asyncio.Lock()

    async def at(self, position: int) -> Kept | None:
        """Answer the data as of this newest change; None when a newer one was taken meanwhile, so that the lookup is past.

        What is answered is as of `position` until the caller next awaits.
        """
        if self._kept.position < position:
            async with self._advancing:
                if self._kept.position < position:
                    await self._advance(position)
        return self._kept if self._kept.position == position else None

    async def is_of(self, connection: AsyncConnection[TupleRow]) -> bool:
        """Say whether what is kept is of the log of this connection: not after a restore to an earlier point.

        A log only grows: with the same command at the newest change that was seen, all before it is the same.
        """
        changed_by = self._changed_by
        if changed_by is None:
            return True
        row = await (await connection.execute(CHANGED_BY, (Int8(self._kept.position),))).fetchone()
        return row is not None and row[0] == changed_by

    async def _advance(self, position: int) -> None:
        interval = {"after": self._kept.position, "upto": position}
        async with self._pool.connection() as connection:
            row = await (await connection.execute(CHANGES, interval)).fetchone()
            rules = await (await connection.execute(RULE_CHANGES, interval)).fetchall()
        assert row is not None
        clients, apis, roles, keys, changed_by = row
        self._kept.take(
            read_rows(_CLIENTS, clients or []),
            read_rows(_APIS, apis or []),
            read_rows(_ROLES, roles or []),
            read_rows(_KEYS, keys or []),
            rules,
        )
        self._kept.position, self._changed_by = position, changed_by


async def read_reference_as_of(
    connection: AsyncConnection[TupleRow],
    positions: Sequence[int],
    *,
    client_ids: Sequence[UUID] = (),
    api_ids: Sequence[UUID] = (),
    role_ids: Sequence[UUID] = (),
    key_ids: Sequence[UUID] = (),
) -> dict[int, Kept]:
    """Answer these clients, APIs, roles and keys as they were at each of the positions; rules are left out."""
    parameters = {
        "positions": [Int8(position) for position in positions],
        "client_ids": as_array(client_ids),
        "api_ids": as_array(api_ids),
        "role_ids": as_array(role_ids),
        "key_ids": as_array(key_ids),
    }
    references: dict[int, Kept] = {}
    for position, clients, apis, roles, keys in await (await connection.execute(AS_OF, parameters)).fetchall():
        references[position] = Kept(position)
        references[position].take(
            read_rows(_CLIENTS, clients or []),
            read_rows(_APIS, apis or []),
            read_rows(_ROLES, roles or []),
            read_rows(_KEYS, keys or []),
            [],
        )
    return references


# --------------------------------------------------------------------------------------------------- a decision of the past


class RulesThen:
    """The rules of some roles of one API, each compiled by itself."""

    def __init__(self, of_roles: Mapping[UUID, Matcher[None, PlacedRule]]) -> None:
        self._of_roles = of_roles

    def match(self, method: str, segments: Sequence[str], groups: Iterable[UUID], own: str) -> list[tuple[UUID, PlacedRule]]:
        """Answer the rules of these roles that match."""
        return [
            (role_id, placed)
            for role_id in groups
            if role_id in self._of_roles
            for _, placed in self._of_roles[role_id].match(method, segments, (None,), own)
        ]


# Of roles as they were. A role has a row wherever its rules change, so its position names them.
_rules_then: Final = CompiledRules(MAX_COMPILED_RULES)


async def read_reference_of(
    connection: AsyncConnection[TupleRow], position: int, token: TokenStanding | None, api_id: UUID
) -> Kept:
    """Answer what a decision about this token needs as it was at a position, the rules of that API among it.

    Rows of what the token hangs on are read, whatever else the log holds.
    """
    if token is None:
        return Kept(position)
    references = await read_reference_as_of(
        connection,
        [position],
        client_ids=[token.client_id],
        api_ids=token.api_ids,
        role_ids=list({*token.subject_role_ids, *(token.role_ids or ())}),
        key_ids=token.key_ids,
    )
    kept = references[position]
    await take_rules_then(connection, kept, token.subject_role_ids, api_id)
    return kept


async def take_rules_then(connection: AsyncConnection[TupleRow], kept: Kept, role_ids: Iterable[UUID], api_id: UUID) -> None:
    """Add the rules that these roles of an API, which are kept as they were, had then."""
    held = [kept.roles[role_id] for role_id in role_ids]
    kept.matchers[api_id] = await read_rules_of(connection, [role for role in held if role.api_id == api_id])


async def read_rules_of(connection: AsyncConnection[TupleRow], roles: Iterable[Role]) -> RulesThen:
    """Answer the rules of these roles as they were at the positions of these rows."""
    of_roles: dict[UUID, Matcher[None, PlacedRule]] = {}
    for role in roles:
        if role.removed:
            continue
        rules: list[dict[str, Any]] = []
        if (role.role_id, role.position) not in _rules_then:
            parameters = {"role_id": role.role_id, "position": Int8(role.position)}
            rows = await (await connection.execute(RULES_AS_OF, parameters)).fetchall()
            api = {"api_id": str(role.api_id)}
            rules = [api | dict(zip(_RULE, row, strict=True)) for *row, withdrawn in rows if not withdrawn]
        of_roles[role.role_id] = _rules_then.of(role.role_id, role.position, rules).get(role.api_id, Matcher())
    return RulesThen(of_roles)
