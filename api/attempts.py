"""An attempt at a password: taken from its budgets before anything is hashed, given back when it was no guess."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from falcon.asgi import Request

from api.commands import carry_out, make_envelope
from api.networks import network_of_request
from api.service import Service
from ledger.errors import TryAgain
from ledger.guessing import Attempt, TooManyAttempts, attempt_of, events_throttle_id
from ledger.identifiers import uuid7
from ledger.lockouts import lock_out
from ledger.log import Actor
from projections.reading import Keys
from projections.throttles import Taken, remember_network, return_attempt, take_attempt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An attempt that may go ahead. Exactly one of `succeeded`, `unused` or nothing (a wrong guess) follows."""

    service: Service
    attempt: Attempt
    taken: Taken

    async def unused(self) -> None:
        """The password was not looked at."""
        await return_attempt(self.service.pool, self.attempt, self.taken)

    async def succeeded(self) -> None:
        """It was right: nothing was guessed, and the network is familiar from now on."""
        await return_attempt(self.service.pool, self.attempt, self.taken)
        await remember_network(self.service.pool, self.attempt)


async def admit(req: Request, service: Service, name_id: UUID, subject_id: UUID | None) -> Admitted:
    """Take an attempt for this user name from the network of the request. TooManyAttempts where a budget is spent.

    `subject_id` (None: nobody has the name) is only for the event that tells of a lock-out; one is told whoever it is.
    """
    attempt = attempt_of(service.master, name_id, await network_of_request(req, service))
    taken = await take_attempt(service.pool, attempt, events_throttle_id(service.master))
    if taken.locked:
        await _tell(req, service, subject_id, taken)
    if taken.wait:
        raise TooManyAttempts(taken.wait)
    return Admitted(service, attempt, taken)


async def _tell(req: Request, service: Service, subject_id: UUID | None, taken: Taken) -> None:
    locked = [(uuid7(datetime.now(UTC)), kind, throttle_id) for kind, throttle_id in taken.locked]
    envelope = make_envelope(req, service, Actor.SYSTEM, repeatable=False)
    keys = Keys(lockouts=[lockout_id for lockout_id, *_ in locked])
    try:
        await carry_out(service, envelope, keys, lambda _state, now: lock_out(now, subject_id, locked))
    except TryAgain as error:
        # The attempt is refused all the same; whoever looks at the counters finds the budget spent.
        logger.warning("a lock-out was not recorded: %s", error.code)
