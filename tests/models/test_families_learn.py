"""An encoder and an encoder-decoder learn: what is missing costs them less than it costs who counts tokens.

One group of one rank trains everything here, one job after another.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.artifacts import Artifact, Attempt
from infra.launch import run_group
from tasks.documents import DOCUMENTS, document_id, write_parquet
from tasks.evaluate import EvaluateConfig, evaluate
from tasks.evaluate.references import count_tokens, unigram_nats
from tasks.pretrain import TOKENIZER_FILES, PretrainConfig, make_job
from tests.tasks.token_corpus import Corpus, make_corpus

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "optimizer": {"kind": "adamw", "learning_rate": 0.01},
    "schedule": {"kind": "linear", "warmup_steps": 5},
    "steps": 200,
    "batch": 16,
    "validate_every": 100,
    "execution": {"threads": 1, "checkpoint_seconds": 1000},
}
SHAPE = {"layers": 2, "heads": 2, "width": 48, "sequence_length": 48}
MASKED = {"model": {**SHAPE, "family": "encoder"}, "objective": {"kind": "masked", "whole_word": False}}
DENOISING = {
    "model": {**SHAPE, "family": "encoder_decoder", "positions": "relative"},
    "objective": {"kind": "denoising", "mean_span": 2},
}
JOBS: dict[str, dict[str, Any]] = {
    "masked": MASKED,
    "denoising": DENOISING,
    "masked-4": {**MASKED, "steps": 8, "execution": {**BASE["execution"], "micro_batch": 4}},
    "masked-16": {**MASKED, "steps": 8},
}


class Trained:
    """The models, and the corpus that they were trained on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus: Corpus = make_corpus(folder / "corpus", sentinels=12)
        paths, lines = [], list[str]()
        for name, changes in JOBS.items():
            cfg = PretrainConfig.model_validate({**BASE, **changes})
            job = make_job(cfg, self.corpus.tokens, self.corpus.tokenizer, Attempt.at(folder / name))
            paths.append(folder / f"{name}.json")
            paths[-1].write_text(job.model_dump_json())
        status = run_group(
            ["-m", "tests.models.training_program", *map(str, paths)],
            ranks=1,
            env={"OMP_NUM_THREADS": "1"},
            on_line=lines.append,
        )
        assert status == 0, "\n".join(lines[-30:])
        for name in JOBS:
            for file in TOKENIZER_FILES:
                (folder / name / file).write_bytes(self.corpus.tokenizer.file(file).local().read_bytes())

    def curve(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / "curve.jsonl").read_text().splitlines()]

    def unigram(self) -> float:
        """Return the nats a token of the validation split under the counts of the training split."""
        shards = {part: [file.local() for file in self.corpus.tokens.files(part)] for part in ("train", "validation")}
        nats = unigram_nats(count_tokens(shards["train"], "uint16", 40))
        return float(nats[np.fromfile(shards["validation"][0], "<u2")].mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("families"))


@pytest.mark.parametrize("name", ["masked", "denoising"])
def test_what_is_missing_costs_less_than_by_counts(trained: Trained, name: str) -> None:
    rows = trained.curve(name)
    validated = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert validated[-1] < validated[0] < rows[0]["loss"]
    assert validated[-1] < 0.7 * trained.unigram()
    assert all(row["validation_bits_per_byte"] is None for row in rows if "validation_loss" in row)
    training = json.loads((trained.folder / name / "training.json").read_text())
    assert training["validation_loss"] == validated[-1]
    assert training["validation_bits_per_byte"] is None


@pytest.mark.parametrize("name", ["masked", "denoising"])
def test_they_are_judged_by_what_they_fill_in(trained: Trained, name: str, tmp_path: Path) -> None:
    (tmp_path / "documents" / "validation").mkdir(parents=True)
    text = trained.corpus.held_out
    row = {"id": document_id("u", text), "text": text, "url": "u", "source": "s", "metadata": "{}", "file": "f"}
    write_parquet(tmp_path / "documents" / "validation" / "part.parquet", [row], DOCUMENTS)
    model, documents = Artifact.of(trained.folder / name), Artifact.of(tmp_path / "documents")
    cfg = EvaluateConfig(prompts=("the mi[MASK]l turns", "the mi<extra_id_0> turns<extra_id_1>to"))
    for folder in ("one", "two"):
        counters = evaluate.fn(cfg, model, documents, trained.corpus.tokens, Attempt.at(tmp_path / folder))
        assert counters.values["documents"] == 1
    found = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    whole, unigram = found["validation"], found["reference/unigram"]
    assert found["verdict"] == {"learned": True, "below_unigram": True}
    assert whole["nats_per_token"] < 0.9 * unigram["nats_per_token"]  # sentinels and ends, which are easy, left out
    assert unigram["nats_per_token"] == pytest.approx(trained.unigram(), rel=0.05)
    assert whole["accuracy"] > unigram["accuracy"] > 0
    assert whole["missing_tokens"] == pytest.approx(0.15 * len(text), rel=0.1)
    assert whole["loss"] == pytest.approx(trained.curve(name)[-1]["validation_loss"], rel=1e-3)  # the same is asked
    (sample,) = json.loads((tmp_path / "one" / "samples.json").read_text())
    if name == "masked":
        assert sample == {"prompt": cfg.prompts[0], "filled": "the mill turns"}
    else:
        assert sample["filled"].startswith("the mi")
    for file in ("evaluation.json", "samples.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_each_target_has_the_same_weight_whatever_micro_batch_it_is_in(trained: Trained) -> None:
    whole, cut = trained.curve("masked-16"), trained.curve("masked-4")
    for field in ("loss", "gradient_norm"):
        assert [row[field] for row in cut] == pytest.approx([row[field] for row in whole], abs=1e-3)
    assert cut[-1]["validation_loss"] == pytest.approx(whole[-1]["validation_loss"], abs=1e-3)
