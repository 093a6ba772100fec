"""Rules on the command line: lines like `allow GET,POST /orders/**`, as arguments or from standard input."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import click

from api.cli.connection import Refusal
from api.cli.options import is_id
from api.cli.output import escaped

RULE_COLUMNS: Final = ("rule_id", "effect", "methods", "path", "min_clearance")
SYNTAX: Final = "allow|deny METHOD[,METHOD...] /path [clearance N]"


def read_lines(arguments: Sequence[str]) -> list[str]:
    """Answer the rules given as arguments; without any, those of standard input, one a line, but for empty ones and `#`."""
    if arguments:
        return list(arguments)
    if sys.stdin.isatty():
        raise click.UsageError(f"rules as arguments, or one a line on standard input: {SYNTAX}")
    try:
        lines = [line.strip() for line in sys.stdin.buffer.read().decode().splitlines()]
    except UnicodeDecodeError:
        raise click.UsageError("the rules on standard input are not UTF-8") from None
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise click.UsageError("no rule on standard input")
    return found


def rule_members(line: str) -> dict[str, Any]:
    """Answer a line as the members of a rule. InvalidInput for what is no rule."""
    # Here, because it takes longer to import than most commands run.
    from ledger.rules import Rule

    rule = Rule.parse(line)
    return {"effect": rule.effect, "methods": list(rule.methods), "path": rule.path, "min_clearance": rule.min_clearance}


def rule_ids(wanted: Sequence[str], standing: Callable[[], Iterable[Mapping[str, Any]]]) -> list[str]:
    """Answer the ids of rules that are named by their ids or by their lines. Refusal for a line that does not stand.

    `standing`, the rules there are, is asked only when there is a line.
    """
    lines = {line: rule_members(line) for line in wanted if not is_id(line)}
    ids: dict[str, str] = {}
    if lines:
        for rule in standing():
            for line, members in lines.items():
                if all(rule[name] == value for name, value in members.items()):
                    ids[line] = rule["rule_id"]
    missing = [line for line in lines if line not in ids]
    if missing:
        raise Refusal(f"there is no rule: {escaped(missing[0])}")
    return [ids.get(rule, rule) for rule in wanted]
