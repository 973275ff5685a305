"""Batches and sequences that grow: the order stays a function of seed and step, for any ranks and micro-batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.config import BatchWarmup, ExecutionConfig, Growth, LengthWarmup, TrainingConfig, check_execution
from models.data import TokenStream, TrainingData
from models.order import Stage, TrainingOrder

GROWTH = Growth(16, 24, BatchWarmup(start=4, steps=10, multiple_of=4), LengthWarmup(start=8, steps=6))


def order(growth: Growth | None = GROWTH, **changes: Any) -> TrainingOrder:
    return TrainingOrder(**{"tokens": 4000, "sequence_length": 24, "batch": 16, "seed": 7, "growth": growth, **changes})


def test_batches_and_sequences_grow_to_the_whole_and_are_counted_exactly() -> None:
    assert [GROWTH.batch_of(n) for n in range(12)] == [4, 4, 4, 4, 8, 8, 8, 12, 12, 12, 16, 16]
    assert [GROWTH.length_of(n) for n in range(8)] == [8, 8, 8, 16, 16, 16, 24, 24]
    for number in (0, 3, 10, 25):
        assert GROWTH.sequences_before(number) == sum(GROWTH.batch_of(n) for n in range(number))
    assert GROWTH.tokens_of(4) == 8 * 16
    assert GROWTH.batches == [4, 8, 12, 16]


def test_smaller_batches_read_the_same_sequence_of_windows_and_no_window_twice() -> None:
    growing, whole = order(), order(None)
    read = np.concatenate([growing.starts(step) for step in range(20)])
    assert len(read) == GROWTH.sequences_before(20)
    assert read.tolist() == np.concatenate([whole.starts(step) for step in range(20)])[: len(read)].tolist()
    assert len(set(read[: growing.windows].tolist())) == min(len(read), growing.windows)
    assert order().starts(13).tolist() == growing.starts(13).tolist()


def test_a_curriculum_is_read_to_its_end_however_batches_grow() -> None:
    stages = [Stage("first", 0.5, 2400, True), Stage("last", 0.5, 1600, True)]
    staged = order(stages=stages, steps=24)
    for (name, steps, windows, passes), first in zip(staged.passes(), (0, 12), strict=True):
        sizes = [GROWTH.batch_of(step) for step in range(first, first + steps)]
        assert passes == pytest.approx(sum(sizes) / windows), name
        read = np.concatenate([staged.starts(step) for step in range(first, first + steps)])
        assert read.max() == (0 if first == 0 else 2400) + (windows - 1) * 24


@pytest.mark.parametrize(("ranks", "micro_batch"), [(1, 16), (1, 3), (2, 8), (4, 2)])
def test_any_ranks_and_micro_batches_read_the_same_beginnings_of_windows(
    tmp_path: Path, ranks: int, micro_batch: int
) -> None:
    path = tmp_path / "0.bin"
    np.arange(4000, dtype="<u2").tofile(path)
    stream = TokenStream([path], "uint16")
    for step in (0, 5, 9, 12):
        rows = []
        for rank in range(ranks):
            data = TrainingData(stream, order(), rank=rank, ranks=ranks, micro_batch=micro_batch)
            batches = list(data.step(step))
            assert len({batch.inputs.shape for batch in batches}) == 1
            assert batches[0].inputs.shape[0] <= micro_batch
            rows += [row for batch in batches for row in batch.inputs]
            assert all((batch.targets == batch.inputs + 1).all() for batch in batches)
        assert np.stack(rows).shape == (GROWTH.batch_of(step), GROWTH.length_of(step))
        assert np.stack(rows)[:, 0].tolist() == order().starts(step).tolist()


def training(**changes: Any) -> TrainingConfig:
    base = {"model": {}, "optimizer": {"kind": "adamw"}, "schedule": {"kind": "cosine"}, "steps": 100, "batch": 16}
    return TrainingConfig.model_validate({**base, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_warmup": {"start": 16, "steps": 10}}, r"batch_warmup.start=16 is not below batch=16"),
        ({"batch_warmup": {"start": 4, "steps": 100}}, r"batch_warmup.steps=100 leaves no step of steps=100"),
        ({"batch_warmup": {"start": 3, "steps": 9, "multiple_of": 2}}, r"start=3 is not a multiple of .*multiple_of=2"),
        ({"length_warmup": {"start": 256, "steps": 10}}, r"length_warmup.start=256 is not below model.sequence_length"),
        ({"length_warmup": {"start": 20, "steps": 10}}, r"start=20 is not a multiple of length_warmup.multiple_of=8"),
    ],
)
def test_a_warm_up_that_cannot_be_is_refused_with_the_numbers(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        training(**changes)


def test_batches_that_do_not_divide_on_the_way_are_refused_before_a_process_starts() -> None:
    growing = training(batch_warmup={"start": 4, "steps": 20})
    assert check_execution(growing, ExecutionConfig()) == []
    assert check_execution(growing, ExecutionConfig(ranks=2)) == [
        "batch_warmup comes to a batch of 5 sequences, which do not divide among 2 replicas: set "
        "batch_warmup.start and multiple_of to multiples of 2"
    ]
    even = training(batch_warmup={"start": 4, "steps": 20, "multiple_of": 2})
    assert check_execution(even, ExecutionConfig(ranks=2)) == []
    assert check_execution(growing, ExecutionConfig(ranks=2, pipeline_stages=2)) == []
