"""What changes over the steps: the learning rate."""

from typing import Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG


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


class BatchWarmup(BaseModel):
    """Batches that grow to their full size, as the gradient's noise falls less and less (GPT-3, arXiv 2005.14165)."""

    model_config = CONFIG

    start: int = Field(ge=1)
    """Sequences of the first step."""
    steps: int = Field(ge=1)
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
    steps: int = Field(ge=1)
    """Steps over which sequences grow in a line; those after them are whole."""
    multiple_of: int = Field(default=8, ge=1)
    """Lengths on the way are rounded down to multiples of this, which processors compute with at full speed."""

    def length(self, step: int, whole: int) -> int:
        """Return the tokens of a sequence of a step, 0-based, given those of a whole one."""
        if step >= self.steps:
            return whole
        grown = self.start + (whole - self.start) * step // self.steps
        return max(self.start, grown // self.multiple_of * self.multiple_of)
