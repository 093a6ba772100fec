"""One writing client, a process of its own: sends commands, and writes what came of each to its file before it goes on.

It is told what to do by one JSON object on standard input (`Orders`). Every command has a correlation id of the client's own,
the same at each attempt, by which the log is compared with the files afterwards (writing.py). A management command also has
an Idempotency-Key, from which its command id follows; it is repeated until there is an answer. Others are: a refresh and a
revocation as they are by nature; the issue of a token is not, its outcome may stay unknown.

What an answer must not be is written down as an anomaly; the client goes on.
"""

import json
import random
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx

from ledger.identifiers import name_id
from tests.serving import NO_TLS

POISONS: Final = ("poison-check", "poison-full")
# After so many commands a new connection is made, which may be another worker's.
COMMANDS_A_CONNECTION: Final = 40
PATIENCE_SECONDS: Final = 60.0
# Well within the ten minutes of an access token, and not all at once: logins of one user at once are taken for guesses.
LOGIN_SECONDS: Final = 240.0
LOGIN_SECONDS_APART: Final = 15.0

# How many of a hundred commands are of each kind.
KINDS: Final[Mapping[str, int]] = {
    "register": 20,
    "rule": 18,
    "profile": 14,
    "suspend": 6,
    "issue": 12,
    "refresh": 12,
    "revoke": 4,
    "race": 4,
    "poison": 5,
    "bad": 5,
}


@dataclass(frozen=True, slots=True)
class Orders:
    """What one client is to do, and what was set up for it. `patient`: server and database may be away for a while."""

    number: int
    seed: int
    commands: int
    patient: bool
    file: str
    url: str
    username: str
    password: str
    token: str
    admin_id: str
    api: str
    roles: tuple[str, ...]  # every client adds rules to these
    subjects: tuple[str, ...]  # every client changes their profiles
    suspended: tuple[str, ...]  # every client suspends these
    holder: str  # the subject of this client's tokens
    issuer: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is sent, at every attempt alike."""

    kind: str
    method: str
    path: str
    body: Any
    correlation_id: UUID
    key: str | None = None
    form: bool = False
    auth: tuple[str, str] | None = None
    expected: tuple[int, ...] = (200,)

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when its outcome is unknown."""
        return self.kind not in ("issue", "login")


@dataclass(slots=True)
class Note:
    """A line of the file. `outcome`: acknowledged, refused, unknown, anomaly.

    `attempts` of which more than one may have been recorded: then `position` may be a later one than the command's.
    """

    kind: str
    outcome: str
    correlation_id: str
    command_id: str | None
    position: int | None
    attempts: int
    ambiguous: bool
    tried_again: int
    status: int | None
    text: str = ""


class Writer:
    """The client: its connection, its tokens, its file."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._random = random.Random(orders.seed)
        self._file = Path(orders.file).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        self._writing = Lock()
        self._pair = ThreadPoolExecutor(2)
        self._http = self._connection()
        self._admin = orders.token
        self._refresh_token: str | None = None
        self._issued: list[str] = []
        self._number = 0

    def run(self) -> None:
        """Send every command."""
        kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
        login_at = time.monotonic() + LOGIN_SECONDS + LOGIN_SECONDS_APART * self._orders.number
        for number in range(self._orders.commands):
            self._number = number
            if time.monotonic() > login_at:
                login_at += LOGIN_SECONDS if self._log_in() else LOGIN_SECONDS_APART
            if number % COMMANDS_A_CONNECTION == COMMANDS_A_CONNECTION - 1:
                self._http.close()
                self._http = self._connection()
            self._do(self._random.choice(kinds))
        self._http.close()
        self._file.close()

    def _connection(self) -> httpx.Client:
        return httpx.Client(base_url=self._orders.url, timeout=30, verify=NO_TLS)

    # ------------------------------------------------------------------------------------------------- what is sent

    def _do(self, kind: str) -> None:
        if kind == "race":
            self._race()
            return
        if kind == "bad":
            self._bad()
            return
        command = self._command(kind)
        if command.key is not None and self._random.random() < 0.15 and kind != "poison":
            self._repeat(command)
            return
        self._note(*self._send(command))

    def _command(self, kind: str) -> Command:
        orders, chance = self._orders, self._random
        tag = f"{orders.number}-{self._number}"
        match kind:
            case "register":
                return self._managed(kind, "POST", "/v1/subjects", {"username": f"person {tag}"}, 201)
            case "rule":
                role = chance.choice(orders.roles)
                rules = [f"allow GET /things/{tag}/{n}" for n in range(chance.randint(1, 3))]
                return self._managed(kind, "POST", f"/v1/apis/{orders.api}/roles/{role}/rules", {"rules": rules})
            case "profile":
                path = f"/v1/subjects/{chance.choice(orders.subjects)}/profile"
                return self._managed(kind, "PUT", path, {"display_name": f"Somebody {tag}"})
            case "suspend":
                path = f"/v1/subjects/{chance.choice(orders.suspended)}/suspend"
                return self._managed(kind, "POST", path, {"reason": f"because of {tag}"})
            case "poison":
                role = chance.choice(orders.roles)
                rules = [f"allow GET /things/{tag}/{chance.choice(POISONS)}"]
                return self._managed(kind, "POST", f"/v1/apis/{orders.api}/roles/{role}/rules", {"rules": rules}, 500)
            case "refresh" if self._refresh_token is not None:
                form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
                return Command("refresh", "POST", "/oauth/token", form, uuid4(), form=True, auth=orders.issuer)
            case "revoke" if self._issued:
                form = {"token": self._issued.pop(chance.randrange(len(self._issued)))}
                return Command("revoke", "POST", "/oauth/revoke", form, uuid4(), form=True, auth=orders.issuer)
        body = {"subject_id": orders.holder}
        return Command("issue", "POST", "/v1/tokens", body, uuid4(), auth=orders.issuer, expected=(201,))

    def _managed(self, kind: str, method: str, path: str, body: Any, status: int = 200) -> Command:
        return Command(kind, method, path, body, uuid4(), key=f"{kind} {uuid4()}", expected=(status,))

    def _repeat(self, command: Command) -> None:
        """Send one command twice, at once or after another: both are acknowledged at the same position."""
        if self._random.random() < 0.5:
            (_, first), (_, again) = self._pair.map(self._send, (command, command))
        else:
            (_, first), (_, again) = self._send(command), self._send(command)
        if (first.outcome, first.position) != (again.outcome, again.position):
            first.outcome, first.text = "anomaly", f"repeated, it is {again.outcome} at {again.position}"
        self._note(None, first)
        if command.kind in ("register", "profile") and self._random.random() < 0.3:
            other = replace(command, body=command.body | {"display_name": "Other"}, correlation_id=uuid4())
            self._note_refused(other, 422)

    def _race(self) -> None:
        """Register one name twice at once, by two commands: one is recorded."""
        body = {"username": f"wanted {self._orders.number}-{self._number}"}
        both = [
            Command("race", "POST", "/v1/subjects", body, uuid4(), key=f"race {uuid4()}", expected=(201, 409)) for _ in "ab"
        ]
        notes = [note for _, note in self._pair.map(self._send, both)]
        for note in notes:
            if note.status == 409:
                note.outcome = "refused"
        if sorted(note.outcome for note in notes) != ["acknowledged", "refused"]:
            notes[0].outcome, notes[0].text = "anomaly", f"two of one name: {[note.outcome for note in notes]}"
        for note in notes:
            self._note(None, note)

    def _bad(self) -> None:
        """Send what cannot be recorded: a 4xx, whatever it is."""
        orders, chance = self._orders, self._random
        rules = f"/v1/apis/{orders.api}/roles/{chance.choice(orders.roles)}/rules"
        profile = f"/v1/subjects/{chance.choice(orders.subjects)}/profile"
        method, path, body, status = chance.choice(
            [
                ("POST", rules, {"rules": ["allow GET /things/\0"]}, 400),
                ("POST", rules, {"rules": ["allow GET /things//x"]}, 400),
                ("POST", rules, {"rules": ["allow GET /things"], "more": True}, 400),
                ("POST", rules, {"rules": ["allow GET /things"] * 20_000}, 413),
                ("PUT", profile, {"display_name": "\0"}, 400),
                ("PUT", profile, {"display_name": 7}, 400),
                ("POST", "/v1/subjects", {"kind": "ghost"}, 400),
                ("POST", f"/v1/subjects/{uuid4()}/suspend", {"reason": "nobody"}, 404),
                ("POST", f"/v1/subjects/{chance.choice(orders.suspended)}/suspend", {"reason": "\udead"}, 400),
            ]
        )
        self._note_refused(Command("bad", method, path, body, uuid4(), key=f"bad {uuid4()}"), status)

    def _note_refused(self, command: Command, status: int) -> None:
        _, note = self._send(replace(command, expected=(status,)))
        if note.outcome == "acknowledged":
            note.outcome = "refused"
        self._note(None, note)

    def _log_in(self) -> bool:
        body = {"username": self._orders.username, "password": self._orders.password}
        answer, note = self._send(Command("login", "POST", "/login", body, uuid4()))
        self._note(None, note)
        if answer is not None:
            self._admin = answer["access_token"]
        return answer is not None

    # ------------------------------------------------------------------------------------------------ how it is sent

    def _send(self, command: Command) -> tuple[dict[str, Any] | None, Note]:
        """Send a command until there is an answer, and answer it with the note of it."""
        note = self._new_note(command)
        began = time.monotonic()
        while True:
            note.attempts += 1
            answer, unknown = self._attempt(command, note)
            if answer is not None:
                break
            note.ambiguous = note.ambiguous or unknown
            if note.outcome == "anomaly":
                return None, note
            if unknown and not command.repeatable:
                note.outcome = "unknown"
                return None, note
            if time.monotonic() - began > PATIENCE_SECONDS:
                note.outcome, note.text = "anomaly", f"no answer after {note.attempts} attempts: {note.text}"
                return None, note
            time.sleep(random.uniform(0.01, 0.05) * min(note.attempts, 10))
        note.status = answer.status_code
        body: dict[str, Any] = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code not in command.expected:
            elapsed = time.monotonic() - began
            note.outcome = "anomaly"
            note.text = f"{answer.status_code} after {note.attempts} attempts in {elapsed:.1f} s: {answer.text[:300]}"
            return None, note
        if command.kind == "poison":
            note.outcome = "refused"
        note.position = body.get("position")
        return body, note

    def _attempt(self, command: Command, note: Note) -> tuple[httpx.Response | None, bool]:
        """Send it once. Answer the response, or None when it is to be sent again, and whether it may be recorded."""
        headers = {"X-Correlation-Id": str(command.correlation_id)}
        if command.key is not None:
            headers |= {"Authorization": f"Bearer {self._admin}", "Idempotency-Key": command.key}
        # By our own json: a lone surrogate is to leave as its escape.
        content = urlencode(command.body) if command.form else json.dumps(command.body)
        headers["Content-Type"] = "application/x-www-form-urlencoded" if command.form else "application/json"
        auth = None if command.auth is None else httpx.BasicAuth(*command.auth)
        try:
            answer = self._http.request(command.method, command.path, content=content.encode(), headers=headers, auth=auth)
        except httpx.TransportError as error:
            note.text = type(error).__name__
            if not self._orders.patient:
                note.outcome = "anomaly"
            return None, True
        if answer.status_code == 503:
            note.tried_again += 1
            note.text = answer.text[:200]
            body = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            # Every other reason says that nothing was recorded; OAuth's one word for all of them does not.
            return None, body.get("code", "outcome_unknown") == "outcome_unknown"
        return answer, False

    def _new_note(self, command: Command) -> Note:
        command_id = None
        if command.key is not None:
            command_id = str(name_id("command", self._orders.admin_id, command.method, command.path, command.key))
        return Note(command.kind, "acknowledged", str(command.correlation_id), command_id, None, 0, False, 0, None)

    def _note(self, answer: dict[str, Any] | None, note: Note) -> None:
        """Write a line; it is with the kernel before this returns."""
        if answer is not None and note.kind in ("issue", "refresh"):
            self._refresh_token = answer.get("refresh_token", self._refresh_token)
            if note.kind == "issue":
                self._issued.append(answer["access_token"])
        with self._writing:
            self._file.write(json.dumps(asdict(note)) + "\n")
            self._file.flush()


def main() -> None:
    """Do what standard input says."""
    Writer(Orders(**json.load(sys.stdin))).run()


if __name__ == "__main__":
    main()
