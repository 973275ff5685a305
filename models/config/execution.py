"""Where and how a model is trained, and how a batch is cut for that."""

from typing import Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG


class ExecutionConfig(BaseModel):
    """Where and how a model is trained; none of it enters the identity of the model."""

    model_config = CONFIG

    ranks: int = Field(default=1, ge=1)
    """Processes of the data-parallel group, one a device."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each rank; the usable cores divided by the ranks by default. Their number can change the order of
    floating-point sums, so a run is repeatable bit for bit at an equal number only; checkpoints record it."""
    launcher: Literal["auto", "python", "deepspeed", "torchrun"] = "auto"
    """What starts the ranks; auto is plain processes for one rank, the DeepSpeed launcher for more."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed ZeRO partitions over the ranks: nothing, optimiser state, and gradients, and parameters."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences in one forward pass of one rank; by default all of a step's that fall to the rank. Where they do not
    fit into memory, training goes on with half as many and the same batch."""
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """Least time between two checkpoints, in seconds; a checkpoint is made at the next multiple of
    `checkpoint_every` steps."""
    checkpoint_every: int = Field(default=25, ge=1)
    """Checkpoints are made at multiples of this many steps."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest complete checkpoints are kept."""
    hang_seconds: float = Field(default=1800.0, gt=0)
    """A group of ranks that reports neither a step nor a batch of validation for so long is ended, in seconds."""


def plan_batch(*, batch: int, ranks: int, micro_batch: int | None) -> tuple[int, int]:
    """Return (micro-batch, accumulation steps) of one rank; raises ValueError if they do not divide, with numbers."""
    if batch % ranks:
        raise ValueError(f"batch={batch} sequences do not divide among ranks={ranks}: make batch a multiple of {ranks}")
    share = batch // ranks
    micro = min(micro_batch or share, share)
    if share % micro:
        raise ValueError(
            f"batch={batch} over ranks={ranks} leaves {share} sequences a rank, "
            f"which micro_batch={micro} does not divide"
        )
    return micro, share // micro


def smaller_micro_batch(*, batch: int, ranks: int, micro_batch: int | None) -> int | None:
    """Return the largest micro-batch of at most half the size that divides a rank's share; None below one sequence."""
    micro, accumulation = plan_batch(batch=batch, ranks=ranks, micro_batch=micro_batch)
    return next((size for size in range(micro // 2, 0, -1) if micro * accumulation % size == 0), None)
