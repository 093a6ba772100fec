"""What audit answers, said a second time and plainly: which events match, over the whole log; and questions to compare it by.

Finds nothing by SQL. An event is a row of views.history, as psycopg reads it.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from projections.audit import Filters, Span

Row = dict[str, Any]


def whole_log(conninfo: str) -> list[Row]:
    """Answer every event there is, oldest first."""
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM views.history ORDER BY position").fetchall()


def matches(event: Row, filters: Filters) -> bool:
    """Say whether an event matches, said a second time and plainly."""
    payload, actor = event["payload"], event["metadata"]["actor"]
    found: dict[str, set[Any]] = {
        "subject_id": {payload.get("subject_id"), payload.get("holder_id")},
        "client_id": {payload.get("client_id")},
        "api_id": {payload.get("api_id")},
        "token_id": {payload.get("token_id"), *(row["token_id"] for row in payload.get("tokens", ()))},
        "family_id": {payload.get("family_id")},
        "role_id": {
            payload.get("role_id"),
            payload.get("holder_id"),
            *payload.get("granted", ()),
            *payload.get("withdrawn", ()),
        },
        "key_id": {payload.get("key_id")},
        "actor_id": {actor["id"]},
    }
    wanted = {name: getattr(filters, name) for name in found}
    return all(value is None or str(value) in found[name] for name, value in wanted.items()) and (
        filters.types is None or event["type"] in filters.types
    )


def within(event: Row, span: Span) -> bool:
    """Say whether an event lies in a span."""
    return (
        (span.from_position is None or event["position"] >= span.from_position)
        and (span.to_position is None or event["position"] <= span.to_position)
        and (span.from_time is None or event["recorded_at"] >= span.from_time)
        and (span.to_time is None or event["recorded_at"] < span.to_time)
    )


def any_filters(log: Sequence[Row], chance: random.Random) -> Filters:
    """Draw filters, most of them from events that are there, so that something matches."""
    event, other = chance.choice(log), chance.choice(log)
    payload = event["payload"]
    tokens = [row["token_id"] for row in payload.get("tokens", ())]
    known = {
        "subject_id": payload.get("subject_id") or payload.get("holder_id"),
        "client_id": payload.get("client_id"),
        "api_id": payload.get("api_id"),
        "token_id": payload.get("token_id") or chance.choice([*tokens, None]),
        "family_id": payload.get("family_id"),
        "role_id": chance.choice([payload.get("role_id"), *payload.get("granted", ()), *payload.get("withdrawn", ())]),
        "key_id": payload.get("key_id"),
        "actor_id": event["metadata"]["actor"]["id"],
    }
    share = chance.choice([0.15, 0.4, 0.9])
    chosen = {name: UUID(value) for name, value in known.items() if value is not None and chance.random() < share}
    if chance.random() < 0.1:
        chosen[chance.choice(list(known))] = uuid4()
    types = chance.choice([None, None, (event["type"],), (event["type"], other["type"])])
    return Filters(**chosen, types=None if types is None else tuple(dict.fromkeys(types)))


def any_span(log: Sequence[Row], chance: random.Random) -> Span:
    def sometimes(value: Any) -> Any:
        return value if chance.random() < 0.25 else None

    def instant() -> Any:
        return chance.choice(log)["recorded_at"] + timedelta(microseconds=chance.choice([-1, 0, 0, 1]))

    return Span(
        from_position=sometimes(chance.randint(1, len(log) + 2)),
        to_position=sometimes(chance.randint(1, len(log) + 2)),
        from_time=sometimes(instant()),
        to_time=sometimes(instant()),
        newest_first=chance.random() < 0.5,
    )
