"""A login that is refused tells nobody why, by its words or by its time.

A name that is not there, a wrong password, and the right password of a suspended user: 200 attempts each, one after the other
over one connection, each triple in an order drawn anew. Passwords are hashed at the lowest cost that the settings allow: the
less a hash takes, the more a different path would show. So that no attempt is refused by a budget instead (ledger/guessing.py),
each comes from an address of its own, through a trusted proxy, and the names take turns.
"""

import random
import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.calls import PASSWORD, new_person, ok

ATTEMPTS: Final = 200
# A user may be tried 20 times from everywhere.
NAMES: Final = 12


@dataclass(frozen=True, slots=True)
class Try:
    """One user name, with the password that is sent for it."""

    username: str
    password: str


def run(stage: Stage) -> Shown:
    """Measure, and compare medians and spread; and the answers."""
    attempts = stage.scaled(ATTEMPTS)
    with running_ledger(stage, TOKEN_LEDGER_TRUSTED_PROXIES="127.0.0.1") as ledger:
        with ledger.served.admin() as admin:
            tries = {
                "wrong user": [Try(f"nobody-{number}", PASSWORD) for number in range(NAMES)],
                "wrong password": [Try(new_person(admin).username, f"not {PASSWORD}") for _ in range(NAMES)],
                "suspended user": [Try(_suspended(admin), PASSWORD) for _ in range(NAMES)],
            }
        with ledger.served.client() as http:
            seconds, answers = measure_login_timing(stage, http, tries, attempts)
    figures, medians, spreads = [], [], []
    for kind, measured in seconds.items():
        first, median, third = statistics.quantiles(measured, n=4)
        medians.append(median)
        spreads.append(third - first)
        figures.append(f"{kind} {median * 1000:.2f} ms (spread {(third - first) * 1000:.2f} ms)")
    apart = max(medians) - min(medians)
    done = f"{attempts} interleaved logins each with a wrong user, a wrong password, a suspended user"
    figure = f"medians {', '.join(figures)}, {apart * 1000:.2f} ms apart"
    if len(answers) != 1 or not min(answers).startswith("401 "):
        return Shown(done, f"{figure}; not one answer, or not 401: {sorted(answers)}", held=False)
    return Shown(done, f"{figure}; one answer", held=apart < min(spreads))


def measure_login_timing(
    stage: Stage, http: httpx.Client, tries: dict[str, list[Try]], attempts: int
) -> tuple[dict[str, list[float]], set[str]]:
    """Answer the seconds of each attempt by its kind, and every different answer: status, headers and body, without ids."""
    seconds: dict[str, list[float]] = {kind: [] for kind in tries}
    answers: set[str] = set()
    address = 0
    for number in range(attempts):
        stage.progress("logins", number * len(tries), attempts * len(tries))
        for kind in random.sample(list(tries), len(tries)):
            tried = tries[kind][number % NAMES]
            address += 1
            headers = {"X-Forwarded-For": f"10.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"}
            body = {"username": tried.username, "password": tried.password}
            began = time.perf_counter()
            answer = http.post("/login", json=body, headers=headers)
            seconds[kind].append(time.perf_counter() - began)
            answers.add(_said(answer))
    return seconds, answers


def _suspended(admin: httpx.Client) -> str:
    person = new_person(admin)
    ok(admin.post(f"/v1/subjects/{person.subject_id}/suspend", json={"reason": "for the measurement"}))
    return person.username


def _said(answer: httpx.Response) -> str:
    body: dict[str, Any] = answer.json()
    body.pop("request_id", None)
    names = sorted({name.lower() for name in answer.headers} - {"date"})
    return f"{answer.status_code} {names} {sorted(body.items())}"
