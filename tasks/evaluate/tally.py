"""Sums over held-out text, and what they say in the units of evaluation.json."""

import math
from dataclasses import dataclass

Metric = float | int | bool | str
Evaluation = dict[str, dict[str, Metric]]

DIGITS = 6


@dataclass
class Tally:
    """Sums over documents: how much text there is, and what it costs the model and the lines in nats."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    nats: float = 0.0
    unigram_nats: float = 0.0
    ngram_nats: float = 0.0

    def add(self, other: "Tally") -> None:
        """Add the sums of other text."""
        self.documents += other.documents
        self.bytes += other.bytes
        self.tokens += other.tokens
        self.nats += other.nats
        self.unigram_nats += other.unigram_nats
        self.ngram_nats += other.ngram_nats

    def metrics(self) -> dict[str, Metric]:
        """Return what evaluation.json says of this text; perplexity is e to the nats a token."""
        per_token = self.nats / self.tokens
        return {
            "bits_per_byte": bits_per_byte(self.nats, self.bytes),
            "nats_per_token": round(per_token, DIGITS),
            "perplexity": round(math.exp(min(per_token, 700.0)), 4),
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
        }


def bits_per_byte(nats: float, size: int) -> float:
    """Turn nats over so many bytes into bits a byte."""
    return round(nats / math.log(2) / size, DIGITS)


def references(total: Tally, vocabulary: int, ngram_tokens: int, *, gzip: float, xz: float) -> Evaluation:
    """Return the reference lines with what each of them saw before it was asked."""
    uniform = bits_per_byte(total.tokens * math.log(vocabulary), total.bytes)
    unigram = bits_per_byte(total.unigram_nats, total.bytes)
    return {
        "reference/uniform-bytes": {"bits_per_byte": 8.0, "saw": "nothing: every byte is as likely as any other"},
        "reference/uniform-tokens": {
            "bits_per_byte": uniform,
            "saw": "the vocabulary, which was made from the training text; no counts",
        },
        "reference/unigram": {
            "bits_per_byte": unigram,
            "saw": "how often each token occurs in the training text (plus one); no order",
        },
        "reference/5-gram": {
            "bits_per_byte": bits_per_byte(total.ngram_nats, total.bytes),
            "saw": f"{ngram_tokens:,} tokens of the training text; the four tokens before each (Kneser-Ney)",
        },
        "reference/gzip-9": {
            "bits_per_byte": round(gzip, DIGITS),
            "saw": "only the held-out text, adapting to it from a cold start; no training text",
        },
        "reference/xz-9": {
            "bits_per_byte": round(xz, DIGITS),
            "saw": "only the held-out text, adapting to it from a cold start; no training text",
        },
    }


def verdict(evaluation: Evaluation) -> dict[str, Metric]:
    """Say which lines the model is below; `learned` is true when it is below unigram."""
    ours = evaluation["validation"]["bits_per_byte"]
    below = {
        f"below_{name.replace('-', '_')}": ours < evaluation[f"reference/{name}"]["bits_per_byte"]  # type: ignore[operator]
        for name in ("unigram", "5-gram", "gzip-9", "xz-9")
    }
    return {"learned": below["below_unigram"], **below}
