"""A process group that is gone when its supervisor is, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.errors import StepTimeoutError
from infra.launch import SUPERVISOR as SUPERVISED
from infra.launch import identify_process, run_group
from infra.launch.processes import RANK_COMMAND

RANK = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""

SUPERVISOR = """
import sys
from infra.launch import run_group
run_group(["-c", *sys.argv[3:]], ranks=int(sys.argv[1]), launcher=sys.argv[2])
"""

LAUNCHER = """
import subprocess, sys
subprocess.run(sys.argv[1:], start_new_session=True)
"""


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while, it was read
        return False


def wait_for_ranks(folder: Path, ranks: int) -> list[int]:
    """Return the process ids of all ranks as soon as each has written its own."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        texts = [p.read_text() for p in sorted(folder.iterdir())]
        if len(texts) == ranks and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.05)
    raise AssertionError(f"{ranks} ranks did not start")


def gone(pids: list[int]) -> bool:
    """Tell whether all processes end soon; of themselves they would live for minutes."""
    end = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_lines_and_exit_status_of_the_group_reach_the_caller(tmp_path: Path) -> None:
    lines: list[str] = []
    assert run_group(["-c", RANK, str(tmp_path), "0", "7"], on_line=lines.append) == 7
    assert lines == ["rank 0 of 1"]


def test_a_group_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    for limit in (2, 10, 50):  # a busy machine takes longer than 2 s to start a rank
        with pytest.raises(StepTimeoutError, match=f"longer than {limit} s"):
            run_group(["-c", RANK, str(tmp_path), "300", "0"], timeout=limit)
        if any(path.read_text() for path in tmp_path.iterdir()):
            break
    assert gone(wait_for_ranks(tmp_path, 1))


def test_a_group_that_gets_on_may_take_longer_than_the_limit_and_one_that_only_talks_may_not() -> None:
    def run(limit: int, *, gets_on: bool) -> int:
        slow = f"import time\nfor n in range(5): print(n, flush=True); time.sleep({limit / 4})"
        return run_group(["-c", slow], on_line=lambda line: gets_on, timeout=limit)

    try:
        status = run(2, gets_on=True)
    except StepTimeoutError:  # a busy machine takes longer than 2 s to start a rank
        status = run(40, gets_on=True)
    assert status == 0
    with pytest.raises(StepTimeoutError, match="longer than 2 s"):
        run(2, gets_on=False)


def test_an_error_in_the_caller_ends_the_group(tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError):
        run_group(["-c", RANK, str(tmp_path), "300", "0"], on_line=fail)
    assert gone(wait_for_ranks(tmp_path, 1))


@pytest.mark.parametrize(
    ("ranks", "launcher", "sign"),
    [
        (1, "python", signal.SIGKILL),
        (1, "python", signal.SIGTERM),
        pytest.param(2, "deepspeed", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(2, "torchrun", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_no_rank_outlives_a_killed_supervisor(tmp_path: Path, ranks: int, launcher: str, sign: signal.Signals) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(ranks), launcher, RANK, str(tmp_path), "300", "0"],
        stdout=subprocess.DEVNULL,
    )
    pids = wait_for_ranks(tmp_path, ranks)
    os.kill(supervisor.pid, sign)
    supervisor.wait()
    assert gone(pids)


def test_no_rank_outlives_a_killed_launcher_that_gave_it_a_session_of_its_own(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *RANK_COMMAND, "-c", RANK, str(tmp_path), "300", "0"],
        env={**os.environ, SUPERVISED: identify_process(os.getpid()), "RANK": "0", "WORLD_SIZE": "1"},
    )
    pids = wait_for_ranks(tmp_path, 1)
    launcher.kill()
    launcher.wait()
    assert gone(pids)


@pytest.mark.slow
def test_one_failing_rank_ends_the_others(tmp_path: Path) -> None:
    script = RANK.replace("time.sleep(", "time.sleep(0 if os.environ['RANK'] == '1' else ")
    started = time.monotonic()
    assert run_group(["-c", script, str(tmp_path), "600", "3"], ranks=2, launcher="deepspeed") != 0
    assert time.monotonic() - started < 300
    assert gone(wait_for_ranks(tmp_path, 2))
