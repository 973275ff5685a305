"""Which architectures of transformers compute which of our shapes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.errors import UserError
from models.config import ModelConfig

Takes = Mapping[str, tuple[Any, ...]]
"""Values of an option that an architecture has; options that are not named may be anything."""


@dataclass(frozen=True)
class Architecture:
    """One architecture of transformers: its `model_type`, its class with the head, and the shapes that it computes."""

    model_type: str
    model_class: str
    takes: Takes

    def obstacles(self, cfg: ModelConfig) -> list[str]:
        """Return what of a shape this architecture does not compute, as `option=value (here …)`."""
        found = []
        for option, value in options(cfg).items():
            if option in self.takes and value not in self.takes[option]:
                has = " or ".join(_written(each) for each in self.takes[option])
                found.append(f"{option}={_written(value)} (there {has})")
        return found


def options(cfg: ModelConfig) -> dict[str, Any]:
    """Return the switches of a shape, null where they say what is the case anyway."""
    scale = cfg.attention_scale
    usual = scale is None or math.isclose(scale, cfg.resolved_head_width**-0.5)
    found: dict[str, Any] = {
        name: getattr(cfg, name)
        for name in (
            "family", "norm", "norm_order", "embed_norm", "qk_norm", "positions", "activation", "sliding_window",
            "global_every", "attention_softcap", "logit_softcap", "scale_head", "head_transform", "tied_embeddings",
        )
    }  # fmt: skip
    found |= {
        "kv_heads": None if cfg.resolved_kv_heads == cfg.heads else cfg.kv_heads,
        "head_width": None if cfg.resolved_head_width * cfg.heads == cfg.width else cfg.resolved_head_width,
        "attention_scale": None if usual else scale,
        "width": "uneven" if cfg.width % cfg.heads else None,
        "bias": cfg.bias,
        "segments": cfg.segments > 0,
        "moe": "experts" if cfg.moe is not None else None,
    }
    if cfg.moe is not None:
        found |= {
            "moe.every": cfg.moe.every,
            "moe.shared_experts": cfg.moe.shared_experts,
            "moe.normalise_top_k": cfg.moe.normalise_top_k,
        }
    return found


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_UNGATED: Final = ("gelu_tanh", "gelu", "relu", "relu2")

_PRE: Final[Takes] = {
    "family": ("decoder",), "norm_order": ("pre",), "embed_norm": (False,), "qk_norm": (False,),
    "attention_softcap": (None,), "logit_softcap": (None,), "attention_scale": (None,), "scale_head": (False,),
    "head_transform": (False,), "segments": (False,), "moe": (None,), "sliding_window": (None,),
    "global_every": (None,), "width": (None,),
}  # fmt: skip

_LLAMA: Final[Takes] = {**_PRE, "norm": ("rmsnorm",), "positions": ("rope",), "activation": ("swiglu", "geglu")}


def _but(takes: Takes, *, free: tuple[str, ...] = (), **other: tuple[Any, ...]) -> Takes:
    return {option: values for option, values in {**takes, **other}.items() if option not in free}


ARCHITECTURES: Final = (
    Architecture(
        "gpt2", "GPT2LMHeadModel",
        _but(_PRE, norm=("layernorm",), positions=("learned",), activation=_UNGATED, kv_heads=(None,),
             head_width=(None,)),
    ),
    Architecture("llama", "LlamaForCausalLM", _LLAMA),
    Architecture("mistral", "MistralForCausalLM", _but(_LLAMA, free=("sliding_window",), bias=(False,))),
    Architecture(
        "qwen3", "Qwen3ForCausalLM",
        _but(_LLAMA, free=("sliding_window", "global_every"), qk_norm=(True,), bias=(False,)),
    ),
    Architecture("apertus", "ApertusForCausalLM", _but(_LLAMA, activation=_UNGATED, qk_norm=(True,), bias=(False,))),
    Architecture("arcee", "ArceeForCausalLM", _but(_LLAMA, activation=_UNGATED)),
    Architecture("nemotron", "NemotronForCausalLM", _but(_LLAMA, norm=("layernorm",), activation=_UNGATED)),
    Architecture(
        "mixtral", "MixtralForCausalLM",
        {**_but(_LLAMA, free=("sliding_window",), moe=("experts",), bias=(False,)),
         "moe.every": (1,), "moe.shared_experts": (0,), "moe.normalise_top_k": (True,)},
    ),
    Architecture(
        "qwen3_moe", "Qwen3MoeForCausalLM",
        {**_but(_LLAMA, moe=("experts",), qk_norm=(True,), bias=(False,)), "moe.shared_experts": (0,)},
    ),
    Architecture(
        "bert", "BertForMaskedLM",
        _but(_PRE, free=("segments",), family=("encoder",), norm=("layernorm",), norm_order=("post",),
             embed_norm=(True,), positions=("learned",), activation=_UNGATED, head_transform=(True,), kv_heads=(None,),
             head_width=(None,)),
    ),
    Architecture(
        "eurobert", "EuroBertForMaskedLM",
        _but(_LLAMA, family=("encoder",), activation=("swiglu", "geglu", "relu2"), bias=(False,)),
    ),
    Architecture(
        "t5", "T5ForConditionalGeneration",
        _but(_PRE, free=("scale_head", "width", "attention_scale"), family=("encoder_decoder",), norm=("rmsnorm",),
             positions=("relative",), activation=("relu", "gelu", "gelu_tanh", "relu2", "geglu", "swiglu"),
             bias=(False,), kv_heads=(None,)),
    ),
)  # fmt: skip
"""All that are known, the more general one first where two compute the same."""


def named(model_type: str) -> Architecture:
    """Return the architecture with this `model_type`; raises UserError that lists those that are known."""
    for each in ARCHITECTURES:
        if each.model_type == model_type:
            return each
    known = ", ".join(each.model_type for each in ARCHITECTURES)
    raise UserError(f"its config.json says model_type={model_type!r}, which is none of {known}")


def architecture_for(cfg: ModelConfig) -> Architecture:
    """Return the architecture that computes this shape.

    Raises UserError that names the nearest ones, the options in their way, and what these would have to be.
    """
    tried = [(each.obstacles(cfg), each) for each in ARCHITECTURES]
    fewest = min(len(obstacles) for obstacles, _ in tried)
    if not fewest:
        return next(each for obstacles, each in tried if not obstacles)
    nearest = [f"{each.model_type} but for {', '.join(found)}" for found, each in tried if len(found) == fewest]
    raise UserError(
        f"no architecture of Hugging Face transformers computes this model; nearest: {'; '.join(nearest[:3])}"
    )
