"""The files of an archive: a partition of the log as gzip'd lines of JSON, and a manifest beside it. Format: docs/archive.md.

Written, read and held against their checksums in bounded memory. Must not know when a partition is archived (archiving.py) nor
what its events mean.
"""

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from ledger.errors import LedgerError

FORMAT: Final = 1
BLOCK: Final = 1 << 20


class ArchiveRefused(LedgerError):
    """A file of an archive is missing, damaged or another's; the message names it and says what is wrong."""

    code = "archive_refused"
    cure = "Bring the file that is named back from a copy, as it was written."

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive's file holds: the events `from_position` to before `to_position` of the log `log_id`, a line each.

    `sha256`: of the file, hex; `lines_sha256`: of the lines in it.
    """

    format: int
    log_id: str
    name: str
    from_position: int
    to_position: int
    events: int
    sha256: str
    lines_sha256: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of the log, the events `from_position` to before `to_position`."""

    name: str
    from_position: int
    to_position: int

    @property
    def events(self) -> int:
        """How many there are: positions have no holes."""
        return self.to_position - self.from_position


def file_of(folder: Path, name: str) -> Path:
    """Answer the path of the archive of a partition."""
    return folder / f"{name}.jsonl.gz"


def manifest_of(folder: Path, name: str) -> Path:
    """Answer the path of the manifest beside it."""
    return folder / f"{name}.manifest.json"


def write(folder: Path, partition: Partition, log_id: UUID, lines: Iterable[str]) -> Manifest:
    """Write the archive of a partition and its manifest, both whole and on the disk, or not there at all.

    What is there under their names goes: the caller has looked.
    """
    of_lines, events = hashlib.sha256(), 0
    with _whole(file_of(folder, partition.name)) as raw:
        of_file = _Hashed(raw)
        # Without name and time: the same events make the same file.
        with gzip.GzipFile(filename="", mode="wb", fileobj=of_file, compresslevel=6, mtime=0) as packed:
            for line in lines:
                encoded = line.encode() + b"\n"
                of_lines.update(encoded)
                packed.write(encoded)
                events += 1
        manifest = Manifest(
            format=FORMAT,
            log_id=str(log_id),
            name=partition.name,
            from_position=partition.from_position,
            to_position=partition.to_position,
            events=events,
            sha256=of_file.sha256.hexdigest(),
            lines_sha256=of_lines.hexdigest(),
        )
        # First: an archive that is there has its manifest.
        with _whole(manifest_of(folder, partition.name)) as beside:
            beside.write(json.dumps(asdict(manifest), indent=1).encode() + b"\n")
    return manifest


def read_manifest(folder: Path, name: str) -> Manifest:
    """Answer what stands beside an archive. ArchiveRefused."""
    path = manifest_of(folder, name)
    try:
        manifest = Manifest(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ArchiveRefused(path, "is not there") from None
    except (ValueError, TypeError):
        raise ArchiveRefused(path, "is not a manifest") from None
    if manifest.format != FORMAT:
        raise ArchiveRefused(path, f"has format {manifest.format}; this release reads {FORMAT}")
    return manifest


def check(folder: Path, name: str, sha256: str, log_id: UUID) -> Path:
    """Answer the file of a partition of this log, whose bytes have that checksum. ArchiveRefused."""
    path = file_of(folder, name)
    if not path.exists():
        raise ArchiveRefused(path, "is not there")
    manifest = read_manifest(folder, name)
    if manifest.log_id != str(log_id):
        raise ArchiveRefused(path, f"is of another log: {manifest.log_id}, not {log_id}")
    found = sha256_of(path)
    if found != sha256:
        raise ArchiveRefused(path, f"is damaged, or another's: SHA-256 {found}, not {sha256} as the log says")
    return path


def sha256_of(path: Path) -> str:
    """Answer the checksum of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> Iterator[str]:
    """Answer the lines of an archive, an event each, as they were written. ArchiveRefused for what cannot be unpacked."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield line.removesuffix("\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ArchiveRefused(path, f"cannot be read: {type(error).__name__}") from None


class _Hashed:
    """A file that is written through, and what was written hashed."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self.sha256.update(data)
        return self._raw.write(data)

    def flush(self) -> None:
        """Pass it on."""
        self._raw.flush()


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written beside its place; it takes it when it is whole and on the disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too
    finally:
        os.close(folder)
