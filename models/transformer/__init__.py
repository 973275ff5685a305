"""A decoder-only transformer in plain PyTorch: RoPE, RMSNorm, grouped-query attention, QK-norm, three activations.

Attention is causal through `scaled_dot_product_attention`.  Documents that share a sequence attend to one another, and
the end-of-document token between them is all that tells them apart, unless the network is told where documents are:
then it attends within one alone.  (Rotary positions are relative, so that they need no reset.)

Shapes in names: B sequences, T positions, D width, H heads, K width of a head, V vocabulary.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import ModelConfig
from models.data import IGNORE


@dataclass
class Cache:
    """Keys and values of the positions seen so far, one (B, H, T, K) pair a layer; grows with every forward pass."""

    layers: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    length: int = 0


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of `x`."""
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped keys and values."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = cfg.heads, cfg.resolved_kv_heads, cfg.resolved_head_width
        self.query = nn.Linear(cfg.width, self.heads * self.head_width, bias=False)
        self.key = nn.Linear(cfg.width, self.kv_heads * self.head_width, bias=False)
        self.value = nn.Linear(cfg.width, self.kv_heads * self.head_width, bias=False)
        self.output = nn.Linear(self.heads * self.head_width, cfg.width, bias=False)
        self.query_norm = RMSNorm(self.head_width, cfg.norm_epsilon) if cfg.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_width, cfg.norm_epsilon) if cfg.qk_norm else nn.Identity()

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], cache: Cache | None, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        """Attend over `x_BTD` and, if there is a cache, over what came before it; without one, where `mask` allows."""
        B, T, _ = x_BTD.shape
        q = self.query_norm(self.query(x_BTD).view(B, T, self.heads, self.head_width))
        k = self.key_norm(self.key(x_BTD).view(B, T, self.kv_heads, self.head_width))
        v = self.value(x_BTD).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q, k = rotate(q, rope).transpose(1, 2), rotate(k, rope).transpose(1, 2)
        causal = mask is None
        if cache is not None:
            past = cache.layers[layer]
            if past is not None:
                k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
            cache.layers[layer] = (k, v)
            causal = past is None
        if cache is not None and not causal and T > 1:  # a block of new positions after a cached prefix
            mask = torch.ones(T, k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - T)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and T > 1, enable_gqa=self.kv_heads != self.heads
        )
        output: Tensor = self.output(y.transpose(1, 2).reshape(B, T, -1))
        return output


class FeedForward(nn.Module):
    """The two (swiglu: three) matrices between attention layers."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.activation = cfg.activation
        self.up = nn.Linear(cfg.width, cfg.resolved_ffn_width, bias=False)
        self.gate = nn.Linear(cfg.width, cfg.resolved_ffn_width, bias=False) if cfg.activation == "swiglu" else None
        self.down = nn.Linear(cfg.resolved_ffn_width, cfg.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map each position on its own."""
        hidden = self.up(x_BTD)
        if self.gate is not None:
            hidden = F.silu(self.gate(x_BTD)) * hidden
        elif self.activation == "relu2":
            hidden = F.relu(hidden).square()
        else:
            hidden = F.gelu(hidden)
        output: Tensor = self.down(hidden)
        return output


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed copy of the residual stream."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(cfg.width, cfg.norm_epsilon)
        self.attention = Attention(cfg)
        self.ffn_norm = RMSNorm(cfg.width, cfg.norm_epsilon)
        self.ffn = FeedForward(cfg)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], cache: Cache | None, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        """Add what the block has to say to the residual stream."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rope, cache, layer, mask)
        output: Tensor = x_BTD + self.ffn(self.ffn_norm(x_BTD))
        return output


class Transformer(nn.Module):
    """The whole network; `embed` and `lm_head` are named so that optimisers tell them from hidden matrices."""

    def __init__(self, cfg: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.cfg, self.vocab_size = cfg, vocab_size
        self.embed = nn.Embedding(vocab_size, cfg.width)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = RMSNorm(cfg.width, cfg.norm_epsilon)
        self.lm_head = nn.Linear(cfg.width, vocab_size, bias=False)
        self._rope: tuple[Tensor, Tensor] | None = None  # no buffer: DeepSpeed would round it to bf16
        self._initialise()
        if cfg.tied_embeddings:
            self.lm_head.weight = self.embed.weight

    def _initialise(self) -> None:
        """Draw the weights: uniform with deviation 1/sqrt(fan-in), zero where a branch joins the residual stream."""
        deviation = 1 / math.sqrt(self.cfg.width)
        nn.init.normal_(self.embed.weight, std=deviation if self.cfg.tied_embeddings else 1.0)
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                if name.endswith((".output", ".down")):
                    nn.init.zeros_(module.weight)
                else:
                    bound = math.sqrt(3 / module.in_features)
                    nn.init.uniform_(module.weight, -bound, bound)
        nn.init.normal_(self.lm_head.weight, std=0.02 * deviation)

    def rope(self, start: int, end: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each (1, T, 1, K/2), of positions `start` to `end`."""
        if self._rope is None or self._rope[0].shape[1] < end or self._rope[0].device != device:
            length = max(end, self.cfg.sequence_length)
            half = torch.arange(0, self.cfg.resolved_head_width, 2, dtype=torch.float32, device=device)
            frequencies = self.cfg.rope_base ** (-half / self.cfg.resolved_head_width)
            angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
            self._rope = (angles.cos()[None, :, None, :], angles.sin()[None, :, None, :])
        return self._rope[0][:, start:end].to(dtype), self._rope[1][:, start:end].to(dtype)

    def hidden(self, tokens_BT: Tensor, cache: Cache | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Return the normed last hidden states (B, T, D); with a cache, `tokens_BT` continue what it holds.

        Without one, positions attend to those alone that have the same number in `documents_BT`, where that is given.
        """
        mask = None if documents_BT is None else document_mask(documents_BT)
        if cache is not None and not cache.layers:
            cache.layers = [None] * len(self.blocks)
        start = cache.length if cache is not None else 0
        x_BTD = self.embed(tokens_BT)
        if torch.is_autocast_enabled(x_BTD.device.type):
            dtype = torch.get_autocast_dtype(x_BTD.device.type)
        else:
            dtype = x_BTD.dtype
        rope = self.rope(start, start + tokens_BT.shape[1], x_BTD.device, dtype)
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, rope, cache, layer, mask)
        if cache is not None:
            cache.length += tokens_BT.shape[1]
        output: Tensor = self.norm(x_BTD)
        return output

    def logits(self, tokens_BT: Tensor, cache: Cache | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Return the logits (B, T, V) of the token after each position, in fp32."""
        output: Tensor = self.lm_head(self.hidden(tokens_BT, cache, documents_BT)).float()
        return output

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None, *, reduction: str = "mean"
    ) -> Tensor:
        """Return the cross-entropy in nats of `targets_BT`, where they are not IGNORE: its mean, sum or all of it."""
        logits_BTV = self.logits(tokens_BT, documents_BT=documents_BT)
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORE, reduction=reduction)


def document_mask(documents_BT: Tensor) -> Tensor:
    """Return which positions each may attend to, (B, 1, T, T): itself and those before it of the same document."""
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def rotate(x_BTHK: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (i, i + K/2) of a head by its position's angle."""
    cos, sin = rope
    first, second = x_BTHK.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
