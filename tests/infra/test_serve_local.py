"""`millrace up`: a Prefect server with deployments and a worker on this machine, and nothing left when it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import UserError
from infra.serve_local import up
from infra.settings import Settings
from tests.running import give_database

FLOW = """
import logging, os, subprocess, sys, time
from prefect import flow

@flow
def work(seconds: float = 0):
    logging.getLogger("infra.orchestration").warning("pretrain: trying again")
    with open("worked-here", "w") as file:
        file.write(os.environ["PREFECT_API_URL"])
    if seconds:
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"]).wait()
"""
DEPLOYMENTS = """
pull:
  - infra.serve_local.enter_start_folder: {}
deployments:
  - name: toy
    entrypoint: millrace_toy.work
    work_pool: {name: millrace}
    schedules: [{slug: nightly, cron: "0 3 * * *", timezone: UTC}]
"""
UP = """
from pathlib import Path
from infra.serve_local import up
from infra.settings import settings
up(settings(), prefect_file=Path("prefect.yaml").resolve())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if what():
                return
        except OSError:
            pass  # not up yet
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds} s in vain")


class Server:
    """`millrace up` in a process of its own, on a toy deployment."""

    def __init__(self, folder: Path) -> None:
        (folder / "millrace_toy.py").write_text(FLOW)
        (folder / "prefect.yaml").write_text(DEPLOYMENTS)
        self.port = free_port()
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "MILLRACE_PORT": str(self.port)}
        self.process = subprocess.Popen([sys.executable, "-c", UP], cwd=folder, env=self.environment)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        for _ in range(60):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # Prefect's server says so while another one writes to its database
                    raise
            time.sleep(0.5)
        raise AssertionError(f"{url} is still busy")

    def deployed(self) -> list[str]:
        assert self.process.poll() is None, "it ended by itself"
        return [found["name"] for found in self.post("deployments/filter", {})]

    def run_for(self, seconds: float) -> None:
        deployment = self.post("deployments/filter", {})[0]["id"]
        self.post(f"deployments/{deployment}/create_flow_run", {"parameters": {"seconds": seconds}})

    def states(self) -> list[str]:
        return [run["state_type"] for run in self.post("flow_runs/filter", {})]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals) -> list[psutil.Process]:
        """End it and return what of its family is left."""
        family = self.family()
        self.process.send_signal(how)
        self.process.wait(timeout=120)
        return list(psutil.wait_procs(family, timeout=60)[1])


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Server]]:
    """Start servers that have a database of their own: its runs are counted."""
    servers: list[Server] = []
    home = tmp_path_factory.mktemp("up")
    give_database(home)
    monkeypatch.setenv("PREFECT_HOME", str(home))

    def started() -> Server:
        servers.append(Server(Path.cwd()))
        return servers[-1]

    yield started
    for server in servers:
        server.process.terminate()
        server.process.wait(timeout=120)


@pytest.mark.slow
def test_deployments_run_and_nothing_is_left_when_it_ends(start: Callable[[], Server]) -> None:
    """One life of `millrace up` and the next, as each start takes Prefect ten seconds or more."""
    server = start()
    wait_for(server.deployed)
    command = [sys.executable, "-m", "prefect", "deployment", "run", "work/toy", "--watch"]
    environment = {**server.environment, "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api"}
    subprocess.run(command, env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
    assert f":{server.port}/" in Path("worked-here").read_text(), "a run works where its worker was started"
    wait_for(lambda: "pretrain: trying again" in [line["message"] for line in server.post("logs/filter", {})])
    assert str(Path.cwd()) not in json.dumps(server.post("deployments/filter", {})), "a path of this machine"
    wait_for(lambda: server.states().count("SCHEDULED") == 3)

    Path("worked-here").unlink()
    server.run_for(300)
    wait_for(Path("worked-here").exists)
    wait_for(lambda: len(server.family()) >= 4)  # server, worker, run, and what the run has started
    assert server.end(signal.SIGTERM) == []
    assert server.process.returncode == 0

    server = start()
    wait_for(lambda: "CRASHED" in server.states())  # and no longer as running, which it is not
    assert "RUNNING" not in server.states()
    wait_for(lambda: len(server.family()) >= 2)
    assert server.end(signal.SIGKILL) == []


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}.*MILLRACE_PORT"):
            up(Settings(port=port))
