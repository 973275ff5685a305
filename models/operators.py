"""DeepSpeed's compiled operators: the one for CPUs, and that for offload to a disk, built once and kept.

    python -m models.operators         build the first now (30 to 50 s, at install), so that no training run has to
    python -m models.operators disk    build the second (several minutes), which only offload to nvme needs; wants
                                       libaio

DeepSpeed compiles its shared-memory operator whenever a process group is set up, even for one rank, and needs ninja
and a C++ compiler on PATH.  What is compiled fits this processor only and must not be shared between machines.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra.errors import UserError

log = logging.getLogger(__name__)

_SHARED_MEMORY = "deepspeed_shm_comm"
_DISK = "async_io"


def prepare_operators() -> None:
    """Load the operator for CPUs, compiling it if need be: one process at a time, the others find it built."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    _find_compiler()
    with _exclusive(_SHARED_MEMORY):
        from deepspeed.accelerator import get_accelerator

        builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
        if builder is not None:
            builder.load(verbose=False)


def prepare_disk_offload() -> None:
    """Load the operator that reads and writes what is offloaded to a disk, compiling it if need be.

    Nine of its twelve files include all of torch, and take most of a minute each.

    Raises UserError where libaio is missing.
    """
    from deepspeed.ops.op_builder import AsyncIOBuilder

    _find_compiler()
    builder = AsyncIOBuilder()
    if not builder.is_compatible(verbose=False):
        raise UserError(
            "pretrain: offloading to nvme needs libaio and its headers, which are not installed (Debian and Ubuntu: "
            "apt-get install libaio-dev; Fedora: dnf install libaio-devel); install them, or offload to cpu"
        )
    with _exclusive(_DISK):
        builder.load(verbose=False)


def _find_compiler() -> None:
    """Let ninja, which is installed beside Python, be found, and keep what is compiled in the environment."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if (folder := operators_folder()) is not None:
        os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)


def operators_folder() -> Path | None:
    """Return where they are kept: where the user says, else in the environment itself; None if that is not writable.

    An environment that has two paths has two folders: the path is part of the compiler's command, and ninja would
    compile anew whenever the other one was used.
    """
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        return Path(os.environ["TORCH_EXTENSIONS_DIR"])
    folder = Path(sys.prefix) / "torch_extensions" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@contextlib.contextmanager
def _exclusive(name: str) -> Iterator[None]:
    folder = os.environ.get("TORCH_EXTENSIONS_DIR")
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with (Path(folder) / f"millrace-{name}.lock").open("w") as lock:  # released by the kernel, however the holder ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A killed build leaves torch's own lock file behind, and every later build would wait for it for ever.
        (Path(folder) / name / "lock").unlink(missing_ok=True)
        yield


def main(argv: Sequence[str]) -> None:
    """Build an operator and say how long that took."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()
    if argv == ["disk"]:
        prepare_disk_offload()
    else:
        prepare_operators()
    log.info("DeepSpeed's operator is ready (%.0f s)", time.monotonic() - started)


if __name__ == "__main__":
    main(sys.argv[1:])
