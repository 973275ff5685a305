"""Judges a model: scores the held-out text a document at a time, draws the reference lines, lets the model write."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.artifacts import Artifact, Attempt
from infra.errors import DataError
from infra.manifests import Counters
from tasks.evaluate import EvaluateConfig
from tasks.evaluate.candidate import Candidate, load_candidate
from tasks.evaluate.filling import FillingModel, Missing, evaluation_of_filling
from tasks.evaluate.heldout import HeldOut, held_out
from tasks.evaluate.ngrams import NgramModel, training_tokens
from tasks.evaluate.references import count_tokens, gzip_bits_per_byte, total_nats, unigram_nats, xz_bits_per_byte
from tasks.evaluate.tally import Evaluation, Tally, references, verdict
from tasks.tokenizer.encoding import DocumentEncoder

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 17
"""Text that is scored between two reports of progress."""
PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Lines:
    """The reference lines that know the training tokens."""

    unigram: npt.NDArray[np.float64]
    """-ln p of each token of the vocabulary."""
    ngrams: NgramModel


def evaluate_model(
    cfg: EvaluateConfig, model: Artifact, documents: Artifact, tokens: Artifact, out: Attempt
) -> Counters:
    """Write evaluation.json and samples.json."""
    texts = list(held_out(documents.files("validation"), cfg.max_bytes))
    if not texts:
        raise DataError("evaluate: the validation documents have no text; raise split.validation_fraction")
    encoder = DocumentEncoder(model.file("tokenizer.json").local())
    candidate = load_candidate(cfg, model)
    index = json.loads(tokens.file("index.json").read_bytes())
    if index["vocab_size"] != encoder.vocab_size:
        raise DataError(
            f"evaluate: the model's tokenizer has {encoder.vocab_size} tokens and the training tokens were made with "
            f"{index['vocab_size']}: they do not belong together"
        )
    shards = [file.local() for file in tokens.files("train") if file.path.endswith(".bin")]
    counts = count_tokens(shards, index["dtype"], encoder.vocab_size)
    counts[encoder.end_of_document] -= index["splits"]["train"].get("padding", 0)  # of packed windows, no text
    unigram, progress = unigram_nats(counts), _progress(out, texts)
    started = time.perf_counter()
    if isinstance(candidate, FillingModel):
        sums = judge_filling(candidate, encoder, unigram, texts, progress)
        seconds = time.perf_counter() - started
        evaluation = evaluation_of_filling(sums, encoder.vocab_size)
        written = candidate.samples(cfg.prompts, _passages(encoder, texts))
    else:
        ngrams = NgramModel(
            training_tokens(shards, index["dtype"], cfg.ngram_tokens),
            vocabulary=encoder.vocab_size,
            end=encoder.end_of_document,
        )
        started = time.perf_counter()
        tallies = judge(candidate, encoder, Lines(unigram, ngrams), texts, progress)
        seconds = time.perf_counter() - started
        evaluation = evaluation_of(tallies, encoder.vocab_size, [each.text for each in texts], ngrams.tokens)
        written = samples(cfg, candidate, encoder)
    evaluation["validation"]["coverage"] = round(
        float(evaluation["validation"]["bytes"]) / index["splits"]["validation"]["bytes"], 6
    )
    _write(out.path("evaluation.json"), evaluation)
    _write(out.path("samples.json"), list(written))
    total = evaluation["validation"]
    return Counters(
        values={name: int(total[name]) for name in ("documents", "bytes", "tokens")},
        metrics={"scored_tokens_per_second": round(float(total["tokens"]) / seconds)},
    )


def judge(
    candidate: Candidate,
    encoder: DocumentEncoder,
    lines: Lines,
    documents: Sequence[HeldOut],
    progress: Callable[[int], None],
) -> dict[str, Tally]:
    """Return the sums of each source; `progress` is told the bytes done.

    Model and lines are charged for the same tokens, each document's end-of-document token included.  Raises DataError
    where the model encodes a text otherwise than the training data was encoded.
    """
    tallies: dict[str, Tally] = {}
    done = 0
    for chunk in _chunks(documents):
        encoded = encoder.encode((document, document.text) for document in chunk)
        costs = candidate.costs([document.text for document in chunk])
        for (document, ids), cost in zip(encoded, costs, strict=True):
            charged = np.append(ids, encoder.end_of_document).astype(np.int64)
            if cost.tokens != len(charged):
                raise DataError(
                    f"evaluate: the model makes {cost.tokens} tokens of a text of {document.source}, the tokenizer of "
                    f"its training data {len(charged)}"
                )
            tally = Tally(1, document.bytes, len(charged), cost.nats, total_nats(lines.unigram, charged))
            tally.ngram_nats = float(lines.ngrams.nats(charged).sum())
            tallies.setdefault(document.source, Tally()).add(tally)
            done += document.bytes
        progress(done)
    return tallies


def judge_filling(
    candidate: FillingModel,
    encoder: DocumentEncoder,
    unigram: npt.NDArray[np.float64],
    documents: Sequence[HeldOut],
    progress: Callable[[int], None],
) -> dict[str, Missing]:
    """Return the sums of each source; `progress` is told the bytes done.

    Raises DataError where the text is so short that nothing is missing in it.
    """
    sums: dict[str, Missing] = {}
    done = 0
    for chunk in _chunks(documents):
        tokens = _with_ends(encoder, chunk)
        found = candidate.missing(tokens, [document.bytes for document in chunk], unigram)
        for document, each in zip(chunk, found, strict=True):
            sums.setdefault(document.source, Missing()).add(each)
            done += document.bytes
        progress(done)
    if not any(each.targets for each in sums.values()):
        raise DataError("evaluate: the held-out text is too short to hide a token of it; raise evaluate.max_bytes")
    return sums


def _with_ends(encoder: DocumentEncoder, documents: Sequence[HeldOut]) -> list[npt.NDArray[np.int64]]:
    encoded = encoder.encode((document, document.text) for document in documents)
    return [np.append(ids, encoder.end_of_document).astype(np.int64) for _, ids in encoded]


def _passages(encoder: DocumentEncoder, documents: Sequence[HeldOut]) -> list[npt.NDArray[np.int64]]:
    """Return the tokens of the first document of each source, then of the second ones, and so on, of a few."""
    from tasks.evaluate.filling import PASSAGES

    ranks: dict[str, int] = {}
    ranked = []
    for document in documents:
        ranks[document.source] = ranks.get(document.source, -1) + 1
        ranked.append((ranks[document.source], document.source, document))
    first = sorted(ranked, key=lambda each: each[:2])[:PASSAGES]
    return [next(iter(encoder.encode([(0, document.text)])))[1].astype(np.int64) for _, _, document in first]


def _chunks(documents: Sequence[HeldOut]) -> Iterator[list[HeldOut]]:
    """Group documents of about CHUNK_BYTES of text."""
    chunk: list[HeldOut] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += document.bytes
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def samples(cfg: EvaluateConfig, candidate: Candidate, encoder: DocumentEncoder) -> Iterator[dict[str, Any]]:
    """Yield what the model writes after each prompt; a prompt outside of its vocabulary is left out, with a warning."""
    for number, prompt in enumerate(cfg.prompts):
        try:
            list(encoder.encode([(number, prompt)]))
        except DataError as error:  # a vocabulary of characters need not have all of a default prompt
            log.warning("evaluate.prompts: %r is left out: %s", prompt, error)
            continue
        yield {"prompt": prompt, "text": candidate.write(prompt, cfg.seed + number), "seed": cfg.seed + number}


def evaluation_of(tallies: dict[str, Tally], vocabulary: int, texts: Sequence[str], ngram_tokens: int) -> Evaluation:
    """Return evaluation.json: all text, each source, the reference lines on the same text, the verdict."""
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    lines = references(total, vocabulary, ngram_tokens, gzip=gzip_bits_per_byte(texts), xz=xz_bits_per_byte(texts))
    evaluation = {
        "validation": total.metrics(),
        **{f"validation/{source}": tallies[source].metrics() for source in sorted(tallies)},
        **lines,
    }
    return {**evaluation, "verdict": verdict(evaluation)}


def _progress(out: Attempt, texts: Sequence[HeldOut]) -> Callable[[int], None]:
    total, said = sum(each.bytes for each in texts), time.monotonic()

    def say(done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_SECONDS:
            out.progress(done, total, "bytes")
            said = time.monotonic()

    return say


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
