"""What a recipe says of the way its documents are trained on, held against the rest of it."""

from infra.errors import UserError
from models.objectives import require_tokens
from models.order import stage_steps
from tasks.annotate import AnnotateConfig
from tasks.mix import QUALITY, MixConfig
from tasks.pretrain import PretrainConfig
from tasks.tokenizer import AnyTokenizerConfig, ModelVocabulary
from tasks.tokens import TokensConfig


def check_mix(mix: MixConfig, annotate: AnnotateConfig | None, pretrain: PretrainConfig) -> None:
    """Raise ValueError that names a field of `mix` which asks for what the recipe does not have."""
    if mix.signals and annotate is None:
        raise ValueError(f"mix.{mix.signals[0]}: needs the signals of annotate; give annotate, or leave it out")
    asking = [f"stages[{n}]" for n, stage in enumerate(mix.stages) if stage.needs_quality]
    if asking and mix.quality_signal == QUALITY and annotate is not None and annotate.quality is None:
        raise ValueError(
            f"mix.{asking[0]}: asks for quality: name a classifier in annotate.quality, or another signal in "
            "mix.quality_signal"
        )
    if mix.stages:
        try:
            stage_steps([(stage.name, stage.share) for stage in mix.stages], pretrain.steps)
        except UserError as exc:
            raise ValueError(f"mix.stages: {str(exc).removeprefix('pretrain: ')}") from exc


def check_packing(tokens: TokensConfig, pretrain: PretrainConfig) -> None:
    """Raise ValueError where tokens are laid out, or counted, in windows that the model does not read."""
    length, context = pretrain.window, pretrain.model.sequence_length
    if tokens.sequence_length not in (None, length):
        is_what = (
            "is not pretrain.model.sequence_length, which is"
            if length == context
            else (f"is not what pretrain.objective makes pretrain.model.sequence_length={context} of:")
        )
        raise ValueError(f"tokens.sequence_length: {tokens.sequence_length} {is_what} {length}")


def check_objective(tokenizer: AnyTokenizerConfig, pretrain: PretrainConfig) -> None:
    """Raise ValueError where the vocabulary will lack the special tokens of what the model is trained to do."""
    if isinstance(tokenizer, ModelVocabulary):
        if pretrain.initial_weights is None:
            raise ValueError("tokenizer.kind: model takes the vocabulary of pretrain.initial_weights, which names none")
        return  # what it has is seen when the model is
    try:
        require_tokens(
            pretrain.objective, tokenizer.mask_token is not None, tokenizer.sentinels, window=pretrain.window
        )
    except UserError as exc:
        raise ValueError(f"tokenizer: {str(exc).removeprefix('pretrain: ')}") from exc
