"""The floor under every figure: hello-world on the same server, the same workers and the same number of them.

`python -m bench.floor PORT WORKERS`. `/bare` is answered by three lines of ASGI: what the worker can do at all; every other
path by Falcon, without middleware.
"""

import sys
from typing import Any, Final

from falcon.asgi import App, Request, Response

from api.server import Server
from ledger.sealing import MasterKey
from ledger.settings import load_settings

BODY: Final = b'{"hello": "world"}'
HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


class Hello:
    """Answers what the bare application answers."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Greet."""
        resp.media = {"hello": "world"}


class Floor(Server):
    """Our server with the smallest application there is."""

    def load(self) -> Any:
        """Make the application; runs after the fork."""
        falcon: App[Request, Response] = App()
        falcon.add_route("/hello", Hello())

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] == "/bare":
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                await send({"type": "http.response.body", "body": BODY})
            else:
                await falcon(scope, receive, send)

        return app


if __name__ == "__main__":
    settings = load_settings(port=int(sys.argv[1]), workers=int(sys.argv[2]))
    Floor(settings, "", MasterKey(bytes(range(32))), lambda: None).run()
