"""A block: attention, cross-attention where there is an encoder, and a feed-forward layer or experts."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from models.config import ModelConfig
from models.transformer.attention import Attention, CrossAttention
from models.transformer.context import Context
from models.transformer.experts import MixtureOfExperts
from models.transformer.feedforward import FeedForward
from models.transformer.norms import make_norm

Checkpointing = Literal["none", "selective", "full"]
"""What a block keeps for the backward pass: everything; what matrix products and attention returned; its input alone.
The rest is computed again there, and dropout draws the same both times."""


class Block(nn.Module):
    """One layer of a stack; `layer` counts from 0."""

    def __init__(self, cfg: ModelConfig, layer: int, *, causal: bool, cross: bool) -> None:
        super().__init__()
        self.post = cfg.norm_order == "post"
        self.attention_norm = make_norm(cfg)
        self.attention = Attention(cfg, layer, causal=causal)
        self.cross_norm = make_norm(cfg) if cross else None
        self.cross = CrossAttention(cfg, layer, causal=False) if cross else None
        self.ffn_norm = make_norm(cfg)
        self.ffn = MixtureOfExperts(cfg) if cfg.has_experts(layer) else FeedForward(cfg, cfg.resolved_ffn_width)
        self.dropout = nn.Dropout(cfg.dropout)
        self.checkpointing: Checkpointing = "none"

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """Add what the block has to say to the residual stream; returns the auxiliary loss of its experts as well."""
        if self.checkpointing == "none" or context.cache is not None or not torch.is_grad_enabled():
            return self._layer(x_BTD, context)
        options: dict[str, Any] = {"context_fn": _selective} if self.checkpointing == "selective" else {}
        output: tuple[Tensor, Tensor | None] = checkpoint(self._layer, x_BTD, context, use_reentrant=False, **options)
        return output

    def _layer(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        x_BTD = self._add(x_BTD, self.attention(self._read(x_BTD, self.attention_norm), context), self.attention_norm)
        if self.cross is not None:
            assert self.cross_norm is not None
            x_BTD = self._add(x_BTD, self.cross(self._read(x_BTD, self.cross_norm), context), self.cross_norm)
        read = self._read(x_BTD, self.ffn_norm)
        if isinstance(self.ffn, MixtureOfExperts):
            said, auxiliary = self.ffn(read, context.real_BT)
        else:
            said, auxiliary = self.ffn(read), None
        return self._add(x_BTD, said, self.ffn_norm), auxiliary

    def _read(self, x_BTD: Tensor, norm: nn.Module) -> Tensor:
        """Return what a branch reads."""
        return x_BTD if self.post else norm(x_BTD)

    def _add(self, x_BTD: Tensor, said_BTD: Tensor, norm: nn.Module) -> Tensor:
        """Return the residual stream with what a branch said."""
        x_BTD = x_BTD + self.dropout(said_BTD)
        return norm(x_BTD) if self.post else x_BTD


def run_blocks(blocks: Iterable[nn.Module], x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
    """Return the hidden states after all of these blocks and the sum of their auxiliary losses, if any."""
    total: Tensor | None = None
    for block in blocks:
        x_BTD, auxiliary = block(x_BTD, context)
        if auxiliary is not None:
            total = auxiliary if total is None else total + auxiliary
    return x_BTD, total


_aten = torch.ops.aten
_DEAR = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._grouped_mm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.higher_order.flex_attention,
}
"""What costs more to compute again than to keep: products of matrices, and attention."""


def _policy(_context: Any, op: Any, *_args: Any, **_options: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in _DEAR else CheckpointPolicy.PREFER_RECOMPUTE


_selective = partial(create_selective_checkpoint_contexts, _policy)
