"""The bench as its own tests run it: as small as it can be."""

import json
import subprocess
import sys
from typing import Any, Final

TINY: Final = ["--size", "small", "--rounds", "1", "--workers", "1", "--connections", "4"]


def measured(only: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the lines that a regular expression picks; answer what they were measured on, and them. None has a wrong answer."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *TINY, "--json", "--only", only],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    facts, *lines = map(json.loads, ended.stdout.splitlines())
    assert all(line["wrong"] == line["failed"] == 0 for line in lines), lines
    return facts, lines
