"""The average of the weights over the steps."""

from pydantic import BaseModel, Field

from models.config.base import CONFIG


class EMAConfig(BaseModel):
    """An exponential moving average of the weights, which is what is validated and published.

    It costs 4 bytes for each parameter that a rank holds: all of them, or its share of them under ZeRO-3, tensor and
    pipeline parallelism.
    """

    model_config = CONFIG

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the average that each step keeps, but (1 + n) / (10 + n) after n steps where that is less, so that the
    first weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage)."""

    def kept(self, steps: int) -> float:
        """Return the share that is kept after so many steps."""
        return min(self.decay, (1 + steps) / (10 + steps))
