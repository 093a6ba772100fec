"""GET /v1/keys: the keys tokens are made with, by state; never a secret part."""

from falcon.asgi import Request, Response

from api.asking import authorize
from api.service import Service
from ledger.instants import rfc3339


class KeyList:
    """The keys of the ledger."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """List every key there ever was, oldest first."""
        caller = await authorize(req, self._service)
        keys = sorted(caller.kept.keys.values(), key=lambda key: key.position)
        resp.media = {
            "keys": [
                {
                    "key_id": str(key.key_id),
                    "use": key.use,
                    "algorithm": key.algorithm,
                    "status": key.status,
                    "made_at": rfc3339(key.made_at),
                    "changed_at_position": key.position,
                }
                for key in keys
            ],
            "position": caller.kept.position,
        }
