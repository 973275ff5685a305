"""LAMB as its paper has it (You et al., arXiv 1904.00962, algorithm 2).

Written here, as what packages offer is another algorithm (no bias correction, decay beside the trust ratio, norms cut
at 10), and DeepSpeed's has no CPU operator.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Adam's update, and the decay with it, made as long as the parameter is, in groups that have `adapt`."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": adapt}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self._update(p, p.grad, group))

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        deviation: Tensor = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        update: Tensor = (state["mean"] / (1 - first ** state["step"])).div_(deviation)
        update.add_(p, alpha=group["weight_decay"])
        if not group["adapt"]:
            return update.mul_(group["lr"])
        length, wanted = update.norm(), p.norm()
        # A parameter of zeros, as where a branch joins the residual stream, would stay there.
        ratio = torch.where((length > 0) & (wanted > 0), wanted / length, 1.0)
        return update.mul_(group["lr"] * ratio)
