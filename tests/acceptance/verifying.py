"""What can be wrong with views and log, each made wrong on purpose: `token-ledger verify` finds it and names it.

A ledger of some ten thousand events is served by two workers. First it is verified clean while it is written to. Then, as a
superuser whom no trigger stops, one thing after the other is spoilt: a view row changed, missing and surplus, a hole in the
log, a payload with other content and one with another shape, and a fold with a bug that the next event goes through. Each time
verify must end with 1 and say which row or event, and who did what is behind it; GET /metrics must tell of it; and with the
damage undone it must be clean again.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg import Connection
from psycopg.rows import TupleRow

from ledger.apis import api_id_of
from ledger.builtin import ADMINISTRATOR_ROLE
from ledger.clients import client_id_of
from tests.acceptance.filling import World, fill
from tests.acceptance.ledgers import DATABASE, Ledger, running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.calls import new_api, new_client, new_person, ok

EVENTS: Final = 10_000
RATE: Final = 2_000  # events a second, of the verification beside the writers: so it takes some seconds
CLEAN: Final = re.compile(r"([\d,]+) events verified in ([\d.]+) s: the views are what the log says\.")


@dataclass(frozen=True, slots=True)
class Happened:
    """What was done over HTTP, where it is recorded, and by whom."""

    token_id: str
    administrator: str
    clearance: int
    roles: int
    suspended: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Something spoilt, how it is undone, and what verify must say of it: lines, without the values that differ."""

    name: str
    spoil: tuple[str, ...]
    undo: tuple[str, ...]
    says: tuple[str, ...]


@dataclass(slots=True)
class Writes:
    """What was written over HTTP beside a verification."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run(stage: Stage) -> Shown:
    """Verify a clean ledger beside its writers, then spoil and undo one thing after the other."""
    wrong: list[str] = []
    lines: list[str] = []
    with running_ledger(stage) as ledger:
        happened = _history(stage, ledger)
        stage.progress("verifying beside writers", 0, None)
        with _writing(ledger, happened.token_id) as writes:
            began = time.monotonic()
            events = _clean(ledger, wrong, "beside writers", "--rate", str(RATE))
            beside = time.monotonic() - began
            written = len(writes.seconds)
        wrong += writes.failed[:3]
        if written < 10:
            wrong.append(f"only {written} writes while verify ran")
        damages = [*_of_views(happened), *_of_the_log(happened)]
        for number, damage in enumerate(damages):
            stage.progress(damage.name, number, len(damages) + 1)
            with _superuser(ledger) as connection:
                _execute(connection, damage.spoil)
            lines.append(_found(ledger, damage, wrong))
            with _superuser(ledger) as connection:
                _execute(connection, damage.undo)
            _clean(ledger, wrong, f"after {damage.name}")
        stage.progress("a fold with a bug", len(damages), len(damages) + 1)
        lines.append(_fold_with_a_bug(ledger, happened, wrong))
    done = (
        f"{events:,} events verified clean beside {written} writes (at {RATE:,}/s, {beside:.0f} s; the longest write"
        f" {max(writes.seconds, default=0) * 1000:.0f} ms), then {len(lines)} kinds of damage, each undone"
    )
    found = sum(not line.startswith("not ") for line in lines)
    figure = f"{found} of {len(lines)} found and named with the event behind it and who did it, exit status 1, metrics told"
    figure += "".join(f"; {what}" for what in wrong[:5])
    return Shown(done, figure, held=not wrong and found == len(lines), lines=tuple(lines))


# ------------------------------------------------------------------------------------------------------------- the history


def _history(stage: Stage, ledger: Ledger) -> Happened:
    """Do over HTTP what is spoilt later, and fill the log behind it."""
    with ledger.served.admin() as admin:
        me = ok(admin.get("/v1/me"))["subject_id"]
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        (role,) = ok(admin.get(f"/v1/apis/{api}/roles"))["roles"]
        issuer = new_client(admin, "filled", grants=["issue"], apis=[api])
        world = World(client_id_of(issuer.name), issuer.name, api_id_of(api), UUID(role["role_id"]))
        ann = new_person(admin)
        path = f"/v1/subjects/{ann.subject_id}"
        issued = ok(admin.post("/v1/tokens", auth=issuer.auth, json={"subject_id": ann.subject_id}), 201)
        happened = Happened(
            token_id=issued["token_id"],
            administrator=me,
            clearance=ok(admin.put(f"{path}/clearance", json={"clearance": 40}))["position"],
            roles=ok(admin.post(f"{path}/roles", json={"roles": [f"{api}:reader"]}))["position"],
            suspended=ok(admin.post(f"/v1/tokens/{issued['token_id']}/suspend", json={"reason": "looked into"}))["position"],
        )
        ok(admin.post(f"/v1/tokens/{issued['token_id']}/reinstate"))
    service = ledger.postgres.conninfo("ledger_service", DATABASE)
    fill(service, world, stage.scaled(EVENTS), lambda done, total: stage.progress("filling", done, total))
    return happened


@contextmanager
def _writing(ledger: Ledger, token_id: str) -> Iterator[Writes]:
    """Suspend and reinstate a token, one request after the other, until left."""
    writes, ended = Writes(), threading.Event()

    def write(admin: httpx.Client) -> None:
        while not ended.is_set():
            for verb in ("suspend", "reinstate"):
                began = time.monotonic()
                answer = admin.post(f"/v1/tokens/{token_id}/{verb}", json={"reason": "beside verify"})
                writes.seconds.append(time.monotonic() - began)
                if answer.status_code != 200:
                    writes.failed.append(f"{verb} answered {answer.status_code}")

    with ledger.served.admin() as admin:
        thread = threading.Thread(target=write, args=(admin,))
        thread.start()
        try:
            yield writes
        finally:
            ended.set()
            thread.join()


# -------------------------------------------------------------------------------------------------------------- the damage


def _of_views(happened: Happened) -> list[Damage]:
    by = f"by subject {happened.administrator}"
    forged = "00000000-0000-7000-8000-00000000beef"
    return [
        Damage(
            "a changed view row",
            (f"UPDATE views.subjects SET clearance = 99 WHERE position = {happened.clearance}",),
            (f"UPDATE views.subjects SET clearance = 40 WHERE position = {happened.clearance}",),
            ("changed: subjects", f"  {happened.clearance} subject_clearance_set {by}"),
        ),
        Damage(
            "a missing view row",
            (
                f"CREATE TABLE public.kept AS SELECT * FROM views.token_states WHERE position = {happened.suspended}",
                f"DELETE FROM views.token_states WHERE position = {happened.suspended}",
            ),
            ("INSERT INTO views.token_states SELECT * FROM public.kept", "DROP TABLE public.kept"),
            ("missing: token_states", f"  {happened.suspended} token_suspended {by}"),
        ),
        Damage(
            "a surplus view row",
            (f"INSERT INTO views.administrators (position, subject_ids) VALUES ({happened.roles}, ARRAY['{forged}'::uuid])",),
            (f"DELETE FROM views.administrators WHERE position = {happened.roles}",),
            ("surplus: administrators", f"  {happened.roles} subject_roles_granted {by}"),
        ),
    ]


def _of_the_log(happened: Happened) -> list[Damage]:
    by = f"by subject {happened.administrator}"
    event = f"WHERE position = {happened.roles}"
    keep = f"CREATE TABLE public.kept AS SELECT * FROM ledger.events {event}"
    restore = (
        f"UPDATE ledger.events e SET payload = k.payload FROM public.kept k WHERE e.position = {happened.roles}",
        "DROP TABLE public.kept",
    )
    return [
        Damage(
            "a hole in the log",
            (keep, f"DELETE FROM ledger.events {event}"),
            ("INSERT INTO ledger.events SELECT * FROM public.kept", "DROP TABLE public.kept"),
            (f"missing: ledger.events position={happened.roles}", f"  {happened.roles} is not there"),
        ),
        Damage(
            "a payload with other content",
            (
                keep,
                "UPDATE ledger.events SET payload = jsonb_set(payload, '{subject,role_ids}',"
                f" '[\"{ADMINISTRATOR_ROLE}\"]') {event}",
            ),
            restore,
            ("changed: subjects", f"  {happened.roles} subject_roles_granted {by}"),
        ),
        Damage(
            "a payload with another shape",
            (keep, f'UPDATE ledger.events SET payload = payload || \'{{"granted_by": "nobody"}}\' {event}'),
            restore,
            (f"changed: ledger.events position={happened.roles}", f"  {happened.roles} subject_roles_granted {by}"),
        ),
    ]


def _fold_with_a_bug(ledger: Ledger, happened: Happened, wrong: list[str]) -> str:
    """Let the live fold forget a type, revoke a token through it, and have it found; a replay puts it right."""
    fold = "SELECT pg_get_functiondef('views.fold_token_states(bigint, bigint)'::regprocedure)"
    with _superuser(ledger) as connection:
        ((text,),) = connection.execute(fold).fetchall()
        _execute(connection, (text.replace("'token_revoked'", "'token_forgotten'"),))
    with ledger.served.admin() as admin:
        position = ok(admin.post(f"/v1/tokens/{happened.token_id}/revoke", json={"reason": "leaked"}))["position"]
        if ok(admin.get(f"/v1/tokens/{happened.token_id}"))["state"] == "revoked":
            raise FellShort("the bug in the fold made no difference")
    by = f"by subject {happened.administrator}"
    damage = Damage("a fold with a bug", (), (), ("missing: token_states", f"  {position} token_revoked {by}"))
    line = _found(ledger, damage, wrong)
    status, said = ledger.maintain("replay", "--free-bytes", str(10**12))
    if status != 0:
        wrong.append(f"replay: {' '.join(said)[-300:]}")
    with ledger.served.admin() as admin:
        if ok(admin.get(f"/v1/tokens/{happened.token_id}"))["state"] != "revoked":
            wrong.append("the token that was revoked is not after the replay")
    _clean(ledger, wrong, "after a fold with a bug, replayed")
    return line


# ----------------------------------------------------------------------------------------------------------- what is said


def _clean(ledger: Ledger, wrong: list[str], when: str, *arguments: str) -> int:
    """Verify, which must find nothing; answer how many events there were."""
    status, said = ledger.maintain("verify", *arguments)
    found = CLEAN.search(" ".join(said))
    if status != 0 or found is None:
        wrong.append(f"not clean {when}: {status} {' '.join(said)[:300]}")
        return 0
    if _metric(ledger, "token_ledger_verification_differences") != 0:
        wrong.append(f"the metrics tell of differences {when}")
    return int(found[1].replace(",", ""))


def _found(ledger: Ledger, damage: Damage, wrong: list[str]) -> str:
    """Verify, which must end with 1, say the lines of the damage one below the other, and tell the metrics."""
    status, said = ledger.maintain("verify")
    differences = _metric(ledger, "token_ledger_verification_differences")
    first, second = damage.says
    places = [n for n, line in enumerate(said) if line.startswith(first) and said[n + 1 : n + 2] == [second]]
    if status == 1 and places and differences > 0:
        return f"{damage.name}: {said[places[0]]};{second[1:]}"
    wrong.append(f"{damage.name}: exit status {status}, {differences:.0f} differences in the metrics, {' '.join(said)[:300]}")
    return f"not found: {damage.name}"


def _metric(ledger: Ledger, name: str) -> float:
    with ledger.served.admin() as admin:
        text = admin.get("/metrics").text
    samples = [s.value for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    if not samples:
        raise FellShort(f"GET /metrics has no {name}")
    return samples[0]


@contextmanager
def _superuser(ledger: Ledger) -> Iterator[Connection[TupleRow]]:
    with psycopg.connect(ledger.postgres.conninfo("postgres", DATABASE), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def _execute(connection: Connection[TupleRow], statements: tuple[str, ...]) -> None:
    for statement in statements:
        cursor = connection.execute(statement.encode())
        if cursor.rowcount == 0:
            raise FellShort(f"nothing was hit by: {statement}")
