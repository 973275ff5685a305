"""A setting that nothing reads is refused: every key is read somewhere, and none is set where it says nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from models.config import ModelConfig, TrainingConfig
from tasks.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
BASE: dict[str, Any] = {
    "model": {"layers": 2, "heads": 2, "width": 32},
    "optimizer": {"kind": "adamw"},
    "schedule": {"kind": "cosine"},
    "steps": 100,
    "batch": 8,
}


def test_each_key_is_read_somewhere() -> None:
    source = "\n".join(
        file.read_text() for floor in ("models", "tasks", "infra") for file in (ROOT / floor).rglob("*.py")
    )
    read = {*re.findall(r"\.(\w+)", source), *re.findall(r'\["(\w+)"\]', source)}
    assert not {
        f"{cls.__name__}.{name}" for cls in _classes(PretrainConfig) for name in cls.model_fields if name not in read
    }


def _classes(cls: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield cls
    for field in cls.model_fields.values():
        for part in _parts(field.annotation):
            yield from _classes(part)


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": {"kind": "cosine", "decay_fraction": 0.2}},
         "decay_fraction=0.2 has no meaning with kind=cosine; leave it at 0.4"),
        ({"schedule": {"kind": "linear", "decay_shape": "one_minus_sqrt"}}, "decay_shape=one_minus_sqrt has no"),
        ({"schedule": {"kind": "constant", "final_fraction": 0.1}},
         "final_fraction=0.1 has no meaning with kind=constant; leave it at 0"),
        ({"schedule": {"kind": "inverse_sqrt", "final_fraction": 0.1}}, "has no meaning with kind=inverse_sqrt"),
        ({"validation_tokens": 1000}, "validation_tokens=1000 has no meaning with validate_every=0"),
        ({"sample_tokens": 8}, "sample_tokens=8 has no meaning without prompts; leave it at 64"),
        ({"model": {"positions": "learned", "rope_base": 5e5}},
         r"rope_base=5e\+05 has no meaning with positions=learned; leave it at 1e\+04"),
        ({"model": {"relative_buckets": 8}}, "relative_buckets=8 has no meaning with positions=rope; leave it at 32"),
        ({"model": {"relative_max_distance": 8}}, "relative_max_distance=8 has no meaning with positions=rope"),
        ({"model": {"ffn_width": 64, "ffn_multiple": 4}}, "ffn_multiple=4 has no meaning beside ffn_width=64"),
        ({"model": {"ffn_width": 64, "moe": {"expert_width": 32}}}, "all blocks have experts of moe.expert_width=32"),
        ({"model": {"sliding_window": 8, "global_every": 6}},
         "global_every=6 leaves no block that reaches all among 4 layers"),
        ({"execution": {"overlap_communication": True}}, "overlap_communication=true has no meaning with zero_stage=0"),
        ({"execution": {"overlap_communication": True, "zero_stage": 1, "pipeline_stages": 2, "ranks": 2}},
         "overlap_communication=true has no meaning with zero_stage=1 and pipeline_stages=2"),
        ({"execution": {"telemetry": ["tensorboard", "tensorboard"]}}, "names one twice"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_refused_with_what_to_do(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PretrainConfig.model_validate({**BASE, **changes})


def test_a_configuration_that_is_written_out_whole_is_the_same_again() -> None:
    cfg = TrainingConfig.model_validate(BASE)
    assert TrainingConfig.model_validate(cfg.model_dump()) == cfg


def test_the_width_of_the_feed_forward_layer_takes_the_place_of_the_presets_however_it_is_said() -> None:
    def width(**model: Any) -> int:
        return PretrainConfig.model_validate({"preset": "t5-tiny", "model": model}).model.resolved_ffn_width

    assert (width(), width(ffn_multiple=2)) == (1024, 512)
    assert ModelConfig.model_validate({"preset": "gpt2-124m", "ffn_width": 100}).resolved_ffn_width == 100


@pytest.mark.parametrize("name", ["llama-1b", "gpt2-124m", "bert-base", "t5-small"])
def test_what_a_preset_says_of_its_positions_gives_way_with_them(name: str) -> None:
    for positions in ("rope", "learned", "relative"):
        shape = ModelConfig.model_validate({"preset": name, "positions": positions})
        assert shape.positions == positions
    kept = ModelConfig.model_validate({"preset": "llama-1b", "positions": "rope", "width": 1024})
    assert (kept.rope_base, kept.rope_scaling is None) == (5e5, False)
