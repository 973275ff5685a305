"""How well a model predicts documents: nats and UTF-8 bytes of each, from which bits a byte follow."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from models.data import IGNORE
from models.generation import LanguageModel

LOGIT_BYTES = 512 << 20
"""Most memory for the fp32 logits of one batch of windows, unless one window alone has more; their log-probabilities
take as much again."""

MOST_WINDOWS = 16
"""Most windows in a batch, whatever the vocabulary."""


@dataclass(frozen=True)
class Score:
    """What it costs to predict some text: nats, over so many tokens (one end of document each) and UTF-8 bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits a UTF-8 byte; 0 for no text."""
        return self.nats / math.log(2) / self.bytes if self.bytes else 0.0


@torch.inference_mode()
def score_documents(
    model: LanguageModel, documents: Sequence[str], *, stride: int | None = None, logit_bytes: int = LOGIT_BYTES
) -> list[Score]:
    """Return the score of each document on its own: each starts after the model's start token, and includes its end.

    Longer ones are read in windows of the model's context, each `stride` tokens on (half a window by default), so that
    every token but those of the first window is predicted from at least a window less `stride`.  How many windows are
    read at once follows from the network's shape and `logit_bytes`; it changes the last bits of a sum at most.
    """
    length = model.sequence_length
    batch = min(MOST_WINDOWS, max(1, logit_bytes // (length * model.network.vocab_size * 4)))
    stride = min(stride or max(1, length // 2), length)
    encoded = [model.encode(text) for text in documents]
    nats = [0.0] * len(documents)
    pending: list[_Window] = []
    for window in _windows(encoded, model.start, model.end_of_document, length, stride):
        pending.append(window)
        if len(pending) == batch:
            _score(model, pending, nats)
            pending = []
    if pending:
        _score(model, pending, nats)
    return [Score(n, len(ids) + 1, len(text.encode())) for n, ids, text in zip(nats, encoded, documents, strict=True)]


@dataclass(frozen=True)
class _Window:
    document: int
    inputs: list[int]
    targets: list[int]


def _windows(encoded: Sequence[list[int]], start_token: int, eod: int, length: int, stride: int) -> Iterator[_Window]:
    """Yield windows whose targets cover each token of each document once, and the token that ends it."""
    for i, ids in enumerate(encoded):
        tokens = [start_token, *ids, eod]
        scored = 0  # targets tokens[1 : scored + 1] are covered
        start = 0
        while scored < len(tokens) - 1:
            end = min(start + length, len(tokens) - 1)
            targets = [IGNORE] * (scored - start) + tokens[scored + 1 : end + 1]
            yield _Window(i, tokens[start:end], targets)
            scored = end
            start += stride


def _score(model: LanguageModel, windows: Sequence[_Window], nats: list[float]) -> None:
    longest = max(len(w.inputs) for w in windows)
    inputs = torch.full((len(windows), longest), model.end_of_document)
    targets = torch.full((len(windows), longest), IGNORE)
    for row, window in enumerate(windows):
        inputs[row, : len(window.inputs)] = torch.tensor(window.inputs)
        targets[row, : len(window.targets)] = torch.tensor(window.targets)
    losses = model.network(inputs, targets, reduction="none").view(len(windows), longest)
    for window, total in zip(windows, losses.double().sum(dim=1).tolist(), strict=True):
        nats[window.document] += total
