"""What a finished model is made of: weights, configuration, final numbers, and beside them how the training went.

model.safetensors  all weights, fp32          config.json     the network's shape
training.json      final numbers              curve.jsonl     loss, learning rate, gradient norm, validation by step
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.guard import Guard
from models.job import Job, result_file
from models.telemetry import Curve, Meter, flops_per_token, peak_flops


def write_artifact(
    job: Job,
    weights: dict[str, Tensor],
    *,
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
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": model.family,
        "objective": job.training.objective.model_dump(),
        "vocab_size": job.vocab_size,
        "eod": job.eod,
        "model": model.model_dump(),
    }
    _write_json(out / "config.json", config)
    curve.save(out / "curve.jsonl")
    last = curve.rows[-1]
    training = {
        "parameters": parameters,
        "steps": job.training.steps,
        "tokens": job.training.steps * job.training.batch * job.training.window,
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
    measured = _measured(job, meter, parameters=parameters, device=device)
    result = {
        **training,
        **measured,
        "precision_reason": precision[1],
        "micro_batch": micro_batch,
        "checkpoint_seconds": checkpoint_seconds,
    }
    _write_json(result_file(job.scratch), result)


def _measured(job: Job, meter: Meter, *, parameters: int, device: torch.device) -> dict[str, Any]:
    """Return what differs from run to run: times, throughput, and what ran."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak, rate, ranks = peak_flops(name), meter.tokens_per_second, job.execution.ranks
    flops = flops_per_token(job.training.model, parameters=parameters, vocab_size=job.vocab_size)
    return {
        "tokens_per_second": rate,
        "mfu": rate * flops / (peak * ranks) if peak and rate else None,
        "mfu_reason": None if peak else f"no peak FLOP/s is known for {name}",
        "device": name,
        "threads": job.threads,
        "ranks": ranks,
        "training_seconds": meter.seconds,
        "data_wait_share": meter.data_seconds / meter.seconds if meter.seconds else None,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
