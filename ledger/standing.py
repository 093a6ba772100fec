"""Whether a token stands, said for people: its state, why, and at which level. The rule itself is decisions.py, asked for
every API of the audience; what is added is what only a refresh token knows, that it was used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from ledger.decisions import Question, Reference, TokenStanding, cutoff_position, why_not_standing

TokenStatus = Literal["active", "suspended", "revoked", "expired", "rotated"]
Level = Literal["token", "family", "subject", "client", "api", "key"]

# What each reason of why_not_standing comes to; of tokens_revoked_before the level is found by the cut-off.
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
    `api_ids`: the APIs it stands for.
    """

    state: TokenStatus
    reason: str | None
    level: Level | None
    until: datetime | None
    api_ids: tuple[UUID, ...]


def standing_of(token: TokenStanding, reference: Reference, position: int, instant: datetime) -> Standing:
    """Answer what a token is worth, by the same rule that decides about it.

    A token for several APIs stands as long as it does for one. A refresh token calls no API: none that is suspended stops
    it, and a one-time one is `rotated` once it was used.
    """
    if token.kind == "refresh":
        apis = {api_id: replace(reference.apis[api_id], status="active") for api_id in token.api_ids}
        reference = Reference(reference.position, reference.clients, apis, reference.roles, reference.keys)
    judged = token._replace(kind="access")
    reasons = {
        api_id: why_not_standing(Question(api_id, "GET", "/", None, instant, position), judged, reference, {})
        for api_id in token.api_ids
    }
    standing_for = tuple(api_id for api_id, reason in reasons.items() if reason is None)
    if standing_for:
        if token.kind == "refresh" and token.generation != token.family_generation:
            return Standing("rotated", "token_rotated", "token", None, ())
        return Standing("active", None, None, None, standing_for)
    # Of an API that is suspended the others may know more.
    api_id, reason = min(((api_id, reason or "") for api_id, reason in reasons.items()), key=lambda r: r[1] == "api_suspended")
    if reason == "tokens_revoked_before":
        return Standing("revoked", reason, _level_of_cutoff(token, reference), None, ())
    state, level = _MEANING[reason]
    return Standing(state, reason, level, _until(token, reference, api_id, level) if state == "suspended" else None, ())


def _level_of_cutoff(token: TokenStanding, reference: Reference) -> Level:
    client, apis = reference.clients[token.client_id], [reference.apis[api_id] for api_id in token.api_ids]
    cutoff = cutoff_position(token, client, apis)
    if cutoff == token.subject_cutoff_position:
        return "subject"
    return "client" if cutoff == client.cutoff_position else "api"


def _until(token: TokenStanding, reference: Reference, api_id: UUID, level: Level) -> datetime | None:
    ends = {
        "token": token.token_status_until,
        "family": token.family_status_until,
        "subject": token.subject_status_until,
        "client": reference.clients[token.client_id].status_until,
        "api": reference.apis[api_id].status_until,
    }
    return ends[level]
