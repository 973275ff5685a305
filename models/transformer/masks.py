"""What each position may attend to, and through which implementation of attention that is said.

Causality alone needs no mask: SDPA is told so.  Documents that are kept apart and sliding windows are a dense mask
for SDPA, or a block mask for FlexAttention, which passes over the blocks that nothing may be seen of.
"""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from models.config import ModelConfig

Mask = Tensor | BlockMask | None
"""True where a position may attend (B or 1, 1, T, S), or what is added to the logits (B or 1, H, T, S); None for all
that causality allows."""

_NARROWEST_HEAD = 16
"""FlexAttention's kernels take no narrower ones."""


class Backend(NamedTuple):
    """Which implementation of attention, and why."""

    name: Literal["sdpa", "flex", "eager"]
    reason: str


def attention_backend(cfg: ModelConfig, device: str, *, documents: bool) -> Backend:
    """Return what self-attention without a cache goes through on this type of device."""
    features = [
        said
        for applies, said in (
            (documents, "documents are masked from each other"),
            (cfg.sliding_window is not None, f"windows of {cfg.sliding_window} slide"),
            (cfg.attention_softcap is not None, f"logits are soft-capped at {cfg.attention_softcap}"),
        )
        if applies
    ]
    if not features:
        return Backend("sdpa", "it has kernels for all that the shape asks for")
    why = " and ".join(features)
    if device != "cuda":
        but = f"FlexAttention trains on CUDA only, not on {device}"
    elif cfg.positions == "relative":
        but = "FlexAttention is not used with a learned bias by distance"
    elif cfg.dropout:
        but = "FlexAttention has no dropout"
    elif cfg.resolved_head_width < _NARROWEST_HEAD:
        but = f"FlexAttention takes no heads narrower than {_NARROWEST_HEAD}"
    else:
        return Backend("flex", f"{why}, and FlexAttention passes over what is masked")
    return Backend("sdpa" if cfg.attention_softcap is None else "eager", f"{why}, but {but}")


def dense_mask(
    start: int,
    end: int,
    device: torch.device,
    *,
    causal: bool,
    window: int | None = None,
    documents_BT: Tensor | None = None,
) -> Tensor | None:
    """Return which of the positions 0 to `end` those at `start` to `end` may attend to; None if causality says it all.

    A position of one document attends to none of another.
    """
    if window is not None and window >= end:
        window = None
    continued = causal and start > 0 and end - start > 1  # SDPA's own causal mask is for squares
    if window is None and documents_BT is None and not continued:
        return None
    behind_TS = torch.arange(start, end, device=device)[:, None] - torch.arange(end, device=device)[None, :]
    mask = behind_TS >= 0 if causal else torch.ones_like(behind_TS, dtype=torch.bool)
    if window is not None:
        mask = mask & (behind_TS.abs() < window)
    mask = mask[None]
    if documents_BT is not None:
        mask = mask & (documents_BT[:, start:, None] == documents_BT[:, None, :])
    return mask[:, None]


def cross_mask(documents_BT: Tensor | None, source_documents_BS: Tensor | None, *, padding: int) -> Tensor | None:
    """Return what a decoder's positions may attend to of the source, (B, 1, T or 1, S); None for all of it."""
    if source_documents_BS is None:
        return None
    if documents_BT is None:
        return (source_documents_BS != padding)[:, None, None, :]
    return (documents_BT[:, :, None] == source_documents_BS[:, None, :])[:, None]


def block_mask(
    length: int, device: torch.device, *, causal: bool, window: int | None, documents_BT: Tensor | None
) -> BlockMask:
    """Return what `dense_mask` says from the start on, for FlexAttention."""

    def allowed(b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = q >= k if causal else q >= 0
        if window is not None:
            seen = seen & ((q - k).abs() < window)
        if documents_BT is not None:
            seen = seen & (documents_BT[b, q] == documents_BT[b, k])
        return seen

    batch = None if documents_BT is None else documents_BT.shape[0]
    made: BlockMask = _maker(device.type)(allowed, batch, None, length, length, device=device)
    return made


@lru_cache
def _maker(device: str) -> Any:
    """Return what makes block masks; compiled where it matters, for it looks at every pair of positions."""
    return torch.compile(create_block_mask) if device == "cuda" else create_block_mask
