"""User names: which spellings are one name, which cannot be one, and that the log tells nobody which."""

import json
import unicodedata
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.identifiers import MAX_NAME, name_id, normalize_user_name
from ledger.sealing import MasterKey
from ledger.user_names import user_name_id
from tests.vectors import vectors

MASTER = MasterKey(bytes(range(32)))


@pytest.mark.parametrize(
    "spellings",
    [
        ["alice", "Alice", "ALICE", "ａｌｉｃｅ", "𝒂𝒍𝒊𝒄𝒆", "Ⓐlice"],
        ["strasse", "straße", "STRASSE", "STRAẞE"],
        ["zoë", "zoe\u0308", "ZOË"],
        ["ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ", "ὀδυσσεύσ"],
        ["finn", "ﬁnn", "FINN"],
        ["kelvin", "\u212aelvin"],
        ["a b", "a\u00a0b", "a\u2003b"],
        ["ᾳ", "αι", "ΑΙ", "\u03b1\u0345"],
        ["i", "I", "ⅰ", "ｉ"],
        ["\u1e9b\u0323", "\u1e69"],
    ],
)
def test_spellings_that_people_take_for_one_are_one(spellings: list[str]) -> None:
    assert len({normalize_user_name(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "аlice"),  # the second begins with a Cyrillic letter: this rule does not claim to know that
        ("i", "ı"),  # without the dot
        ("zoe", "zoë"),
        ("o", "0"),
        ("ss", "s"),
        ("a.b", "ab"),
    ],
)
def test_what_only_looks_alike_is_another_name(one: str, other: str) -> None:
    assert normalize_user_name(one) != normalize_user_name(other)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " alice",
        "alice ",
        "alice\u00a0",
        "\u3000alice",
        "ali\0ce",
        "ali\nce",
        "ali\tce",
        "alice\x7f",
        "ali\u0085ce",
        "ali\u200bce",
        "ali\u200dce",
        "ali\u202ece",
        "\ufeffalice",
        "ali\u00adce",
        "ali\u2028ce",
        "ali\u2029ce",
        "alice\ufe0f",
        "alice\U000e0100",
        "ali\u034fce",
        "ali\u115fce",
        "ali\u3164ce",
        "ali\uffa0ce",
        "ali\u180bce",
        "alice\U000e0041",
        "ali\ud800ce",
        "ali\ue000ce",
        "ali\U0010ffffce",
        "a" * (MAX_NAME + 1),
        "ﷺ" * 8,
    ],
    ids=ascii,
)
def test_what_is_invisible_too_long_or_has_white_space_around_it_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalize_user_name(name)
    assert [problem.field for problem in refused.value.problems] == ["username"]


def test_the_length_is_that_of_the_name_as_it_is_compared() -> None:
    assert normalize_user_name("a" * MAX_NAME)
    assert len(normalize_user_name("ﬁ" * 64)) == MAX_NAME
    with pytest.raises(InvalidInput):
        normalize_user_name("ﬁ" * 65)


@given(st.text(max_size=12) | st.text(st.sampled_from("aA\u0345\u0301\u0308ßẞﬁΣςſıİⅨ\u1e9b\u0323ϔ é"), max_size=6))
def test_a_normalized_name_stays_as_it_is(text: str) -> None:
    try:
        name = normalize_user_name(text)
    except InvalidInput:
        return
    assert normalize_user_name(name) == name
    assert normalize_user_name(unicodedata.normalize("NFD", text)) == name


def test_every_single_character_is_a_name_that_stays_or_refused() -> None:
    for character in map(chr, range(0x110000)):
        try:
            name = normalize_user_name(character)
        except InvalidInput:
            continue
        assert normalize_user_name(name) == name


def test_naughty_strings_are_names_or_refused() -> None:
    for string in json.loads(vectors("corpora", "naughty-strings", "blns.json").read_text(encoding="utf-8")):
        try:
            name = normalize_user_name(string)
        except InvalidInput:
            continue
        assert normalize_user_name(name) == name


# ------------------------------------------------------------------------------------------------------------ the id


def test_one_name_has_one_id_whatever_its_spelling() -> None:
    assert user_name_id(MASTER, "Alice") == user_name_id(MASTER, "ａｌｉｃｅ")
    assert user_name_id(MASTER, "alice") != user_name_id(MASTER, "bob")


def test_who_knows_the_name_but_not_the_key_does_not_know_the_id() -> None:
    other = MasterKey(bytes(range(1, 33)))
    ids = {user_name_id(MASTER, "alice"), user_name_id(other, "alice"), name_id("user", "alice")}
    assert len(ids) == 3


def test_the_id_of_a_name_under_a_key_is_the_same_for_ever() -> None:
    assert user_name_id(MASTER, "Alice") == UUID("839c0c9a-8e94-876e-95e6-08c70ae3c4b7")


def test_what_can_be_no_name_has_no_id() -> None:
    with pytest.raises(InvalidInput):
        user_name_id(MASTER, "ali\u200bce")
