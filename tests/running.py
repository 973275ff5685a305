"""Running the command as a person does: a process of its own, a real Prefect server, a small real corpus."""

import ast
import fcntl
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

MILLRACE = [sys.executable, "-m", "flows.command"]
ROOT = Path(__file__).resolve().parents[1]

TINY: dict[str, Any] = {
    "name": "tiny",
    "ingest": {"sources": [{"kind": "files", "name": "prose", "paths": ["corpus/*.jsonl"]}]},
    "select": {
        "languages": None, "language_threshold": None, "min_words": 5, "gopher_repetition": None,
        "gopher_quality": None, "c4": None, "fineweb": None,
    },
    "split": {"method": "hash", "validation_fraction": 0.2},
    "tokenizer": {"kind": "bpe", "vocab_size": 512},
    "pretrain": {
        "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": 64},
        "optimizer": {"kind": "adamw", "learning_rate": 0.003},
        "schedule": {"kind": "cosine", "warmup_steps": 5},
        "steps": 40,
        "batch": 4,
        "validate_every": 20,
        "execution": {"checkpoint_seconds": 0, "checkpoint_every": 10},
    },
    "evaluate": {"prompts": ["The "], "new_tokens": 16, "max_bytes": 20000},
}  # fmt: skip


@cache
def prose() -> tuple[str, ...]:
    """Return English prose: the documentation strings of this Python's standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found = {ast.get_docstring(ast.parse(path.read_bytes())) or "" for path in library.glob("*.py")}
    return tuple(sorted(text for text in found if len(text) > 200))


def write_corpus(folder: Path, *, files: int = 4, each: int = 12) -> None:
    """Write JSON Lines of prose."""
    texts = prose()
    folder.mkdir(parents=True)
    for i in range(files):
        lines = [json.dumps({"text": t, "url": f"http://docs/{i}/{j}"}) for j, t in enumerate(texts[i::files][:each])]
        (folder / f"{i}.jsonl").write_text("\n".join(lines) + "\n")


def made_once(name: str, base: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled, once for all processes of a test run; `base` is pytest's of this one."""
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def give_database(home: Path) -> None:
    """Put a migrated database of Prefect into `home`, a folder that pytest made, unless it has one.

    It is made once for all processes of a test run, which takes seconds.
    """

    def migrate(folder: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        environment = {**os.environ, "PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    if not (home / "prefect.db").exists():
        shutil.copyfile(made_once("prefect-database", home.parent, migrate) / "prefect.db", home / "prefect.db")


def _heed_interrupts() -> None:
    """Undo what a shell does to jobs that it starts in the background: they and their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def forget_settings() -> None:
    """Let settings and connections be made anew, as the environment has it now."""
    if settings := sys.modules.get("infra.settings"):
        settings.settings.cache_clear()
    if storage := sys.modules.get("infra.storage"):
        storage._filesystem.cache_clear()


@dataclass
class World:
    """A working directory with a corpus, a recipe and the settings of a run."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def recipe(self, name: str = "tiny.yaml", **changes: Any) -> str:
        """Write the tiny recipe, sections replaced by `changes`."""
        path = self.folder / name
        path.write_text(yaml.safe_dump({**TINY, **changes}))
        return str(path)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `millrace` in a process group of its own."""
        # One worker process instead of one a core: each imports for seconds what the steps need.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MILLRACE_WORKERS": "1", **self.environment}
        if arguments[0] == "run" and "PREFECT_API_URL" not in environment and "PREFECT_HOME" in os.environ:
            give_database(Path(os.environ["PREFECT_HOME"]))
        return subprocess.Popen(
            [*MILLRACE, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
            **options,
        )

    def run(self, *arguments: str, timeout: float = 540, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `millrace` to its end and hold its exit status against `status`."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"millrace {' '.join(arguments)} did not end in {timeout} s:\n{err[-3000:]}") from None
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        if status is not None:
            assert done.returncode == status, f"exit status {done.returncode}\n{out[-1500:]}\n{err[-3000:]}"
        return done

    def ask(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Do as `run` in this process, which takes a tenth of the time; for commands that only read.

        What starts others belongs into a process of its own, except where it is to be refused.
        """
        assert arguments[0] not in ("run", "up", "generate") or status == 2
        from flows.command import execute

        out, err = io.StringIO(), io.StringIO()
        floors = {floor: logging.getLogger(floor).level for floor in ("flows", "tasks", "models", "infra")}
        with chdir(self.folder), patch.dict(os.environ, self.environment), redirect_stdout(out), redirect_stderr(err):
            forget_settings()
            returned = execute(list(arguments))
        forget_settings()
        for floor, level in floors.items():  # which a command that runs something sets
            logging.getLogger(floor).setLevel(level)
        if status is not None:
            assert returned == status, f"exit status {returned}\n{out.getvalue()[-1500:]}\n{err.getvalue()[-3000:]}"
        return subprocess.CompletedProcess(["millrace", *arguments], returned, out.getvalue(), err.getvalue())

    def summary(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Run a recipe with --json and return what it prints."""
        summary: dict[str, Any] = json.loads(self.run("run", *arguments, "--json", **options).stdout)
        return summary


def digests(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (step, digest) of every step of a run."""
    return [(step["step"], step["digest"]) for step in summary["steps"]]


def states(summary: dict[str, Any]) -> dict[str, str]:
    """Return what became of each step."""
    return {step["step"]: step["state"] for step in summary["steps"]}
