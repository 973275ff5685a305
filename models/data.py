"""The training data: memory-mapped token shards, and an order that is a function of (seed, step) alone.

Position g of the run (step * batch + place in the batch) is window `order(g)` of the concatenated training stream:
within an epoch a keyed permutation of all windows, each epoch with its own key and its own offset of the window grid.
Ranks and micro-batches only cut a step's positions into slices, so the set of sequences of a step is the same for any
number of them, and a restart needs nothing but the step.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError

_ROUNDS = 6


class TokenStream:
    """The concatenation of token shards (raw little-endian integers), memory-mapped."""

    def __init__(self, paths: Sequence[Path], dtype: str) -> None:
        self._shards = [
            np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
            for path in paths
            if path.stat().st_size > 0
        ]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` tokens from position `start`; a window may span shards."""
        out = np.empty(count, dtype=np.int64)
        filled = 0
        shard = int(np.searchsorted(self._ends, start, side="right"))
        while filled < count:
            begin = start + filled - (int(self._ends[shard - 1]) if shard else 0)
            piece = self._shards[shard][begin : begin + count - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            shard += 1
        return out


def permute(index: NDArray[np.uint64], size: int, key: int) -> NDArray[np.uint64]:
    """Return where a keyed permutation of range(size) sends `index`: a Feistel network with cycle walking.

    Needs no memory for the permutation and gives the same order with every version of every library.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.frombuffer(hashlib.blake2b(key.to_bytes(16, "little"), digest_size=8 * _ROUNDS).digest(), dtype="<u8")
    out = index.astype(np.uint64)
    todo = np.ones(out.shape, dtype=bool)
    with np.errstate(over="ignore"):
        while todo.any():
            left, right = out[todo] >> np.uint64(half), out[todo] & mask
            for k in keys:
                left, right = right, left ^ (_mix(right + k) & mask)
            out[todo] = (left << np.uint64(half)) | right
            todo = out >= size
    return out


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class TrainingOrder:
    """Which window of the stream stands at which place of which step."""

    def __init__(self, *, tokens: int, sequence_length: int, batch: int, seed: int) -> None:
        self.sequence_length, self.batch, self.seed = sequence_length, batch, seed
        # A window is sequence_length inputs and one more target; the grid may start up to sequence_length - 1 later.
        self.windows = max(0, (tokens - sequence_length) // sequence_length)
        if self.windows < batch:
            raise UserError(
                f"pretrain: the training split has {tokens} tokens, which make {self.windows} sequences of "
                f"sequence_length={sequence_length}, fewer than one batch={batch}; "
                "use a smaller batch or sequence_length, or more text"
            )

    def starts(self, step: int) -> NDArray[np.int64]:
        """Return where each of the step's sequences starts in the stream, in the order of the batch."""
        position = np.arange(step * self.batch, (step + 1) * self.batch, dtype=np.uint64)
        out = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(position // np.uint64(self.windows)):
            here = position // np.uint64(self.windows) == epoch
            key = int(epoch) << 64 | self.seed
            offset = int(permute(np.zeros(1, dtype=np.uint64), 1 << 32, key + (1 << 127))[0]) % self.sequence_length
            window = permute(position[here] % np.uint64(self.windows), self.windows, key)
            out[here] = offset + window.astype(np.int64) * self.sequence_length
        return out


class TrainingData:
    """What one rank reads: its slice of every step, cut into micro-batches."""

    def __init__(self, stream: TokenStream, order: TrainingOrder, *, rank: int, ranks: int, micro_batch: int) -> None:
        self.stream, self.order = stream, order
        self.rank, self.ranks, self.micro_batch = rank, ranks, micro_batch

    def step(self, step: int) -> Iterator[NDArray[np.int64]]:
        """Yield the micro-batches of a step, each (micro_batch, sequence_length + 1)."""
        share = self.order.batch // self.ranks
        mine = self.order.starts(step)[self.rank * share : (self.rank + 1) * share]
        length = self.order.sequence_length + 1
        for first in range(0, share, self.micro_batch):
            yield np.stack([self.stream.read(int(s), length) for s in mine[first : first + self.micro_batch]])


def validation_batches(
    stream: TokenStream, *, tokens: int, eod: int, sequence_length: int, batch: int, ignore: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield inputs and targets, each (batch, sequence_length), that predict each of the first `tokens` once.

    The stream is led by one end-of-document token, so that its first token is predicted too; the last batch is filled
    up with targets to `ignore`.
    """
    per_batch = batch * sequence_length
    for start in range(0, tokens, per_batch):
        count = min(per_batch, tokens - start)
        targets = np.full(per_batch, ignore, dtype=np.int64)
        targets[:count] = stream.read(start, count)
        inputs = np.full(per_batch, eod, dtype=np.int64)
        first = 0 if start else 1
        inputs[first:count] = stream.read(start - 1 + first, count - first)
        yield inputs.reshape(batch, -1), targets.reshape(batch, -1)
