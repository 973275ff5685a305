"""What changes over the steps: the learning rate, the batch, the length of sequences."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from models.config.base import CONFIG, unread


class ScheduleConfig(BaseModel):
    """Learning rate as a fraction of its peak: linear warm-up, then the shape named by `kind`."""

    model_config = CONFIG

    kind: Literal["cosine", "linear", "inverse_sqrt", "wsd", "constant"]
    """cosine and linear fall from the warm-up to the end; inverse_sqrt falls with the root of the step, whatever the
    end (Transformer, arXiv 1706.03762, section 5.3); wsd is warm-up, stable, decay (MiniCPM, arXiv 2404.06395)."""
    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear warm-up."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Where cosine, linear and wsd end, as a fraction of the peak."""
    decay_fraction: float = Field(default=0.4, gt=0, le=1)
    """Share of all steps that wsd spends on its decay."""
    decay_shape: Literal["linear", "one_minus_sqrt"] = "linear"
    """How wsd decays: in a line, or by 1 less the root of how far it is, fast at first (arXiv 2405.18392)."""

    @model_validator(mode="after")
    def _all_read(self) -> Self:
        why = f"with kind={self.kind}"
        problems = [] if self.kind == "wsd" else unread(self, ("decay_fraction", "decay_shape"), why)
        if self.kind in ("constant", "inverse_sqrt"):
            problems += unread(self, ("final_fraction",), why)
        if problems:
            raise ValueError("; ".join(problems))
        return self


class BatchWarmup(BaseModel):
    """Batches that grow to their full size, as the gradient's noise falls less and less (GPT-3, arXiv 2005.14165)."""

    model_config = CONFIG

    start: int = Field(ge=1)
    """Sequences of the first step."""
    steps: int = Field(ge=1, le=1 << 20)
    """Steps over which the batch grows in a line; that after them is the first whole one."""
    multiple_of: int = Field(default=1, ge=1)
    """Batches on the way are rounded down to multiples of this; all must divide among the replicas."""

    def size(self, step: int, batch: int) -> int:
        """Return the sequences of a step, 0-based, given those of a whole batch."""
        if step >= self.steps:
            return batch
        grown = self.start + (batch - self.start) * step // self.steps
        return max(self.start, grown // self.multiple_of * self.multiple_of)


class LengthWarmup(BaseModel):
    """Sequences that grow to their full length: steps at the start cost less, and are stabler (arXiv 2108.06084).

    The windows are those of the whole length, of which steps on the way read the beginning.
    """

    model_config = CONFIG

    start: int = Field(ge=2)
    """Tokens of a sequence in the first step."""
    steps: int = Field(ge=1, le=1 << 20)
    """Steps over which sequences grow in a line; those after them are whole."""
    multiple_of: int = Field(default=8, ge=1)
    """Lengths on the way are rounded down to multiples of this, which processors compute with at full speed."""

    def length(self, step: int, whole: int) -> int:
        """Return the tokens of a sequence of a step, 0-based, given those of a whole one."""
        if step >= self.steps:
            return whole
        grown = self.start + (whole - self.start) * step // self.steps
        return max(self.start, grown // self.multiple_of * self.multiple_of)


@dataclass(frozen=True)
class Growth:
    """How many sequences, of how many tokens, each batch of the training order has: a function of its number alone."""

    batch: int
    """Sequences of a whole batch."""
    length: int
    """Tokens of a whole sequence."""
    batch_warmup: BatchWarmup | None = None
    length_warmup: LengthWarmup | None = None

    def batch_of(self, number: int) -> int:
        """Return the sequences of a batch, 0-based."""
        return self.batch_warmup.size(number, self.batch) if self.batch_warmup else self.batch

    def length_of(self, number: int) -> int:
        """Return the tokens of its sequences."""
        return self.length_warmup.length(number, self.length) if self.length_warmup else self.length

    def tokens_of(self, number: int) -> int:
        """Return the tokens of a batch."""
        return self.batch_of(number) * self.length_of(number)

    def sequences_before(self, number: int) -> int:
        """Return the sequences of all batches before one: where it begins in the order."""
        if self.batch_warmup is None:
            return number * self.batch
        growing = min(number, self.batch_warmup.steps)
        return self._sums[growing] + (number - growing) * self.batch

    @property
    def batches(self) -> list[int]:
        """Return the sizes that batches have, ascending."""
        growing = range(self.batch_warmup.steps if self.batch_warmup else 0)
        return sorted({self.batch, *(self.batch_of(number) for number in growing)})

    @cached_property
    def _sums(self) -> list[int]:
        assert self.batch_warmup is not None
        return [0, *accumulate(self.batch_of(number) for number in range(self.batch_warmup.steps))]
