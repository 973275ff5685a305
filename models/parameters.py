"""How many parameters a shape has, and what training on a token costs: from the numbers alone, no network is built."""

from dataclasses import dataclass
from typing import Any

from models.config import ModelConfig


@dataclass(frozen=True)
class Parameters:
    """The parameters of a network by what they are for; `total` is what `Transformer.parameters()` has."""

    embedding: int
    """Tables: of tokens, of positions, of segments, of relative distances, and the norm of their sum."""
    blocks: int
    """All blocks of all stacks, and the norms after them."""
    head: int
    """The output head; without its matrix where that is the embedding's."""
    idle: int
    """Those of experts that a token does not go through."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.blocks + self.head


def count_parameters(cfg: ModelConfig, vocab_size: int) -> Parameters:
    """Return how many parameters the network of this shape has with a vocabulary of that size."""
    stacks = 2 if cfg.family == "encoder_decoder" else 1
    embedding = vocab_size * cfg.width + cfg.segments * cfg.width + cfg.embed_norm * _norm(cfg)
    if cfg.positions == "learned":
        embedding += cfg.resolved_max_positions * cfg.width
    if cfg.positions == "relative":
        embedding += stacks * cfg.relative_buckets * cfg.heads
    blocks = sum(_attention(cfg) + _feed_forward(cfg, layer) + 2 * _norm(cfg) for layer in range(cfg.layers))
    if cfg.family == "encoder_decoder":
        layers = range(cfg.resolved_decoder_layers)
        blocks += sum(2 * _attention(cfg) + _feed_forward(cfg, layer) + 3 * _norm(cfg) for layer in layers)
    if cfg.norm_order == "pre":
        blocks += stacks * _norm(cfg)
    head = 0 if cfg.tied_embeddings else vocab_size * cfg.width
    if cfg.head_transform:
        head += cfg.width * cfg.width + cfg.width + _norm(cfg) + vocab_size
    return Parameters(embedding, blocks, head, _idle(cfg))


def weights_of(cfg: ModelConfig) -> dict[str, Any]:
    """Return what of a shape its weights were trained for: two models of which it is the same can share them."""
    free = {"dropout", "initialisation", "sequence_length", "ffn_multiple", "rope_scaling"}
    found = cfg.model_dump(exclude=free)
    for name in ("kv_heads", "head_width", "ffn_width"):
        found[name] = getattr(cfg, f"resolved_{name}")
    found["decoder_layers"] = cfg.resolved_decoder_layers if cfg.family == "encoder_decoder" else None
    found["max_positions"] = cfg.resolved_max_positions if cfg.positions == "learned" else None
    if cfg.moe is not None:
        found["moe"] |= {"balance_weight": None, "router_z_weight": None, "expert_width": cfg.resolved_expert_width}
    return found


def multiplied(cfg: ModelConfig, vocab_size: int) -> int:
    """Return how many parameters a token is multiplied with: no table, no idle expert, but the head, tied or not."""
    counted = count_parameters(cfg, vocab_size)
    return counted.blocks - counted.idle + counted.head + cfg.tied_embeddings * vocab_size * cfg.width


def training_flops(cfg: ModelConfig, vocab_size: int) -> float:
    """Return the FLOPs of training on one token (PaLM, arXiv 2204.02311, appendix B).

    6 a parameter that it is multiplied with, and 12 a layer, channel and position that attention reaches.
    """
    stack = range(cfg.layers + (2 * cfg.resolved_decoder_layers if cfg.family == "encoder_decoder" else 0))
    channels = cfg.heads * cfg.resolved_head_width
    reached = sum(min(cfg.window(layer) or cfg.sequence_length, cfg.sequence_length) for layer in stack)
    return 6.0 * multiplied(cfg, vocab_size) + 12.0 * channels * reached


def _norm(cfg: ModelConfig) -> int:
    return cfg.width * (2 if cfg.norm == "layernorm" else 1)


def _linear(cfg: ModelConfig, inputs: int, outputs: int) -> int:
    return inputs * outputs + cfg.bias * outputs


def _attention(cfg: ModelConfig) -> int:
    queries = cfg.heads * cfg.resolved_head_width
    keys = cfg.resolved_kv_heads * cfg.resolved_head_width
    norms = 2 * cfg.resolved_head_width if cfg.qk_norm else 0
    return (
        _linear(cfg, cfg.width, queries) + 2 * _linear(cfg, cfg.width, keys) + _linear(cfg, queries, cfg.width) + norms
    )


def _dense(cfg: ModelConfig, hidden: int) -> int:
    ups = 2 if cfg.gated else 1
    return ups * _linear(cfg, cfg.width, hidden) + _linear(cfg, hidden, cfg.width)


def _feed_forward(cfg: ModelConfig, layer: int) -> int:
    if cfg.moe is None or not cfg.has_experts(layer):
        return _dense(cfg, cfg.resolved_ffn_width)
    shared = cfg.moe.shared_experts * cfg.resolved_expert_width
    experts = cfg.moe.experts * _dense(cfg, cfg.resolved_expert_width)
    return cfg.width * cfg.moe.experts + experts + (_dense(cfg, shared) if shared else 0)


def _idle(cfg: ModelConfig) -> int:
    if cfg.moe is None:
        return 0
    layers = [*range(cfg.layers)]
    if cfg.family == "encoder_decoder":
        layers += range(cfg.resolved_decoder_layers)
    routed = sum(cfg.has_experts(layer) for layer in layers)
    return routed * (cfg.moe.experts - cfg.moe.top_k) * _dense(cfg, cfg.resolved_expert_width)
