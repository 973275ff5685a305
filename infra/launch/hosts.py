"""Ranks on the machines of a hostfile, over ssh: an agent on each machine, started by one ssh process that stays.

DeepSpeed's own runner starts ranks over pdsh and leaves them behind when it is killed; an agent does not.
"""

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from infra.errors import UserError
from infra.launch.clusters import Hosts
from infra.launch.group import local_addresses
from infra.launch.node import STOP_FILE, Group
from infra.launch.processes import kill_group

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-n")
_STOP_SECONDS = 8.0


def read_hostfile(path: Path) -> list[tuple[str, int]]:
    """Return (machine, slots) of each line `name slots=8`; raises UserError that names the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"execution.hostfile={path}: cannot be read ({error})") from error
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = re.fullmatch(r"([\w.:-]+)\s+slots=([1-9]\d*)", text)
        if found is None or found[1].startswith("-"):
            raise UserError(f"{path}, line {number}: {text!r} is not a machine as in `worker-1 slots=8`")
        if found[1] in hosts:
            raise UserError(f"{path}, line {number}: {found[1]} is listed twice")
        hosts[found[1]] = int(found[2])
    if not hosts:
        raise UserError(f"execution.hostfile={path}: lists no machine")
    return list(hosts.items())


def spread(hosts: list[tuple[str, int]], ranks: int) -> list[tuple[str, int]]:
    """Return (machine, ranks), filling machines in order; raises UserError where there are fewer slots than ranks."""
    slots = sum(count for _, count in hosts)
    if slots < ranks:
        raise UserError(f"execution.ranks={ranks}, but the hostfile has {slots} slots on {len(hosts)} machines")
    filled, left = [], ranks
    for host, count in hosts:
        if left:
            filled.append((host, min(count, left)))
            left -= filled[-1][1]
    return filled


class SshAgents:
    """One ssh process a machine; on this machine the agent itself."""

    def __init__(self, cluster: Hosts, folder: Path, group: Group) -> None:
        self._hosts = [host for host, _ in spread(read_hostfile(cluster.hostfile), sum(group.ranks))]
        self._folder, self._group = folder, group
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start an agent on each machine."""
        if shutil.which(SSH[0]) is None and any(host not in local_addresses() for host in self._hosts):
            raise UserError("execution.hostfile: ssh is not on PATH; install an ssh client")
        address = None if self._hosts[0] in local_addresses() else self._hosts[0]
        path = Group(**{**vars(self._group), "address": address}).write(self._folder)
        for index, host in enumerate(self._hosts):
            agent = [sys.executable, "-u", "-m", "infra.launch.node", str(path), "--node", str(index)]
            root = str(Path(__file__).resolve().parents[2])
            if host in local_addresses():
                command = ["env", f"PYTHONPATH={root}", *agent]
            else:
                command = [*SSH, host, f"cd {shlex.quote(root)} && exec {shlex.join(agent)}"]
            with (self._folder / f"node-{index:03d}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
                )

    def poll(self) -> int | Literal["waiting", "running"]:
        """Return the first exit status that is not 0: one machine without the others cannot go on."""
        ended = [process.poll() for process in self._processes]
        failed = next((status for status in ended if status), None)
        if failed is not None:
            return failed
        return "running" if None in ended else 0

    def stop(self) -> None:
        """Have each agent end its ranks, then end what is left of the connections."""
        (self._folder / STOP_FILE).touch()
        end = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < end and any(process.poll() is None for process in self._processes):
            time.sleep(0.1)
        for process in self._processes:
            kill_group(process)
