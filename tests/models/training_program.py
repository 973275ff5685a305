"""Train several jobs, one after another, in one group of ranks: `python -m tests.models.training_program JOB.json…`.

`NOISE=first,last` in the environment gives the batches of these places of the order random tokens, as if a shard of
the data were garbage.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from models.data import Batch, TrainingData
from models.train import main


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


if __name__ == "__main__":
    if places := os.environ.get("NOISE"):
        spoil(*(int(place) for place in places.split(",")))
    for path in sys.argv[1:]:
        if status := main([path]):
            os._exit(status)
    sys.stdout.flush()
    os._exit(0)
