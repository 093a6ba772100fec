"""The guard that keeps yeses and follows the feed: what takes one away is heard; in doubt the ledger is asked, or none passes.

Most of it asks the guard itself, as its middlewares do; what they do with the answer is shown in test_guard.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.events import EVENT_TYPES
from ledger.jose import SigningKey
from tests.between import Between, between
from tests.calls import App, bearer, login, new_api, new_client, new_person, ok, unique
from tests.guarded import client
from tests.guarded_processes import in_processes
from tests.serving import NO_TLS, Served
from tests.test_cascade import EVENTS, EXPECTED, Subject
from token_ledger_guard import Guard, Identity
from token_ledger_guard.answers import Answer, Basis, Question
from token_ledger_guard.kept import HARMLESS, OF_ONE_SUBJECT, Kept
from token_ledger_guard.keys import LEEWAY_SECONDS, Keys
from token_ledger_guard.refusals import FORBIDDEN, INVALID_TOKEN, UNAVAILABLE, Refusal
from token_ledger_guard.requests import Request

PATH: Final = "/orders/7"
PATIENCE_SECONDS: Final = 20.0
STATUS: Final = {"200": None, "401": INVALID_TOKEN, "403": FORBIDDEN}


# -------------------------------------------------------------------------------------------------------- a guard, and people


@pytest.fixture(scope="module")
def listener(ledger_server: Served) -> str:
    """Give the name of a role that may hear the feed and nothing else, as docs/feed.md makes it."""
    with ledger_server.admin() as admin:
        role = unique("listener")
        ok(admin.post("/v1/apis/ledger/roles", json={"name": role}), 201)
        ok(admin.post(f"/v1/apis/ledger/roles/{role}/rules", json={"rules": ["allow GET /v1/feed"]}))
    return f"ledger:{role}"


def new_asker(admin: httpx.Client, api: str, listener: str) -> App:
    """Register the client of a guard that follows: it serves the API, and may hear the feed."""
    asker = new_client(admin, f"{api}-guard", serves=api, grants=["client_credentials"], apis=["ledger"])
    ok(admin.post(f"/v1/subjects/{asker.subject_id}/roles", json={"roles": [listener]}))
    return asker


@pytest.fixture
def subject(admin: httpx.Client, http: httpx.Client, listener: str) -> Subject:
    """Give somebody with a JWT for an API of its own, as test_cascade.py has them."""
    api = new_api(admin, {"reader": ["allow GET /orders/** clearance 2"]})
    person = new_person(admin, f"{api}:reader", clearance=5)
    settings: dict[str, Any] = {"strategy": "jwt", "refresh": "rotating", "retry_window_seconds": 0, "apis": [api, "ledger"]}
    app = new_client(admin, grants=["password", "refresh_token"], **settings)
    before = str(ok(http.get("/readyz"))["instant"])
    tokens = ok(http.post("/login", json={"username": person.username, "password": person.password}, auth=app.auth))
    return Subject(admin, http, api, new_asker(admin, api, listener), app, person, tokens, "jwt", before)


def new_guard(ledger: str, s: Subject, **settings: Any) -> Guard:
    arguments: dict[str, Any] = {"mode": "verify", "audience": s.api, "issuer": str(s.http.base_url), "tls": NO_TLS} | settings
    return Guard(ledger, client=s.asker.name, secret=s.asker.secret or "", **arguments)


@contextmanager
def guarding(ledger: str, s: Subject, **settings: Any) -> Iterator[Guard]:
    guard = new_guard(ledger, s, **settings)
    try:
        yield guard
    finally:
        guard.close()


@pytest.fixture
def guard(ledger_server: Served, subject: Subject) -> Iterator[Guard]:
    with guarding(ledger_server.url, subject) as guard:
        yield guard


def decide(guard: Guard, token: str, path: str = PATH) -> Identity | Refusal | None:
    return guard.decide(Request("GET", path, f"Bearer {token}", False))


def known(guard: Guard, token: str, path: str = PATH) -> Identity | None:
    """Answer the yes that counts without asking."""
    assert guard._following is not None
    return guard._following.find(guard._key(Question(token, "GET", path)))


def until(said: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not said():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def until_kept(guard: Guard, token: str) -> None:
    until(lambda: isinstance(decide(guard, token), Identity) and known(guard, token) is not None, "no yes is kept")


# ------------------------------------------------------------------------------------------------- what takes a yes away


def own_rule(s: Subject, effect: str) -> int:
    rule = {"api": s.api, "effect": effect, "methods": ["GET"], "path": PATH}
    return s.manage(f"/v1/subjects/{s.person.subject_id}/rules", rules=[rule])


def deny_of_another_role(s: Subject) -> int:
    ok(s.admin.post(f"/v1/apis/{s.api}/roles", json={"name": "barred"}), 201)
    ok(s.admin.post(f"/v1/apis/{s.api}/roles/barred/rules", json={"rules": [f"deny GET {PATH}"]}))
    return s.manage(f"/v1/subjects/{s.person.subject_id}/roles", roles=[f"{s.api}:barred"])


# Besides what stops a token (test_cascade.py): what stops its API, and what else changes a decision.
MORE: Final[dict[str, tuple[str, Callable[[Subject], int | None]]]] = {
    "API suspended": ("401", lambda s: s.manage(f"/v1/apis/{s.api}/suspend", reason="looked into")),
    "all tokens of the API revoked": ("401", lambda s: s.manage(f"/v1/apis/{s.api}/revoke-tokens")),
    "role removed": ("403", lambda s: s.manage(f"/v1/apis/{s.api}/roles/reader", "DELETE")),
    "deny added to a role": ("403", lambda s: s.manage(f"/v1/apis/{s.api}/roles/reader/rules", rules=[f"deny GET {PATH}"])),
    "deny of another role": ("403", deny_of_another_role),
    "deny of its own": ("403", lambda s: own_rule(s, "deny")),
}
DEEDS: Final = {event: (EXPECTED[event, "jwt"]["gateway"], deed) for event, deed in EVENTS.items()} | MORE


@pytest.mark.parametrize("event", DEEDS)
def test_whatever_makes_a_no_of_a_yes_is_heard(event: str, guard: Guard, subject: Subject) -> None:
    status, deed = DEEDS[event]
    until_kept(guard, subject.text)
    deed(subject)
    if status == "200":
        assert isinstance(decide(guard, subject.text), Identity)
    else:
        # A yes that is not taken away counts for as long as the token lives.
        until(lambda: not isinstance(decide(guard, subject.text), Identity), "it is not heard")
        assert decide(guard, subject.text) == STATUS[status]


def test_a_token_that_was_revoked_before_the_guard_began_is_refused(
    ledger_server: Served, guard: Guard, subject: Subject
) -> None:
    subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
    assert decide(guard, subject.text) == INVALID_TOKEN


def test_who_is_let_in_again_is_let_in_at_once(guard: Guard, subject: Subject) -> None:
    until_kept(guard, subject.text)
    subject.manage(f"/v1/tokens/{subject.token_id}/suspend", reason="looked into")
    until(lambda: decide(guard, subject.text) == INVALID_TOKEN, "it is not heard")
    subject.manage(f"/v1/tokens/{subject.token_id}/reinstate")
    assert isinstance(decide(guard, subject.text), Identity)


def test_what_happens_to_one_takes_nothing_from_others(guard: Guard, subject: Subject) -> None:
    other = new_person(subject.admin, f"{subject.api}:reader", clearance=5)
    credentials = {"username": other.username, "password": other.password}
    tokens = ok(subject.http.post("/login", json=credentials, auth=subject.app.auth))
    until_kept(guard, subject.text)
    until_kept(guard, tokens["access_token"])
    subject.manage(f"/v1/tokens/{tokens['token_id']}/revoke")
    until(lambda: decide(guard, tokens["access_token"]) == INVALID_TOKEN, "it is not heard")
    assert known(guard, subject.text) is not None


def test_a_yes_is_for_this_method_and_this_path_alone(guard: Guard, subject: Subject) -> None:
    until_kept(guard, subject.text)
    assert known(guard, subject.text, "/orders/8") is None
    assert decide(guard, subject.text, "/elsewhere") == FORBIDDEN
    assert guard.decide(Request("POST", PATH, f"Bearer {subject.text}", False)) == FORBIDDEN


def test_where_the_application_decides_one_yes_is_for_the_token(ledger_server: Served, subject: Subject) -> None:
    with guarding(ledger_server.url, subject, decides="application") as guard:
        until_kept(guard, subject.text)
        assert known(guard, subject.text, "/elsewhere") is not None
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        until(lambda: decide(guard, subject.text, "/elsewhere") == INVALID_TOKEN, "it is not heard")


# ------------------------------------------------------------------------------------------------------- in doubt


@pytest.fixture
def way(ledger_server: Served) -> Iterator[Between]:
    with between(ledger_server.url) as way:
        yield way


def test_without_the_ledger_a_yes_counts_up_to_the_bound_and_then_nobody_passes(way: Between, subject: Subject) -> None:
    with guarding(way.url, subject, max_staleness_seconds=1.0, timeout_seconds=0.2) as guard:
        until_kept(guard, subject.text)
        began = time.monotonic()
        way.hold_up()
        assert isinstance(decide(guard, subject.text), Identity)
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        until(lambda: decide(guard, subject.text) == UNAVAILABLE, "the bound is none")
        assert time.monotonic() > began + 0.5
        assert decide(guard, subject.text) == UNAVAILABLE
        # What waited is told at once when the way is free; no proof of before counts then.
        way.go_on()
        until(lambda: decide(guard, subject.text) == INVALID_TOKEN, "the ledger is not asked again")


def test_with_the_feed_alone_held_up_the_ledger_is_asked_about_each_request(way: Between, subject: Subject) -> None:
    with guarding(way.url, subject, max_staleness_seconds=0.5) as guard:
        until_kept(guard, subject.text)
        way.hold_up(feed_alone=True)
        subject.manage(f"/v1/subjects/{subject.person.subject_id}/clearance", "PUT", clearance=4)
        until(lambda: known(guard, subject.text) is None, "it counts without being heard of")
        assert isinstance(decide(guard, subject.text), Identity)
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        assert decide(guard, subject.text) == INVALID_TOKEN
        assert len(guard._following.kept) == 0  # type: ignore[union-attr] # whatever the feed tells first, it is no more
        way.go_on()
        until(lambda: (guard.staleness_seconds() or 0.0) < 0.5, "the feed is not heard again")


def test_a_broken_connection_loses_nothing(way: Between, subject: Subject) -> None:
    with guarding(way.url, subject) as guard:
        until_kept(guard, subject.text)
        way.hold_up(feed_alone=True)
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        way.break_off()
        way.go_on()
        until(lambda: decide(guard, subject.text) == INVALID_TOKEN, "it was lost with the connection")


def test_who_may_not_hear_the_feed_asks_about_each_request(ledger_server: Served, subject: Subject) -> None:
    deaf = new_client(subject.admin, serves=subject.api, grants=["client_credentials"], apis=["ledger"])
    with guarding(ledger_server.url, replace(subject, asker=deaf)) as guard:
        assert isinstance(decide(guard, subject.text), Identity)
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        assert decide(guard, subject.text) == INVALID_TOKEN


def test_a_guard_that_is_not_taken_any_more_lets_nobody_pass_past_the_bound(ledger_server: Served, subject: Subject) -> None:
    with guarding(ledger_server.url, subject, max_staleness_seconds=0.5) as guard:
        until_kept(guard, subject.text)
        subject.manage(f"/v1/clients/{subject.asker.name}/suspend", reason="looked into")
        until(lambda: decide(guard, subject.text) == UNAVAILABLE, "it is still taken")


def test_a_closed_guard_knows_nothing_and_begins_anew(guard: Guard, subject: Subject) -> None:
    until_kept(guard, subject.text)
    guard.close()
    assert len(guard._following.kept) == 0  # type: ignore[union-attr]
    until_kept(guard, subject.text)


# ------------------------------------------------------------------------------------------------------------- JWTs, here


def test_what_is_certainly_no_token_is_refused_without_asking(way: Between, subject: Subject) -> None:
    elsewhere = new_api(subject.admin, {}, "elsewhere")
    other = new_client(subject.admin, kind="public", grants=["password"], strategy="jwt", refresh="off", apis=[elsewhere])
    foreign = login(subject.http, subject.person, other)["access_token"]
    header, payload, signature = subject.text.split(".")
    forged = ".".join([header, payload, signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")])
    with guarding(way.url, subject, timeout_seconds=0.5) as guard:
        until_kept(guard, subject.text)
        until(lambda: guard._following is not None and guard._following.refuse(forged), "no keys were fetched")
        way.hold_up()
        for text in (forged, foreign, f"{header}.{payload}.", f".{payload}.{signature}", "a.b.c"):
            assert decide(guard, text) == INVALID_TOKEN
        assert decide(guard, "tl_at_whatever") == UNAVAILABLE


class Maker:
    """Makes tokens as the ledger does, and others."""

    def __init__(self) -> None:
        self.key = SigningKey.generate(UUID(int=7), "EdDSA")
        self.keys = Keys("https://ledger.example", "orders")
        self.keys.take({"keys": [self.key.public_jwk()]})

    def refuses(self, header: dict[str, Any] | None = None, key: Any = None, algorithm: str = "EdDSA", **claims: Any) -> bool:
        at = int(time.time())
        whole = {
            "iss": "https://ledger.example",
            "aud": ["orders"],
            "sub": "s",
            "client_id": "c",
            "jti": "j",
            "iat": at,
            "exp": at + 60,
        } | claims
        said = {name: value for name, value in whole.items() if value is not None}
        headers = {"typ": "at+jwt", "kid": str(self.key.key_id)} | (header or {})
        signed_with = "" if algorithm == "none" else key or self.key.private
        return self.keys.refuse(jwt.encode(said, signed_with, algorithm=algorithm, headers=headers))


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


def test_a_token_of_the_ledger_is_not_refused_nor_one_that_cannot_be_judged_here(maker: Maker) -> None:
    assert not maker.refuses()
    assert not maker.refuses(aud=["other", "orders"])
    assert not maker.refuses(exp=int(time.time()) - LEEWAY_SECONDS + 10)
    assert not maker.keys.refuse("tl_at_opaque")
    maker.keys.wanted = False
    assert not maker.refuses({"kid": str(UUID(int=1))})  # made with a newer key, perhaps: the ledger knows
    assert maker.keys.wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": Ed25519PrivateKey.generate()},
        {"algorithm": "HS256", "key": "a secret of thirty-two characters"},
        {"algorithm": "none"},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": "at+jwt", "crit": ["exp"], "exp": 1}},
        {"iss": "https://elsewhere.example"},
        {"aud": ["others"]},
        {"exp": int(time.time()) - LEEWAY_SECONDS - 1},
        {"exp": "soon"},
        {"iat": int(time.time()) + 3_600},
        {"nbf": int(time.time()) + 3_600},
        *({claim: None} for claim in ("iss", "aud", "sub", "client_id", "jti", "iat", "exp")),
    ],
    ids=lambda wrong: " ".join(
        f"{name}" if name in ("key", "exp", "nbf", "iat") else f"{name} {value}" for name, value in wrong.items()
    ),
)
def test_a_token_that_rfc_9068_section_4_refuses_is_refused(maker: Maker, wrong: dict[str, Any]) -> None:
    assert maker.refuses(**wrong)


# -------------------------------------------------------------------------------------------- what is kept: rules alone

BASIS: Final = Basis("log", 1)


def answer(position: int, subject_id: str = "ann", basis: Basis = BASIS, lives_seconds: float = 600.0) -> Answer:
    return Answer(True, Identity(subject_id, "app", "token", (), None, position), lives_seconds, position, basis)


def event(position: int, kind: str = "token_issued", **payload: Any) -> dict[str, Any]:
    return {"position": position, "type": kind, "payload": payload}


def at(seconds_ago: float = 0.0) -> float:
    from token_ledger_guard.clock import now

    return now() - seconds_ago


def begin(kept: Kept) -> int:
    session = kept.begin(answer(10), at(60))
    kept.listen(session, listening=True)
    return session


@pytest.fixture
def kept() -> Kept:
    return Kept(max_kept=3, max_staleness_seconds=5.0)


def test_nothing_is_kept_before_the_feed_is_heard_and_nothing_counts_before_it_is_proved(kept: Kept) -> None:
    kept.keep(b"1", answer(10), at())
    assert len(kept) == 0
    session = begin(kept)
    kept.keep(b"1", answer(10), at())
    assert kept.find(b"1") is None
    kept.prove(answer(11), at())
    assert kept.find(b"1") is None  # 11 is unheard
    kept.hear(session, event(11))
    assert kept.find(b"1") is not None


def test_no_yes_counts_while_the_feed_is_not_heard(kept: Kept) -> None:
    session = begin(kept)
    kept.prove(answer(10), at())
    kept.keep(b"1", answer(10), at())
    kept.listen(session, listening=False)
    assert kept.find(b"1") is None
    kept.listen(session, listening=True)  # it goes on from where it was heard
    assert kept.find(b"1") is not None


def test_a_proof_counts_from_when_it_was_asked_for(kept: Kept) -> None:
    begin(kept)
    kept.keep(b"1", answer(10), at())
    kept.prove(answer(10), at(5.1))
    assert kept.find(b"1") is None
    kept.prove(answer(10), at(4.0))
    assert kept.find(b"1") is not None
    kept.prove(answer(10), at(4.9))  # an answer that came late
    assert 3.9 < kept.staleness_seconds() < 4.8


def test_a_yes_that_was_given_before_something_was_taken_away_is_not_kept(kept: Kept) -> None:
    session = begin(kept)
    kept.prove(answer(10), at())
    kept.hear(session, event(11, "token_revoked", subject_id="ann"))
    kept.keep(b"1", answer(10), at())
    assert kept.find(b"1") is None
    kept.keep(b"1", answer(11), at())
    assert kept.find(b"1") is not None
    kept.hear(session, event(12))
    kept.keep(b"2", answer(11), at())
    assert kept.find(b"2") is not None


def test_a_yes_that_is_newer_than_what_is_heard_is_kept_and_taken_by_what_comes_later(kept: Kept) -> None:
    session = begin(kept)
    kept.keep(b"1", answer(12), at())
    kept.prove(answer(12), at())
    kept.hear(session, event(11))
    kept.hear(session, event(12))
    assert kept.find(b"1") is not None
    kept.hear(session, event(13, "family_revoked", subject_id="ann"))
    assert kept.find(b"1") is None


@pytest.mark.parametrize("kind", ["role_rules_granted", "client_suspended", "api_changed", "log_opened", "never_heard_of"])
def test_what_is_of_more_than_one_or_not_known_takes_everything(kept: Kept, kind: str) -> None:
    session = begin(kept)
    kept.prove(answer(10), at())
    for key, who in ((b"1", "ann"), (b"2", "bob")):
        kept.keep(key, answer(10, who), at())
    kept.hear(session, event(11, kind, subject_id="ann"))
    assert (kept.find(b"1"), kept.find(b"2"), len(kept)) == (None, None, 0)


def test_a_hole_in_the_feed_ends_what_is_known(kept: Kept) -> None:
    session = begin(kept)
    kept.prove(answer(10), at())
    kept.keep(b"1", answer(10), at())
    kept.hear(session, event(9, "never_heard_of"))  # told again
    assert kept.find(b"1") is not None
    kept.hear(session, event(12))
    assert kept.find(b"1") is None
    assert not kept.is_heard(session)


@pytest.mark.parametrize("other", [Basis("another log", 1), Basis("log", 2)])
@pytest.mark.parametrize("how", ["keep", "prove"])
def test_an_answer_of_another_log_or_by_other_semantics_ends_what_is_known(kept: Kept, other: Basis, how: str) -> None:
    session = begin(kept)
    kept.prove(answer(10), at())
    kept.keep(b"1", answer(10), at())
    if how == "keep":
        kept.keep(b"2", answer(10, basis=other), at())
    else:
        kept.prove(answer(10, basis=other), at())
    assert (len(kept), kept.find(b"1"), kept.is_heard(session)) == (0, None, False)


def test_a_yes_ends_with_its_token_and_the_one_used_longest_ago_makes_room(kept: Kept) -> None:
    begin(kept)
    kept.prove(answer(10), at())
    kept.keep(b"1", answer(10, lives_seconds=1.0), at(1.0))
    assert (kept.find(b"1"), len(kept)) == (None, 0)
    for key in (b"1", b"2", b"3"):
        kept.keep(key, answer(10), at())
    assert kept.find(b"1") is not None
    kept.keep(b"4", answer(10, "bob"), at())
    assert [kept.find(key) is not None for key in (b"1", b"2", b"3", b"4")] == [True, False, True, True]


def test_what_is_taken_as_of_one_subject_says_whose_it_is_and_what_is_harmless_changes_no_token_that_is_there() -> None:
    assert HARMLESS.isdisjoint(OF_ONE_SUBJECT)
    assert EVENT_TYPES.keys() >= HARMLESS | OF_ONE_SUBJECT
    for kind in OF_ONE_SUBJECT:
        assert "subject_id" in EVENT_TYPES[kind].__dataclass_fields__


# ---------------------------------------------------------------------------------------------------------- real deployments


def test_a_revocation_reaches_every_worker(ledger_server: Served, subject: Subject) -> None:
    environment = {
        "GUARD_LEDGER": ledger_server.url,
        "GUARD_CLIENT": subject.asker.name,
        "GUARD_SECRET": subject.asker.secret or "",
        "GUARD_MODE": "verify",
        "GUARD_AUDIENCE": subject.api,
    }
    with in_processes("flask", 2, environment) as url:
        headers = bearer(subject.text)

        def status() -> int:
            with client(url) as front:  # each on a connection of its own
                return front.get(PATH, headers=headers).status_code

        ends_at = time.monotonic() + 1
        while time.monotonic() < ends_at:
            assert status() == 200
        subject.manage(f"/v1/tokens/{subject.token_id}/revoke")
        until(lambda: {status() for _ in range(8)} == {401}, "a worker does not hear it")


def test_the_mode_needs_an_audience_and_no_other_does() -> None:
    for settings in ({"mode": "verify"}, {"audience": "orders"}, {"mode": "guess"}):
        with pytest.raises(ValueError, match="mode"):
            Guard("http://127.0.0.1:1", client="a", secret="b", **settings)  # type: ignore[arg-type]
