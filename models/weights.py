"""Weights of an artifact, put into a network."""

from pathlib import Path

from safetensors.torch import load_file

from models.transformer import Transformer


def load_weights(network: Transformer, path: Path) -> None:
    """Put the weights of a model.safetensors into a network of its shape; a tied head is not among them."""
    weights = load_file(path)
    if network.cfg.tied_embeddings:
        weights["lm_head.weight"] = weights["embed.weight"]
    network.load_state_dict(weights)
