"""What a shape refuses, all at once and with the numbers, and what it derives."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.config import ExecutionConfig, ModelConfig, TrainingConfig, check_execution


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"head_width": 15}, "head_width=15 must be even for rotary positions"),
        ({"global_every": 2}, "global_every=2 has no meaning without sliding_window"),
        ({"layers": 2, "moe": {"every": 3}}, "moe.every=3 leaves no block with experts among 2 layers"),
        ({"moe": {"experts": 2, "top_k": 3}}, "top_k=3 is more than experts=2"),
        ({"positions": "learned", "rope_scaling": {}}, "rope_scaling has no meaning with positions=learned"),
        (
            {"rope_scaling": {"high_frequency_factor": 1}},
            "high_frequency_factor=1 must be above low_frequency_factor=1",
        ),
        ({"max_positions": 99}, "max_positions=99 has no meaning with positions=rope"),
        (
            {"positions": "learned", "sequence_length": 600, "max_positions": 512},
            "sequence_length=600 is longer than the table of learned positions, max_positions=512",
        ),
        ({"positions": "relative", "relative_buckets": 30}, "relative_buckets=30 must be a multiple of 4"),
        (
            {"positions": "relative", "relative_max_distance": 16},
            "relative_max_distance=16 must be above half of relative_buckets=32",
        ),
        ({"decoder_layers": 2}, "decoder_layers=2 needs family=encoder_decoder, not decoder"),
        ({"segments": 2}, "segments=2 needs family=encoder, not decoder"),
        ({"head_transform": True}, "head_transform=true needs family=encoder, not decoder"),
        ({"family": "encoder", "positions": "none"}, "positions=none leaves family=encoder blind to order"),
    ],
)
def test_a_switch_without_meaning_is_refused_with_the_numbers(shape: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelConfig.model_validate(shape)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as refusal:
        ModelConfig.model_validate({"width": 100, "heads": 3, "kv_heads": 2, "segments": 2, "max_positions": 8})
    for said in ("width=100", "kv_heads=2", "segments=2", "max_positions=8"):
        assert said in str(refusal.value)


def test_widths_are_derived_unless_they_are_given() -> None:
    derived, given = ModelConfig(), ModelConfig(head_width=80, ffn_width=1000, kv_heads=2)
    assert (derived.resolved_head_width, derived.resolved_ffn_width, derived.resolved_kv_heads) == (64, 688, 4)
    assert (given.resolved_head_width, given.resolved_ffn_width, given.resolved_kv_heads) == (80, 1000, 2)
    windows = ModelConfig(layers=6, sliding_window=7, global_every=3)
    assert [windows.window(layer) for layer in range(6)] == [7, 7, None, 7, 7, None]


@pytest.mark.parametrize("cut", ["zero_stage=3", "tensor_parallel=2"])
def test_only_whole_blocks_are_compiled(cut: str) -> None:
    name, value = cut.split("=")
    training = TrainingConfig.model_validate(
        {"model": {}, "optimizer": {"kind": "adamw"}, "schedule": {"kind": "cosine"}, "steps": 100, "batch": 8}
    )
    execution = ExecutionConfig.model_validate({"compile": True, "ranks": 2, name: int(value)})
    assert any(
        f"execution.compile needs whole blocks on each rank, and execution.{cut}" in p
        for p in check_execution(training, execution)
    )
    whole = execution.model_copy(update={"compile": False})
    assert not any("compile" in p for p in check_execution(training, whole))
    stages = ExecutionConfig(compile=True, ranks=2, pipeline_stages=2)
    assert not any("compile" in p for p in check_execution(training, stages))
