"""Histograms over signals/: one column at a time, streamed, evenly sampled when there are very many files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.manifests import File
from tasks.report.run import Bars, Histogram
from tasks.report.samples import spread
from tasks.select import SelectConfig, rules

MAX_FILES = 200
"""Files that a histogram reads, evenly spaced over all."""
MAX_ROWS = 1_000_000
"""Rows that a histogram counts."""
BINS = 40
LANGUAGES = 12
"""Languages shown by name."""


def language_bars(files: Sequence[File], kept: Sequence[File] | None) -> Bars | None:
    """Count documents a language in all files and in those of kept documents; None where there are none."""
    everything = _languages(files)
    rest = _languages(kept or ())
    if not everything:
        return None
    ordered = sorted(everything, key=lambda name: (-everything[name], name))
    shown, others = ordered[:LANGUAGES], ordered[LANGUAGES:]
    groups = [(name, [name]) for name in shown] + ([(f"{len(others)} others", others)] if others else [])
    return Bars(
        title="Language",
        labels=tuple(label for label, _ in groups),
        all=tuple(sum(everything[name] for name in names) for _, names in groups),
        kept=tuple(sum(rest[name] for name in names) for _, names in groups) if kept is not None else None,
    )


def _languages(files: Sequence[File]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for column in columns(files, "language"):
        for entry in column.value_counts().to_pylist():
            counts[str(entry["values"] or "unknown")] += int(entry["counts"])
    return counts


def thresholds(params: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the thresholds on each signal, from the identity parameters of a `select` artifact."""
    cfg = SelectConfig.model_validate(params)
    found: dict[str, tuple[float, ...]] = {}
    if cfg.language_threshold is not None:
        found["language_score"] = (cfg.language_threshold,)
    for rule in rules(cfg):
        found[rule.signal] = (*found.get(rule.signal, ()), float(rule.threshold))
    return found


def signal_histograms(
    files: Sequence[File], kept: Sequence[File] | None, limits: Mapping[str, tuple[float, ...]]
) -> tuple[Histogram, ...]:
    """Count the SIGNALS that the files have, over all files and over those of kept documents.

    `limits` are the thresholds that are drawn into the histogram of each signal.
    """
    total = sum(file.rows or 0 for file in files)
    histograms = []
    for signal in SIGNALS:
        counts, seen = signal.count(files)
        if seen:
            rest = signal.count(kept)[0] if kept is not None else None
            note = f"{seen:,} of {total:,} documents have it and were counted." if seen < total else ""
            histograms.append(signal.histogram(counts, rest, note, limits.get(signal.column, ())))
    return tuple(histograms)


def columns(files: Sequence[File], name: str) -> Iterator[pa.Array]:
    """Stream one column of files, evenly sampled when there are many, up to MAX_ROWS rows."""
    rows = 0
    for file in spread(files, MAX_FILES):
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            if name not in parquet.schema_arrow.names:
                continue
            for batch in parquet.iter_batches(65_536, columns=[name]):
                yield batch.column(0)
                rows += batch.num_rows
                if rows >= MAX_ROWS:
                    return


class Signal:
    """A column of signals/ and the bins in which it is counted, fixed beforehand so that one pass is enough."""

    def __init__(self, column: str, title: str, low: float, high: float, *, unit: str = "", log: bool = False) -> None:
        self.column, self.title, self.unit, self.log = column, title, unit, log
        self.edges: npt.NDArray[np.float64] = (
            np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
        )

    def count(self, files: Sequence[File]) -> tuple[npt.NDArray[np.int64], int]:
        """Return the counts of the bins, and of values counted; what lies outside counts in the outermost bins."""
        counts, seen = np.zeros(BINS, dtype=np.int64), 0
        for column in columns(files, self.column):
            values = np.from_dlpack(column.drop_null()).astype(np.float64)  # to_numpy() would import pandas: 1 s
            values = values[np.isfinite(values)]
            counts += np.histogram(np.clip(values, self.edges[0], self.edges[-1]), self.edges)[0]
            seen += len(values)
        return counts, seen

    def histogram(
        self,
        counts: npt.NDArray[np.int64],
        kept: npt.NDArray[np.int64] | None,
        note: str,
        limits: tuple[float, ...],
    ) -> Histogram:
        """Cut empty bins off both ends."""
        used = np.flatnonzero(counts)
        first, last = int(used[0]), int(used[-1]) + 1
        return Histogram(
            title=self.title,
            unit=self.unit,
            edges=tuple(float(edge) for edge in self.edges[first : last + 1]),
            all=tuple(int(count) for count in counts[first:last]),
            kept=tuple(int(count) for count in kept[first:last]) if kept is not None else None,
            log=self.log,
            note=note,
            thresholds=limits,
        )


SIGNALS = (
    Signal("gopher_words", "Length", 1, 1e7, unit="words", log=True),
    Signal("language_score", "Certainty of the language", 0, 1),
    Signal("gopher_alpha_words_ratio", "Words with a letter (Gopher)", 0, 1, unit="share of words"),
    Signal("gopher_dup_line_char_frac", "Repeated lines (Gopher)", 0, 1, unit="share of characters"),
    Signal("fineweb_line_punct_ratio", "Lines that end in punctuation (FineWeb)", 0, 1, unit="share of lines"),
)
