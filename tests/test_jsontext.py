"""JSON that every reader reads alike, or none: what is refused, where, and that the rest comes back."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.jsontext import MAX_DEPTH, MAX_INTEGER, check, dumps, loads
from tests.vectors import vectors

MANY = 1_000_000


def problems(text: str | bytes, *, floats: bool = False, max_bytes: int = MANY) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        loads(text.encode() if isinstance(text, str) else text, max_bytes=max_bytes, floats=floats)
    return [(problem.field, problem.rule) for problem in refused.value.problems]


def read(text: str, *, floats: bool = False) -> object:
    return loads(text.encode(), max_bytes=MANY, floats=floats)


# ------------------------------------------------------------------------------------------------------------- syntax


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1,true,false,null,"x"]}', {"a": [1, True, False, None, "x"]}),
        (" \t\r\n{ } ", {}),
        ("[]", []),
        ('"a"', "a"),
        ("-0", 0),
        ('"\\u00fc\\ud83d\\ude00"', "ü😀"),
        ('{"":1}', {"": 1}),
    ],
)
def test_json_is_read(text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "{}}",
        "{} x",
        "{}\n{}",
        "[1,]",
        '{"a":1,}',
        "{'a':1}",
        "{a:1}",
        '{"a"}',
        "[1 2]",
        "nul",
        "True",
        "undefined",
        "01",
        "+1",
        ".5",
        "0x10",
        "1_000",
        "١",
        '"a',
        '"\\x41"',
        '"\\u12"',
        '"\\u-123"',
        '"a\nb"',
        '"a\tb"',
        "// a\n1",
        "/* */1",
        "\ufeff1",
        "\u00a01",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_what_is_not_json_is_refused(text: str) -> None:
    assert problems(text) == [("", "JSON")]


@pytest.mark.parametrize(
    "data", [b"\xff", b'"\xc0\xaf"', b'"\xed\xa0\x80"', '"a"'.encode("utf-16"), b'"\xc3"', b"\xef\xbb\xbf\xff"]
)
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    assert problems(data) == [("", "UTF-8")]


def test_a_text_has_a_greatest_length_in_bytes() -> None:
    assert loads('"ü"'.encode(), max_bytes=4) == "ü"
    assert problems('"üü"', max_bytes=5) == [("", "at most 5 bytes")]


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("number", [MAX_INTEGER, -MAX_INTEGER, 0])
def test_integers_that_a_double_holds_are_read(number: int) -> None:
    assert read(str(number)) == number


@pytest.mark.parametrize(
    "digits", [str(2**53), str(-(2**53)), str(2**63), "1" * 18, "1" * 5_000, "-" + "9" * 100_000], ids=lambda d: d[:20]
)
def test_greater_integers_are_refused(digits: str) -> None:
    for floats in (False, True):
        assert problems(f'{{"a":{digits}}}', floats=floats) == [("a", "integers within 2^53 - 1")]


@pytest.mark.parametrize("number", ["1.0", "1e3", "1E3", "-0.0", "1e-3", "1e999"])
def test_a_fraction_or_an_exponent_is_refused(number: str) -> None:
    assert problems(f'{{"a":[0,{number}]}}') == [("a.1", "numbers are integers")]


def test_floats_are_read_where_they_are_wanted() -> None:
    assert read("[1.5,1e3,-2E-2]", floats=True) == [1.5, 1000.0, -0.02]


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_float_that_overflows_is_refused(number: str) -> None:
    assert problems(f'{{"a":[0,{number}]}}', floats=True) == [("a.1", "a finite number")]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_python_writes_for_no_number_is_refused(word: str) -> None:
    for floats in (False, True):
        assert problems(f"[{word}]", floats=floats) == [("", "NaN and Infinity are not JSON")]


# ------------------------------------------------------------------------------------------------------------ members


@pytest.mark.parametrize(
    ("text", "name"),
    [('{"a":1,"a":1}', "a"), ('{"a":1,"b":2,"\\u0061":3}', "a"), ('{"x":[{"":1,"":2}]}', ""), ('{"sub":"a","sub":"b"}', "sub")],
)
def test_a_member_that_stands_twice_is_refused(text: str, name: str) -> None:
    assert problems(text) == [(name, "stands twice")]


def test_members_that_only_look_alike_are_two() -> None:
    assert read('{"\\u00e9":1,"e\\u0301":2}') == {"\u00e9": 1, "e\u0301": 2}


def test_the_name_of_a_member_that_cannot_be_shown_is_shown_otherwise() -> None:
    ((field, rule),) = problems('{"\\ud800":1,"\\ud800":2}')
    assert rule == "stands twice"
    field.encode()


# ------------------------------------------------------------------------------------------------------------ strings


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('"\\u0000"', ""),
        ('{"a":"x\\u0000y"}', "a"),
        ('{"a":[0,{"b":"\\ud800"}]}', "a.1.b"),
        ('["\\udc00\\ud800"]', "0"),
        ('{"a":{"\\u0000":1}}', "a"),
        ('{"\\udfff":1}', ""),
    ],
)
def test_nul_and_lone_surrogates_are_refused_where_they_stand(text: str, field: str) -> None:
    assert problems(text) == [(field, "no NUL and no lone surrogate")]


def test_a_place_in_a_message_is_short() -> None:
    ((field, _),) = problems(json.dumps({"n" * 10_000: "\0"}))
    assert len(field) == 200


# ------------------------------------------------------------------------------------------------------------ nesting


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_values_are_nested_32_deep_at_most(opening: str, closing: str) -> None:
    read(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
    ((_, rule),) = problems(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))
    assert rule == "nested no deeper than 32"


# ------------------------------------------------------------------------------------------------------- round trips

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_back_from_its_canonical_text(value: object) -> None:
    text = dumps(value)
    assert read(text) == value
    assert dumps(read(text)) == text


@given(st.dictionaries(TEXT, st.integers(0, 9)), st.randoms())
def test_the_canonical_text_does_not_depend_on_the_order_of_members(members: dict[str, int], random: Any) -> None:
    names = list(members)
    random.shuffle(names)
    assert dumps({name: members[name] for name in names}) == dumps(members)


def test_the_canonical_text_is_compact_and_sorted_for_ever() -> None:
    assert dumps({"b": [1, True, None], "a": "ü\n\u2028", "A": {}}) == '{"A":{},"a":"ü\\n\u2028","b":[1,true,null]}'


def test_what_is_no_number_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(math.nan)


@given(st.binary(max_size=40) | st.text(st.sampled_from('[]{}",:\\u0dE+-.19nultrefas \n'), max_size=30).map(str.encode))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    for floats in (False, True):
        try:
            value = loads(data, max_bytes=MANY, floats=floats)
        except InvalidInput:
            continue
        assert value == json.loads(data.decode())
        check(value, floats=floats)


def test_naughty_strings_come_back_as_they_were() -> None:
    for string in json.loads(vectors("corpora", "naughty-strings", "blns.json").read_text(encoding="utf-8")):
        assert read(dumps({string: [string]})) == {string: [string]}
        assert read(json.dumps(string)) == string
        try:
            loads(string.encode(), max_bytes=MANY)
        except InvalidInput:
            continue
