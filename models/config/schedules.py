"""What changes over the steps: the learning rate."""

from typing import Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG


class ScheduleConfig(BaseModel):
    """Learning rate as a fraction of its peak: linear warm-up, then the shape named by `kind`."""

    model_config = CONFIG

    kind: Literal["cosine", "linear", "wsd", "constant"]
    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear warm-up."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Where cosine, linear and wsd end, as a fraction of the peak."""
    decay_fraction: float = Field(default=0.4, gt=0, le=1)
    """Share of all steps that wsd (warm-up, stable, decay) spends on its linear decay."""
