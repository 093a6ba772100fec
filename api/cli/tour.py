"""The tour: lines for a shell, from a login to a revocation and what the log says of it.

They stand in tour.sh and nowhere else; README.md shows the same (a test compares), and a first start prints them.
"""

from importlib.resources import files
from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:8080"


def tour(url: str, password: str | None) -> str:
    """Answer the tour with what must be said before it: the password when it is known, the address when it is another."""
    lines = []
    if url != DEFAULT_URL:
        lines.append(f"export TOKEN_LEDGER_URL={url}")
    lines.append(f"export ADMIN_PASSWORD={password or '...'}")
    return "\n".join(lines) + "\n" + files("api.cli").joinpath("tour.sh").read_text(encoding="utf-8")
