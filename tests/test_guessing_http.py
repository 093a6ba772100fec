"""Guessing a password over HTTP: refused before it is hashed, whoever is asked for, and nobody locked out by a stranger."""

import httpx
import psycopg

from ledger.guessing import BUDGETS
from tests.calls import Person, bearer, login, new_person, ok, refused, unique
from tests.conftest import Clock
from tests.serving import Served

# Everybody on this machine may say from where a request comes.
SETTINGS = {"TOKEN_LEDGER_TRUSTED_PROXIES": "127.0.0.0/8"}
HOME, STRANGE = "192.0.2.7", "198.51.100.9"


def attempt(http: httpx.Client, username: str, password: str = "a wrong password", address: str = STRANGE) -> httpx.Response:
    body = {"username": username, "password": password}
    return http.post("/login", json=body, headers={"X-Forwarded-For": address})


def statuses(http: httpx.Client, username: str, times: int, **how: str) -> list[int]:
    return [attempt(http, username, **how).status_code for _ in range(times)]


def test_the_sixth_guess_of_a_minute_is_not_looked_at_even_if_it_is_right(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    assert statuses(http, ann.username, 5, address="203.0.113.1") == [401] * 5
    problem = refused(answer := attempt(http, ann.username, ann.password, "203.0.113.1"), 429, "too_many_attempts")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert ann.username not in str(problem)


def test_a_name_that_is_not_there_is_throttled_alike(admin: httpx.Client, http: httpx.Client) -> None:
    ann, nobody = new_person(admin), unique("nobody")
    there = [attempt(http, ann.username, address="203.0.113.2") for _ in range(7)]
    absent = [attempt(http, nobody, address="203.0.113.3") for _ in range(7)]
    assert [a.status_code for a in there] == [a.status_code for a in absent] == [401] * 5 + [429] * 2
    for one, other in zip(there, absent, strict=True):
        assert one.headers.keys() == other.headers.keys()
        one_body, other_body = one.json(), other.json()
        assert one_body.pop("request_id") != other_body.pop("request_id")
        assert one_body == other_body


def test_strangers_lock_nobody_out_of_a_familiar_network(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    assert attempt(http, ann.username, ann.password, HOME).status_code == 200
    botnet = [attempt(http, ann.username, address=f"100.64.0.{n}").status_code for n in range(BUDGETS["user"].burst + 20)]
    assert botnet[-20:] == [429] * 20
    assert attempt(http, ann.username, ann.password, "100.64.1.1").status_code == 429
    assert attempt(http, ann.username, ann.password, HOME).status_code == 200


def test_right_passwords_spend_nothing(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    assert [attempt(http, ann.username, ann.password, "203.0.113.4").status_code for _ in range(30)] == [200] * 30


def test_an_address_is_believed_from_a_trusted_proxy_only_and_from_the_right(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    # What stands left of the address that the proxy adds is the client's own invention.
    for n in range(5):
        assert attempt(http, ann.username, address=f"10.9.9.{n}, 203.0.113.5").status_code == 401
    assert attempt(http, ann.username, address="10.9.9.9, 203.0.113.5").status_code == 429


def test_a_trusted_proxy_is_known_in_every_spelling(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    # A server that listens on IPv6 too sees IPv4 like this; taken for a stranger's, everybody behind it would be one network.
    statuses = [attempt(http, ann.username, address=f"203.0.113.{n}, ::ffff:127.0.0.2").status_code for n in range(30, 37)]
    assert statuses == [401] * 7


def test_without_a_trusted_proxy_the_header_is_nobodys_word(admin: httpx.Client, ledger_server: Served) -> None:
    ann = new_person(admin)
    with ledger_server.again(TOKEN_LEDGER_TRUSTED_PROXIES="") as other, other.client() as http:
        assert [attempt(http, ann.username, address=f"10.8.8.{n}").status_code for n in range(6)] == [401] * 5 + [429]


def test_a_lock_out_is_an_event_that_is_listed_and_unlocked(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    statuses(http, ann.username, 9, address="203.0.113.6")
    (lockout,) = ok(admin.get("/v1/lockouts", params={"subject_id": ann.subject_id}))["lockouts"]
    assert (lockout["kind"], lockout["stands"]) == ("pair", True)
    ok(admin.post(f"/v1/lockouts/{lockout['lockout_id']}/unlock"))
    ok(admin.post(f"/v1/lockouts/{lockout['lockout_id']}/unlock"))
    (lockout,) = ok(admin.get("/v1/lockouts", params={"subject_id": ann.subject_id}))["lockouts"]
    assert not lockout["stands"]
    assert attempt(http, ann.username, ann.password, "203.0.113.6").status_code == 200
    events = ok(admin.get("/v1/audit/events", params={"subject_id": ann.subject_id, "order": "oldest"}))["events"]
    assert [e["type"] for e in events][-3:-1] == ["login_locked_out", "login_unlocked"]
    assert "203.0.113.6" not in str(events)
    refused(admin.post("/v1/lockouts/00000000-0000-0000-0000-000000000000/unlock"), 404, "unknown_lockout")
    refused(admin.post("/v1/lockouts/x/unlock"), 404, "unknown_lockout")


def test_ones_own_password_is_guessed_no_oftener_with_a_stolen_token(admin: httpx.Client, http: httpx.Client) -> None:
    ann = new_person(admin)
    token = login(http, ann)["access_token"]

    def change(current: str) -> httpx.Response:
        body = {"current": current, "new": "another good password"}
        return http.put("/v1/me/password", json=body, headers=bearer(token) | {"X-Forwarded-For": "203.0.113.7"})

    assert [change("a wrong password").status_code for _ in range(6)] == [400] * 5 + [429]


def test_a_lock_out_ends_by_itself(admin: httpx.Client, http: httpx.Client, server_clock: Clock) -> None:
    ann = new_person(admin)
    statuses(http, ann.username, 9, address="203.0.113.8")
    server_clock.advance(60)
    assert attempt(http, ann.username, ann.password, "203.0.113.8").status_code == 200


def test_a_password_is_hashed_anew_when_the_parameters_have_changed(
    admin: httpx.Client, http: httpx.Client, ledger_server: Served
) -> None:
    ann: Person = new_person(admin)
    session = login(http, ann)
    before = _password_events(ledger_server, ann)
    with ledger_server.again(TOKEN_LEDGER_PASSWORD_PASSES="3") as other, other.client() as elsewhere:
        login(elsewhere, ann)
        assert _password_events(ledger_server, ann) == before + 1
        login(elsewhere, ann)
        assert _password_events(ledger_server, ann) == before + 1
    assert http.get("/v1/me", headers=bearer(session["access_token"])).status_code == 200


def _password_events(server: Served, person: Person) -> int:
    with psycopg.connect(server.owner) as connection:
        found = connection.execute(
            "SELECT count(*) FROM ledger.events WHERE stream = %s AND type = 'subject_password_set'", (person.subject_id,)
        ).fetchone()
        assert found is not None
        return int(found[0])
