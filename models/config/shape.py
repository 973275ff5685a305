"""The shape of the network."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from models.config.base import CONFIG


class ModelConfig(BaseModel):
    """Shape of a decoder-only transformer; the vocabulary's size comes from the tokenizer."""

    model_config = CONFIG

    layers: int = Field(default=4, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values (grouped-query attention); as many as `heads` by default."""
    width: int = Field(default=256, ge=8)
    """Width of the residual stream."""
    ffn_multiple: float = Field(default=8 / 3, gt=0)
    """Hidden width of the feed-forward layer, as a multiple of `width`; rounded up to a multiple of 16."""
    activation: Literal["swiglu", "relu2", "gelu"] = "swiglu"
    """Non-linearity of the feed-forward layer; swiglu has a third matrix."""
    qk_norm: bool = True
    """Normalise queries and keys a head (RMSNorm), which keeps attention logits bounded at high learning rates."""
    tied_embeddings: bool = False
    """Use one matrix for the input embedding and the output head."""
    sequence_length: int = Field(default=256, ge=2)
    """Tokens of context in training."""
    rope_base: float = Field(default=10000.0, gt=1)
    """Base of the rotary position embedding (RoFormer, arXiv 2104.09864)."""
    norm_epsilon: float = Field(default=1e-6, gt=0)
    """Epsilon of every RMSNorm."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        problems = []
        if self.width % self.heads:
            problems.append(f"width={self.width} is not a multiple of heads={self.heads}")
        elif (self.width // self.heads) % 2:
            problems.append(f"width/heads={self.width // self.heads} must be even for rotary positions")
        if self.heads % (self.kv_heads or self.heads):
            problems.append(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def ffn_width(self) -> int:
        """Hidden width of the feed-forward layer, a multiple of 16."""
        return -(-round(self.width * self.ffn_multiple) // 16) * 16
