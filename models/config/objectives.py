"""What a network is trained to do: guess the next token, tokens that were hidden, or spans that were taken out."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from models.config.base import CONFIG

FAMILY_OF: Final = {"causal": "decoder", "masked": "encoder", "denoising": "encoder_decoder"}
"""Family of networks that an objective trains."""


class CausalConfig(BaseModel):
    """Guess each token from those before it (GPT)."""

    model_config = CONFIG

    kind: Literal["causal"]
    """The next token."""

    def window(self, sequence_length: int) -> int:
        """Return how many tokens of text one sequence is made of."""
        return sequence_length


class MaskedConfig(BaseModel):
    """Guess tokens that were hidden from those on both sides (BERT, arXiv 1810.04805), hidden anew each time a text is
    read (RoBERTa, arXiv 1907.11692). The vocabulary needs `tokenizer.mask_token`."""

    model_config = CONFIG

    kind: Literal["masked"]
    """Hidden tokens."""
    probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens (with `whole_word` of the words) that are to be guessed; special tokens never are."""
    mask_share: float = Field(default=0.8, ge=0, le=1)
    """Share of these that are shown as the mask token."""
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of these that are shown as a token drawn at random; the rest is shown as it is."""
    whole_word: bool = False
    """Hide whole words; otherwise each token for itself. Words begin at white space and punctuation, as the tokens of
    the vocabulary show them."""

    def window(self, sequence_length: int) -> int:
        """Return how many tokens of text one sequence is made of."""
        return sequence_length


class DenoisingConfig(BaseModel):
    """Write the spans that were taken out of a text, each behind the sentinel that stands in its place (T5, arXiv
    1910.10683, section 3.1.4). The vocabulary needs `tokenizer.sentinels`.

    `model.sequence_length` is what the encoder reads: the text that is left, a sentinel for each span, and an end
    token. As in T5's `compute_input_and_target_lengths` the text is as long as fills it, and what the decoder writes is
    as long as follows from that: with 512 tokens, 568 of text and 114 of targets.
    """

    model_config = CONFIG

    kind: Literal["denoising"]
    """Spans that were taken out."""
    noise_density: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that are taken out."""
    mean_span: float = Field(default=3.0, ge=1)
    """Mean length of a span, in tokens."""

    def spans(self, tokens: int) -> tuple[int, int]:
        """Return (tokens, spans) that are taken out of so many tokens: of two or more at least one, never all."""
        noise = min(max(round(tokens * self.noise_density), 1), max(tokens - 1, 0))
        return noise, min(max(round(noise / self.mean_span), 1), noise, tokens - noise)

    def lengths(self, tokens: int) -> tuple[int, int]:
        """Return how long source and targets of so many tokens are, with sentinels and an end token each."""
        noise, spans = self.spans(tokens)
        return tokens - noise + spans + 1, noise + spans + 1

    def window(self, sequence_length: int) -> int:
        """Return how many tokens of text one sequence is made of: as many as fit; 0 where not even two do."""
        tokens = sequence_length
        while tokens > 1 and self.lengths(tokens)[0] > sequence_length:
            tokens -= 1
        while self.lengths(tokens + 1)[0] <= sequence_length:
            tokens += 1
        return tokens if tokens > 1 else 0


ObjectiveConfig = Annotated[CausalConfig | MaskedConfig | DenoisingConfig, Field(discriminator="kind")]


def objective_problems(objective: ObjectiveConfig, *, family: str, sequence_length: int) -> list[str]:
    """Return every reason why a network of this family cannot be trained so."""
    problems = []
    if FAMILY_OF[objective.kind] != family:
        right = next(kind for kind, of in FAMILY_OF.items() if of == family)
        problems.append(
            f"objective.kind={objective.kind} trains model.family={FAMILY_OF[objective.kind]}, not "
            f"model.family={family}, which is trained with objective.kind={right}"
        )
    if isinstance(objective, MaskedConfig) and objective.mask_share + objective.random_share > 1:
        problems.append(
            f"objective.mask_share={objective.mask_share:g} and random_share={objective.random_share:g} are more than "
            "the whole; their sum may be 1"
        )
    if isinstance(objective, DenoisingConfig):
        window = objective.window(sequence_length)
        if not window:
            problems.append(
                f"model.sequence_length={sequence_length} has no room for text, sentinels and an end token with "
                f"objective.noise_density={objective.noise_density:g}"
            )
        elif (targets := objective.lengths(window)[1]) > sequence_length:
            problems.append(
                f"objective.noise_density={objective.noise_density:g} with mean_span={objective.mean_span:g} makes "
                f"{targets} targets of {window} tokens, more than model.sequence_length={sequence_length}; lower it"
            )
    return problems
