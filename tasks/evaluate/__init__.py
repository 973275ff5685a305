"""evaluate: what a model makes of text that it has never seen, against lines that say whether that is good.

evaluation.json     {task: {metric: value}}: validation, validation/<source>, reference/<name>, verdict
samples.json        [{prompt, text, seed}]: what a decoder writes after fixed prompts
                    [{prompt, filled, original}]: what another model fills in; the original where it is held-out text

The held-out text is `max_bytes` of the validation documents, chosen by hash of their id with a fair share for each
source, whatever the shards; the model and all references are measured on exactly these bytes.  Bits a byte compare
across tokenizers and with compressors; nats a token and perplexity only among models of one tokenizer.  Each document
is scored by itself: it follows an end-of-document token and is charged for its own, as in training; the compressors are
not told where documents end.

A model that is no decoder does not predict the whole text, so there are no bits a byte: it is asked for the tokens of
the text that its objective hides or takes out (tasks/evaluate/filling.py), and compared with the unigram line on these.
"""

from pydantic import Field

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from infra.steps import StepConfig, step


class EvaluateConfig(StepConfig):
    """On what a model is judged, and what it is asked to write."""

    max_bytes: int = Field(default=1_000_000, ge=1)
    """UTF-8 bytes of validation text to judge on; the rest is left out, and how much that is is recorded."""

    prompts: tuple[str, ...] = ("The", "In", "This is")
    """Beginnings that a decoder continues; an empty one lets it begin a document. An encoder fills in the mask token in
    them, an encoder-decoder `<extra_id_0>`, `<extra_id_1>`, …; where no prompt has one, passages of held-out text are
    shown filled in."""

    new_tokens: int = Field(default=160, ge=1)
    """Most tokens written after a prompt; an end-of-document token ends the text earlier."""

    temperature: float = Field(default=0.8, ge=0)
    """Divides the logits before sampling; 0 always takes the most likely token."""

    top_k: int | None = Field(default=50, ge=1)
    """Samples among so many most likely tokens only; all of them where it is null."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the samples; prompt number n uses seed + n."""

    ngram_tokens: int = Field(default=5_000_000, ge=1)
    """Training tokens that the 5-gram line counts at most, from the first one on: some 80 bytes of memory each."""

    stride: int | None = Field(default=None, ge=1)
    """Documents longer than the model's context are read in windows that begin so many tokens apart; half a context
    where it is null. A smaller one gives every token more context, and takes longer."""


@step("evaluate", version=3, reads={"documents": ("validation",)})
def evaluate(cfg: EvaluateConfig, model: Artifact, documents: Artifact, tokens: Artifact, out: Attempt) -> Counters:
    """Judge a model on held-out documents and let it write; `tokens` gives the counts of the unigram line.

    Raises DataError where there is no held-out text, or where the model and the tokens disagree on the vocabulary.
    """
    from tasks.evaluate.judging import evaluate_model

    return evaluate_model(cfg, model, documents, tokens, out)
