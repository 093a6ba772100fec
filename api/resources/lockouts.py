"""/v1/lockouts: budgets of password attempts that were spent, and how an operator makes one whole again."""

from dataclasses import replace
from typing import Final

from falcon.asgi import Request, Response

from api.asking import authorize
from api.body import Body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import read_cursor, read_limit, read_query, read_uuid, uuid_of
from api.service import NOBODY, Service
from ledger import lockouts
from ledger.instants import rfc3339
from ledger.lockouts import UnknownLockout
from projections.reading import Keys, read_state
from projections.throttles import list_lockouts, unlock

LAST: Final = 2**62


class Lockouts:
    """Every endpoint of /v1/lockouts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """List lock-outs, newest first: of people, of a person from one network, of networks."""
        await authorize(req, self._service)
        query = read_query(req, ("subject_id", "cursor", "limit"))
        limit = read_limit(query)
        page = await list_lockouts(
            self._service.pool,
            limit=limit,
            before=read_cursor(query) or LAST,
            subject_id=read_uuid(query, "subject_id", NOBODY) if "subject_id" in query else None,
        )
        resp.media = {
            "lockouts": [
                {
                    "lockout_id": str(row.lockout_id),
                    "kind": row.kind,
                    "subject_id": None if row.subject_id is None else str(row.subject_id),
                    "locked_at": rfc3339(row.locked_at),
                    "stands": row.stands,
                    "position": row.position,
                }
                for row in page.rows
            ],
            "next": str(page.rows[-1].position) if len(page.rows) == limit else None,
            "position": page.position,
            "instant": rfc3339(page.instant),
        }

    async def on_post_unlock(self, req: Request, resp: Response, lockout_id: str) -> None:
        """Make the budget whole; of a user, those from all networks too."""
        service = self._service
        caller = await authorize(req, service)
        await read_optional_body(req, Body)
        identifier = uuid_of(lockout_id)
        if identifier is None:
            raise UnknownLockout(lockout_id)
        envelope = make_envelope(req, service, caller.actor)
        lockout = (await read_state(service.pool, Keys(lockouts=[identifier]))).state.lockouts.get(identifier)
        if lockout is None:
            raise UnknownLockout(lockout_id)
        receipt = await carry_out(
            service,
            replace(envelope, causation=lockout.position),
            Keys(lockouts=[identifier]),
            lambda state, now: lockouts.unlock(state, now, lockout_id=identifier),
        )
        # Also where it was said before: the answer to that request may have been lost before the counters went.
        await unlock(service.pool, lockout.throttle_id)
        resp.media = {"lockout_id": str(identifier), "position": receipt.position}
