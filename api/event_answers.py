"""Events as audit and feed answer them, as people are told them, and the parameter that asks for some types."""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from api.timelines import OF_TOKEN
from ledger.errors import InvalidInput
from ledger.events import EVENT_TYPES
from ledger.instants import rfc3339
from ledger.log import Recorded
from projections.audit import RecordedEvent
from projections.reference import Kept

MAX_TYPES: Final = 20

# What tells a right secret from a wrong one, wherever it stands in a row.
VERIFIERS: Final = frozenset(["secret_digest", "secret_digests", "sealed_password"])
WITHHELD: Final = "withheld"


def event_answer(event: RecordedEvent) -> dict[str, Any]:
    """Answer an event as recorded, without verifiers."""
    return {
        "position": event.position,
        "stream": str(event.stream),
        "version": event.version,
        "type": event.type,
        "schema_version": event.schema_version,
        "recorded_schema_version": event.recorded_schema_version,
        "recorded_at": rfc3339(event.recorded_at),
        "payload": without_verifiers(event.payload),
        **{name: event.metadata[name] for name in ("command_id", "request_id", "correlation_id", "causation")},
        "actor": event.metadata["actor"],
        "semantics": event.metadata["semantics"],
    }


def event_text(event: RecordedEvent) -> str:
    """Answer the same as JSON on one line, in ASCII: some who cut a text into lines do so at more than line feeds."""
    return json.dumps(event_answer(event))


def without_verifiers(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a payload as recorded, but for what secrets are checked against: that it is there is said, not what it is.

    From the digest of 256 random bits nothing can be computed, and a sealed password hash cannot be opened; yet no question
    of an auditor needs them, and an answer ends up in files that live longer than the reasons why they are harmless.
    """
    return {name: _without_verifiers(member) for name, member in payload.items()}


def _without_verifiers(member: Any) -> Any:
    """Answer a row, or rows, of a payload; nothing below (claims) is the ledger's own."""
    if isinstance(member, list):
        return [_without_verifiers(item) for item in member]
    if not isinstance(member, dict):
        return member
    return {name: _withheld(value) if name in VERIFIERS else value for name, value in member.items()}


def _withheld(value: Any) -> Any:
    if isinstance(value, list):
        return [WITHHELD for _ in value]
    return None if value is None else WITHHELD


def read_types(query: dict[str, str], name: str) -> tuple[str, ...] | None:
    """Answer a parameter that is event types, separated by commas, at most 20; None without it."""
    if name not in query:
        return None
    types = tuple(dict.fromkeys(query[name].split(",")))
    for given in types:
        if given not in EVENT_TYPES:
            raise InvalidInput.of(name, f"there is no event type {given[:64]!r}")
    if len(types) > MAX_TYPES:
        raise InvalidInput.of(name, f"at most {MAX_TYPES}")
    return types


# ---------------------------------------------------------------------------------------- an event, as people are told it

# In which row an event has its reason, if it was given one; those of a cut-off have it themselves: they change no status.
_REASONS: Final[Mapping[str, str]] = {
    "token_suspended": "token_state",
    "token_reinstated": "token_state",
    "token_revoked": "token_state",
    "family_suspended": "family",
    "family_reinstated": "family",
    "family_revoked": "family",
    "reuse_detected": "family",
    "subject_suspended": "subject",
    "subject_reinstated": "subject",
    "subject_erased": "subject",
    "client_suspended": "client",
    "client_reinstated": "client",
    "api_suspended": "api",
    "api_reinstated": "api",
    "key_revoked": "key",
}


def why(event: Recorded) -> str | None:
    """Answer the reason that was given, if the event has one."""
    member = _REASONS.get(event.type)
    reason: str | None = event.payload.get("reason") if member is None else event.payload[member]["status_reason"]
    return reason


def about(event: Recorded, of: Mapping[str, str]) -> dict[str, str]:
    """Answer what the event happened to: of tokens issued together, the one that is asked about or the access token."""
    if event.type in ("token_issued", "token_rotated"):
        token_ids = [row["token_id"] for row in event.payload["tokens"]]
        return {"kind": "token", "id": of["token_id"] if of.get("token_id") in token_ids else token_ids[0]}
    if event.type in OF_TOKEN:
        return {"kind": "token", "id": event.payload["token_id"]}
    return {"kind": EVENT_TYPES[event.type].STREAM.removesuffix("_id"), "id": str(event.stream)}


def who(event: Recorded, names: Mapping[UUID, str], kept: Kept) -> dict[str, Any]:
    """Answer who did it, and with what."""
    actor = event.metadata["actor"]
    name: str | None = None
    if actor["kind"] == "subject":
        name = names.get(UUID(actor["id"]))
    elif actor["kind"] == "client":
        client = kept.clients.get(UUID(actor["id"]))
        name = None if client is None else client.name
    return {"kind": actor["kind"], "id": actor["id"], "name": name, "authenticated_by": actor["authenticated_by"]}
