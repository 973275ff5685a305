"""What cannot be trained, and why, said before any process is started."""

from models.config.execution import ExecutionConfig, plan_batch
from models.config.training import TrainingConfig


def check_execution(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    """Return every reason why these two cannot run together, before any process is started."""
    problems = []
    try:
        plan_batch(batch=training.batch, ranks=execution.ranks, micro_batch=execution.micro_batch)
    except ValueError as exc:
        problems.append(str(exc))
    if execution.launcher == "python" and execution.ranks > 1:
        problems.append(
            f"execution.launcher=python starts one rank, not execution.ranks={execution.ranks}; "
            "use deepspeed or torchrun"
        )
    if training.precision == "bf16" and execution.zero_stage == 0:
        problems.append(
            "precision=bf16 needs execution.zero_stage 1, 2 or 3 (stage 0 warms Adam up with a step of zeros and does "
            "not resume exactly); use precision=bf16_autocast for bf16 without ZeRO"
        )
    if training.optimizer.kind == "muon" and execution.zero_stage > 0:
        problems.append(
            f"optimizer.kind=muon needs whole matrices, which execution.zero_stage={execution.zero_stage} cuts "
            "into flat partitions; use zero_stage=0 (with precision fp32 or bf16_autocast) or kind=adamw"
        )
    return problems
