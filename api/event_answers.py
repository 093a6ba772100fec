"""Events as audit and feed answer them, and the parameter that asks for some types of them."""

from typing import Any, Final

from ledger.errors import InvalidInput
from ledger.events import EVENT_TYPES
from ledger.instants import rfc3339
from projections.audit import RecordedEvent

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
