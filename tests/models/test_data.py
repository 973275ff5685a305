"""What a rank reads: slices of the same sequences, targets that count, and the documents that they are of."""

from pathlib import Path

import numpy as np
import pytest

from models.data import IGNORE, PADDING, Batch, TokenStream, TrainingData, validation_batches
from models.order import TrainingOrder

EOD = 9999


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


def test_ranks_and_micro_batches_only_cut_the_same_sequences(stream: TokenStream) -> None:
    order = TrainingOrder(tokens=len(stream), sequence_length=16, batch=12, seed=3)

    def sequences(ranks: int, micro_batch: int, step: int) -> list[list[int]]:
        readers = [TrainingData(stream, order, rank=r, ranks=ranks, micro_batch=micro_batch) for r in range(ranks)]
        batches = [batch for reader in readers for batch in reader.step(step)]
        assert all(batch.inputs.shape == batch.targets.shape == (micro_batch, 16) for batch in batches)
        assert all(np.array_equal(batch.inputs + 1, batch.targets) for batch in batches)
        return [row.tolist() for batch in batches for row in batch.inputs]

    for step in (0, 7, 30):
        assert sequences(1, 12, step) == sequences(2, 3, step) == sequences(4, 1, step)
    assert sequences(1, 12, 0) != sequences(1, 12, 1)
    assert all(row == list(range(row[0], row[0] + 16)) for row in sequences(1, 12, 2))


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 1000])
def test_validation_predicts_each_token_once_from_the_one_before(stream: TokenStream, tokens: int) -> None:
    pairs = []
    for inputs, targets, documents, *_ in validation_batches(
        stream, tokens=tokens, eod=EOD, sequence_length=8, batch=4
    ):
        assert inputs.shape == targets.shape == (4, 8)
        assert documents is None
        pairs += [(i, t) for i, t in zip(inputs.ravel().tolist(), targets.ravel().tolist(), strict=True) if t != IGNORE]
    assert pairs == [(EOD if t == 0 else t - 1, t) for t in range(tokens)]


def row_of_documents(folder: Path, shards: list[list[int]]) -> TokenStream:
    """Documents of these lengths; the tokens of the n-th are 10 n, 10 n + 1, …, and an end token."""
    number = 0
    for shard, lengths in enumerate(shards):
        documents: list[int] = []
        for length in lengths:
            documents += [10 * number + at for at in range(length - 1)] + [EOD]
            number += 1
        np.array(documents, "<u2").tofile(folder / f"{shard}.bin")
        np.save(folder / f"{shard}.ends.npy", np.cumsum(lengths).astype("<u8"))
    names = [folder / f"{shard}" for shard in range(len(shards))]
    return TokenStream([path.with_suffix(".bin") for path in names], "uint16",
                       ends=[path.with_suffix(".ends.npy") for path in names])  # fmt: skip


def test_documents_of_a_window_that_lies_anywhere(tmp_path: Path) -> None:
    """Whose tokens they are is seen from the tokens, here."""
    stream = row_of_documents(tmp_path, [[3, 1, 5], [4, 2, 7], [6]])
    order = TrainingOrder(tokens=len(stream), sequence_length=6, batch=2, seed=0)
    data = TrainingData(stream, order, rank=0, ranks=1, micro_batch=2, eod=EOD, documents=True)
    for step in range(8):
        for batch in data.step(step):
            assert batch.documents is not None
            for inputs, targets, documents, positions in zip(*batch[:3], batch.positions(), strict=True):
                ended = np.cumsum(inputs == EOD)  # an end token of the inputs is before the first token of the next
                assert (documents - documents[0]).tolist() == (ended - ended[0]).tolist()
                assert (positions == 0).tolist() == (np.diff(documents, prepend=-5) != 0).tolist()
                known = [(d, t - p) for d, t, p in zip(documents, targets, positions, strict=True) if t != EOD]
                assert len(dict(known)) == len(set(known))  # positions go on as tokens do


def test_validation_knows_its_documents(tmp_path: Path) -> None:
    stream = row_of_documents(tmp_path, [[3, 1, 5], [4, 2, 7], [6]])
    (batch,) = validation_batches(stream, tokens=26, eod=EOD, sequence_length=8, batch=4, documents=True)
    assert batch.documents is not None
    expected = [n for n, length in enumerate([3, 1, 5, 4, 2, 7, 6]) for _ in range(length)][:26] + [PADDING] * 6
    assert batch.documents.ravel().tolist() == expected


@pytest.fixture
def windows(tmp_path: Path) -> TokenStream:
    """Three windows of 8 in two shards: a document of 11 cut into 8 and 3, others of 4, 5 and 1, and padding."""
    first = [*range(10, 18), *range(30, 33), EOD, 18, 19, EOD, EOD]
    second = [*range(40, 44), EOD, EOD, EOD, EOD]
    np.array(first, "<u2").tofile(tmp_path / "0.bin")
    np.array(second, "<u2").tofile(tmp_path / "1.bin")
    np.save(tmp_path / "0.ends.npy", np.array([8, 12, 15], "<u8"))
    np.save(tmp_path / "0.pieces.npy", np.array([[0, 0], [1, 0], [0, 8]], "<u8"))
    np.save(tmp_path / "1.ends.npy", np.array([5, 6], "<u8"))
    np.save(tmp_path / "1.pieces.npy", np.array([[2, 0], [3, 0]], "<u8"))
    paths = {kind: [tmp_path / f"{n}.{kind}" for n in range(2)] for kind in ("bin", "ends.npy", "pieces.npy")}
    return TokenStream(paths["bin"], "uint16", ends=paths["ends.npy"], pieces=paths["pieces.npy"], window=8)


def test_what_fills_up_a_window_is_no_target_and_a_rest_does_not_follow_an_end(windows: TokenStream) -> None:
    order = TrainingOrder(tokens=24, sequence_length=8, batch=3, seed=0, packed=True)
    data = TrainingData(windows, order, rank=0, ranks=1, micro_batch=3, eod=EOD, documents=True)
    (batch,) = data.step(0)
    rows = {int(start): Batch(*(each[n] for each in batch if each is not None))
            for n, start in enumerate(order.starts(0))}  # fmt: skip
    assert sorted(rows) == [0, 8, 16]
    assert rows[0].inputs.tolist() == [EOD, *range(10, 17)]
    assert rows[0].targets.tolist() == [*range(10, 18)]
    assert rows[8].inputs.tolist() == [EOD, 30, 31, 32, EOD, 18, 19, EOD]
    assert rows[8].targets.tolist() == [30, 31, 32, EOD, IGNORE, 19, EOD, IGNORE]
    assert rows[16].targets.tolist() == [40, 41, 42, 43, EOD, EOD, IGNORE, IGNORE]
    assert rows[8].documents is not None
    assert rows[16].documents is not None
    assert rows[8].documents.tolist() == [0, 0, 0, 0, 1, 1, 1, PADDING]
    assert rows[16].documents.tolist() == [0, 0, 0, 0, 0, 1, PADDING, PADDING]
    by_start = [batch.positions()[order.starts(0).tolist().index(start)].tolist() for start in (0, 8, 16)]
    assert by_start == [[*range(8)], [0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 0, 0, 1]]
    assert batch.scored == 8 + 6 + 6
