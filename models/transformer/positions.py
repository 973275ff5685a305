"""Where a token stands: rotary angles, a learned bias by distance, and places within a document."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from models.config import ModelConfig

Rope = tuple[Tensor, Tensor]
"""Cosines and sines, each (1, T, 1, K/2)."""


def rope(cfg: ModelConfig, start: int, end: int, device: torch.device, dtype: torch.dtype) -> Rope:
    """Return cosines and sines of positions `start` to `end`."""
    cos, sin = _angles(cfg, max(end, cfg.sequence_length), device)
    return cos[:, start:end].to(dtype), sin[:, start:end].to(dtype)


@lru_cache(maxsize=16)
def _angles(cfg: ModelConfig, length: int, device: torch.device) -> Rope:
    """Return the fp32 table; no buffer of the network, which DeepSpeed would round to bf16."""
    with torch.inference_mode(False):  # a table that inference made first serves training too
        half = torch.arange(0, cfg.resolved_head_width, 2, dtype=torch.float32, device=device)
        frequencies = cfg.rope_base ** (-half / cfg.resolved_head_width)
        if cfg.rope_scaling is not None:
            frequencies = _stretched(frequencies, cfg)
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
        return angles.cos()[None, :, None, :], angles.sin()[None, :, None, :]


def _stretched(frequencies: Tensor, cfg: ModelConfig) -> Tensor:
    """Slow the low frequencies down by the factor, leave the high ones, and go from one to the other between."""
    scaling = cfg.rope_scaling
    assert scaling is not None
    turns = scaling.original_length * frequencies / (2 * math.pi)  # within the original context
    kept = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    kept = kept.clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotate(x_BTHK: Tensor, angles: Rope) -> Tensor:
    """Rotate each pair (i, i + K/2) of a head by its position's angle."""
    cos, sin = angles
    first, second = x_BTHK.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class RelativeBias(nn.Module):
    """What attention adds to its logits for each head and bucket of distances (T5, arXiv 1910.10683, section 2.1)."""

    def __init__(self, cfg: ModelConfig, *, causal: bool) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.causal = cfg.relative_buckets, cfg.relative_max_distance, causal
        self.weight = nn.Parameter(torch.zeros(cfg.relative_buckets, cfg.heads))

    def forward(self, start: int, end: int) -> Tensor:
        """Return the bias (1, H, T, S) of queries at `start` to `end` for keys at 0 to `end`."""
        device = self.weight.device
        ahead_TS = torch.arange(end, device=device)[None, :] - torch.arange(start, end, device=device)[:, None]
        bucket_TS = bucket(ahead_TS, buckets=self.buckets, max_distance=self.max_distance, causal=self.causal)
        return self.weight[bucket_TS].permute(2, 0, 1)[None]


def bucket(ahead: Tensor, *, buckets: int, max_distance: int, causal: bool) -> Tensor:
    """Return the bucket of each distance: one each for the near half of them, logarithmically wider ones beyond.

    `ahead` is the key's position less the query's. Without causality half of the buckets are for keys ahead.
    """
    first = torch.zeros_like(ahead)
    if causal:
        distance = (-ahead).clamp(min=0)
    else:
        buckets //= 2
        first = (ahead > 0).long() * buckets
        distance = ahead.abs()
    near = buckets // 2
    ratio = torch.log(distance.float().clamp(min=1) / near) / math.log(max_distance / near)
    far = (near + (ratio * (buckets - near)).long()).clamp(max=buckets - 1)
    return first + torch.where(distance < near, distance, far)


def places(documents_BT: Tensor) -> Tensor:
    """Return how many positions of its document come before each, (B, T): a table of positions begins anew with it."""
    index_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return index_T - (index_T * begins_BT).cummax(dim=1).values
