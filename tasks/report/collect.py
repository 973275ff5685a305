"""Reads the artifacts of a run into a `RunReport`, in bounded time and memory, whatever is missing.

A run that failed has fewer artifacts; a file that cannot be read becomes a line in `notes`, because a report that says
what it lacks is worth more than none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from infra.artifacts import Artifact
from infra.manifests import Counters, Input
from tasks.report.masking import masked
from tasks.report.reading import ArtifactReader
from tasks.report.run import FunnelRow, LineageInput, LineageNode, RunReport, StepRow, Table
from tasks.report.tables import step_tables

# Steps whose counters count what they read, not what became of it.
_AFTER_CORPUS = ("tokenizer", "tokens", "card", "pretrain", "evaluate")


def collect(
    artifacts: Mapping[str, Artifact | Sequence[Artifact]],
    *,
    run_id: str,
    recipe_name: str,
    recipe: str,
    status: str,
    steps: Iterable[StepRow | Mapping[str, Any]],
    planned: Sequence[str] = (),
    seconds: float = 0.0,
    error: str | None = None,
    stopped: bool = False,
    to_mend: bool = False,
    resume_command: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunReport:
    """Gather everything that the report of a run shows.

    `artifacts` holds those that exist, by step name, in any order; several where a step ran more than once (a crawl for
    each source), whose counts are summed.  `steps` are the rows of summary.json (further keys are ignored); `planned`
    names all steps of the flow in order, so that those not reached are shown; `recipe` is YAML.  CPU seconds, peak
    memory, inputs and package versions come from the manifests.  Raises nothing for what it cannot read: see `notes`.
    """
    every = {name: [found] if isinstance(found, Artifact) else list(found) for name, found in artifacts.items()}
    every = {name: found for name, found in every.items() if found}
    reader = ArtifactReader(every)
    rows = reader.step_rows(steps, planned)
    order = {row.step: index for index, row in enumerate(rows)}
    inner = sorted(every, key=lambda name: (order.get(name, len(order)), name))
    parts: dict[str, Callable[[], object]] = {
        "corpus": reader.corpus,
        "model": reader.model,
        "languages": reader.languages,
        "histograms": reader.histograms,
        "tokenizer": reader.tokenizer,
        "kept": reader.kept,
        "dropped": reader.dropped,
        "how_trained": reader.how_trained,
        "curve": reader.curve,
        "objective": reader.objective,
        "samples": reader.training_samples,
        "evaluation": reader.evaluation,
        "generated": reader.generated,
    }
    found = {name: part for name, read in parts.items() if (part := reader.tried(name, read)) is not None}
    report = RunReport.model_validate(
        {
            "run_id": run_id,
            "recipe_name": recipe_name,
            "recipe": recipe,
            "status": status,
            "seconds": seconds,
            "error": error,
            "stopped": stopped,
            "to_mend": to_mend,
            "resume_command": resume_command,
            "steps": rows,
            "funnel": tuple(row for name in inner if (row := _funnel_row(name, every[name])) is not None),
            "tables": tuple(table for name in inner for table in _tables(reader, name, every[name])),
            "card": every["card"][-1].uri if "card" in every else None,
            "lineage": tuple(_lineage_node(each, reader.step_of) for name in inner for each in every[name]),
            "environment": dict(environment)
            if environment is not None
            else _environment(each for found in every.values() for each in found),
            "notes": tuple(reader.notes),
            **found,
        }
    )
    return masked(report, every)


def _funnel_row(name: str, artifacts: Sequence[Artifact]) -> FunnelRow | None:
    """Sum the counters of a stage; None for a step that makes no documents, or counted none."""
    counters = Counters.total(artifact.counters for artifact in artifacts)
    if name in _AFTER_CORPUS or not (counters.documents_in or counters.documents_out):
        return None
    return FunnelRow(
        stage=name,
        documents_in=counters.documents_in,
        documents_out=counters.documents_out,
        dropped=counters.dropped,
        quarantined=counters.quarantined,
        errors=counters.errors,
        examples={reason: tuple(urls) for reason, urls in counters.examples.items()},
    )


def _tables(reader: ArtifactReader, name: str, artifacts: Sequence[Artifact]) -> list[Table]:
    if name == "tokens":  # of its index, which also lists every file
        return reader.tried(f"numbers of {name}", reader.token_tables) or []
    if name in _AFTER_CORPUS:
        return []
    return reader.tried(f"numbers of {name}", lambda: step_tables(name, artifacts)) or []


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
            LineageInput(role=given.role, digest=digest, step=step)
            for (digest, step), given in {
                made: given for given in artifact.manifest.inputs for made in _made_from(given, step_of)
            }.items()
        ),
    )


def _made_from(given: Input, step_of: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Return digest and step of the artifacts of an input: itself, or those that were gathered in it."""
    if given.digest:
        return [(given.digest, step_of.get(given.digest))]
    places = [origin.rstrip("/").split("/")[-3:] for origin in given.origins]
    return [(place[2], place[1]) for place in places if place[0] == "artifacts" and len(place) == 3]


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
