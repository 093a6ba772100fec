"""Files of other projects that tests read and the project does not copy: the folder named by TOKEN_LEDGER_VECTORS."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("TOKEN_LEDGER_VECTORS") or "../shared")


def vectors(*parts: str) -> Path:
    """Answer a file or folder below the folder of vectors; the test is skipped, saying so, where it is not there."""
    path = FOLDER.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not there: TOKEN_LEDGER_VECTORS names the folder it is in")
    return path
