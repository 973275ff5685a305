"""Whether a run may go on from a checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

from infra.errors import UserError
from models.checkpoints.store import Checkpoint
from models.checkpoints.universal import LAYOUT, same_layout, why_not_convertible

log = logging.getLogger(__name__)


def check_resumable(found: Checkpoint, run: Mapping[str, Any]) -> None:
    """Raise UserError unless a run that says `run` about itself can go on from the checkpoint `found`."""
    about = found.about
    again = "run with --force pretrain to start from the beginning"
    for name in ("config_digest", "tokenizer_digest"):
        if about[name] != run[name]:
            raise UserError(
                f"pretrain: the checkpoint of step {found.step} belongs to another run ({name} {about[name][:12]}, "
                f"here {run[name][:12]}); {again}"
            )
    if about["precision"] != run["precision"]:
        raise UserError(
            f"pretrain: the checkpoint of step {found.step} was trained in {about['precision']}, here precision is "
            f"{run['precision']}; set pretrain.precision={about['precision']}, or {again}"
        )
    if "nvme" in (about["offload_optimizer"], run["offload_optimizer"], run["offload_parameters"]):
        raise UserError(
            f"pretrain: there is a checkpoint of step {found.step}, but what is offloaded to nvme cannot go on from "
            "one: DeepSpeed restores neither small parameters nor the optimiser's count of steps there; "
            f"{again}, with offload to cpu if it may be interrupted again"
        )
    if not same_layout(about, run) and (reason := why_not_convertible(about, run)) is not None:
        raise UserError(
            f"pretrain: the checkpoint of step {found.step} was written by {layout(about)} and cannot be cut anew for "
            f"{layout(run)}: {reason}; go on with the former, or {again}"
        )
    for name in ("threads", "torch"):
        if about[name] != run[name]:
            log.warning(
                "resuming with %s %s what was trained with %s: sums may differ in the last bit",
                name,
                run[name],
                about[name],
            )


def layout(about: Mapping[str, Any]) -> str:
    """Return the layout of a run in words: ranks and stage, and the rest where it is not as usual."""
    usual = {"tensor_parallel": 1, "pipeline_stages": 1, "offload_optimizer": "none"}
    return ", ".join(f"{name}={about[name]}" for name in LAYOUT if about[name] != usual.get(name))


def nothing_to_resume(where: str, unfinished: int) -> str:
    """Return the message for a run that must go on from a checkpoint and finds none."""
    return (
        f"pretrain: execution.resume=required, but {where} has no complete checkpoint ({unfinished} unfinished); set "
        "execution.resume=auto to train from the first step where there is none"
    )
