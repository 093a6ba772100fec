"""Paths: the one canonical form of a request's path, the templates of rules, and the index that matches them.

A path that two components could read differently is no path: it is refused here with its own reason, and so denied.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import UUID

from ledger.errors import InvalidInput

MAX_PATH_CHARACTERS: Final = 8_192
MAX_SEGMENTS: Final = 64
MAX_TEMPLATE_CHARACTERS: Final = 2_048
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]{0,63})\}")


# Segments that are what they say: nothing to decode, nothing to refuse. The greater part of all paths.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?", re.ASCII)


class PathRefused(Exception):
    """The path is not canonical; `reason` is a reason of a decision."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def canonical(target: str, *, semicolons: bool = False) -> tuple[str, ...]:
    """Answer the decoded segments of a request target in origin form; "/" is ("",), "/a/" is ("a", "").

    Cut at the first "?"; what follows is nobody's business here, however long. Each segment percent-decoded once.
    PathRefused: see the reasons.
    """
    path = target.partition("?")[0]
    if len(path) > MAX_PATH_CHARACTERS:
        raise PathRefused("path_too_long")
    if _PLAIN.fullmatch(path) is not None and path.count("/") <= MAX_SEGMENTS:
        return tuple(path[1:].split("/"))
    if not path.startswith("/"):
        raise PathRefused("path_not_absolute")
    if not path.isascii():
        raise PathRefused("path_not_ascii")
    if "#" in path:
        raise PathRefused("path_has_fragment")
    segments = path[1:].split("/")
    if len(segments) > MAX_SEGMENTS:
        raise PathRefused("path_too_many_segments")
    if "" in segments[:-1]:
        raise PathRefused("path_empty_segment")
    return tuple(_segment(segment, semicolons) for segment in segments)


def _segment(text: str, semicolons: bool) -> str:
    segment = _decoded(text)
    # Servers that know matrix parameters drop them before they resolve dots (Tomcat: "/a/..;x/b" is "/b"), so what stands
    # before a semicolon must be no dot segment either, also where the API allows semicolons.
    if segment.partition(";")[0] in (".", ".."):
        raise PathRefused("path_dot_segment")
    if ";" in segment and not semicolons:
        raise PathRefused("path_semicolon")
    return segment


def _decoded(segment: str) -> str:
    if "%" in segment:
        if _BAD_ESCAPE.search(segment) is not None:
            raise PathRefused("path_bad_escape")
        try:
            segment = unquote_to_bytes(segment).decode("utf-8")
        except UnicodeDecodeError:
            raise PathRefused("path_not_utf8") from None
        if "/" in segment:
            raise PathRefused("path_encoded_slash")
        if _ESCAPE.search(segment) is not None:
            raise PathRefused("path_double_encoded")
    if "\\" in segment:
        raise PathRefused("path_backslash")
    if _CONTROL.search(segment) is not None:
        raise PathRefused("path_control_character")
    return segment


@dataclass(frozen=True, slots=True)
class Literal:
    """A segment that is this text, byte for byte."""

    text: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """`{name}`: any one segment that is not empty."""


@dataclass(frozen=True, slots=True)
class Own:
    """`{sub}`: the subject's own id."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Parameters and text in one segment, as in `{base}...{head}`: the texts between, before and after the parameters."""

    texts: tuple[str, ...]

    def matches(self, segment: str) -> bool:
        """Say whether the segment is these texts with something between each two; one pass, no backtracking."""
        first, *between, last = self.texts
        if not segment.startswith(first) or not segment.endswith(last):
            return False
        at, end = len(first), len(segment) - len(last)
        for text in between:
            found = segment.find(text, at + 1, end)
            if found < 0:
                return False
            at = found + len(text)
        return end - at >= 1


Part = Literal | Parameter | Own | Mixed


@dataclass(frozen=True, slots=True)
class Template:
    """A path template as in OpenAPI, with `{sub}` and a trailing `/**`.

    `/a/**` takes everything below `/a/`, and `/a/` itself, but not `/a`. A parameter never takes an empty segment.
    """

    text: str
    parts: tuple[Part, ...]
    rest: bool

    @classmethod
    def parse(cls, text: str, field: str = "path") -> "Template":
        """Read a template. InvalidInput naming `field`: not absolute, not canonical, a parameter twice, `**` elsewhere."""
        if len(text) > MAX_TEMPLATE_CHARACTERS:
            raise InvalidInput.of(field, f"at most {MAX_TEMPLATE_CHARACTERS} characters")
        if not text.startswith("/"):
            raise InvalidInput.of(field, "begins with /")
        if "?" in text or "#" in text:
            raise InvalidInput.of(field, "a path without query and fragment")
        # A rule is written as a line of words, and its id is made from that line.
        if any(character.isspace() for character in text):
            raise InvalidInput.of(field, "white space is written %20")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidInput.of(field, "no lone surrogate")
        segments = text[1:].split("/")
        rest = segments[-1] == "**"
        if rest:
            segments.pop()
        if len(segments) > MAX_SEGMENTS - rest:
            raise InvalidInput.of(field, f"at most {MAX_SEGMENTS} segments")
        if "" in (segments if rest else segments[:-1]):
            raise InvalidInput.of(field, "no empty segment but the last")
        names: set[str] = set()
        return cls(text, tuple(_part(segment, names, field) for segment in segments), rest)


def _part(segment: str, names: set[str], field: str) -> Part:
    pieces = _PARAMETER.split(segment)
    texts, parameters = pieces[::2], pieces[1::2]
    for text in texts:
        if "{" in text or "}" in text:
            raise InvalidInput.of(field, "a parameter is {name}")
        # Elsewhere a star would be a letter like any other, and a deny on "/admin*" would deny nothing.
        if "*" in text:
            raise InvalidInput.of(field, "** is the last segment, alone; one segment is {name}; a star itself is %2A")
    for name in parameters:
        if name in names:
            raise InvalidInput.of(field, f"the parameter {name} stands twice")
        names.add(name)
    try:
        # Templates may be written decoded or encoded; semicolons are for the API to allow, in its paths.
        texts = [_decoded(text) for text in texts] if parameters else [_segment(segment, True)]
    except PathRefused as refused:
        raise InvalidInput.of(field, f"not canonical: {refused.reason}") from None
    if not parameters:
        return Literal(texts[0])
    if texts == ["", ""]:
        return Own() if parameters == ["sub"] else Parameter()
    if "sub" in parameters:
        raise InvalidInput.of(field, "{sub} is a segment of its own")
    if "" in texts[1:-1]:
        raise InvalidInput.of(field, "two parameters have text between them")
    return Mixed(tuple(texts))


Group = TypeVar("Group", bound=Hashable)
Entry = TypeVar("Entry")


@dataclass(eq=False, slots=True)
class _Node(Generic[Group, Entry]):
    literals: "dict[str, _Node[Group, Entry]]" = field(default_factory=dict)
    others: "dict[Part, _Node[Group, Entry]]" = field(default_factory=dict)
    # method -> group -> key -> entry, of the templates that end here and of those that take the rest from here.
    here: dict[str, dict[Group, dict[UUID, Entry]]] = field(default_factory=dict)
    rest: dict[str, dict[Group, dict[UUID, Entry]]] = field(default_factory=dict)

    def is_empty(self) -> bool:
        return not (self.literals or self.others or self.here or self.rest)


class Matcher(Generic[Group, Entry]):
    """An index over the rules of one API: a trie of segments, walked level by level.

    Rules stand in groups (roles), and only the groups asked for are looked at: the work depends on the path and on the
    asker's groups, not on how many rules or roles there are. `visits` counts it: nodes, and parts with parameters tried.
    """

    def __init__(self) -> None:
        self._root: _Node[Group, Entry] = _Node()
        self._placed: dict[tuple[Group, UUID], tuple[tuple[str, ...], Template]] = {}
        self.visits = 0

    def __len__(self) -> int:
        return len(self._placed)

    def add(self, group: Group, key: UUID, methods: Sequence[str], template: Template, entry: Entry) -> None:
        """Add a rule under its group and key; one that stands under them is replaced."""
        self.remove(group, key)
        node = self._root
        for part in template.parts:
            if isinstance(part, Literal):
                node = node.literals.setdefault(part.text, _Node())
            else:
                node = node.others.setdefault(part, _Node())
        place = node.rest if template.rest else node.here
        # GET covers HEAD: under both, the rule would be found twice.
        methods = tuple(method for method in methods if method != "HEAD" or "GET" not in methods)
        for method in methods:
            place.setdefault(method, {}).setdefault(group, {})[key] = entry
        self._placed[group, key] = (methods, template)

    def remove(self, group: Group, key: UUID) -> None:
        """Take a rule away; nothing where it is not there."""
        placed = self._placed.pop((group, key), None)
        if placed is None:
            return
        methods, template = placed
        way = [self._root]
        for part in template.parts:
            way.append(way[-1].literals[part.text] if isinstance(part, Literal) else way[-1].others[part])
        place = way[-1].rest if template.rest else way[-1].here
        for method in methods:
            groups = place[method]
            del groups[group][key]
            if not groups[group]:
                del groups[group]
            if not groups:
                del place[method]
        # Branches without a rule go: a worker lives for long, and would walk those of every rule that there ever was.
        for part in reversed(template.parts):
            if not way.pop().is_empty():
                return
            if isinstance(part, Literal):
                del way[-1].literals[part.text]
            else:
                del way[-1].others[part]

    def match(self, method: str, segments: Sequence[str], groups: Iterable[Group], own: str) -> list[tuple[Group, Entry]]:
        """Answer the rules of these groups that match; `own` is what `{sub}` stands for. GET covers HEAD."""
        methods = ("HEAD", "GET", "*") if method == "HEAD" else (method, "*")
        found: list[tuple[Group, Entry]] = []
        groups = tuple(groups)
        nodes = [self._root]
        for segment in segments:
            below: list[_Node[Group, Entry]] = []
            for node in nodes:
                self.visits += 1
                if node.rest:
                    _collect(node.rest, methods, groups, found)
                literal = node.literals.get(segment)
                if literal is not None:
                    below.append(literal)
                if node.others and segment:
                    self.visits += len(node.others)
                    for part, other in node.others.items():
                        if (
                            isinstance(part, Parameter)
                            or (isinstance(part, Own) and segment == own)
                            or (isinstance(part, Mixed) and part.matches(segment))
                        ):
                            below.append(other)
            nodes = below
            if not nodes:
                break
        for node in nodes:
            if node.here:
                _collect(node.here, methods, groups, found)
        return found


def _collect(
    place: dict[str, dict[Group, dict[UUID, Entry]]],
    methods: Sequence[str],
    groups: Sequence[Group],
    found: list[tuple[Group, Entry]],
) -> None:
    for method in methods:
        by_group = place.get(method)
        if by_group:
            for group in groups:
                entries = by_group.get(group)
                if entries:
                    found.extend((group, entry) for entry in entries.values())
