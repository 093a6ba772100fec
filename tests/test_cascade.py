"""Every security event, with every kind of token, at every endpoint, over HTTP: what happens, and from which position.

What is to happen stands in cascade.csv, written by hand. An empty cell, a missing line and a surplus one fail.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ledger.instants import rfc3339
from tests.calls import (
    App,
    Person,
    bearer,
    evaluate,
    gateway,
    new_api,
    new_client,
    new_person,
    ok,
    refresh,
    resource_server,
)
from tests.conftest import Clock
from tests.serving import Served

KINDS: Final = ("opaque", "encrypted", "jwt", "jwe", "reusable", "rotating")
COLUMNS: Final = ("refresh", "introspect", "evaluate", "gateway", "own", "audit", "from")
CANNOT_HAPPEN: Final = "cannot happen"


def table() -> dict[tuple[str, str], dict[str, str]]:
    """Answer the table: what is expected of an event and a kind of token, by column."""
    text = (Path(__file__).parent / "cascade.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    expected: dict[tuple[str, str], dict[str, str]] = {}
    for row in csv.DictReader(lines):
        cell = (row.pop("event"), row.pop("kind"))
        assert cell not in expected, f"{cell} stands twice"
        expected[cell] = row
    return expected


EXPECTED: Final = table()


@dataclass(frozen=True)
class Subject:
    """A token of one kind and all that it hangs on; each test has its own."""

    admin: httpx.Client
    http: httpx.Client
    api: str
    asker: App
    app: App
    person: Person
    tokens: dict[str, Any]
    kind: str
    before: str  # an instant before anything of it was issued

    @property
    def text(self) -> str:
        """The string of the token."""
        return str(self.tokens["refresh_token" if self.kind in ("reusable", "rotating") else "access_token"])

    @property
    def token_id(self) -> str:
        """The id of the token."""
        kind = "refresh" if self.kind in ("reusable", "rotating") else "access"
        listed = ok(self.admin.get("/v1/tokens", params={"family_id": self.tokens["family_id"], "kind": kind}))["tokens"]
        return str(listed[0 if self.kind == "rotating" else -1]["token_id"])

    def manage(self, path: str, method: str = "POST", **body: Any) -> int:
        """Change something as the administrator, and answer the position."""
        return int(ok(self.admin.request(method, path, json=body))["position"])


def subject_path(s: Subject, rest: str) -> str:
    return f"/v1/subjects/{s.person.subject_id}{rest}"


def now(s: Subject) -> str:
    """Answer an instant after what was recorded so far, by the ledger's clock, which has then come."""
    instant = str(ok(s.http.get("/readyz"))["instant"])
    time.sleep(0.002)
    return instant


def suspended_and_reinstated(s: Subject, path: str) -> int:
    s.manage(f"{path}/suspend", reason="looked into")
    return s.manage(f"{path}/reinstate")


def reinstated_of_a_suspended_token(s: Subject) -> int:
    s.manage(f"/v1/tokens/{s.token_id}/suspend", reason="on its own")
    return suspended_and_reinstated(s, subject_path(s, ""))


def rule_withdrawn(s: Subject) -> int:
    rules = ok(s.admin.get(f"/v1/apis/{s.api}/roles/reader/rules"))["rules"]
    return s.manage(f"/v1/apis/{s.api}/roles/reader/rules/withdraw", rule_ids=[rule["rule_id"] for rule in rules])


def key_revoked(s: Subject, use: str) -> int:
    """Revoke the active key; another one is activated in the same command, after it."""
    (active,) = [k for k in ok(s.admin.get("/v1/keys"))["keys"] if k["use"] == use and k["status"] == "active"]
    s.manage(f"/v1/keys/{active['key_id']}/revoke", reason="leaked")
    query = {"key_id": active["key_id"], "type": "key_revoked"}
    (event,) = ok(s.admin.get("/v1/audit/events", params=query))["events"]
    return int(event["position"])


def reuse_found(s: Subject) -> int | None:
    """Use the first refresh token twice; None where that is no reuse. Of a rotating one the token looked at is the newest."""
    first = s.tokens["refresh_token"]
    s.tokens["refresh_token"] = ok(refresh(s.http, s.app, first)).get("refresh_token", first)
    refresh(s.http, s.app, first)
    entries = ok(s.admin.get("/v1/audit/timeline", params={"family_id": s.tokens["family_id"]}))["entries"]
    found = [int(entry["position"]) for entry in entries if entry["what"] == "reuse_detected"]
    return found[0] if found else None


EVENTS: Final[dict[str, Callable[[Subject], int | None]]] = {
    "token suspended": lambda s: s.manage(f"/v1/tokens/{s.token_id}/suspend", reason="looked into"),
    "token reinstated": lambda s: suspended_and_reinstated(s, f"/v1/tokens/{s.token_id}"),
    "token revoked": lambda s: s.manage(f"/v1/tokens/{s.token_id}/revoke"),
    "family suspended": lambda s: s.manage(f"/v1/families/{s.tokens['family_id']}/suspend", reason="looked into"),
    "family reinstated": lambda s: suspended_and_reinstated(s, f"/v1/families/{s.tokens['family_id']}"),
    "family revoked": lambda s: s.manage(f"/v1/families/{s.tokens['family_id']}/revoke"),
    "client suspended": lambda s: s.manage(f"/v1/clients/{s.app.name}/suspend", reason="looked into"),
    "client reinstated": lambda s: suspended_and_reinstated(s, f"/v1/clients/{s.app.name}"),
    "all tokens of the client revoked": lambda s: s.manage(f"/v1/clients/{s.app.name}/revoke-tokens"),
    "tokens of the client issued before revoked": lambda s: s.manage(
        f"/v1/clients/{s.app.name}/revoke-tokens", issued_before=now(s)
    ),
    "older tokens of the client revoked": lambda s: s.manage(f"/v1/clients/{s.app.name}/revoke-tokens", issued_before=s.before),
    "client secret rotated": lambda s: s.manage(f"/v1/clients/{s.app.name}/secret"),
    "subject suspended": lambda s: s.manage(subject_path(s, "/suspend"), reason="looked into"),
    "subject reinstated": lambda s: suspended_and_reinstated(s, subject_path(s, "")),
    "subject reinstated of a suspended token": reinstated_of_a_suspended_token,
    "subject erased": lambda s: s.manage(subject_path(s, "/erase")),
    "all tokens of the subject revoked": lambda s: s.manage(subject_path(s, "/revoke-tokens")),
    "tokens of the subject issued before revoked": lambda s: s.manage(subject_path(s, "/revoke-tokens"), issued_before=now(s)),
    "older tokens of the subject revoked": lambda s: s.manage(subject_path(s, "/revoke-tokens"), issued_before=s.before),
    "password changed": lambda s: s.manage(subject_path(s, "/password"), "PUT", password="another good password"),
    "role withdrawn": lambda s: s.manage(subject_path(s, "/roles/withdraw"), roles=[f"{s.api}:reader"]),
    "rule withdrawn": rule_withdrawn,
    "clearance lowered": lambda s: s.manage(subject_path(s, "/clearance"), "PUT", clearance=1),
    "signing key revoked": lambda s: key_revoked(s, "sig"),
    "encryption key revoked": lambda s: key_revoked(s, "enc"),
    "reuse found": reuse_found,
}


@pytest.fixture
def subject_of_kind(admin: httpx.Client, http: httpx.Client) -> Callable[[str], Subject]:
    def made(kind: str) -> Subject:
        api = new_api(admin, {"reader": ["allow GET /orders/** clearance 2"]})
        person = new_person(admin, f"{api}:reader", clearance=5)
        app = new_client(
            admin,
            grants=["password", "refresh_token"],
            strategy="opaque" if kind in ("reusable", "rotating") else kind,
            refresh="reusable" if kind == "reusable" else "rotating",
            retry_window_seconds=0,
            apis=[api, "ledger"],
        )
        before = rfc3339(datetime.fromisoformat(ok(http.get("/readyz"))["instant"]).astimezone(UTC))
        credentials = {"username": person.username, "password": person.password}
        tokens = ok(http.post("/login", json=credentials, auth=app.auth))
        return Subject(admin, http, api, resource_server(admin, api), app, person, tokens, kind, before)

    return made


def test_the_table_has_every_cell_and_no_other() -> None:
    assert set(EXPECTED) == {(event, kind) for event in EVENTS for kind in KINDS}
    for cell, row in EXPECTED.items():
        assert tuple(row) == COLUMNS, cell
        assert all(row.values()), f"{cell} has an empty cell"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", EVENTS)
def test_a_security_event_reaches_what_the_table_says(event: str, kind: str, subject_of_kind: Callable[[str], Subject]) -> None:
    s = subject_of_kind(kind)
    token_id = s.token_id
    position = EVENTS[event](s)
    if position is None:
        assert set(EXPECTED[event, kind].values()) == {CANNOT_HAPPEN}
        assert ok(refresh(s.http, s.app, s.text))
        return
    if event == "reuse found" and kind == "rotating":
        token_id = s.token_id
    assert seen(s, token_id, position) == EXPECTED[event, kind]


def seen(s: Subject, token_id: str, position: int) -> dict[str, str]:
    """Ask every endpoint about the token; the refresh last, for it uses the token up."""
    evaluated = evaluate(s.http, s.asker, s.text)
    introspected = s.http.post("/oauth/introspect", data={"token": s.text}, auth=s.asker.auth)
    assert evaluated["context"]["position"] >= position
    assert int(introspected.headers["ledger-position"]) >= position
    assert evaluated["decision"] == (evaluated["context"]["reason"] == "allowed")
    timeline = ok(s.admin.get("/v1/audit/timeline", params={"token_id": token_id}))
    before, last = [{"after": None}, *timeline["entries"]][-2:]
    changed = last["position"] == position and last["after"] != before["after"]
    state = timeline["now"]
    assert state == last["after"]
    refreshed = refresh(s.http, s.app, s.text)
    return {
        "introspect": "active" if ok(introspected)["active"] else "inactive",
        "evaluate": evaluated["context"]["reason"],
        "gateway": str(gateway(s.http, s.asker, s.text).status_code),
        "own": str(s.http.get("/v1/me/tokens", headers=bearer(s.text)).status_code),
        "audit": " ".join(filter(None, [state["state"], state.get("level")])),
        "from": "event" if changed else "none",
        "refresh": "ok" if refreshed.status_code == 200 else refreshed.json()["error"],
    }


def test_who_has_the_new_secret_refreshes_on(subject_of_kind: Callable[[str], Subject]) -> None:
    s = subject_of_kind("rotating")
    secret = ok(s.admin.post(f"/v1/clients/{s.app.name}/secret", json={}))["client_secret"]
    assert ok(refresh(s.http, App(s.app.name, secret, None), s.text))["refresh_token"] != s.text


@pytest.mark.parametrize("level", ["token", "family", "client", "subject"])
def test_a_suspension_ends_when_it_was_said_to(
    level: str, subject_of_kind: Callable[[str], Subject], server_clock: Clock, ledger_server: Served
) -> None:
    s = subject_of_kind("opaque")
    path = {
        "token": f"/v1/tokens/{s.token_id}",
        "family": f"/v1/families/{s.tokens['family_id']}",
        "client": f"/v1/clients/{s.app.name}",
        "subject": subject_path(s, ""),
    }[level]
    until = datetime.fromisoformat(ok(s.http.get("/readyz"))["instant"]).timestamp() + 60
    s.manage(f"{path}/suspend", reason="a minute", until=rfc3339(datetime.fromtimestamp(until, UTC)))
    assert evaluate(s.http, s.asker, s.text)["context"]["reason"] == f"{level}_suspended"
    head = ok(s.http.get("/readyz"))["position"]
    server_clock.advance(60)
    assert evaluate(s.http, s.asker, s.text)["decision"]
    assert ok(s.http.get("/readyz"))["position"] == head
