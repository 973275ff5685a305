"""Batches that are made ready ahead are those of their steps, whatever is asked for next."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from infra.errors import DataError
from models.batch import IGNORE, Batch
from models.prefetch import Prefetcher


class Reader:
    """Steps whose batches hold their number; notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, step: int) -> list[Batch]:
        self.asked.append(step)
        if step == 13:
            raise DataError("shard 13 is damaged")
        targets = np.array([[step, IGNORE]])
        return [Batch(np.full((1, 2), step), targets, None), Batch(np.full((1, 2), -step), targets, None)]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture(params=[1, 4])
def prefetcher(reader: Reader, request: pytest.FixtureRequest) -> Iterator[Prefetcher]:
    made = Prefetcher(reader, steps=20, device=torch.device("cpu"), depth=3, threads=request.param)
    yield made
    made.close()


def inputs(prefetcher: Prefetcher, step: int) -> list[list[int]]:
    ready = prefetcher.take(step)
    assert ready.scored == 2
    assert all(len(batch) == 2 for batch in ready.batches)  # without documents, sources and what belongs to them
    return [batch[0].flatten().tolist() for batch in ready.batches if batch[0] is not None]


def test_each_step_gets_its_own_batches_after_a_resume_and_a_roll_back_too(prefetcher: Prefetcher) -> None:
    for step in (4, 5, 6, 7, 5, 6, 11, 12, 18, 19, 25):
        assert inputs(prefetcher, step) == [[step, step], [-step, -step]]


def test_steps_are_read_ahead_but_no_more_of_them_than_asked_for(prefetcher: Prefetcher, reader: Reader) -> None:
    prefetcher.take(0)
    eventually_read(reader, {0, 1, 2, 3})
    for step in (17, 18, 19):
        prefetcher.take(step)
    prefetcher.close()
    assert set(reader.asked) == {0, 1, 2, 3, 17, 18, 19}  # 19 is the last step of the run


def eventually_read(reader: Reader, steps: set[int]) -> None:
    end = time.monotonic() + 60
    while set(reader.asked) != steps:
        assert time.monotonic() < end, reader.asked
        time.sleep(0.01)


def test_what_goes_wrong_is_raised_at_its_step_and_not_before(prefetcher: Prefetcher) -> None:
    for step in (10, 11, 12):
        prefetcher.take(step)
    with pytest.raises(DataError, match="shard 13"):
        prefetcher.take(13)


def test_on_a_gpu_batches_are_pinned_by_a_thread_of_that_gpu(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: said.append(f"{threading.current_thread().name} {device}")
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda each: said.append("pinned") or each)
    monkeypatch.setattr(torch.Tensor, "to", lambda each, device, non_blocking: said.append(f"to {device}") or each)
    made = Prefetcher(reader, steps=1, device=torch.device("cuda", 3))
    made.take(0)
    made.close()
    assert said == ["batches_0 cuda:3", *["pinned"] * 4, *["to cuda:3"] * 4]
