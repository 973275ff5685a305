"""Names and layouts of the weights: ours as those of transformers' checkpoints, and back.

Rotary heads need no permutation: both sides rotate the pairs (i, i + K/2).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from infra.errors import UserError
from models.config import ModelConfig


@dataclass(frozen=True)
class Slot:
    """One tensor of theirs, and those of ours that it is made of."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    """Theirs is (inputs, outputs), as in GPT-2's Conv1D."""
    less_one: bool = False
    """Theirs is a scale less one, as in Nemotron's norm."""
    factor: float = 1.0
    """Theirs is so many times ours."""

    def pack(self, ours: Mapping[str, Tensor]) -> Tensor:
        """Return their tensor; a bias that ours has not is zero."""
        whole = torch.cat([ours[name] if name in ours else _no_bias(name, ours) for name in self.ours])
        whole = whole.T.contiguous() if self.transposed else whole
        whole = whole if self.factor == 1 else whole * self.factor
        return whole - 1 if self.less_one else whole

    def unpack(self, theirs: Tensor) -> dict[str, Tensor]:
        """Return our tensors."""
        whole = theirs.T if self.transposed else theirs
        whole = whole + 1 if self.less_one else whole
        whole = whole if self.factor == 1 else whole / self.factor
        parts = torch.chunk(whole, len(self.ours))
        return {name: part.contiguous().clone() for name, part in zip(self.ours, parts, strict=True)}


@dataclass(frozen=True)
class Constant:
    """One tensor of theirs that is the same in every model of ours."""

    theirs: str
    value: float
    shape: tuple[int, ...]

    def pack(self, ours: Mapping[str, Tensor]) -> Tensor:
        """Return their tensor."""
        return torch.full(self.shape, self.value)

    def unpack(self, theirs: Tensor) -> dict[str, Tensor]:
        """Return none of ours; raises UserError where theirs is another."""
        if theirs.shape != self.shape or not torch.allclose(theirs, self.pack({})):
            raise UserError(
                f"its {self.theirs} is {theirs.flatten()[:3].tolist()}, and the network computes {self.value:g} alone"
            )
        return {}


def _no_bias(name: str, ours: Mapping[str, Tensor]) -> Tensor:
    return torch.zeros(len(ours[f"{name.removesuffix('bias')}weight"]))


def _linear(theirs: str, ours: str, bias: bool) -> Iterator[Slot | Constant]:
    yield Slot(f"{theirs}.weight", (f"{ours}.weight",))
    if bias:
        yield Slot(f"{theirs}.bias", (f"{ours}.bias",))


def _llama(model_type: str, cfg: ModelConfig) -> Iterator[Slot | Constant]:
    less_one = model_type == "nemotron"
    before, between = ("attention", "feedforward") if model_type == "apertus" else ("input", "post_attention")

    def norm(theirs: str, ours: str) -> Iterator[Slot | Constant]:
        yield Slot(f"{theirs}.weight", (f"{ours}.weight",), less_one=less_one)
        if cfg.norm == "layernorm":
            yield Slot(f"{theirs}.bias", (f"{ours}.bias",))

    yield Slot("model.embed_tokens.weight", ("embed.weight",))
    for n in range(cfg.layers):
        theirs, ours = f"model.layers.{n}", f"blocks.{n}"
        yield from norm(f"{theirs}.{before}_layernorm", f"{ours}.attention_norm")
        for short, name in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            yield from _linear(f"{theirs}.self_attn.{short}_proj", f"{ours}.attention.{name}", cfg.bias)
        if cfg.qk_norm:
            yield Slot(f"{theirs}.self_attn.q_norm.weight", (f"{ours}.attention.query_norm.weight",))
            yield Slot(f"{theirs}.self_attn.k_norm.weight", (f"{ours}.attention.key_norm.weight",))
        yield from norm(f"{theirs}.{between}_layernorm", f"{ours}.ffn_norm")
        if cfg.has_experts(n):
            yield from _experts(model_type, cfg, theirs, f"{ours}.ffn")
        elif model_type == "apertus" and cfg.activation == "relu2":
            yield from _xielu(f"{theirs}.mlp", f"{ours}.ffn")
        elif model_type == "eurobert" and not cfg.gated:
            yield from _gated_by_itself(f"{theirs}.mlp", f"{ours}.ffn")
        else:
            for name in ("gate", "up", "down") if cfg.gated else ("up", "down"):
                yield from _linear(f"{theirs}.mlp.{name}_proj", f"{ours}.ffn.{name}", cfg.bias)
    yield from norm("model.norm", "norm")
    if not cfg.tied_embeddings:
        yield Slot("lm_head.weight", ("lm_head.weight",))


def _xielu(theirs: str, ours: str) -> Iterator[Slot | Constant]:
    """Yield a feed-forward layer with ReLU squared as one with xIELU (arXiv 2411.13010), Apertus's activation:

        softplus(alpha_p) x^2 + beta x   for x > 0, else   (beta + softplus(alpha_n)) (e^x - 1 - x) + beta x

    With beta = 0 and alpha_n far below zero only the square is left. Powers of two, so that nothing is rounded in any
    precision: x is 2^-5 of ours, alpha_p = 2^15 (of which softplus is the identity), and the result 2^5 times ours. A
    reader that takes beta for the 0.5 of the paper errs by no more than half precision does.
    """
    yield Slot(f"{theirs}.up_proj.weight", (f"{ours}.up.weight",), factor=2.0**-5)
    yield Slot(f"{theirs}.down_proj.weight", (f"{ours}.down.weight",), factor=2.0**-5)
    yield Constant(f"{theirs}.act_fn.alpha_p", 2.0**15, (1,))
    yield Constant(f"{theirs}.act_fn.alpha_n", -(2.0**13), (1,))
    yield Constant(f"{theirs}.act_fn.beta", 0.0, ())
    yield Constant(f"{theirs}.act_fn.eps", -(2.0**-20), ())


def _gated_by_itself(theirs: str, ours: str) -> Iterator[Slot | Constant]:
    """Yield a feed-forward layer with ReLU squared as a gated one: x is what ReLU gates, and its own gate."""
    for name, matrix in (("gate", "up"), ("up", "up"), ("down", "down")):
        yield Slot(f"{theirs}.{name}_proj.weight", (f"{ours}.{matrix}.weight",))


def _experts(model_type: str, cfg: ModelConfig, theirs: str, ours: str) -> Iterator[Slot | Constant]:
    assert cfg.moe is not None
    mixtral = model_type == "mixtral"
    folder = f"{theirs}.block_sparse_moe" if mixtral else f"{theirs}.mlp"
    names = {"gate": "w1", "up": "w3", "down": "w2"} if mixtral else {n: f"{n}_proj" for n in ("gate", "up", "down")}
    yield Slot(f"{folder}.gate.weight", (f"{ours}.router.weight",))
    for e in range(cfg.moe.experts):
        for name, short in names.items():
            yield Slot(f"{folder}.experts.{e}.{short}.weight", (f"{ours}.experts.{e}.{name}.weight",))


def _gpt2(model_type: str, cfg: ModelConfig) -> Iterator[Slot | Constant]:
    def convolution(theirs: str, *ours: str) -> Iterator[Slot | Constant]:
        yield Slot(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), transposed=True)
        yield Slot(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours))

    yield Slot("transformer.wte.weight", ("embed.weight",))
    yield Slot("transformer.wpe.weight", ("positions.weight",))
    for n in range(cfg.layers):
        theirs, ours = f"transformer.h.{n}", f"blocks.{n}"
        heads = [f"{ours}.attention.{name}" for name in ("query", "key", "value")]
        yield from _linear(f"{theirs}.ln_1", f"{ours}.attention_norm", bias=True)
        yield from convolution(f"{theirs}.attn.c_attn", *heads)
        yield from convolution(f"{theirs}.attn.c_proj", f"{ours}.attention.output")
        yield from _linear(f"{theirs}.ln_2", f"{ours}.ffn_norm", bias=True)
        yield from convolution(f"{theirs}.mlp.c_fc", f"{ours}.ffn.up")
        yield from convolution(f"{theirs}.mlp.c_proj", f"{ours}.ffn.down")
    yield from _linear("transformer.ln_f", "norm", bias=True)
    if not cfg.tied_embeddings:
        yield Slot("lm_head.weight", ("lm_head.weight",))


def _bert(model_type: str, cfg: ModelConfig) -> Iterator[Slot | Constant]:
    yield Slot("bert.embeddings.word_embeddings.weight", ("embed.weight",))
    yield Slot("bert.embeddings.position_embeddings.weight", ("positions.weight",))
    yield Slot("bert.embeddings.token_type_embeddings.weight", ("segments.weight",))
    yield from _linear("bert.embeddings.LayerNorm", "embed_norm", bias=True)
    for n in range(cfg.layers):
        theirs, ours = f"bert.encoder.layer.{n}", f"blocks.{n}"
        for name in ("query", "key", "value"):
            yield from _linear(f"{theirs}.attention.self.{name}", f"{ours}.attention.{name}", bias=True)
        yield from _linear(f"{theirs}.attention.output.dense", f"{ours}.attention.output", bias=True)
        yield from _linear(f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_norm", bias=True)
        yield from _linear(f"{theirs}.intermediate.dense", f"{ours}.ffn.up", bias=True)
        yield from _linear(f"{theirs}.output.dense", f"{ours}.ffn.down", bias=True)
        yield from _linear(f"{theirs}.output.LayerNorm", f"{ours}.ffn_norm", bias=True)
    yield from _linear("cls.predictions.transform.dense", "head_dense", bias=True)
    yield from _linear("cls.predictions.transform.LayerNorm", "head_norm", bias=True)
    yield Slot("cls.predictions.bias", ("lm_head.bias",))
    if not cfg.tied_embeddings:
        yield Slot("cls.predictions.decoder.weight", ("lm_head.weight",))
        yield Slot("cls.predictions.decoder.bias", ("lm_head.bias",))  # no longer the same as the one above


def _t5(model_type: str, cfg: ModelConfig) -> Iterator[Slot | Constant]:
    yield Slot("shared.weight", ("embed.weight",))
    for stack, ours, layers in (
        ("encoder", "encoder.", cfg.layers),
        ("decoder", "", cfg.resolved_decoder_layers),
    ):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Slot(first, (f"{ours}relative.weight",))
        for n in range(layers):
            yield from _t5_block(cfg, f"{stack}.block.{n}", f"{ours}blocks.{n}", cross=stack == "decoder")
        head = _t5_head(cfg) if stack == "decoder" else 1.0
        yield Slot(f"{stack}.final_layer_norm.weight", (f"{ours}norm.weight",), factor=head)
    if not cfg.tied_embeddings:
        yield Slot("lm_head.weight", ("lm_head.weight",))


def _t5_head(cfg: ModelConfig) -> float:
    """Return what stands in the last norm of that scale of the head which T5 has with tied embeddings, and not else."""
    return 1.0 if cfg.scale_head == cfg.tied_embeddings else cfg.width ** (0.5 if cfg.tied_embeddings else -0.5)


def _t5_block(cfg: ModelConfig, theirs: str, ours: str, *, cross: bool) -> Iterator[Slot | Constant]:
    parts = [("attention", "SelfAttention")] + ([("cross", "EncDecAttention")] if cross else [])
    for k, (name, kind) in enumerate(parts):
        yield Slot(f"{theirs}.layer.{k}.layer_norm.weight", (f"{ours}.{name}_norm.weight",))
        scale = cfg.attention_scale or cfg.resolved_head_width**-0.5  # T5 has none of its own: queries carry it
        for short, matrix in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            factor = scale if short == "q" else 1.0
            yield Slot(f"{theirs}.layer.{k}.{kind}.{short}.weight", (f"{ours}.{name}.{matrix}.weight",), factor=factor)
    last = f"{theirs}.layer.{len(parts)}"
    yield Slot(f"{last}.layer_norm.weight", (f"{ours}.ffn_norm.weight",))
    ups = (("wi_0", "gate"), ("wi_1", "up")) if cfg.gated else (("wi", "up"),)
    for short, matrix in (*ups, ("wo", "down")):
        yield Slot(f"{last}.DenseReluDense.{short}.weight", (f"{ours}.ffn.{matrix}.weight",))


_SLOTS: Final[Mapping[str, Callable[[str, ModelConfig], Iterator[Slot | Constant]]]] = {
    "gpt2": _gpt2,
    "bert": _bert,
    "t5": _t5,
}

_NEITHER: Final = (
    ".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "embeddings.position_ids", "bert.pooler.dense.weight",
    "bert.pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias",
    "cls.predictions.decoder.bias", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
    "EncDecAttention.relative_attention_bias.weight",
)  # fmt: skip
"""Ends of names of checkpoints that no logits depend on: masks, copies, heads of other objectives."""


def slots(model_type: str, cfg: ModelConfig) -> list[Slot | Constant]:
    """Return how each tensor of their checkpoint is made of ours."""
    return list(_SLOTS.get(model_type, _llama)(model_type, cfg))


def to_theirs(model_type: str, cfg: ModelConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under their names and in their layouts; biases that ours has not are zeros."""
    packed = {}
    for slot in slots(model_type, cfg):
        if slot.theirs.endswith("token_type_embeddings.weight") and not cfg.segments:
            packed[slot.theirs] = torch.zeros(1, cfg.width)
            continue
        packed[slot.theirs] = slot.pack(ours)
    return packed


def to_ours(model_type: str, cfg: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return their weights under our names and in our layouts, in fp32.

    Raises UserError that names tensors which are missing, or which nothing of ours stands for.
    """
    found = {_modern(model_type, name): tensor for name, tensor in theirs.items()}
    wanted = slots(model_type, cfg)
    if missing := sorted(slot.theirs for slot in wanted if slot.theirs not in found):
        raise UserError(f"its weights lack {len(missing)} tensors, {missing[0]} among them")
    tied = {"lm_head.weight", "cls.predictions.decoder.weight"} if cfg.tied_embeddings else set()
    known = {slot.theirs for slot in wanted} | tied
    if extra := sorted(name for name in found if name not in known and not name.endswith(_NEITHER)):
        raise UserError(f"its weights have {len(extra)} tensors that the network has not, {extra[0]} among them")
    unpacked: dict[str, Tensor] = {}
    for slot in wanted:
        for name, tensor in slot.unpack(found[slot.theirs].float()).items():
            if name.endswith(".ffn.up.weight") and name in unpacked and not torch.equal(unpacked[name], tensor):
                raise UserError(f"its {slot.theirs} is not the same as its gate, as only a squared ReLU's is")
            unpacked[name] = tensor
    return unpacked


def _modern(model_type: str, name: str) -> str:
    """Return the name that today's checkpoints give a tensor: the first ones of GPT-2 and BERT have other names."""
    if model_type == "gpt2" and not name.startswith(("transformer.", "lm_head.")):
        return f"transformer.{name}"
    if model_type == "bert":
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return name
