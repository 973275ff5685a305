"""What cannot be trained, and why, said before any process is started."""

from models.config.execution import ExecutionConfig
from models.config.launching import check_launcher
from models.config.parallelism import check_parallelism
from models.config.training import TrainingConfig


def check_execution(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    """Return every reason why these two cannot run together, before any process is started."""
    problems = []
    try:
        execution.plan(training.batch)
    except ValueError as exc:
        problems.append(str(exc))
    problems += check_launcher(execution)
    problems += check_parallelism(training, execution)
    if training.optimizer.kind == "muon" and execution.zero_stage > 0:
        problems.append(
            f"optimizer.kind=muon needs whole matrices, which execution.zero_stage={execution.zero_stage} cuts "
            "into flat partitions; use zero_stage=0 (with precision fp32 or bf16_autocast) or kind=adamw"
        )
    return problems
