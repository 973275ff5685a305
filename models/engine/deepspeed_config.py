"""Our typed configuration as DeepSpeed's dictionary: every key that it needs, none that it would guess.

DeepSpeed ignores top-level keys that it does not know, and defaults change between its versions (clipping became 1.0,
pinned memory became true), so what matters is always written out.
"""

from typing import Any

from models.config import ExecutionConfig, TrainingConfig

_BUCKET = 50_000_000
"""Most elements that are reduced or gathered at once. DeepSpeed's default of 5e8 allocates 2 GB of fp32 for it."""

_PERSISTENT = 100_000
"""ZeRO-3 keeps parameters of fewer elements whole on each rank (DeepSpeed's own default)."""

FROM_DISK = 100_000_000
"""Elements of a rank's partition that ZeRO-3 updates at once of an optimiser on a disk: about as many of weights, of
gradients and of each state are in memory then. DeepSpeed's default of 1e9 would be 16 GB."""


def deepspeed_config(
    training: TrainingConfig,
    execution: ExecutionConfig,
    *,
    precision: str,
    parameters: int,
    largest: int = 0,
    on_gpu: bool,
) -> dict[str, Any]:
    """Return the configuration of an engine for a model of so many `parameters`.

    The `largest` matrix has so many of them, which matters to offload to a disk alone.
    """
    micro, accumulation = execution.plan(training.batch)
    config: dict[str, Any] = {
        "train_batch_size": training.batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "managed_gradient_accumulation": True,  # the engine says which micro-batch is a step's last
        "gradient_clipping": training.gradient_clipping if execution.zero_stage else 0.0,  # ours at stage 0
        "steps_per_print": 1 << 31,
        "wall_clock_breakdown": False,
        "zero_optimization": _zero(execution, parameters=parameters, largest=largest, on_gpu=on_gpu),
        "zero_allow_untested_optimizer": True,  # what it cannot do was refused (models/config/checks.py)
        # torch's own fused AdamW is vectorised on CPUs too; DeepSpeed's would be compiled at run time (36 s).
        "zero_force_ds_cpu_optimizer": False,
        **_precision(precision, execution.zero_stage),
    }
    if execution.tensor_parallel > 1:
        from models.engine.tensor_parallel import partition_plan

        config["tensor_parallel"] = {
            "autotp_size": execution.tensor_parallel,
            "partition_config": partition_plan(training.model),
        }
    if execution.pipeline_stages > 1:
        # The checkpointing of activations, if any, is the network's own.
        config["pipeline"] = {"activation_checkpoint_interval": 0, "use_reentrant": False}
    if "nvme" in (execution.offload_optimizer, execution.offload_parameters):
        config["aio"] = {
            "block_size": 1 << 20,
            "queue_depth": 8,
            "intra_op_parallelism": 1,
            "single_submit": False,
            "overlap_events": True,
        }
    return config


def _zero(execution: ExecutionConfig, *, parameters: int, largest: int, on_gpu: bool) -> dict[str, Any]:
    stage, bucket = execution.zero_stage, max(1, min(_BUCKET, parameters))
    overlap = execution.overlap_communication
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        # On a CPU there are no streams to overlap, and a pipeline reduces after all of its backward passes.
        "overlap_comm": (on_gpu if overlap is None else overlap) and stage > 0 and execution.pipeline_stages == 1,
        "round_robin_gradients": False,
    }
    if execution.offload_optimizer != "none":
        zero["offload_optimizer"] = {**_offload(execution.offload_optimizer, execution), "buffer_count": 4}
    if stage == 3:
        zero |= {
            "sub_group_size": FROM_DISK if execution.offload_optimizer == "nvme" else 1_000_000_000,
            "stage3_prefetch_bucket_size": bucket,
            # A small model would otherwise be kept whole on each rank, and nothing of it cut.
            "stage3_param_persistence_threshold": min(_PERSISTENT, parameters // 100),
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_gather_16bit_weights_on_model_save": False,  # whole weights are gathered in fp32
        }
        if execution.offload_parameters != "none":
            zero["offload_param"] = {**_offload(execution.offload_parameters, execution), "buffer_count": 5}
            if execution.offload_parameters == "nvme":
                # One buffer for each share of a matrix that is in memory: let go of as soon as a layer is through.
                zero["offload_param"] |= {"buffer_size": -(-largest // execution.replicas), "max_in_cpu": 0}
                zero["stage3_max_reuse_distance"] = 0
                # What is read ahead and is to be used twice, as where activations are recomputed, is given two.
                zero["stage3_prefetch_bucket_size"] = 0
    return zero


def _offload(where: str, execution: ExecutionConfig) -> dict[str, Any]:
    return {
        "device": where,
        "pin_memory": execution.pin_memory,
        **({"nvme_path": str(execution.nvme_path)} if where == "nvme" else {}),
    }


def _precision(precision: str, stage: int) -> dict[str, Any]:
    # Stage 1 would take another optimiser (BF16_Optimizer) if gradients were summed in fp32, which asserts instead of
    # skipping where a gradient is not finite.
    sums = {"data_types": {"grad_accum_dtype": "fp32"}} if stage > 1 else {}
    if precision == "bf16":
        return {"bf16": {"enabled": True, "check_grad_overflow": True}, **sums}
    if precision == "fp16":
        scale = {"loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000, "hysteresis": 2}
        return {"fp16": {"enabled": True, "auto_cast": False, "min_loss_scale": 1, **scale}, **sums}
    if precision == "bf16_autocast":
        return {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    return {}
