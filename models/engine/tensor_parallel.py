"""How DeepSpeed AutoTP cuts our matrices over the ranks of a replica, and how they are put together again.

What makes several vectors of one (queries, keys, values, up, gate) is cut by its outputs, what joins them again
(output, down) by its inputs, as in Megatron-LM (arXiv 1909.08053): one sum over the ranks for each branch of a block.
Embeddings, norms and the head stay whole on each rank.
"""

import re
from typing import Any

import torch
from torch import Tensor

from models.config import ModelConfig

_BLOCK = r"(encoder\.)?blocks\.\d+\."
_BY_OUTPUT = _BLOCK + r"((attention|cross)\.(query|key|value)|ffn\.(up|gate))"
_BY_INPUT = _BLOCK + r"((attention|cross)\.output|ffn\.down)"
_OF_HEADS = _BLOCK + r"(attention|cross)\.(query_norm|key_norm)"


def partition_plan(cfg: ModelConfig) -> dict[str, Any]:
    """Return DeepSpeed's `partition_config` for our names of parameters."""
    specs: list[dict[str, Any]] = [
        {"patterns": [rf"{_BY_OUTPUT}\.weight$"], "partition_type": "column"},
        {"patterns": [rf"{_BY_INPUT}\.weight$"], "partition_type": "row"},
    ]
    if cfg.qk_norm:
        # Whole on each rank, where they norm that rank's heads alone: their gradient is the sum over the ranks.
        specs.append({"patterns": [rf"{_OF_HEADS}\..*$"], "partition_type": "skip", "grad_allreduce": True})
    return {"use_default_specs": False, "layer_specs": specs}


def tensor_parallel_groups(ranks: int) -> Any:
    """Return what tells DeepSpeed which ranks cut the matrices of one replica, so many next to one another.

    It makes them itself where it is asked for AutoTP, but only after it has checked the batch as if every rank had its
    own.
    """
    if ranks == 1:
        return None
    from deepspeed.utils import groups

    groups._init_tp_mesh_device(tensor_model_parallel_size=ranks)
    return groups


def gather(name: str, held: Tensor, ranks: int) -> Tensor:
    """Return the whole of a parameter of which this rank holds its share; every rank of the replica must call it."""
    dimension = _cut_dimension(name)
    if ranks == 1 or dimension is None:
        return held
    from deepspeed.utils import groups

    parts = [torch.empty_like(held) for _ in range(ranks)]
    torch.distributed.all_gather(parts, held.contiguous(), group=groups.get_tensor_model_parallel_group())
    return torch.cat(parts, dim=dimension)


def _cut_dimension(name: str) -> int | None:
    if re.fullmatch(rf"{_BY_OUTPUT}\.(weight|bias)", name):
        return 0
    return 1 if re.fullmatch(rf"{_BY_INPUT}\.weight", name) else None
