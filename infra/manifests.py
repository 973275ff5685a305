"""What an artifact is, in words: its identity, its files, its funnel, and the manifest that says all of it."""

import builtins
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict

from infra.canonical import digest_of, sha256_file
from infra.errors import DataError
from infra.settings import settings
from infra.storage import Storage

FORMAT = 1
LOGS = "logs/"
_EXAMPLES = 3


class Counters(BaseModel):
    """The funnel of one step or shard: `documents_in == documents_out + sum(dropped) + quarantined`, always.

    `values` are further sums that belong to the output and must be deterministic (bytes, tokens); `metrics` are free
    (times, tokens a second) and never compared. `errors` counts why documents were quarantined; `examples` holds up
    to three URLs a reason.
    """

    model_config = ConfigDict(extra="forbid")

    documents_in: int = 0
    documents_out: int = 0
    dropped: dict[str, int] = {}
    quarantined: int = 0
    errors: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    values: dict[str, int] = {}
    metrics: dict[str, Any] = {}

    def keep(self, count: int = 1) -> None:
        """Count documents that came in and go out."""
        self.documents_in += count
        self.documents_out += count

    def drop(self, reason: str, url: str | None = None) -> None:
        """Count one document that came in and is dropped for `reason`."""
        self.documents_in += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._example(reason, url)

    def quarantine(self, reason: str, url: str | None = None) -> None:
        """Count one document that could not be handled; `reason` is kept with the examples."""
        self.documents_in += 1
        self.quarantined += 1
        self.errors[reason] = self.errors.get(reason, 0) + 1
        self._example(reason, url)

    def _example(self, reason: str, url: str | None) -> None:
        if url is not None and len(urls := self.examples.setdefault(reason, [])) < _EXAMPLES:
            urls.append(url)

    def check(self, step: str) -> None:
        """Raise DataError unless every document that came in is accounted for."""
        accounted = self.documents_out + sum(self.dropped.values()) + self.quarantined
        if self.documents_in != accounted:
            raise DataError(
                f"{step}: {self.documents_in} documents came in but {accounted} are accounted for "
                f"({self.documents_out} out, {sum(self.dropped.values())} dropped, {self.quarantined} quarantined)"
            )

    @classmethod
    def total(cls, parts: Iterable["Counters"]) -> "Counters":
        """Sum counters over shards; metrics, which have no sum, are left out."""
        out = cls()
        for part in parts:
            out.documents_in += part.documents_in
            out.documents_out += part.documents_out
            out.quarantined += part.quarantined
            for mine, theirs in (
                (out.dropped, part.dropped), (out.errors, part.errors), (out.values, part.values)
            ):  # fmt: skip
                for name, count in theirs.items():
                    mine[name] = mine.get(name, 0) + count
            for reason, urls in part.examples.items():
                for url in urls:
                    out._example(reason, url)
        return out


class File(BaseModel):
    """One immutable file: what it is called in its artifact, where its bytes are, and what they hash to."""

    model_config = ConfigDict(frozen=True)

    path: str
    location: str
    bytes: int
    sha256: str
    rows: int | None = None
    root: str = ""

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> Self:
        """Describe a local file that no artifact holds."""
        return cls(
            path=name or path.name,
            location=path.name,
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            rows=parquet_rows(path),
            root=str(path.parent.resolve()),
        )

    @property
    def uri(self) -> str:
        """Full address of the bytes."""
        return Storage(self.root).uri(self.location)

    def open(self) -> BinaryIO:
        """Open the bytes where they are, without verifying them."""
        return Storage(self.root).open(self.location)

    def open_parts(self) -> BinaryIO:
        """Open the bytes for reading a few ranges of them: a copy in the cache, else where they are, not verified."""
        storage = Storage(self.root)
        if (root := storage.local_root) is not None:
            return (root / self.location).open("rb")
        cached = self._cached()
        return cached.open("rb") if cached.exists() else storage.open(self.location, ahead=False)

    def _cached(self) -> Path:
        return settings().workspace / "cache" / self.sha256[:2] / f"{self.sha256}{Path(self.path).suffix}"

    def local(self) -> Path:
        """Return a local path of the bytes: the file itself, or a copy in the cache whose sha256 was checked."""
        storage = Storage(self.root)
        if (root := storage.local_root) is not None:
            return root / self.location
        cached = self._cached()
        if not cached.exists():
            fetched = cached.with_name(f"{cached.name}.{uuid.uuid4().hex}")
            try:
                storage.download(self.location, fetched)
                if (found := sha256_file(fetched)) != self.sha256:
                    raise DataError(f"{self.uri}: sha256 is {found}, its manifest says {self.sha256}")
                os.replace(fetched, cached)
            finally:
                fetched.unlink(missing_ok=True)
        return cached

    def read_bytes(self) -> builtins.bytes:
        """Return all bytes."""
        with self.open() as stream:
            return stream.read()


def parquet_rows(path: Path) -> int | None:
    """Return the rows of a Parquet file, None for any other file."""
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq  # a tenth of a second, which every process would pay that knows what an artifact is

    return int(pq.read_metadata(path).num_rows)


class Input(BaseModel):
    """An input as a manifest records it: its role, the artifact's identity, the content that entered, where it was.

    `origins` are the addresses of what it was put together from, where it is no artifact itself.
    """

    role: str
    content: str
    digest: str | None = None
    uri: str | None = None
    origins: list[str] = []


class Manifest(BaseModel):
    """What `manifest.json` says: everything there is to know about an artifact but its bytes."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    step: str
    version: int
    digest: str
    content: str
    params: dict[str, Any]
    inputs: list[Input]
    files: list[File]
    shards: list[str] = []
    attempt: str
    counters: Counters
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    cost: float | None = None
    packages: dict[str, str]
    git_revision: str | None
    created: str

    def to_json(self) -> bytes:
        """Serialise; the root of the files is where the manifest lies and is not written down."""
        return json.dumps(self.model_dump(mode="json", exclude={"files": {"__all__": {"root"}}}), indent=1).encode()


def content_digest(files: Iterable[File], folders: tuple[str, ...] | None = None) -> str:
    """Return the sha256 over (path, sha256) of the files that are content, below `folders` if given."""
    chosen = [
        [f.path, f.sha256]
        for f in files
        if not f.path.startswith(LOGS) and (folders is None or any(f.path.startswith(f"{x}/") for x in folders))
    ]
    return digest_of(sorted(chosen))


@dataclass(frozen=True)
class Identity:
    """What makes an artifact the one it is; equal identities are the same artifact wherever they are computed."""

    step: str
    version: int
    params: dict[str, Any]
    inputs: tuple[Input, ...]

    @property
    def digest(self) -> str:
        """sha256 (64 hex digits) of the canonical JSON."""
        return digest_of(
            {
                "step": self.step,
                "version": self.version,
                "params": self.params,
                "inputs": [[i.role, i.content] for i in self.inputs],
            }
        )
