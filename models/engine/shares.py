"""Each rank's share of the first weights, taken of one weight after the other: none has the whole network at once."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.transformer import Transformer


def fill(network: Transformer, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Give the parameters that are left of a hollow network their weights, and pass over the others'."""
    held = dict(network.named_parameters())
    for name, whole in weights:
        if name in held:
            held[name].data = whole.clone()


def partition(
    network: Transformer, weights: Iterable[tuple[str, Tensor]], config: dict[str, Any], dtype: torch.dtype
) -> None:
    """Give a hollow network its weights in `dtype`, each cut over the ranks, as ZeRO-3 keeps them, before the next.

    `config` is DeepSpeed's, which says where they are kept.  Every rank must call it.
    """
    from deepspeed.runtime.zero import Init

    cut: Callable[..., None] | None = None
    for p in _in_turn(network, weights):
        p.data = p.data.to(dtype)
        if cut is None:
            # It takes the type from the configuration: of one that it is given it makes bf16 where there is no fp16.
            Init(module=nn.ParameterList([p]), config_dict_or_path=copy.deepcopy(config))
            cut = p.convert_to_zero_parameters
        else:
            cut(param_list=[p])


def _in_turn(network: Transformer, weights: Iterable[tuple[str, Tensor]]) -> Iterator[Any]:
    """Yield each parameter with its weights in place, last those that nothing draws."""
    rest = dict(network.named_parameters())
    for name, whole in weights:
        p = rest.pop(name)
        p.data = whole
        yield p
    yield from rest.values()
