"""What each of two ranks runs for tests/models/test_network_settings.py: tiny networks under settings of execution.

    python -m tests.models.network_program FOLDER          reads FOLDER/cases.json, writes FOLDER/results.json

The reference is a loop of plain PyTorch over whole batches on each rank, without DeepSpeed or any engine of ours.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.config import ExecutionConfig, TrainingConfig
from models.engine import build_engine, initialise_processes
from models.optimizers import build_optimizer
from models.transformer import Transformer

VOCABULARY, LENGTH, BATCH, STEPS = 31, 16, 8, 5


def sequences(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and documents of a step, (BATCH, LENGTH) each."""
    drawn = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(step))
    drawn = drawn.cumsum(dim=1) % VOCABULARY
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous(), torch.arange(LENGTH).expand(BATCH, -1) // 7


def reference(training: TrainingConfig) -> list[float]:
    """Return the losses of a loop without any engine; what is optimised is made here by formula."""
    torch.manual_seed(training.seed)
    network = Transformer(training.model, VOCABULARY)
    network.prepare(label_smoothing=training.label_smoothing, z_loss=training.z_loss)
    optimizer = build_optimizer(training.optimizer, network)
    losses = []
    for step in range(STEPS):
        total, plain = network(*sequences(step), reduction="train")
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(plain.item())
    return losses


def run(case: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the losses of each step under a case's engine, and the names of its weights."""
    training, execution = TrainingConfig.model_validate(case["training"]), ExecutionConfig(**case["execution"])
    engine = build_engine(training, execution, vocab_size=VOCABULARY, precision="fp32", device=device)
    micro, accumulation = execution.plan(BATCH)
    first = execution.replica(torch.distributed.get_rank()) * micro * accumulation
    losses = []
    for step in range(STEPS):
        batches = [
            [t[at : at + micro] for t in sequences(step)] for at in range(first, first + micro * accumulation, micro)
        ]
        loss, norm = engine.step(batches, 1.0)
        assert norm is not None
        losses.append(loss)
    return {"losses": losses, "names": sorted(engine.full_weights())}


def main(folder: Path) -> None:
    """Run every case and write what each gave beside its reference."""
    device = initialise_processes(1)
    results = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        sys.stdout.write(f"case {name}\n")
        sys.stdout.flush()
        training = TrainingConfig.model_validate(case["training"])
        expected = reference(training) if not training.model.dropout else []
        names = sorted(n for n, _ in Transformer(training.model, VOCABULARY).named_parameters())
        results[name] = {**run(case, device), "expected": expected, "expected_names": names}
    if torch.distributed.get_rank() == 0:
        (folder / "results.json").write_text(json.dumps(results))
    torch.distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)
