"""Muon for hidden matrices with AdamW for the rest, as one optimiser.

torch.optim.Muon has the same coefficients and the same step.  Ours takes all matrices of one shape through
Newton-Schulz as one batch (two thirds of the time at width 128), takes stacks of matrices, as experts are, and computes
in fp32 where training does, on processors without bf16 arithmetic.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from models.optimizers.sharded import Partition, batches

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
    """Momentum whose matrices are orthogonalised before the step; matrices of one shape go through it as one batch.

    Its state is `exp_avg`, the momentum, by the name that DeepSpeed's converter of checkpoints knows.
    """

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
        self.partitions: dict[Tensor, Partition] = {}
        """What those of the parameters are made of that are ZeRO's flat partitions of many."""
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "iterations": iterations, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix, and every matrix of a stack, that has a gradient; every rank must call it under ZeRO."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for p in moved:
                if (partition := self.partitions.get(p)) is not None:
                    self._move_partition(p, partition, group)
            for params in batches([p for p in moved if p not in self.partitions]):
                self._move(params, group)

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Move parameters of one shape."""
        shape = tuple(params[0].shape)
        updates = [self._direction(p, group) for p in params]
        rows, columns = shape[-2:]
        rate = group["lr"] * _stretched(rows, columns)
        matrices_NRC = torch.stack(updates).view(-1, rows, columns)
        orthogonal = orthogonalise(matrices_NRC, group["iterations"], self.dtype).view(-1, *shape)
        for p, update in zip(params, orthogonal, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update, alpha=-rate)

    def _move_partition(self, p: Tensor, partition: Partition, group: dict[str, Any]) -> None:
        """Move this rank's part of many parameters."""

        def work(matrices_NRC: Tensor) -> Tensor:
            orthogonal = orthogonalise(matrices_NRC, group["iterations"], self.dtype)
            return orthogonal.mul_(_stretched(*matrices_NRC.shape[-2:]))

        update = self._direction(p, group)
        partition.orthogonalise(update, work)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"])

    def _direction(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Take the gradient into the momentum and return Nesterov's mean of both."""
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(p)
        state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
        mean: Tensor = gradient.lerp(state["exp_avg"], group["momentum"])
        return mean


def _stretched(rows: int, columns: int) -> float:
    """Return by how much a tall matrix moves further, so that its outputs do as much as a square one's."""
    return float(max(1.0, rows / columns) ** 0.5)


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers behind one: Muon for the groups that have `whole`, AdamW for the others.

    ZeRO puts its own tensors into the groups and lets the optimiser see some of these at a time.
    """

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([p for o in (muon, adamw) for g in o.param_groups for p in g["params"]], {})
        self.param_groups = [
            *({**group, "whole": True} for group in muon.param_groups),
            *({**group, "whole": False} for group in adamw.param_groups),
        ]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; every rank must call it under ZeRO."""
        for optimizer, whole in ((self.muon, True), (self.adamw, False)):
            optimizer.state = self.state
            optimizer.param_groups = [group for group in self.param_groups if group["whole"] == whole]
            if optimizer.param_groups:
                optimizer.step()
