"""The training data: token shards, and the sequences that are read of them.

Which sequence stands where in which step is a matter of models/order.py.  Ranks and micro-batches only cut a step's
positions into slices, so the set of sequences of a step is the same for any number of them.

Windows are laid over a row of documents wherever they fall (`concatenate`), or were laid out when the tokens were
written (`best_fit`, tasks/tokens): these are read as they are, led by an end token as a document is where it is
evaluated, and what fills them up is no target.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.batch import IGNORE, PADDING, Batch, Windows
from models.objectives import Causal, Objective
from models.order import TrainingOrder
from models.shards import RemoteTokens, Shards, Source, Tokens, open_arrays, open_tokens, size_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "IGNORE",
    "PADDING",
    "Batch",
    "TokenStream",
    "TrainingData",
    "read_windows",
    "tensors",
    "validation_batches",
    "validation_windows",
]


class TokenStream:
    """The concatenation of token shards (raw little-endian integers), memory-mapped where they are local.

    `remote` reads those that are not; `ends` and `pieces` are the files of these names beside the shards
    (tasks/tokens), where anybody asks for documents; `window` is the length of the windows that the shards were laid
    out in, None where they were not.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        dtype: str,
        *,
        ends: Sequence[Source] = (),
        pieces: Sequence[Source] = (),
        window: int | None = None,
        remote: Shards | None = None,
    ) -> None:
        filled = [number for number, path in enumerate(paths) if size_of(path) > 0]
        kind = np.dtype(dtype).newbyteorder("<")
        self._shards = open_tokens([paths[number] for number in filled], kind, remote)
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)
        self._piece_ends = open_arrays([ends[number] for number in filled] if ends else [], remote)
        self._pieces = open_arrays([pieces[number] for number in filled] if pieces else [], remote)
        self._window = window
        self._remote = remote if any(isinstance(shard, RemoteTokens) for shard in self._shards) else None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def remote(self) -> bool:
        """Whether some shards are on remote storage."""
        return self._remote is not None

    @property
    def shards(self) -> list[tuple[Tokens, int, int]]:
        """The shards that are not empty, and where each begins and ends in the stream."""
        return [(shard, int(end) - len(shard), int(end)) for shard, end in zip(self._shards, self._ends, strict=True)]

    def fetch(self, starts: NDArray[np.int64], count: int) -> None:
        """Fetch `count` tokens from each of these positions at once, so that this thread can read them without waiting.

        Forgets what was fetched before; does nothing for what is mapped.
        """
        if self._remote is not None:
            self._remote.fetch(
                (self._shards[shard], begin, min(begin + count - at, len(self._shards[shard])))
                for start in starts
                for shard, begin, at in self._stretches(int(start), count)
            )

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

    `objective` makes batches of windows, by default of what comes next; `eod` then leads windows that were laid out in
    the stream.  With `documents` batches say which document a target is of, for which the stream needs the ends of
    documents, as it does where it is laid out in windows.
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
        objective: Objective | None = None,
    ) -> None:
        self.stream, self.order = stream, order
        self.rank, self.ranks, self.micro_batch = rank, ranks, micro_batch
        self.documents = documents
        self.objective = objective or Causal(
            end=eod, sequence_length=order.sequence_length, packed=order.packed, documents=documents
        )
        assert self.objective.window == order.sequence_length

    def step(self, step: int) -> Iterator[Batch]:
        """Yield the micro-batches of a step, each of `micro_batch` sequences, or fewer while batches still grow."""
        growth = self.order.growth
        share, length = growth.batch_of(step) // self.ranks, growth.length_of(step)
        micro = next(size for size in range(min(self.micro_batch, share), 0, -1) if share % size == 0)
        begin = self.rank * share
        starts = self.order.starts(step)
        self.stream.fetch(starts[begin : begin + share], self.order.sequence_length + self.objective.ahead)
        for first in range(begin, begin + share, micro):
            rows = np.arange(first, first + micro)
            windows = read_windows(
                self.stream,
                starts[rows],
                self.order.sequence_length + self.objective.ahead,
                documents=self.documents,
                packed=self.order.packed,
            )
            batch = self.objective.batch(windows, (np.uint64(step) << np.uint64(32)) + rows.astype(np.uint64))
            yield batch if length == growth.length else batch.beginning(length)


def read_windows(
    stream: TokenStream, starts: NDArray[np.int64], width: int, *, documents: bool, packed: bool
) -> Windows:
    """Return windows of so many tokens that start there.

    `documents` asks for the documents that tokens are of.  Of windows that were laid out (`packed`) it is at least told
    what fills them up, and where a piece begins that goes on with a document which was cut.
    """
    tokens = np.stack([stream.read(int(start), width) for start in starts])
    if not (documents or packed):
        return Windows(tokens, None)
    of = np.stack([stream.documents(int(start), width) for start in starts])
    if not packed:
        return Windows(tokens, of)
    unled = np.zeros(tokens.shape, dtype=np.bool_)
    for row, start in zip(unled, starts, strict=True):
        row[stream.begins_within(int(start), width)] = True
    return Windows(tokens, of if documents else np.where(of == PADDING, PADDING, 0), unled)


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


def validation_windows(
    stream: TokenStream, objective: Objective, *, tokens: int, eod: int, batch: int, documents: bool = False
) -> Iterator[Batch]:
    """Yield batches of so many windows in which an objective asks for some of the first `tokens`.

    What it asks for depends on the place of a window alone.  The last window is filled up, the last batch with
    sequences that have no target.
    """
    width = objective.window
    for start in range(0, tokens, batch * width):
        count = min(batch * width, tokens - start)
        held = np.full(batch * width, eod, dtype=np.int64)
        held[:count] = stream.read(start, count)
        of = None
        if documents or count % width:
            of = np.zeros(batch * width, dtype=np.int64)
            of[:count] = stream.documents(start, count) if documents else 0
            of[count : -(-count // width) * width] = PADDING
        shape = (batch, width)
        windows = Windows(held.reshape(shape), None if of is None else of.reshape(shape))
        made = objective.batch(windows, np.arange(start // width, start // width + batch, dtype=np.uint64))
        made.targets[-(-count // width) :] = IGNORE
        yield made


def tensors(batch: Batch, device: "torch.device") -> "list[torch.Tensor | None]":
    """Return what a batch holds as tensors on `device`, up to the last that is not None."""
    import torch

    held = [None if each is None else torch.from_numpy(each).to(device) for each in batch]
    while held[-1] is None:
        held.pop()
    return held
