"""The master key and what is sealed under it. Keys stay in here; nothing of them is shown by repr, error or log."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import LedgerError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # NIST SP 800-38D section 8.2.2: random, 96 bits; a key seals far fewer than 2^32 times
VERSION: Final = 1
KEY_ID_BYTES: Final = 4
_HEADER: Final = 1 + KEY_ID_BYTES


class UnsafeKey(LedgerError):
    """A key that is missing, weak or readable by others."""

    code = "unsafe_key"
    cure = (
        "Make a key with `token-ledger serve`, or give one of 32 random bytes that only the service's user can read "
        "(docs/settings.md)."
    )


class SealBroken(LedgerError):
    """What was sealed cannot be opened: another key, another context, or it was changed."""

    code = "seal_broken"
    cure = "Give the master key that the ledger was made with, and while it is being changed the one before (docs/settings.md)."


class _Sealer:
    """AES-256-GCM under one key: version, key id, nonce, ciphertext. The key id tells which key is needed when keys change."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._header = bytes([VERSION]) + hashlib.sha256(b"key id" + key).digest()[:KEY_ID_BYTES]

    def seal(self, plain: bytes, context: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return self._header + nonce + self._cipher.encrypt(nonce, plain, self._header + context.encode())

    def is_sealed(self, sealed: bytes) -> bool:
        return sealed[:_HEADER] == self._header

    def unseal(self, sealed: bytes, context: str) -> bytes:
        if sealed[:_HEADER] != self._header:
            raise SealBroken("sealed under another key")
        nonce, rest = sealed[_HEADER : _HEADER + NONCE_BYTES], sealed[_HEADER + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, self._header + context.encode())
        except (InvalidTag, ValueError):
            raise SealBroken("the seal is broken") from None


class MasterKey:
    """The one key outside the database. Everything is under keys derived from it (HKDF-SHA256, RFC 5869).

    It can be changed: what the `previous` one sealed is opened, and sealed anew by `token-ledger reseal`. Ids that are made by
    HMAC (of user names) must stay what they are: they go by the `root` of the first master key, which is kept sealed once
    there was a second one.
    """

    def __init__(self, key: bytes, previous: "MasterKey | None" = None, root: bytes | None = None) -> None:
        if len(key) != KEY_BYTES or len(set(key)) < 8:
            raise UnsafeKey("the master key is 32 random bytes, written as 64 hex digits: `openssl rand -hex 32`")
        self._key = key
        self._previous = previous
        self._sealer = _Sealer(_derive(key, "seal"))
        self._root = root or (previous.root if previous is not None else key)
        self._macs: dict[str, bytes] = {}

    @property
    def root(self) -> bytes:
        """What the ids by HMAC are made under; to be sealed, like any other key."""
        return self._root

    def after(self, previous: "MasterKey | None", root: bytes | None = None) -> "MasterKey":
        """Answer this key as the one that comes after another; with the root that was stored, if one was."""
        return MasterKey(self._key, previous, root)

    def __repr__(self) -> str:
        return "MasterKey()"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read 64 hex digits, or base64 of 32 bytes. UnsafeKey otherwise."""
        text = text.strip()
        try:
            key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            key = b""
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key's file. UnsafeKey when others may read it too."""
        with path.open(encoding="ascii", errors="replace") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UnsafeKey(f"{path} can be read by others (mode {mode:04o}): chmod 600")
            return cls.from_text(file.read())

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new key and its file (0600), whole or not at all; FileExistsError, never an overwritten key."""
        text = secrets.token_hex(KEY_BYTES)
        # Not named by the process: in a container its number is the same again after a crash that left the draft behind.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            draft.unlink()
        # Soon the database holds what only this key opens: its name must survive a loss of power as the database does.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return cls.from_text(text)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Seal; `context` says what it is, and must be said again to open it."""
        return self._sealer.seal(plain, context)

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Open, also what the key before sealed. SealBroken under another key or context."""
        if self._previous is not None and self._previous.is_sealed(sealed):
            return self._previous.unseal(sealed, context)
        return self._sealer.unseal(sealed, context)

    def is_sealed(self, sealed: bytes) -> bool:
        """Say whether it was sealed under this very key, not the one before."""
        return self._sealer.is_sealed(sealed)

    def mac(self, label: str, data: bytes) -> bytes:
        """Answer the HMAC-SHA256 of data under the key of this label, 32 bytes."""
        key = self._macs.get(label)
        if key is None:
            key = self._macs[label] = _derive(self._root, f"mac {label}")
        return hmac.digest(key, data, "sha256")


def _derive(key: bytes, label: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"token-ledger/" + label.encode()).derive(key)


class SubjectKey:
    """The key of one subject: destroying its sealed form erases what is sealed under it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._sealer = _Sealer(key)

    def __repr__(self) -> str:
        return "SubjectKey()"

    @classmethod
    def new(cls) -> Self:
        """Make a random one."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def open(cls, master: MasterKey, subject_id: UUID, sealed: bytes) -> Self:
        """Open the sealed key of this subject. SealBroken."""
        return cls(master.unseal(sealed, f"subject key {subject_id}"))

    def sealed(self, master: MasterKey, subject_id: UUID) -> bytes:
        """Answer the key sealed for storing."""
        return master.seal(self._key, f"subject key {subject_id}")

    def seal(self, plain: bytes, field: str) -> bytes:
        """Seal a field of the subject."""
        return self._sealer.seal(plain, field)

    def unseal(self, sealed: bytes, field: str) -> bytes:
        """Open a field of the subject. SealBroken."""
        return self._sealer.unseal(sealed, field)
