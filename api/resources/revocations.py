"""/v1/revocations: tokens found without their strings, and revoked: first a dry run, then exactly what it listed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import authorize
from api.body import Body, read_body
from api.commands import carry_out, make_envelope
from api.pages import DEFAULT_PAGE, MAX_PAGE
from api.resources.bodies import Instant, Reason
from api.resources.tokens import named_api, named_client, read_token_cursor, token_cursor, token_members
from api.service import Service
from ledger import apis, clients, subjects
from ledger.errors import InvalidInput, Problem
from ledger.events import Event
from ledger.execute import Contention, Reading, Receipt, execute
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.jsontext import MAX_INTEGER
from ledger.log import Envelope
from ledger.states import State, Strategy
from ledger.tokens import revoke_listed_family, revoke_tokens
from projections.reading import Keys, read_state
from projections.reference import Kept
from projections.revocations import Plan, make_plan, read_part, was_issued_since
from projections.token_listing import NEWEST, SCANNED, Key, ListedToken, TokenFilters

# Tokens a command: it holds the turn for some milliseconds, and is read again when one of its families is refreshed meanwhile.
CHUNK_TOKENS: Final = 200
# Steps a request, in each of which SCANNED tokens are looked at and one chunk of them is revoked.
STEPS: Final = 5
# The same for a dry run that counts, which writes nothing.
COUNTED_STEPS: Final = 10


class Filter(Body):
    """Which tokens: those that match every member. Issued, as the log recorded it, at or after the one instant and before the
    other."""

    subject_id: UUID | None = None
    client: str | None = None
    api: str | None = None
    family_id: UUID | None = None
    kind: Literal["access", "refresh"] | None = None
    strategy: Strategy | None = None
    issued_after: Instant | None = None
    issued_before: Instant | None = None

    def filters(self, kept: Kept) -> TokenFilters:
        """Answer it with ids for names. UnknownClient, UnknownApi; InvalidInput for one without members: it was not meant."""
        if not self.model_dump(exclude_none=True):
            raise InvalidInput.of("filter", "at least one member; for every token say `issued_before`")
        return TokenFilters(
            subject_id=self.subject_id,
            client_id=named_client(self.client, kept),
            api_id=named_api(self.api, kept),
            family_id=self.family_id,
            kind=self.kind,
            strategy=self.strategy,
            issued_after=self.issued_after,
            issued_before=self.issued_before,
        )


class Revocation(Body):
    """A dry run, or a run of the plan that one answered."""

    filter: Filter
    dry_run: bool = False
    as_of_position: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    plan_id: UUID | None = None
    reason: Reason | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] | None = None

    def check(self) -> None:
        """Refuse a run without its plan, or by pages: InvalidInput."""
        if self.dry_run:
            return
        missing = [name for name in ("as_of_position", "plan_id") if getattr(self, name) is None]
        problems = [Problem(name, "of the plan, as its dry run answered it") for name in missing]
        if self.limit is not None:
            problems.append(Problem("limit", "for a dry run only"))
        if problems:
            raise InvalidInput(problems)


@dataclass(slots=True)
class Progress:
    """What one request did: tokens of the plan that it went past, those of them that it revoked, and where that is recorded."""

    passed: int
    revoked: int
    positions: list[int]
    position: int
    next: Key | None


class Revocations:
    """The endpoint /v1/revocations."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: Request, resp: Response) -> None:
        """List what a filter means, writing nothing; or revoke what such a list said, some of it a request."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Revocation)
        body.check()
        plan = await make_plan(service.pool, body.filter.filters(caller.kept), body.as_of_position)
        if body.plan_id not in (None, plan.plan_id):
            raise InvalidInput.of("plan_id", "that of this filter as of this position, as its dry run answered it")
        before = NEWEST if body.cursor is None else read_token_cursor({"cursor": body.cursor})
        if body.dry_run:
            resp.media = await self._listed(plan, before, body.limit or DEFAULT_PAGE, caller.kept)
            return
        envelope = replace(
            make_envelope(req, service, caller.actor, repeatable=False),
            command_id=name_id("command", str(plan.plan_id)),
            correlation_id=plan.plan_id,
        )
        if plan.level is not None:
            receipt = await self._revoke_level(plan, envelope, body.reason)
            recorded = [receipt.position] if receipt.events else []
            resp.media = _progress_answer(plan, recorded, receipt.position, None) | {"revoked": None, "passed": None}
            return
        progress = await self._revoke_some(plan, before, envelope, body.reason)
        resp.media = _progress_answer(plan, progress.positions, progress.position, progress.next) | {
            "revoked": progress.revoked,
            "passed": progress.passed,
        }

    # ------------------------------------------------------------------------------------------------------ a dry run

    async def _listed(self, plan: Plan, before: Key, limit: int, kept: Kept) -> dict[str, Any]:
        part = await read_part(self._service.pool, plan, before, limit)
        return {
            "plan_id": str(plan.plan_id),
            "as_of_position": plan.position,
            "instant": rfc3339(plan.instant),
            "log_id": str(plan.log_id),
            "level": plan.level,
            "count": await self._count(plan) if before == NEWEST else None,
            "tokens": [token_members(listed, kept) for listed in part.tokens],
            "next": token_cursor(part.next),
        }

    async def _count(self, plan: Plan) -> int | None:
        """Answer how many tokens a plan has; None for more than one request looks at."""
        count, key = 0, NEWEST
        for _ in range(COUNTED_STEPS):
            part = await read_part(self._service.pool, plan, key, SCANNED)
            count += len(part.tokens)
            if part.next is None:
                return count
            key = part.next
        return None

    # ---------------------------------------------------------------------------------------------------------- a run

    async def _revoke_level(self, plan: Plan, envelope: Envelope, reason: str | None) -> Receipt[Any]:
        """Take the whole plan by one event."""
        service, filters, cutoff = self._service, plan.filters, plan.last
        if filters.family_id is not None:
            return await self._revoke_family(plan, filters.family_id, envelope, reason)
        if filters.subject_id is not None:
            subject_id = filters.subject_id
            return await carry_out(
                service,
                envelope,
                Keys(subjects=[subject_id]),
                lambda state, now: subjects.revoke_tokens(
                    state, now, subject_id=subject_id, reason=reason, cutoff_position=cutoff
                ),
                urgent=True,
            )
        if filters.client_id is not None:
            client_id = filters.client_id
            return await carry_out(
                service,
                envelope,
                Keys(clients=[client_id]),
                lambda state, now: clients.revoke_tokens(
                    state, now, client_id=client_id, reason=reason, cutoff_position=cutoff
                ),
                urgent=True,
            )
        assert filters.api_id is not None
        api_id = filters.api_id
        return await carry_out(
            service,
            envelope,
            Keys(apis=[api_id]),
            lambda state, now: apis.revoke_tokens(state, now, api_id=api_id, reason=reason, cutoff_position=cutoff),
            urgent=True,
        )

    async def _revoke_family(self, plan: Plan, family_id: UUID, envelope: Envelope, reason: str | None) -> Receipt[Any]:
        service = self._service

        async def read() -> Reading[tuple[State, bool]]:
            reading = await read_state(service.pool, Keys(families=[family_id]))
            # After the version: what is issued later than this is a conflict.
            issued_since = await was_issued_since(service.pool, family_id, plan.position)
            return Reading((reading.state, issued_since), reading.versions, reading.position, reading.instant)

        def decide(read: tuple[State, bool], now: datetime) -> list[Event]:
            return revoke_listed_family(read[0], now, family_id=family_id, reason=reason, issued_since=read[1])

        return await execute(service.appender, service.pool, envelope, read, decide, urgent=True)

    async def _revoke_some(self, plan: Plan, before: Key, envelope: Envelope, reason: str | None) -> Progress:
        """Take the next chunks of the plan; cut by its order, not by what is left, they are the same for whoever goes on."""
        progress = Progress(0, 0, [], plan.position, before)
        for _ in range(STEPS):
            assert progress.next is not None
            part = await read_part(self._service.pool, plan, progress.next, CHUNK_TOKENS)
            if part.tokens:
                for receipt in await self._revoke_chunk(plan, part.tokens, envelope, reason):
                    progress.position = max(progress.position, receipt.position)
                    if receipt.events and not receipt.repeated:
                        progress.revoked += len(receipt.events)
                        progress.positions.append(receipt.position)
            progress.passed += len(part.tokens)
            progress.next = part.next
            if part.next is None:
                break
        return progress

    async def _revoke_chunk(
        self, plan: Plan, tokens: Sequence[ListedToken], envelope: Envelope, reason: str | None
    ) -> list[Receipt[State]]:
        """Revoke tokens that follow each other in the plan by one command, or by more where one of their families never rests.

        Contention where a token alone could not be revoked; those before it are.
        """
        token_ids = [listed.token.token_id for listed in tokens]
        # Whoever does the same does it under the same id. Recorded means that all of these are revoked, by it or before.
        command_id = name_id("command", str(plan.plan_id), str(token_ids[0]), str(token_ids[-1]))
        try:
            receipt = await carry_out(
                self._service,
                replace(envelope, command_id=command_id),
                Keys(tokens=token_ids, families=list({listed.token.family_id for listed in tokens})),
                lambda state, now: revoke_tokens(state, now, token_ids=token_ids, reason=reason),
                urgent=True,
            )
        except Contention:
            if len(tokens) == 1:
                raise
            half = len(tokens) // 2
            return [
                *await self._revoke_chunk(plan, tokens[:half], envelope, reason),
                *await self._revoke_chunk(plan, tokens[half:], envelope, reason),
            ]
        return [receipt]


def _progress_answer(plan: Plan, positions: list[int], position: int, following: Key | None) -> dict[str, Any]:
    return {
        "plan_id": str(plan.plan_id),
        "as_of_position": plan.position,
        "level": plan.level,
        "done": following is None,
        "positions": positions,
        "position": position,
        "next": token_cursor(following),
    }
