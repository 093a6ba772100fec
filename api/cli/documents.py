"""A document that a command reads: JSON or YAML, from a file or from standard input, in bounded memory.

YAML is read from the events of its parser, and every scalar as the text that stands there: nothing is guessed to be a date,
a number or a yes, no tag makes an object, a member stands once, and what aliases repeat counts as often as it is repeated.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click

from api.cli.output import escaped

MAX_BYTES: Final = 64 * 1024 * 1024
# Values of a document, with those that aliases repeat; and how deep they may lie in each other.
MAX_VALUES: Final = 10_000_000
MAX_DEPTH: Final = 200


def read_document(name: str) -> Any:
    """Answer the value of a document; `-` is standard input. ClickException for what cannot be read."""
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{name}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise click.ClickException(f"{name}: larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{name}: not UTF-8") from None
    try:
        # What begins so may be YAML too, but is JSON.
        return _json(text) if text.lstrip().startswith(("{", "[")) else _yaml(text)
    except ValueError as error:
        raise click.ClickException(f"{name}: {escaped(str(error))}") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_members)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        _put(members, name, value, "")
    return members


def _put(members: dict[str, Any], name: str, value: object, where: str) -> None:
    if name in members:
        raise ValueError(f"the member {name[:100]!r} stands twice{where}")
    members[name] = value


class _Level:
    """A list or an object whose end has not come: `name` is that of the member whose value comes next."""

    __slots__ = ("anchor", "began", "name", "value")

    def __init__(self, value: Any, anchor: str | None, began: int) -> None:
        self.value, self.anchor, self.began = value, anchor, began
        self.name: str | None = None


def _yaml(text: str) -> Any:
    """Answer the value of a YAML document. ValueError says what is wrong with it, and where."""
    # Here, because it takes longer to import than most commands run. The parser in C where there is one: ten times as fast.
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    levels: list[_Level] = []
    anchored: dict[str, tuple[Any, int]] = {}
    documents: list[Any] = []
    count = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            where = "" if event.start_mark is None else f", line {event.start_mark.line + 1}"
            match event:
                case yaml.AliasEvent():
                    if event.anchor not in anchored:
                        raise ValueError(f"*{event.anchor} stands for nothing that has ended before{where}")
                    value, size = anchored[event.anchor]
                    count += size
                case yaml.ScalarEvent():
                    value, size = event.value, 1
                    count += 1
                    if event.anchor is not None:
                        anchored[event.anchor] = value, size
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    levels.append(_Level([] if isinstance(event, yaml.SequenceStartEvent) else {}, event.anchor, count))
                    count += 1
                    if len(levels) > MAX_DEPTH:
                        raise ValueError(f"nested deeper than {MAX_DEPTH}{where}")
                    continue
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    ended = levels.pop()
                    value = ended.value
                    if ended.anchor is not None:
                        anchored[ended.anchor] = value, count - ended.began
                case _:
                    continue
            if count > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES} values, as often as aliases repeat them{where}")
            _place(levels, documents, value, where)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"not YAML: {error.problem}{'' if mark is None else f', line {mark.line + 1}'}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    if len(documents) != 1:
        raise ValueError("not one document of JSON or YAML")
    return documents[0]


def _place(levels: list[_Level], documents: list[Any], value: Any, where: str) -> None:
    """Put a value where it belongs: it is a name, or the value of the name before it, or an item."""
    if not levels:
        documents.append(value)
        return
    level = levels[-1]
    if isinstance(level.value, list):
        level.value.append(value)
    elif level.name is not None:
        _put(level.value, level.name, value, where)
        level.name = None
    elif not isinstance(value, str):
        raise ValueError(f"a member has a name{where}")
    elif value == "<<":
        raise ValueError(f"merge keys (<<) are none of YAML 1.2{where}")
    else:
        level.name = value
