"""/v1/keys: the keys tokens are made with, and their life (ledger/keys.py); never a secret part."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import falcon
from falcon.asgi import Request, Response

from api.asking import authorize
from api.body import Body, read_body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_query, uuid_of
from api.resources.bodies import Reason
from api.seeing import see_reference
from api.service import NOBODY, Service
from ledger import keys
from ledger.errors import InvalidInput
from ledger.events import KeyActivated, KeyMade, KeyRetired
from ledger.identifiers import name_id
from ledger.instants import rfc3339
from ledger.keys import UnknownKey, Use, active_key, is_published, next_key_id
from ledger.states import Key
from projections.keyring import ENCRYPTION_ALGORITHM, SIGNING_ALGORITHMS, make_key
from projections.reading import Keys
from projections.reference import Kept

ALGORITHMS: Final[dict[Use, tuple[str, ...]]] = {"sig": tuple(SIGNING_ALGORITHMS), "enc": (ENCRYPTION_ALGORITHM,)}


class NewKey(Body):
    """A key to be made: for signing (`sig`) or encryption (`enc`). Its algorithm is that of the active one unless said
    otherwise."""

    use: Use
    algorithm: str | None = None


class KeyRevocation(Body):
    """Why. No personal data: the reason stands in the log for ever."""

    reason: Reason


class TokenKeys:
    """Every endpoint of /v1/keys, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """List every key there ever was, or was then, oldest first.

        `published`: whether it stands in the key set, or stood, by the lifetimes that tokens may have now.
        """
        await authorize(req, self._service)
        seen, position, instant = await see_reference(self._service, read_query(req, AS_OF))
        keys = (await seen.reference(key_ids=seen.kept.keys)).keys.values()
        longest = self._service.longest_access_lifetime(seen.kept)
        resp.media = {
            "keys": [
                {
                    "key_id": str(key.key_id),
                    "use": key.use,
                    "algorithm": key.algorithm,
                    "status": key.status,
                    "status_reason": key.status_reason,
                    "made_at": rfc3339(key.made_at),
                    "changed_at": rfc3339(key.changed_at),
                    "changed_at_position": key.position,
                    "published": is_published(key, instant, longest),
                }
                for key in sorted(keys, key=lambda key: (key.made_at, key.key_id))
            ],
            **seen.where(position, instant),
        }

    async def on_post(self, req: Request, resp: Response) -> None:
        """Make a key: pending, and published from now on."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewKey)
        algorithm = _algorithm(caller.kept, body)
        envelope = make_envelope(req, service, caller.actor)
        # The same command makes the same key, however often it is sent.
        key_id = name_id("key", "command", str(envelope.command_id))
        made = await make_key(service.pool, service.master, key_id, algorithm, datetime.now(UTC))
        receipt = await carry_out(
            service,
            envelope,
            Keys(every_key=True, keys=[key_id]),
            lambda state, now: keys.make(state, now, key=made),
        )
        (event,) = (event for event in receipt.events if isinstance(event, KeyMade))
        resp.status = falcon.HTTP_201
        resp.media = {
            "key_id": str(key_id),
            "use": event.key.use,
            "algorithm": event.key.algorithm,
            "status": event.key.status,
            "made_at": rfc3339(event.key.made_at),
            "position": receipt.position,
        }

    async def on_post_activate(self, req: Request, resp: Response, key_id: str) -> None:
        """Make new tokens with this key; the one they were made with is retired, and tokens made with that still stand."""
        service = self._service
        caller = await authorize(req, service)
        await read_optional_body(req, Body)
        identifier = _key_id(key_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(every_key=True, keys=[identifier]),
            lambda state, now: keys.activate(state, now, key_id=identifier),
        )
        resp.media = {
            "key_id": str(identifier),
            "status": "active",
            "retired": [str(event.key_id) for event in receipt.events if isinstance(event, KeyRetired)],
            "position": receipt.position,
        }

    async def on_post_retire(self, req: Request, resp: Response, key_id: str) -> None:
        """Let a pending key never be used."""
        service = self._service
        caller = await authorize(req, service)
        await read_optional_body(req, Body)
        identifier = _key_id(key_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(keys=[identifier]),
            lambda state, now: keys.retire(state, now, key_id=identifier),
        )
        resp.media = {"key_id": str(identifier), "status": "retired", "position": receipt.position}

    async def on_post_revoke(self, req: Request, resp: Response, key_id: str) -> None:
        """Revoke a key: every token made with it is dead at once. Another comes in the place of the active one."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, KeyRevocation)
        identifier = _key_id(key_id)
        envelope = make_envelope(req, service, caller.actor)
        _, kept = await service.find(NOBODY)
        spare = await make_spare(service, kept, identifier)
        receipt = await carry_out(
            service,
            envelope,
            Keys(every_key=True, keys=[identifier] if spare is None else [identifier, spare.key_id]),
            lambda state, now: keys.revoke(state, now, key_id=identifier, reason=body.reason, spare=spare),
            urgent=True,
        )
        activated = [str(event.key_id) for event in receipt.events if isinstance(event, KeyActivated)]
        resp.media = {
            "key_id": str(identifier),
            "status": "revoked",
            "activated": activated[0] if activated else None,
            "position": receipt.position,
        }


async def make_spare(service: Service, kept: Kept, key_id: UUID) -> Key | None:
    """Make the key that comes in the place of this one, where no pending one can: of the same algorithm."""
    key = kept.keys.get(key_id)
    if key is None or key.status != "active" or any(k.use == key.use and k.status == "pending" for k in kept.keys.values()):
        return None
    spare_id = next_key_id(set(kept.keys), key_id)
    return await make_key(service.pool, service.master, spare_id, key.algorithm, datetime.now(UTC))


def _algorithm(kept: Kept, body: NewKey) -> str:
    """Answer the algorithm of a new key. InvalidInput: none of its use."""
    active = active_key(kept.keys.values(), body.use)
    algorithm = active.algorithm if body.algorithm is None and active is not None else body.algorithm
    if algorithm not in ALGORITHMS[body.use]:
        raise InvalidInput.of("algorithm", f"one of: {', '.join(ALGORITHMS[body.use])}")
    return algorithm


def _key_id(text: str) -> UUID:
    identifier = uuid_of(text)
    if identifier is None:
        raise UnknownKey(text)
    return identifier
