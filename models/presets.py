"""Shapes that were published, by name, each number from its source; and the training that was published with them.

    pretrain: {preset: gpt2-124m, steps: 5000}                        shape and training
    pretrain: {model: {preset: gpt2-124m, sequence_length: 512}, …}   the shape alone

A key that stands beside `preset` takes the place of the preset's, and a preset that is written out is the same model.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models.config.base import merged
from models.config.shape import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A shape with its source, the vocabulary that it was published with, and the training, where that is known."""

    model: Mapping[str, Any]
    vocab_size: int
    parameters: int
    """As published for that vocabulary, unless `source` says otherwise."""
    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


def _adamw(rate: float, *, beta2: float = 0.95, epsilon: float = 1e-8, decay: float = 0.1) -> dict[str, Any]:
    return {"kind": "adamw", "learning_rate": rate, "betas": [0.9, beta2], "epsilon": epsilon, "weight_decay": decay}


def _training(
    optimizer: Mapping[str, Any],
    *,
    kind: str = "cosine",
    warmup: int,
    final: float | None = None,
    batch: int,
    steps: int,
    objective: str | None = None,
) -> dict[str, Any]:
    """Return a training with its schedule, and gradients clipped to norm 1."""
    ends = {} if final is None else {"final_fraction": final}
    return {
        **({} if objective is None else {"objective": {"kind": objective}}),
        "optimizer": optimizer,
        "schedule": {"kind": kind, "warmup_steps": warmup, **ends},
        "batch": batch,
        "steps": steps,
        "gradient_clipping": 1.0,
    }


def _gpt2(layers: int, width: int, heads: int, parameters: int, rate: float, batch: int) -> Preset:
    """Return a size of GPT-2 with the training of GPT-3's model of that size: GPT-2's own was not published."""
    return Preset(
        model={
            "family": "decoder", "layers": layers, "heads": heads, "width": width, "ffn_multiple": 4,
            "activation": "gelu_tanh", "bias": True, "norm": "layernorm", "norm_epsilon": 1e-5, "qk_norm": False,
            "positions": "learned", "tied_embeddings": True, "initialisation": "gpt2", "sequence_length": 1024,
        },
        vocab_size=50257,
        parameters=parameters,
        source="shape: GPT-2 (Radford et al. 2019, Table 2; config.json of openai-community/gpt2*); training: GPT-3 "
        "(arXiv 2005.14165, Table 2.1 and appendix B: 300 G tokens, warm-up over 375 M, cosine to 10 % by 260 G)",
        training=_training(
            _adamw(rate), warmup=round(375e6 / (batch * 1024)), final=0.1, batch=batch,
            steps=round(300e9 / (batch * 1024)),
        ),
    )  # fmt: skip


def _llama3(*, source: str, training: Mapping[str, Any], parameters: int, **shape: Any) -> Preset:
    return Preset(
        model={
            "family": "decoder", "kv_heads": 8, "heads": 32, "activation": "swiglu", "norm": "rmsnorm",
            "norm_epsilon": 1e-5, "qk_norm": False, "positions": "rope", "rope_base": 500000.0,
            "sequence_length": 8192, **shape,
        },
        vocab_size=128256,
        parameters=parameters,
        source=source,
        training=training,
    )  # fmt: skip


_BERT: Final = {
    "family": "encoder", "ffn_multiple": 4, "activation": "gelu", "bias": True, "norm": "layernorm",
    "norm_epsilon": 1e-12, "norm_order": "post", "embed_norm": True, "qk_norm": False, "positions": "learned",
    "segments": 2, "tied_embeddings": True, "head_transform": True, "dropout": 0.1, "initialisation": "bert",
    "max_positions": 512, "sequence_length": 512,
}  # fmt: skip

_T5: Final = {
    "family": "encoder_decoder", "head_width": 64, "activation": "relu", "norm": "rmsnorm", "norm_epsilon": 1e-6,
    "qk_norm": False, "positions": "relative", "relative_buckets": 32, "relative_max_distance": 128,
    "attention_scale": 1.0, "tied_embeddings": True, "scale_head": True, "dropout": 0.1, "initialisation": "t5",
    "sequence_length": 512,
}  # fmt: skip

DECIDED: Final = (
    "preset",
    "dial",
    "model",
    "optimizer",
    "schedule",
    "batch",
    "steps",
    "gradient_clipping",
    "objective",
)
"""Keys of a training that a preset or a dial may decide."""

SIZES: Final = (
    "preset",
    "layers",
    "decoder_layers",
    "heads",
    "kv_heads",
    "head_width",
    "width",
    "ffn_width",
    "sequence_length",
    "max_positions",
    "sliding_window",
    "global_every",
    "rope_scaling",
)
"""Keys of a shape that follow from how large it is, or name one that was published."""

PRESETS: Final[Mapping[str, Preset]] = {
    "gpt2-124m": _gpt2(12, 768, 12, 124_439_808, 6e-4, 512),
    "gpt2-350m": _gpt2(24, 1024, 16, 354_823_168, 3e-4, 512),
    "gpt2-774m": _gpt2(36, 1280, 20, 774_030_080, 2.5e-4, 512),
    "gpt2-1.5b": _gpt2(48, 1600, 25, 1_557_611_200, 2e-4, 1024),
    "llama-1b": _llama3(
        layers=16, width=2048, ffn_width=8192, tied_embeddings=True,
        rope_scaling={"factor": 32.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0,
                      "original_length": 8192},
        parameters=1_235_814_400,
        source="shape: Llama 3.2 1B (config.json of meta-llama/Llama-3.2-1B); training: TinyLlama 1.1B (arXiv "
        "2401.02385, section 2.2: 2 M tokens a step, 3 T tokens), as Llama 3.2's is not published",
        training=_training(_adamw(4e-4), warmup=2000, final=0.1, batch=256, steps=round(3e12 / (256 * 8192))),
    ),
    "llama-8b": _llama3(
        layers=32, width=4096, ffn_width=14336, tied_embeddings=False,
        parameters=8_030_261_248,
        source="shape: Llama 3 8B (arXiv 2407.21783, Table 3; config.json of meta-llama/Meta-Llama-3-8B); training: "
        "the same paper (Table 3: peak 3e-4; 15 T tokens; what section 3.4.1 says of the 405B: 8,000 steps of warm-up, "
        "cosine to 1 %, 4 M tokens a step at first)",
        training=_training(_adamw(3e-4), warmup=8000, final=0.01, batch=512, steps=round(15e12 / (512 * 8192))),
    ),
    "bert-base": Preset(
        model={**_BERT, "layers": 12, "width": 768, "heads": 12},
        vocab_size=30522,
        parameters=109_514_298,
        source="shape: BERT base uncased (arXiv 1810.04805, section 3; config.json of google-bert/bert-base-uncased; "
        "parameters of BertForMaskedLM, the 109,482,240 of BertModel have a pooler in place of its head); training: "
        "the same paper, appendix A.2, and optimization.py of google-research/bert",
        training=_training(
            _adamw(1e-4, beta2=0.999, epsilon=1e-6, decay=0.01), kind="linear", warmup=10_000, batch=256,
            steps=1_000_000, objective="masked",
        ),
    ),
    "t5-small": Preset(
        model={**_T5, "layers": 6, "width": 512, "heads": 8, "ffn_width": 2048},
        vocab_size=32128,
        parameters=60_506_624,
        source="shape: T5 v1.0 small (arXiv 1910.10683, section 3.7; config.json of google-t5/t5-small); training: the "
        "same paper, section 3.1.2 (Adafactor, 1 over the root of the step after 10,000 steps, 128 sequences a step, "
        "2^19 steps)",
        training={
            "objective": {"kind": "denoising"},
            "optimizer": {"kind": "adafactor", "learning_rate": 1e-2},
            "schedule": {"kind": "inverse_sqrt", "warmup_steps": 10_000},
            "batch": 128,
            "steps": 2**19,
        },
    ),
    "gpt2-tiny": Preset(
        model={
            **_gpt2(4, 128, 4, 0, 1e-3, 12).model, "activation": "gelu", "bias": False, "sequence_length": 64,
        },
        vocab_size=65,
        parameters=805_248,
        source="nanoGPT's configuration for a CPU (README.md and config/train_shakespeare_char.py of karpathy/nanoGPT: "
        "12 sequences of 64 characters a step, 2,000 steps)",
        training=_training(_adamw(1e-3, beta2=0.99), warmup=100, final=0.1, batch=12, steps=2000),
    ),
    "llama-tiny": Preset(
        model={
            "family": "decoder", "layers": 6, "heads": 6, "width": 288, "ffn_width": 768, "activation": "swiglu",
            "norm": "rmsnorm", "norm_epsilon": 1e-5, "qk_norm": False, "positions": "rope", "tied_embeddings": True,
            "sequence_length": 256,
        },
        vocab_size=32000,
        parameters=15_191_712,
        source="shape: stories15M (README.md of karpathy/llama2.c: a Llama of 15 M parameters); training: the rates of "
        "its train.py, with the batch and the steps of some minutes on a CPU",
        training=_training(_adamw(5e-4), warmup=100, final=0.0, batch=16, steps=1000),
    ),
    "bert-tiny": Preset(
        model={**_BERT, "layers": 2, "width": 128, "heads": 2, "sequence_length": 128},
        vocab_size=30522,
        parameters=4_416_698,
        source="shape: BERT tiny (arXiv 1908.08962, Table 1; config.json of google/bert_uncased_L-2_H-128_A-2); "
        "training: that of some minutes on a CPU",
        training=_training(
            _adamw(1e-3, beta2=0.999, epsilon=1e-6, decay=0.01), kind="linear", warmup=100, batch=32, steps=2000,
            objective="masked",
        ),
    ),
    "t5-tiny": Preset(
        model={**_T5, "layers": 4, "width": 256, "heads": 4, "ffn_width": 1024, "sequence_length": 128},
        vocab_size=32128,
        parameters=15_570_688,
        source="shape: T5 efficient tiny (arXiv 2109.10686, Table 2; config.json of google/t5-efficient-tiny); "
        "training: that of some minutes on a CPU",
        training=_training(
            _adamw(1e-3, decay=0.0), kind="linear", warmup=100, batch=32, steps=2000, objective="denoising"
        ),
    ),
}  # fmt: skip


_WIDTHS: Final = ("ffn_width", "ffn_multiple")
_OF_POSITIONS: Final = ("rope_base", "rope_scaling", "max_positions", "relative_buckets", "relative_max_distance")


def preset(name: object) -> Preset:
    """Return the preset of that name; raises ValueError that lists the names."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    close = difflib.get_close_matches(str(name), PRESETS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"preset: there is none called {name!r}; {hint}there is {', '.join(PRESETS)}")


def gives_way(base: Any, over: Any) -> Any:
    """Return the raw training in a recipe without what `over`, which is put over it, decides by a preset or a dial.

    So a recipe that extends another one, and `--set`, may choose a preset: what the other one says by hand of the
    shape, or of shape and training, does not stand against it.  With a dial, which knows sizes alone, an encoder or an
    encoder-decoder stays one.
    """
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return base
    if any(over.get(name) is not None for name in ("preset", "dial")):
        kept = {key: value for key, value in base.items() if key not in DECIDED}
        return kept if over.get("preset") is not None else {**kept, **_unsized(base)}
    model = over.get("model")
    if isinstance(model, Mapping) and model.get("preset") is not None:
        return {key: value for key, value in base.items() if key != "model"}
    return base


def _unsized(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what no dial decides of the raw training of an encoder or an encoder-decoder: its objective, and of its
    shape what is no size."""
    whole = PRESETS.get(str(training.get("preset")))
    model, objective = training.get("model") or {}, training.get("objective")
    if not isinstance(model, Mapping):
        return {}
    shape = PRESETS.get(str(model.get("preset"))) or whole
    model = {**(shape.model if shape is not None else {}), **model}
    if model.get("family", "decoder") == "decoder":
        return {}
    objective = objective or (whole.training.get("objective") if whole is not None else None)
    kept = {"model": {key: value for key, value in model.items() if key not in SIZES}}
    return kept if objective is None else {**kept, "objective": objective}


def expand_model(value: Any) -> Any:
    """Return the raw shape in a recipe with the preset that it names put in below its own keys."""
    if not isinstance(value, Mapping) or value.get("preset") is None:
        return value
    own = {key: v for key, v in value.items() if key != "preset"}
    return merged(_under(preset(value["preset"]), own), own)


def _under(chosen: Preset, own: Any) -> dict[str, Any]:
    """Return the preset's shape without what a recipe's own keys leave without a meaning.

    These are its width of the feed-forward layer beside another, said either way, and what belongs to other positions.
    """
    if not isinstance(own, Mapping):
        return dict(chosen.model)
    idle: tuple[str, ...] = ()
    if any(own.get(way) is not None for way in _WIDTHS):
        idle += _WIDTHS
    if own.get("positions", _positions(chosen.model)) != _positions(chosen.model):
        idle += _OF_POSITIONS
    return {key: value for key, value in chosen.model.items() if key not in idle}


def _positions(model: Mapping[str, Any]) -> Any:
    return model.get("positions", ModelConfig.model_fields["positions"].default)


def expand_training(value: Any) -> Any:
    """Return the raw training in a recipe with the preset that it names put in below its own keys.

    Beside a dial the preset gives the shape and the objective alone.
    """
    if not isinstance(value, Mapping) or value.get("preset") is None:
        return value
    chosen = preset(value["preset"])
    own = {key: v for key, v in value.items() if key != "preset"}
    training = chosen.training
    if own.get("dial") is not None:
        training = {key: entry for key, entry in training.items() if key == "objective"}
    return merged(gives_way({**training, "model": _under(chosen, own.get("model"))}, {"model": own.get("model")}), own)
