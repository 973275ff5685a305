"""What a report shows: one typed value, so that rendering needs neither storage nor pipeline."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

StepState = Literal["ran", "cached", "failed", "not reached"]
MetricValue = float | int | bool | str | None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepRow(_Part):
    """One step of the flow, in the order in which data flows."""

    step: str
    state: StepState
    digest: str | None = None
    uri: str | None = None
    seconds: float = 0.0
    """Wall-clock seconds that this run spent on it (near zero when cached)."""
    why: str = ""
    """Why it ran or failed: "params: select.gopher", "inputs", the error."""
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    """Bytes, largest of the step's processes."""
    reads: tuple[str, ...] = ()
    """Names of the steps whose artifacts it read; empty: the one before it."""


_NUMBER = re.compile(r"–|-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


class FunnelRow(_Part):
    """How many documents went into a stage and where they went."""

    stage: str
    documents_in: int
    documents_out: int
    dropped: dict[str, int] = {}
    quarantined: int = 0
    errors: dict[str, int] = {}
    """Why documents were quarantined."""
    examples: dict[str, tuple[str, ...]] = {}
    """A few URLs for each reason."""

    @property
    def removed(self) -> int:
        """Documents dropped for any reason."""
        return sum(self.dropped.values())

    @property
    def balanced(self) -> bool:
        """Whether every document that went in is accounted for."""
        return self.documents_in == self.documents_out + self.removed + self.quarantined


class Corpus(_Part):
    """Size of the corpus that the model saw; bytes are UTF-8 bytes of text."""

    documents: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    train_tokens: int | None = None
    validation_tokens: int | None = None


class ModelNumbers(_Part):
    """What was trained."""

    uri: str | None = None
    parameters: int | None = None
    steps: int | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    validation_loss: float | None = None
    """Nats a token."""
    validation_bits_per_byte: float | None = None


class Histogram(_Part):
    """Counts of a number over all documents and over those kept, in the same bins."""

    title: str
    unit: str = ""
    edges: tuple[float, ...]
    """One more than there are counts."""
    all: tuple[int, ...]
    kept: tuple[int, ...] | None = None
    log: bool = False
    """Whether the bins are equal on a logarithmic axis."""
    note: str = ""
    thresholds: tuple[float, ...] = ()
    """Values at which select decides."""


class Bars(_Part):
    """Counts of a category over all documents and over those kept, largest first."""

    title: str
    labels: tuple[str, ...]
    all: tuple[int, ...]
    kept: tuple[int, ...] | None = None
    note: str = ""


class SampleDocument(_Part):
    """A document to look at; reasons are empty for one that was kept."""

    url: str
    text: str
    stage: str = ""
    reasons: tuple[str, ...] = ()


class CurvePoint(_Part):
    """What was noted at an optimiser step; losses in nats a token."""

    step: int
    tokens: int | None = None
    train: float | None = None
    validation: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    """Since the point before."""
    skipped: bool = False
    """Whether the step changed nothing, as its loss or gradient was not finite or far out."""
    rolled_back_from: int | None = None
    """The step from which the run went back, and came to this one."""


class TrainingSample(_Part):
    """What the model wrote after a prompt when it had been trained for so many steps."""

    step: int
    prompt: str
    text: str


class GeneratedSample(_Part):
    """What the model wrote after a prompt, or filled in where something was missing in it."""

    prompt: str
    text: str
    fills: bool = False
    """Whether the text is the prompt with what was missing filled in."""
    original: str | None = None
    """What the text was before something was taken out."""


class LineageInput(_Part):
    """An artifact that another was made from."""

    role: str
    digest: str
    step: str | None = None


class LineageNode(_Part):
    """An artifact and what it was made from."""

    step: str
    digest: str
    content: str = ""
    """Digest of its files: equal content keeps everything after it cached."""
    uri: str = ""
    files: int = 0
    bytes: int = 0
    inputs: tuple[LineageInput, ...] = ()


class TokenizerRow(_Part):
    """What the vocabulary does to the held-out documents of a source or a language."""

    name: str
    documents: int
    bytes_per_token: float | None = None
    tokens_per_word: float | None = None
    unknown_share: float | None = None
    """Unknown tokens, of all tokens."""
    reference: float | None = None
    """Bytes a token of the tokenizer that it is compared with."""


class TokenizerNumbers(_Part):
    """What the vocabulary is like."""

    kind: str
    vocab_size: int
    unused_tokens: int
    reference: str | None = None
    """Name of the tokenizer that it is compared with; none where that was not at hand."""
    note: str = ""
    rows: tuple[TokenizerRow, ...] = ()
    """All held-out documents first, then those of each source, then of each language."""


class Table(_Part):
    """Numbers that a step has counted, beside those of the funnel."""

    step: str
    title: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...]

    @property
    def numbers(self) -> frozenset[int]:
        """Columns that hold nothing but numbers."""
        width = max((len(row) for row in self.rows), default=0)
        columns = ([row[i] for row in self.rows if i < len(row)] for i in range(width))
        return frozenset(i for i, cells in enumerate(columns) if all(_NUMBER.fullmatch(cell) for cell in cells))


class RunReport(_Part):
    """Everything that the report of one run shows."""

    run_id: str
    recipe_name: str
    recipe: str = ""
    """The recipe as YAML, with every default written out."""
    status: Literal["completed", "failed"]
    seconds: float = 0.0
    error: str | None = None
    stopped: bool = False
    """Whether it is "failed" because it was told to stop."""
    to_mend: bool = False
    """Whether it would fail again if nothing was changed."""
    resume_command: str | None = None
    steps: tuple[StepRow, ...] = ()
    funnel: tuple[FunnelRow, ...] = ()
    corpus: Corpus = Corpus()
    model: ModelNumbers | None = None
    tables: tuple[Table, ...] = ()
    languages: Bars | None = None
    histograms: tuple[Histogram, ...] = ()
    tokenizer: TokenizerNumbers | None = None
    kept: tuple[SampleDocument, ...] = ()
    dropped: tuple[SampleDocument, ...] = ()
    how_trained: tuple[tuple[str, str], ...] = ()
    """(what, how) of the training: shape, batch, optimiser, device, speed."""
    curve: tuple[CurvePoint, ...] = ()
    objective: Literal["causal", "masked", "denoising"] = "causal"
    """What the loss of the curve is of."""
    samples: tuple[TrainingSample, ...] = ()
    """Written while the model was trained, in order."""
    evaluation: dict[str, dict[str, MetricValue]] = {}
    """{task: {metric: value}} as in evaluation.json."""
    generated: tuple[GeneratedSample, ...] = ()
    card: str | None = None
    """Address of the artifact with the dataset card, the data report and the public summary of training content."""
    lineage: tuple[LineageNode, ...] = ()
    environment: dict[str, str] = {}
    """Git revision, Python, package versions, machine."""
    notes: tuple[str, ...] = ()
    """What could not be read, said plainly instead of left out."""
