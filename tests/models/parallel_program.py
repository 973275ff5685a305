"""What each of two ranks runs for tests/models/test_parallel.py: tiny models under each configuration in turn.

    python -m tests.models.parallel_program FOLDER          reads FOLDER/cases.json, writes FOLDER/results.json

The reference is a loop of plain PyTorch on rank 0, without DeepSpeed or any engine of ours.
"""

import functools
import gc
import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from models.config import EMAConfig, ExecutionConfig, TrainingConfig
from models.ema import Average
from models.engine import Engine, build_engine, deepspeed_config, initialise_processes, sum_over_replicas
from models.optimizers import build_optimizer, sharded
from models.transformer import Transformer, network

VOCABULARY, LENGTH, BATCH, STEPS = 29, 16, 8, 7
SMALL, POISONED, SAVED, REFUSED = 1, 2, 3, 4
"""Steps up to this one have half as many sequences of half the length; one has a loss that is not finite on one rank,
one is begun after a checkpoint was made, and one is refused by the loop."""
AVERAGED = EMAConfig(decay=0.6)
"""How the weights are averaged, but where the disk has them."""


def sequences(step: int, *, documents: bool) -> list[Tensor]:
    """Return inputs, targets and, if asked, documents of a step: (rows, positions), counting by ones or twos."""
    chooser = np.random.default_rng(step)
    start, stride = chooser.integers(VOCABULARY, size=(BATCH, 1)), chooser.integers(1, 3, size=(BATCH, 1))
    counted = (start + stride * np.arange(LENGTH + 1)) % VOCABULARY
    wrong = chooser.random(counted.shape) < 0.1
    tokens = np.where(wrong, chooser.integers(VOCABULARY, size=counted.shape), counted)
    of = np.broadcast_to(np.arange(LENGTH) >= LENGTH // 3, (BATCH, LENGTH)).astype(np.int64)
    rows, length = (BATCH // 2, LENGTH // 2) if step <= SMALL else (BATCH, LENGTH)
    arrays = [tokens[:, :-1], tokens[:, 1:], *([of] if documents else [])]
    return [torch.from_numpy(each[:rows, :length].copy()) for each in arrays]


@functools.lru_cache
def reference(training_json: str, documents: bool) -> dict[str, Any]:
    """Train the model of a configuration in a loop without any engine."""
    training = TrainingConfig.model_validate_json(training_json)
    torch.manual_seed(training.seed)
    model = Transformer(training.model, VOCABULARY)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    average = {name: w.clone() for name, w in first.items()}
    optimizer = build_optimizer(training.optimizer, model)
    losses, norms = list[float](), list[float]()
    for step in range(STEPS):
        loss = model(*sequences(step, documents=documents), reduction="mean")
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clipping)
        if step not in (POISONED, REFUSED):
            optimizer.step()
            taken = sum(before not in (POISONED, REFUSED) for before in range(step))
            for name, p in model.named_parameters():
                average[name].lerp_(p.detach(), 1 - AVERAGED.kept(taken))
        optimizer.zero_grad()
        losses.append(loss.item())
        norms.append(norm.item())
    with torch.no_grad():
        inputs, targets, *of = sequences(STEPS, documents=documents)
        validation = model(inputs, targets, *of, reduction="sum").item()
        logits = model.logits(inputs[:2])[torch.arange(2), torch.tensor([3, LENGTH - 1])]
        weights = {name: p.detach().clone() for name, p in sorted(model.named_parameters())}
        for name, p in model.named_parameters():
            p.copy_(average[name])
        averaged = model(inputs, targets, *of, reduction="sum").item()
    return {
        "losses": losses,
        "norms": norms,
        "validation": validation,
        "averaged": averaged,
        "logits": logits.tolist(),
        "parameters": sum(w.numel() for w in weights.values()),
        "weights": weights,
        "first": first,
        "average": average,
    }


def poisoned(_module: Any, _inputs: Any, output: Any) -> Any:
    """Make what a network returned not finite."""
    return output * math.nan if isinstance(output, Tensor) else tuple(poisoned(None, None, each) for each in output)


def measure_apart(engine: Engine) -> None:
    """Let ranks come to norms that differ a little, as where a GPU adds up in no fixed order."""
    passes, rank = engine._gate.passes, torch.distributed.get_rank()
    engine._gate.passes = lambda norm: passes(norm * (1 + 1e-6 * rank))  # type: ignore[method-assign]


def share(engine: Engine, step: int, *, documents: bool) -> list[list[Tensor]]:
    """Return this rank's micro-batches of a step."""
    whole = sequences(step, documents=documents)
    rows = len(whole[0]) // engine.execution.replicas
    micro = min(engine.execution.plan(BATCH)[0], rows)
    first = engine.execution.replica(torch.distributed.get_rank()) * rows
    return [[each[at : at + micro] for each in whole] for at in range(first, first + rows, micro)]


def train(engine: Engine, folder: Path, *, first: int = 0, documents: bool) -> dict[str, Any]:
    """Train from step `first` on and return loss and norm of each step, and what the model is in the end."""
    begun = engine.full_weights()
    if engine.execution.ranks_per_replica > 1:
        measure_apart(engine)
    average = Average(AVERAGED, engine) if engine.execution.offload_parameters != "nvme" else None
    held = folder / f"average-{engine.place}.pt"
    if first:
        engine.load(folder)
        if average is not None:
            average.restore(torch.load(held, weights_only=True))
    losses: list[float | None] = []
    norms: list[float | None] = []
    told: list[tuple[float, float]] = []
    for step in range(first, STEPS):
        if step == SAVED and not first:
            engine.save(folder)
            if average is not None and engine.first_of_its_place:
                torch.save(average.state(), held)

        if step == SAVED and engine.execution.nvme_path is not None:  # that reads ahead for a backward pass
            engine.summed_loss(share(engine, STEPS, documents=documents)[0])

        def decide(loss: float, norm: float, step: int = step) -> bool:
            told.append((loss, norm))
            return step != REFUSED

        batches = share(engine, step, documents=documents)
        # Counted targets weigh the same as a mean over all, where all micro-batches have as many.
        scored = sequences(step, documents=False)[1].numel() if step % 2 else None
        poison = []
        if step == POISONED and torch.distributed.get_rank() == 1:
            poison = [engine.model.register_forward_hook(poisoned)]
        loss, norm = engine.step(batches, 1.0, scored, decide)
        for hook in poison:
            hook.remove()
        if norm is not None and step != REFUSED and average is not None:
            average.update()
        losses.append(loss if math.isfinite(loss) else None)
        norms.append(norm)
    batches = share(engine, STEPS, documents=documents)

    def validated() -> float:
        return sum_over_replicas([sum(engine.summed_loss(b) for b in batches)], engine.execution, engine.device)[0]

    everywhere: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, told)
    averaged = None
    if average is not None:
        with average.in_place():
            averaged = validated()
    nats = validated()
    logits = engine.logits_at(sequences(STEPS, documents=False)[0][:2], torch.tensor([3, LENGTH - 1]))
    return {
        "losses": losses,
        "norms": norms,
        "told": told,
        "told_alike": all(each == told for each in everywhere),
        "validation": nats,
        "logits": logits.tolist(),
        "bad": engine.bad_steps,
        "parameters": engine.parameters,
        "weights": engine.full_weights(),
        "first": begun,
        "averaged": averaged,
        "average": engine.whole(average.shares()) if average is not None else {},
    }


def run(case: dict[str, Any], folder: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a case whole, then, if it can be, again from its checkpoint in a new engine; return what both gave."""
    training, execution = TrainingConfig.model_validate(case["training"]), ExecutionConfig(**case["execution"])
    results = []
    for first in (0, SAVED) if execution.nvme_path is None else (0,):  # of a disk not all is restored
        with patch.object(network, "initialise", wraps=network.initialise) as made_whole:
            engine = build_engine(
                training, execution, vocab_size=VOCABULARY, precision=training.precision, device=device
            )
        results.append(train(engine, folder, first=first, documents=case["documents"]))
        results[-1]["made_whole"] = made_whole.called
        if execution.nvme_path is not None:
            files = [path.relative_to(execution.nvme_path).as_posix() for path in execution.nvme_path.rglob("*.swp")]
            kinds = {"optimizer": "/optimizer/", "parameters": "params/"}
            results[-1]["on_disk"] = [kind for kind, part in kinds.items() if any(part in each for each in files)]
        torch.distributed.barrier()
        engine.close()
        del engine
        gc.collect()
    return results[0], dict(results[-1])


def digest(weights: dict[str, Tensor]) -> str:
    """Return a hash of the bits of all weights."""
    return hashlib.sha256(b"".join(w.numpy().tobytes() for _, w in sorted(weights.items()))).hexdigest()


def far(weights: dict[str, Tensor], should: dict[str, Tensor]) -> tuple[float, float]:
    """Return how far weights are from what they should be: at most, and in the mean."""
    apart = torch.cat([(w - should[name]).abs().flatten() for name, w in weights.items() if name in should])
    return apart.max().item(), apart.mean().item()


def main(folder: Path) -> None:
    """Run every case and write what each gave, beside the reference of its model."""
    device = initialise_processes(1)
    sharded.AT_ONCE = 3000  # two or three matrices: Muon has several rounds to go
    deepspeed_config.FROM_DISK = 1_000_000  # two of the wide ones
    results = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        sys.stdout.write(f"case {name}\n")
        whole, again = run(case, folder / name, device)
        if torch.distributed.get_rank() == 0:
            same = {**case["training"], "precision": "fp32"}
            expected = dict(reference(json.dumps(same), case["documents"]))
            should = {kind: expected.pop(kind) for kind in ("first", "weights", "average")}
            rounded = getattr(torch, {"bf16": "bfloat16"}.get(case["training"]["precision"], "float32"))
            should["first"] = {name: w.to(rounded).float() for name, w in should["first"].items()}
            expected["names"] = sorted(should["weights"])
            expected["first"] = digest(should.pop("first"))
            for result in (whole, again):
                weights = {kind: result.pop(kind) for kind in ("first", "weights", "average")}
                result["names"] = sorted(weights["weights"])
                result |= {kind: digest(held) for kind, held in weights.items()}
                result["far"] = {kind: far(weights[kind], held) for kind, held in should.items() if weights[kind]}
            results[name] = {"whole": whole, "again": again, "expected": expected}
    if torch.distributed.get_rank() == 0:
        (folder / "results.json").write_text(json.dumps(results))
    torch.distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what is left of a process group now and then aborts an orderly exit
