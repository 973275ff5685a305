"""What a run says about itself: counted operations, points that are not doubled, samples, and what is missing."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from infra.artifacts import Attempt
from infra.errors import UserError
from models.config import ModelConfig, TrainingConfig
from models.job import Job
from models.telemetry import (
    Curve,
    Meter,
    TimeLeft,
    peak_flops,
    require_trackers,
    sequence_flops,
    step_flops,
    utilisation,
)
from models.telemetry.trackers import Background, MLflow
from models.transformer import Transformer

VOCABULARY = 96
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"kv_heads": 2, "activation": "swiglu"},
    "gpt2": {"activation": "gelu", "norm": "layernorm", "positions": "learned", "bias": True, "qk_norm": False},
    "experts": {"moe": {"experts": 4, "top_k": 2, "shared_experts": 1, "every": 2}, "layers": 2},
    "bert": {
        "family": "encoder",
        "norm_order": "post",
        "embed_norm": True,
        "head_transform": True,
        "activation": "gelu",
    },
    "t5": {"family": "encoder_decoder", "decoder_layers": 3, "positions": "relative", "activation": "geglu"},
}


def counted(cfg: ModelConfig, *, length: int, source: int, scored: int) -> int:
    """The matrix products that training on one sequence takes, counted by torch as they happen."""
    network = Transformer(cfg, VOCABULARY)
    tokens = torch.randint(VOCABULARY, (1, length))
    targets = torch.full((1, length), -100)
    targets[:, :scored] = 1
    sources = torch.randint(VOCABULARY, (1, source)) if source else None
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss = network(tokens, targets, None, sources, None)
        loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", SHAPES)
def test_operations_are_as_many_as_torch_counts(name: str) -> None:
    cfg = ModelConfig.model_validate({"layers": 2, "heads": 4, "width": 32, "sequence_length": 48, **SHAPES[name]})
    length, source = 48, 24 if cfg.family == "encoder_decoder" else 0
    scored = 8 if cfg.family == "encoder" else length
    expected = sequence_flops(cfg, VOCABULARY, length=length, source=source, scored=scored)
    assert counted(cfg, length=length, source=source, scored=scored) == pytest.approx(expected, rel=0.002)


def test_a_window_is_counted_as_far_as_it_reaches() -> None:
    shape = {"layers": 4, "heads": 4, "width": 32, "sequence_length": 64}
    whole, window, mixed = (
        sequence_flops(ModelConfig.model_validate({**shape, **more}), VOCABULARY, length=64)
        for more in ({}, {"sliding_window": 16}, {"sliding_window": 16, "global_every": 2})
    )
    assert whole - window == 3 * 64 * 4 * (4 * 32 * 48)  # 48 keys fewer in each of 4 layers
    assert whole - mixed == (whole - window) / 2


def test_of_an_encoder_the_head_counts_where_tokens_are_hidden() -> None:
    base = {"optimizer": {"kind": "adamw"}, "schedule": {"kind": "constant", "warmup_steps": 0}, "steps": 2, "batch": 4}
    model = {"family": "encoder", "layers": 2, "heads": 2, "width": 32, "sequence_length": 40}
    masked = TrainingConfig.model_validate({**base, "model": model, "objective": {"kind": "masked"}})
    assert step_flops(masked, VOCABULARY) == 4 * sequence_flops(masked.model, VOCABULARY, length=40, scored=6)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA L40S", 362.05e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A10G", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("AMD Instinct MI300X", 1307.4e12),
        ("NVIDIA Z9000", None),
    ],
)
def test_a_card_has_its_own_peak_or_none(device: str, peak: float | None) -> None:
    assert peak_flops(device) == peak
    mfu, why = utilisation(flops_per_second=4e14, device=device, precision="bf16", ranks=2)
    assert (mfu, why) == ((None, f"no peak FLOP/s is known for {device}") if peak is None else (2e14 / peak, None))


def test_no_share_of_a_16_bit_peak_is_told_of_training_in_fp32() -> None:
    mfu, why = utilisation(flops_per_second=1e14, device="NVIDIA H200", precision="fp32", ranks=1)
    assert mfu is None
    assert why is not None
    assert "fp32" in why


def test_rates_are_of_the_steps_since_the_last_and_leave_the_first_out() -> None:
    meter = Meter()
    meter.step(seconds=100, data_seconds=50, tokens=10)
    assert meter.since_last() is None
    meter.step(seconds=2, data_seconds=1, tokens=100)
    first = meter.since_last()
    meter.step(seconds=1, data_seconds=0, tokens=100)
    second = meter.since_last()
    assert first is not None
    assert second is not None
    assert (first.tokens_per_second, first.data_share) == (50, 0.5)
    assert (second.tokens_per_second, second.data_share) == (100, 0)
    assert meter.tokens_per_second == pytest.approx(200 / 3)


def test_the_time_left_follows_the_clock_and_is_measured_anew_after_a_rollback() -> None:
    left = TimeLeft()
    assert left.after(0, 100, 5.0) == {}
    assert left.after(1, 100, 60.0) == {}, "the first step warms up"
    assert left.after(11, 100, 80.0) == {"seconds_left": 178.0}
    assert left.after(100, 100, 300.0) == {"seconds_left": 0.0}
    assert left.after(50, 100, 400.0) == left.after(50, 100, 401.0) == left.after(30, 100, 500.0) == {}
    assert left.after(40, 100, 520.0) == {"seconds_left": 120.0}


def test_samples_have_a_file_of_their_own_and_survive_a_checkpoint(tmp_path: Path) -> None:
    curve = Curve()
    curve.add(step=1, loss=2.0)
    curve.add(step=2, loss=1.5, samples=[{"prompt": "a", "text": "b\u00e9"}])
    curve.save(tmp_path / "kept.jsonl")
    again = Curve.load(tmp_path / "kept.jsonl")
    again.publish(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == {"step": 2, "prompt": "a", "text": "b\u00e9"}


class Recorded:
    """A tracker that fails at a step."""

    def __init__(self) -> None:
        self.last_step, self.points, self.outcome = 0, [], ""  # type: ignore[var-annotated]

    def scalars(self, step: int, values: Any) -> None:
        if step == 2:
            raise ConnectionError("no answer")
        self.points.append((step, dict(values)))

    def text(self, step: int, name: str, text: str) -> None: ...

    def close(self, outcome: str) -> None:
        self.outcome = outcome


def test_a_tracker_that_fails_loses_points_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Recorded()
    background = Background("MLflow", tracker)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            background.scalars(step, {"loss": float(step)})
        background.close("preempted")
    assert tracker.points == [(1, {"loss": 1.0}), (3, {"loss": 3.0})]
    assert tracker.outcome == "preempted"
    assert [record.message for record in caplog.records] == [
        "MLflow: no answer; training goes on without these points",
        "MLflow: 1 messages were lost",
    ]


def test_a_tracker_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("models.telemetry.trackers._CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("models.telemetry.trackers._WAITING", 1)
    answer = threading.Event()
    tracker = Recorded()
    monkeypatch.setattr(tracker, "scalars", lambda step, values: answer.wait())
    background = Background("MLflow", tracker)
    for step in (1, 2, 3):
        background.scalars(step, {"loss": 1.0})
    with caplog.at_level(logging.WARNING):
        background.close("failed")
    answer.set()
    assert caplog.records[-1].message == "MLflow: no answer; it is not told that the run has failed"


def test_what_is_watched_is_closed_once_with_its_outcome(tmp_path: Path) -> None:
    from models.telemetry import Logs
    from tests.models.test_resuming import Jobs

    jobs = Jobs(tmp_path)
    job = Job.model_validate_json(jobs.make("out", {}).read_bytes())
    logs, tracker = Logs(job, precision="fp32"), Recorded()
    logs.open([], step=0)
    logs._trackers.append(tracker)
    logs.row({"step": 1, "loss": 2.0, "gradient_norm": 1.0, "skipped": 1})
    logs.close("failed")
    logs.close("finished")
    assert tracker.outcome == "failed"
    shown = EventAccumulator(str(tmp_path / "out" / "logs")).Reload()
    assert [(event.step, event.value) for event in shown.Scalars("skipped")] == [(1, 1.0)]


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_trackers(["tensorboard"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"execution\.telemetry: wandb is not installed; run `pip install 'millrace\[wandb\]'`"
    ):
        require_trackers(["wandb"])


def test_a_run_of_mlflow_goes_on_and_doubles_no_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install 'millrace[mlflow]')")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    first = MLflow("digest", resumed=False, parameters={"batch": 8})
    for step in (1, 2, 3):
        first.scalars(step, {"loss": 1 / step, "tokens": step})
    first.close("preempted")
    client = MlflowClient()
    (experiment,) = [client.get_experiment_by_name("millrace").experiment_id]
    assert [run.info.status for run in client.search_runs([experiment])] == ["KILLED"]
    again = MLflow("digest", resumed=True, parameters={"batch": 8})
    assert again.last_step == 3
    again.scalars(4, {"loss": 0.1, "tokens": 4})
    again.text(4, "samples", "the mill")
    again.close("finished")
    other = MLflow("digest", resumed=False, parameters={"batch": 8})  # trained again from the beginning: another run
    other.close("failed")
    runs = client.search_runs([experiment])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    run = next(run for run in runs if run.info.status == "FINISHED")
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]
    assert run.data.params == {"batch": "8"}


def test_a_run_of_wandb_is_kept_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed (pip install 'millrace[wandb]')")
    from models.telemetry.trackers import WeightsAndBiases

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = WeightsAndBiases("0123456789abcdef" * 4, tmp_path, parameters={"batch": 8})
    run.scalars(1, {"loss": 1.0})
    run.text(1, "samples", "the <mill>")
    run.close("preempted")
    assert list(tmp_path.glob("wandb/offline-run-*-0123456789abcdef/*.wandb"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_every": 10}, "need each other"),
        ({"prompts": ["a"]}, "need each other"),
        (
            {"sample_every": 1, "prompts": ["a"], "objective": {"kind": "masked"},
             "model": {"family": "encoder", "layers": 1, "width": 32, "heads": 2}},
            "prompts need model.family=decoder",
        ),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    from tests.tasks.test_pretrain import config

    with pytest.raises(ValidationError, match=said):
        config(**changes)


def test_a_prompt_that_leaves_no_room_or_has_no_tokens_is_refused(tmp_path: Path) -> None:
    from models.telemetry.samples import Sampler
    from tests.tasks.token_corpus import make_corpus

    tokenizer = make_corpus(tmp_path, characters=400).tokenizer.file("tokenizer.json").local()

    def sampler(prompt: str) -> Sampler:
        return Sampler(tokenizer, [prompt], tokens=4, sequence_length=8, eod=0, seed=0)

    sampler("the")
    with pytest.raises(UserError, match=r"8 tokens long, which leaves no room in model\.sequence_length=8"):
        sampler("the mill")
    with pytest.raises(UserError, match="has characters that the vocabulary lacks: '\u4e2d'"):
        sampler("a\u4e2d")


@pytest.mark.slow
def test_two_ranks_under_zero_3_write_samples(tmp_path: Path) -> None:
    from tasks.pretrain import pretrain
    from tests.tasks.test_pretrain import config
    from tests.tasks.token_corpus import make_corpus

    corpus = make_corpus(tmp_path / "corpus")
    cfg = config(
        steps=8, sample_every=4, prompts=["the mill ", ""], sample_tokens=12, execution={"ranks": 2, "zero_stage": 3}
    )  # fmt: skip
    pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, Attempt.at(tmp_path / "out"))
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["prompt"]) for row in samples] == [(4, "the mill "), (4, ""), (8, "the mill "), (8, "")]
    assert all(len(row["text"]) <= 12 for row in samples)
    assert any(row["text"] for row in samples)
    throughput = [json.loads(line) for line in (tmp_path / "out/logs/throughput.jsonl").read_text().splitlines()]
    assert all(row["tokens_per_second"] > 0 and row["memory_bytes"] > 1e8 for row in throughput)
