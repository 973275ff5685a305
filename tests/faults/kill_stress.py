"""Kill a training again and again, at random times, and see that its weights are those of an undisturbed one.

    python -m tests.faults.kill_stress --kills 100 [--ranks 2] [--zero-stage 1] [--seed 0] [--result FILE]

Each life is what a user's run is: a supervisor process, its group of ranks, checkpoints in storage.  `kill -9` hits
the supervisor, one of the ranks, or all of them, at a random time after the life began to train, or (one in five)
while it still starts.  The run is as long as the kills last; then one last life finishes it.
"""

import argparse
import hashlib
import json
import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from infra.artifacts import Attempt
from tasks.pretrain import PretrainConfig, pretrain
from tests.tasks.token_corpus import make_corpus

log = logging.getLogger(__name__)

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "kill_stress.json"
FINAL = ("model.safetensors", "curve.jsonl", "training.json")
_SUPERVISOR = """
import pickle, sys
from models.job import Failure, Job, failure_folder
from tasks.pretrain import pretrain
cfg, tokens, tokenizer, out = pickle.load(open(sys.argv[1], "rb"))
pretrain.fn(cfg, tokens, tokenizer, out)
"""


def config(steps: int, ranks: int, zero_stage: int) -> PretrainConfig:
    """Return a training of a few milliseconds a step that saves as often as it can."""
    return PretrainConfig.model_validate(
        {
            "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": 32, "dropout": 0.1},
            "optimizer": {"kind": "adamw", "learning_rate": 0.003},
            "schedule": {"kind": "wsd", "warmup_steps": 4},
            "steps": steps,
            "batch": 8,
            "validate_every": 500,
            "curve_every": 50,
            "validation_tokens": 1000,
            "execution": {
                "ranks": ranks, "zero_stage": zero_stage, "threads": 1, "checkpoint_seconds": 0, "checkpoint_every": 5,
            },
        }
    )  # fmt: skip


@dataclass
class Stress:
    """A run, its corpus, and what has happened to it."""

    folder: Path
    cfg: PretrainConfig
    chooser: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    passed_over: int = 0
    unfinished: int = 0
    steps_when_killed: list[int] = field(default_factory=list)
    lives: int = 0

    def __post_init__(self) -> None:
        self.corpus = make_corpus(self.folder / "corpus")
        self.scratch, self.partial = self.folder / "run.scratch", Attempt.at(self.folder / "run").partial

    def begin(self) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the next life; returns its supervisor and its folder."""
        self.lives += 1
        out = Attempt(self.folder / f"life-{self.lives:04d}", self.scratch, self.partial)
        out.directory.mkdir()
        call = self.folder / "call.pickle"
        call.write_bytes(pickle.dumps((self.cfg, self.corpus.tokens, self.corpus.tokenizer, out)))
        with (self.folder / "supervisors.log").open("ab") as said:  # what a killed rank's supervisor reports, mostly
            return subprocess.Popen([sys.executable, "-c", _SUPERVISOR, str(call)], stderr=said), out.directory

    def live_and_die(self) -> bool:
        """Live once and be killed; tells whether the life finished the run instead."""
        supervisor, folder = self.begin()
        early = self.chooser.random() < 0.2
        if early:
            deadline = time.monotonic() + self.chooser.uniform(0.5, 8.0)
            finished = self._wait(supervisor, lambda: time.monotonic() > deadline)
        else:
            finished = self._wait(supervisor, lambda: _training(folder))
            deadline = time.monotonic() + self.chooser.uniform(0.0, 1.5)
            finished = finished or self._wait(supervisor, lambda: time.monotonic() > deadline)
        if not finished:
            self._kill(supervisor)
        self._look(folder)
        shutil.rmtree(folder) if not finished else None
        return finished

    def _wait(self, supervisor: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
        while not condition():
            if supervisor.poll() is not None:
                said = (self.folder / "supervisors.log").read_text()[-2000:]
                assert supervisor.returncode == 0, f"a life ended by itself with status {supervisor.returncode}: {said}"
                return True
            time.sleep(0.01)
        return False

    def _kill(self, supervisor: subprocess.Popen[bytes]) -> None:
        whom = self.chooser.choice(("supervisor", "rank", "all"))
        family = psutil.Process(supervisor.pid).children(recursive=True)
        ranks = [process for process in family if _is_rank(process)]
        if whom == "rank" and not ranks:
            whom = "all"
        victims = {"supervisor": [], "rank": [self.chooser.choice(ranks)] if ranks else [], "all": family}[whom]
        for victim in victims:
            _end(victim.pid)
        if whom == "rank":  # its supervisor sees to the others, and reports that the group has died
            supervisor.wait(timeout=120)
        else:
            _end(supervisor.pid)
            supervisor.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive, f"outlived their run: {alive}"
        self.kills[whom] += 1

    def _look(self, folder: Path) -> None:
        ranks_log = folder / "logs" / "ranks.log"
        text = ranks_log.read_text() if ranks_log.exists() else ""
        self.resumed += "resumed after step" in text
        self.passed_over += text.count("is damaged and passed over")
        checkpoints = self.folder / "run.partial" / "checkpoints"
        found = list(checkpoints.glob("step-*"))
        complete = [int(path.parent.name.split("-")[1]) for path in checkpoints.glob("step-*/complete.json")]
        self.unfinished += len(found) - len(complete)
        self.steps_when_killed.append(max(complete, default=0))

    def finish(self) -> Path:
        """Live once more, to the end, and return what was made."""
        supervisor, folder = self.begin()
        assert supervisor.wait() == 0
        self._look(folder)
        return folder


def _training(folder: Path) -> bool:
    path = folder / "logs" / "ranks.log"
    return path.exists() and any(said in path.read_text() for said in ("resumed after", "training from the first"))


def _is_rank(process: psutil.Process) -> bool:
    try:
        return "infra.launch" in process.cmdline() and "models.train" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def digest(folder: Path) -> str:
    """Return one digest of all files that the run is about."""
    whole = hashlib.sha256()
    for name in FINAL:
        whole.update((folder / name).read_bytes())
    return whole.hexdigest()


def stress(folder: Path, *, kills: int, ranks: int, zero_stage: int, steps: int, seed: int) -> dict[str, Any]:
    """Kill a run so often, finish it, and return what happened, beside the same run undisturbed."""
    began = time.monotonic()
    run = Stress(folder, config(steps, ranks, zero_stage), random.Random(seed))
    undisturbed = folder / "undisturbed"
    pretrain.fn(run.cfg, run.corpus.tokens, run.corpus.tokenizer, Attempt.at(undisturbed))
    finished = False
    while sum(run.kills.values()) < kills and not finished:
        finished = run.live_and_die()
        killed, at = sum(run.kills.values()), run.steps_when_killed[-1]
        log.info("%d kills, newest checkpoint of step %d of %d, %.0f s", killed, at, steps, time.monotonic() - began)
    assert not finished, f"the run was over after {sum(run.kills.values())} kills: use more --steps"
    end = run.finish()
    return {
        "kills": sum(run.kills.values()),
        "killed": dict(sorted(run.kills.items())),
        "lives": run.lives,
        "resumed": run.resumed,
        "damaged_passed_over": run.passed_over,
        "unfinished_left_behind": run.unfinished,
        "newest_checkpoint_at_each_kill": run.steps_when_killed,
        "steps": steps,
        "ranks": ranks,
        "zero_stage": zero_stage,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "digest": digest(end),
        "undisturbed_digest": digest(undisturbed),
        "equal": digest(end) == digest(undisturbed),
    }


def main() -> int:
    """Run it and write the result; returns 0 if the weights are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--zero-stage", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12000, help="length of the run; it must outlast the kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        found = stress(
            Path(folder),
            kills=given.kills,
            ranks=given.ranks,
            zero_stage=given.zero_stage,
            steps=given.steps,
            seed=given.seed,
        )
    given.result.parent.mkdir(parents=True, exist_ok=True)
    given.result.write_text(json.dumps(found, indent=1) + "\n")
    log.info("%s", json.dumps({key: found[key] for key in ("kills", "resumed", "equal", "seconds")}))
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
