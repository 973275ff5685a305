"""The model cut into stretches of blocks, one a rank, that hand activations on: DeepSpeed's 1F1B pipeline.

Each rank draws all of the network, so that first weights do not depend on the number of stages, and keeps the
embeddings, the blocks or the head that are its own.  A tied matrix is held by the first and the last stage, and
DeepSpeed sums its gradients.  Micro-batches follow one another through the stages: with m of them and s stages, a share
(s - 1) / (m + s - 1) of the time is idle.

On a CPU DeepSpeed sends and receives through gloo one message after the other, so a stage computes nothing meanwhile.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.config import ExecutionConfig, TrainingConfig
from models.engine.deepspeed_config import deepspeed_config
from models.engine.gate import Gate
from models.engine.interface import Batch, Decision, Engine
from models.engine.precision import newton_schulz_dtype
from models.engine.processes import sum_over_replicas
from models.engine.shares import fill
from models.optimizers import build_optimizer
from models.transformer import Transformer, make_context, run_blocks
from models.weights import first_weights


class Stage(nn.Module):
    """One stretch of the network: `parts` are all stages' block numbers, of which this is number `stage`."""

    def __init__(self, network: Transformer, parts: Sequence[range], stage: int) -> None:
        super().__init__()
        self.first, self.last = stage == 0, stage == len(parts) - 1
        self.network = network
        blocks = list(network.blocks)
        network.blocks = nn.ModuleDict({str(n): blocks[n] for n in parts[stage]})  # type: ignore[assignment]
        tied = network.lm_head.weight is network.embed.weight
        if not self.first:
            self._drop("positions", "segments", "embed_norm", *(() if tied and self.last else ("embed",)))
        if not self.last:
            self._drop("norm", "head_dense", "head_norm", "lm_head")

    def _drop(self, *names: str) -> None:
        for name in names:
            setattr(self.network, name, None)

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Map tokens or hidden states, and documents where there are any, to hidden states and the same documents."""
        held, documents_BT = (inputs, None) if isinstance(inputs, Tensor) else (inputs[0], (*inputs[1:], None)[0])
        network = self.network
        x_BTD = network.embedded(held, documents_BT=documents_BT) if self.first else held
        context = make_context(network.cfg, x_BTD, causal=network.causal, documents_BT=documents_BT)
        x_BTD, _ = run_blocks(network.blocks.values(), x_BTD, context)  # type: ignore[operator]
        if self.last:
            output: Tensor = network.norm(x_BTD)
            return output
        return x_BTD if documents_BT is None else (x_BTD, documents_BT)


class Tied(nn.Module):
    """Shows DeepSpeed the matrix that first and last stage share; activations pass it unchanged."""

    def __init__(self, embed: nn.Embedding) -> None:
        super().__init__()
        self.embed = embed

    def forward(self, inputs: Any) -> Any:
        """Return what it is given."""
        return inputs


class PipelineEngine(Engine):
    """DeepSpeed's pipeline engine, under ZeRO 0 or 1."""

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
        self._gate = Gate(self._agreed)
        network = self._build(vocab_size, hollow=True)
        weights = first_weights(network, initial_weights)
        self._stage = torch.distributed.get_rank() // execution.replicas
        self._measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
        self._losses: list[Tensor] = []
        stage = Stage(network, stretches(network.cfg.layers, execution.pipeline_stages), self._stage)
        fill(network, weights)
        self._draw_apart()
        pipeline = _pipeline(stage, execution, self._stage, self._loss)
        self.model = pipeline
        self._network = network
        dtype = newton_schulz_dtype(precision)
        config = deepspeed_config(
            training, execution, precision=precision, parameters=self.parameters, on_gpu=device.type == "cuda"
        )
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=pipeline,
            optimizer=build_optimizer(training.optimizer, network, dtype),
            config=config,
            dist_init_required=False,
        )
        self._engine._reduce_outputs = lambda outputs, **_: sum(outputs)  # this replica's own sum in validation
        self._guard(network.parameters())

    @property
    def _deepspeed(self) -> Any:
        return self._engine

    def _train(self, weight: float | None, batches: Sequence[Batch], decide: Decision | None) -> tuple[float, float]:
        network = self._network

        def both(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return network.losses.training(network.head, hidden, targets, weight, network._measure)

        self._measure, self._losses = both, []
        mean = functools.cache(self._mean)
        self._gate.open(None if decide is None else lambda norm: decide(mean(), norm))
        micro = self._engine.train_micro_batch_size_per_gpu()
        self._engine.set_train_batch_size(len(batches) * micro * self.execution.replicas)
        self._engine.train_batch(_loader(batches))
        return mean(), self._gate.norm

    def _agreed(self, norm: float) -> float:
        """Return one norm for all ranks: each replica's stages add theirs up, and may differ in the last bit."""
        return sum_over_replicas([norm], self.execution, self.device)[0] / self.execution.replicas

    def _mean(self) -> float:
        """Return the mean loss over all replicas; the last stages alone know theirs."""
        known = self._losses or [torch.zeros((), device=self.device)]
        return self._mean_loss(known) * self.execution.pipeline_stages

    def summed_loss(self, batch: Batch) -> float:
        """Return the summed loss in nats of this replica's batch, without training."""
        network = self._network

        def plain(hidden: Tensor, targets: Tensor) -> Tensor:
            return network.losses.plain(network.head, hidden, targets, "sum", network._measure)

        summed = self._evaluate(batch, plain, torch.zeros((), device=self.device))
        return float(summed)

    def logits_at(self, inputs_BT: Tensor, positions_B: Tensor) -> Tensor:
        """Return the logits (B, V) of the token after one position of each sequence, on every rank."""
        network, size = self._network, len(inputs_BT)

        def at(hidden: Tensor, positions: Tensor) -> Tensor:
            return network.head(hidden[torch.arange(size, device=hidden.device), positions])

        unknown = torch.zeros(size, network.vocab_size, device=self.device)
        return self._evaluate((inputs_BT.to(self.device), positions_B.to(self.device)), at, unknown)

    def _evaluate(self, batch: Batch, measure: Callable[[Tensor, Tensor], Tensor], unknown: Tensor) -> Tensor:
        """Return on all stages what the last one measures of a batch; `unknown` is the like of it on the others."""

        def alone(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            measured = measure(hidden, targets)
            return measured, measured

        self._measure, self._engine.total_loss = alone, None  # to which it would be added
        found = self._engine.eval_batch(_loader([batch]), num_micro_batches=1, bcast_loss=False)
        held = unknown if found is None else found.float()
        last = self._engine._loss_stage_global_rank()
        torch.distributed.broadcast(held, src=last, group=self._engine.grid.get_pipe_parallel_group())
        return held

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of what the last stage made; DeepSpeed's autocast ends before."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16_autocast"):
            loss, plain = self._measure(hidden, targets)
        self._losses.append(plain.detach())
        return loss

    def _sum_squares(self, cut: Tensor, whole: Tensor) -> Tensor:
        squares = cut + whole
        torch.distributed.all_reduce(squares, group=self._engine.grid.get_pipe_parallel_group())
        return squares

    def shares(self) -> dict[str, Tensor]:
        """Return the parameters of this rank's stage."""
        return {name: p.detach() for name, p in self._network.named_parameters()}

    @torch.no_grad()
    def whole(self, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return on rank 0, in fp32 on the CPU, the whole of tensors cut as `shares` is; nothing on the others."""
        own = {name for name, p in self._network.named_parameters() if not getattr(p, "ds_pipe_replicated", False)}
        return self._collect({name: shares[name].float() for name in sorted(own)})

    @torch.no_grad()
    def full_weights(self) -> dict[str, Tensor]:
        """Return all weights in fp32 on the CPU, whole, by name, on rank 0, and nothing on the others."""
        from deepspeed.utils import safe_get_full_fp32_param

        held = {}
        for name, p in sorted(self._network.named_parameters()):
            if getattr(p, "ds_pipe_replicated", False):  # the tied matrix, on the last stage
                continue
            whole = safe_get_full_fp32_param(p) if self.execution.zero_stage else None
            held[name] = (whole if whole is not None else p).detach().float().contiguous()
        return self._collect(held)

    def _collect(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return on rank 0 what all stages of the first replica hold, on the CPU."""
        rank, replicas = torch.distributed.get_rank(), self.execution.replicas
        weights = {name: w.cpu().clone() for name, w in held.items()} if rank == 0 else {}
        for source in range(replicas, self.execution.ranks, replicas):
            if rank == source:
                torch.distributed.send_object_list([[(n, w.shape) for n, w in held.items()]], dst=0, device=self.device)
                for w in held.values():
                    torch.distributed.send(w, dst=0)
            elif rank == 0:
                listed: list[Any] = [None]
                torch.distributed.recv_object_list(listed, src=source, device=self.device)
                for name, shape in listed[0]:
                    whole = torch.empty(shape, device=self.device)
                    torch.distributed.recv(whole, src=source)
                    weights[name] = whole.cpu()
        return dict(sorted(weights.items()))


def _loader(batches: Sequence[Batch]) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Yield what DeepSpeed's first stage reads and its last compares with, of each micro-batch."""
    for inputs, targets, *documents in batches:
        assert inputs is not None
        assert targets is not None
        yield (inputs, *(d for d in documents if d is not None)), targets


def stretches(layers: int, stages: int) -> list[range]:
    """Return which blocks each stage has: the first and the last, with embeddings and head, have one less if any do."""
    share, more = divmod(layers, stages)
    first = (stages - more) // 2
    sizes = [share + (first <= stage < first + more) for stage in range(stages)]
    return [range(sum(sizes[:stage]), sum(sizes[: stage + 1])) for stage in range(stages)]


def _pipeline(
    mine: Stage, execution: ExecutionConfig, stage: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> nn.Module:
    """Return DeepSpeed's pipeline of which this rank has one stage."""
    from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec

    stages, network = execution.pipeline_stages, mine.network
    tied = [TiedLayerSpec("embed", Tied, network.embed, tied_weight_attr="embed.weight")] * network.cfg.tied_embeddings
    layers = [*tied, *(mine if n == stage else LayerSpec(nn.Identity) for n in range(stages)), *tied]

    class Pipeline(PipelineModule):  # type: ignore[misc]
        """A pipeline whose stages are one layer each, and at either end the tied matrix."""

        def _partition_layers(self, method: str) -> None:
            ends = [len(tied) + n for n in range(stages + 1)]
            ends[0], ends[-1] = 0, len(layers)
            self.parts = ends
            self._set_bounds(start=ends[self.stage_id], stop=ends[self.stage_id + 1])

        @torch.no_grad()
        def _synchronize_tied_weights(self) -> None:
            super()._synchronize_tied_weights()

    with contextlib.redirect_stdout(io.StringIO()):  # DeepSpeed prints a seed that it does not use
        pipeline: nn.Module = Pipeline(layers, num_stages=stages, loss_fn=loss, dynamic_shape=True)
    return pipeline
