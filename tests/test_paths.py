"""Paths: what is canonical, what a template takes, and an index that finds what a naive reading of each rule finds."""

import json
import re
from collections.abc import Sequence
from random import Random
from urllib.parse import quote, unquote
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.decisions import REASONS
from ledger.errors import InvalidInput
from ledger.paths import (
    MAX_PATH_CHARACTERS,
    MAX_SEGMENTS,
    MAX_TEMPLATE_CHARACTERS,
    Literal,
    Matcher,
    Mixed,
    Own,
    Parameter,
    PathRefused,
    Template,
    canonical,
)
from tests.vectors import vectors

OWN = "0190c6a2-0000-7000-8000-000000000001"


def refusal(target: str, *, semicolons: bool = False) -> str | None:
    try:
        canonical(target, semicolons=semicolons)
    except PathRefused as refused:
        return refused.reason
    return None


def matches(template: str, path: str, method: str = "GET", methods: Sequence[str] = ("GET",), own: str = OWN) -> bool:
    matcher: Matcher[str, str] = Matcher()
    matcher.add("role", uuid4(), methods, Template.parse(template), template)
    found = matcher.match(method, canonical(path, semicolons=True), ["role"], own)
    assert found in ([], [("role", template)])
    return bool(found)


# ------------------------------------------------------------------------------------------------------ canonical paths


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        ("/", ("",)),
        ("/?", ("",)),
        ("/a", ("a",)),
        ("/a/", ("a", "")),
        ("/a/b", ("a", "b")),
        ("/a?b=/../c", ("a",)),
        ("/a?b?c#d", ("a",)),
        ("/a%20b", ("a b",)),
        ("/%61", ("a",)),
        ("/%C3%BC", ("ü",)),
        ("/%c3%bc", ("ü",)),
        ("/a%3Fb", ("a?b",)),
        ("/a%23b", ("a#b",)),
        ("/100%25", ("100%",)),
        ("/%25zz", ("%zz",)),
        ("/...", ("...",)),
        ("/.a", (".a",)),
        ("/a..", ("a..",)),
        ("/a+b", ("a+b",)),
        ("/a:b@c,d=e", ("a:b@c,d=e",)),
        ("/{id}", ("{id}",)),
    ],
)
def test_a_path_is_cut_at_the_query_and_each_segment_is_decoded_once(target: str, segments: tuple[str, ...]) -> None:
    assert canonical(target) == segments


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "path_not_absolute"),
        ("a", "path_not_absolute"),
        ("*", "path_not_absolute"),
        ("?/a", "path_not_absolute"),
        ("http://host/a", "path_not_absolute"),
        (" /a", "path_not_absolute"),
        ("%2Fa", "path_not_absolute"),
        ("/ü", "path_not_ascii"),
        ("/a/\ud800", "path_not_ascii"),
        ("/\uff0e\uff0e", "path_not_ascii"),
        ("/a#b", "path_has_fragment"),
        ("/a#b?c", "path_has_fragment"),
        ("//", "path_empty_segment"),
        ("//a", "path_empty_segment"),
        ("/a//", "path_empty_segment"),
        ("/a//b", "path_empty_segment"),
        ("/.", "path_dot_segment"),
        ("/..", "path_dot_segment"),
        ("/a/./b", "path_dot_segment"),
        ("/a/../b", "path_dot_segment"),
        ("/a/%2e%2E/b", "path_dot_segment"),
        ("/a/.%2e/b", "path_dot_segment"),
        ("/%2e", "path_dot_segment"),
        ("/a%2Fb", "path_encoded_slash"),
        ("/a%2fb", "path_encoded_slash"),
        ("/..%2F..", "path_encoded_slash"),
        ("/a\\b", "path_backslash"),
        ("/a%5Cb", "path_backslash"),
        ("/..%5c", "path_backslash"),
        ("/a\nb", "path_control_character"),
        ("/a\x7f", "path_control_character"),
        ("/%00", "path_control_character"),
        ("/%0d%0a", "path_control_character"),
        ("/%7F", "path_control_character"),
        ("/%C2%85", "path_control_character"),
        ("/%252e", "path_double_encoded"),
        ("/%252F", "path_double_encoded"),
        ("/%2541", "path_double_encoded"),
        ("/%", "path_bad_escape"),
        ("/%4", "path_bad_escape"),
        ("/%zz", "path_bad_escape"),
        ("/%u0041", "path_bad_escape"),
        ("/a%4", "path_bad_escape"),
        ("/%4/1", "path_bad_escape"),
        ("/%FF", "path_not_utf8"),
        ("/%C0%AF", "path_not_utf8"),
        ("/%C3", "path_not_utf8"),
        ("/%ED%A0%80", "path_not_utf8"),
        ("/%C3/%BC", "path_not_utf8"),
        ("/a;b", "path_semicolon"),
        ("/a%3Bb", "path_semicolon"),
        ("/;", "path_semicolon"),
    ],
)
def test_a_path_that_could_be_read_differently_is_refused_with_its_reason(target: str, reason: str) -> None:
    assert refusal(target) == reason


def test_an_api_may_allow_semicolons() -> None:
    assert canonical("/users/;id=5/a;v=1", semicolons=True) == ("users", ";id=5", "a;v=1")
    assert canonical("/a%3Bb", semicolons=True) == ("a;b",)


@pytest.mark.parametrize("target", ["/a/..;/b", "/a/..;x=y/b", "/a/.;/b", "/a/%2e%2e%3b/b"])
def test_a_dot_segment_hides_behind_no_semicolon(target: str) -> None:
    assert refusal(target, semicolons=True) == "path_dot_segment"


def test_a_path_is_8_kib_at_most_and_its_query_does_not_count() -> None:
    longest = "/" + "a" * (MAX_PATH_CHARACTERS - 1)
    assert refusal(longest) is None
    assert refusal(longest + "a") == "path_too_long"
    assert refusal(longest + "?" + "b" * MAX_PATH_CHARACTERS) is None
    assert refusal("/" + "%61" * 2_730) is None
    assert refusal("/" + "%61" * 2_731) == "path_too_long"


def test_a_path_has_64_segments_at_most() -> None:
    assert len(canonical("/a" * MAX_SEGMENTS)) == MAX_SEGMENTS
    assert len(canonical("/a" * (MAX_SEGMENTS - 1) + "/")) == MAX_SEGMENTS
    assert refusal("/a" * MAX_SEGMENTS + "/") == "path_too_many_segments"
    assert refusal("/a" * (MAX_SEGMENTS + 1)) == "path_too_many_segments"


HOSTILE = st.lists(
    st.sampled_from([*"abAB01/%.;\\?#{}*:@ +\n\t\0\x7f\x85\u2028üé", "%2e", "%2F", "%25", "%C3", "%BC", "..", "\ud800", "%00"]),
    max_size=24,
).map("".join)


@given(HOSTILE | st.text(), st.booleans())
def test_any_text_is_a_path_or_refused(text: str, semicolons: bool) -> None:
    for target in (text, f"/{text}"):
        refusal(target, semicolons=semicolons)


@given(HOSTILE | st.text(), st.booleans())
def test_what_is_canonical_stays_so_when_encoded_again(text: str, semicolons: bool) -> None:
    for target in (f"/{text}", f"/{quote(text, safe='/', errors='surrogatepass')}"):
        try:
            segments = canonical(target, semicolons=semicolons)
        except PathRefused:
            continue
        assert canonical("/" + "/".join(quote(segment, safe="") for segment in segments), semicolons=semicolons) == segments
        assert not any(segment in (".", "..") or {*segment} & {"/", "\\", "\0", "\n"} for segment in segments)


def test_naughty_strings_are_paths_or_refused() -> None:
    strings = json.loads(vectors("corpora", "naughty-strings", "blns.json").read_text(encoding="utf-8"))
    for string in strings:
        for target in (string, f"/{string}", f"/a/{quote(string, safe='')}", f"/a/{quote(string, safe='/')}/b?{string}"):
            refusal(target)
            refusal(target, semicolons=True)


# ---------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    ("text", "parts", "rest"),
    [
        ("/", (Literal(""),), False),
        ("/a", (Literal("a"),), False),
        ("/a/", (Literal("a"), Literal("")), False),
        ("/orders/{id}", (Literal("orders"), Parameter()), False),
        ("/users/{sub}/orders", (Literal("users"), Own(), Literal("orders")), False),
        ("/**", (), True),
        ("/a/**", (Literal("a"),), True),
        ("/{a}/**", (Parameter(),), True),
        ("/{base}...{head}", (Mixed(("", "...", "")),), False),
        ("/{name}.{format}", (Mixed(("", ".", "")),), False),
        ("/{name}..", (Mixed(("", "..")),), False),
        ("/v{version}", (Mixed(("v", "")),), False),
        ("/ü", (Literal("ü"),), False),
        ("/%C3%BC", (Literal("ü"),), False),
        ("/a%20b", (Literal("a b"),), False),
        ("/%7Bid%7D", (Literal("{id}"),), False),
        ("/%2A", (Literal("*"),), False),
        ("/a;b", (Literal("a;b"),), False),
        ("/:id", (Literal(":id"),), False),
    ],
)
def test_a_template_is_read_as_in_openapi(text: str, parts: tuple[object, ...], rest: bool) -> None:
    template = Template.parse(text)
    assert (template.text, template.parts, template.rest) == (text, parts, rest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "**",
        "/a?b",
        "/a#b",
        "//",
        "/a//b",
        "//**",
        "/a/**/b",
        "/a**",
        "/**a",
        "/*",
        "/a/*/b",
        "/admin*",
        "/*.html",
        "/{a}*",
        "/{}",
        "/{a",
        "/a}",
        "/{{a}}",
        "/{a b}",
        "/{1}",
        "/{a}{b}",
        "/{a}/{a}",
        "/{a}-{a}",
        "/x{sub}",
        "/{sub}.json",
        "/{sub}/{sub}",
        "/.",
        "/..",
        "/a/%2e%2e/b",
        "/a/..;x",
        "/%2F",
        "/{a}%2F{b}",
        "/%",
        "/%{a}",
        "/%C3{a}%BC",
        "/%FF",
        "/%2541",
        "/a\\b",
        "/a\nb",
        "/\0",
        "/a b",
        "/a\u00a0",
        "/a\u2028b",
        "/a clearance 5",
        "/\ud800",
        "/\ud800%41",
    ],
)
def test_what_is_no_template_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Template.parse(text, "rules.0.path")
    assert [problem.field for problem in refused.value.problems] == ["rules.0.path"]


def test_a_template_has_bounds() -> None:
    assert len(Template.parse("/a" * MAX_SEGMENTS).parts) == MAX_SEGMENTS
    assert len(Template.parse("/a" * (MAX_SEGMENTS - 1) + "/**").parts) == MAX_SEGMENTS - 1
    for text in ("/a" * (MAX_SEGMENTS + 1), "/a" * MAX_SEGMENTS + "/**", "/" + "a" * MAX_TEMPLATE_CHARACTERS):
        with pytest.raises(InvalidInput):
            Template.parse(text)
    Template.parse("/" + "a" * (MAX_TEMPLATE_CHARACTERS - 1))


@given(HOSTILE | st.lists(st.sampled_from([*"ab{}*.%/;-", "{sub}", "{x}", "{y}", "**"])).map("".join))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    for template in (text, f"/{text}"):
        try:
            Template.parse(template)
        except InvalidInput:
            continue


def test_naughty_strings_are_templates_or_refused() -> None:
    for string in json.loads(vectors("corpora", "naughty-strings", "blns.json").read_text(encoding="utf-8")):
        for text in (string, f"/{string}", f"/{quote(string, safe='')}"):
            try:
                template = Template.parse(text)
            except InvalidInput:
                continue
            assert not template.rest
            assert all(isinstance(part, Literal | Parameter | Mixed) for part in template.parts)


# ----------------------------------------------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("template", "taken", "left"),
    [
        ("/", ["/", "/?a"], ["/a", "/a/"]),
        ("/a", ["/a", "/%61", "/a?b"], ["/", "/a/", "/A", "/a/b", "/aa"]),
        ("/a/", ["/a/"], ["/a", "/a/b"]),
        ("/{x}", ["/a", "/%20", "/..."], ["/", "/a/", "/a/b"]),
        ("/a/{x}", ["/a/b"], ["/a/", "/a", "/a/b/", "/b/b"]),
        ("/{x}/", ["/a/"], ["/", "/a"]),
        ("/u/{sub}", [f"/u/{OWN}"], ["/u/other", f"/u/{OWN.upper()}", f"/u/{OWN}/", "/u/"]),
        ("/**", ["/", "/a", "/a/", "/a/b/c"], []),
        ("/a/**", ["/a/", "/a/b", "/a/b/", "/a/b/c"], ["/a", "/", "/b/a", "/aa/b"]),
        ("/{x}/**", ["/a/", "/a/b"], ["/", "/a"]),
        ("/{a}...{b}", ["/x...y", "/x....y", "/......."], ["/x..y", "/...", "/x...", "/...y", "/x...y/"]),
        ("/{a}.{b}", ["/x.y", "/x.y.z", "/a..b"], ["/xy", "/.y", "/x."]),
        ("/v{a}", ["/v1", "/vv"], ["/v", "/1"]),
        ("/{a}-{b}-{c}", ["/x-y-z", "/x-y-z-w", "/-----"], ["/x-y", "/x--y", "/x-y-"]),
        ("/ab{x}ba", ["/abcba", "/ababba"], ["/aba", "/abba"]),
        ("/%7Bx%7D", ["/{x}", "/%7Bx%7D"], ["/a"]),
        ("/ü", ["/%C3%BC", "/%c3%bc"], ["/u%CC%88"]),
        ("/a;b", ["/a;b", "/a%3Bb"], ["/a"]),
    ],
)
def test_a_template_takes_some_paths_and_leaves_others(template: str, taken: list[str], left: list[str]) -> None:
    assert [path for path in taken + left if matches(template, path)] == taken


def test_nobody_owns_the_empty_segment() -> None:
    assert not matches("/u/{sub}", "/u/", own="")


def test_get_covers_head_and_nothing_else_is_implied() -> None:
    asked = ["GET", "HEAD", "POST", "OPTIONS", "get", "*", ""]
    assert [method for method in asked if matches("/a", "/a", method, ["GET"])] == ["GET", "HEAD"]
    assert [method for method in asked if matches("/a", "/a", method, ["HEAD"])] == ["HEAD"]
    assert [method for method in asked if matches("/a", "/a", method, ["POST"])] == ["POST"]
    assert all(matches("/a", "/a", method, ["*"]) for method in ["GET", "HEAD", "POST", "PURGE"])


def test_a_rule_for_get_and_head_is_found_once() -> None:
    assert matches("/a", "/a", "HEAD", ["GET", "HEAD"])


def test_only_the_groups_asked_for_are_looked_at() -> None:
    matcher: Matcher[str, int] = Matcher()
    key = uuid4()
    for number, group in enumerate(["reader", "writer", "admin"]):
        matcher.add(group, key, ["GET"], Template.parse("/a"), number)
    assert matcher.match("GET", ("a",), ["writer", "nobody"], OWN) == [("writer", 1)]
    assert matcher.match("GET", ("a",), [], OWN) == []


def test_a_rule_added_again_under_its_key_is_replaced() -> None:
    matcher: Matcher[str, str] = Matcher()
    key = uuid4()
    matcher.add("role", key, ["GET"], Template.parse("/a"), "old")
    matcher.add("role", key, ["POST"], Template.parse("/b/**"), "new")
    assert len(matcher) == 1
    assert matcher.match("GET", ("a",), ["role"], OWN) == []
    assert matcher.match("POST", ("b", "c"), ["role"], OWN) == [("role", "new")]


def test_removing_what_is_not_there_is_nothing() -> None:
    matcher: Matcher[str, str] = Matcher()
    matcher.add("role", key := uuid4(), ["GET"], Template.parse("/a"), "kept")
    matcher.remove("role", uuid4())
    matcher.remove("other", key)
    assert matcher.match("GET", ("a",), ["role"], OWN) == [("role", "kept")]


# --------------------------------------------------------------------- the index against a naive reading of each rule

PIECES = ["a", "b", "ab", "aba", "a.b", "{p}", "{sub}", "a{p}", "{p}a", "{p}.{p}", "a{p}b{p}a", "%61", "%2A"]
SEGMENTS = ["a", "b", "ab", "aba", "aa", "a.b", "..a", ".a.", "axbya", "abba", "%61", "*", OWN]
METHODS = ["GET", "HEAD", "POST", "*"]


@st.composite
def _template(draw: st.DrawFn) -> str:
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=4))
    pieces += draw(st.sampled_from([[], [""], ["**"]])) if pieces else draw(st.sampled_from([[""], ["**"]]))
    numbers = iter(range(100))
    text = re.sub(r"\{p\}", lambda _: f"{{p{next(numbers)}}}", "/" + "/".join(pieces))
    head, sub, tail = text.partition("{sub}")
    return head + sub + tail.replace("{sub}", "a")


@st.composite
def _path(draw: st.DrawFn) -> str:
    segments = draw(st.lists(st.sampled_from(SEGMENTS), max_size=5))
    return "/" + "/".join([*segments, ""] if not segments or draw(st.booleans()) else segments)


RULES = st.tuples(
    st.sampled_from(["reader", "writer", "admin"]),
    st.integers(0, 7).map(lambda number: UUID(int=number)),
    st.sets(st.sampled_from(METHODS[:3]), min_size=1).map(sorted) | st.just(["*"]),
    _template(),
)
CHANGES = st.lists(st.tuples(st.booleans(), RULES), max_size=40)


def naive(template: str, methods: Sequence[str], method: str, path: str) -> bool:
    """Read one rule the plain way: a regular expression over the decoded path."""
    if not ("*" in methods or method in methods or (method == "HEAD" and "GET" in methods)):
        return False
    text, rest = (template[:-2], True) if template.endswith("/**") else (template, False)
    pattern = ""
    for piece in re.split(r"(\{[^}]*\})", text):
        if piece == "{sub}":
            pattern += re.escape(OWN)
        else:
            pattern += "[^/]+" if piece.startswith("{") else re.escape(unquote(piece))
    return re.fullmatch(pattern + ("(?s:.*)" if rest else ""), unquote(path)) is not None


@given(CHANGES, _path(), st.sampled_from(METHODS[:3]), st.sets(st.sampled_from(["reader", "writer", "admin", "nobody"])))
def test_the_index_finds_what_a_naive_reading_finds(
    changes: list[tuple[bool, tuple[str, UUID, list[str], str]]], path: str, method: str, groups: set[str]
) -> None:
    matcher: Matcher[str, str] = Matcher()
    rules: dict[tuple[str, UUID], tuple[list[str], str]] = {}
    for added, (group, key, methods, template) in changes:
        if added:
            matcher.add(group, key, methods, Template.parse(template), template)
            rules[group, key] = (methods, template)
        else:
            matcher.remove(group, key)
            rules.pop((group, key), None)
        assert len(matcher) == len(rules)
    found = matcher.match(method, canonical(path), sorted(groups), OWN)
    expected = [
        (group, template)
        for (group, _), (methods, template) in rules.items()
        if group in groups and naive(template, methods, method, path)
    ]
    assert sorted(found) == sorted(expected)


@given(st.lists(RULES, max_size=12), st.randoms())
def test_rules_that_were_removed_in_any_order_leave_nothing(
    rules: list[tuple[str, UUID, list[str], str]], random: Random
) -> None:
    matcher: Matcher[str, str] = Matcher()
    for group, key, methods, template in rules:
        matcher.add(group, key, methods, Template.parse(template), template)
    keys = [(group, key) for group, key, _, _ in rules]
    random.shuffle(keys)
    for group, key in keys:
        matcher.remove(group, key)
    assert len(matcher) == 0
    assert matcher._root.is_empty()


@given(HOSTILE)
def test_a_rule_for_everything_takes_every_path_that_is_not_refused(text: str) -> None:
    matcher: Matcher[str, str] = Matcher()
    matcher.add("role", uuid4(), ["*"], Template.parse("/**"), "everything")
    target = f"/{text}"
    if refusal(target) is None:
        assert matcher.match("GET", canonical(target), ["role"], OWN) == [("role", "everything")]
    else:
        assert refusal(target) in REASONS


def test_the_work_of_a_match_does_not_grow_with_the_rules() -> None:
    visits = []
    for count in (10, 100, 1_000, 10_000):
        matcher: Matcher[str, int] = Matcher()
        for number in range(count):
            group = f"role-{number % 7}"
            matcher.add(group, uuid4(), ["GET"], Template.parse(f"/things-{number}/{{id}}/parts"), number)
            matcher.add(group, uuid4(), ["GET"], Template.parse(f"/things/{{id}}/parts-{number}"), number)
        matcher.visits = 0
        assert matcher.match("GET", canonical("/things-3/5/parts"), ["role-3"], OWN) == [("role-3", 3)]
        assert matcher.match("GET", canonical("/things/5/parts-3"), ["role-3"], OWN) == [("role-3", 3)]
        assert matcher.match("GET", canonical("/nothing/5/parts"), ["role-3"], OWN) == []
        visits.append(matcher.visits)
    assert visits == [visits[0]] * 4


def test_rules_that_come_and_go_do_not_make_a_match_slower() -> None:
    matcher: Matcher[str, int] = Matcher()
    for number in range(1_000):
        matcher.add("role", UUID(int=1), ["GET"], Template.parse(f"/a{number}-{{x}}/b"), number)
    matcher.match("GET", ("a999-5", "b"), ["role"], OWN)
    assert matcher.visits <= 4


def test_matching_a_long_segment_takes_no_time_that_explodes() -> None:
    # A regular expression would try every way to part it: one pass looks at each character once.
    assert not matches("/{a}a{b}a{c}a{d}a{e}b", "/" + "a" * 8_000)
