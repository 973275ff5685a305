"""What the report finds in a run's artifacts, and that it copes with those that are missing or broken."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.artifacts import Artifact
from infra.manifests import Counters, Input
from models.config import ModelConfig
from tasks.documents import DOCUMENTS, DROPPED, DUPLICATES, QUARANTINE, document_id, write_parquet
from tasks.report import RunReport, collect, render_report
from tasks.select import SelectConfig

ROOT = Path(__file__).resolve().parents[2]
REASONS = ["short", "language", "short", "repetition"]

SIGNALS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("language", pa.string()),
        pa.field("language_score", pa.float64()),
        pa.field("gopher_words", pa.int64()),
    ]
)


def document(number: int) -> dict[str, Any]:
    url, text = f"http://site/{number}", f"Document {number}. " * (number % 50 + 1)
    return {
        "id": document_id(url, text),
        "text": text,
        "url": url,
        "source": "site",
        "metadata": "{}",
        "file": "a.warc.gz",
    }


def signal(number: int) -> dict[str, Any]:
    language = ["en", "en", "de", None][number % 4]
    return {
        "id": str(number),
        "language": language,
        "language_score": number % 10 / 10,
        "gopher_words": 3 * (number + 1),
    }


Finish = Callable[..., Artifact]


@pytest.fixture
def finish(tmp_path: Path) -> Finish:
    """Make the artifact of a step out of the files written to `tmp_path / step`."""

    def artifact(step: str, counters: Counters | None = None, reads: dict[str, Artifact] | None = None) -> Artifact:
        directory = tmp_path / step
        directory.mkdir(exist_ok=True)
        made = Artifact.of(directory, step)
        update = {
            "digest": f"{step}-{made.digest}",
            "counters": counters or Counters(),
            "inputs": [
                Input(role=role, content=given.content, digest=given.digest) for role, given in (reads or {}).items()
            ],
            "cpu_seconds": 1.5,
            "peak_memory_bytes": 10**8,
            "packages": {"pyarrow": "1.0"},
            "git_revision": "abc",
            "params": SelectConfig().identity() if step == "select" else {},
        }
        return Artifact(made.manifest.model_copy(update=update), made.root)

    return artifact


@pytest.fixture
def artifacts(tmp_path: Path, finish: Finish) -> dict[str, Artifact]:
    """A small run, whole."""

    def put(path: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / path, rows, schema)

    def write(path: str, value: Any) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(value if isinstance(value, str) else json.dumps(value))

    for shard in range(3):
        numbers = range(shard * 40, shard * 40 + 40)
        put(f"extract/documents/{shard:05d}-part.parquet", [document(n) for n in numbers], DOCUMENTS)
        put(f"annotate/signals/{shard:05d}-part.parquet", [signal(n) for n in numbers], SIGNALS)
        put(f"select/signals/{shard:05d}-part.parquet", [signal(n) for n in numbers if n % 4 < 2], SIGNALS)
        gone = [{**document(n), "reasons": [REASONS[n % 4], "other"]} for n in numbers if n % 4 >= 2]
        gone = [{name: row[name] for name in ("id", "url", "reasons", "text")} for row in gone]
        put(f"select/dropped/{shard:05d}-part.parquet", gone, DROPPED)
        put(f"split/train/{shard:05d}-part.parquet", [document(n) for n in numbers if n % 4 < 2], DOCUMENTS)
    put("extract/quarantine/00000-part.parquet", [
        {"url": "http://site/broken", "file": "a.warc.gz", "error": "timeout: 10 s", "stage": "extract"}
    ], QUARANTINE)  # fmt: skip
    put(
        "dedup/dropped/part.parquet",
        [{"id": "1", "url": "http://site/twin", "reason": "minhash", "kept_id": "2"}],
        DUPLICATES,
    )
    splits = {
        "train": {"tokens": 900, "documents": 55, "bytes": 4000},
        "validation": {"tokens": 100, "documents": 5, "bytes": 500},
    }
    layouts = {"concatenate": {"truncations": 7}, "best_fit": {"truncations": 2}}
    write("tokens/index.json", {"splits": splits, "layouts": layouts, "shards": [{"file": "train/00000.bin"}]})
    write("pretrain/training.json", {"steps": 20, "tokens": 5000, "parameters": 1000, "validation_loss": 2.5})
    write("pretrain/curve.jsonl", "".join(json.dumps({"step": n, "loss": 5 - n / 10}) + "\n" for n in range(20)))
    write("evaluate/evaluation.json", {"validation": {"bits_per_byte": 2.0}})
    write("evaluate/samples.json", [{"prompt": "The", "text": " end"}])
    extract = finish("extract", Counters(documents_in=121, documents_out=120, quarantined=1, errors={"timeout": 1}))
    annotate = finish("annotate", Counters(documents_in=120, documents_out=120), {"documents": extract})
    dropped = {"short": 30, "repetition": 30}
    select = finish(
        "select",
        Counters(documents_in=120, documents_out=60, dropped=dropped, examples={"short": ["http://site/2"]}),
        {"documents": extract, "signals": annotate},
    )
    found = {"extract": extract, "annotate": annotate, "select": select}
    for step in ("dedup", "split", "tokens", "pretrain", "evaluate"):
        found[step] = finish(step)
    return found


def report(artifacts: dict[str, Artifact], **changes: Any) -> RunReport:
    rows = [{"step": name, "state": "ran", "seconds": 1.0, "surplus": "ignored"} for name in artifacts]
    values: dict[str, Any] = {
        "run_id": "r",
        "recipe_name": "small",
        "recipe": "name: small\n",
        "status": "completed",
        "steps": rows,
    }
    return collect(artifacts, **{**values, **changes})


def test_everything_that_a_run_made_is_found(artifacts: dict[str, Artifact]) -> None:
    run = report(artifacts)
    assert run.notes == ()
    assert [row.stage for row in run.funnel] == ["extract", "annotate", "select"]
    assert all(row.balanced for row in run.funnel)
    assert run.funnel[2].examples == {"short": ("http://site/2",)}
    assert run.corpus.model_dump() == {
        "documents": 60, "bytes": 4500, "tokens": 1000, "train_tokens": 900, "validation_tokens": 100,
    }  # fmt: skip
    of_tokens = {table.title: table.rows for table in run.tables if table.step == "tokens"}
    assert of_tokens == {
        "splits": (("train", "900", "55", "4,000"), ("validation", "100", "5", "500")),
        "layouts": (("concatenate", "7"), ("best_fit", "2")),
    }
    assert run.model is not None
    assert run.model.parameters == 1000
    assert len(run.curve) == 20
    assert run.curve[10].train == 4.0
    assert run.evaluation == {"validation": {"bits_per_byte": 2.0}}
    assert run.generated[0].text == " end"
    select = next(row for row in run.steps if row.step == "select")
    assert select.reads == ("extract", "annotate")
    assert select.cpu_seconds == 1.5
    assert [given.step for given in run.lineage[2].inputs] == ["extract", "annotate"]
    assert run.environment == {"git revision": "abc", "pyarrow": "1.0"}
    assert render_report(run)


def test_a_document_that_split_cuts_is_one_document(finish: Finish, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    splits = {"train": {"tokens": 90, "documents": 3, "bytes": 400}, "validation": {"documents": 3}}
    (tmp_path / "tokens/index.json").write_text(json.dumps({"splits": splits}))
    split = finish("split", Counters(documents_in=3, documents_out=3))
    assert report({"split": split, "tokens": finish("tokens")}).corpus.documents == 3


def test_the_report_says_how_a_model_was_trained(finish: Finish, tmp_path: Path) -> None:
    (tmp_path / "pretrain/logs").mkdir(parents=True)
    rows = [
        {"step": n, "tokens_per_second": 9.0, "memory_bytes": n << 29, "gpu_reserved_bytes": n << 31} for n in (2, 3)
    ]
    (tmp_path / "pretrain/logs/throughput.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pretrain/curve.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    metrics = {
        "mfu": None, "mfu_reason": "no peak is known", "device": "CPU", "precision": "fp32", "ranks": 2,
        "precision_reason": "the recipe says so", "micro_batch": 4, "training_seconds": 61.25, "data_wait_share": 0.002,
    }  # fmt: skip
    counted = {"bad_steps": 1, "spikes": 2, "rollbacks": 0, "skipped_batches": 0}
    made = finish("pretrain", Counters(values=counted, metrics=metrics))
    params = {
        "model": ModelConfig(family="encoder_decoder").model_dump(),
        "optimizer": {"kind": "adamw", "learning_rate": 1e-3},
        "schedule": {"kind": "cosine", "warmup_steps": 20},
        "batch": 16,
    }
    made = Artifact(made.manifest.model_copy(update={"params": params}), made.root)
    run = report({"pretrain": made})
    assert run.notes == ()
    assert dict(run.how_trained) == {
        "Network": "encoder_decoder, 4+4 layers, 256 wide, 4 heads, 256 tokens of context",
        "Batch": "16 sequences, in micro-batches of 4 a rank",
        "Optimiser": "adamw, learning rate 0.001, cosine after 20 steps of warm-up",
        "Precision": "fp32: the recipe says so",
        "Device": "2 ranks on CPU",
        "Model FLOP utilisation": "unknown: no peak is known",
        "Memory of the first rank": "1.50 GiB at most, 6.00 GiB of its GPU at most",
        "Time in steps": "61.2 s since it was last started, 0.20% of it for data",
        "Skipped": "1 steps not finite, 2 spikes; 0 times gone back, 0 batches passed over",
    }
    assert "in micro-batches of 4 a rank" in render_report(run)
    made.metrics["data_wait_share"] = None  # started again for its last step
    assert dict(report({"pretrain": made}).how_trained)["Time in steps"] == "one step at most since it was last started"


def test_languages_and_lengths_are_counted_before_and_after_select(artifacts: dict[str, Artifact]) -> None:
    run = report(artifacts)
    assert run.languages is not None
    assert list(zip(run.languages.labels, run.languages.all, run.languages.kept or (), strict=True)) == [
        ("en", 60, 60), ("de", 30, 0), ("unknown", 30, 0),
    ]  # fmt: skip
    words, certainty = run.histograms
    assert (sum(words.all), sum(words.kept or ())) == (120, 60)
    assert words.edges[0] <= 3
    assert words.edges[-1] >= 360
    assert words.thresholds == (50, 100_000)
    assert certainty.title == "Certainty of the language"
    assert sum(certainty.all) == 120


def test_documents_are_sampled_over_files_and_over_reasons(artifacts: dict[str, Artifact]) -> None:
    run = report(artifacts)
    assert [sample.url.rpartition("/")[2] for sample in run.kept] == ["0", "20", "40", "60", "80", "100"]
    stages = [sample.stage for sample in run.dropped]
    assert stages == ["select"] * 6 + ["dedup", "extract, quarantined"]
    assert {sample.reasons[0] for sample in run.dropped[:2]} == {"short", "repetition"}
    assert run.dropped[-1].reasons == ("timeout: 10 s",)
    assert "2 stands for it" in run.dropped[6].text


def test_a_run_that_failed_shows_what_there_is_and_what_was_not_reached(artifacts: dict[str, Artifact]) -> None:
    some = {name: artifacts[name] for name in ("extract", "annotate")}
    steps = [{"step": "extract", "state": "cached"}, {"step": "annotate", "state": "ran"}]
    steps.append({"step": "select", "state": "failed"})
    run = report(
        some,
        status="failed",
        steps=steps,
        planned=["extract", "annotate", "select", "dedup", "pretrain"],
        error="select: 120 of 120 documents were dropped",
        resume_command="millrace run small",
    )
    assert [(row.step, row.state) for row in run.steps] == [
        ("extract", "cached"), ("annotate", "ran"), ("select", "failed"), ("dedup", "not reached"),
        ("pretrain", "not reached"),
    ]  # fmt: skip
    assert run.notes == ()
    assert run.corpus.documents == 120
    assert run.languages is not None
    assert run.languages.kept is None
    assert run.model is None
    assert "The run stopped at select." in render_report(run)


def test_no_artifact_at_all_is_still_a_report() -> None:
    run = report({}, status="failed", error="no such bucket")
    assert "no such bucket" in render_report(run)


def test_a_broken_file_costs_its_part_of_the_report_only(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    (tmp_path / "pretrain/curve.jsonl").write_text('{"step": 1, "los')
    for path in (tmp_path / "split/train").iterdir():
        path.unlink()
    run = report(artifacts)
    assert [note.split(":")[0] for note in run.notes] == ["kept", "curve"]
    assert run.curve == ()
    assert run.evaluation
    assert "Not in this report" in render_report(run)


def test_the_report_of_a_cached_run_is_quick(tmp_path: Path, finish: Finish) -> None:
    rows = 200_000
    table = pa.table(
        {
            "id": pa.array(np.arange(rows).astype(str)),
            "language": pa.array(["en", "de"] * (rows // 2)),
            "language_score": np.linspace(0, 1, rows),
            "gopher_words": np.arange(rows),
        }
    )
    (tmp_path / "annotate/signals").mkdir(parents=True)
    write_parquet(tmp_path / "annotate/signals/00000-part.parquet", table, SIGNALS)
    annotate = finish("annotate", Counters(documents_in=rows, documents_out=rows))
    started = time.process_time()
    render_report(report({"annotate": annotate}))
    assert time.process_time() - started < 1.5


def test_a_step_that_ran_for_two_sources_is_one_stage(finish: Finish) -> None:
    crawls = [finish("ingest", Counters(documents_in=n, documents_out=n - 1, dropped={"gone": 1})) for n in (10, 20)]
    steps = [
        {"step": "ingest", "state": "cached", "seconds": 1.0, "why": ""},
        {"step": "ingest", "state": "ran", "seconds": 2.0, "why": "inputs"},
    ]
    run = collect({"ingest": crawls}, run_id="r", recipe_name="x", recipe="", status="completed", steps=steps)
    assert [(row.documents_in, row.documents_out, row.dropped) for row in run.funnel] == [(30, 28, {"gone": 2})]
    assert [(row.state, row.seconds, row.why) for row in run.steps] == [("ran", 3.0, "inputs")]
    assert [(row.cpu_seconds, row.peak_memory) for row in run.steps] == [(3.0, 10**8)]
    assert len(run.lineage) == 2


def test_the_lineage_names_what_was_gathered_and_each_artifact_once(finish: Finish) -> None:
    """Several sources reach the next step as one input; documents and signals come from one artifact."""
    ingest, select = finish("ingest"), finish("select")
    sources = Input(role="pages", content="c", origins=[f"s3://b/artifacts/ingest/{ingest.digest}", "pages.warc.gz"])
    extract = Artifact(ingest.manifest.model_copy(update={"step": "extract", "inputs": [sources]}), ingest.root)
    redact = finish("redact", None, {"documents": select, "signals": select})
    run = report({"ingest": ingest, "extract": extract, "select": select, "redact": redact})
    made_from = {node.step: [(given.step, given.digest) for given in node.inputs] for node in run.lineage}
    assert made_from["extract"] == [("ingest", ingest.digest)]
    assert made_from["redact"] == [("select", select.digest)]


def test_a_signal_that_no_document_has_is_not_drawn(tmp_path: Path, finish: Finish) -> None:
    (tmp_path / "annotate/signals").mkdir(parents=True)
    rows = [{**signal(n), "gopher_words": None} for n in range(5)]
    write_parquet(tmp_path / "annotate/signals/00000-part.parquet", rows, SIGNALS)
    run = report({"annotate": finish("annotate", Counters(documents_in=5, documents_out=5))})
    assert run.notes == ()
    assert [histogram.title for histogram in run.histograms] == ["Certainty of the language"]


def test_the_report_loads_no_heavy_package(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    path = tmp_path / "artifacts.pickle"
    path.write_bytes(pickle.dumps(artifacts))
    code = (
        "import pickle, sys; from tasks.report import collect, render_report\n"
        f"artifacts = pickle.load(open({str(path)!r}, 'rb'))\n"
        "run = collect(artifacts, run_id='r', recipe_name='x', recipe='', status='completed', steps=[])\n"
        "render_report(run)\n"
        "print(sorted({'pandas', 'matplotlib', 'torch', 'prefect'} & set(sys.modules)), run.notes)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[] ()"
