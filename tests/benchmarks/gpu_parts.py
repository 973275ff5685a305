"""What tests/benchmarks/on_a_gpu.py tries, a part in one rank:  python -m tests.benchmarks.gpu_parts PART DEVICE FILE

Every check notes what it found in FILE, by name, and whether that is as it should be; one that fails says how.
"""

import functools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from models.config import ExecutionConfig, ModelConfig, TrainingConfig
from models.transformer import Transformer

Found = dict[str, Any]

ATTENTION: Final[dict[str, dict[str, Any]]] = {
    "documents": {},
    "windows": {"sliding_window": 48, "global_every": 2},
    "soft-cap": {"attention_softcap": 20.0},
    "grouped heads": {"kv_heads": 2},
    "an encoder": {"family": "encoder"},
}
"""Shapes by what is masked; documents are told apart in all of them."""

STAGES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    # optimiser, precision, execution
    "0 in fp32": ("adamw", "fp32", {}),
    "0 in bf16_autocast": ("adamw", "bf16_autocast", {}),
    "1 in bf16": ("adamw", "bf16", {"zero_stage": 1}),
    "2 in bf16": ("adamw", "bf16", {"zero_stage": 2}),
    "3 in bf16": ("adamw", "bf16", {"zero_stage": 3}),
    "1 offloaded": ("adamw", "bf16", {"zero_stage": 1, "offload_optimizer": "cpu"}),
    "3 offloaded": ("adamw", "bf16", {"zero_stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"}),
    "muon": ("muon", "bf16_autocast", {}),
    "muon under 1": ("muon", "bf16", {"zero_stage": 1}),
    "lamb": ("lamb", "bf16_autocast", {}),
    "lion under 2": ("lion", "bf16", {"zero_stage": 2}),
    "adafactor": ("adafactor", "bf16_autocast", {}),
}


class Notes:
    """What the checks of a part found, kept in a file."""

    def __init__(self, file: Path, device: torch.device) -> None:
        self.device = device
        self._file, self._found = file, dict[str, Found]()

    def check(self, name: str, called: Callable[[], Found]) -> None:
        """Note what a check returns; `ok` in it says whether all is well (it is by default), as does an exception."""
        began = time.perf_counter()
        try:
            found = {"ok": True, **called()}
        except Exception:
            found = {"ok": False, "error": traceback.format_exc()[-3000:]}
        self._found[name] = {**found, "seconds": round(time.perf_counter() - began, 2)}
        self._file.write_text(json.dumps(self._found, default=str))


def environment(notes: Notes) -> None:
    """Note what is there, and what would be chosen."""
    from models.engine import resolve_precision

    notes.check("torch", lambda: {"torch": torch.__version__, "cuda": torch.version.cuda, "device": notes.device})
    if notes.device.type == "cuda":
        from models.telemetry import peak_flops

        name = torch.cuda.get_device_name()
        notes.check("card", lambda: {"name": name, "capability": torch.cuda.get_device_capability(),
                                     "peak": peak_flops(name), "ok": peak_flops(name) is not None})  # fmt: skip
        notes.check("cudnn", lambda: {"version": torch.backends.cudnn.version()})
        notes.check("nccl", lambda: {"version": torch.cuda.nccl.version()})
        said = functools.partial(subprocess.run, ["nvidia-smi"], capture_output=True, text=True, check=True)
        notes.check("driver", lambda: {"nvidia-smi": said().stdout.splitlines()[:14]})
    notes.check("precision", lambda: {"auto": resolve_precision("auto")})
    notes.check("process group", lambda: {"backend": torch.distributed.get_backend()})


def attention(notes: Notes) -> None:
    """Compare FlexAttention with a dense mask; on a CPU, which trains through dense masks only, what it returns."""
    on_gpu = notes.device.type == "cuda"
    for case, shape in ATTENTION.items():
        for compiled in (False, True) if on_gpu else (False,):
            for dtype in (torch.bfloat16, torch.float32) if on_gpu else (torch.float32,):
                name = f"{case}, {dtype}{', compiled' * compiled}"
                notes.check(name, functools.partial(_flex_beside_dense, notes.device, shape, dtype, compiled=compiled))


def _flex_beside_dense(device: torch.device, shape: dict[str, Any], dtype: torch.dtype, *, compiled: bool) -> Found:
    exact = _passes(device, shape, torch.float32, backend="sdpa", compiled=False)
    dense = _passes(device, shape, dtype, backend="sdpa", compiled=False)
    flex = _passes(device, shape, dtype, backend="flex", compiled=compiled)
    near, far = _distance(dense, exact), _distance(flex, exact)
    return {"dense": near, "flex": far, "ok": far <= 2 * near + 1e-3}


def _passes(device: torch.device, shape: dict[str, Any], dtype: torch.dtype, *, backend: str, compiled: bool) -> Tensor:
    """Return losses and gradients of a small network, all in a row; losses alone on a CPU."""
    from models.transformer.masks import Backend

    torch.compiler.reset()
    cfg = ModelConfig.model_validate({"layers": 2, "heads": 4, "width": 256, "sequence_length": 256, **shape})
    torch.manual_seed(0)
    network = Transformer(cfg, 512)
    torch.nn.init.normal_(network.lm_head.weight, std=0.05)
    for block in network.blocks:  # where a branch begins with zeros, nothing would be seen of it
        torch.nn.init.normal_(block.attention.output.weight, std=0.05)
    network = network.to(device, dtype)
    network.prepare(compiled=compiled)
    found = []
    chosen = Backend(backend, "asked for")  # type: ignore[arg-type]
    with mock.patch("models.transformer.context.attention_backend", return_value=chosen):
        for rows, length in ((2, 256), (1, 200)):
            tokens = torch.arange(rows * length, device=device).view(rows, length) * 7 % 512
            documents = (torch.arange(length, device=device) // 90).expand(rows, length).contiguous()
            with torch.set_grad_enabled(device.type == "cuda"):
                losses = network(tokens, tokens.roll(-1, 1), documents, reduction="none")
            found.append(losses.detach().float())
            if losses.requires_grad:
                losses.mean().backward()
                gradients = [p.grad.float().flatten() for p in network.parameters() if p.grad is not None]
                found.append(torch.cat(gradients))
                network.zero_grad()
    return torch.cat(found).double().cpu()


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def compiled(notes: Notes) -> None:
    """Compare compiled networks with plain ones."""
    for checkpointing in ("none", "selective", "full"):
        for documents in (False, True):
            name = f"checkpointing {checkpointing}{', documents' * documents}"
            notes.check(
                name, functools.partial(_compiled_beside_plain, notes.device, checkpointing, documents=documents)
            )


def _compiled_beside_plain(device: torch.device, checkpointing: Any, *, documents: bool) -> Found:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    cfg = ModelConfig.model_validate(
        {"preset": "gpt2-124m", "layers": 3, "heads": 4, "width": 256, "sequence_length": 256}
    )
    losses: dict[bool, list[float]] = {}
    with ExitStack() as stack:
        if device.type == "cpu":  # what is traced is tried there, not what compiles it
            stack.enter_context(mock.patch("torch.compile", functools.partial(torch.compile, backend="aot_eager")))
        for made in (False, True):
            torch.manual_seed(0)
            network = Transformer(cfg, 1024).to(device, torch.bfloat16)
            network.prepare(compiled=made, checkpointing=checkpointing, loss_chunk=100 if documents else None)
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
            losses[made] = []
            for length in (256, 256, 128, 64, 256):
                tokens = torch.arange(2 * length, device=device).view(2, length) * 3 % 1024
                of = (torch.arange(length, device=device) // 50).expand(2, length).contiguous() if documents else None
                loss, plain = network(tokens, tokens.roll(-1, 1), of, reduction="train")
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses[made].append(plain.item())
    breaks = {reason[:200]: times for reason, times in counters["graph_break"].items()}
    far = max(abs(one - other) for one, other in zip(losses[True], losses[False], strict=True))
    return {"plain": losses[False], "compiled": losses[True], "graph breaks": breaks, "ok": far < 0.05 and not breaks}


def _training(optimizer: str, precision: str) -> TrainingConfig:
    rate = 0.02 if optimizer in ("muon", "lamb") else 3e-4 if optimizer == "lion" else 3e-3
    return TrainingConfig.model_validate(
        {
            "model": {"layers": 3, "heads": 4, "width": 64, "sequence_length": 64},
            "optimizer": {"kind": optimizer, "learning_rate": rate},
            "schedule": {"kind": "constant", "warmup_steps": 0},
            "steps": 100,
            "batch": 8,
            "precision": precision,
        }
    )


def _batches(step: int, device: torch.device) -> list[list[Tensor | None]]:
    first = torch.randint(0, 61, (8, 1), generator=torch.Generator().manual_seed(step))
    tokens = ((first + torch.arange(65)) % 61).to(device)
    return [[tokens[at : at + 4, :-1].contiguous(), tokens[at : at + 4, 1:].contiguous()] for at in (0, 4)]


def stages(notes: Notes) -> None:
    """Compare DeepSpeed under each stage with a loop without it, and what is resumed with what was not disturbed."""
    for name, (optimizer, precision, execution) in STAGES.items():
        notes.check(name, functools.partial(_stage, notes.device, _training(optimizer, precision), execution))


def _stage(device: torch.device, training: TrainingConfig, execution: dict[str, Any]) -> Found:
    from models.checkpoints.universal import convert
    from models.engine import build_engine

    def build() -> Any:
        cut = ExecutionConfig(micro_batch=4, **execution)
        return build_engine(training, cut, vocab_size=64, precision=training.precision, device=device)

    engine = build()
    losses = [engine.step(_batches(step, device), 1.0)[0] for step in range(6)]
    expected = _plain_losses(training, 6, device)
    far = max(abs(one - other) for one, other in zip(losses, expected, strict=True))
    found: Found = {"losses": losses, "plain loop": expected}
    with tempfile.TemporaryDirectory() as name:
        engine.snapshot(Path(name, "kept")).write(Path(name, "kept"))
        after = [engine.step(_batches(step, device), 1.0)[0] for step in (6, 7)]
        resumed = build()
        resumed.load(Path(name, "kept"))
        found["after"], found["resumed"] = after, [resumed.step(_batches(step, device), 1.0)[0] for step in (6, 7)]
        near = [abs(one - other) < 1e-3 for one, other in zip(after, found["resumed"], strict=True)]
        if execution.get("zero_stage") and training.optimizer.kind == "adamw":
            convert(Path(name, "kept", "engine"), Path(name, "universal", "engine"))
            cut_anew = build()
            cut_anew.load(Path(name, "universal"), universal=True)
            found["universal"] = [cut_anew.step(_batches(step, device), 1.0)[0] for step in (6, 7)]
            near += [abs(one - other) < 1e-3 for one, other in zip(after, found["universal"], strict=True)]
    return {**found, "ok": far < 0.05 and all(near) and losses[-1] < losses[0]}


def _plain_losses(training: TrainingConfig, steps: int, device: torch.device) -> list[float]:
    """Return the losses of a loop in fp32 without any engine."""
    from models.optimizers import build_optimizer

    torch.manual_seed(training.seed)
    network = Transformer(training.model, 64).to(device)
    optimizer = build_optimizer(training.optimizer, network)
    losses = []
    for step in range(steps):
        both = [network(*batch, reduction="train")[0] / 2 for batch in _batches(step, device)]
        loss = both[0] + both[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clipping)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def fp16(notes: Notes) -> None:
    """Train in fp16 under each stage."""
    from tests.models.fp16_program import run, with_fp16

    def check(stage: int) -> Found:
        with with_fp16():
            found = run(stage, notes.device)
        undisturbed, resumed = found["after"]
        falls = found["rising"][-1][0] < found["rising"][0][0] - 0.3
        alike = abs(undisturbed[0] - resumed[0]) < 1e-3
        return {**found, "ok": falls and alike and found["bad"] == 0 and found["lowest bad"] == 3}

    for stage in (1, 2, 3):
        notes.check(f"stage {stage}", functools.partial(check, stage))


def training(notes: Notes) -> None:
    """Train a whole run."""
    notes.check("a run", functools.partial(_whole_run, notes.device))


def _whole_run(device: torch.device) -> Found:
    from infra.artifacts import Attempt
    from models.job import result_file
    from models.train import main
    from tasks.pretrain import PretrainConfig, make_job
    from tests.benchmarks.synthetic_tokens import synthetic_tokens

    on_gpu = device.type == "cuda"
    with tempfile.TemporaryDirectory() as name:
        made = synthetic_tokens(Path(name, "corpus"), vocab_size=512, tokens=1 << 16)
        cfg = PretrainConfig.model_validate(
            {
                "model": {"layers": 2, "heads": 4, "width": 256, "sequence_length": 128, "sliding_window": 64},
                "optimizer": {"kind": "adamw", "learning_rate": 1e-3}, "schedule": {"kind": "wsd", "warmup_steps": 2},
                "steps": 20, "batch": 8, "precision": "bf16_autocast", "ema": {"decay": 0.9},
                "validate_every": 10, "prompts": ("",), "sample_every": 10, "sample_tokens": 4,
                "length_warmup": {"start": 64, "multiple_of": 64, "steps": 5},
                "execution": {"compile": on_gpu, "micro_batch": 4, "checkpoint_every": 5, "checkpoint_seconds": 0},
            }
        )  # fmt: skip
        job = make_job(cfg, *made, Attempt.at(Path(name, "out")))
        path = Path(name, "job.json")
        path.write_text(job.model_dump_json())
        status = main([str(path)])
        return {**json.loads(result_file(job.scratch).read_text()), "ok": status == 0}


PARTS: Final = {part.__name__: part for part in (environment, attention, compiled, stages, fp16, training)}


def main(argv: list[str]) -> None:
    """Run one part."""
    from models.engine import initialise_processes

    part, asked, file = argv
    logging.basicConfig(level=logging.WARNING)
    device = initialise_processes(1)
    assert device.type == asked, f"asked for {asked}, and torch {torch.__version__} finds {device}"
    PARTS[part](Notes(Path(file), device))


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
