"""A mixture of experts: a router sends each position through its top k of many feed-forward networks.

None is dropped and none has a capacity.  On a GPU the matrices of all experts are one grouped product each; elsewhere,
and where weights are cut up, experts are called one after another: every one in every pass, by zero positions if need
be, because under ZeRO-3 all ranks gather a layer's weights together.
"""

from functools import cache

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
        _leave_uncompiled()

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

    def _dispatch(self, x_ND: Tensor, chosen_Nk: Tensor) -> Tensor:
        """Return what each position's experts make of it, (N, k, D): sorted by expert, mapped, and sorted back."""
        expert_M, order = chosen_Nk.flatten().sort(stable=True)
        sorted_MD = x_ND[order // self.cfg.top_k]
        if self._grouped(sorted_MD):
            mapped = self._all_at_once(sorted_MD, expert_M)
        else:
            counts = torch.bincount(expert_M, minlength=self.cfg.experts).tolist()
            pieces = torch.split(sorted_MD, counts)
            mapped = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces, strict=True)])
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return mapped[back].view(*chosen_Nk.shape, -1)

    def _grouped(self, x: Tensor) -> bool:
        """Tell whether grouped products compute this: bf16 on a GPU that has them, rows of a multiple of 16 bytes, and
        weights that are all here, in layers of torch's own (neither ZeRO-3's nor cut for tensor parallelism)."""
        linear = [layer for layer in self.experts.modules() if not isinstance(layer, FeedForward | nn.ModuleList)]
        return (
            _has_grouped_products(x.device)
            and _computed_in(x) == torch.bfloat16
            and all(type(layer) is nn.Linear for layer in linear)
            and all(not hasattr(p, "ds_id") and all(n % 8 == 0 for n in p.shape) for p in self.experts.parameters())
        )

    def _all_at_once(self, x_MD: Tensor, expert_M: Tensor) -> Tensor:
        """Return what experts make of positions sorted by expert, M = N k; nothing waits for a GPU to say how many."""
        x_MD = x_MD.to(_computed_in(x_MD))
        ends_E = torch.searchsorted(expert_M, torch.arange(self.cfg.experts, device=x_MD.device), right=True).int()

        def product(x: Tensor, name: str) -> Tensor:
            layers = [getattr(expert, name) for expert in self.experts]
            weights = torch.stack([layer.weight.to(x.dtype) for layer in layers])
            y = F.grouped_mm(x, weights.mT, offs=ends_E)
            return y if layers[0].bias is None else y + torch.stack([layer.bias for layer in layers])[expert_M].to(y)

        first: FeedForward = self.experts[0]  # type: ignore[assignment]
        gate = product(x_MD, "gate") if first.gate is not None else None
        return product(first.activated(product(x_MD, "up"), gate), "down")


@cache
def _leave_uncompiled() -> None:
    """Keep what depends on the router's choice out of compiled graphs.

    As a decorator this would import torch's compiler, two seconds, into every process that has a model of any kind.
    """
    MixtureOfExperts._dispatch = torch.compiler.disable(MixtureOfExperts._dispatch)  # type: ignore[method-assign, no-untyped-call]


def _computed_in(x: Tensor) -> torch.dtype:
    """Return what a product of matrices with `x` is computed in; grouped ones know nothing of autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@cache
def _has_grouped_products(device: torch.device) -> bool:
    """Tell whether a device has a kernel for them: a GPU from compute capability 8.0 on (its grouped_mm says so).

    On a CPU they are a loop as well, before which all weights are copied.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
