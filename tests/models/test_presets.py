"""Presets: published shapes with their published numbers of parameters, and shorthand that means the shape itself."""

import pytest
from pydantic import ValidationError

from flows.recipe_file import read_recipe
from models.config import ModelConfig
from models.parameters import count_parameters, multiplied, training_flops
from models.presets import PRESETS
from tasks.pretrain import PretrainConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    import torch

    from models.transformer import Transformer

    cfg = ModelConfig.model_validate({"preset": name})
    vocabulary = PRESETS[name].vocab_size
    assert count_parameters(cfg, vocabulary).total == PRESETS[name].parameters
    with torch.device("meta"):
        network = Transformer(cfg, vocabulary)
    assert sum(p.numel() for p in network.parameters()) == PRESETS[name].parameters


def test_the_published_numbers_are_those_of_the_papers() -> None:
    published = {
        "gpt2-124m": 124_439_808,
        "gpt2-350m": 354_823_168,
        "gpt2-774m": 774_030_080,
        "gpt2-1.5b": 1_557_611_200,
        "llama-1b": 1_235_814_400,
        "llama-8b": 8_030_261_248,
        "t5-small": 60_506_624,
        # BertModel has a pooler of 768 x 768 in place of the head's dense layer; the head adds a norm and a bias.
        "bert-base": 109_482_240 + 2 * 768 + 30_522,
    }
    assert {name: PRESETS[name].parameters for name in published} == published


def test_a_preset_written_out_is_the_same_model() -> None:
    short = PretrainConfig.model_validate({"preset": "gpt2-124m", "steps": 5000})
    long = PretrainConfig.model_validate(
        {
            "model": {
                "layers": 12, "heads": 12, "width": 768, "ffn_multiple": 4, "activation": "gelu_tanh", "bias": True,
                "norm": "layernorm", "norm_epsilon": 1e-5, "qk_norm": False, "positions": "learned",
                "tied_embeddings": True, "initialisation": "gpt2", "sequence_length": 1024,
            },
            "optimizer": {"kind": "adamw", "learning_rate": 6e-4, "weight_decay": 0.1},
            "schedule": {"kind": "cosine", "warmup_steps": 715, "final_fraction": 0.1},
            "batch": 512,
            "steps": 5000,
        }
    )  # fmt: skip
    assert short == long
    assert short.identity() == long.identity()
    assert "preset" not in short.identity()
    assert PretrainConfig.model_validate(short.model_dump()) == short


def test_keys_beside_a_preset_take_the_place_of_its_own() -> None:
    cfg = PretrainConfig.model_validate(
        {"preset": "llama-tiny", "model": {"layers": 3}, "optimizer": {"kind": "muon"}, "schedule": {"warmup_steps": 7}}
    )
    assert (cfg.model.layers, cfg.model.width, cfg.model.sequence_length) == (3, 288, 256)
    assert cfg.optimizer.kind == "muon"
    assert (cfg.schedule.kind, cfg.schedule.warmup_steps) == ("cosine", 7)
    assert ModelConfig.model_validate({"preset": "llama-8b", "sequence_length": 512}).sequence_length == 512


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValidationError, match=r"did you mean gpt2-124m.*llama-8b.*bert-base.*t5-small"):
        ModelConfig.model_validate({"preset": "gpt2-124M"})
    with pytest.raises(ValidationError, match=r"none called 'phi'.*gpt2-1\.5b"):
        PretrainConfig.model_validate({"preset": "phi"})


def test_a_preset_that_is_set_does_not_leave_the_recipes_own_shape_standing() -> None:
    shape = read_recipe("shakespeare-char", ["pretrain.model.preset=llama-tiny"])["pretrain"]
    assert shape["model"] == {"preset": "llama-tiny"}
    assert shape["optimizer"]["kind"] == "muon"
    whole = read_recipe("shakespeare-char", ["pretrain.steps=9", "pretrain.preset=gpt2-tiny"])["pretrain"]
    assert (whole["preset"], whole["steps"]) == ("gpt2-tiny", 9)
    assert not {"model", "optimizer", "schedule", "batch"} & set(whole)
    assert whole["validate_every"] > 0  # what no preset decides stays


def test_what_a_token_costs_counts_what_it_is_multiplied_with() -> None:
    cfg = ModelConfig(layers=2, heads=2, width=64, ffn_width=128, activation="relu2", sequence_length=32, qk_norm=False)
    blocks = 2 * (4 * 64 * 64 + 2 * 64 * 128)
    assert count_parameters(cfg, 100).total == blocks + 5 * 64 + 2 * 100 * 64
    assert multiplied(cfg, 100) == blocks + 5 * 64 + 100 * 64
    assert training_flops(cfg, 100) == 6 * multiplied(cfg, 100) + 12 * 2 * 64 * 32
