"""Work that is not published yet: where it puts its files, the right to do it, and what it took."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.leases import Lease
from infra.manifests import Identity
from infra.storage import Storage


@dataclass(frozen=True)
class Attempt:
    """Where one attempt of a step puts its files, and what it may keep for the next attempt.

    `store` is the URL of the artifact store that it will be published in; "" where nothing is published. Only a step
    that looks at the outside world may look for earlier artifacts there, and never so that they show in the new one.
    """

    directory: Path
    scratch: Path
    partial: Storage
    progress_file: Path | None = None
    store: str = ""

    @classmethod
    def at(cls, directory: Path) -> Self:
        """Make a stand-in that publishes nothing (tests, benchmarks)."""
        scratch = directory.parent / f"{directory.name}.scratch"
        directory.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        return cls(directory, scratch, Storage(str(directory.parent / f"{directory.name}.partial")))

    def path(self, name: str) -> Path:
        """Return the local path at which to write the file `name`, its folder made."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def progress(
        self, done: int, total: int | None = None, unit: str = "", latest: Mapping[str, float] | None = None
    ) -> None:
        """Say how far the work is, and the latest of what it measures; shown as a progress bar and in Prefect.

        Cheap, but call it at most once a second.
        """
        if self.progress_file is not None:
            temporary = self.progress_file.with_suffix(".new")
            temporary.write_text(json.dumps({"done": done, "total": total, "unit": unit, "latest": dict(latest or {})}))
            os.replace(temporary, self.progress_file)


@dataclass
class Claim:
    """The leased right to build one artifact."""

    identity: Identity
    lease: Lease
    attempt: Attempt
    name: str


@dataclass(frozen=True)
class Work:
    """What doing the work took: wall seconds, CPU seconds, peak resident memory in bytes."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
