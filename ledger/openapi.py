"""An OpenAPI document (3.0 or 3.1) read as roles and rules. Pure: the parsed document in, a proposal out; docs/import.md.

A rule of a role allows, so what is proposed never opens an operation that the document does not open: what roles and rules
cannot say is left out, and told as a finding. A document that breaks OpenAPI's own rules where it is read is refused whole.
Only what decides about access is read: paths, methods, servers, security, tags, operation ids. Values may be those of JSON, or
texts only, as a YAML reader that guesses no types answers them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from ledger.errors import InvalidInput, Problem
from ledger.names import check_role_name
from ledger.paths import Literal as Text
from ledger.paths import Mixed, Parameter, Part, Template

By = Literal["scopes", "tags", "operations"]
Kind = Literal["public", "left_out", "together", "merged", "renamed", "base_path", "also_opens"]

# OpenAPI 3.1 section 4.8.9.1: the fixed fields of a path item that are operations.
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MAX_OPERATIONS: Final = 10_000
MAX_ALTERNATIVES: Final = 64
MAX_PROBLEMS: Final = 50
MAX_REFERENCES: Final = 10
SHOWN: Final = 3
_VERSION: Final = re.compile(r"3\.[01]\.\d{1,3}(-[\w.+-]{1,32})?", re.ASCII)
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_WORD_BEGINS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that roles open: a method and a template of ours."""

    method: str
    template: Template
    roles: frozenset[str]

    def __str__(self) -> str:
        return f"{self.method} {self.template.text}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What whoever imports should know: of an operation, a role or a server, in one sentence."""

    kind: Kind
    about: str
    what: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """The operations that roles open, and what was found on the way."""

    operations: tuple[Operation, ...]
    findings: tuple[Finding, ...]

    def roles(self) -> dict[str, list[str]]:
        """Answer the rules of each role as lines, both in order. A HEAD that a GET of the role covers has no rule."""
        gets = {
            (operation.template.parts, role)
            for operation in self.operations
            if operation.method == "GET"
            for role in operation.roles
        }
        rules: dict[str, set[str]] = defaultdict(set)
        for operation in self.operations:
            for role in operation.roles:
                if operation.method != "HEAD" or (operation.template.parts, role) not in gets:
                    rules[role].add(f"allow {operation}")
        return {role: sorted(lines) for role, lines in sorted(rules.items())}


def propose(document: object, by: By, *, prefix: str | None = None, names: Mapping[str, str] | None = None) -> Proposal:
    """Answer the roles and rules that a document means.

    `prefix` is the path before those of the document; without it, that of its first server. `names` gives what a scope, a tag
    or an operation id (or scopes that are needed together, with spaces between) is to be called as a role.

    InvalidInput names every place where the document cannot be read, and every name that would be two roles' or none.
    """
    return _Reading(document, by, prefix, names or {}).proposal()


@dataclass(slots=True)
class _Found:
    """An operation as it is read. `needs`: alternatives, each of sources that are needed together; None: it is public."""

    method: str
    template: Template
    needs: "tuple[frozenset[str], ...] | None"


@dataclass(slots=True)
class _Reading:
    document: Any
    by: By
    prefix: str | None
    names: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    findings: dict[tuple[Kind, str, str], Finding] = field(default_factory=dict)
    operation_ids: set[str] = field(default_factory=set)

    def proposal(self) -> Proposal:
        if not isinstance(self.document, dict):
            raise InvalidInput.of("", "an OpenAPI document: an object")
        version = self.document.get("openapi")
        if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
            raise InvalidInput.of("openapi", "a document of OpenAPI 3.0 or 3.1 (`openapi: 3.0.3`), no other version")
        found = self._merged(self._operations())
        self._stop_at_problems()
        names = self._named({source for one in found for source in one.needs or ()})
        self._stop_at_problems()
        operations = tuple(
            Operation(one.method, one.template, frozenset(names[source] for source in one.needs))
            for one in found
            if one.needs is not None
        )
        self._tell_of_combinations(found, names)
        self._tell_of_what_is_opened(operations)
        # Those without a role are there to be compared with what others open.
        return Proposal(tuple(operation for operation in operations if operation.roles), tuple(self.findings.values()))

    def _stop_at_problems(self) -> None:
        if self.problems:
            raise InvalidInput(self.problems[:MAX_PROBLEMS])

    def _problem(self, place: str, rule: str) -> None:
        self.problems.append(Problem(place[:300], rule))

    def _find(self, kind: Kind, about: str, what: str) -> None:
        self.findings[kind, about, what] = Finding(kind, about, what)

    # ------------------------------------------------------------------------------------------------ what there is

    def _operations(self) -> Iterator[_Found]:
        paths = self._object(self.document.get("paths", {}), "paths")
        count = 0
        for path, value in paths.items():
            if not isinstance(path, str) or path.startswith("x-"):
                continue
            place = f"paths.{path}"
            item = self._resolved(value, place)
            for method in METHODS:
                if method not in item:
                    continue
                count += 1
                if count > MAX_OPERATIONS:
                    self._problem("paths", f"at most {MAX_OPERATIONS} operations")
                    return
                operation = self._object(item[method], f"{place}.{method}")
                if "$ref" in operation:
                    self._problem(f"{place}.{method}", "an operation is no reference")
                    continue
                if (found := self._operation(path, method, item, operation, f"{place}.{method}")) is not None:
                    yield found

    def _operation(self, path: str, method: str, item: dict[str, Any], operation: dict[str, Any], place: str) -> _Found | None:
        """Answer one operation; None where its path is none of ours, which is told, or cannot be read, which is a problem."""
        base = self._base(item, operation, place)
        needs = self._needs(path, method, operation, place)
        if base is None:
            return None
        whole = base + path
        about = f"{method.upper()} {whole}"
        try:
            if ";" in whole or self._has_matrix(item, operation, place):
                raise InvalidInput.of(
                    "path", "a semicolon in the path (or `style: matrix`), which APIs do not allow unless told"
                )
            template = self._template(whole, about)
        except InvalidInput as error:
            self._find("left_out", about, f"no rule: {error.problems[0].rule}")
            return None
        if needs is None:
            self._find("public", about, "no rule: it needs no credentials; let it through before the ledger is asked")
        elif not needs:
            missing = {"scopes": "it says nothing of security", "tags": "it has no tag", "operations": ""}[self.by]
            self._find("left_out", about, f"no rule: {missing}")
        return _Found(method.upper(), template, needs)

    def _template(self, whole: str, about: str) -> Template:
        """Answer a path as one of our templates. InvalidInput for what ours cannot say."""
        if "*" in whole:  # `/**` at the end of a template of ours is everything below
            raise InvalidInput.of("path", "a star stands for itself in OpenAPI, and not here: write it %2A")
        named = _IN_BRACES.findall(whole)
        if "sub" in named:
            name = "sub_"
            while name in named:
                name += "_"
            self._find("renamed", about, f"the parameter is {{{name}}} here, where {{sub}} is the caller's own id")
            whole = whole.replace("{sub}", f"{{{name}}}")
        return Template.parse(whole)

    def _has_matrix(self, item: dict[str, Any], operation: dict[str, Any], place: str) -> bool:
        """Say whether a path parameter is written with semicolons (RFC 6570 section 3.2.7)."""
        for of, where in ((item, place.rpartition(".")[0]), (operation, place)):
            for number, value in enumerate(self._list(of.get("parameters", []), f"{where}.parameters")):
                parameter = self._resolved(value, f"{where}.parameters.{number}")
                if parameter.get("in") == "path" and parameter.get("style") == "matrix":
                    return True
        return False

    def _merged(self, found: Iterable[_Found]) -> list[_Found]:
        """Make one of operations whose templates differ in the names of parameters alone: they are the same requests."""
        merged: dict[tuple[str, tuple[Part, ...]], _Found] = {}
        for one in found:
            first = merged.setdefault((one.method, one.template.parts), one)
            if first is one or first.needs == one.needs:
                continue
            self._find(
                "merged",
                f"{first.method} {first.template.text}",
                f"stands again as {one.template.text}, with other needs: who meets either may call it",
            )
            first.needs = tuple(dict.fromkeys([*(first.needs or ()), *(one.needs or ())]))
        return list(merged.values())

    # ---------------------------------------------------------------------------------------------------- who may

    def _needs(self, path: str, method: str, operation: dict[str, Any], place: str) -> tuple[frozenset[str], ...] | None:
        """Answer the alternatives of an operation, none where it says nothing that can be one; None: it is public."""
        said = self._security(operation, place)
        if said is not None and (not said or frozenset() in said):
            return None
        if self.by == "scopes":
            return _fewest(said or ())
        if self.by == "tags":
            tags = self._texts(operation.get("tags", []), f"{place}.tags")
            return tuple(dict.fromkeys(frozenset([tag]) for tag in tags))
        name = operation.get("operationId")
        if name is None:
            return (frozenset([f"{method} {path}"]),)
        if not isinstance(name, str) or not name:
            self._problem(f"{place}.operationId", "a text")
            return ()
        if name in self.operation_ids:
            self._problem(f"{place}.operationId", "an id of this operation alone, and this one stands before")
        self.operation_ids.add(name)
        return (frozenset([name]),)

    def _security(self, operation: dict[str, Any], place: str) -> list[frozenset[str]] | None:
        """Answer the alternatives that `security` has: of each the scopes, and the schemes that are named without any.

        None: it is said nowhere. An empty alternative: nothing is needed.
        """
        if "security" not in operation:
            place, operation = "", self.document
            if "security" not in operation:
                return None
        place = f"{place}.security".removeprefix(".")
        alternatives = []
        said = self._list(operation["security"], place)
        if len(said) > MAX_ALTERNATIVES:
            self._problem(place, f"at most {MAX_ALTERNATIVES} alternatives")
        for number, value in enumerate(said[:MAX_ALTERNATIVES]):
            needed: set[str] = set()
            for scheme, scopes in self._object(value, f"{place}.{number}").items():
                needed |= set(self._texts(scopes, f"{place}.{number}.{scheme}")) or {scheme}
            alternatives.append(frozenset(needed))
        return alternatives

    # --------------------------------------------------------------------------------------------- names of roles

    def _named(self, sources: set[frozenset[str]]) -> dict[frozenset[str], str]:
        """Answer the name of the role that each source is."""
        names: dict[frozenset[str], str] = {}
        by_name: dict[str, list[str]] = defaultdict(list)
        unused = set(self.names)
        for source in sorted(sources, key=_text):
            text = _text(source)
            unused.discard(text)
            given = self.names.get(text)
            try:
                name = given if given is not None else ".and.".join(_role_name(one, self.by) for one in sorted(source))
                check_role_name(name, text)
            except InvalidInput as error:
                self._problem(text, f"no name for a role ({error.problems[0].rule}): give it one, --role '{text}=NAME'")
                continue
            names[source] = name
            by_name[name].append(text)
        for name, texts in by_name.items():
            # Two that were given the same name are meant to be one role.
            if len(texts) > 1 and any(text not in self.names for text in texts):
                of = " and of ".join(map(repr, texts[:SHOWN]))
                self._problem(name, f"would be the role of {of}: give one another name, --role '{texts[0]}=NAME'")
        for text in sorted(unused):
            self._problem(text, "nothing of this name decides about an operation")
        return names

    # --------------------------------------------------------------------------------------------- what is to be known

    def _tell_of_combinations(self, found: Sequence[_Found], names: Mapping[frozenset[str], str]) -> None:
        counts: dict[frozenset[str], int] = defaultdict(int)
        for one in found:
            for source in one.needs or ():
                counts[source] += len(source) > 1
        for source in sorted((source for source, count in counts.items() if count), key=_text):
            together = " and ".join(sorted(source))
            self._find(
                "together",
                names[source],
                f"a role of its own for operations that need {together} together ({counts[source]});"
                " who holds a role for each of these may not call them",
            )

    def _tell_of_what_is_opened(self, operations: Sequence[Operation]) -> None:
        """Find the rules that open requests of other operations: a parameter takes what stands for itself elsewhere.

        OpenAPI prefers the concrete path, `/users/me` before `/users/{id}`; a rule that allows the one allows the other.
        """
        opening: dict[str, _Branch] = defaultdict(_Branch)
        for operation in operations:
            if operation.roles:
                opening[operation.method].add(operation)
        opened: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for operation in operations:
            # GET covers HEAD.
            for method in ("HEAD", "GET") if operation.method == "HEAD" else (operation.method,):
                for other in opening[method].meeting(operation.template.parts):
                    more = other.roles - operation.roles
                    if more and not _narrower(other.template.parts, operation.template.parts):
                        opened[str(other), tuple(sorted(more))].append(str(operation))
        for (opener, roles), several in opened.items():
            shown = ", ".join(several[:SHOWN])
            rest = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
            self._find(
                "also_opens", opener, f"takes the requests of {shown}{rest} too, and so opens them to {', '.join(roles)}"
            )

    # ------------------------------------------------------------------------------------------------------ servers

    def _base(self, item: dict[str, Any], operation: dict[str, Any], place: str) -> str | None:
        """Answer the path before that of an operation; None where the document does not say it, which is a problem."""
        if self.prefix is not None:
            return self.prefix.rstrip("/")
        for of, where in (
            (operation, f"{place}.servers"),
            (item, f"{place.rpartition('.')[0]}.servers"),
            (self.document, "servers"),
        ):
            servers = self._list(of.get("servers", []), where)
            if servers:
                break
        else:
            return ""
        bases = [
            self._server(self._object(server, f"{where}.{number}"), f"{where}.{number}")
            for number, server in enumerate(servers)
        ]
        others = sorted({base for base in bases[1:] if base is not None and base != bases[0]})
        if others:
            shown = ", ".join(base or "/" for base in others[:SHOWN])
            self._find("base_path", where, f"other servers have other paths, which no rule opens: {shown} (--prefix)")
        return bases[0]

    def _server(self, server: dict[str, Any], place: str) -> str | None:
        url = server.get("url")
        if not isinstance(url, str):
            self._problem(f"{place}.url", "a text")
            return None
        values = {}
        variables = self._object(server.get("variables", {}), f"{place}.variables")
        for name in _IN_BRACES.findall(url):
            default = self._object(variables.get(name, {}), f"{place}.variables.{name}").get("default")
            if not isinstance(default, str):
                self._problem(f"{place}.variables.{name}.default", "a text, for the variable stands in the URL")
                return None
            values[name] = default
        path = _path_of_url(url, values)
        if path is None:
            self._problem(
                f"{place}.url", "absolute, or a path that begins with /: nobody here knows where it is relative to (--prefix)"
            )
            return None
        for name, default in values.items():
            if _path_of_url(url, values | {name: f"{default}~"}) != path:
                self._find("base_path", place, f"{{{name}}} is taken to be {default!r}, its default (--prefix)")
        return path

    # -------------------------------------------------------------------------------------------- the parts of a document

    def _resolved(self, value: object, place: str) -> dict[str, Any]:
        """Answer an object that may be a reference within the document (RFC 6901 in a fragment)."""
        target = self._object(value, place)
        for _ in range(MAX_REFERENCES):
            reference = target.get("$ref")
            if reference is None:
                return target
            if target.keys() & {*METHODS, "servers"}:
                self._problem(place, "a reference has neither operations nor servers beside it")
                return {}
            if not isinstance(reference, str) or not reference.startswith("#/"):
                self._problem(place, "a reference within the document (#/...); others are not fetched")
                return {}
            found: Any = self.document
            for token in reference[2:].split("/"):
                name = unquote(token).replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, dict) else None
            if not isinstance(found, dict):
                self._problem(place, "a reference to an object that is there")
                return {}
            target = found
        self._problem(place, "a reference that comes to an end")
        return {}

    def _object(self, value: object, place: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._problem(place, "an object")
        return {}

    def _list(self, value: object, place: str) -> list[Any]:
        if isinstance(value, list):
            return value
        self._problem(place, "a list")
        return []

    def _texts(self, value: object, place: str) -> list[str]:
        items = self._list(value, place)
        if all(isinstance(item, str) and item for item in items):
            return items
        self._problem(place, "a list of texts")
        return []


# ------------------------------------------------------------------------------------------------------- what is opened


@dataclass(slots=True)
class _Branch:
    """Operations by the segments of their templates: those that are text, which are found, and others, which are tried."""

    texts: "dict[Part, _Branch]" = field(default_factory=dict)
    others: "dict[Part, _Branch]" = field(default_factory=dict)
    here: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        branch = self
        for part in operation.template.parts:
            below = branch.texts if isinstance(part, Text) else branch.others
            branch = below.setdefault(part, _Branch())
        branch.here.append(operation)

    def meeting(self, parts: Sequence[Part]) -> list[Operation]:
        """Answer the operations with a request that a template of these parts takes too."""
        branches = [self]
        for part in parts:
            branches = [below for branch in branches for below in branch.taking(part)]
        return [operation for branch in branches for operation in branch.here]

    def taking(self, part: Part) -> "Iterator[_Branch]":
        """Answer the branches below whose segment may be one of this part."""
        if not isinstance(part, Text):
            yield from (below for text, below in self.texts.items() if _meet(part, text))
        elif part in self.texts:
            yield self.texts[part]
        yield from (below for other, below in self.others.items() if _meet(part, other))


def _meet(one: Part, other: Part) -> bool:
    """Say whether a segment may be both, where not both are text; true of two mixed ones where it takes a search to tell."""
    match one, other:
        case (Text(text=text), Mixed() as mixed) | (Mixed() as mixed, Text(text=text)):
            return mixed.matches(text)
        case (Text(text=text), _) | (_, Text(text=text)):
            return text != ""
        case Mixed(texts=these), Mixed(texts=those):
            begin = these[0].startswith(those[0]) or those[0].startswith(these[0])
            return begin and (these[-1].endswith(those[-1]) or those[-1].endswith(these[-1]))
    return True


def _narrower(parts: Sequence[Part], than: Sequence[Part]) -> bool:
    """Say whether the first template is the more concrete one: its requests are those of its own operation."""
    return parts != than and all(
        part == other or isinstance(other, Parameter) or (isinstance(other, Mixed) and isinstance(part, Text))
        for part, other in zip(parts, than, strict=True)
    )


# ------------------------------------------------------------------------------------------------------------- in small


def _fewest(alternatives: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Answer the alternatives without those that need all that another needs, and more."""
    alternatives = tuple(dict.fromkeys(alternatives))
    return tuple(one for one in alternatives if not any(other < one for other in alternatives))


def _text(source: frozenset[str]) -> str:
    return " ".join(sorted(source))


def _role_name(source: str, by: By) -> str:
    """Answer a scope, a tag or an operation id as the name of a role. InvalidInput where nothing sure is left of it."""
    if not source.isascii():
        raise InvalidInput.of(source, "ASCII")
    words = _WORD_BEGINS.sub("-", source) if by == "operations" else source
    return _NOT_IN_NAMES.sub("-", words.lower()).lstrip("-._:").rstrip("-")


def _path_of_url(url: str, values: Mapping[str, str]) -> str | None:
    """Answer the path of a server's URL without a slash at its end; None for one that is relative to somewhere."""
    filled = _IN_BRACES.sub(lambda found: values[found[1]], url)
    try:
        parts = urlsplit(filled)
    except ValueError:
        return None
    if parts.query or parts.fragment or not (parts.netloc or filled.startswith("/") or filled == ""):
        return None
    return parts.path.rstrip("/")
