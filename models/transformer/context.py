"""What the blocks of a stack read besides the hidden states: made once a forward pass, the same for every block."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.config import ModelConfig
from models.data import PADDING
from models.transformer.masks import Mask, attention_backend, block_mask, cross_mask, dense_mask
from models.transformer.positions import RelativeBias, Rope, rope

Pair = tuple[Tensor, Tensor]
"""Keys and values, (B, H, T, K) each."""


@dataclass
class Cache:
    """Keys and values of the positions seen so far, one pair a layer; grows with every forward pass.

    Of an encoder-decoder it also holds what the encoder made of the source, and which of it is padding.
    """

    layers: list[Pair | None] = field(default_factory=list)
    length: int = 0
    cross: list[Pair | None] = field(default_factory=list)
    memory_BSD: Tensor | None = None
    source_documents_BS: Tensor | None = None


@dataclass
class Context:
    """What every block of one stack reads besides the hidden states."""

    masks: dict[int | None, Mask]
    """By how far a block's window reaches."""
    rope: Rope | None = None
    cache: Cache | None = None
    memory_BSD: Tensor | None = None
    """What the encoder made of the source."""
    memory_mask: Tensor | None = None
    real_BT: Tensor | None = None
    """Which positions are of a document, for what is averaged over positions; None for all."""


def make_context(
    cfg: ModelConfig,
    x_BTD: Tensor,
    *,
    causal: bool,
    documents_BT: Tensor | None = None,
    relative: RelativeBias | None = None,
    cache: Cache | None = None,
    memory_BSD: Tensor | None = None,
    source_documents_BS: Tensor | None = None,
) -> Context:
    """Return what the blocks that read `x_BTD` need; with a cache, `x_BTD` continues what it holds."""
    start = cache.length if cache is not None else 0
    end, device = start + x_BTD.shape[1], x_BTD.device
    assert documents_BT is None or not start, "documents are told apart in one pass, not through a cache"
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else x_BTD.dtype
    reaches = {cfg.sliding_window} | ({None} if cfg.global_every is not None else set())
    backend = attention_backend(cfg, device.type, documents=documents_BT is not None)
    masks: dict[int | None, Mask] = {}
    for window in reaches:
        plain = documents_BT is None and window is None and cfg.attention_softcap is None
        if backend.name == "flex" and cache is None and not plain:
            masks[window] = block_mask(end, device, causal=causal, window=window, documents_BT=documents_BT)
            continue
        mask = dense_mask(start, end, device, causal=causal, window=window, documents_BT=documents_BT)
        if relative is not None:
            mask = _biased(relative(start, end), mask, start, end, causal=causal).to(dtype)
        masks[window] = mask
    return Context(
        masks=masks,
        rope=rope(cfg, start, end, device, dtype) if cfg.positions == "rope" else None,
        cache=cache,
        memory_BSD=memory_BSD,
        memory_mask=cross_mask(documents_BT, source_documents_BS, padding=PADDING),
        real_BT=None if documents_BT is None else documents_BT != PADDING,
    )


def _biased(bias_HTS: Tensor, mask: Tensor | None, start: int, end: int, *, causal: bool) -> Tensor:
    """Return the bias, minus infinity where nothing may be seen: a kernel that is given one masks nothing by itself."""
    if mask is None and causal and end - start > 1:
        mask = torch.ones(end - start, end, dtype=torch.bool, device=bias_HTS.device).tril(start)
    return bias_HTS if mask is None else bias_HTS.masked_fill(~mask, -torch.inf)
