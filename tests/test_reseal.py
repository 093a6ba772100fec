"""The change of the master key: everything is sealed anew, and every id stays what it is, while servers run."""

import secrets
import subprocess

import httpx
import psycopg
import pytest

from ledger.sealing import MasterKey, SealBroken
from tests.calls import bearer, first_party, login, new_api, new_person, ok, refresh
from tests.serving import MASTER_KEY, Served, command

OLD, NEW, NEWER = (MasterKey(secrets.token_bytes(32)) for _ in range(3))


def test_a_new_master_key_opens_what_the_one_before_sealed_and_seals_under_itself() -> None:
    both = NEW.after(OLD)
    assert both.unseal(OLD.seal(b"x", "c"), "c") == b"x"
    assert NEW.unseal(both.seal(b"x", "c"), "c") == b"x"
    assert not both.is_sealed(OLD.seal(b"x", "c"))
    with pytest.raises(SealBroken):
        NEW.unseal(OLD.seal(b"x", "c"), "c")


def test_ids_by_hmac_stay_what_they_are_through_every_change() -> None:
    first = OLD.mac("user name", b"ann")
    second = NEW.after(OLD)
    assert second.mac("user name", b"ann") == first
    assert NEWER.after(NEW, second.root).mac("user name", b"ann") == first
    assert NEW.mac("user name", b"ann") != first


def test_the_master_key_is_changed_while_people_log_in_and_refresh(
    admin: httpx.Client, http: httpx.Client, ledger_server: Served
) -> None:
    api = new_api(admin, {"reader": ["allow GET /orders/**"]})
    ann, app = new_person(admin, f"{api}:reader"), first_party(admin, api, strategy="jwe", refresh="rotating")
    before = login(http, ann, app)
    key = secrets.token_hex(32)
    both = {"TOKEN_LEDGER_MASTER_KEY": key, "TOKEN_LEDGER_PREVIOUS_MASTER_KEY": MASTER_KEY}
    with ledger_server.again(**both) as running, running.client() as during:
        assert login(during, ann)["token_id"]
        rotated = ok(refresh(during, app, before["refresh_token"]))
        for told in ("keys were sealed anew", "0 of "):
            shown = subprocess.run(command("reseal"), env=running.environment, capture_output=True, text=True, check=True)
            assert told in shown.stdout
        ok(refresh(during, app, before["refresh_token"]))  # the answer was lost: the retry key was sealed anew too
        assert login(during, ann)["token_id"]
    with ledger_server.again(TOKEN_LEDGER_MASTER_KEY=key) as running, running.client() as after:
        console = login(after, ann)
        assert after.get("/v1/me", headers=bearer(console["access_token"])).json()["username"] == ann.username
        ok(refresh(after, app, rotated["refresh_token"]))
        assert _sealed_under(ledger_server, MasterKey.from_text(key))


def test_a_server_with_another_ledgers_master_key_does_not_start(ledger_server: Served) -> None:
    environment = ledger_server.environment | {"TOKEN_LEDGER_MASTER_KEY": secrets.token_hex(32)}
    done = subprocess.run(command("serve"), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "does not open what is sealed in this database" in done.stderr


def _sealed_under(server: Served, master: MasterKey) -> bool:
    with psycopg.connect(server.owner) as connection:
        rows = connection.execute("SELECT sealed FROM ledger.sealed_keys").fetchall()
        rows += connection.execute("SELECT sealed FROM ledger.retry_keys").fetchall()
    assert len(rows) > 5
    return all(master.is_sealed(sealed) for (sealed,) in rows)
