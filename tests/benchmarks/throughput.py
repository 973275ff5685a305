"""Tokens a second, MFU, memory and the wait for data of GPT-2's shapes, in real training steps on synthetic tokens.

    python -m tests.benchmarks.throughput                       124 M, 350 M and 1.3 B on a GPU; `--sizes cpu` elsewhere
    python -m tests.benchmarks.throughput --sizes cpu           two tiny shapes, in seconds

Sequences of 2,048 tokens, a vocabulary of 50,304, bf16 weights with an fp32 master copy under ZeRO-1, fused AdamW,
torch.compile, no activation checkpointing.  Each size is trained by the trainer itself (`Trainer.train_step`: data,
forward, backward, clipping, update, curve, TensorBoard) in a process of its own; steps that compile and warm up are
left out, and the device is waited for at both ends of what is timed.  Where memory is short, half the micro-batch is
tried.

MFU counts what the network multiplies and whole attention matrices (models/telemetry/flops.py): for these shapes 6 N +
12 L D T a token, as the published figures of PaLM, llm-foundry and nanochat do.

Writes tests/benchmarks/results/throughput_{device}.json.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from infra.artifacts import Attempt
from infra.launch import run_group
from models.job import Job
from tasks.pretrain import PretrainConfig, make_job
from tests.benchmarks.synthetic_tokens import synthetic_tokens

log = logging.getLogger("throughput")

RESULTS: Final = Path(__file__).parent / "results"

GPU: Final = {
    # layers, width, heads: GPT-2 small and medium; GPT-3 XL (arXiv 2005.14165, table 2.1), with heads of 128
    "124m": {"shape": (12, 768, 12), "batch": 256, "micro_batch": 32},
    "350m": {"shape": (24, 1024, 16), "batch": 128, "micro_batch": 16},
    "1.3b": {"shape": (24, 2048, 16), "batch": 64, "micro_batch": 8},
}
CPU: Final = {
    "cpu-0.5m": {"shape": (2, 128, 2), "batch": 8, "micro_batch": 4},
    "cpu-4m": {"shape": (4, 256, 4), "batch": 8, "micro_batch": 4},
}
OUT_OF_MEMORY: Final = 77


def recipe(size: str, micro_batch: int) -> dict[str, Any]:
    """Return the training of a size."""
    on_cpu = size in CPU
    chosen: dict[str, Any] = {**GPU, **CPU}[size]
    layers, width, heads = chosen["shape"]
    return {
        "model": {
            "preset": "gpt2-124m", "layers": layers, "width": width, "heads": heads,
            "sequence_length": 256 if on_cpu else 2048,
        },
        "optimizer": {"kind": "adamw", "learning_rate": 3e-4},
        "schedule": {"kind": "constant", "warmup_steps": 0},
        "precision": "bf16",
        "steps": 100_000,
        "batch": chosen["batch"],
        "execution": {
            "zero_stage": 1, "micro_batch": micro_batch, "compile": not on_cpu, "check_memory": False,
        },
    }  # fmt: skip


def measure(job: Job, *, warm_up: int, steps: int) -> dict[str, Any]:
    """Train for some steps in this process and say how fast that was."""
    import torch

    from models.telemetry import memory, step_flops, utilisation
    from models.trainer import Trainer

    trainer = Trainer(job)
    trainer.resume()
    on_gpu = trainer.device.type == "cuda"

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    began = time.perf_counter()
    for _ in range(warm_up):
        trainer.train_step()
    wait()
    log.info("%d steps to warm up: %.1f s", warm_up, time.perf_counter() - began)
    waited = trainer.meter.data_seconds
    began = time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    wait()
    seconds = time.perf_counter() - began
    training = job.training
    tokens = steps * training.batch * training.window
    device = torch.cuda.get_device_name() if on_gpu else "CPU"
    mfu, reason = utilisation(
        flops_per_second=steps * step_flops(training, job.vocab_size) / seconds,
        device=device,
        precision=training.precision,
        ranks=1,
    )
    return {
        "device": device,
        "torch": str(torch.__version__),
        "parameters": trainer.engine.parameters,
        "sequence_length": training.window,
        "batch": training.batch,
        "micro_batch": job.execution.micro_batch,
        "compile": job.execution.compile,
        "precision": training.precision,
        "steps": steps,
        "step_ms": round(1000 * seconds / steps, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "mfu": None if mfu is None else round(mfu, 4),
        "mfu_reason": reason,
        "data_wait": round((trainer.meter.data_seconds - waited) / seconds, 5),
        **memory(),
    }


def rank(argv: list[str]) -> int:
    """Be the process that measures; returns its exit status."""
    job_file, said, warm_up, steps = argv
    job = Job.model_validate_json(Path(job_file).read_bytes())
    try:
        Path(said).write_text(json.dumps(measure(job, warm_up=int(warm_up), steps=int(steps))))
    except Exception as exc:
        if "out of memory" not in str(exc).lower():
            raise
        log.warning("%s", exc)
        return OUT_OF_MEMORY
    return 0


def run(size: str, *, warm_up: int, steps: int) -> dict[str, Any]:
    """Measure a size in a process of its own, with a micro-batch that fits."""
    chosen: dict[str, Any] = {**GPU, **CPU}[size]
    micro: int | None = chosen["micro_batch"]
    while micro is not None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            vocabulary, tokens = (1024, 1 << 17) if size in CPU else (50_304, 1 << 24)
            made = synthetic_tokens(folder / "corpus", vocab_size=vocabulary, tokens=tokens, shards=4)
            cfg = PretrainConfig.model_validate(recipe(size, micro))
            job = make_job(cfg, *made, Attempt.at(folder / "out"))
            (folder / "job.json").write_text(job.model_dump_json())
            arguments = [str(folder / "job.json"), str(folder / "said.json"), str(warm_up), str(steps)]
            lines: list[str] = []
            status = run_group(
                ["-m", "tests.benchmarks.throughput", "--rank", *arguments],
                env={"OMP_NUM_THREADS": str(job.threads)},
                on_line=lines.append,
            )
            if (folder / "said.json").exists():
                found: dict[str, Any] = json.loads((folder / "said.json").read_text())
                return found
        if status != OUT_OF_MEMORY:
            raise RuntimeError(f"{size}: the rank ended with status {status}: " + "\n".join(lines[-30:]))
        log.warning("%s: micro_batch=%d is too much for the memory", size, micro)
        micro = job.execution.smaller_micro_batch(chosen["batch"])
    raise RuntimeError(f"{size}: not even one sequence fits into memory")


def main(argv: list[str] | None = None) -> None:
    """Measure the sizes and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=[*GPU, *CPU, "gpu", "cpu"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asked = args.sizes or ["gpu" if _has_gpu() else "cpu"]
    sizes = [size for name in asked for size in {"gpu": list(GPU), "cpu": list(CPU)}.get(name, [name])]
    found: dict[str, Any] = {}
    for size in sizes:
        found[size] = run(size, warm_up=args.warm_up, steps=args.steps)
        log.info("%s: %s", size, found[size])
        device = re.sub(r"[^a-z0-9]+", "-", found[size]["device"].lower())
        path = args.results / f"throughput_{device}.json"
        # Written after each size: what is measured is not lost where a later size fails.
        command = f"python -m tests.benchmarks.throughput --sizes {' '.join(asked)}"
        path.write_text(json.dumps({"command": command, "sizes": found}, indent=1) + "\n")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        status = rank(sys.argv[2:])
        sys.stdout.flush()
        os._exit(status)  # as models.train ends
    main()
