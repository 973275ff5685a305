"""A run goes on where it was, at another number of ranks, ZeRO stage or micro-batch, and comes to the same curve."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Attempt
from infra.launch import run_group
from models.job import Job
from tasks.pretrain import PretrainConfig, make_job
from tests.tasks.token_corpus import make_corpus

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": 32},
    "optimizer": {"kind": "adamw", "learning_rate": 0.01},
    "schedule": {"kind": "wsd", "warmup_steps": 2},
    "steps": 8,
    "batch": 8,
    "execution": {"threads": 1, "checkpoint_seconds": 0, "checkpoint_every": 3},
}


class Jobs:
    """Jobs below a folder, and the groups of ranks that train them."""

    def __init__(self, folder: Path, *, characters: int = 60_000) -> None:
        self.folder, self.corpus = folder, make_corpus(folder / "corpus", characters=characters)
        self.log: list[str] = []

    def make(self, name: str, changes: Mapping[str, Any], *, after: str | None = None, **execution: Any) -> Path:
        """Return the file of a new job, which finds the checkpoints of the job `after`."""
        out = Attempt.at(self.folder / name)
        if after is not None:
            shutil.copytree(self.folder / f"{after}.partial", self.folder / f"{name}.partial", dirs_exist_ok=True)
        cfg = {**BASE, **changes, "execution": {**BASE["execution"], **execution}}
        job: Job = make_job(PretrainConfig.model_validate(cfg), self.corpus.tokens, self.corpus.tokenizer, out)
        path = self.folder / f"{name}.json"
        path.write_text(job.model_dump_json())
        return path

    def train(self, ranks: int, *jobs: Path, **env: str) -> None:
        """Train jobs one after another in one group."""
        status = run_group(
            ["-m", "tests.models.training_program", *map(str, jobs)],
            ranks=ranks,
            env={"OMP_NUM_THREADS": "1", **env},
            on_line=self.log.append,
        )
        assert status == 0, "\n".join(self.log[-30:])

    def curve(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / "curve.jsonl").read_text().splitlines()]

    def bytes(self, name: str) -> list[bytes]:
        return [(self.folder / name / file).read_bytes() for file in ("model.safetensors", "curve.jsonl")]


MUON = {"kind": "muon", "learning_rate": 0.02}
RUNS: dict[str, tuple[int, dict[str, Any]]] = {
    **{f"adamw-{stage}": (stage, {}) for stage in (0, 1, 2, 3)},
    "muon-3": (3, {"optimizer": MUON, "ema": {"decay": 0.9}}),
    "lamb-3": (3, {"optimizer": {"kind": "lamb"}}),
}
OTHER = {"1 to 2": (1, 2), "2 to 1": (2, 1)}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Runs of two ranks that go on with one, and with two again; three groups of ranks in all."""
    made = Jobs(tmp_path_factory.mktemp("jobs"))
    runs: dict[str, dict[str, Any]] = {n: {"changes": changes, "zero_stage": s} for n, (s, changes) in RUNS.items()}
    made.train(2, *(made.make(f"two-{n}", **run, ranks=2, checkpoint_every=3) for n, run in runs.items()))
    for name in RUNS:  # what was saved after step 3, as if killed before the one after step 6
        shutil.rmtree(next((made.folder / f"two-{name}.partial" / "checkpoints").glob("step-00000006-*")))
    one: dict[str, Any] = {"micro_batch": 2, "checkpoint_every": 5}
    made.train(
        1,
        *(made.make(f"one-{n}", **run, after=f"two-{n}", **one) for n, run in runs.items()),
        *(made.make(f"other-{a}-{b}", {}, after=f"two-adamw-{a}", zero_stage=b) for a, b in OTHER.values()),
    )
    made.train(
        2,
        *(made.make(f"again-{n}", **run, after=f"one-{n}", ranks=2) for n, run in runs.items()),
        *(made.make(f"same-{n}", **run, after=f"two-{n}", ranks=2) for n, run in runs.items() if "adamw" in n),
    )
    return made


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_one_rank_and_two_again_follow_the_undisturbed_curve(jobs: Jobs, name: str) -> None:
    undisturbed, stage = jobs.curve(f"two-{name}"), RUNS[name][0]
    for went_on in (f"one-{name}", f"again-{name}"):
        rows = jobs.curve(went_on)
        assert [row["step"] for row in rows] == list(range(1, 9))
        for field in ("loss", "gradient_norm"):
            assert [row[field] for row in rows] == pytest.approx([row[field] for row in undisturbed], abs=1e-3), went_on
        assert rows[:3] == undisturbed[:3], "it did not go on from the checkpoint"
        assert rows[-1]["validation_loss"] == pytest.approx(undisturbed[-1]["validation_loss"], abs=1e-3)
    if "adamw" in name:  # of the others, tests/models/test_parallel.py says so
        assert jobs.bytes(f"same-{name}") == jobs.bytes(f"two-{name}")
    said = "\n".join(jobs.log)
    if stage:
        assert f"cutting the checkpoint of ranks=2, zero_stage={stage} anew for ranks=1, zero_stage={stage}" in said
        assert f"cutting the checkpoint of ranks=1, zero_stage={stage} anew for ranks=2, zero_stage={stage}" in said


@pytest.mark.parametrize("change", OTHER)
def test_another_zero_stage_follows_the_undisturbed_curve(jobs: Jobs, change: str) -> None:
    before, after = OTHER[change]
    rows, undisturbed = jobs.curve(f"other-{before}-{after}"), jobs.curve(f"two-adamw-{before}")
    assert rows[:3] == undisturbed[:3]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in undisturbed], abs=1e-3)


GUARDED = {
    "steps": 60,
    "guard": {
        "window": 16, "sigmas": 5,
        "rollback": {"every": 10, "margin": 2, "patience": 4, "skip_batches": 15, "most": 1},
    },
}  # fmt: skip
NOISE = "33,40"
LIVES = ("@step-36", "@step-1", "")
"""Where two ranks that accumulate gradients are told to stop: in the spike, and a step later, at the rollback."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Runs whose data is garbage for a while."""
    jobs, stages = Jobs(tmp_path_factory.mktemp("guarded")), (0, 2)

    def make(name: str, stage: int) -> Path:
        return jobs.make(name, GUARDED, ranks=2, zero_stage=stage, checkpoint_every=1000, micro_batch=2)

    lives = [Path(f"{make('interrupted', 0)}{told}") for told in LIVES]
    jobs.train(2, *(make(f"noise-{s}", s) for s in stages), *lives, NOISE=NOISE)
    for s in stages:
        kept = sorted((jobs.folder / f"noise-{s}.partial" / "checkpoints").glob("step-*"))
        assert [folder.name[:13] for folder in kept] == ["step-00000040", "step-00000050"]
    return jobs


def test_a_run_that_is_interrupted_around_a_rollback_ends_in_the_same_weights(guarded: Jobs) -> None:
    assert guarded.bytes("interrupted") == guarded.bytes("noise-0")
    said = "\n".join(guarded.log)
    assert all(f"resumed after step {step} of 60" in said for step in (36, 31))


@pytest.mark.parametrize("stage", [0, 2])
def test_a_spike_is_skipped_and_then_rolled_back_past_its_data(guarded: Jobs, stage: int) -> None:
    rows = guarded.curve(f"noise-{stage}")
    assert [row["step"] for row in rows] == list(range(1, 61))
    (back,) = [row for row in rows if "rolled_back_from" in row]
    assert (back["step"], back["rolled_back_from"], back["skipped_batches"]) == (31, 37, 15)
    training = json.loads((guarded.folder / f"noise-{stage}" / "training.json").read_text())
    assert (training["rollbacks"], training["skipped_batches"]) == (1, 15)
    assert training["spikes"] >= 1
    assert max(row["loss"] for row in rows[33:]) < rows[30]["loss"] + 0.3, "it read the garbage again"
