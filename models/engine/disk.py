"""DeepSpeed's offload to a disk, with what it gets wrong put right.

Its operator reads and writes past the page cache (O_DIRECT), which takes addresses and lengths in whole sectors only,
and it never looks at what became of a request (`_do_io_complete` in deepspeed_aio_common.cpp counts the events): what
the kernel refuses is not read or written, and the buffer keeps what was in it before.  Refused are

    addresses   A buffer within locked memory is used as it is (`is_managed`), wherever in it it begins.  Gradients are
                read to where their parameter lies in the flat partition (`_swap_in_pinned_gradients`): after a norm or
                a bias amid a sector.  Then Adam is given the gradients of another parameter, or of none.
    lengths     They are whole KiB (AIO_ALIGNED_BYTES), and some disks have sectors of 4 KiB.

And nothing tells when the disk has no room for a file.  ZeRO-3 makes files of bf16 of parameters in fp32 where there is
no fp16 (`_set_dtype`, by the precedence of `or` over `if`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from infra.errors import UserError

_SECTOR = 4096
"""Largest that disks have."""


def mend_disk_offload() -> None:
    """Let handles of the operator that is loaded, and what uses them, keep to whole sectors and see a full disk."""
    from deepspeed.ops.op_builder import AsyncIOBuilder
    from deepspeed.runtime.swap_tensor import optimizer_utils, partitioned_param_swapper
    from deepspeed.runtime.zero.partition_parameters import InsertPostInitMethodToModuleSubClasses as Cutting

    operator = AsyncIOBuilder().load(verbose=False)
    if not hasattr(operator.aio_handle, "keeps_to_sectors"):
        operator.aio_handle = _mended(operator.aio_handle)
    for user in (optimizer_utils, partitioned_param_swapper):
        user.AIO_ALIGNED_BYTES = _SECTOR
    if not hasattr(Cutting, "keeps_type"):
        Cutting._set_dtype, Cutting.keeps_type = _exactly(Cutting._set_dtype), True


def whole_from_disk(zero: Any, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each parameter of ZeRO-3's optimiser and its fp32 weights, which all ranks gather.

    What is on the disk is read once, a partition after the other: DeepSpeed's own function would read the partition
    for each parameter in it.
    """
    names = {p: name for name, p in model.named_parameters()}
    for number, (group, flat) in enumerate(zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True)):
        on_disk, offset = zero._swappable_optimizer_subgroup(number), 0
        if on_disk:
            zero._optimizer_states_and_gradient_swap_in(number)
        for p in group:
            share = flat.narrow(0, offset, p.partition_numel())
            offset += p.partition_numel()
            yield names[p], zero._fp32_state_allgather(p, share)
        if on_disk:
            zero._release_swap_buffers(number)


def _exactly(plain: Any) -> Any:
    def set_dtype(self: Any, config: Any, dtype: Any) -> None:
        if dtype is None:
            plain(self, config, dtype)
        else:
            self.dtype = dtype

    return set_dtype


def _mended(plain: Any) -> Any:
    class Handle(plain):  # type: ignore[misc]
        keeps_to_sectors = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._read = list[tuple[Tensor, Tensor]]()
            self._written = list[tuple[str, int]]()

        def _misplaced(self, buffer: Tensor) -> bool:
            return bool(self.is_pinned(buffer)) and buffer.data_ptr() % _SECTOR > 0

        def async_pread(self, buffer: Tensor, filename: str, file_offset: int = 0) -> int:
            """Begin to read a file to a buffer."""
            into = buffer
            if self._misplaced(buffer):
                into = buffer.clone()  # not within locked memory: the operator reads to a page of its own
                self._read.append((into, buffer))
            return int(super().async_pread(into, filename, file_offset))

        def async_pwrite(self, buffer: Tensor, filename: str, file_offset: int = 0) -> int:
            """Begin to write a buffer to a file."""
            self._written.append((filename, file_offset + buffer.nbytes))
            source = buffer.clone() if self._misplaced(buffer) else buffer
            return int(super().async_pwrite(source, filename, file_offset))

        def wait(self) -> int:
            """Wait for all that was begun and return how many files these were."""
            done = int(super().wait())
            for came, buffer in self._read:
                buffer.copy_(came)
            self._read.clear()
            written, self._written = self._written, []
            for filename, size in written:
                if Path(filename).stat().st_size < size:
                    raise UserError(f"pretrain: {filename} could not be written whole; is the disk full?")
            return done

    return Handle
