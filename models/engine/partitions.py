"""Where the parameters lie in the flat tensors that ZeRO gives an optimiser, for those whose step needs all of one."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from models.optimizers import Fragment, Lamb, Muon, MuonAdamW, Partition


def describe_partitions(zero: Any, *, stage: int, device: torch.device) -> None:
    """Tell the optimiser within DeepSpeed's of this stage what its partitions are made of, if it needs to know."""
    client = zero.optimizer
    holder = client.muon if isinstance(client, MuonAdamW) else client
    if isinstance(holder, Muon | Lamb):
        of_groups = _of_stage_3(zero) if stage == 3 else _of_stages_1_and_2(zero)
        holder.partitions = {
            flat: Partition(tuple(fragments), torch.distributed.get_rank(group), group, device)
            for number, flat, group, fragments in of_groups
            if client.param_groups[number]["whole"]
        }


_Described = Iterator[tuple[int, Tensor, torch.distributed.ProcessGroup, Sequence[Fragment]]]
"""The number of a group of parameters, its flat partition, the ranks that share it and what it is made of."""


def _of_stages_1_and_2(zero: Any) -> _Described:
    """Parameters follow one another, and each rank has a share of all, which ends within one."""
    for number, flat in enumerate(zero.single_partition_of_fp32_groups):
        group, size = zero.real_dp_process_group[number], zero.partition_size[number]
        rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        fragments = [
            Fragment(
                tuple(p.shape),
                tuple(min(max(r * size - first, 0), p.numel()) for r in range(ranks + 1)),
                max(first - rank * size, 0),
            )
            for p, first in zip(
                zero.round_robin_bit16_groups[number], zero.round_robin_bit16_offsets[number], strict=True
            )
        ]
        yield number, flat, group, fragments


def _of_stage_3(zero: Any) -> _Described:
    """Each rank has as much of each parameter, the last one less, and a group may be several partitions."""
    for sub_group, flat in enumerate(zero.fp32_partitioned_groups_flat):
        group = zero.sub_group_process_groups[sub_group]
        ranks = torch.distributed.get_world_size(group)
        fragments, offset = list[Fragment](), 0
        for p in zero.fp16_groups[sub_group]:
            share = p.partition_numel()
            bounds = tuple(min(r * share, p.ds_numel) for r in range(ranks + 1))
            fragments.append(Fragment(tuple(p.ds_shape), bounds, offset))
            offset += share
        yield zero.sub_group_to_group_id[sub_group], flat, group, fragments
