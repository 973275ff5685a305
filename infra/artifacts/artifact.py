"""What was published: a manifest, and the way to its files."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.canonical import digest_of
from infra.errors import DataError
from infra.manifests import Counters, File, Manifest, content_digest
from infra.settings import settings
from infra.storage import Storage


@dataclass(frozen=True)
class Artifact:
    """A published artifact: its manifest and the store it lies in. Small, picklable, and all that flows pass on."""

    manifest: Manifest
    root: str
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, directory: Path, step: str = "files") -> "Artifact":
        """Describe all files below a local directory as if they were an artifact."""
        files = [File.of(p, p.relative_to(directory).as_posix()) for p in sorted(directory.rglob("*")) if p.is_file()]
        return cls.external(files, step, str(directory))

    @classmethod
    def external(
        cls, files: list[File], step: str = "files", root: str = "", origins: tuple[str, ...] = ()
    ) -> "Artifact":
        """Wrap files that no one step made: a user's own input, or a part or the union of artifacts.

        `origins` are the addresses of the files or artifacts that they come from, for the lineage.
        """
        content = content_digest(files)
        manifest = Manifest(
            step=step, version=0, digest=content, content=content, params={}, inputs=[], files=files, attempt="",
            counters=Counters(), seconds=0, cpu_seconds=0, peak_memory_bytes=0, packages={}, git_revision=None,
            created="",
        )  # fmt: skip
        return cls(manifest, root, origins)

    @property
    def step(self) -> str:
        """Name of the step that made it."""
        return self.manifest.step

    @property
    def digest(self) -> str:
        """Identity (64 hex digits)."""
        return self.manifest.digest

    @property
    def content(self) -> str:
        """Content digest (64 hex digits)."""
        return self.manifest.content

    @property
    def uri(self) -> str:
        """Where its manifest and attempts lie."""
        return Storage(self.root).uri(f"artifacts/{self.step}/{self.digest}") if self.manifest.attempt else self.root

    @property
    def counters(self) -> Counters:
        """The funnel of the step that made it."""
        return self.manifest.counters

    @property
    def metrics(self) -> dict[str, Any]:
        """Free measurements of the step that made it."""
        return self.manifest.counters.metrics

    def files(self, folder: str | None = None) -> list[File]:
        """Return its files in order, those below `folder` if given."""
        prefix = f"{folder}/" if folder else ""
        return [f for f in self.manifest.files if f.path.startswith(prefix)]

    def file(self, path: str) -> File:
        """Return one file; raises DataError if the artifact has none of that name."""
        for f in self.manifest.files:
            if f.path == path:
                return f
        raise DataError(f"{self.step} {self.digest[:12]} has no file {path}")

    def content_of(self, folders: tuple[str, ...] | None) -> str:
        """Return the digest of what lies below `folders` (of everything for None)."""
        return self.content if folders is None else content_digest(self.manifest.files, folders)

    def local(self, folder: str | None = None) -> Path:
        """Return a local directory that holds its files (below `folder` if given) under their paths."""
        files = self.files(folder)
        paths = [(f, f.local()) for f in files]
        key = digest_of([[f.path, f.sha256] for f in files])
        target = settings().workspace / "cache" / "trees" / key
        if not all((target / f.path).exists() for f in files):  # absent, or links to what has moved since
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=target.parent))
            for f, path in paths:
                link = staging / f.path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
            try:
                staging.rename(target)
            except OSError:  # another process was first
                shutil.rmtree(staging)
        return target
