"""Timelines: what happened to one token, family, subject or client, and what it was after each event.

What a token was worth then is computed by the statement and the rule that answer live, as of that position and instant; never
by a rule of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ledger.cascade import TokenStanding
from ledger.clients import client_id_of
from ledger.errors import UnknownClient, UnknownSubject
from ledger.instants import rfc3339
from ledger.jsontext import MAX_INTEGER
from ledger.standing import Standing, standing_of
from ledger.states import Client, Family, Subject
from ledger.statuses import stands
from ledger.tokens import UnknownFamily, UnknownToken
from projections.archived import read_first_position, refuse_archived_events, refuse_archived_token
from projections.audit import (
    Connection,
    EventPage,
    Filters,
    RecordedEvent,
    Span,
    read_clients_as_of,
    read_events,
    read_families_as_of,
    read_life,
    read_subjects_as_of,
    read_succession,
)
from projections.lookup import look_up
from projections.moments import Moment
from projections.reference import Kept, read_reference_as_of

# What can change whether a token stands: about the token itself, and about what it hangs on.
OF_TOKEN: Final = ("token_issued", "token_rotated", "token_suspended", "token_reinstated", "token_revoked")
_OF_ITS_FAMILY: Final = ("family_suspended", "family_reinstated", "family_revoked", "reuse_detected")
_OF_OTHERS: Final = (
    "subject_suspended",
    "subject_reinstated",
    "subject_password_set",
    "subject_tokens_revoked",
    "subject_erased",
    "client_suspended",
    "client_reinstated",
    "client_tokens_revoked",
    "api_suspended",
    "api_reinstated",
    "api_tokens_revoked",
    "key_revoked",
)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a timeline: what follows the position `cursor`, at most `limit` events, as if the log ended at `moment`."""

    cursor: int | None
    limit: int
    moment: Moment | None = None

    @property
    def span(self) -> Span:
        """The part of the log."""
        return Span(newest_first=False, cursor=self.cursor, moment=self.moment)


@dataclass(frozen=True, slots=True)
class TokenWorth:
    """What a token is worth, with the end of its life."""

    standing: Standing
    expires_at: datetime


State = TokenWorth | Family | Subject | Client
Now = TokenWorth | Subject | Client


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of what happened to `of`, the state after each event by its position, and the state at the end of the log."""

    of: dict[str, str]
    page: EventPage
    after: Mapping[int, State]
    now: Now


async def of_token(connection: Connection, token_id: UUID, part: Part) -> Timeline:
    """Answer what happened to a token, and from its issue to its end to what it hangs on, if it bears on whether it stands.

    UnknownToken; IsArchived, also where the token may have been in what is.
    """
    token = await _token(connection, token_id, part.moment)
    if token is None:
        await refuse_archived_token(connection, token_id, None)
        raise UnknownToken("there is no such token")
    turning_points = [token.position]
    succession = None
    if token.kind == "refresh":
        succession = await read_succession(connection, token.family_id, token.position, token.generation)
        turning_points += [] if succession is None else [succession]
    page = await read_life(
        connection,
        token_id,
        (token.family_id, token.subject_id, token.client_id, *token.api_ids, *token.key_ids),
        (*OF_TOKEN, *_OF_ITS_FAMILY, *_OF_OTHERS),
        turning_points,
        token.expires_at,
        part.span,
        limit=part.limit,
    )
    events = [event for event in page.events if event.position == succession or _bears_on(event, token)]
    page = replace(page, events=events)
    moments = [(event.position, event.recorded_at) for event in events]
    worths = await _worths(connection, token, [*moments, (page.position, page.instant)])
    after = {position: worth for (position, _), worth in zip(moments, worths, strict=False)}
    return Timeline({"token_id": str(token_id)}, page, after, worths[-1])


async def _token(connection: Connection, token_id: UUID, moment: Moment | None) -> TokenStanding | None:
    if moment is None:
        return (await look_up(connection.cursor(), [token_id]))[0].token
    return (await look_up(connection.cursor(), [token_id], position=moment.position, instant=moment.instant))[0].token


def _bears_on(event: RecordedEvent, token: TokenStanding) -> bool:
    """Say whether an event of these types is about the token, or about what it hangs on and can change whether it stands."""
    payload = event.payload
    if event.type in ("token_issued", "token_rotated"):
        return any(row["token_id"] == str(token.token_id) for row in payload["tokens"])
    if event.type in OF_TOKEN:
        return bool(payload["token_id"] == str(token.token_id))
    if event.type == "subject_password_set" and not payload["cuts_off"]:
        return False
    return event.stream in (token.family_id, token.subject_id, token.client_id, *token.api_ids, *token.key_ids)


async def _worths(connection: Connection, token: TokenStanding, moments: Sequence[tuple[int, datetime]]) -> list[TokenWorth]:
    """Answer what the token was worth at these positions and instants."""
    references = await read_reference_as_of(
        connection,
        [position for position, _ in moments],
        client_ids=[token.client_id],
        api_ids=token.api_ids,
        key_ids=token.key_ids,
    )
    worths: list[TokenWorth] = []
    for position, instant in moments:
        (found,) = await look_up(connection.cursor(), [token.token_id], position=position, instant=instant)
        if found.token is None:  # it left between two statements
            await refuse_archived_token(connection, token.token_id, position)
        assert found.token is not None
        worths.append(TokenWorth(standing_of(found.token, references[position], instant), token.expires_at))
    return worths


async def of_family(connection: Connection, family_id: UUID, part: Part) -> Timeline:
    """Answer what happened to a family and its tokens. Now it is worth what its refresh token is, or its only token.

    UnknownFamily; IsArchived.
    """
    first = await read_first_position(connection, family_id)
    if first is None:
        raise UnknownFamily("there is no such family")
    page = await _events_of(connection, Filters(family_id=family_id), first, part)
    rows = await read_families_as_of(connection, family_id, _positions(page))
    row = rows.get(page.position)
    if row is None:
        await refuse_archived_events(connection, first)
        raise UnknownFamily("there is no such family")
    token_id = row.refresh_token_id or row.access_token_id
    assert token_id is not None  # a family begins with its first tokens
    token = await _token(connection, token_id, part.moment)
    if token is None:
        await refuse_archived_token(connection, token_id, None)
    assert token is not None
    (worth,) = await _worths(connection, token, [(page.position, page.instant)])
    return Timeline({"family_id": str(family_id)}, page, rows, worth)


async def of_subject(connection: Connection, subject_id: UUID, part: Part) -> Timeline:
    """Answer what happened to a subject, its tokens among it. UnknownSubject; IsArchived."""
    first = await read_first_position(connection, subject_id)
    page = await _events_of(connection, Filters(subject_id=subject_id), first, part)
    rows = await read_subjects_as_of(connection, subject_id, _positions(page))
    if page.position not in rows:
        raise UnknownSubject(subject_id)
    return Timeline({"subject_id": str(subject_id)}, page, rows, rows[page.position])


async def of_client(connection: Connection, name: str, part: Part) -> Timeline:
    """Answer what happened to a client, its tokens among it. UnknownClient; IsArchived."""
    client_id = client_id_of(name)
    first = await read_first_position(connection, client_id)
    page = await _events_of(connection, Filters(client_id=client_id), first, part)
    rows = await read_clients_as_of(connection, client_id, _positions(page))
    if page.position not in rows:
        raise UnknownClient(name)
    return Timeline({"client": name}, page, rows, rows[page.position])


async def _events_of(connection: Connection, filters: Filters, first: int | None, part: Part) -> EventPage:
    """Answer a page of what happened to whatever came to be at `first`: nothing of before is about it."""
    return await read_events(connection, filters, replace(part.span, from_position=first or MAX_INTEGER), limit=part.limit)


def _positions(page: EventPage) -> list[int]:
    """Answer where the states of a timeline are asked for: after each event, and at the end."""
    return sorted({event.position for event in page.events} | {page.position})


# ---------------------------------------------------------------------------------------------------------------- answers


def state_answer(state: State | None, position: int, kept: Kept) -> dict[str, Any] | None:
    """Answer the state after the event at a position; None: there was nothing yet. `kept` is of that position or later."""
    match state:
        case None:
            return None
        case TokenWorth():
            return {
                "state": state.standing.state,
                "reason": state.standing.reason,
                "level": state.standing.level,
                "until": _instant(state.standing.until),
                "stands_for": sorted(kept.apis[api_id].name for api_id in state.standing.api_ids),
            }
        case Family():
            return {"status": state.status, "until": _instant(state.status_until), "generation": state.generation}
        case Subject():
            return {
                "status": state.status,
                "until": _instant(state.status_until),
                "clearance": state.clearance,
                "roles": _role_names(state, position, kept),
                "cutoff_position": state.cutoff_position,
            }
        case Client():
            return {
                "status": state.status,
                "until": _instant(state.status_until),
                "cutoff_position": state.cutoff_position,
                "grants": list(state.grants),
                "strategy": state.strategy,
                "refresh": state.refresh,
                "apis": sorted(kept.apis[api_id].name for api_id in state.api_ids),
            }


def now_answer(state: Now, page: EventPage, kept: Kept) -> dict[str, Any]:
    """Answer the state at the end of the log and as of the instant: expired is no event, nor is the end of a suspension."""
    if isinstance(state, TokenWorth):
        answer = state_answer(state, page.position, kept) or {}
        return answer | ({"expired_at": rfc3339(state.expires_at)} if answer["state"] == "expired" else {})
    if stands(state.status, state.status_until, page.instant):
        return {"state": "active", "reason": None}
    kind = "subject" if isinstance(state, Subject) else "client"
    return {"state": state.status, "reason": f"{kind}_{state.status}", "until": _instant(state.status_until)}


def _role_names(subject: Subject, position: int, kept: Kept) -> list[str]:
    """Answer the names of the roles it had, without those that were removed by then. Names are for ever."""
    held = [kept.roles[role_id] for role_id in subject.role_ids]
    return sorted(kept.role_name(role.role_id) for role in held if not (role.removed and role.position <= position))


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)
