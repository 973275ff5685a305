"""The training data: memory-mapped token shards, and the sequences that are read of them.

Which sequence stands where in which step is a matter of models/order.py.  Ranks and micro-batches only cut a step's
positions into slices, so the set of sequences of a step is the same for any number of them.

Windows are laid over a row of documents wherever they fall (`concatenate`), or were laid out when the tokens were
written (`best_fit`, tasks/tokens): these are read as they are, led by an end token as a document is where it is
evaluated, and what fills them up is no target.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.order import TrainingOrder

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""Target of a position whose loss does not count."""

PADDING = -1
"""In `Batch.documents`: the position predicts nothing of a document."""


class Batch(NamedTuple):
    """Some sequences, all arrays of shape (B, T)."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    """The token after each input, or IGNORE."""
    documents: NDArray[np.int64] | None
    """Number in its row of the document that each *target* is of, ascending; PADDING where it is of none; None where
    nobody asked. A position may attend to those before it with the same number: then each document is predicted as if
    it stood alone, the first of its tokens from the end token before it."""
    source: NDArray[np.int64] | None = None
    """What an encoder reads where inputs and targets are a decoder's: (B, S)."""
    source_documents: NDArray[np.int64] | None = None
    """As `documents`, of the source: (B, S); a decoder's position may attend to those with its own number."""

    @property
    def scored(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORE).sum())

    def positions(self) -> NDArray[np.int64]:
        """Return how many positions of the same document come before each, for positions that begin anew with it."""
        assert self.documents is not None
        place = np.broadcast_to(np.arange(self.documents.shape[1]), self.documents.shape)
        begins = np.diff(self.documents, axis=1, prepend=np.iinfo(np.int64).min) != 0
        return place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)


class TokenStream:
    """The concatenation of token shards (raw little-endian integers), memory-mapped.

    `ends` and `pieces` are the files of these names beside the shards (tasks/tokens), where anybody asks for documents;
    `window` is the length of the windows that the shards were laid out in, None where they were not.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        dtype: str,
        *,
        ends: Sequence[Path] = (),
        pieces: Sequence[Path] = (),
        window: int | None = None,
    ) -> None:
        filled = [number for number, path in enumerate(paths) if path.stat().st_size > 0]
        kind = np.dtype(dtype).newbyteorder("<")
        self._shards = [np.memmap(paths[number], dtype=kind, mode="r") for number in filled]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)
        self._piece_ends = [np.load(ends[number], mmap_mode="r") for number in filled] if ends else []
        self._pieces = [np.load(pieces[number], mmap_mode="r") for number in filled] if pieces else []
        self._window = window

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` tokens from position `start`; a window may span shards."""
        out = np.empty(count, dtype=np.int64)
        for shard, begin, at in self._stretches(start, count):
            piece = self._shards[shard][begin : begin + count - at]
            out[at : at + len(piece)] = piece
        return out

    def documents(self, start: int, count: int) -> NDArray[np.int64]:
        """Return, from position `start`, the number of the piece of a document that each token is of, from 0 on.

        PADDING for what fills up a window.  Needs the `ends` of the shards.
        """
        out = np.full(count, PADDING, dtype=np.int64)
        first = 0
        for shard, begin, at in self._stretches(start, count):
            ends = self._piece_ends[shard]
            place = np.arange(begin, min(begin + count - at, len(self._shards[shard])))
            low = int(np.searchsorted(ends, begin, side="right"))
            high = int(np.searchsorted(ends, place[-1], side="right"))
            near = np.asarray(ends[low : high + 1], dtype=np.int64)
            piece = np.searchsorted(near, place, side="right")
            inside = piece < len(near)
            if self._window is not None and len(near):
                inside &= place // self._window == (near[np.minimum(piece, len(near) - 1)] - 1) // self._window
            out[at : at + len(place)] = np.where(inside, first + piece, PADDING)
            first += len(near)
        return out

    def begins_within(self, start: int, count: int) -> NDArray[np.int64]:
        """Return how far from `start` the pieces begin that go on with a document which was cut; ascending."""
        found = []
        for shard, begin, at in self._stretches(start, count):
            ends = self._piece_ends[shard]
            low = int(np.searchsorted(ends, begin, side="right"))
            high = int(np.searchsorted(ends, begin + count - at, side="left")) + 1
            before = np.asarray(ends[max(low - 1, 0) : high], dtype=np.int64)
            if not low:
                before = np.append(0, before)
            assert self._window is not None
            begins = np.maximum(before[:-1], (before[1:] - 1) // self._window * self._window)
            cut = np.asarray(self._pieces[shard][low:high, 1]) > 0
            inside = cut & (begins >= begin) & (begins < begin + count - at)
            found.append(begins[inside] - begin + at)
        return np.concatenate(found)

    def _stretches(self, start: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield (shard, first position in it, how far from `start` that is) of all shards that a stretch lies in."""
        shard = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < count:
            begin = start + filled - (int(self._ends[shard - 1]) if shard else 0)
            yield shard, begin, filled
            filled += len(self._shards[shard]) - begin
            shard += 1


class TrainingData:
    """What one rank reads: its slice of every step, cut into micro-batches.

    `eod` leads windows that were laid out in the stream.  With `documents` batches say which document a target is of,
    for which the stream needs the ends of documents, as it does where it is laid out in windows.
    """

    def __init__(
        self,
        stream: TokenStream,
        order: TrainingOrder,
        *,
        rank: int,
        ranks: int,
        micro_batch: int,
        eod: int = 0,
        documents: bool = False,
    ) -> None:
        self.stream, self.order = stream, order
        self.rank, self.ranks, self.micro_batch = rank, ranks, micro_batch
        self.eod, self.documents = eod, documents

    def step(self, step: int) -> Iterator[Batch]:
        """Yield the micro-batches of a step, each (micro_batch, sequence_length)."""
        share = self.order.batch // self.ranks
        mine = self.order.starts(step)[self.rank * share : (self.rank + 1) * share]
        read = self._packed if self.order.packed else self._window
        for first in range(0, share, self.micro_batch):
            rows = [read(int(start)) for start in mine[first : first + self.micro_batch]]
            documents = (
                np.stack([row.documents for row in rows if row.documents is not None]) if self.documents else None
            )
            yield Batch(np.stack([row.inputs for row in rows]), np.stack([row.targets for row in rows]), documents)

    def _window(self, start: int) -> Batch:
        """Return a window that lies anywhere in a row of documents; arrays of shape (T,)."""
        length = self.order.sequence_length
        tokens = self.stream.read(start, length + 1)
        return Batch(tokens[:-1], tokens[1:], self.stream.documents(start + 1, length) if self.documents else None)

    def _packed(self, start: int) -> Batch:
        """Return a window as it was laid out; arrays of shape (T,).

        The first token of a piece that goes on with a document is no target: what stands before it is an end token.
        """
        length = self.order.sequence_length
        tokens = self.stream.read(start, length)
        documents = self.stream.documents(start, length)
        targets = np.where(documents == PADDING, IGNORE, tokens)
        targets[self.stream.begins_within(start, length)] = IGNORE
        return Batch(np.append(self.eod, tokens[:-1]), targets, documents)


def validation_batches(
    stream: TokenStream, *, tokens: int, eod: int, sequence_length: int, batch: int, documents: bool = False
) -> Iterator[Batch]:
    """Yield batches of (batch, sequence_length) that predict each of the first `tokens` once.

    The stream is led by one end-of-document token, so that its first token is predicted too; the last batch is filled
    up with targets to ignore.
    """
    per_batch = batch * sequence_length
    for start in range(0, tokens, per_batch):
        count = min(per_batch, tokens - start)
        targets = np.full(per_batch, IGNORE, dtype=np.int64)
        targets[:count] = stream.read(start, count)
        inputs = np.full(per_batch, eod, dtype=np.int64)
        first = 0 if start else 1
        inputs[first:count] = stream.read(start - 1 + first, count - first)
        of = np.full(per_batch, PADDING, dtype=np.int64)
        if documents:
            of[:count] = stream.documents(start, count)
        shape = (batch, sequence_length)
        yield Batch(inputs.reshape(shape), targets.reshape(shape), of.reshape(shape) if documents else None)


def tensors(batch: Batch, device: "torch.device") -> "list[torch.Tensor | None]":
    """Return what a batch holds as tensors on `device`, up to the last that is not None."""
    import torch

    held = [None if each is None else torch.from_numpy(each).to(device) for each in batch]
    while held[-1] is None:
        held.pop()
    return held
