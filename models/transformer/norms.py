"""The norms: RMSNorm and LayerNorm."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import ModelConfig


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of `x`."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def make_norm(cfg: ModelConfig) -> nn.Module:
    """Return a norm over the width of the residual stream."""
    return RMSNorm(cfg.width, cfg.norm_epsilon) if cfg.norm == "rmsnorm" else nn.LayerNorm(cfg.width, cfg.norm_epsilon)
