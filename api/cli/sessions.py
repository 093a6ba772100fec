"""The session of a person with one server: a file that only he can read, changed whole or not at all.

Knows nothing of HTTP: connection.py logs in, refreshes and logs out.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import click


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """Tokens as they were handed out to this computer."""

    client: str
    username: str
    access_token: str
    # None: the client gives none, the session ends with the access token.
    refresh_token: str | None
    # Seconds since 1970 by this computer's clock.
    expires_at: float


class SessionFile:
    """The file of one server's session, in the folder of the user's settings."""

    def __init__(self, url: str) -> None:
        self._folder = Path(click.get_app_dir("token-ledger"))
        self._path = self._folder / f"{quote(url, safe='')}.json"

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def read(self) -> Session | None:
        """Answer the session, or None without one."""
        with self._said():
            try:
                text = self._path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return Session(**json.loads(text))
        except (ValueError, TypeError):
            raise click.ClickException(f"{self._path} holds no session: remove it and log in again") from None

    def write(self, session: Session) -> None:
        """Put the session in place of the one before: a crash leaves the old or the new one, never half of one. To be called
        under `locked`."""
        with self._said():
            # mkstemp makes files that only their owner can read and write.
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".session-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(asdict(session), file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def remove(self) -> None:
        """Forget the session."""
        with self._said():
            self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the session meanwhile; they wait.

        Of two processes that find the access token expired, one refreshes and the other then finds the new one: a rotated
        refresh token that is presented again ends the session (RFC 9700 section 4.14.2).
        """
        # A file of its own: the session's is replaced, and a lock on what was replaced would keep nobody out.
        with self._said():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Say what cannot be done with the file in one line."""
        try:
            yield
        except OSError as error:
            raise click.ClickException(f"the session cannot be kept in {self._folder}: {error.strerror}") from None
