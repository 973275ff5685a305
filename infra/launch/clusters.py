"""Which machines ranks run on: those of a hostfile, of Slurm or of Kubernetes; typed, and checked before use."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_CONFIG = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _option(value: str) -> str:
    if not re.fullmatch(r"--[a-z][a-z-]*(=[^\s\n]+)?", value):
        raise ValueError(f"{value!r} is not an option of sbatch as in --constraint=h100")
    return value


def _minutes(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _time_limit(value: str) -> str:
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", value):
        raise ValueError(f"{value!r} is not a time limit of Slurm: minutes, HH:MM:SS or DAYS-HH:MM:SS")
    return value


def _quantity(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?(m|k|[KMGTP]i?)?", value):
        raise ValueError(f"{value!r} is not a quantity as in 64Gi")
    return value


class Hosts(BaseModel):
    """Machines that are reached over ssh without a password, as DeepSpeed's hostfile lists them: `name slots=8`."""

    model_config = _CONFIG

    hostfile: Path
    """One machine a line, with as many ranks as it has slots; `#` begins a comment."""


class SlurmConfig(BaseModel):
    """A job of Slurm. Within an allocation its nodes are used as they are, and nothing is submitted."""

    model_config = _CONFIG

    nodes: int = Field(default=1, ge=1)
    """Machines; each has the same number of ranks."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs to ask for on each node, one a rank; 0 asks for none."""
    cpus_per_node: int | None = Field(default=None, ge=1)
    """Cores to ask for on each node; one a rank by default."""
    partition: str | None = None
    """Partition to submit to; the cluster's default otherwise."""
    account: str | None = None
    """Account to charge."""
    time: Annotated[str, BeforeValidator(_minutes), AfterValidator(_time_limit)] | None = None
    """Time limit: minutes, HH:MM:SS or DAYS-HH:MM:SS; the partition's default otherwise."""
    signal_seconds: int = Field(default=120, ge=0, le=65535)
    """How long before the time limit ranks are told to save, in seconds (`--signal=USR1@120`)."""
    requeue: bool = True
    """Let Slurm queue the job again when it is preempted or a node fails; it goes on from its newest checkpoint."""
    extra: tuple[Annotated[str, AfterValidator(_option)], ...] = ()
    """More options of sbatch, as in `--constraint=h100`."""


class KubernetesConfig(BaseModel):
    """An Indexed Job with one pod a machine, whose ranks meet on a headless service."""

    model_config = _CONFIG

    image: str
    """Image that Millrace is installed in (docker/Dockerfile)."""
    claim: str
    """PersistentVolumeClaim (ReadWriteMany) of the folder that MILLRACE_SHARED names; mounted there in each pod."""
    namespace: str = "default"
    """Namespace of the job."""
    nodes: int = Field(default=1, ge=1)
    """Pods, each on a machine of its own where there are GPUs; each has the same number of ranks."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of each pod, one a rank; 0 asks for none."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name of the resource (AMD: amd.com/gpu)."""
    cpus_per_node: int | None = Field(default=None, ge=1)
    """Cores of each pod; one a rank by default."""
    memory: Annotated[str, AfterValidator(_quantity)] = "16Gi"
    """Memory of each pod."""
    secrets: tuple[str, ...] = ()
    """Secrets whose keys become environment variables of the ranks (credentials of object storage)."""
    service_account: str | None = None
    """Service account of the pods."""
    node_selector: dict[str, str] = {}
    """Labels that a node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Taints that are tolerated, as in a pod's manifest."""
    grace_seconds: int = Field(default=120, ge=0)
    """How long ranks may take to save when their pod is taken away, in seconds."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        for field in ("claim", "namespace", *(("service_account",) if self.service_account else ())):
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", getattr(self, field)):
                raise ValueError(f"{field}={getattr(self, field)!r} is not a name that Kubernetes allows")
        return self


Cluster = Hosts | SlurmConfig | KubernetesConfig


def check_nodes(section: str, cluster: SlurmConfig | KubernetesConfig, ranks: int) -> list[str]:
    """Return why so many ranks do not fit on the nodes asked for, with the numbers; `section` names the field."""
    if ranks % cluster.nodes:
        return [f"execution.ranks={ranks} do not divide among execution.{section}.nodes={cluster.nodes}"]
    each = ranks // cluster.nodes
    if cluster.gpus_per_node and each != cluster.gpus_per_node:
        return [
            f"execution.ranks={ranks} over execution.{section}.nodes={cluster.nodes} makes {each} ranks a node, but "
            f"execution.{section}.gpus_per_node={cluster.gpus_per_node}: ranks must be "
            f"{cluster.nodes * cluster.gpus_per_node}, one a GPU"
        ]
    return []
