"""What a configuration refuses, before any process is started."""

import pytest
from pydantic import ValidationError

from models.config import (
    ExecutionConfig,
    ModelConfig,
    ScheduleConfig,
    TrainingConfig,
    check_execution,
    plan_batch,
)
from models.schedule import learning_rate_fraction

T5 = {"model": {"family": "encoder_decoder"}, "objective": {"kind": "denoising"}}


def training(**changes: object) -> TrainingConfig:
    """A small valid configuration, changed."""
    base = {
        "model": {},
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "cosine"},
        "steps": 100,
        "batch": 8,
    }
    return TrainingConfig.model_validate({**base, **changes})


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"width": 100, "heads": 3}, "width=100 is not a multiple of heads=3"),
        ({"heads": 4, "kv_heads": 3}, "heads=4 is not a multiple of kv_heads=3"),
        ({"width": 12, "heads": 4}, "must be even"),
        ({"hidden": 3}, "hidden"),
    ],
)
def test_an_impossible_shape_is_refused_by_name(shape: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelConfig.model_validate(shape)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"kind": "adamw", "learning_rate": float("inf")}},
        {"optimizer": {"kind": "lion", "weight_decay": float("inf")}},
        {"guard": {"sigmas": float("inf")}},
        {"model": {"ffn_multiple": float("inf")}},
    ],
)
def test_a_number_that_is_not_finite_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        training(**changes)


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="batch=10 sequences do not divide among ranks=4"):
        plan_batch(batch=10, ranks=4, micro_batch=None)
    with pytest.raises(ValueError, match="leaves 6 sequences a rank, which micro_batch=4 does not divide"):
        plan_batch(batch=12, ranks=2, micro_batch=4)
    assert plan_batch(batch=24, ranks=2, micro_batch=3) == (3, 4)


@pytest.mark.parametrize(("micro_batch", "smaller"), [(None, 6), (6, 3), (3, 1), (1, None)])
def test_a_micro_batch_that_does_not_fit_is_halved_to_what_divides(
    micro_batch: int | None, smaller: int | None
) -> None:
    assert ExecutionConfig(ranks=2, micro_batch=micro_batch).smaller_micro_batch(24) == smaller


def test_what_deepspeed_cannot_do_is_refused_before_it_starts() -> None:
    adafactor, muon = training(optimizer={"kind": "adafactor"}), training(optimizer={"kind": "muon"})
    assert "whole matrices" in check_execution(adafactor, ExecutionConfig(zero_stage=1))[0]
    assert check_execution(muon, ExecutionConfig(zero_stage=3)) == []
    bf16 = training(precision="bf16")
    assert "zero_stage 1, 2 or 3" in check_execution(bf16, ExecutionConfig(zero_stage=0))[0]
    alone = ExecutionConfig(ranks=2, launcher="python")
    assert check_execution(training(), alone) == [
        "execution.launcher=python starts one rank, not execution.ranks=2; use deepspeed or torchrun"
    ]
    assert check_execution(adafactor, ExecutionConfig()) == check_execution(bf16, ExecutionConfig(zero_stage=2)) == []


@pytest.mark.parametrize(
    ("changes", "execution", "said"),
    [
        ({}, {"ranks": 3, "tensor_parallel": 2}, "ranks=3 do not divide into replicas of tensor_parallel=2"),
        ({"batch": 9}, {"ranks": 4, "pipeline_stages": 2}, "ranks=4, 2 of them a replica: make batch a multiple of 2"),
        ({}, {"tensor_parallel": 3}, "tensor_parallel=3 does not divide model.heads=4"),
        ({"model": {"kv_heads": 2}}, {"tensor_parallel": 4}, "tensor_parallel=4 does not divide model.kv_heads=2"),
        ({"model": {"positions": "relative"}}, {"tensor_parallel": 2}, "positions=relative"),
        ({"optimizer": {"kind": "muon"}}, {"tensor_parallel": 2}, "kind=muon needs whole matrices"),
        ({}, {"tensor_parallel": 2, "pipeline_stages": 2, "ranks": 4}, "does not cut the layers of a pipeline"),
        ({}, {"pipeline_stages": 5}, "pipeline_stages=5 is more than model.layers=4"),
        (T5, {"pipeline_stages": 2}, "cannot cut family=encoder_decoder"),
        ({}, {"pipeline_stages": 2, "zero_stage": 2}, "zero_stage 0 or 1, not 2"),
        ({}, {"pipeline_stages": 2, "zero_stage": 1, "offload_optimizer": "cpu"}, "offload_optimizer=none"),
        ({}, {"offload_optimizer": "cpu"}, "offload_optimizer=cpu needs execution.zero_stage 1, 2 or 3, not 0"),
        ({}, {"zero_stage": 2, "offload_parameters": "cpu"}, "offload_parameters=cpu needs execution.zero_stage=3"),
        ({}, {"zero_stage": 2, "offload_optimizer": "nvme", "nvme_path": "/disk"}, "zero_stage=3, not 2"),
        ({}, {"zero_stage": 3, "offload_optimizer": "nvme"}, "needs execution.nvme_path"),
        ({}, {"zero_stage": 3, "nvme_path": "/disk"}, "nvme_path=/disk has no meaning"),
        ({}, {"zero_stage": 3, "pin_memory": True}, "pin_memory has no meaning"),
        ({"precision": "fp16"}, {}, "precision=fp16 needs execution.zero_stage 1, 2 or 3"),
        ({"steps": 30}, {"keep_steps": [30, 31]}, "keep_steps names [31], which are beyond the last of steps=30"),
    ],
)
def test_what_cannot_be_cut_or_offloaded_is_refused_with_the_numbers(
    changes: dict[str, object], execution: dict[str, object], said: str
) -> None:
    ranks = execution.get("tensor_parallel") or execution.get("pipeline_stages") or 1
    problems = check_execution(training(**changes), ExecutionConfig.model_validate({"ranks": ranks, **execution}))
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("execution", "replicas"),
    [
        ({"ranks": 4}, [0, 1, 2, 3]),
        ({"ranks": 4, "tensor_parallel": 2}, [0, 0, 1, 1]),  # side by side: they exchange most
        ({"ranks": 4, "pipeline_stages": 2}, [0, 1, 0, 1]),
    ],
)
def test_ranks_of_one_replica_read_the_same_sequences(execution: dict[str, object], replicas: list[int]) -> None:
    cfg = ExecutionConfig.model_validate(execution)
    assert [cfg.replica(rank) for rank in range(4)] == replicas
    assert cfg.replicas == len(set(replicas))
    assert cfg.plan(24)[0] * cfg.plan(24)[1] * cfg.replicas == 24


def test_a_pipeline_has_a_micro_batch_for_each_stage_unless_told_otherwise() -> None:
    assert ExecutionConfig(ranks=4, pipeline_stages=4).plan(8) == (2, 4)
    assert ExecutionConfig(ranks=4, pipeline_stages=4, micro_batch=1).plan(8) == (1, 8)
    assert ExecutionConfig(ranks=3, pipeline_stages=3).plan(8) == (2, 4)


def test_a_seed_that_torch_cannot_take_is_refused_by_name() -> None:
    assert training(seed=2**63 - 1).seed == 2**63 - 1
    with pytest.raises(ValidationError, match="seed"):
        training(seed=2**63)


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_steps=100 leaves no step of steps=100"):
        training(schedule={"kind": "linear", "warmup_steps": 100})


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_the_learning_rate_rises_holds_and_falls_to_its_end(kind: str) -> None:
    cfg = ScheduleConfig.model_validate({"kind": kind, "warmup_steps": 10, "final_fraction": 0.1})
    rates = [learning_rate_fraction(cfg, step=s, steps=100) for s in range(100)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert max(rates) == 1.0
    assert rates[99] == pytest.approx(0.1, abs=0.03)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    if kind == "wsd":
        assert set(rates[10:60]) == {1.0}
