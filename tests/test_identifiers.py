"""Ids that sort by time, ids made from names, and what a client, an API or a role may be called."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.identifiers import keyed_name_id, name_id, normalize_name, uuid7
from ledger.names import check_name, check_role_name

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
PARTS = st.lists(st.text(st.sampled_from("a\0\x01b:é"), max_size=3), min_size=1, max_size=4)

# ------------------------------------------------------------------------------------------------------- ids by time


@given(INSTANTS)
def test_an_id_by_time_has_the_shape_of_rfc_9562_section_5_7(now: datetime) -> None:
    identifier = uuid7(now)
    assert (identifier.version, identifier.variant) == (7, "specified in RFC 4122")
    assert identifier.int >> 80 == (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(INSTANTS, st.integers(1, 10_000))
def test_a_later_millisecond_makes_a_greater_id(now: datetime, milliseconds: int) -> None:
    assert uuid7(now) < uuid7(now + timedelta(milliseconds=milliseconds))


def test_the_example_of_rfc_9562_appendix_a_6_has_our_time() -> None:
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert uuid7(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)).int >> 80 == example.int >> 80


def test_ids_of_one_instant_differ() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert len({uuid7(now) for _ in range(1_000)}) == 1_000


# ----------------------------------------------------------------------------------------------------- ids from names


def test_the_id_of_a_name_is_the_same_for_ever() -> None:
    encoded = b"\0\0\0\x06client\0\0\0\x04shop"
    digest = bytearray(hashlib.sha256(encoded).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert name_id("client", "shop") == UUID(bytes=bytes(digest)) == UUID("0d404498-e23b-8deb-9f72-c94407bd65bd")
    assert name_id("client", "shop").version == 8


@given(PARTS, PARTS)
def test_no_two_names_are_encoded_alike(one: list[str], other: list[str]) -> None:
    assert (name_id(*one) == name_id(*other)) == (one == other)


def test_the_kind_is_a_part_of_the_name() -> None:
    assert len({name_id("a", "bc"), name_id("ab", "c"), name_id("a", "b", "c"), name_id("abc"), name_id("a", "bc", "")}) == 5


def test_a_keyed_id_is_one_of_its_key() -> None:
    def under(key: bytes) -> UUID:
        return keyed_name_id(lambda data: hmac.digest(key, data, "sha256"), "user", "alice")

    assert under(b"1") == under(b"1")
    assert len({under(b"1"), under(b"2"), name_id("user", "alice")}) == 3
    assert under(b"1").version == 8


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a", "0", "shop", "a.b-c_d", "9" * 128, "a:b"])
def test_a_name_is_lower_case_ascii_that_needs_no_quoting(name: str) -> None:
    assert normalize_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "é", ".a", "-a", "_a", ":a", "a b", "a/b", "a%", "a\n", "a" * 129, "ａ", "a\0", "a,b"]
)
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalize_name(name, "client")
    assert refused.value.problems[0].field == "client"


def test_a_client_or_an_api_has_no_colon_in_its_name() -> None:
    check_name("shop")
    with pytest.raises(InvalidInput):
        check_name("shop:1")
    with pytest.raises(InvalidInput):
        check_name("Shop")


def test_a_role_may_have_a_colon_and_is_not_called_direct() -> None:
    check_role_name("read:all")
    check_role_name("directs")
    with pytest.raises(InvalidInput):
        check_role_name("direct")
    with pytest.raises(InvalidInput):
        check_role_name("read all")


@given(st.text(max_size=6))
def test_a_name_never_needs_quoting_in_a_scope_a_url_or_a_log(text: str) -> None:
    try:
        name = normalize_name(text)
    except InvalidInput:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not {*name} & {*" \"\\'%/?#&=,;<>"}
