"""A local folder of whole files from object storage, bounded in bytes and shared by all processes of a machine.

    {folder}/{sha256}           a file whose sha256 was checked; locked (shared) by whoever has it mapped
    {folder}/{sha256}.partial   one that is being fetched, of its final size; locked (exclusive) by who fetches it
    {folder}/lock               held while room is counted and made

Locks are flock(2)'s, which end with their process: what a killed process was fetching is fetched anew, what it had
mapped may be evicted.  Room is made by removing the file that was opened longest ago and that nobody has mapped.
"""

import builtins
import contextlib
import enum
import fcntl
import hashlib
import io
import logging
import mmap
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from infra.errors import DataError, StorageError
from infra.retries import patiently
from infra.storage import Storage

log = logging.getLogger(__name__)

FREE_SHARE = 0.5
"""Share of the disk's free room, and of what the cache holds already, that it may take by default."""

_CHUNK = 8 << 20
_AT_ONCE = 4
_POLL_SECONDS = 0.1


class StoredFile(BaseModel):
    """One immutable file of an artifact: where its bytes are, how many there are, and what they hash to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    """URL of the storage that it lies in."""
    location: str
    bytes: int
    sha256: str

    @property
    def url(self) -> str:
        """Full address of the bytes."""
        return Storage(self.root).uri(self.location)

    @property
    def path(self) -> Path | None:
        """The file itself where it lies on local storage."""
        root = Storage(self.root).local_root
        return None if root is None else root / self.location

    def read(self, spans: list[tuple[int, int]]) -> list[builtins.bytes]:
        """Return the bytes of (first, end) each, fetched at once, a few times before it is given up.

        Raises DataError where the file is gone or shorter than its manifest says, else StorageError.
        """
        return read_spans([(self, first, end) for first, end in spans])


def read_spans(spans: list[tuple[StoredFile, int, int]]) -> list[bytes]:
    """Return the bytes of (file, first, end) each; files of one storage are asked for at once. Raises as `read`."""
    found: dict[int, bytes] = {}
    for root in {file.root for file, _, _ in spans}:
        here = [number for number, (file, _, _) in enumerate(spans) if file.root == root]
        ranges = [(spans[number][0].location, *spans[number][1:]) for number in here]
        storage = Storage(root)
        try:
            found.update(zip(here, patiently(lambda s=storage, r=ranges: s.read_ranges(r)), strict=True))  # type: ignore[misc]
        except Exception as exc:
            named = ", ".join(sorted({spans[number][0].url for number in here})[:3])
            reason = " ".join(str(exc).split())[:300] or type(exc).__name__
            if isinstance(exc, FileNotFoundError):
                raise DataError(f"{named}: gone from the storage while training reads it ({reason})") from exc
            raise StorageError(f"{named}: could not be read ({type(exc).__name__}: {reason})") from exc
    for number, (file, first, end) in enumerate(spans):
        if len(found[number]) != end - first:
            raise DataError(
                f"{file.url}: has {len(found[number])} bytes from {first} on where its manifest says {end - first}"
            )
    return [found[number] for number in range(len(spans))]


class Held(enum.Enum):
    """Why there is no file to map."""

    BUSY = "another process is fetching it"
    NO_ROOM = "what is mapped and the file itself exceed the limit"


class DiskCache:
    """The folder; any number of processes and threads may use one at once."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.limit = default_limit(folder) if limit is None else limit
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let fetches that are under way in this process end as soon as they can, with an error."""
        self._stopped.set()

    def mapped(self, file: StoredFile) -> mmap.mmap | None:
        """Return the file's bytes if it is here; nobody evicts it until the mapping is gone."""
        path = self.folder / file.sha256
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            status = os.fstat(fd)
            if status.st_nlink == 0 or status.st_size != file.bytes:  # evicted just now, or not what was put here
                return None
            os.utime(path)
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)  # keeps a copy of the descriptor, and so the lock
        finally:
            os.close(fd)

    def fetched(self, file: StoredFile) -> mmap.mmap | Held:
        """Return the file's bytes, which are fetched and checked if they are not here.

        Raises StorageError where storage does not answer, DataError where the bytes are not those of the manifest.
        """
        found = self.mapped(file)
        if found is not None:
            return found
        reserved = self._reserve(file)
        if isinstance(reserved, Held):
            return reserved
        partial = self._partial(file)
        try:
            if reserved is not None:
                self._download(file, reserved)
                os.rename(partial, self.folder / file.sha256)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            raise
        finally:
            if reserved is not None:
                os.close(reserved)
        return self.mapped(file) or Held.BUSY

    def wait_for(self, file: StoredFile) -> mmap.mmap:
        """Return the file's bytes, whoever fetches them; raises DataError if there is no room, else as `fetched`."""
        while True:
            found = self.fetched(file)
            if isinstance(found, mmap.mmap):
                return found
            if found is Held.NO_ROOM:
                raise DataError(
                    f"{file.url}: its {file.bytes} bytes do not fit into the cache in {self.folder} beside what is in "
                    f"use there; MILLRACE_CACHE_BYTES is {self.limit}, raise it"
                )
            time.sleep(_POLL_SECONDS)

    def _partial(self, file: StoredFile) -> Path:
        return self.folder / f"{file.sha256}.partial"

    def _reserve(self, file: StoredFile) -> int | Held | None:
        """Return a locked descriptor of a file with as much room; None where the whole file has just come."""
        with self._counting():
            partial = self._partial(file)
            fd = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return Held.BUSY
            if not _same(partial, fd):  # it has become the whole file since it was opened
                os.close(fd)
                return Held.BUSY
            os.ftruncate(fd, 0)
            here = self._is_whole(file)  # it may have come in between
            if not here and self._make_room(file.bytes):
                os.ftruncate(fd, file.bytes)
                return fd
            partial.unlink()
            os.close(fd)
            return None if here else Held.NO_ROOM

    def _is_whole(self, file: StoredFile) -> bool:
        """Tell whether there is a file of the right size; one of another size is replaced by what is fetched."""
        try:
            return (self.folder / file.sha256).stat().st_size == file.bytes
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _make_room(self, wanted: int) -> bool:
        """Evict until `wanted` bytes fit; tells whether they do."""
        entries = [(path, status) for path, status in _statuses(self.folder) if path.name != "lock"]
        excess = sum(status.st_size for _, status in entries) + wanted - self.limit
        if wanted > self.limit:
            return False
        for path, status in sorted(entries, key=lambda entry: entry[1].st_mtime_ns):
            if excess <= 0:
                break
            if status.st_size and self._evicted(path):
                excess -= status.st_size
        return excess <= 0

    @staticmethod
    def _evicted(path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            path.unlink()
            return True
        return False

    def _download(self, file: StoredFile, fd: int) -> None:
        for last in (False, True):
            found = self._copy(file, fd)
            if found == file.sha256:
                os.fsync(fd)
                return
            problem = f"{file.url}: sha256 is {found}, its manifest says {file.sha256}"
            if last:
                raise DataError(problem)
            log.warning("%s; fetching it again", problem)

    def _copy(self, file: StoredFile, fd: int) -> str:
        digest = hashlib.sha256()
        for start in range(0, file.bytes, _CHUNK * _AT_ONCE):
            if self._stopped.is_set():
                raise StorageError(f"{file.url}: not fetched, since this process is ending")
            ends = range(start, min(start + _CHUNK * _AT_ONCE, file.bytes), _CHUNK)
            for at, chunk in zip(ends, file.read([(at, min(at + _CHUNK, file.bytes)) for at in ends]), strict=True):
                digest.update(chunk)
                while chunk:
                    written = os.pwrite(fd, chunk, at)
                    chunk, at = chunk[written:], at + written
        return digest.hexdigest()


def default_limit(folder: Path) -> int:
    """Return the bytes that a cache in `folder` may hold where nobody says: a share of what its disk has left."""
    held = sum(status.st_blocks * 512 for _, status in _statuses(folder))
    return int(FREE_SHARE * (shutil.disk_usage(folder).free + held))


def _same(path: Path, fd: int) -> bool:
    """Tell whether a path still leads to the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _statuses(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # whole, and renamed, since the folder was listed
            yield path, path.stat()


def npy(data: mmap.mmap) -> NDArray[Any]:
    """Return the array that the bytes of a .npy file hold, without copying it."""
    head = io.BytesIO(data[: 1 << 16])
    version = np.lib.format.read_magic(head)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(head)
    return np.frombuffer(data, dtype=dtype, offset=head.tell()).reshape(shape)
