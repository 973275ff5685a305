"""How long a step of the engine takes beside a bare PyTorch loop: same network, batch, optimiser and arithmetic.

    python -m tests.benchmarks.step_time [--rounds 12] [--steps 4]

One process, ZeRO-1, a decoder of 10 million parameters, in fp32 and in bf16.  The engine's side is a whole step of a
real run (`Trainer.train_step`: data, forward, backward, clipping, AdamW, the check for non-finite values, the curve and
TensorBoard).  The bare loop reads the same shard, clips and moves the same weights with torch's fused AdamW, and asks
for its loss once a step.  In bf16 both have weights and gradients in bf16 and a master copy in fp32 that AdamW moves.
The two take turns within one process, `steps` at a time; medians over all steps.

Writes tests/benchmarks/results/step_time.json.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from infra.artifacts import Attempt
from infra.launch import run_group
from infra.settings import usable_cores
from models.job import Job
from tasks.pretrain import PretrainConfig, make_job
from tests.benchmarks.synthetic_tokens import synthetic_tokens

log = logging.getLogger("step_time")

RESULT = Path(__file__).parent / "results" / "step_time.json"

RECIPE: dict[str, Any] = {
    "model": {"layers": 6, "heads": 5, "width": 320, "sequence_length": 256},
    "optimizer": {"kind": "adamw", "learning_rate": 3e-4},
    "schedule": {"kind": "constant", "warmup_steps": 0},
    "steps": 100_000,
    "batch": 8,
    "execution": {"zero_stage": 1},
}
VOCABULARY = 4096


class BareLoop:
    """What a person would write who needs neither ranks nor restarts."""

    def __init__(self, job: Job) -> None:
        import torch

        from models.optimizers import build_optimizer
        from models.transformer import Transformer

        torch.manual_seed(job.training.seed)
        self.job, self.torch = job, torch
        self.model = Transformer(job.training.model, job.vocab_size)
        self.master = None
        optimised: Any = self.model
        if job.training.precision == "bf16":
            self.master = Transformer(job.training.model, job.vocab_size)
            self.master.load_state_dict(self.model.state_dict())
            self.model = self.model.bfloat16()
            optimised = self.master
        self.optimizer = build_optimizer(job.training.optimizer, optimised)
        self.parameters = list(self.model.parameters())
        self.optimised = list(optimised.parameters())
        folder = Path(job.scratch).parent / "corpus" / "tokens" / "train"
        self.tokens = np.memmap(folder / "00000.bin", dtype="<u2", mode="r")
        self.draw = np.random.default_rng(job.training.seed)

    def batch(self) -> tuple[Any, Any]:
        """Return inputs and targets of one step."""
        length = self.job.training.model.sequence_length
        starts = self.draw.integers(0, len(self.tokens) - length - 1, self.job.training.batch)
        rows = np.stack([self.tokens[start : start + length + 1] for start in starts]).astype(np.int64)
        tensor = self.torch.from_numpy(rows)
        return tensor[:, :-1].contiguous(), tensor[:, 1:].contiguous()

    def step(self) -> float:
        """Take one step and return its loss in nats a token."""
        inputs, targets = self.batch()
        loss = self.model(inputs, targets, reduction="mean")
        loss.backward()
        if self.master is not None:
            for mine, p in zip(self.optimised, self.parameters, strict=True):
                assert p.grad is not None
                mine.grad = p.grad.float()
        self.torch.nn.utils.clip_grad_norm_(self.optimised, self.job.training.gradient_clipping)
        self.optimizer.step()
        if self.master is not None:
            with self.torch.no_grad():
                self.torch._foreach_copy_(self.parameters, self.optimised)
        for p in (*self.parameters, *self.optimised):
            p.grad = None
        return float(loss.item())


def measure(job: Job, *, rounds: int, steps: int) -> dict[str, Any]:
    """Let engine and bare loop take turns in this process."""
    from models.trainer import Trainer

    trainer = Trainer(job)
    trainer.resume()
    bare = BareLoop(job)
    sides = {"engine": trainer.train_step, "bare": bare.step}
    for side in sides.values():  # the first steps allocate
        for _ in range(2):
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            for _ in range(steps):
                began, spent = time.perf_counter(), time.process_time()
                sides[name]()
                seconds[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - spent)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    # Load of other processes comes in waves that are longer than a round: rounds are compared with themselves first.
    by_round = [
        statistics.median(seconds["engine"][at : at + steps]) / statistics.median(seconds["bare"][at : at + steps])
        for at in range(0, rounds * steps, steps)
    ]
    return {
        "parameters": trainer.engine.parameters,
        "threads": job.threads,
        "steps": rounds * steps,
        "engine_ms": round(1000 * medians["engine"], 1),
        "bare_ms": round(1000 * medians["bare"], 1),
        "ratio": round(medians["engine"] / medians["bare"], 4),
        "ratio_of_rounds": round(statistics.median(by_round), 4),
        "ratio_of_cpu_seconds": round(statistics.median(processor["engine"]) / statistics.median(processor["bare"]), 4),
        "data_wait": round(trainer.meter.data_seconds / trainer.meter.seconds, 5),
        "losses": {"engine": trainer.state.curve.rows[-1]["loss"], "bare": bare.step()},
    }


def compare(precision: str, *, rounds: int, steps: int) -> dict[str, Any]:
    """Start a rank as training does, and measure in it."""
    with tempfile.TemporaryDirectory() as folder:
        tokens, tokenizer = synthetic_tokens(Path(folder, "corpus"), vocab_size=VOCABULARY, tokens=1 << 20)
        cfg = PretrainConfig.model_validate({**RECIPE, "precision": precision})
        job = make_job(cfg, tokens, tokenizer, Attempt.at(Path(folder, "out")))
        path, said = Path(folder, "job.json"), Path(folder, "said.json")
        path.write_text(job.model_dump_json())
        lines: list[str] = []
        status = run_group(
            ["-m", "tests.benchmarks.step_time", "--rank", str(path), str(said), str(rounds), str(steps)],
            env={"OMP_NUM_THREADS": str(job.threads)},
            on_line=lines.append,
        )
        if not said.exists():
            raise RuntimeError(f"the rank ended with status {status}: " + "\n".join(lines[-15:]))
        found: dict[str, Any] = json.loads(said.read_text())
        return found


def main() -> None:
    """Measure both precisions and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = {}
    for precision in args.precisions:
        found[precision] = compare(precision, rounds=args.rounds, steps=args.steps)
        log.info("%s: %s", precision, found[precision])
    result = {
        "command": "python -m tests.benchmarks.step_time",
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "recipe": RECIPE,
        "vocabulary": VOCABULARY,
        "precisions": found,
    }
    if set(args.precisions) == {"fp32", "bf16"}:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        told = Job.model_validate_json(Path(sys.argv[2]).read_bytes())
        Path(sys.argv[3]).write_text(json.dumps(measure(told, rounds=int(sys.argv[4]), steps=int(sys.argv[5]))))
        sys.stdout.flush()
        os._exit(0)  # as models.train ends
    main()
