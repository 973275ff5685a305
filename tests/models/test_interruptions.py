"""Measuring between steps takes long: ranks that are told to stop meanwhile save first and measure when they go on."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from infra.errors import DataError, PreemptedError
from models.job import Failure, failure_folder
from models.train import main
from tests.models.test_resuming import BASE, Jobs

WATCHED = {
    "model": {**BASE["model"], "dropout": 0.1},
    "ema": {"decay": 0.9},
    "steps": 4,
    "schedule": {"kind": "constant", "warmup_steps": 0},
    "validate_every": 2,
    "sample_every": 2,
    "prompts": ["the mill ", "water"],
    "sample_tokens": 3,
}
TOLD = {
    "while it validates": ("validation-3", 2),
    "while it validates for the last time": ("validation-11", 4),  # a rank has 8 of the batches of the split
    "while it writes samples": ("sample-2", 2),
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """An undisturbed run, and one that is told to stop and started again for each place, in one group of two ranks."""
    jobs = Jobs(tmp_path_factory.mktemp("interrupted"), characters=20_000)

    def make(name: str) -> Path:
        return jobs.make(name, WATCHED, ranks=2, checkpoint_seconds=1e6)  # it saves nothing unless it is told to stop

    again = [made for place, _ in TOLD.values() for made in (f"{make(place)}@{place}", str(make(place)))]
    jobs.train(2, make("undisturbed"), *map(Path, again))
    return jobs


@pytest.mark.slow
@pytest.mark.parametrize("when", TOLD)
def test_ranks_that_are_told_to_stop_while_they_measure_save_at_once_and_measure_when_they_go_on(
    interrupted: Jobs, when: str
) -> None:
    place, step = TOLD[when]
    said = "\n".join(interrupted.log)
    assert f"told to stop while measuring after step {step}, which the next life of the run does" in said
    assert f"resumed after step {step} of 4" in said
    assert (said.count("TensorBoard: preempted"), said.count("TensorBoard: finished")) == (3, 4)
    for name in ("curve.jsonl", "samples.jsonl", "model.safetensors", "last.safetensors"):
        mine, undisturbed = (interrupted.folder / run / name for run in (place, "undisturbed"))
        assert mine.read_bytes() == undisturbed.read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("when", TOLD)
def test_each_point_of_a_run_in_two_lives_is_shown_once(interrupted: Jobs, when: str) -> None:
    logs = interrupted.folder / TOLD[when][0] / "logs"
    assert len(list(logs.glob("events.*"))) == 2
    shown = EventAccumulator(str(logs)).Reload()
    assert [event.step for event in shown.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.step for event in shown.Scalars("validation_loss")] == [2, 4]


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (PreemptedError("told to stop"), "preempted", "preempted"),
        (DataError("too many steps"), "data", "failed"),
        (MemoryError("2 GiB"), "memory", "failed"),
    ],
)
def test_those_who_watch_a_run_are_told_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, kind: str, outcome: str
) -> None:
    closed: list[str] = []

    class Failing:
        def __init__(self, job: object) -> None: ...

        def resume(self) -> None:
            raise error

        def close(self, outcome: str) -> None:
            closed.append(outcome)
            raise ConnectionError("no answer")  # which must not hide why the run failed

    monkeypatch.setattr("models.trainer.Trainer", Failing)
    jobs = Jobs(tmp_path)
    assert main([str(jobs.make("out", {}))]) == 1
    assert closed == [outcome]
    left = (failure_folder(tmp_path / "out.scratch") / "rank-00000.json").read_text()
    assert Failure.model_validate_json(left).kind == kind
