"""Strings of tokens and secrets: one spelling a value, and nothing else is read."""

import hashlib
import json
import zlib
from typing import get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.token_strings import (
    MAX_TOKEN_CHARACTERS,
    PREFIXES,
    SECRET_BYTES,
    Kind,
    MalformedToken,
    checksum,
    classify,
    digest_matches,
    new_secret,
    read,
    secret_digest,
    write,
)
from tests.vectors import vectors

KINDS: tuple[Kind, ...] = get_args(Kind)
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
IDENTIFIER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SECRET = bytes(range(32))
EXAMPLE = "tl_at_02tcRIyrxLXTR81B3dqdOx003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0fRV5Q"
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def base62(value: int, digits: int) -> str:
    return "" if digits == 0 else base62(value // 62, digits - 1) + DIGITS[value % 62]


def is_read(kind: Kind, text: str) -> bool:
    try:
        read(kind, text)
    except MalformedToken:
        return False
    return True


# -------------------------------------------------------------------------------------------------- written and read


@given(st.sampled_from(KINDS), st.uuids(), SECRETS)
def test_what_is_written_is_read_and_written_the_same_again(kind: Kind, identifier: UUID, secret: bytes) -> None:
    text = write(kind, identifier, secret)
    assert len(text) == 77
    assert text.isascii()
    assert read(kind, text) == (identifier, secret)


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\1"])
@pytest.mark.parametrize("identifier", [UUID(int=0), UUID(int=2**128 - 1)])
def test_the_smallest_and_the_greatest_are_read(identifier: UUID, secret: bytes) -> None:
    assert read("access", write("access", identifier, secret)) == (identifier, secret)


def test_a_string_is_written_the_same_for_ever() -> None:
    body = "tl_at_" + base62(IDENTIFIER.int, 22) + base62(int.from_bytes(SECRET, "big"), 43)
    assert write("access", IDENTIFIER, SECRET) == body + base62(zlib.crc32(body.encode()), 6) == EXAMPLE


def test_a_secret_of_another_length_is_never_written() -> None:
    for secret in (b"", SECRET[:-1], SECRET + b"\0"):
        with pytest.raises(AssertionError):
            write("access", IDENTIFIER, secret)


# ---------------------------------------------------------------------------------------------------- nothing else is


def test_every_change_of_one_character_is_refused() -> None:
    for place in range(len(EXAMPLE)):
        for character in DIGITS + "_-. \n\0é٣":
            changed = EXAMPLE[:place] + character + EXAMPLE[place + 1 :]
            assert is_read("access", changed) == (changed == EXAMPLE), (place, character)


def test_every_change_of_two_neighbours_is_refused() -> None:
    for place in range(len(EXAMPLE) - 1):
        changed = EXAMPLE[:place] + EXAMPLE[place + 1] + EXAMPLE[place] + EXAMPLE[place + 2 :]
        assert is_read("access", changed) == (changed == EXAMPLE)


def test_a_string_cut_or_lengthened_is_refused() -> None:
    for length in range(len(EXAMPLE)):
        assert not is_read("access", EXAMPLE[:length])
        assert not is_read("access", EXAMPLE[length:] if length else "")
    for more in ("0", " ", "\n", "\0", "=", ".", EXAMPLE):
        assert not is_read("access", EXAMPLE + more)
        assert not is_read("access", more + EXAMPLE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_string_of_one_kind_is_none_of_another(kind: Kind) -> None:
    text = write(kind, uuid4(), new_secret())
    assert [other for other in KINDS if is_read(other, text)] == [kind]
    for other in KINDS:
        body = PREFIXES[other] + text[6:-6]
        assert is_read(other, body + text[-6:]) == (other == kind)


@pytest.mark.parametrize(
    ("identifier", "secret"), [(2**128, 0), (62**22 - 1, 0), (0, 2**256), (0, 62**43 - 1)], ids=["id", "id", "secret", "secret"]
)
def test_a_number_out_of_range_is_refused_though_the_checksum_is_right(identifier: int, secret: int) -> None:
    body = "tl_at_" + base62(identifier, 22) + base62(secret, 43)
    with pytest.raises(MalformedToken, match="range"):
        read("access", body + checksum(body))


@given(st.text(max_size=80) | st.text(st.sampled_from(DIGITS), min_size=71, max_size=71).map("tl_at_".__add__))
def test_any_text_is_refused(text: str) -> None:
    assert not is_read("access", text)


def test_naughty_strings_are_refused() -> None:
    for string in json.loads(vectors("corpora", "naughty-strings", "blns.json").read_text(encoding="utf-8")):
        classify(string)
        assert not any(is_read(kind, text) for kind in KINDS for text in (string, PREFIXES[kind] + string))


def test_a_refusal_never_quotes_the_string() -> None:
    for text in (EXAMPLE[:-1], EXAMPLE[:-1] + "0", EXAMPLE + "0"):
        with pytest.raises(MalformedToken) as refused:
            read("access", text)
        assert EXAMPLE[6:20] not in str(refused.value)


# --------------------------------------------------------------------------------------------------------- which kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (EXAMPLE, "opaque"),
        ("tl_at_", "opaque"),
        ("tl_at_a.b.c.d.e", "encrypted"),
        ("tl_at_.", "encrypted"),
        ("tl_rt_" + "0" * 71, "refresh"),
        ("tl_rt_a.b.c", "refresh"),
        ("tl_cs_" + "0" * 71, None),
        ("tl_xx_a.b.c", None),
        ("tl_", None),
        ("a.b.c", "jwt"),
        ("..", "jwt"),
        ("a.b.c.d.e", "jwe"),
        ("....", "jwe"),
        ("TL_AT_" + "0" * 71, None),
        ("", None),
        ("a", None),
        ("a.b", None),
        ("a.b.c.d", None),
        ("a.b.c.d.e.f", None),
        ("é.b.c", None),
        ("a.b.\ud800", None),
        ("a" * (MAX_TOKEN_CHARACTERS - 4) + ".b.c", "jwt"),
        ("a" * (MAX_TOKEN_CHARACTERS - 3) + ".b.c", None),
        ("." * (MAX_TOKEN_CHARACTERS + 1), None),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_bearer_string_is_told_by_its_prefix_and_its_dots(text: str, kind: str | None) -> None:
    assert classify(text) == kind


# ------------------------------------------------------------------------------------------------------------ secrets


def test_what_is_stored_of_a_secret_is_its_sha_256() -> None:
    assert secret_digest(SECRET) == hashlib.sha256(SECRET).digest()
    assert digest_matches(secret_digest(SECRET), SECRET)
    for other in (SECRET[::-1], SECRET[:-1], b"", SECRET + b"\0"):
        assert not digest_matches(secret_digest(SECRET), other)
    assert not digest_matches(b"", SECRET)


def test_secrets_are_256_bits_and_never_twice_the_same() -> None:
    secrets = {new_secret() for _ in range(1_000)}
    assert len(secrets) == 1_000
    assert {len(secret) for secret in secrets} == {32}
