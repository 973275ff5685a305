"""The batches of the next steps, made ready in the background while the device works on this one.

Which batch belongs to which step is no matter of threads: each step is asked for by its number and made from nothing
else, so that a run which is resumed, or rolled back, gets what it would have got.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from models.batch import Batch


class Ready(NamedTuple):
    """The micro-batches of one rank for one step."""

    batches: list[list[Tensor | None]]
    """What each `Batch` holds, up to the last that is not None."""
    scored: int
    """How many targets count, in all of them."""


class Prefetcher:
    """Makes steps ready ahead of their use, `depth` of them at most, on `threads` threads.

    read: returns the micro-batches of a step; called from these threads, a step at a time in each.
    """

    def __init__(
        self,
        read: Callable[[int], Sequence[Batch]],
        *,
        steps: int,
        device: torch.device,
        depth: int = 2,
        threads: int = 1,
    ) -> None:
        self._read, self._steps, self._device, self._depth = read, steps, device, depth
        # A thread begins on the first GPU, where pinning memory would cost the other ranks a context each.
        begin = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batches", initializer=begin)
        self._ahead: deque[tuple[int, Future[Ready]]] = deque()

    def take(self, step: int) -> Ready:
        """Return a step's batches on the device; raises what reading them raised. Steps may be taken in any order."""
        if not self._ahead or self._ahead[0][0] != step:
            self._drop()
        while len(self._ahead) <= self._depth and (following := step + len(self._ahead)) < max(self._steps, step + 1):
            self._ahead.append((following, self._pool.submit(self._prepare, following)))
        ready = self._ahead.popleft()[1].result()
        if self._device.type == "cpu":
            return ready
        # From pinned memory the copy runs beside the arithmetic that is queued on the device.
        return ready._replace(
            batches=[
                [None if each is None else each.to(self._device, non_blocking=True) for each in batch]
                for batch in ready.batches
            ]
        )

    def close(self) -> None:
        """End the threads."""
        self._drop()
        self._pool.shutdown()

    def _drop(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def _prepare(self, step: int) -> Ready:
        read = self._read(step)
        return Ready([self._tensors(batch) for batch in read], sum(batch.scored for batch in read))

    def _tensors(self, batch: Batch) -> list[Tensor | None]:
        held = [None if each is None else torch.from_numpy(each) for each in batch]
        while held[-1] is None:
            held.pop()
        if self._device.type == "cuda":
            held = [None if each is None else each.pin_memory() for each in held]
        return held
