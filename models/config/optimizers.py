"""How the parameters are moved."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG


class AdamWConfig(BaseModel):
    """AdamW for every parameter (Loshchilov and Hutter, arXiv 1711.05101)."""

    model_config = CONFIG

    kind: Literal["adamw"]
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the square root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices; vectors are not decayed."""


class MuonConfig(BaseModel):
    """Muon for the hidden matrices, AdamW for embeddings, head and vectors (kellerjordan.github.io/posts/muon).

    Needs whole matrices on each rank, so it runs with ZeRO stage 0 only.
    """

    model_config = CONFIG

    kind: Literal["muon"]
    learning_rate: float = Field(default=0.02, gt=0)
    """Peak learning rate of the hidden matrices; an update has a spectral norm of about this, times the root of
    rows/columns where that is above 1."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Nesterov momentum of the hidden matrices."""
    iterations: int = Field(default=5, ge=1, le=20)
    """Newton-Schulz iterations."""
    adamw_learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate of the parameters that AdamW moves."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the first and second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices, Muon's and AdamW's; vectors are not decayed."""


OptimizerConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]
