"""A database that is restored to an earlier point while workers run: what they kept of the log that is gone, is gone too."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.calls import new_api, ok, refused
from tests.conftest import FAST
from tests.postgres import create_database, running_server
from tests.serving import NO_TLS, Served, served


@contextmanager
def again_an_administrator(server: Served) -> Iterator[httpx.Client]:
    """Log in, as soon as that is possible, and give a client that makes a connection for each request."""
    deadline = time.monotonic() + 40
    while True:
        try:
            with server.admin() as admin:
                token = admin.headers["Authorization"]
            break
        except (AssertionError, httpx.TransportError):
            assert time.monotonic() < deadline, "nobody could log in"
            time.sleep(0.2)
    headers = {"Authorization": token, "Connection": "close"}
    with httpx.Client(base_url=server.url, timeout=30, verify=NO_TLS, headers=headers) as admin:
        yield admin


def asked_often(admin: httpx.Client, path: str) -> set[int]:
    """Answer the statuses of many requests, so that every worker has answered some; 503 is no answer."""
    return {admin.get(path).status_code for _ in range(40)} - {503}


@pytest.mark.skipif(shutil.which("cp") is None, reason="needs cp -a")
def test_after_a_restore_no_worker_answers_from_what_it_had_kept() -> None:
    with running_server(None, FAST) as postgres:
        owner, service = create_database(postgres, "ledger"), postgres.conninfo("ledger_service", "ledger")
        cluster: Path = postgres.data_folder / "cluster"
        saved: Path = postgres.data_folder / "saved"
        with served(service, owner) as server:
            postgres.stop()
            subprocess.run(["cp", "-a", cluster, saved], check=True)
            postgres.start()
            with again_an_administrator(server) as admin:
                lost = new_api(admin, name="lost")
                assert asked_often(admin, f"/v1/apis/{lost}") == {200}
                cursor = ok(admin.get("/v1/feed", params={"after": "now"}))["cursor"]
            postgres.stop()
            shutil.rmtree(cluster)
            saved.rename(cluster)
            postgres.start()
            with again_an_administrator(server) as admin:
                refused(admin.get("/v1/feed", params={"after": cursor}), 410, "cursor_of_another_log")
                other = new_api(admin, name="other")  # in the place of the one that is gone
                assert asked_often(admin, f"/v1/apis/{other}") == {200}
                assert asked_often(admin, f"/v1/apis/{lost}") == {404}
