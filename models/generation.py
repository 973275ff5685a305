"""Load a trained model from its artifact and continue a text with it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from torch import Tensor

from infra.errors import UserError
from models.config import ModelConfig
from models.transformer import Cache, Transformer
from models.weights import load_weights


@dataclass(frozen=True)
class LanguageModel:
    """A network with the tokenizer that it was trained with."""

    network: Transformer
    tokenizer: Tokenizer
    end_of_document: int
    start_token: int | None = None
    """Token before a text, or before what an encoder-decoder writes, where the one that ends a document is not (models
    of others)."""
    stop_tokens: tuple[int, ...] = ()
    """Tokens after which nothing follows, besides the one that ends a document."""

    @property
    def start(self) -> int:
        """Token before a text; of an encoder-decoder the one before what it writes."""
        return self.end_of_document if self.start_token is None else self.start_token

    @property
    def sequence_length(self) -> int:
        """Tokens of context that the network was trained with."""
        return self.network.cfg.sequence_length

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without any special token.

        Raises UserError that names the characters of a text that a vocabulary of characters has no token for.
        """
        try:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:  # what tokenizers raises has no class of its own
            unknown = "".join(sorted(set(text) - self.tokenizer.get_vocab().keys()))
            if not (unknown and isinstance(self.tokenizer.model, models.WordLevel)):
                raise
            raise UserError(f"the model's vocabulary has no token for {unknown[:20]!r}; leave it out") from error
        return ids

    def continuation(self, before: list[int], new: list[int]) -> str:
        """Return the text of tokens that follow others: a space between words may depend on both."""
        begin: str = self.tokenizer.decode(before)
        whole: str = self.tokenizer.decode(before + new)
        return whole[len(begin) :] if whole.startswith(begin) else str(self.tokenizer.decode(new))


def load_model(directory: Path) -> LanguageModel:
    """Load model.safetensors, config.json and tokenizer.json below `directory`, in fp32 on the CPU.

    Raises UserError if one of them is missing.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (directory / name).is_file():
            raise UserError(f"{directory}: not a model, {name} is missing")
    config = json.loads((directory / "config.json").read_bytes())
    network = Transformer(ModelConfig.model_validate(config["model"]), config["vocab_size"])
    load_weights(network, directory / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # a text that spells a special token is still text
    tokenizer.no_truncation()  # an imported one may be set to cut texts, or to fill them up
    tokenizer.no_padding()
    return LanguageModel(network.eval(), tokenizer, config["eod"], config.get("start"), tuple(config.get("stop", ())))


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: str,
    *,
    max_tokens: int = 128,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """Return how the model goes on from `prompt`, up to a token that ends it; the same seed gives the same text.

    `temperature` 0 takes the likeliest token. `top_k` keeps the k likeliest tokens, `top_p` the fewest whose
    probabilities reach p. Raises UserError for a model that does not go on from texts, and one that names characters
    of the prompt that the vocabulary has no token for.
    """
    if (family := model.network.cfg.family) != "decoder":
        raise UserError(f"the model is of family {family}; only a decoder goes on from a text")
    generator = torch.Generator().manual_seed(seed)
    tokens = [model.start, *model.encode(prompt)]
    new: list[int] = []
    cache, unseen = Cache(), tokens[-model.sequence_length :]
    while len(new) < max_tokens:
        if cache.length + len(unseen) > model.sequence_length:  # positions beyond were never trained: keep half
            cache, unseen = Cache(), (tokens + new)[-(model.sequence_length // 2) :]
        logits_V = model.network.logits(torch.tensor([unseen]), cache)[0, -1]
        token = _choose(logits_V, generator, temperature=temperature, top_k=top_k, top_p=top_p)
        if token == model.end_of_document or token in model.stop_tokens:
            break
        new.append(token)
        unseen = [token]
    return model.continuation(tokens, new)


def _choose(
    logits_V: Tensor, generator: torch.Generator, *, temperature: float, top_k: int | None, top_p: float | None
) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    ordered_V, order_V = torch.sort(logits_V / temperature, descending=True, stable=True)
    probabilities_V = ordered_V.softmax(dim=-1)
    if top_k is not None:
        probabilities_V[top_k:] = 0
    if top_p is not None:
        before_V = probabilities_V.cumsum(dim=-1) - probabilities_V
        probabilities_V[before_V >= top_p] = 0
    return int(order_V[torch.multinomial(probabilities_V, 1, generator=generator)])
