"""Sixteen clients that write at once (writer.py), and what their files say compared with the log.

Every event after the set-up belongs to a command that a client acknowledged to itself, or saw the outcome of fade; every
acknowledged command is in the log at the position it was given; what was refused is not. "In the log at that position" is
exact for every command that was answered at its first attempt that could record it; one whose answer was lost, and that was
then sent again, may be answered at a later position where it has nothing to add (a refresh answered again, a revocation of
what is revoked): it is found by its correlation id at or before that.
"""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from tests.acceptance.ledgers import Ledger
from tests.acceptance.points import FellShort, Stage
from tests.acceptance.running import ROOT
from tests.acceptance.writer import Note, Orders
from tests.calls import new_api, new_client, ok

CLIENTS: Final = 16
COMMANDS: Final = 20_000
STRATEGIES: Final = ("opaque", "encrypted", "jwt", "jwe")

# A command that breaks in the database, at the very insert: as a violated constraint, and as a full disk.
POISON: Final = """
CREATE FUNCTION ledger.acceptance_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.payload::text LIKE '%poison-full%' THEN
    RAISE EXCEPTION 'no room for this' USING ERRCODE = 'disk_full';
  END IF;
  RAISE EXCEPTION 'this cannot stand here' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER acceptance_poison BEFORE INSERT ON ledger.events
  FOR EACH ROW WHEN (NEW.payload::text LIKE '%poison-%') EXECUTE FUNCTION ledger.acceptance_poison();
"""


def poison(owner: str) -> None:
    """Make the log break for whoever writes `poison-check` or `poison-full` into it."""
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(POISON)


class Files:
    """The files of the clients, read as they grow."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._read = dict.fromkeys(paths, 0)
        self.notes: list[Note] = []

    def follow(self) -> int:
        """Read what was added, whole lines only, and answer how many lines there are."""
        for path in self._paths:
            if path.exists():
                with path.open("rb") as file:
                    file.seek(self._read[path])
                    added = file.read()
                whole = added[: added.rfind(b"\n") + 1]
                self._read[path] += len(whole)
                self.notes += [Note(**json.loads(line)) for line in whole.splitlines()]
        return len(self.notes)


@dataclass(frozen=True, slots=True)
class Writers:
    """The clients at work. `head`: of the log before they began."""

    processes: tuple[subprocess.Popen[str], ...]
    files: Files
    commands: int
    head: int

    def running(self) -> bool:
        """Whether any is still at work; FellShort when one ended otherwise than by having done its commands."""
        statuses = [process.poll() for process in self.processes]
        if any(statuses):
            raise FellShort(f"a client ended with {[status for status in statuses if status]}")
        return None in statuses


@contextmanager
def writing(stage: Stage, ledger: Ledger, *, patient: bool) -> Iterator[Writers]:
    """Set up what the clients need, and let them begin."""
    commands = stage.scaled(COMMANDS) // CLIENTS * CLIENTS
    paths = [stage.folder / f"client-{number}.jsonl" for number in range(CLIENTS)]
    everyone = _orders(ledger, paths, commands // CLIENTS, patient=patient)
    with psycopg.connect(ledger.owner()) as connection:
        (head,) = connection.execute("SELECT max(e.position) FROM ledger.events e").fetchone() or (0,)
    processes = []
    try:
        for orders in everyone:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.writer"],
                stdin=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for us; we end them
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(orders)))
            process.stdin.close()
        yield Writers(tuple(processes), Files(paths), commands, head)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _orders(ledger: Ledger, paths: Sequence[Path], commands: int, *, patient: bool) -> list[Orders]:
    with ledger.served.admin() as admin:
        roles = [f"role-{number}" for number in range(4)]
        api = new_api(admin, dict.fromkeys(roles, ()), name="things")
        subjects = [ok(admin.post("/v1/subjects", json={"kind": "service"}), 201)["subject_id"] for _ in range(8)]
        holders = [ok(admin.post("/v1/subjects", json={"kind": "service"}), 201)["subject_id"] for _ in paths]
        issuers = [
            new_client(
                admin, "issuer", grants=["issue", "refresh_token"], strategy=strategy, refresh="rotating", apis=[api]
            ).auth
            for strategy in STRATEGIES
        ]
        me = ok(admin.get("/v1/me"))
        token = admin.headers["Authorization"].removeprefix("Bearer ")
    return [
        Orders(
            number=number,
            seed=number,
            commands=commands,
            patient=patient,
            file=str(path),
            url=ledger.served.url,
            username=ledger.served.username,
            password=ledger.served.password,
            token=token,
            admin_id=me["subject_id"],
            api=api,
            roles=tuple(roles),
            subjects=tuple(subjects[:4]),
            suspended=tuple(subjects[4:]),
            holder=holder,
            issuer=issuers[number % len(issuers)],
        )
        for number, (path, holder) in enumerate(zip(paths, holders, strict=True))
    ]


# ------------------------------------------------------------------------------------------------------ files and log

LOG: Final = """
SELECT e.position, e.stream::text AS stream, e.version, e.type, e.metadata ->> 'correlation_id' AS correlation_id,
  e.metadata ->> 'command_id' AS command_id, e.metadata -> 'actor' ->> 'kind' AS actor, e.recorded_at
FROM ledger.events e
ORDER BY e.position
"""


@dataclass(slots=True)
class Compared:
    """What the files and the log say of each other. `wrong` is empty when they agree."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    tried_again: int = 0
    ambiguous: int = 0
    unknown_recorded: int = 0
    events: int = 0
    wrong: list[str] = field(default_factory=list)

    def figure(self) -> str:
        """Answer the counts, and the first things that are wrong."""
        said = (
            f"{self.outcomes['acknowledged']:,} acknowledged, {self.outcomes['refused']:,} refused"
            f" ({self.kinds['poison']:,} poisoned, {self.kinds['bad']:,} bad),"
            f" {self.tried_again:,} answered 503 and tried again; {self.events:,} events"
        )
        if self.ambiguous or self.outcomes["unknown"]:
            said += (
                f"; {self.ambiguous:,} answers lost and asked for again,"
                f" {self.outcomes['unknown']:,} never known, of which {self.unknown_recorded:,} were recorded"
            )
        if self.wrong:
            said += f"; {len(self.wrong):,} wrong: {'; '.join(self.wrong[:5])}"
        return said


def compare(notes: Sequence[Note], head: int, owner: str) -> Compared:
    """Compare the notes of all clients with the log after `head`, and the log with itself."""
    with psycopg.connect(owner, row_factory=dict_row) as connection:
        log = connection.execute(LOG).fetchall()
    found = Compared(events=len(log) - head)
    _check_log(log, found)
    by_correlation: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in log[head:]:
        by_correlation[event["correlation_id"]].append(event)
    accounted: set[str] = set()
    for note in notes:
        found.outcomes[note.outcome] += 1
        found.kinds[note.kind] += 1
        found.tried_again += note.tried_again
        events = by_correlation.get(note.correlation_id, [])
        name = f"{note.kind} {note.correlation_id}"
        match note.outcome:
            case "acknowledged":
                accounted.add(note.correlation_id)
                found.ambiguous += note.ambiguous
                _check_acknowledged(name, note, events, found)
            case "unknown":
                accounted.add(note.correlation_id)
                found.unknown_recorded += bool(events)
            case "refused":
                if events:
                    found.wrong.append(f"{name} was refused and is in the log at {events[0]['position']}")
            case _:
                accounted.add(note.correlation_id)
                found.wrong.append(f"{name}: {note.text}")
    for event in log[head:]:
        # The ledger's own housekeeping: a key that is due.
        if event["correlation_id"] not in accounted and event["actor"] != "system":
            found.wrong.append(f"nobody accounts for {event['type']} at {event['position']}")
    return found


def _check_acknowledged(name: str, note: Note, events: list[dict[str, Any]], found: Compared) -> None:
    positions = [event["position"] for event in events]
    if not events:
        found.wrong.append(f"{name} was acknowledged at {note.position} and is not in the log")
    elif note.position is None or (positions[-1] > note.position if note.ambiguous else positions[-1] != note.position):
        found.wrong.append(f"{name} was acknowledged at {note.position} and is at {positions[-1]}")
    elif positions != list(range(positions[0], positions[-1] + 1)):
        found.wrong.append(f"{name} is in the log in pieces: {positions}")
    elif note.command_id is not None and {event["command_id"] for event in events} != {note.command_id}:
        found.wrong.append(f"{name} is in the log under another command id")


def _check_log(log: Sequence[dict[str, Any]], found: Compared) -> None:
    versions: Counter[str] = Counter()
    before = None
    for number, event in enumerate(log, start=1):
        versions[event["stream"]] += 1
        if event["position"] != number:
            found.wrong.append(f"position {event['position']} is the {number}th")
            return
        if event["version"] != versions[event["stream"]]:
            found.wrong.append(f"version {event['version']} at {number} is the {versions[event['stream']]}th of its stream")
        if before is not None and event["recorded_at"] < before:
            found.wrong.append(f"time runs back at {number}")
        before = event["recorded_at"]
