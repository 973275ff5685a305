"""Start a group of training processes so that the whole group is gone, on every rank, when its supervisor is.

    run_group(["-m", "models.train", "job.json"], ranks=2)     the command of each rank, after the interpreter
    python -m infra.launch --build-ops                          compile DeepSpeed's CPU operator once, at install

The group is a session of its own: it is killed as one when the call ends, whatever ends it.  A supervisor that is
itself killed with -9 can do nothing, so each rank also watches it (`watch_supervisor`) and ends itself.
"""

import base64
import contextlib
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from infra.errors import StepTimeoutError

log = logging.getLogger(__name__)

Launcher = Literal["auto", "python", "deepspeed", "torchrun"]

SUPERVISOR = "MILLRACE_SUPERVISOR"
"""Environment variable that tells a rank whose life it depends on: "pid:start time in clock ticks"."""

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 3.0


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def run_group(
    argv: Sequence[str],
    *,
    ranks: int = 1,
    launcher: Launcher = "auto",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
) -> int:
    """Run `python argv` on `ranks` processes of this machine and return the exit status of the group.

    Every line that any of them writes goes to `on_line`.  Raises StepTimeoutError after `timeout` seconds.  However the
    call ends, no process of the group is left.
    """
    with free_port() as port:
        command = _command(argv, ranks=ranks, launcher=launcher, port=port)
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=group_environment(ranks=ranks, port=port, extra=env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in _lines(process.stdout, process, started + timeout if timeout is not None else None):
            if on_line is not None:
                on_line(line)
        return process.wait()
    except _DeadlineError:
        raise StepTimeoutError(f"the process group ran longer than {timeout:.0f} s and was stopped") from None
    finally:
        kill_group(process)


class _DeadlineError(Exception):
    pass


def _lines(stream: IO[bytes], process: subprocess.Popen[bytes], deadline: float | None) -> Iterator[str]:
    """Yield lines until the group's leader has ended and what it wrote has been read."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if deadline is not None and time.monotonic() > deadline:
                raise _DeadlineError
            ended = process.poll() is not None
            if not selector.select(0.0 if ended else _POLL_SECONDS):
                if ended:
                    break
                continue
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                break
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the leader's session: ask, wait for its launcher to pass it on, then kill."""
    for sign, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        end = time.monotonic() + grace
        while members := _session(process.pid):
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            process.poll()
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def _session(leader: int) -> list[int]:
    """Return the living processes whose session is the leader's, and below torchrun those that it started."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            table[int(entry.name)] = stat
    members = {pid for pid, stat in table.items() if stat.session == leader or pid == leader}
    while more := {pid for pid, stat in table.items() if stat.parent in members} - members:
        members |= more
    return sorted(pid for pid in members if pid in table and table[pid].state not in "ZX")


class _Stat:
    """The fields of /proc/PID/stat that matter here."""

    def __init__(self, text: str) -> None:
        fields = text[text.rindex(")") + 2 :].split()
        self.state, self.parent, self.session, self.start = fields[0], int(fields[1]), int(fields[3]), fields[19]


def _stat(pid: int) -> _Stat | None:
    try:
        return _Stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Yield a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    yield port


def _command(argv: Sequence[str], *, ranks: int, launcher: Launcher, port: int) -> list[str]:
    python = sys.executable
    if launcher == "auto":
        launcher = "python" if ranks == 1 else "deepspeed"
    if launcher == "deepspeed":
        world = base64.urlsafe_b64encode(json.dumps({"localhost": list(range(ranks))}).encode()).decode()
        return [
            python, "-m", "deepspeed.launcher.launch", f"--world_info={world}", "--master_addr=127.0.0.1",
            f"--master_port={port}", "--no_local_rank", "--quiet", "--no_python", python, "-u", *argv,
        ]  # fmt: skip
    if launcher == "torchrun":
        return [
            python, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-addr=127.0.0.1",
            f"--master-port={port}", "--no-python", python, "-u", *argv,
        ]  # fmt: skip
    if ranks > 1:
        raise ValueError(f"launcher=python starts one rank, not {ranks}; use deepspeed or torchrun")
    return [python, "-u", *argv]


def group_environment(*, ranks: int, port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ranks: where they meet, who supervises them, what DeepSpeed's compiler needs."""
    env = {
        **os.environ,
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(ranks),
        "LOCAL_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        # Freed memory is kept: a training step frees and takes the same few hundred MB, and each first touch of a page
        # costs more than the arithmetic on it (measured on two virtual cores: 662 -> 508 ms a step).
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "-1",
        "MALLOC_TOP_PAD_": str(64 << 20),
        SUPERVISOR: identify_process(os.getpid()),
    }
    env.pop("OMP_NUM_THREADS", None)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    root = str(Path(__file__).resolve().parent.parent)
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    if "TORCH_EXTENSIONS_DIR" not in env and (folder := extensions_folder()) is not None:
        env["TORCH_EXTENSIONS_DIR"] = str(folder)
    return {**env, **extra}


def extensions_folder() -> Path | None:
    """Return where compiled operators are kept: in the environment itself if it is writable, else torch's default."""
    folder = Path(sys.prefix) / "torch_extensions"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def identify_process(pid: int) -> str:
    """Return "pid:start time", which no later process can have."""
    stat = _stat(pid)
    return f"{pid}:{stat.start}" if stat is not None else f"{pid}:"


def watch_supervisor() -> None:
    """End this process at once when the supervisor named in its environment is gone; does nothing without one."""
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor:
        threading.Thread(target=_watch, args=(supervisor,), name="supervisor-watch", daemon=True).start()


def _watch(supervisor: str) -> None:
    pid = int(supervisor.partition(":")[0])
    while identify_process(pid) == supervisor:
        time.sleep(_POLL_SECONDS)
    os._exit(113)


def build_ops() -> None:
    """Compile and load DeepSpeed's shared-memory operator, which `init_distributed` needs even on one rank.

    One process builds at a time; the others wait and then find it built.  Takes 30 to 50 s once, well under 1 s after.
    """
    os.environ.update({k: v for k, v in group_environment(ranks=1, port=0, extra={}).items() if k in _BUILD_VARIABLES})
    with _exclusive():
        from deepspeed.accelerator import get_accelerator

        builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
        if builder is not None:
            builder.load(verbose=False)


_BUILD_VARIABLES = ("PATH", "TORCH_EXTENSIONS_DIR")


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
        (Path(folder) / "deepspeed_shm_comm" / "lock").unlink(missing_ok=True)
        yield


def main() -> None:
    """Command line of this module."""
    if sys.argv[1:] != ["--build-ops"]:
        sys.exit("usage: python -m infra.launch --build-ops")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()
    build_ops()
    log.info("DeepSpeed's CPU operators are ready (%.0f s)", time.monotonic() - started)


if __name__ == "__main__":
    main()
