"""Judging models that fill in what is missing of a text: hidden tokens (BERT), spans that were taken out (T5).

Each held-out document is asked by itself, in windows of the model's context, the last of which is short.  What is
missing depends on the recipe's seed and the place alone, so that models of one vocabulary are asked the same.  Judged
are the tokens of text that are missing: the sentinels between T5's spans, and what ends them, say where text goes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tasks.evaluate.tally import DIGITS, Evaluation, Metric

if TYPE_CHECKING:
    from models.batch import Batch
    from models.generation import LanguageModel
    from models.objectives import Objective, Vocabulary

ROWS: Final = 16
"""Windows that are read at once, at most."""
PASSAGES: Final = 3
"""Passages of held-out documents that are shown filled in, where no prompt has something missing."""
PASSAGE_TOKENS: Final = 48


@dataclass
class Missing:
    """Sums over what was missing of some documents, and what it costs the model and the unigram line in nats."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    targets: int = 0
    """Tokens of text that were missing."""
    nats: float = 0.0
    right: int = 0
    """How many of them the model finds likeliest."""
    all_targets: int = 0
    """Those, sentinels and ends."""
    all_nats: float = 0.0
    unigram_nats: float = 0.0
    unigram_right: int = 0

    def add(self, other: "Missing") -> None:
        """Add the sums of other documents."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def metrics(self) -> dict[str, Metric]:
        """Return what evaluation.json says of this text; perplexity is e to the nats a missing token."""
        each = self.nats / max(self.targets, 1)
        return {
            "nats_per_token": round(each, DIGITS),
            "accuracy": round(self.right / max(self.targets, 1), DIGITS),
            "perplexity": round(math.exp(min(each, 700.0)), 4),
            "loss": round(self.all_nats / max(self.all_targets, 1), DIGITS),
            "missing_tokens": self.targets,
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
        }


@dataclass
class _Answers:
    """What a model answers for one document."""

    targets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    nats: list[npt.NDArray[np.float64]] = field(default_factory=list)
    guesses: list[npt.NDArray[np.int64]] = field(default_factory=list)


class FillingModel:
    """A model artifact of another family than decoders, in fp32 on the CPU, and what it was trained to do."""

    def __init__(self, model: "LanguageModel", vocabulary: "Vocabulary", objective: "Objective") -> None:
        self.model, self.vocabulary, self.objective = model, vocabulary, objective
        self._row = 0

    def missing(
        self, documents: Sequence[npt.NDArray[np.int64]], sizes: Sequence[int], unigram: npt.NDArray[np.float64]
    ) -> list[Missing]:
        """Return the sums of each document, given its tokens with the end token, its bytes, and -ln p of each token."""
        answers = [_Answers() for _ in documents]
        width = self.objective.window
        windows = (
            (number, tokens[start : start + width])
            for number, tokens in enumerate(documents)
            for start in range(0, len(tokens), width)
        )
        while some := list(islice(windows, ROWS)):
            batch = self._asked([tokens for _, tokens in some])
            for (number, _), targets, nats, guesses in zip(some, *self._answers(batch), strict=True):
                answers[number].targets.append(targets[targets >= 0])
                answers[number].nats.append(nats[targets >= 0])
                answers[number].guesses.append(guesses[targets >= 0])
        return [
            self._sums(each, len(tokens), size, unigram)
            for each, tokens, size in zip(answers, documents, sizes, strict=True)
        ]

    def _asked(self, windows: Sequence[npt.NDArray[np.int64]]) -> "Batch":
        from models.batch import PADDING, Windows

        tokens = np.full((len(windows), self.objective.window), self.vocabulary.end, dtype=np.int64)
        documents = np.full(tokens.shape, PADDING)
        for row, window in enumerate(windows):
            tokens[row, : len(window)], documents[row, : len(window)] = window, 0
        rows = np.arange(self._row, self._row + len(windows), dtype=np.uint64)
        self._row += len(windows)
        return self.objective.batch(Windows(tokens, documents), rows)

    def _answers(self, batch: "Batch") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return targets, nats of each, and the likeliest token at each position."""
        import torch

        with torch.inference_mode():
            inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
            documents, source, source_documents = (
                None if each is None else torch.from_numpy(each) for each in batch[2:]
            )
            logits = self.model.network.logits(inputs, None, documents, source, source_documents)
            costs = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.clamp(min=0).flatten(), reduction="none"
            ).view(targets.shape)
        return batch.targets, costs.double().numpy(), logits.argmax(dim=-1).numpy()

    def _sums(self, answers: _Answers, tokens: int, size: int, unigram: npt.NDArray[np.float64]) -> Missing:
        targets, nats, guesses = (np.concatenate(each) for each in (answers.targets, answers.nats, answers.guesses))
        text = ~self.vocabulary.special[targets]
        likeliest = int(np.where(self.vocabulary.special, np.inf, unigram).argmin())
        return Missing(
            documents=1,
            bytes=size,
            tokens=tokens,
            targets=int(text.sum()),
            nats=float(nats[text].sum()),
            right=int((guesses == targets)[text].sum()),
            all_targets=len(targets),
            all_nats=float(nats.sum()),
            unigram_nats=float(unigram[targets[text]].sum()),
            unigram_right=int((targets[text] == likeliest).sum()),
        )

    def samples(self, prompts: Sequence[str], documents: Sequence[npt.NDArray[np.int64]]) -> Iterator[dict[str, Any]]:
        """Yield prompts in which something is missing, filled in; else passages of held-out documents."""
        from models.filling import fill, marks

        names = tuple(marks(self.model, self.vocabulary))
        asked = [prompt for prompt in prompts if any(name in prompt for name in names)]
        for prompt in asked:
            filled = fill(self.model, self.vocabulary, prompt)
            yield {"prompt": filled.prompt, "filled": filled.text}
        if not asked:
            for number, tokens in enumerate(documents[:PASSAGES]):
                yield self._passage(number, tokens[: min(PASSAGE_TOKENS, self.objective.window)])

    def _passage(self, number: int, tokens: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Hide part of a passage and let the model fill it in; hidden tokens are all shown as the mask token."""
        from models.filling import filled

        self._row = number
        batch = self._asked([tokens])
        if batch.source is None:
            shown = np.where(batch.targets[0] >= 0, np.int64(self.vocabulary.mask or 0), batch.inputs[0])[: len(tokens)]
        else:
            assert batch.source_documents is not None
            shown = batch.source[0][batch.source_documents[0] >= 0][:-1]  # without its end
        decode = self.model.tokenizer.decode
        return {
            "prompt": decode(shown.tolist(), skip_special_tokens=False),
            "filled": decode(filled(self.model, self.vocabulary, shown.tolist())),
            "original": decode(tokens.tolist()),
        }


def evaluation_of_filling(sums: dict[str, Missing], vocabulary: int) -> Evaluation:
    """Return evaluation.json: all text, each source, the reference lines on the same missing tokens, the verdict."""
    total = Missing()
    for each in sums.values():
        total.add(each)
    targets = max(total.targets, 1)
    ours, unigram = total.nats / targets, round(total.unigram_nats / targets, DIGITS)
    return {
        "validation": total.metrics(),
        **{f"validation/{source}": sums[source].metrics() for source in sorted(sums)},
        "reference/uniform-tokens": {
            "nats_per_token": round(math.log(vocabulary), DIGITS),
            "saw": "the vocabulary, which was made from the training text; no counts",
        },
        "reference/unigram": {
            "nats_per_token": unigram,
            "accuracy": round(total.unigram_right / targets, DIGITS),
            "saw": "how often each token occurs in the training text (plus one); nothing of what stands around it",
        },
        "verdict": {"learned": ours < unigram, "below_unigram": ours < unigram},
    }
