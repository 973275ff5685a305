"""The Recipe: one typed description of a model, from its sources to its evaluation.

It is the YAML file that a person writes, the parameter of the flows, and the form in Prefect's UI.
"""

from typing import Annotated, Any, Final, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.consistency import check_consistency
from flows.recipe_file import as_yaml, dated, extended, read_recipe, validated, without_required
from infra.errors import UserError
from infra.steps import Gate
from models.dial import CHARACTERS
from tasks.annotate import AnnotateConfig
from tasks.augment import AugmentConfig
from tasks.card import CardSection
from tasks.common_crawl import CommonCrawlSource
from tasks.crawl import CrawlConfig
from tasks.decontaminate import DecontaminateConfig
from tasks.dedup import DedupConfig
from tasks.evaluate import EvaluateConfig
from tasks.extract import ExtractConfig
from tasks.ingest import CodeSource, FilesSource, HuggingFaceSource, IngestConfig, WarcSource, WikipediaSource
from tasks.mix import MixConfig
from tasks.normalise import NormaliseConfig
from tasks.pretrain import PretrainConfig
from tasks.redact import RedactConfig
from tasks.repeats import RepeatsConfig
from tasks.select import SelectConfig
from tasks.split import SplitConfig
from tasks.tokenizer import AnyTokenizerConfig, BpeConfig
from tasks.tokens import TokensConfig

Source = Annotated[
    CrawlConfig | CodeSource | CommonCrawlSource | WarcSource | FilesSource | WikipediaSource | HuggingFaceSource,
    Field(discriminator="kind"),
]

_SOURCES: Final[dict[str, Any]] = {
    get_args(s.model_fields["kind"].annotation)[0]: s for s in get_args(get_args(Source)[0])
}
"""Class of a source by its `kind`."""


class IngestSection(BaseModel):
    """Where the corpus comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    sources: list[Source] = Field(min_length=1)
    """One entry a source; `kind` says which it is."""
    gate: Gate = IngestConfig.model_fields["gate"].default
    """The band of dropped and quarantined shares, of each source, outside of which the run fails."""


class Recipe(BaseModel):
    """A model from its sources to its evaluation, section by section in the order in which data flows."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra=without_required
    )

    extends: str | None = None
    """Name of a shipped recipe that this one starts from; every other key replaces one of it."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Name of the recipe; what it makes is published under it."""
    snapshot: str = "1"
    """Label of the state of the outside world: a crawl is made once for each label. `{date}` stands for today (UTC),
    so that a scheduled run crawls once a day."""
    ingest: IngestSection
    extract: ExtractConfig = ExtractConfig()
    normalise: NormaliseConfig | None = NormaliseConfig()
    """One form of text for all documents; null leaves it as it was extracted."""
    annotate: AnnotateConfig | None = AnnotateConfig()
    """Signals of every document; null to go without."""
    select: SelectConfig | None = SelectConfig()
    """Thresholds over the signals; null keeps every document."""
    redact: RedactConfig | None = RedactConfig()
    """Personal data replaced by placeholders, at places that annotate.pii found; null leaves them."""
    dedup: DedupConfig | None = DedupConfig()
    """Exact and near duplicates; null keeps them."""
    repeats: RepeatsConfig | None = None
    """Paragraphs, sentences or substrings that stand in several documents; null, the default, leaves them."""
    augment: AugmentConfig | None = None
    """Further documents made of those that there are, for training alone; null, the default, makes none."""
    decontaminate: DecontaminateConfig | None = None
    """Documents that have parts of evaluation sets in them; null, the default, does not look for any."""
    split: SplitConfig
    mix: MixConfig | None = None
    """Shares of sources, repetition and stages of training; null reads every training document once a pass."""
    tokenizer: AnyTokenizerConfig
    """What the vocabulary is made of; of kind `model` it is that of the model that training goes on from."""
    tokens: TokensConfig = TokensConfig()
    card: CardSection | None = CardSection()
    """What the dataset card and the public summary of training content say beside the facts; null writes none."""
    pretrain: PretrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="before")
    @classmethod
    def _extend(cls, value: Any) -> Any:
        return _with_vocabulary(extended(value))

    @field_validator("snapshot")
    @classmethod
    def _dated(cls, value: str) -> str:
        return dated(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_consistency(self)
        return self

    @property
    def code_sources(self) -> tuple[str, ...]:
        """Names of the sources of kind `code`."""
        return tuple(source.name for source in self.ingest.sources if source.kind == "code")

    def to_yaml(self) -> str:
        """Return the whole recipe, defaults included, as YAML."""
        return as_yaml(self)


def _with_vocabulary(value: Any) -> Any:
    """Return a recipe whose dial knows how many tokens the tokenizer is asked for."""
    at = value if isinstance(value, dict) else {}
    training, vocabulary = at.get("pretrain"), at.get("tokenizer")
    dial = training.get("dial") if isinstance(training, dict) else None
    if not isinstance(dial, dict) or dial.get("vocab_size") is not None or not isinstance(vocabulary, dict):
        return value
    if vocabulary.get("kind") == "model":
        return value
    if vocabulary.get("kind") == "characters":
        size = CHARACTERS
    else:
        size = vocabulary.get("vocab_size", BpeConfig.model_fields["vocab_size"].default)
    return {**value, "pretrain": {**at["pretrain"], "dial": {**dial, "vocab_size": size}}}


def load_recipe(recipe: str, *, sets: list[str] | None = None, inputs: list[str] | None = None) -> Recipe:
    """Return the recipe of a model called or stored at `recipe`, with `--set` values and `--input` paths put in.

    Raises UserError, one line that names the file and every field that is wrong.
    """
    data = read_recipe(recipe, sets)
    if data.get("kind") == "classifier":
        raise UserError(f"recipe {recipe}: is the recipe of a classifier; this takes one of a model")
    if inputs:
        try:
            source = data["ingest"]["sources"][0]
        except (KeyError, IndexError, TypeError) as exc:
            raise UserError("--input: the recipe has no ingest.sources[0] to take it") from exc
        put_inputs(source, inputs)
    return validated(Recipe, recipe, data)


def put_inputs(source: dict[str, Any], inputs: list[str]) -> None:
    """Replace the paths of a source; raises UserError where it takes none, or not so many."""
    try:
        kind = source["kind"]
        field = _SOURCES[kind].INPUT
    except (KeyError, TypeError) as exc:
        raise UserError("--input: the recipe's first source has no kind that there is") from exc
    if not field:
        raise UserError(f"--input: a source of kind {kind} takes no paths")
    if _SOURCES[kind].model_fields[field].annotation is not str:
        source[field] = inputs
    elif len(inputs) == 1:
        source[field] = inputs[0]
    else:
        raise UserError(f"--input: a source of kind {kind} takes one {field}, not {len(inputs)}")
