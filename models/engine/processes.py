"""The processes of a group: threads, device and process group of each, and sums over replicas of the model."""

import datetime
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from models.config import ExecutionConfig
from models.operators import prepare_operators


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


def sum_over_replicas(values: Sequence[float], execution: ExecutionConfig, device: torch.device) -> list[float]:
    """Return each of the values summed over all replicas of the model, in fp64; every rank must call it.

    The ranks that hold one replica together bring the same values, which count once.
    """
    if torch.distributed.get_world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    return [float(v) / execution.ranks_per_replica for v in tensor.tolist()]


def any_rank(values: Sequence[bool], device: torch.device) -> list[bool]:
    """Return of each of the values whether it is true on any rank; every rank must call it."""
    tensor = torch.tensor(values, dtype=torch.float32, device=device)
    torch.distributed.all_reduce(tensor)
    return [v > 0 for v in tensor.tolist()]
