"""Prefect's temporary server, for a command that was given none.

Prefect starts one by itself, but in the process group of the command, where Ctrl-C ends it before the run can say what
became of it, and `kill -9` of the command leaves it behind. So it is started here: it ignores the terminal's signals
and ends with the process that started it. It starts while that process still imports Prefect, which saves seconds.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.errors import MillraceError
from infra.launch import free_port
from infra.settings import Settings

START_SECONDS = 120.0
"""How long the server may take to answer: its first start makes a database, 11 s on an idle machine."""
STOP_SECONDS = 5.0
_TRIES = 5
_SERVER = {
    # What Prefect tells its own temporary servers.
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    # States of task runs are written every two seconds and at the end. Written one by one, as is the default, they and
    # the requests of the flow lock one another out of SQLite, which costs each run a retry after two seconds.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    # Nothing is scheduled, late, paused or triggered on a server that one run has for itself.
    **{
        f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
        for service in (
            "SCHEDULER", "LATE_RUNS", "FOREMAN", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "TRIGGERS",
        )
    },
}  # fmt: skip
_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Have Linux end the calling process when its parent ends, however it ends (for `preexec_fn`)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def prepare_environment(settings: Settings, *, quiet: bool) -> None:
    """Set what Prefect reads when it is imported: its database in the workspace, no telemetry; the user's own stays."""
    os.environ.setdefault("PREFECT_HOME", str((settings.workspace / "prefect").resolve()))
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")


@dataclass
class EmbeddedServer:
    """A server of this process on a free port of loopback; `wait` makes it the one that Prefect talks to."""

    log: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, settings: Settings) -> Self | None:
        """Start one unless PREFECT_API_URL names a server; `prepare_environment` must have been called."""
        if os.environ.get("PREFECT_API_URL"):
            return None
        log = Path(os.environ["PREFECT_HOME"]) / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        port = free_port()
        server = cls(log, port, _launch(port, log))
        atexit.register(server.stop)  # after Prefect has sent its last events, which it does when threading ends
        return server

    def wait(self) -> None:
        """Wait until it answers; raises MillraceError with the last line of its log if it does not."""
        url = f"http://127.0.0.1:{self.port}/api"
        end = time.monotonic() + START_SECONDS
        tries = 1
        while not _answers(url):
            if self.process.poll() is not None and tries < _TRIES:  # the port was taken meanwhile
                tries += 1
                self.port = free_port()
                url = f"http://127.0.0.1:{self.port}/api"
                self.process = _launch(self.port, self.log)
            elif self.process.poll() is not None or time.monotonic() > end:
                lines = self.log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
                raise MillraceError(f"Prefect's temporary server did not start: {lines[-1]} (all of it: {self.log})")
            time.sleep(0.1)
        os.environ["PREFECT_API_URL"] = url

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _launch(port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
             "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"],
            env={**os.environ, **_SERVER},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except (OSError, urllib.error.URLError):
        return False
    return True


def leave_within(seconds: float, status: int) -> None:
    """End this process with `status` even if what libraries do at exit hangs, as on a server that is gone."""

    def leave() -> None:
        time.sleep(seconds)
        sys.stderr.flush()
        os._exit(status)

    threading.Thread(target=leave, name="leave", daemon=True).start()
