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
    else:
        problems += _warmup_problems(training, execution)
    problems += check_launcher(execution)
    problems += check_parallelism(training, execution)
    problems += _compile_problems(execution)
    if never := [step for step in execution.keep_steps if step > training.steps]:
        problems.append(f"execution.keep_steps names {never}, which are beyond the last of steps={training.steps}")
    if training.optimizer.kind == "adafactor" and execution.zero_stage > 0:
        problems.append(
            "optimizer.kind=adafactor keeps one number for each row and column of whole matrices, and "
            f"execution.zero_stage={execution.zero_stage} cuts these into flat partitions, of which DeepSpeed keeps "
            "state of as many elements; use zero_stage=0 (with precision fp32 or bf16_autocast), or kind=adamw, muon, "
            "lamb or lion"
        )
    if training.ema is not None:
        problems += _average_problems(execution)
    if execution.nvme_path is not None:
        problems += _checkpoint_problems(training, execution)
    return problems


def _average_problems(execution: ExecutionConfig) -> list[str]:
    """Return why the weights cannot be averaged."""
    if execution.offload_parameters != "nvme":
        return []
    return [
        "ema averages parameters in memory, where execution.offload_parameters=nvme leaves none; use "
        "offload_parameters=cpu, or ema=null"
    ]


def _checkpoint_problems(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    """Return what would have to go on from a checkpoint of what is on a disk, of which DeepSpeed restores a part."""
    again = "cannot be had with offload to nvme, of which DeepSpeed does not restore all; offload to cpu"
    problems = []
    if training.guard is not None and training.guard.rollback is not None:
        problems.append(f"guard.rollback goes back to a checkpoint, which {again}, or set guard.rollback=null")
    if execution.resume == "required":
        problems.append(f"execution.resume=required {again}")
    return problems


def _compile_problems(execution: ExecutionConfig) -> list[str]:
    """Return why blocks cannot be compiled: collectives within them break what torch.compile traces."""
    cuts = {
        "zero_stage": execution.zero_stage > 2,
        "tensor_parallel": execution.tensor_parallel > 1,
    }
    return [
        f"execution.compile needs whole blocks on each rank, and execution.{name}={getattr(execution, name)} cuts "
        "matrices; set compile=false"
        for name, cut in cuts.items()
        if cut and execution.compile
    ]


def _warmup_problems(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    """Return why the batches on the way to the whole one cannot be divided."""
    replicas = execution.replicas
    return [
        f"batch_warmup comes to a batch of {size} sequences, which do not divide among {replicas} replicas: set "
        f"batch_warmup.start and multiple_of to multiples of {replicas}"
        for size in training.growth.batches
        if size % replicas
    ][:1]
