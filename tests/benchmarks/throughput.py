"""Tokens a second, MFU, memory and the wait for data of GPT-2's shapes, in real training steps on synthetic tokens.

    python -m tests.benchmarks.throughput                       124 M, 350 M and 1.3 B on a GPU, else two tiny shapes
    python -m tests.benchmarks.throughput --quick               the same in fewer and smaller steps
    python -m tests.benchmarks.throughput --sizes 1.3b          one of them; the result file keeps the others

On a GPU: a CUDA build of torch, a C compiler and Python's headers (Triton compiles with them) are all it takes.
`python -m tests.benchmarks.on_a_gpu` tries, before it measures, what else only a GPU runs.  A size takes one to three
minutes, of which compiling takes one; --limit-seconds ends one that hangs, and the next is measured all the same.

Sequences of 2,048 tokens, a vocabulary of 50,304 (128 times 393), bf16 weights with an fp32 master copy under ZeRO-1,
fused AdamW, torch.compile, no activation checkpointing.  Each size is trained by the trainer itself
(`Trainer.train_step`: data, forward, backward, clipping, update, curve, TensorBoard) in a process of its own; steps
that compile and warm up are left out, and the device is waited for at both ends of what is timed.  Where memory is
short, half the micro-batch is tried.

MFU counts what the network multiplies and whole attention matrices (models/telemetry/flops.py): for these shapes 6 N +
12 L D T a token (PaLM, arXiv 2204.02311, appendix B), where N has the tied embedding once, as head, and no positions;
as the published figures of PaLM, llm-foundry and nanochat do.

Writes tests/benchmarks/results/throughput_{device}.json after each size; ends with status 1 where one failed.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from infra.artifacts import Attempt
from infra.errors import MillraceError
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


def recipe(size: str, micro_batch: int, *, batch: int | None = None) -> dict[str, Any]:
    """Return the training of a size, with its own batch by default."""
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
        "guard": None,  # a step that is skipped is a shorter one
        "steps": 100_000,
        "batch": batch or chosen["batch"],
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
    warm_up_seconds = time.perf_counter() - began
    log.info("%d steps to warm up: %.1f s", warm_up, warm_up_seconds)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()  # compiling tries kernels out
    waited = trainer.meter.data_seconds
    began = time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    wait()
    seconds = time.perf_counter() - began
    training = job.training
    tokens = steps * training.batch * training.window
    device = torch.cuda.get_device_name() if on_gpu else "CPU"
    flops_per_second = steps * step_flops(training, job.vocab_size) / seconds
    mfu, reason = utilisation(
        flops_per_second=flops_per_second,
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
        "warm_up_seconds": round(warm_up_seconds, 1),
        "step_ms": round(1000 * seconds / steps, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "tflops_per_second": round(flops_per_second / 1e12, 3),
        "mfu": None if mfu is None else round(mfu, 4),
        "mfu_reason": reason,
        "loss": trainer.state.curve.rows[-1]["loss"],
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


def run(size: str, *, warm_up: int, steps: int, quick: bool = False, limit: float | None = None) -> dict[str, Any]:
    """Measure a size in a process of its own, with a micro-batch that fits; raises RuntimeError where none does.

    quick: with a step of two micro-batches; limit: most seconds for each micro-batch that is tried.
    """
    chosen: dict[str, Any] = {**GPU, **CPU}[size]
    batch = min(chosen["batch"], 2 * chosen["micro_batch"]) if quick else chosen["batch"]
    micro: int | None = chosen["micro_batch"]
    while micro is not None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            vocabulary, tokens = (1024, 1 << 17) if size in CPU else (50_304, 1 << 24)
            made = synthetic_tokens(folder / "corpus", vocab_size=vocabulary, tokens=tokens, shards=4)
            cfg = PretrainConfig.model_validate(recipe(size, micro, batch=batch))
            job = make_job(cfg, *made, Attempt.at(folder / "out"))
            (folder / "job.json").write_text(job.model_dump_json())
            arguments = [str(folder / "job.json"), str(folder / "said.json"), str(warm_up), str(steps)]
            lines: deque[str] = deque(maxlen=30)
            status = run_group(
                ["-m", "tests.benchmarks.throughput", "--rank", *arguments],
                env={"OMP_NUM_THREADS": str(job.threads)},
                on_line=lines.append,
                timeout=limit,
            )
            if (folder / "said.json").exists():
                found: dict[str, Any] = json.loads((folder / "said.json").read_text())
                return found
        if status != OUT_OF_MEMORY:
            raise RuntimeError(f"{size}: the rank ended with status {status}: " + "\n".join(lines))
        log.warning("%s: micro_batch=%d is too much for the memory", size, micro)
        micro = job.execution.smaller_micro_batch(batch)
    raise RuntimeError(f"{size}: not even one sequence fits into memory")


def main(argv: list[str] | None = None) -> int:
    """Measure the sizes and write the result; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=[*GPU, *CPU, "gpu", "cpu"])
    parser.add_argument("--steps", type=int, help="timed steps (default 10, quick 4)")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="steps of two micro-batches, and fewer")
    parser.add_argument("--limit-seconds", type=float, default=400.0, help="most seconds for a size")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps = args.steps or (4 if args.quick else 10)
    asked = args.sizes or ["gpu" if _has_gpu() else "cpu"]
    sizes = [size for name in asked for size in {"gpu": list(GPU), "cpu": list(CPU)}.get(name, [name])]
    failed = []
    for size in sizes:
        try:
            found = run(size, warm_up=args.warm_up, steps=steps, quick=args.quick, limit=args.limit_seconds)
        except (RuntimeError, MillraceError) as exc:  # the other sizes are measured all the same
            log.error("%s: %s", size, exc)
            failed.append(size)
            continue
        log.info("%s: %s", size, found)
        # Written after each size: what is measured is not lost where a later size fails.
        _add(args.results, size, {"command": _command(size, quick=args.quick), **found})
    return 1 if failed else 0


def _command(size: str, *, quick: bool) -> str:
    return f"python -m tests.benchmarks.throughput --sizes {size}" + " --quick" * quick


def _add(results: Path, size: str, found: dict[str, Any]) -> None:
    """Put what was found of a size into its device's file, beside other sizes."""
    device = re.sub(r"[^a-z0-9]+", "-", found["device"].lower())
    path = results / f"throughput_{device}.json"
    known = json.loads(path.read_text())["sizes"] if path.exists() else {}
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"sizes": {**known, size: found}}, indent=1) + "\n")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        status = rank(sys.argv[2:])
        sys.stdout.flush()
        os._exit(status)  # as models.train ends
    sys.exit(main())
