"""An exponential moving average of the weights, in fp32, beside those that are trained.

Every rank keeps the whole average, as it keeps whole weights (ZeRO 0 to 2): all follow from the same steps, so that
they are the same bit for bit.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.config import EMAConfig


class Average:
    """The average of a model's weights over the steps that were taken."""

    def __init__(self, cfg: EMAConfig, model: nn.Module) -> None:
        self._cfg = cfg
        self._trained = dict(model.named_parameters())
        self._average = {name: p.detach().float().clone() for name, p in self._trained.items()}
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        kept = self._cfg.kept(self._steps)
        self._steps += 1
        latest = [p.detach().float() for p in self._trained.values()]
        torch._foreach_lerp_(list(self._average.values()), latest, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average where the weights are, rounded as they are, and these back at the end."""
        held = {name: p.detach().clone() for name, p in self._trained.items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(held)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, p in self._trained.items():
            p.copy_(weights[name])

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the average, by name, on the CPU."""
        return {name: self._average[name].cpu().contiguous().clone() for name in sorted(self._average)}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors that are not copies."""
        return {"steps": self._steps, "average": self._average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._steps = int(state["steps"])
        for name, average in self._average.items():
            average.copy_(state["average"][name])
