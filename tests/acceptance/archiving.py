"""Half of a log is archived while two workers decide and record; then everything is asked again.

The log is filled by real appends (filling.py) on small partitions, and the ledger's clock is moved behind the end of what was
filled in. `token-ledger archive` runs beside a light load of decisions, logins and revocations. What needs none of it must go
on, what needs it must be refused by its name, replay and verify must come to the live views through the files, and must not
believe a file of which one bit is another.
"""

import itertools
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg

from ledger.apis import api_id_of
from ledger.clients import client_id_of
from ledger.instants import rfc3339
from tests.acceptance.filling import World, fill
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.calls import App, Person, first_party, login, new_api, new_client, new_person, ok, resource_server
from tests.clock import Clock, put_clock
from tests.partitions import on_small_partitions

EVENTS: Final = 200_000
PARTITIONS: Final = 10
TOKENS: Final = 40
BEYOND: Final = timedelta(days=120)  # the end of whatever was filled in
PAUSE_SECONDS: Final = 0.02
MOST_MS: Final = 1_000.0
SIDE_TABLES: Final = ("ledger.streams", "ledger.commands", "ledger.batches", "views.audit_entries")


@dataclass(slots=True)
class Load:
    """What was asked beside the archiving, and what of it was wrong."""

    asked: int = 0
    changed: int = 0
    wrong: list[str] = field(default_factory=list)
    longest_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Parties:
    """Who asks and who logs in."""

    api: str
    asker: App
    app: App
    ann: Person


def run(stage: Stage) -> Shown:
    """Fill, archive under load, and ask everything again."""
    folder = stage.folder / "archive"
    folder.mkdir()
    events = max(stage.scaled(EVENTS), 2_000)
    size = events // PARTITIONS
    with running_ledger(stage, prepared=put_clock) as ledger:
        parties, world = _set_up(ledger)
        on_small_partitions(ledger.owner(), size=size, ahead=2 * events)
        with ledger.served.client() as client:
            old = login(client, parties.ann, parties.app)  # ends, and leaves with the first partition
        fill(
            ledger.postgres.conninfo("ledger_service", DATABASE),
            world,
            events,
            lambda done, total: stage.progress("filling the log", done, total),
        )
        Clock(ledger.owner()).advance(BEYOND.total_seconds())
        with ledger.served.admin() as admin:
            tokens = [login(admin, parties.ann, parties.app) for _ in range(TOKENS)]
            state = _Asked(ledger, parties, admin, tokens)
            wrong: list[str] = []
            table_bytes = _scalar(ledger, "SELECT pg_total_relation_size('ledger.events_from_1')")
            stage.progress("archiving", 0, None)
            with _load(state) as load:
                time.sleep(1)
                ended = rfc3339(datetime.now(UTC) + BEYOND - timedelta(days=1))
                archiving = time.monotonic()
                said = _told(ledger, "archive", "--to", str(folder), "--before", str(events // 2), "--ended-before", ended)
                archiving = time.monotonic() - archiving
                time.sleep(1)
            wrong += load.wrong
            stage.progress("asking again", 0, None)
            wrong += state.ask_again(old)
            stage.progress("replay and verify", 0, None)
            wrong += _read_through(ledger, folder)
            names = sorted(folder.glob("*.gz"))
            edge = _scalar(ledger, "SELECT min(p.from_position) FROM ledger.partitions p")
            head = _scalar(ledger, "SELECT max(b.last_position) FROM ledger.batches b")
            sizes = _sizes(ledger, head)
    if load.longest_ms > MOST_MS:
        wrong.append(f"a request took {load.longest_ms:.0f} ms")
    file_bytes = sum(path.stat().st_size for path in names)
    done = (
        f"{edge - 1:,} of {head:,} events archived in {len(names)} files in {archiving:.0f} s beside {load.asked} decisions and"
        f" {load.changed} logins and revocations over 2 workers"
    )
    figure = (
        f"{len(wrong)} wrong or missing; the longest request {load.longest_ms:.0f} ms; {table_bytes / size:,.0f} bytes an event"
        f" in the log, {file_bytes / (edge - 1):,.0f} in the archive"
    )
    return Shown(done, figure + "".join(f"; {one}" for one in wrong[:5]), held=not wrong, lines=(said[-1].strip(), *sizes))


def _set_up(ledger: Ledger) -> tuple[Parties, World]:
    with ledger.served.admin() as admin:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        (role,) = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
        filled_for = new_client(admin, "filled", grants=["issue"], apis=[api]).name
        parties = Parties(api, resource_server(admin, api), first_party(admin, api), new_person(admin, f"{api}:reader"))
        return parties, World(client_id_of(filled_for), filled_for, api_id_of(api), UUID(role["role_id"]))


class _Asked:
    """Questions about tokens of which it is known what the answer is."""

    def __init__(self, ledger: Ledger, parties: Parties, admin: httpx.Client, tokens: list[dict[str, Any]]) -> None:
        self.ledger = ledger
        self.parties = parties
        self.admin = admin
        self.tokens = tokens
        self.revoked: set[str] = set()

    def token(self, text: str, **context: object) -> dict[str, Any]:
        """Answer a decision about a token."""
        return ok(self.decide(self.admin, text, **context))

    def decide(self, client: httpx.Client, text: str, **context: object) -> httpx.Response:
        """Ask for a decision about a token."""
        question = {
            "subject": {"type": "token", "id": text},
            "action": {"name": "GET"},
            "resource": {"type": "route", "id": "/orders/7"},
            "context": context,
        }
        return client.post("/access/v1/evaluation", json=question, auth=self.parties.asker.auth)

    def ask_again(self, old: dict[str, Any]) -> list[str]:
        """Ask what needs the archive and what does not; answer what was not as it should be."""
        wrong: list[str] = []
        before: int = old["position"]
        after = _scalar(self.ledger, "SELECT max(b.last_position) FROM ledger.batches b")
        contexts: list[dict[str, object]] = [{}, {"as_of": after}]
        for token, context in itertools.product(self.tokens, contexts):
            decided = self.token(token["access_token"], **context)
            if decided["decision"] is not (token["token_id"] not in self.revoked):
                wrong.append(f"a decision, {context}: {decided['context']['reason']}")
        listed = ok(self.admin.get("/v1/tokens", params={"subject_id": self.parties.ann.subject_id, "limit": "1000"}))["tokens"]
        if missing := {t["token_id"] for t in self.tokens} - {t["token_id"] for t in listed}:
            wrong.append(f"{len(missing)} tokens are not listed")
        refused = {
            "a decision as of before": self.decide(self.admin, old["access_token"], as_of=before),
            "a list as of before": self.admin.get("/v1/tokens", params={"as_of": str(before)}),
            "audit from the beginning": self.admin.get("/v1/audit/events", params={"order": "oldest"}),
            "the timeline of an old subject": self.admin.get(
                "/v1/audit/timeline", params={"subject_id": self.parties.ann.subject_id}
            ),
            "the feed from the beginning": self.admin.get("/v1/feed", params={"wait": "0"}),
        }
        for what, answer in refused.items():
            if answer.status_code != 410 or "events_from_" not in answer.text:
                wrong.append(f"{what} was answered with {answer.status_code}: {answer.text[:200]}")
        return wrong


@contextmanager
def _load(state: _Asked) -> Iterator[Load]:
    """Ask and change beside what is done inside."""
    load, ended = Load(), threading.Event()

    def go_on() -> None:
        with state.ledger.served.client() as client, state.ledger.served.admin() as admin:
            chosen = random.Random(1)
            while not ended.is_set():
                began = time.monotonic()
                try:
                    _one(state, client, admin, chosen, load)
                except (AssertionError, httpx.HTTPError) as error:
                    load.wrong.append(f"{type(error).__name__}: {error}"[:300])
                load.longest_ms = max(load.longest_ms, (time.monotonic() - began) * 1000)
                time.sleep(PAUSE_SECONDS)

    running = threading.Thread(target=go_on)
    running.start()
    try:
        yield load
    finally:
        ended.set()
        running.join()


def _one(state: _Asked, client: httpx.Client, admin: httpx.Client, chosen: random.Random, load: Load) -> None:
    token = chosen.choice(state.tokens)
    if chosen.random() < 0.1:
        state.tokens.append(login(client, state.parties.ann, state.parties.app))
        load.changed += 1
    elif chosen.random() < 0.05:
        ok(admin.post(f"/v1/tokens/{token['token_id']}/revoke", json={"reason": "acceptance"}))
        state.revoked.add(token["token_id"])
        load.changed += 1
    answer = ok(state.decide(client, token["access_token"]))
    load.asked += 1
    if answer["decision"] is not (token["token_id"] not in state.revoked):
        load.wrong.append(f"a decision: {answer['context']['reason']}")


def _read_through(ledger: Ledger, folder: Path) -> list[str]:
    """Replay and verify, with the files, without them, and with one bit another."""
    wrong: list[str] = []
    replayed = _told(ledger, "replay", "--archives", str(folder), "--free-bytes", str(10**12))
    if "what the log says" in " ".join(replayed):
        wrong.append("the replay found the live views to differ")
    _told(ledger, "verify", "--archives", str(folder))
    damaged = folder.with_name("damaged")
    shutil.copytree(folder, damaged)
    path = min(damaged.glob("*.gz"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for arguments, named in (
        (("verify", "--archives", str(damaged)), path.name),
        (("replay", "--archives", str(damaged), "--free-bytes", str(10**12)), path.name),
        (("verify",), "events_from_"),
        (("replay", "--free-bytes", str(10**12)), "events_from_"),
    ):
        status, said = ledger.maintain(*arguments)
        if status != 1 or named not in " ".join(said):
            wrong.append(f"{' '.join(arguments)} ended with {status}: {' '.join(said)[-200:]}")
    return wrong


def _told(ledger: Ledger, *arguments: str) -> list[str]:
    status, said = ledger.maintain(*arguments)
    if status != 0:
        raise FellShort(f"{arguments[0]} ended with {status}: {' '.join(said)[-400:]}")
    return [line for line in said if line.strip()]


def _scalar(ledger: Ledger, query: str) -> int:
    with psycopg.connect(ledger.owner()) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _sizes(ledger: Ledger, head: int) -> list[str]:
    """Say what the tables that keep their rows grow by."""
    return [
        f"{table}: {_scalar(ledger, f'SELECT pg_total_relation_size({table!r})') / head:,.0f} MB a million events, kept"
        for table in SIDE_TABLES
    ]
