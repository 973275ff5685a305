"""The agent on each machine of a cluster: starts that machine's ranks, and ends them when nobody supervises them.

    python -m infra.launch.node FOLDER/group.json [--node N] [--log FILE]

What to run stands in a file of the folder that all machines share, for its environment may hold secrets that a command
line would show.  The agent's place is N, or what Slurm (SLURM_NODEID) or Kubernetes (JOB_COMPLETION_INDEX) calls it.
The supervisor's heart-beat is a number that it changes in a file; no clocks are compared.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import Any

from infra.launch.group import Launcher, Node, free_port, group_environment, local_command, run_command
from infra.launch.processes import ABANDONED, POLL_SECONDS, session, signal_ranks

GROUP_FILE = "group.json"
BEAT_FILE = "heart-beat"
STOP_FILE = "stop"
"""Appears when ranks are to end, whatever they do."""
_MEETING_SECONDS = 600.0


@dataclass(frozen=True)
class Group:
    """What all agents are told."""

    argv: list[str]
    """What follows `python` in the command of a rank."""
    ranks: list[int]
    """Ranks of each machine, in order."""
    launcher: Launcher
    env: dict[str, str]
    cwd: str
    silence_seconds: float
    """Without a heart-beat for so long, ranks are ended."""
    address: str | None = None
    """Name of the first machine that the others reach it by; its own name by default."""
    port: int | None = None
    """Port to meet on; one that is free on the first machine by default."""

    def write(self, folder: Path) -> Path:
        """Write the group for its agents, readable by their user alone; return the file."""
        path = folder / GROUP_FILE
        path.touch(mode=0o600)
        path.write_text(dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> "Group":
        """Read what `write` wrote."""
        return cls(**loads(path.read_bytes()))


@dataclass(frozen=True)
class Beat:
    """One heart-beat: a number that changes, and how many times each signal was to be passed on so far."""

    count: int
    signals: dict[str, int]

    def write(self, folder: Path) -> None:
        """Replace the last heart-beat."""
        path = folder / BEAT_FILE
        temporary = path.with_suffix(".new")
        temporary.write_text(dumps(asdict(self)))
        temporary.replace(path)

    @classmethod
    def read(cls, folder: Path) -> "Beat | None":
        """Return the last heart-beat; None where the file cannot be read now."""
        try:
            return cls(**loads((folder / BEAT_FILE).read_bytes()))
        except (OSError, ValueError):
            return None


class _Watch:
    """Passes on signals that come with the heart-beat, and ends the ranks and this agent when it stops."""

    def __init__(self, folder: Path, silence_seconds: float) -> None:
        self._folder, self._silence = folder, silence_seconds
        self.leader: int | None = None

    def start(self) -> None:
        """Watch from now on, in a thread."""
        threading.Thread(target=self._run, name="heart-beat-watch", daemon=True).start()

    def _run(self) -> None:
        last = begun = Beat.read(self._folder)
        passed = dict(begun.signals) if begun is not None else {}
        changed, stopping = time.monotonic(), False
        while time.monotonic() - changed < self._silence and _is_there(self._folder) is not False:
            time.sleep(POLL_SECONDS)
            if not stopping and _is_there(self._folder / STOP_FILE):
                stopping = True
                os.kill(os.getpid(), signal.SIGINT)  # the main thread ends the ranks, asking first
            beat = Beat.read(self._folder)
            if beat is None or beat == last:
                continue
            last, changed = beat, time.monotonic()
            for name, count in beat.signals.items():
                if count > passed.get(name, 0) and self.leader is not None:
                    signal_ranks(self.leader, signal.Signals[name])
            passed = dict(beat.signals)
        sys.stderr.write(
            f"no heart-beat of the supervisor for {self._silence:g} s, or another one has taken over: this machine's "
            "ranks are ended\n"
        )
        sys.stderr.flush()
        for pid in session(self.leader) if self.leader is not None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(ABANDONED)


def _is_there(path: Path) -> bool | None:
    """Tell whether a file is there; None where the shared file system gives no answer."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _meet(folder: Path, group: Group, index: int, *, round_: str) -> tuple[str, int]:
    """Return address and port where all ranks meet: the first machine names them in a file of the shared folder."""
    if len(group.ranks) == 1:
        return "127.0.0.1", free_port()
    if group.port is not None and group.address is not None:
        _wait_for_name(group.address)
        return group.address, group.port
    path = folder / f"meeting-{round_}.json"
    if index == 0:
        place = group.address or socket.gethostname(), free_port()
        temporary = path.with_suffix(".new")
        temporary.write_text(dumps(place))
        temporary.replace(path)
        return place
    end = time.monotonic() + _MEETING_SECONDS
    while time.monotonic() < end:
        if path.exists():
            address, port = loads(path.read_bytes())
            return address, port
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"the first machine did not say in {path} where to meet, for {_MEETING_SECONDS:g} s")


def _wait_for_name(address: str) -> None:
    """Wait until the name of the first machine is known: that of a pod appears some seconds after the pod."""
    end = time.monotonic() + _MEETING_SECONDS
    while True:
        try:
            socket.getaddrinfo(address, None)
            return
        except socket.gaierror:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def _place(given: int | None) -> tuple[int, str]:
    """Return which machine this is, and a name for this life of the job (Slurm may queue it again)."""
    place = os.environ.get("SLURM_NODEID") or os.environ.get("JOB_COMPLETION_INDEX") or "0"
    life = (os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
    return int(place) if given is None else given, ".".join(life)


def main(argv: list[str]) -> int:
    """Be the agent of one machine; returns the exit status of its ranks."""
    parser = argparse.ArgumentParser(prog="python -m infra.launch.node")
    parser.add_argument("group", type=Path)
    parser.add_argument("--node", type=int)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args(argv)
    folder, group = given.group.parent, Group.read(given.group)
    index, round_ = _place(given.node)
    watch = _Watch(folder, group.silence_seconds)
    watch.start()
    address, port = _meet(folder, group, index, round_=round_)
    node = Node(group.ranks, index=index, address=address, port=port)
    log = given.log.open("a", encoding="utf-8") if given.log else None

    def show(line: str) -> None:
        for stream in (sys.stdout, log):
            if stream is not None:
                stream.write(line + "\n")
                stream.flush()

    def started(pid: int) -> None:
        watch.leader = pid

    return run_command(
        local_command(group.argv, node=node, launcher=group.launcher),
        env=group_environment(node=node, extra=group.env),
        cwd=Path(group.cwd),
        on_line=show,
        on_start=started,
    )


def _exit(sign: int, frame: Any) -> None:
    raise SystemExit(128 + sign)  # which ends the ranks on its way


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, _exit)  # an ssh connection that breaks
    signal.signal(signal.SIGINT, _exit)
    sys.exit(main(sys.argv[1:]))
