"""Documents to look at: a few that were kept and a few of every kind that were removed, always the same ones."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow.parquet as pq

from infra.manifests import File
from tasks.report.run import SampleDocument

T = TypeVar("T")

SAMPLES = 6
"""Documents shown as kept, and as dropped by select; half as many of every other kind."""
SCANNED_ROWS = 2_000
"""Decisions looked through for a varied choice."""
LONGEST = 1_000
"""Characters taken of a text."""


def kept_samples(files: Sequence[File]) -> tuple[SampleDocument, ...]:
    """Choose documents spread over the files of a corpus."""
    chosen = spread(files, SAMPLES)
    each = -(-SAMPLES // max(len(chosen), 1))
    samples = [
        SampleDocument(url=row["url"], text=row["text"][:LONGEST])
        for file in chosen
        for row in spread(_first_rows(file, 64, ["url", "text"]), each)
    ]
    return tuple(samples[:SAMPLES])


def removed_samples(step: str, files: Sequence[File]) -> list[SampleDocument]:
    """Choose documents that a step removed, for as many different reasons as possible."""
    chosen = spread(files, 20)
    found: dict[str, list[SampleDocument]] = {}
    for file in chosen:
        for row in _first_rows(file, SCANNED_ROWS // len(chosen)):
            sample = _removed(step, row)
            found.setdefault(sample.reasons[0], []).append(sample)
    return _varied(found, SAMPLES if step == "select" else SAMPLES // 2)


def _first_rows(file: File, rows: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the first rows of a file, at most a row group, which bounds their bytes."""
    with file.open() as stream, pq.ParquetFile(stream) as parquet:
        if not parquet.num_row_groups:
            return []
        wanted = list(columns) if columns is not None else None
        batch = next(parquet.iter_batches(rows, row_groups=[0], columns=wanted), None)
        return [] if batch is None else batch.to_pylist()


def spread(items: Sequence[T], count: int) -> list[T]:
    """Choose so many items, evenly spaced, in order."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _varied(found: Mapping[str, Sequence[SampleDocument]], count: int) -> list[SampleDocument]:
    """Take turns among the reasons, the most frequent first, until there are enough."""
    groups = [list(found[reason]) for reason in sorted(found, key=lambda reason: (-len(found[reason]), reason))]
    chosen: list[SampleDocument] = []
    turn = 0
    while len(chosen) < count and any(len(group) > turn for group in groups):
        chosen += [group[turn] for group in groups if len(group) > turn]
        turn += 1
    return chosen[:count]


def _removed(step: str, row: Mapping[str, Any]) -> SampleDocument:
    """Describe a row of dropped/ or quarantine/ of any stage."""
    reasons = row.get("reasons") or [row.get("reason") or row.get("error") or ""]
    text = row.get("text") or (f"Document {row['kept_id']} stands for it." if row.get("kept_id") else "")
    stage = f"{step}, quarantined" if "error" in row else step
    return SampleDocument(url=row.get("url") or "", text=text[:LONGEST], stage=stage, reasons=tuple(reasons))
