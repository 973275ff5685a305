"""How the weights are drawn before training."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from models.transformer.network import Transformer

Draw = Callable[[Tensor], object]
"""Draws a weight in place."""

_JOINS = (".output", ".down")
"""Linear layers whose result is added to the residual stream."""


def initialise(network: "Transformer") -> None:
    """Draw all weights in place as the shape's `initialisation` says; biases are zero and norms the identity."""
    for name, draw in draws(network):
        draw(network.get_parameter(name))


def draws(network: "Transformer") -> Iterator[tuple[str, Draw]]:
    """Yield what `initialise` draws, in order, by name: whoever follows it one weight at a time draws the same.

    The output head is among them even where it is tied to the embedding.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            yield f"{name}.bias", nn.init.zeros_
    if network.cfg.initialisation != "t5":
        yield from ((name, nn.init.zeros_) for name in _relative(network))
    scheme = {"scaled": _scaled, "gpt2": _normal, "bert": _truncated, "t5": _t5}[network.cfg.initialisation]
    yield from scheme(network)


def _scaled(network: "Transformer") -> Iterator[tuple[str, Draw]]:
    """Draw uniformly with deviation 1/sqrt(fan-in), zero where a branch joins the residual stream."""
    deviation = 1 / math.sqrt(network.cfg.width)
    for name in _embeddings(network):
        yield name, partial(nn.init.normal_, std=deviation if network.cfg.tied_embeddings else 1.0)
    for name, module in _hidden(network):
        bound = math.sqrt(3 / module.in_features)
        joins = name.endswith(_JOINS)
        yield f"{name}.weight", nn.init.zeros_ if joins else partial(nn.init.uniform_, a=-bound, b=bound)
    yield "lm_head.weight", partial(nn.init.normal_, std=0.02 * deviation)


def _normal(network: "Transformer") -> Iterator[tuple[str, Draw]]:
    """Draw with deviation 0.02, less where a branch joins the residual stream (GPT-2, section 2.3)."""
    join = 0.02 / math.sqrt(2 * network.cfg.layers)
    for name in _embeddings(network):
        yield name, partial(nn.init.normal_, std=0.02)
    for name, _ in _hidden(network):
        yield f"{name}.weight", partial(nn.init.normal_, std=join if name.endswith(_JOINS) else 0.02)
    yield "lm_head.weight", partial(nn.init.normal_, std=0.02)


def _truncated(network: "Transformer") -> Iterator[tuple[str, Draw]]:
    """Draw with deviation 0.02, nothing beyond two of them (google-research/bert, modeling.py)."""
    for name in (*_embeddings(network), *(f"{name}.weight" for name, _ in _hidden(network)), "lm_head.weight"):
        yield name, partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04)


def _t5(network: "Transformer") -> Iterator[tuple[str, Draw]]:
    """Draw so that unscaled attention starts moderate: queries are narrower by the root of a head's width.

    Source: the initialisers of the Mesh TensorFlow Transformer, as in `transformers` T5PreTrainedModel; an untied head,
    for which that draws 1, starts with logits of deviation 1.
    """
    cfg = network.cfg
    for name in _embeddings(network):
        yield name, partial(nn.init.normal_, std=1.0)
    for name, module in _hidden(network):
        fan_in = module.in_features * (cfg.resolved_head_width if name.endswith(".query") else 1)
        yield f"{name}.weight", partial(nn.init.normal_, std=fan_in**-0.5)
    for name in (*_relative(network), "lm_head.weight"):
        yield name, partial(nn.init.normal_, std=cfg.width**-0.5)


def _embeddings(network: "Transformer") -> list[str]:
    tables = {"embed": network.embed, "positions": network.positions, "segments": network.segments}
    return [f"{name}.weight" for name, table in tables.items() if table is not None]


def _relative(network: "Transformer") -> list[str]:
    stacks = {"": network.relative, "encoder.": network.encoder.relative if network.encoder is not None else None}
    return [f"{name}relative.weight" for name, bias in stacks.items() if bias is not None]


def _hidden(network: "Transformer") -> Iterator[tuple[str, nn.Linear]]:
    """Yield every linear layer but the output head, with its name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            yield name, module
