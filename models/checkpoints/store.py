"""Checkpoints on any storage: written and hashed by each rank in the background, complete when rank 0 says so.

    {root}/checkpoints/step-00000250-1f0c77d2/engine/…          what DeepSpeed saved, one file or more a rank
    {root}/checkpoints/step-00000250-1f0c77d2/state/…           ours: random states, the curve so far, the guard
    {root}/checkpoints/step-00000250-1f0c77d2/rank-00001.json   sha256 of each file of that rank; after its files
    {root}/checkpoints/step-00000250-1f0c77d2/complete.json     all of these and what the run was; written last
    {root}/checkpoints/newest.json                              the step of the last one that was complete
    {root}/kept/step-00001000-1f0c77d2/…                        permanent ones; they outlive the run

Each life of a run adds its own mark (1f0c77d2) to the names, so that what an earlier one still writes can spoil
nothing.  Only a checkpoint with its marker and with every hash right is ever loaded; a damaged one is passed over,
with a warning, for the one before it.  DeepSpeed itself never sees the storage: given an `s3://` address it writes a
local folder of that name and reports success.
"""

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import DataError, StorageError, UserError
from infra.storage import KEPT, Storage
from models.checkpoints.retention import Retention

log = logging.getLogger(__name__)

MARKER = "complete.json"
FORMAT = 3
"""Of what is in a checkpoint; raised where older ones cannot be gone on from."""
FOLDER = "checkpoints"
_NEWEST = "newest.json"
_RETRY_SECONDS = (1.0, 4.0, 15.0)
_PARTS_SECONDS = 1800.0
"""How long rank 0 waits for the other ranks' files once its own are up."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its name below the run's storage, and what its marker says."""

    name: str
    step: int
    about: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]


class Checkpoints:
    """The checkpoints of one run below a storage prefix, as one of its ranks sees them.

    `mark` is the same for all ranks of one life of the run and differs from life to life.  `scratch` is a local
    folder, `node` the number of the machine that it is on: files are fetched once a machine.
    """

    def __init__(
        self,
        storage: Storage,
        scratch: Path,
        retention: Retention,
        *,
        mark: str,
        rank: int = 0,
        ranks: int = 1,
        node: int = 0,
    ) -> None:
        self._storage, self._retention, self._mark = storage, retention, mark
        self._rank, self._ranks = rank, ranks
        self._staging = scratch / "staging" / f"rank-{rank:05d}"
        self._resume = scratch / "resume" / f"node-{node:05d}"
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    # --- making one

    def staging(self, step: int) -> Path:
        """Return the local folder in which this rank stages its files of checkpoint `step`."""
        return self._staging / self._name(step).rpartition("/")[2]

    def reset_staging(self) -> None:
        """Remove what a killed life of this rank left in its staging folder."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def publish(self, step: int, write: Callable[[Path], None], about: Mapping[str, Any]) -> None:
        """Let `write` fill the staging folder, then hash and upload it, all in the background.

        Every rank calls it; the marker appears when all files of all ranks are up.  At most one checkpoint is under
        way: the call waits for the one before it, and raises what made that fail.
        """
        self.wait()
        work = (step, write, dict(about))
        self._thread = threading.Thread(target=self._publish, args=work, name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the upload under way has ended; raises what made it fail."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what made an upload fail, if one has failed."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _publish(self, step: int, write: Callable[[Path], None], about: dict[str, Any]) -> None:
        try:
            staged = self.staging(step)
            staged.mkdir(parents=True, exist_ok=True)
            write(staged)
            files = _hashes(staged)
            self._patiently(step, lambda: self._upload(step, files))
            shutil.rmtree(staged)
            if self._rank == 0:
                self._patiently(step, lambda: self._complete(step, about))
        except BaseException as exc:  # handed to the training loop by wait() and check()
            self._failure = exc

    def _patiently(self, step: int, work: Callable[[], None]) -> None:
        """Do the work; storage that does not answer for a while need not end the training."""
        for delay in (*_RETRY_SECONDS, None):
            try:
                return work()
            except Exception as exc:
                if delay is None or isinstance(exc, UserError):
                    raise
                log.warning("checkpoint of step %d: %s; trying again in %.0f s", step, exc, delay)
                time.sleep(delay)

    def _upload(self, step: int, files: dict[str, dict[str, Any]]) -> None:
        name = self._name(step)
        for relative in files:
            self._storage.upload(self.staging(step) / relative, f"{name}/{relative}")
        self._storage.write_bytes(f"{name}/{_part(self._rank)}", json.dumps(files, indent=1).encode())

    def _complete(self, step: int, about: dict[str, Any]) -> None:
        name, files = self._name(step), self._gather(self._name(step))
        marker = {"format": FORMAT, "step": step, "about": about, "files": files}
        self._storage.write_bytes(f"{name}/{MARKER}", json.dumps(marker, indent=1).encode())
        self._storage.write_bytes(f"{FOLDER}/{_NEWEST}", json.dumps({"step": step}).encode())
        self._retire()

    def _gather(self, name: str) -> dict[str, Any]:
        """Return what all ranks have uploaded; waits until the last one has."""
        paths = [f"{name}/{_part(rank)}" for rank in range(self._ranks)]
        end, pause = time.monotonic() + _PARTS_SECONDS, 0.02
        while len(found := self._storage.read_many(paths)) < len(paths):
            if time.monotonic() > end:
                missing = [rank for rank, path in enumerate(paths) if path not in found]
                raise StorageError(f"{name}: ranks {missing} did not upload their files in {_PARTS_SECONDS:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        return {relative: entry for path in paths for relative, entry in json.loads(found[path]).items()}

    def _name(self, step: int) -> str:
        folder = KEPT if self._retention.permanent(step) else FOLDER
        return f"{folder}/step-{step:08d}-{self._mark}"

    # --- finding one

    def complete(self) -> list[str]:
        """Return the names of all complete checkpoints, the newest last."""
        return [name for name in self.names() if self._storage.exists(f"{name}/{MARKER}")]

    def names(self) -> list[str]:
        """Return the names of all checkpoints, complete or not, the newest last."""
        found = [f"{folder}/{name}" for folder in (FOLDER, KEPT) for name in self._storage.names(folder)]
        return sorted((name for name in found if "/step-" in name), key=lambda name: (_step(name), name))

    def newest(self) -> Checkpoint | None:
        """Fetch the newest complete and undamaged checkpoint; None if there was never one.

        Raises DataError if there are complete ones and every one is damaged, or if there was one and it is gone:
        starting again from nothing would throw work away without a word.  Raises UserError for one of another format.
        """
        complete = self.complete()
        for name in reversed(complete):
            try:
                return self.fetch(name)
            except (DataError, FileNotFoundError, json.JSONDecodeError, KeyError) as exc:
                log.warning("checkpoint %s is damaged and passed over: %s", self._storage.uri(name), exc)
        again = "run with --force pretrain to start from the beginning"
        if complete:
            raise DataError(
                f"pretrain: all {len(complete)} checkpoints in {self._storage.uri('')} are damaged; {again}"
            )
        if self._storage.exists(f"{FOLDER}/{_NEWEST}"):
            step = json.loads(self._storage.read_bytes(f"{FOLDER}/{_NEWEST}"))["step"]
            raise DataError(
                f"pretrain: the checkpoint of step {step} was complete and is no longer in {self._storage.uri('')}; "
                f"{again}"
            )
        return None

    def fetch(self, name: str) -> Checkpoint:
        """Fetch a checkpoint to this machine and verify it; raises DataError where it is not what was written."""
        found = self.read(name)
        shutil.rmtree(self._resume, ignore_errors=True)
        for relative, expected in found.files.items():
            target = self.fetched(name) / relative
            self._storage.download(f"{name}/{relative}", target)
            if target.stat().st_size != expected["bytes"] or _sha256(target) != expected["sha256"]:
                raise DataError(f"{relative} is not what was written (sha256 differs)")
        return found

    def read(self, name: str) -> Checkpoint:
        """Return what the marker of a complete checkpoint says; raises UserError for that of another format."""
        marker = json.loads(self._storage.read_bytes(f"{name}/{MARKER}"))
        if marker["format"] != FORMAT:
            raise UserError(
                f"pretrain: the checkpoint {self._storage.uri(name)} was written by another version of Millrace "
                f"(format {marker['format']}, here {FORMAT}); go on with that version, or run with --force pretrain to "
                "start from the beginning"
            )
        return Checkpoint(name=name, step=int(marker["step"]), about=marker["about"], files=marker["files"])

    def at(self, step: int) -> str | None:
        """Return the name of a complete checkpoint of a step; None where there is none."""
        return next((name for name in reversed(self.complete()) if _step(name) == step), None)

    def fetched(self, name: str) -> Path:
        """Return the folder of this machine to which `fetch` puts a checkpoint."""
        return self._resume / name

    def drop_fetched(self) -> None:
        """Remove what was fetched to this machine."""
        shutil.rmtree(self._resume, ignore_errors=True)

    # --- removing some

    def _retire(self) -> None:
        """Remove what the retention does not keep, and what earlier lives left unfinished; each marker first."""
        complete = self.complete()
        kept = self._retention.kept([_step(name) for name in complete])
        # What an earlier life has made as permanent stays so, whatever this one is told to keep.
        kept |= {_step(name) for name in complete if name.startswith(f"{KEPT}/")}
        # Of two for one step one is enough: this life's, which has measured more of what is done after that step.
        complete.sort(key=lambda name: (name.startswith(f"{KEPT}/"), name.endswith(f"-{self._mark}")))
        newest_of = {_step(name): name for name in complete}
        for name in self.names():
            if _step(name) in kept and newest_of[_step(name)] == name:
                continue
            self._remove(name)

    def remove_after(self, step: int) -> None:
        """Remove all checkpoints of later steps than this one; raises nothing where there is none."""
        for name in self.names():
            if _step(name) > step:
                self._remove(name)
        if self._storage.exists(f"{FOLDER}/{_NEWEST}"):
            self._storage.write_bytes(f"{FOLDER}/{_NEWEST}", json.dumps({"step": step}).encode())

    def _remove(self, name: str) -> None:
        self._storage.delete(f"{name}/{MARKER}")
        self._storage.delete(name, recursive=True)


def _hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of all files below a folder, by their path there."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _part(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _step(name: str) -> int:
    return int(name.rpartition("/")[2].split("-")[1])
