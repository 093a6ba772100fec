"""The README's tour, run word for word: the same lines that a reader pastes, in a bash that stops at whatever fails."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Final

SECONDS: Final = 120
TOUR: Final = re.compile(r"<!-- tour -->\n```bash\n(.*?)```\n<!-- /tour -->", re.DOTALL)
# What the tour says that an answer says: the decision and its reason code.
SAID: Final = re.compile(r"# decision: (true|false), ([a-z_]+)")


def tour_of(readme: Path) -> str:
    """Answer the lines of the tour."""
    found = TOUR.findall(readme.read_text(encoding="utf-8"))
    assert len(found) == 1, f"{readme} holds {len(found)} tours"
    tour: str = found[0]
    return tour


def run_tour(readme: Path, url: str, password: str, cwd: Path) -> str:
    """Run the tour in a folder that holds `.venv/bin/python`; answer its output.

    AssertionError when a line fails, or when a decision is not what the comment beside it says.
    """
    tour = tour_of(readme)
    # Without inherit_errexit a failure inside $(...) would go on to the next line there.
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-O", "inherit_errexit", "-c", tour],
        cwd=cwd,
        env=os.environ | {"TOKEN_LEDGER_URL": url, "ADMIN_PASSWORD": password},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, f"the tour ended with {ran.returncode}:\n{ran.stdout}"
    said = [(decision == "true", reason) for decision, reason in SAID.findall(tour)]
    assert said
    answered = [
        (answer["decision"], answer["context"]["reason"])
        for answer in map(json.loads, re.findall(r'^\{"decision".*$', ran.stdout, re.MULTILINE))
    ]
    assert answered == said, f"the tour says {said}, the answers {answered}:\n{ran.stdout}"
    return ran.stdout
