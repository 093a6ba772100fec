"""Whether a token stands, said for people: its state, why, and at which level. The rule itself is cascade.py, asked for
every API of the audience; what is added is what only a refresh token knows, that it was used."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from ledger.cascade import TokenStanding, cutoff_position, what_stops
from ledger.decisions import Reference

TokenStatus = Literal["active", "suspended", "revoked", "expired", "rotated"]
Level = Literal["token", "family", "subject", "client", "api", "key"]

# What each reason of what_stops comes to; of tokens_revoked_before the level is found by the cut-off.
_MEANING: Final[Mapping[str, tuple[TokenStatus, Level]]] = {
    "token_expired": ("expired", "token"),
    "token_suspended": ("suspended", "token"),
    "token_revoked": ("revoked", "token"),
    "family_suspended": ("suspended", "family"),
    "family_revoked": ("revoked", "family"),
    "subject_suspended": ("suspended", "subject"),
    "subject_erased": ("revoked", "subject"),
    "client_suspended": ("suspended", "client"),
    "api_suspended": ("suspended", "api"),
    "key_revoked": ("revoked", "key"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a token is worth at a position and an instant.

    `reason` and `level` say why it does not stand, None when it does; `until`: when a suspension ends by itself.
    `api_ids`: the APIs it stands for. `evidence`: the positions behind it, as in a decision; of several APIs that of the one
    that stops it, or of those it stands for the newest.
    """

    state: TokenStatus
    reason: str | None
    level: Level | None
    until: datetime | None
    api_ids: tuple[UUID, ...]
    evidence: dict[str, int]


def standing_of(token: TokenStanding, reference: Reference, instant: datetime) -> Standing:
    """Answer what a token is worth, by the same rule that decides about it.

    A token for several APIs stands as long as it does for one. A refresh token calls no API, and a one-time one is `rotated`
    once it was used.
    """
    if token.kind == "refresh":
        evidence: dict[str, int] = {}
        reason = what_stops(token, reference, instant, None, evidence)
        if reason is None and token.generation != token.family_generation:
            return Standing("rotated", "token_rotated", "token", None, (), evidence)
        return _standing(token, reference, None, reason, tuple(token.api_ids), evidence)
    behind: dict[UUID, dict[str, int]] = {api_id: {} for api_id in token.api_ids}
    reasons = {api_id: what_stops(token, reference, instant, api_id, behind[api_id]) for api_id in token.api_ids}
    standing_for = tuple(api_id for api_id, reason in reasons.items() if reason is None)
    if standing_for:
        newest = max(standing_for, key=lambda api_id: behind[api_id]["api"])
        return _standing(token, reference, None, None, standing_for, behind[newest])
    # Of an API that is suspended the others may know more.
    api_id, reason = min(reasons.items(), key=lambda r: r[1] == "api_suspended")
    return _standing(token, reference, api_id, reason, (), behind[api_id])


def _standing(
    token: TokenStanding,
    reference: Reference,
    api_id: UUID | None,
    reason: str | None,
    api_ids: tuple[UUID, ...],
    evidence: dict[str, int],
) -> Standing:
    if reason is None:
        return Standing("active", None, None, None, api_ids, evidence)
    if reason == "tokens_revoked_before":
        return Standing("revoked", reason, _level_of_cutoff(token, reference), None, (), evidence)
    state, level = _MEANING[reason]
    until = _until(token, reference, api_id, level) if state == "suspended" else None
    return Standing(state, reason, level, until, (), evidence)


def _level_of_cutoff(token: TokenStanding, reference: Reference) -> Level:
    cutoff = cutoff_position(token, reference)
    if cutoff == token.subject_cutoff_position:
        return "subject"
    return "client" if cutoff == reference.clients[token.client_id].cutoff_position else "api"


def _until(token: TokenStanding, reference: Reference, api_id: UUID | None, level: Level) -> datetime | None:
    ends = {
        "token": token.token_status_until,
        "family": token.family_status_until,
        "subject": token.subject_status_until,
        "client": reference.clients[token.client_id].status_until,
        "api": reference.apis[api_id].status_until if api_id is not None else None,
    }
    return ends[level]
