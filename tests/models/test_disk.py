"""What DeepSpeed is to write to a disk is written, and comes back, wherever in memory it lies."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from infra.errors import UserError
from models.engine.disk import mend_disk_offload
from models.operators import operators_folder, prepare_disk_offload

WRITTEN = 1 << 19
"""Elements, of 2 MiB: two requests."""


@pytest.fixture(scope="module")
def handle() -> Any:
    """A handle of the operator, where that is built: it takes minutes."""
    folder = operators_folder()
    if folder is None or not (folder / "async_io" / "async_io.so").exists():
        pytest.skip("DeepSpeed's operator for disks is not built (python -m models.operators disk)")
    prepare_disk_offload()
    mend_disk_offload()
    mend_disk_offload()  # of a second engine in the process
    from deepspeed.ops.op_builder import AsyncIOBuilder

    return AsyncIOBuilder().load().aio_handle(1 << 20, 8, False, True, 1)


@pytest.fixture(scope="module")
def locked(handle: Any) -> Iterator[Tensor]:
    """Memory that the operator reads to and writes from without copying."""
    memory = handle.new_cpu_locked_tensor(WRITTEN + 1024, torch.empty(0))
    yield memory
    handle.free_cpu_locked_tensor(memory)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a disk that can be read and written past the page cache."""
    path = tmp_path / "1.tensor.swp"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip(f"{tmp_path} has no direct input and output")
    return path


@pytest.mark.parametrize("begin", [0, 16, 128, 1023])
def test_what_lies_amid_a_sector_is_written_and_read(handle: Any, locked: Tensor, file: Path, begin: int) -> None:
    numbers, buffer = torch.rand(WRITTEN), locked.narrow(0, begin, WRITTEN)
    buffer.copy_(numbers)
    handle.async_pwrite(buffer, str(file), 0)
    assert handle.wait() == 1
    assert file.read_bytes() == numbers.numpy().tobytes()
    locked.fill_(7)
    handle.async_pread(buffer, str(file), 0)
    assert handle.wait() == 1
    assert torch.equal(buffer, numbers)
    assert (locked[:begin] == 7).all()
    assert (locked[begin + WRITTEN :] == 7).all()


def test_a_file_that_the_disk_has_no_room_for_is_an_error(handle: Any, locked: Tensor, file: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        handle.async_pwrite(locked.narrow(0, 0, WRITTEN), str(file), 0)
        with pytest.raises(UserError, match=r"1\.tensor\.swp could not be written whole; is the disk full"):
            handle.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    handle.async_pwrite(locked.narrow(0, 0, WRITTEN), str(file), 0)
    assert handle.wait() == 1
