"""A worker's parts together: housekeeping that goes on, and a start and an end without a database."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest
from psycopg.conninfo import make_conninfo

from api import service as service_module
from api.service import make_service
from ledger.sealing import MasterKey
from ledger.settings import Settings
from projections.lookup import LookupFailed
from projections.retry_keys import RetryKeys
from tests.conftest import Database

pytestmark = pytest.mark.anyio

CHEAP = Settings(password_memory_kib=19_456, password_passes=2)
MASTER = MasterKey(bytes(range(32)))


class FailingRetryKeys:
    """Fails otherwise than a database does."""

    def __init__(self) -> None:
        self.asked = 0
        self.asked_often = asyncio.Event()

    async def forget_past(self) -> None:
        self.asked += 1
        if self.asked == 3:
            self.asked_often.set()
        raise KeyError("nobody thought of this")


async def test_housekeeping_goes_on_whatever_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "HOUSEKEEPING_SECONDS", 0.01)
    failing = FailingRetryKeys()
    service = replace(make_service(CHEAP, MASTER, database.service), retry_keys=cast("RetryKeys", failing))
    await service.start()
    keeping = asyncio.create_task(service.keep_house())
    await asyncio.wait_for(failing.asked_often.wait(), 10)
    assert not keeping.done()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await service.stop()
    assert "housekeeping failed, and is tried again: KeyError" in caplog.text
    assert "nobody thought of this" not in caplog.text


async def test_a_worker_begins_and_ends_without_a_database(
    database: Database, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(CHEAP, MASTER, make_conninfo(database.service, host=str(tmp_path)))
    await asyncio.wait_for(service.start(), 10)
    with pytest.raises(LookupFailed):
        await service.find(service_module.NOBODY)
    await asyncio.wait_for(service.stop(), 10)
    assert "the worker begins without the database" in caplog.text
