"""Checkpoints on any storage: staged locally, hashed, uploaded in the background, marker last.

    {root}/checkpoints/step-00000250/engine/…         what DeepSpeed wrote, one file or more a rank
    {root}/checkpoints/step-00000250/state/…          ours: random states, the curve so far
    {root}/checkpoints/step-00000250/complete.json    sha256 of each file and what the run was; written last

DeepSpeed itself never sees the storage: given an `s3://` address it writes a local folder of that name and reports
success.  Only a checkpoint with its marker and with every hash right is ever loaded; a damaged one is passed over,
with a warning, for the one before it.
"""

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import DataError, UserError
from infra.storage import Storage

log = logging.getLogger(__name__)

MARKER = "complete.json"
FORMAT = 1
_FOLDER = "checkpoints"
_RETRY_SECONDS = (1.0, 4.0, 15.0)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, fetched and verified: where its files are now, and what its marker says."""

    step: int
    directory: Path
    about: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run below a storage prefix."""

    def __init__(self, storage: Storage, scratch: Path, keep: int) -> None:
        self._storage, self._scratch, self._keep = storage.sub(_FOLDER), scratch, keep
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def staging(self, step: int) -> Path:
        """Return the local folder in which all ranks of this machine stage checkpoint `step`."""
        return self._scratch / "staging" / _name(step)

    def reset_staging(self) -> None:
        """Remove what a killed run left in the staging folder."""
        shutil.rmtree(self._scratch / "staging", ignore_errors=True)

    def publish(self, step: int, about: Mapping[str, Any]) -> None:
        """Hash and upload the staged checkpoint in the background; waits for the one before it first."""
        self.wait()
        self._thread = threading.Thread(target=self._publish, args=(step, dict(about)), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the upload under way has ended; raises what made it fail."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _publish(self, step: int, about: dict[str, Any]) -> None:
        try:
            for delay in (*_RETRY_SECONDS, None):
                try:
                    self._upload(step, about)
                    break
                except Exception as exc:  # storage that does not answer for a while need not end the training
                    if delay is None or isinstance(exc, UserError):
                        raise
                    log.warning("checkpoint of step %d: %s; trying again in %.0f s", step, exc, delay)
                    time.sleep(delay)
            shutil.rmtree(self.staging(step))
            self._retire()
        except Exception as exc:  # handed to the training loop by wait()
            self._failure = exc

    def _upload(self, step: int, about: dict[str, Any]) -> None:
        staged, name = self.staging(step), _name(step)
        self._storage.delete(f"{name}/{MARKER}")
        files = {}
        for path in sorted(p for p in staged.rglob("*") if p.is_file()):
            relative = path.relative_to(staged).as_posix()
            self._storage.upload(path, f"{name}/{relative}")
            files[relative] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        marker = {"format": FORMAT, "step": step, "about": about, "files": files}
        self._storage.write_bytes(f"{name}/{MARKER}", json.dumps(marker, indent=1).encode())

    def _retire(self) -> None:
        """Remove all but the newest complete checkpoints, each marker first."""
        complete = self._complete()
        for name in self._storage.names(""):
            if name in complete[-self._keep :] or (complete and name > complete[-1]):
                continue
            self._storage.delete(f"{name}/{MARKER}")
            self._storage.delete(name, recursive=True)

    def _complete(self) -> list[str]:
        return [name for name in self._storage.names("") if self._storage.exists(f"{name}/{MARKER}")]

    def newest(self) -> Checkpoint | None:
        """Fetch the newest complete and undamaged checkpoint; None if there is none at all.

        Raises DataError if there are complete ones and every one is damaged: starting again from nothing would throw
        work away without a word.
        """
        complete = self._complete()
        for name in reversed(complete):
            try:
                return self._fetch(name)
            except (DataError, FileNotFoundError, json.JSONDecodeError, KeyError) as exc:
                log.warning("checkpoint %s is damaged and passed over: %s", self._storage.uri(name), exc)
        if complete:
            raise DataError(
                f"pretrain: all {len(complete)} checkpoints in {self._storage.uri('')} are damaged; "
                "remove that folder to start from the beginning"
            )
        return None

    def _fetch(self, name: str) -> Checkpoint:
        marker = json.loads(self._storage.read_bytes(f"{name}/{MARKER}"))
        if marker["format"] != FORMAT:
            raise DataError(f"written by another version (format {marker['format']}, not {FORMAT})")
        directory = self._scratch / "resume" / name
        shutil.rmtree(directory.parent, ignore_errors=True)
        for relative, expected in marker["files"].items():
            target = directory / relative
            self._storage.download(f"{name}/{relative}", target)
            if target.stat().st_size != expected["bytes"] or _sha256(target) != expected["sha256"]:
                raise DataError(f"{relative} is not what was written (sha256 differs)")
        return Checkpoint(step=int(marker["step"]), directory=directory, about=marker["about"])


def check_resumable(found: Checkpoint, run: Mapping[str, Any]) -> None:
    """Raise UserError unless a run that says `run` about itself can go on from the checkpoint `found`.

    ZeRO stage 0 keeps whole tensors on each rank and goes on with any number of ranks; the state that stages 1 to 3 cut
    over the ranks is bound to their number.
    """
    about, again = found.about, f"remove the folder {_FOLDER} of the run's partial storage to start from the beginning"
    for name in ("config_digest", "tokenizer_digest"):
        if about[name] != run[name]:
            raise UserError(
                f"pretrain: the checkpoint of step {found.step} belongs to another run ({name} {about[name][:12]}, "
                f"here {run[name][:12]}); {again}"
            )
    cut = ("ranks", "zero_stage")
    if any(about[name] != run[name] for name in cut) and (about["zero_stage"] or run["zero_stage"]):
        raise UserError(
            f"pretrain: the checkpoint of step {found.step} was written by ranks={about['ranks']} with "
            f"zero_stage={about['zero_stage']} and cannot be cut anew for ranks={run['ranks']} with "
            f"zero_stage={run['zero_stage']}; go on with the former, or {again}"
        )
    if about["precision"] != run["precision"]:
        raise UserError(
            f"pretrain: the checkpoint of step {found.step} was trained in {about['precision']}, here precision is "
            f"{run['precision']}; set pretrain.precision={about['precision']}, or {again}"
        )
    for name in ("threads", "torch"):
        if about[name] != run[name]:
            log.warning(
                "resuming with %s %s what was trained with %s: sums may differ in the last bit",
                name,
                run[name],
                about[name],
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"
