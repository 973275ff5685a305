"""The optimisers, each as one client optimiser that DeepSpeed is given ready-made.

DeepSpeed's own are compiled at run time for minutes (FusedAdam, Lion) or have no CPU operator (Lamb), and its Muon
takes its parameters by name and clips what Newton-Schulz has already normalised.  Under ZeRO ours step as they do on
whole parameters (models/optimizers/sharded.py), but for Adafactor.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.config import (
    AdafactorConfig,
    AdamWConfig,
    LambConfig,
    LionConfig,
    MuonConfig,
    OptimizerConfig,
)
from models.optimizers.lamb import Lamb
from models.optimizers.muon import Muon, MuonAdamW, orthogonalise
from models.optimizers.sharded import Fragment, Partition

__all__ = ["Fragment", "Lamb", "Muon", "MuonAdamW", "Partition", "build_optimizer", "orthogonalise"]


def build_optimizer(
    cfg: OptimizerConfig, model: nn.Module, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Return the optimiser, Newton-Schulz in `dtype`; every group carries its peak learning rate as `peak`."""
    named: list[tuple[str, Tensor]] = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    vectors = [p for _, p in named if p.ndim < 2]
    if isinstance(cfg, MuonConfig):
        hidden = [p for name, p in named if p.ndim >= 2 and not _at_the_edge(name)]
        edges = [p for name, p in named if p.ndim >= 2 and _at_the_edge(name)]
        return _muon(cfg, hidden, _groups(cfg, edges, vectors, cfg.adamw_learning_rate), dtype)
    matrices = [p for _, p in named if p.ndim >= 2]
    groups = _groups(cfg, matrices, vectors, cfg.learning_rate)
    if isinstance(cfg, AdamWConfig):
        return _adamw(cfg, groups, cfg.learning_rate)
    if isinstance(cfg, LambConfig):
        groups = [{**group, "whole": group["params"][0].ndim >= 2} for group in groups]
        return Lamb(groups, lr=cfg.learning_rate, betas=cfg.betas, eps=cfg.epsilon)
    if isinstance(cfg, AdafactorConfig):
        return _adafactor(cfg, groups)
    return _lion(cfg, groups)


def _at_the_edge(name: str) -> bool:
    """Tell whether a matrix is a table or the output head: its rows are not directions of one map."""
    return any(part in name for part in ("embed", "lm_head", "positions", "segments", "relative"))


def _groups(
    cfg: OptimizerConfig, matrices: Sequence[Tensor], vectors: Sequence[Tensor], peak: float
) -> list[dict[str, Any]]:
    """Return matrices, which are decayed, and vectors, which are not; none without parameters, as ZeRO takes none."""
    groups: list[dict[str, Any]] = [
        {"params": list(matrices), "weight_decay": cfg.weight_decay, "peak": peak},
        {"params": list(vectors), "weight_decay": 0.0, "peak": peak},
    ]
    return [group for group in groups if group["params"]]


def _adamw(cfg: AdamWConfig | MuonConfig, groups: list[dict[str, Any]], peak: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=peak, betas=cfg.betas, eps=cfg.epsilon, fused=True)


def _muon(cfg: MuonConfig, hidden: list[Tensor], groups: list[dict[str, Any]], dtype: torch.dtype) -> MuonAdamW:
    muon = Muon(
        hidden,
        lr=cfg.learning_rate,
        momentum=cfg.momentum,
        iterations=cfg.iterations,
        weight_decay=cfg.weight_decay,
        dtype=dtype,
    )
    muon.param_groups[0]["peak"] = cfg.learning_rate
    return MuonAdamW(muon, _adamw(cfg, groups, cfg.adamw_learning_rate))


def _adafactor(cfg: AdafactorConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(
        groups,
        lr=cfg.learning_rate,
        beta2_decay=cfg.decay_power,
        eps=(None, cfg.smallest_scale),
        d=cfg.clipping,
    )


def _lion(cfg: LionConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    from lion_pytorch import Lion

    optimizer: torch.optim.Optimizer = Lion(groups, lr=cfg.learning_rate, betas=cfg.betas)
    return optimizer
