"""Where artifacts live: a prefix on any fsspec file system, with the one atomic operation the store is built on.

`create` makes an object only if it is absent and has exactly one winner: a temporary file and `os.link` on local
files, a conditional put on S3 and GCS, a lock on `memory://`. Only "not found" ever means absent; every other
trouble raises (infra/retries.py decides which of it is worth another try).
"""

import functools
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from infra.errors import StorageError, UserError

KEPT = "kept"
"""The folder of an attempt's partial storage that stays when the artifact is published."""
_LOCAL = ("file", "local")
_CONDITIONAL_PUT = ("s3", "s3a", "gs", "gcs")
_memory_lock = threading.Lock()
_TEMPORARY = ".millrace-tmp-"
_UNREACHED: Final = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "InvalidRegionError",
)
"""Names of the errors of a place that could not be reached at all."""


def is_local(url: str) -> bool:
    """Tell whether `url` is a path or `file://` URL of this machine."""
    return fsspec.utils.get_protocol(url) in _LOCAL


@functools.lru_cache(maxsize=64)
def _filesystem(url: str, pid: int) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open the file system of `url` (once a process: clients must not be shared across a fork)."""
    protocol = fsspec.utils.get_protocol(url)
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):
        options = {
            "skip_instance_cache": True,  # fsspec's own cache knows nothing of the AWS variables; ours is below
            "use_listings_cache": False,  # a stale listing would hide what another worker has published
            "config_kwargs": {
                "connect_timeout": 5,
                "read_timeout": 60,
                "retries": {"total_max_attempts": 1, "mode": "standard"},  # s3fs tries five times itself
            },
        }
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as exc:
        raise UserError(f"storage {url}: {exc}; use a local path, file://, s3:// or gs://") from exc
    return fs, cast(str, path).rstrip("/")


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the fsspec file system of `url` and its path there; raises UserError for a scheme it does not know."""
    return _filesystem(url, os.getpid())


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what storage says about a wrong address or a refused login into one UserError that names `what`."""
    try:
        yield
    except (UserError, StorageError):
        raise
    except FileNotFoundError as exc:
        raise UserError(f"{what}: not found ({_reason(exc)})") from exc
    except PermissionError as exc:
        raise UserError(f"{what}: access denied ({_reason(exc)}); check the credentials") from exc
    except Exception as exc:
        name = type(exc).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            raise UserError(f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from exc
        if name in _UNREACHED:
            check = "the address" if name.startswith("ClientConnector") else "AWS_ENDPOINT_URL"
            raise UserError(f"{what}: cannot be reached ({_reason(exc)}); check {check} and the network") from exc
        if name in ("ParamValidationError", "ValueError"):
            raise UserError(f"{what}: {_reason(exc)}") from exc
        raise


def _reason(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__


@dataclass(frozen=True)
class Storage:
    """A storage prefix; paths are relative to it and use `/`. Cheap to make and to pickle."""

    url: str

    @property
    def local_root(self) -> Path | None:
        """The prefix as a local folder, or None where it is remote."""
        if not is_local(self.url):
            return None
        return Path(LocalFileSystem._strip_protocol(self.url))

    def uri(self, path: str) -> str:
        """Return the full address of `path`."""
        root = self.local_root
        if root is not None:
            return str(root / path)
        return f"{self.url.rstrip('/')}/{path}" if path else self.url.rstrip("/")

    def sub(self, path: str) -> "Storage":
        """Return the storage below `path`."""
        return Storage(self.uri(path))

    def _at(self, path: str) -> tuple[fsspec.AbstractFileSystem, str]:
        fs, root = filesystem(self.url)
        return fs, f"{root}/{path}" if path else root

    def check(self) -> None:
        """Raise UserError unless the prefix can be used: a local folder, which is made, or a bucket that answers."""
        with explained(f"storage {self.url}"):
            root = self.local_root
            if root is not None:
                try:
                    root.mkdir(parents=True, exist_ok=True)
                except OSError as exc:
                    raise UserError(f"storage {self.url}: cannot be used as a folder ({exc.strerror})") from exc
                if not os.access(root, os.W_OK):
                    raise UserError(f"storage {self.url}: the folder is not writable")
                return
            self._check_bucket()

    def _check_bucket(self) -> None:
        fs, path = self._at("")
        bucket = path.split("/", 1)[0]
        if not bucket:
            raise UserError(f"storage {self.url}: the bucket's name is missing; write s3://BUCKET/PREFIX")
        if "memory" not in fs.protocol:
            fs.ls(bucket, detail=False, refresh=True)

    def check_readable(self) -> None:
        """Raise UserError if the storage cannot be reached; a local folder need not be there yet."""
        with explained(f"storage {self.url}"):
            root = self.local_root
            if root is None:
                self._check_bucket()
            elif root.exists() and not root.is_dir():
                raise UserError(f"storage {self.url}: is a file; give a folder or a URL")

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes of `path`; raises FileNotFoundError if, and only if, it is absent."""
        fs, full = self._at(path)
        return cast(bytes, fs.cat_file(full))

    def read_many(self, paths: list[str]) -> dict[str, bytes]:
        """Return the bytes of those of `paths` that exist, fetched concurrently where storage is remote."""
        if not paths:
            return {}
        fs, root = filesystem(self.url)
        if fs.async_impl:
            found = fs.cat([f"{root}/{p}" for p in paths], on_error="return")
            values = (
                {k.removeprefix(root).lstrip("/"): v for k, v in found.items()}
                if isinstance(found, dict)
                else {paths[0]: found}
            )
        else:
            values = {}
            for path in paths:
                try:
                    values[path] = fs.cat_file(f"{root}/{path}")
                except FileNotFoundError as exc:
                    values[path] = exc
        for value in values.values():
            if isinstance(value, Exception) and not isinstance(value, FileNotFoundError):
                raise value
        return {k: v for k, v in values.items() if isinstance(v, bytes)}

    def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return the bytes of (path, first, end) each, fetched concurrently where storage is remote; a failure raises.

        What lies beyond the end of a file is left out.
        """
        fs, root = filesystem(self.url)
        paths = [f"{root}/{path}" for path, _, _ in ranges]
        starts, ends = [first for _, first, _ in ranges], [end for _, _, end in ranges]
        return cast(list[bytes], fs.cat_ranges(paths, starts, ends, on_error="raise"))

    def exists(self, path: str) -> bool:
        """Tell whether `path` is there; an outage raises."""
        fs, full = self._at(path)
        try:
            fs.info(full)
        except FileNotFoundError:
            return False
        return True

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write `path`, replacing what was there; readers see the old or the new bytes, never a part."""
        fs, full = self._at(path)
        if self.local_root is not None:
            temporary = self._temporary(full, data)
            os.replace(temporary, full)
        else:
            fs.pipe_file(full, data)

    def create(self, path: str, data: bytes) -> bool:
        """Create `path` with `data` if it is absent; of many callers exactly one gets True."""
        fs, full = self._at(path)
        protocol = fsspec.utils.get_protocol(self.url)
        if self.local_root is not None:
            temporary = self._temporary(full, data)
            try:
                os.link(temporary, full)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            return True
        if protocol == "memory":
            with _memory_lock:
                if fs.exists(full):
                    return False
                fs.pipe_file(full, data)
            return True
        if protocol not in _CONDITIONAL_PUT:
            raise UserError(f"storage {self.url}: {protocol}:// has no atomic create; use a local path, s3:// or gs://")
        try:
            fs.pipe_file(full, data, mode="create")
        except Exception as exc:
            if _already_exists(exc):
                return False
            raise
        return True

    @staticmethod
    def _temporary(full: str, data: bytes) -> Path:
        target = Path(full)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return temporary

    def names(self, path: str) -> list[str]:
        """Return the sorted names directly below `path`; an absent folder has none."""
        fs, full = self._at(path)
        try:
            found = fs.ls(full, detail=False, refresh=True) if self.local_root is None else os.listdir(full)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)
        return sorted(name for name in names if name and not name.startswith(_TEMPORARY))

    def find(self, path: str) -> list[str]:
        """Return the sorted paths of all files below `path`, relative to it."""
        fs, full = self._at(path)
        try:
            found = fs.find(full)
        except FileNotFoundError:
            return []
        prefix = full.rstrip("/") + "/"
        return sorted(str(entry)[len(prefix) :] for entry in found if str(entry).startswith(prefix))

    def open(self, path: str, mode: str = "rb", *, ahead: bool = True) -> BinaryIO:
        """Open `path` as a binary stream (`rb` or `wb`); without `ahead` only the ranges asked for are fetched."""
        fs, full = self._at(path)
        if self.local_root is not None and "w" in mode:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
        return cast(BinaryIO, fs.open(full, mode) if ahead else fs.open(full, mode, cache_type="none"))

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file to `path`."""
        fs, full = self._at(path)
        if self.local_root is not None:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
        fs.put_file(str(source), full)

    def download(self, path: str, target: Path) -> None:
        """Copy `path` to a local file; the target appears only when it is whole."""
        fs, full = self._at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            fs.get_file(full, str(temporary))
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, path: str, recursive: bool = False) -> None:
        """Remove `path` (and all below it with `recursive`); an absent one is no error."""
        fs, full = self._at(path)
        try:
            fs.rm(full, recursive=recursive)
        except FileNotFoundError:
            return


def _already_exists(exc: BaseException) -> bool:
    """Recognise a failed conditional put by its status 412 (409 while another put is under way), not by its class."""
    if isinstance(exc, FileExistsError):
        return True
    seen: BaseException | None = exc
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = response.get("Error", {}).get("Code")
            if status == 412 or code in ("PreconditionFailed", "412"):
                return True
        if getattr(seen, "status", None) == 412 or getattr(seen, "code", None) == 412:
            return True
        seen = seen.__cause__
    return False
