"""A replay that is stopped, however and wherever: the live views are as they were, appends go on, the next run starts clean."""

import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from projections.replay import Building, Progress, replay
from projections.verify import verify
from tests.builders import token_issued
from tests.conftest import Database
from tests.recording import contents, record, schemas

# Runs a replay that kills itself, as nobody can prevent (kill -9): when it has told of a step, or renamed so many schemas,
# which it does under the turn with every lock of the swap held.
PROGRAM = """
import os, signal, sys
from projections import replay as module

step, done, renames = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def tell(progress):
    if progress.step == step and progress.done >= done:
        die()

rename = module.rename

def rename_and_die(*arguments):
    global renames
    rename(*arguments)
    renames -= 1
    if renames == 0:
        die()

module.rename = rename_and_die
module.replay(sys.argv[1], piece=3, progress=tell)
"""
# The step, how much of it is done, after how many renamings.
MOMENTS = {
    "before the first piece": ("folding", 0, 0),
    "in the midst of folding": ("folding", 12, 0),
    "before the indexes": ("indexing", 0, 0),
    "while comparing": ("comparing", 5, 0),
    "before the swap": ("swapping", 0, 0),
    "in the swap, after the first renaming": ("", 0, 1),
    "in the swap, after the second renaming": ("", 0, 2),
    "in the swap, before the commit": ("", 0, 3),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_replay_that_is_killed_leaves_the_live_views_and_the_next_one_starts_afresh(installed: Database, moment: str) -> None:
    record(installed)
    before = contents(installed)
    arguments = [str(argument) for argument in MOMENTS[moment]]

    ended = subprocess.run([sys.executable, "-c", PROGRAM, installed.ledger_owner, *arguments], check=False, timeout=60)

    assert ended.returncode == -9
    assert contents(installed) == before
    assert "views_next" in schemas(installed), "it was killed in the midst"
    record(installed, [token_issued()])  # neither turn nor views are held by what is dead
    assert replay(installed.ledger_owner).differences == ()
    assert verify(installed.ledger_owner).clean
    assert schemas(installed) == {"ledger", "views", "views_previous"}


def terminate(database: Database, pid: int) -> None:
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("step", ["folding", "comparing", "swapping"])
def test_a_replay_that_loses_a_connection_leaves_the_live_views(
    installed: Database, step: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(installed)
    before = contents(installed)
    pids: dict[str, int] = {}
    made: Callable[..., None] = Building.__init__

    def remember(both: Building, *arguments: object) -> None:
        made(both, *arguments)
        pids.update(first=both.first.info.backend_pid, second=both.second.info.backend_pid)

    def cut(progress: Progress) -> None:
        if progress.step == step and pids and (progress.done >= 5 or step == "swapping"):
            terminate(installed, pids.pop(which))
            pids.clear()

    monkeypatch.setattr(Building, "__init__", remember)
    if (step, which) == ("swapping", "second"):
        replay(installed.ledger_owner, piece=3, progress=cut)  # which needs the first one only
    else:
        with pytest.raises(psycopg.OperationalError):
            replay(installed.ledger_owner, piece=3, progress=cut)

    assert contents(installed) == before
    assert replay(installed.ledger_owner).differences == ()
    assert schemas(installed) == {"ledger", "views", "views_previous"}


FULL = """
CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER no_room BEFORE INSERT ON views_next.{} FOR EACH ROW EXECUTE FUNCTION public.no_room();
"""


@pytest.mark.parametrize("view", ["tokens", "audit_entries"])  # of the group of either connection
def test_a_disk_that_is_full_ends_the_replay_and_has_its_room_back(installed: Database, view: str) -> None:
    record(installed, [token_issued() for _ in range(6)])
    record(installed)
    before = contents(installed)
    filled = False

    def fill(progress: Progress) -> None:
        nonlocal filled
        if progress.step == "folding" and progress.done >= 3 and not filled:
            filled = True
            with psycopg.connect(installed.owner, autocommit=True) as connection:
                connection.execute(FULL.format(view).encode())

    with pytest.raises(psycopg.errors.DiskFull):
        replay(installed.ledger_owner, piece=3, progress=fill)

    assert contents(installed) == before
    assert schemas(installed) == {"ledger", "views"}, "what was made is gone at once"
    record(installed, [token_issued()])
    assert replay(installed.ledger_owner).differences == ()
    assert verify(installed.ledger_owner).clean


def test_a_run_that_was_stopped_is_still_folding_its_last_piece_when_the_next_begins(installed: Database) -> None:
    record(installed)
    dying = psycopg.connect(installed.ledger_owner)
    dying.execute("CREATE SCHEMA views_next")
    dying.execute("CREATE TABLE views_next.tokens (position bigint)")
    dying.execute("SET idle_in_transaction_session_timeout = '1s'")
    dying.commit()
    dying.execute("INSERT INTO views_next.tokens VALUES (1)")

    assert replay(installed.ledger_owner).differences == ()
    dying.close()


# Ctrl-C in the midst of a piece, which a fold that takes its time is sure to be.
INTERRUPTED = """
import os, signal, sys, threading
import psycopg
from projections.replay import replay

def tell(progress):
    if progress.step == "folding" and progress.done == 3:
        with psycopg.connect(sys.argv[2], autocommit=True) as connection:
            connection.execute(sys.argv[3].encode())
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

replay(sys.argv[1], piece=3, progress=tell)
"""
SLOW = """
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON views_next.{} FOR EACH STATEMENT EXECUTE FUNCTION public.slow();
"""


@pytest.mark.parametrize("view", ["tokens", "audit_entries"])
def test_a_replay_that_is_interrupted_ends_with_its_piece_and_leaves_nothing(installed: Database, view: str) -> None:
    record(installed, [token_issued() for _ in range(6)])
    record(installed)
    before = contents(installed)

    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, installed.ledger_owner, installed.owner, SLOW.format(view)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt", ended.stderr
    assert contents(installed) == before
    assert schemas(installed) == {"ledger", "views"}
