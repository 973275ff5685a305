"""How the parameters are moved.

Matrices alone are decayed, by every optimiser; biases and the scales of norms are not.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG

Fraction = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(BaseModel):
    """AdamW for every parameter (Loshchilov and Hutter, arXiv 1711.05101)."""

    model_config = CONFIG

    kind: Literal["adamw"]
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay of the first and second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the square root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices; vectors are not decayed."""


class MuonConfig(BaseModel):
    """Muon for the hidden matrices, AdamW for embeddings, head and vectors (kellerjordan.github.io/posts/muon).

    Under ZeRO 1 to 3 the ranks share its work: each brings together and orthogonalises some of the matrices.
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
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """AdamW's decay of the first and second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices, Muon's and AdamW's; vectors are not decayed."""


class LambConfig(BaseModel):
    """LAMB: Adam whose update of each matrix is as long as the matrix is (You et al., arXiv 1904.00962, algorithm 2).

    For very large batches.
    """

    model_config = CONFIG

    kind: Literal["lamb"]
    learning_rate: float = Field(default=5e-3, gt=0)
    """Peak learning rate, by which a step changes a matrix relative to its norm (the paper's for BERT at 32,768
    sequences a step; it scales with the root of the batch)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the first and second moment (the paper's)."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the square root of the second moment (the paper's)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of matrices, added to the update before it is scaled (the paper's); vectors are neither decayed nor
    scaled."""


class AdafactorConfig(BaseModel):
    """Adafactor: of a matrix, only the second moments of rows and columns (Shazeer and Stern, arXiv 1804.04235).

    Its state is of rows and columns, which ZeRO's flat partitions have none of: it runs with ZeRO stage 0 only.
    """

    model_config = CONFIG

    kind: Literal["adafactor"]
    learning_rate: float = Field(default=1e-2, gt=0)
    """Peak of the relative step, which is also bounded by 1 over the root of the steps so far; a step changes a
    parameter by about this times its root mean square (the paper's)."""
    decay_power: float = Field(default=-0.8, lt=0)
    """The second moment decays by 1 less the step's number to this power (the paper's)."""
    smallest_scale: float = Field(default=1e-3, gt=0)
    """Least root mean square that a parameter is taken to have (the paper's epsilon 2)."""
    clipping: float = Field(default=1.0, ge=1)
    """Largest root mean square of an update before it is scaled (the paper's d)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of matrices (T5 has none); vectors are not decayed."""


class LionConfig(BaseModel):
    """Lion: the sign of an interpolated momentum (Chen et al., arXiv 2302.06675)."""

    model_config = CONFIG

    kind: Literal["lion"]
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate, by which every weight moves at a step; a third to a tenth of AdamW's (section 5)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Share of the momentum in the update, and decay of the momentum (the paper's)."""
    weight_decay: float = Field(default=1.0, ge=0)
    """Decoupled weight decay of matrices, three to ten times AdamW's (section 5); vectors are not decayed."""


OptimizerConfig = Annotated[
    AdamWConfig | MuonConfig | LambConfig | AdafactorConfig | LionConfig, Field(discriminator="kind")
]
