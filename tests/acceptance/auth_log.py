"""The sshd log of the corpora, read as attempts to log in.

A line that repeats another ("message repeated 2 times") is so many attempts at its own time. A public key that was accepted
counts as a right password. The log has no year: the next in which all of it lies ahead is taken, so that a ledger that is
installed today can be led through it.
"""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(
    r"(?P<at>\w{3} [ \d]\d \d\d:\d\d:\d\d) \S+ sshd\[\d+\]: (?:message repeated (?P<times>\d+) times: \[ )?"
    r"(?P<what>Failed|Accepted) \w+ for (?:invalid user )?(?P<user>.*?) from (?P<address>\S+) port \d+"
)


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """An attempt that sshd has seen; `accepted`: it got in."""

    at: datetime
    user: str
    address: str
    accepted: bool


def read_auth_log(path: Path, now: datetime) -> list[LoggedAttempt]:
    """Answer the attempts in their order, all of them after `now`."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
        matches = [match for line in lines if (match := _LINE.match(line))]
    year = now.year
    while _instant(matches[0]["at"], year) <= now:
        year += 1
    return [
        LoggedAttempt(_instant(match["at"], year), match["user"], match["address"], match["what"] == "Accepted")
        for match in matches
        for _ in range(int(match["times"] or 1))
    ]


def _instant(text: str, year: int) -> datetime:
    return datetime.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)


def guesses(attempts: Sequence[LoggedAttempt], run: int) -> list[bool]:
    """Say of each attempt whether it is an attacker's.

    An attacker is whoever comes from an address that nobody ever got in from; and whoever fails for one user from one address
    `run` times and more without a minute's pause, with what he tries next there, be it accepted: the log has such a break-in,
    from the user's own network, 141 failures three seconds apart.
    """
    known = {attempt.address for attempt in attempts if attempt.accepted}
    guessed = [attempt.address not in known for attempt in attempts]
    runs: dict[tuple[str, str], list[int]] = {}
    for number, attempt in enumerate(attempts):
        current = runs.setdefault((attempt.user, attempt.address), [])
        if current and (attempt.at - attempts[current[-1]].at).total_seconds() >= 60:
            current.clear()
        current.append(number)
        if len(current) > run:
            for part in current:
                guessed[part] = True
        if attempt.accepted:
            current.clear()
    return guessed
