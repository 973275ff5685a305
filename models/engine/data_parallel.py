"""Replicas of the model on shares of the batch, under ZeRO 0 to 3, each on one rank or cut over a few (AutoTP)."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.config import ExecutionConfig, TrainingConfig
from models.engine.deepspeed_config import deepspeed_config
from models.engine.disk import whole_from_disk
from models.engine.gate import Gate
from models.engine.interface import Batch, Decision, Engine
from models.engine.precision import newton_schulz_dtype
from models.engine.processes import sum_over_replicas
from models.engine.shares import partition
from models.engine.tensor_parallel import gather, tensor_parallel_groups
from models.optimizers import build_optimizer
from models.weights import first_weights


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
        if execution.tensor_parallel > 1:
            self._gate = Gate(self._agreed)
        if execution.nvme_path is not None:
            self._prepare_disk()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        # AutoTP cuts whole matrices, so that only without it each can be cut as soon as it is there.
        hollow = execution.zero_stage == 3 and execution.tensor_parallel == 1
        self.model = self._build(vocab_size, initial_weights, hollow=hollow)
        config = deepspeed_config(
            training,
            execution,
            precision=precision,
            parameters=self.parameters,
            largest=max(p.numel() for p in self.model.parameters()),
            on_gpu=device.type == "cuda",
        )
        if not hollow:
            self.model.to(device)
        multiplied_in = newton_schulz_dtype(precision)
        optimizer = build_optimizer(training.optimizer, self.model, multiplied_in)  # while parameters have shapes
        if hollow:
            partition(self.model, first_weights(self.model, initial_weights), config, dtype)
        self._draw_apart()
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self.model,
            optimizer=optimizer,
            config=config,
            mpu=tensor_parallel_groups(execution.tensor_parallel),
            dist_init_required=False,
        )
        self._guard(self.model.parameters())

    @property
    def _deepspeed(self) -> Any:
        return self._engine

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

    def _agreed(self, norm: float) -> float:
        """Return one norm for all ranks: those of a replica may differ in the last bit, and then over a step."""
        return sum_over_replicas([norm], self.execution, self.device)[0] / self.execution.replicas

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

        def of_replica(p: Tensor) -> Tensor:
            held: Tensor | None = safe_get_full_fp32_param(p) if self.execution.zero_stage else None
            return p if held is None else held

        if self.execution.offload_optimizer == "nvme":
            return self._gathered(whole_from_disk(self._optimizer, self.model))
        return self._gathered((name, of_replica(p)) for name, p in self.model.named_parameters())

    def shares(self) -> dict[str, Tensor]:
        """Return what this rank holds of each parameter: under ZeRO-3 a stretch of its elements, filled up to equal."""
        named: Iterable[tuple[str, Any]] = self.model.named_parameters()
        return {name: p.ds_tensor if self.execution.zero_stage == 3 else p.detach() for name, p in named}

    @torch.no_grad()
    def whole(self, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return on rank 0, in fp32 on the CPU, the whole of tensors cut as `shares` is; nothing on the others."""

        def of_replica(name: str, p: Any) -> Tensor:
            mine = shares[name].to(self.device)
            if self.execution.zero_stage != 3:
                return mine
            joined = mine.new_empty(mine.numel() * torch.distributed.get_world_size(p.ds_process_group))
            torch.distributed.all_gather_into_tensor(joined, mine.flatten(), group=p.ds_process_group)
            return joined[: p.ds_numel].view(p.ds_shape)

        return self._gathered((name, of_replica(name, p)) for name, p in self.model.named_parameters())

    def _gathered(self, of_replica: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Return all weights on rank 0, given, one after the other, what this replica has of each matrix."""
        weights = {}
        for name, mine in of_replica:  # a tied matrix has one name here
            whole = gather(name, mine.detach(), self.execution.tensor_parallel)
            if torch.distributed.get_rank() == 0:
                weights[name] = whole.float().cpu().contiguous().clone()
        return dict(sorted(weights.items()))
