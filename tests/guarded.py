"""APIs that a guard stands before: one of each framework, each answering who the guard says is calling, and servers for them.

Their code is what guard/README.md tells people to write.
"""

import importlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import falcon
import falcon.asgi
import httpx
import uvicorn
from fastapi import FastAPI
from fastapi import Request as FastApiRequest
from flask import Flask
from flask import request as flask_request
from werkzeug.serving import make_server

from tests.serving import NO_TLS, free_port
from token_ledger_guard import Guard, Identity, identity_of
from token_ledger_guard.asgi import App

ROOT = Path(__file__).parents[1]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
HEALTH = "/healthz"


def told(environ_or_scope: Mapping[str, Any], method: str, path: str, names: Iterable[str]) -> dict[str, Any]:
    """Answer what an API knows of a request: who calls, and what of ours stands in its headers."""
    try:
        identity: Identity | None = identity_of(environ_or_scope)
    except LookupError:
        identity = None
    ours = sorted(name.lower() for name in names if name.lower().startswith("ledger"))
    return {"identity": identity and asdict(identity), "method": method, "path": path, "ours": ours}


def falcon_wsgi(guard: Guard) -> WSGIApplication:
    """Answer a Falcon application, WSGI."""

    def everything(req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        resp.media = told(req.env, req.method, req.path, req.headers)

    app = falcon.App()
    app.add_sink(everything)
    return guard.wsgi(app)


def falcon_asgi(guard: Guard) -> App:
    """Answer a Falcon application, ASGI."""

    async def everything(req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **_: Any) -> None:
        assert resp is not None
        resp.media = told(req.scope, req.method, req.path, req.headers)

    app = falcon.asgi.App()
    app.add_sink(everything)
    return guard.asgi(app)  # type: ignore[arg-type] # of a scope Falcon says that it is a dict, and ASGI the same


def flask(guard: Guard) -> WSGIApplication:
    """Answer a Flask application."""
    app = Flask(__name__)

    @app.route("/", defaults={"path": ""}, methods=METHODS, provide_automatic_options=False)
    @app.route("/<path:path>", methods=METHODS, provide_automatic_options=False)
    def everything(path: str) -> dict[str, Any]:
        return told(flask_request.environ, flask_request.method, f"/{path}", flask_request.headers.keys())

    app.wsgi_app = guard.wsgi(app.wsgi_app)  # type: ignore[method-assign, assignment] # as Flask's own documents say it is done
    return app


def fastapi(guard: Guard) -> App:
    """Answer a FastAPI application."""
    app = FastAPI()
    app.add_middleware(guard.asgi)

    @app.api_route("/{path:path}", methods=METHODS)
    async def everything(request: FastApiRequest, path: str) -> dict[str, Any]:
        return told(request.scope, request.method, f"/{path}", request.headers)

    return app


def _django() -> None:
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="-", MIDDLEWARE=[], LOGGING_CONFIG=None)
        importlib.import_module("django").setup()


def _django_view(request: Any) -> Any:
    from django.http import JsonResponse

    known = getattr(request, "scope", request.META)
    return JsonResponse(told(known, request.method, request.path, request.headers))


def __getattr__(name: str) -> Any:
    """Answer Django's `urlpatterns`, which this module is asked for once Django is configured."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import re_path

    return [re_path("^", _django_view)]


def django_wsgi(guard: Guard) -> WSGIApplication:
    """Answer a Django application, WSGI."""
    _django()
    from django.core.wsgi import get_wsgi_application

    return guard.wsgi(get_wsgi_application())


def django_asgi(guard: Guard) -> App:
    """Answer a Django application, ASGI."""
    _django()
    from django.core.asgi import get_asgi_application

    return guard.asgi(get_asgi_application())


WSGI: dict[str, Callable[[Guard], WSGIApplication]] = {"falcon-wsgi": falcon_wsgi, "flask": flask, "django-wsgi": django_wsgi}
ASGI: dict[str, Callable[[Guard], App]] = {"falcon-asgi": falcon_asgi, "fastapi": fastapi, "django-asgi": django_asgi}
FRAMEWORKS = [*WSGI, *ASGI]


# ------------------------------------------------------------------------------------------------------------------ servers


@contextmanager
def running(framework: str, guard: Guard) -> Iterator[str]:
    """Serve the application of this framework behind a guard that lets GET /healthz pass, on a thread; its address."""
    with wsgi_server(WSGI[framework](guard)) if framework in WSGI else _asgi_server(ASGI[framework](guard), guard) as url:
        try:
            yield url
        finally:
            guard.close()


@contextmanager
def wsgi_server(app: WSGIApplication) -> Iterator[str]:
    """Serve a WSGI application on a thread; its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined] # of socketserver's threading server, which it is
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(uvicorn.Server):
    """Closes the guard before the event loop is gone, also behind an application that knows no lifespan (Django)."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self._guard = guard

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._guard.aclose()


@contextmanager
def _asgi_server(app: App, guard: Guard) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", access_log=False, loop="asyncio")
    server = _Server(config, guard)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline, "the API does not listen"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


# ---------------------------------------------------------------------------- for processes of their own: guarded_processes.py


def of_environment(framework: str) -> WSGIApplication | App:
    """Answer an application behind the guard that the environment describes: GUARD_*, each an argument."""
    arguments: dict[str, Any] = {name[6:].lower(): value for name, value in os.environ.items() if name.startswith("GUARD_")}
    guard = Guard(arguments.pop("ledger"), open_to_all=[f"GET {HEALTH}"], **arguments)
    return WSGI[framework](guard) if framework in WSGI else ASGI[framework](guard)


def client(url: str) -> httpx.Client:
    """Answer an HTTP client of a guarded API."""
    return httpx.Client(base_url=url, timeout=30, verify=NO_TLS)
