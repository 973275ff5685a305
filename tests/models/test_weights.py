"""First weights: one after the other they are those of the whole network, and nothing else takes memory meanwhile."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.config import ModelConfig
from models.transformer import Transformer
from models.weights import first_weights, hollow_network, load_weights

SMALL: dict[str, Any] = {"layers": 2, "heads": 2, "width": 32, "sequence_length": 16}
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "tied": {"tied_embeddings": True, "moe": {"experts": 3, "top_k": 2, "shared_experts": 1}},
    "gpt2": {"norm": "layernorm", "bias": True, "positions": "learned", "initialisation": "gpt2"},
    "bert": {"preset": "bert-tiny"},
    "t5": {"preset": "t5-tiny"},
    "relative": {"positions": "relative"},
}


def shape(name: str) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL, **SHAPES[name]})


def taken(cfg: ModelConfig, path: Path | None = None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return a network's first weights, taken one by one, and where they leave the generator."""
    torch.manual_seed(3)
    network = hollow_network(cfg, 50)
    held = {name: p.detach() for name, p in network.named_parameters()}
    assert sum(p.untyped_storage().nbytes() for p in held.values() if p.ndim > 1) < 5 * len(held)
    assert all(held[name].shape == whole.shape for name, whole in Transformer(cfg, 50, drawn=False).named_parameters())
    torch.manual_seed(3)
    network = hollow_network(cfg, 50)
    found = {name: whole.clone() for name, whole in first_weights(network, path)}
    return held | found, torch.get_rng_state()


@pytest.mark.parametrize("name", SHAPES)
def test_weights_drawn_one_by_one_are_those_of_the_whole_network(name: str, tmp_path: Path) -> None:
    cfg = shape(name)
    torch.manual_seed(3)
    whole = dict(Transformer(cfg, 50).named_parameters())
    state = torch.get_rng_state()
    found, after = taken(cfg)
    assert all(torch.equal(found[key], whole[key]) for key in whole)
    assert found.keys() == whole.keys()
    assert torch.equal(after, state)
    save_file({key: p.detach() + 1 for key, p in whole.items()}, tmp_path / "model.safetensors")
    read, _ = taken(cfg, tmp_path / "model.safetensors")
    assert all(torch.equal(read[key], whole[key] + 1) for key in whole)
    network = Transformer(cfg, 50)
    load_weights(network, tmp_path / "model.safetensors")
    assert all(torch.equal(p, whole[key] + 1) for key, p in network.named_parameters())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    network = Transformer(shape("default"), 50)
    weights = {name: p.detach() for name, p in network.named_parameters()}
    path = tmp_path / "model.safetensors"
    save_file({name: w for name, w in weights.items() if name != "norm.weight"}, path)
    with pytest.raises(ValueError, match=r"other weights than the network: norm\.weight"):
        load_weights(network, path)
    save_file({**weights, "norm.weight": torch.ones(7)}, path)
    with pytest.raises(ValueError, match=r"norm\.weight is \(7,\), not \(32,\)"):
        load_weights(network, path)
