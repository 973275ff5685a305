"""Ranks under Slurm: srun within an allocation, sbatch elsewhere; cancelled when their supervisor ends for any reason.

One task a node, which is the agent of that node (node.py).  A submitted job is told with SIGUSR1 before its time limit,
so that ranks save, and is queued again where Slurm took its nodes back (`requeue`).
"""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from infra.errors import UserError, WorkerDiedError
from infra.launch.clusters import SlurmConfig
from infra.launch.node import Group
from infra.launch.processes import kill_group

log = logging.getLogger(__name__)

Take = Callable[[str], object]

POLL_SECONDS = 3.0
"""Seconds between two questions about a job."""
_COMMAND_SECONDS = 60.0
_UNREACHABLE_SECONDS = 900.0
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
_RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING")


def make_agents(cfg: SlurmConfig, folder: Path, group: Group, take: Take) -> "SrunAgents | SbatchAgents":
    """Return the agents of a group: in the allocation that this process runs in, or in a job of their own."""
    allocated = os.environ.get("SLURM_JOB_ID")
    command = "srun" if allocated else "sbatch"
    if shutil.which(command) is None:
        raise UserError(f"execution.launcher=slurm: {command} is not on PATH; start it on a login node of the cluster")
    if not allocated:
        return SbatchAgents(cfg, folder, group, take)
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes < cfg.nodes:
        raise UserError(f"execution.slurm.nodes={cfg.nodes}, but the allocation {allocated} has {nodes} nodes")
    return SrunAgents(cfg, folder, group)


def srun_command(cfg: SlurmConfig, group_file: Path, ranks: int) -> list[str]:
    """Return the command that starts an agent on each node, with all cores of its ranks; one that fails ends all."""
    cores = cfg.cpus_per_node or ranks // cfg.nodes
    gpus = [f"--gpus-per-node={cfg.gpus_per_node}"] if cfg.gpus_per_node else []
    return [
        "srun", f"--nodes={cfg.nodes}", f"--ntasks={cfg.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}",
        *gpus, "--kill-on-bad-exit=1", "--overlap", "--unbuffered",
        sys.executable, "-u", "-m", "infra.launch.node", str(group_file),
    ]  # fmt: skip


def batch_script(cfg: SlurmConfig, group_file: Path, ranks: int, log_file: Path) -> str:
    """Return the script that sbatch is given."""
    cores = cfg.cpus_per_node or ranks // cfg.nodes
    options = [
        "--job-name=millrace", f"--nodes={cfg.nodes}", f"--ntasks={cfg.nodes}", "--ntasks-per-node=1",
        f"--cpus-per-task={cores}", f"--output={log_file}", "--open-mode=append",
        "--requeue" if cfg.requeue else "--no-requeue",
        *([f"--gpus-per-node={cfg.gpus_per_node}"] if cfg.gpus_per_node else []),
        *([f"--partition={cfg.partition}"] if cfg.partition else []),
        *([f"--account={cfg.account}"] if cfg.account else []),
        *([f"--time={cfg.time}"] if cfg.time else []),
        *([f"--signal=USR1@{cfg.signal_seconds}"] if cfg.signal_seconds else []),
        *cfg.extra,
    ]  # fmt: skip
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options)]
    root = Path(__file__).resolve().parents[2]
    lines += [f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}"]
    return "\n".join([*lines, f"exec {shlex.join(srun_command(cfg, group_file, ranks))}"]) + "\n"


class SrunAgents:
    """A step of the allocation that this process runs in."""

    def __init__(self, cfg: SlurmConfig, folder: Path, group: Group) -> None:
        self._cfg, self._folder, self._group = cfg, folder, group
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the step."""
        path = self._group.write(self._folder)
        root = str(Path(__file__).resolve().parents[2])
        with (self._folder / "srun.log").open("ab") as output:
            self._process = subprocess.Popen(
                srun_command(self._cfg, path, sum(self._group.ranks)),
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(":")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | Literal["waiting", "running"]:
        """Return srun's exit status, the highest of all agents."""
        assert self._process is not None
        status = self._process.poll()
        return "running" if status is None else status

    def stop(self) -> None:
        """End srun, which ends its step."""
        if self._process is not None:
            kill_group(self._process)


class SbatchAgents:
    """A job that was submitted."""

    def __init__(self, cfg: SlurmConfig, folder: Path, group: Group, take: Take) -> None:
        self._cfg, self._folder, self._group, self._take = cfg, folder, group, take
        self._job: str | None = None
        self._state: int | Literal["waiting", "running"] = "waiting"
        self._said = ""
        self._asked = self._answered = 0.0

    def start(self) -> None:
        """Submit the job; raises UserError with what sbatch says where it refuses."""
        path = self._group.write(self._folder)
        script = self._folder / "job.sh"
        script.write_text(batch_script(self._cfg, path, sum(self._group.ranks), self._folder / "slurm.log"))
        done = _ask(["sbatch", "--parsable", str(script)])
        found = re.match(r"(\d+)", done.stdout)
        if done.returncode or found is None:
            raise UserError(
                f"execution.slurm: sbatch refused the job: {' '.join((done.stderr or done.stdout).split())}"
            )
        self._job = found[1]
        self._answered = time.monotonic()
        self._take(f"Slurm: submitted job {self._job}")

    def poll(self) -> int | Literal["waiting", "running"]:
        """Ask Slurm every few seconds how the job does; raises WorkerDiedError where it does not answer for long."""
        now = time.monotonic()
        if isinstance(self._state, int) or now - self._asked < POLL_SECONDS:
            return self._state
        self._asked = now
        done = _ask(["scontrol", "--oneliner", "show", "job", str(self._job)])
        state = re.search(r"\bJobState=(\w+)", done.stdout)
        if done.returncode or state is None:
            why = " ".join(done.stderr.split())
            if "Invalid job id" in why:  # ended so long ago that Slurm has forgotten it
                self._state = 1
            elif now - self._answered > _UNREACHABLE_SECONDS:
                raise WorkerDiedError(f"Slurm has not answered for {_UNREACHABLE_SECONDS:g} s: {why}")
            return self._state
        self._answered = now
        self._take_state(state[1], done.stdout)
        return self._state

    def _take_state(self, state: str, text: str) -> None:
        if state != self._said:
            self._said = state
            reason = re.search(r"\bReason=(\S+)", text)
            self._take(f"Slurm: job {self._job} is {state}" + (f" ({reason[1]})" if reason else ""))
        if state in _WAITING:
            self._state = "waiting"
        elif state in _RUNNING:
            self._state = "running"
        else:
            code = re.search(r"\bExitCode=(\d+):(\d+)", text)
            self._state = 0 if state == "COMPLETED" else (int(code[1]) if code and int(code[1]) else 1)

    def stop(self) -> None:
        """Cancel the job, unless it has ended by itself."""
        if self._job is None or isinstance(self._state, int):
            return
        done = _ask(["scancel", self._job])
        if done.returncode:
            log.error("Slurm: job %s could not be cancelled: %s", self._job, " ".join(done.stderr.split()))


def _ask(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} took longer than {_COMMAND_SECONDS:g} s")
