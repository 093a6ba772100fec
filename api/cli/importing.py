"""`token-ledger api import`: from a document to a plan that is shown, and on to what was planned.

The document is read here and reduced to roles and rules, so that the server never parses one and a body of 256 KiB is enough
for most. What is more than one request takes goes in parts of whole roles: each is planned and done by itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from api.cli.calling import Call
from api.cli.documents import read_document
from api.cli.output import Row
from ledger.identifiers import name_id
from ledger.imports import MAX_ROLES, MAX_STANDING
from ledger.openapi import By, Finding, propose

# Of a part, as JSON: below the 256 KiB that a body may have, with room for its other members.
MAX_PART_BYTES: Final = 250 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said on the command line."""

    file: str
    by: By
    prefix: str | None
    names: Sequence[str]
    remove_others: bool
    dry_run: bool
    plan: str | None
    yes: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What one request asks for, and the plan that its dry run answered."""

    body: Mapping[str, Any]
    planned: Mapping[str, Any]


def run_import(call: Call, api: str, asked: Asked) -> None:
    """Plan, list, ask, and do it. ClickException, InvalidInput for a document that cannot be imported."""
    if asked.file == "-" and not (asked.yes or asked.dry_run):
        raise click.UsageError("a document on standard input goes with --dry-run or --yes: there is nobody to ask")
    proposal = propose(read_document(asked.file), asked.by, prefix=_checked_prefix(asked.prefix), names=_names(asked.names))
    there = call(name=api, body={"dry_run": True})
    roles: dict[str, list[str] | None] = {**proposal.roles()}
    others = [role["role"] for role in there["others"] if role["role"] not in roles]
    if asked.remove_others:
        roles |= dict.fromkeys(others)
        others = []
    rule_counts = {role["role"]: role["rule_count"] for role in there["others"]}
    parts = [Part(body, call(name=api, body=body | {"dry_run": True})) for body in _bodies(roles, rule_counts)]
    plan_ids = [part.planned["plan_id"] for part in parts]
    plan_id = plan_ids[0] if len(plan_ids) == 1 else str(name_id("import", *plan_ids))
    counts = _counts(parts)
    if asked.dry_run or not asked.yes:
        call.rows([[*_rows(api, there["registers"], parts, others, proposal.findings)]])
    said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
    click.echo(f"Plan {plan_id}: {said}; {len(proposal.findings)} findings.", err=True)
    if asked.plan not in (None, plan_id):
        raise click.ClickException(f"this is not the plan {asked.plan}: document, options or roles are others now")
    if asked.dry_run:
        return
    changing = [part for part in parts if there["registers"] or any(r["action"] != "leave" for r in part.planned["roles"])]
    if changing and not asked.yes:
        click.confirm("Make the roles so?", abort=True, err=True)
    position = there["position"]
    for done, part in enumerate(changing):
        body = {**part.body, "plan_id": part.planned["plan_id"]}
        try:
            position = call(name=api, body=body, correlation_id=plan_id)["position"]
        except click.ClickException:
            if done:
                click.echo(
                    f"{done} of {len(changing)} parts are done; what is left is planned anew by the same command.", err=True
                )
            raise
    call.show({"plan_id": plan_id, "api": api, "registered": there["registers"], **counts, "position": position})


def _checked_prefix(prefix: str | None) -> str | None:
    if prefix is not None and not prefix.startswith("/"):
        raise click.BadParameter("begins with /; for none: /", param_hint="--prefix")
    return prefix


def _names(given: Sequence[str]) -> dict[str, str]:
    names = {}
    for text in given:
        source, separator, name = text.rpartition("=")
        if not separator or not source or source in names:
            raise click.BadParameter("SOURCE=ROLE, each source once", param_hint="--role")
        names[source] = name
    return names


def _bodies(roles: Mapping[str, list[str] | None], rule_counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Answer the requests that ask for all of the roles (None: to be removed); at least one, for the API itself."""
    bodies: list[dict[str, Any]] = [{"roles": {}, "remove": []}]
    size = standing = 0
    for name, rules in roles.items():
        takes = len(json.dumps([name, rules]))
        if takes > MAX_PART_BYTES:
            raise click.ClickException(f"the role {name} has more rules than one request takes: {len(rules or ())}")
        holds = rule_counts.get(name, 0)
        held = len(bodies[-1]["roles"]) + len(bodies[-1]["remove"])
        if held and (held == MAX_ROLES or size + takes > MAX_PART_BYTES or standing + holds > MAX_STANDING):
            bodies.append({"roles": {}, "remove": []})
            size = standing = 0
        size, standing = size + takes, standing + holds
        if rules is None:
            bodies[-1]["remove"].append(name)
        else:
            bodies[-1]["roles"][name] = rules
    return bodies


def _counts(parts: Sequence[Part]) -> dict[str, int]:
    roles = [role for part in parts for role in part.planned["roles"]]
    counts = {
        f"roles_{done}": sum(role["action"] == action for role in roles)
        for action, done in (("create", "created"), ("change", "changed"), ("remove", "removed"))
    }
    kept = [role for role in roles if role["action"] != "remove"]
    return counts | {f"rules_{done}": sum(len(role[done]) for role in kept) for done in ("granted", "withdrawn")}


def _rows(
    api: str, registers: bool, parts: Sequence[Part], others: Sequence[str], findings: Sequence[Finding]
) -> Iterator[Row]:
    """Answer the lines of a plan: what becomes of each role, its rules, what stays, and what was found in the document."""

    def row(what: str, role: str | None = None, rule: str | None = None, note: str | None = None) -> Row:
        return {"what": what, "role": role, "rule": rule, "note": note}

    if registers:
        yield row("register", note=f"the API {api}")
    for part in parts:
        for role in part.planned["roles"]:
            name, action = role["role"], role["action"]
            if action in ("create", "remove"):
                yield row(action, name)
            if action == "remove":
                continue
            yield from (row("grant", name, rule) for rule in role["granted"])
            yield from (row("withdraw", name, rule) for rule in role["withdrawn"])
    yield from (row("keep", name, note="not in the document; --remove-others removes it") for name in others)
    yield from (row(finding.kind, note=f"{finding.about}: {finding.what}") for finding in findings)
