"""The order of the training data: a function of (seed, step) alone.

Position g of the run (step * batch + place in the batch) is window `order(g)` of the concatenated training stream:
within an epoch a keyed permutation of all windows, each epoch with its own key and its own offset of the window grid.
A restart needs nothing but the step.

Where the tokens have stages, each stage is a stretch of the stream and a stretch of the steps, as long as its share of
them: within it the same holds, or, where the stage is a curriculum, windows are read in the order of the stream.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from models.config.schedules import Growth
from models.config.training import TrainingConfig

_ROUNDS = 6


@dataclass(frozen=True)
class Stage:
    """A stretch of the training stream that a stretch of the steps reads."""

    name: str
    share: float
    """Of all steps."""
    tokens: int
    """Tokens in the stream, with what fills up windows."""
    ordered: bool
    """Whether windows are read in the order of the stream."""


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


def stage_steps(shares: Sequence[tuple[str, float]], steps: int) -> list[int]:
    """Return the step after the last one of each stage, given names and shares.

    Raises UserError where one has no step.
    """
    total = sum(share for _, share in shares)
    cuts = [round(sum(share for _, share in shares[: number + 1]) / total * steps) for number in range(len(shares))]
    for (name, share), before, cut in zip(shares, [0, *cuts], cuts, strict=False):
        if cut == before:
            raise UserError(
                f"pretrain: stage {name} has share={share:g} of steps={steps}, which is not one step; "
                "raise its share or pretrain.steps"
            )
    return cuts


@dataclass(frozen=True)
class _Stretch:
    """The windows of a stage, and the steps that read them."""

    number: int
    name: str
    first: int
    """Where its first window begins in the stream, but for the offset of the grid."""
    windows: int
    begin: int
    """Its first step."""
    end: int | None
    """The step after its last one; None where training may go on for ever."""
    ordered: bool


class TrainingOrder:
    """Which window of the stream stands at which place of which step.

    tokens: of the whole stream; `packed` says that it was laid out in windows.  With `stages` the order depends on
    the number of `steps` too.  `growth` says where batches are smaller at first, or windows are not read to their end.
    Raises UserError where there is less text than one batch, or a stage has no step.
    """

    def __init__(
        self,
        *,
        tokens: int,
        sequence_length: int,
        batch: int,
        seed: int,
        stages: Sequence[Stage] = (),
        steps: int | None = None,
        packed: bool = False,
        growth: Growth | None = None,
    ) -> None:
        self.sequence_length, self.batch, self.seed, self.packed = sequence_length, batch, seed, packed
        self.growth = growth or Growth(batch, sequence_length)
        self.stretches = self._stretch_all(tokens, stages, steps)
        self.windows = sum(stretch.windows for stretch in self.stretches)

    @classmethod
    def of(cls, training: TrainingConfig, *, tokens: int, stages: Sequence[Stage], packed: bool) -> "TrainingOrder":
        """Return the order in which a configuration reads a stream; raises UserError as the class does."""
        return cls(
            tokens=tokens,
            sequence_length=training.window,
            batch=training.batch,
            seed=training.seed,
            stages=stages,
            steps=training.steps,
            packed=packed,
            growth=training.growth,
        )

    def _stretch_all(self, tokens: int, stages: Sequence[Stage], steps: int | None) -> list[_Stretch]:
        if not stages:
            return [_Stretch(0, "", 0, self._windows(tokens, "the training split"), 0, None, ordered=False)]
        assert steps is not None
        assert sum(stage.tokens for stage in stages) == tokens
        stretches: list[_Stretch] = []
        first = begin = 0
        ends = stage_steps([(stage.name, stage.share) for stage in stages], steps)
        for number, (stage, end) in enumerate(zip(stages, ends, strict=True)):
            windows = self._windows(stage.tokens, f"stage {stage.name} of the training split", stage.ordered)
            stretches.append(_Stretch(number, stage.name, first, windows, begin, end, stage.ordered))
            first, begin = first + stage.tokens, end
        return stretches

    def _windows(self, tokens: int, what: str, ordered: bool = False) -> int:
        """Return how many windows some tokens make; raises UserError where they are fewer than a batch."""
        length = self.sequence_length
        # A window is sequence_length inputs and one more target; the grid may start up to sequence_length - 1 later,
        # but not that of a curriculum, whose end is read too.
        beyond = 0 if self.packed else 1 if ordered else length
        windows = max(0, (tokens - beyond) // length)
        if windows < self.batch:
            raise UserError(
                f"pretrain: {what} has {tokens} tokens, which make {windows} sequences of "
                f"sequence_length={length}, fewer than one batch={self.batch}; "
                "use a smaller batch or sequence_length, or more text"
            )
        return windows

    def starts(self, step: int) -> NDArray[np.int64]:
        """Return where each of the step's sequences starts in the stream, in the order of the batch."""
        beyond = self.stretches[-1]  # where batches were passed over, the last steps read more of the last stage
        stretch = next((each for each in self.stretches if each.end is None or step < each.end), beyond)
        first = self.sequences(stretch.begin, step)
        position = np.arange(first, first + self.growth.batch_of(step), dtype=np.uint64)
        return stretch.first + (self._in_order if stretch.ordered else self._permuted)(stretch, position)

    def begins_stage(self, step: int) -> bool:
        """Tell whether a stage of the data begins with a step."""
        return any(stretch.begin == step for stretch in self.stretches)

    def sequences(self, begin: int, end: int) -> int:
        """Return how many windows the steps from `begin` to before `end` read."""
        return self.growth.sequences_before(end) - self.growth.sequences_before(begin)

    def _permuted(self, stretch: _Stretch, position: NDArray[np.uint64]) -> NDArray[np.int64]:
        out = np.empty(len(position), dtype=np.int64)
        windows = np.uint64(stretch.windows)
        for epoch in np.unique(position // windows):
            here = position // windows == epoch
            key = stretch.number << 120 | int(epoch) << 64 | self.seed
            window = permute(position[here] % windows, stretch.windows, key)
            out[here] = self._offset(key) + window.astype(np.int64) * self.sequence_length
        return out

    def _offset(self, key: int) -> int:
        if self.packed:
            return 0
        return int(permute(np.zeros(1, dtype=np.uint64), 1 << 32, key + (1 << 127))[0]) % self.sequence_length

    def _in_order(self, stretch: _Stretch, position: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Read from the first window to the last as often as there are steps for; then, or before all could be read,
        once more at even distances: every pass ends where the curriculum ends.
        """
        assert stretch.end is not None
        passes, rest = divmod(self.sequences(stretch.begin, stretch.end), stretch.windows)
        at = position.astype(np.int64)
        last = at - passes * stretch.windows
        window = np.where(last < 0, at % stretch.windows, last * stretch.windows // max(rest, 1))
        return window % stretch.windows * self.sequence_length

    def passes(self) -> list[tuple[str, int, int, float]]:
        """Return of each stage its name, steps, windows, and how often these are read."""
        return [
            (each.name, each.end - each.begin, each.windows, self.sequences(each.begin, each.end) / each.windows)
            for each in self.stretches
            if each.end is not None
        ]
