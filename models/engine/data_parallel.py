"""Replicas of the model on shares of the batch, under ZeRO 0 to 3, each on one rank or cut over a few (AutoTP)."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.config import ExecutionConfig, TrainingConfig
from models.engine.deepspeed_config import deepspeed_config
from models.engine.gate import Gate, guard_plain, guard_zero
from models.engine.interface import Batch, Decision, Engine
from models.engine.partitions import describe_partitions
from models.engine.tensor_parallel import gather, tensor_parallel_groups
from models.operators import prepare_disk_offload
from models.optimizers import build_optimizer


class DataParallelEngine(Engine):
    """DeepSpeed's engine with our optimiser; every rank runs the whole network, or its share of every matrix."""

    def __init__(
        self,
        training: TrainingConfig,
        execution: ExecutionConfig,
        *,
        vocab_size: int,
        precision: str,
        device: torch.device,
        initial_weights: Path | None = None,
    ) -> None:
        import deepspeed

        super().__init__(training, execution, precision=precision, device=device)
        if "nvme" in (execution.offload_optimizer, execution.offload_parameters):
            prepare_disk_offload()
        self.model = self._build(vocab_size, initial_weights).to(device)
        self._parameters = sum(p.numel() for p in self.model.parameters())
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        config = deepspeed_config(
            training, execution, precision=precision, parameters=self._parameters, on_gpu=device.type == "cuda"
        )
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self.model,
            optimizer=build_optimizer(training.optimizer, self.model, dtype),
            config=config,
            mpu=tensor_parallel_groups(execution.tensor_parallel),
            dist_init_required=False,
        )
        self._gate = Gate()
        if execution.zero_stage:
            guard_zero(self._optimizer, self._gate, stage=execution.zero_stage)
            describe_partitions(self._optimizer, stage=execution.zero_stage, device=device)
        else:
            guard_plain(
                self._engine,
                self.model.parameters(),
                self._gate,
                clipping=training.gradient_clipping,
                sum_squares=self._sum_squares,
            )

    @property
    def _deepspeed(self) -> Any:
        return self._engine

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return self._parameters

    def _train(self, weight: float | None, batches: Sequence[Batch], decide: Decision | None) -> tuple[float, float]:
        losses: list[Tensor] = []
        mean = functools.cache(lambda: self._mean_loss(losses))
        self._gate.open(None if decide is None else lambda norm: decide(mean(), norm))
        self._engine.train()
        if self.execution.offload_optimizer != "none":  # summed on the host where there are several, as ZeRO is told
            self._optimizer.gradient_accumulation_steps = len(batches)
        for number, batch in enumerate(batches, start=1):
            self._engine.set_gradient_accumulation_boundary(number == len(batches))
            loss, plain = self._engine(*batch, reduction="train", weight=weight)
            self._engine.backward(loss / len(batches), scale_wrt_gas=False)
            losses.append(plain.detach())
            self._engine.step()
        return mean(), self._gate.norm

    def _sum_squares(self, cut: Tensor, whole: Tensor) -> Tensor:
        if self.execution.tensor_parallel > 1:
            from deepspeed.utils import groups

            torch.distributed.all_reduce(cut, group=groups.get_tensor_model_parallel_group())
        return cut + whole

    @torch.no_grad()
    def summed_loss(self, batch: Batch) -> float:
        """Return the summed loss in nats of this replica's batch, without training."""
        self._engine.eval()
        return float(self._engine(*batch, reduction="sum").item())

    @torch.no_grad()
    def logits_at(self, inputs_BT: Tensor, positions_B: Tensor) -> Tensor:
        """Return the logits (B, V) of the token after one position of each sequence, on every rank."""
        self._engine.eval()
        logits: Tensor = self._engine(inputs_BT.to(self.device), positions_B.to(self.device), reduction="logits")
        return logits

    @torch.no_grad()
    def full_weights(self) -> dict[str, Tensor]:
        """Return all weights in fp32 on the CPU, whole, by name, on rank 0, and nothing on the others."""
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, p in sorted(self.model.named_parameters()):  # a tied matrix has one name here
            held = safe_get_full_fp32_param(p) if self.execution.zero_stage else None
            whole = gather(name, (held if held is not None else p).detach(), self.execution.tensor_parallel)
            if torch.distributed.get_rank() == 0:
                weights[name] = whole.float().cpu().contiguous().clone()
        return weights
