"""The server: prepare the database, then gunicorn with one event loop a worker.

`serve` runs in the foreground until Ctrl-C or SIGTERM. The embedded PostgreSQL lives in a process group of its own, so that
Ctrl-C does not reach it, and is stopped last; workers open their connections after the fork.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
from falcon.asgi import App, Request, Response
from gunicorn.app.base import BaseApplication
from psycopg import sql
from uvicorn_worker import UvicornWorker

from api.app import ROUTES, make_app
from api.counting import RequestCounts
from api.first_start import FirstAdministrator, check_installed, check_service_role, prepare
from api.protocol import Protocol
from api.service import make_service
from ledger.embedded import DataFolderInUse, EmbeddedPostgres
from ledger.errors import LedgerError
from ledger.sealing import MasterKey
from ledger.settings import Settings
from projections.sealed_keys import Resealed, ready_master_key, reseal

DATABASE: Final = "token_ledger"
STOP_SECONDS: Final = 30
CUT_OFF_SECONDS: Final = 20
# ledger/embedded.py waits for the workers of a killed server a little longer than this.
ALONE_SECONDS: Final = 0.5


class Worker(UvicornWorker):  # type: ignore[misc] # uvicorn-worker has no types
    """uvloop and httptools; the design's measurement: 36,900 requests a second against 29,000 of gunicorn's own."""

    CONFIG_KWARGS = {  # noqa: RUF012 - as the base class has it
        "loop": "uvloop",
        "http": Protocol,
        "lifespan": "on",
        "ws": "none",
        "server_header": False,
        "access_log": False,
        "proxy_headers": False,
        # Before gunicorn kills: whoever does not finish a request is cut off, and what waits to be recorded is not.
        "timeout_graceful_shutdown": CUT_OFF_SECONDS,
    }

    async def _serve(self) -> None:
        watching = asyncio.create_task(self._end_with_the_server(), name="watching the server")
        try:
            await super()._serve()
        finally:
            watching.cancel()

    async def _end_with_the_server(self) -> None:
        # gunicorn's workers look whether their parent lives, uvicorn's do not: those of a server that was killed would keep
        # its port and the lock on its data folder, and the next one could not start.
        while os.getppid() == self.ppid:  # noqa: ASYNC110 - nobody tells a process that its parent ended
            await asyncio.sleep(ALONE_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)


class Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn, set by our settings alone: no file and no GUNICORN_CMD_ARGS."""

    def __init__(self, settings: Settings, conninfo: str, master: MasterKey, ready: Callable[[], None]) -> None:
        self._settings = settings
        self._conninfo = conninfo
        self._master = master
        self._ready = ready
        # In memory that the workers, forked later, share; more places than workers, for those that end slowly.
        self._requests = RequestCounts([route.path for route in ROUTES], 2 * settings.workers)
        self._places: dict[int, int] = {}  # by the age of the worker
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn needs to know."""
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        values: dict[str, Any] = {
            "bind": f"{host}:{settings.port}",
            "workers": settings.workers,
            "worker_class": Worker,
            "timeout": 60,
            "graceful_timeout": STOP_SECONDS,
            "keepalive": 75,
            "loglevel": settings.log_level if settings.log_level != "info" else "warning",
            "proc_name": "token-ledger",
            "preload_app": False,
            # A second way in, in the home folder, which nobody asked for and two servers would fight over.
            "control_socket_disable": True,
            "when_ready": lambda _arbiter: self._ready(),
            "pre_fork": self._give_place,
            "child_exit": self._take_back_place,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> App[Request, Response]:
        """Make the application of one worker; runs after the fork."""
        return make_app(make_service(self._settings, self._master, self._conninfo, self._requests))

    def _give_place(self, _arbiter: Any, worker: Any) -> None:
        """Before the fork: the worker counts its requests in a place that no other living one has."""
        place = next(place for place in itertools.count() if place not in self._places.values())
        self._places[worker.age] = place
        self._requests.take(place)

    def _take_back_place(self, _arbiter: Any, worker: Any) -> None:
        self._places.pop(worker.age, None)


class DatabaseAway(LedgerError):
    """The database cannot be reached, or does not let us in."""

    code = "database_unavailable"
    cure = "Look after the database and its address (docs/settings.md)."


@contextlib.contextmanager
def database(settings: Settings, *, beside_service: bool = False) -> Iterator[tuple[str, str]]:
    """Answer the conninfos of ledger_service and of the owner; without a given one an embedded server runs meanwhile.

    `beside_service`: one that a service runs already on the data folder is used, and left running. What fails inside for want
    of the database fails with DatabaseAway.
    """
    try:
        with _conninfos(settings, beside_service) as conninfos:
            yield conninfos
    except psycopg.OperationalError as error:
        # libpq names host, port and role in its text, never a password.
        raise DatabaseAway(" ".join(f"the database failed: {error}".split())) from None


@contextlib.contextmanager
def _conninfos(settings: Settings, beside_service: bool) -> Iterator[tuple[str, str]]:
    if settings.database_url is not None:
        owner = settings.owner_database_url or settings.database_url
        yield settings.database_url.get_secret_value(), owner.get_secret_value()
        return
    with contextlib.ExitStack() as running:
        server = EmbeddedPostgres(settings.data_folder)
        try:
            running.enter_context(server)
        except DataFolderInUse:
            if not beside_service or not server.is_running():
                raise
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        yield server.conninfo("ledger_service", DATABASE), server.conninfo("postgres", DATABASE)


@contextlib.contextmanager
def maintained(settings: Settings) -> Iterator[str]:
    """Answer the conninfo of the owner of a ledger that is there, also beside a running service. NotInstalled."""
    with database(settings, beside_service=True) as (_, owner):
        check_installed(owner)
        yield owner


def free_bytes(settings: Settings) -> int | None:
    """Answer how many bytes are free on the disk of the embedded database; None for another, whose disk cannot be seen here."""
    return EmbeddedPostgres(settings.data_folder).free_bytes() if settings.database_url is None else None


def master_key(settings: Settings) -> MasterKey:
    """Answer the master key of the environment, or of the file in the data folder, made when it is not there."""
    if settings.master_key is not None:
        return MasterKey.from_text(settings.master_key.get_secret_value())
    path = settings.data_folder / "master.key"
    if path.exists():
        return MasterKey.load(path)
    settings.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return MasterKey.create(path)


def previous_master_key(settings: Settings) -> MasterKey | None:
    """Answer the master key before, while it is being changed."""
    previous = settings.previous_master_key
    return None if previous is None else MasterKey.from_text(previous.get_secret_value())


def reseal_keys(settings: Settings) -> Resealed:
    """Seal anew, under the master key, what the one before it sealed. UnsafeKey when neither opens it."""
    master = master_key(settings)
    with maintained(settings) as owner, psycopg.connect(owner, autocommit=True) as connection:
        return reseal(connection, ready_master_key(connection, master, previous_master_key(settings)))


def initialise(settings: Settings) -> FirstAdministrator | None:
    """Install the log and make the first administrator where that has not been done; answer him then, and only then."""
    master = master_key(settings)
    with database(settings) as (_, owner):
        return prepare(owner, settings, master)


def serve(settings: Settings, announce: Callable[[FirstAdministrator | None], None]) -> None:
    """Serve until told to stop; `announce` is called once the port is bound.

    The embedded database is installed when it is new; another must have been (`token-ledger init`): NotInstalled.
    """
    master = master_key(settings)
    with database(settings) as (service, owner):
        administrator = None
        if settings.database_url is None:
            administrator = prepare(owner, settings, master)
        else:
            check_installed(service)
            check_service_role(service)
        with psycopg.connect(service) as connection:
            master = ready_master_key(connection, master, previous_master_key(settings))
        ours = os.getpid()
        try:
            # Ends by SystemExit, with gunicorn's status: a port that is taken is no success.
            Server(settings, service, master, lambda: announce(administrator)).run()
        except SystemExit as end:
            if os.getpid() != ours:
                # A worker that ended: on its way out it would stop the database, which is its master's and the others'.
                os._exit(end.code if isinstance(end.code, int) else 1)
            raise
