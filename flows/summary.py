"""What summary.json of a run says, and the order of the steps that it tells of (DESIGN: the summary format)."""

import json
from typing import Any

from infra.artifacts import Artifact
from infra.execution import StepRecord
from infra.manifests import Counters
from tasks.classifier import held_out

STEPS = (
    "crawl", "repositories", "common_crawl_index", "common_crawl", "ingest", "extract", "normalise", "classifier",
    "ngram_model", "annotate", "select", "redact", "dedup", "repeats", "augment", "decontaminate", "split", "mix",
    "tokenizer", "tokens", "card", "pretrain", "evaluate",
)  # fmt: skip
"""All steps in the order in which data flows (flows/train_from_scratch.py, flows/train_classifier.py)."""
_FUNNEL = tuple(step for step in STEPS[: STEPS.index("tokenizer")] if step != "ngram_model")


def in_order(steps: set[str]) -> list[str]:
    """Return steps in the order in which data flows."""
    return [step for step in STEPS if step in steps]


def sections(records: list[StepRecord], artifacts: dict[str, list[Artifact]]) -> dict[str, Any]:
    """Return what the summary says of steps and of what they made."""
    return {
        "steps": [_step(record) for record in records if record.state != "pending"],
        "funnel": [_funnel(step, artifacts[step]) for step in _FUNNEL if step in artifacts],
        "corpus": _corpus(artifacts),
        "model": _model(artifacts),
        "evaluation": _evaluation(artifacts),
        "card": _card(artifacts),
    }


def _step(record: StepRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "step": record.step,
        "state": record.state,
        "digest": record.artifact.digest if record.artifact else None,
        "uri": record.artifact.uri if record.artifact else None,
        "seconds": round(record.seconds, 3),
        "why": record.why,
    }
    if record.label:
        entry["source"] = record.label
    if record.shards:
        entry |= {"shards": record.shards, "shards_cached": record.shards_cached}
    return entry


def _funnel(step: str, artifacts: list[Artifact]) -> dict[str, Any]:
    total = Counters.total(a.counters for a in artifacts)
    return {
        "stage": step,
        "documents_in": total.documents_in,
        "documents_out": total.documents_out,
        "dropped": dict(sorted(total.dropped.items())),
        "quarantined": total.quarantined,
    }


def _corpus(artifacts: dict[str, list[Artifact]]) -> dict[str, int] | None:
    if "tokens" not in artifacts:
        return None
    index = json.loads(artifacts["tokens"][-1].file("index.json").read_bytes())
    splits: dict[str, Any] = index["splits"]
    sizes = ("documents", "bytes", "tokens")
    total = {size: sum(counts["unique"][size] for counts in splits.values()) for size in sizes}
    if "split" in artifacts:  # which may cut a document, of which each part has a piece
        total["documents"] = min(total["documents"], artifacts["split"][-1].counters.documents_out)
    return {
        **total,
        **{f"{part}_tokens": counts["tokens"] for part, counts in splits.items()},  # as often as a mixture has them
    }


def _model(artifacts: dict[str, list[Artifact]]) -> dict[str, Any] | None:
    if "pretrain" not in artifacts:
        return None
    artifact = artifacts["pretrain"][-1]
    training = json.loads(artifact.file("training.json").read_bytes())
    names = ("parameters", "steps", "tokens", "validation_loss", "validation_bits_per_byte")
    return {
        "uri": artifact.uri,
        **{name: training.get(name) for name in names},
        "tokens_per_second": artifact.metrics.get("tokens_per_second"),
    }


def _evaluation(artifacts: dict[str, list[Artifact]]) -> dict[str, Any] | None:
    if "evaluate" not in artifacts:
        return {"classifier": held_out(artifacts["classifier"][-1])} if "classifier" in artifacts else None
    evaluation: dict[str, Any] = json.loads(artifacts["evaluate"][-1].file("evaluation.json").read_bytes())
    return evaluation


def _card(artifacts: dict[str, list[Artifact]]) -> dict[str, str] | None:
    """Return the addresses of the dataset card, the data report and the public summary."""
    if "card" not in artifacts:
        return None
    return {name: artifacts["card"][-1].file(name).uri for name in ("README.md", "report.html", "eu-summary.md")}
