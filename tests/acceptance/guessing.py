"""Guessing: a real log of attempts replayed, then a botnet against one user.

The log (auth_log.py says how it is read) is replayed attempt by attempt, each at its own time by the ledger's clock and from
its own address, told by a trusted proxy. Whoever got in there has an account and sends the right password where he got in,
another where he failed; the names that attackers try are not there, but for `admin`, whose account is the administrator's.
Every answer must be the one that the published budgets give, counted here anew; then: every honest login got in, no attacker
did (the log's break-in among them), and the log of events grew by what the logins recorded and by lock-outs, at most 60 a
minute.

The botnet: 10,000 addresses, half of them IPv6 networks, try a user one to three times each within an hour. In every minute,
when what the budget gives has been spent, some know the right password. The user logs in every minute from where he always
does, and mistypes now and then. None of them gets in; he always does.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import httpx
import psycopg

from tests.acceptance.auth_log import LoggedAttempt, guesses, read_auth_log
from tests.acceptance.ledgers import Ledger, running_ledger
from tests.acceptance.points import Shown, Stage
from tests.acceptance.wire import Wire
from tests.calls import PASSWORD, ok
from tests.clock import Clock, put_clock

LOG: Final = "corpora/sshd-auth-log/auth.log.gz"
WRONG: Final = "not the password of anybody"
# More failures without a minute's pause than a person has: the budget of a familiar network.
RUN: Final = 10

ADDRESSES: Final = 10_000
MINUTES: Final = 60
KNOWING: Final = 5  # in every minute
LINES: Final = 16
# The user's budget for strangers: at once, and in that hour.
STRANGERS: Final = 20 + MINUTES // 15

EVENTS: Final = "SELECT e.type, count(*) FROM ledger.events e WHERE e.position > %s GROUP BY e.type ORDER BY e.type"
LOCKOUTS: Final = """
SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY e.recorded_at RANGE BETWEEN '1 minute' PRECEDING AND CURRENT ROW) AS n
  FROM ledger.events e WHERE e.type = 'login_locked_out') AS counted
"""
HEAD: Final = "SELECT max(e.position) FROM ledger.events e"
ROWS: Final = "SELECT count(*) FROM ledger.throttles"

# What a login records; and what time alone does, which is led through a year and more.
OF_A_LOGIN: Final = {"token_issued"}
OF_TIME: Final = {"key_made", "key_activated", "key_retired"}


@dataclass(slots=True)
class Seen:
    """What came of it. `wrong` is empty when it is as promised."""

    figures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(stage: Stage) -> Shown:
    """Replay the log, then let the botnet try."""
    attempts = read_auth_log(stage.corpus(LOG), datetime.now(UTC))
    clocks: list[Clock] = []

    def prepared(owner: str) -> None:
        clocks.append(put_clock(owner))

    seen = Seen()
    with running_ledger(stage, prepared=prepared, TOKEN_LEDGER_TRUSTED_PROXIES="127.0.0.1") as ledger:
        (clock,) = clocks
        victim = "elastic_user_0"
        _make_accounts(ledger, {attempt.user for attempt in attempts if attempt.accepted})
        _replay(stage, ledger, clock, attempts, seen)
        asyncio.run(_withstand(stage, ledger, clock, attempts[-1].at + timedelta(days=1), victim, seen))
        clean, said = ledger.verify()
    if not clean:
        seen.wrong.append(said)
    figure = "; ".join(seen.figures)
    if seen.wrong:
        figure += f"; {len(seen.wrong)} wrong: {'; '.join(seen.wrong[:5])}"
    done = f"{len(attempts):,} attempts of an sshd log replayed at their times, then {ADDRESSES:,} addresses against one user"
    return Shown(done, figure, held=not seen.wrong)


def _make_accounts(ledger: Ledger, usernames: set[str]) -> None:
    with ledger.served.admin() as admin:
        for username in sorted(usernames):
            ok(admin.post("/v1/subjects", json={"username": username, "password": PASSWORD}), 201)


# ------------------------------------------------------------------------------------------------------------ the log


class Budgets:
    """The budgets as they are published, counted anew: (burst, one more each so many seconds)."""

    PAIR, NETWORK, USER, FAMILIAR = (5, 60), (20, 10), (20, 900), (10, 60)

    def __init__(self) -> None:
        self._spent_until: dict[tuple[str, ...], datetime] = {}
        self._familiar: set[tuple[str, str]] = set()

    def answer(self, attempt: LoggedAttempt) -> int:
        """Answer the status that this attempt must have, and count it."""
        pair = (attempt.user, attempt.address)
        asked = {("pair", *pair): self.PAIR, ("network", attempt.address): self.NETWORK, ("user", attempt.user): self.USER}
        if pair in self._familiar:
            asked = {("pair", *pair): self.FAMILIAR}
        after = {
            key: max(self._spent_until.get(key, attempt.at), attempt.at) + timedelta(seconds=every)
            for key, (_, every) in asked.items()
        }
        if any(after[key] > attempt.at + timedelta(seconds=burst * every) for key, (burst, every) in asked.items()):
            return 429
        if attempt.accepted:
            self._familiar.add(pair)
            return 200
        self._spent_until |= after
        return 401


def _replay(stage: Stage, ledger: Ledger, clock: Clock, attempts: list[LoggedAttempt], seen: Seen) -> None:
    budgets = Budgets()
    guessed = guesses(attempts, RUN)
    statuses: Counter[tuple[bool, bool, int]] = Counter()  # a guess, with the right password, status
    before = _one(ledger, HEAD)
    with ledger.served.client() as http:
        at = None
        for number, (attempt, guess) in enumerate(zip(attempts, guessed, strict=True)):
            stage.progress("attempts of the log", number, len(attempts))
            if attempt.at != at:
                clock.set(at := attempt.at)
            status = _try(http, attempt.user, PASSWORD if attempt.accepted else WRONG, attempt.address)
            statuses[guess, attempt.accepted, status] += 1
            if (expected := budgets.answer(attempt)) != status:
                seen.wrong.append(f"{status}, not {expected}, for attempt {number + 1}")
    by_guessers = sum(n for (guess, _, _), n in statuses.items() if guess)
    throttled = sum(n for (guess, _, status), n in statuses.items() if guess and status == 429)
    got_in = sum(n for (guess, _, status), n in statuses.items() if guess and status == 200)
    hashed = sum(n for (_, _, status), n in statuses.items() if status != 429)
    honest = sum(n for (guess, right, _), n in statuses.items() if right and not guess)
    refused = honest - statuses[False, True, 200]
    seen.figures.append(
        f"{hashed:,} of {len(attempts):,} hashed, {throttled:,} of {by_guessers:,} guesses throttled"
        f" ({throttled / by_guessers:.0%}), {got_in} got in, {refused} of {honest} honest logins refused"
    )
    if refused or got_in or not throttled:
        seen.wrong.append(f"honest logins refused: {refused}, guesses that got in: {got_in}, throttled: {throttled}")
    _count_events(ledger, before, honest - refused, seen)


def _try(http: httpx.Client, username: str, password: str, address: str) -> int:
    body = {"username": username, "password": password}
    return http.post("/login", json=body, headers={"X-Forwarded-For": address}).status_code


def _count_events(ledger: Ledger, before: int, logins: int, seen: Seen) -> None:
    """Say by what the log grew, and that it was by nothing else than logins and few lock-outs."""
    with psycopg.connect(ledger.owner()) as connection:
        added: dict[str, int] = dict(connection.execute(EVENTS, (before,)).fetchall())
    lockouts = added.get("login_locked_out", 0)
    most = _one(ledger, LOCKOUTS)
    seen.figures.append(
        f"{sum(added.values()):,} events added, {lockouts} of them lock-outs, at most {most} in a minute;"
        f" {_one(ledger, ROWS):,} rows in ledger.throttles"
    )
    surplus = added.keys() - OF_A_LOGIN - OF_TIME - {"login_locked_out"}
    if surplus or any(added.get(kind) != logins for kind in OF_A_LOGIN) or most > 60:
        seen.wrong.append(f"events of {logins} logins: {added}, at most {most} lock-outs a minute")


def _one(ledger: Ledger, statement: str) -> int:
    with psycopg.connect(ledger.owner()) as connection:
        row = connection.execute(statement).fetchone()
    return int(row[0] or 0) if row else 0


# ---------------------------------------------------------------------------------------------------------- the botnet


async def _withstand(stage: Stage, ledger: Ledger, clock: Clock, begin: datetime, victim: str, seen: Seen) -> None:
    home = "24.151.103.17"
    before = _one(ledger, HEAD)
    addresses = _addresses(stage.scaled(ADDRESSES))
    minutes = [addresses[minute::MINUTES] for minute in range(MINUTES)]
    bots: Counter[tuple[bool, int]] = Counter()  # with the right password, status
    at_home: Counter[tuple[bool, int]] = Counter()
    with contextlib.ExitStack() as lines:
        port = int(ledger.served.url.rpartition(":")[2])
        wires = [lines.enter_context(contextlib.closing(Wire(port))) for _ in range(LINES)]
        for minute, trying in enumerate(minutes):
            stage.progress("minutes of the botnet", minute, MINUTES)
            clock.set(begin + timedelta(minutes=minute))
            guessing = [(address, WRONG) for address in trying for _ in range(random.randint(1, 3))]
            random.shuffle(guessing)
            knowing = [(address, PASSWORD) for address in random.sample(addresses, min(KNOWING, len(addresses)))]
            # One after the other: what the minute adds to the budget is spent by then.
            for tried in (guessing, knowing):
                await _try_all(wires, victim, tried, lambda right, status: bots.update([(right, status)]))
            own = [(home, WRONG)] * (random.random() < 0.2) + [(home, PASSWORD)]
            await _try_all(wires[:1], victim, own, lambda right, status: at_home.update([(right, status)]))
    total, hashed = sum(bots.values()), bots[False, 401]
    got_in = sum(n for (_, status), n in bots.items() if status == 200)
    logins = at_home[True, 200]
    seen.figures.append(
        f"botnet: {total:,} attempts, {hashed} hashed, {got_in} of {MINUTES * KNOWING} with the right password got in;"
        f" the user got in {logins} of {MINUTES} times from his network"
    )
    if got_in or logins != MINUTES or not 1 <= hashed <= STRANGERS or {status for _, status in bots} != {401, 429}:
        seen.wrong.append(f"botnet {dict(bots)}, user {dict(at_home)}")
    _count_events(ledger, before, logins, seen)


async def _try_all(wires: list[Wire], username: str, tried: list[tuple[str, str]], note: Callable[[bool, int], None]) -> None:
    """Send these attempts (address, password) over so many connections."""
    left = list(reversed(tried))

    async def work(wire: Wire) -> None:
        while left:
            address, password = left.pop()
            body = {"username": username, "password": password}
            answered = await wire.request("POST", "/login", {"X-Forwarded-For": address}, body=body)
            note(password == PASSWORD, answered.status)

    async with asyncio.TaskGroup() as tasks:
        for wire in wires:
            tasks.create_task(work(wire))


def _addresses(count: int) -> list[str]:
    """Answer addresses of so many networks: IPv4, and IPv6 with any last half."""
    four = [str(IPv4Address("100.64.0.0") + number) for number in range(count // 2)]
    six = [str(IPv6Address(f"2001:db8:{number:x}::") + random.getrandbits(64)) for number in range(count - len(four))]
    return random.sample(four + six, count)
