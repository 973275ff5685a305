"""What a rank watches beside its work: whether it is told to stop, and whether it still gets anywhere.

A signal may reach any rank (Slurm sends it to all, Kubernetes to the first process of a container), the supervisor's
note the ranks of its machine.  All ranks stop after the same step, or the same batch of a validation.
"""

import contextlib
import faulthandler
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO

from infra.errors import PreemptedError
from infra.preemption import SIGNALS

_SHARE = 0.9
_REARM_SECONDS = 1.0


class Preemption:
    """Whether this rank has been told to stop, by a signal or by the note of its supervisor."""

    def __init__(self, note: Path) -> None:
        self._note, self._signal = note, 0
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    @property
    def told(self) -> bool:
        """Whether it is time to stop."""
        return bool(self._signal) or self._note.exists()

    def end_if_told(self) -> None:
        """Raise PreemptedError where it is time to stop, at a place where there is nothing to save."""
        if self.told:
            raise PreemptedError("pretrain: told to stop before the first step; the same run goes on where it was")


class PutOffError(Exception):
    """It is time to stop, on every rank after the same batch: what was begun is left to a later life of the run."""


class StackDump:
    """Writes the stacks of all threads of this rank to a file when it has made no progress for most of the limit.

    The supervisor ends the ranks at the limit and puts these files into their log: they say where each one hung.
    faulthandler writes them from a thread of its own that needs no interpreter lock.
    """

    def __init__(self, folder: Path, rank: int, limit: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._seconds, self._armed = limit * _SHARE, 0.0
        self._stream: IO[str] = stack_file(folder, rank).open("w")
        self.progress()

    def progress(self) -> None:
        """Note that the rank gets on."""
        now = time.monotonic()
        if now - self._armed >= min(_REARM_SECONDS, self._seconds / 10):
            self._armed = now
            faulthandler.dump_traceback_later(self._seconds, file=self._stream)

    def close(self) -> None:
        """Stop watching."""
        faulthandler.cancel_dump_traceback_later()
        self._stream.close()


def stack_file(folder: Path, rank: int) -> Path:
    """Return where a rank's stacks are written."""
    return folder / f"rank-{rank:05d}.txt"


def read_stacks(folder: Path) -> dict[int, str]:
    """Return the stacks that ranks have written, by rank; none where none hung for long enough."""
    found = {}
    for path in sorted(folder.glob("rank-*.txt")):
        with contextlib.suppress(FileNotFoundError):
            if text := path.read_text().strip():
                found[int(path.stem.removeprefix("rank-"))] = text
    return found
