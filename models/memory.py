"""What training holds in memory, estimated before any process is started: bytes of each rank, and what to change.

Weights, gradients and the optimiser's state follow from the number of parameters (ZeRO, arXiv 1910.02054, section 3);
activations from what autograd keeps of a block, counted on the network itself for each switch of its shape.  Measured
peaks lie up to a fifth above them (tests/benchmarks/LOG.md); only what is a fifth over what is free is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.config import ExecutionConfig, ModelConfig, TrainingConfig
from models.machine_memory import MachineMemory, disk_free
from models.parameters import count_parameters, multiplied

TOLERANCE: Final = 1.2
"""How far an estimate may lie above what is free: it must not refuse what would fit."""
PROCESS: Final = {"cpu": 450 << 20, "cuda": 600 << 20}
"""What one rank holds before there is a model: Python with torch and DeepSpeed, a CUDA context."""
_BUCKET: Final = 50_000_000
"""Elements that ZeRO reduces at once (models/engine/deepspeed_config.py)."""
_STATES: Final[Mapping[str, int]] = {"adamw": 8, "lamb": 8, "muon": 4, "lion": 4, "adafactor": 0}
"""Bytes of an optimiser's state for each parameter, in fp32; Adafactor's is of rows and columns."""
_FOR_EDGES: Final = 8
"""Bytes of AdamW's state for each parameter that Muon leaves to it."""
_AT_ONCE: Final = 1 << 25
"""Elements of the matrices that Muon works on at once (models/optimizers/sharded.py)."""
_SHORT: Final = 256
"""Positions up to which attention on a CPU makes all scores in bf16 (models/transformer/attention.py)."""


@dataclass(frozen=True)
class Memory:
    """Bytes that one rank holds at the peak of a step, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    step: int
    """Of what the optimiser puts in the place of the gradient, where that is not done an element at a time."""
    activations: int
    """What the forward pass keeps for the backward pass, of one micro-batch."""
    logits: int
    """Of one micro-batch: logits, their log-probabilities and gradients."""
    process: int
    made: int
    """What there is before the first step: the whole network in fp32 where AutoTP is to cut it; else no more than
    later, as weights are drawn one by one."""
    together: bool
    """Whether gradients of earlier micro-batches are there while activations are."""

    @property
    def total(self) -> int:
        """All of it at the peak."""
        live = self.activations + self.logits
        moving = self.gradients + live if self.together else max(self.gradients, live)
        moving = max(moving, self.gradients + self.step)
        return max(self.weights + self.optimizer + moving, self.made) + self.process

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "step", "activations", "logits", "process")
        return ", ".join(f"{name} {shown(getattr(self, name))}" for name in parts)


def shown(size: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"


def estimate(
    training: TrainingConfig,
    execution: ExecutionConfig,
    *,
    vocab_size: int,
    device: str,
    micro_batch: int | None = None,
) -> Memory:
    """Return what one rank holds on its `device`, "cpu" or "cuda", with the micro-batch that the plan has, or another.

    Raises ValueError where the batch does not divide.
    """
    cfg = training.model
    planned, accumulation = execution.plan(training.batch)
    micro = micro_batch or planned
    counted = count_parameters(cfg, vocab_size).total
    mine = -(-counted // execution.ranks_per_replica)
    # What is offloaded from a CPU stays in the same memory.
    off_optimizer = execution.offload_optimizer != "none" and device != "cpu"
    off_parameters = execution.offload_parameters != "none" and device != "cpu"
    stage, replicas = execution.zero_stage, execution.replicas
    half = training.precision in ("bf16", "fp16")
    weights = mine * (2 if half else 4) // (replicas if stage == 3 else 1)
    gradients = mine * (4 if stage > 1 or not half else 2) // (replicas if stage > 1 else 1)
    if stage > 1:
        gradients += 4 * min(_BUCKET, mine)
    master = 4 if stage or half else 0
    state = mine * master + _state(training, vocab_size) // execution.ranks_per_replica
    optimizer = state // (replicas if stage else 1)
    if training.ema is not None:
        weights += 4 * mine // (replicas if stage == 3 else 1)
    if training.precision in ("bf16_autocast", "auto"):
        weights += 2 * multiplied(cfg, vocab_size) // execution.ranks_per_replica  # cast for the matrix products
    activations, logits = _live(
        training, execution, micro, accumulation * planned // micro, vocab_size=vocab_size, device=device
    )
    return Memory(
        weights=0 if off_parameters else weights,
        gradients=0 if off_optimizer and stage > 1 else gradients,
        optimizer=0 if off_optimizer else optimizer,
        step=_step(training, execution, vocab_size=vocab_size, off_optimizer=off_optimizer),
        activations=activations,
        logits=logits,
        process=PROCESS[device],
        made=4 * counted if execution.tensor_parallel > 1 else 0,
        together=accumulation * planned > micro or execution.pipeline_stages > 1,
    )


def _live(
    training: TrainingConfig, execution: ExecutionConfig, micro: int, accumulation: int, *, vocab_size: int, device: str
) -> tuple[int, int]:
    """Return the bytes of activations and logits of so many micro-batches, on the rank that holds most.

    Of a pipeline's stages the first keeps as many micro-batches as there are stages, the last one with its logits.
    """
    activations, logits = activation_bytes(training, execution, vocab_size=vocab_size, device=device)
    chunk = execution.loss_chunk
    scored = micro * _targets(training) if chunk is None else min(chunk, micro * _targets(training))
    logits = logits * scored // _targets(training) // execution.tensor_parallel
    activations = micro * activations // execution.ranks_per_replica
    first = activations * min(execution.pipeline_stages, accumulation)
    return (first, 0) if first > activations + logits else (activations, logits)


def _state(training: TrainingConfig, vocab_size: int) -> int:
    """Return the bytes of the optimiser's state for the whole model."""
    counted, kind = count_parameters(training.model, vocab_size), training.optimizer.kind
    if kind == "muon":
        return _STATES[kind] * counted.blocks + _FOR_EDGES * (counted.embedding + counted.head)
    return _STATES[kind] * counted.total


def _step(training: TrainingConfig, execution: ExecutionConfig, *, vocab_size: int, off_optimizer: bool) -> int:
    """Return the bytes that Muon or LAMB takes while it steps, besides its state.

    Muon works on at most so many elements at once, of which it holds in fp32 the updates, these as one batch and what
    came out, and in its own arithmetic those of one iteration.  Under ZeRO there are the update of this rank's whole
    partition (LAMB: and what it is divided by) and what ranks send one another.
    """
    counted, stage, kind = count_parameters(training.model, vocab_size), execution.zero_stage, training.optimizer.kind
    if kind == "lamb":
        held = 0 if off_optimizer else counted.total // (execution.replicas if stage else 1)
        return 2 * 4 * (held if stage else counted.embedding) // execution.ranks_per_replica
    if kind != "muon":
        return 0
    held = counted.blocks // execution.ranks_per_replica
    element = 4 if training.precision in ("fp32", "fp16") else 2  # models/engine/precision.py
    working = min(_AT_ONCE, held) * (3 * 4 + 3 * element + (2 * 4 if stage else 0))
    return working + (4 * held // execution.replicas if stage and not off_optimizer else 0)


def offloaded_bytes(training: TrainingConfig, execution: ExecutionConfig, *, vocab_size: int) -> int:
    """Return the bytes that all ranks together keep on a disk.

    They are the parameters as they are computed with, and what the optimiser has: fp32 weights, their gradients and its
    own state.
    """
    counted = count_parameters(training.model, vocab_size).total
    size = 0
    if execution.offload_parameters == "nvme":
        size += counted * (2 if training.precision in ("bf16", "fp16") else 4)
    if execution.offload_optimizer == "nvme":
        size += counted * (4 + 4) + _state(training, vocab_size)
    return size


def _check_disk(training: TrainingConfig, execution: ExecutionConfig, vocab_size: int) -> None:
    if execution.nvme_path is None:
        return
    needs, free = offloaded_bytes(training, execution, vocab_size=vocab_size), disk_free(execution.nvme_path)
    if needs > free:
        raise ValueError(
            f"offloading to nvme needs about {shown(needs)} in execution.nvme_path={execution.nvme_path}, and its disk "
            f"has {shown(free)} left; free some, name another disk, or offload less"
        )


def activation_bytes(
    training: TrainingConfig, execution: ExecutionConfig, *, vocab_size: int, device: str
) -> tuple[int, int]:
    """Return what autograd keeps of one sequence, in bytes: of the blocks, and of the logits at the loss.

    A decoder that reads an encoder has as many positions as there are targets.
    """
    cfg = training.model
    # Under autocast the residual stream stays in fp32, and what is multiplied is cast.
    element = {"fp32": 4, "bf16": 2, "fp16": 2}.get(training.precision, 3)
    source, decoded = cfg.sequence_length, _decoded(training)
    layers = [(layer, cross, decoded if cross else source) for layer, cross in _layers(cfg)]
    positions = sum(length for *_, length in layers)
    in_full = device == "cpu" and (
        cfg.dropout > 0
        or cfg.attention_softcap is not None
        or (training.precision not in ("fp32", "fp16") and source <= _SHORT)
    )
    blocks = [_kept_of_block(cfg, *each, matrices=in_full) for each in layers]
    kept = sum(blocks)
    if execution.activation_checkpointing == "full":  # what goes into each block, and all of the one that is run again
        kept = positions * cfg.width + max(blocks)
    elif execution.activation_checkpointing == "selective":
        kept = positions * _kept_selectively(cfg) + max(blocks)
    rest = (3 if cfg.norm == "rmsnorm" else 2) * cfg.width + cfg.head_transform * 4 * cfg.width
    # log-probabilities, their gradient and that of the logits, in fp32, and once more what bends them
    logits = (12 + (4 if cfg.logit_softcap else 0) + (0 if training.precision == "fp32" else 2)) * vocab_size
    return element * (kept + source * rest), _targets(training) * logits


def _decoded(training: TrainingConfig) -> int:
    """Return how many positions of a sequence the network that writes has."""
    if training.objective.kind == "denoising":
        return training.objective.lengths(training.window)[1]
    return training.model.sequence_length


def _targets(training: TrainingConfig) -> int:
    """Return at how many positions of a sequence the network is asked."""
    if training.objective.kind == "masked":
        return max(1, int(training.model.sequence_length * training.objective.probability))
    return _decoded(training)


def _kept_selectively(cfg: ModelConfig) -> int:
    """Return how many elements of one position are kept where matrix products and attention alone are."""
    queries, keys = cfg.heads * cfg.resolved_head_width, cfg.resolved_kv_heads * cfg.resolved_head_width
    return 3 * cfg.width + 2 * queries + 2 * keys + (2 if cfg.gated else 1) * cfg.resolved_ffn_width


def _layers(cfg: ModelConfig) -> list[tuple[int, bool]]:
    """Return each block's number in its stack, and whether it reads an encoder."""
    layers = [(layer, False) for layer in range(cfg.layers)]
    if cfg.family == "encoder_decoder":
        layers += [(layer, True) for layer in range(cfg.resolved_decoder_layers)]
    return layers


def _kept_of_block(cfg: ModelConfig, layer: int, cross: bool, length: int, *, matrices: bool) -> int:
    """Return how many elements autograd keeps of one sequence of that length in one block.

    Counted with saved_tensors_hooks: a norm keeps its input and output, RMSNorm what it divided as well; attention its
    queries, keys, values and output; and the whole matrix of weights where no fused kernel does (`matrices`: on a CPU
    with dropout, a soft-cap or short sequences in bf16, and anywhere with a learned bias).
    """
    norm = (3 if cfg.norm == "rmsnorm" else 2) * cfg.width
    queries, keys = cfg.heads * cfg.resolved_head_width, cfg.resolved_kv_heads * cfg.resolved_head_width
    attention = (2 + 2 * cfg.qk_norm) * (queries + keys)
    if cfg.positions == "relative" or matrices:
        attention += 3 * cfg.heads * length
    branches = 2 + cross
    hidden = {"relu": 1}.get(cfg.activation, 4 if cfg.gated else 2)
    if cfg.moe is not None and cfg.has_experts(layer):
        chosen = cfg.moe.top_k + cfg.moe.shared_experts
        hidden_elements = chosen * (hidden * cfg.resolved_expert_width + 2 * cfg.width)
    else:
        hidden_elements = hidden * cfg.resolved_ffn_width
    within = (2 if cfg.activation == "relu" else 1) * cfg.resolved_ffn_width * (cfg.family == "encoder_decoder")
    dropped = branches * cfg.width + within if cfg.dropout else 0
    read = (2 + 2 * cfg.qk_norm) * keys * (cfg.sequence_length - length) if cross else 0  # of the source
    return length * (branches * norm + (1 + cross) * attention + hidden_elements + dropped) + read


def fitting(
    training: TrainingConfig, execution: ExecutionConfig, *, vocab_size: int, machine: MachineMemory
) -> ExecutionConfig:
    """Return the execution with a micro-batch that fits into a machine where none was asked for.

    Raises ValueError where what was asked for, or not even one sequence, fits, and where ranks have no GPU of their
    own: with the numbers and what to change.
    """
    if machine.devices is not None and execution.ranks > machine.devices:
        raise ValueError(
            f"execution.ranks={execution.ranks} need a GPU each, and this machine has {machine.devices} "
            f"({machine.name}); use fewer ranks, or name more machines (execution.hostfile, slurm or kubernetes)"
        )
    _check_disk(training, execution, vocab_size)
    on_it = execution.ranks if machine.shared else 1

    def needs(micro_batch: int | None = None) -> Memory:
        return estimate(training, execution, vocab_size=vocab_size, device=machine.device, micro_batch=micro_batch)

    def fits(memory: Memory) -> bool:
        return on_it * memory.total <= TOLERANCE * machine.free

    asked = needs()
    if fits(asked):
        return execution
    micro, accumulation = execution.plan(training.batch)
    share = micro * accumulation
    smaller = next((size for size in range(micro - 1, 0, -1) if share % size == 0 and fits(needs(size))), None)
    if smaller is not None and execution.micro_batch is None:
        return execution.model_copy(update={"micro_batch": smaller})
    if smaller is not None:
        change = f"execution.micro_batch={smaller} would fit"
    else:
        asked, micro = needs(1), 1
        rest = asked.total - asked.activations
        change = _less(fewer_ranks=on_it > 1, fewer_activations=on_it * rest <= TOLERANCE * machine.free)
    ranks = f" for each of {on_it} ranks" if on_it > 1 else ""
    raise ValueError(
        f"training needs about {shown(asked.total)}{ranks} ({asked}; micro-batches of {micro} times "
        f"{training.model.sequence_length} tokens), and {machine.name} has {shown(machine.free)}; {change}, or set "
        "execution.check_memory=false to try all the same"
    )


def _less(*, fewer_ranks: bool, fewer_activations: bool) -> str:
    """Return what to change where not even one sequence fits."""
    if fewer_ranks:
        return "use fewer ranks on this machine, or a smaller model or model.sequence_length"
    if fewer_activations:
        return "set execution.activation_checkpointing=full or use a smaller model.sequence_length"
    return "use a smaller model, or a higher execution.zero_stage with more ranks"
