"""Every strategy with every kind of refresh: twelve combinations, one life. What differs stands in tables; the tests take no
branch on either.

The clock of the server stands still and is moved, so that every second is exact. Each question is asked of each worker, over
a connection that is known to be with it: a change that was acknowledged is in force for the very next request on both.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet as PublishedKeys

from ledger.jose import JWE_SEGMENTS, KeySet, take_apart, write_encrypted, write_jwe, write_jwt
from ledger.token_strings import checksum, new_secret, write
from tests.calls import (
    PASSWORD,
    App,
    Person,
    bearer,
    evaluate,
    first_party,
    gateway,
    introspect,
    login,
    new_api,
    new_person,
    nothing_recorded,
    ok,
    refresh,
    refused,
    resource_server,
)
from tests.conftest import Clock
from tests.forging import claims_of, decoded, readings_of, stolen_keys
from tests.serving import Served

STRATEGIES = ("opaque", "encrypted", "jwt", "jwe")
RETRY_SECONDS = 30
ACCESS_SECONDS = 600
IDLE_SECONDS = 3_600
ABSOLUTE_SECONDS = 7_200

# ------------------------------------------------------------------------------------------------------------ the tables


@dataclass(frozen=True)
class Shape:
    """How a string of a strategy looks from outside."""

    prefix: str
    dots: int


SHAPES = {
    "opaque": Shape("tl_at_", 0),
    "encrypted": Shape("tl_at_eyJ", 4),
    "jwt": Shape("eyJ", 2),
    "jwe": Shape("eyJ", 4),
}


@dataclass(frozen=True)
class Refreshing:
    """What presenting refresh tokens comes to. An outcome is 200, or the error of RFC 6749."""

    given: bool  # whether there is a refresh token at all
    use: int | str  # of one that may be used
    rotates: bool  # whether its use gives another
    retry_is_same: bool  # whether presenting it again at once gives the same access token again
    retry_records: bool
    reuse: int | str  # of one whose successor was used
    reuse_events: int  # recorded by it
    after_reuse: str  # what the running access token is then
    use_after_reuse: int | str  # of the successor
    stopped: int | str  # while the family, the subject or the cut-off is against it
    past_idle: int | str  # a second before it was idle too long, after that


REFRESHING = {
    "off": Refreshing(
        given=False,
        use="unauthorized_client",
        rotates=False,
        retry_is_same=False,
        retry_records=False,
        reuse="unauthorized_client",
        reuse_events=0,
        after_reuse="allowed",
        use_after_reuse="unauthorized_client",
        stopped="unauthorized_client",
        past_idle="unauthorized_client",
    ),
    "reusable": Refreshing(
        given=True,
        use=200,
        rotates=False,
        retry_is_same=False,
        retry_records=True,
        reuse=200,
        reuse_events=0,
        after_reuse="allowed",
        use_after_reuse=200,
        stopped="invalid_grant",
        past_idle=200,
    ),
    "rotating": Refreshing(
        given=True,
        use=200,
        rotates=True,
        retry_is_same=True,
        retry_records=False,
        reuse="invalid_grant",
        reuse_events=1,
        after_reuse="family_revoked",
        use_after_reuse="invalid_grant",
        stopped="invalid_grant",
        past_idle=200,
    ),
}

each_combination = pytest.mark.parametrize(
    ("strategy", "kind"), [(strategy, kind) for strategy in STRATEGIES for kind in REFRESHING]
)
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)

# --------------------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class Life:
    """A person who logs in through an app of one combination, and everybody who asks about its tokens."""

    shape: Shape
    expected: Refreshing
    api: str
    asker: App
    app: App
    person: Person
    admin: httpx.Client
    workers: list[httpx.Client]
    clock: Clock

    def login(self) -> dict[str, Any]:
        """Log in."""
        return login(self.workers[0], self.person, self.app)

    def reason(self, token: dict[str, Any]) -> str:
        """Answer what the token is: the reason of its decision, which every worker and every endpoint must agree on."""
        reasons = set()
        for worker in self.workers:
            decision = evaluate(worker, self.asker, token["access_token"])
            reasons.add(decision["context"]["reason"])
            assert decision["decision"] is (decision["context"]["reason"] == "allowed")
            assert introspect(worker, self.asker, token["access_token"])["active"] is decision["decision"]
            nginx = gateway(worker, self.asker, token["access_token"])
            assert nginx.status_code == (200 if decision["decision"] else 401)
            assert nginx.headers["ledger-reason"] in reasons
        (reason,) = reasons
        return str(reason)

    def refresh(self, token: dict[str, Any], number: int = 0) -> tuple[int | str, dict[str, Any]]:
        """Present the refresh token of an answer to a worker; answer the outcome, and the answer laid over the old one."""
        answer = refresh(self.workers[number % len(self.workers)], self.app, token.get("refresh_token", "none"))
        body = answer.json()
        return body.get("error", answer.status_code), token | body

    def refreshed(self, token: dict[str, Any], expected: int | str) -> None:
        """Check the outcome of presenting the refresh token on every worker, where nothing may be recorded."""
        for number in range(len(self.workers)):
            with nothing_recorded(self.workers[number]):
                assert self.refresh(token, number)[0] == expected

    def events(self, token: dict[str, Any], *types: str) -> list[dict[str, Any]]:
        """Answer the events of these types about the token's family, oldest first."""
        with_admin = {"family_id": token["family_id"], "order": "oldest"}
        found: list[dict[str, Any]] = []
        for type_ in types:
            found += ok(self.admin.get("/v1/audit/events", params=with_admin | {"type": type_}))["events"]
        return found

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Have the administrator do something, and answer what it was answered with."""
        return ok(self.admin.post(path, json=body))

    def now(self) -> datetime:
        """Answer the server's instant."""
        return datetime.fromisoformat(ok(self.workers[0].get("/readyz"))["instant"])


@pytest.fixture(scope="module")
def stopped_clock(ledger_server: Served, server_clock: Clock) -> Clock:
    """The server's clock, standing still at a full second from now on."""
    with ledger_server.client() as http:
        server_clock.set(datetime.fromisoformat(ok(http.get("/readyz"))["instant"]).replace(microsecond=0))
    return server_clock


@pytest.fixture
def begin(ledger_server: Served, each_worker: list[httpx.Client], stopped_clock: Clock) -> Iterator[Callable[[str, str], Life]]:
    """Make the world of one combination."""
    # Before the test's own people, and after the clock was moved by other tests: this token is of now.
    with ledger_server.admin() as admin:

        def begun(strategy: str, kind: str) -> Life:
            api = new_api(admin, {"reader": ["allow GET /orders/**"]})
            lifetimes = {"refresh_idle_seconds": IDLE_SECONDS, "refresh_absolute_seconds": ABSOLUTE_SECONDS}
            app = first_party(admin, api, strategy=strategy, refresh=kind, **lifetimes)
            person = new_person(admin, f"{api}:reader")
            asker = resource_server(admin, api)
            return Life(SHAPES[strategy], REFRESHING[kind], api, asker, app, person, admin, each_worker, stopped_clock)

        yield begun


# -------------------------------------------------------------------------------------------------------------- one life


@each_combination
def test_a_token_lives_and_dies_the_same_whatever_its_strategy(
    begin: Callable[[str, str], Life], strategy: str, kind: str
) -> None:
    life = begin(strategy, kind)
    shape, expected = life.shape, life.expected

    # Login, and use.
    first = life.login()
    assert first["access_token"].startswith(shape.prefix)
    assert first["access_token"].count(".") == shape.dots
    assert ("refresh_token" in first) is expected.given
    assert (first["token_type"], first["expires_in"]) == ("Bearer", ACCESS_SECONDS)
    assert life.reason(first) == "allowed"
    assert introspect(life.workers[0], life.asker, first["access_token"])["strategy"] == strategy

    # Refresh: the new token works, and the running one lives on.
    outcome, second = life.refresh(first)
    assert outcome == expected.use
    assert (second.get("refresh_token") != first.get("refresh_token")) is expected.rotates
    assert life.reason(first) == life.reason(second) == "allowed"

    # Retry, on the other worker: the answer was lost.
    before = ok(life.workers[0].get("/readyz"))["position"]
    outcome, again = life.refresh(first, 1)
    assert outcome == expected.use
    assert (again["token_id"] == second["token_id"] != first["token_id"]) is expected.retry_is_same
    assert (again.get("refresh_token") == second.get("refresh_token")) is True
    assert (ok(life.workers[0].get("/readyz"))["position"] > before) is expected.retry_records
    assert life.reason(again) == life.reason(second) == "allowed"
    assert claims_like(life, again) == claims_like(life, second) | {"jti": again["token_id"]}

    # Rotate once more; then the first one is presented again, not as a retry.
    outcome, third = life.refresh(second)
    assert outcome == expected.use
    assert life.reason(third) == "allowed"
    life.clock.advance(1)
    outcome, _ = life.refresh(first)
    assert outcome == expected.reuse
    assert {life.reason(token) for token in (first, second, third)} == {expected.after_reuse}
    reused = life.events(first, "reuse_detected")
    assert len(reused) == expected.reuse_events
    for event in reused:
        assert evidence(event) == {"generation_presented": 1, "generation_current": 3, "seconds_since_rotation": 1}
    outcome, _ = life.refresh(third)
    assert outcome == expected.use_after_reuse
    assert len(life.events(first, "reuse_detected")) == expected.reuse_events

    # Suspend one token, reinstate it, revoke it.
    token = life.login()
    at = f"/v1/tokens/{token['token_id']}"
    life.post(f"{at}/suspend", reason="looked into")
    assert life.reason(token) == "token_suspended"
    life.post(f"{at}/reinstate")
    assert life.reason(token) == "allowed"
    life.post(f"{at}/revoke", reason="lost")
    assert life.reason(token) == "token_revoked"
    with nothing_recorded(life.workers[0]):
        life.post(f"{at}/revoke", reason="lost again")
        refused(life.admin.post(f"{at}/reinstate"), 409, "token_revoked")
    assert life.refresh(token)[0] == expected.use  # its family stands

    # A suspension up to an instant is over at that instant.
    token = life.login()
    until = life.now().timestamp() + 60
    life.post(f"/v1/families/{token['family_id']}/suspend", reason="for a minute", until=instant(until))
    for at_second, reason in ((until - 1, "family_suspended"), (until, "allowed"), (until + 1, "allowed")):
        life.clock.set(datetime.fromtimestamp(at_second, UTC))
        assert life.reason(token) == reason

    # The family: suspended, reinstated, revoked.
    at = f"/v1/families/{token['family_id']}"
    life.post(f"{at}/suspend", reason="looked into")
    assert life.reason(token) == "family_suspended"
    life.refreshed(token, expected.stopped)
    life.post(f"{at}/reinstate")
    assert life.reason(token) == "allowed"
    outcome, following = life.refresh(token)
    assert outcome == expected.use
    life.post(f"{at}/revoke", reason="lost")
    assert life.reason(token) == life.reason(following) == "family_revoked"
    life.refreshed(following, expected.stopped)

    # Expire: the access token, to the second.
    token = life.login()
    expires_at = introspect(life.workers[0], life.asker, token["access_token"])["exp"]
    assert expires_at == life.now().timestamp() + ACCESS_SECONDS
    for at_second, reason in ((expires_at - 1, "allowed"), (expires_at, "token_expired"), (expires_at + 1, "token_expired")):
        life.clock.set(datetime.fromtimestamp(at_second, UTC))
        assert life.reason(token) == reason
    outcome, following = life.refresh(token)
    assert outcome == expected.use

    # The refresh token, idle; and its family, at the absolute end.
    life.clock.set(datetime.fromtimestamp(expires_at - ACCESS_SECONDS + IDLE_SECONDS - 1, UTC))
    outcome, following = life.refresh(following)
    assert outcome == expected.use
    life.clock.advance(1)
    assert life.refresh(following)[0] == expected.past_idle


def claims_like(life: Life, token: dict[str, Any]) -> dict[str, Any]:
    """Answer what introspection says a token stands for, but for where and when it was asked."""
    seen = introspect(life.workers[0], life.asker, token["access_token"])
    return {name: value for name, value in seen.items() if name not in ("position", "instant")}


def evidence(event: dict[str, Any]) -> dict[str, Any]:
    """Answer what an event of reuse proves."""
    names = ("generation_presented", "generation_current", "seconds_since_rotation")
    return {name: event["payload"][name] for name in names}


def instant(seconds: float) -> str:
    """Write an instant as the API reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


# ------------------------------------------------------------------------------------------------- everything of somebody


@dataclass(frozen=True)
class Stop:
    """What an administrator does to stop tokens, what they and their refresh tokens are then, and what starts them again."""

    path: str
    reason: str
    refreshing: Callable[[Refreshing], int | str]
    start: str
    after: str  # what a token from before is after that


STOPS = {
    "subject suspended": Stop(
        "/v1/subjects/{subject}/suspend",
        "subject_suspended",
        lambda expected: expected.stopped,
        "/v1/subjects/{subject}/reinstate",
        "allowed",
    ),
    "client suspended": Stop(
        "/v1/clients/{client}/suspend",
        "client_suspended",
        lambda _: "invalid_client",
        "/v1/clients/{client}/reinstate",
        "allowed",
    ),
    # Of an API only its decisions stop: sessions go on, for its sake or that of others.
    "api suspended": Stop(
        "/v1/apis/{api}/suspend",
        "api_suspended",
        lambda expected: expected.use,
        "/v1/apis/{api}/reinstate",
        "allowed",
    ),
    # For good: nothing that is reinstated brings them back.
    "all of the subject": Stop(
        "/v1/subjects/{subject}/revoke-tokens",
        "tokens_revoked_before",
        lambda expected: expected.stopped,
        "/v1/subjects/{subject}/reinstate",
        "tokens_revoked_before",
    ),
    "all of the client": Stop(
        "/v1/clients/{client}/revoke-tokens",
        "tokens_revoked_before",
        lambda expected: expected.stopped,
        "/v1/clients/{client}/reinstate",
        "tokens_revoked_before",
    ),
    "all of the api": Stop(
        "/v1/apis/{api}/revoke-tokens",
        "tokens_revoked_before",
        lambda expected: expected.stopped,
        "/v1/apis/{api}/reinstate",
        "tokens_revoked_before",
    ),
}
BODIES = {"suspend": {"reason": "looked into"}}


@each_combination
def test_what_stops_a_subject_a_client_or_an_api_stops_its_tokens_on_every_worker_at_once(
    begin: Callable[[str, str], Life], strategy: str, kind: str
) -> None:
    life = begin(strategy, kind)
    names = {"subject": life.person.subject_id, "client": life.app.name, "api": life.api}
    for stop in STOPS.values():
        token = life.login()
        assert life.reason(token) == "allowed"  # what stopped the ones before does not stop a new one
        path = stop.path.format(**names)
        position = life.post(path, **BODIES.get(path.rpartition("/")[2], {}))["position"]
        assert life.reason(token) == stop.reason
        for worker in life.workers:
            assert evaluate(worker, life.asker, token["access_token"])["context"]["position"] >= position
        assert life.refresh(token)[0] == stop.refreshing(life.expected)
        life.post(stop.start.format(**names))
        assert life.reason(token) == stop.after
    assert life.reason(life.login()) == "allowed"


@each_combination
def test_a_changed_password_stops_every_token_of_the_person(
    begin: Callable[[str, str], Life], strategy: str, kind: str
) -> None:
    life = begin(strategy, kind)
    tokens = [life.login(), life.login()]
    at = f"/v1/subjects/{life.person.subject_id}/password"
    ok(life.admin.put(at, json={"password": "another battery horse"}))
    for token in tokens:
        assert life.reason(token) == "tokens_revoked_before"
        life.refreshed(token, life.expected.stopped)
    asked = {"username": life.person.username, "client_id": life.app.name}
    refused(life.workers[1].post("/login", json=asked | {"password": PASSWORD}), 401, "login_refused")
    again = ok(life.workers[1].post("/login", json=asked | {"password": "another battery horse"}))
    assert life.reason(again) == "allowed"


@each_combination
def test_an_erased_person_has_no_token_any_more(begin: Callable[[str, str], Life], strategy: str, kind: str) -> None:
    life = begin(strategy, kind)
    token = life.login()
    life.post(f"/v1/subjects/{life.person.subject_id}/erase", reason="asked for")
    assert life.reason(token) == "subject_erased"
    life.refreshed(token, life.expected.stopped)


# -------------------------------------------------------------------------------------------------- the window, and theft


@each_strategy
def test_a_retry_is_one_until_the_window_closes(begin: Callable[[str, str], Life], strategy: str) -> None:
    life = begin(strategy, "rotating")
    first = life.login()
    _, second = life.refresh(first)
    for seconds in (RETRY_SECONDS - 1, 0):
        life.clock.advance(seconds)
        for number in range(len(life.workers)):
            with nothing_recorded(life.workers[0]):
                outcome, again = life.refresh(first, number)
            assert (outcome, again["token_id"], again["refresh_token"]) == (200, second["token_id"], second["refresh_token"])
            assert life.reason(again) == "allowed"
    life.clock.advance(1)
    assert life.refresh(first)[0] == "invalid_grant"
    (event,) = life.events(first, "reuse_detected")
    assert evidence(event) == {"generation_presented": 1, "generation_current": 2, "seconds_since_rotation": RETRY_SECONDS}
    assert event["payload"]["token_id"] == life.events(first, "token_issued")[0]["payload"]["tokens"][1]["token_id"]
    assert life.reason(second) == "family_revoked"


@each_strategy
def test_a_retry_after_the_client_has_changed_its_strategy_gives_the_token_that_was_issued(
    begin: Callable[[str, str], Life], strategy: str
) -> None:
    life = begin(strategy, "rotating")
    first = life.login()
    _, second = life.refresh(first)
    others = [other for other in STRATEGIES if other != strategy]
    for other in others:
        ok(life.admin.patch(f"/v1/clients/{life.app.name}", json={"strategy": other}))
        outcome, again = life.refresh(first, 1)
        assert (outcome, again["token_id"]) == (200, second["token_id"])
        assert again["access_token"].startswith(life.shape.prefix)
        assert again["access_token"].count(".") == life.shape.dots
        assert life.reason(again) == "allowed"
    _, third = life.refresh(second)
    assert third["access_token"].count(".") == SHAPES[others[-1]].dots
    assert [life.reason(token) for token in (first, second, third)] == ["allowed"] * 3


@each_strategy
def test_without_a_window_the_first_second_use_is_reuse(begin: Callable[[str, str], Life], strategy: str) -> None:
    life = begin(strategy, "rotating")
    ok(life.admin.patch(f"/v1/clients/{life.app.name}", json={"retry_window_seconds": 0}))
    first = life.login()
    _, second = life.refresh(first)
    assert life.refresh(first, 1)[0] == "invalid_grant"
    assert life.reason(first) == life.reason(second) == "family_revoked"
    (event,) = life.events(first, "reuse_detected")
    assert evidence(event)["seconds_since_rotation"] == 0
    assert event["actor"]["id"] == ok(life.admin.get(f"/v1/clients/{life.app.name}"))["client_id"]


@each_strategy
def test_a_family_ends_at_its_absolute_end_however_often_it_is_used(begin: Callable[[str, str], Life], strategy: str) -> None:
    life = begin(strategy, "rotating")
    token = life.login()
    ends_at = life.now().timestamp() + ABSOLUTE_SECONDS
    for seconds in (IDLE_SECONDS - 1, IDLE_SECONDS - 1):
        life.clock.advance(seconds)
        outcome, token = life.refresh(token)
        assert outcome == 200
    # The last access token does not outlive its family.
    assert introspect(life.workers[0], life.asker, token["access_token"])["exp"] == ends_at
    life.clock.set(datetime.fromtimestamp(ends_at - 1, UTC))
    assert life.reason(token) == "allowed"
    life.clock.set(datetime.fromtimestamp(ends_at, UTC))
    assert life.reason(token) == "token_expired"
    life.refreshed(token, "invalid_grant")


# ------------------------------------------------------------------------------------------------------ seen from outside


# joserfc advises the name that RFC 9864 gives to EdDSA with Ed25519; verifiers that know it alone are few yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_a_jwt_is_verified_by_another_library_with_nothing_but_the_published_keys(begin: Callable[[str, str], Life]) -> None:
    life = begin("jwt", "rotating")
    _, token = life.refresh(life.login())
    metadata = ok(life.workers[1].get("/.well-known/oauth-authorization-server"))
    published = PublishedKeys.import_key_set(httpx.get(metadata["jwks_uri"]).json())
    verified = jwt.decode(token["access_token"], published, algorithms=["EdDSA"])
    assert verified.header.keys() == {"alg", "kid", "typ"}
    assert verified.header["typ"] == "at+jwt"
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": metadata["issuer"]},
        aud={"essential": True, "value": life.api},
        sub={"essential": True, "value": life.person.subject_id},
        client_id={"essential": True, "value": life.app.name},
        jti={"essential": True, "value": token["token_id"]},
        exp={"essential": True},
        iat={"essential": True},
        now=lambda: int(life.now().timestamp()),
    ).validate(verified.claims)
    seen = introspect(life.workers[0], life.asker, token["access_token"])
    assert verified.claims == {name: seen[name] for name in verified.claims}


@pytest.mark.parametrize("strategy", ["encrypted", "jwe"])
def test_of_an_encrypted_token_nothing_can_be_read_but_which_key_it_was_made_with(
    begin: Callable[[str, str], Life], strategy: str
) -> None:
    life = begin(strategy, "off")
    token = life.login()
    seen = claims_like(life, token)
    words = [str(seen[name]) for name in ("iss", "sub", "client_id", "jti", "iat", "exp")] + [life.api, "client_id"]
    for reading in readings_of(token["access_token"]):
        assert not [word for word in words if word.encode() in reading]
    plain = b" ".join(readings_of(begin("jwt", "off").login()["access_token"]))
    assert b"client_id" in plain  # the same search finds it where it is to be read


# ------------------------------------------------------------------------------------- the strings of the other strategies


def forged(strategy: str, claims: dict[str, Any], keys: KeySet) -> str:
    """Write the string that a token of these claims would have under a strategy, with the ledger's own keys."""
    (signing,), (encryption, *_) = keys.signing.values(), sorted(keys.encryption.values(), key=lambda key: key.key_id)[::-1]
    writers: dict[str, Callable[[], str]] = {
        "opaque": lambda: write("access", UUID(claims["jti"]), new_secret()),
        "encrypted": lambda: write_encrypted(claims, keys, encryption.key_id),
        "jwt": lambda: write_jwt(claims, keys, signing.key_id),
        "jwe": lambda: write_jwe(claims, keys, signing.key_id, encryption.key_id),
    }
    return writers[strategy]()


@each_strategy
def test_a_token_of_one_strategy_has_no_string_of_another_even_with_the_right_keys(
    begin: Callable[[str, str], Life], ledger_server: Served, strategy: str
) -> None:
    life = begin(strategy, "off")
    token = life.login()
    seen = introspect(life.workers[0], life.asker, token["access_token"])
    claims = {name: seen[name] for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "jti")}
    keys = stolen_keys(ledger_server)
    for other in [name for name in STRATEGIES if name != strategy]:
        assert life.reason(token | {"access_token": forged(other, claims, keys)}) == "unknown_token"
    assert life.reason(token) == "allowed"


def checked(body: str) -> str:
    """Close a string with its checksum."""
    return body + checksum(body)


DISGUISES: dict[str, Callable[[str], str]] = {
    "without prefix and checksum": lambda text: text.removeprefix("tl_at_")[:-6],
    "without prefix": lambda text: text.removeprefix("tl_at_"),
    "with prefix": lambda text: f"tl_at_{text}",
    "with prefix and checksum": lambda text: checked(f"tl_at_{text}"),
    "as a refresh token": lambda text: checked(text.replace("tl_at_", "tl_rt_")[:-6]),
    "as an access token": lambda text: checked(text.replace("tl_rt_", "tl_at_")[:-6]),
    "with another prefix": lambda text: f"tl_cs_{text.removeprefix('tl_at_')}",
    "with two segments more": lambda text: f"{text}..",
    "with two segments less": lambda text: ".".join(text.split(".")[:-2]),
    "with two segments more before it": lambda text: f"..{text}",
    "twice": lambda text: text + text,
    "with the scheme": lambda text: f"Bearer {text}",
    "in quotes": lambda text: f'"{text}"',
    "in upper case": str.upper,
}


@each_strategy
def test_a_string_in_disguise_is_refused_by_the_check_of_every_strategy(
    begin: Callable[[str, str], Life], strategy: str
) -> None:
    life = begin(strategy, "rotating")
    token = life.login()
    for how, disguise in DISGUISES.items():
        for name in ("access_token", "refresh_token"):
            text = disguise(token[name])
            if text not in ("", *token.values()):
                assert evaluate(life.workers[0], life.asker, text)["context"]["reason"] == "unknown_token", how
                assert introspect(life.workers[1], life.asker, text)["active"] is False, how
    assert life.reason(token) == "allowed"


def test_the_jwt_inside_an_encrypted_jwt_is_no_token_by_itself(
    begin: Callable[[str, str], Life], ledger_server: Served
) -> None:
    life = begin("jwe", "off")
    token = life.login()
    keys = stolen_keys(ledger_server)
    kid = json.loads(decoded(token["access_token"].split(".")[0]))["kid"]
    inner = keys.decrypt(take_apart(token["access_token"], JWE_SEGMENTS), kid).decode()
    assert claims_of(inner)["jti"] == token["token_id"]
    assert life.reason(token | {"access_token": inner}) == "unknown_token"
    assert life.reason(token) == "allowed"


@each_strategy
def test_a_refresh_token_calls_nothing_and_an_access_token_refreshes_nothing(
    begin: Callable[[str, str], Life], strategy: str
) -> None:
    life = begin(strategy, "rotating")
    token = life.login()
    with nothing_recorded(life.workers[0]):
        assert life.reason(token | {"access_token": token["refresh_token"]}) == "not_an_access_token"
        assert life.workers[0].get("/v1/me", headers=bearer(token["refresh_token"])).status_code == 401
        life.refreshed(token | {"refresh_token": token["access_token"]}, "invalid_grant")
    assert life.refresh(token)[0] == 200
