"""The report of a model that fills in what is missing: nats a missing token, and the texts that it filled in."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact
from tasks.report import collect, render_report
from tasks.report.render import ladder, tiles, verdict
from tasks.report.run import GeneratedSample, RunReport

EVALUATION: dict[str, dict[str, Any]] = {
    "validation": {
        "nats_per_token": 4.5, "accuracy": 0.31, "perplexity": 90.0, "loss": 3.9, "missing_tokens": 1500,
        "documents": 3, "bytes": 40_000, "tokens": 10_000,
    },
    "reference/uniform-tokens": {"nats_per_token": 8.3, "saw": "the vocabulary"},
    "reference/unigram": {"nats_per_token": 6.7, "accuracy": 0.05, "saw": "counts"},
    "verdict": {"learned": True, "below_unigram": True},
}  # fmt: skip


def example(**changes: Any) -> RunReport:
    values = {"run_id": "r", "recipe_name": "bert-tiny", "status": "completed", "evaluation": EVALUATION, **changes}
    return RunReport.model_validate(values)


def test_the_headline_and_the_lines_are_in_nats_a_missing_token() -> None:
    tone, words = verdict(example())
    assert tone == "good"
    assert words == "The model learned: 4.50 nats a token that is missing in held-out text, better than unigram."
    worse = {**EVALUATION, "verdict": {"learned": False, "below_unigram": False}}
    assert verdict(example(evaluation=worse))[0] == "bad"
    assert [(name, cost) for name, cost, *_ in ladder(EVALUATION)] == [
        ("uniform over the vocabulary", 8.3), ("unigram", 6.7), ("this model", 4.5),
    ]  # fmt: skip
    assert ("Nats a missing token", "4.500", "unigram: 6.700") in tiles(example())


def test_a_run_that_was_not_evaluated_shows_its_validation_loss() -> None:
    found = tiles(example(evaluation={}, model={"validation_loss": 4.25}))
    assert ("Validation loss", "4.250", "nats a target") in found


@pytest.mark.parametrize("original", [None, "The <b>mill</b> turns."])
def test_texts_filled_in_are_shown_beside_what_stood_there(tmp_path: Path, original: str | None) -> None:
    row = {"prompt": "The [MASK] turns.", "filled": "The wheel turns."} | ({"original": original} if original else {})
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "samples.json").write_text(json.dumps([row]))
    run = collect(
        {"evaluate": Artifact.of(tmp_path, "evaluate")},
        run_id="r", recipe_name="bert-tiny", recipe="", status="completed", steps=[],
    )  # fmt: skip
    assert run.generated == (
        GeneratedSample(prompt=row["prompt"], text="The wheel turns.", fills=True, original=original),
    )
    html = render_report(run)
    assert "The [MASK] turns." in html
    assert "The wheel turns." in html
    assert ("The &lt;b&gt;mill&lt;/b&gt; turns." in html) == (original is not None)
    assert "Missing tokens" in html
    assert "1,500" in html
    assert "Bits a byte" not in html
