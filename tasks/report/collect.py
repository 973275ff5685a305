"""Reads the artifacts of a run into a `RunReport`, in bounded time and memory, whatever is missing.

Columns are streamed, files are sampled evenly when there are many, and texts are read only for the few that are shown.
A run that failed has fewer artifacts; a file that cannot be read becomes a line in `notes`, because a report that says
what it lacks is worth more than none.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.artifacts import Artifact, File
from tasks.report.run import (
    Bars,
    Corpus,
    CurvePoint,
    FunnelRow,
    GeneratedSample,
    Histogram,
    LineageInput,
    LineageNode,
    ModelNumbers,
    RunReport,
    SampleDocument,
    StepRow,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FILES = 200
"""Files that a histogram reads, evenly spaced over all."""
MAX_ROWS = 1_000_000
"""Rows that a histogram counts."""
SAMPLES = 6
"""Documents shown as kept; half as many again as dropped."""
SCANNED_ROWS = 2_000
"""Decisions looked through for a varied choice of dropped documents."""
BINS = 40
LANGUAGES = 12

# The stages whose output is the corpus, last one first, and the folders that hold it.
_CORPUS = (("split", "train"), ("dedup", "documents"), ("select", "documents"), ("extract", "documents"))
# Where removed documents are written down.
_REMOVED = (("select", "dropped"), ("dedup", "dropped"), ("extract", "dropped"), ("extract", "quarantine"))


def collect(
    artifacts: Mapping[str, Artifact],
    *,
    run_id: str,
    recipe_name: str,
    recipe: str,
    status: str,
    steps: Iterable[StepRow | Mapping[str, Any]],
    planned: Sequence[str] = (),
    seconds: float = 0.0,
    error: str | None = None,
    resume_command: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunReport:
    """Gather everything that the report of a run shows.

    `artifacts` holds those that exist, by step name, in any order.  `steps` are the rows of summary.json (further keys
    are ignored); `planned` names all steps of the flow in order, so that those not reached are shown; `recipe` is YAML.
    CPU seconds, peak memory, inputs and package versions come from the manifests.  Raises nothing for what it cannot
    read: see `notes`.
    """
    reader = _Reader(artifacts)
    rows = reader.step_rows(steps, planned)
    order = {row.step: index for index, row in enumerate(rows)}
    inner = sorted(artifacts, key=lambda name: (order.get(name, len(order)), name))
    parts = {
        "corpus": reader.corpus,
        "model": reader.model,
        "languages": reader.languages,
        "histograms": reader.histograms,
        "kept": reader.kept,
        "dropped": reader.dropped,
        "curve": reader.curve,
        "evaluation": reader.evaluation,
        "generated": reader.generated,
    }
    found = {name: part for name, read in parts.items() if (part := reader.tried(name, read)) is not None}
    return RunReport.model_validate(
        {
            "run_id": run_id,
            "recipe_name": recipe_name,
            "recipe": recipe,
            "status": status,
            "seconds": seconds,
            "error": error,
            "resume_command": resume_command,
            "steps": rows,
            "funnel": tuple(_funnel_row(name, artifacts[name]) for name in inner if _counts(artifacts[name])),
            "lineage": tuple(_lineage_node(artifacts[name], reader.step_of) for name in inner),
            "environment": dict(environment) if environment is not None else _environment(artifacts.values()),
            "notes": tuple(reader.notes),
            **found,
        }
    )


def _counts(artifact: Artifact) -> bool:
    counters = artifact.counters
    return bool(counters.documents_in or counters.documents_out)


def _funnel_row(name: str, artifact: Artifact) -> FunnelRow:
    counters = artifact.counters
    return FunnelRow(
        stage=name,
        documents_in=counters.documents_in,
        documents_out=counters.documents_out,
        dropped=counters.dropped,
        quarantined=counters.quarantined,
        errors=counters.errors,
        examples={reason: tuple(urls[:3]) for reason, urls in counters.examples.items()},
    )


def _lineage_node(artifact: Artifact, step_of: Mapping[str, str]) -> LineageNode:
    files = artifact.files()
    return LineageNode(
        step=artifact.step,
        digest=artifact.digest,
        content=artifact.content,
        uri=artifact.uri,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        inputs=tuple(
            LineageInput(role=given.role, digest=given.digest, step=step_of.get(given.digest))
            for given in artifact.manifest.inputs
            if given.digest
        ),
    )


def _environment(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """Versions with which the artifacts were made; several, where artifacts of different installs came together."""
    found: dict[str, set[str]] = {}
    for artifact in artifacts:
        manifest = artifact.manifest
        for name, version in [("git revision", manifest.git_revision or ""), *sorted(manifest.packages.items())]:
            if version:
                found.setdefault(name, set()).add(version)
    names = sorted(found, key=lambda name: (name != "git revision", name))
    return {name: ", ".join(sorted(found[name])) for name in names}


class _Reader:
    """Reads one run's artifacts and remembers what it could not read."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self.artifacts = artifacts
        self.notes: list[str] = []
        self.step_of = {artifact.digest: name for name, artifact in artifacts.items()}

    def tried(self, part: str, read: Callable[[], object]) -> object:
        """Read one part; a failure of any kind is logged and noted in the report, which must still come."""
        try:
            return read()
        except Exception as error:
            log.warning("report: %s cannot be shown", part, exc_info=True)
            self.notes.append(f"{part}: {type(error).__name__}: {error}")
            return None

    def step_rows(self, steps: Iterable[StepRow | Mapping[str, Any]], planned: Sequence[str]) -> tuple[StepRow, ...]:
        """Complete the rows from manifests and add the steps that were not reached."""
        rows = {}
        for given in steps:
            values = given.model_dump() if isinstance(given, StepRow) else given
            row = StepRow.model_validate({name: values[name] for name in StepRow.model_fields if name in values})
            rows[row.step] = self._completed(row)
        for name in planned:
            rows.setdefault(name, StepRow(step=name, state="not reached"))
        ordered = list(planned) + [name for name in rows if name not in planned]
        return tuple(rows[name] for name in ordered)

    def _completed(self, row: StepRow) -> StepRow:
        artifact = self.artifacts.get(row.step)
        if artifact is None:
            return row
        manifest = artifact.manifest
        reads = [self.step_of[given.digest] for given in manifest.inputs if given.digest in self.step_of]
        return row.model_copy(
            update={
                "digest": row.digest or artifact.digest,
                "uri": row.uri or artifact.uri,
                "cpu_seconds": row.cpu_seconds if row.cpu_seconds is not None else manifest.cpu_seconds,
                "peak_memory": row.peak_memory if row.peak_memory is not None else manifest.peak_memory_bytes,
                "reads": row.reads or tuple(reads),
            }
        )

    def _json(self, step: str, path: str) -> Any:
        """Parse a JSON file of a step's artifact; None if there is no such step or file."""
        file = self._file(step, path)
        return None if file is None else json.loads(file.read_bytes())

    def _file(self, step: str, path: str) -> File | None:
        artifact = self.artifacts.get(step)
        return next((file for file in artifact.files() if file.path == path), None) if artifact else None

    def _folder(self, step: str, folder: str) -> list[File]:
        artifact = self.artifacts.get(step)
        return [file for file in artifact.files(folder) if file.rows] if artifact else []

    def corpus(self) -> Corpus:
        """Sizes from the token index; before there is one, from the counters of the last corpus stage."""
        index = self._json("tokens", "index.json")
        if index is not None:
            splits = index["splits"]
            train, validation = splits.get("train", {}), splits.get("validation", {})
            sizes = ("documents", "bytes", "tokens")
            total = {size: sum(split.get(size, 0) for split in splits.values()) for size in sizes}
            return Corpus(**total, train_tokens=train.get("tokens"), validation_tokens=validation.get("tokens"))
        for step, _ in _CORPUS:
            if step in self.artifacts:
                counters = self.artifacts[step].counters
                return Corpus(documents=counters.documents_out, bytes=counters.values.get("bytes"))
        return Corpus()

    def model(self) -> ModelNumbers | None:
        """What training.json says, with the speed from the metrics of the step."""
        training = self._json("pretrain", "training.json")
        if training is None:
            return None
        artifact = self.artifacts["pretrain"]
        known = {name: training[name] for name in ModelNumbers.model_fields if training.get(name) is not None}
        speed = artifact.metrics.get("tokens_per_second")
        return ModelNumbers.model_validate({**known, "uri": artifact.uri, "tokens_per_second": speed})

    def languages(self) -> Bars | None:
        """Documents a language, before and after select."""
        everything, rest = self._categories("annotate"), self._categories("select")
        if not everything:
            return None
        ordered = sorted(everything, key=lambda name: (-everything[name], name))
        shown, others = ordered[:LANGUAGES], ordered[LANGUAGES:]
        labels, counts = list(shown), [everything[name] for name in shown]
        kept = [rest[name] for name in shown]
        if others:
            labels.append(f"{len(others)} others")
            counts.append(sum(everything[name] for name in others))
            kept.append(sum(rest[name] for name in others))
        return Bars(
            title="Language",
            labels=tuple(labels),
            all=tuple(counts),
            kept=tuple(kept) if "select" in self.artifacts else None,
        )

    def _categories(self, step: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for column in _columns(self._folder(step, "signals"), "language"):
            for entry in column.value_counts().to_pylist():
                counts[str(entry["values"] or "unknown")] += int(entry["counts"])
        return counts

    def histograms(self) -> tuple[Histogram, ...]:
        """Histograms of the signals that say most about a document, over all and over kept documents."""
        files, kept = self._folder("annotate", "signals"), self._folder("select", "signals")
        if not files:
            return ()
        with files[0].open() as stream:
            present = set(pq.ParquetFile(stream).schema_arrow.names)
        total = sum(file.rows or 0 for file in files)
        shown = (spec for spec in _SIGNALS if spec.column in present)
        histograms = []
        for spec in shown:
            counts, seen = spec.count(files)
            if not seen:
                continue
            rest = spec.count(kept)[0] if "select" in self.artifacts else None
            note = f"{seen:,} of {total:,} documents counted." if seen < total else ""
            histograms.append(spec.histogram(counts, rest, note))
        return tuple(histograms)

    def kept(self) -> tuple[SampleDocument, ...]:
        """A few documents of the corpus, spread over its files."""
        for step, folder in _CORPUS:
            files = _spread(self._folder(step, folder), SAMPLES)
            if not files:
                continue
            each = -(-SAMPLES // len(files))
            samples = [
                SampleDocument(url=row["url"], text=row["text"][:_LONGEST])
                for file in files
                for row in _spread(_head(file, ["url", "text"], 64), each)
            ]
            return tuple(samples[:SAMPLES])
        return ()

    def dropped(self) -> tuple[SampleDocument, ...]:
        """A few removed documents of each stage, as many different reasons as possible."""
        samples: list[SampleDocument] = []
        for step, folder in _REMOVED:
            found: dict[str, list[SampleDocument]] = {}
            for row in self._decisions(step, folder):
                sample = _removed(step, row)
                found.setdefault(sample.reasons[0] if sample.reasons else "", []).append(sample)
            samples += _varied(found, SAMPLES if step == "select" else SAMPLES // 2)
        return tuple(samples)

    def _decisions(self, step: str, folder: str) -> Iterator[dict[str, Any]]:
        files = _spread(self._folder(step, folder), 20)
        for file in files:
            yield from _head(file, None, SCANNED_ROWS // len(files))

    def curve(self) -> tuple[CurvePoint, ...]:
        """The points of curve.jsonl."""
        file = self._file("pretrain", "curve.jsonl")
        if file is None:
            return ()
        points = []
        for line in file.read_bytes().splitlines():
            row = json.loads(line)
            points.append(
                CurvePoint(
                    step=row["step"],
                    tokens=row.get("tokens"),
                    train=row.get("loss"),
                    validation=row.get("validation_loss"),
                )
            )
        return tuple(points)

    def evaluation(self) -> dict[str, Any]:
        """evaluation.json as it is."""
        return self._json("evaluate", "evaluation.json") or {}

    def generated(self) -> tuple[GeneratedSample, ...]:
        """samples.json as it is."""
        rows = self._json("evaluate", "samples.json") or []
        return tuple(GeneratedSample(prompt=row["prompt"], text=row["text"]) for row in rows)


_LONGEST = 1_000


class _Signal:
    """A column of signals/ and the bins in which it is counted, fixed beforehand so that one pass is enough."""

    def __init__(self, column: str, title: str, low: float, high: float, *, unit: str = "", log: bool = False) -> None:
        self.column, self.title, self.unit, self.log = column, title, unit, log
        self.edges: npt.NDArray[np.float64] = (
            np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
        )

    def count(self, files: Sequence[File]) -> tuple[npt.NDArray[np.int64], int]:
        """Return the counts of the bins, and of values counted; what lies outside counts in the outermost bins."""
        counts, seen = np.zeros(BINS, dtype=np.int64), 0
        for column in _columns(files, self.column):
            values = column.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
            values = values[np.isfinite(values)]
            counts += np.histogram(np.clip(values, self.edges[0], self.edges[-1]), self.edges)[0]
            seen += len(values)
        return counts, seen

    def histogram(self, counts: npt.NDArray[np.int64], kept: npt.NDArray[np.int64] | None, note: str) -> Histogram:
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
        )


_SIGNALS = (
    _Signal("words", "Length", 1, 1e7, unit="words", log=True),
    _Signal("language_score", "Certainty of the language", 0, 1),
    _Signal("gopher_alpha_words_ratio", "Words with a letter (Gopher)", 0, 1, unit="share of words"),
    _Signal("gopher_dup_line_char_frac", "Repeated lines (Gopher)", 0, 1, unit="share of characters"),
    _Signal("fineweb_line_punct_ratio", "Lines that end in punctuation (FineWeb)", 0, 1, unit="share of lines"),
)


def _columns(files: Sequence[File], name: str) -> Iterator[pa.Array]:
    """Stream one column of files, evenly sampled when there are many, up to MAX_ROWS rows."""
    rows = 0
    for file in _spread(files, MAX_FILES):
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            if name not in parquet.schema_arrow.names:
                continue
            for batch in parquet.iter_batches(65_536, columns=[name]):
                yield batch.column(0)
                rows += batch.num_rows
                if rows >= MAX_ROWS:
                    return


def _head(file: File, columns: Sequence[str] | None, rows: int) -> list[dict[str, Any]]:
    """Return the first rows of a file."""
    with file.open() as stream, pq.ParquetFile(stream) as parquet:
        batch = next(parquet.iter_batches(max(rows, 1), columns=list(columns) if columns else None), None)
        return [] if batch is None else batch.to_pylist()


def _spread(items: Sequence[T], count: int) -> list[T]:
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
    return SampleDocument(url=row.get("url") or "", text=text[:_LONGEST], stage=stage, reasons=tuple(reasons))
