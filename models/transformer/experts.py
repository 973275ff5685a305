"""A mixture of experts: a router sends each position through its top k of many feed-forward networks.

None is dropped and none has a capacity.  Every expert is called in every pass, by zero positions if need be, because
under ZeRO-3 all ranks gather a layer's weights together.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import ModelConfig
from models.losses import balance_loss, router_z_loss
from models.transformer.feedforward import FeedForward


class Router(nn.Linear):
    """The logits of every expert, in fp32 whatever the rest is in (Switch Transformer, section 2.4)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (…, E) in fp32."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float())


class MixtureOfExperts(nn.Module):
    """Stands in a block where a feed-forward layer else does; returns its auxiliary loss as well."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        assert cfg.moe is not None
        self.cfg = cfg.moe
        self.router = Router(cfg.width, cfg.moe.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(cfg, cfg.resolved_expert_width) for _ in range(cfg.moe.experts))
        shared = cfg.moe.shared_experts * cfg.resolved_expert_width
        self.shared = FeedForward(cfg, shared) if shared else None

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the experts make of each position, and the auxiliary loss of `real_BT` positions (all if None).

        The loss is the mean over sequences, so that how a batch is cut into micro-batches does not change it.
        """
        logits_BTE: Tensor = self.router(x_BTD)
        probabilities_BTE = logits_BTE.softmax(dim=-1)
        weights_BTk, chosen_BTk = probabilities_BTE.topk(self.cfg.top_k, dim=-1)
        if self.cfg.normalise_top_k:
            weights_BTk = weights_BTk / weights_BTk.sum(dim=-1, keepdim=True)
        y_NkD = self._dispatch(x_BTD.flatten(0, 1), chosen_BTk.flatten(0, 1))
        y_BTD = (y_NkD * weights_BTk.flatten(0, 1)[..., None].to(y_NkD.dtype)).sum(dim=1).view_as(x_BTD)
        if self.shared is not None:
            y_BTD = y_BTD + self.shared(x_BTD)
        balance = balance_loss(probabilities_BTE, chosen_BTk, real_BT)
        auxiliary = self.cfg.balance_weight * balance + self.cfg.router_z_weight * router_z_loss(logits_BTE, real_BT)
        return y_BTD, auxiliary

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _dispatch(self, x_ND: Tensor, chosen_Nk: Tensor) -> Tensor:
        """Return what each position's experts make of it, (N, k, D): sorted by expert, mapped, and sorted back."""
        order = chosen_Nk.flatten().argsort(stable=True)
        counts = torch.bincount(chosen_Nk.flatten(), minlength=self.cfg.experts).tolist()
        pieces = torch.split(x_ND[order // self.cfg.top_k], counts)
        mapped = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces, strict=True)])
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return mapped[back].view(*chosen_Nk.shape, -1)
