"""What is done about steps whose loss or gradient leaves the usual."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from models.config.base import CONFIG


class RollbackConfig(BaseModel):
    """Back to before a spike, and past the data that it came from, where the loss stays high.

    After PaLM (Chowdhery et al., arXiv 2204.02311, section 5.1), whose runs were restarted from roughly 100 steps
    before a spike, skipping 200 to 500 batches.
    """

    model_config = CONFIG

    every: int = Field(default=500, ge=1)
    """Steps between the checkpoints that may be rolled back to: made whatever else says when checkpoints are due."""
    margin: int = Field(default=50, ge=0)
    """Least steps between such a checkpoint and the first step of the spike."""
    patience: int = Field(default=16, ge=1)
    """Steps in a row whose loss stays above the threshold, or that are not finite, before the run is rolled back."""
    skip_batches: int = Field(default=200, ge=1)
    """Least number of batches that are passed over; never less than those from the checkpoint to the last high one."""
    most: int = Field(default=3, ge=1)
    """Times that a run is rolled back before it is given up."""

    @model_validator(mode="after")
    def _anchors_suffice(self) -> Self:
        if self.margin + self.patience > self.every:
            raise ValueError(
                f"rollback.every={self.every} must be at least margin + patience = {self.margin + self.patience}: "
                "the last two checkpoints at its multiples are kept, and one must lie before the spike"
            )
        return self


class GuardConfig(BaseModel):
    """Steps are skipped whose loss or gradient norm is an outlier: the rule of OLMo-core's SkipStepOptimizer."""

    model_config = CONFIG

    window: int = Field(default=128, ge=8)
    """Trailing steps whose mean and deviation the next one is compared with; half as many must be known."""
    sigmas: float = Field(default=6.0, gt=0)
    """A step is skipped whose loss or gradient norm is more than so many standard deviations above the mean."""
    rollback: RollbackConfig | None = RollbackConfig()
    """What happens where the loss stays high; null never rolls back."""
