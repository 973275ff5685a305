"""DeepSpeed's compiled operator for CPUs, built once and kept in the environment.

    python -m models.operators         build it now (30 to 50 s, at install), so that no training run has to

DeepSpeed compiles its shared-memory operator whenever a process group is set up, even for one rank, and needs ninja
and a C++ compiler on PATH.  What is compiled fits this processor only and must not be shared between machines.
"""

import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = "deepspeed_shm_comm"


def prepare_operators() -> None:
    """Load the operator, compiling it if need be: one process at a time, the others wait and find it built."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if "TORCH_EXTENSIONS_DIR" not in os.environ and (folder := _folder()) is not None:
        os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    with _exclusive():
        from deepspeed.accelerator import get_accelerator

        builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
        if builder is not None:
            builder.load(verbose=False)


def _folder() -> Path | None:
    """Return where it is kept: in the environment itself if that is writable, else wherever torch keeps such things."""
    folder = Path(sys.prefix) / "torch_extensions"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    folder = os.environ.get("TORCH_EXTENSIONS_DIR")
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with (Path(folder) / "millrace.lock").open("w") as lock:  # released by the kernel, however the holder ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A killed build leaves torch's own lock file behind, and every later build would wait for it for ever.
        (Path(folder) / _NAME / "lock").unlink(missing_ok=True)
        yield


def main() -> None:
    """Build it and say how long that took."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()
    prepare_operators()
    log.info("DeepSpeed's operator is ready (%.0f s)", time.monotonic() - started)


if __name__ == "__main__":
    main()
