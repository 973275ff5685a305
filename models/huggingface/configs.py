"""A shape as the config.json of transformers, and back."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from infra.errors import UserError
from models.config import ModelConfig
from models.huggingface.special_tokens import SpecialTokens

Json = dict[str, Any]

_ACTIVATIONS: Final = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu2": "relu2"}
_GATES: Final = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}
_SAME_AS: Final = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh"}


_QK_NORM: Final = ("qwen3", "qwen3_moe", "apertus")


def write_config(model_type: str, cfg: ModelConfig, *, vocab_size: int, tokens: SpecialTokens) -> Json:
    """Return what config.json says of the shape and of the special tokens."""
    tied = {"tie_word_embeddings": cfg.tied_embeddings}
    writers: dict[str, Callable[[ModelConfig], Json]] = {"gpt2": _gpt2, "bert": _bert, "t5": _t5}
    config = {"vocab_size": vocab_size, **tokens.ids(cfg.family), **tied, **writers.get(model_type, _llama)(cfg)}
    if model_type in _EXTRA:
        config |= _EXTRA[model_type](cfg)
    if model_type == "eurobert" and tokens.mask is not None:
        config |= {"mask_token_id": tokens.mask}
    return config


def _gpt2(cfg: ModelConfig) -> Json:
    return {
        "n_positions": cfg.resolved_max_positions, "n_ctx": cfg.resolved_max_positions, "n_embd": cfg.width,
        "n_layer": cfg.layers, "n_head": cfg.heads, "n_inner": cfg.resolved_ffn_width,
        "activation_function": _ACTIVATIONS[cfg.activation], "layer_norm_epsilon": cfg.norm_epsilon,
        "resid_pdrop": cfg.dropout, "embd_pdrop": cfg.dropout, "attn_pdrop": cfg.dropout,
    }  # fmt: skip


def _llama(cfg: ModelConfig) -> Json:
    scaling: Json = {"rope_type": "default"}
    if cfg.rope_scaling is not None:
        scaling = {
            "rope_type": "llama3", "factor": cfg.rope_scaling.factor,
            "low_freq_factor": cfg.rope_scaling.low_frequency_factor,
            "high_freq_factor": cfg.rope_scaling.high_frequency_factor,
            "original_max_position_embeddings": cfg.rope_scaling.original_length,
        }  # fmt: skip
    return {
        "hidden_size": cfg.width, "intermediate_size": cfg.resolved_ffn_width, "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads, "num_key_value_heads": cfg.resolved_kv_heads,
        "head_dim": cfg.resolved_head_width, "hidden_act": {**_ACTIVATIONS, **_GATES}[cfg.activation],
        "max_position_embeddings": cfg.sequence_length, "rms_norm_eps": cfg.norm_epsilon,
        # Releases of transformers before 5 read the first two, later ones the third.
        "rope_theta": cfg.rope_base, "rope_scaling": scaling if cfg.rope_scaling is not None else None,
        "rope_parameters": {"rope_theta": cfg.rope_base, **scaling},
    }  # fmt: skip


def _biases(cfg: ModelConfig) -> Json:
    return {"attention_bias": cfg.bias, "mlp_bias": cfg.bias}


def _window(cfg: ModelConfig) -> Json:
    return {"sliding_window": cfg.sliding_window}


def _apertus(cfg: ModelConfig) -> Json:
    xielu = cfg.activation == "relu2"  # which it is with the weights that it is exported with
    return {"attention_bias": False, "hidden_act": "xielu" if xielu else _ACTIVATIONS[cfg.activation]}


def _eurobert(cfg: ModelConfig) -> Json:
    return _biases(cfg) if cfg.gated else {**_biases(cfg), "hidden_act": "relu"}


def _nemotron(cfg: ModelConfig) -> Json:
    rope = {"rope_theta": cfg.rope_base, "rope_type": "default", "partial_rotary_factor": 1.0}
    return {"norm_eps": cfg.norm_epsilon, "partial_rotary_factor": 1.0, "rope_parameters": rope, **_biases(cfg)}


def _qwen3(cfg: ModelConfig) -> Json:
    kinds = ["full_attention" if cfg.window(n) is None else "sliding_attention" for n in range(cfg.layers)]
    sliding = cfg.sliding_window is not None
    return {"attention_bias": False, "use_sliding_window": sliding, **_window(cfg), "layer_types": kinds}


def _experts(cfg: ModelConfig) -> Json:
    assert cfg.moe is not None
    return {
        "num_experts_per_tok": cfg.moe.top_k, "num_local_experts": cfg.moe.experts,
        "router_aux_loss_coef": cfg.moe.balance_weight,
    }  # fmt: skip


def _mixtral(cfg: ModelConfig) -> Json:
    return {**_experts(cfg), **_window(cfg), "intermediate_size": cfg.resolved_expert_width}


def _qwen3_moe(cfg: ModelConfig) -> Json:
    assert cfg.moe is not None
    return {
        **_experts(cfg), "num_experts": cfg.moe.experts, "moe_intermediate_size": cfg.resolved_expert_width,
        "norm_topk_prob": cfg.moe.normalise_top_k, "decoder_sparse_step": cfg.moe.every, "mlp_only_layers": [],
        "attention_bias": False, "use_sliding_window": False, "sliding_window": None,
    }  # fmt: skip


_EXTRA: Final[Mapping[str, Callable[[ModelConfig], Json]]] = {
    "llama": _biases, "arcee": _biases, "nemotron": _nemotron, "mistral": _window, "qwen3": _qwen3,
    "mixtral": _mixtral, "qwen3_moe": _qwen3_moe, "apertus": _apertus, "eurobert": _eurobert,
}  # fmt: skip


def _bert(cfg: ModelConfig) -> Json:
    return {
        "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.resolved_ffn_width, "hidden_act": _ACTIVATIONS[cfg.activation],
        "hidden_dropout_prob": cfg.dropout, "attention_probs_dropout_prob": cfg.dropout,
        "max_position_embeddings": cfg.resolved_max_positions, "type_vocab_size": max(1, cfg.segments),
        "layer_norm_eps": cfg.norm_epsilon,
    }  # fmt: skip


def _t5(cfg: ModelConfig) -> Json:
    kind = {"geglu": "gated-gelu", "swiglu": "gated-silu"}.get(cfg.activation) or _ACTIVATIONS[cfg.activation]
    return {
        "d_model": cfg.width, "d_kv": cfg.resolved_head_width, "d_ff": cfg.resolved_ffn_width,
        "num_layers": cfg.layers, "num_decoder_layers": cfg.resolved_decoder_layers, "num_heads": cfg.heads,
        "relative_attention_num_buckets": cfg.relative_buckets,
        "relative_attention_max_distance": cfg.relative_max_distance, "dropout_rate": cfg.dropout,
        "layer_norm_epsilon": cfg.norm_epsilon, "feed_forward_proj": kind, "is_encoder_decoder": True,
    }  # fmt: skip


def read_config(model_type: str, config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape that a config.json of transformers describes.

    Raises UserError for an option that our network does not have.
    """
    readers: dict[str, Callable[[Mapping[str, Any]], Json]] = {"gpt2": _from_gpt2, "bert": _from_bert, "t5": _from_t5}
    try:
        return ModelConfig.model_validate(readers.get(model_type, _from_llama)(config))
    except KeyError as exc:
        raise UserError(f"its config.json does not say {exc.args[0]}") from exc
    except (AttributeError, TypeError, ValueError) as exc:  # of values of another kind as well
        raise UserError(f"its shape is none that the network has: {' '.join(str(exc).split())}") from exc


def _activation(name: str, table: Mapping[str, str]) -> str:
    found = {theirs: ours for ours, theirs in table.items()} | {k: v for k, v in _SAME_AS.items() if v in table}
    if name not in found:
        raise UserError(f"its config.json has the activation {name!r}; the network has {', '.join(sorted(found))}")
    return found[name]


def _from_gpt2(c: Mapping[str, Any]) -> Json:
    for option, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if c.get(option, usual) is not usual:
            raise UserError(f"its config.json has {option}={c[option]}, which the network does not have")
    return {
        "layers": c["n_layer"], "heads": c["n_head"], "width": c["n_embd"],
        "ffn_width": c.get("n_inner") or 4 * c["n_embd"], "bias": True, "norm": "layernorm", "qk_norm": False,
        "activation": _activation(c.get("activation_function", "gelu_new"), _ACTIVATIONS), "positions": "learned",
        "norm_epsilon": c.get("layer_norm_epsilon", 1e-5), "tied_embeddings": c.get("tie_word_embeddings", True),
        "max_positions": c["n_positions"], "sequence_length": c["n_positions"], "initialisation": "gpt2",
        "dropout": c.get("resid_pdrop", 0.1),
    }  # fmt: skip


def _from_llama(c: Mapping[str, Any]) -> Json:
    kind, act = c["model_type"], c.get("hidden_act", "silu")
    activations = {
        "arcee": _ACTIVATIONS, "nemotron": _ACTIVATIONS, "apertus": {**_ACTIVATIONS, "relu2": "xielu"},
        "eurobert": {**_GATES, "relu2": "relu"},
    }.get(kind, _GATES)  # fmt: skip
    shape = {
        "family": "encoder" if kind == "eurobert" else "decoder",
        "layers": c["num_hidden_layers"], "heads": c["num_attention_heads"], "width": c["hidden_size"],
        "kv_heads": c.get("num_key_value_heads") or c["num_attention_heads"], "head_width": c.get("head_dim"),
        "ffn_width": c["intermediate_size"], "activation": _activation(act, activations),
        "norm": "layernorm" if kind == "nemotron" else "rmsnorm", "qk_norm": kind in _QK_NORM,
        "norm_epsilon": c["norm_eps" if kind == "nemotron" else "rms_norm_eps"], "positions": "rope",
        "tied_embeddings": c.get("tie_word_embeddings", False), "sequence_length": c["max_position_embeddings"],
        "bias": bool(c.get("attention_bias", False)), **_from_rope(c),
    }  # fmt: skip
    if kind in ("llama", "arcee", "nemotron", "eurobert") and bool(c.get("mlp_bias", False)) != shape["bias"]:
        raise UserError(
            "its config.json gives a bias to attention or to the feed-forward layers alone; here all have it"
        )
    if kind in ("qwen3", "qwen3_moe", "mistral", "mixtral", "apertus") and shape["bias"]:
        raise UserError("its config.json has attention_bias=true, and feed-forward layers without; here all have it")
    return shape | _from_window(c) | _from_experts(c)


def _from_rope(c: Mapping[str, Any]) -> Json:
    rope = {**(c.get("rope_scaling") or {}), **(c.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.get(
        "partial_rotary_factor", c.get("partial_rotary_factor", 0.5 if c["model_type"] == "nemotron" else 1.0)
    )
    if partial != 1.0:
        raise UserError(f"its config.json rotates a share of each head (partial_rotary_factor={partial}); here all is")
    out: Json = {"rope_base": rope.get("rope_theta", c.get("rope_theta", 10000.0))}
    if kind == "llama3":
        out["rope_scaling"] = {
            "factor": rope["factor"], "low_frequency_factor": rope["low_freq_factor"],
            "high_frequency_factor": rope["high_freq_factor"],
            "original_length": rope["original_max_position_embeddings"],
        }  # fmt: skip
    elif kind != "default":
        raise UserError(f"its config.json scales rotary positions as {kind!r}; the network has default and llama3")
    return out


def _from_window(c: Mapping[str, Any]) -> Json:
    kind, layers = c["model_type"], c["num_hidden_layers"]
    window = c.get("sliding_window") if c.get("use_sliding_window", not kind.startswith("qwen3")) else None
    if window is None or kind not in ("mistral", "mixtral", "qwen3", "qwen3_moe"):
        return {}
    if kind == "qwen3_moe":
        raise UserError(
            f"its config.json has use_sliding_window=true; of {kind} only attention that reaches all is read"
        )
    # Qwen's first releases say from which layer on attention slides instead of what each layer does.
    whole_layers = min(c.get("max_window_layers", 28), layers) if kind == "qwen3" else 0
    usual = ["full_attention"] * whole_layers + ["sliding_attention"] * (layers - whole_layers)
    kinds = c.get("layer_types") or usual
    whole = [n + 1 for n, kind in enumerate(kinds) if kind == "full_attention"]
    if not whole:
        return {"sliding_window": window}
    if len(whole) == len(kinds):
        return {}
    every = whole[0]
    if every < 2 or whole != list(range(every, len(kinds) + 1, every)):
        raise UserError("its config.json lets other layers than each nth reach everything (layer_types)")
    return {"sliding_window": window, "global_every": every}


def _from_experts(c: Mapping[str, Any]) -> Json:
    if c["model_type"] not in ("mixtral", "qwen3_moe"):
        return {}
    if c.get("mlp_only_layers"):
        raise UserError("its config.json names layers without experts (mlp_only_layers); here each nth has them")
    qwen = c["model_type"] == "qwen3_moe"
    return {
        "moe": {
            "experts": c.get("num_local_experts") or c["num_experts"], "top_k": c["num_experts_per_tok"],
            "every": c.get("decoder_sparse_step", 1) if qwen else 1,
            "expert_width": c["moe_intermediate_size"] if qwen else None,
            "normalise_top_k": c.get("norm_topk_prob", False) if qwen else True,
            "balance_weight": c.get("router_aux_loss_coef", 0.001),
        }
    }  # fmt: skip


def _from_bert(c: Mapping[str, Any]) -> Json:
    return {
        "family": "encoder", "layers": c["num_hidden_layers"], "heads": c["num_attention_heads"],
        "width": c["hidden_size"], "ffn_width": c["intermediate_size"], "bias": True, "norm": "layernorm",
        "norm_epsilon": c.get("layer_norm_eps", 1e-12), "norm_order": "post", "embed_norm": True, "qk_norm": False,
        "activation": _activation(c.get("hidden_act", "gelu"), _ACTIVATIONS), "positions": "learned",
        "max_positions": c["max_position_embeddings"], "sequence_length": c["max_position_embeddings"],
        "segments": c.get("type_vocab_size", 2), "tied_embeddings": c.get("tie_word_embeddings", True),
        "head_transform": True, "dropout": c.get("hidden_dropout_prob", 0.1), "initialisation": "bert",
    }  # fmt: skip


def _from_t5(c: Mapping[str, Any]) -> Json:
    kind = c.get("feed_forward_proj", "relu")
    gates = {"gated-gelu": "geglu", "gated-silu": "swiglu"}
    # Releases from 5 on write that all are tied, and apart from it whether the first version's scale is there.
    tied = c.get("tie_word_embeddings") is not False
    return {
        "family": "encoder_decoder", "layers": c["num_layers"], "decoder_layers": c.get("num_decoder_layers"),
        "heads": c["num_heads"], "head_width": c["d_kv"], "width": c["d_model"], "ffn_width": c["d_ff"],
        "activation": gates.get(kind) or _activation(kind, _ACTIVATIONS), "norm": "rmsnorm", "qk_norm": False,
        "norm_epsilon": c.get("layer_norm_epsilon", 1e-6), "positions": "relative", "attention_scale": 1.0,
        "relative_buckets": c.get("relative_attention_num_buckets", 32),
        "relative_max_distance": c.get("relative_attention_max_distance", 128), "tied_embeddings": tied,
        "scale_head": c.get("scale_decoder_outputs", tied), "dropout": c.get("dropout_rate", 0.1),
        "initialisation": "t5", "sequence_length": c.get("n_positions", 512),
    }  # fmt: skip
