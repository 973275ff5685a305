"""Start a group of training processes so that the whole group is gone, on every rank, when its supervisor is.

    run_group(["-m", "models.train", "job.json"], ranks=2)     the program of each rank, as after `python`

The group is a session of its own: it is killed as one when the call ends, whatever ends it.  A supervisor that is
itself killed with -9 can do nothing, so each rank also watches it and ends itself: ranks are started through this
module (`python -m infra.launch -m models.train job.json`), which sees to that before anything heavy is imported.
"""

import base64
import contextlib
import json
import os
import runpy
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

Launcher = Literal["auto", "python", "deepspeed", "torchrun"]

SUPERVISOR = "MILLRACE_SUPERVISOR"
"""Environment variable that tells a rank whose life it depends on: "pid:start time in clock ticks"."""

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 3.0


def run_group(
    argv: Sequence[str],
    *,
    ranks: int = 1,
    launcher: Launcher = "auto",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], object] | None = None,
    timeout: float | None = None,
) -> int:
    """Run `python argv` on `ranks` processes of this machine and return the exit status of the group.

    Every line that any of them writes goes to `on_line`.  Raises StepTimeoutError after `timeout` seconds, counted anew
    from each line for which `on_line` returns True.  However the call ends, no process of the group is left.
    """
    port = free_port()
    command = _command(argv, ranks=ranks, launcher=launcher, port=port)
    begin = time.monotonic()
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
        for line in _lines(process.stdout, process):
            if line is not None and on_line is not None and on_line(line) is True:
                begin = time.monotonic()
            if timeout is not None and time.monotonic() - begin > timeout:
                raise StepTimeoutError(f"the process group ran longer than {timeout:g} s and was stopped")
        return process.wait()
    finally:
        kill_group(process)


def _lines(stream: IO[bytes], process: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Yield lines until the group's leader has ended and what it wrote has been read; None while there is none."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            if not selector.select(0.0 if ended else _POLL_SECONDS):
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


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the leader's session: ask, wait for its launcher to pass it on, then kill."""
    for sign, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        end, told = time.monotonic() + grace, set[int]()
        while members := _session(process.pid):
            for pid in set(members) - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            told |= set(members)
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


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(argv: Sequence[str], *, ranks: int, launcher: Launcher, port: int) -> list[str]:
    python = sys.executable
    rank = [python, "-u", "-m", "infra.launch", *argv]
    if launcher == "auto":
        launcher = "python" if ranks == 1 else "deepspeed"
    if launcher == "deepspeed":
        world = base64.urlsafe_b64encode(json.dumps({"localhost": list(range(ranks))}).encode()).decode()
        return [
            python, "-m", "deepspeed.launcher.launch", f"--world_info={world}", "--master_addr=127.0.0.1",
            f"--master_port={port}", "--no_local_rank", "--quiet", "--no_python", *rank,
        ]  # fmt: skip
    if launcher == "torchrun":
        return [
            python, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-addr=127.0.0.1",
            f"--master-port={port}", "--no-python", *rank,
        ]  # fmt: skip
    if ranks > 1:
        raise ValueError(f"launcher=python starts one rank, not {ranks}; use deepspeed or torchrun")
    return rank


def group_environment(*, ranks: int, port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ranks: where they meet, who supervises them, how they use memory and cores."""
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
    root = str(Path(__file__).resolve().parent.parent)
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    return {**env, **extra}


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


def main(argv: Sequence[str]) -> None:
    """Be one rank: watch the supervisor, and run `-m MODULE ARGUMENT…` or `-c CODE ARGUMENT…` as the main program."""
    watch_supervisor()
    kind, program, *rest = argv
    if kind == "-m":
        sys.argv = [program, *rest]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *rest]
        exec(compile(program, "<command line>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(sys.argv[1:])
