"""Being told to stop soon: a signal becomes a note that the work reads at its next safe place.

Slurm (`--signal`), Kubernetes and whoever takes a machine back send SIGTERM, SIGUSR1 or SIGUSR2 some seconds before
they kill.  A step that can save what it has done is given that time:

    with preemption.deferred(note, seconds=60):      the first signal writes the note, the second ends the work at once
        …                                            the work ends with PreemptedError once it has saved
    preemption.told()                                whether this process has been told: then nothing is tried again
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

NOTE = "stop"
"""Name of the note in the scratch folder of an attempt."""

_told = threading.Event()


def told() -> bool:
    """Tell whether this process has been told to stop."""
    return _told.is_set()


@contextlib.contextmanager
def deferred(note: Path, *, seconds: float) -> Iterator[None]:
    """Let the first of the signals write `note` instead of ending the work, for at most so many seconds.

    A second signal, and the end of that time, do what the first one would have done outside.  Only the main thread can
    handle signals; on others this does nothing.
    """
    _told.clear()
    note.unlink(missing_ok=True)  # of a run that was killed before it could save
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _restore(before)
        os.kill(os.getpid(), number)

    def take(number: int, frame: FrameType | None) -> None:
        if _told.is_set():
            end(number, frame)
            return
        _told.set()
        log.warning("%s: saving and stopping, within %.0f s", signal.Signals(number).name, seconds)
        write_note(note)
        signal.signal(signal.SIGALRM, lambda _, frame: end(number, frame))
        signal.setitimer(signal.ITIMER_REAL, seconds)

    alarm = signal.getsignal(signal.SIGALRM)
    for number in SIGNALS:
        signal.signal(number, take)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        _restore(before)


def write_note(note: Path) -> None:
    """Write the note that tells the work to stop."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{time.time():.3f}\n")


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
