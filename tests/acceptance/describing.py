"""schemathesis over the whole description of the API: as an administrator, an operator and an ordinary client, all checks.

Each run has a ledger of its own, served by the real command; who asks: describing_hooks.py. No operation is left out and no
check; what is said to the checks is in CONFIGURATION, with its reason.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.running import ROOT
from tests.serving import Served

CASES: Final = 5_000
# A case an operation that is drawn; those that schemathesis works out from the description itself are some 5,000 besides.
EXAMPLES: Final = 10
SECONDS: Final = 1_800
ROLES: Final = {"administrator": "administrator", "operator": "operator", "ordinary client": ""}
CONFIGURATION: Final = """
# What fits its schema may be refused for what no schema says: an instant that has come, settings that do not go together, a
# name that is taken, a budget that is spent. That such an answer is described is checked all the same.
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 410, 422, 429]

# Gateways that hand answers on to their client: what is no decision is 503, so that nobody takes it for one (docs/gateways.md).
[[operations]]
include-path-regex = "^/gateway/(forward|envoy)"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
checks.missing_required_header.expected-statuses = [400, 401, 403, 503]
"""


def run(stage: Stage) -> Shown:
    """Run schemathesis as each of them, and name every failure."""
    configuration = stage.folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    lines, cases, failures = [], 0, 0
    for who, role in ROLES.items():
        with running_ledger(stage) as ledger:
            stage.progress(f"as {who}", 0, None)
            report, said = _described(stage, ledger.served, configuration, role)
            clean, verified = ledger.verify()
        generated, tested = report["test_cases"]["generated"], report["operations"]["tested"]
        found = [_told(failure) for failure in [*report["failures"], *report["errors"]]]
        found += said[:40] if report["errors"] else []  # what an error was, its report does not say
        found += [] if clean else [verified]
        cases += generated
        count = len(report["failures"]) + len(report["errors"]) + (not clean)
        failures += count
        lines += [f"as {who}: {generated} cases on {tested} operations, {count} failures", *found]
    return Shown(
        f"{cases} cases of schemathesis, from the description of the API",
        f"{failures} failures: no 5xx, no answer that is not described" if not failures else f"{failures} failures",
        held=not failures and cases >= stage.scaled(CASES),
        lines=tuple(lines),
    )


def _told(failure: dict[str, Any]) -> str:
    return f"{failure.get('title', 'error')}: {', '.join(failure.get('operations', [])) or json.dumps(failure)[:300]}"


def _described(stage: Stage, server: Served, configuration: Path, role: str) -> tuple[dict[str, Any], list[str]]:
    """Answer the report of a run, and the lines that it printed about errors."""
    path = stage.folder / f"{role or 'ordinary'}.json"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.acceptance.describing_hooks",
        "DESCRIBED_URL": server.url,
        "DESCRIBED_PASSWORD": server.password,
        "DESCRIBED_AS": role,
    }
    schemathesis = str(Path(sys.executable).with_name("schemathesis"))
    command = [schemathesis, "--config-file", str(configuration), "run", f"{server.url}/openapi.json", "--checks", "all"]
    command += ["--max-examples", str(stage.scaled(EXAMPLES)), "--continue-on-failure"]
    # One thread: in two, Python 3.11 sometimes fails to parse (python/cpython#106905), which a run then calls an error of ours.
    command += ["--workers", "1"]
    command += ["--suppress-health-check", "all", "--report", "json", "--report-json-path", str(path), "--no-color"]
    ended = subprocess.run(
        command, env=environment, cwd=stage.folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if not path.exists():
        raise FellShort(f"schemathesis made no report: {ended.stdout[-1_000:]} {ended.stderr[-1_000:]}")
    report: dict[str, Any] = json.loads(path.read_text())
    errors = ended.stdout.partition("= ERRORS =")[2].partition("= WARNINGS =")[0]
    return report, [line for line in errors.splitlines() if line.strip("= ")]
