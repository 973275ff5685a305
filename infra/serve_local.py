"""Prefect on this machine: server, UI, work pool, deployments and a worker, until Ctrl-C (`millrace up`).

All of it is Prefect's own commands, run as child processes. They end with this process, however it ends: in order on
SIGINT and SIGTERM; on `kill -9` by the signal that Linux sends them. Runs that a worker had in hand end with it and
are resumed by starting them again.
"""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from infra.embedded import START_SECONDS, end_with_parent
from infra.errors import MillraceError, UserError
from infra.settings import Settings

log = logging.getLogger(__name__)

WORK_POOL = "millrace"
HOST = "127.0.0.1"
STOP_SECONDS = 10.0
"""How long a child may take to stop before it is killed."""


class _Children:
    """Prefect's commands as child processes, which all end when this context does."""

    def __init__(self, environment: dict[str, str], logs: Path, stop: threading.Event) -> None:
        self._environment = environment
        self._logs = logs
        self._stop = stop
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start `prefect ARGUMENTS`, which says what it has to say in `{name}.log`."""
        with self.log(name).open("wb") as output:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "prefect", "--no-prompt", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then stops them in order
                preexec_fn=end_with_parent,
            )

    def finish(self, name: str) -> None:
        """Wait for a command that ends by itself; raises MillraceError when it fails."""
        child = self._running[name]
        self.wait_until(lambda: child.poll() is not None)
        del self._running[name]
        if child.returncode:
            raise self._failure(name, child.returncode)

    def wait_until(self, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait for a condition while all children live; raises MillraceError when one died or time is up."""
        ticks = 0
        while not condition():
            if self._stop.wait(0.25):
                raise KeyboardInterrupt
            for name, child in self._running.items():
                if child.poll():
                    raise self._failure(name, child.returncode)
            ticks += 1
            if timeout is not None and ticks * 0.25 > timeout:
                raise MillraceError(f"Prefect did not answer within {timeout:.0f} s; see {self._logs}")

    def log(self, name: str) -> Path:
        """Return the file that holds what the child says."""
        return self._logs / f"{name}.log"

    def close(self) -> None:
        """Stop all children, the last started first, and what they have started."""
        for child in reversed(self._running.values()):
            family = _family(child.pid)
            child.terminate()
            psutil.wait_procs(family, timeout=STOP_SECONDS)
            for process in family:
                if process.is_running():
                    process.kill()
            child.wait()

    def _failure(self, name: str, status: int) -> MillraceError:
        said = [line for line in self.log(name).read_text(errors="replace").splitlines() if line.strip()]
        # Prefect ends a traceback with a line that says nothing; the last one that names an error is the news.
        errors = [line for line in said if re.match(r"[\w.]+(Error|Exception): ", line)]
        news = (errors or said or ["it said nothing"])[-1].strip()
        return MillraceError(f"prefect's {name} ended with status {status}: {news} (all of it: {self.log(name)})")


def up(settings: Settings, *, prefect_file: Path | None = None) -> None:
    """Run Prefect's server, UI and a worker with all deployments until SIGINT or SIGTERM.

    Args:
        settings: `port` and `workspace` (Prefect's database and logs go below it).
        prefect_file: the deployments; `prefect.yaml` of the checkout that Millrace was installed from by default.

    Raises:
        UserError: the port is taken, or there are no deployments.
        MillraceError: one of Prefect's processes failed; names its log.
    """
    deployments = prefect_file or Path(__file__).resolve().parents[1] / "prefect.yaml"
    if not deployments.is_file():
        raise UserError(f"{deployments}: not found; `millrace up` needs the checkout that holds prefect.yaml")
    _check_port(settings.port)
    logs = settings.workspace.resolve() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    url = f"http://{HOST}:{settings.port}"
    with _stop_on_signals() as stop, _closing(_Children(_environment(settings, url), logs, stop)) as children:
        log.info("starting Prefect's server (%s)", children.log("server"))
        children.start("server", "server", "start", "--host", HOST, "--port", str(settings.port))
        children.wait_until(lambda: _answers(f"{url}/api/health"), timeout=START_SECONDS)
        _close_orphans(f"{url}/api")
        children.start("worker", "worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", "local")
        # The worker makes the pool that the deployments name.
        children.wait_until(lambda: _answers(f"{url}/api/work_pools/{WORK_POOL}"), timeout=START_SECONDS)
        children.start("deploy", "deploy", "--all", "--prefect-file", str(deployments))
        children.finish("deploy")
        log.info("Prefect's UI: %s (Ctrl-C stops it and its runs); the worker's log: %s", url, children.log("worker"))
        children.wait_until(lambda: False)


def _environment(settings: Settings, url: str) -> dict[str, str]:
    return {
        **os.environ,
        "PREFECT_HOME": str(settings.workspace.resolve() / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",  # the UI asks port 4200 otherwise, whatever the server's
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_DEPLOYMENTS_CLEAR_SCHEDULES_ON_EMPTY": "true",
        # What the steps say of a run stands beside it in the UI; what no run says has no place there.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,models,infra",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PWD": str(Path.cwd()),  # enter_start_folder
    }


def enter_start_folder() -> dict[str, str]:
    """Enter the folder in which the worker was started: the pull step of prefect.yaml.

    A worker gives each run an empty temporary folder; Millrace's settings and its default storage are relative to the
    working directory. Prefect's own step would write down a path of the machine that deploys. Raises UserError when
    the worker's environment does not say where it was started.
    """
    folder = os.environ.get("PWD")
    if not folder or not Path(folder).is_dir():
        raise UserError(f"the worker's PWD ({folder or 'not set'}) is no folder; start it from a shell, or set PWD")
    os.chdir(folder)
    return {"directory": folder}


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _closing(children: _Children) -> Iterator[_Children]:
    try:
        yield children
    except KeyboardInterrupt:
        log.info("stopping")
    finally:
        children.close()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise UserError(f"port {port} cannot be used ({exc.strerror}); set MILLRACE_PORT to a free one") from exc


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _close_orphans(api: str) -> None:
    """Mark as crashed what an earlier worker left unfinished: Prefect itself shows such runs as running for ever."""
    unfinished = {
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
    }
    state = {"type": "CRASHED", "message": "Its worker was stopped. Run it again: what is finished is not done twice."}
    for run in _post(f"{api}/flow_runs/filter", unfinished):
        _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        log.info("run %s was cut short by the end of its worker", run["name"])


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)
