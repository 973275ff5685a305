"""What the training loop sees of an engine, whichever way the model is cut over the ranks."""

import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.snapshot import Snapshot, SnapshotEngine
from models.config import ExecutionConfig, TrainingConfig
from models.engine.disk import mend_disk_offload
from models.engine.gate import Gate, guard_plain, guard_zero
from models.engine.partitions import describe_partitions
from models.engine.processes import sum_over_replicas
from models.engine.universal import mended
from models.operators import prepare_disk_offload
from models.transformer import Transformer
from models.weights import hollow_network, load_weights

Decision = Callable[[float, float], bool]
"""Says, given the loss and the norm of the gradient of a step over all ranks, whether the step is to be taken.

It is called on every rank with the same numbers, after the backward passes and before anything is changed.
"""

Batch = Sequence[Tensor | None]
"""What `models.data.Batch` holds, as tensors, without the last ones where these are None."""

TAG = "engine"
"""The folder, below the one given, that DeepSpeed writes a checkpoint to."""

_CLIENT = "millrace_"
_SWAPPED = "zero_stage_3"
"""The folder on the disk that DeepSpeed offloads to."""


class Engine(ABC):
    """One rank's share of the model being trained.

    Every method must be called by every rank alike.
    """

    model: nn.Module
    """What this rank holds of the network."""

    def __init__(
        self, training: TrainingConfig, execution: ExecutionConfig, *, precision: str, device: torch.device
    ) -> None:
        self.training, self.execution, self.precision, self.device = training, execution, precision, device
        self.bad_steps = 0
        """Steps skipped, so far, because their gradient was not finite."""
        self.parameters = 0
        """Parameters of the whole model; those that are tied count once."""
        self._gate = Gate()

    # --- what the loop calls

    def step(
        self,
        batches: Sequence[Batch],
        fraction: float,
        scored: int | None = None,
        decide: Decision | None = None,
    ) -> tuple[float, float | None]:
        """Take one optimiser step over this replica's micro-batches at `fraction` of the peak rates.

        `scored` targets of the step count, over all replicas; None where all do.  Where they are counted, each has the
        same weight whatever micro-batch it is in.  A step that `decide` is against changes nothing.

        Returns the mean loss over all replicas in nats a token and the norm of the whole gradient before clipping,
        None if the gradient was not finite: then the step is skipped on every rank, and counted.
        """
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = group["peak"] * fraction
        weight = None if scored is None else len(batches) * self.execution.replicas / max(scored, 1)
        loss, norm = self._train(weight, batches, decide)
        if not math.isfinite(norm):
            self.bad_steps += self._counts_as_bad()
            return loss, None
        return loss, norm

    @abstractmethod
    def summed_loss(self, batch: Batch) -> float:
        """Return the summed loss in nats of this replica's batch, without training."""

    @abstractmethod
    def logits_at(self, inputs_BT: Tensor, positions_B: Tensor) -> Tensor:
        """Return the logits (B, V) of the token after one position of each sequence, on every rank."""

    def save(self, folder: Path) -> None:
        """Write this rank's state below a local folder."""
        self._deepspeed.save_checkpoint(
            str(folder), tag=TAG, client_state={f"{_CLIENT}bad_steps": self.bad_steps}, save_latest=False
        )

    def snapshot(self, folder: Path) -> Snapshot:
        """Return a copy in host memory of what `save` would write below a local folder, to be written there later.

        What is offloaded to NVMe is copied there at once.
        """
        writer, before = SnapshotEngine(), self._deepspeed.checkpoint_engine
        self._deepspeed.checkpoint_engine = writer
        try:
            self.save(folder)
        finally:
            self._deepspeed.checkpoint_engine = before
        return writer.take()

    def load(self, folder: Path, *, universal: bool = False) -> None:
        """Restore the state that `save` wrote, or what was converted from it to a universal checkpoint."""
        self._deepspeed._config.load_universal_checkpoint = universal
        with mended(self._deepspeed.optimizer) if universal else nullcontext():
            path, state = self._deepspeed.load_checkpoint(str(folder), tag=TAG)
        if path is None:  # DeepSpeed only logs this and would train from scratch
            raise FileNotFoundError(f"DeepSpeed found no checkpoint in {folder}")
        self.bad_steps = int(state[f"{_CLIENT}bad_steps"])

    @abstractmethod
    def full_weights(self) -> dict[str, Tensor]:
        """Return all weights in fp32 on the CPU, whole, by name, on rank 0, and nothing on the others.

        A tied head is left out.
        """

    def close(self) -> None:
        """Remove from this machine's disk what is offloaded there; nothing can be asked of the engine after."""
        if self.execution.nvme_path is not None:
            shutil.rmtree(self.execution.nvme_path / _SWAPPED, ignore_errors=True)

    # --- what of the weights is on this rank

    @abstractmethod
    def shares(self) -> dict[str, Tensor]:
        """Return what this rank holds of each parameter as it is trained with, by name: all of it, or its share."""

    @abstractmethod
    def whole(self, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return on rank 0, in fp32 on the CPU, the whole of tensors cut as `shares` is; nothing on the others."""

    def cut(self, name: str, shares: Sequence[Tensor]) -> Tensor:
        """Return what this rank holds of a parameter of which so many ranks held an equal share under ZeRO-3 each."""
        p: Any = self.model.get_parameter(name)
        whole, mine = torch.cat([share.flatten() for share in shares])[: p.ds_numel], p.ds_tensor.numel()
        share = whole.new_zeros(mine)
        held = whole[torch.distributed.get_rank(p.ds_process_group) * mine :][:mine]
        share[: held.numel()] = held
        return share

    @contextmanager
    def writing_shares(self) -> Iterator[None]:
        """Let the tensors of `shares` be written to within: ZeRO-3 keeps whole copies of small parameters as well."""
        optimizer = self._deepspeed.optimizer
        if self.execution.zero_stage == 3:
            optimizer.checkpoint_event_prologue()
        yield
        if self.execution.zero_stage == 3:
            optimizer.checkpoint_event_epilogue()

    @property
    def place(self) -> int:
        """Number of what this rank holds among the different shares of the weights."""
        rank, parts = torch.distributed.get_rank(), self.execution.tensor_parallel
        if self.execution.zero_stage == 3:
            return rank
        return rank // (parts * self.execution.replicas) * parts + rank % parts

    @property
    def first_of_its_place(self) -> bool:
        """Whether no rank before this one holds the same."""
        return self.execution.zero_stage == 3 or not self.execution.replica(torch.distributed.get_rank())

    # --- random numbers

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

    # --- for those who implement it

    @property
    @abstractmethod
    def _deepspeed(self) -> Any:
        """DeepSpeed's engine."""

    @abstractmethod
    def _train(self, weight: float | None, batches: Sequence[Batch], decide: Decision | None) -> tuple[float, float]:
        """Run the backward passes and take the step; return loss and norm as they are.

        The loss of a micro-batch is `weight` times the sum over its targets, their mean by default.
        """

    def _prepare_disk(self) -> None:
        """Load what reads and writes a disk, and remove from it what a killed life of the run has left."""
        prepare_disk_offload()
        mend_disk_offload()
        if os.environ["LOCAL_RANK"] == "0":
            self.close()
        torch.distributed.barrier()

    @abstractmethod
    def _sum_squares(self, cut: Tensor, whole: Tensor) -> Tensor:
        """Return the sum over the whole model of what this rank has of squares: of what is cut over ranks or not."""

    def _build(self, vocab_size: int, initial_weights: Path | None = None, *, hollow: bool = False) -> Transformer:
        """Return the whole network with its first weights, the same on each rank; without them if it is to be hollow.

        The engine then takes them from `first_weights`, and calls `_draw_apart` when it has.
        """
        torch.manual_seed(self.training.seed)
        network = (hollow_network if hollow else Transformer)(self.training.model, vocab_size)
        self.parameters = sum(p.numel() for p in network.parameters())
        if initial_weights is not None and not hollow:
            load_weights(network, initial_weights)
        network.prepare(
            label_smoothing=self.training.label_smoothing,
            z_loss=self.training.z_loss,
            loss_chunk=self.execution.loss_chunk,
            checkpointing=self.execution.activation_checkpointing,
            compiled=self.execution.compile,
        )
        return network

    def _draw_apart(self) -> None:
        """Let replicas drop different activations; the ranks that cut the matrices of one must drop the same."""
        place = torch.distributed.get_rank() // self.execution.tensor_parallel
        torch.manual_seed(self.training.seed + 1 + place)

    def _guard(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let the gate decide over each step of DeepSpeed's engine, of which these are the parameters on this rank."""
        engine, stage = self._deepspeed, self.execution.zero_stage
        if stage:
            guard_zero(engine.optimizer, self._gate, stage=stage)
            describe_partitions(engine.optimizer, stage=stage, device=self.device)
        else:
            clipping = self.training.gradient_clipping
            guard_plain(engine, parameters, self._gate, clipping=clipping, sum_squares=self._sum_squares)

    def _mean_loss(self, losses: Sequence[Tensor]) -> float:
        """Return the mean of the micro-batches' losses over all replicas."""
        mine = torch.stack(list(losses)).float().mean().item()
        return sum_over_replicas([mine], self.execution, self.device)[0] / self.execution.replicas

    def _counts_as_bad(self) -> bool:
        """Whether a gradient that is not finite is a fault: in fp16 it is how the loss scale is found."""
        scaler = getattr(self._deepspeed.optimizer, "loss_scaler", None)
        return self.precision != "fp16" or scaler is None or scaler.cur_scale <= 1
