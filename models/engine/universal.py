"""What DeepSpeed gets wrong where it loads a universal checkpoint, set right."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor


@contextlib.contextmanager
def mended(optimizer: Any) -> Iterator[None]:
    """Keep the groups of an optimiser apart while DeepSpeed loads its state from a universal checkpoint.

    Of stage 3 (runtime/zero/stage3.py in 0.19) it gives all parameters the same tensor for the number of steps, which
    Adam then raises once for each of them, and all groups the weight decay and peak rate of the first.
    """
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    yield
    for group, mine in zip(optimizer.param_groups, kept, strict=True):
        group.update(mine)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].clone()
