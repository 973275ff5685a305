"""Reads the parts of a report out of the artifacts of one run, each whatever has become of the others."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from infra.artifacts import Artifact
from infra.manifests import File
from infra.steps import gather
from tasks.classifier import held_out
from tasks.report.run import (
    Bars,
    Corpus,
    CurvePoint,
    GeneratedSample,
    Histogram,
    ModelNumbers,
    SampleDocument,
    StepRow,
    Table,
    TokenizerNumbers,
    TokenizerRow,
    TrainingSample,
)
from tasks.report.samples import kept_samples, removed_samples
from tasks.report.signals import language_bars, signal_histograms, thresholds
from tasks.report.tables import report_tables
from tasks.report.training import how_trained, read_curve, read_samples

log = logging.getLogger(__name__)

T = TypeVar("T")

# The stages whose output is the corpus, last one first, and the folders that hold it.
_CORPUS = (
    ("split", "train"),
    ("decontaminate", "documents"),
    ("augment", "documents"),
    ("repeats", "documents"),
    ("dedup", "documents"),
    ("redact", "documents"),
    ("select", "documents"),
    ("normalise", "documents"),
    ("extract", "documents"),
)
# Parts of the tokens' index that are shown.
_TOKEN_TABLES = ("splits", "layouts", "stages", "shares")
# Sources, and languages, that the tokenizer's table shows: the largest ones.
_TOKENIZER_ROWS = 12
# Where removed documents are written down.
_REMOVED = (
    ("select", "dropped"),
    ("redact", "dropped"),
    ("dedup", "dropped"),
    ("repeats", "dropped"),
    ("augment", "dropped"),
    ("decontaminate", "dropped"),
    ("split", "dropped"),
    ("ingest", "dropped"),
    ("ingest", "quarantine"),
    ("extract", "dropped"),
    ("extract", "quarantine"),
    ("normalise", "dropped"),
    ("normalise", "quarantine"),
    ("select", "quarantine"),
)


class ArtifactReader:
    """Reads one run's artifacts and remembers what it could not read."""

    def __init__(self, artifacts: Mapping[str, Sequence[Artifact]]) -> None:
        self.artifacts = {name: gather(list(found)) for name, found in artifacts.items()}
        self.all = [each for found in artifacts.values() for each in found]
        self.notes: list[str] = []
        self.step_of = {each.digest: name for name, found in artifacts.items() for each in found}

    def tried(self, part: str, read: Callable[[], T]) -> T | None:
        """Read one part; a failure of any kind is logged and noted in the report, which must still come."""
        try:
            return read()
        except Exception as error:
            log.warning("report: %s cannot be shown", part, exc_info=True)
            self.notes.append(f"{part}: {type(error).__name__}: {error}")
            return None

    def step_rows(self, steps: Iterable[StepRow | Mapping[str, Any]], planned: Sequence[str]) -> tuple[StepRow, ...]:
        """Complete the rows from manifests and add the steps that were not reached."""
        rows: dict[str, StepRow] = {}
        for given in steps:
            values = given.model_dump() if isinstance(given, StepRow) else given
            row = StepRow.model_validate({name: values[name] for name in StepRow.model_fields if name in values})
            rows[row.step] = _merged(rows[row.step], row) if row.step in rows else self._completed(row)
        for name in planned:
            rows.setdefault(name, StepRow(step=name, state="not reached"))
        ordered = list(planned) + [name for name in rows if name not in planned]
        return tuple(rows[name] for name in ordered)

    def _completed(self, row: StepRow) -> StepRow:
        artifact = self.artifacts.get(row.step)
        if artifact is None:
            return row
        manifest = artifact.manifest
        reads = dict.fromkeys(self.step_of[each.digest] for each in manifest.inputs if each.digest in self.step_of)
        made = [each.manifest for each in self.all if self.step_of[each.digest] == row.step]  # one a source
        cpu, peak = sum(each.cpu_seconds for each in made), max((each.peak_memory_bytes for each in made), default=0)
        return row.model_copy(
            update={
                "digest": row.digest or artifact.digest,
                "uri": row.uri or artifact.uri,
                "cpu_seconds": row.cpu_seconds if row.cpu_seconds is not None else cpu,
                "peak_memory": row.peak_memory if row.peak_memory is not None else peak,
                "reads": row.reads or tuple(reads),
            }
        )

    def token_tables(self) -> list[Table]:
        """Return what the index of the tokens says of parts, packing, stages and shares of sources."""
        index = self._json("tokens", "index.json") or {}
        return report_tables("tokens", {name: index.get(name, {}) for name in _TOKEN_TABLES})

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
            once = [split.get("unique", split) for split in splits.values()]  # whatever copies a mixture has of them
            total = {size: sum(split.get(size, 0) for split in once) for size in sizes}
            if "split" in self.artifacts and (whole := self.artifacts["split"].counters.documents_out):
                total["documents"] = min(total["documents"], whole)  # a document may be cut: each part has a piece
            return Corpus(**total, train_tokens=train.get("tokens"), validation_tokens=validation.get("tokens"))
        for step in ("classifier", *(step for step, _ in _CORPUS)):
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

    def how_trained(self) -> list[tuple[str, str]]:
        """What was trained how, and what that took, as the step has it; nothing of a model that was imported."""
        artifact = self.artifacts.get("pretrain")
        if artifact is None or "schedule" not in artifact.manifest.params:
            return []
        counted = {**artifact.counters.values, **artifact.metrics}
        return how_trained(artifact.manifest.params, counted, self._file("pretrain", "logs/throughput.jsonl"))

    def languages(self) -> Bars | None:
        """Documents a language, before and after select."""
        kept = self._folder("select", "signals") if "select" in self.artifacts else None
        return language_bars(self._folder("annotate", "signals"), kept)

    def histograms(self) -> tuple[Histogram, ...]:
        """The signals that say most about a document, over all and over kept documents."""
        kept = self._folder("select", "signals") if "select" in self.artifacts else None
        limits = (
            self.tried("thresholds", lambda: thresholds(self.artifacts["select"].manifest.params)) if kept else None
        )
        return signal_histograms(self._folder("annotate", "signals"), kept, limits or {})

    def tokenizer(self) -> TokenizerNumbers | None:
        """What report.json of the tokenizer says, beside the tokenizer that it was compared with."""
        made = self._json("tokenizer", "report.json")
        if made is None:
            return None
        other = self._json("tokenizer", "logs/reference.json") or {}
        found = [("all", made["held_out"], other.get("held_out"))]
        for group in ("sources", "languages"):
            ordered = sorted(made[group].items(), key=lambda named: (-named[1]["documents"], named[0]))
            found += [(name, row, other.get(group, {}).get(name)) for name, row in ordered[:_TOKENIZER_ROWS]]
        return TokenizerNumbers(
            kind=made["kind"],
            vocab_size=made["vocab_size"],
            unused_tokens=made["unused_tokens"],
            reference=None if "missing" in other else other.get("reference"),
            note=other.get("missing", ""),
            rows=tuple(
                TokenizerRow(
                    name=name,
                    reference=(beside or {}).get("bytes_per_token"),
                    **{field: row[field] for field in TokenizerRow.model_fields if field in row},
                )
                for name, row, beside in found
            ),
        )

    def kept(self) -> tuple[SampleDocument, ...]:
        """A few documents of the corpus, as far as it came."""
        found = (self._folder(step, folder) for step, folder in _CORPUS)
        return kept_samples(next((files for files in found if files), []))

    def dropped(self) -> tuple[SampleDocument, ...]:
        """A few removed documents of each stage."""
        return tuple(
            sample for step, folder in _REMOVED for sample in removed_samples(step, self._folder(step, folder))
        )

    def curve(self) -> tuple[CurvePoint, ...]:
        """The points of curve.jsonl."""
        file = self._file("pretrain", "curve.jsonl")
        return read_curve(file, self._file("pretrain", "logs/throughput.jsonl")) if file is not None else ()

    def objective(self) -> str:
        """What the model was trained to do, as its config.json says."""
        config = self._json("pretrain", "config.json") or {}
        return str(config.get("objective", {}).get("kind", "causal"))

    def training_samples(self) -> tuple[TrainingSample, ...]:
        """Some of samples.jsonl of the training."""
        file = self._file("pretrain", "samples.jsonl")
        return read_samples(file) if file is not None else ()

    def evaluation(self) -> dict[str, Any]:
        """evaluation.json as it is; what a run that trains a classifier has measured."""
        if (made := self.artifacts.get("classifier")) is not None:
            return {"classifier": held_out(made)}
        return self._json("evaluate", "evaluation.json") or {}

    def generated(self) -> tuple[GeneratedSample, ...]:
        """samples.json: continuations, or texts with what was missing filled in."""
        rows = self._json("evaluate", "samples.json") or []
        return tuple(
            GeneratedSample(prompt=row["prompt"], text=row["filled"], fills=True, original=row.get("original"))
            if "filled" in row
            else GeneratedSample(prompt=row["prompt"], text=row["text"])
            for row in rows
        )


def _merged(first: StepRow, second: StepRow) -> StepRow:
    """Tell two runs of one step (for two sources) as one: the gravest state, all of the time."""
    gravest = min(first.state, second.state, key=_GRAVITY.index)
    reasons = dict.fromkeys(why for why in (first.why, second.why) if why)
    return first.model_copy(
        update={"state": gravest, "seconds": first.seconds + second.seconds, "why": "; ".join(reasons)}
    )


_GRAVITY = ("failed", "not reached", "ran", "cached")
