"""One dial in place of twenty: from a depth or a compute budget to shape, batch, rates and horizon, each with its why.

    pretrain: {dial: {depth: 6}}
    pretrain: {dial: {flops: 1.0e17}, model: {activation: relu2}}

A key that the recipe says itself takes the place of the dial's, and what follows from it is derived from the former:
the batch of a wider model, say.  `millrace dial --depth 6` prints what comes of it, and why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from models.config.base import CONFIG
from models.config.shape import ModelConfig
from models.parameters import count_parameters, multiplied, training_flops
from models.presets import expand_model

ASPECT: Final = 64
"""Width a layer (nanochat, scripts/base_train.py: --aspect-ratio)."""
HEAD: Final = 128
"""Width of a head of models that are four of them wide (nanochat: --head-dim)."""
LONGEST: Final = 2048
"""Longest context that the dial chooses, in tokens (nanochat: --max-seq-len)."""
DEEPEST: Final = 200
LEAST: Final = 1e9
"""Smallest budget, in FLOPs: some steps of the smallest shape."""
FITTED: Final = (1e17, 2e19)
"""Compute, in FLOPs, of the runs that DeepSeek LLM's laws for batch and rate were fitted to; beyond, they are
extrapolated (arXiv 2401.02954, section 3.1)."""
CHARACTERS: Final = 256
"""Stands for the size of a vocabulary of characters, which nobody knows before it is made."""


class DialConfig(BaseModel):
    """Exactly one of `depth`, `flops` and `minutes`; the rest of the training follows from it."""

    model_config = CONFIG

    depth: int | None = Field(default=None, ge=1, le=DEEPEST)
    """Transformer blocks; the horizon is then compute-optimal."""
    flops: float | None = Field(default=None, gt=0)
    """Compute budget of the whole training, in floating-point operations."""
    minutes: float | None = Field(default=None, gt=0)
    """Compute budget as time, in minutes, at `flops_per_second`."""
    flops_per_second: float | None = Field(default=None, gt=0)
    """What the machine reaches in training, in floating-point operations a second: `millrace dial --minutes 10`
    measures it. It is written down, because a recipe must mean the same model on every machine."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Tokens of the vocabulary, for counting parameters; by default what `tokenizer` asks for, and 256 for characters,
    whose number nobody knows before the tokenizer is made."""
    tokens_per_parameter: float = Field(default=20.0, gt=0)
    """Training tokens for each parameter that tokens are multiplied with (Chinchilla, arXiv 2203.15556: about 20;
    nanochat: 12; more where the model will be used a lot)."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        chosen = [name for name in ("depth", "flops", "minutes") if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(f"takes one of depth, flops and minutes, not {' and '.join(chosen) or 'none of them'}")
        if (self.minutes is None) != (self.flops_per_second is None):
            raise ValueError("minutes needs flops_per_second, and only minutes does; `millrace dial --minutes` says it")
        if self.budget is not None and self.budget < LEAST:
            raise ValueError(
                f"a budget of {self.budget:.3g} FLOPs is below {LEAST:.0e}, with which no shape learns anything; "
                "write it as in 1.0e+17"
            )
        return self

    @property
    def budget(self) -> float | None:
        """Compute budget in floating-point operations; None where the depth was given."""
        if self.minutes is not None and self.flops_per_second is not None:
            return self.minutes * 60 * self.flops_per_second
        return self.flops


@dataclass(frozen=True)
class Reason:
    """Why one number of a training is what it is."""

    field: str
    value: Any
    why: str

    def __str__(self) -> str:
        return f"{self.field} = {_shown(self.value)}: {self.why}"


class _Derivation:
    """Numbers in the order in which they follow from one another; what the recipe says is taken as it is."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.reasons: list[Reason] = []
        self.values: dict[str, Any] = {}

    def decide(self, field: str, value: Any, why: str) -> Any:
        """Return what `field` becomes: what the recipe gives, else `value`."""
        own: Any = self._given
        for key in field.split("."):
            own = own.get(key) if isinstance(own, Mapping) else None
        if own is not None and not _same(own, value):
            why = f"the recipe says so; the dial would take {_shown(value)} ({why})"
        chosen = value if own is None else own
        self.values[field] = chosen
        self.note(field, chosen, why)
        return chosen

    def note(self, field: str, value: Any, why: str) -> None:
        """Add a number that is no key of the recipe."""
        self.reasons.append(Reason(field, value, why))


def _same(own: Any, value: Any) -> bool:
    if isinstance(own, (int, float)) and isinstance(value, (int, float)):
        return math.isclose(own, value, rel_tol=1e-9)
    return bool(own == value)


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def expand_dial(value: Any) -> Any:
    """Return the raw training in a recipe with what its dial derives put in below its own keys."""
    if not isinstance(value, Mapping) or value.get("dial") is None:
        return value
    dial = _checked(value["dial"])
    if dial.vocab_size is None:
        raise ValueError(
            "dial.vocab_size: say how many tokens the vocabulary will have; parameters are counted with it"
        )
    try:
        derived = _derive(dial, value).values
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        derived = _derive(dial, {}).values  # a key of the recipe is wrong: validation says which, beside these
    out: dict[str, Any] = dict(value)
    out["model"] = expand_model(value.get("model") or {})
    for field, number in derived.items():
        *above, last = field.split(".")
        at = out
        for key in above:
            if not isinstance(at.get(key) or {}, Mapping):
                break
            at[key] = dict(at.get(key) or {})
            at = at[key]
        else:
            if at.get(last) is None:
                at[last] = number
    return out


def _checked(value: Any) -> DialConfig:
    """Return what the key `dial` says; raises ValidationError whose places begin with it."""
    try:
        return DialConfig.model_validate(value)
    except ValidationError as exc:
        found = [
            InitErrorDetails(type=e["type"], loc=("dial", *e["loc"]), input=e["input"], ctx=e.get("ctx", {}))
            for e in exc.errors()
        ]
        raise ValidationError.from_exception_data(exc.title, found) from exc


def reasons(dial: DialConfig, training: Mapping[str, Any]) -> list[Reason]:
    """Return why each number is what it is, in a training that was expanded from the dial."""
    return _derive(dial, training).reasons


def _derive(dial: DialConfig, given: Mapping[str, Any]) -> _Derivation:
    vocabulary = dial.vocab_size or CHARACTERS
    own_model = expand_model(given.get("model") or {})
    made = _Derivation({**given, "model": own_model})
    budget = dial.budget
    if budget is not None:
        where = (
            "the budget" if dial.minutes is None else f"{dial.minutes:g} minutes of {dial.flops_per_second:.3g} FLOP/s"
        )
        made.note("flops", budget, where)
    _shape(made, dial, own_model, vocabulary)
    model = ModelConfig.model_validate({**own_model, **_under(made.values, "model")})
    counted = count_parameters(model, vocabulary)
    effective, each = multiplied(model, vocabulary), training_flops(model, vocabulary)
    made.note("parameters", counted.total, f"with a vocabulary of {vocabulary:,}")
    made.note(
        "multiplied parameters", effective,
        "blocks and head: what a token is multiplied with (nanochat, get_scaling_params: it scales most cleanly)",
    )  # fmt: skip
    ideal = dial.tokens_per_parameter * effective
    tokens = ideal if budget is None else budget / each
    compute = each * tokens
    if budget is None:
        made.note("flops", compute, "tokens times FLOPs a token (6 a parameter, and attention; PaLM, arXiv 2204.02311)")
        why = f"{dial.tokens_per_parameter:g} tokens a multiplied parameter (Chinchilla, arXiv 2203.15556: about 20)"
    else:
        why = f"the budget over {each:.3g} FLOPs a token; {tokens / effective:.3g} tokens a multiplied parameter"
    made.note("tokens", round(tokens), why)
    _training(made, model, tokens, compute)
    return made


def _shape(made: _Derivation, dial: DialConfig, own: Mapping[str, Any], vocabulary: int) -> None:
    budget = dial.budget
    if budget is None:
        depth, why = int(dial.depth or 1), "the dial"
    else:
        depth = _deepest(dial, own, vocabulary)
        why = f"the deepest that sees {dial.tokens_per_parameter:g} tokens a parameter within the budget"
    depth = made.decide("model.layers", depth, why)
    width = made.decide(
        "model.width", _width(depth),
        f"{ASPECT} a layer, from {4 * HEAD} on up to a multiple of {HEAD} (nanochat's aspect ratio and heads)",
    )  # fmt: skip
    heads = max(1, width // own["head_width"]) if own.get("head_width") else width // _head_width(width)
    made.decide(
        "model.heads", heads,
        f"{own.get('head_width') or width // heads} wide each: {HEAD} from width {4 * HEAD} on (nanochat), 64 below "
        "(GPT-2), or as near as divides the width",
    )  # fmt: skip
    length = _length(width)
    made.decide(
        "model.sequence_length", length,
        f"the power of two from twice the width on, where attention costs a third of the matrices; {LONGEST} at most",
    )  # fmt: skip


def _width(depth: int) -> int:
    """Return the width of so many layers; wide ones are cut into heads of one size, and over many ranks, evenly."""
    width = ASPECT * depth
    return width if width < 4 * HEAD else -(-width // HEAD) * HEAD


def _head_width(width: int) -> int:
    """Return what is usual where it divides the width, else its even divisor nearest to 64 (rotary positions turn
    pairs), else all of it."""
    if width >= 4 * HEAD and width % HEAD == 0:
        return HEAD
    if (shared := math.gcd(width, 64)) >= 32:
        return shared
    even = [size for size in range(2, width + 1, 2) if width % size == 0]
    return min(even, key=lambda size: abs(math.log(size / 64)), default=width)


def _length(width: int) -> int:
    return min(LONGEST, 1 << math.ceil(math.log2(2 * width)))


def _deepest(dial: DialConfig, own: Mapping[str, Any], vocabulary: int) -> int:
    """Return the depth whose compute-optimal training just fits the budget, 1 at least."""
    others = {
        k: v for k, v in own.items() if k not in ("layers", "decoder_layers", "width", "heads", "sequence_length")
    }
    for depth in range(2, DEEPEST + 1):
        width = _width(depth)
        shape = {
            "layers": depth,
            "width": width,
            "heads": width // _head_width(width),
            "sequence_length": _length(width),
        }
        model = ModelConfig.model_validate({**others, "kv_heads": None, "max_positions": None, **shape})
        optimal = training_flops(model, vocabulary) * dial.tokens_per_parameter * multiplied(model, vocabulary)
        if optimal > (dial.budget or 0.0):
            return depth - 1
    return DEEPEST


def _training(made: _Derivation, model: ModelConfig, tokens: float, compute: float) -> None:
    """Derive batch, horizon, rates and schedule."""
    beyond = "" if FITTED[0] <= compute <= FITTED[1] else "; fitted from {:.0e} to {:.0e} FLOPs".format(*FITTED)
    ideal = 0.2920 * compute**0.3271
    sequences = 2 ** max(0, round(math.log2(ideal / model.sequence_length)))
    batch = made.decide(
        "batch", sequences,
        f"near {ideal:,.0f} tokens, 0.2920 C^0.3271 (DeepSeek LLM, arXiv 2401.02954, section 3.1{beyond}), as a power "
        "of two",
    )  # fmt: skip
    steps = made.decide(
        "steps", max(2, round(tokens / (batch * model.sequence_length))), "the tokens over those of a step"
    )
    rate = float(f"{0.3118 * compute**-0.1250:.3g}")
    law = f"0.3118 C^-0.1250 (DeepSeek LLM, arXiv 2401.02954, section 3.1{beyond})"
    kind = made.decide("optimizer.kind", "muon", "in less compute than AdamW at the same loss (arXiv 2502.16982)")
    if kind == "muon":
        made.decide(
            "optimizer.learning_rate", 0.02,
            "an update's spectral norm is the rate, whatever the width (arXiv 2310.17813; nanochat: 0.02)",
        )  # fmt: skip
        made.decide("optimizer.adamw_learning_rate", rate, f"for embeddings, head and vectors {law}")
    elif kind == "adamw":
        made.decide("optimizer.learning_rate", rate, law)
    schedule = made.decide("schedule.kind", "wsd", "warm-up, stable, decay: the horizon can be prolonged")
    made.decide("schedule.warmup_steps", min(40, steps // 10), "nanochat's 40, of short runs a tenth")
    if schedule == "wsd":
        made.decide("schedule.decay_fraction", 0.65, "nanochat's --warmdown-ratio")
        made.decide("schedule.final_fraction", 0.05, "nanochat's --final-lr-frac")


def _under(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    return {k.removeprefix(f"{section}."): v for k, v in values.items() if k.startswith(f"{section}.")}
