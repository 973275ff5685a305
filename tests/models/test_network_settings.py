"""On two real ranks: how a network is run (compiled, recomputed, in chunks, experts under ZeRO) moves no loss."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.launch import run_group

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]

TRAINING: dict[str, Any] = {
    "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": 16, "tied_embeddings": True},
    "optimizer": {"kind": "adamw", "learning_rate": 0.01},
    "schedule": {"kind": "cosine", "warmup_steps": 0},
    "steps": 5,
    "batch": 8,
    "label_smoothing": 0.1,
    "z_loss": 0.001,
}
EXPERTS = {**TRAINING, "model": {**TRAINING["model"], "moe": {"experts": 4, "top_k": 2, "balance_weight": 0.1}}}
DROPOUT = {**TRAINING, "model": {**TRAINING["model"], "dropout": 0.2}}

CASES: dict[str, dict[str, Any]] = {
    "zero0": {"training": TRAINING, "execution": {"zero_stage": 0, "micro_batch": 2}},
    "zero2-selective": {"training": TRAINING, "execution": {"zero_stage": 2, "activation_checkpointing": "selective"}},
    "zero3-full-chunks": {
        "training": TRAINING,
        "execution": {"zero_stage": 3, "activation_checkpointing": "full", "loss_chunk": 24},
    },
    "experts-zero0": {"training": EXPERTS, "execution": {"zero_stage": 0, "micro_batch": 1}},
    "experts-zero2": {"training": EXPERTS, "execution": {"zero_stage": 2, "activation_checkpointing": "full"}},
    "experts-zero3": {"training": EXPERTS, "execution": {"zero_stage": 3, "micro_batch": 2}},
    "dropout": {"training": DROPOUT, "execution": {"zero_stage": 1, "micro_batch": 2}},
    "dropout-full": {
        "training": DROPOUT,
        "execution": {"zero_stage": 1, "micro_batch": 2, "activation_checkpointing": "full"},
    },
    "zero0-compiled": {"training": TRAINING, "execution": {"zero_stage": 0, "compile": True}},
    "zero1-compiled-full": {
        "training": TRAINING,
        "execution": {"zero_stage": 1, "compile": True, "activation_checkpointing": "full"},
    },
    "pipeline-compiled": {"training": TRAINING, "execution": {"pipeline_stages": 2, "compile": True}},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case gave, all in one group of ranks."""
    folder = tmp_path_factory.mktemp("network")
    for case in CASES.values():
        case["execution"]["ranks"] = 2
    (folder / "cases.json").write_text(json.dumps(CASES))
    lines: list[str] = []
    status = run_group(
        ["-m", "tests.models.network_program", str(folder)], ranks=2, cwd=ROOT, on_line=lines.append, timeout=900
    )
    assert status == 0, "\n".join(lines[-40:])
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("dropout")])
def test_the_losses_are_those_of_a_plain_loop_and_weights_keep_their_names(case: str, results: dict[str, Any]) -> None:
    assert results[case]["losses"] == pytest.approx(results[case]["expected"], abs=1e-4)
    assert results[case]["losses"][-1] < results[case]["losses"][0] - 0.1
    assert results[case]["names"] == results[case]["expected_names"]


@pytest.mark.slow
def test_dropout_drops_the_same_when_activations_are_computed_again(results: dict[str, Any]) -> None:
    assert results["dropout-full"]["losses"] == pytest.approx(results["dropout"]["losses"], abs=1e-6)
    assert results["dropout"]["losses"] != pytest.approx(results["zero0"]["losses"], abs=1e-3)
