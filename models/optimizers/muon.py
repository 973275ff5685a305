"""Muon for hidden matrices with AdamW for the rest, as one optimiser.

torch.optim.Muon has the same coefficients and the same step.  Ours takes all matrices of one shape through
Newton-Schulz as one batch (two thirds of the time at width 128), takes stacks of matrices, as experts are, and computes
in fp32 where training does, on processors without bf16 arithmetic.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration: Keller Jordan, kellerjordan.github.io/posts/muon (as in torch.optim.Muon).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices_NRC: Tensor, iterations: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return matrices (N, R, C) with the same singular vectors and singular values near 1, by Newton-Schulz.

    The products are done in `dtype`; bf16 suffices (the singular values come out within 0.7 to 1.2 either way).
    """
    tall = matrices_NRC.shape[-2] > matrices_NRC.shape[-1]
    x = (matrices_NRC.mT if tall else matrices_NRC).to(dtype)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices_NRC.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised before the step; matrices of one shape go through it as one batch."""

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        iterations: int,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        self.dtype = dtype
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "iterations": iterations, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix, and every matrix of a stack, that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[tuple(p.shape)].append(p)
            for shape, params in by_shape.items():
                self._move(shape, params, group)

    def _move(self, shape: tuple[int, ...], params: list[Tensor], group: dict[str, Any]) -> None:
        updates = []
        for p in params:
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            gradient: Tensor = p.grad  # type: ignore[assignment]
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(state["momentum"], group["momentum"]))
        rows, columns = shape[-2:]
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        matrices_NRC = torch.stack(updates).view(-1, rows, columns)
        orthogonal = orthogonalise(matrices_NRC, group["iterations"], self.dtype).view(-1, *shape)
        for p, update in zip(params, orthogonal, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update, alpha=-rate)


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers behind one: group by group, Muon or AdamW."""

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([p for o in (muon, adamw) for g in o.param_groups for p in g["params"]], {})
        self.param_groups = muon.param_groups + adamw.param_groups

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of both."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = self.muon.param_groups + self.adamw.param_groups
