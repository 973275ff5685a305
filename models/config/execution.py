"""Where and how a model is trained, and how a batch is cut for that."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from infra.launch.clusters import Cluster, Hosts, KubernetesConfig, SlurmConfig
from models.config.base import CONFIG


class ExecutionConfig(BaseModel):
    """Where and how a model is trained; none of it enters the identity of the model."""

    model_config = CONFIG

    ranks: int = Field(default=1, ge=1)
    """Processes, one a device. Each trains a replica of the model on its share of the batch, unless tensor or pipeline
    parallelism lets several hold one replica together."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each rank; the usable cores divided by the ranks by default. Their number can change the order of
    floating-point sums, so a run is repeatable bit for bit at an equal number only; checkpoints record it."""
    launcher: Literal["auto", "python", "deepspeed", "torchrun", "slurm", "kubernetes"] = "auto"
    """What starts the ranks; auto is plain processes for one rank, the DeepSpeed launcher for more. slurm uses the
    nodes of the allocation that it runs in, or submits a job; kubernetes makes an Indexed Job."""
    hostfile: Path | None = None
    """Machines for deepspeed or torchrun, reached over ssh; one a line as in `worker-1 slots=8`, filled in order."""
    slurm: SlurmConfig | None = None
    """What to ask of Slurm; one node by default."""
    kubernetes: KubernetesConfig | None = None
    """What to ask of Kubernetes."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed ZeRO partitions over the ranks: nothing, optimiser state, and gradients, and parameters."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Ranks that cut the matrices of every block among themselves (Megatron-LM, arXiv 1909.08053, by DeepSpeed AutoTP):
    for models whose layers are too large for one device, within one machine, as they exchange activations in each
    layer."""
    pipeline_stages: int = Field(default=1, ge=1)
    """Ranks that cut the model into stretches of blocks and hand activations on (DeepSpeed's 1F1B pipeline): for models
    too large for one machine, as it exchanges least. Needs several micro-batches a step to keep all stages busy."""
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Where ZeRO keeps the optimiser's state and its fp32 weights, and takes the step: on the device, in memory of the
    host (zero_stage 1 or more), or on a local disk (zero_stage 3)."""
    offload_parameters: Literal["none", "cpu", "nvme"] = "none"
    """Where ZeRO-3 keeps the parameters that are not at work."""
    nvme_path: Path | None = None
    """Folder on a fast local disk for what is offloaded to nvme."""
    pin_memory: bool = False
    """Lock offloaded memory against paging, for faster copies to a GPU. It counts against `ulimit -l`."""
    overlap_communication: bool | None = None
    """Reduce gradients while the backward pass still computes; by default on GPUs under ZeRO."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences in one forward pass of one rank; by default all of a step's that fall to the rank, and under pipeline
    parallelism so few that there is a micro-batch a stage. Where they do not fit into memory, training goes on with
    half as many and the same batch, and so begin later lives of the run on such devices."""
    check_memory: bool = True
    """Estimate, before any process is started, what training takes of the memory of this machine or its GPUs: choose
    micro-batches that fit where `micro_batch` is not given, and refuse what cannot fit."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What is computed again in the backward pass to save memory: nothing; all of a block but its matrix products and
    attention; or each whole block, for about a third more arithmetic."""
    loss_chunk: int | None = Field(default=None, ge=1)
    """Targets whose logits a rank holds at once, to be computed again in the backward pass: for vocabularies whose
    logits are larger than all the rest. All of a micro-batch's by default."""
    compile: bool = False
    """Compile each block and the losses with torch.compile; the first steps take minutes."""
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """Least time between two checkpoints, in seconds; a checkpoint is made at the next multiple of
    `checkpoint_every` steps."""
    checkpoint_every: int = Field(default=25, ge=1)
    """Checkpoints are made at multiples of this many steps."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest complete checkpoints are kept while the run lasts."""
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints at multiples of so many steps are made whatever else says when, and are permanent: they stay beside
    the artifact, in its folder partial/kept, when the run is over."""
    keep_steps: list[Annotated[int, Field(ge=1)]] = []
    """Checkpoints after these steps are made and permanent as well."""
    resume: Literal["auto", "required"] = "auto"
    """What a run does that finds no checkpoint of its own: train from the first step, or refuse."""
    telemetry: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where the run can be watched. MLflow and Weights & Biases are installed with `millrace[mlflow]` and
    `millrace[wandb]` and read their own environment variables (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE)."""
    hang_seconds: float = Field(default=1800.0, gt=0)
    """A group of ranks that reports neither a step, nor a batch of validation, nor a token of a sample for so long is
    ended, in seconds."""

    @model_validator(mode="after")
    def _all_read(self) -> Self:
        problems = []
        if self.overlap_communication and (self.zero_stage == 0 or self.pipeline_stages > 1):
            problems.append(
                f"overlap_communication=true has no meaning with zero_stage={self.zero_stage} and "
                f"pipeline_stages={self.pipeline_stages}; leave it at null"
            )
        if len(set(self.telemetry)) < len(self.telemetry):
            problems.append(f"telemetry={list(self.telemetry)} names one twice")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def cluster(self) -> Cluster | None:
        """The machines that ranks run on; None for this one."""
        if self.launcher == "slurm":
            return self.slurm or SlurmConfig()
        if self.launcher == "kubernetes":
            return self.kubernetes
        return Hosts(hostfile=self.hostfile) if self.hostfile is not None else None

    @property
    def node_launcher(self) -> Literal["auto", "python", "deepspeed", "torchrun"]:
        """What starts the ranks of one machine."""
        if self.launcher == "slurm" or self.launcher == "kubernetes":
            return "torchrun"
        return self.launcher

    def default_threads(self, cores: int) -> int:
        """Return the threads of a rank where none are given: its share of a machine's cores, of `cores` on this one."""
        cluster = self.cluster
        if isinstance(cluster, SlurmConfig | KubernetesConfig):
            each = self.ranks // cluster.nodes
            return max(1, (cluster.cpus_per_node or each) // each)
        return max(1, cores // self.ranks)

    @property
    def ranks_per_replica(self) -> int:
        """How many ranks hold one replica of the model together, and read the same sequences."""
        return self.tensor_parallel * self.pipeline_stages

    @property
    def replicas(self) -> int:
        """How many replicas of the model the batch is divided among."""
        return self.ranks // self.ranks_per_replica

    def replica(self, rank: int) -> int:
        """Return which replica a rank belongs to, in DeepSpeed's order: stages outermost, matrices innermost."""
        return rank // self.tensor_parallel % self.replicas

    def plan(self, batch: int) -> tuple[int, int]:
        """Return (micro-batch, accumulation steps) of each replica; raises ValueError as `plan_batch` does."""
        return plan_batch(
            batch=batch,
            ranks=self.ranks,
            micro_batch=self.micro_batch,
            tensor_parallel=self.tensor_parallel,
            pipeline_stages=self.pipeline_stages,
        )

    def smaller_micro_batch(self, batch: int) -> int | None:
        """Return the largest micro-batch of at most half the size that divides a replica's share; None below one."""
        micro, accumulation = self.plan(batch)
        return next((size for size in range(micro // 2, 0, -1) if micro * accumulation % size == 0), None)


def plan_batch(
    *, batch: int, ranks: int, micro_batch: int | None, tensor_parallel: int = 1, pipeline_stages: int = 1
) -> tuple[int, int]:
    """Return (micro-batch, accumulation steps) of one replica of the model.

    Raises ValueError if they do not divide, with numbers.
    """
    together = tensor_parallel * pipeline_stages
    if ranks % together:
        raise ValueError(
            f"ranks={ranks} do not divide into replicas of tensor_parallel={tensor_parallel} times "
            f"pipeline_stages={pipeline_stages}: make ranks a multiple of {together}"
        )
    replicas = ranks // together
    if batch % replicas:
        held = f", {together} of them a replica" if together > 1 else ""
        raise ValueError(
            f"batch={batch} sequences do not divide among ranks={ranks}{held}: make batch a multiple of {replicas}"
        )
    share = batch // replicas
    fill = next((size for size in range(max(share // pipeline_stages, 1), 0, -1) if share % size == 0), share)
    micro = min(micro_batch or fill, share)
    if share % micro:
        raise ValueError(
            f"batch={batch} over ranks={ranks} leaves {share} sequences a rank, "
            f"which micro_batch={micro} does not divide"
        )
    return micro, share // micro
