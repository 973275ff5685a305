"""LAMB as its paper has it (You et al., arXiv 1904.00962, algorithm 2).

Written here, as what packages offer is another algorithm (no bias correction, decay beside the trust ratio, norms cut
at 10), and DeepSpeed's has no CPU operator.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from models.optimizers.sharded import Partition


class Lamb(torch.optim.Optimizer):
    """Adam's update, and the decay with it, made as long as the parameter is, in groups that have `whole`."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
        whole: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "whole": whole}
        self.partitions: dict[Tensor, Partition] = {}
        """What those of the parameters are made of that are ZeRO's flat partitions of many."""
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; every rank must call it under ZeRO."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self._update(p, p.grad, group))

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        state["step"] += 1
        first, second = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        deviation: Tensor = (state["exp_avg_sq"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        update: Tensor = (state["exp_avg"] / (1 - first ** state["step"])).div_(deviation)
        update.add_(p, alpha=group["weight_decay"])
        if not group["whole"]:
            return update.mul_(group["lr"])
        partition = self.partitions.get(p)
        if partition is None:
            return update.mul_(group["lr"] * _ratio(update.norm(), p.norm()))
        for fragment, ratio in zip(partition.fragments, _ratio(*partition.norms(update, p)), strict=True):
            update[fragment.stretch(partition.rank)] *= group["lr"] * ratio
        return update


def _ratio(length: Tensor, wanted: Tensor) -> Tensor:
    """Return by how much an update is scaled that has a norm of `length`, for a parameter of a norm of `wanted`.

    A parameter of zeros, as where a branch joins the residual stream, would stay there.
    """
    return torch.where((length > 0) & (wanted > 0), wanted / length, 1.0)
