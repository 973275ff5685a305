"""Train several jobs, one after another, in one group of ranks: `python -m tests.models.training_program JOB.json…`.

`JOB.json@step-36` tells the last rank alone to stop, by a signal, within its 36th step of that life of the job; so do
`@validation-3` within its third batch of validation, and `@sample-5` within the fifth token that is drawn.

`NOISE=first,last` in the environment gives the batches of these places of the order random tokens, as if a shard of
the data were garbage.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import numpy as np

from models.data import Batch, TrainingData
from models.job import Failure, Job, failure_folder
from models.telemetry import trackers
from models.train import main

PLACES = {
    "step": "models.engine.DataParallelEngine.step",
    "validation": "models.validation.Validation._summed",
    "sample": "models.telemetry.samples._draw",
}


def spoil(first: int, last: int) -> None:
    """Put random tokens in the place of some batches."""
    step = TrainingData.step

    def spoiled(self: TrainingData, number: int, *args: Any) -> Iterator[Batch]:
        for batch in step(self, number, *args):
            if first <= number <= last:
                noise = np.random.default_rng(number).integers(0, int(batch.inputs.max()) + 1, batch.targets.shape)
                batch = batch._replace(targets=noise)
            yield batch

    TrainingData.step = spoiled  # type: ignore[method-assign]


def told(path: str, place: str, number: int) -> int:
    """Train a job whose last rank is told to stop at a call; return 0 where the run was preempted by it."""
    call, calls = resolve_name(PLACES[place]), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*args, **kwargs)

    with patch(PLACES[place], counted):
        main([path])
    job = Job.model_validate_json(Path(path).read_bytes())
    left = failure_folder(job.scratch) / f"rank-{int(os.environ['RANK']):05d}.json"
    return int(Failure.model_validate_json(left.read_text()).kind != "preempted")


def say_outcomes() -> None:
    """Print what TensorBoard is told of how a run ended."""
    close = trackers.TensorBoard.close

    def said(self: trackers.TensorBoard, outcome: trackers.Outcome) -> None:
        sys.stdout.write(f"TensorBoard: {outcome}\n")
        close(self, outcome)

    trackers.TensorBoard.close = said  # type: ignore[method-assign]


if __name__ == "__main__":
    say_outcomes()
    if places := os.environ.get("NOISE"):
        spoil(*(int(place) for place in places.split(",")))
    for argument in sys.argv[1:]:
        path, _, when = argument.partition("@")
        place, _, number = when.partition("-")
        if status := told(path, place, int(number)) if when else main([path]):
            os._exit(status)
    sys.stdout.flush()
    os._exit(0)
