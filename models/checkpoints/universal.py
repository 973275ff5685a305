"""Going on with another number of ranks or another ZeRO stage: DeepSpeed's universal checkpoints, made when needed.

Under ZeRO each rank saves the stretch of the optimiser's state that it holds, so such a checkpoint fits one layout
only.  DeepSpeed's converter puts the stretches together to one file a parameter, and its engine cuts these anew while
it loads (Lian et al., arXiv 2406.18820).  What it cannot convert is refused by name before anything is loaded.
"""

import argparse
import contextlib
import io
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LAYOUT = ("ranks", "zero_stage", "tensor_parallel", "pipeline_stages", "offload_optimizer")
"""What of a run says how its state is cut."""


def same_layout(about: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Tell whether a checkpoint can be loaded as it is: cut alike, or not cut at all (stage 0)."""
    if any(about[name] != run[name] for name in LAYOUT[1:]):
        return False
    return bool(about["ranks"] == run["ranks"] or not run["zero_stage"])


def why_not_convertible(about: Mapping[str, Any], run: Mapping[str, Any]) -> str | None:
    """Return why a checkpoint cannot be cut anew for a run of another layout; None where it can."""
    for name in ("tensor_parallel", "pipeline_stages"):
        if about[name] != run[name]:
            return f"DeepSpeed's universal checkpoints do not reach from {name}={about[name]} to {name}={run[name]}"
        if about[name] > 1:
            return f"it is cut by {name}={about[name]} as well, which this converter is not used for"
    if not about["zero_stage"] or not run["zero_stage"]:
        return "DeepSpeed's universal checkpoints are made from ZeRO stages 1 to 3 alone, not from or for stage 0"
    if (about["zero_stage"] == 3) != (run["zero_stage"] == 3):
        return "DeepSpeed's universal checkpoints of stage 3 and of stages 1 and 2 are not laid out alike"
    return None


def convert(folder: Path, target: Path) -> Path:
    """Turn what DeepSpeed saved into `folder` into a universal checkpoint in `target` and return that.

    Files in `folder`, which is a copy, are changed where they have less than the converter looks for.
    """
    from deepspeed.checkpoint.ds_to_universal import main

    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(folder.glob("*optim_states.pt")):
        _complete(path)
    arguments = argparse.Namespace(
        input_folder=str(folder),
        output_folder=str(target),
        num_extract_workers=1,  # its workers are forked, which a process with threads must not do
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,  # without it, only checkpoints of Megatron can be converted from stages 1 and 2
    )
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        main(arguments)
    log.debug("%s", said.getvalue())
    return target


def _complete(path: Path) -> None:
    """Write a file of an optimiser's state anew where that has not all of Adam's state for each parameter.

    Muon and Lion keep one moment, and before the first step that was taken there is nothing.  What is added takes no
    room there, and what Muon and Lion do not keep is taken away again by who loads it (models/engine/universal.py).
    """
    import torch

    saved = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
    held = saved["optimizer_state_dict"]
    flats = held["single_partition_of_fp32_groups" if "base_optimizer_state" in held else "fp32_flat_groups"]
    states = held.get("base_optimizer_state", held.get("optimizer_state_dict"))["state"]
    step = next((state["step"] for state in states.values() if "step" in state), torch.zeros(()))
    complete = True
    for number, flat in enumerate(flats):
        nothing = torch.zeros(()).expand(flat.shape)
        state = states.setdefault(number, {})
        for name, value in {"step": step, "exp_avg": nothing, "exp_avg_sq": nothing}.items():
            if name not in state:
                state[name], complete = value, False
    if not complete:
        written = path.with_suffix(".written")
        torch.save(saved, written)
        written.replace(path)  # it may be a second name of a file that is to stay as it is
