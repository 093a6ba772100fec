"""What a request costs the database, counted: statements of a decision and of a write, rows of an event.

The application runs in this process, so that its statements can be counted; each is one round trip.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import AsyncCursor, sql

from api.app import make_app
from api.service import make_service
from ledger.sealing import MasterKey
from ledger.settings import load_settings
from tests.calls import App, first_party, login, new_api, new_client, new_person, ok, resource_server
from tests.serving import MASTER_KEY, Served

pytestmark = pytest.mark.anyio


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent from now on."""
    sent: list[str] = []
    execute = AsyncCursor.execute  # whichever way: a connection's own makes a cursor

    async def counted(self: AsyncCursor[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(str(query))
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(AsyncCursor, "execute", counted)
    return sent


@pytest.fixture
async def inside(ledger_server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A worker of the ledger in this process, without housekeeping."""
    conninfo = ledger_server.environment["TOKEN_LEDGER_DATABASE_URL"]
    settings = load_settings(port=int(ledger_server.url.rpartition(":")[2]))  # as in the issuer's address
    service = make_service(settings, MasterKey(bytes.fromhex(MASTER_KEY)), conninfo)
    await service.start()
    transport = httpx.ASGITransport(make_app(service))  # type: ignore[arg-type] # httpx's own idea of ASGI
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client
    await service.stop()


async def ask(inside: httpx.AsyncClient, asker: App, token: str) -> bool:
    body = {
        "subject": {"type": "token", "id": token},
        "action": {"name": "GET"},
        "resource": {"type": "route", "id": "/orders/7"},
    }
    answer = ok(await inside.post("/access/v1/evaluation", json=body, auth=asker.auth))
    decision: bool = answer["decision"]
    return decision


async def test_a_decision_is_one_statement_and_concurrent_ones_share_it(
    inside: httpx.AsyncClient, http: httpx.Client, admin: httpx.Client, statements: list[str]
) -> None:
    api = new_api(admin, {"clerk": ["allow GET /orders/{id}"]})
    asker = resource_server(admin, api)
    person = new_person(admin, f"{api}:clerk")
    tokens = [login(http, person, first_party(admin, api, strategy=s))["access_token"] for s in ("opaque", "jwt", "jwe")]
    for token in tokens:
        assert await ask(inside, asker, token)  # reference data and keys are at hand from here on
    statements.clear()
    for token in tokens:
        assert await ask(inside, asker, token)
    assert len(statements) == len(tokens)
    statements.clear()
    assert all(await asyncio.gather(*(ask(inside, asker, token) for token in tokens * 20)))
    assert len(statements) <= 20 * len(tokens) // 4


async def test_a_write_is_a_lookup_a_reading_and_an_append(
    inside: httpx.AsyncClient, admin: httpx.Client, statements: list[str]
) -> None:
    api = new_api(admin)
    person = new_person(admin)
    issuer = new_client(admin, grants=["issue"], apis=[api])
    machine = new_client(admin, grants=["client_credentials"], apis=[api])
    rotating = new_client(admin, grants=["issue", "refresh_token"], apis=[api], refresh="rotating")

    async def issued(app: App) -> Any:
        return ok(await inside.post("/v1/tokens", json={"subject_id": person.subject_id}, auth=app.auth), 201)

    async def issue() -> None:
        await issued(issuer)

    async def client_credentials() -> None:
        ok(await inside.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=machine.auth))

    refresh_tokens = [(await issued(rotating))["refresh_token"]]
    access_tokens = [(await issued(issuer))["access_token"] for _ in range(2)]

    async def rotate() -> None:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_tokens[-1]}
        refresh_tokens.append(ok(await inside.post("/oauth/token", data=form, auth=rotating.auth))["refresh_token"])

    async def revoke() -> None:
        ok(await inside.post("/oauth/revoke", data={"token": access_tokens.pop()}, auth=issuer.auth))

    for write in (issue, client_credentials, rotate, revoke):
        await write()
        statements.clear()
        await write()
        assert len(statements) == 3, statements
        assert "FROM ledger.append(" in statements[-1]


@pytest.fixture
def rows(ledger_server: Served) -> Iterator[Any]:
    """Count the rows of every table of log and views."""
    with psycopg.connect(ledger_server.owner, autocommit=True) as connection:

        def count() -> dict[str, int]:
            tables = connection.execute(
                "SELECT c.relnamespace::regnamespace::text, c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p')"
                " AND NOT c.relispartition AND c.relnamespace IN ('ledger'::regnamespace, 'views'::regnamespace)"
            ).fetchall()
            counts = {}
            for schema, name in tables:
                row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
                assert row is not None
                counts[f"{schema}.{name}"] = row[0]
            return counts

        yield count


async def test_a_token_without_refresh_is_one_row_in_each_of_six_tables(
    inside: httpx.AsyncClient, admin: httpx.Client, rows: Any
) -> None:
    issuer = new_client(admin, grants=["issue"], apis=[new_api(admin)])
    person = new_person(admin)
    before = rows()
    ok(await inside.post("/v1/tokens", json={"subject_id": person.subject_id}, auth=issuer.auth), 201)
    after = rows()
    assert {table: after[table] - before[table] for table in after if after[table] != before[table]} == {
        "ledger.events": 1,
        "ledger.streams": 1,
        "ledger.commands": 1,
        "ledger.batches": 1,
        "views.tokens": 1,
        "views.families": 1,
    }


async def test_a_rotation_is_an_event_two_tokens_and_a_state_of_the_family(
    inside: httpx.AsyncClient, http: httpx.Client, admin: httpx.Client, rows: Any
) -> None:
    app = first_party(admin, new_api(admin), refresh="rotating")
    token = login(http, new_person(admin), app)["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": app.name}
    before = rows()
    ok(await inside.post("/oauth/token", data=form))
    after = rows()
    changed = {table: after[table] - before[table] for table in after if after[table] != before[table]}
    changed.pop("ledger.retry_keys", None)  # one for five minutes
    assert changed == {
        "ledger.events": 1,
        "ledger.commands": 1,
        "ledger.batches": 1,
        "views.tokens": 2,
        "views.families": 1,
    }
