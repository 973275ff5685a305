"""How much memory this machine has for training: of its GPUs, else its own within the limits of its container."""

import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MachineMemory:
    """Bytes that all ranks on this machine (`shared`), or each of them on its own device, may take."""

    device: str
    """cpu or cuda."""
    free: int
    name: str
    shared: bool


def machine_memory(cgroup: Path = _CGROUP) -> MachineMemory:
    """Return what there is now: of the smallest GPU, else of this machine."""
    if (gpus := _gpus()) is not None:
        return gpus
    import psutil

    free, name = int(psutil.virtual_memory().available), "this machine"
    limit = _cgroup_free(cgroup)
    if limit is not None and limit < free:
        free, name = limit, "this container"
    return MachineMemory("cpu", free, name, shared=True)


def _gpus() -> MachineMemory | None:
    """Return the memory of the GPU with the least, as nvidia-smi says; None without a GPU or a torch that uses one."""
    if "+cpu" in version("torch"):
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    cards = [line.split(",", 1) for line in said.splitlines() if "," in line]
    sizes = [(int(size) << 20, name.strip()) for size, name in cards if size.strip().isdigit()]
    if not sizes:
        return None
    size, name = min(sizes)
    return MachineMemory("cuda", size, name, shared=False)


def _cgroup_free(cgroup: Path) -> int | None:
    """Return what a container's limit leaves, without what the kernel would give back; None where there is none."""
    for limit_file, used_file, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit, used = (cgroup / limit_file).read_text().strip(), int((cgroup / used_file).read_text())
            stat = (cgroup / used_file).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):
            continue
        if limit == "max" or int(limit) > 1 << 60:
            return None
        given_back = int(stat[stat.index(cached) + 1]) if cached in stat else 0
        return max(0, int(limit) - used + given_back)
    return None
