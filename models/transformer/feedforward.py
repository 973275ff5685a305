"""The feed-forward layer."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.config import ModelConfig


def activate(hidden: Tensor, activation: str) -> Tensor:
    """Apply the non-linearity, of a gated activation that of the gate."""
    match activation:
        case "swiglu":
            return F.silu(hidden)
        case "geglu" | "gelu_tanh":
            return F.gelu(hidden, approximate="tanh")
        case "relu2":
            return F.relu(hidden).square()
        case "relu":
            return F.relu(hidden)
        case _:
            return F.gelu(hidden)


class FeedForward(nn.Module):
    """The two (gated: three) matrices between attention layers."""

    def __init__(self, cfg: ModelConfig, hidden_width: int) -> None:
        super().__init__()
        self.activation = cfg.activation
        # As T5; GPT-2 and BERT drop nothing here.
        self.dropout = cfg.dropout if cfg.family == "encoder_decoder" else 0.0
        self.up = nn.Linear(cfg.width, hidden_width, bias=cfg.bias)
        self.gate = nn.Linear(cfg.width, hidden_width, bias=cfg.bias) if cfg.gated else None
        self.down = nn.Linear(hidden_width, cfg.width, bias=cfg.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position on its own."""
        output: Tensor = self.down(self.activated(self.up(x), None if self.gate is None else self.gate(x)))
        return output

    def activated(self, up: Tensor, gate: Tensor | None) -> Tensor:
        """Return what the last matrix reads, given what the first ones say."""
        hidden = activate(up, self.activation) if gate is None else activate(gate, self.activation) * up
        return F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden
