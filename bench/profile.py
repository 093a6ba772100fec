"""`python -m bench.profile`: where the microseconds of a decision and of a write go, in CPU time.

One worker's application is called in this process, without sockets, by as many tasks as a worker has connections. CPU time
of this process and of PostgreSQL's is counted, not elapsed time: the figures hold on a busy machine.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from falcon.asgi import App, Request, Response
from rich.console import Console
from rich.table import Table

from api.app import make_app
from api.asking import judge, read_presented
from api.body import WholeRequest
from api.counting import RequestCounts
from api.middleware import RequestContext
from api.service import Service, make_service
from bench.floor import Hello
from bench.ledger import STRATEGIES, BenchLedger, Known
from bench.load import Request as Asked
from ledger.decisions import SEMANTICS, Question, decide
from ledger.embedded import EmbeddedPostgres
from ledger.sealing import MasterKey
from ledger.settings import load_settings
from ledger.token_strings import read
from tests.serving import MASTER_KEY, served

TICK: Final = 1e6 / os.sysconf("SC_CLK_TCK")
DATABASE: Final = "token_ledger"


@click.command()
@click.option("--tasks", default=16, show_default=True, help="Requests at once: the connections of one worker.")
@click.option("--requests", default=6_000, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Measurements of each row; the median is shown.")
@click.option("--only", default="", help="Only rows whose name begins so.")
def main(tasks: int, requests: int, rounds: int, only: str) -> None:
    """Print the CPU microseconds of one request, part by part."""
    table = Table(title=f"CPU microseconds of one request, {tasks} at once")
    for name in ("what", "this process", "PostgreSQL"):
        table.add_column(name, justify="left" if name == "what" else "right")
    with (
        tempfile.TemporaryDirectory(prefix="token-ledger-profile-") as folder,
        prepared(Path(folder)) as (conninfo, port, ledger),
    ):
        for label, ours, database in asyncio.run(measure(conninfo, port, ledger, tasks, requests, rounds, only)):
            table.add_row(label, f"{ours:.1f}", f"{database:.1f}" if database else "")
    Console().print(table)


@contextmanager
def prepared(folder: Path) -> Iterator[tuple[str, int, BenchLedger]]:
    """Run PostgreSQL and set a ledger up; answer where the database is, and the port of the server, whose tokens name it."""
    with EmbeddedPostgres(folder / "data") as server:
        with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE token_ledger")
        service, owner = server.conninfo("ledger_service", DATABASE), server.conninfo("postgres", DATABASE)
        with (
            served(service, owner, workers=1) as running,
            closing(BenchLedger(running.url, running.username, running.password)) as ledger,
        ):
            yield service, int(running.url.rpartition(":")[2]), ledger


async def measure(
    conninfo: str, port: int, ledger: BenchLedger, tasks: int, requests: int, rounds: int, only: str
) -> list[tuple[str, float, float]]:
    """Answer label, our microseconds and PostgreSQL's of every row."""
    known = await asyncio.to_thread(lambda: {strategy: ledger.tokens(strategy, 400) for strategy in STRATEGIES})
    await asyncio.to_thread(ledger.wait_for_expiry)
    service = make_service(load_settings(port=port), MasterKey(bytes.fromhex(MASTER_KEY)), conninfo)
    await service.start()
    app = make_app(service)
    plain: App[Request, Response] = App()
    plain.add_route("/gateway/nginx", Hello())
    middle: App[Request, Response] = App(request_type=WholeRequest)
    middle.add_middleware(RequestContext(RequestCounts(), "http://127.0.0.1"))
    middle.add_route("/gateway/nginx", Hello())
    opaque = ledger.gateway(known["opaque"])
    rows: list[tuple[str, Callable[[], Iterator[Callable[[], Awaitable[Any]]]]]] = [
        ("Falcon: route and answer", lambda: _calls(plain, opaque)),
        ("Falcon with our middleware", lambda: _calls(middle, opaque)),
        *((f"read a string: {s}", lambda s=s: _reads(service, known[s])) for s in STRATEGIES),
        ("find: one lookup, shared", lambda: _finds(service, known["opaque"])),
        ("decide", lambda: _decides(service, known["opaque"])),
        *((f"gateway, {s}", lambda s=s: _calls(app, ledger.gateway(known[s]))) for s in STRATEGIES),
        ("AuthZEN, opaque", lambda: _calls(app, ledger.evaluation(known["opaque"]))),
        ("introspection, opaque", lambda: _calls(app, ledger.introspection(known["opaque"]))),
        *((f"issue, {s}", lambda s=s: _calls(app, ledger.issue(s))) for s in STRATEGIES),
        ("issue, client_credentials", lambda: _calls(app, ledger.client_credentials())),
    ]
    measured = []
    for label, calls in rows:
        if not label.startswith(only):
            continue
        count = requests // 4 if label.startswith("issue") else requests
        figures = [await _round(conninfo, calls(), tasks, count) for _ in range(rounds)]
        measured.append((label, statistics.median(f[0] for f in figures), statistics.median(f[1] for f in figures)))
    await service.stop()
    return measured


async def _round(
    conninfo: str, calls: Iterator[Callable[[], Awaitable[Any]]], tasks: int, requests: int
) -> tuple[float, float]:
    left = requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await next(calls)()

    await asyncio.gather(*(work() for _ in range(min(tasks, 4))))  # connections are made, statements prepared
    left = requests
    database, ours = _database_ticks(conninfo), time.process_time()
    await asyncio.gather(*(work() for _ in range(tasks)))
    ours = time.process_time() - ours
    return ours * 1e6 / requests, (_database_ticks(conninfo) - database) * TICK / requests


def _database_ticks(conninfo: str) -> int:
    """Answer the CPU time of this process's backends."""
    with psycopg.connect(conninfo) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'token-ledger%' AND datname = current_database()"
        ).fetchall()
    ticks = 0
    for (pid,) in found:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks


def _calls(app: App[Request, Response], asked: Sequence[Asked]) -> Iterator[Callable[[], Awaitable[Any]]]:
    while True:
        for request in asked:
            yield partial(_call, app, request)


async def _call(app: App[Request, Response], asked: Asked) -> None:
    headers = [(b"host", b"localhost")] + [(n.lower().encode(), v.encode("latin-1")) for n, v in asked.headers.items()]
    body = asked.body.encode()
    if body:
        headers.append((b"content-length", str(len(body)).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 12345),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start" and event["status"] >= 500:
            raise RuntimeError(f"{asked.path}: {event['status']}")

    await app(scope, receive, send)


def _reads(service: Service, known: Sequence[Known]) -> Iterator[Callable[[], Awaitable[Any]]]:
    while True:
        for one in known:
            if one.standing != "unknown":
                yield partial(read_presented, service, one.text)


def _finds(service: Service, known: Sequence[Known]) -> Iterator[Callable[[], Awaitable[Any]]]:
    token_ids = [read("access", one.text)[0] for one in known if one.standing != "unknown"]
    while True:
        for token_id in token_ids:
            yield partial(service.find, token_id)


def _decides(service: Service, known: Sequence[Known]) -> Iterator[Callable[[], Awaitable[Any]]]:
    async def one(text: str) -> None:
        presented = await read_presented(service, text)
        key = presented.token_id
        if key not in kept_found:
            kept_found[key] = (presented, *await service.find(key))
        presented, found, kept = kept_found[key]
        standing, matches = judge(presented, found.token)
        api_id = next(iter(standing.api_ids)) if standing else next(iter(kept.apis))
        question = Question(api_id, "GET", "/orders/17", matches, found.instant, found.position, SEMANTICS)
        decide(question, standing, kept)

    kept_found: dict[Any, Any] = {}
    while True:
        for known_one in known:
            if known_one.standing == "good":
                yield partial(one, known_one.text)


if __name__ == "__main__":
    main()
