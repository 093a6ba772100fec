"""From a request to a command: the envelope, the Idempotency-Key, and `execute`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from falcon.asgi import Request

from api.service import Service
from ledger.decisions import SEMANTICS
from ledger.errors import InvalidInput
from ledger.events import Event
from ledger.execute import Receipt, execute
from ledger.identifiers import name_id, uuid7
from ledger.log import Actor, Envelope
from ledger.states import State
from projections.reading import Keys


def make_envelope(req: Request, service: Service, actor: Actor, *, repeatable: bool = True) -> Envelope:
    """Answer the envelope of the command this request asks for. Call it after the body was read.

    With an Idempotency-Key the command's id is made from the key, the actor and the target, so that the same request
    sent twice is one command. Not `repeatable`: the endpoint does not take the header.
    """
    request_id: UUID = req.context.request_id
    command_id, request_mac = uuid7(datetime.now(UTC)), None
    key = req.get_header("Idempotency-Key")
    if key is not None and repeatable:
        if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
            raise InvalidInput.of("Idempotency-Key", "1 to 255 printable ASCII characters")
        command_id = name_id("command", str(actor.id), req.method, req.path, key)
        request_mac = service.master.mac("request", req.context.body or b"").hex()
    return Envelope(
        command_id=command_id,
        request_id=request_id,
        correlation_id=req.context.correlation_id,
        actor=actor,
        semantics=SEMANTICS,
        request_mac=request_mac,
    )


async def carry_out(
    service: Service,
    envelope: Envelope,
    keys: Keys,
    decide: Callable[[State, datetime], Sequence[Event]],
    *,
    urgent: bool = False,
) -> Receipt[State]:
    """Execute a decision on the rows of `keys`; what it raises and answers: ledger/execute.py."""
    return await execute(service.appender, service.pool, envelope, lambda: service.states.read(keys), decide, urgent=urgent)
