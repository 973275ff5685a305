"""What DeepSpeed gets wrong where it loads a universal checkpoint, set right."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from models.optimizers import MuonAdamW


@contextlib.contextmanager
def mended(optimizer: Any) -> Iterator[None]:
    """Keep the groups of an optimiser apart while DeepSpeed loads its state from a universal checkpoint.

    Of stage 3 (runtime/zero/stage3.py in 0.19) it gives all parameters the same tensor for the number of steps, which
    Adam then raises once for each of them, and all groups the weight decay and peak rate of the first, and whatever
    else that has.  It gives every parameter all of Adam's state, of which Muon and Lion keep the first moment.  And of
    each stage it leaves the number of steps on the host, where the fused AdamW of a GPU cannot raise it.
    """
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    yield
    for group, mine in zip(optimizer.param_groups, kept, strict=True):
        for key in group.keys() - mine.keys() - {"params"}:
            del group[key]
        group.update(mine)
    for p, state in optimizer.state.items():
        if _keeps_one_moment(optimizer, p):
            for key in state.keys() - {"exp_avg"}:
                del state[key]
        elif isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(p.device, copy=True)


def _keeps_one_moment(optimizer: Any, p: Tensor) -> bool:
    if isinstance(optimizer, MuonAdamW):
        return p in optimizer.muon.partitions
    return type(optimizer).__name__ == "Lion"
