"""A group of ranks on several machines: what all kinds of clusters have in common.

The machines share a folder.  In it lie what the agents are told (node.py), the supervisor's heart-beat, and log files
that everything writes into and the supervisor reads as they grow.  A kind of cluster says how agents are started,
how they do, and how they are ended.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, Protocol

from infra.errors import StepTimeoutError, UserError
from infra.launch.clusters import Cluster, Hosts, KubernetesConfig, SlurmConfig
from infra.launch.group import Launcher, local_addresses, passing_on
from infra.launch.node import Beat, Group
from infra.launch.processes import POLL_SECONDS
from infra.settings import settings

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""Seconds between two heart-beats."""
SILENCE_SECONDS = 60.0
"""Agents end their ranks after so many seconds without one: above what a shared file system may hold back."""

_ENVIRONMENT = (
    "MILLRACE_", "AWS_", "NCCL_", "GLOO_", "TORCH", "DS_", "DEEPSPEED_", "HF_", "CUDA_", "MLFLOW_", "WANDB_",
    "FSSPEC_", "OMP_", "MKL_", "PYTHONHASHSEED",
)  # fmt: skip
"""Variables of this process that ranks on other machines get, by how their names begin; not those that name devices."""


class Agents(Protocol):
    """The agents of one group, on one kind of cluster."""

    def start(self) -> None:
        """Start them, or hand them over to a scheduler; raises UserError where it refuses."""

    def poll(self) -> int | Literal["waiting", "running"]:
        """Say how they do: an exit status when all have ended. Called a few times a second."""

    def stop(self) -> None:
        """End all of them, whatever they do; called once, also after the end."""


class HeartBeat:
    """Tells the agents every few seconds that their supervisor lives, and which signals it got."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count, self._signals = folder, 0, dict[str, int]()
        self._stop, self._lock = threading.Event(), threading.RLock()

    def beat(self) -> None:
        """Beat once."""
        with self._lock:
            self._count += 1
            Beat(self._count, dict(self._signals)).write(self._folder)

    def signal(self, sign: int) -> None:
        """Have each agent pass a signal on to its ranks."""
        import signal

        name = signal.Signals(sign).name
        self._signals[name] = self._signals.get(name, 0) + 1
        self.beat()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat as long as the context lasts."""

        def run() -> None:
            while not self._stop.wait(BEAT_SECONDS):
                try:
                    self.beat()
                except OSError as error:  # a shared file system that is away for a moment
                    log.warning("the heart-beat could not be written: %s", error)

        self.beat()
        thread = threading.Thread(target=run, name="heart-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


class Tail:
    """The lines that are added to the log files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[Path, tuple[IO[bytes], bytes]] = {}

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that have come since the last call."""
        for path in sorted(self._folder.glob("*.log")):
            stream, rest = self._open.get(path) or (path.open("rb"), b"")
            while chunk := stream.read(1 << 16):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
            self._open[path] = stream, rest

    def close(self) -> None:
        """Close the files."""
        for stream, _ in self._open.values():
            stream.close()


def check_shared(cluster: Cluster | None, paths: Sequence[Path]) -> None:
    """Raise UserError that names the setting and a path that other machines of the cluster would not see."""
    if cluster is None or _is_this_machine(cluster):
        return
    shared = settings().shared
    if shared is None:
        raise UserError(
            f"{type(cluster).__name__.removesuffix('Config')}: ranks on other machines need a folder that all of them "
            f"see; name it with MILLRACE_SHARED, and put MILLRACE_WORKSPACE into it (and MILLRACE_STORAGE, unless it "
            "is object storage)"
        )
    for path in paths:
        if not path.resolve().is_relative_to(shared.resolve()):
            raise UserError(
                f"{path.resolve()} is not within MILLRACE_SHARED={shared}, so that other machines would not see it; "
                "put MILLRACE_WORKSPACE there (and MILLRACE_STORAGE, unless it is object storage)"
            )


def _is_this_machine(cluster: Cluster) -> bool:
    """Tell whether nothing runs elsewhere: a hostfile of this machine, an allocation of one node."""
    if isinstance(cluster, Hosts):
        from infra.launch.hosts import read_hostfile

        return all(host in local_addresses() for host, _ in read_hostfile(cluster.hostfile))
    return isinstance(cluster, SlurmConfig) and cluster.nodes == 1 and "SLURM_JOB_ID" in os.environ


def run_on_cluster(
    cluster: Cluster,
    folder: Path,
    argv: Sequence[str],
    *,
    ranks: int,
    launcher: Launcher,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    on_line: Callable[[str], object] | None,
    timeout: float | None,
) -> int:
    """Run a group of ranks on a cluster; as `run_group`, where seconds in a queue do not count against `timeout`."""
    shutil.rmtree(folder, ignore_errors=True)
    # A folder of its own: the agents of a killed supervisor must not take this one's heart-beat for that of theirs,
    # nor a job that it left in a queue find what to run.
    folder = folder / uuid.uuid4().hex[:8]
    folder.mkdir(parents=True)
    passed = {name: value for name, value in os.environ.items()
              if name.startswith(_ENVIRONMENT) and name != "CUDA_VISIBLE_DEVICES"}  # fmt: skip
    group = Group(
        argv=list(argv),
        ranks=_ranks(cluster, ranks),
        launcher="python" if ranks == 1 else "torchrun" if launcher == "auto" else launcher,
        env={**passed, **(env or {})},
        cwd=str((cwd or folder).resolve()),  # not this process's: another machine may not have it
        silence_seconds=SILENCE_SECONDS,
    )
    heart = HeartBeat(folder)
    tail = Tail(folder)
    take = on_line or (lambda line: None)
    agents = _agents(cluster, folder, group, take)
    try:
        with heart.beating(), passing_on(heart.signal):
            try:
                agents.start()
                return _supervise(agents, tail, take, timeout)
            finally:
                agents.stop()
    finally:
        tail.close()
        (folder / "group.json").unlink(missing_ok=True)


def _supervise(agents: Agents, tail: Tail, take: Callable[[str], object], timeout: float | None) -> int:
    begin = time.monotonic()
    while True:
        state = agents.poll()
        if state == "waiting":
            begin = time.monotonic()
        for line in tail.lines():
            if take(line) is True:
                begin = time.monotonic()
        if isinstance(state, int):
            return state
        if timeout is not None and time.monotonic() - begin > timeout:
            raise StepTimeoutError(f"the process group ran longer than {timeout:g} s and was stopped")
        time.sleep(POLL_SECONDS / 2)


def _ranks(cluster: Cluster, ranks: int) -> list[int]:
    """Return how many ranks each machine has."""
    if isinstance(cluster, Hosts):
        from infra.launch.hosts import read_hostfile, spread

        return [count for _, count in spread(read_hostfile(cluster.hostfile), ranks)]
    return [ranks // cluster.nodes] * cluster.nodes


def _agents(cluster: Cluster, folder: Path, group: Group, take: Callable[[str], object]) -> Agents:
    if isinstance(cluster, Hosts):
        from infra.launch.hosts import SshAgents

        return SshAgents(cluster, folder, group)
    if isinstance(cluster, SlurmConfig):
        from infra.launch.slurm import make_agents

        return make_agents(cluster, folder, group, take)
    assert isinstance(cluster, KubernetesConfig)
    from infra.launch.kubernetes import KubernetesAgents

    return KubernetesAgents(cluster, folder, group, take)
