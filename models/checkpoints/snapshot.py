"""A copy of the training state in host memory: all that the training loop waits for when a checkpoint is made.

DeepSpeed hands each file of a checkpoint to a "checkpoint engine" to write.  Ours takes a copy of the tensors and
returns; the files are written later, by a thread, while training goes on.
"""

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine
from torch import Tensor


class Snapshot:
    """Files of a checkpoint that are yet to be written: objects on the host, by path below the checkpoint."""

    def __init__(self) -> None:
        self._objects: dict[Path, Any] = {}

    def add(self, path: Path, value: Any) -> None:
        """Note a copy of `value`, to be written with `torch.save` to the path, which may be absolute."""
        self._objects[path] = host_copy(value)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the copies were only begun, and the next step changes what they are of

    def write(self, folder: Path) -> None:
        """Write all files below the folder (those added with an absolute path to that) and let go of the memory."""
        while self._objects:
            path, value = self._objects.popitem()
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.save(value, target)


class SnapshotEngine(CheckpointEngine):  # type: ignore[misc]
    """What DeepSpeed writes its checkpoints through: collects copies instead of writing files."""

    def __init__(self) -> None:
        super().__init__(None)
        self.name = "SnapshotEngine"
        self._snapshot = Snapshot()

    def take(self) -> Snapshot:
        """Return what has been collected since the last call."""
        taken, self._snapshot = self._snapshot, Snapshot()
        return taken

    def create(self, info: CheckpointCommitInfo) -> None:
        """Begin; nothing to prepare."""

    def save(self, state_dict: Any, path: str) -> None:
        """Collect one file."""
        self._snapshot.add(Path(path), state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file that an earlier snapshot became."""
        # Only files whose hashes the marker confirms get here; DeepSpeed keeps its own classes in them.
        return torch.load(path, map_location=map_location, weights_only=False)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """End; what is collected is taken with `take`."""
        return True

    def preserves_storage_sharing(self) -> bool:
        """Tell DeepSpeed that it need not clone tensors before they are saved."""
        return False


def host_copy(value: Any) -> Any:
    """Return a copy that later training steps do not reach: tensors on the host, without the rest of their storage.

    A tensor that appears twice is copied once.  Copies from a GPU are only begun, into pinned memory.
    """
    return _copied(value, {})


def _copied(value: Any, seen: dict[tuple[Any, ...], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _copied_tensor(value, seen)
    if isinstance(value, OrderedDict):
        return OrderedDict((key, _copied(item, seen)) for key, item in value.items())
    if type(value) is dict:
        return {key: _copied(item, seen) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item, seen) for item in value)
    return copy.deepcopy(value)


def _copied_tensor(tensor: Tensor, seen: dict[tuple[Any, ...], Tensor]) -> Tensor:
    tensor = tensor.detach()
    key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
    if key in seen and tensor.numel():
        return seen[key]
    made = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
    made.copy_(tensor, non_blocking=True)
    seen[key] = made
    return made
