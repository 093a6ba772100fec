"""A real API's routes and permissions, as an OpenAPI document, imported with the command line and decided on row by row.

The document is made from the corpus of GitHub's REST API (corpus.py tells how that is read): a path and method for each row,
and for each permission and level that opens it an alternative of its security. What is expected of the decisions comes from
the corpus, not from the document. Its one path that is a regular expression is two here, as GitHub's own document has it:
`.../readme` and `.../readme/{dir}`.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import yaml

from tests.acceptance.corpus import FILE as FILE
from tests.acceptance.corpus import OPTIONAL_REST, Row, ask_all, evaluation, questions, roles_of, tokens_of
from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.calls import ok, resource_server
from tests.terminal import Terminal

API: Final = "github"
STRATEGY: Final = "opaque"


def rows_of(corpus: Mapping[str, Any]) -> dict[Row, list[str]]:
    """Answer each row of the corpus with the roles that open it; a path that ends in a regular expression is two rows."""
    rows: dict[Row, list[str]] = {}
    for role, held in sorted(roles_of(corpus).items()):
        for row in sorted(held, key=lambda row: (row.path, row.method)):
            for path in _paths(row.path):
                rows.setdefault(Row(row.method, path), []).append(role)
    return rows


def _paths(path: str) -> list[str]:
    plain = path.removesuffix(OPTIONAL_REST)
    return [path] if plain == path else [plain, f"{plain}/{{dir}}"]


def document_of(corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the corpus as an OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for row, roles in rows_of(corpus).items():
        operation = {
            "security": [{"github": [role]} for role in roles],
            "responses": {"200": {"description": "as it is said elsewhere"}},
        }
        paths.setdefault(row.path, {})[row.method.lower()] = operation
    scheme = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://github.example/token", "scopes": {}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "GitHub's REST API, its routes and permissions", "version": "1"},
        "servers": [{"url": "https://api.github.example"}],
        "components": {"securitySchemes": {"github": scheme}},
        "paths": paths,
    }


def nameless(rule: str) -> str:
    """Answer a rule without the names of its parameters."""
    return re.sub(r"\{\w+\}", "{}", rule)


def run(stage: Stage) -> Shown:
    """Import the document as it would be done by hand: look at the plan, do exactly it; then ask about every operation."""
    corpus = json.loads(stage.corpus(FILE).read_text())
    rows = rows_of(corpus)
    roles: dict[str, set[Row]] = {}
    for row, names in rows.items():
        for name in names:
            roles.setdefault(name, set()).add(row)
    file = stage.folder / "github.yaml"
    file.write_text(yaml.safe_dump(document_of(corpus), sort_keys=False))
    wrong: list[str] = []
    with running_ledger(stage) as ledger, ledger.served.admin() as admin:
        token = admin.headers["Authorization"].removeprefix("Bearer ")
        terminal = Terminal(ledger.served.url, stage.folder, token=token)
        importing = ("api", "import", API, str(file), "--by", "scopes")
        stage.progress("planning and importing", 0, None)
        before = ok(admin.get("/readyz"))["position"]
        planned = terminal.run(*importing, "--dry-run")
        plan_id = planned.stderr.removeprefix("Plan ").partition(":")[0]
        lines = [line.split("\t") for line in planned.stdout.splitlines()]
        if planned.exit_code != 0 or ok(admin.get("/readyz"))["position"] != before:
            wrong.append(f"the dry run ended with {planned.exit_code}, or recorded something: {planned.stderr[:200]}")
        # But for the names of parameters: the corpus has a path twice, under two.
        granted = {(line[1], nameless(line[2])) for line in lines if line[0] == "grant"}
        meant = {(role, nameless(f"allow {row.method} {row.path}")) for role, held in roles.items() for row in held}
        if granted != meant:
            wrong.append(f"the plan grants {len(granted ^ meant)} rules that it should not, or leaves them out")
        done = terminal.objects(*importing, "--yes", "--plan", plan_id)[0]
        again = terminal.objects(*importing, "--yes")[0]
        if again["roles_created"] + again["roles_changed"] or again["position"] != done["position"]:
            wrong.append("imported again it is not the same")
        commands = {
            event["command_id"] for event in ok(admin.get("/v1/audit/events", params={"api": API, "limit": 1000}))["events"]
        }
        asked = questions(list(rows), roles)
        asker = resource_server(admin, API)
        tokens = tokens_of(stage, admin, API, asked)
        probes = [(question, STRATEGY) for question in asked]
        answers, seconds = ask_all(stage, "decisions", ledger.served.url, probes, tokens, evaluation(asker))
    wrong += answers
    yes = sum(question.names is not None for question in asked)
    told = Counter(line[0] for line in lines)
    what = f"{len(rows)} operations of a real API in {file.stat().st_size // 1024:,} KiB of YAML, imported by security scopes"
    figure = (
        f"a plan of {len(lines)} lines, done as listed by {len(commands)} command: {done['roles_created']} roles,"
        f" {done['rules_granted']:,} rules, told of {told['merged']} operations that stand twice and of {told['also_opens']}"
        f" rules that take others' requests; imported again it changes nothing;"
        f" {len(asked):,} decisions ({yes:,} by a right role allowed, {len(asked) - yes:,} by all others together denied),"
        f" {len(asked) / seconds:,.0f}/s"
    )
    if len(commands) != 1:
        wrong.append(f"{len(commands)} commands")
    return Shown(what, figure + "".join(f"; {one}" for one in wrong[:5]), held=not wrong)
