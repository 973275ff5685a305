"""The most memory that a process has held, by the kernel's account of its own pages."""

import resource
import sys
from pathlib import Path


def reset_peak() -> None:
    """Begin anew, where the kernel can: a warm worker then reports its latest work and not what it did before."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
    except OSError:
        return


def own_peak_bytes() -> int:
    """Return the peak of this process since its program was started, or since `reset_peak`.

    ru_maxrss would not do: after fork and exec it still holds what the process that forked had at that time.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def children_peak_bytes() -> int:
    """Return the largest peak of the children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT


_UNIT = 1 if sys.platform == "darwin" else 1024
