"""The model that is judged, behind the little that judging needs of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from infra.artifacts import Artifact
from tasks.evaluate import EvaluateConfig
from tasks.evaluate.filling import FillingModel

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


def load_candidate(cfg: EvaluateConfig, model: Artifact) -> Candidate | FillingModel:
    """Load a model artifact; raises UserError where a file of it is missing.

    What a model of another family than decoders is asked is what it was trained to do.
    """
    from models.generation import load_model

    folder = model.local()
    loaded = load_model(folder)
    if loaded.network.cfg.family == "decoder":
        return TrainedModel(cfg, loaded)
    from models.objectives import build_objective, read_vocabulary, trained_for

    vocabulary = read_vocabulary(
        folder / "tokenizer.json",
        folder / "special_tokens_map.json",
        size=loaded.network.vocab_size,
        end=loaded.end_of_document,
        start=loaded.start_token,
    )
    objective = build_objective(
        trained_for(json.loads((folder / "config.json").read_bytes())),
        vocabulary,
        sequence_length=loaded.sequence_length,
        seed=cfg.seed,
    )
    return FillingModel(loaded, vocabulary, objective)
