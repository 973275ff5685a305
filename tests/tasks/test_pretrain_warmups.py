"""Training with batches and sequences that grow and weights that are averaged: on two ranks, and resumed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from models.config import BatchWarmup, Growth, LengthWarmup
from tests.tasks.test_pretrain import FINAL, config, curve, go_on, train
from tests.tasks.token_corpus import Corpus, make_corpus

WARMUPS: dict[str, Any] = {
    "optimizer": {"kind": "lion", "learning_rate": 0.001},
    "batch_warmup": {"start": 4, "steps": 14, "multiple_of": 2},
    "length_warmup": {"start": 16, "steps": 10},
    "ema": {"decay": 0.9},
    "steps": 20,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_warm_ups_and_an_average_on_two_ranks_follow_one_and_resume_exactly(corpus: Corpus, tmp_path: Path) -> None:
    from models.generation import load_model
    from models.scoring import score_documents

    alone, two = tmp_path / "alone", tmp_path / "two"
    train(config(**WARMUPS), corpus, alone)
    shared = config(**WARMUPS, execution={"ranks": 2, "zero_stage": 2, "micro_batch": 2})
    train(shared, corpus, two)
    for name in ("loss", "validation_loss"):
        mine = [row[name] for row in curve(two) if name in row]
        assert mine == pytest.approx([row[name] for row in curve(alone) if name in row], abs=1e-3), name

    growth = Growth(8, 32, BatchWarmup(start=4, steps=14, multiple_of=2), LengthWarmup(start=16, steps=10))
    counted = [sum(growth.tokens_of(n) for n in range(step)) for step in range(1, 21)]
    assert [row["tokens"] for row in curve(two)] == counted
    training = json.loads((two / "training.json").read_text())
    assert training["tokens"] == counted[-1]

    average, last = load_file(two / "model.safetensors"), load_file(two / "last.safetensors")
    assert average.keys() == last.keys()
    assert not any((average[name] == last[name]).all() for name in average)
    scored = score_documents(load_model(two), [corpus.held_out], stride=32)[0]
    assert scored.bits_per_byte == pytest.approx(training["validation_loss"] / math.log(2), rel=1e-3)

    again = go_on(two)
    train(shared, corpus, again)
    assert "resumed after step 12" in (again / "logs" / "ranks.log").read_text()
    for name in (*FINAL, "last.safetensors"):
        assert (again / name).read_bytes() == (two / name).read_bytes(), name
