"""What DeepSpeed gets wrong where it loads a universal checkpoint, set right."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from models.optimizers import MuonAdamW


@contextlib.contextmanager
def mended(zero: Any) -> Iterator[None]:
    """Keep the groups of an optimiser apart while DeepSpeed's loads its state from a universal checkpoint.

    Of stage 3 (runtime/zero/stage3.py in 0.19) it gives all parameters the same tensor for the number of steps, which
    Adam then raises once for each of them, and all groups the weight decay and peak rate of the first, and whatever
    else that has.  It gives every parameter all of Adam's state, of which Muon and Lion keep the first moment.  And of
    each stage it leaves the number of steps on the host, where the fused AdamW of a GPU cannot raise it.

    Of stages 1 and 2 (runtime/base_optimizer.py) it fails where a rank holds nothing of a group but what fills it up,
    as with many ranks and few vectors.
    """
    optimizer = getattr(zero, "optimizer", zero)
    empty = {
        number: group
        for number, group in enumerate(getattr(zero, "bit16_groups", []))
        if all(p._hp_mapping is None for p in group)
    }
    for group in empty.values():
        group.append(_nothing())
        zero.param_names[group[-1]] = "nothing"
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    yield
    step = next((state["step"] for state in optimizer.state.values() if "step" in state), torch.zeros(()))
    for number, group in empty.items():
        del zero.param_names[group.pop()]
        p = optimizer.param_groups[number]["params"][0]
        optimizer.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
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


def _nothing() -> Any:
    """Return what DeepSpeed is shown in the place of a parameter where a rank holds none: of no state and no step."""
    stand_in: Any = torch.zeros(0)
    stand_in._hp_mapping = SimpleNamespace(get_optim_state_keys=list)
    stand_in.load_hp_checkpoint_state = lambda *_, **__: None
    return stand_in
