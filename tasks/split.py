"""split: what is trained on, and what is held out.

train/       documents for training, one file an input file
validation/  documents held out, likewise

`hash` puts whole documents aside by a hash of (seed, id), so the choice depends on no other document and on no shard.
Duplicate clusters stay on one side because `dedup` leaves one document of each.  `position` cuts every document in two
at a share of its characters, which is how single long texts (a book, nanoGPT's Shakespeare) are split; both halves keep
the id of the document.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from infra.artifacts import Artifact, Attempt
from infra.errors import UserError
from infra.manifests import Counters, File
from infra.steps import Execution, Gate, StepConfig, step
from tasks.documents import DOCUMENTS, ParquetShard, count_rows, iter_rows

PARTS = ("train", "validation")


class SplitConfig(StepConfig):
    """How the corpus is divided into training and validation."""

    method: Literal["hash", "position"]
    """`hash`: whole documents by hash of their id; `position`: the end of every document is held out."""

    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share held out: of the documents (hash, in expectation) or of the characters of each document (position)."""

    seed: int = 0
    """Chooses which documents `hash` holds out."""

    gate: Annotated[Gate, Execution] = Gate(max_dropped=0.0, max_quarantined=0.0, min_out=1)
    """Nothing may be lost here."""


@step("split", version=1, shards={"documents": "documents"})
def split(cfg: SplitConfig, documents: File, out: Attempt) -> Counters:
    """Divide one file of documents into training and validation; the counters count input documents."""
    counters = Counters(values={"train_documents": 0, "validation_documents": 0})
    with (
        ParquetShard(out.path("train/part.parquet"), DOCUMENTS) as train,
        ParquetShard(out.path("validation/part.parquet"), DOCUMENTS) as validation,
    ):
        shards = {"train": train, "validation": validation}
        for row in iter_rows(documents):
            for part, text in divide(cfg, row).items():
                shards[part].write(row | {"text": text})
                counters.values[f"{part}_documents"] += 1
            counters.keep()
    return counters


def divide(cfg: SplitConfig, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of a document that goes to each part; no part where nothing goes there."""
    text: str = row["text"]
    if cfg.method == "hash":
        return {"validation" if held_out(row["id"], cfg.seed, cfg.validation_fraction) else "train": text}
    # nanoGPT, data/shakespeare_char/prepare.py: train = data[:int(n*0.9)], counted in characters
    cut = int(len(text) * (1 - cfg.validation_fraction))
    return {part: piece for part, piece in (("train", text[:cut]), ("validation", text[cut:])) if piece} or {
        "train": text
    }


def held_out(id: str, seed: int, fraction: float) -> bool:
    """Tell whether a document is in validation: a hash of seed and id, as a number in [0, 1), is below fraction."""
    return int.from_bytes(document_hash(f"split:{seed}", id)[:8]) < fraction * 2.0**64


def document_hash(salt: str, id: str) -> bytes:
    """Return BLAKE2b-128 of salt and id: 16 bytes, big-endian, that choose or order documents whatever their shards."""
    return hashlib.blake2b(f"{salt}:{id}".encode(), digest_size=16).digest()


def require_both_parts(documents: Artifact) -> None:
    """Raise UserError that names the fraction to change where train/ or validation/ holds no document."""
    counts = {part: sum(count_rows(file) for file in documents.files(part)) for part in PARTS}
    advice = {"train": "lower split.validation_fraction", "validation": "raise split.validation_fraction"}
    for part, count in counts.items():
        if not count:
            other = counts["validation" if part == "train" else "train"]
            raise UserError(
                f"split: none of the {other} documents fell into {part}; {advice[part]}, change split.seed, "
                f"or use split.method=position, which divides every document"
            )
