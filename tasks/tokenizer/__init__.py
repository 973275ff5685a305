"""tokenizer: a vocabulary made from the training documents.

tokenizer.json, tokenizer_config.json, special_tokens_map.json
             `transformers.AutoTokenizer.from_pretrained(folder)` loads it and gives the same ids
report.json  vocabulary size, bytes a token over all and by source, tokens that nothing uses

`bpe` is byte-level BPE (GPT-2's and GPT-4's kind): any string can be encoded and comes back as it was.  `characters`
is one token a character, ids in the order of the code points as in nanoGPT; its vocabulary is all that occurs in train/
and validation/, and a character outside of it cannot be encoded: that is an error, never an unknown token, because text
that does not come back would falsify every measure in bits a byte.

`<|endoftext|>` stands for the end of a document.  Special tokens are never made from text: where a document says
`<|endoftext|>`, `tokens` encodes those characters as text.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from infra.steps import Execution, Gate, StepConfig, step

END_OF_DOCUMENT = "<|endoftext|>"


class TokenizerConfig(StepConfig):
    """What kind of vocabulary is made, and how large."""

    kind: Literal["bpe", "characters"]
    """`bpe`: byte-level byte-pair encoding; `characters`: one token a character of the corpus (the fields from
    vocab_size to max_bytes are then without meaning)."""

    vocab_size: int = Field(default=32_768, le=1 << 24)
    """Tokens at most, special ones included; fewer where the corpus is too small for so many merges."""

    min_frequency: int = Field(default=2, ge=1)
    """Pairs that occur more rarely are not merged."""

    pattern: Literal["gpt2", "gpt4"] = "gpt4"
    """How text is cut into the pieces within which bytes merge: GPT-2's regular expression, or GPT-4's (cl100k)."""

    special_tokens: tuple[str, ...] = ()
    """Further special tokens beside `<|endoftext|>`, of the form `<|name|>`."""

    max_bytes: int = Field(default=2_000_000_000, ge=1)
    """Bytes of UTF-8 to train on: from a larger corpus whole documents are sampled by a hash of seed and id."""

    seed: int = 0
    """Chooses that sample."""

    gate: Annotated[Gate, Execution] = Gate(max_dropped=0.0, max_quarantined=0.0, min_out=1)
    """Nothing may be lost here."""

    @model_validator(mode="after")
    def _special_tokens_cannot_be_text(self) -> Self:
        for token in self.special_tokens:
            if token == END_OF_DOCUMENT or not re.fullmatch(r"<\|[^\s<|>]+\|>", token):
                raise ValueError(f"special_tokens: {token!r} must have the form <|name|> and not be {END_OF_DOCUMENT}")
        if len(set(self.special_tokens)) < len(self.special_tokens):
            raise ValueError("special_tokens: a token is named twice")
        return self

    @model_validator(mode="after")
    def _all_bytes_fit(self) -> Self:
        least = 256 + 1 + len(self.special_tokens)
        if self.kind == "bpe" and self.vocab_size < least:
            raise ValueError(f"vocab_size: {self.vocab_size} is less than the {least} of all bytes and special tokens")
        return self


@step("tokenizer", version=1, reads={"documents": ("train", "validation")})
def tokenizer(cfg: TokenizerConfig, documents: Artifact, out: Attempt) -> Counters:
    """Make a tokenizer from train/ (`characters`: from all characters there are) and measure it."""
    from tasks.tokenizer.training import make_tokenizer

    return make_tokenizer(cfg, documents, out)


__all__ = ["END_OF_DOCUMENT", "TokenizerConfig", "tokenizer"]
