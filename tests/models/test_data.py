"""The order of the data is a function of seed and step, whoever reads it."""

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from models.data import TokenStream, TrainingData, TrainingOrder, permute, validation_batches


@pytest.fixture
def stream(tmp_path: Path) -> TokenStream:
    """1,000 tokens whose value is their position, in three shards, one of them empty."""
    np.arange(700, dtype="<u2").tofile(tmp_path / "0.bin")
    np.array([], dtype="<u2").tofile(tmp_path / "1.bin")
    np.arange(700, 1000, dtype="<u2").tofile(tmp_path / "2.bin")
    return TokenStream([tmp_path / f"{i}.bin" for i in range(3)], "uint16")


def test_a_window_spans_shards(stream: TokenStream) -> None:
    assert len(stream) == 1000
    assert stream.read(695, 10).tolist() == list(range(695, 705))


@pytest.mark.parametrize("size", [1, 2, 3, 97, 1000, 4096])
def test_the_permutation_visits_each_window_once(size: int) -> None:
    index = np.arange(size, dtype=np.uint64)
    assert sorted(permute(index, size, key=5).tolist()) == list(range(size))
    assert size < 90 or permute(index, size, key=5).tolist() != permute(index, size, key=6).tolist()


def test_ranks_and_micro_batches_only_cut_the_same_sequences(stream: TokenStream) -> None:
    order = TrainingOrder(tokens=len(stream), sequence_length=16, batch=12, seed=3)

    def sequences(ranks: int, micro_batch: int, step: int) -> list[list[int]]:
        readers = [TrainingData(stream, order, rank=r, ranks=ranks, micro_batch=micro_batch) for r in range(ranks)]
        return [row.tolist() for reader in readers for batch in reader.step(step) for row in batch]

    for step in (0, 7, 30):
        assert sequences(1, 12, step) == sequences(2, 3, step) == sequences(4, 1, step)
    assert sequences(1, 12, 0) != sequences(1, 12, 1)
    assert all(row == list(range(row[0], row[0] + 17)) for row in sequences(1, 12, 2))


def test_an_epoch_reads_each_window_once_and_the_next_one_others(stream: TokenStream) -> None:
    order = TrainingOrder(tokens=len(stream), sequence_length=16, batch=1, seed=0)
    first = [int(order.starts(s)[0]) for s in range(order.windows)]
    second = [int(order.starts(s)[0]) for s in range(order.windows, 2 * order.windows)]
    assert len(set(first)) == len(set(second)) == order.windows
    assert max(*first, *second) + 17 <= len(stream)
    assert first != second


def test_too_little_text_for_one_batch_is_said_with_the_numbers() -> None:
    with pytest.raises(
        UserError, match=r"1000 tokens, which make 61 sequences of sequence_length=16, fewer than .*100"
    ):
        TrainingOrder(tokens=1000, sequence_length=16, batch=100, seed=0)


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 1000])
def test_validation_predicts_each_token_once_from_the_one_before(stream: TokenStream, tokens: int) -> None:
    pairs = []
    for inputs, targets in validation_batches(stream, tokens=tokens, eod=9999, sequence_length=8, batch=4, ignore=-1):
        assert inputs.shape == targets.shape == (4, 8)
        pairs += [(i, t) for i, t in zip(inputs.ravel().tolist(), targets.ravel().tolist(), strict=True) if t != -1]
    assert pairs == [(9999 if t == 0 else t - 1, t) for t in range(tokens)]
