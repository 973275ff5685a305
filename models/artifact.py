"""What a finished model is made of: weights, configuration, final numbers, and beside them how the training went.

model.safetensors  all weights, fp32          config.json     the network's shape, and the token between documents
training.json      final numbers              curve.jsonl     loss, learning rate, gradient norm, validation by step
last.safetensors   where weights are averaged (pretrain.ema): the last ones, as model.safetensors has the average
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.guard import Guard
from models.job import Job, result_file
from models.telemetry import Curve, Meter, memory, step_flops, utilisation


def write_artifact(
    job: Job,
    weights: dict[str, Tensor],
    *,
    average: dict[str, Tensor] | None,
    curve: Curve,
    meter: Meter,
    parameters: int,
    bad_steps: int,
    precision: tuple[str, str],
    micro_batch: int,
    device: torch.device,
    guard: Guard,
    checkpoint_seconds: float,
) -> None:
    """Write the files of the model, then the measurements that say that they are whole; `precision` has its reason."""
    out, model = job.output, job.training.model
    save_file(weights if average is None else average, out / "model.safetensors", metadata={"format": "pt"})
    if average is not None:
        save_file(weights, out / "last.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": model.family,
        "objective": job.training.objective.model_dump(),
        "vocab_size": job.vocab_size,
        "eod": job.eod,
        "model": model.model_dump(),
    }
    _write_json(out / "config.json", config)
    curve.publish(out)
    last = curve.rows[-1]
    training = {
        "parameters": parameters,
        "steps": job.training.steps,
        "tokens": last["tokens"],
        "bad_steps": bad_steps,
        "spikes": guard.spikes,
        "rollbacks": guard.rollbacks,
        "skipped_batches": guard.skipped_batches,
        "precision": precision[0],
        "tokenizer": job.tokenizer_digest,
        "validation_loss": last["validation_loss"],
        "validation_bits_per_byte": last["validation_bits_per_byte"],
    }
    _write_json(out / "training.json", training)
    measured = _measured(job, meter, precision=precision[0], device=device)
    result = {
        **training,
        **measured,
        "precision_reason": precision[1],
        "micro_batch": micro_batch,
        "checkpoint_seconds": checkpoint_seconds,
    }
    _write_json(result_file(job.scratch), result)


def _measured(job: Job, meter: Meter, *, precision: str, device: torch.device) -> dict[str, Any]:
    """Return what differs from run to run: times, throughput, and what ran."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    ranks, rate, whole = job.execution.ranks, meter.tokens_per_second, job.training.batch * job.training.window
    flops = step_flops(job.training, job.vocab_size)
    mfu, reason = utilisation(
        flops_per_second=flops / whole * rate if rate else None, device=name, precision=precision, ranks=ranks
    )
    return {
        "tokens_per_second": rate,
        "flops_per_step": flops,
        "mfu": mfu,
        "mfu_reason": reason,
        "device": name,
        "threads": job.threads,
        "ranks": ranks,
        "training_seconds": meter.seconds,
        "data_wait_share": meter.data_seconds / meter.seconds if meter.seconds else None,
        **memory(),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
