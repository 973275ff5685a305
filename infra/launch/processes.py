"""Processes of this machine: who belongs to a group, how to tell one from all others, and how to end a group."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

SUPERVISOR = "MILLRACE_SUPERVISOR"
"""Environment variable that tells a rank whose life it depends on: "pid:start time in clock ticks"."""

ABANDONED = 113
"""Exit status of a process that ended itself because nobody supervised it any more."""

RANK_COMMAND = [sys.executable, "-u", "-m", "infra.launch"]
"""How the command line of every rank begins."""

POLL_SECONDS = 0.5
_GRACE_SECONDS = 3.0


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


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the leader's session: ask, wait for its launcher to pass it on, then kill."""
    for sign, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        end, told = time.monotonic() + grace, set[int]()
        while members := session(process.pid):
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


def session(leader: int) -> list[int]:
    """Return the living processes whose session is the leader's, and below torchrun those that it started."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            table[int(entry.name)] = stat
    members = {pid for pid, stat in table.items() if stat.session == leader or pid == leader}
    while more := {pid for pid, stat in table.items() if stat.parent in members} - members:
        members |= more
    return sorted(pid for pid in members if pid in table and table[pid].state not in "ZX")


def signal_ranks(leader: int, sign: int) -> None:
    """Send a signal to the ranks of a session alone: a launcher between would end them before they have saved."""
    mark = b"\0".join(os.fsencode(part) for part in RANK_COMMAND) + b"\0"
    for pid in session(leader):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(mark):
                os.kill(pid, sign)


def identify_process(pid: int) -> str:
    """Return "pid:start time", which no later process can have."""
    stat = _stat(pid)
    return f"{pid}:{stat.start}" if stat is not None else f"{pid}:"


def watch_supervisor() -> None:
    """End this process at once when the supervisor named in its environment, or what has started this process, is gone.

    Does nothing without one.  Of a launcher that was killed nobody else knows the ranks: torchrun gives each of them a
    session of its own.
    """
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor:
        watched = (supervisor, os.getppid())
        threading.Thread(target=_watch, args=watched, name="supervisor-watch", daemon=True).start()


def _watch(supervisor: str, parent: int) -> None:
    pid = int(supervisor.partition(":")[0])
    while identify_process(pid) == supervisor and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(ABANDONED)
