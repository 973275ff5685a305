"""What tests/models/test_fp16.py runs as one rank: a tiny model in fp16 under each stage of ZeRO.

    python -m tests.models.fp16_program FILE          writes results to FILE, by stage

Processors multiply fp16 without the instructions for it too, if slowly; DeepSpeed is told that this one has them.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from models.config import ExecutionConfig, TrainingConfig
from models.engine import Engine, build_engine, initialise_processes

VOCABULARY, LENGTH, BATCH, STEPS = 29, 16, 8, 8
TRAINING = TrainingConfig.model_validate(
    {
        "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": LENGTH},
        "optimizer": {"kind": "adamw", "learning_rate": 3e-3},
        "schedule": {"kind": "constant", "warmup_steps": 0},
        "steps": STEPS,
        "batch": BATCH,
        "precision": "fp16",
    }
)


def batches(step: int, device: torch.device) -> list[list[torch.Tensor]]:
    """Return the two micro-batches of a step: sequences that count upwards."""
    first = torch.randint(0, VOCABULARY, (BATCH, 1), generator=torch.Generator().manual_seed(step))
    tokens = ((first + torch.arange(LENGTH + 1)) % VOCABULARY).to(device)
    half = BATCH // 2
    return [[tokens[at : at + half, :-1], tokens[at : at + half, 1:]] for at in (0, half)]


def run(stage: int, device: torch.device) -> dict[str, Any]:
    """Return the curves of the ways that the loss scale may take, under one stage."""

    def build(scale: float, window: int) -> tuple[Engine, Any]:
        execution = ExecutionConfig(zero_stage=stage, micro_batch=BATCH // 2)
        made = build_engine(TRAINING, execution, vocab_size=VOCABULARY, precision="fp16", device=device)
        scaler = made._deepspeed.optimizer.loss_scaler
        scaler.cur_scale, scaler.scale_window = scale, window
        return made, scaler

    found: dict[str, Any] = {}
    steady, _ = build(1024, 1000)
    found["steady"] = [steady.step(batches(step, device), 1.0) for step in range(STEPS)]
    rising, scaler = build(64, 1)
    found["rising"] = [rising.step(batches(step, device), 1.0) for step in range(STEPS)]
    found["risen to"] = scaler.cur_scale
    with tempfile.TemporaryDirectory() as folder:
        rising.save(Path(folder))
        resumed, _ = build(1, 1)
        resumed.load(Path(folder))
        found["after"] = [engine.step(batches(STEPS, device), 1.0) for engine in (rising, resumed)]
        found["scales"] = [engine._deepspeed.optimizer.loss_scaler.cur_scale for engine in (rising, resumed)]
    high, scaler = build(2.0**40, 1000)
    overflown = [high.step(batches(0, device), 1.0) for _ in range(4)]
    found["overflown"], found["bad"], found["fallen to"] = overflown, high.bad_steps, scaler.cur_scale
    low, scaler = build(1.0, 1000)
    with torch.no_grad():
        for p in low.model.parameters():
            getattr(p, "ds_tensor", p).data.fill_(torch.inf)  # ZeRO-3 keeps a share there
    found["lowest"] = [low.step(batches(step, device), 1.0)[1] for step in range(3)]
    found["lowest bad"] = low.bad_steps
    return found


@contextmanager
def with_fp16() -> Iterator[None]:
    """Let DeepSpeed take this device for one that has fp16."""
    from deepspeed.accelerator import get_accelerator

    kind, dtypes = type(get_accelerator()), [torch.float, torch.half, torch.bfloat16]
    with (
        mock.patch.object(kind, "is_fp16_supported", return_value=True),
        mock.patch.object(kind, "supported_dtypes", return_value=dtypes),
    ):
        yield


def main() -> None:
    """Run every stage."""
    device = initialise_processes(1)
    with with_fp16():
        found = {stage: run(stage, device) for stage in (1, 3)}  # 2 steps as 1 does
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
