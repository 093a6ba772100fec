"""What a security event reaches: the one function that says whether a token stands, and what stops it.

Every endpoint asks it about every kind of token: decisions, introspection and gateways (decisions.py), refreshes (tokens.py),
listings, one's own tokens and timelines (standing.py). tests/cascade.csv says by hand what comes of it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from ledger.states import Api, Client, Key, State
from ledger.statuses import stands


class Parties(Protocol):
    """Whoever else has a say in a token, by id: reference data of a worker, or what a command has read."""

    @property
    def clients(self) -> Mapping[UUID, Client]: ...
    @property
    def apis(self) -> Mapping[UUID, Api]: ...
    @property
    def keys(self) -> Mapping[UUID, Key]: ...


class TokenStanding(NamedTuple):
    """What the views say of one token at one position; columns of the lookup's statement, in their order."""

    token_id: UUID
    position: int
    family_id: UUID
    generation: int
    kind: str
    strategy: str
    subject_id: UUID
    client_id: UUID
    api_ids: list[UUID]
    role_ids: list[UUID] | None
    direct: bool
    secret_digest: bytes | None
    key_ids: list[UUID]
    name: str | None
    claims: dict[str, Any] | None
    issued_at: datetime
    expires_at: datetime
    token_status: str | None
    token_status_until: datetime | None
    token_status_position: int | None
    family_status: str | None
    family_status_until: datetime | None
    family_position: int | None
    family_generation: int | None
    family_idle_expires_at: datetime | None
    subject_kind: str
    subject_status: str
    subject_status_until: datetime | None
    subject_position: int
    subject_cutoff_position: int
    subject_clearance: int
    subject_role_ids: list[UUID]
    subject_rules: list[dict[str, Any]] | None
    subject_rules_position: int | None

    @classmethod
    def of(cls, state: State, token_id: UUID) -> "TokenStanding":
        """Answer the same of a token that a command has read, with its family and subject; without the subject's own rules."""
        token = state.tokens[token_id]
        token_state = state.token_states.get(token_id)
        family = state.families.get(token.family_id)
        subject = state.subjects[token.subject_id]
        return cls(
            token_id=token.token_id,
            position=token.position,
            family_id=token.family_id,
            generation=token.generation,
            kind=token.kind,
            strategy=token.strategy,
            subject_id=token.subject_id,
            client_id=token.client_id,
            api_ids=list(token.api_ids),
            role_ids=None if token.role_ids is None else list(token.role_ids),
            direct=token.direct,
            secret_digest=token.secret_digest,
            key_ids=list(token.key_ids),
            name=token.name,
            claims=token.claims,
            issued_at=token.issued_at,
            expires_at=token.expires_at,
            token_status=None if token_state is None else token_state.status,
            token_status_until=None if token_state is None else token_state.status_until,
            token_status_position=None if token_state is None else token_state.position,
            family_status=None if family is None else family.status,
            family_status_until=None if family is None else family.status_until,
            family_position=None if family is None else family.position,
            family_generation=None if family is None else family.generation,
            family_idle_expires_at=None if family is None else family.idle_expires_at,
            subject_kind=subject.kind,
            subject_status=subject.status,
            subject_status_until=subject.status_until,
            subject_position=subject.position,
            subject_cutoff_position=subject.cutoff_position,
            subject_clearance=subject.clearance,
            subject_role_ids=list(subject.role_ids),
            subject_rules=None,
            subject_rules_position=None,
        )


def what_stops(
    token: TokenStanding, parties: Parties, now: datetime, api_id: UUID | None, evidence: dict[str, int]
) -> str | None:
    """Answer what stops the token for this API, a reason of decisions.py, or None when it stands; positions go to `evidence`.

    `api_id` None: not for an API but for a refresh, which calls none. The order is the order of the answer: the token itself,
    its audience, then family, subject, client, API, cut-offs, keys.
    """
    evidence["token"] = token.position
    if now >= token.expires_at:
        return "token_expired"
    # A reusable refresh token is one row for its whole life: that it was used, and so lives on, is the family's to know.
    if token.kind == "refresh" and token.family_idle_expires_at is not None and now >= token.family_idle_expires_at:
        return "token_expired"
    if token.token_status is not None:
        evidence["token"] = token.token_status_position or token.position
        if not stands(token.token_status, token.token_status_until, now):
            return f"token_{token.token_status}"
    if api_id is not None and api_id not in token.api_ids:
        return "wrong_audience"
    if token.family_status is not None:
        evidence["family"] = token.family_position or 0
        if not stands(token.family_status, token.family_status_until, now):
            return f"family_{token.family_status}"
    evidence["subject"] = token.subject_position
    if not stands(token.subject_status, token.subject_status_until, now):
        return f"subject_{token.subject_status}"
    client = parties.clients[token.client_id]
    evidence["client"] = client.position
    if not stands(client.status, client.status_until, now):
        return "client_suspended"
    if api_id is not None:
        api = parties.apis[api_id]
        evidence["api"] = api.position
        if not stands(api.status, api.status_until, now):
            return "api_suspended"
    cutoff = cutoff_position(token, parties)
    if token.position <= cutoff:
        evidence["cutoff"] = cutoff
        return "tokens_revoked_before"
    for key_id in token.key_ids:
        key = parties.keys[key_id]
        evidence["key"] = max(evidence.get("key", 0), key.position)
        if key.status == "revoked":
            return "key_revoked"
    return None


def cutoff_position(token: TokenStanding, parties: Parties) -> int:
    """Answer the position up to which tokens are dead: the maximum over subject, client and the APIs of the audience."""
    return max(
        token.subject_cutoff_position,
        parties.clients[token.client_id].cutoff_position,
        *(parties.apis[api_id].cutoff_position for api_id in token.api_ids),
    )
