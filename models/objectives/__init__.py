"""What a network is trained to do, as code: windows of the token stream become batches of inputs and targets."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from infra.errors import UserError
from models.batch import Batch, Windows
from models.config.objectives import FAMILY_OF, DenoisingConfig, MaskedConfig, ObjectiveConfig
from models.objectives.causal import Causal
from models.objectives.denoising import Denoising
from models.objectives.masked import Masked
from models.objectives.vocabulary import Vocabulary, read_vocabulary


class Objective(Protocol):
    """Makes batches of windows."""

    @property
    def window(self) -> int:
        """Tokens of a window that make one sequence."""

    @property
    def ahead(self) -> int:
        """Tokens behind a window that it wants to see."""

    @property
    def uneven(self) -> bool:
        """Whether some sequences have more targets that count than others."""

    def batch(self, windows: Windows, rows_B: NDArray[np.uint64]) -> Batch:
        """Return a batch; what is drawn for a row depends on its number among all rows of the run."""


def build_objective(
    cfg: ObjectiveConfig,
    vocabulary: Vocabulary,
    *,
    sequence_length: int,
    seed: int,
    packed: bool = False,
    documents: bool = False,
) -> Objective:
    """Return the objective of a config; with `packed` windows were laid out in the stream, with `documents` batches
    say which document a position is of.
    """
    match cfg:
        case MaskedConfig():
            return Masked(cfg, vocabulary, sequence_length=sequence_length, seed=seed)
        case DenoisingConfig():
            return Denoising(cfg, vocabulary, sequence_length=sequence_length, seed=seed, packed=packed)
    return Causal(end=vocabulary.end, sequence_length=sequence_length, packed=packed, documents=documents)


def trained_for(config: Mapping[str, Any]) -> ObjectiveConfig:
    """Return the objective that config.json of a model says; by its family the usual one, where it says none."""
    family = config["model"].get("family", "decoder")
    usual = {"kind": next(kind for kind, of in FAMILY_OF.items() if of == family)}
    objective: ObjectiveConfig = TypeAdapter(ObjectiveConfig).validate_python(config.get("objective") or usual)
    return objective


def require_tokens(cfg: ObjectiveConfig, mask: bool, sentinels: int, *, window: int) -> None:
    """Raise UserError where a vocabulary has no mask token, or not as many sentinels as a window has spans."""
    if isinstance(cfg, MaskedConfig) and not mask:
        raise UserError(
            "pretrain: objective.kind=masked needs a mask token in the vocabulary; set tokenizer.mask_token=[MASK]"
        )
    if isinstance(cfg, DenoisingConfig) and (spans := cfg.spans(window)[1]) > sentinels:
        raise UserError(
            f"pretrain: objective.kind=denoising takes {spans} spans out of a window of {window} tokens, and the "
            f"vocabulary has {sentinels} sentinels to stand for them; set tokenizer.sentinels={max(spans, 100)}"
        )


__all__ = [
    "Causal",
    "Denoising",
    "Masked",
    "Objective",
    "Vocabulary",
    "build_objective",
    "read_vocabulary",
    "require_tokens",
    "trained_for",
]
