"""The feed over HTTP: nothing is missed, whoever is cut off goes on, and who may not listen does not."""

import base64
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from projections.feed import Cursor
from tests.calls import bearer, login, new_api, new_client, new_person, ok, refused, unique
from tests.serving import Served
from tests.subscribing import FEED, Message, next_event, stream

MOST = 6
SETTINGS = {"TOKEN_LEDGER_FEED_SUBSCRIBERS": str(MOST)}


def followed(http: httpx.Client, after: str | None = None, **query: Any) -> tuple[list[dict[str, Any]], str]:
    """Answer all events from a cursor up to now, and the cursor to go on from."""
    events: list[dict[str, Any]] = []
    while True:
        page = ok(http.get(FEED, params={**query, **({} if after is None else {"after": after})}))
        events += page["events"]
        after = page["cursor"]
        if not page["more"]:
            return events, after


def now(http: httpx.Client) -> str:
    cursor: str = ok(http.get(FEED, params={"after": "now"}))["cursor"]
    return cursor


def until(what: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------- what is answered


def test_the_feed_is_the_log_from_its_beginning_as_audit_shows_it(admin: httpx.Client) -> None:
    new_person(admin)
    events, cursor = followed(admin, limit=7)
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    audited = ok(admin.get("/v1/audit/events", params={"order": "oldest", "limit": 1000}))
    assert events == audited["events"]
    assert Cursor.read(cursor) == Cursor(UUID(audited["log_id"]), audited["position"])


def test_verifiers_are_withheld(admin: httpx.Client) -> None:
    after = now(admin)
    client = new_client(admin, kind="confidential", grants=["client_credentials"])
    events, _ = followed(admin, after)
    registered = next(event for event in events if event["type"] == "client_registered")
    assert registered["payload"]["client"]["secret_digests"] == ["withheld"]
    assert client.secret is not None


def test_a_filter_leaves_out_the_others_and_its_cursor_passes_them(admin: httpx.Client) -> None:
    after = now(admin)
    people = [new_person(admin).subject_id for _ in range(3)]
    events, reached = followed(admin, after, types="subject_registered,key_made", limit=2)
    assert [event["stream"] for event in events] == people
    nothing, passed = followed(admin, after, types="key_revoked")
    assert nothing == []
    assert followed(admin, str(events[0]["position"]), types="subject_registered")[0] == events[1:]
    assert passed == reached == now(admin)
    assert passed != after


def test_an_answer_waits_for_an_event(admin: httpx.Client, ledger_server: Served) -> None:
    after = now(admin)
    with ThreadPoolExecutor(1) as waiting, ledger_server.admin() as other:
        asked: dict[str, Any] = {"after": now(other), "wait": 20, "types": "subject_registered"}
        answer = waiting.submit(other.get, FEED, params=asked)
        time.sleep(0.3)
        assert not answer.done()
        person = new_person(admin)
        began = time.monotonic()
        page = ok(answer.result(5))
        assert time.monotonic() - began < 2
    assert [event["stream"] for event in page["events"]] == [person.subject_id]
    assert page["cursor"] != after


def test_an_answer_does_not_wait_for_longer_than_it_was_asked_to(admin: httpx.Client) -> None:
    after, began = now(admin), time.monotonic()
    page = ok(admin.get(FEED, params={"after": after, "wait": 1}))
    assert page == {"events": [], "cursor": after, "more": False}
    assert 1 <= time.monotonic() - began < 3


def test_whoever_waits_hears_of_what_any_worker_records(each_worker: list[httpx.Client], admin: httpx.Client) -> None:
    token = {"Authorization": admin.headers["Authorization"]}
    with ThreadPoolExecutor(1) as waiting:
        for listening in each_worker:
            for _ in range(3):  # by one worker or the other
                asked: dict[str, Any] = {"after": now(admin), "wait": 20}
                answer = waiting.submit(listening.get, FEED, params=asked, headers=token)
                time.sleep(0.2)
                new_person(admin)
                began = time.monotonic()
                assert ok(answer.result(5))["events"]
                assert time.monotonic() - began < 1


# --------------------------------------------------------------------------------------------------- server-sent events


def test_a_stream_tells_what_was_and_what_comes_each_with_its_cursor(admin: httpx.Client) -> None:
    before, after = followed(admin)
    with stream(admin) as blocks:
        first = next(blocks)
        assert first.event is None
        assert first.cursor is not None
        seen = [next_event(blocks) for _ in before]
        assert [message.event for message in seen] == before
        assert seen[-1].cursor == after
        person = new_person(admin)
        coming = [next_event(blocks), next_event(blocks)]
    assert [message.event for message in coming] == followed(admin, after)[0]
    assert coming[1].event is not None
    assert coming[1].event["stream"] == person.subject_id
    assert coming[1].cursor == now(admin)


def test_whoever_connects_again_goes_on_where_it_was(admin: httpx.Client) -> None:
    after = now(admin)
    people = [new_person(admin).subject_id for _ in range(4)]
    heard: list[str] = []
    last: str | None = None
    while len(heard) < 4:
        # At the address it began with, as an EventSource does.
        with stream(admin, last, after=after, types="subject_registered") as blocks:
            message = next_event(blocks)
        assert message.event is not None
        heard.append(message.event["stream"])
        last = message.cursor
    assert heard == people


def test_a_stream_from_now_on_names_its_cursor_before_anything_happens(admin: httpx.Client) -> None:
    with stream(admin, after="now") as blocks:
        cursor = next(blocks).cursor
    person = new_person(admin)
    assert [event["stream"] for event in followed(admin, cursor, types="subject_registered")[0]] == [person.subject_id]


def test_a_stream_tells_that_it_has_come_further_also_where_nothing_matches(admin: httpx.Client) -> None:
    with stream(admin, after="now", types="key_revoked") as blocks:
        before = next(blocks).cursor
        new_person(admin)
        began, place = time.monotonic(), next(blocks)
        assert time.monotonic() - began < 5
    assert place.event is None
    assert place.cursor == now(admin) != before


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"after": "yesterday"}, "after"),
        ({"after": ""}, "after"),
        ({"after": "-7"}, "after"),
        ({"after": "12345678901234567"}, "after"),
        ({"after": base64.urlsafe_b64encode(bytes(23)).decode()}, "after"),
        ({"after": base64.urlsafe_b64encode(b"\xff" * 24).decode()}, "after"),
        ({"wait": "31"}, "wait"),
        ({"wait": "-1"}, "wait"),
        ({"wait": "soon"}, "wait"),
        ({"limit": "1001"}, "limit"),
        ({"types": "token_stolen"}, "types"),
        ({"types": ""}, "types"),
        ({"type": "token_revoked"}, "type"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(admin: httpx.Client, query: dict[str, str], field: str) -> None:
    problem = refused(admin.get(FEED, params=query), 400, "invalid_input")
    assert [p["field"] for p in problem["problems"]] == [field]


@pytest.mark.parametrize(
    ("query", "last", "field"),
    [({"wait": "5"}, None, "wait"), ({"limit": "5"}, None, "limit"), ({}, "yesterday", "Last-Event-ID")],
)
def test_a_stream_is_refused_before_it_begins(admin: httpx.Client, query: dict[str, str], last: str | None, field: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as error, stream(admin, last, **query):
        pass
    assert [p["field"] for p in refused(error.value.response, 400, "invalid_input")["problems"]] == [field]


@pytest.mark.parametrize("what", ["of another log", "above the head"])
def test_a_cursor_of_another_log_is_gone(admin: httpx.Client, what: str) -> None:
    here = Cursor.read(now(admin))
    assert here is not None
    cursor = Cursor(uuid4(), 1) if what == "of another log" else Cursor(here.log_id, here.position + 1_000)
    refused(admin.get(FEED, params={"after": str(cursor)}), 410, "cursor_of_another_log")
    with pytest.raises(httpx.HTTPStatusError) as error, stream(admin, str(cursor)):
        pass
    refused(error.value.response, 410, "cursor_of_another_log")


# ---------------------------------------------------------------------------------------------------------- who may listen


def test_the_rules_of_the_ledger_say_who_may_listen(admin: httpx.Client, http: httpx.Client) -> None:
    refused(http.get(FEED), 401, "not_authenticated")
    nobody = login(http, new_person(admin))["access_token"]
    refused(http.get(FEED, headers=bearer(nobody)), 403, "not_allowed")
    for role in ("auditor", "operator", "administrator"):
        token = login(http, new_person(admin, f"ledger:{role}"))["access_token"]
        assert ok(http.get(FEED, headers=bearer(token)))["events"]


def test_a_service_may_have_a_role_that_lets_it_listen_and_nothing_else(admin: httpx.Client, http: httpx.Client) -> None:
    role = unique("listener")
    ok(admin.post("/v1/apis/ledger/roles", json={"name": role}), 201)
    ok(admin.post(f"/v1/apis/ledger/roles/{role}/rules", json={"rules": ["allow GET /v1/feed"]}))
    guard = new_client(admin, "guard", kind="confidential", grants=["client_credentials"], apis=["ledger"])
    ok(admin.post(f"/v1/subjects/{guard.subject_id}/roles", json={"roles": [f"ledger:{role}"]}))
    token = ok(http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=guard.auth))["access_token"]
    assert ok(http.get(FEED, params={"types": "token_revoked"}, headers=bearer(token)))["cursor"]
    refused(http.get("/v1/audit/events", headers=bearer(token)), 403, "not_allowed")


def revoke(admin: httpx.Client, token_id: str) -> None:
    ok(admin.post(f"/v1/tokens/{token_id}/revoke", json={"reason": "no more"}))


def test_a_subscriber_whose_token_is_revoked_is_cut_off(admin: httpx.Client, http: httpx.Client) -> None:
    listener = login(http, new_person(admin, "ledger:auditor"))
    http.headers.update(bearer(listener["access_token"]))
    with stream(http, after="now") as blocks:
        next(blocks)
        new_person(admin)
        next_event(blocks)
        revoke(admin, listener["token_id"])
        time.sleep(1.1)
        last = new_person(admin).subject_id
        told = [block.event["stream"] for block in blocks if block.event is not None]  # to its end
    assert last not in told
    with pytest.raises(httpx.HTTPStatusError) as error, stream(http):
        pass
    assert error.value.response.status_code == 401


def test_a_silent_stream_of_a_revoked_token_ends_too(admin: httpx.Client, http: httpx.Client) -> None:
    listener = login(http, new_person(admin, "ledger:auditor"))
    http.headers.update(bearer(listener["access_token"]))
    with stream(http, after="now", types="key_revoked") as blocks:
        next(blocks)
        revoke(admin, listener["token_id"])
        began = time.monotonic()
        assert list(blocks) == []
        assert time.monotonic() - began < 10


def test_an_answer_that_has_waited_is_not_given_to_a_revoked_token(admin: httpx.Client, http: httpx.Client) -> None:
    listener = login(http, new_person(admin, "ledger:auditor"))
    asked: dict[str, Any] = {"after": now(admin), "wait": 20, "types": "token_revoked"}
    with ThreadPoolExecutor(1) as waiting:
        answer = waiting.submit(http.get, FEED, params=asked, headers=bearer(listener["access_token"]))
        time.sleep(0.3)
        revoke(admin, listener["token_id"])
        refused(answer.result(10), 401, "not_authenticated")


# ------------------------------------------------------------------------------------------------------------------ bounds


@contextmanager
def streams(server: Served, headers: dict[str, str], most: int) -> Iterator[int]:
    """Open streams until one is refused, and give how many there are."""
    with ExitStack() as opened:
        listening: list[Iterator[Message]] = []  # one that nobody holds any more is closed
        while len(listening) < most:
            http = opened.enter_context(server.client())
            http.headers.update(headers)
            try:
                listening.append(opened.enter_context(stream(http, after="now")))
                next(listening[-1])
            except httpx.HTTPStatusError as error:
                refused(error.response, 503, "too_many_subscribers")
                break
        yield len(listening)


def test_a_worker_serves_so_many_and_has_room_again_when_they_have_gone(ledger_server: Served, admin: httpx.Client) -> None:
    headers = {"Authorization": admin.headers["Authorization"]}
    for _ in range(2):
        with streams(ledger_server, headers, 2 * MOST + 1) as number:
            assert MOST <= number <= 2 * MOST
        # That somebody has gone is noticed by itself, and no event tells of it.
        until(lambda: all(httpx_status(ledger_server, headers) == 200 for _ in range(10)))


def httpx_status(server: Served, headers: dict[str, str]) -> int:
    with server.client() as http:
        return http.get(FEED, params={"after": "now"}, headers=headers).status_code


def test_nobody_asks_the_database_where_nobody_listens(own_ledger: Served) -> None:
    """By the scans of the index that the head is found with. Without other requests, over some seconds."""

    def looks(seconds: float) -> float:
        before = scans()
        time.sleep(seconds)
        return (scans() - before) / seconds

    def scans() -> int:
        time.sleep(1.2)  # a backend tells what it has counted once a second
        with psycopg.connect(own_ledger.owner) as connection:
            row = connection.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'batches_pkey'").fetchone()
        assert row is not None
        return int(row[0])

    assert looks(3) < 3  # housekeeping
    with own_ledger.admin() as admin:
        headers = {"Authorization": admin.headers["Authorization"]}
        with streams(own_ledger, headers, 20) as number:
            assert number == 20
            # Twenty a second in each of the two workers; and the standing of twenty tokens, many in one query.
            assert 10 < looks(4) < 70


def test_a_server_that_is_told_to_stop_ends_what_goes_on_for_long(own_ledger: Served) -> None:
    with own_ledger.admin() as admin, own_ledger.admin() as other, ThreadPoolExecutor(1) as waiting:
        after = now(admin)
        with stream(admin, after=after) as blocks:
            first = next(blocks)
            answer = waiting.submit(other.get, FEED, params={"after": after, "wait": 30})
            time.sleep(0.3)
            began = time.monotonic()
            own_ledger.process.send_signal(signal.SIGTERM)
            assert list(blocks) == []
            assert ok(answer.result(10)) == {"events": [], "cursor": first.cursor, "more": False}
            own_ledger.process.wait(10)
            assert time.monotonic() - began < 5


def test_a_stream_outlives_lost_connections_of_the_database(own_ledger: Served) -> None:
    with own_ledger.admin() as listening, own_ledger.admin() as admin, stream(listening, after="now") as blocks:
        next(blocks)
        with psycopg.connect(own_ledger.owner, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'feed'")
        person = new_person(admin)
        heard = next_event(blocks)
        while heard.event is not None and heard.event["stream"] != person.subject_id:
            heard = next_event(blocks)


def test_concurrent_subscribers_each_hear_everything_in_order(ledger_server: Served, admin: httpx.Client) -> None:
    after, heard = now(admin), [list[int]() for _ in range(3)]
    last = threading.Event()
    ends_at: list[int] = []

    def listen(number: int) -> None:
        with ledger_server.client() as http:
            http.headers["Authorization"] = admin.headers["Authorization"]
            with stream(http, after=after) as blocks:
                for block in blocks:
                    if block.event is not None:
                        heard[number].append(block.event["position"])
                        if last.is_set() and block.event["position"] >= ends_at[0]:
                            return

    with ThreadPoolExecutor(3) as threads:
        listening = [threads.submit(listen, number) for number in range(3)]
        for _ in range(10):
            new_person(admin)
        new_api(admin, {"reader": ["allow GET /orders/**"]})
        ends_at.append(ok(admin.get("/readyz"))["position"] + 1)
        last.set()
        new_person(admin)
        for each in listening:
            each.result(20)
    for positions in heard:
        assert positions == list(range(positions[0], positions[0] + len(positions)))
        assert positions[-1] >= ends_at[0]
    assert len({positions[0] for positions in heard}) == 1
