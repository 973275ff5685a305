"""The model that is judged, behind the little that judging needs of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from infra.artifacts import Artifact
from tasks.evaluate import EvaluateConfig

if TYPE_CHECKING:
    from models.generation import LanguageModel


@dataclass(frozen=True)
class Cost:
    """What it costs a model to predict a document: nats, over so many tokens, its end of document included."""

    nats: float
    tokens: int


class Candidate(Protocol):
    """Anything that predicts documents and continues prompts."""

    def costs(self, texts: Sequence[str]) -> list[Cost]:
        """Return the cost of each document."""

    def write(self, prompt: str, seed: int) -> str:
        """Continue a prompt; the same seed gives the same text."""


class TrainedModel:
    """A model artifact, in fp32 on the CPU."""

    def __init__(self, cfg: EvaluateConfig, model: "LanguageModel") -> None:
        self.cfg, self.model = cfg, model

    def costs(self, texts: Sequence[str]) -> list[Cost]:
        """Return the cost of each document."""
        from models.scoring import score_documents

        scores = score_documents(self.model, texts, stride=self.cfg.stride)
        return [Cost(score.nats, score.tokens) for score in scores]

    def write(self, prompt: str, seed: int) -> str:
        """Continue a prompt; the same seed gives the same text."""
        from models.generation import generate

        cfg = self.cfg
        return generate(
            self.model, prompt, max_tokens=cfg.new_tokens, temperature=cfg.temperature, top_k=cfg.top_k, seed=seed
        )


def load_candidate(cfg: EvaluateConfig, model: Artifact) -> Candidate:
    """Load a model artifact; raises UserError where a file of it is missing."""
    from models.generation import load_model

    loaded = load_model(model.local())
    return TrainedModel(cfg, loaded)
