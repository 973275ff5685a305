"""Attention: a position's own stack (self), or what an encoder read (cross), through SDPA, FlexAttention or in full.

How many heads there are follows from the width of what the projections return, so that a tensor-parallel rank may hold
some of them.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from models.config import ModelConfig
from models.transformer.context import Context, Pair
from models.transformer.masks import Mask
from models.transformer.norms import RMSNorm
from models.transformer.positions import rotate

_SHORT = 256
"""Positions up to which attention in full is the faster one in bf16 on a CPU."""


class Attention(nn.Module):
    """Self-attention with grouped keys and values."""

    def __init__(self, cfg: ModelConfig, layer: int, *, causal: bool) -> None:
        super().__init__()
        self.layer, self.causal, self.window = layer, causal, cfg.window(layer)
        self.head_width, self.softcap, self.dropout = cfg.resolved_head_width, cfg.attention_softcap, cfg.dropout
        self.bend = None if self.softcap is None else _bend(self.softcap)
        self.scale = cfg.attention_scale or 1 / math.sqrt(self.head_width)
        own, shared = cfg.heads * self.head_width, cfg.resolved_kv_heads * self.head_width
        self.query = nn.Linear(cfg.width, own, bias=cfg.bias)
        self.key = nn.Linear(cfg.width, shared, bias=cfg.bias)
        self.value = nn.Linear(cfg.width, shared, bias=cfg.bias)
        self.output = nn.Linear(own, cfg.width, bias=cfg.bias)
        self.query_norm = RMSNorm(self.head_width, cfg.norm_epsilon) if cfg.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_width, cfg.norm_epsilon) if cfg.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Attend over `x_BTD` and, if there is a cache, over what came before it; where the context's mask allows."""
        q, (k, v) = self.query_norm(self.heads(self.query(x_BTD))), self.keys_and_values(x_BTD)
        if context.rope is not None:
            q, k = rotate(q, context.rope), rotate(k, context.rope)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        cache = context.cache
        if cache is not None:
            past = cache.layers[self.layer]
            if past is not None:
                k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
            cache.layers[self.layer] = (k, v)
        return self.attend(q, k, v, context.masks[self.window], causal=self.causal)

    def heads(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, H, K) of a projection."""
        return x_BTD.view(*x_BTD.shape[:-1], -1, self.head_width)

    def keys_and_values(self, x_BTD: Tensor) -> Pair:
        """Return keys, normed, and values of some positions, each (B, T, H, K)."""
        return self.key_norm(self.heads(self.key(x_BTD))), self.heads(self.value(x_BTD))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, causal: bool) -> Tensor:
        """Return what queries (B, H, T, K) find among keys and values, projected back to (B, T, D)."""
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast some norms answer in fp32
        grouped = k.shape[1] != q.shape[1]
        if isinstance(mask, BlockMask):
            flex = flex_attention if torch.compiler.is_compiling() else _flex()
            y = flex(q, k, v, score_mod=self.bend, block_mask=mask, scale=self.scale, enable_gqa=grouped)
        else:
            # CUDA's fused kernels for masks and for fp32 want as many heads of each: without, SDPA makes all scores.
            alike = q.device.type == "cuda" and (mask is not None or q.dtype == torch.float32)
            in_full = self.softcap is not None or self._short_on_cpu(q)
            if grouped and (alike or in_full):
                k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
                grouped = False
            square = False
            if causal and mask is None and q.shape[2] > 1:  # not assigned: of a length that changes, torch.compile has
                square = True  # but a symbol, and what is compared with it is one too, which SDPA refuses
            dropout = self.dropout if self.training else 0.0
            if in_full:
                y = full_attention(q, k, v, mask, causal=square, scale=self.scale, cap=self.softcap, dropout=dropout)
            else:
                y = F.scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=square, scale=self.scale, enable_gqa=grouped
                )
        output: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return output

    def _short_on_cpu(self, q: Tensor) -> bool:
        """Tell whether training computes attention in full: SDPA's kernel for bf16 on CPUs takes two to three times as
        long for up to 256 positions, and as long for 1,000 (tests/benchmarks/LOG.md)."""
        return self.training and q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= _SHORT


class CrossAttention(Attention):
    """Attention of a decoder's positions over what the encoder read."""

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Attend over the context's memory; its keys and values are made once a cache."""
        assert context.memory_BSD is not None
        q = self.query_norm(self.heads(self.query(x_BTD))).transpose(1, 2)
        kept = None if context.cache is None else context.cache.cross[self.layer]
        if kept is None:
            k, v = self.keys_and_values(context.memory_BSD)
            kept = (k.transpose(1, 2), v.transpose(1, 2))
            if context.cache is not None:
                context.cache.cross[self.layer] = kept
        return self.attend(q, *kept, context.memory_mask, causal=False)


def full_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float,
    cap: float | None,
    dropout: float,
) -> Tensor:
    """Return attention by way of all scores, bent to within `cap` before the mask; fully masked queries find zero."""
    scores = (q * scale) @ k.mT
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.float().softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill((scores == -torch.inf).all(dim=-1, keepdim=True), 0.0)
    return F.dropout(weights.to(q.dtype), dropout) @ v


@lru_cache
def _flex() -> Any:
    """Return FlexAttention, compiled where it trains: uncompiled it makes the whole matrix of scores."""
    return torch.compile(flex_attention) if torch.cuda.is_available() else flex_attention


@lru_cache
def _bend(cap: float) -> Any:
    """Return FlexAttention's soft-cap, one and the same function for a cap: each new one would be compiled anew."""

    def bend(score: Tensor, _b: Tensor, _h: Tensor, _q: Tensor, _k: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return bend
