"""How much memory this machine has for training: of its GPUs, else its own within the limits of its container."""

import os
import shutil
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
    devices: int | None = None
    """GPUs, of which each rank needs one; None where ranks share the processor."""


def machine_memory(cgroup: Path = _CGROUP, *, when_idle: bool = False) -> MachineMemory:
    """Return what there is now, or with nothing else running: of the smallest GPU, else of this machine."""
    if (gpus := _gpus()) is not None:
        return gpus
    import psutil

    memory = psutil.virtual_memory()
    free, name = int(memory.total if when_idle else memory.available), "this machine"
    limit = _cgroup_free(cgroup, when_idle=when_idle)
    if limit is not None and limit < free:
        free, name = limit, "this container"
    return MachineMemory("cpu", free, name, shared=True)


def disk_free(path: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or would be."""
    there = next(each for each in (path.resolve(), *path.resolve().parents) if each.exists())
    return shutil.disk_usage(there).free


def _gpus() -> MachineMemory | None:
    """Return the memory of the GPU with the least, as nvidia-smi says; None without a GPU or a torch that uses one.

    Where CUDA_VISIBLE_DEVICES names some, they are taken to be the largest: CUDA counts otherwise than nvidia-smi.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip(" ,") in ("", "-1")
    if "+cpu" in version("torch") or os.environ.get("DS_ACCELERATOR") == "cpu" or hidden:
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
    devices = len(sizes)
    if visible is not None:
        named = [each for each in visible.split(",") if each.strip()]
        slices = any(each.strip().startswith("MIG-") for each in named)  # of which a card has several
        devices = len(named) if slices else min(devices, len(named))
    size, name = sorted(sizes, reverse=True)[:devices][-1]
    return MachineMemory("cuda", size, name, shared=False, devices=devices)


def _cgroup_free(cgroup: Path, *, when_idle: bool) -> int | None:
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
        if when_idle:
            return int(limit)
        given_back = int(stat[stat.index(cached) + 1]) if cached in stat else 0
        return max(0, int(limit) - used + given_back)
    return None
