"""The DeepSpeed engine behind a small surface: build it from our own typed configuration, step it, gather its weights.

DeepSpeed ignores keys that it does not know, so it only ever sees a dictionary made here.  Clipping and the check for
non-finite gradients are ours at ZeRO stage 0, where DeepSpeed has no check and would let NaN into the weights.
"""

import datetime
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.config import ExecutionConfig, TrainingConfig, plan_batch
from models.operators import prepare_operators
from models.optimizers import build_optimizer
from models.transformer import Transformer

log = logging.getLogger(__name__)

_TAG = "engine"


def resolve_precision(precision: str) -> tuple[str, str]:
    """Return the precision to train in and the reason, which is worth printing where it was "auto"."""
    if precision != "auto":
        return precision, "the recipe says so"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16_autocast", f"{torch.cuda.get_device_name()} multiplies bf16 in hardware"
        return "fp32", f"{torch.cuda.get_device_name()} has no bf16 arithmetic"
    if torch.cpu._is_avx512_bf16_supported():
        return "bf16_autocast", "this processor has AVX512-BF16"
    return "fp32", "this processor has no AVX512-BF16, and emulated bf16 is slower than fp32"


def initialise_processes(threads: int) -> torch.device:
    """Set up threads, device and process group of this rank and return the device."""
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
        prepare_operators()
    import deepspeed
    from deepspeed.accelerator import get_accelerator
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    accelerator = get_accelerator()
    if accelerator.device_name() != "cpu":
        accelerator.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False, timeout=datetime.timedelta(minutes=30))
    _release_shared_memory()
    return torch.device(accelerator.current_device_name())


def _release_shared_memory() -> None:
    """Take the name from the shared memory through which DeepSpeed's ranks on a CPU reduce (67 MB of memory a rank).

    DeepSpeed never removes it (csrc/cpu/comm/shm.cpp), so that each run would cost the machine memory until it is
    restarted.  Once every rank has opened it the name is not needed: the memory goes when the last rank does.
    """
    torch.distributed.barrier()
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{os.environ['MASTER_ADDR']}_{os.environ['MASTER_PORT']}"
    Path("/dev/shm", f"{name}_{os.environ['RANK']}").unlink(missing_ok=True)


def sum_over_ranks(values: Sequence[float], device: torch.device) -> list[float]:
    """Return each of the values summed over all ranks, in fp64; every rank must call it."""
    if torch.distributed.get_world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    return [float(v) for v in tensor.tolist()]


def deepspeed_config(training: TrainingConfig, execution: ExecutionConfig, precision: str) -> dict[str, Any]:
    """Return DeepSpeed's configuration: every key that it needs, none that it would guess."""
    micro, accumulation = plan_batch(batch=training.batch, ranks=execution.ranks, micro_batch=execution.micro_batch)
    stage = execution.zero_stage
    config: dict[str, Any] = {
        "train_batch_size": training.batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": training.gradient_clipping if stage else 0.0,
        "steps_per_print": 1 << 31,
        "zero_optimization": {"stage": stage},
    }
    if precision == "bf16":
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
    elif precision == "bf16_autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


class Engine:
    """One rank's share of the model being trained."""

    def __init__(
        self,
        training: TrainingConfig,
        execution: ExecutionConfig,
        *,
        vocab_size: int,
        precision: str,
        device: torch.device,
    ) -> None:
        import deepspeed

        torch.manual_seed(training.seed)
        self.model = Transformer(training.model, vocab_size).to(device)
        self.training, self.execution, self.precision, self.device = training, execution, precision, device
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        optimizer = build_optimizer(training.optimizer, self.model, dtype)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self.model,
            optimizer=optimizer,
            config=deepspeed_config(training, execution, precision),
            dist_init_required=False,
        )
        self.bad_steps = 0
        self._micro_batches = (
            training.batch
            // plan_batch(batch=training.batch, ranks=execution.ranks, micro_batch=execution.micro_batch)[0]
        )

    def step(
        self, batches: Iterable[Sequence[Tensor | None]], fraction: float, scored: int | None = None
    ) -> tuple[float, float | None]:
        """Take one optimiser step over this rank's micro-batches at `fraction` of the peak rates.

        A micro-batch is what `models.data.Batch` holds, as tensors, without the last ones where these are None.
        `scored` targets of the step count, over all ranks; None where all do.  Where they are counted, each has the
        same weight whatever micro-batch it is in.

        Returns this rank's mean loss in nats a token and the norm of the whole gradient before clipping, None if the
        gradient was not finite: then the step is skipped on every rank, and counted.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * fraction
        self._engine.train()
        losses = []
        norm: float | None = math.nan
        for batch in batches:
            if scored is None:
                loss = self._engine(*batch, reduction="mean")
            else:
                loss = self._engine(*batch, reduction="sum") * (self._micro_batches / max(scored, 1))
            self._engine.backward(loss)
            losses.append(loss.detach())
            if self.execution.zero_stage == 0 and self._engine.is_gradient_accumulation_boundary():
                norm = self._clip()
            self._engine.step()
        if self.execution.zero_stage:
            norm = float(self._engine.get_global_grad_norm()) if self._engine.was_step_applied() else None
        if norm is None or not math.isfinite(norm):
            self.bad_steps += 1
            norm = None
        return torch.stack(losses).float().mean().item(), norm

    def _clip(self) -> float | None:
        """Clip the gradients, or drop them if they are not finite: an optimiser passes over what has none."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm_tensor = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = norm_tensor.item()
        if not math.isfinite(norm):
            for p in parameters:
                p.grad = None
            return None
        if self.training.gradient_clipping:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.training.gradient_clipping, norm_tensor)
        return norm

    @torch.no_grad()
    def summed_loss(self, batch: Sequence[Tensor | None]) -> float:
        """Return the summed loss in nats of one batch, without training; every rank must call it equally often."""
        self._engine.eval()
        return float(self._engine(*batch, reduction="sum").item())

    def save(self, folder: Path) -> None:
        """Write this rank's state below a local folder; every rank must call it."""
        self._engine.save_checkpoint(
            str(folder), tag=_TAG, client_state={"millrace_bad_steps": self.bad_steps}, save_latest=False
        )

    def load(self, folder: Path) -> None:
        """Restore the state that `save` wrote; every rank must call it."""
        path, state = self._engine.load_checkpoint(str(folder), tag=_TAG)
        if path is None:  # DeepSpeed only logs this and would train from scratch
            raise FileNotFoundError(f"DeepSpeed found no checkpoint in {folder}")
        self.bad_steps = int(state["millrace_bad_steps"])

    def full_weights(self) -> dict[str, Tensor]:
        """Return all weights in fp32 on the CPU, whole, by name; every rank must call it. A tied head is left out."""
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, p in sorted(self.model.named_parameters()):  # a tied matrix has one name here
            whole = safe_get_full_fp32_param(p) if self.execution.zero_stage else None
            weights[name] = (whole if whole is not None else p).detach().float().cpu().contiguous().clone()
        return weights

    def random_state(self) -> dict[str, Any]:
        """Return the states of this rank's random generators."""
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `random_state` returned."""
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"])
