"""Given rows, when a token is issued, refreshed, suspended, reinstated or revoked, then events or a refusal."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tokens
from ledger.errors import InvalidInput
from ledger.events import (
    Event,
    FamilyReinstated,
    FamilyRevoked,
    FamilySuspended,
    ReuseDetected,
    TokenIssued,
    TokenReinstated,
    TokenRevoked,
    TokenRotated,
    TokenSuspended,
)
from ledger.states import Api, Client, Family, Key, State, Subject, Token, TokenState
from ledger.statuses import stands
from ledger.tokens import ClientChangedMeanwhile, Grant, GrantRefused, Made, TokenIsRevoked, UnknownFamily, UnknownToken
from tests.builders import api, client, family, key, subject, token
from tests.rows import state

NOW = datetime.fromisoformat("2030-06-01T12:00:00.654321+00:00")
SECOND = NOW.replace(microsecond=0)
TICK = timedelta(microseconds=1)
EPOCH = 6_355_300
ROLES = (uuid4(), uuid4(), uuid4())
ORDERS, STOCK = uuid4(), uuid4()


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def made(**fields: Any) -> Made:
    defaults: dict[str, Any] = {
        "strategy": "opaque",
        "access_token_id": uuid4(),
        "access_digest": b"\1" * 32,
        "refresh_token_id": uuid4(),
        "refresh_digest": b"\2" * 32,
    }
    return Made(**defaults | fields)


# -------------------------------------------------------------------------------------------------------------- issuing


@dataclass
class Issuing:
    """A request that is granted, unless a test changes something."""

    subject: Subject = field(default_factory=lambda: subject(role_ids=ROLES[:2]))
    client: Client = field(default_factory=lambda: client(api_ids=(ORDERS, STOCK)))
    apis: list[Api] = field(default_factory=lambda: [api(api_id=ORDERS), api(api_id=STOCK, name="stock")])
    keys: list[Key] = field(default_factory=list)
    made: Made = field(default_factory=made)
    grant: dict[str, Any] = field(default_factory=dict)
    family_id: UUID = field(default_factory=uuid4)

    def decide(self) -> list[Event]:
        asked: dict[str, Any] = {
            "subject_id": self.subject.subject_id,
            "client_id": self.client.client_id,
            "api_ids": (ORDERS,),
        } | self.grant
        grant = Grant(**asked)
        given = state(self.subject, self.client, *self.apis, *self.keys)
        return tokens.issue(given, NOW, family_id=self.family_id, grant=grant, made=self.made)

    def issued(self) -> TokenIssued:
        (event,) = self.decide()
        assert isinstance(event, TokenIssued)
        return event

    def family(self) -> Family:
        row = self.issued().family
        assert row is not None
        return row


def test_an_access_token_and_a_refresh_token_are_issued_into_a_new_family() -> None:
    issuing = Issuing(grant={"role_ids": ROLES[:1], "direct": False, "name": "nightly", "claims": {"tenant": "a"}})
    event = issuing.issued()
    access, refresh = event.tokens
    made, client_id, subject_id = issuing.made, issuing.client.client_id, issuing.subject.subject_id
    assert event.stream == issuing.family_id
    assert access == Token(
        token_id=made.access_token_id,
        family_id=issuing.family_id,
        generation=1,
        kind="access",
        strategy="opaque",
        subject_id=subject_id,
        client_id=client_id,
        api_ids=(ORDERS,),
        role_ids=ROLES[:1],
        direct=False,
        secret_digest=made.access_digest,
        key_ids=(),
        name="nightly",
        claims={"tenant": "a"},
        issued_from=None,
        issued_at=SECOND,
        expires_at=SECOND + seconds(600),
    )
    assert refresh == replace(
        access,
        token_id=made.refresh_token_id,
        kind="refresh",
        secret_digest=made.refresh_digest,
        expires_at=SECOND + timedelta(days=14),
    )
    assert event.family == Family(
        family_id=issuing.family_id,
        subject_id=subject_id,
        client_id=client_id,
        refresh="rotating",
        generation=1,
        refresh_token_id=made.refresh_token_id,
        access_token_id=made.access_token_id,
        rotated_at=None,
        retry_epoch=None,
        sealed_rotated_by=None,
        started_at=SECOND,
        expires_at=SECOND + timedelta(days=90),
        idle_expires_at=None,
        status="active",
        status_reason=None,
        status_until=None,
    )


@pytest.mark.parametrize("strategy", ["opaque", "encrypted", "jwt", "jwe"])
def test_a_refresh_token_is_opaque_whatever_the_strategy(strategy: Literal["opaque", "encrypted", "jwt", "jwe"]) -> None:
    signing = key(status="active")
    issuing = Issuing(
        client=client(api_ids=(ORDERS,), strategy=strategy),
        keys=[signing],
        made=made(strategy=strategy, access_digest=None, key_ids=(signing.key_id,)),
    )
    access, refresh = issuing.issued().tokens
    assert (access.strategy, access.secret_digest, access.key_ids) == (strategy, None, (signing.key_id,))
    assert (refresh.strategy, refresh.secret_digest, refresh.key_ids) == ("opaque", b"\2" * 32, ())


@pytest.mark.parametrize(
    "issuing",
    [Issuing(client=client(api_ids=(ORDERS,), refresh="off")), Issuing(grant={"with_refresh": False})],
    ids=["the client's setting", "the grant's wish"],
)
def test_without_refresh_a_token_is_a_family_of_one_that_ends_with_it(issuing: Issuing) -> None:
    (access,) = issuing.issued().tokens
    row = issuing.family()
    assert (row.refresh, row.generation, row.refresh_token_id) == ("off", 0, None)
    assert access.generation == 0
    assert row.expires_at == access.expires_at == SECOND + seconds(600)


def test_a_lifetime_of_its_own_is_the_access_token_s() -> None:
    access, refresh = Issuing(grant={"lifetime_seconds": 60}).issued().tokens
    assert access.expires_at == SECOND + seconds(60)
    assert refresh.expires_at == SECOND + timedelta(days=14)


@pytest.mark.parametrize("grant", [{}, {"lifetime_seconds": 3_600}])
def test_no_token_outlives_the_absolute_end_of_its_family(grant: dict[str, Any]) -> None:
    row = client(api_ids=(ORDERS,), access_lifetime_seconds=3_600, refresh_idle_seconds=120, refresh_absolute_seconds=60)
    event = Issuing(client=row, grant=grant).issued()
    assert event.family is not None
    assert {token.expires_at for token in event.tokens} == {event.family.expires_at} == {SECOND + seconds(60)}


def test_without_a_scope_nothing_restricts_a_token() -> None:
    for row in Issuing().issued().tokens:
        assert (row.role_ids, row.direct) == (None, True)


def test_a_scope_of_nothing_is_kept_as_such() -> None:
    for row in Issuing(grant={"role_ids": (), "direct": False}).issued().tokens:
        assert (row.role_ids, row.direct) == ((), False)


def _suspended(until: datetime | None = None) -> dict[str, Any]:
    return {"status": "suspended", "status_reason": "x", "status_until": until}


def test_a_suspension_that_has_ended_is_in_nobody_s_way() -> None:
    issuing = Issuing()
    issuing.subject = replace(issuing.subject, **_suspended(NOW))
    issuing.client = replace(issuing.client, **_suspended(NOW))
    issuing.apis = [replace(row, **_suspended(NOW)) for row in issuing.apis]
    assert len(issuing.issued().tokens) == 2


def _subject(**changes: Any) -> Callable[[Issuing], None]:
    def change(issuing: Issuing) -> None:
        issuing.subject = replace(issuing.subject, **changes)

    return change


def _client(**changes: Any) -> Callable[[Issuing], None]:
    def change(issuing: Issuing) -> None:
        issuing.client = replace(issuing.client, **changes)

    return change


def _first_api(**changes: Any) -> Callable[[Issuing], None]:
    def change(issuing: Issuing) -> None:
        issuing.apis[0] = replace(issuing.apis[0], **changes)

    return change


def _grant(**changes: Any) -> Callable[[Issuing], None]:
    def change(issuing: Issuing) -> None:
        issuing.grant |= changes

    return change


def _cut_off(issuing: Issuing) -> None:
    issuing.subject = replace(issuing.subject, cutoff_position=9)
    issuing.grant["proved_at"] = 8


def _no_apis(issuing: Issuing) -> None:
    issuing.apis = []


ISSUE_REFUSALS: list[tuple[Callable[[Issuing], None], str, str]] = [
    (_grant(client_id=uuid4()), "the client does not stand", "unauthorized_client"),
    (_client(**_suspended()), "the client does not stand", "unauthorized_client"),
    (_client(**_suspended(NOW + TICK)), "the client does not stand", "unauthorized_client"),
    (_grant(subject_id=uuid4()), "the subject does not stand", "invalid_grant"),
    (_subject(**_suspended()), "the subject does not stand", "invalid_grant"),
    (_subject(**_suspended(NOW + TICK)), "the subject does not stand", "invalid_grant"),
    (_subject(status="erased"), "the subject does not stand", "invalid_grant"),
    (_subject(status="erased", status_until=NOW), "the subject does not stand", "invalid_grant"),
    (_cut_off, "cut off since the subject proved itself", "invalid_grant"),
    (_grant(api_ids=()), "an API is not in the client's audience", "invalid_scope"),
    (_grant(api_ids=(ORDERS, uuid4())), "an API is not in the client's audience", "invalid_scope"),
    (_client(api_ids=(STOCK,)), "an API is not in the client's audience", "invalid_scope"),
    (_no_apis, "an API does not stand", "invalid_scope"),
    (_first_api(**_suspended()), "an API does not stand", "invalid_scope"),
    (_first_api(**_suspended(NOW + TICK)), "an API does not stand", "invalid_scope"),
    (_grant(role_ids=ROLES), "a role is not the subject's", "invalid_scope"),
    (_grant(role_ids=(uuid4(),)), "a role is not the subject's", "invalid_scope"),
]


@pytest.mark.parametrize(("change", "cause", "error"), ISSUE_REFUSALS)
def test_a_grant_is_refused_with_its_cause(change: Callable[[Issuing], None], cause: str, error: str) -> None:
    issuing = Issuing()
    change(issuing)
    with pytest.raises(GrantRefused) as refused:
        issuing.decide()
    assert (refused.value.cause, refused.value.error) == (cause, error)
    assert str(refused.value) == "the grant is refused"


def test_a_role_that_was_withdrawn_is_granted_no_more() -> None:
    issuing = Issuing(grant={"role_ids": ROLES[:1]})
    assert issuing.issued().tokens[0].role_ids == ROLES[:1]
    issuing.subject = replace(issuing.subject, role_ids=ROLES[1:2])
    with pytest.raises(GrantRefused):
        issuing.decide()


@pytest.mark.parametrize("proved_at", [None, 9, 10])
def test_a_proof_at_the_cut_off_or_later_counts(proved_at: int | None) -> None:
    issuing = Issuing(grant={"proved_at": proved_at})
    issuing.subject = replace(issuing.subject, cutoff_position=9)
    assert issuing.issued()


def test_a_string_made_for_another_strategy_or_with_a_revoked_key_is_not_recorded() -> None:
    with pytest.raises(ClientChangedMeanwhile):
        Issuing(made=made(strategy="jwt")).decide()
    revoked, active = key(status="revoked"), key(status="active")
    for key_ids in ((revoked.key_id,), (active.key_id, revoked.key_id)):
        issuing = Issuing(
            client=client(api_ids=(ORDERS,), strategy="jwt"),
            keys=[revoked, active],
            made=made(strategy="jwt", access_digest=None, key_ids=key_ids),
        )
        with pytest.raises(ClientChangedMeanwhile):
            issuing.decide()


# ----------------------------------------------------------------------------------------------------------- refreshing


@dataclass
class Refreshing:
    """A refresh token of generation 3 that was issued at position 100, presented by its client at NOW."""

    subject: Subject = field(default_factory=lambda: subject(role_ids=ROLES))
    client: Client = field(default_factory=lambda: client(api_ids=(ORDERS, STOCK)))
    apis: list[Api] = field(default_factory=lambda: [api(api_id=ORDERS), api(api_id=STOCK, name="stock")])
    keys: list[Key] = field(default_factory=list)
    made: Made = field(default_factory=made)
    token_state: TokenState | None = None
    scope: tuple[tuple[UUID, ...] | None, bool] | None = None
    wanted_api_ids: tuple[UUID, ...] | None = None
    presented_by: UUID | None = None
    family: Family = field(init=False)
    token: Token = field(init=False)

    def __post_init__(self) -> None:
        subject_id, client_id = self.subject.subject_id, self.client.client_id
        self.family = family(
            subject_id=subject_id,
            client_id=client_id,
            generation=3,
            rotated_at=NOW - seconds(10),
            retry_epoch=EPOCH - 1,
            started_at=SECOND - timedelta(days=1),
            expires_at=SECOND + timedelta(days=89),
        )
        self.token = token(
            family_id=self.family.family_id,
            subject_id=subject_id,
            client_id=client_id,
            generation=3,
            kind="refresh",
            api_ids=(ORDERS, STOCK),
            role_ids=ROLES[:2],
            claims={"tenant": "a"},
            issued_at=SECOND - seconds(10),
            expires_at=SECOND + timedelta(days=14),
            position=100,
        )

    def decide(self, now: datetime = NOW) -> list[Event]:
        states = [self.token_state] if self.token_state else []
        given = state(self.subject, self.client, *self.apis, *self.keys, self.family, self.token, *states)
        return tokens.refresh(
            given,
            now,
            token_id=self.token.token_id,
            client_id=self.presented_by or self.client.client_id,
            made=self.made,
            retry_epoch=EPOCH,
            role_ids=self.scope[0] if self.scope else None,
            direct=self.scope[1] if self.scope else True,
            narrowed=self.scope is not None,
            api_ids=self.wanted_api_ids,
        )

    def rotated(self, now: datetime = NOW) -> TokenRotated:
        (event,) = self.decide(now)
        assert isinstance(event, TokenRotated)
        return event

    def access(self) -> Token:
        (event,) = self.decide()
        assert isinstance(event, TokenIssued | TokenRotated)
        return event.tokens[0]


def refreshing(**changes: Any) -> Refreshing:
    """Make one; a change of `client_`, `family_`, `token_`, `subject_` and then a field is one of that row."""
    given = Refreshing()
    for name, value in changes.items():
        row, _, of_row = name.partition("_")
        if row in ("client", "family", "token", "subject") and of_row and name != "token_state":
            setattr(given, row, replace(getattr(given, row), **{of_row: value}))
        else:
            setattr(given, name, value)
    return given


def test_a_rotation_makes_the_next_generation() -> None:
    given = refreshing()
    event = given.rotated()
    access, successor = event.tokens
    assert access == replace(
        given.token,
        token_id=given.made.access_token_id,
        generation=4,
        kind="access",
        secret_digest=given.made.access_digest,
        issued_from=given.token.token_id,
        issued_at=SECOND,
        expires_at=SECOND + seconds(600),
    )
    assert successor == replace(
        given.token,
        token_id=given.made.refresh_token_id,
        generation=4,
        secret_digest=given.made.refresh_digest,
        issued_from=given.token.token_id,
        issued_at=SECOND,
        expires_at=SECOND + timedelta(days=14),
    )
    assert event.family == replace(
        given.family,
        generation=4,
        refresh_token_id=given.made.refresh_token_id,
        access_token_id=given.made.access_token_id,
        rotated_at=NOW,
        retry_epoch=EPOCH,
    )
    assert event.stream == given.family.family_id


def test_a_reusable_token_gives_another_access_token_and_stays() -> None:
    given = refreshing(family_refresh="reusable")
    (event,) = given.decide()
    assert isinstance(event, TokenIssued)
    (access,) = event.tokens
    assert event.family is not None
    assert event.family == replace(given.family, idle_expires_at=event.family.idle_expires_at)
    assert (access.kind, access.generation, access.issued_from) == ("access", 3, given.token.token_id)


def test_the_family_keeps_its_kind_of_refresh_when_the_client_changes_its_own() -> None:
    assert isinstance(refreshing(client_refresh="reusable").decide()[0], TokenRotated)
    assert isinstance(refreshing(client_refresh="rotating", family_refresh="reusable").decide()[0], TokenIssued)


def test_the_strategy_is_the_client_s_of_now() -> None:
    signing = key(status="active")
    given = refreshing(
        client_strategy="jwt", keys=[signing], made=made(strategy="jwt", access_digest=None, key_ids=(signing.key_id,))
    )
    access, successor = given.rotated().tokens
    assert (access.strategy, access.secret_digest, access.key_ids) == ("jwt", None, (signing.key_id,))
    assert (successor.strategy, successor.secret_digest, successor.key_ids) == ("opaque", b"\2" * 32, ())


def test_the_absolute_end_of_the_family_caps_every_token() -> None:
    end = SECOND + seconds(59)
    for row in refreshing(family_expires_at=end).rotated().tokens:
        assert row.expires_at == end


def test_rotating_for_ever_ends_at_the_absolute_end() -> None:
    given, now = refreshing(), NOW
    while now < given.family.expires_at:
        event = given.rotated(now)
        assert all(now < token.expires_at <= given.family.expires_at for token in event.tokens)
        given.token, given.family = replace(event.tokens[1], position=100), event.family
        given.made = made()
        now += timedelta(days=13)
    with pytest.raises(GrantRefused) as refused:
        given.decide(now)
    assert refused.value.cause == "token_expired"


# ------------------------------------------------------------------------------------------------- what is refused there


REFRESH_REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"presented_by": uuid4()}, "the token was issued to another client", "invalid_grant"),
    ({"client_status": "suspended"}, "client_suspended", "unauthorized_client"),
    ({"subject_status": "suspended"}, "subject_suspended", "invalid_grant"),
    ({"subject_status": "erased"}, "subject_erased", "invalid_grant"),
    ({"token_kind": "access"}, "not a refresh token", "invalid_grant"),
    ({"token_state": ("suspended", None)}, "token_suspended", "invalid_grant"),
    ({"token_state": ("suspended", NOW + TICK)}, "token_suspended", "invalid_grant"),
    ({"token_state": ("revoked", None)}, "token_revoked", "invalid_grant"),
    ({"token_state": ("revoked", NOW)}, "token_revoked", "invalid_grant"),
    ({"family_status": "suspended"}, "family_suspended", "invalid_grant"),
    ({"family_status": "revoked"}, "family_revoked", "invalid_grant"),
    ({"subject_cutoff_position": 100}, "tokens_revoked_before", "invalid_grant"),
    ({"client_cutoff_position": 101}, "tokens_revoked_before", "invalid_grant"),
    ({"apis": [api(api_id=ORDERS), api(api_id=STOCK, cutoff_position=100)]}, "tokens_revoked_before", "invalid_grant"),
    ({"token_expires_at": NOW}, "token_expired", "invalid_grant"),
    ({"token_expires_at": NOW - TICK}, "token_expired", "invalid_grant"),
    ({"family_expires_at": NOW}, "the absolute end of the family has come", "invalid_grant"),
    ({"client_grants": ("password",)}, "the client may not refresh any more", "unauthorized_client"),
    ({"scope": (ROLES, True)}, "the scope is wider than the grant's", "invalid_scope"),
    ({"scope": (None, True)}, "the scope is wider than the grant's", "invalid_scope"),
    ({"token_direct": False, "scope": (ROLES[:1], True)}, "the scope is wider than the grant's", "invalid_scope"),
    ({"subject_role_ids": ROLES[1:], "scope": (ROLES[:1], True)}, "a role is not the subject's", "invalid_scope"),
    ({"token_role_ids": None, "scope": ((uuid4(),), True)}, "a role is not the subject's", "invalid_scope"),
    ({"wanted_api_ids": (ORDERS, uuid4())}, "an API is not in the grant's audience", "invalid_target"),
    ({"client_api_ids": (uuid4(),)}, "no API of the grant is the client's any more", "invalid_grant"),
    (
        {"client_api_ids": (STOCK,), "wanted_api_ids": (ORDERS,)},
        "no API of the grant is the client's any more",
        "invalid_grant",
    ),
]


def _with_state(changes: dict[str, Any]) -> Refreshing:
    status = changes.get("token_state")
    given = refreshing(**{name: value for name, value in changes.items() if name != "token_state"})
    if status:
        given.token_state = TokenState(given.token.token_id, status[0], "x", status[1])
    return given


@pytest.mark.parametrize(("changes", "cause", "error"), REFRESH_REFUSALS)
def test_a_refresh_is_refused_with_its_cause(changes: dict[str, Any], cause: str, error: str) -> None:
    with pytest.raises(GrantRefused) as refused:
        _with_state(changes).decide()
    assert (refused.value.cause, refused.value.error) == (cause, error)


@pytest.mark.parametrize(
    "changes", [changes for changes, cause, _ in REFRESH_REFUSALS if "scope" not in changes and "API" not in cause]
)
@pytest.mark.parametrize("generation", [2, 1])
def test_what_does_not_stand_is_refused_before_it_is_a_retry_or_a_reuse(changes: dict[str, Any], generation: int) -> None:
    given = _with_state(changes)
    given.token = replace(given.token, generation=generation)
    with pytest.raises(GrantRefused):
        given.decide()


def test_every_cause_of_a_refusal_is_provoked_here() -> None:
    causes = set(re.findall(r'GrantRefused\(\s*"([^"]+)"', inspect.getsource(tokens)))
    # Causes of one word are the reasons of a decision: cascade.py gives them.
    assert causes == {cause for _, cause, _ in [*ISSUE_REFUSALS, *REFRESH_REFUSALS] if " " in cause}


def test_a_token_stands_up_to_its_end_and_after_a_suspension() -> None:
    assert refreshing(token_expires_at=NOW + TICK, family_expires_at=NOW + TICK).rotated()
    for until in (NOW, NOW - TICK):
        assert _with_state({"token_state": ("suspended", until)}).rotated()
        assert refreshing(family_status="suspended", family_status_until=until).rotated()
        assert refreshing(subject_status="suspended", subject_status_until=until).rotated()
        assert refreshing(client_status="suspended", client_status_until=until).rotated()
    assert _with_state({"token_state": ("active", None)}).rotated()


@pytest.mark.parametrize("cutoff", ["subject_cutoff_position", "client_cutoff_position"])
def test_a_cut_off_takes_what_was_issued_up_to_it(cutoff: str) -> None:
    assert refreshing(**{cutoff: 99}).rotated()
    for position in (100, 101):
        with pytest.raises(GrantRefused):
            refreshing(**{cutoff: position}).decide()


def test_the_cut_off_of_an_api_counts_though_its_token_is_not_asked_for() -> None:
    apis = [api(api_id=ORDERS), api(api_id=STOCK, cutoff_position=100)]
    with pytest.raises(GrantRefused):
        refreshing(apis=apis, wanted_api_ids=(ORDERS,)).decide()


def test_a_string_made_for_another_strategy_is_not_recorded_at_a_refresh() -> None:
    with pytest.raises(ClientChangedMeanwhile):
        refreshing(client_strategy="jwt").decide()
    revoked = key(status="revoked")
    with pytest.raises(ClientChangedMeanwhile):
        refreshing(
            client_strategy="jwt", keys=[revoked], made=made(strategy="jwt", access_digest=None, key_ids=(revoked.key_id,))
        ).decide()


# ----------------------------------------------------------------------------------------------------- retries and reuse


def presented_again(after: timedelta, window: int = 30, **changes: Any) -> Refreshing:
    """The predecessor of the token that may be used now, presented so long after it was rotated."""
    given = refreshing(client_retry_window_seconds=window, token_generation=2, family_rotated_at=NOW - after)
    for name, value in changes.items():
        setattr(given, name, value)
    return given


@pytest.mark.parametrize("window", [1, 30, 300])
def test_a_retry_within_the_window_records_nothing(window: int) -> None:
    for after in (seconds(0), TICK, seconds(window) - TICK):
        assert presented_again(after, window).decide() == []


@pytest.mark.parametrize("window", [0, 1, 30, 300])
def test_a_use_at_the_end_of_the_window_is_reuse(window: int) -> None:
    for after in (seconds(window), seconds(window) + TICK, timedelta(days=10)):
        given = presented_again(after, window)
        (event,) = given.decide()
        assert isinstance(event, ReuseDetected)
        assert event == ReuseDetected(
            family_id=given.family.family_id,
            subject_id=given.subject.subject_id,
            client_id=given.client.client_id,
            token_id=given.token.token_id,
            generation_presented=2,
            generation_current=3,
            seconds_since_rotation=int(after.total_seconds()),
            verdict="race" if after < seconds(max(window, 30)) else "fork",
            sealed_presented_by=None,
            family=replace(
                given.family, status="revoked", status_reason="a rotated refresh token was used again", status_until=None
            ),
        )


def test_a_clock_that_was_set_back_makes_no_window_and_takes_none_away() -> None:
    assert presented_again(-seconds(5), 30).decide() == []
    (event,) = presented_again(-seconds(5), 0).decide()
    assert isinstance(event, ReuseDetected)
    assert event.seconds_since_rotation == 0


@pytest.mark.parametrize("generation", [1, 0])
def test_an_older_generation_is_reuse_also_within_the_window(generation: int) -> None:
    given = presented_again(seconds(1), 300)
    given.token = replace(given.token, generation=generation)
    (event,) = given.decide()
    assert isinstance(event, ReuseDetected)
    assert (event.generation_presented, event.generation_current) == (generation, 3)
    assert event.family.status == "revoked"


def test_a_retry_is_one_whatever_its_scope_and_whatever_was_made_for_it() -> None:
    assert presented_again(seconds(1), scope=(ROLES, True)).decide() == []
    assert presented_again(seconds(1), made=made(strategy="jwe")).decide() == []
    assert presented_again(seconds(1), wanted_api_ids=(uuid4(),)).decide() == []


def test_a_suspension_that_has_ended_does_not_hide_a_reuse() -> None:
    given = presented_again(timedelta(hours=1))
    given.family = replace(given.family, status="suspended", status_until=NOW)
    (event,) = given.decide()
    assert isinstance(event, ReuseDetected)
    assert (event.family.status, event.family.status_until) == ("revoked", None)


# ------------------------------------------------------------------------------------------------------ scope and audience

SCOPES = st.none() | st.lists(st.sampled_from(ROLES), unique=True, max_size=3).map(tuple)


@given(SCOPES, st.booleans(), SCOPES, st.booleans(), st.sets(st.sampled_from(ROLES)))
def test_no_scope_of_a_refresh_is_wider_than_the_grant_or_names_what_the_subject_has_not(
    granted: tuple[UUID, ...] | None,
    granted_direct: bool,
    asked: tuple[UUID, ...] | None,
    asked_direct: bool,
    held: set[UUID],
) -> None:
    given = refreshing(
        token_role_ids=granted, token_direct=granted_direct, subject_role_ids=tuple(held), scope=(asked, asked_direct)
    )
    try:
        access, successor = given.rotated().tokens
    except GrantRefused as refused:
        assert refused.error == "invalid_scope"  # noqa: PT017 - both ends are looked at
        return
    assert (access.role_ids, access.direct) == (asked, asked_direct)
    assert granted is None or (asked is not None and set(asked) <= set(granted))
    assert granted_direct or not asked_direct
    assert set(asked or ()) <= held
    assert (successor.role_ids, successor.direct) == (granted, granted_direct)


@pytest.mark.parametrize("granted", [None, ROLES[:2], ()])
def test_without_a_scope_a_refresh_has_that_of_the_grant(granted: tuple[UUID, ...] | None) -> None:
    for direct in (True, False):
        for row in refreshing(token_role_ids=granted, token_direct=direct).rotated().tokens:
            assert (row.role_ids, row.direct) == (granted, direct)


def test_a_narrowed_scope_comes_back_at_the_next_refresh() -> None:
    given = refreshing(scope=(ROLES[:1], False))
    access, successor = given.rotated().tokens
    assert (access.role_ids, access.direct) == (ROLES[:1], False)
    assert (successor.role_ids, successor.direct) == (ROLES[:2], True)


def test_a_role_that_the_subject_has_lost_is_not_named_by_a_refreshed_token() -> None:
    # A resource server that checks a JWT offline would believe its scope.
    access, successor = refreshing(subject_role_ids=ROLES[1:]).rotated().tokens
    assert access.role_ids == ROLES[1:2]
    assert successor.role_ids == ROLES[:2]


def test_an_audience_is_narrowed_by_the_request_and_by_the_client_of_now() -> None:
    assert refreshing().access().api_ids == (ORDERS, STOCK)
    assert refreshing(wanted_api_ids=(STOCK,)).access().api_ids == (STOCK,)
    access, successor = refreshing(client_api_ids=(ORDERS, uuid4())).rotated().tokens
    assert access.api_ids == (ORDERS,)
    assert successor.api_ids == (ORDERS, STOCK)


# ---------------------------------------------------------------------------------------- suspend, reinstate, revoke

Verb = Literal["suspend", "reinstate", "revoke"]
UNTIL = NOW + timedelta(hours=1)
TOKEN = token()
FAMILY = family()


def change_token(
    current: TokenState | None, verb: Verb, reason: str | None = "why", until: datetime | None = None
) -> list[Event]:
    given = state(TOKEN, *([current] if current else []))
    return tokens.change_token(given, NOW, token_id=TOKEN.token_id, verb=verb, reason=reason, until=until)


def change_family(row: Family, verb: Verb, reason: str | None = "why", until: datetime | None = None) -> list[Event]:
    return tokens.change_family(state(row), NOW, family_id=row.family_id, verb=verb, reason=reason, until=until)


def of_token(
    status: Literal["active", "suspended", "revoked"],
    reason: str | None = "why",
    until: datetime | None = None,
    position: int = 7,
) -> TokenState:
    return TokenState(TOKEN.token_id, status, reason, until, position)


def of_family(
    status: Literal["active", "suspended", "revoked"], reason: str | None = "why", until: datetime | None = None
) -> Family:
    return replace(FAMILY, status=status, status_reason=reason, status_until=until, position=7)


@pytest.mark.parametrize(
    ("current", "verb", "until", "event_type", "status"),
    [
        (None, "suspend", None, TokenSuspended, "suspended"),
        (None, "suspend", UNTIL, TokenSuspended, "suspended"),
        (None, "revoke", None, TokenRevoked, "revoked"),
        (of_token("active"), "suspend", UNTIL, TokenSuspended, "suspended"),
        (of_token("active"), "revoke", None, TokenRevoked, "revoked"),
        (of_token("suspended", "other"), "suspend", None, TokenSuspended, "suspended"),
        (of_token("suspended"), "suspend", UNTIL, TokenSuspended, "suspended"),
        (of_token("suspended", until=UNTIL), "suspend", None, TokenSuspended, "suspended"),
        (of_token("suspended"), "reinstate", None, TokenReinstated, "active"),
        (of_token("suspended", until=NOW), "reinstate", None, TokenReinstated, "active"),
        (of_token("suspended"), "revoke", None, TokenRevoked, "revoked"),
    ],
)
def test_a_token_is_suspended_reinstated_or_revoked(
    current: TokenState | None, verb: Verb, until: datetime | None, event_type: type[Event], status: Any
) -> None:
    (event,) = change_token(current, verb, until=until)
    assert type(event) is event_type
    assert isinstance(event, TokenSuspended | TokenReinstated | TokenRevoked)
    assert event.token_state == TokenState(TOKEN.token_id, status, "why", until)
    assert (event.stream, event.subject_id, event.client_id) == (TOKEN.family_id, TOKEN.subject_id, TOKEN.client_id)


@pytest.mark.parametrize(
    ("current", "verb", "until"),
    [
        (None, "reinstate", None),
        (of_token("active"), "reinstate", None),
        (of_token("suspended"), "suspend", None),
        (of_token("suspended", until=UNTIL), "suspend", UNTIL),
        (of_token("revoked"), "revoke", None),
        (of_token("revoked", "other"), "revoke", None),
    ],
)
def test_a_token_that_is_so_already_records_nothing(current: TokenState | None, verb: Verb, until: datetime | None) -> None:
    assert change_token(current, verb, until=until) == []


@pytest.mark.parametrize(
    ("current", "verb", "until", "event_type", "row"),
    [
        (FAMILY, "suspend", None, FamilySuspended, of_family("suspended")),
        (FAMILY, "suspend", UNTIL, FamilySuspended, of_family("suspended", until=UNTIL)),
        (FAMILY, "revoke", None, FamilyRevoked, of_family("revoked")),
        (of_family("suspended", "other"), "suspend", None, FamilySuspended, of_family("suspended")),
        (of_family("suspended", until=UNTIL), "suspend", None, FamilySuspended, of_family("suspended")),
        (of_family("suspended", until=UNTIL), "reinstate", None, FamilyReinstated, of_family("active")),
        (of_family("suspended", until=UNTIL), "revoke", None, FamilyRevoked, of_family("revoked")),
    ],
)
def test_a_family_is_suspended_reinstated_or_revoked(
    current: Family, verb: Verb, until: datetime | None, event_type: type[Event], row: Family
) -> None:
    (event,) = change_family(current, verb, until=until)
    assert type(event) is event_type
    assert isinstance(event, FamilySuspended | FamilyReinstated | FamilyRevoked)
    assert event.family == replace(row, position=current.position)
    assert event.stream == FAMILY.family_id


@pytest.mark.parametrize(
    ("current", "verb", "until"),
    [
        (FAMILY, "reinstate", None),
        (of_family("suspended"), "suspend", None),
        (of_family("suspended", until=UNTIL), "suspend", UNTIL),
        (of_family("revoked", "other"), "revoke", None),
    ],
)
def test_a_family_that_is_so_already_records_nothing(current: Family, verb: Verb, until: datetime | None) -> None:
    assert change_family(current, verb, until=until) == []


@pytest.mark.parametrize("verb", ["suspend", "reinstate"])
def test_what_is_revoked_stays_revoked(verb: Verb) -> None:
    with pytest.raises(TokenIsRevoked):
        change_token(of_token("revoked"), verb)
    with pytest.raises(TokenIsRevoked):
        change_family(of_family("revoked"), verb)


@pytest.mark.parametrize("until", [NOW, NOW - TICK])
def test_an_end_that_has_come_is_refused(until: datetime) -> None:
    with pytest.raises(InvalidInput) as of_token_refused:
        change_token(None, "suspend", until=until)
    with pytest.raises(InvalidInput) as of_family_refused:
        change_family(FAMILY, "suspend", until=until)
    for refused in (of_token_refused, of_family_refused):
        assert [problem.field for problem in refused.value.problems] == ["until"]


@pytest.mark.parametrize("verb", ["suspend", "reinstate", "revoke"])
def test_what_is_not_there_is_not_changed(verb: Verb) -> None:
    with pytest.raises(UnknownToken):
        tokens.change_token(State(), NOW, token_id=uuid4(), verb=verb, reason=None)
    with pytest.raises(UnknownFamily):
        tokens.change_family(State(), NOW, family_id=uuid4(), verb=verb, reason=None)


@pytest.mark.parametrize(
    ("status", "until", "answer"),
    [
        ("active", None, True),
        ("active", UNTIL, True),
        ("suspended", None, False),
        ("suspended", NOW + TICK, False),
        ("suspended", NOW, True),
        ("suspended", NOW - TICK, True),
        ("revoked", None, False),
        ("revoked", NOW - TICK, False),
        ("erased", NOW - TICK, False),
        ("", None, False),
    ],
)
def test_a_status_stands_or_not(status: str, until: datetime | None, answer: bool) -> None:
    assert stands(status, until, NOW) is answer


# ------------------------------------------------------------------------------------------------- idle, and reusable


def test_a_reusable_refresh_token_lives_to_the_end_of_its_family_as_long_as_it_is_used() -> None:
    given = refreshing(family_refresh="reusable", client_refresh="reusable", token_generation=1, family_generation=1)
    end = given.family.expires_at
    given.family = replace(given.family, idle_expires_at=NOW + seconds(1))
    given.token = replace(given.token, expires_at=end)
    (event,) = given.decide(NOW)
    assert isinstance(event, TokenIssued)
    assert event.family is not None
    assert event.family.idle_expires_at == NOW.replace(microsecond=0) + timedelta(days=14)
    given.family = event.family
    (later,) = given.decide(NOW + timedelta(days=13))
    assert isinstance(later, TokenIssued)
    assert later.family is not None
    assert later.family.idle_expires_at is not None
    assert later.family.idle_expires_at <= end


def test_a_reusable_refresh_token_that_was_not_used_for_its_idle_time_has_expired() -> None:
    given = refreshing(family_refresh="reusable", client_refresh="reusable", token_generation=1, family_generation=1)
    given.family = replace(given.family, idle_expires_at=NOW)
    given.token = replace(given.token, expires_at=given.family.expires_at)
    with pytest.raises(GrantRefused) as refused:
        given.decide(NOW)
    assert refused.value.cause == "token_expired"
    assert given.decide(NOW - TICK)
