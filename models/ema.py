"""An exponential moving average of the weights, in fp32, beside those that are trained.

It is elementwise, so each rank averages what it holds: all of them, or its share (ZeRO-3, tensor and pipeline
parallelism).  What several ranks hold is the same on each, bit for bit, as all follow from the same steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from models.config import EMAConfig


class Holder(Protocol):
    """What holds weights on this rank; every engine does."""

    def shares(self) -> dict[str, Tensor]:
        """Return what this rank holds of each parameter, by name."""

    def writing_shares(self) -> AbstractContextManager[None]:
        """Let the tensors of `shares` be written to within."""

    def cut(self, name: str, shares: Sequence[Tensor]) -> Tensor:
        """Return what this rank holds of a parameter, from what so many ranks held of it."""


class Average:
    """The average of the weights that this rank holds over the steps that were taken."""

    def __init__(self, cfg: EMAConfig, holder: Holder) -> None:
        self._cfg, self._holder = cfg, holder
        self._average = {name: share.detach().float().clone() for name, share in holder.shares().items()}
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        kept = self._cfg.kept(self._steps)
        self._steps += 1
        latest = self._holder.shares()
        torch._foreach_lerp_(
            list(self._average.values()), [latest[name].detach().float() for name in self._average], 1 - kept
        )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average where the weights are, rounded as they are, and these back at the end."""
        held = {name: share.detach().clone() for name, share in self._holder.shares().items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(held)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        with self._holder.writing_shares():
            for name, share in self._holder.shares().items():
                share.copy_(weights[name])

    def shares(self) -> dict[str, Tensor]:
        """Return the average of what this rank holds, by name: tensors that are not copies."""
        return self._average

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors that are not copies."""
        return {"steps": self._steps, "average": self._average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned, of this rank's share or another rank's of the same."""
        self._steps = int(state["steps"])
        for name, average in self._average.items():
            average.copy_(state["average"][name])

    def restore_anew(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what `state` returned on all the ranks, in order, among which ZeRO-3 had cut the weights."""
        self._steps = int(states[0]["steps"])
        for name, average in self._average.items():
            average.copy_(self._holder.cut(name, [state["average"][name] for state in states]))
