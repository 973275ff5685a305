"""A group of ranks, run to its end: on this machine here, on several through the module of their kind."""

import base64
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Literal

from infra.errors import StepTimeoutError
from infra.launch.processes import (
    POLL_SECONDS,
    RANK_COMMAND,
    SUPERVISOR,
    identify_process,
    kill_group,
    signal_ranks,
)
from infra.preemption import SIGNALS

if TYPE_CHECKING:
    from infra.launch.clusters import Cluster

Launcher = Literal["auto", "python", "deepspeed", "torchrun"]


@dataclass(frozen=True)
class Node:
    """One machine's part of a group of ranks, and where all of them meet."""

    ranks: Sequence[int]
    """How many ranks each machine has."""
    index: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def local(self) -> int:
        """Ranks on this machine."""
        return self.ranks[self.index]


def run_group(
    argv: Sequence[str],
    *,
    ranks: int = 1,
    launcher: Launcher = "auto",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], object] | None = None,
    timeout: float | None = None,
    cluster: "Cluster | None" = None,
    folder: Path | None = None,
) -> int:
    """Run `python argv` on `ranks` processes and return the exit status of the group.

    They run on this machine, or on those of `cluster`, which then share `folder`.  Every line that any of them writes
    goes to `on_line`.  What tells to stop (SIGTERM) is passed on to the ranks.  Raises StepTimeoutError after `timeout`
    seconds, counted anew from each line for which `on_line` returns True.  However the call ends, no process is left.
    """
    if cluster is not None:
        from infra.launch.remote import run_on_cluster

        assert folder is not None, "machines that share nothing cannot be told what to run"
        return run_on_cluster(
            cluster, folder, argv, ranks=ranks, launcher=launcher, env=env, cwd=cwd, on_line=on_line, timeout=timeout
        )
    node = Node([ranks], port=free_port())
    return run_command(
        local_command(argv, node=node, launcher=launcher),
        env=group_environment(node=node, extra=env or {}),
        cwd=cwd,
        on_line=on_line,
        timeout=timeout,
    )


def run_command(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], object] | None = None,
    timeout: float | None = None,
    on_start: Callable[[int], object] | None = None,
) -> int:
    """Run a command as a session of its own and return its exit status; whatever ends this call ends the session.

    `on_start` is told the process id of its leader.  Raises StepTimeoutError as `run_group` does.
    """
    begin = time.monotonic()
    with _ignoring(signal.SIGUSR1, signal.SIGUSR2):
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if on_start is not None:
            on_start(process.pid)
        assert process.stdout is not None
        with passing_on(lambda sign: signal_ranks(process.pid, sign)):
            for line in _lines(process.stdout, process):
                if line is not None and on_line is not None and on_line(line) is True:
                    begin = time.monotonic()
                if timeout is not None and time.monotonic() - begin > timeout:
                    raise StepTimeoutError(f"the process group ran longer than {timeout:g} s and was stopped")
            return process.wait()
    finally:
        kill_group(process)


@contextlib.contextmanager
def _ignoring(*signs: signal.Signals) -> Iterator[None]:
    """Let processes that are started meanwhile ignore signals until they handle them.

    Slurm sends its warning to all processes of a job, and a launcher that does not know SIGUSR1 would end by it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextlib.contextmanager
def passing_on(send: Callable[[int], object]) -> Iterator[None]:
    """Give signals that announce an end to `send` instead of obeying them; only a main thread receives any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(sign: int, frame: FrameType | None) -> None:
        send(sign)

    before = {sign: signal.signal(sign, handle) for sign in SIGNALS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _lines(stream: IO[bytes], process: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Yield lines until the group's leader has ended and what it wrote has been read; None while there is none."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            if not selector.select(0.0 if ended else POLL_SECONDS):
                if ended:
                    break
                yield None
                continue
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                break
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def local_addresses() -> tuple[str, ...]:
    """Return the names that this machine is called by without being asked for over the network."""
    return "localhost", "127.0.0.1", "::1", socket.gethostname()


def local_command(argv: Sequence[str], *, node: Node, launcher: Launcher) -> list[str]:
    """Return the command that starts the ranks of one machine; raises ValueError where the launcher cannot."""
    python, rank = sys.executable, [*RANK_COMMAND, *argv]
    if launcher == "auto":
        launcher = "python" if sum(node.ranks) == 1 else "deepspeed"
    if launcher == "deepspeed":
        world = {f"node-{i}": list[int | str](range(count)) for i, count in enumerate(node.ranks)}
        world[f"node-{node.index}"] = _devices(node.local)
        encoded = base64.urlsafe_b64encode(json.dumps(world).encode()).decode()
        return [
            python, "-m", "deepspeed.launcher.launch", f"--world_info={encoded}", f"--node_rank={node.index}",
            f"--master_addr={node.address}", f"--master_port={node.port}", "--no_local_rank", "--quiet", "--no_python",
            *rank,
        ]  # fmt: skip
    if launcher == "torchrun":
        return [
            python, "-m", "torch.distributed.run", f"--nnodes={len(node.ranks)}", f"--node-rank={node.index}",
            f"--nproc-per-node={node.local}", f"--master-addr={node.address}", f"--master-port={node.port}",
            "--no-python", *rank,
        ]  # fmt: skip
    if sum(node.ranks) > 1:
        raise ValueError(f"launcher=python starts one rank, not {sum(node.ranks)}; use deepspeed or torchrun")
    return rank


def _devices(ranks: int) -> list[int | str]:
    """Return the GPUs of so many ranks: of those that CUDA_VISIBLE_DEVICES lets be seen, where somebody has set it.

    DeepSpeed's launcher sets it anew to these; -1 ends the list for CUDA, so that nobody takes one that was kept back.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(ranks))
    named: list[int | str] = [each.strip() for each in visible.split(",") if each.strip()]
    return (named + ["-1"] * ranks)[:ranks]


def group_environment(*, node: Node, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ranks: where they meet, who supervises them, how they use memory and cores."""
    env = {
        **os.environ,
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(sum(node.ranks)),
        "LOCAL_SIZE": str(node.local),
        "LOCAL_WORLD_SIZE": str(node.local),
        "MASTER_ADDR": node.address,
        "MASTER_PORT": str(node.port),
        "PYTHONUNBUFFERED": "1",
        # Freed memory is kept: a training step frees and takes the same few hundred MB, and each first touch of a page
        # costs more than the arithmetic on it (measured on two virtual cores: 662 -> 508 ms a step).
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "-1",
        "MALLOC_TOP_PAD_": str(64 << 20),
        SUPERVISOR: identify_process(os.getpid()),
    }
    env.pop("OMP_NUM_THREADS", None)
    root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    # DeepSpeed builds its operator with the ninja that lies beside this interpreter.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [env.get("PATH")])])
    return {**env, **extra}
