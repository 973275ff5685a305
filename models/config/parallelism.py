"""What DeepSpeed cannot cut over ranks or keep off the device, and why, said before any process is started."""

from models.config.execution import ExecutionConfig
from models.config.training import TrainingConfig

WHOLE_TENSORS = ("muon", "lamb", "adafactor")
"""Optimisers whose step of a parameter needs all of it: Newton-Schulz, a trust ratio, factored second moments.

Muon and LAMB bring it together where ZeRO has cut it into flat partitions (models/optimizers/sharded.py).
"""


def check_parallelism(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    """Return every reason why the model cannot be trained on these ranks, with the numbers."""
    return [
        *_tensor_problems(training, execution),
        *_pipeline_problems(training, execution),
        *_offload_problems(execution),
        *_precision_problems(training, execution),
    ]


def _tensor_problems(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    model, parts, name = training.model, execution.tensor_parallel, "execution.tensor_parallel"
    if parts == 1:
        return []
    sizes = {"heads": model.heads, "kv_heads": model.resolved_kv_heads, "ffn_width": model.resolved_ffn_width}
    problems = [f"{name}={parts} does not divide model.{field}={size}" for field, size in sizes.items() if size % parts]
    if execution.pipeline_stages > 1:
        problems.append(
            f"{name}={parts} and execution.pipeline_stages={execution.pipeline_stages} do not go together: DeepSpeed's "
            "AutoTP does not cut the layers of a pipeline; use one of them with more ranks"
        )
    if model.positions == "relative":
        problems.append(f"{name}={parts} cannot cut positions=relative, one bias a head that all blocks share")
    if model.moe is not None:
        problems.append(f"{name}={parts} cannot cut a mixture of experts: which rank's share a token needs differs")
    if training.optimizer.kind in WHOLE_TENSORS:
        problems.append(
            f"optimizer.kind={training.optimizer.kind} needs whole matrices, which {name}={parts} cuts; "
            "use kind=adamw or tensor_parallel=1"
        )
    return problems


def _pipeline_problems(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    model, stages, name = training.model, execution.pipeline_stages, "execution.pipeline_stages"
    if stages == 1:
        return []
    problems = []
    if model.family == "encoder_decoder":
        problems.append(
            f"{name}={stages} cannot cut family=encoder_decoder: every block of the decoder reads the encoder's "
            "output, and a pipeline hands on what the stage before it made"
        )
    if stages > model.layers:
        problems.append(f"{name}={stages} is more than model.layers={model.layers}")
    if execution.zero_stage > 1:
        problems.append(
            f"{name}={stages} needs execution.zero_stage 0 or 1, not {execution.zero_stage}: a pipeline keeps the "
            "gradients of several micro-batches, which stages 2 and 3 would cut up after each"
        )
    if model.moe is not None:
        problems.append(f"{name}={stages} cannot train a mixture of experts: its losses arise in every stage")
    if model.positions == "relative":
        problems.append(f"{name}={stages} cannot cut positions=relative, one bias that all blocks share")
    if execution.offload_optimizer != "none":
        problems.append(f"{name}={stages} keeps the optimiser on the device: set execution.offload_optimizer=none")
    return problems


def _offload_problems(execution: ExecutionConfig) -> list[str]:
    stage, optimizer, parameters = execution.zero_stage, execution.offload_optimizer, execution.offload_parameters
    problems = []
    if optimizer == "cpu" and stage == 0:
        problems.append("execution.offload_optimizer=cpu needs execution.zero_stage 1, 2 or 3, not 0")
    if optimizer == "nvme" and stage != 3:
        problems.append(f"execution.offload_optimizer=nvme needs execution.zero_stage=3, not {stage}")
    if parameters != "none" and stage != 3:
        problems.append(f"execution.offload_parameters={parameters} needs execution.zero_stage=3, not {stage}")
    to_disk = "nvme" in (optimizer, parameters)
    if to_disk and execution.nvme_path is None:
        problems.append("offloading to nvme needs execution.nvme_path, a folder on a fast local disk")
    if not to_disk and execution.nvme_path is not None:
        problems.append(f"execution.nvme_path={execution.nvme_path} has no meaning without offloading to nvme")
    if execution.pin_memory and optimizer == parameters == "none":
        problems.append("execution.pin_memory has no meaning without offload_optimizer or offload_parameters")
    return problems


def _precision_problems(training: TrainingConfig, execution: ExecutionConfig) -> list[str]:
    if training.precision in ("bf16", "fp16") and execution.zero_stage == 0:
        return [
            f"precision={training.precision} needs execution.zero_stage 1, 2 or 3 (stage 0 warms Adam up with a step "
            "of zeros and does not resume exactly); use precision=bf16_autocast for bf16 without ZeRO"
        ]
    return []
