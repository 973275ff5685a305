"""How the weights are drawn before training."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from models.transformer.network import Transformer

_JOINS = (".output", ".down")
"""Linear layers whose result is added to the residual stream."""


def initialise(network: "Transformer") -> None:
    """Draw all weights in place as the shape's `initialisation` says; biases are zero and norms the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    match network.cfg.initialisation:
        case "scaled":
            _scaled(network)
        case "gpt2":
            _normal(network, join=0.02 / math.sqrt(2 * network.cfg.layers))
        case "bert":
            _truncated(network)
        case "t5":
            _t5(network)


def _scaled(network: "Transformer") -> None:
    """Draw uniformly with deviation 1/sqrt(fan-in), zero where a branch joins the residual stream."""
    deviation = 1 / math.sqrt(network.cfg.width)
    for embedding in _embeddings(network):
        nn.init.normal_(embedding.weight, std=deviation if network.cfg.tied_embeddings else 1.0)
    for name, module in _hidden(network):
        if name.endswith(_JOINS):
            nn.init.zeros_(module.weight)
        else:
            bound = math.sqrt(3 / module.in_features)
            nn.init.uniform_(module.weight, -bound, bound)
    nn.init.normal_(network.lm_head.weight, std=0.02 * deviation)


def _normal(network: "Transformer", *, join: float) -> None:
    """Draw with deviation 0.02, `join` where a branch joins the residual stream (GPT-2, section 2.3)."""
    for embedding in _embeddings(network):
        nn.init.normal_(embedding.weight, std=0.02)
    for name, module in _hidden(network):
        nn.init.normal_(module.weight, std=join if name.endswith(_JOINS) else 0.02)
    nn.init.normal_(network.lm_head.weight, std=0.02)


def _truncated(network: "Transformer") -> None:
    """Draw with deviation 0.02, nothing beyond two of them (google-research/bert, modeling.py)."""
    weights = [table.weight for table in _embeddings(network)] + [linear.weight for _, linear in _hidden(network)]
    for weight in (*weights, network.lm_head.weight):
        nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


def _t5(network: "Transformer") -> None:
    """Draw so that unscaled attention starts moderate: queries are narrower by the root of a head's width.

    Source: the initialisers of the Mesh TensorFlow Transformer, as in `transformers` T5PreTrainedModel; an untied head,
    for which that draws 1, starts with logits of deviation 1.
    """
    cfg = network.cfg
    for embedding in _embeddings(network):
        nn.init.normal_(embedding.weight, std=1.0)
    for name, module in _hidden(network):
        fan_in = module.in_features * (cfg.resolved_head_width if name.endswith(".query") else 1)
        nn.init.normal_(module.weight, std=fan_in**-0.5)
    for relative in (network.relative, network.encoder.relative if network.encoder is not None else None):
        if relative is not None:
            nn.init.normal_(relative.weight, std=cfg.width**-0.5)
    nn.init.normal_(network.lm_head.weight, std=cfg.width**-0.5)


def _embeddings(network: "Transformer") -> list[nn.Embedding]:
    tables = (network.embed, network.positions, network.segments)
    return [table for table in tables if table is not None]


def _hidden(network: "Transformer") -> Iterator[tuple[str, nn.Linear]]:
    """Yield every linear layer but the output head, with its name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            yield name, module
