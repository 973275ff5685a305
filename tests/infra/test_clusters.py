"""Ranks on several machines: over ssh, under Slurm, under Kubernetes; gone with their supervisor, however it ends."""

import getpass
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from infra.errors import UserError
from infra.launch import free_port, run_group
from infra.launch.clusters import Cluster, Hosts, KubernetesConfig, SlurmConfig
from infra.launch.hosts import read_hostfile, spread
from infra.launch.kubernetes import job_manifest, service_manifest
from infra.launch.remote import check_shared
from infra.launch.slurm import batch_script
from models.config import ExecutionConfig
from models.config.launching import check_launcher
from tests.running import forget_settings

RANK = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def note(sign, frame):
    (folder / "signalled").write_text(signal.Signals(sign).name)
    sys.exit(3)
signal.signal(signal.SIGUSR1, note)
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], os.environ.get("MILLRACE_NOTE"), flush=True)
(folder / "new").write_text(str(os.getpid()))
(folder / "new").rename(folder / "pid")
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""

MEETING = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
ranks = torch.tensor([float(os.environ["RANK"]) + 1])
dist.all_reduce(ranks)
print("rank", os.environ["RANK"], "of", dist.get_world_size(), "node", os.environ["GROUP_RANK"], "sum", ranks.item(),
      "address", os.environ["MASTER_ADDR"], flush=True)
dist.destroy_process_group()
"""

SUPERVISOR = """
import pathlib, sys
from infra.launch import kubernetes, remote, slurm
from infra.launch import run_group
from infra.launch.clusters import Hosts, KubernetesConfig, SlurmConfig
remote.BEAT_SECONDS, remote.SILENCE_SECONDS = 0.2, 2.0
slurm.POLL_SECONDS = kubernetes.POLL_SECONDS = 0.3
folder = pathlib.Path(sys.argv[2])
run_group(["-c", *sys.argv[3:]], cluster=eval(sys.argv[1]), folder=folder)
"""

SSH = """#!/bin/sh
# A machine that is reached over ssh, as far as its client sees: the command runs here.
while [ "${1#-}" != "$1" ]; do case "$1" in -o) shift 2;; *) shift;; esac; done
echo "$1" >> "$(dirname "$0")/reached"
shift
exec env -i PATH=/usr/bin:/bin sh -c "$*"
"""

KUBECTL = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys
world = pathlib.Path(__file__).parent
verbs = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
with (world / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if verbs[0] == "create":
    manifest = json.load(sys.stdin)
    (world / (manifest["kind"] + ".json")).write_text(json.dumps(manifest))
    if manifest["kind"] == "Job":
        spec, name = manifest["spec"], manifest["metadata"]["name"]
        jobs = world / "jobs" / name
        jobs.mkdir(parents=True)
        command = spec["template"]["spec"]["containers"][0]["command"]
        for index in range(spec["completions"]):
            environment = {{"PATH": os.path.dirname(sys.executable) + ":/usr/bin:/bin",
                           "JOB_COMPLETION_INDEX": str(index), "PYTHONPATH": os.environ["STAND_IN_IMAGE"]}}
            inner = command[2].replace("exec ", "", 1)
            pod = subprocess.Popen(["sh", "-c", f"{{inner}}; echo $? > {{jobs}}/{{index}}"], env=environment,
                                   start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            (world / f"{{name}}-pod-{{index}}").write_text(str(pod.pid))
    manifest["metadata"]["uid"] = "0f0e"
    print(json.dumps(manifest))
elif verbs[0] == "get":
    pods = len(list(world.glob(f"{{verbs[2]}}-pod-*")))
    ended = [int(path.read_text()) for path in (world / "jobs" / verbs[2]).iterdir() if path.read_text()]
    conditions = []
    if any(ended):
        conditions = [{{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}}]
    elif len(ended) == pods:
        conditions = [{{"type": "Complete", "status": "True"}}]
    left = pods - len(ended)
    print(json.dumps({{"status": {{"active": left, "ready": left, "conditions": conditions}}}}))
elif verbs[0] == "delete":
    for path in world.glob(f"{{verbs[2]}}-pod-*"):
        try:
            os.killpg(int(path.read_text()), signal.SIGTERM)
        except ProcessLookupError:
            pass
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a cluster more often than a busy one would like."""
    monkeypatch.setattr("infra.launch.slurm.POLL_SECONDS", 0.3)
    monkeypatch.setattr("infra.launch.kubernetes.POLL_SECONDS", 0.3)


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh, first on PATH; returns the file with the names of the machines that were reached."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "ssh", SSH)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "reached"


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for kubectl and its cluster, first on PATH: pods are processes of this machine; returns its folder."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    executable(folder / "kubectl", KUBECTL)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_IMAGE", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("MILLRACE_SHARED", str(tmp_path))
    forget_settings()
    return folder


SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SrunPortRange=30000-60000
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
KillWait=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a real Slurm with one node, this machine, that runs as long as the tests of this file."""
    programs = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
    missing = [name for name in programs if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    if missing:
        pytest.skip(f"no Slurm here: {', '.join(missing)} missing (.ci/run installs it where apt-get is)")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            host=host, user=getpass.getuser(), folder=folder, cores=os.cpu_count(), ports=(free_port(), free_port())
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with (folder / "daemons.log").open("wb") as log:
        daemons = [
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c"])
        ]
        try:
            end = time.monotonic() + 30
            command = ["sinfo", "-h"]
            while (
                "idle" not in (state := subprocess.run(command, env=environment, capture_output=True, text=True)).stdout
            ):
                if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
                    logs = " ".join(path.read_text()[-600:] for path in folder.glob("*.log"))
                    pytest.skip(f"Slurm did not start here: {state.stderr} {logs}")
                time.sleep(0.1)
            yield conf
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(timeout=120)


@pytest.fixture
def slurm(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real Slurm that this test's commands talk to."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    for name in [name for name in os.environ if name.startswith("SLURM_JOB")]:
        monkeypatch.delenv(name)
    return slurm_conf


def jobs() -> str:
    """The jobs that Slurm has not ended."""
    return subprocess.run(["squeue", "-h", "-o", "%i %T"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """A cluster of the kind that the test asks for, with one rank on one machine."""
    request.getfixturevalue(request.param)
    if request.param == "ssh":
        (tmp_path / "hosts").write_text("127.0.0.2 slots=1\n")
        return Hosts(hostfile=tmp_path / "hosts")
    if request.param == "slurm":
        return SlurmConfig(signal_seconds=0)
    return KubernetesConfig(image="millrace", claim="shared")


KINDS = pytest.mark.parametrize("cluster", ["ssh", "slurm", "kubectl"], indirect=True)


@KINDS
def test_lines_status_and_environment_come_and_go(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_NOTE", "from here")
    lines: list[str] = []
    status = run_group(
        ["-c", RANK, str(tmp_path), "0", "7"], cluster=cluster, folder=tmp_path / "group", on_line=lines.append
    )
    assert status == (1 if isinstance(cluster, KubernetesConfig) else 7)  # a Job does not tell
    assert "rank 0 of 1 from here" in lines
    assert not list((tmp_path / "group").rglob("group.json"))  # it may hold secrets


@KINDS
def test_an_error_of_the_caller_ends_the_ranks(cluster: Cluster, tmp_path: Path) -> None:
    def fail(line: str) -> None:
        if line.startswith("rank"):
            wait_until((tmp_path / "pid").exists)
            raise KeyError(line)

    with pytest.raises(KeyError):
        run_group(["-c", RANK, str(tmp_path), "300", "0"], cluster=cluster, folder=tmp_path / "group", on_line=fail)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid))
    if isinstance(cluster, SlurmConfig):
        wait_until(lambda: not jobs().strip())


@KINDS
def test_ranks_are_told_to_save_and_do_not_outlive_a_killed_supervisor(cluster: Cluster, tmp_path: Path) -> None:
    def supervisor(folder: Path) -> "subprocess.Popen[bytes]":
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", SUPERVISOR, repr(cluster).replace("PosixPath", "pathlib.Path"),
                   str(folder / "group"), RANK, str(folder), "300", "0"]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    told, killed, again = supervisor(tmp_path / "told"), None, None
    try:
        wait_until((tmp_path / "told" / "pid").exists)
        told.send_signal(signal.SIGUSR1)
        wait_until((tmp_path / "told" / "signalled").exists)
        assert (tmp_path / "told" / "signalled").read_text() == "SIGUSR1"
        told.wait(timeout=120)
        killed = supervisor(tmp_path / "killed")
        wait_until((tmp_path / "killed" / "pid").exists)
        pid = int((tmp_path / "killed" / "pid").read_text())
        if isinstance(cluster, Hosts):  # the heart-beat of the next one is not that of these ranks
            again = supervisor(tmp_path / "killed")
            wait_until(lambda: int((tmp_path / "killed" / "pid").read_text()) != pid)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        wait_until(lambda: not alive(pid))
    finally:
        for process in (told, killed, again):
            if process is not None:
                process.kill()
                process.wait()


@pytest.mark.slow
def test_ranks_of_two_machines_of_a_hostfile_meet(ssh: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# two machines\n127.0.0.2 slots=1\n\n127.0.0.3 slots=4  # filled in order\n")
    lines: list[str] = []
    status = run_group(
        ["-c", MEETING], ranks=2, launcher="torchrun", cluster=Hosts(hostfile=hosts), folder=tmp_path / "group",
        env={"OMP_NUM_THREADS": "1"}, on_line=lines.append,
    )  # fmt: skip
    assert status == 0, lines
    assert sorted(line for line in lines if line.startswith("rank")) == [
        "rank 0 of 2 node 0 sum 3.0 address 127.0.0.2",
        "rank 1 of 2 node 1 sum 3.0 address 127.0.0.2",
    ]
    assert sorted(ssh.read_text().split()) == ["127.0.0.2", "127.0.0.3"]


def test_within_an_allocation_nothing_is_submitted(slurm: Path, tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import pathlib
        from infra.launch import run_group
        from infra.launch.clusters import SlurmConfig
        folder = pathlib.Path({str(tmp_path)!r})
        run_group(["-c", {RANK!r}, str(folder), "0", "0"], cluster=SlurmConfig(), folder=folder / "group",
                  on_line=lambda line: (folder / "lines").open("a").write(line + "\\n"))
        import subprocess
        queue = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True).stdout
        (folder / "jobs").write_text(queue)
    """)
    done = subprocess.run(["salloc", "-N1", "-n1", sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rank 0 of 1 None" in (tmp_path / "lines").read_text().splitlines()
    assert len((tmp_path / "jobs").read_text().split()) == 1  # the allocation itself


def test_what_slurm_refuses_is_said_in_its_own_words(slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"execution\.slurm: sbatch refused the job: .*invalid partition"):
        run_group(["-c", "1"], cluster=SlurmConfig(partition="nowhere"), folder=tmp_path / "group")


def test_a_script_for_slurm_asks_for_everything_that_is_set(tmp_path: Path) -> None:
    cfg = SlurmConfig(nodes=2, gpus_per_node=8, cpus_per_node=96, partition="h200", account="lab", time="1-12:00:00",
                      extra=("--constraint=nvlink",))  # fmt: skip
    script = batch_script(cfg, tmp_path / "group.json", 16, tmp_path / "slurm.log")
    for option in ("--nodes=2", "--gpus-per-node=8", "--cpus-per-task=96", "--partition=h200", "--account=lab",
                   "--time=1-12:00:00", "--signal=USR1@120", "--requeue", "--constraint=nvlink"):  # fmt: skip
        assert f"#SBATCH {option}\n" in script
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1" in script


def test_manifests_are_what_kubernetes_knows() -> None:
    client = pytest.importorskip("kubernetes.client", reason="kubernetes (the client's types) is not installed")
    cfg = KubernetesConfig(
        image="registry/millrace:1", claim="shared", namespace="train", nodes=2, gpus_per_node=8, secrets=("s3",),
        service_account="trainer", node_selector={"gpu": "h200"}, tolerations=({"key": "gpu", "operator": "Exists"},),
    )  # fmt: skip
    job = job_manifest(cfg, "millrace-x", folder=Path("/shared/group"), shared=Path("/shared"), ranks=16)
    service = service_manifest(cfg, "millrace-x", owner="0f0e")
    for manifest, kind in ((job, "V1Job"), (service, "V1Service")):
        typed = client.ApiClient()._ApiClient__deserialize(manifest, kind)  # raises where a field is missing or wrong
        assert (
            client.ApiClient().sanitize_for_serialization(typed) == manifest
        )  # a key that it does not know is dropped
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "8"}
    assert pod["subdomain"] == service["metadata"]["name"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_examples_of_deployments_are_whole() -> None:
    client = pytest.importorskip("kubernetes.client", reason="kubernetes (the client's types) is not installed")
    examples = Path(__file__).resolve().parents[2] / "infra"
    api = client.ApiClient()
    run: Any = None
    for manifest in yaml.safe_load_all((examples / "kubernetes" / "millrace.yaml").read_text()):
        typed = api._ApiClient__deserialize(manifest, f"V1{manifest['kind']}")
        assert api.sanitize_for_serialization(typed) == manifest
        run = manifest
    arguments = run["spec"]["template"]["spec"]["containers"][0]["args"]
    execution: dict[str, Any] = {}
    for option, text in itertools.pairwise(arguments):
        if option == "--set":
            key, _, value = text.partition("=")
            execution[key.removeprefix("pretrain.execution.")] = yaml.safe_load(value)
    assert check_launcher(ExecutionConfig.model_validate(execution)) == []
    subprocess.run(["bash", "-n", str(examples / "slurm" / "train.sbatch")], check=True)


def test_a_whole_run_in_one_allocation_may_give_its_ranks_all_cores(slurm: Path, tmp_path: Path) -> None:
    command = tmp_path / ".venv" / "bin" / "millrace"
    command.parent.mkdir(parents=True)
    cores = os.cpu_count()
    step = f"srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task={cores} --overlap"
    command.write_text(f'#!/bin/bash\necho "$@" > said\n{step} touch ran\n')
    command.chmod(0o755)
    script = Path(__file__).parents[2] / "infra" / "slurm" / "train.sbatch"
    subprocess.run(["sbatch", str(script), "mine.yaml"], cwd=tmp_path, capture_output=True, check=True)
    end = time.monotonic() + 60
    while jobs() and time.monotonic() < end:
        time.sleep(0.1)
    assert (tmp_path / "ran").exists(), [path.read_text() for path in tmp_path.glob("millrace-*.log")]
    said = (tmp_path / "said").read_text()
    assert f"run --set pretrain.execution.slurm.cpus_per_node={cores} mine.yaml" in said
    assert said.endswith("launcher=slurm --set pretrain.execution.slurm.nodes=1\n")


def test_a_job_of_kubernetes_owns_its_service_and_is_deleted(kubectl: Path, tmp_path: Path) -> None:
    cfg = KubernetesConfig(image="millrace", claim="shared", namespace="train")
    run_group(["-c", RANK, str(tmp_path), "0", "0"], cluster=cfg, folder=tmp_path / "group")
    job, service = (json.loads((kubectl / f"{kind}.json").read_text()) for kind in ("Job", "Service"))
    assert service["metadata"]["ownerReferences"][0]["name"] == job["metadata"]["name"]
    assert service["metadata"]["ownerReferences"][0]["uid"] == "0f0e"
    last = (kubectl / "calls").read_text().splitlines()[-1]
    assert last.startswith(f"--namespace=train delete job {job['metadata']['name']}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker-1\n", r"line 1: 'worker-1' is not a machine as in `worker-1 slots=8`"),
        ("a slots=1\na slots=2\n", "line 2: a is listed twice"),
        ("-oProxyCommand=x slots=1\n", "is not a machine"),
        ("# nothing\n", "lists no machine"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_hostfile_is_refused_by_line(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "hosts"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_hostfile(path)


def test_machines_are_filled_in_order_and_must_suffice() -> None:
    hosts = [("a", 2), ("b", 4), ("c", 4)]
    assert spread(hosts, 5) == [("a", 2), ("b", 3)]
    with pytest.raises(UserError, match=r"execution\.ranks=11, but the hostfile has 10 slots on 3 machines"):
        spread(hosts, 11)


def test_machines_that_share_no_folder_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_shared(None, [tmp_path])
    with pytest.raises(UserError, match=r"Slurm: ranks on other machines need a folder.*MILLRACE_SHARED"):
        check_shared(SlurmConfig(), [tmp_path])
    monkeypatch.setenv("MILLRACE_SHARED", str(tmp_path / "shared"))
    forget_settings()
    with pytest.raises(UserError, match="local is not within MILLRACE_SHARED="):
        check_shared(SlurmConfig(nodes=2), [tmp_path / "shared" / "a", tmp_path / "local"])
    check_shared(SlurmConfig(nodes=2), [tmp_path / "shared" / "a"])
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    check_shared(Hosts(hostfile=tmp_path / "hosts"), [tmp_path / "local"])


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        (
            {"launcher": "slurm", "ranks": 7, "slurm": {"nodes": 2}},
            "execution.ranks=7 do not divide among execution.slurm.nodes=2",
        ),
        (
            {"launcher": "slurm", "ranks": 8, "slurm": {"nodes": 2, "gpus_per_node": 8}},
            "makes 4 ranks a node, but execution.slurm.gpus_per_node=8: ranks must be 16",
        ),
        ({"slurm": {}}, "execution.slurm says nothing to execution.launcher=auto"),
        ({"launcher": "kubernetes"}, "needs execution.kubernetes with image and claim"),
        ({"launcher": "slurm", "hostfile": "hosts"}, "execution.hostfile says nothing to execution.launcher=slurm"),
    ],
)
def test_a_launcher_that_cannot_start_the_ranks_is_refused_with_the_numbers(execution: Any, said: str) -> None:
    assert said in "; ".join(check_launcher(ExecutionConfig.model_validate(execution)))


@pytest.mark.parametrize(
    ("slurm", "said"),
    [({"time": "2 days"}, "time limit"), ({"extra": ["--wrap=x\nrm"]}, "option"), ({"partion": "x"}, "partion")],
)
def test_a_wrong_section_is_refused_by_name(slurm: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExecutionConfig.model_validate({"launcher": "slurm", "slurm": slurm})
