"""The shape of the network: one modular transformer, and the switches that make it GPT-2, Llama, BERT or T5."""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from models.config.base import CONFIG, unread

Activation = Literal["swiglu", "geglu", "relu2", "relu", "gelu", "gelu_tanh"]

GATED = ("swiglu", "geglu")
"""Activations with a third matrix."""


class RopeScaling(BaseModel):
    """How rotary frequencies are stretched to a longer context than the model was first trained on, as Llama 3.1 does.

    Source: the `llama3` scaling of meta-llama/Llama-3.1-8B's config.json.
    """

    model_config = CONFIG

    factor: float = Field(default=8.0, ge=1)
    """How much longer the wavelengths become that are longer than the original context."""
    low_frequency_factor: float = Field(default=1.0, gt=0)
    """Wavelengths above `original_length` over this are stretched by the whole factor."""
    high_frequency_factor: float = Field(default=4.0, gt=0)
    """Wavelengths below `original_length` over this are left as they are; between the two, by degrees."""
    original_length: int = Field(default=8192, ge=2)
    """Context, in tokens, that the model was first trained on."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor={self.high_frequency_factor:g} must be above "
                f"low_frequency_factor={self.low_frequency_factor:g}"
            )
        return self


class MoEConfig(BaseModel):
    """A mixture of experts in place of feed-forward layers; each token goes through its `top_k`, none is dropped."""

    model_config = CONFIG

    experts: int = Field(default=8, ge=2)
    """Feed-forward networks to choose from."""
    top_k: int = Field(default=2, ge=1)
    """How many of them each token goes through."""
    every: int = Field(default=1, ge=1)
    """Each nth block has experts, the last of each n (Switch Transformer: 2); the others stay dense."""
    expert_width: int | None = Field(default=None, ge=1)
    """Hidden width of one expert; that of a dense feed-forward layer by default."""
    shared_experts: int = Field(default=0, ge=0)
    """Experts of the same width that every token goes through besides its own (DeepSeekMoE, arXiv 2401.06066)."""
    normalise_top_k: bool = True
    """Make the weights of a token's experts sum to 1 (Mixtral); otherwise they are the router's probabilities."""
    balance_weight: float = Field(default=0.01, ge=0)
    """Weight of the load-balancing loss (Switch Transformer, arXiv 2101.03961, eq. 4), of training alone."""
    router_z_weight: float = Field(default=0.001, ge=0)
    """Weight of the router's z-loss, which keeps its logits small (ST-MoE, arXiv 2202.08906, eq. 5); training alone."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k={self.top_k} is more than experts={self.experts}")
        return self


class ModelConfig(BaseModel):
    """Shape of a transformer; the vocabulary's size comes from the tokenizer."""

    model_config = CONFIG

    preset: str | None = Field(default=None, exclude=True)
    """Name of a published shape that this one starts from (`millrace presets` lists them); every other key replaces one
    of it. What comes of it is the same model as the shape written out."""
    family: Literal["decoder", "encoder", "encoder_decoder"] = "decoder"
    """decoder reads what came before (GPT, Llama), encoder both sides (BERT), encoder_decoder writes one text while it
    reads another (T5)."""
    layers: int = Field(default=4, ge=1, le=10_000)
    """Transformer blocks; of the encoder, where there are two stacks."""
    decoder_layers: int | None = Field(default=None, ge=1)
    """Blocks of the decoder of an encoder_decoder; as many as `layers` by default."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values (grouped-query attention); as many as `heads` by default."""
    head_width: int | None = Field(default=None, ge=1)
    """Width of one attention head; `width` over `heads` by default."""
    width: int = Field(default=256, ge=8, le=1 << 20)
    """Width of the residual stream."""
    ffn_multiple: float = Field(default=8 / 3, gt=0)
    """Hidden width of the feed-forward layer, as a multiple of `width`; rounded up to a multiple of 16."""
    ffn_width: int | None = Field(default=None, ge=1)
    """Hidden width of the feed-forward layer, exactly; `ffn_multiple` says it by default."""
    activation: Activation = "swiglu"
    """Non-linearity of the feed-forward layer; swiglu and geglu (with the tanh approximation of GELU, as T5 v1.1 has
    it) have a third matrix."""
    bias: bool = False
    """Give every linear layer within the blocks a bias (GPT-2, BERT)."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """RMSNorm (Llama, T5) or LayerNorm with a bias (GPT-2, BERT)."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    """Epsilon of every norm."""
    norm_order: Literal["pre", "post"] = "pre"
    """pre norms what each branch reads, and what the head reads; post norms the sum of branch and residual (BERT)."""
    embed_norm: bool = False
    """Norm the sum of embeddings before the first block (BERT)."""
    qk_norm: bool = True
    """Normalise queries and keys a head (RMSNorm), which keeps attention logits bounded at high learning rates."""
    positions: Literal["rope", "learned", "relative", "none"] = "rope"
    """Rotary; a learned table added to the embeddings (GPT-2, BERT); a learned bias of attention by distance, one for
    all layers of a stack (T5); or none, where only the causal mask tells positions apart."""
    rope_base: float = Field(default=10000.0, gt=1)
    """Base of the rotary position embedding (RoFormer, arXiv 2104.09864)."""
    rope_scaling: RopeScaling | None = None
    """Stretch the rotary frequencies to a longer context (Llama 3.1)."""
    max_positions: int | None = Field(default=None, ge=2)
    """Rows of the table of learned positions; as many as `sequence_length` by default."""
    relative_buckets: int = Field(default=32, ge=4)
    """Buckets of distances of relative positions (T5, arXiv 1910.10683, section 2.1)."""
    relative_max_distance: int = Field(default=128, ge=2)
    """Distance, in tokens, from which on all relative positions share a bucket."""
    segments: int = Field(default=0, ge=0)
    """Embeddings that tell the parts of an input apart (BERT's token types: 2); all of training is part 0."""
    attention_scale: float | None = Field(default=None, gt=0)
    """Factor of attention's logits; 1 over the root of a head's width by default (T5: 1)."""
    sliding_window: int | None = Field(default=None, ge=1)
    """Let attention reach so many positions back, its own included (Mistral), in an encoder to both sides; all by
    default."""
    global_every: int | None = Field(default=None, ge=2)
    """With a sliding window: each nth block, the last of each n, reaches everything (Gemma 2: 2, Gemma 3: 6)."""
    attention_softcap: float | None = Field(default=None, gt=0)
    """Bend attention's logits to within this by tanh (Gemma 2: 50)."""
    logit_softcap: float | None = Field(default=None, gt=0)
    """Bend the output's logits to within this by tanh (Gemma 2: 30)."""
    tied_embeddings: bool = False
    """Use one matrix for the input embedding and the output head."""
    scale_head: bool = False
    """Multiply hidden states by 1 over the root of `width` before the output head (T5 with tied embeddings)."""
    head_transform: bool = False
    """Put a dense layer, the activation (gelu for a gated one) and a norm before the output head and give it a bias
    (BERT's masked-language-model head); encoders alone."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of activations dropped in training: of the embeddings, of each branch and of attention's weights (GPT-2,
    BERT, T5: 0.1 for all); of an encoder_decoder also within feed-forward layers and after each stack (T5)."""
    initialisation: Literal["scaled", "gpt2", "bert", "t5"] = "scaled"
    """How weights are drawn. scaled: uniform of deviation 1/sqrt(fan-in), zero where a branch joins the residual
    stream. gpt2: normal 0.02, those that join the residual stream over sqrt(2 layers). bert: truncated normal 0.02.
    t5: normal, by the factors of the Mesh TensorFlow Transformer."""
    moe: MoEConfig | None = None
    """A mixture of experts in place of feed-forward layers; none by default."""
    sequence_length: int = Field(default=256, ge=2, le=1 << 24)
    """Tokens of context in training; the most that either side of an encoder_decoder reads."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        from models.presets import expand_model  # which itself stands on this package

        return expand_model(value)

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if problems := [*self._attention_problems(), *self._position_problems(), *self._family_problems()]:
            raise ValueError("; ".join(problems))
        return self

    def _attention_problems(self) -> list[str]:
        problems = []
        if self.head_width is None and self.width % self.heads:
            problems.append(f"width={self.width} is not a multiple of heads={self.heads} (or set head_width)")
        elif self.positions == "rope" and self.resolved_head_width % 2:
            name = "width/heads" if self.head_width is None else "head_width"
            problems.append(f"{name}={self.resolved_head_width} must be even for rotary positions")
        if self.heads % (self.kv_heads or self.heads):
            problems.append(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        stack = max(self.layers, self.resolved_decoder_layers)
        if self.global_every is not None and self.sliding_window is None:
            problems.append(f"global_every={self.global_every} has no meaning without sliding_window")
        elif self.global_every is not None and self.global_every > stack:
            problems.append(f"global_every={self.global_every} leaves no block that reaches all among {stack} layers")
        if self.ffn_width is not None:
            problems += unread(self, ("ffn_multiple",), f"beside ffn_width={self.ffn_width}")
            if self.moe is not None and self.moe.every == 1 and self.moe.expert_width is not None:
                problems.append(
                    f"ffn_width={self.ffn_width} has no meaning where all blocks have experts of "
                    f"moe.expert_width={self.moe.expert_width}; leave it at null"
                )
        if self.moe is not None and self.moe.every > min(self.layers, self.resolved_decoder_layers):
            problems.append(
                f"moe.every={self.moe.every} leaves no block with experts among "
                f"{min(self.layers, self.resolved_decoder_layers)} layers"
            )
        return problems

    def _position_problems(self) -> list[str]:
        problems = []
        why = f"with positions={self.positions}"
        if self.rope_scaling is not None and self.positions != "rope":
            problems.append(f"rope_scaling has no meaning {why}")
        if self.positions != "rope":
            problems += unread(self, ("rope_base",), why)
        if self.positions != "relative":
            problems += unread(self, ("relative_buckets", "relative_max_distance"), why)
        if self.max_positions is not None and self.positions != "learned":
            problems.append(f"max_positions={self.max_positions} has no meaning {why}")
        elif self.sequence_length > self.resolved_max_positions:
            problems.append(
                f"sequence_length={self.sequence_length} is longer than the table of learned positions, "
                f"max_positions={self.max_positions}"
            )
        if self.positions == "relative":
            if self.relative_buckets % 4:
                problems.append(f"relative_buckets={self.relative_buckets} must be a multiple of 4")
            elif self.relative_max_distance <= self.relative_buckets // 2:
                problems.append(
                    f"relative_max_distance={self.relative_max_distance} must be above half of "
                    f"relative_buckets={self.relative_buckets}"
                )
        return problems

    def _family_problems(self) -> list[str]:
        problems = []
        if self.decoder_layers is not None and self.family != "encoder_decoder":
            problems.append(f"decoder_layers={self.decoder_layers} needs family=encoder_decoder, not {self.family}")
        if self.segments and self.family != "encoder":
            problems.append(f"segments={self.segments} needs family=encoder, not {self.family}")
        if self.head_transform and self.family != "encoder":
            problems.append(f"head_transform=true needs family=encoder, not {self.family}")
        if self.positions == "none" and self.family != "decoder":
            problems.append(
                f"positions=none leaves family={self.family} blind to order; only decoder has a causal mask"
            )
        return problems

    @property
    def resolved_head_width(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.width // self.heads

    @property
    def resolved_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def resolved_ffn_width(self) -> int:
        """Hidden width of the feed-forward layer; a multiple of 16 unless it was given."""
        return self.ffn_width or -(-round(self.width * self.ffn_multiple) // 16) * 16

    @property
    def resolved_expert_width(self) -> int:
        """Hidden width of one expert, where there is a mixture of them."""
        return (self.moe.expert_width if self.moe is not None else None) or self.resolved_ffn_width

    @property
    def resolved_decoder_layers(self) -> int:
        """Blocks of the decoder of an encoder_decoder."""
        return self.decoder_layers or self.layers

    @property
    def resolved_max_positions(self) -> int:
        """Rows of the table of learned positions, where there is one."""
        return self.max_positions or self.sequence_length

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a third matrix."""
        return self.activation in GATED

    def has_experts(self, layer: int) -> bool:
        """Return whether this block (from 0) has a mixture of experts in place of a dense feed-forward layer."""
        return self.moe is not None and (layer + 1) % self.moe.every == 0

    def window(self, layer: int) -> int | None:
        """Return how many positions the attention of this block (from 0) reaches, its own included; None for all."""
        reaches_all = self.global_every is not None and (layer + 1) % self.global_every == 0
        return None if reaches_all else self.sliding_window
