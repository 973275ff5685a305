"""What training minimises and evaluation measures: cross-entropy, label smoothing, z-loss, and those of experts.

Cross-entropy alone, in nats, is what curves and evaluations show, so that they compare across settings; smoothing,
z-loss and the auxiliary losses of experts only enter what is optimised.

Shapes in names: N targets, V vocabulary, D width, B sequences, T positions, E experts, k experts of a position.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.data import IGNORE

Head = Callable[[Tensor], Tensor]
"""Makes logits (…, V), in fp32, of hidden states (…, D)."""

Measure = Callable[[Head, Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
"""`measure`, or the same compiled."""


def measure(
    head: Head, hidden_ND: Tensor, targets_N: Tensor, label_smoothing: float, z_loss: float
) -> tuple[Tensor, Tensor]:
    """Return, of each target, the loss to optimise and the cross-entropy; 0 where it is IGNORE.

    With smoothing e the former is (1 - e) of the cross-entropy and e of its mean over the whole vocabulary
    (arXiv 1512.00567, section 7); z-loss adds that weight times the square of the log of the softmax's denominator
    (PaLM, arXiv 2204.02311, section 5).
    """
    logits_NV = head(hidden_ND)
    if not label_smoothing and not z_loss:
        plain_N = F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="none")
        return plain_N, plain_N
    scored_N = targets_N != IGNORE
    index_N1 = targets_N.clamp(min=0)[:, None]
    logs_NV = logits_NV.log_softmax(dim=-1)
    log_N = logs_NV.gather(1, index_N1)[:, 0]
    loss_N = -(1 - label_smoothing) * log_N - label_smoothing * logs_NV.mean(dim=-1)
    if z_loss:
        denominator_N = logits_NV.gather(1, index_N1)[:, 0] - log_N  # needs no second pass over the vocabulary
        loss_N = loss_N + z_loss * denominator_N.square()
    return loss_N.where(scored_N, 0.0), (-log_N).where(scored_N, 0.0)


@dataclass(frozen=True)
class Losses:
    """How a network's losses are made from its last hidden states."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk: int | None = None
    """Targets whose logits are made at once; in training each chunk's are made again for the backward pass."""
    scored_only: bool = False
    """Make logits of scored positions alone: worth it where these are few, as masked ones are."""

    def training(
        self, head: Head, hidden_BTD: Tensor, targets_BT: Tensor, weight: float | None, measure: Measure = measure
    ) -> tuple[Tensor, Tensor]:
        """Return the loss to optimise and the cross-entropy, which carries no gradient.

        Both are summed over the targets and multiplied by `weight`; the mean of those that count by default.
        """
        hidden_ND, targets_N, _ = self._targets(hidden_BTD, targets_BT)
        optimised_N, plain_N = self._measure(measure, head, hidden_ND, targets_N, (self.label_smoothing, self.z_loss))
        scale = 1 / (targets_N != IGNORE).sum() if weight is None else weight
        return optimised_N.sum() * scale, plain_N.detach().sum() * scale

    def plain(
        self, head: Head, hidden_BTD: Tensor, targets_BT: Tensor, reduction: str, measure: Measure = measure
    ) -> Tensor:
        """Return the cross-entropy: its mean over the targets that count, its sum, or of each target ("none")."""
        hidden_ND, targets_N, scored = self._targets(hidden_BTD, targets_BT)
        _, plain_N = self._measure(measure, head, hidden_ND, targets_N, (0.0, 0.0))
        match reduction:
            case "mean":
                return plain_N.sum() / (targets_N != IGNORE).sum()
            case "sum":
                return plain_N.sum()
            case "none":
                if scored is None:
                    return plain_N
                return plain_N.new_zeros(targets_BT.numel()).index_put((scored,), plain_N)
        raise ValueError(f"reduction={reduction!r} is none of mean, sum, none, train")

    def _targets(self, hidden_BTD: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return hidden states and targets in a row, and which positions these are if not all."""
        hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
        if not self.scored_only:
            return hidden_ND, targets_N, None
        scored = (targets_N != IGNORE).nonzero()[:, 0]
        return hidden_ND[scored], targets_N[scored], scored

    def _measure(
        self, measure: Measure, head: Head, hidden_ND: Tensor, targets_N: Tensor, extras: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        if self.chunk is None or len(targets_N) <= self.chunk:
            return measure(head, hidden_ND, targets_N, *extras)
        optimised, plain = [], []
        for hidden_CD, targets_C in zip(
            torch.split(hidden_ND, self.chunk), torch.split(targets_N, self.chunk), strict=True
        ):
            if torch.is_grad_enabled():
                one, two = checkpoint(measure, head, hidden_CD, targets_C, *extras, use_reentrant=False)
            else:
                one, two = measure(head, hidden_CD, targets_C, *extras)
            optimised.append(one)
            plain.append(two)
        return torch.cat(optimised), torch.cat(plain)


def balance_loss(probabilities_BTE: Tensor, chosen_BTk: Tensor, real_BT: Tensor | None = None) -> Tensor:
    """Return E times the sum over experts of (share of positions sent there) times (mean probability): 1 if balanced.

    Switch Transformer, arXiv 2101.03961, eq. 4, over the k choices; of each sequence by itself (as DeepSeek-V3,
    arXiv 2412.19437, eq. 17), then the mean over sequences: so it is the same however a batch is cut.
    """
    experts = probabilities_BTE.shape[-1]
    sent_BTE = F.one_hot(chosen_BTk, experts).sum(dim=-2).to(probabilities_BTE.dtype) / chosen_BTk.shape[-1]
    share_BE, probability_BE = _mean(sent_BTE, real_BT), _mean(probabilities_BTE, real_BT)
    return experts * (share_BE * probability_BE).sum(dim=-1).mean()


def router_z_loss(logits_BTE: Tensor, real_BT: Tensor | None = None) -> Tensor:
    """Return the mean square of the log of the router's denominators (ST-MoE, arXiv 2202.08906, eq. 5)."""
    return _mean(logits_BTE.logsumexp(dim=-1, keepdim=True).square(), real_BT).mean()


def _mean(x_BTE: Tensor, real_BT: Tensor | None) -> Tensor:
    """Return the mean over each sequence's real positions, (B, E)."""
    if real_BT is None:
        return x_BTE.mean(dim=1)
    weights_BT1 = real_BT[..., None].to(x_BTE.dtype)
    return (x_BTE * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1).clamp(min=1)
