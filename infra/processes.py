"""Worker processes: where steps run, so that they can be stopped for real and never share a thread or a crash.

Workers are spawned (never forked from a process with threads), stay warm from one shard to the next, and leave by
themselves when the process that started them is gone, however it went.
"""

import importlib
import logging
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, TimeoutError
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from infra.artifacts import Work
from infra.errors import LeaseLostError, MillraceError, StepTimeoutError, WorkerDiedError
from infra.leases import process_started
from infra.peak_memory import children_peak_bytes, own_peak_bytes, reset_peak
from infra.preemption import deferred
from infra.settings import settings

_POLL_SECONDS = 0.2
_POOL_ERRORS = ("Unexpected error within the Pool", "The Pool is not active")
"""How pebble says that a pool has broken, in a plain RuntimeError."""
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def die_with(pid: int, started: str | None) -> None:
    """End this process within a second of the end of process `pid` (a daemon thread watches)."""

    def watch() -> None:
        while process_started(pid) == started:
            time.sleep(_POLL_SECONDS * 2)
        os._exit(113)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def _initialise(pid: int, started: str | None, level: int, path: list[str]) -> None:
    die_with(pid, started)
    sys.path[:] = path
    logging.basicConfig(stream=sys.stderr, level=level, format=LOG_FORMAT, force=True)


def _measured(module: str, name: str, cfg: Any, inputs: dict[str, Any]) -> tuple[Any, Work]:
    """Call `fn` of the step `module.name` and measure wall, CPU (children included) and peak memory."""
    function = getattr(importlib.import_module(module), name).fn
    reset_peak()
    cpu, wall = _cpu_seconds(), time.monotonic()
    value = function(cfg, **inputs)
    return value, Work(time.monotonic() - wall, _cpu_seconds() - cpu, max(own_peak_bytes(), children_peak_bytes()))


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Workers:
    """A pool of warm worker processes that calls steps by name."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all workers, busy or not; calls under way raise MillraceError."""
        self._closed.set()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.stop()  # type: ignore[no-untyped-call]
                self._pool.join()
                self._pool = None

    def _started(self) -> ProcessPool:
        with self._lock:
            if self._closed.is_set():
                raise MillraceError("the run was stopped")
            if self._pool is None:
                # A fixed hash seed: the order of a set of strings must not differ between two workers.
                os.environ.setdefault("PYTHONHASHSEED", "0")
                pid = os.getpid()
                self._pool = ProcessPool(
                    max_workers=self.count,
                    context=multiprocessing.get_context("spawn"),
                    initializer=_initialise,
                    initargs=(pid, process_started(pid), logging.getLogger().getEffectiveLevel(), list(sys.path)),
                )
            return self._pool

    def call(
        self,
        module: str,
        name: str,
        cfg: Any,
        inputs: dict[str, Any],
        *,
        timeout: float | None,
        lost: threading.Event,
        tick: Callable[[], None] | None = None,
        note: Path | None = None,
    ) -> tuple[Any, Work]:
        """Run a step's function in a worker; return its value and what it took.

        Where there is a `note`, a signal that tells this process to stop writes it, and the function is given the time
        of the setting preemption_seconds to save and end.

        Raises what the function raised; StepTimeoutError after `timeout` seconds and LeaseLostError once `lost` is
        set, the worker killed in both cases; WorkerDiedError if the worker ended by itself. `tick` is called a few
        times a second meanwhile.
        """
        with deferred(note, seconds=settings().preemption_seconds) if note else nullcontext():
            return self._call(module, name, cfg, inputs, timeout, lost, tick)

    def _call(
        self,
        module: str,
        name: str,
        cfg: Any,
        inputs: dict[str, Any],
        timeout: float | None,
        lost: threading.Event,
        tick: Callable[[], None] | None,
    ) -> tuple[Any, Work]:
        future = None
        try:
            future = self._started().schedule(_measured, args=(module, name, cfg, inputs), timeout=timeout)
            while True:
                try:
                    value, work = future.result(timeout=_POLL_SECONDS)
                    return value, work
                except TimeoutError:
                    if future.done():
                        raise
                if self._closed.is_set():  # the pool does not reliably answer for what it was stopped in
                    raise MillraceError(f"{name}: the run was stopped")
                if lost.is_set():
                    future.cancel()  # type: ignore[no-untyped-call]
                    raise LeaseLostError(f"{name}: another worker took over; this one was stopped")
                if tick is not None:
                    tick()
        except TimeoutError as exc:
            raise StepTimeoutError(
                f"{name}: ran longer than {timeout:g} s and was stopped; raise its step_timeout_seconds"
            ) from exc
        except ProcessExpired as exc:
            raise WorkerDiedError(
                f"{name}: its worker process died (exit code {exc.exitcode}); out of memory is the usual cause"
            ) from exc
        except CancelledError as exc:
            raise WorkerDiedError(f"{name}: its worker process was stopped") from exc
        except (BrokenExecutor, RuntimeError) as exc:
            if not str(exc).startswith(_POOL_ERRORS) and not isinstance(exc, BrokenExecutor):
                raise
            if self._closed.is_set():
                raise MillraceError(f"{name}: the run was stopped") from exc
            self._drop()  # a pool that lost an idle worker takes no more work: the next call starts another
            raise WorkerDiedError(f"{name}: the worker processes were lost ({exc})") from exc
        except BaseException:
            if future is not None and not future.done():
                future.cancel()  # type: ignore[no-untyped-call]
            raise
